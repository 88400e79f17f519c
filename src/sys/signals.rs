//! Signals: numbers 1 to 64, sets of them, and their arrival as a readable descriptor.
//!
//! The C libraries keep a few real-time signals (32 to 34) to themselves and refuse to block, ignore or reset them. Everything
//! that a user can send must be passed on, so masks and dispositions are set by system calls of our own.

use crate::sys::{check, check_len, files};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The highest signal number of Linux, `_NSIG`.
pub const LAST: u8 = 64;

pub const HUP: u8 = libc::SIGHUP as u8;
pub const INT: u8 = libc::SIGINT as u8;
pub const QUIT: u8 = libc::SIGQUIT as u8;
pub const KILL: u8 = libc::SIGKILL as u8;
pub const PIPE: u8 = libc::SIGPIPE as u8;
pub const TERM: u8 = libc::SIGTERM as u8;
pub const CHLD: u8 = libc::SIGCHLD as u8;
pub const CONT: u8 = libc::SIGCONT as u8;
pub const STOP: u8 = libc::SIGSTOP as u8;
pub const TSTP: u8 = libc::SIGTSTP as u8;
pub const TTIN: u8 = libc::SIGTTIN as u8;
pub const TTOU: u8 = libc::SIGTTOU as u8;
pub const WINCH: u8 = libc::SIGWINCH as u8;

/// A set of signals: bit `n - 1` stands for signal `n`, as in the kernel and in `/proc/PID/status`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SignalSet(pub u64);

impl SignalSet {
    pub const EMPTY: SignalSet = SignalSet(0);
    pub const ALL: SignalSet = SignalSet(u64::MAX);

    pub fn contains(self, signal: u8) -> bool {
        (1..=LAST).contains(&signal) && self.0 & (1 << (signal - 1)) != 0
    }

    pub fn with(self, signal: u8) -> SignalSet {
        if (1..=LAST).contains(&signal) { SignalSet(self.0 | 1 << (signal - 1)) } else { self }
    }

    pub fn without(self, signal: u8) -> SignalSet {
        SignalSet(self.0 & !SignalSet::EMPTY.with(signal).0)
    }

    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=LAST).filter(move |&s| self.contains(s))
    }
}

/// The kernel's `struct sigaction`, not the C library's.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    #[cfg(target_arch = "x86_64")]
    restorer: usize,
    mask: u64,
}

impl KernelAction {
    pub(super) const fn of(handler: usize) -> KernelAction {
        KernelAction {
            handler,
            flags: 0,
            #[cfg(target_arch = "x86_64")]
            restorer: 0,
            mask: 0,
        }
    }
}

/// Blocks exactly `set`; returns what was blocked before. KILL and STOP stay deliverable, the kernel sees to it.
pub fn set_mask(set: SignalSet) -> SignalSet {
    let mut old = SignalSet::EMPTY;
    // SAFETY: two valid pointers to 8-byte sets and their size.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set.0, &raw mut old.0, 8usize) };
    old
}

/// The signals this process ignores, read one by one as `/proc` may not be there.
pub fn ignored() -> SignalSet {
    let mut set = SignalSet::EMPTY;
    for signal in 1..=LAST {
        let mut action = KernelAction::of(0);
        // SAFETY: reads a disposition into a valid structure.
        let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, libc::c_long::from(signal), 0usize, &raw mut action, 8usize) };
        if done == 0 && action.handler == libc::SIG_IGN {
            set = set.with(signal);
        }
    }
    set
}

/// Gives every signal its default disposition; what a supervisor had set to ignored is not passed on to commands.
pub fn reset_all() {
    for signal in 1..=LAST {
        let _ = reset(signal);
    }
}

/// Gives one signal its default disposition.
pub fn reset(signal: u8) -> io::Result<()> {
    let action = KernelAction::of(libc::SIG_DFL);
    // SAFETY: a valid structure; default needs no handler. KILL and STOP answer EINVAL.
    let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, libc::c_long::from(signal), &raw const action, 0usize, 8usize) };
    check(done as libc::c_int).map(drop)
}

/// A signal as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub signal: u8,
    /// Sent by the kernel itself (a terminal's driver), not by a process.
    pub from_kernel: bool,
}

/// Signals as a readable descriptor, `signalfd(2)`: no handler, no flag, no missed wake.
pub struct SignalReader {
    fd: OwnedFd,
    /// What was blocked before.
    before: SignalSet,
}

