//! A host with a real systemd: `tests/realhost` boots it, this asks it. Each test takes a user of its own, so that one host
//! serves all tests of a file at once.

use super::{TempDir, eventually, eventually_within, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/realhost");

/// A booted host; it is gone when this is dropped, and when the tests' process ends in any other way.
pub struct RealHost {
    dir: PathBuf,
    boot: Child,
}

impl RealHost {
    /// The one that the tests of a file share.
    pub fn shared() -> &'static RealHost {
        static HOST: OnceLock<RealHost> = OnceLock::new();
        HOST.get_or_init(RealHost::boot)
    }

    /// One for a test that shuts it down. The first on a machine takes a minute: its root tree is made.
    pub fn boot() -> RealHost {
        // The script removes it.
        let temporary = TempDir::new();
        let dir = temporary.0.clone();
        std::mem::forget(temporary);
        // Its words about a machine that cannot boot systemd are those of the failing test.
        let errors = fs::File::create(dir.join("errors")).unwrap();
        let boot = script(["boot".as_ref(), dir.as_os_str()]).stdin(Stdio::piped()).stderr(errors).spawn().unwrap();
        let mut host = RealHost { dir, boot };
        let made = script(["tree"]).output().unwrap();
        assert!(made.status.success(), "this machine cannot make a host with systemd: {}", text(&made.stderr));
        host.wait_until_up();
        host
    }

    fn wait_until_up(&mut self) {
        // Units of the boot before have 90 s to end by systemd's default.
        eventually_within(Duration::from_secs(120), "systemd has booted (a failed test shows its console)", || {
            if let Some(status) = self.boot.try_wait().unwrap() {
                panic!("this machine cannot boot systemd ({status}): {}\n{}", self.read("errors"), self.read("console"));
            }
            let state = self.command(&["systemctl", "is-system-running"]).output().unwrap();
            ["running\n", "degraded\n"].contains(&text(&state.stdout).as_str())
        });
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// Seen in the host as `/srv/share`.
    pub fn share(&self) -> PathBuf {
        self.dir.join("share")
    }

    /// A copy of a file in there, under the path that the host knows it by.
    pub fn bring(&self, file: &Path, name: &str) -> String {
        fs::copy(file, self.share().join(name)).unwrap();
        format!("/srv/share/{name}")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = script(["in".as_ref(), self.dir.as_os_str()]);
        command.args(args);
        command
    }

    /// `sh -c SCRIPT` as root; its output, where it succeeds.
    #[track_caller]
    pub fn root(&self, script: &str) -> String {
        super::stdout(self.command(&["sh", "-c", script]).output().unwrap())
    }

    /// Turns it off and on again.
    pub fn reboot(&mut self) {
        let boot_id = || text(&self.command(&["cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat"]).output().unwrap().stdout);
        let before = boot_id();
        self.root("systemctl --no-block reboot");
        eventually("PID 1 is another", || boot_id() != before);
        self.wait_until_up();
    }

    /// A user of this host that nobody else is.
    pub fn new_user(&self) -> User<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("user{number}");
        self.root(&format!("useradd --create-home --uid {} --shell /bin/bash {name}", 2000 + number));
        User { host: self, name, uid: 2000 + number }
    }
}

impl Drop for RealHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- console of the host:\n{}", self.read("console"));
        }
        drop(self.boot.stdin.take());
        let _ = self.boot.wait();
    }
}

fn script<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> Command {
    // What never ends fails a test, and does not stop all of them. A host runs for as long as it is wanted.
    let args: Vec<std::ffi::OsString> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
    let mut command = match args[0].to_str() {
        Some("in" | "as-user") => Command::new("timeout"),
        _ => Command::new(SCRIPT),
    };
    if command.get_program() == "timeout" {
        command.args(["90", SCRIPT]);
    }
    // Beside what cargo built, so that it is made once and cleaned with the rest.
    command.env("REALHOST_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("realhost"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

pub struct User<'h> {
    host: &'h RealHost,
    pub name: String,
    pub uid: u32,
}

impl User<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = script(["as-user".as_ref(), self.host.dir.as_os_str(), self.name.as_ref()]);
        command.args(args).stderr(Stdio::piped());
        command
    }

    /// `SCRIPT` by a login shell, in a session that begins and ends with it.
    pub fn sh(&self, script: &str) -> Output {
        self.command(&["bash", "-lc", script]).output().unwrap()
    }

    /// The same by another shell, or in another way.
    #[track_caller]
    pub fn ok_in(&self, shell: &str, option: &str, script: &str) -> String {
        super::stdout(self.command(&[shell, option, script]).output().unwrap())
    }

    /// Its output, where it succeeds.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let output = self.sh(script);
        assert!(output.status.success(), "{script}: {:?}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The same, from the start of a program to its end, while others look on.
    pub fn start(&self, script: &str) -> Child {
        self.command(&["bash", "-lc", script]).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Logs in, and stays so until the session is dropped.
    pub fn log_in(&self) -> Session<'_> {
        let child = self.start("cat");
        eventually("the user's manager runs", || text(&self.sh("systemctl --user is-system-running").stdout) == "running\n");
        Session { user: self, child }
    }

    /// Whether a process of this user is left: none is after the last logout, where nobody lingers.
    pub fn has_processes(&self) -> bool {
        self.host.command(&["pgrep", "-u", &self.name]).output().unwrap().status.success()
    }
}

pub struct Session<'u> {
    user: &'u User<'u>,
    child: Child,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        if !std::thread::panicking() {
            // The manager, and what it started, end after the session.
            eventually("the user's manager has ended", || {
                text(&self.user.host.command(&["systemctl", "is-active", &format!("user@{}", self.user.uid)]).output().unwrap().stdout) == "inactive\n" || self.user.lingers()
            });
        }
    }
}

impl User<'_> {
    fn lingers(&self) -> bool {
        self.host.command(&["test", "-e", &format!("/var/lib/systemd/linger/{}", self.name)]).output().unwrap().status.success()
    }
}
