//! Without the daemon: other bridges, in their order; and a shim on its own side, which becomes the real command.

mod support;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{BKT, Host, TempDir, caller, complaint, eventually, field_of, op_id_at_end, stdout, text};

/// Other bridges, best first, with the option that each is given.
const BRIDGES: [(&str, &str); 3] = [("distrobox-host-exec", ""), ("host-spawn", ""), ("flatpak-spawn", "--host\0")];

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A container without a daemon: a directory of bridges that say how they were called, and one with a shim.
struct Container {
    place: TempDir,
}

impl Container {
    fn new(bridges: &[&str]) -> Container {
        let place = TempDir::new();
        for name in ["bridges", "shims", "run"] {
            fs::create_dir(place.0.join(name)).unwrap();
        }
        for name in bridges {
            // Its name, its arguments, and what is handed on.
            program(&place.0.join("bridges").join(name), "#!/bin/sh\nprintf '%s\\0' \"${0##*/}\" \"$@\"\nprintf '%s %s\\n' \"$BKT_DEPTH\" \"$BKT_OP_ID\" >&3\nexit 37\n");
        }
        symlink(BKT, place.0.join("shims/tool")).unwrap();
        Container { place }
    }

    /// The shim `tool`, in that container.
    fn tool<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(self.place.0.join("shims/tool"));
        command.arg0("tool").args(args).env_clear().env("PATH", self.path()).env("BKT_SIDE", "container").env("BKT_SOCKET", self.place.0.join("run/host.sock"));
        let handed = fs::File::create(self.place.0.join("handed")).unwrap();
        caller::by_itself(&mut command);
        caller::with_descriptors(&mut command, vec![(handed.into(), 3)]);
        command.stdin(Stdio::null());
        command
    }

    /// Without the machine's own directories: it may have bridges of its own.
    fn path(&self) -> String {
        format!("{0}/shims:{0}/bridges", self.place.0.display())
    }

    fn handed_on(&self) -> String {
        fs::read_to_string(self.place.0.join("handed")).unwrap()
    }
}

const ODD: [&str; 7] = ["--host", "a b", "", "*", "--", "-c", "$HOME\n`x`"];

#[test]
fn the_best_bridge_there_is_gets_the_command_literally_and_one_line_names_it() {
    for first in 0..BRIDGES.len() {
        let there: Vec<&str> = BRIDGES[first..].iter().map(|(name, _)| *name).collect();
        let container = Container::new(&there);
        let output = container.tool(ODD).output().unwrap();
        let (name, option) = BRIDGES[first];
        assert_eq!(text(&output.stdout), format!("{name}\0{option}tool\0{}\0", ODD.join("\0")), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(37));
        let said = text(&output.stderr);
        assert!(said.lines().count() == 1 && said.contains(&format!("by {name}")), "{said:?}");
        assert_eq!(container.handed_on(), format!("1 {}\n", op_id_at_end(&said)));
    }
}

#[test]
fn a_bridge_that_is_no_program_is_passed_over() {
    let container = Container::new(&["host-spawn"]);
    let bridge = container.place.0.join("bridges/distrobox-host-exec");
    type Make = fn(&Path) -> std::io::Result<()>;
    let table: [(&str, Make); 4] = [
        ("not executable", |p| fs::write(p, "#!/bin/sh\n")),
        ("a directory", |p| fs::create_dir(p)),
        ("ourselves", |p| symlink(BKT, p)),
        ("a link to nothing", |p| symlink("/no/such", p)),
    ];
    for (what, make) in table {
        make(&bridge).unwrap();
        let output = container.tool([]).output().unwrap();
        assert!(text(&output.stdout).starts_with("host-spawn\0"), "{what}: {}", text(&output.stderr));
        let _ = fs::remove_file(&bridge).or_else(|_| fs::remove_dir(&bridge));
    }
}

