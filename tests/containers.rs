//! Real containers: a root file system of their own with nothing in it but a static busybox and bkt, and user, mount, process and
//! other namespaces of their own, made in four ways: bubblewrap, unshare, podman as root, and podman of an ordinary user.
//!
//! The containers' side is not told that it is one (`BKT_SIDE` is not set), unless a test says why.
#![allow(unsafe_code)]

mod support;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{BKT, Host, TempDir, caller, eventually, lives, number_in, pty, stdout, text};

/// Names that are links to bkt in the containers, besides those that `bkt --install` makes.
const SHIMS: &[&str] = &["sh", "cat", "uname", "python3", "readlink", "pwd", "env", "sleep", "wc", "loop", "no-such-command", "made-here", "true", "bash"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// All namespaces, a user of another number than outside, `/dev` and pseudo-terminals of its own; bwrap is process 1.
    Bubblewrap,
    /// User, mount, process and IPC namespaces, `/dev` with nothing but `null`; the program is process 1.
    Unshare,
}

const KINDS: [Kind; 2] = [Kind::Bubblewrap, Kind::Unshare];

struct Container<'h> {
    host: &'h Host,
    kind: Kind,
    root: TempDir,
}

/// A root directory that holds busybox, bkt and links.
fn make_root(root: &Path) {
    for directory in ["bin", "shims", "proc", "dev", "tmp", "box", "etc", "sys", "run/bkt"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed by tests/install-dependencies");
    for name in ["sh", "cat", "ls", "readlink", "wc", "kill", "sleep"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    support::copy_bkt(root.join("bin/bkt"));
    fs::write(root.join("dev/null"), "").unwrap();
    for name in SHIMS {
        symlink("/bin/bkt", root.join("shims").join(name)).unwrap();
    }
}

impl<'h> Container<'h> {
    fn new(host: &'h Host, kind: Kind) -> Container<'h> {
        let root = TempDir::new();
        make_root(&root.0);
        Container { host, kind, root }
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.0.join(inside)
    }

    /// A program in the container, in the directory `/tmp`, which is on either side. The daemon's directory is seen at `/run/bkt` there.
    fn command(&self, program: &[&str]) -> Command {
        self.command_with(&[("XDG_RUNTIME_DIR", "/run")], "/run/bkt", program)
    }

    fn command_with(&self, env: &[(&str, &str)], socket_directory: &str, program: &[&str]) -> Command {
        let (root, shared) = (&self.root.0, self.host.dir.0.join("bkt"));
        fs::create_dir_all(self.path(socket_directory.trim_start_matches('/'))).unwrap();
        let mut command;
        match self.kind {
            Kind::Bubblewrap => {
                command = Command::new("bwrap");
                command.args(["--unshare-all", "--die-with-parent", "--uid", "1000", "--gid", "1000", "--bind"]).arg(root).args(["/", "--bind"]).arg(&shared).arg(socket_directory);
                command.args(["--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp"]).args(program);
            }
            Kind::Unshare => {
                let script = r#"mount --rbind "$0" "$0" && mount --bind "$1" "$0$2" && mount --bind /dev/null "$0/dev/null" && shift 2 && exec unshare --pid --fork --kill-child --mount-proc --root="$0" --wd=/tmp "$@""#;
                command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount", "--ipc", "/bin/sh", "-c", script]).arg(root).arg(&shared).arg(socket_directory).args(program);
            }
        }
        caller::with_default_signals(&mut command);
        command.env_clear().env("PATH", format!("/shims:{}", std::env::var("PATH").unwrap())).env("TERM", "xterm").envs(env.iter().copied()).stdin(Stdio::null());
        command
    }

    /// A script of the container's own shell. Names of commands that busybox has itself are not searched in PATH by it: shims are
    /// called by their paths.
    fn sh(&self, script: &str) -> Output {
        self.command(&["/bin/sh", "-c", script]).output().unwrap()
    }
}

fn each_kind(test: impl Fn(&Host, Container<'_>)) {
    for kind in KINDS {
        eprintln!("---- {kind:?}");
        let host = Host::start();
        test(&host, Container::new(&host, kind));
    }
}

fn namespace(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
}

#[test]
fn a_shim_runs_the_hosts_command_in_the_hosts_namespaces() {
    each_kind(|host, container| {
        let only_here = host.dir.0.join("only-on-the-host");
        fs::write(&only_here, "seen").unwrap();
        for name in ["mnt", "pid", "user", "ipc"] {
            let inside = stdout(container.sh(&format!("/bin/readlink /proc/self/ns/{name}")));
            let through = stdout(container.sh(&format!("/shims/readlink /proc/self/ns/{name}")));
            assert_ne!(inside.trim(), namespace(name), "the container is none");
            assert_eq!(through.trim(), namespace(name));
        }
        let script = format!(r#"id -u; cat {}; echo; echo "$PATH"; printf '<%s>' "$@""#, only_here.display());
        let output = stdout(container.command(&["/shims/sh", "-c", &script, "sh", "a b", "", "\u{e9}"]).output().unwrap());
        // SAFETY: touches no memory.
        let user = unsafe { libc::getuid() };
        assert_eq!(output, format!("{user}\nseen\n{}\n<a b><><\u{e9}>", std::env::var("PATH").unwrap()));
        assert!(!container.path(only_here.to_str().unwrap().trim_start_matches('/')).exists());
    });
}

#[test]
fn the_container_has_no_c_library_and_bkt_installs_its_links_there() {
    each_kind(|_, container| {
        assert!(!container.path("lib").exists() && !container.path("lib64").exists() && !container.path("usr").exists());
        let made = stdout(container.sh("bkt --install /opt/shims && bkt --install /opt/shims && ls /opt/shims && readlink /opt/shims/systemctl"));
        assert!(made.contains(" 0 new or moved"), "the second time nothing is left to do: {made}");
        assert!(made.lines().any(|line| line == "bootc"), "{made}");
        assert_eq!(made.lines().last(), Some("/bin/bkt"));
    });
}

#[test]
fn the_exit_status_is_the_commands() {
    each_kind(|_, container| {
        let codes = stdout(container.sh("for code in 0 1 2 3 125 126 127 128 143 255; do /shims/sh -c \"exit $code\"; echo $?; done"));
        assert_eq!(codes, "0\n1\n2\n3\n125\n126\n127\n128\n143\n255\n");
        let missing = container.sh("no-such-command; echo $?");
        assert_eq!(stdout(missing.clone()), "127\n");
        assert!(text(&missing.stderr).contains("no-such-command: command not found on the daemon's side"), "{}", text(&missing.stderr));
        assert!(text(&missing.stderr).contains("(op-"), "{}", text(&missing.stderr));
    });
}

#[test]
fn a_command_that_dies_of_a_signal_is_seen_so_by_the_containers_shell() {
    each_kind(|_, container| {
        let codes = stdout(container.sh("for signal in HUP INT QUIT KILL USR1 TERM; do /shims/sh -c \"kill -$signal \\$\\$\" 2>/dev/null; echo $?; done"));
        assert_eq!(codes, "129\n130\n131\n137\n138\n143\n");
    });
}

/// Process 1 of a namespace cannot die of a signal that it sends itself.
#[test]
fn a_shim_that_is_process_1_ends_with_128_and_the_signal() {
    let host = Host::start();
    let container = Container::new(&host, Kind::Unshare);
    for (signal, code) in [("HUP", 129), ("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
        let output = container.command(&["/shims/sh", "-c", &format!("ulimit -c 0; kill -{signal} $$")]).output().unwrap();
        assert_eq!((output.status.code(), output.status.signal()), (Some(code), None), "{signal}: {}", text(&output.stderr));
    }
    let output = container.command(&["/shims/sh", "-c", "exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn pipes_and_files_of_the_container_are_the_commands() {
    each_kind(|_, container| {
        let bytes: Vec<u8> = (0..1_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(container.path("tmp/in"), &bytes).unwrap();
        let counted = stdout(container.sh("cat in | /shims/cat | /bin/cat >through; /shims/wc -c <in; /shims/cat <in >direct"));
        assert_eq!(counted.trim(), "1000003");
        assert!(fs::read(container.path("tmp/through")).unwrap() == bytes && fs::read(container.path("tmp/direct")).unwrap() == bytes);
        let apart =
            stdout(container.sh("/shims/sh -c 'echo out; echo err >&2' 2>errors; cat errors; /shims/sh -c 'cat; echo end' </dev/null; echo in | /shims/sh -c 'read a; echo $a'"));
        assert_eq!(apart, "out\nerr\nend\nin\n");
        let closed =
            stdout(container.sh("/shims/python3 -c 'import os\nfor n in 0, 1, 2:\n  try: os.fstat(n)\n  except OSError: os.write(9, b\"%d closed\\n\" % n)' 0<&- 2>&- 9>&1; true"));
        assert_eq!(closed, "", "9 is not passed unless it is asked for");
        let passed = stdout(container.sh("bkt admin daemon exec --fd 9 -- sh -c 'test ! -e /proc/self/fd/0 && echo zero is closed >&9' 9>&1 0<&-"));
        assert_eq!(passed, "zero is closed\n");
        let early = stdout(container.sh("/shims/sh -c 'while echo y; do :; done' 2>/dev/null | /bin/busybox head -n 2"));
        assert_eq!(early, "y\ny\n");
    });
}

#[test]
fn the_containers_variables_go_along_and_what_names_the_container_does_not() {
    each_kind(|_, container| {
        let env = [("XDG_RUNTIME_DIR", "/run"), ("container", "podman"), ("LD_LIBRARY_PATH", "/nowhere"), ("HOSTNAME", "box"), ("HOME", "/root-of-the-box"), ("MINE", "\u{e9} =x")];
        let all = stdout(container.command_with(&env, "/run/bkt", &["/shims/env"]).output().unwrap());
        let has = |entry: &str| all.lines().any(|line| line == entry);
        assert!(has("MINE=\u{e9} =x") && has("TERM=xterm") && has("SERVER_SIDE=yes") && has("BKT_DEPTH=1"), "{all}");
        assert!(!["container=", "LD_LIBRARY_PATH=", "HOSTNAME=", "HOME=/root-of"].iter().any(|name| all.lines().any(|line| line.starts_with(name))), "{all}");
    });
}

#[test]
fn a_signal_to_the_shim_reaches_the_command() {
    each_kind(|host, container| {
        for (signal, code) in [("TERM", 143), ("HUP", 129), ("USR2", 140)] {
            let pid_file = host.dir.0.join(format!("pid-{signal}"));
            let script = format!(
                "/shims/sh -c 'echo $$ >{0}; exec sleep 1000' & while ! [ -e ready ]; do /bin/sleep 0.05; done; /bin/busybox kill -{signal} $!; wait $!; echo $?",
                pid_file.display()
            );
            let _ = fs::remove_file(container.path("tmp/ready"));
            let child = container.command(&["/bin/sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let command = number_in(&pid_file);
            assert!(lives(command));
            fs::write(container.path("tmp/ready"), "").unwrap();
            assert_eq!(stdout(child.wait_with_output().unwrap()), format!("{code}\n"), "{signal}");
            assert!(!lives(command));
        }
        let caught = "/shims/python3 -c 'import os, signal, sys\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\nopen(\"/dev/fd/1\", \"w\").write(\"ready\\n\")\nsignal.pause()' >said & while ! [ -s said ]; do /bin/sleep 0.05; done; /bin/busybox kill -USR1 $!; wait $!; echo $?";
        assert_eq!(stdout(container.sh(caught)), "9\n");
    });
}

/// Process 1 is protected from signals that it does not await; those from outside its namespace reach the command all the same.
#[test]
fn a_signal_to_a_shim_that_is_process_1_reaches_the_command() {
    let host = Host::start();
    let container = Container::new(&host, Kind::Unshare);
    let pid_file = host.dir.0.join("pid");
    let mut child = container.command(&["/shims/sh", "-c", &format!("echo $$ >{}; exec sleep 1000", pid_file.display())]).spawn().unwrap();
    let command = number_in(&pid_file);
    // unshare, which waits, and the shim below it.
    let shim = support::children(child.id()).into_iter().next().expect("the shim is unshare's child");
    // SAFETY: touches no memory.
    unsafe { libc::kill(shim as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!lives(command));
}

#[test]
fn the_end_of_a_container_is_the_end_of_its_commands() {
    each_kind(|host, container| {
        let before = host.descriptors();
        let pid_file = host.dir.0.join("pid");
        let mut child = container.command(&["/bin/sh", "-c", &format!("/shims/sh -c 'echo $$ >{}; sleep 1000; true'; true", pid_file.display())]).spawn().unwrap();
        let command = number_in(&pid_file);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the command has been hung up on", || !lives(command));
        eventually("the daemon has forgotten it", || host.children().is_empty() && host.descriptors() == before);
    });
}

#[test]
fn a_command_runs_in_the_same_directory_or_in_an_empty_one_with_a_warning() {
    each_kind(|host, container| {
        let missing = container.sh("cd /box && touch precious && /shims/sh -c 'pwd; ls -A | wc -l; touch x'; echo $?");
        let refuge = host.dir.0.join("bkt/nowhere");
        let shown = stdout(missing.clone());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[..2], [refuge.to_str().unwrap(), "0"]);
        assert_eq!(text(&missing.stderr).matches("bkt: cannot enter /box on this side").count(), 1, "{}", text(&missing.stderr));

        let both = host.dir.0.join("both/deep");
        fs::create_dir_all(&both).unwrap();
        fs::create_dir_all(container.path(both.to_str().unwrap().trim_start_matches('/'))).unwrap();
        fs::create_dir_all(container.path(&format!("run/host{}", both.display()))).unwrap();
        for directory in [format!("{}", both.display()), format!("/run/host{}", both.display())] {
            let output = container.sh(&format!("cd {directory} && /shims/pwd"));
            assert_eq!(text(&output.stderr), "");
            assert_eq!(stdout(output), format!("{}\n", both.display()));
        }
        let root = container.sh("cd /run/host && /shims/pwd; cd / && /shims/pwd");
        assert_eq!(stdout(root), "/\n/\n");
        let deleted = container.sh("mkdir gone && cd gone && /bin/busybox rmdir ../gone && /shims/sh -c 'pwd -P'");
        assert_eq!(stdout(deleted.clone()), format!("{}\n", refuge.display()));
        assert!(text(&deleted.stderr).contains("bkt: cannot enter"), "{}", text(&deleted.stderr));
        let chosen = container.sh(&format!("bkt admin daemon exec --cwd {} -- pwd", both.display()));
        assert_eq!(stdout(chosen), format!("{}\n", both.display()));
    });
}

#[test]
fn the_daemon_is_found_wherever_containers_show_the_hosts_runtime_directory() {
    let host = Host::start();
    for kind in KINDS {
        let container = Container::new(&host, kind);
        let user = if kind == Kind::Bubblewrap { 1000 } else { 0 };
        let table = [
            (vec![("XDG_RUNTIME_DIR", "/run")], "/run/bkt".to_string()),
            (vec![("BKT_SOCKET", "/srv/b/host.sock")], "/srv/b".into()),
            (vec![("BKT_SOCKET", "/srv/b/host.sock"), ("XDG_RUNTIME_DIR", "/nowhere")], "/srv/b".into()),
            (vec![], format!("/run/user/{user}/bkt")),
            (vec![("XDG_RUNTIME_DIR", "/nowhere")], format!("/run/user/{user}/bkt")),
            (vec![("XDG_RUNTIME_DIR", "relative")], format!("/run/host/run/user/{user}/bkt")),
            (vec![], "/run/host-user/bkt".into()),
        ];
        for (env, at) in table {
            let output = container.command_with(&env, &at, &["/shims/sh", "-c", "echo $SERVER_SIDE"]).output().unwrap();
            assert_eq!((text(&output.stdout), output.status.code()), ("yes\n".into(), Some(0)), "{kind:?} {env:?} {at}: {}", text(&output.stderr));
            // The mount point is no daemon's directory for the next row.
            let point = container.path(at.trim_start_matches('/'));
            if at != "/run/bkt" {
                fs::remove_dir(point).unwrap();
            }
        }
    }
}

#[test]
fn a_container_without_a_daemon_says_how_to_get_one_or_takes_another_bridge() {
    each_kind(|_, container| {
        // What podman leaves behind; bubblewrap and unshare leave nothing.
        fs::write(container.path("run/.containerenv"), "").unwrap();
        let env = [("BKT_SOCKET", "/run/nobody.sock")];
        let none = container.command_with(&env, "/run/bkt", &["/shims/true"]).output().unwrap();
        assert_eq!(none.status.code(), Some(125));
        assert!(text(&none.stderr).contains("no daemon answers at /run/nobody.sock") && text(&none.stderr).contains("bkt-hostd"), "{}", text(&none.stderr));

        fs::write(container.path("bin/host-spawn"), "#!/bin/sh\necho \"host-spawn $*\"; exit 7\n").unwrap();
        fs::set_permissions(container.path("bin/host-spawn"), fs::Permissions::from_mode(0o755)).unwrap();
        let other = container.command_with(&env, "/run/bkt", &["/shims/true", "a b", "c"]).output().unwrap();
        assert_eq!((text(&other.stdout).as_str(), other.status.code()), ("host-spawn true a b c\n", Some(7)));
        assert!(text(&other.stderr).contains("running true by host-spawn"), "{}", text(&other.stderr));
        let never = [("BKT_SOCKET", "/run/nobody.sock"), ("BKT_FALLBACK", "never")];
        let refused = container.command_with(&never, "/run/bkt", &["/shims/true"]).output().unwrap();
        assert_eq!((text(&refused.stdout).as_str(), refused.status.code()), ("", Some(125)));
    });
}

#[test]
fn bkt_status_in_a_container_is_the_hosts_and_says_which_way_it_went() {
    each_kind(|host, container| {
        let quiet = container.sh("bkt status");
        assert_eq!(text(&quiet.stderr), "");
        let both = stdout(quiet);
        let (ours, shown) = both.split_once("\n\nbkt ").expect("one side, then the other");
        assert!(ours.contains(" in the container\n") && ours.contains("socket:  /run/bkt/host.sock\n"), "{both}");
        assert!(shown.contains(" on the host\n") && shown.contains(&format!("running, pid {}", host.pid())), "{shown}");
        assert!(shown.contains(host.socket().to_str().unwrap()), "the host's name of the socket: {shown}");

        let from_elsewhere = container.sh("cd /box && bkt status");
        assert_eq!(text(&from_elsewhere.stderr), "", "the status is the same everywhere");

        let told = container.sh("bkt -v status");
        assert!(text(&told.stderr).contains("asking the host's bkt through the daemon (op-"), "{}", text(&told.stderr));
        assert!(stdout(told).contains(" on the host\n"));

        // Marked as a container, as podman would: without asking anybody there is nothing else to tell it by.
        fs::write(container.path("run/.containerenv"), "").unwrap();
        let here = container.sh("bkt -v --no-delegate status");
        assert!(text(&here.stderr).contains("running here, as asked for"), "{}", text(&here.stderr));
        let shown = stdout(here);
        assert!(shown.contains(" in the container\n") && shown.contains("socket:  /run/bkt/host.sock\n"), "{shown}");

        let asked = stdout(container.sh("bkt admin daemon status"));
        assert!(asked.contains("socket:  /run/bkt/host.sock\n") && asked.contains(&format!("pid {}", host.pid())), "{asked}");
        let json = stdout(container.sh("bkt status --json"));
        assert!(json.contains("\"side\": \"host\""), "{json}");
    });
}

#[test]
fn bkt_status_falls_back_to_another_bridge_and_says_so() {
    each_kind(|_, container| {
        fs::write(container.path("run/.containerenv"), "").unwrap();
        fs::write(container.path("bin/host-spawn"), "#!/bin/sh\necho \"host-spawn $*\"\n").unwrap();
        fs::set_permissions(container.path("bin/host-spawn"), fs::Permissions::from_mode(0o755)).unwrap();
        let output = container.command_with(&[("BKT_SOCKET", "/run/nobody.sock")], "/run/bkt", &["/bin/bkt", "-v", "status"]).output().unwrap();
        assert!(text(&output.stderr).contains("running bkt by host-spawn"), "{}", text(&output.stderr));
        let shown = stdout(output);
        assert!(shown.contains(" in the container\n") && shown.ends_with("\nhost-spawn bkt -v status\n"), "{shown}");
    });
}

/// A directory of links to bkt, and one of programs, in this order in PATH, as on a host that shares its home with containers.
struct Shared {
    dir: TempDir,
}

impl Shared {
    fn new() -> Shared {
        let dir = TempDir::new();
        for name in ["shims", "real"] {
            fs::create_dir(dir.0.join(name)).unwrap();
        }
        Shared { dir }
    }

    fn path(&self) -> String {
        format!("{0}/shims:{0}/real:{1}", self.dir.0.display(), std::env::var("PATH").unwrap())
    }

    fn shim(&self, name: &str) -> PathBuf {
        let path = self.dir.0.join("shims").join(name);
        symlink(BKT, &path).unwrap();
        path
    }

    fn script(&self, name: &str, lines: &str) {
        let path = self.dir.0.join("real").join(name);
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_daemons_path_may_hold_the_shims_too() {
    let shared = Shared::new();
    shared.shim("made-here");
    shared.shim("uname");
    shared.shim("no-such-command");
    shared.script("made-here", "echo real \"$@\"; exit 5");
    let host = Host::start_with(|command| {
        command.env("PATH", shared.path());
    });
    for kind in KINDS {
        let container = Container::new(&host, kind);
        let output = container.command(&["/shims/made-here", "x"]).output().unwrap();
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("real x\n", Some(5)), "{}", text(&output.stderr));
        assert_eq!(stdout(container.sh("/shims/uname -s")), "Linux\n");
        let missing = container.command(&["/shims/no-such-command"]).output().unwrap();
        assert_eq!(missing.status.code(), Some(127), "the host has but a shim of that name: {}", text(&missing.stderr));
    }
}

#[test]
fn commands_that_come_back_through_the_daemon_for_ever_are_stopped() {
    let shared = Shared::new();
    let host = Host::start_with(|command| {
        command.env("PATH", shared.path());
    });
    shared.script("loop", &format!("exec {} admin daemon exec -- loop", shared.shim("bkt").display()));
    // The real thing is the one in `shims`, under bkt's own name; it finds the daemon by the runtime directory.
    for kind in KINDS {
        let container = Container::new(&host, kind);
        let output = container.command(&["/shims/loop"]).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("in a circle"), "{}", text(&output.stderr));
        eventually("nothing of it is left", || host.children().is_empty());
    }
}

#[test]
fn on_the_host_itself_a_shim_is_the_real_command() {
    let shared = Shared::new();
    let shim = shared.shim("made-here");
    shared.script("made-here", "echo real \"$@\" $$; exit 5");
    let host = Host::start();
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new(&shim);
        command.arg0("made-here").arg("x").env_clear().env("PATH", shared.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let child = command.spawn().unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!((text(&output.stdout), output.status.code()), (format!("real x {pid}\n"), Some(5)), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    };
    run(&|command| {
        command.env("XDG_RUNTIME_DIR", &host.dir.0);
    });
    assert!(!host.log().contains("exit status"), "the daemon ran nothing: {}", host.log());
    // Without a daemon to tell, this machine may bear a container's marks itself: told outright which side it is.
    run(&|command| {
        command.env("BKT_SOCKET", "/nowhere/host.sock").env("BKT_SIDE", "host");
    });
    // As a shared home directory has it: the same link, seen from a container and from the host.
    let container = Container::new(&host, Kind::Bubblewrap);
    assert_eq!(stdout(container.sh("/shims/uname -s")), "Linux\n");
}

#[test]
fn a_terminal_in_a_container_is_the_commands_controlling_terminal() {
    each_kind(|host, container| {
        let mut terminal = pty::Terminal::run_with(&mut container.command(&["/shims/bash", "--norc", "--noprofile", "-i"]), |command, follower| {
            command.stdin(follower.try_clone().unwrap());
        });
        terminal.expect("$ ");
        terminal.send("bind 'set enable-bracketed-paste off'; PS1='HOST> '\r");
        terminal.expect("PS1='HOST> '");
        terminal.expect("HOST> ");
        terminal.send("stty size; echo $SERVER_SIDE; : </dev/tty && echo has a tty\r");
        for wanted in ["24 80", "yes", "has a tty", "HOST> "] {
            terminal.expect(wanted);
        }
        terminal.resize(40, 100);
        terminal.send("stty size\r");
        terminal.expect("40 100");
        terminal.expect("HOST> ");
        // The job control of the host's shell, and its keyboard.
        terminal.send("sleep 1000\r");
        terminal.expect("sleep 1000\r\n");
        let of = |all: Vec<u32>| all.into_iter().flat_map(support::children).collect::<Vec<_>>();
        // It has the keyboard: its group (proc(5), field 5) is its terminal's foreground (field 8). Keys before that are the shell's.
        let is_sleep = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
        let has_keys = |pid: u32| support::stat_field(pid, 2) == support::stat_field(pid, 5) && support::state(pid) == Some('S');
        let sleeps = || of(of(host.children())).into_iter().any(|pid| is_sleep(pid) && has_keys(pid));
        eventually("sleep has the keyboard", sleeps);
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.expect("HOST> ");
        terminal.send("fg\r");
        terminal.expect("sleep 1000");
        eventually("sleep has the keyboard again", sleeps);
        terminal.send("\x03");
        terminal.expect("HOST> ");
        terminal.send("exit 6\r");
        assert_eq!(terminal.wait().code(), Some(6));
        eventually("the terminal is as it was", || terminal.is_cooked());
    });
}

#[test]
fn ctrl_z_and_fg_in_the_containers_own_shell() {
    each_kind(|host, container| {
        let mut terminal = pty::Terminal::run_with(&mut container.command(&["/bin/sh", "-i"]), |command, follower| {
            command.stdin(follower.try_clone().unwrap()).env("PS1", "BOX> ");
        });
        let shown = terminal.expect("BOX> ");
        assert!(!shown.contains("job control turned off"), "{shown}");
        terminal.send("/shims/sh -c 'echo begun; read a; echo got $a; read b; echo got $b; exit 4'\r");
        terminal.expect("begun\r\n");
        for _ in 0..2 {
            terminal.send("\x1a");
            terminal.expect("Stopped");
            terminal.expect("BOX> ");
            terminal.send("fg\r");
            terminal.expect("read b");
            // A Ctrl-Z before the shell has continued its job is lost, whatever the job is.
            terminal.wait_until_raw();
        }
        terminal.send("one\r");
        terminal.expect("got one");
        terminal.send("two\r");
        terminal.expect("got two");
        terminal.expect("BOX> ");
        terminal.send("echo status $?\r");
        terminal.expect("status 4");
        terminal.expect("BOX> ");
        terminal.send("/shims/sleep 1000\r");
        terminal.expect("sleep 1000\r\n");
        eventually("sleep runs", || host.log().contains("sleep"));
        terminal.wait_until_raw();
        terminal.send("\x03");
        terminal.expect("BOX> ");
        terminal.send("echo status $?\r");
        terminal.expect("status 130");
        terminal.send("exit\r");
        assert!(terminal.wait().success());
        eventually("nothing is left", || host.children().is_empty());
    });
}

/// What podman needs on machines where it may not raise limits and the cgroup tree is a hybrid one.
const PODMAN_PLACE: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; ";

/// A script for the containers' shell: what each line prints is one of the answers.
const QUESTIONS: &str = "/bin/readlink /proc/self/ns/mnt; /shims/readlink /proc/self/ns/mnt; /shims/sh -c 'id -u'; echo through | /shims/cat; \
    /shims/sh -c 'exit 9'; echo $?; /shims/sh -c 'kill -TERM $$'; echo $?; /shims/sh -c 'echo ${container-unset} ${HOSTNAME-unset} $SERVER_SIDE'; \
    bkt --no-delegate status | /bin/busybox head -n 1; bkt status | /bin/busybox grep on.the.host; \
    BKT_SOCKET=/run/nobody.sock /shims/true 2>/dev/null; echo $?";

#[track_caller]
fn check_answers(answers: &str, user: u32) {
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), 10, "{answers}");
    assert_ne!(lines[0], namespace("mnt"), "podman's container is none");
    let release = env!("CARGO_PKG_VERSION");
    let side = |side| format!("bkt {release} {side}");
    let expected = [user.to_string(), "through".into(), "9".into(), "143".into(), "unset unset yes".into(), side("in the container"), side("on the host"), "125".into()];
    assert_eq!(lines[2..], expected);
}

fn podman_configuration(directory: &Path) -> PathBuf {
    let path = directory.join("containers.conf");
    fs::write(&path, "[containers]\ndefault_ulimits = []\ndefault_sysctls = []\n").unwrap();
    path
}

#[test]
fn in_a_container_of_roots_podman() {
    let host = Host::start();
    let dir = TempDir::new();
    make_root(&dir.0.join("root"));
    let script = format!(
        "{PODMAN_PLACE} exec podman --root {0}/storage --runroot {0}/state --runtime crun run --rm --network none --ulimit host --hostname box \
         -v {1}:/run/bkt -e XDG_RUNTIME_DIR=/run -e PATH=/shims:/bin --rootfs {0}/root:O /bin/sh -c \"$0\"",
        dir.0.display(),
        host.dir.0.join("bkt").display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script, QUESTIONS]).env("CONTAINERS_CONF", podman_configuration(&dir.0)).output().unwrap();
    eprintln!("{}", text(&output.stderr));
    let answers = stdout(output);
    assert_eq!(answers.lines().nth(1), Some(namespace("mnt").as_str()));
    check_answers(&answers, 0);
}

/// A user that is not root, with a daemon and a podman of its own; user, daemon, storage and subordinate ids are there for one test
/// only, in a mount namespace of its own. In `home` there are `bkt` and a root directory, and XDG_RUNTIME_DIR is `run`.
struct Ordinary {
    dir: TempDir,
}

const USER: u32 = 54_321;

impl Ordinary {
    fn new() -> Ordinary {
        let dir = TempDir::new();
        let at = dir.0.display();
        make_root(&dir.0.join("root"));
        for directory in ["etc", "home/.config/bkt", "run"] {
            fs::create_dir_all(dir.0.join(directory)).unwrap();
        }
        for (file, line) in [("passwd", format!("bkt-test:x:{USER}:{USER}::{at}/home:/bin/sh\n")), ("group", format!("bkt-test:x:{USER}:\n"))] {
            fs::write(dir.0.join("etc").join(file), fs::read_to_string(Path::new("/etc").join(file)).unwrap() + &line).unwrap();
        }
        for file in ["subuid", "subgid"] {
            fs::write(dir.0.join("etc").join(file), "bkt-test:2000000:65536\n").unwrap();
            assert!(Path::new("/etc").join(file).exists(), "/etc/{file} comes with Debian's passwd and uidmap");
        }
        // The built executable may be where this user may not look.
        support::copy_bkt(dir.0.join("bkt"));
        symlink("bkt", dir.0.join("bkt-hostd")).unwrap();
        let podman = format!("#!/bin/sh\nexec /usr/bin/podman --root {at}/home/storage --runroot {at}/run/state --runtime crun \"$@\"\n");
        fs::write(dir.0.join("podman"), podman).unwrap();
        fs::set_permissions(dir.0.join("podman"), fs::Permissions::from_mode(0o755)).unwrap();
        Ordinary { dir }
    }

    /// podman's `run` with these options, of this root directory.
    fn run(&self, options: &str) -> String {
        format!("podman run --network none --ulimit host {options} -e PATH=/shims:/bin --rootfs {}/root", self.dir.0.display())
    }

    /// What a script of this user prints, while its daemon runs; its first argument is another one's.
    fn script(&self, script: &str, argument: &str) -> Output {
        let at = self.dir.0.display();
        let as_user = format!(
            "cd {at}/home; {at}/bkt-hostd & daemon=$!; for i in $(seq 100); do [ -S {at}/run/bkt/host.sock ] || sleep 0.2; done; \
             {script}; status=$?; kill $daemon; wait $daemon; exit $status"
        );
        let as_root = format!(
            "{PODMAN_PLACE} for file in passwd group subuid subgid; do mount --bind {at}/etc/$file /etc/$file || exit; done; \
             chown -Rh {USER}:{USER} {at}/home {at}/run {at}/root && exec setpriv --reuid {USER} --regid {USER} --init-groups sh -c \"$0\" \"$1\""
        );
        let mut command = Command::new("unshare");
        // Rootless podman leaves processes behind for its next call; they end with their namespace.
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &as_root, &as_user, argument])
            .env_clear()
            .env("PATH", format!("{at}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.env("HOME", self.dir.0.join("home")).env("XDG_RUNTIME_DIR", self.dir.0.join("run")).env("SERVER_SIDE", "yes");
        let output = command.env("CONTAINERS_CONF", podman_configuration(&self.dir.0)).stdin(Stdio::null()).output().unwrap();
        eprintln!("{}", text(&output.stderr));
        output
    }
}

#[test]
fn in_a_container_of_an_ordinary_users_podman() {
    let user = Ordinary::new();
    let run = user.run(&format!("--rm --userns keep-id --hostname box -v {}/run/bkt:/run/bkt -e XDG_RUNTIME_DIR=/run", user.dir.0.display()));
    let shown = stdout(user.script(&format!("/bin/readlink /proc/self/ns/mnt; {run} /bin/sh -c \"$0\""), QUESTIONS));
    let (of_the_daemon, answers) = shown.split_once('\n').unwrap();
    assert_eq!(answers.lines().nth(1), Some(of_the_daemon), "{shown}");
    check_answers(answers, USER);
}

/// As the manual says it: the directory is mounted in the place of the whole one, and nothing else of the host is seen.
#[test]
fn an_ordinary_users_container_has_a_socket_of_its_own() {
    let user = Ordinary::new();
    let policy = r#"{"listeners": {"container:dev": {"users": "mapped", "host_exec": {"default": "deny", "rules": [{"allow": "uname"}]}}, "container:same": {}}}"#;
    fs::write(user.dir.0.join("home/.config/bkt/policy.json"), policy).unwrap();
    let with = |name: &str, id: u32, options: &str| user.run(&format!("--rm {options} -v $XDG_RUNTIME_DIR/bkt/containers/{name}:/run/user/{id}/bkt"));
    let (kept, root, mapped, same) = (with("dev", USER, "--userns=keep-id"), with("dev", 0, ""), with("dev", 7, "--user 7"), with("same", 7, "--user 7"));
    let questions = "/shims/uname -s; BKT_FALLBACK=never /shims/true 2>&1";
    let script = format!("{kept} /bin/sh -c \"$0\"; {root} /bin/sh -c \"$0\"; {mapped} /bin/sh -c \"$0\"; {same} /bin/sh -c \"$0\"; true");
    let shown = stdout(user.script(&script, questions));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 7, "{shown}");
    for way in 0..3 {
        assert_eq!(lines[2 * way], "Linux", "{shown}");
        assert!(lines[2 * way + 1].starts_with("bkt: true is denied by the host's policy ") && lines[2 * way + 1].contains("for the container dev"), "{shown}");
    }
    println!("{}", lines[6]);
    assert!(lines[6].contains("/run/user/7/bkt/host.sock does not let us in: as uid 7 here we are not its user outside"), "{shown}");
    assert!(lines[6].contains("--userns=keep-id") && lines[6].contains(r#""users": "mapped""#), "{shown}");
    assert!(!user.dir.0.join("run/bkt").exists(), "nothing is left of the sockets");
}

/// Nobody says what it is called: the host sees it.
#[test]
fn a_guest_in_an_ordinary_users_container_has_the_name_that_podman_gave_it_and_no_other() {
    let user = Ordinary::new();
    symlink("bkt", user.dir.0.join("root/bin/bkt-guest")).unwrap();
    let run = |name: &str, options: &str| user.run(&format!("-d --rm --name {name} --userns keep-id {options} -v $XDG_RUNTIME_DIR/bkt:/run/bkt -e XDG_RUNTIME_DIR=/run"));
    let listed = |name: &str| format!("for i in $(seq 80); do bkt --no-delegate ps | grep -q \"^{name} .* 0$\" && break; sleep 0.2; done");
    // The second as distrobox makes its containers, and started there afterwards.
    let script = format!(
        "{} bkt-guest --daemon --reconnect >/dev/null; {} sleep 600 >/dev/null; podman exec -d shares bkt-guest --daemon --reconnect >/dev/null; {}; {}; \
         podman exec dev bkt-guest --daemon --name bank 2>&1; for name in dev shares; do bkt enter $name --cwd / -- sh -c 'echo in $1 $(id -u)' sh $name; done; \
         BKT_SIDE=host bkt enter bank -- true 2>&1; podman kill dev shares >/dev/null; true",
        run("dev", ""),
        run("shares", "--pid host"),
        listed("dev"),
        listed("shares")
    );
    let shown = stdout(user.script(&script, ""));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("refuses: this is the container dev, as the host sees it, and not bank"), "{shown}");
    assert_eq!(lines[1..3], [format!("in dev {USER}"), format!("in shares {USER}")], "{shown}");
    assert!(lines[3].starts_with("bkt: enter: there is no container bank; there are: dev (running), shares (running)"), "{shown}");
}
