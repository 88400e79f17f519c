//! The process's entry.
//!
//! Rust's own start-up code must not run before us: it replaces closed standard streams by `/dev/null` and sets SIGPIPE to
//! ignored, and both facts about the caller have to be passed on. So the binary has no Rust `main`; the C library calls
//! the `main` that [`entry!`](crate::entry) writes, with the kernel's own `argv` and `envp`.

use crate::exit::{self, End};
use crate::invocation::Invocation;
use crate::sys::process;
use std::ffi::{CStr, c_char, c_int};

/// Defines the C `main` of the binary around a `fn(Invocation) -> End`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        /// What the C library calls.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char, envp: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: called by the C library alone, with the kernel's vectors.
            unsafe { $crate::sys::entry::start(argc, argv, envp, $run) }
        }
    };
}

/// Captures the invocation, runs, and ends the process as the run says. A panic ends it with 125, after the guards ran.
///
/// # Safety
/// `argv` and `envp` are null-terminated arrays of C strings that live as long as the process.
pub unsafe fn start(_argc: c_int, argv: *const *const c_char, envp: *const *const c_char, run: fn(Invocation) -> End) -> c_int {
    // SAFETY: the caller's promise.
    let invocation = unsafe { Invocation { args: strings(argv), env: strings(envp) } };
    let end = std::panic::catch_unwind(|| run(invocation)).unwrap_or(End::Code(exit::FAILED));
    process::end(end)
}

/// # Safety
/// `vector` is null or a null-terminated array of C strings that live as long as the process.
unsafe fn strings(vector: *const *const c_char) -> Vec<&'static CStr> {
    let mut out = Vec::new();
    let mut at = vector;
    // SAFETY: walks to the terminating null and not beyond; the strings are static by the caller's promise.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            out.push(CStr::from_ptr(*at));
            at = at.add(1);
        }
    }
    out
}
