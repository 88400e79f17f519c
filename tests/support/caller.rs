//! A caller of particular habits: what a client inherits besides streams and environment, set between fork and exec.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The signals that can be caught: all but KILL and STOP.
pub fn catchable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s))
}

fn prepare(command: &mut Command, mut calls: impl FnMut() + Send + Sync + 'static) {
    let calls = move || {
        calls();
        Ok(())
    };
    // SAFETY: private, and what is passed below makes system calls only: no allocation, no lock.
    unsafe { command.pre_exec(calls) };
}

/// The kernel's `rt_sigaction` with an action of nothing but a handler. The C libraries refuse the signals they use themselves.
fn set_disposition(signal: i32, handler: usize) {
    let action = [handler, 0, 0, 0];
    // SAFETY: four words are a whole kernel sigaction on every architecture we build for.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal as libc::c_long, action.as_ptr(), 0usize, 8usize) };
}

fn set_mask(mask: u64) {
    // SAFETY: a set of the kernel's size.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK as libc::c_long, &raw const mask, 0usize, 8usize) };
}

/// Signals as a login leaves them, not as whoever runs the tests has them: a script's background job ignores SIGINT and SIGQUIT.
pub fn with_default_signals(command: &mut Command) {
    prepare(command, default_signals);
}

fn default_signals() {
    (1..=64).for_each(|signal| set_disposition(signal, libc::SIG_DFL));
    set_mask(0);
}

/// Nothing of whoever runs the tests: no controlling terminal, no further descriptors, default dispositions, empty mask.
pub fn by_itself(command: &mut Command) {
    prepare(command, || {
        // SAFETY: touches no memory; fails where it is a session leader already, which is as good.
        unsafe { libc::setsid() };
        // SAFETY: flags only.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        default_signals();
    });
}

/// These signals are ignored.
pub fn ignoring(command: &mut Command, signals: impl IntoIterator<Item = i32>) {
    let signals: Vec<i32> = signals.into_iter().collect();
    prepare(command, move || signals.iter().for_each(|signal| set_disposition(*signal, libc::SIG_IGN)));
}

/// Every signal is blocked.
pub fn blocking_all(command: &mut Command) {
    prepare(command, || set_mask(u64::MAX));
}

/// These descriptors are closed.
pub fn closed(command: &mut Command, numbers: impl IntoIterator<Item = i32>) {
    let numbers: Vec<i32> = numbers.into_iter().collect();
    prepare(command, move || {
        for number in &numbers {
            // SAFETY: the child's own table, just before exec.
            unsafe { libc::close(*number) };
        }
    });
}

/// These descriptors are open under these numbers.
pub fn with_descriptors(command: &mut Command, descriptors: Vec<(OwnedFd, i32)>) {
    let mut lifted = [0; 256];
    prepare(command, move || {
        // First out of each other's way, then to their places.
        for ((fd, _), lifted) in descriptors.iter().zip(&mut lifted) {
            // SAFETY: an open descriptor.
            *lifted = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 300) };
        }
        for ((_, number), lifted) in descriptors.iter().zip(&lifted) {
            // SAFETY: the child's own table, just before exec.
            unsafe { libc::dup2(*lifted, *number) };
        }
    });
}

pub fn with_umask(command: &mut Command, mask: libc::mode_t) {
    prepare(command, move || {
        // SAFETY: touches no memory.
        unsafe { libc::umask(mask) };
    });
}

pub fn with_nice(command: &mut Command, nice: i32) {
    prepare(command, move || {
        // SAFETY: touches no memory.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    });
}

/// These limits: resource, soft, hard; `None` keeps the hard one.
pub fn with_limits(command: &mut Command, limits: impl IntoIterator<Item = (u32, u64, Option<u64>)>) {
    let limits: Vec<_> = limits.into_iter().collect();
    prepare(command, move || {
        for (resource, soft, hard) in &limits {
            let hard = hard.unwrap_or_else(|| limit(*resource).map_or(u64::MAX, |(_, hard)| hard));
            let pair = [(*soft).min(hard), hard];
            // SAFETY: the kernel's rlimit64 is two 64-bit numbers.
            unsafe { libc::syscall(libc::SYS_prlimit64, 0, *resource, pair.as_ptr(), 0usize) };
        }
    });
}

/// Soft and hard value of a limit of this process.
pub fn limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut pair = [0u64; 2];
    // SAFETY: as above.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0usize, pair.as_mut_ptr()) };
    if done == 0 { Ok((pair[0], pair[1])) } else { Err(io::Error::last_os_error()) }
}
