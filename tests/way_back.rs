//! The way back: from the host, and from another container, into a container. The contract of a run holds in this direction too.
#![allow(unsafe_code)]

mod support;
use bkt::proto::message::{self, Bytes, Code, Enter, HandOver, Hello, Pong, Serve, StatusRequest, kind};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::boxed::{Boxed, Guest, enter, find_below, is_listed};
use support::peer::{Account, Peer, assert_asleep, assert_says, run};
use support::pty::{self, Terminal};
use support::{Client, Host, TempDir, caller, complaint, eventually, kill, lives, number_in, op_id_at_end, stdout, text};

fn enter_sh(host: &Host, script: &str) -> Command {
    enter(host, "dev", ["sh", "-c", script])
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

// ---- what runs, and where

#[test]
fn a_command_runs_in_the_container_and_nobody_but_its_guest_is_between() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    let shown = stdout(enter_sh(&host, "readlink /proc/self/ns/mnt; id -u; echo $INSIDE; printf '<%s>' \"$@\"").args(["sh", "a b", "", "\u{e9}"]).output().unwrap());
    let lines: Vec<&str> = shown.lines().collect();
    assert_ne!(lines[0], fs::read_link("/proc/self/ns/mnt").unwrap().to_str().unwrap());
    assert_eq!(lines[1..], ["1000", "yes", "<a b><><\u{e9}>"]);

    let before = host.descriptors();
    let mut run = Client(enter_sh(&host, "echo begun; read a; exit 5").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    assert_eq!((host.descriptors(), host.children().len()), (before, 0), "the host's daemon has nothing to do with it any more");
    assert_eq!(support::children(guest.pid()).len(), 1);
    drop(run.stdin.take());
    assert_eq!(run.wait().unwrap().code(), Some(5));
}

#[test]
fn every_exit_code_arrives_untouched_and_so_does_death_by_a_signal() {
    let host = Host::start();
    let _guest = Guest::of(&host, "dev");
    for code in 0..=255 {
        assert_eq!(enter_sh(&host, &format!("exit {code}")).status().unwrap().code(), Some(code));
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1] {
        let status = enter_sh(&host, &format!("kill -{signal} $$")).status().unwrap();
        assert_eq!(status.signal(), Some(signal), "{status:?}");
    }
}

#[test]
fn what_cannot_be_run_is_said_with_the_right_code_and_the_operations_id() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    guest.boxed.script("/bin/broken", "#!/no/such/interpreter\n");
    let missing = complaint(&enter(&host, "dev", ["no-such-command"]).output().unwrap(), 127, "no-such-command: command not found");
    complaint(&enter(&host, "dev", ["broken"]).output().unwrap(), 126, "cannot execute");
    complaint(&host.bkt(["enter", "dev", "--cwd", "/no/such", "--", "true"]).current_dir("/").output().unwrap(), 125, "cannot enter /no/such");
    assert!(guest.log().contains(&missing) && host.log().contains(&missing), "one id on both sides");
    for (args, part) in
        [(&["enter"][..], "name of a container"), (&["enter", "--", "ls"], "name of a container"), (&["enter", "dev", "--"], "no command after"), (&["enter", "dev", "ls"], "ls")]
    {
        complaint(&host.bkt(args).output().unwrap(), 125, part);
    }
}

