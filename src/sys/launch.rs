//! The birth of a command.
//!
//! `fork` copies the daemon's page tables, and `vfork` stops the daemon until the child has exec'ed: for ever, where the
//! caller's directory lies on a dead network mount. So the child is made by `clone(CLONE_VM)`: it runs in the daemon's memory
//! on a stack of its own while the daemon goes on, does nothing but system calls, and reports through a pipe that closes
//! when `execve(2)` succeeds. Measured: 10 µs more than `vfork`, 50 µs less than `fork`.
//!
//! What makes that sound: what the child reads and writes is the `Launch`, which the parent keeps until the pipe has closed; it never
//! allocates, never panics, never calls the C library (whose `errno` it would share, see `raw`). No signal can make it run anything
//! else: this program has no handlers. A daemon has blocked all signals besides, so that none ends the child before its `execve`.

use crate::sys::files::FileId;
use crate::sys::process::{Inheritance, LIMITS, Limit};
use crate::sys::raw::{clone3, syscall};
use crate::sys::signals::KernelAction;
use crate::sys::{check, files};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;

/// The child's stack: the deepest use is one `statx` structure and one link's text; the rest is for builds without optimisation.
const STACK_BYTES: usize = 16 * 1024;

/// Nothing is to be made in the directory of commands that have none.
pub const REFUGE_MODE: u32 = 0o500;

/// The longest text of a link that could be one of ours.
const LINK_BYTES: usize = 512;

/// NUL-terminated strings one after the other, and pointers to them: what `execve(2)` takes.
pub struct Strings {
    bytes: Vec<u8>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// `bytes` holds NUL-terminated strings; what follows the last NUL is ignored.
    pub fn new(bytes: Vec<u8>) -> Strings {
        let mut pointers = Vec::new();
        let mut rest = &bytes[..];
        while let Ok(next) = CStr::from_bytes_until_nul(rest) {
            pointers.push(next.as_ptr());
            rest = &rest[next.count_bytes() + 1..];
        }
        pointers.push(std::ptr::null());
        Strings { bytes, pointers }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|&b| b == 0).filter_map(|s| s.strip_suffix(b"\0"))
    }
}

/// Into which session and group the command is born.
pub enum Place {
    /// A session of its own, without a terminal.
    NewSession,
    /// A group of its own in the session of the caller, whose controlling terminal is `fds[tty]`.
    NewGroup { tty: usize, foreground: bool },
}

/// A command, decided down to the last byte; [`Launch::start`] does it.
pub struct Plan {
    /// Full paths, tried in this order.
    pub candidates: Vec<CString>,
    /// The candidates come from a search: directories, and files that are ourselves, are passed over.
    pub searched: bool,
    /// This executable: a candidate that is the same file would only lead back here.
    pub ourselves: FileId,
    pub args: Strings,
    pub env: Strings,
    pub directory: CString,
    /// Where to run, and what to write to the command's standard error, when `directory` cannot be entered.
    pub refuge: Option<(CString, Vec<u8>)>,
    /// Numbered 3 or higher, as every descriptor of a daemon is.
    pub fds: Vec<OwnedFd>,
    /// Index into `fds` for 0, 1 and 2; `None` is closed.
    pub streams: [Option<usize>; 3],
    /// Further descriptors: the number at the command, and the index into `fds`.
    pub extra: Vec<(RawFd, usize)>,
    pub place: Place,
    /// What the command gets, as its caller would have passed it on.
    pub inheritance: Inheritance,
    /// What it would get by itself.
    pub own: Inheritance,
    /// The signal sent to the command when this process dies, 0 for none.
    pub on_parent_death: u8,
    /// The cgroup to be born into, where it is not ours.
    pub cgroup: Option<OwnedFd>,
    /// Where the caller's directory may be on this side, before `directory` is entered whatever it is.
    pub elsewhere: Option<Elsewhere>,
}

/// A directory that has one identity and several possible paths: the first that leads to it is entered.
pub struct Elsewhere {
    pub origin: FileId,
    /// A path, and the `PWD=…` that goes with it.
    pub candidates: [(CString, CString); 2],
    /// Which of the environment's strings is `PWD=…`.
    pub slot: Option<usize>,
}

/// Where in its birth a command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Sessions, groups, descriptors: the machine is out of something.
    Setup,
    /// The directory asked for could not be entered.
    Directory,
    /// No candidate exists.
    Search,
    /// A candidate exists and could not be executed.
    Execute,
}

