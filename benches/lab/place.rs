//! The machine that is measured: a temporary directory with a daemon's runtime directory in it, and a root directory that
//! shims are started in.
//!
//! The measuring process has a mount namespace of its own for that root's `/proc` and `/dev`; its parent stays outside, waits,
//! and clears up, so that nothing of the machine's is ever below the directory it removes.

use super::spawn::{self, Io, Program};
use super::{Result, failed};
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The binary that is shipped, built with the release profile.
pub const BKT: &str = env!("CARGO_BIN_EXE_bkt");

/// The names that are shims inside.
const SHIMS: &[&str] = &["true", "tiny", "head", "cat", "sh"];

/// How long the daemon may take to listen, and how long an idle one is watched.
const PATIENCE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(3);

pub struct Place {
    pub dir: PathBuf,
    pub daemon: Daemon,
    /// Both root directories, where there are two: ours and theirs.
    roots: Option<[File; 2]>,
    pub note: String,
    null: OwnedFd,
    tiny: String,
    env_outside: Vec<String>,
    env_inside: Vec<String>,
}

/// The daemon, ended with this value.
pub struct Daemon(Child);

/// Kilobytes, from `/proc/PID/status`.
#[derive(Clone, Copy)]
pub struct Memory {
    pub resident: u64,
    pub anonymous: u64,
}

/// Runs the story in a child, and clears up after it whatever happens to it.
pub fn in_own_process(story: impl FnOnce(&mut Place) -> Result<()>) -> i32 {
    let dir = std::env::temp_dir().join(format!("bkt-bench-{}", std::process::id()));
    // SAFETY: one thread; the child goes on as any program does. SIGPIPE is ignored by Rust programs, and what is ignored is
    // inherited by everything measured.
    let pid = unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::fork()
    };
    if pid == 0 {
        let told = Place::set_up(dir).and_then(|mut place| story(&mut place));
        if let Err(why) = &told {
            eprintln!("bench: {why}");
        }
        return i32::from(told.is_err());
    }
    // SAFETY: touches no memory. Ctrl-C reaches the child too, and we are to clear up after it.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let code = spawn::wait(pid).unwrap_or(1);
    if let Ok(about) = fs::symlink_metadata(&dir) {
        remove(&dir, about.dev());
    }
    code
}

/// Removes a tree without ever leaving its file system.
fn remove(path: &Path, device: u64) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    if about.dev() != device {
        return;
    }
    if !about.is_dir() {
        return drop(fs::remove_file(path));
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        remove(&entry.path(), device);
    }
    let _ = fs::remove_dir(path);
}

impl Place {
    fn set_up(dir: PathBuf) -> Result<Place> {
        let io = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
        leave_terminal();
        let root = dir.join("root");
        for part in ["bin", "run", "proc", "dev", "tmp"] {
            fs::create_dir_all(root.join(part)).map_err(io("make the other root"))?;
        }
        fs::copy(BKT, root.join("bkt")).map_err(io("copy bkt"))?;
        for name in SHIMS {
            symlink("/bkt", root.join("bin").join(name)).map_err(io("link a shim"))?;
        }
        let tools = dir.join("tools");
        fs::create_dir(&tools).map_err(io("make a directory"))?;
        let tiny = tools.join("tiny");
        fs::copy(std::env::current_exe().map_err(io("find ourselves"))?, &tiny).map_err(io("copy ourselves"))?;
        let kept = std::env::vars().filter(|(name, _)| !["CARGO", "RUST", "BKT_", "XDG_RUNTIME_DIR", "PWD"].iter().any(|p| name.starts_with(p)));
        let kept: Vec<String> = kept.map(|(name, value)| format!("{name}={value}")).chain(["PWD=/".into()]).collect();
        let with = |runtime: &Path| kept.iter().cloned().chain([format!("XDG_RUNTIME_DIR={}", runtime.display())]).collect();
        let daemon = Daemon::start(&dir, &root.join("run"), &tools)?;
        let entered = enter_namespace().and_then(|()| furnish(&root)).and_then(|()| {
            let open = |path: &Path| File::open(path).map_err(io("open a root directory"));
            Ok([open(Path::new("/"))?, open(&root)?])
        });
        let (roots, note) = match entered {
            Ok(roots) => (Some(roots), "shims are started in a root directory of their own, the daemon in ours".to_string()),
            Err(why) => (None, format!("no other root directory can be had here ({why}): 'bkt admin daemon exec --' stands for the shims")),
        };
        std::env::set_current_dir("/").map_err(io("enter /"))?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(io("open /dev/null"))?.into();
        let env_outside = with(&root.join("run"));
        Ok(Place { tiny: tiny.display().to_string(), env_inside: with(Path::new("/run")), env_outside, dir, daemon, roots, note, null })
    }