#[test]
fn streams_are_the_callers_own() {
    let host = Host::start();
    let _guest = Guest::of(&host, "dev");
    let bytes: Vec<u8> = (0..1_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let dir = TempDir::new();
    fs::write(dir.0.join("in"), &bytes).unwrap();
    let through = enter(&host, "dev", ["cat"]).stdin(fs::File::open(dir.0.join("in")).unwrap()).output().unwrap();
    assert!(through.stdout == bytes);
    let mut piped = enter(&host, "dev", ["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = piped.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    assert!(piped.wait_with_output().unwrap().stdout == bytes);
    writer.join().unwrap();
    let apart = enter_sh(&host, "echo out; echo err >&2").output().unwrap();
    assert_eq!((text(&apart.stdout).as_str(), text(&apart.stderr).lines().last().unwrap()), ("out\n", "err"));
    let mut closed = enter_sh(&host, "for n in 0 1 2; do test -e /proc/self/fd/$n && echo $n is open; done >/tmp/open; ls /proc/self/fd >/tmp/all; true");
    caller::closed(&mut closed, [0, 2]);
    assert!(closed.stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(fs::read_to_string(_guest.boxed.path("/tmp/open")).unwrap(), "1 is open\n");
    let early = Command::new("sh").args(["-c", "\"$0\" enter dev -- yes | head -n 2"]).arg(support::BKT).env("BKT_SOCKET", host.socket()).current_dir("/tmp").output().unwrap();
    assert_eq!(text(&early.stdout), "y\ny\n");
}

#[test]
fn two_mebibytes_of_arguments_arrive_and_so_does_a_thousand_runs_worth_of_callers() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    let long: Vec<String> = (0..18).map(|i| format!("{i}").repeat(100_000 / format!("{i}").len())).collect();
    let total: usize = long.iter().map(String::len).sum();
    let mut command = enter_sh(&host, "for a in \"$@\"; do printf %s \"$a\"; done | wc -c");
    assert_eq!(stdout(command.arg("sh").args(&long).output().unwrap()).trim(), total.to_string());

    let (host_before, guest_before) = (host.descriptors(), descriptors(guest.pid()));
    let all: Vec<_> = (0..200).map(|i| (i, Client(enter_sh(&host, &format!("exit {}", i % 251)).spawn().unwrap()))).collect();
    for (i, mut client) in all {
        assert_eq!(client.wait().unwrap().code(), Some(i % 251), "run {i}");
    }
    eventually("nothing is left on the host", || host.descriptors() == host_before && host.children().is_empty());
    eventually("nothing is left in the container", || descriptors(guest.pid()) == guest_before && support::children(guest.pid()).is_empty());
    assert_asleep(guest.pid());
    assert_asleep(host.pid());
}

// ---- environment and directory

#[test]
fn the_environment_is_the_containers_with_the_callers_on_top() {
    let host = Host::start();
    let guest = Boxed::of(&host).with("CONTAINER_ID", "dev").with("SHELL", "/bin/ash").with("SSH_AUTH_SOCK", "/inside").with("BKT_SOCKET", "/run/host-user/bkt/host.sock");
    let _guest = guest.with("LD_LIBRARY_PATH", "/inside/lib").with("NOTIFY_SOCKET", "/inside").guest("dev", &[]).ready(&host);
    let mut command = enter(&host, "dev", ["env"]);
    let callers = [
        ("MINE", "\u{e9} =x"),
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/of-the-host"),
        ("SHELL", "/bin/zsh"),
        ("XDG_RUNTIME_DIR", "/run/user/7"),
        ("LD_LIBRARY_PATH", "/of/the/host"),
        ("LD_PRELOAD", "/of/the/host.so"),
        ("HOSTNAME", "host"),
        ("CONTAINER_ID", "not-this"),
        ("SSH_AUTH_SOCK", "/of/the/host"),
        ("DISPLAY", ":7"),
        ("OLDPWD", "/somewhere"),
        ("BKT_FALLBACK", "never"),
        ("LANG", "C.UTF-8"),
    ];
    let shown = stdout(command.envs(callers).current_dir("/").output().unwrap());
    let has = |entry: &str| shown.lines().any(|line| line == entry);
    let present = [
        "MINE=\u{e9} =x",
        "PATH=/run/bkt/bin:/bin",
        "HOME=/home",
        "SHELL=/bin/ash",
        "CONTAINER_ID=dev",
        "LD_LIBRARY_PATH=/inside/lib",
        "SSH_AUTH_SOCK=/inside",
        "DISPLAY=:7",
        "LANG=C.UTF-8",
        "INSIDE=yes",
        "BKT_SOCKET=/run/host-user/bkt/host.sock",
        "BKT_DEPTH=1",
        "PWD=/",
    ];
    for entry in present {
        assert!(has(entry), "{entry} is missing in {shown}");
    }
    for name in ["LD_PRELOAD", "XDG_RUNTIME_DIR", "HOSTNAME", "OLDPWD", "BKT_FALLBACK", "NOTIFY_SOCKET", "BKT_SIDE"] {
        assert!(!shown.lines().any(|line| line.starts_with(&format!("{name}="))), "{name} is in {shown}");
    }
    let chosen = host.bkt(["enter", "dev", "--clear-env", "--env", "A=b", "--", "env"]).current_dir("/").output().unwrap();
    let shown = stdout(chosen);
    let mut names: Vec<&str> = shown.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "BKT_DEPTH", "BKT_OP_ID", "PWD"]);
}

#[test]
fn the_directory_is_the_same_one_under_whatever_path_it_has_in_the_container() {
    let host = Host::start();
    let work = TempDir::new();
    let at = |name: &str| work.0.join(name);
    for name in ["shared", "below", "both", "own", "missing", "gone"] {
        fs::create_dir(at(name)).unwrap();
    }
    let inside = |name: &str| at(name).to_str().unwrap().to_string();
    let boxed = Boxed::of(&host).share(&at("shared"), &inside("shared")).share(&at("below"), &format!("/run/host{}", inside("below")));
    let boxed = boxed.share(&at("both"), &format!("/run/host{}", inside("both")));
    for name in ["both", "own"] {
        fs::create_dir_all(boxed.path(&inside(name))).unwrap();
    }
    let _guest = boxed.guest("dev", &[]).ready(&host);
    let table = [
        // The same directory under the same path: a home, usually.
        ("shared", inside("shared")),
        // The host's tree as distrobox and toolbox show it.
        ("below", format!("/run/host{}", inside("below"))),
        // There is another one under that path: it is not the caller's.
        ("both", format!("/run/host{}", inside("both"))),
        // Nowhere the same one: the same path.
        ("own", inside("own")),
    ];
    for (name, expected) in table {
        let output = enter_sh(&host, "pwd -P; echo $PWD").current_dir(at(name)).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{name}");
        assert_eq!(stdout(output), format!("{expected}\n{expected}\n"), "{name}");
    }
    assert_eq!(stdout(enter(&host, "dev", ["pwd"]).current_dir("/").output().unwrap()), "/\n");
    for name in ["missing", "gone"] {
        let mut command = enter_sh(&host, "pwd; ls -A | wc -l; touch x 2>/dev/null; echo $?");
        command.current_dir(at(name)).env_remove("PWD");
        let output = if name == "gone" {
            // Its own directory is gone by the time it asks.
            let mut gone = Command::new("sh");
            gone.args(["-c", "rmdir \"$0\" && exec \"$@\""]).arg(at(name)).arg(command.get_program()).args(command.get_args());
            gone.current_dir(at(name)).env("BKT_SOCKET", host.socket()).output().unwrap()
        } else {
            command.output().unwrap()
        };
        assert_eq!(text(&output.stderr).matches("bkt: cannot enter").count(), 1, "{name}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout).lines().take(2).collect::<Vec<_>>(), ["/run/bkt/nowhere", "0"], "{name}");
    }
    let chosen = host.bkt(["enter", "dev", "--cwd", "/box", "--", "pwd"]).current_dir(at("shared")).output().unwrap();
    assert_eq!(stdout(chosen), "/box\n");
}

// ---- signals, terminal, the client's death

#[test]
fn signals_reach_the_command_and_its_group() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    // All that end a process which has not asked for them, and dump no core.
    let ends = [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE, libc::SIGALRM, libc::SIGTERM, libc::SIGVTALRM, libc::SIGPROF, libc::SIGIO, libc::SIGPWR];
    for signal in ends.into_iter().chain(34..=64) {
        let mut run = Client(enter(&host, "dev", ["sleep", "1000"]).spawn().unwrap());
        let sleep = find_below(guest.bwrap.id(), "sleep");
        kill(run.id(), signal);
        assert_eq!(run.wait().unwrap().signal(), Some(signal));
        assert!(!lives(sleep), "signal {signal}");
    }
    let mut run = Client(enter_sh(&host, "sleep 1000 & wait").spawn().unwrap());
    let sleep = find_below(guest.bwrap.id(), "sleep");
    kill(run.id(), libc::SIGTERM);
    assert_eq!(run.wait().unwrap().signal(), Some(libc::SIGTERM));
    eventually("its group has got it too", || !lives(sleep));
    let caught = "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.02; done";
    let mut run = Client(enter_sh(&host, caught).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(run.stdout.take().unwrap());
    let mut shown = String::new();
    said.read_line(&mut shown).unwrap();
    kill(run.id(), libc::SIGUSR1);
    assert_eq!(run.wait().unwrap().code(), Some(9));
    said.read_to_string(&mut shown).unwrap();
    assert_eq!(shown, "ready\ncaught\n");
}

#[test]
fn a_client_that_vanishes_takes_its_command_with_it_unless_it_was_to_stay() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    let before = descriptors(guest.pid());
    let start = |mut command: Command| {
        let pid_file = guest.boxed.path("/tmp/pid");
        let _ = fs::remove_file(&pid_file);
        let run = Client(command.spawn().unwrap());
        number_in(&pid_file);
        (run, find_below(guest.bwrap.id(), "sleep"))
    };
    let script = "echo $$ >/tmp/pid; exec sleep 1000";
    let (mut run, sleep) = start(enter_sh(&host, script));
    run.kill().unwrap();
    eventually("the command has been hung up on", || !lives(sleep));
    let (mut run, sleep) = start(enter_sh(&host, &format!("trap '' HUP; {script}")));
    run.kill().unwrap();
    eventually("the command has been terminated", || !lives(sleep));
    let mut ignoring = enter_sh(&host, script);
    caller::ignoring(&mut ignoring, [libc::SIGHUP]);
    let (mut run, sleep) = start(ignoring);
    run.kill().unwrap();
    run.wait().unwrap();
    pty::moment();
    assert!(lives(sleep), "nohup");
    kill(sleep, libc::SIGKILL);
    assert!(host.bkt(["enter", "dev", "--detach", "--", "sh", "-c", script]).status().unwrap().success());
    let sleep = find_below(guest.bwrap.id(), "sleep");
    kill(sleep, libc::SIGKILL);
    eventually("nothing is left", || descriptors(guest.pid()) == before && support::children(guest.pid()).is_empty());
}

/// A bash on the host whose `$X` enters the container.
fn bash(host: &Host) -> Terminal {
    let mut terminal = pty::bash(host);
    terminal.line("cd /tmp; X='bkt enter dev --'");
    terminal
}

#[test]
fn job_control_works_into_the_container() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    let mut t = bash(&host);
    t.start("$X sh -c 'echo begun; read a; echo got $a; exit 4'");
    t.expect("begun\r\n");
    for _ in 0..2 {
        t.wait_until_raw();
        t.send("\x1a");
        t.expect("Stopped");
        t.expect("READY> ");
        t.fg();
    }
    t.send("one\r");
    t.expect("got one");
    t.expect("READY> ");
    assert_eq!(t.line("echo status $?"), "status 4\r\n");
    t.start("$X sleep 1000");
    find_below(guest.bwrap.id(), "sleep");
    t.wait_until_raw();
    t.send("\x03");
    t.expect("READY> ");
    assert_eq!(t.line("echo status $?"), "status 130\r\n");
    assert!(t.line("$X sh -c 'sleep 0.1; exit 3' & wait $!; echo status $?").contains("status 3"));
}

