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

/// An ELF note, `elf(5)`: the link editor puts notes into an executable's first page, where a copy of us under whatever name is
/// known by it.
#[repr(C)]
struct Note {
    name_length: u32,
    content_length: u32,
    kind: u32,
    name: [u8; 4],
}

#[used]
#[unsafe(link_section = ".note.bkt")]
static NOTE: Note = Note { name_length: 4, content_length: 0, kind: 1, name: *b"bkt\0" };

/// Whether an executable that begins so is one of ours, this version or another.
pub fn is_ours(first_page: &[u8]) -> bool {
    let [a, b, c] = [NOTE.name_length, NOTE.content_length, NOTE.kind].map(u32::to_ne_bytes);
    let note = [a, b, c, NOTE.name].concat();
    first_page.windows(note.len()).any(|window| window == note)
}

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

        /// A stack that ends at once. No panic of this executable unwinds, and none shows where it came through; so the functions
        /// that do (`https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/libgcc-s.html`) stand here,
        /// empty, in place of the toolchain's. With them goes the reader of debug information in Rust's own library, which
        /// starts from them: 270 KB. (A static glibc unwinds for reasons of its own and keeps them.)
        #[cfg(all(panic = "abort", target_env = "musl"))]
        #[allow(unsafe_code, non_snake_case)]
        mod no_unwinding {
            use std::ffi::{c_int, c_void};

            type Visit = extern "C" fn(*mut c_void, *mut c_void) -> c_int;

            /// `_URC_END_OF_STACK`, without a visit.
            #[unsafe(no_mangle)]
            extern "C" fn _Unwind_Backtrace(_visit: Visit, _data: *mut c_void) -> c_int {
                5
            }

            /// `_URC_END_OF_STACK`: nobody catches it.
            #[unsafe(no_mangle)]
            extern "C" fn _Unwind_RaiseException(_exception: *mut c_void) -> c_int {
                5
            }

            /// Follows the clean-up of a frame that is unwound: there is none.
            #[unsafe(no_mangle)]
            extern "C" fn _Unwind_Resume(_exception: *mut c_void) -> ! {
                std::process::abort()
            }

            // The rest is asked of the unwinder, or told it, while it unwinds. All of them are here: a single one that were not
            // would bring the toolchain's, and with it all the others a second time.
            $crate::entry! { @asked _Unwind_DeleteException() -> () }
            $crate::entry! { @asked _Unwind_FindEnclosingFunction() -> usize }
            $crate::entry! { @asked _Unwind_GetCFA() -> usize }
            $crate::entry! { @asked _Unwind_GetIP() -> usize }
            $crate::entry! { @asked _Unwind_GetIPInfo(before: *mut c_int) -> usize }
            $crate::entry! { @asked _Unwind_GetLanguageSpecificData() -> usize }
            $crate::entry! { @asked _Unwind_GetRegionStart() -> usize }
            $crate::entry! { @asked _Unwind_GetTextRelBase() -> usize }
            $crate::entry! { @asked _Unwind_GetDataRelBase() -> usize }
            $crate::entry! { @asked _Unwind_SetGR(register: c_int, value: usize) -> () }
            $crate::entry! { @asked _Unwind_SetIP(value: usize) -> () }
        }
    };
    (@asked $name:ident($($argument:ident: $type:ty),*) -> $answer:ty) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name(_about: *mut c_void $(, $argument: $type)*) -> $answer {
            $(let _ = $argument;)*
            Default::default()
        }
    };
}

/// Captures the invocation, runs, and ends the process as the run says.
///
/// A panic, which is a bug of ours, ends it with a sentence and 125. Nothing is unwound, which saves much code: what must be
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
    if vector.is_null() {
        return Vec::new();
    }
    // SAFETY: walks to the terminating null and not beyond; the strings are static by the caller's promise.
    unsafe {
        let count = (0..).take_while(|at| !(*vector.add(*at)).is_null()).count();
        (0..count).map(|at| CStr::from_ptr(*vector.add(at))).collect()
    }
}