    /// A program on our side, by its path.
    pub fn direct(&self, args: &[&str]) -> Program {
        Program::new(args[0], args, &self.env_outside, false)
    }

    /// The same command through bkt, by its name.
    pub fn shim(&self, args: &[&str]) -> Program {
        if self.roots.is_some() {
            return Program::new(&format!("/bin/{}", args[0]), args, &self.env_inside, true);
        }
        Program::new(BKT, &["bkt", "admin", "daemon", "exec", "--"], &self.env_outside, false).with(args)
    }

    /// The path of a static program that does nothing: this one, under another name.
    pub fn tiny(&self) -> &str {
        &self.tiny
    }

    /// Starts a program, in its root directory.
    pub fn spawn(&self, program: &Program, io: Io<'_>) -> Result<(i32, u64)> {
        let (Some([ours, theirs]), true) = (&self.roots, program.inside) else { return program.spawn(io, self.null.as_fd()) };
        change_root(theirs)?;
        let spawned = program.spawn(io, self.null.as_fd());
        change_root(ours)?;
        spawned
    }

    /// Runs a program to its good end; nanoseconds from asking for it to having its exit status.
    pub fn run(&self, program: &Program, io: Io<'_>) -> Result<u64> {
        let (pid, begun) = self.spawn(program, io)?;
        finish(program, pid, begun)
    }

    /// The same while reading its output, which must be that long.
    pub fn through_pipe(&self, program: &Program, bytes: u64) -> Result<u64> {
        let (read, write) = pipe()?;
        let (pid, begun) = self.spawn(program, Io::Streams { input: self.null.as_fd(), output: write.as_fd() })?;
        drop(write);
        let arrived = read_all(File::from(read));
        let took = finish(program, pid, begun)?;
        if arrived == bytes { Ok(took) } else { Err(format!("{}: {arrived} bytes arrived of {bytes}", program.name())) }
    }

    /// The same at a new terminal: until its exit status and the last byte are there. Also says how many bytes came.
    pub fn at_terminal(&self, program: &Program) -> Result<(u64, u64)> {
        let (leader, follower) = open_pty()?;
        let (pid, begun) = self.spawn(program, Io::Terminal(&follower))?;
        let arrived = read_all(leader);
        Ok((finish(program, pid, begun)?, arrived))
    }

    /// Keeps ourselves, the daemon and all they start on one processor while something runs. Two processes with a pipe between
    /// them are up to twice as fast or slow depending on which processors the kernel picks, and it picks the same for long.
    pub fn on_one_processor<T>(&self, what: impl FnOnce() -> T) -> T {
        let (ours, daemons) = (affinity(0), affinity(self.daemon.0.id() as i32));
        set_affinity(0, &first_of(&ours));
        set_affinity(self.daemon.0.id() as i32, &first_of(&ours));
        let done = what();
        set_affinity(0, &ours);
        set_affinity(self.daemon.0.id() as i32, &daemons);
        done
    }

    /// A file of lines as they fill a screen, and how many bytes a terminal makes of it.
    pub fn screenful(&self, bytes: u64) -> Result<(String, u64)> {
        let lines = bytes / 80;
        let path = self.dir.join("lines");
        let line = [&[b'x'; 79][..], b"\n"].concat();
        fs::write(&path, line.repeat(lines as usize)).map_err(|e| format!("{}: {e}", path.display()))?;
        // The terminal puts a carriage return before each end of line.
        Ok((path.display().to_string(), lines * 81))
    }

    pub fn environment(&self) -> &[String] {
        &self.env_outside
    }
}

fn finish(program: &Program, pid: i32, begun: u64) -> Result<u64> {
    let code = spawn::wait(pid)?;
    let took = spawn::now() - begun;
    if code == 0 { Ok(took) } else { Err(format!("{} ended with {code}", program.name())) }
}

/// Reads to the end; a pty's end is an error.
fn read_all(mut from: File) -> u64 {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        total += n as u64;
    }
    total
}

pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors, both new and ours.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(failed("pipe"));
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// A new pty: its leader, and its follower's path.
fn open_pty() -> Result<(File, CString)> {
    let mut name = [0; 64];
    // SAFETY: a constant path; the name's buffer has that length and is NUL-terminated where the call succeeds.
    unsafe {
        let fd = libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(failed("open /dev/ptmx"));
        }
        let leader = File::from_raw_fd(fd);
        if libc::unlockpt(fd) != 0 || libc::ptsname_r(fd, name.as_mut_ptr(), name.len()) != 0 {
            return Err(failed("open a pty"));
        }
        Ok((leader, CStr::from_ptr(name.as_ptr()).to_owned()))
    }
}