#[test]
fn the_terminal_is_the_containers_own_with_the_callers_size() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    let mut t = bash(&host);
    assert!(t.line("$X tty").starts_with("/dev/pts/"));
    assert_eq!(t.line("$X stty size"), "24 80\r\n");
    t.resize(31, 97);
    assert_eq!(t.line("$X stty size"), "31 97\r\n");
    assert_eq!(t.line("$X sh -c 'test -t 0 && test -t 1 && test -t 2; echo $?'"), "0\r\n");
    assert_eq!(t.line("echo word | $X sh -c 'read a; test -t 0; echo $a $?' 2>/dev/null"), "word 1\r\n");
    let modes = t.modes();
    t.start("$X sh -c 'stty raw -echo; echo begun; exec sleep 1000'");
    t.expect("begun");
    // The client dies with the terminal in raw mode: who outlives it puts it back.
    let client = find_below(t.child.id(), "bkt");
    kill(client, libc::SIGKILL);
    t.expect("READY> ");
    eventually("the terminal's modes are back", || t.modes() == modes || t.is_cooked() || !lives(client));
    drop(guest);
}

#[test]
fn without_a_command_it_is_a_login_shell_of_the_container() {
    let host = Host::start();
    let guest = Boxed::of(&host).with("SHELL", "/bin/ash");
    fs::write(guest.path("/etc/profile"), "for f in /etc/profile.d/*.sh; do . $f; done; PROFILE=read\n").unwrap();
    let _guest = guest.guest("dev", &[]).ready(&host);
    let mut t = bash(&host);
    t.start("bkt enter dev --env 'PS1=INNER> '");
    t.expect("INNER> ");
    t.send("echo $0 $PROFILE $PATH\r");
    t.expect("-ash read /run/bkt/bin:/bin\r\n");
    t.send("sleep 1000\r");
    find_below(_guest.bwrap.id(), "sleep");
    t.send("\x03");
    t.expect("INNER> ");
    t.send("exit 3\r");
    t.expect("READY> ");
    assert_eq!(t.line("echo status $?"), "status 3\r\n");
    let mut piped = host.bkt(["enter", "dev"]).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"echo $0; exit 6\n").unwrap();
    let output = piped.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("-ash\n", Some(6)));
}

