//! Capture the invocation, find the applet, end as it says.
#![no_main]

bkt::entry!(bkt::applet::run);

/// The C library's allocator gives each page back at once and asks for it again.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
