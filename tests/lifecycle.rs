//! The operator: starts daemons, one too many, over remains of others; ends, reloads, upgrades, stops and kills them while
//! commands run; reads their status and their log.
#![allow(unsafe_code)]

mod support;

use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use support::peer::{Account, assert_asleep, assert_says, warnings};
use support::pty::Terminal;
use support::{AT_ONCE, BKT, Host, PATIENCE, TempDir, eventually, lives, number_in, pty, state, stdout, text};

/// A daemon in a directory of the test's own, not yet started.
fn daemon(dir: &Path) -> Command {
    let mut command = Command::new(BKT);
    command.arg0("bkt-hostd").env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir).env("XDG_RUNTIME_DIR", dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn client(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BKT);
    command.arg0("bkt").args(args).env("BKT_SOCKET", socket).env("BKT_SIDE", "container").stdin(Stdio::null());
    command
}

fn serves(socket: &Path) -> bool {
    client(socket, &["admin", "daemon", "exec", "--", "true"]).output().unwrap().status.success()
}

/// A daemon that is killed with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, socket: &Path) -> Running {
        let running = Running(command.spawn().unwrap());
        eventually("the daemon serves", || serves(socket));
        running
    }

    fn signal(&self, signal: i32) {
        kill(self.0.id(), signal);
    }

    /// Its end, and what it said on standard error.
    #[track_caller]
    fn end(mut self) -> (ExitStatus, String) {
        eventually("the daemon ends", || self.0.try_wait().unwrap().is_some());
        let mut said = String::new();
        if let Some(mut err) = self.0.stderr.take() {
            err.read_to_string(&mut said).unwrap();
        }
        (self.0.wait().unwrap(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: kill(2) touches no memory.
    unsafe { libc::kill(pid as i32, signal) };
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// Everything in a directory, at any depth.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(directory).unwrap().flatten().map(|e| e.path()).collect();
    for path in all.clone() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            all.extend(files(&path));
        }
    }
    all
}

fn status(host: &Host) -> Value {
    serde_json::from_str(&stdout(host.bkt(["admin", "daemon", "status", "--json"]).output().unwrap())).unwrap()
}

/// Waits until the daemon has become its next image so many times in all.
fn reloaded(host: &Host, times: usize) {
    eventually(&format!("reloaded {times} times"), || host.log().matches("reloaded as version").count() == times);
}

// ---- the beginning

#[test]
fn of_several_daemons_started_at_once_exactly_one_serves_and_the_others_say_so() {
    for count in [2, 2, 2, 10, 10] {
        let dir = TempDir::new();
        let socket = dir.0.join("bkt/host.sock");
        let mut all: Vec<Child> = (0..count).map(|_| daemon(&dir.0).spawn().unwrap()).collect();
        eventually("all but one have given up", || all.iter_mut().filter_map(|d| d.try_wait().unwrap()).count() == count - 1);
        assert!(serves(&socket));
        let pid = {
            let status: Value = serde_json::from_str(&stdout(client(&socket, &["admin", "daemon", "status", "--json"]).output().unwrap())).unwrap();
            status["pid"].as_u64().unwrap()
        };
        for mut daemon in all {
            if u64::from(daemon.id()) == pid {
                kill(daemon.id(), libc::SIGTERM);
                assert_eq!(daemon.wait().unwrap().code(), Some(0));
                continue;
            }
            let output = daemon.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(125));
            assert_says(&output.stderr, "a daemon already listens at");
            assert_says(&output.stderr, "(op-");
            assert_eq!(text(&output.stderr).lines().count(), 1);
        }
        assert_eq!(files(&dir.0), Vec::<PathBuf>::new(), "nothing is left");
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let first = Running::start(&mut daemon(&dir.0), &socket);
    first.signal(libc::SIGKILL);
    drop(first.end());
    assert!(socket.exists());
    let stale = inode(&socket);
    let second = Running::start(&mut daemon(&dir.0), &socket);
    assert_ne!(inode(&socket), stale);
    drop(second);
}

#[test]
fn a_live_daemons_socket_is_never_taken_not_even_while_it_is_stopped_or_swamped() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let first = Running::start(&mut daemon(&dir.0), &socket);
    let before = inode(&socket);
    for stopped in [false, true] {
        if stopped {
            first.signal(libc::SIGSTOP);
            eventually("it is stopped", || state(first.0.id()) == Some('T'));
        }
        let second = daemon(&dir.0).output().unwrap();
        assert_eq!(second.status.code(), Some(125));
        assert_says(&second.stderr, "a daemon already listens at");
        assert_eq!(inode(&socket), before);
    }
    // Its queue of connections is full, too.
    support::peer::raise_descriptor_limit(6_000);
    let mut waiting = Vec::new();
    while let Ok(connection) = bkt::sys::socket::connect(&socket) {
        waiting.push(connection);
    }
    let second = daemon(&dir.0).output().unwrap();
    assert_eq!(second.status.code(), Some(125));
    assert_says(&second.stderr, "a daemon already listens at");
    // A client waits for a place in the queue as long as for an answer, and no longer.
    let begun = Instant::now();
    let refused = client(&socket, &["admin", "daemon", "exec", "--", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125));
    assert_says(&refused.stderr, "overloaded or stopped");
    assert!((1_500..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    drop(waiting);
    first.signal(libc::SIGCONT);
    eventually("it serves as before", || serves(&socket));
    assert_eq!(inode(&socket), before);
}

#[test]
fn what_is_no_stale_socket_is_left_alone() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    fs::create_dir(socket.parent().unwrap()).unwrap();
    let refused = |what: &str, wanted: &str| {
        let output = daemon(&dir.0).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{what}");
        assert_says(&output.stderr, wanted);
        assert_says(&output.stderr, "host.sock");
    };
    fs::write(&socket, "mine").unwrap();
    refused("a regular file", "is no socket; it is left as it is");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    fs::remove_file(&socket).unwrap();

    fs::create_dir(&socket).unwrap();
    refused("a directory", "is no socket; it is left as it is");
    fs::remove_dir(&socket).unwrap();

    symlink("/no/such/place", &socket).unwrap();
    refused("a link to nowhere", "is no socket; it is left as it is");
    assert!(fs::read_link(&socket).is_ok());
    fs::remove_file(&socket).unwrap();

    let other = UnixDatagram::bind(&socket).unwrap();
    refused("somebody's datagram socket", "cannot tell whether a daemon listens");
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"still here", &socket).unwrap();
    let mut heard = [0; 10];
    other.recv(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
}