impl Stage {
    /// The reverse of `as i32`; what is no stage counts as the last.
    pub fn from_number(number: i32) -> Stage {
        let earlier = [Stage::Setup, Stage::Directory, Stage::Search].into_iter().find(|s| *s as i32 == number);
        earlier.unwrap_or(Stage::Execute)
    }
}

/// What the pipe brings: nothing and its end when the command runs, or one failure.
#[derive(Debug)]
pub enum Report {
    Pending,
    Running,
    Failed(Stage, io::Error),
}

/// A launch under way. It owns the memory that the child reads, so it must be kept while the report is [`Report::Pending`];
/// dropping it earlier keeps the memory for ever, which is a leak and not a crash.
pub struct Launch {
    /// None in a process that took the launch over by its report alone: the memory went with the old image.
    shared: Option<NonNull<Shared>>,
    report: OwnedFd,
    /// The child is known to be done with the memory: the pipe has closed.
    done: bool,
    /// It is said to have been waited for. Then the pipe need not be asked whether it has closed, before it is read.
    ended: bool,
    pub pid: u32,
}

/// Everything the child reads. The parent does not touch it between `clone` and the end of the report.
struct Shared {
    plan: Plan,
    fds: Vec<RawFd>,
    report: RawFd,
    /// The lowest number above every descriptor number that the command is to have.
    above: RawFd,
    /// `/bin/sh PATH ARGS…`, for scripts without `#!`; the child fills in slot 1.
    shell_args: Vec<*const c_char>,
    parent: u32,
    /// Not written to here: the kernel gives pages as the child touches them.
    stack: Box<[MaybeUninit<u8>]>,
}

impl Launch {
    /// Makes the child, which has the plan's descriptors from then on.
    pub fn start(mut plan: Plan) -> io::Result<Launch> {
        let (report, write_end) = files::pipe()?;
        let fds = std::mem::take(&mut plan.fds);
        let cgroup = plan.cgroup.take();
        let mut shell_args = vec![c"/bin/sh".as_ptr(), std::ptr::null()];
        shell_args.extend(plan.args.pointers.iter().skip(1));
        shell_args.push(std::ptr::null());
        let shared = Box::new(Shared {
            fds: fds.iter().map(AsRawFd::as_raw_fd).collect(),
            report: write_end.as_raw_fd(),
            above: plan.extra.iter().map(|(number, _)| *number).fold(2, RawFd::max) + 1,
            shell_args,
            parent: std::process::id(),
            stack: Box::new_uninit_slice(STACK_BYTES),
            plan,
        });
        let shared = NonNull::from(Box::leak(shared));
        // SAFETY: the stack is as long as said, aligned down to 16 and used by this child alone; it and all that the child
        // reads stay where they are and unchanged until `Drop`, which frees them if the child is done with them, and else never.
        let made = unsafe {
            let stack = &mut (*shared.as_ptr()).stack;
            let top = stack.as_mut_ptr().add(stack.len());
            let top = top.sub(top as usize % 16);
            let born_there = cgroup.as_ref().and_then(|cgroup| {
                let bottom = stack.as_mut_ptr() as usize;
                clone_into(cgroup, bottom, top as usize - bottom, shared.as_ptr() as usize)
            });
            match born_there {
                Some(pid) => Ok(pid),
                // Without a cgroup, or where the kernel or its guards do not want one: beside us.
                None => {
                    let beside = |flags| check(libc::clone(child_entry, top.cast(), flags | libc::SIGCHLD, shared.as_ptr().cast()));
                    // An emulator of another architecture's programs knows only threads and forks: there, a copy of all that reads the same.
                    beside(libc::CLONE_VM).or_else(|e| if e.raw_os_error() == Some(libc::EINVAL) { beside(0) } else { Err(e) })
                }
            }
        };
        match made {
            Ok(pid) => Ok(Launch { shared: Some(shared), report, done: false, ended: false, pid: pid as u32 }),
            Err(error) => {
                // SAFETY: no child was made; the memory is ours alone.
                drop(unsafe { Box::from_raw(shared.as_ptr()) });
                Err(error)
            }
        }
    }

    /// The launch of an earlier image of this process (see `execve(2)`: children stay, memory goes).
    pub fn adopt(report: OwnedFd, pid: u32) -> Launch {
        Launch { shared: None, report, done: false, ended: false, pid }
    }

    /// The pipe that the report comes through.
    pub fn report_descriptor(&self) -> &OwnedFd {
        &self.report
    }

