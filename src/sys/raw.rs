//! System calls without the C library.
//!
//! A launched child shares the daemon's memory until it has exec'ed (see `launch`), and with it the daemon's thread-local
//! `errno`. The C library's wrappers would write to it while the daemon reads it. These do not touch memory at all.

/// A system call with up to six arguments; a negative result is `-errno`.
///
/// # Safety
/// As for the system call itself.
#[cfg(target_arch = "x86_64")]
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 convention of syscall(2); the kernel clobbers rcx and r11 only.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// A system call with up to six arguments; a negative result is `-errno`.
///
/// # Safety
/// As for the system call itself.
#[cfg(target_arch = "aarch64")]
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the AArch64 convention of syscall(2).
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack)
        );
    }
    result
}

/// The number of clone3(2), which came when numbers were the same on all architectures.
const CLONE3: usize = 435;

/// Makes a child that runs `entry(argument)` on the stack named in `args` (struct `clone_args`) and never comes back from it. The
/// C library has no wrapper for it. A negative result is `-errno`.
///
/// # Safety
/// As for clone3(2); with `CLONE_VM` the stack must be the child's alone, and `entry` must not return.
#[cfg(target_arch = "x86_64")]
pub unsafe fn clone3(args: &[u64; 11], entry: extern "C" fn(*mut libc::c_void) -> libc::c_int, argument: usize) -> isize {
    let result: isize;
    // SAFETY: in the parent nothing but the result changes. The child has its own registers and stack; the kernel has put the
    // stack pointer to the stack's end, which is aligned, and `call` is made from there.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") CLONE3 as isize => result,
            in("rdi") args.as_ptr(), in("rsi") size_of_val(args),
            in("r12") argument, in("r13") entry,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Makes a child that runs `entry(argument)` on the stack named in `args` (struct `clone_args`) and never comes back from it.
///
/// # Safety
/// As for clone3(2); with `CLONE_VM` the stack must be the child's alone, and `entry` must not return.
#[cfg(target_arch = "aarch64")]
pub unsafe fn clone3(args: &[u64; 11], entry: extern "C" fn(*mut libc::c_void) -> libc::c_int, argument: usize) -> isize {
    let result: isize;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") CLONE3,
            inlateout("x0") args.as_ptr() as isize => result,
            in("x1") size_of_val(args),
            in("x20") argument, in("x21") entry,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("bkt's launch needs this architecture's system call instruction: add it in src/sys/raw.rs");
