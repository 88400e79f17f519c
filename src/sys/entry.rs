//! The process's entry.
//!
//! Rust's own start-up code must not run before us: it replaces closed standard streams by `/dev/null` and sets SIGPIPE to
//! ignored, and both facts about the caller have to be passed on. So the binary has no Rust `main`; the C library calls
//! the `main` that [`entry!`](crate::entry) writes, with the kernel's own `argv` and `envp`.

use crate::exit::{self, End};
use crate::invocation::Invocation;
use crate::sys::process;
use std::ffi::{CStr, c_char, c_int};
use std::io::Write;

/// Defines the C `main` of the binary around a `fn(Invocation) -> End`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        /// What the C library calls.
        ///
        /// # Safety
        /// For the C library alone, with the kernel's vectors.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char, envp: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: the caller's promise.
            unsafe { $crate::sys::entry::start(argc, argv, envp, $run) }
        }
    };
}

/// Captures the invocation, runs, and ends the process as the run says.
///
/// A panic, which is a bug of ours, ends it with a sentence and 125. Nothing is unwound, which saves 50 KB of code: what must be
/// undone when a process of ours dies is undone by the one that outlives it, as after SIGKILL (the monitor puts the terminal
/// back, the daemon ends the command, the next daemon replaces the socket).
///
/// # Safety
/// `argv` and `envp` are null-terminated arrays of C strings that live as long as the process.
pub unsafe fn start(_argc: c_int, argv: *const *const c_char, envp: *const *const c_char, run: fn(Invocation) -> End) -> c_int {
    // SAFETY: the caller's promise.
    let invocation = unsafe { Invocation { args: strings(argv), env: strings(envp), path: executed_path() } };
    std::panic::set_hook(Box::new(|panic| {
        // A closed or broken stream is no reason to panic again.
        let _ = writeln!(std::io::stderr(), "bkt: this is a bug in bkt: {panic}");
        std::process::exit(i32::from(exit::FAILED));
    }));
    process::end(run(invocation))
}

/// What the kernel says was executed; it lies on the stack beside the arguments, so that asking costs nothing.
fn executed_path() -> &'static CStr {
    // SAFETY: reads the vector that the kernel made; AT_EXECFN is a C string that lives as long as the process.
    unsafe {
        let path = libc::getauxval(libc::AT_EXECFN) as *const c_char;
        if path.is_null() { c"" } else { CStr::from_ptr(path) }
    }
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