#[test]
fn the_directory_and_the_socket_are_private() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let directory = socket.parent().unwrap();
    for before in [None, Some(0o755), Some(0o777)] {
        if let Some(before) = before {
            fs::create_dir(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(before)).unwrap();
        }
        let mut command = daemon(&dir.0);
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0);
                Ok(())
            });
        }
        let running = Running::start(&mut command, &socket);
        assert_eq!((mode(directory), mode(&socket), mode(&directory.join("nowhere"))), (0o700, 0o600, 0o500), "{before:?}");
        running.signal(libc::SIGTERM);
        assert_eq!(running.end().0.code(), Some(0));
        assert_eq!(files(&dir.0), Vec::<PathBuf>::new());
    }
    fs::create_dir(directory).unwrap();
    std::os::unix::fs::chown(directory, Some(65_534), None).unwrap();
    let output = daemon(&dir.0).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_says(&output.stderr, "belongs to uid 65534, not to us (uid 0)");
    assert_eq!(files(directory), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_that_has_other_uses_is_neither_made_private_nor_removed() {
    let dir = TempDir::new();
    for (directory_mode, accepted) in [(0o755, true), (0o711, true), (0o1777, false), (0o775, false)] {
        let directory = dir.0.join("shared");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(directory_mode)).unwrap();
        let socket = directory.join("s");
        let mut command = daemon(&dir.0);
        command.arg("--socket").arg(&socket);
        if accepted {
            let running = Running::start(&mut command, &socket);
            running.signal(libc::SIGTERM);
            assert_eq!(running.end().0.code(), Some(0));
        } else {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(125));
            assert_says(&output.stderr, "others may write to");
        }
        assert_eq!(mode(&directory), directory_mode);
        assert_eq!(files(&directory), Vec::<PathBuf>::new());
        fs::remove_dir(&directory).unwrap();
    }
}

// ---- the end

#[test]
fn sigterm_ends_an_idle_daemon_with_0_and_leaves_no_file() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let dir = TempDir::new();
        let socket = dir.0.join("bkt/host.sock");
        let running = Running::start(&mut daemon(&dir.0), &socket);
        let begun = Instant::now();
        running.signal(signal);
        let (status, said) = running.end();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert_eq!(files(&dir.0), Vec::<PathBuf>::new());
    }
}

#[test]
fn sigterm_ends_what_runs_within_its_grace_and_every_client_hears_of_it() {
    let mut host = Host::start();
    let mark = |name: &str| host.dir.0.join(name);
    let script = |name: &str, rest: &str| format!("{rest} echo $$ > {}; while :; do sleep 0.05; done", mark(name).display());
    let mut obedient = host.sh(&script("a", "trap 'exit 5' TERM;")).spawn().unwrap();
    let stubborn = host.sh(&script("b", "trap '' TERM;")).stderr(Stdio::piped()).spawn().unwrap();
    let mut at_terminal = Terminal::run(&mut host.sh(&script("c", "trap '' TERM;")));
    let mut stopped = host.sh(&format!("echo $$ > {}; kill -STOP $$; exit 6", mark("d").display())).spawn().unwrap();
    let mut silent = UnixStream::connect(host.socket()).unwrap();
    assert!(host.bkt(["admin", "daemon", "exec", "--detach", "--", "sh", "-c", &script("e", "trap '' TERM;")]).status().unwrap().success());
    // One whose client has gone, and which takes its time over the hangup.
    let mut left = host.sh(&script("f", "trap '' HUP TERM;")).spawn().unwrap();
    let pids = ["a", "b", "c", "d", "e", "f"].map(|name| number_in(&mark(name)));
    eventually("d is stopped", || state(pids[3]) == Some('T'));
    left.kill().unwrap();
    left.wait().unwrap();

    let begun = Instant::now();
    host.signal_daemon(libc::SIGTERM);
    assert_eq!(obedient.wait().unwrap().code(), Some(5), "its own status");
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).unwrap();
    assert!(text(&nothing).contains("the daemon is ending"), "{nothing:?}");
    let refused = host.sh("true").output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "nothing new is taken");
    eventually("the daemon has ended", || host.daemon.try_wait().unwrap().is_some());
    assert_eq!(host.daemon.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    for (name, pid) in ["a", "b", "c", "d", "e", "f"].iter().zip(pids) {
        assert!(!lives(pid), "{name} is left");
    }
    let stubborn = stubborn.wait_with_output().unwrap();
    assert!(stubborn.status.signal() == Some(libc::SIGKILL), "{stubborn:?}");
    let end = at_terminal.wait();
    assert!(end.signal() == Some(libc::SIGKILL), "{end:?}: {}", at_terminal.rest());
    // It was stopped, and so was its client; the signal that ended it ends that too.
    kill(stopped.id(), libc::SIGCONT);
    let end = stopped.wait().unwrap();
    assert!(end.signal() == Some(libc::SIGTERM), "{end:?}");
    assert!(!host.socket().exists() && !host.dir.0.join("bkt").exists());
}

#[test]
fn a_socket_that_is_another_daemons_by_now_is_not_removed_at_the_end() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let first = Running::start(&mut daemon(&dir.0), &socket);
    fs::remove_file(&socket).unwrap();
    let second = Running::start(&mut daemon(&dir.0), &socket);
    first.signal(libc::SIGTERM);
    assert_eq!(first.end().0.code(), Some(0));
    assert!(serves(&socket));
    assert_eq!(mode(&dir.0.join("bkt/nowhere")), 0o500);
    drop(second);
}

// ---- reloading