/// No run is to find a controlling terminal that it was not given. (ioctl_tty(2): a process that is no session leader gives up
/// only its own.)
fn leave_terminal() {
    if let Ok(terminal) = File::open("/dev/tty") {
        // SAFETY: an open terminal; the request has no argument.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
    }
}

fn affinity(pid: i32) -> libc::cpu_set_t {
    // SAFETY: plain numbers, zero is valid; the size is the structure's.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(pid, size_of_val(&set), &raw mut set);
        set
    }
}

/// Where that is not allowed, all stays as it is.
fn set_affinity(pid: i32, set: &libc::cpu_set_t) {
    // SAFETY: the size is the structure's.
    unsafe { libc::sched_setaffinity(pid, size_of_val(set), set) };
}

fn first_of(all: &libc::cpu_set_t) -> libc::cpu_set_t {
    // SAFETY: plain numbers, zero is valid; the numbers are below the set's size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if let Some(number) = (0..libc::CPU_SETSIZE as usize).find(|n| libc::CPU_ISSET(*n, all)) {
            libc::CPU_SET(number, &mut set);
        }
        set
    }
}

/// A mount namespace of our own; for a plain user in a user namespace in which the user keeps its number.
fn enter_namespace() -> Result<()> {
    // SAFETY: numbers only, and constant strings.
    unsafe {
        let (user, group) = (libc::geteuid(), libc::getegid());
        let flags = if user == 0 { libc::CLONE_NEWNS } else { libc::CLONE_NEWNS | libc::CLONE_NEWUSER };
        if libc::unshare(flags) != 0 {
            return Err(failed("unshare"));
        }
        if user != 0 {
            let map = |file: &str, text: String| fs::write(file, text).map_err(|e| format!("{file}: {e}"));
            map("/proc/self/uid_map", format!("{user} {user} 1"))?;
            map("/proc/self/setgroups", "deny".into())?;
            map("/proc/self/gid_map", format!("{group} {group} 1"))?;
        }
        let private = libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
        if private != 0 { Err(failed("make the mounts our own")) } else { Ok(()) }
    }
}

/// Shows the machine's `/proc` and `/dev` in the other root, as containers do.
fn furnish(root: &Path) -> Result<()> {
    for part in ["proc", "dev"] {
        let to = CString::new(root.join(part).into_os_string().into_encoded_bytes()).map_err(|e| e.to_string())?;
        let from = CString::new(format!("/{part}")).map_err(|e| e.to_string())?;
        // SAFETY: C strings that live across the call.
        if unsafe { libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), libc::MS_BIND | libc::MS_REC, std::ptr::null()) } != 0 {
            return Err(failed("bind mount"));
        }
    }
    Ok(())
}

fn change_root(to: &File) -> Result<()> {
    // SAFETY: an open directory and a constant string.
    if unsafe { libc::fchdir(to.as_raw_fd()) != 0 || libc::chroot(c".".as_ptr()) != 0 } { Err(failed("change the root directory")) } else { Ok(()) }
}

impl Daemon {
    fn start(dir: &Path, runtime: &Path, tools: &Path) -> Result<Daemon> {
        let log = File::create(dir.join("log")).map_err(|e| format!("the daemon's log: {e}"))?;
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(BKT);
        command.arg0("bkt-hostd").env("XDG_RUNTIME_DIR", runtime).env_remove("BKT_SOCKET").env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
        let daemon = Daemon(command.spawn().map_err(|e| format!("start {BKT}: {e}"))?);
        let end = std::time::Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(runtime.join("bkt/host.sock")).is_err() {
            if std::time::Instant::now() > end {
                return Err(format!("the daemon does not listen: {}", fs::read_to_string(dir.join("log")).unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    pub fn memory(&self) -> Memory {
        Memory { resident: self.status("VmRSS"), anonymous: self.status("RssAnon") }
    }

    /// How often it wakes up while nothing is asked of it.
    pub fn idle(&self) -> Result<(u64, Duration)> {
        let switches = || self.status("voluntary_ctxt_switches") + self.status("nonvoluntary_ctxt_switches");
        // What it still has to do after the last caller.
        std::thread::sleep(Duration::from_millis(200));
        let before = switches();
        std::thread::sleep(IDLE);
        Ok((switches() - before, IDLE))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SAFETY: kill(2) touches no memory; the child is ours and not waited for yet.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        let _ = self.0.wait();
        let _ = std::io::stdout().flush();
    }
}