    /// The child has exec'ed or exited: either closes its end of the pipe.
    fn has_closed(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.report.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one valid structure, no waiting.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 && poll.revents & libc::POLLHUP != 0 }
    }

    /// The child has been waited for.
    pub fn child_has_ended(&mut self) {
        self.ended = true;
    }

    /// What is known of the birth by now; never waits. The pipe is to be watched for its hangup alone. A failure that is written
    /// already is not looked at before that, or the memory would go with it, unfreed.
    pub fn report(&mut self) -> Report {
        self.done = !self.ended && self.has_closed();
        if !self.done && !self.ended {
            return Report::Pending;
        }
        let mut record = [0; 8];
        match files::read(self.report.as_fd(), &mut record) {
            Ok(0) => {
                self.done = true;
                Report::Running
            }
            Ok(8) => {
                let [stage, errno] = [0, 4].map(|at| i32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes")));
                Report::Failed(Stage::from_number(stage), io::Error::from_raw_os_error(errno))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::Interrupted => Report::Pending,
            Ok(_) | Err(_) => Report::Failed(Stage::Setup, io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }
}

impl AsFd for Launch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let Some(shared) = self.shared else { return };
        if self.done || self.has_closed() {
            // SAFETY: made by `Box::leak`, freed here once, and nobody reads it any more.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
        }
    }
}

/// `clone(CLONE_VM)` into a cgroup. To be born there costs nothing; to be moved there would cost a grace period of the kernel's
/// locks, which are milliseconds. `None` where no child was made.
///
/// # Safety
/// As for `clone` in [`Launch::start`].
unsafe fn clone_into(cgroup: &OwnedFd, stack: usize, length: usize, shared: usize) -> Option<c_int> {
    /// `CLONE_INTO_CGROUP`, for clone3(2) only.
    const INTO_CGROUP: u64 = 1 << 33;
    // The kernel's `clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup.
    let args = [libc::CLONE_VM as u64 | INTO_CGROUP, 0, 0, 0, libc::SIGCHLD as u64, stack as u64, length as u64, 0, 0, 0, cgroup.as_raw_fd() as u64];
    // SAFETY: the caller's, and the arguments are as the kernel wants them.
    let pid = unsafe { clone3(&args, child_entry, shared) };
    (pid > 0).then_some(pid as c_int)
}

/// The child's first instruction, on its own stack.
extern "C" fn child_entry(shared: *mut c_void) -> c_int {
    // SAFETY: `start` passed its `Shared`, which outlives this child's use of it; the parent leaves it alone meanwhile.
    let mut child = Child { shared: unsafe { &mut *shared.cast::<Shared>() } };
    match child.become_command() {
        Ok(never) => match never {},
        Err((stage, errno)) => child.fail(stage, errno),
    }
}

type Step<T> = Result<T, c_int>;

/// The child's story. System calls only.
struct Child<'a> {
    shared: &'a mut Shared,
}

