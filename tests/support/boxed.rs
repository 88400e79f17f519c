//! A container for the tests of the guest daemon: a root file system with nothing in it but a static busybox and bkt, and all
//! namespaces of its own, made by bubblewrap. The host's runtime directory is seen at `/run/host-user`.

use super::peer::{Answer, Peer};
use super::{Host, PATIENCE, TempDir, children, eventually, lives, text};
use bkt::proto::channel::Channel;
use bkt::proto::message::{self, Message, kind};
use bkt::sys::socket;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What busybox is called in the containers.
const NAMES: &[&str] = &[
    "sh", "ash", "cat", "ls", "readlink", "wc", "kill", "sleep", "id", "env", "pwd", "stty", "tty", "true", "false", "ps", "head", "tr", "grep", "mkdir", "touch", "find", "sort",
    "dd", "nohup", "sed", "stat", "yes", "test", "printf", "hostname",
];

/// A quarter of a container's id.
pub const ID: &str = "0123456789abcdef";

pub struct Boxed {
    pub root: TempDir,
    /// Directories of the host that the container sees, and where.
    pub shared: Vec<(PathBuf, String)>,
    pub env: Vec<(String, String)>,
}

impl Boxed {
    /// A container that sees this runtime directory.
    pub fn new(runtime: &Path) -> Boxed {
        let root = TempDir::new();
        for directory in ["bin", "proc", "dev", "tmp", "etc/profile.d", "etc/environment.d", "etc/fish", "run/host-user", "home", "box"] {
            fs::create_dir_all(root.0.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.0.join("bin/busybox")).expect("busybox-static is installed by tests/install-dependencies");
        for name in NAMES {
            symlink("busybox", root.0.join("bin").join(name)).unwrap();
        }
        super::copy_bkt(root.0.join("bin/bkt"));
        symlink("bkt", root.0.join("bin/bkt-guest")).unwrap();
        Boxed { root, shared: vec![(runtime.to_path_buf(), "/run/host-user".into())], env: vec![] }
    }

    pub fn of(host: &Host) -> Boxed {
        Boxed::new(&host.dir.0)
    }

    pub fn share(mut self, from: &Path, at: &str) -> Boxed {
        fs::create_dir_all(self.path(at)).unwrap();
        self.shared.push((from.to_path_buf(), at.into()));
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Boxed {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.0.join(inside.trim_start_matches('/'))
    }

    /// A script of the container.
    pub fn script(&self, inside: &str, text: &str) {
        fs::write(self.path(inside), text).unwrap();
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program in the container, in a new instance of it: the files are the same, the processes are not. No runtime has named it.
    pub fn command(&self, program: &[&str]) -> Command {
        self.command_of(Command::new("bwrap"), program)
    }

    /// The same in a container of this name: what podman leaves on the host for each of its own is above it there, a conmon.
    pub fn named(&self, name: &str, program: &[&str]) -> Command {
        let monitor = self.path("conmon");
        if !monitor.exists() {
            // Written by another process, see `copy_bkt`.
            let write = "printf '#!/bin/sh\nshift 4\n\"$@\"\n' >\"$0\" && chmod 755 \"$0\"";
            assert!(Command::new("sh").args(["-c", write]).arg(&monitor).status().unwrap().success());
        }
        let mut command = Command::new(monitor);
        command.args(["-c", &ID.repeat(4), "-n", name, "bwrap"]);
        self.command_of(command, program)
    }

    fn command_of(&self, mut command: Command, program: &[&str]) -> Command {
        command.args(["--unshare-all", "--die-with-parent", "--uid", "1000", "--gid", "1000", "--bind"]).arg(&self.root.0).arg("/");
        for (from, at) in &self.shared {
            command.arg("--bind").arg(from).arg(at);
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp"]).args(program);
        command.env_clear().env("PATH", "/bin").env("HOME", "/home").env("INSIDE", "yes").env("BKT_LOG_FORMAT", "text").stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A guest daemon in the container, whose log is in `log()`.
    pub fn guest(self, name: &str, options: &[&str]) -> Guest {
        let log = TempDir::new();
        let file = fs::File::create(log.0.join("log")).unwrap();
        let mut command = self.command(&["/bin/bkt-guest", "--daemon", "-vv", "--name", name]);
        let bwrap = command.args(options).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Guest { bwrap, boxed: self, name: name.into(), log }
    }

    /// Everything in the container that a guest could have left behind.
    pub fn traces(&self) -> Vec<String> {
        let output = Command::new("find").args(["run", "etc", "tmp", "home"]).current_dir(&self.root.0).output().unwrap();
        let mut all: Vec<String> = text(&output.stdout).lines().map(str::to_string).collect();
        all.sort();
        all
    }
}

pub struct Guest {
    pub bwrap: Child,
    pub boxed: Boxed,
    pub name: String,
    log: TempDir,
}

impl Guest {
    /// A guest that the host knows.
    pub fn of(host: &Host, name: &str) -> Guest {
        Boxed::of(host).guest(name, &[]).ready(host)
    }

    #[track_caller]
    pub fn ready(self, host: &Host) -> Guest {
        eventually(&format!("{} has a guest daemon: {}", self.name, self.log()), || is_listed(host, &self.name));
        self
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log.0.join("log")).unwrap()
    }

    /// The guest daemon's process, by its number outside.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        find_below(self.bwrap.id(), "bkt-guest")
    }

    /// The daemon's end, which must come.
    #[track_caller]
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.bwrap.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the guest daemon does not end: {}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.bwrap.kill();
        let _ = self.bwrap.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the guest {}:\n{}", self.name, self.log());
        }
    }
}

/// Whether `bkt ps` lists a container.
pub fn is_listed(host: &Host, name: &str) -> bool {
    let output = host.bkt(["--no-delegate", "ps"]).output().unwrap();
    text(&output.stdout).lines().any(|line| line.split_whitespace().next() == Some(name))
}

/// A process of that name among the descendants.
#[track_caller]
pub fn find_below(of: u32, name: &str) -> u32 {
    let mut found = None;
    eventually(&format!("{name} runs below {of}"), || {
        let mut open = vec![of];
        while let Some(pid) = open.pop() {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == name && lives(pid) {
                found = Some(pid);
            }
            open.extend(children(pid));
        }
        found.is_some()
    });
    found.unwrap()
}

/// `bkt enter NAME -- …` on the host, in `/tmp`, which is on either side.
pub fn enter<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(host: &Host, name: &str, command: I) -> Command {
    let mut all = host.bkt(["enter", name, "--"]);
    all.args(command).current_dir("/tmp");
    all
}

/// A host of our own making, which says what a test wants.
pub struct FakeHost {
    pub dir: TempDir,
    listener: OwnedFd,
}

impl FakeHost {
    pub fn new() -> FakeHost {
        let dir = TempDir::new();
        fs::create_dir(dir.0.join("bkt")).unwrap();
        let listener = socket::listen(&dir.0.join("bkt/host.sock"), 16).unwrap();
        FakeHost { dir, listener }
    }

    pub fn boxed(&self) -> Boxed {
        Boxed::new(&self.dir.0)
    }

    /// The next guest that connects.
    #[track_caller]
    pub fn accept(&self) -> Peer {
        let mut made = None;
        eventually("a guest connects", || {
            made = socket::accept(self.listener.as_fd()).ok();
            made.is_some()
        });
        Peer { channel: Channel::new(made.unwrap()) }
    }

    /// The same, with its hello answered.
    #[track_caller]
    pub fn welcome(&self, accepted: &[&str]) -> Peer {
        let mut peer = self.accept();
        peer.expect(kind::Serve);
        peer.say(&message::HelloAnswer { release: env!("CARGO_PKG_VERSION"), accepted: accepted.to_vec(), rejected: vec![] }, None);
        peer
    }
}

/// Says something and waits for the answer of that kind.
#[track_caller]
pub fn ask<M: Message>(peer: &mut Peer, question: &M, answer: u8) -> Answer {
    peer.say(question, None);
    peer.expect(answer)
}
