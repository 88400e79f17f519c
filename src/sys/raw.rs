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

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("bkt's launch needs this architecture's system call instruction: add it in src/sys/raw.rs");