impl Child<'_> {
    fn become_command(&mut self) -> Result<std::convert::Infallible, (Stage, c_int)> {
        self.take_place().map_err(|e| (Stage::Setup, e))?;
        self.stay_with_parent().map_err(|e| (Stage::Setup, e))?;
        self.arrange_descriptors().map_err(|e| (Stage::Setup, e))?;
        self.enter_directory().map_err(|e| (Stage::Directory, e))?;
        self.inherit();
        Err(self.execute())
    }

    fn take_place(&self) -> Step<()> {
        match self.shared.plan.place {
            Place::NewSession => call(libc::SYS_setsid, [0; 6]).map(drop),
            Place::NewGroup { tty, foreground } => {
                call(libc::SYS_setpgid, [0; 6])?;
                if foreground {
                    let group = call(libc::SYS_getpid, [0; 6])? as libc::pid_t;
                    // Blocked SIGTTOU: allowed from the background (tcsetpgrp(3)).
                    call(libc::SYS_ioctl, [self.shared.fds[tty] as usize, libc::TIOCSPGRP as usize, &raw const group as usize, 0, 0, 0])?;
                }
                Ok(())
            }
        }
    }

    fn stay_with_parent(&self) -> Step<()> {
        if self.shared.plan.on_parent_death == 0 {
            return Ok(());
        }
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, self.shared.plan.on_parent_death as usize, 0, 0, 0, 0])?;
        // The parent may have died before the request: then nobody will tell us.
        if call(libc::SYS_getppid, [0; 6])? != self.shared.parent as usize { Err(libc::ESRCH) } else { Ok(()) }
    }

    fn arrange_descriptors(&mut self) -> Step<()> {
        let Shared { plan, fds, report, above, .. } = &mut *self.shared;
        if !plan.extra.is_empty() {
            // A source may have a number that is another's destination: lift all of them out of the way first.
            for fd in fds.iter_mut().chain([report]) {
                *fd = call(libc::SYS_fcntl, [*fd as usize, libc::F_DUPFD_CLOEXEC as usize, *above as usize, 0, 0, 0])? as RawFd;
            }
        }
        let put = |index: usize, number: usize| call(libc::SYS_dup3, [fds[index] as usize, number, 0, 0, 0, 0]).map(drop);
        for (number, stream) in plan.streams.iter().enumerate() {
            match stream {
                Some(index) => put(*index, number)?,
                None => drop(call(libc::SYS_close, [number, 0, 0, 0, 0, 0])),
            }
        }
        plan.extra.iter().try_for_each(|(number, index)| put(*index, *number as usize))?;
        self.close_the_rest();
        Ok(())
    }

    /// Whatever else the parent had open is closed by `execve`; but until then this child may have to wait for ever (its directory lies
    /// on a dead mount, nobody reads its warning), and would keep other callers' pipes and connections open for as long. It costs two
    /// system calls, and `execve` the less. A kernel before 5.9 does not know them.
    fn close_the_rest(&self) {
        let Shared { plan, report, above, .. } = &*self.shared;
        for number in 3..*above {
            if !plan.extra.iter().any(|(kept, _)| *kept == number) {
                let _ = call(libc::SYS_close, [number as usize, 0, 0, 0, 0, 0]);
            }
        }
        for (first, last) in [(*above, *report - 1), (*report + 1, RawFd::MAX)] {
            if first <= last {
                let _ = call(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0, 0]);
            }
        }
    }

    fn enter_directory(&mut self) -> Step<()> {
        if self.enter_elsewhere() {
            return Ok(());
        }
        let enter = |path: &CString| call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]).map(drop);
        let plan = &self.shared.plan;
        let Err(missing) = enter(&plan.directory) else { return Ok(()) };
        let Some((refuge, warning)) = &plan.refuge else { return Err(missing) };
        if enter(refuge).is_err() {
            // A command before us has removed it, or whoever cleans up there.
            let _ = call(libc::SYS_mkdirat, [libc::AT_FDCWD as usize, refuge.as_ptr() as usize, REFUGE_MODE as usize, 0, 0, 0]);
            enter(refuge)?;
        }
        // Nobody else can say it at the right moment, before the command's first output; a closed stream hears nothing.
        if call(libc::SYS_write, [2, warning.as_ptr() as usize, warning.len(), 0, 0, 0]) == Err(libc::EPIPE) {
            // The SIGPIPE of it is pending, and is not the command's: to ignore a signal takes it back (signal(7)).
            set_disposition(libc::SIGPIPE, libc::SIG_IGN);
            set_disposition(libc::SIGPIPE, libc::SIG_DFL);
        }
        Ok(())
    }

    /// The directory that is the caller's own, under a path that it has here. Looked for by the child: it may lie on a dead mount.
    fn enter_elsewhere(&mut self) -> bool {
        let Shared { plan, .. } = &mut *self.shared;
        let Some(Elsewhere { origin, candidates, slot }) = &plan.elsewhere else { return false };
        for (path, pwd) in candidates {
            let entered = call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]).is_ok();
            if entered && statx(c".".as_ptr() as usize).is_ok_and(|about| identity(&about) == *origin) {
                if let Some(slot) = *slot {
                    plan.env.pointers[slot] = pwd.as_ptr();
                }
                return true;
            }
        }
        false
    }

    /// Whatever the machine does not allow (raising a hard limit, a lower nice value) stays as it is, as with any child.
    fn inherit(&self) {
        let (wanted, own) = (&self.shared.plan.inheritance, &self.shared.plan.own);
        if wanted.umask != own.umask {
            let _ = call(libc::SYS_umask, [wanted.umask as usize & 0o777, 0, 0, 0, 0, 0]);
        }
        if wanted.nice != own.nice {
            let _ = call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, wanted.nice as usize, 0, 0, 0]);
        }
        for resource in 0..LIMITS {
            let (to, from) = (wanted.limits[resource], own.limits[resource]);
            if to != from {
                set_limit(resource, to, from);
            }
        }
        for signal in 1..=64u8 {
            if wanted.ignored.contains(signal) {
                set_disposition(c_int::from(signal), libc::SIG_IGN);
            }
        }
    }

    fn execute(&mut self) -> (Stage, c_int) {
        let none = 0u64;
        let _ = call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, &raw const none as usize, 0, 8, 0, 0]);
        let mut worst = (Stage::Search, libc::ENOENT);
        let Shared { plan, shell_args, .. } = &mut *self.shared;
        let (args, env) = (plan.args.pointers.as_ptr() as usize, plan.env.pointers.as_ptr() as usize);
        for candidate in &plan.candidates {
            let path = candidate.as_ptr() as usize;
            if plan.searched && is_passed_over(path, plan.ourselves) {
                continue;
            }
            let mut failed = call(libc::SYS_execve, [path, args, env, 0, 0, 0]).err().unwrap_or(0);
            if failed == libc::ENOEXEC {
                // A script without `#!`: what execvp(3) and every shell do.
                shell_args[1] = candidate.as_ptr();
                failed = call(libc::SYS_execve, [shell_args[0] as usize, shell_args.as_ptr() as usize, env, 0, 0, 0]).err().unwrap_or(0);
            }
            match failed {
                libc::ENOENT | libc::ENOTDIR if !exists(path) => {}
                libc::EACCES if plan.searched => worst = (Stage::Execute, failed),
                _ => return (Stage::Execute, failed),
            }
        }
        worst
    }

    fn fail(&self, stage: Stage, errno: c_int) -> ! {
        let record = [stage as i32, errno];
        let _ = call(libc::SYS_write, [self.shared.report as usize, record.as_ptr() as usize, size_of_val(&record), 0, 0, 0]);
        loop {
            let _ = call(libc::SYS_exit_group, [127, 0, 0, 0, 0, 0]);
        }
    }
}