impl SignalReader {
    /// Blocks `set` (and nothing else) and reads it from now on. A signal that is blocked arrives even if it
    /// is ignored: the kernel cannot know what will be when it is unblocked.
    pub fn new(set: SignalSet) -> io::Result<SignalReader> {
        let before = set_mask(set);
        // SAFETY: a valid set of the kernel's size; the descriptor is new and ours.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_signalfd4, -1, &raw const set.0, 8usize, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            OwnedFd::from_raw_fd(check(fd as libc::c_int)?)
        };
        Ok(SignalReader { fd, before })
    }

    /// Puts the mask back as it was, for a program that takes this process over. What has been read and was meant for that program
    /// arrives again.
    pub fn restore_mask(self, read: SignalSet) {
        for signal in read.iter() {
            let _ = send(Target::Process(std::process::id()), signal);
        }
        set_mask(self.before);
    }

    /// The next signal that has arrived, if any.
    pub fn next(&self) -> Option<Arrived> {
        // SAFETY: signalfd_siginfo is plain numbers; zero is valid, and read(2) gets its size.
        let (length, info) = unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of_val(&info);
            (check_len(libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size)), info)
        };
        matches!(length, Ok(n) if n == size_of_val(&info)).then(|| Arrived { signal: info.ssi_signo as u8, from_kernel: info.ssi_code == libc::SI_KERNEL })
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// To whom a signal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Process(u32),
    Group(u32),
    /// The caller's own process group.
    OwnGroup,
}

/// Sends a signal, `kill(2)`. A target that is gone is an error the caller may drop.
pub fn send(target: Target, signal: u8) -> io::Result<()> {
    let pid = match target {
        // 0, 1 and the negative numbers mean "everybody" to kill(2): no caller of ours ever means that.
        Target::Process(pid) if pid > 1 => pid as libc::pid_t,
        Target::Group(pid) if pid > 1 => -(pid as libc::pid_t),
        Target::OwnGroup => 0,
        _ => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
    };
    // SAFETY: kill(2) touches no memory of ours.
    check(unsafe { libc::kill(pid, libc::c_int::from(signal)) }).map(drop)
}

/// A hold on a process group. A group's number is given to strangers once its last member has ended; what `fcntl(2)` calls the
/// owner of a descriptor's signals is the group itself, as the kernel knows it, and is nobody once that has ended.
///
/// The descriptor is a pipe's end: what is written to the pipe makes the signal, and so does its being closed by the last writer.
/// Who keeps another copy of the reading end thus has the group signalled at our death, however sudden.
#[derive(Debug)]
pub struct Group {
    // Closed first, which makes no signal; see also `Drop`.
    reading: OwnedFd,
    writing: OwnedFd,
    /// What our death makes, 0 for nothing.
    at_death: u8,
}

impl Group {
    /// The number must be the group's now: its leader not yet waited for, or just so.
    pub fn hold(group: u32) -> io::Result<Group> {
        let (reading, writing) = files::pipe()?;
        fcntl(&reading, libc::F_SETOWN, -(group as libc::c_int))?;
        Ok(Group { reading, writing, at_death: 0 })
    }

    /// From now on our death makes this signal, as long as somebody else has the descriptor returned.
    pub fn signal_at_death(&mut self, signal: u8) -> io::Result<BorrowedFd<'_>> {
        fcntl(&self.reading, F_SETSIG, libc::c_int::from(signal))?;
        make_signals(&self.reading, true)?;
        self.at_death = signal;
        Ok(self.reading.as_fd())
    }

    /// Sends a signal to every member that there is.
    pub fn signal(&self, signal: u8) -> io::Result<()> {
        fcntl(&self.reading, F_SETSIG, libc::c_int::from(signal))?;
        make_signals(&self.reading, true)?;
        files::write(self.writing.as_fd(), &[0])?;
        fcntl(&self.reading, F_SETSIG, libc::c_int::from(self.at_death))?;
        make_signals(&self.reading, self.at_death != 0)
    }

    /// Both ends, for another image of this process, and whose they are again there.
    pub fn descriptors(&self) -> [&OwnedFd; 2] {
        [&self.reading, &self.writing]
    }

    pub fn at_death(&self) -> u8 {
        self.at_death
    }

    pub fn adopt(reading: OwnedFd, writing: OwnedFd, at_death: u8) -> Group {
        Group { reading, writing, at_death }
    }
}