// ---- from another container, and round about

#[test]
fn from_another_container_through_the_host_it_is_one_operation() {
    let host = Host::start();
    let (a, b) = (Guest::of(&host, "a"), Boxed::of(&host).with("CONTAINER_ID", "b").guest("b", &[]).ready(&host));
    let output = a.boxed.command(&["/bin/bkt", "enter", "b", "--", "sh", "-c", "echo $CONTAINER_ID $BKT_OP_ID $BKT_DEPTH; exit 9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("b", "1"));
    assert!(host.log().contains(words[1]) && b.log().contains(words[1]), "{shown}");

    // Host, a, host, b: each hop is one deeper, the operation stays the same.
    let round = "bkt admin daemon exec -- BKT enter b -- sh -c 'echo $CONTAINER_ID $BKT_OP_ID $BKT_DEPTH'".replace("BKT enter", &format!("{} --no-delegate enter", support::BKT));
    let mut command = enter(&host, "a", ["sh", "-c", &round]);
    let output = command.env("BKT_OP_ID", "op-123456789abc").current_dir("/").output().unwrap();
    assert_eq!(text(&output.stdout), "b op-123456789abc 3\n", "{}", text(&output.stderr));
    for log in [host.log(), a.log(), b.log()] {
        assert!(log.contains("op-123456789abc"));
    }
}

#[test]
fn a_command_named_like_a_link_of_the_guest_is_that_link() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    assert!(guest.boxed.path("/run/bkt/bin/host-exec").is_symlink());
    // There is no other host-exec in the container: that it is found is the point.
    let output = enter(&host, "dev", ["host-exec", "sh", "-c", "echo $SERVER_SIDE; exit 8"]).output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("yes\n", Some(8)), "{}", text(&output.stderr));
}