#[test]
fn a_reload_is_noticed_by_nobody() {
    let host = Host::start();
    let account = Account::open(&host);
    let fifo = |name: &str| {
        let path = host.dir.0.join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    // One each: what is written into one that two read may end both.
    let (go, go_too) = (fifo("go"), fifo("go-too"));
    let before = status(&host);

    // With pipes, each way.
    let mut piped = host.sh("cat; echo err >&2; exit 3").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = piped.stdin.take().unwrap();
    input.write_all(b"before\n").unwrap();
    // At a terminal: one that runs and one that is stopped.
    let mut running = Terminal::run(&mut host.sh("echo ready; read line; echo got $line; stty size; exit 4"));
    running.expect("ready");
    let mut shell = pty::bash(&host);
    shell.send("$X sh -c 'echo begun; read a; echo got $a; exit 9'\r");
    shell.expect("begun\r\n");
    shell.send("\x1a");
    shell.expect("Stopped");
    // Detached, and nohup'ed without a client.
    let (detached, orphan) = (host.dir.0.join("detached"), host.dir.0.join("orphan"));
    let wait = |mark: &Path, go: &Path| format!("echo $$ > {}; read x < {}; exit 0", mark.display(), go.display());
    assert!(host.bkt(["admin", "daemon", "exec", "--detach", "--", "sh", "-c", &wait(&detached, &go)]).status().unwrap().success());
    let mut nohup = Command::new("nohup");
    nohup.arg(BKT).args(["admin", "daemon", "exec", "--", "sh", "-c", &wait(&orphan, &go_too)]).env("BKT_SOCKET", host.socket());
    let mut nohup = nohup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let survivors = [number_in(&detached), number_in(&orphan)];
    nohup.kill().unwrap();
    nohup.wait().unwrap();
    // Half a request.
    let request = bkt::proto::message::encode(&support::peer::run(b"true\0"), 0, support::peer::op(1));
    let mut half = support::peer::Peer::connect(&host);
    half.send(&request[..30], &[]);
    half.wait_taken();

    let count = status(&host)["running"].as_array().unwrap().len();
    assert_eq!(count, 5);
    host.signal_daemon(libc::SIGHUP);
    reloaded(&host, 1);
    host.signal_daemon(libc::SIGHUP);
    reloaded(&host, 2);
    half.send(&request[30..], &[]);
    assert_eq!(half.exit(), support::peer::SUCCESS);

    let after = status(&host);
    assert_eq!(after["pid"], before["pid"]);
    assert_eq!(after["running"].as_array().unwrap().len(), count);
    assert!(after["uptime_ms"].as_u64() >= before["uptime_ms"].as_u64());
    // The five, and the half one.
    assert_eq!(after["served"].as_u64().unwrap(), before["served"].as_u64().unwrap() + 6);
    assert_asleep(host.pid());

    input.write_all(b"after\n").unwrap();
    drop(input);
    let piped = piped.wait_with_output().unwrap();
    assert_eq!((piped.status.code(), text(&piped.stdout), text(&piped.stderr)), (Some(3), "before\nafter\n".into(), "err\n".into()));
    running.resize(33, 44);
    running.send("line\r");
    running.expect("got line");
    running.expect("33 44");
    assert_eq!(running.wait().code(), Some(4));
    shell.send("fg\r");
    shell.expect("read a");
    shell.send("one\r");
    shell.expect("got one");
    shell.expect("READY> ");
    shell.send("echo code $?\r");
    shell.expect("code 9");
    drop(shell);
    fs::write(&go, "go\n").unwrap();
    fs::write(&go_too, "go\n").unwrap();
    for pid in survivors {
        eventually("a survivor ends when told", || !lives(pid));
    }
    account.close(0);
}

#[test]
fn a_client_that_vanishes_across_a_reload_is_missed() {
    let host = Host::start();
    let account = Account::open(&host);
    let mark = host.dir.0.join("pid");
    let mut client = host.sh(&format!("trap '' HUP; echo $$ > {}; while :; do sleep 0.05; done", mark.display())).spawn().unwrap();
    let pid = number_in(&mark);
    client.kill().unwrap();
    client.wait().unwrap();
    // Hung up on by the first image, ended by the second.
    eventually("the first knows", || status(&host)["descriptors"].as_u64().unwrap() < 20 && host.descriptors() <= 8);
    host.signal_daemon(libc::SIGHUP);
    reloaded(&host, 1);
    assert!(lives(pid));
    eventually("its ladder is climbed on", || !lives(pid));

    let mark = host.dir.0.join("other");
    let mut terminal = Terminal::run(&mut host.sh(&format!("echo $$ > {}; sleep 100", mark.display())));
    let pid = number_in(&mark);
    host.signal_daemon(libc::SIGHUP);
    reloaded(&host, 2);
    terminal.child.kill().unwrap();
    eventually("the second misses a client of the first", || !lives(pid));
    account.close(0);
}

#[test]
fn twenty_reloads_under_load_lose_and_double_no_run() {
    let host = Host::start_with(|command| {
        command.env_remove("BKT_LOG");
    });
    let account = Account::open(&host);
    let before = status(&host)["served"].as_u64().unwrap();
    let ran = host.dir.0.join("ran");
    let each = 60;
    let script = format!("echo x >> {}; exit 7", ran.display());
    let load = |terminal: bool| {
        for _ in 0..each {
            if terminal {
                let mut terminal = Terminal::run(&mut host.sh(&script));
                let status = terminal.wait();
                assert_eq!(status.code(), Some(7), "{}", terminal.rest());
            } else {
                let output = host.sh(&script).output().unwrap();
                assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
            }
        }
    };
    let loads = [false, false, true];
    std::thread::scope(|scope| {
        for terminal in loads {
            scope.spawn(move || load(terminal));
        }
        for times in 1..=20 {
            host.signal_daemon(libc::SIGHUP);
            reloaded(&host, times);
        }
    });
    let runs = loads.len() * each;
    assert_eq!(fs::read_to_string(&ran).unwrap().lines().count(), runs);
    assert_eq!(status(&host)["served"].as_u64().unwrap(), before + runs as u64);
    account.close(0);
}

#[test]
fn runs_that_wait_for_their_turn_are_started_once_by_the_next_image() {
    // All of them may have been started before the next image is ready: then it shows nothing, and is done once more.
    assert!((0..20).any(|_| reload_with_a_queue() > 0), "some waited while it reloaded");
}

/// A reload in the midst of many requests, each of which is run once; how many waited meanwhile.
fn reload_with_a_queue() -> u32 {
    let bin = TempDir::new();
    let (installed, fifo, dir) = (bin.0.join("bkt"), bin.0.join("fifo"), TempDir::new());
    let next = bin.0.join("next/bkt");
    fs::create_dir(bin.0.join("next")).unwrap();
    support::copy_bkt(&next);
    support::copy_bkt(&installed);
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (socket, log, ran) = (dir.0.join("bkt/host.sock"), dir.0.join("log"), dir.0.join("ran"));
    let mut command = Command::new(&installed);
    command.arg0("bkt-hostd").arg("-v").env("XDG_RUNTIME_DIR", &dir.0).env("BKT_LOG_FORMAT", "json").stdin(Stdio::null()).stderr(File::create(&log).unwrap());
    let running = Running::start(&mut command, &socket);
    // The next image says that it can follow when the first of the runs lets it: the others wait in the queue then.
    // It is dash: bash would wait for children that end while it stands in the daemon's place, and nobody would hear of them.
    fs::write(bin.0.join("fresh"), format!("#!/bin/dash\n[ \"$1\" = --check-state ] && read x < {}\nexec {} bkt-hostd \"$@\"\n", fifo.display(), next.display())).unwrap();
    fs::set_permissions(bin.0.join("fresh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(bin.0.join("fresh"), &installed).unwrap();
    let count = 400;
    let connect = |_| support::peer::Peer { channel: bkt::proto::channel::Channel::new(bkt::sys::socket::connect(&socket).unwrap()) };
    let mut runs: Vec<support::peer::Peer> = (0..count).map(connect).collect();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", running.0.id())).unwrap().count() as u64;
    eventually("it has taken all connections", || descriptors() > count);
    running.signal(libc::SIGHUP);
    eventually("the next image is asked", || !support::children(running.0.id()).is_empty());
    // All of them ask at once, then.
    running.signal(libc::SIGSTOP);
    eventually("it is stopped", || state(running.0.id()) == Some('T'));
    let script = format!("echo x >> {0}; [ $1 = 0 ] && timeout 3 sh -c 'echo go > {1}'; exit 0", ran.display(), fifo.display());
    for (n, peer) in (0..).zip(&runs) {
        let args = format!("sh\0-c\0{script}\0sh\0{n}\0");
        peer.say(&support::peer::run(args.as_bytes()), support::peer::op(n + 1));
    }
    running.signal(libc::SIGCONT);
    for peer in &mut runs {
        assert_eq!(peer.exit(), support::peer::SUCCESS);
    }
    assert_eq!(fs::read_to_string(&ran).unwrap().lines().count() as u64, count);
    let log = fs::read_to_string(&log).unwrap();
    if log.contains("did not answer in time") {
        // This machine was too busy to do all that before the next image had to say that it can follow.
        return 0;
    }
    let waiting = log.split("still running, ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    waiting.unwrap_or_else(|| panic!("it has reloaded: {log}"))
}

#[test]
fn a_new_file_under_the_old_name_is_what_a_reload_runs() {
    let bin = TempDir::new();
    let installed = bin.0.join("bkt");
    support::copy_bkt(&installed);
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let log = dir.0.join("log");
    let mut command = Command::new(&installed);
    command.arg0("bkt-hostd").arg("-v").env("XDG_RUNTIME_DIR", &dir.0).env("BKT_LOG_FORMAT", "json").stdin(Stdio::null()).stderr(File::create(&log).unwrap());
    let running = Running::start(&mut command, &socket);
    let exe = || fs::read_link(format!("/proc/{}/exe", running.0.id())).unwrap();
    let errors = || fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains(r#""level":"error""#)).count();
    let replace = |fill: &dyn Fn(&Path)| {
        let fresh = bin.0.join("fresh");
        fill(&fresh);
        fs::rename(&fresh, &installed).unwrap();
    };
    let executable = |path: &Path, content: &[u8], mode: u32| {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut waiting = client(&socket, &["admin", "daemon", "exec", "--", "sh", "-c", "read x; exit 3"]).stdin(Stdio::piped()).spawn().unwrap();
    replace(&|fresh| support::copy_bkt(fresh));
    assert!(exe().to_str().unwrap().ends_with(" (deleted)"));
    let reload = || client(&socket, &["admin", "daemon", "reload"]).output().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let done = format!("reloaded: version {version} -> {version}, 1 command still running\n");
    assert_eq!(stdout(reload()), done);
    assert_eq!(exe(), installed, "the new file runs when that is said");

    // What cannot follow is noticed before the daemon has given itself up.
    type Fill<'a> = &'a dyn Fn(&Path);
    let broken: [(&str, Fill<'_>); 6] = [
        ("a text", &|path| executable(path, b"no program at all\n", 0o755)),
        ("not executable", &|path| executable(path, &fs::read(BKT).unwrap(), 0o644)),
        ("a script that fails", &|path| executable(path, b"#!/bin/sh\nexit 1\n", 0o755)),
        ("a program that succeeds at something else", &|path| assert!(fs::copy("/bin/true", path).unwrap() > 0)),
        ("a truncated copy", &|path| executable(path, &fs::read(BKT).unwrap()[..5000], 0o755)),
        ("a program that does not answer", &|path| executable(path, b"#!/bin/sh\nexec sleep 1000\n", 0o755)),
    ];
    for (n, (what, fill)) in broken.iter().enumerate() {
        replace(fill);
        let refused = reload();
        assert_eq!(refused.status.code(), Some(125), "{what}");
        assert_says(&refused.stderr, "not reloaded: the new binary");
        eventually(&format!("{what}: an error is logged"), || errors() == n + 1);
        assert!(serves(&socket), "{what}");
    }
    // A script in our place that does not become us: the next image would be another process, and the children not its own.
    let elsewhere = TempDir::new();
    let real = elsewhere.0.join("bkt");
    support::copy_bkt(&real);
    replace(&|path| executable(path, format!("#!/bin/sh\n'{}' bkt-hostd \"$@\"\nexit $?\n", real.display()).as_bytes(), 0o755));
    let why = format!("not reloaded: the new binary would be the child of a script, {}, and what runs would be lost; let the script 'exec' it", installed.display());
    support::complaint(&reload(), 125, &format!("{why}; the daemon goes on as it is"));
    assert!(serves(&socket));
    fs::remove_file(&installed).unwrap();
    support::complaint(&reload(), 125, "not reloaded: the new binary cannot be executed: No such file or directory; the daemon goes on as it is");
    eventually("no file: an error is logged", || errors() == broken.len() + 2);
    assert!(serves(&socket));
    eventually("no child is left of it", || support::children(running.0.id()).len() == 1);

    replace(&|fresh| support::copy_bkt(fresh));
    running.signal(libc::SIGHUP);
    eventually("the next good file runs", || exe() == installed);
    drop(waiting.stdin.take());
    assert_eq!(waiting.wait().unwrap().code(), Some(3), "it has run through all of that");
    assert!(client(&socket, &["admin", "daemon", "stop"]).status().unwrap().success());
    assert_eq!(running.end().0.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_daemon_that_ends_while_it_reloads_ends() {
    for _ in 0..10 {
        let dir = TempDir::new();
        let socket = dir.0.join("bkt/host.sock");
        let running = Running::start(&mut daemon(&dir.0), &socket);
        running.signal(libc::SIGHUP);
        running.signal(libc::SIGTERM);
        let (status, said) = running.end();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        assert_eq!(files(&dir.0), Vec::<PathBuf>::new());
    }
}

// ---- the supervisor

/// Words that a supervisor hears, one datagram each.
fn hear(notify: &UnixDatagram) -> String {
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut word = [0; 1024];
    let length = notify.recv(&mut word).expect("a word to the supervisor");
    text(&word[..length])
}

#[test]
fn a_supervisor_is_told_of_readiness_reloads_and_the_end() {
    let dir = TempDir::new();
    let path = dir.0.join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    let host = Host::start_with(|command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let ready = |word: String| {
        assert!(word.lines().any(|l| l == "READY=1") && word.lines().any(|l| l == format!("MAINPID={}", host.pid())), "{word}");
    };
    ready(hear(&notify));
    host.signal_daemon(libc::SIGHUP);
    let reloading = hear(&notify);
    assert!(reloading.lines().any(|l| l == "RELOADING=1"), "{reloading}");
    let stamp: u64 = reloading.lines().find_map(|l| l.strip_prefix("MONOTONIC_USEC=")).unwrap().parse().unwrap();
    assert!(bkt::sys::process::monotonic_us() - stamp < 20_000_000);
    ready(hear(&notify));
    assert_eq!(stdout(host.sh("echo $NOTIFY_SOCKET").output().unwrap()), "\n", "no command hears of it");
    host.signal_daemon(libc::SIGTERM);
    assert!(hear(&notify).contains("STOPPING=1"));
}

/// Fills a supervisor's queue; how many it took.
fn fill(path: &Path) -> usize {
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    (0..).take_while(|_| other.send_to(b"WATCHDOG=1", path).is_ok()).count()
}

#[test]
fn a_supervisor_that_has_no_room_is_not_waited_for_and_told_later() {
    let dir = TempDir::new();
    let (path, socket) = (dir.0.join("notify"), dir.0.join("bkt/host.sock"));
    let notify = UnixDatagram::bind(&path).unwrap();
    let heard_after = |others: usize| {
        (0..others).for_each(|_| drop(hear(&notify)));
        hear(&notify)
    };
    let others = fill(&path);
    assert!(others > 0);
    let running = Running::start(daemon(&dir.0).env("NOTIFY_SOCKET", &path), &socket);
    assert_asleep(running.0.id());
    assert!(heard_after(others).contains("READY=1"));
    let others = fill(&path);
    stdout(client(&socket, &["admin", "daemon", "reload"]).output().unwrap());
    let word = heard_after(others);
    assert!(word.contains("READY=1") || word.contains("RELOADING=1") && hear(&notify).contains("READY=1"), "{word}");
    fill(&path);
    running.signal(libc::SIGTERM);
    let (status, said) = running.end();
    assert!(status.success() && said.is_empty(), "{status}: {said}");
}

#[test]
fn a_reload_that_fails_is_over_for_the_supervisor_too() {
    let dir = TempDir::new();
    let (path, installed, socket) = (dir.0.join("notify"), dir.0.join("bkt-copy"), dir.0.join("bkt/host.sock"));
    let notify = UnixDatagram::bind(&path).unwrap();
    support::copy_bkt(&installed);
    let mut command = Command::new(&installed);
    command.arg0("bkt-hostd").env("XDG_RUNTIME_DIR", &dir.0).env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).stderr(Stdio::null());
    let running = Running::start(&mut command, &socket);
    assert!(hear(&notify).contains("READY=1"));
    fs::remove_file(&installed).unwrap();
    running.signal(libc::SIGHUP);
    assert!(hear(&notify).contains("RELOADING=1"));
    assert!(hear(&notify).contains("READY=1"));
    assert!(serves(&socket));
}

#[test]
fn an_inherited_socket_is_served_and_its_file_left() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    fs::create_dir(socket.parent().unwrap()).unwrap();
    // Blocking, as systemd hands it over.
    let listener = UnixListener::bind(&socket).unwrap();
    let number = listener.as_raw_fd();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("LISTEN_PID=$$ exec {BKT} bkt-hostd")]);
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &dir.0).env("XDG_RUNTIME_DIR", &dir.0).env("LISTEN_FDS", "1").env("BKT_LOG_FORMAT", "text");
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(move || if libc::dup2(number, 3) == 3 && libc::fcntl(3, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) });
    }
    let running = Running::start(&mut command, &socket);
    drop(listener);
    assert_asleep(running.0.id());
    // One after the other: it never waits in accept for the next.
    for _ in 0..3 {
        assert!(serves(&socket));
    }
    assert_eq!(stdout(client(&socket, &["admin", "daemon", "exec", "--", "sh", "-c", "echo $LISTEN_FDS$LISTEN_PID"]).output().unwrap()), "\n");
    let mut elsewhere = client(&socket, &["admin", "daemon", "exec", "--", "pwd"]);
    let gone = dir.0.join("gone");
    fs::create_dir(&gone).unwrap();
    let hidden = elsewhere.current_dir(&gone).env("PWD", "/no/such").stderr(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: one system call between fork and exec: the directory is gone when the client looks.
    unsafe {
        let path = bkt::sys::files::c_path(&gone).unwrap();
        hidden.pre_exec(move || if libc::rmdir(path.as_ptr()) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) });
    }
    let refuge = hidden.output().unwrap();
    assert_eq!((refuge.status.code(), text(&refuge.stdout)), (Some(0), format!("{}\n", dir.0.join("bkt/nowhere").display())), "{}", text(&refuge.stderr));
    running.signal(libc::SIGHUP);
    eventually("it serves after a reload", || serves(&socket));
    running.signal(libc::SIGTERM);
    assert_eq!(running.end().0.code(), Some(0));
    assert!(socket.exists());
}

#[test]
fn sockets_meant_for_another_process_are_not_taken() {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let running = Running::start(daemon(&dir.0).env("LISTEN_FDS", "1").env("LISTEN_PID", "1"), &socket);
    drop(running);
    let output = Command::new("sh").args(["-c", &format!("LISTEN_PID=$$ LISTEN_FDS=1 exec {BKT} bkt-hostd 3</dev/null")]).env("XDG_RUNTIME_DIR", &dir.0).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_says(&output.stderr, "no listening Unix stream socket");
}

// ---- status, log

#[test]
fn status_tells_running_from_stale_from_not_running_and_is_no_operation() {
    let host = Host::start();
    let said = host.log();
    let first = status(&host);
    for _ in 0..5 {
        assert!(host.bkt(["admin", "daemon", "status"]).output().unwrap().status.success());
    }
    let second = status(&host);
    assert_eq!((first["served"].as_u64(), second["served"].as_u64()), (Some(0), Some(0)));
    assert_eq!(host.log(), said, "nothing is logged");
    assert_eq!(second["state"], "running");
    assert_eq!(second["pid"].as_u64(), Some(u64::from(host.pid())));
    assert_eq!(second["socket"].as_str(), host.socket().to_str());
    assert_eq!(second["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert!(second["descriptor_limit"].as_u64() > second["descriptors"].as_u64() && second["descriptors"].as_u64() > Some(3));
    assert!(second["uptime_ms"].as_u64() >= first["uptime_ms"].as_u64());

    let mark = host.dir.0.join("pid");
    let mut run = host.sh(&format!("echo $$ > {}; read x", mark.display())).stdin(Stdio::piped()).env("BKT_OP_ID", "op-123456789abc").spawn().unwrap();
    let pid = number_in(&mark);
    let busy = status(&host);
    assert_eq!(busy["running"].as_array().unwrap().len(), 1);
    let entry = &busy["running"][0];
    assert_eq!(
        (entry["pid"].as_u64(), entry["name"].as_str(), entry["op_id"].as_str(), entry["terminal"].as_bool()),
        (Some(u64::from(pid)), Some("sh"), Some("op-123456789abc"), Some(false))
    );
    let shown = stdout(host.bkt(["admin", "daemon", "status"]).output().unwrap());
    for wanted in ["running, pid", "version 0.", "socket:", "uptime:", "served:  1 operation\n", "running: 1", "op-123456789abc", "sh"] {
        assert!(shown.contains(wanted), "{wanted:?} in {shown}");
    }
    run.kill().unwrap();
    run.wait().unwrap();

    let (dir, nobody) = (TempDir::new(), UnixListener::bind(host.dir.0.join("stale")).unwrap());
    drop(nobody);
    for (socket, code, state, sentence) in [(host.dir.0.join("stale"), 1, "stale", "stale"), (dir.0.join("none"), 3, "not running", "not running")] {
        let plain = client(&socket, &["admin", "daemon", "status"]).output().unwrap();
        assert_eq!(plain.status.code(), Some(code));
        assert_says(&plain.stdout, sentence);
        let json = client(&socket, &["admin", "daemon", "status", "--json"]).output().unwrap();
        assert_eq!(json.status.code(), Some(code));
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((json["state"].as_str(), json["socket"].as_str()), (Some(state), socket.to_str()));
    }
    for command in ["reload", "stop", "test"] {
        let output = client(&dir.0.join("none"), &["admin", "daemon", command]).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{command}");
        assert_says(&output.stderr, "no daemon answers");
        assert_says(&output.stderr, "bkt-hostd");
    }
}

#[test]
fn test_reports_the_round_trip_in_its_parts() {
    let host = Host::start();
    let account = Account::open(&host);
    let plain = stdout(host.bkt(["admin", "daemon", "test"]).output().unwrap());
    assert!(["ok:", "connect", "spawn", "run", "total"].iter().all(|word| plain.contains(word)), "{plain}");
    let json: Value = serde_json::from_str(&stdout(host.bkt(["admin", "daemon", "test", "--json"]).output().unwrap())).unwrap();
    let us = |part: &str| json[part].as_u64().unwrap();
    assert!(us("total_us") >= us("connect_us") && us("total_us") >= us("spawn_us") && us("total_us") > 0 && us("total_us") < 1_000_000);
    account.close(0);
}

/// What a daemon logs at some settings, after a few operations of every kind.
fn logged(args: &[&str], env: &[(&str, &str)]) -> String {
    let dir = TempDir::new();
    let socket = dir.0.join("bkt/host.sock");
    let log = dir.0.join("log");
    let mut command = daemon(&dir.0);
    command.args(args).envs(env.iter().copied()).env("SERVERS_SECRET", "hunter-two").stderr(File::create(&log).unwrap());
    let running = Running::start(&mut command, &socket);
    let exec = |options: &[&str], args: &[&str]| {
        let all = [&["admin", "daemon", "exec"], options, &["--"], args].concat();
        client(&socket, &all).env("CALLERS_SECRET", "hunter-three").env("BKT_OP_ID", "op-00000000feed").output().unwrap()
    };
    assert_eq!(exec(&["--env", "SET_SECRET=hunter-four"], &["sh", "-c", "exit 3", "argument-five\n\u{1b}[31m"]).status.code(), Some(3));
    assert_eq!(exec(&[], &["no-such-command"]).status.code(), Some(127));
    assert_eq!(exec(&["--cwd", "/no/such"], &["true"]).status.code(), Some(125));
    assert_eq!(exec(&[], &["sh", "-c", "kill -9 $$"]).status.signal(), Some(9));
    running.signal(libc::SIGHUP);
    eventually("it serves after a reload", || serves(&socket));
    running.signal(libc::SIGTERM);
    assert_eq!(running.end().0.code(), Some(0));
    fs::read_to_string(log).unwrap()
}

#[test]
fn the_log_says_what_was_asked_for_and_never_an_environment() {
    let json = ("BKT_LOG_FORMAT", "json");
    // Nothing went wrong on the daemon's side: by default there is nothing to say.
    assert_eq!(logged(&[], &[json]), "");
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], bool);
    let table: [Row<'_>; 5] = [
        (&["-v"], &[json], false),
        (&["-vv"], &[json], true),
        (&["-v", "-v"], &[json], true),
        (&[], &[json, ("BKT_LOG", "info")], false),
        (&[], &[json, ("BKT_LOG", "debug")], true),
    ];
    for (args, env, with_arguments) in table {
        let log = logged(args, env);
        assert!(!log.contains("hunter"), "an environment in {log}");
        assert_eq!(log.contains("argument-five"), with_arguments, "{log}");
        let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
        for record in &records {
            assert!(["time", "level", "message"].iter().all(|key| record[key].is_string()), "{record}");
            // All but the daemon's own story is about an operation.
            let own = ["version ", "reload", "end"].iter().any(|word| record["message"].as_str().unwrap().starts_with(word));
            assert!(own || record["op_id"].as_str().is_some_and(|op| op.starts_with("op-")), "{record}");
        }
        let about_ours = records.iter().filter(|r| r["op_id"] == "op-00000000feed");
        assert_eq!(about_ours.clone().filter(|r| r["level"] == "info").count(), 4, "a line for each operation: {log}");
    }
    let plain = logged(&["-vv"], &[("BKT_LOG_FORMAT", "text")]);
    assert!(plain.contains("(op-00000000feed)") && !plain.contains("hunter") && !plain.contains('\u{1b}') && !plain.starts_with('{'), "{plain}");

    let dir = TempDir::new();
    let output = daemon(&dir.0).env("BKT_LOG_FORMAT", "yaml").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_says(&output.stderr, "'text' or 'json'");
}

// ---- load, sleep, death

#[test]
fn a_thousand_commands_at_once_all_end_rightly_and_none_waits_for_another() {
    support::peer::raise_descriptor_limit(6_000);
    let host = Host::start();
    let account = Account::open(&host);
    let go = host.dir.0.join("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    // A slow one first: nobody behind it waits for it.
    let mut slow = host.sh("sleep 3; exit 2").spawn().unwrap();
    let begun = Instant::now();
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(slow.try_wait().unwrap().is_none());

    // All of them are there at one time: each waits for the same word.
    let all: Vec<Child> = (0..1_000).map(|n| host.exec(["sh", "-c", &format!("read x < {}; exit {}", go.display(), n % 256)]).spawn().unwrap()).collect();
    eventually("a thousand commands run", || status(&host)["running"].as_array().unwrap().iter().filter(|r| r["name"] == "sh").count() >= 1_000);
    let begun = Instant::now();
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let word = File::options().read(true).write(true).open(&go).unwrap();
    (&word).write_all("go\n".repeat(1_000).as_bytes()).unwrap();
    for (n, mut child) in all.into_iter().enumerate() {
        assert_eq!(child.wait().unwrap().code(), Some(n as i32 % 256));
    }
    assert_eq!(slow.wait().unwrap().code(), Some(2));
    account.close(0);
}

#[test]
fn an_idle_daemon_never_wakes_up_with_or_without_commands() {
    let host = Host::start();
    assert!(host.sh("true").status().unwrap().success());
    let quiet = |what: &str| {
        std::thread::sleep(Duration::from_millis(50));
        let before = support::peer::wakeups(host.pid());
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(support::peer::wakeups(host.pid()), before, "{what}");
    };
    quiet("without commands");
    let mark = host.dir.0.join("mark");
    let mut plain = host.sh(&format!("echo 1 > {}; sleep 100", mark.display())).spawn().unwrap();
    number_in(&mark);
    let mut terminal = Terminal::run(&mut host.sh("echo ready; sleep 100"));
    terminal.expect("ready");
    eventually("both are past their start", || status(&host)["running"].as_array().unwrap().len() == 2);
    quiet("with commands");
    host.signal_daemon(libc::SIGHUP);
    reloaded(&host, 1);
    quiet("after a reload");
    let resident = support::peer::resident_kib(host.pid());
    assert!(resident < 4 << 10, "{resident} KiB");
    plain.kill().unwrap();
    plain.wait().unwrap();
}

#[test]
fn a_stopped_daemon_ends_its_clients_in_time_and_runs_nothing_for_them_later() {
    let host = Host::start();
    let account = Account::open(&host);
    let mark = host.dir.0.join("ran");
    host.signal_daemon(libc::SIGSTOP);
    eventually("it is stopped", || state(host.pid()) == Some('T'));
    let begun = Instant::now();
    // Files: a pipe that is on its way to the daemon stays open until the daemon takes it, or is gone.
    let said = |n: usize| host.dir.0.join(format!("said-{n}"));
    let client = |n: usize| host.exec(["touch", mark.to_str().unwrap()]).stdout(Stdio::null()).stderr(File::create(said(n)).unwrap()).spawn().unwrap();
    let clients: Vec<Child> = (0..3).map(client).collect();
    let asked = host.bkt(["admin", "daemon", "status"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(125));
    assert_says(&asked.stderr, "has not answered within 2 s");
    for (n, mut client) in clients.into_iter().enumerate() {
        assert_eq!(client.wait().unwrap().code(), Some(125));
        let said = fs::read(said(n)).unwrap();
        assert_says(&said, "has not answered within 2 s");
        assert_says(&said, "(op-");
    }
    assert!((1_500..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    host.signal_daemon(libc::SIGCONT);
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    pty::moment();
    assert!(!mark.exists(), "their callers had gone");
    account.close(0);
}

#[test]
fn a_daemon_that_dies_ends_its_clients_at_once_and_hangs_up_on_their_commands() {
    let mut host = Host::start();
    let mark = |name: &str| host.dir.0.join(name);
    let script = |name: &str| format!("echo $$ > {}; exec sleep 100", mark(name).display());
    let said = mark("said");
    let mut to_file = host.sh(&script("a")).stderr(File::create(&said).unwrap()).spawn().unwrap();
    // The other end of the pipe stays ours, so that there is still somebody to write to when the command has died.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut to_pipe = host.sh(&script("b")).stderr(writer.try_clone().unwrap()).spawn().unwrap();
    let mut terminal = Terminal::run(&mut host.sh(&script("c")));
    let detached = script("d");
    assert!(host.bkt(["admin", "daemon", "exec", "--detach", "--", "sh", "-c", &detached]).status().unwrap().success());
    let pids = ["a", "b", "c", "d"].map(|name| number_in(&mark(name)));
    for client in [to_file.id(), to_pipe.id()] {
        eventually("the client knows that its command runs: it has closed its copies", || fs::read_link(format!("/proc/{client}/fd/2")).is_err());
    }
    eventually("the client has lent the terminal", || !terminal.is_cooked());
    host.daemon.kill().unwrap();
    let begun = Instant::now();
    host.daemon.wait().unwrap();
    assert_eq!(to_file.wait().unwrap().code(), Some(125));
    assert_eq!(to_pipe.wait().unwrap().code(), Some(125));
    assert_eq!(terminal.wait().code(), Some(125));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    drop(writer);
    let mut piped = Vec::new();
    reader.read_to_end(&mut piped).unwrap();
    for said in [fs::read(&said).unwrap(), piped, terminal.shown.clone()] {
        assert_says(&said, "the daemon died while the command ran");
        assert_says(&said, "(op-");
    }
    assert!(terminal.is_cooked());
    for pid in &pids[..3] {
        eventually("its command is hung up on", || !lives(*pid));
    }
    assert!(lives(pids[3]), "a detached command survives");
    kill(pids[3], libc::SIGKILL);
}

#[test]
fn a_monitor_that_is_killed_takes_its_command_with_it_and_says_so() {
    let host = Host::start();
    let account = Account::open(&host);
    for script in ["trap '' HUP; echo ready $$; while :; do sleep 0.05; done", "echo ready $$; sleep 100"] {
        let mut terminal = Terminal::run(&mut host.sh(script));
        terminal.expect("ready ");
        let command: u32 = terminal.expect("\r\n").trim().parse().unwrap();
        let monitor: u32 = support::stat_field(command, 1).unwrap().parse().unwrap();
        assert_ne!(monitor, host.pid());
        kill(monitor, libc::SIGKILL);
        let end = terminal.wait();
        assert_eq!(end.code(), Some(125), "{}", terminal.rest());
        assert_says(&terminal.shown, "monitor");
        assert!(terminal.is_cooked());
        eventually("the command is ended too", || !lives(command));
    }
    eventually("both are forgotten", || status(&host)["running"].as_array().unwrap().is_empty());
    account.close(0);
}

/// What an emulator of another architecture's programs (qemu's) answers to a child that is to have our memory and is no thread.
fn refuse_children_in_our_memory() -> std::io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, is, has, done) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_JMP | libc::BPF_JSET, libc::BPF_RET);
    // Of seccomp_data: the call's number, and the lower half of its first argument.
    let mut program = [
        step(load, 0, 0, 0),
        step(is, 0, 3, libc::SYS_clone as u32),
        step(load, 0, 0, 16),
        step(has, 0, 1, libc::CLONE_VM as u32),
        step(done, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        step(done, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a filter of that length; the kernel copies it.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[test]
fn a_command_runs_where_no_child_can_share_the_daemons_memory() {
    let host = Host::start_with(|daemon| {
        // SAFETY: two system calls between fork and exec.
        unsafe { daemon.pre_exec(refuse_children_in_our_memory) };
    });
    for _ in 0..50 {
        assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    }
    assert_eq!(host.exec(["no-such-command"]).status().unwrap().code(), Some(127));
    let at_a_terminal = host.bkt(["admin", "daemon", "exec", "--pty", "--", "sh", "-c", "exit 8"]).status().unwrap();
    assert_eq!(at_a_terminal.code(), Some(8));
    // The monitor ends after its last word.
    eventually("everybody is waited for", || host.zombies() == 0);
}

// ---- the names

/// Starts the binary with exactly these arguments, none of them added: `argv[0]` too may be missing.
fn bare(args: &[&str]) -> (ExitStatus, String, String) {
    let dir = TempDir::new();
    let (out, err) = (dir.0.join("out"), dir.0.join("err"));
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let program = std::ffi::CString::new(BKT).unwrap();
    let args: Vec<std::ffi::CString> = args.iter().map(|a| std::ffi::CString::new(*a).unwrap()).collect();
    // SAFETY: only a system call between fork and exec; vectors are null-terminated and built from strings that live on.
    unsafe {
        command.pre_exec(move || {
            let mut argv = [std::ptr::null(); 8];
            for (to, from) in argv.iter_mut().zip(&args) {
                *to = from.as_ptr();
            }
            libc::execve(program.as_ptr(), argv.as_ptr(), [std::ptr::null()].as_ptr());
            Err(std::io::Error::last_os_error())
        });
    }
    let status = command.status().unwrap();
    (status, fs::read_to_string(out).unwrap(), fs::read_to_string(err).unwrap())
}

#[test]
fn an_empty_argv_and_an_empty_name_are_no_crash() {
    for args in [&[][..], &[""], &["/"], &["-"]] {
        let (status, out, err) = bare(args);
        assert_eq!((status.code(), out.as_str()), (Some(125), ""), "{args:?}: {err}");
        assert!(err.contains("Usage: bkt") && err.contains("no command given"), "{args:?}: {err}");
    }
}

#[test]
fn the_names_of_the_executable() {
    let version = format!("bkt {}\n", env!("CARGO_PKG_VERSION"));
    // Standard output of each, all of which succeed.
    let table: [(&[&str], &[&str]); 10] = [
        (&["bkt", "--version"], &[&version]),
        (&["bkt", "-V"], &[&version]),
        (&["bkt-hostd", "--version"], &[&version]),
        (&["bkt", "bkt-hostd", "--version"], &[&version]),
        (&["/any/where/bkt", "--help"], &["Usage: bkt", "--install DIR", "125"]),
        (&["bkt", "bkt-hostd", "--help"], &["Usage: bkt-hostd", "BKT_LOG"]),
        (&["bkt-hostd", "-h"], &["Usage: bkt-hostd"]),
        (&["bkt", "admin", "daemon", "run", "--help"], &["Usage: bkt-hostd"]),
        (&["bkt", "admin", "daemon", "exec", "--help"], &["--unset-env", "--detach", "--fd N"]),
        (&["bkt", "--list"], &["bkt ", "bkt-hostd ", "systemctl ", "flatpak ", "bootc "]),
    ];
    for (args, wanted) in table {
        let (status, out, err) = bare(args);
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{args:?}");
        assert!(wanted.iter().all(|w| out.contains(w)), "{args:?}: {out}");
    }
    for args in [&["bkt", "nonsense"][..], &["bkt", "--nonsense"], &["bkt"], &["bkt", "admin"], &["bkt", "admin", "daemon"], &["bkt", "admin", "daemon", "x"], &["bkt-hostd", "x"]]
    {
        let (status, out, err) = bare(args);
        assert_eq!((status.code(), out.as_str()), (Some(125), ""), "{args:?}");
        assert!(err.lines().last().unwrap().contains("(op-"), "{args:?}: {err}");
    }
}

#[test]
fn help_is_had_of_every_command_where_there_is_no_daemon() {
    let bkt = |words: &[&str]| client(Path::new("/no/such/socket"), words).env("PATH", "/nowhere").output().unwrap();
    for (command, own) in [
        ("status", "bkt runs the host's commands"),
        ("admin daemon stop", "bkt runs the host's commands"),
        ("admin daemon run", "Usage: bkt-hostd"),
        ("admin daemon exec", "Usage: bkt admin daemon exec"),
        ("admin daemon uninstall", "Usage: bkt admin daemon install"),
        ("admin system status", "Usage: bkt admin system"),
        ("doctor", "Usage: bkt doctor"),
        ("enter dev", "Usage: bkt enter"),
        ("log -f", "Usage: bkt log"),
        ("man", "Usage: bkt man"),
        ("shim add", "Usage: bkt shim COMMAND"),
        ("shim init", "Usage: bkt shim init"),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let shown = stdout(bkt(&[&["help"], &words[..]].concat()));
        assert!(shown.starts_with(own), "{command}: {shown}");
        for option in ["--help", "-h"] {
            assert_eq!(stdout(bkt(&[&words[..], &[option]].concat())), shown, "{command} {option}");
        }
    }
    // Another command's is that command's.
    for words in [&["enter", "dev", "--", "ls", "--help"][..], &["admin", "daemon", "exec", "--", "ls", "-h"], &["man", "ls", "--help"]] {
        let output = bkt(words);
        assert!(output.status.code() == Some(125) && text(&output.stderr).contains("/no/such/socket"), "{words:?}: {output:?}");
    }
}

#[test]
fn a_shims_name_as_first_argument_is_that_shim() {
    let host = Host::start_with(|command| {
        let path = command.get_envs().find(|(k, _)| *k == OsStr::new("PATH")).unwrap().1.unwrap().to_str().unwrap().to_string();
        let home = command.get_envs().find(|(k, _)| *k == OsStr::new("HOME")).unwrap().1.unwrap().to_str().unwrap().to_string();
        let bin = Path::new(&home).join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("systemctl"), "#!/bin/sh\necho systemctl ran with \"$@\"\nexit 4\n").unwrap();
        fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        command.env("PATH", format!("{}:{path}", bin.display()));
    });
    // The daemon's root is ours too, so both are the real command, here by PATH and there by the daemon's.
    let path = format!("{}:{}", host.dir.0.join("bin").display(), std::env::var("PATH").unwrap());
    let output = host.bkt(["systemctl", "--user", "--help"]).env("PATH", path).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), "systemctl ran with --user --help\n".into()), "{}", text(&output.stderr));
}

#[test]
fn install_makes_links_twice_the_same_and_never_replaces_a_foreign_file() {
    let dir = TempDir::new();
    let shims = dir.0.join("a/b");
    let install = || Command::new(BKT).arg0("bkt").arg("--install").arg(&shims).output().unwrap();
    let listing = || {
        let mut all: Vec<_> = fs::read_dir(&shims).unwrap().flatten().map(|e| (e.file_name(), fs::read_link(e.path()).ok(), inode(&e.path()))).collect();
        all.sort();
        all
    };
    assert_says(stdout(install()).as_bytes(), "new or moved");
    let first = listing();
    let own = fs::canonicalize(BKT).unwrap();
    assert!(first.len() > 3 && first.iter().all(|(_, link, _)| link.as_deref() == Some(own.as_path())), "{first:?}");
    assert_says(stdout(install()).as_bytes(), "; 0 new or moved");
    assert_eq!(listing(), first, "the second time changes nothing");

    // A link to a bkt that was elsewhere is moved to this one.
    fs::remove_file(shims.join("systemctl")).unwrap();
    symlink("/old/place/bkt", shims.join("systemctl")).unwrap();
    assert_says(stdout(install()).as_bytes(), "; 1 new or moved");
    assert_eq!(fs::read_link(shims.join("systemctl")).unwrap(), own);

    type Make<'a> = &'a dyn Fn(&Path);
    let foreign: [(&str, Make<'_>); 4] = [
        ("a file", &|path| fs::write(path, "mine").unwrap()),
        ("a link to something else", &|path| symlink("/bin/systemctl", path).unwrap()),
        ("a link to nowhere", &|path| symlink("nowhere", path).unwrap()),
        ("a directory", &|path| fs::create_dir(path).unwrap()),
    ];
    for (what, make) in foreign {
        let path = shims.join("systemctl");
        let _ = fs::remove_file(&path);
        fs::remove_file(shims.join("bootc")).unwrap();
        make(&path);
        let before = listing();
        let output = install();
        assert_eq!(output.status.code(), Some(125), "{what}");
        assert_says(&output.stderr, "nothing was changed");
        assert_eq!(listing(), before, "{what}: nothing was changed, nothing was added");
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        assert!(install().status.success());
    }
    assert!(files(&dir.0).iter().all(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')), "no temporary name is left");
}

#[test]
fn warnings_are_not_part_of_a_normal_day() {
    let host = Host::start();
    for script in ["exit 0", "exit 3", "kill -TERM $$", "kill -CONT $$; exit 0", "echo x; exec sleep 0"] {
        let _ = host.sh(script).output().unwrap();
        let mut terminal = Terminal::run(&mut host.sh(script));
        let _ = terminal.wait();
    }
    // A stop, and that its caller goes on: nobody does before everybody has stopped.
    for terminal in ["--no-pty", "--pty"] {
        let mut client = host.bkt(["admin", "daemon", "exec", terminal, "--", "sh", "-c", "kill -STOP $$; exit 5"]).spawn().unwrap();
        eventually("the client has stopped with its command", || state(client.id()) == Some('T'));
        kill(client.id(), libc::SIGCONT);
        assert_eq!(client.wait().unwrap().code(), Some(5), "{terminal}");
    }
    host.signal_daemon(libc::SIGHUP);
    reloaded(&host, 1);
    assert_eq!(warnings(&host), Vec::<String>::new());
}