#[test]
fn the_fallback_can_be_switched_off_for_all_or_for_some() {
    let names = BRIDGES.map(|(name, _)| name);
    let container = Container::new(&names);
    let with = |value: &str| container.tool([]).env("BKT_FALLBACK", value).output().unwrap();
    for value in ["", "auto", "never:", "never:other", "never:toolbox,other"] {
        assert_eq!(with(value).status.code(), Some(37), "{value}: {}", text(&with(value).stderr));
    }
    for value in ["never", "never:tool", "never:other,tool"] {
        complaint(&with(value), 125, "switched off");
        complaint(&with(value), 125, "bkt-hostd");
    }
    for value in ["yes", "0", "NEVER", "never,tool"] {
        complaint(&with(value), 125, &format!("BKT_FALLBACK={value}"));
    }
    assert_eq!(container.handed_on(), "", "nothing ran in the last row");
}

#[test]
fn with_neither_daemon_nor_bridge_the_sentence_says_how_to_start_the_daemon() {
    let container = Container::new(&[]);
    let output = container.tool([]).output().unwrap();
    for part in ["bkt-hostd", "run/host.sock", "distrobox-host-exec, host-spawn, flatpak-spawn"] {
        complaint(&output, 125, part);
    }
}

#[test]
fn a_stale_socket_counts_as_no_daemon_and_so_does_a_file_that_is_none() {
    let container = Container::new(&["host-spawn"]);
    let socket = container.place.0.join("socket");
    drop(UnixListener::bind(&socket).unwrap());
    for round in ["stale", "plain file"] {
        let output = container.tool([]).env("BKT_SOCKET", &socket).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout).starts_with("host-spawn\0")), (Some(37), true), "{round}: {}", text(&output.stderr));
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "").unwrap();
    }
}

#[test]
fn a_daemon_that_is_there_is_never_worked_around() {
    // It has taken, or may have taken, the request: the command must not run a second time elsewhere.
    let container = Container::new(&BRIDGES.map(|(name, _)| name));
    let socket = container.place.0.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let closing = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let output = container.tool([]).env("BKT_SOCKET", &socket).output().unwrap();
    closing.join().unwrap();
    complaint(&output, 125, "daemon");
    assert_eq!(container.handed_on(), "");
}

#[test]
fn bridges_are_counted_there_too() {
    let container = Container::new(&["host-spawn"]);
    assert_eq!(container.tool([]).env("BKT_DEPTH", "15").output().unwrap().status.code(), Some(37));
    assert!(container.handed_on().starts_with("16 "));
    complaint(&container.tool([]).env("BKT_DEPTH", "16").output().unwrap(), 125, "circle");
}

#[test]
fn a_bridge_starts_as_clean_as_any_command() {
    let container = Container::new(&[]);
    program(&container.place.0.join("bridges/host-spawn"), "#!/bin/sh\nexec /bin/cat /proc/self/status\n");
    let status = stdout(container.tool([]).stderr(Stdio::null()).output().unwrap());
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field_of(&status, field).unwrap(), "0000000000000000", "{field}");
    }
}

// ---- on the wrong side

/// Directories of shims for `hostname`, `cat`, `ls`, `sleep` and `nowhere-else`, each made differently.
fn shims() -> (TempDir, Vec<PathBuf>) {
    let place = TempDir::new();
    // Another version of us, as an upgrade leaves it.
    fs::create_dir(place.0.join("old")).unwrap();
    support::copy_bkt(place.0.join("old/bkt"));
    let targets = [PathBuf::from(BKT), place.0.join("old/bkt"), place.0.join("shims-0/hostname")];
    let directories: Vec<PathBuf> = (0..3).map(|n| place.0.join(format!("shims-{n}"))).collect();
    for (directory, target) in directories.iter().zip(targets) {
        fs::create_dir(directory).unwrap();
        for name in ["hostname", "cat", "ls", "sleep", "nowhere-else"] {
            symlink(&target, directory.join(name)).unwrap();
        }
    }
    (place, directories)
}