impl Drop for Group {
    /// The hold is given up by us, not by our death.
    fn drop(&mut self) {
        let _ = make_signals(&self.reading, false);
    }
}

/// `asm-generic/fcntl.h`: which signal an `O_ASYNC` descriptor makes.
const F_SETSIG: libc::c_int = 10;

fn fcntl(fd: &OwnedFd, command: libc::c_int, value: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: an open descriptor; plain numbers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), command, value) })
}

fn make_signals(fd: &OwnedFd, on: bool) -> io::Result<()> {
    let flags = fcntl(fd, libc::F_GETFL, 0)?;
    fcntl(fd, libc::F_SETFL, if on { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC }).map(drop)
}

/// Sends a stop signal to ourselves, or to our whole group, with its default effect, and returns when continued; at once
/// where the kernel discards it (an orphaned group, an ignored signal). Says which: whether something has continued us.
pub fn stop_self(signal: u8, group: bool) -> bool {
    let _ = reset_unless_ignored(signal);
    let target = if group { Target::OwnGroup } else { Target::Process(std::process::id()) };
    // Our own pid may be 1 in a container: then neither kill(2) nor the kernel's defaults would stop us.
    let _ = send(target, signal);
    let blocked = set_mask(SignalSet::ALL.without(signal));
    set_mask(blocked);
    is_pending(CONT)
}

/// Whether a blocked signal waits for us.
fn is_pending(signal: u8) -> bool {
    let mut set = SignalSet::EMPTY;
    // SAFETY: a valid 8-byte set and its size.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set.0, 8usize) };
    set.contains(signal)
}

fn reset_unless_ignored(signal: u8) -> io::Result<()> {
    if ignored().contains(signal) { Ok(()) } else { reset(signal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_all_64_and_nothing_else() {
        let set = SignalSet::EMPTY.with(1).with(64).with(0).with(65);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 64]);
        assert!(!set.contains(0) && !set.contains(65));
        assert_eq!(set.without(64).without(1), SignalSet::EMPTY);
        assert_eq!(SignalSet::ALL.iter().count(), 64);
    }

    #[test]
    fn a_group_that_is_held_is_signalled_without_its_leader_and_at_the_death_of_the_holder() {
        use std::io::{BufRead, BufReader, Read};
        use std::os::unix::process::CommandExt;
        // A leader that has left a child, whose end is the end of its output.
        let left = || {
            let mut leader = std::process::Command::new("sh");
            leader.args(["-c", "sleep 1000 & echo"]).process_group(0).stdout(std::process::Stdio::piped());
            // Under nohup(1) hangups would be ignored there, too.
            // SAFETY: system calls alone between fork and exec.
            unsafe {
                leader.pre_exec(|| {
                    reset_all();
                    Ok(())
                })
            };
            let mut leader = leader.spawn().unwrap();
            let mut output = BufReader::new(leader.stdout.take().unwrap());
            output.read_line(&mut String::new()).unwrap();
            let group = Group::hold(leader.id()).unwrap();
            leader.wait().unwrap();
            (leader.id(), group, output)
        };
        let is_over = |mut output: BufReader<std::process::ChildStdout>| output.read_to_end(&mut vec![]).is_ok();
        let (_, group, output) = left();
        group.signal(TERM).unwrap();
        assert!(is_over(output));
        group.signal(TERM).unwrap();

        let (number, mut group, output) = left();
        let kept = files::duplicate(group.signal_at_death(HUP).unwrap()).unwrap();
        group.signal(CONT).unwrap();
        assert!(send(Target::Group(number), 0).is_ok(), "neither that nor holding it has ended it");
        drop((group, kept));
        assert!(send(Target::Group(number), 0).is_ok(), "nor has giving it up");
        send(Target::Group(number), KILL).unwrap();
        assert!(is_over(output));

        let (_, mut group, output) = left();
        let kept = files::duplicate(group.signal_at_death(HUP).unwrap()).unwrap();
        // As the kernel closes what was ours: nothing of ours runs.
        let [reading, writing] = group.descriptors().map(|fd| fd.as_raw_fd());
        std::mem::forget(group);
        files::close_inherited(&[reading, writing]);
        assert!(is_over(output));
        drop(kept);
    }

    #[test]
    fn everybody_is_never_a_target() {
        for target in [Target::Process(0), Target::Process(1), Target::Group(0), Target::Group(1)] {
            assert!(send(target, 0).is_err());
        }
    }
}
