//! A host of its own for each test: a temporary runtime directory, a daemon in it, and clients that find it.
//!
//! Everything is real: the shipped binary, sockets, ptys, processes. Nothing waits for a time, everything waits for a condition,
//! with a deadline that says what it waited for.
#![allow(dead_code, unsafe_code)]

pub mod boxed;
pub mod caller;
pub mod peer;
pub mod pty;
pub mod realhost;
pub mod sandbox;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The binary under test, as cargo built it.
///
/// `BKT_TESTED` names it where the tests are built by another profile than what is shipped, which takes a fifth of the time.
pub const BKT: &str = match option_env!("BKT_TESTED") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_bkt"),
};

/// How long any condition may take to come true. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is not held up by anybody: shorter than any time that the daemon gives to somebody who is silent (2 s and more), and long
/// for a machine that is busy.
pub const AT_ONCE: Duration = Duration::from_millis(1_900);

/// A field of `/proc/PID/status`, without its name.
pub fn status_field(pid: u32, name: &str) -> Option<String> {
    field_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

/// The same, of a text that was read already.
pub fn field_of(status: &str, name: &str) -> Option<String> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

/// The operation id at the end of a sentence of ours.
#[track_caller]
pub fn op_id_at_end(sentence: &str) -> String {
    let id = sentence.trim_end_matches('\n').strip_suffix(')').and_then(|s| s.rsplit_once(" (op-")).map(|(_, digits)| digits);
    let id = id.filter(|d| d.len() == 12 && d.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    format!("op-{}", id.unwrap_or_else(|| panic!("does not end with an operation id: {sentence:?}")))
}

/// A failure of our own: one line on standard error, in our name, with the operation's id, which is returned.
#[track_caller]
pub fn complaint(output: &Output, code: i32, part: &str) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{:?}: {said}", output.status);
    assert!(said.starts_with("bkt: ") && said.ends_with('\n') && said.lines().count() == 1, "not one line of ours: {said:?}");
    assert!(said.contains(part), "{part:?} is not in {said:?}");
    op_id_at_end(&said)
}

/// Copies the executable, by another process: were the new file open for writing here, a child that another test forks meanwhile
/// would hold it open too, and who executes it would hear "Text file busy".
pub fn copy_bkt(to: impl AsRef<Path>) {
    assert!(Command::new("cp").arg(BKT).arg(to.as_ref()).status().unwrap().success());
}

/// Waits until the condition holds; fails the test, saying which one, when it does not in time.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, condition);
}