/// The first of those shims of a name, with so many of their directories first in PATH.
fn shim(directories: &[PathBuf], name: &str, args: &[&str]) -> Command {
    let mut path: Vec<String> = directories.iter().map(|d| d.display().to_string()).collect();
    path.push(std::env::var("PATH").unwrap());
    let mut command = Command::new(directories[0].join(name));
    command.arg0(name).args(args).env("PATH", path.join(":")).env_remove("BKT_SIDE").env_remove("BKT_DEPTH").stdin(Stdio::null());
    caller::by_itself(&mut command);
    command
}

/// Each way in which a shim can find itself on the wrong side.
fn wrong_sides(mut check: impl FnMut(&str, &dyn Fn(&mut Command) -> Output, &[PathBuf])) {
    let host = Host::start();
    let (_place, directories) = shims();
    for count in 1..=directories.len() {
        // The daemon has the shims in its own PATH as well; that is the host's, after all.
        check(&format!("daemon, {count}"), &|c| c.env("BKT_SOCKET", host.socket()).output().unwrap(), &directories[..count]);
        check(&format!("no daemon, {count}"), &|c| c.env("BKT_SOCKET", "/no/such/socket").env("BKT_SIDE", "host").output().unwrap(), &directories[..count]);
    }
}

#[test]
fn a_shim_on_its_own_side_becomes_the_real_command() {
    let real = Command::new("hostname").output().unwrap().stdout;
    wrong_sides(|how, run, directories| {
        let output = run(&mut shim(directories, "hostname", &[]));
        assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), text(&real), String::new()), "{how}");
        // As if we had never been there: arguments, environment, name, signals, descriptors.
        let output = run(shim(directories, "cat", &["/proc/self/cmdline", "-", "/proc/self/status"]).env("ODD", "1").env("LD_ODD", "kept"));
        let all = text(&output.stdout);
        assert!(all.starts_with("cat\0/proc/self/cmdline\0-\0/proc/self/status\0"), "{how}: {all:?}");
        for field in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(field_of(&all.replace('\0', "\n"), field).unwrap(), "0000000000000000", "{how}: {field}");
        }
        assert_eq!(text(&run(&mut shim(directories, "ls", &["/proc/self/fd"])).stdout), "0\n1\n2\n3\n", "{how}");
        let output = run(shim(directories, "cat", &["/proc/self/environ"]).env("LD_ODD", "kept"));
        let environment = text(&output.stdout);
        assert!(environment.contains("LD_ODD=kept\0") && !environment.contains("BKT_DEPTH"), "{how}: {environment:?}");
        // Its end too.
        assert_eq!(run(&mut shim(directories, "ls", &["/no/such/file"])).status.code(), Some(2), "{how}");
    });
}

#[test]
fn a_shim_of_a_command_that_its_own_side_does_not_have_is_127() {
    wrong_sides(|how, run, directories| {
        let output = run(&mut shim(directories, "nowhere-else", &[]));
        assert!(text(&output.stderr).contains("nowhere-else"), "{how}");
        complaint(&output, 127, "not found");
    });
}

#[test]
fn a_shim_never_becomes_itself_however_it_is_called() {
    let host = Host::start();
    let (_place, directories) = shims();
    let real = Command::new("hostname").output().unwrap().stdout;
    for name in ["hostname", "/odd/hostname", "./hostname", "-hostname"] {
        let mut command = shim(&directories, "hostname", &[]);
        let output = command.arg0(name).env("BKT_SOCKET", host.socket()).output().unwrap();
        assert_eq!(output.stdout, real, "{name}: {}", text(&output.stderr));
    }
}

