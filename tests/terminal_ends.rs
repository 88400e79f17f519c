//! How a run at a terminal ends, whoever ends first: the terminal's modes are put back, nothing runs on, nothing is left.

mod support;
use std::fs;
use std::process::Command;
use support::pty::{self, Terminal, moment};
use support::{BKT, Host, TempDir, children, eventually, kill, lives, number_in, state};

/// A client at the terminal of a shell that only waits, and the command's process: both known by number.
fn run_at_terminal(host: &Host, dir: &TempDir, command: &str) -> (Terminal, u32, u32) {
    let (client, pid) = (dir.0.join("client"), dir.0.join("pid"));
    let line = format!("sh -c 'echo $$ > {}; exec {BKT} admin daemon exec -- sh -c \"echo \\$\\$ > {}; {command}\"'; echo status $?", client.display(), pid.display());
    let mut shell = Command::new("bash");
    // Ignores what is meant for its child, and never touches the terminal's modes.
    shell.args(["--norc", "--noprofile", "-c", &format!("trap : INT QUIT TERM; {line}; read a; {{ stty -a | grep -q -- ' echo '; }} && echo echoes")]);
    let t = Terminal::run(shell.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container"));
    let numbers = (number_in(&client), number_in(&pid));
    (t, numbers.0, numbers.1)
}

#[test]
fn the_modes_are_put_back_however_the_run_ends() {
    let host = Host::start();
    // How: who is sent which signal; what the shell then sees.
    let table = [
        ("the command exits", 0, "stty raw -echo; exit 3", "status 3"),
        ("the command is killed", libc::SIGKILL, "stty raw -echo; echo begun; exec sleep 60", "status 137"),
        ("client", libc::SIGTERM, "stty raw -echo; echo begun; exec sleep 60", "status 143"),
        ("client", libc::SIGHUP, "stty raw -echo; echo begun; exec sleep 60", "status 129"),
        ("client", libc::SIGINT, "stty raw -echo; echo begun; exec sleep 60", "status 130"),
        ("client", libc::SIGKILL, "echo begun; exec sleep 60", "status 137"),
        ("client", libc::SIGKILL, "stty raw -echo; echo begun; exec sleep 60", "status 137"),
    ];
    for (who, signal, command, status) in table {
        let dir = TempDir::new();
        let (mut t, client, pid) = run_at_terminal(&host, &dir, command);
        if signal != 0 {
            t.expect("begun");
            t.wait_until_raw();
            kill(if who == "client" { client } else { pid }, signal);
        }
        t.expect(status);
        eventually("the modes are put back", || t.is_cooked());
        eventually("the command is gone", || !lives(pid));
        t.send("\r");
        t.expect("echoes");
        t.wait();
    }
    eventually("no child is left", || host.children().is_empty());
    assert_eq!(host.zombies(), 0);
}

#[test]
fn a_client_killed_while_it_lends_the_keyboard_in_a_pipeline_leaves_the_modes_right() {
    let host = Host::start();
    let mut t = pty::bash(&host);
    // As a command of the shell finds them.
    let modes = |t: &mut Terminal| t.line("stty -a");
    let before = modes(&mut t);
    t.start("$X sh -c 'read a' > /dev/null");
    t.wait_until_raw();
    let client = children(t.child.id())[0];
    kill(client, libc::SIGKILL);
    t.prompt();
    assert_eq!(modes(&mut t), before);
}

#[test]
fn a_killed_daemon_ends_the_run_with_125_and_right_modes() {
    let host = Host::start();
    let dir = TempDir::new();
    let (mut t, _, pid) = run_at_terminal(&host, &dir, "stty raw -echo; echo begun; exec sleep 60");
    t.expect("begun");
    t.wait_until_raw();
    host.signal_daemon(libc::SIGKILL);
    t.expect("the daemon died while the command ran");
    t.expect("status 125");
    assert!(t.is_cooked());
    eventually("the command is hung up on", || !lives(pid));
    t.send("\r");
    t.expect("echoes");
    t.wait();
}

#[test]
fn a_killed_daemon_is_told_of_at_the_terminal_where_nobody_reads_the_pipe() {
    let host = Host::start();
    let mut t = pty::bash(&host);
    t.start("($X sh -c 'echo begun >/dev/tty; exec sleep 1000' 2>&1; echo status $? >/dev/tty) | true");
    t.expect("begun");
    let client = || children(t.child.id()).into_iter().flat_map(children).next();
    eventually("the client knows that its command runs: it has closed its copies", || client().is_some_and(|pid| fs::read_link(format!("/proc/{pid}/fd/2")).is_err()));
    host.signal_daemon(libc::SIGKILL);
    t.expect("the daemon died while the command ran");
    t.expect("status 125");
    t.prompt();
}

#[test]
fn a_refused_run_leaves_the_terminal_alone() {
    let host = Host::start();
    let mut t = pty::bash(&host);
    let modes = t.line("stty -a");
    for (line, status) in [
        ("$X no-such-command-at-all", 127),
        ("$X /etc/passwd", 126),
        ("bkt admin daemon exec --cwd /no/such/dir -- true", 125),
        ("BKT_SOCKET=/no/such BKT_FALLBACK=never $X true", 125),
    ] {
        let shown = t.line(line);
        assert!(shown.contains("bkt: ") && shown.contains("(op-"), "{line}: {shown:?}");
        assert!(!shown.replace("\r\n", "").contains('\n'), "{line}: {shown:?}");
        assert_eq!(t.line("echo status $?"), format!("status {status}\r\n"), "{line}");
        assert_eq!(t.line("stty -a"), modes);
    }
}

#[test]
fn a_closed_terminal_hangs_up_on_the_command_and_leaves_nothing() {
    let host = Host::start();
    let descriptors = host.descriptors();
    // With the shell's help (it passes the hangup on), and without (the client is the session leader itself).
    for shell in [true, false] {
        for command in ["exec sleep 60", "stty raw -echo; exec cat", "while :; do sleep 0.05; echo still here; done"] {
            let dir = TempDir::new();
            let pid_file = dir.0.join("pid");
            let inner = format!("echo $$ > {}; {command}", pid_file.display());
            let mut t = if shell {
                let mut t = pty::bash(&host);
                t.start(&format!("$X sh -c '{inner}'"));
                t
            } else {
                Terminal::run(host.sh(&inner).stdin(std::process::Stdio::inherit()))
            };
            let pid = number_in(&pid_file);
            t.pump();
            let mut child = t.close();
            eventually("the command is gone", || !lives(pid));
            eventually("the caller is gone", || child.try_wait().unwrap().is_some());
            eventually("no child is left", || host.children().is_empty());
        }
    }
    eventually("no descriptor is left", || host.descriptors() <= descriptors);
    assert_eq!(host.zombies(), 0);
}

/// Processor time that a process has used, in clock ticks.
fn ticks(pid: u32) -> u64 {
    [11, 12].iter().map(|field| support::stat_field(pid, *field).unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_command_that_ignores_the_hangup_survives_and_its_client_waits_quietly() {
    let host = Host::start();
    for line in ["trap '' HUP; exec $X sh -c \"$INNER\"", "exec nohup $X sh -c \"$INNER\"", "exec $X sh -c \"trap '' HUP; $INNER\""] {
        let dir = TempDir::new();
        let (pid_file, client_file, done) = (dir.0.join("pid"), dir.0.join("client"), dir.0.join("done"));
        let mut shell = Command::new("bash");
        shell.args(["--norc", "--noprofile", "-c", &format!("echo $$ > {}; {line}", client_file.display())]).current_dir(&dir.0);
        shell.env("X", format!("{BKT} admin daemon exec --")).env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container");
        shell.env("INNER", format!("echo $$ > {}; until test -e go; do sleep 0.05; done; echo done > {}", pid_file.display(), done.display()));
        let t = Terminal::run(&mut shell);
        let (client, pid) = (number_in(&client_file), number_in(&pid_file));
        let mut child = t.close();
        moment();
        assert!(lives(pid), "{line}");
        if lives(client) {
            let before = ticks(client);
            moment();
            moment();
            assert!(ticks(client) - before < 5, "the client is busy after {line}: {} ticks", ticks(client) - before);
        }
        fs::write(dir.0.join("go"), "").unwrap();
        eventually("the command came to its end", || done.exists());
        eventually("the client is gone", || child.try_wait().unwrap().is_some());
        eventually("no child is left", || host.children().is_empty());
    }
}

#[test]
fn a_program_that_forks_and_returns_is_not_ended_by_our_hanging_up() {
    let host = Host::start();
    let dir = TempDir::new();
    let mut t = pty::bash(&host);
    for (n, line) in ["sleep 30 & echo $! > FILE", "(sleep 30 & echo $! > FILE)", "setsid sleep 30 & echo $! > FILE"].into_iter().enumerate() {
        for redirected in ["", "| cat", "< /dev/null > /dev/null 2>&1"] {
            let file = dir.0.join(format!("pid{n}"));
            let _ = fs::remove_file(&file);
            t.start(&format!("$X sh -c '{}' {redirected}", line.replace("FILE", file.to_str().unwrap())));
            let pid = number_in(&file);
            if redirected == "| cat" {
                // Which waits for the pipe's end, natively too.
                moment();
                t.end_by("\x03");
                if lives(pid) {
                    kill(pid, libc::SIGKILL);
                }
                continue;
            }
            t.prompt();
            moment();
            assert!(lives(pid), "{line} {redirected}");
            assert_ne!(state(pid), Some('T'));
            kill(pid, libc::SIGKILL);
        }
    }
    eventually("no child is left", || host.children().is_empty());
}

#[test]
fn a_client_that_vanishes_while_its_command_is_stopped_leaves_nothing() {
    let host = Host::start();
    let dir = TempDir::new();
    let pid_file = dir.0.join("pid");
    let mut t = pty::bash(&host);
    t.start(&format!("$X sh -c 'echo $$ > {}; echo begun; exec sleep 60'", pid_file.display()));
    t.expect("begun");
    let pid = number_in(&pid_file);
    t.send("\x1a");
    t.prompt();
    eventually("it has stopped", || state(pid) == Some('T'));
    t.line("kill -9 %1; wait %1 2>/dev/null");
    eventually("the command is gone", || !lives(pid));
    eventually("no child is left", || host.children().is_empty());
    assert!(t.line("echo ok").starts_with("ok\r\n"));
}