/// The same for what takes long.
#[track_caller]
pub fn eventually_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "did not come true within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory that is removed with the test, unless the test fails.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // What a failed test has left stays as it is, though the number of its process may be given again.
        loop {
            let path = std::env::temp_dir().join(format!("bkt-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
            match fs::create_dir(&path) {
                Ok(()) => return TempDir(path),
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::AlreadyExists, "{}", path.display()),
            }
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // The refuge in it has mode 0500.
            let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&self.0).output();
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A daemon in a runtime directory of its own.
pub struct Host {
    pub dir: TempDir,
    pub daemon: Child,
}

impl Host {
    /// A running daemon; its log is in `log()`.
    pub fn start() -> Host {
        Host::start_with(|_| {})
    }

    /// The same, after the command that starts it has been changed (arguments, environment).
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Host {
        let dir = TempDir::new();
        let daemon = Host::spawn(&dir, change);
        let host = Host { dir, daemon };
        host.wait_until_it_serves();
        host
    }

    /// Starts the daemon once more, after it has ended.
    pub fn restart(&mut self) {
        self.daemon = Host::spawn(&self.dir, |_| {});
        self.wait_until_it_serves();
    }

    fn spawn(dir: &TempDir, change: impl FnOnce(&mut Command)) -> Child {
        let log = fs::File::options().append(true).create(true).open(dir.0.join("log")).unwrap();
        let mut command = Command::new(BKT);
        command.arg0("bkt-hostd").arg("-vv").env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &dir.0).env("SERVER_SIDE", "yes");
        command.env("XDG_RUNTIME_DIR", &dir.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // What the test was started with is not the daemon's, and would be missed from its count after a reload.
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                bkt::sys::files::close_all_on_exec();
                Ok(())
            });
        }
        change(&mut command);
        command.spawn().unwrap()
    }

    fn wait_until_it_serves(&self) {
        eventually("the daemon listens", || self.bkt(["admin", "daemon", "status"]).output().unwrap().status.success());
        // Who counts its descriptors from here on must not count the one of the question.
        eventually("the daemon has hung up on who asked", || self.sockets() <= 1 + self.doors());
    }

    /// Containers' own sockets.
    fn doors(&self) -> usize {
        fs::read_dir(self.dir.0.join("bkt/containers")).map_or(0, |all| all.flatten().filter(|d| d.path().join("host.sock").exists()).count())
    }

    /// Sockets of the daemon: its listener, and a connection each for its callers. Its log may be one, too.
    fn sockets(&self) -> usize {
        let all = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
        let links = all.filter(|entry| entry.file_name() != "2").map(|entry| fs::read_link(entry.path()));
        links.filter(|link| link.as_ref().is_ok_and(|l| l.as_os_str().to_string_lossy().starts_with("socket:"))).count()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.0.join("bkt/host.sock")
    }

    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.0.join("log")).unwrap()
    }

    /// `bkt` with these arguments, as a client of this daemon, with nothing of whoever runs the tests: no terminal, no ignored signal.
    pub fn bkt<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new(BKT);
        command.arg0("bkt").args(args).env("BKT_SOCKET", self.socket()).env("BKT_SIDE", "container").stdin(Stdio::null());
        caller::by_itself(&mut command);
        command
    }

    /// `bkt admin daemon exec -- …`: a command through the daemon.
    pub fn exec<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Command {
        let mut command = self.bkt(["admin", "daemon", "exec", "--"]);
        command.args(args);
        command
    }

    /// `sh -c SCRIPT` through the daemon.
    pub fn sh(&self, script: &str) -> Command {
        self.exec(["sh", "-c", script])
    }

    /// Open descriptors of the daemon.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Children of the daemon that have ended and were not waited for.
    pub fn zombies(&self) -> usize {
        children(self.pid()).into_iter().filter(|pid| state(*pid) == Some('Z')).count()
    }

    /// All children of the daemon.
    pub fn children(&self) -> Vec<u32> {
        children(self.pid())
    }

    pub fn signal_daemon(&self, signal: i32) {
        // SAFETY: kill(2) touches no memory.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(12).collect();
            eprintln!("---- last lines of the log of the daemon in {}, the last one first:\n{}", self.dir.0.display(), last.join("\n"));
        }
    }
}

/// A client that does not outlive its test, however that ends; nor does its command, which the daemon then ends.
pub struct Client(pub Child);

impl std::ops::Deref for Client {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process that must be there.
#[track_caller]
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: kill(2) touches no memory.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0, "signal {signal} to {pid}");
}

/// Children of a process.
pub fn children(of: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| stat_field(*pid, 1).is_some_and(|parent| parent == of.to_string())).collect()
}

/// The state letter of a process, if there is one of that number.
pub fn state(pid: u32) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

/// Field of `/proc/PID/stat` counted from the state (0), which follows the name.
pub fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field).map(str::to_string)
}

/// Whether a process lives (a zombie does not).
pub fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|s| s != 'Z')
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a run that must have succeeded.
#[track_caller]
pub fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Reads a number that a command wrote to a file, once it is there.
pub fn number_in(path: &Path) -> u32 {
    let mut found = None;
    eventually(&format!("a number in {}", path.display()), || {
        found = fs::read_to_string(path).ok().filter(|t| t.ends_with('\n')).and_then(|t| t.trim().parse().ok());
        found.is_some()
    });
    found.unwrap()
}

/// A copy of the binary that says another version.
pub fn other_version(to: &Path) {
    let mut bytes = fs::read(BKT).unwrap();
    let (old, new) = (env!("CARGO_PKG_VERSION").as_bytes(), b"9.9.9");
    let places: Vec<usize> = bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old).map(|(at, _)| at).collect();
    assert!(!places.is_empty() && old.len() == new.len());
    places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    fs::write(to, bytes).unwrap();
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