/// A shim that finds no end of itself is ended by this.
fn within_seconds(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel();
        scope.spawn(move || {
            if is_done.recv_timeout(support::PATIENCE).is_err() {
                support::kill(id, libc::SIGKILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        done.send(()).unwrap();
        output
    })
}

#[test]
fn copies_of_us_under_other_names_are_passed_over_too() {
    let place = TempDir::new();
    let directories = ["first", "second", "third"].map(|name| place.0.join(name));
    for directory in &directories {
        fs::create_dir(directory).unwrap();
        support::copy_bkt(directory.join("hostname"));
    }
    let real = Command::new("hostname").output().unwrap().stdout;
    for socket in [None, Some(Host::start())] {
        let mut command = shim(&directories, "hostname", &[]);
        match &socket {
            None => command.env("BKT_SOCKET", "/no/such/socket").env("BKT_SIDE", "host"),
            Some(host) => command.env("BKT_SOCKET", host.socket()),
        };
        let output = within_seconds(command);
        assert_eq!((text(&output.stdout), text(&output.stderr)), (text(&real), String::new()), "{:?}", output.status);
    }
}

#[test]
fn a_script_that_calls_our_shim_again_is_a_circle_that_ends() {
    let (place, mut directories) = shims();
    let wrappers = place.0.join("wrappers");
    fs::create_dir(&wrappers).unwrap();
    directories.push(wrappers.clone());
    for again in ["exec \"$AGAIN\" \"$@\"", "\"$AGAIN\" \"$@\""] {
        program(&wrappers.join("hostname"), &format!("#!/bin/sh\n{again}\n"));
        let mut command = shim(&directories, "hostname", &[]);
        command.env("BKT_SOCKET", "/no/such/socket").env("BKT_SIDE", "host").env("AGAIN", directories[0].join("hostname"));
        complaint(&within_seconds(command), 125, "in a circle");
    }
    // One that ends by itself is none, and what it ends in is what it would be without us.
    program(&wrappers.join("hostname"), "#!/bin/sh\nPATH=${PATH##*/wrappers:} exec hostname \"$@\"\n");
    let mut command = shim(&directories, "hostname", &[]);
    command.env("BKT_SOCKET", "/no/such/socket").env("BKT_SIDE", "host");
    assert_eq!(within_seconds(command).stdout, Command::new("hostname").output().unwrap().stdout);
}

#[test]
fn signals_that_come_before_a_shim_knows_its_side_are_the_real_commands() {
    let host = Host::start();
    let (_place, directories) = shims();
    for (signal, end) in [(libc::SIGTERM, Some(libc::SIGTERM)), (libc::SIGUSR1, Some(libc::SIGUSR1)), (libc::SIGWINCH, None)] {
        host.signal_daemon(libc::SIGSTOP);
        eventually("the daemon is stopped", || support::state(host.pid()) == Some('T'));
        let mut client = support::Client(shim(&directories, "sleep", &["0.2"]).env("BKT_SOCKET", host.socket()).spawn().unwrap());
        let status = |field: &str| support::status_field(client.id(), field).unwrap_or_default();
        eventually("it reads signals", || status("SigBlk").starts_with("fffffff"));
        support::kill(client.id(), signal);
        eventually("it has read this one", || status("ShdPnd") == "0000000000000000" && support::state(client.id()) == Some('S'));
        host.signal_daemon(libc::SIGCONT);
        let status = client.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), end, "signal {signal}: {status:?}");
    }
}

#[test]
fn the_daemon_passes_over_shims_in_its_own_path() {
    let (_place, directories) = shims();
    let path: Vec<String> = directories.iter().map(|d| d.display().to_string()).chain([std::env::var("PATH").unwrap()]).collect();
    let host = Host::start_with(|daemon| {
        daemon.env("PATH", path.join(":"));
    });
    let real = Command::new("hostname").output().unwrap().stdout;
    let output = host.exec(["hostname"]).output().unwrap();
    assert_eq!(output.stdout, real, "{}", text(&output.stderr));
    complaint(&host.exec(["nowhere-else"]).output().unwrap(), 127, "not found");
}
