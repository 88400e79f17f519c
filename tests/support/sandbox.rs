//! A container-like sandbox by bubblewrap: a root of its own with nothing but a static busybox and bkt, all namespaces, and the
//! directory of the daemon's socket.

use super::{Host, TempDir};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Sandbox<'h> {
    host: &'h Host,
    pub root: TempDir,
    /// Directories that both sides have, at the same path.
    shared: Vec<PathBuf>,
}

impl<'h> Sandbox<'h> {
    /// `names` are links to bkt, in the sandbox's PATH.
    pub fn new(host: &'h Host, names: &[&str]) -> Sandbox<'h> {
        let root = TempDir::new();
        for directory in ["bin", "names", "proc", "dev", "tmp", "run/bkt", "usr/share/pixmaps"] {
            fs::create_dir_all(root.0.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.0.join("bin/busybox")).expect("busybox-static is installed by tests/install-dependencies");
        for name in ["sh", "cat", "printf", "head", "sleep"] {
            symlink("busybox", root.0.join("bin").join(name)).unwrap();
        }
        super::copy_bkt(root.0.join("bin/bkt"));
        for name in names {
            symlink("/bin/bkt", root.0.join("names").join(name)).unwrap();
        }
        Sandbox { host, root, shared: vec![] }
    }

    pub fn share(&mut self, directory: &Path) {
        fs::create_dir_all(self.path(directory)).unwrap();
        self.shared.push(directory.to_path_buf());
    }

    /// Where a path of the sandbox's lies outside.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.root.0.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, program: &[S]) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--die-with-parent", "--uid", "1000", "--gid", "1000", "--bind"]).arg(&self.root.0).arg("/");
        command.arg("--bind").arg(self.host.dir.0.join("bkt")).arg("/run/bkt");
        for directory in &self.shared {
            command.arg("--bind").arg(directory).arg(directory);
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp"]).args(program);
        // What a container may have set must not reach the host's desktop.
        let hostile = [
            ("BROWSER", "/bin/evil"),
            ("DISPLAY", ":4711"),
            ("WAYLAND_DISPLAY", "evil-0"),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/evil"),
            ("XDG_DATA_HOME", "/evil"),
            ("EVIL", "1"),
        ];
        command.env_clear().envs(hostile).env("PATH", format!("/names:/bin:{}", std::env::var("PATH").unwrap())).env("XDG_RUNTIME_DIR", "/run");
        command.stdin(Stdio::null());
        command
    }

    /// A script of the sandbox's own shell.
    pub fn sh(&self, script: &str) -> Command {
        self.command(&["/bin/sh", "-c", script])
    }
}
