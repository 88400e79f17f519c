//! This process and its children: identity, limits, fork, wait, exec, end.

use crate::error::{Error, Result};
use crate::exit::End;
use crate::sys::signals::{self, SignalSet};
use crate::sys::{check, files};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The number of resource limits Linux knows, `RLIM_NLIMITS`.
pub const LIMITS: usize = 16;

/// Soft and hard value of one resource limit, `getrlimit(2)`; `u64::MAX` is "unlimited".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// What a new process inherits besides descriptors and environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Inheritance {
    pub umask: u32,
    /// -20 to 19.
    pub nice: i32,
    /// Indexed by the kernel's resource number.
    pub limits: [Limit; LIMITS],
    pub ignored: SignalSet,
}

/// Reads what this process would pass on to a child of its own.
pub fn inheritance() -> Inheritance {
    // SAFETY: umask has no failure and is put back at once; the process has one thread.
    let umask = unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    };
    Inheritance { umask: umask as u32, nice: nice(), limits: limits(), ignored: signals::ignored() }
}

fn nice() -> i32 {
    // SAFETY: touches no memory of ours. The raw call answers 20 - nice, always positive, so that there is no errno to clear.
    let answer = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    if answer > 0 { 20 - answer as i32 } else { 0 }
}

/// The limits of this process.
pub fn limits() -> [Limit; LIMITS] {
    let mut all = [Limit::default(); LIMITS];
    for (resource, limit) in all.iter_mut().enumerate() {
        *limit = get_limit(resource);
    }
    all
}

fn get_limit(resource: usize) -> Limit {
    let mut pair = [u64::MAX; 2];
    // SAFETY: the kernel's rlimit64 is two 64-bit numbers.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0usize, pair.as_mut_ptr()) };
    Limit { soft: pair[0], hard: pair[1] }
}

/// Raises our own soft limit of open descriptors to the hard one; returns the limit now in force.
pub fn raise_descriptor_limit() -> u64 {
    let limit = get_limit(libc::RLIMIT_NOFILE as usize);
    let wanted = [limit.hard, limit.hard];
    // SAFETY: two 64-bit numbers, read only.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, wanted.as_ptr(), 0usize) };
    if done == 0 { limit.hard } else { limit.soft }
}

/// The effective user id.
pub fn user() -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() }
}

/// The effective group id.
pub fn group() -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::getegid() }
}

/// Makes this process the leader of a new session, without a controlling terminal.
pub fn new_session() -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Whether this process is a session's leader.
pub fn leads_its_session() -> bool {
    // SAFETY: touches no memory.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Makes this process fail to dump core: what it dies of was not its own fault.
fn forbid_core() {
    let none = [0u64; 2];
    // SAFETY: two 64-bit numbers, read only; prctl takes numbers.
    unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, none.as_ptr(), 0usize);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Ends the process as told. Where a signal cannot end it (PID 1 of a container), with the code a shell would show.
pub fn end(end: End) -> ! {
    if let End::Signal(signal) = end {
        forbid_core();
        let _ = signals::reset(signal);
        let _ = signals::send(signals::Target::Process(std::process::id()), signal);
        signals::set_mask(SignalSet::EMPTY);
    }
    std::process::exit(i32::from(end.shell_code()))
}

/// Which process a fork returned in.
pub enum Forked {
    Child,
    Parent(u32),
}

/// Forks. The process has one thread, so the child may go on as any program does.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: single-threaded: no lock can be held by a thread that is not there in the child.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// Ends a forked child at once, without running what its parent registered for its own end.
pub fn end_child(code: u8) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(i32::from(code)) }
}

/// A forked child, and what it executes, gets this signal when its parent dies; children of its own do not (`prctl(2)`).
pub fn end_with_parent(parent: u32, signal: u8) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal), 0, 0, 0) })?;
    // SAFETY: cannot fail.
    let now = unsafe { libc::getppid() };
    if now == parent as libc::pid_t { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// Closes every descriptor from 3 up but these, in a forked child.
pub fn close_all_but(keep: &[&OwnedFd]) {
    let mut from = 3u32;
    loop {
        // The next number to keep; everything between is closed at one go.
        let next = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|number| *number >= from).min();
        let until = next.unwrap_or(u32::MAX);
        if from < until {
            // SAFETY: the child owns its table; the values that own the closed numbers are never used or dropped in it.
            unsafe { libc::syscall(libc::SYS_close_range, from, until - 1, 0) };
        }
        match next {
            Some(number) => from = number + 1,
            None => return,
        }
    }
}

/// A change in a child, from `waitpid(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Ended(End),
    Stopped(u8),
    Continued,
}

/// Whether a child is stopped, or has ended. Whoever waits for changes hears of it all the same.
pub fn is_at_rest(child: u32) -> bool {
    // SAFETY: plain numbers, zero is valid; the call writes one siginfo_t, of which si_pid is zero where nothing is to be told.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, child, &raw mut info, libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0 && info.si_pid() != 0
    }
}

/// The next change of any child, without waiting; `None` when there is none.
pub fn next_change() -> Option<(u32, Change)> {
    let mut status = 0;
    // SAFETY: a valid int.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED) };
    if pid <= 0 {
        return None;
    }
    let change = if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status) as u8)
    } else if libc::WIFCONTINUED(status) {
        Change::Continued
    } else {
        Change::Ended(End::from_wait_status(status))
    };
    Some((pid as u32, change))
}

/// Waits for the end of one child.
pub fn wait_for(pid: u32) -> io::Result<End> {
    let mut status = 0;
    // SAFETY: a valid int.
    check(unsafe { libc::waitpid(pid as i32, &raw mut status, 0) })?;
    Ok(End::from_wait_status(status))
}

/// Whether a child ends within that time; it is still to be waited for. A kernel without pidfd_open(2), before 5.3, says yes at once:
/// there the wait that follows has no bound.
pub fn ends_within(pid: u32, ms: u64) -> bool {
    // SAFETY: numbers only; the descriptor is new and ours.
    let Ok(fd) = (unsafe { check(libc::syscall(libc::SYS_pidfd_open, pid, 0) as libc::c_int).map(|fd| OwnedFd::from_raw_fd(fd)) }) else { return true };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid structure.
    unsafe { libc::poll(&raw mut poll, 1, ms.min(libc::c_int::MAX as u64) as libc::c_int) > 0 }
}

/// Replaces this process; returns only where that failed.
pub fn exec(program: &CStr, args: &[&CStr], env: &[&CStr]) -> io::Error {
    let pointers = |strings: &[&CStr]| strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: two null-terminated arrays of C strings that live until the call returns.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// The path of the running executable, as it is named now; an upgraded one has a new file under the same name.
pub fn own_path() -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    let find = || {
        let path = std::fs::read_link("/proc/self/exe")?;
        let bytes = path.as_os_str().as_bytes();
        files::c_path(std::path::Path::new(std::ffi::OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes))))
    };
    find().map_err(|e| Error::io("find our own executable (is /proc mounted?)", &e))
}

/// Milliseconds of a clock that never goes back and stands still while the machine sleeps.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// The same in microseconds. Asked of the kernel directly: a new process would fault in two pages to avoid one call.
pub fn monotonic_us() -> u64 {
    let mut time = [0i64; 2];
    // SAFETY: the 64-bit kernel's timespec is two 64-bit numbers.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, time.as_mut_ptr()) };
    time[0] as u64 * 1_000_000 + time[1] as u64 / 1000
}