#[test]
fn where_commands_are_restricted_a_container_enters_no_other_and_the_hosts_user_does() {
    let config = TempDir::new();
    fs::create_dir(config.0.join("bkt")).unwrap();
    fs::write(config.0.join("bkt/policy.json"), r#"{"listeners": {"host": {"host_exec": {"default": "deny", "rules": [{"allow": "uname"}]}}}}"#).unwrap();
    let host = Host::start_with(|daemon| {
        daemon.env("XDG_CONFIG_HOME", &config.0);
    });
    let (dev, other) = (Guest::of(&host, "dev"), Boxed::of(&host));
    assert_eq!(enter_sh(&host, "exit 3").status().unwrap().code(), Some(3));
    let refused = other.command(&["/bin/bkt", "enter", "dev", "--", "touch", "/tmp/ran"]).output().unwrap();
    complaint(&refused, 125, "containers may not enter each other where the host's policy");
    assert!(!dev.boxed.path("/tmp/ran").exists());
}

// ---- distrobox shims, and other ways in

/// A home that the containers share, with a distrobox shim for a program in `dev` that says how and where it was called.
fn home_with_shim(host: &Host) -> TempDir {
    let home = TempDir::new();
    let at = |below: &str| home.0.join(below);
    for directory in [".local/bin", "bin"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::copy(support::BKT, at(".local/bin/bkt")).unwrap();
    fs::write(at("bin/tool"), "#!/bin/sh\nprintf '%s|' \"$CONTAINER_ID\" \"$@\"; echo \"$BKT_OP_ID\"; exit 37\n").unwrap();
    fs::set_permissions(at("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut add = Command::new(at(".local/bin/bkt"));
    add.args(["shim", "add", "tool", "--container", "dev", "--source"]).arg(at("bin/tool")).env("HOME", &home.0).env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "host");
    stdout(add.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME").output().unwrap());
    home
}

#[test]
fn a_distrobox_shim_goes_by_the_guest_from_the_host_and_from_another_container() {
    let host = Host::start();
    let home = home_with_shim(&host);
    let path = home.0.to_str().unwrap();
    let _dev = Boxed::of(&host).share(&home.0, path).with("CONTAINER_ID", "dev").guest("dev", &[]).ready(&host);
    let shim = home.0.join(".local/bin/distrobox/tool");
    let on_host = Command::new(&shim)
        .args(["a  b", "", "*"])
        .env_clear()
        .env("PATH", "/nowhere")
        .env("HOME", path)
        .env("BKT_SOCKET", host.socket())
        .env("BKT_SIDE", "host")
        .output()
        .unwrap();
    assert_eq!(on_host.status.code(), Some(37), "{}", text(&on_host.stderr));
    assert!(text(&on_host.stdout).starts_with("dev|a  b||*|op-"), "{}", text(&on_host.stdout));

    let other = Boxed::of(&host).share(&home.0, path);
    fs::write(other.path("/run/.containerenv"), "name=\"other\"\n").unwrap();
    let elsewhere = other.command(&[shim.to_str().unwrap(), "a  b"]).env("HOME", path).env("BKT_OP_ID", "op-00000000beef").output().unwrap();
    assert_eq!((text(&elsewhere.stdout).as_str(), elsewhere.status.code()), ("dev|a  b|op-00000000beef\n", Some(37)), "{}", text(&elsewhere.stderr));
    assert!(host.children().is_empty() && host.log().contains("handed over to dev"), "the host has run nothing for it");
}

#[test]
fn without_a_guest_the_containers_own_tools_do_it_with_arguments_and_status_intact() {
    let host = Host::start();
    let tools = TempDir::new();
    // podman, as far as it is asked: it starts what is not running, and runs the rest of its arguments.
    let podman = "#!/bin/sh\nif [ $1 = inspect ]; then [ $6 = dev ] || exit 125; echo 0123 true 'sleep '; exit; fi\nif [ $1 = ps ]; then printf '0123\\trunning\\tdev\\n4567\\texited\\tweb\\n'; exit; fi\nif [ $1 = start ]; then echo started $2 >&2; exit; fi\nwhile [ \"$1\" != dev ]; do shift; done; shift; CONTAINER_ID=by-podman exec \"$@\"\n";
    fs::write(tools.0.join("podman"), podman).unwrap();
    fs::set_permissions(tools.0.join("podman"), fs::Permissions::from_mode(0o755)).unwrap();
    // Its other name, as the package podman-docker has it, is no second container of each.
    std::os::unix::fs::symlink("podman", tools.0.join("docker")).unwrap();
    let path = format!("{}:/usr/bin:/bin", tools.0.display());
    // distrobox would come first for an ordinary user; here only podman is asked.
    let by_podman = |command: &mut Command| command.env("PATH", &path).env("SHELL", "/bin/bash").output().unwrap();
    let run = by_podman(enter(&host, "dev", ["sh", "-c", "printf '%s|' $CONTAINER_ID \"$@\"; exit 37", "sh", "a  b", "", "*"]).current_dir("/"));
    assert_eq!((text(&run.stdout).as_str(), run.status.code()), ("by-podman|a  b||*|", Some(37)), "{}", text(&run.stderr));
    // Which way it goes, and why, in one line.
    let told = by_podman(host.bkt(["-v", "enter", "dev", "--", "true"]).env("BKT_SIDE", "host"));
    let told: Vec<String> = text(&told.stderr).lines().filter(|line| line.starts_with("bkt: ")).map(str::to_string).collect();
    let way = format!("bkt: dev is entered by {}/podman, not by its guest daemon: dev has no guest daemon here; start one in it: ", tools.0.display());
    assert!(told.len() == 1 && told[0].starts_with(&way), "{told:?}");
    let mut shell = host.bkt(["enter", "dev"]);
    shell.env("PATH", &path).env("SHELL", "/bin/bash").stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"shopt -q login_shell && echo $CONTAINER_ID login; exit 6\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout).lines().last(), output.status.code()), (Some("by-podman login"), Some(6)), "{}", text(&output.stderr));

    // A name that nobody has is no offer to make such a container.
    complaint(&by_podman(&mut enter(&host, "deev", ["true"])), 127, "enter: there is no container deev; there are: dev (running), web (exited)");
    let _guest = Guest::of(&host, "dev");
    let rows = |all: &Output| text(&all.stdout).lines().skip(1).map(|line| line.split_whitespace().map(str::to_string).collect()).collect::<Vec<Vec<String>>>();
    let listed = rows(&by_podman(&mut host.bkt(["--no-delegate", "ps"])));
    assert_eq!((&*listed[0][0], &*listed[0][1], listed[1].join(" ").as_str()), ("dev", env!("CARGO_PKG_VERSION"), "web none - exited"), "{listed:?}");
    assert_eq!(listed.len(), 2, "{listed:?}");
    let json: serde_json::Value = serde_json::from_slice(&by_podman(&mut host.bkt(["--no-delegate", "ps", "--json"])).stdout).unwrap();
    let facts = |at: usize| ["container", "guest", "state", "version"].map(|name| json[at][name].to_string()).join(" ");
    assert_eq!(facts(0), concat!(r#""dev" true "running" ""#, env!("CARGO_PKG_VERSION"), r#"""#), "{json}");
    assert_eq!(facts(1), r#""web" false "exited" null"#, "{json}");
    drop(_guest);
    eventually("dev has no guest", || !is_listed(&host, "dev"));

    complaint(&by_podman(enter(&host, "dev", ["true"]).env("BKT_FALLBACK", "never")), 125, "switched off (BKT_FALLBACK)");
    complaint(&by_podman(&mut host.bkt(["enter", "dev", "--cwd", "/", "--", "true"])), 125, "without options");
}

/// The daemon sees by which id docker's containers run, not what docker calls them (20.10.24, with a cgroup namespace of its own).
#[test]
fn a_container_of_dockers_has_its_guest_by_name_and_by_id() {
    let host = Host::start();
    let tools = TempDir::new();
    let docker = "id=0123456789ab$(printf %052d 7)\ncase \"$1 $6\" in ps*) printf \"$id\\trunning\\tweb\\n\";; 'inspect web') echo $id true 'sleep ';; *) exit 1;; esac\n";
    for (name, lines) in [("docker", docker), ("podman", "[ $1 = ps ]\n")] {
        fs::write(tools.0.join(name), format!("#!/bin/sh\n{lines}")).unwrap();
        fs::set_permissions(tools.0.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", tools.0.display());
    let _guest = Guest::of(&host, "0123456789ab");
    for name in ["web", "0123456789ab"] {
        let run = enter(&host, name, ["sh", "-c", "echo $INSIDE; exit 37"]).env("PATH", &path).output().unwrap();
        assert_eq!((text(&run.stdout).as_str(), run.status.code()), ("yes\n", Some(37)), "{name}: {}", text(&run.stderr));
    }
    let mut with_options = host.bkt(["enter", "web", "--cwd", "/bin", "--", "pwd"]);
    assert_eq!(stdout(with_options.env("PATH", &path).output().unwrap()), "/bin\n");
    let listed = stdout(host.bkt(["--no-delegate", "ps"]).env("PATH", &path).output().unwrap());
    assert_eq!(listed.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["web"], "{listed}");
}

// ---- nobody there

#[test]
fn without_a_guest_or_without_a_daemon_it_is_said_and_nothing_runs() {
    let host = Host::start();
    complaint(&enter(&host, "nobody", ["true"]).env("PATH", "/nowhere").output().unwrap(), 125, "nobody has no guest daemon");
    let mut without = enter(&host, "dev", ["true"]);
    complaint(&without.env("PATH", "/nowhere").env("BKT_SOCKET", "/no/such/socket").output().unwrap(), 125, "No such file");
}

#[test]
fn a_guest_that_hangs_costs_its_caller_two_seconds_and_nobody_else_anything() {
    let host = Host::start();
    let (dev, _other) = (Guest::of(&host, "dev"), Guest::of(&host, "other"));
    kill(dev.pid(), libc::SIGSTOP);
    let waiting = Client(enter_sh(&host, "touch /tmp/ran").stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(enter(&host, "other", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
    let mut waiting = waiting;
    assert_eq!(waiting.wait().unwrap().code(), Some(125));
    // The rest of the stream comes when the guest wakes up: it is on its way there.
    let mut said = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("has not answered within 2 s"), "{said}");
    op_id_at_end(&said);
    // Its caller is gone: when it wakes up, nothing is started.
    kill(dev.pid(), libc::SIGCONT);
    assert_eq!(enter_sh(&host, "exit 4").status().unwrap().code(), Some(4));
    assert!(!dev.boxed.path("/tmp/ran").exists());
}

#[test]
fn a_guest_that_dies_is_never_followed_by_a_second_try() {
    let host = Host::start();
    let mut dev = Guest::of(&host, "dev");
    kill(dev.pid(), libc::SIGSTOP);
    // Who lists the guests has been handed over, too.
    let handed_over = || host.log().matches("handed over to dev").count();
    let before = handed_over();
    let taken = enter_sh(&host, "true").stderr(Stdio::piped()).spawn().unwrap();
    eventually("it is on its way", || handed_over() > before);
    kill(dev.pid(), libc::SIGKILL);
    complaint(&taken.wait_with_output().unwrap(), 125, "may or may not have run");
    dev.wait();
    eventually("the host has noticed", || !is_listed(&host, "dev"));

    let mut dev = Guest::of(&host, "dev");
    // A file: who reads a pipe hears of its end when the command's copy goes, and does not wait for ours.
    let errors = host.dir.0.join("errors");
    let mut running = enter_sh(&host, "sleep 1000").stderr(fs::File::create(&errors).unwrap()).spawn().unwrap();
    eventually("the client knows that it runs", || !Path::new(&format!("/proc/{}/fd/2", running.id())).exists());
    kill(dev.pid(), libc::SIGKILL);
    assert_eq!(running.wait().unwrap().code(), Some(125));
    assert_says(&fs::read(errors).unwrap(), "died while the command ran");
    dev.wait();
}

// ---- callers and guests of bad habits

#[test]
fn a_caller_or_guest_that_breaks_the_rules_is_refused_and_leaves_nothing() {
    let host = Host::start();
    let dev = Guest::of(&host, "dev");
    let account = Account::open(&host);
    let before = descriptors(dev.pid());
    let hello = |name: &'static [u8]| Serve { hello: Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(name), capabilities: vec![] }, returns: false };
    let enter = |name: &'static [u8]| message::encode(&Enter { container: Bytes(name), directory: None }, 0, None);
    let table: Vec<(&str, Vec<u8>, Code)> = vec![
        ("nobody's name", message::encode(&hello(b""), 0, None), Code::Denied),
        ("no name", message::encode(&hello(b"a/b"), 0, None), Code::BadRequest),
        ("a container without a guest", enter(b"nobody"), Code::NoGuest),
        ("a container and then nobody's kind", [enter(b"dev"), message::encode(&HandOver { bytes: Bytes(b""), directory: None }, 0, None)].concat(), Code::UnknownMethod),
        ("a container in a container", [enter(b"dev"), enter(b"dev")].concat(), Code::UnknownMethod),
        ("a guest's guest", [enter(b"dev"), message::encode(&hello(b"x"), 0, None)].concat(), Code::UnknownMethod),
        ("nonsense to a guest", [enter(b"dev"), vec![3, 0, 0, 0, 1, 1, 1, 1, 1]].concat(), Code::BadFrame),
        ("what only a host says", message::encode(&HandOver { bytes: Bytes(b""), directory: None }, 0, None), Code::UnknownMethod),
        ("a run of a guest", [message::encode(&hello(b"other"), 0, None), message::encode(&run(b"true\0"), 0, None)].concat(), Code::BadRequest),
        ("a container for a guest", [message::encode(&hello(b"other"), 0, None), enter(b"dev")].concat(), Code::BadRequest),
        ("descriptors that are not there", message::encode(&Enter { container: Bytes(b"dev"), directory: None }, 1, None), Code::BadDescriptors),
    ];
    let mut on_the_host = 0;
    for (what, bytes, code) in table {
        let mut peer = Peer::connect(&host);
        peer.send(&bytes, &[]);
        let refused = loop {
            let answer = peer.answer().unwrap_or_else(|| panic!("{what}: hung up without a word"));
            if answer.kind == kind::Refused {
                break Code::from_number(message::decode::<message::Refused<'_>>(&answer.body).unwrap().code);
            }
        };
        assert_eq!(refused, code, "{what}");
        let by_guest = ["a container and", "a container in", "a guest's guest", "nonsense"].iter().any(|w| what.starts_with(w));
        on_the_host += usize::from(!by_guest && code != Code::NoGuest);
    }
    // What nobody has asked for changes nothing.
    let mut peer = Peer::connect(&host);
    peer.say(&Pong {}, None);
    peer.say(&StatusRequest {}, None);
    peer.expect(kind::Status);
    drop(peer);
    // Who enters and goes, or enters and says nothing, costs a descriptor for as long as that.
    let silent = Peer::connect(&host);
    silent.send(&enter(b"dev"), &[]);
    for _ in 0..20 {
        Peer::connect(&host).send(&enter(b"dev"), &[]);
    }
    drop(silent);
    eventually("the guest is as before", || descriptors(dev.pid()) == before);
    account.close(on_the_host);
    assert_eq!(enter_sh(&host, "exit 3").status().unwrap().code(), Some(3));
}

#[test]
fn a_guest_has_no_file_of_the_hosts_open() {
    let host = Host::start();
    let dev = Guest::of(&host, "dev");
    let links = fs::read_dir(format!("/proc/{}/fd", dev.pid())).unwrap().flatten().map(|entry| fs::read_link(entry.path()).unwrap());
    // Its log is the test's own.
    let files: Vec<_> = links.filter(|link| link.is_absolute() && !link.ends_with("log") && link != Path::new("/dev/null")).collect();
    assert!(files.is_empty(), "{files:?}");
    assert_says(dev.log().as_bytes(), "connected to the host's daemon");
}
