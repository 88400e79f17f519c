//! Starting programs, all in the same way and as cheaply as the C library can.

use super::{Result, failed};
use std::ffi::{CStr, CString, c_char, c_int, c_short};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// `POSIX_SPAWN_SETSID`, which musl and glibc have under the same number.
const SETSID: c_short = 0x80;

/// A program with all that `posix_spawn(3)` wants, made before the clock starts.
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    /// It is started in the other root directory.
    pub inside: bool,
}

/// The standard streams.
#[derive(Clone, Copy)]
pub enum Io<'a> {
    /// `/dev/null`, for all three.
    Null,
    /// Input and output, in a new session; errors go where ours go.
    Streams { input: BorrowedFd<'a>, output: BorrowedFd<'a> },
    /// A pty's follower by its path: it becomes the controlling terminal of a new session, and all three.
    Terminal(&'a CStr),
}

impl Program {
    pub fn new(path: &str, args: &[&str], env: &[String], inside: bool) -> Program {
        let c = |text: &str| CString::new(text).expect("no NUL in a bench's arguments");
        Program { path: c(path), args: args.iter().map(|a| c(a)).collect(), env: env.iter().map(|e| c(e)).collect(), inside }
    }

    /// The same with more arguments.
    pub fn with(&self, more: &[&str]) -> Program {
        let more = more.iter().map(|a| CString::new(*a).expect("no NUL in a bench's arguments"));
        Program { path: self.path.clone(), args: self.args.iter().cloned().chain(more).collect(), env: self.env.clone(), inside: self.inside }
    }

    pub fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Prepares everything, then starts the clock and the program. Returns its pid and when it was asked for.
    pub fn spawn(&self, io: Io<'_>, null: BorrowedFd<'_>) -> Result<(c_int, u64)> {
        let pointers = |all: &[CString]| all.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect::<Vec<*mut c_char>>();
        let (args, env) = (pointers(&self.args), pointers(&self.env));
        // SAFETY: both structures are initialised before use and destroyed after it; paths and vectors live until the call has
        // returned; posix_spawn reads them only.
        unsafe {
            let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
            let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
            libc::posix_spawn_file_actions_init(&raw mut actions);
            libc::posix_spawnattr_init(&raw mut attributes);
            let put = |actions: *mut libc::posix_spawn_file_actions_t, from: c_int, to: c_int| {
                libc::posix_spawn_file_actions_adddup2(actions, from, to);
            };
            match io {
                Io::Null => (0..3).for_each(|to| put(&raw mut actions, null.as_raw_fd(), to)),
                Io::Streams { input, output } => {
                    // As a command of bkt has a session of its own: sessions get equal shares of a busy machine (sched(7), autogroups).
                    libc::posix_spawnattr_setflags(&raw mut attributes, SETSID);
                    put(&raw mut actions, input.as_raw_fd(), 0);
                    put(&raw mut actions, output.as_raw_fd(), 1);
                }
                Io::Terminal(path) => {
                    libc::posix_spawnattr_setflags(&raw mut attributes, SETSID);
                    libc::posix_spawn_file_actions_addopen(&raw mut actions, 0, path.as_ptr(), libc::O_RDWR, 0);
                    put(&raw mut actions, 0, 1);
                    put(&raw mut actions, 0, 2);
                }
            }
            let mut pid = 0;
            let begun = now();
            let error = libc::posix_spawn(&raw mut pid, self.path.as_ptr(), &raw const actions, &raw const attributes, args.as_ptr(), env.as_ptr());
            libc::posix_spawn_file_actions_destroy(&raw mut actions);
            libc::posix_spawnattr_destroy(&raw mut attributes);
            if error == 0 { Ok((pid, begun)) } else { Err(format!("start {}: {}", self.name(), std::io::Error::from_raw_os_error(error))) }
        }
    }
}

/// Waits for a child; its exit code, or 128 and the signal.
pub fn wait(pid: c_int) -> Result<c_int> {
    let mut status = 0;
    // SAFETY: a valid int.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        return Err(failed("wait for a child"));
    }
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    // SAFETY: plain numbers, zero is valid.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