/// A system call whose pointers lead into the launch's memory or the child's stack.
fn call(number: libc::c_long, args: [usize; 6]) -> Step<usize> {
    // SAFETY: every caller in this file passes numbers, or pointers to values that live across the call.
    let result = unsafe { syscall(number, args) };
    if result < 0 { Err(-result as c_int) } else { Ok(result as usize) }
}

fn set_disposition(signal: c_int, handler: usize) {
    let action = KernelAction::of(handler);
    let _ = call(libc::SYS_rt_sigaction, [signal as usize, &raw const action as usize, 0, 8, 0, 0]);
}

/// The soft and hard value wanted, or as much of them as an unprivileged process may have.
fn set_limit(resource: usize, wanted: Limit, own: Limit) {
    let set = |limit: Limit| {
        let pair = [limit.soft, limit.hard];
        call(libc::SYS_prlimit64, [0, resource, pair.as_ptr() as usize, 0, 0, 0])
    };
    if set(wanted).is_err() {
        let hard = wanted.hard.min(own.hard);
        let _ = set(Limit { soft: wanted.soft.min(hard), hard });
    }
}

fn exists(path: usize) -> bool {
    statx(path).is_ok()
}

fn statx(path: usize) -> Step<libc::statx> {
    // SAFETY: plain numbers, zero is valid.
    let mut about: libc::statx = unsafe { std::mem::zeroed() };
    call(libc::SYS_statx, [libc::AT_FDCWD as usize, path, 0, (libc::STATX_TYPE | libc::STATX_INO) as usize, &raw mut about as usize, 0])?;
    Ok(about)
}

fn identity(about: &libc::statx) -> FileId {
    FileId { device: libc::makedev(about.stx_dev_major, about.stx_dev_minor) as u64, inode: about.stx_ino }
}

/// Nothing, a directory, or one of our own links. Of what cannot be looked at, `execve` says why.
fn is_passed_over(path: usize, ourselves: FileId) -> bool {
    let about = match statx(path) {
        Ok(about) => about,
        Err(errno) => return errno == libc::ENOENT || errno == libc::ENOTDIR,
    };
    if u32::from(about.stx_mode) & libc::S_IFMT == libc::S_IFDIR || identity(&about) == ourselves {
        return true;
    }
    // After an upgrade on disk the file is another one; its name is not.
    let mut link = [0u8; LINK_BYTES];
    match call(libc::SYS_readlinkat, [libc::AT_FDCWD as usize, path, link.as_mut_ptr() as usize, LINK_BYTES, 0, 0]) {
        Ok(length) if length < LINK_BYTES => link.get(..length).is_some_and(|text| text == b"bkt" || text.ends_with(b"/bkt")),
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_split_at_their_nuls() {
        let all = Strings::new(b"a\0\0bc\0rest".to_vec());
        assert_eq!(all.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
        assert_eq!(all.pointers.len(), 4, "execve(2) wants a null pointer behind the last");
        assert_eq!(Strings::new(vec![]).pointers, [std::ptr::null()]);
    }
}
