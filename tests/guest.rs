//! The guest daemon's life: how a container starts with it, what it makes there and takes away again, how it finds, keeps and
//! loses its host. The host is a real one, or one of the tests' own making that says what it wants.
#![allow(unsafe_code)]

mod support;
use bkt::proto::message::{self, kind};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::boxed::{self, Boxed, FakeHost, Guest, enter, find_below, is_listed};
use support::peer::{assert_asleep, assert_says};
use support::pty::Terminal;
use support::{Client, Host, TempDir, children, complaint, eventually, kill, lives, number_in, state, status_field, stdout, text};

/// A directory in which no daemon listens.
fn nobody() -> TempDir {
    let dir = TempDir::new();
    fs::create_dir(dir.0.join("bkt")).unwrap();
    dir
}

// ---- the start of a container

#[test]
fn the_command_starts_at_once_whether_or_not_a_host_answers() {
    let host = Host::start();
    let nobody = nobody();
    for boxed in [Boxed::of(&host), Boxed::new(&nobody.0)] {
        // It sees the daemon that still looks for its host: three attempts take a second.
        let script = "echo args \"$@\"; while ! ps | grep -q '[b]kt-guest --daemon'; do :; done; echo there; exit 7";
        let output = boxed.command(&["/bin/bkt-guest", "--entry", "--name", "dev", "sh", "-c", script, "sh", "a b", "", "--name"]).output().unwrap();
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("args a b  --name\nthere\n", Some(7)), "{}", text(&output.stderr));
    }
}

#[test]
fn the_command_ends_as_it_would_have_and_a_missing_one_is_said_to_be_missing() {
    let nobody = nobody();
    let boxed = Boxed::new(&nobody.0);
    boxed.script("/bin/broken", "#!/no/such/interpreter\n");
    for (command, code) in [(&["sh", "-c", "exit 255"][..], 255), (&["false"], 1), (&["no-such-command"], 127), (&["/no/such/path"], 127), (&["/etc"], 126), (&["broken"], 126)] {
        let output = boxed.command(&[&["/bin/bkt-guest", "--entry", "--name", "dev"][..], command].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {}", text(&output.stderr));
        if (126..128).contains(&code) {
            complaint(&output, code, command[0]);
        }
    }
}

#[test]
fn without_a_command_it_is_a_login_shell() {
    let nobody = nobody();
    let boxed = || Boxed::new(&nobody.0);
    let name_of = |boxed: Boxed| {
        let mut child = boxed.command(&["/bin/bkt-guest", "--entry", "--name", "dev"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"echo $0; exit 5\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(name_of(boxed().with("SHELL", "/bin/ash")), "-ash\n");
    assert_eq!(name_of(boxed().with("SHELL", "/no/such/shell")), "-sh\n");
    assert_eq!(name_of(boxed()), "-sh\n");
    let with_bash = boxed();
    with_bash.script("/bin/bash", "#!/bin/sh\nread line; echo this is bash; exit 5\n");
    assert_eq!(name_of(with_bash), "this is bash\n");
}

#[test]
fn a_login_shell_at_a_terminal_has_job_control() {
    let host = Host::start();
    let boxed = Boxed::of(&host);
    let mut terminal = Terminal::run(boxed.command(&["/bin/bkt-guest", "--entry", "--name", "dev"]).env("TERM", "xterm"));
    terminal.expect("$ ");
    terminal.send("echo $0 $(tty)\r");
    terminal.expect("-sh /dev/");
    eventually("the guest is there", || is_listed(&host, "dev"));
    terminal.send("sleep 1000\r");
    find_below(terminal.child.id(), "sleep");
    terminal.send("\x03");
    terminal.expect("$ ");
    terminal.send("echo status $?; exit 6\r");
    terminal.expect("status 130");
    assert_eq!(terminal.wait().code(), Some(6));
    eventually("the container has gone, and its guest with it", || !is_listed(&host, "dev"));
}

#[test]
fn the_daemon_is_detached_and_nobodys_child_but_process_1s() {
    let host = Host::start();
    let boxed = Boxed::of(&host);
    let mut child = boxed.command(&["/bin/bkt-guest", "--entry", "--name", "dev", "sleep", "1000"]);
    support::caller::by_itself(&mut child);
    let mut child = Client(child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    eventually("the guest is there", || is_listed(&host, "dev"));
    let (daemon, command) = (find_below(child.id(), "bkt"), find_below(child.id(), "sleep"));
    for number in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{daemon}/fd/{number}")).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(fs::read_link(format!("/proc/{daemon}/cwd")).unwrap().to_str(), Some("/"));
    assert_ne!(support::stat_field(daemon, 3), support::stat_field(command, 3), "its session is its own");
    assert!(children(command).is_empty(), "the command has no child that it knows nothing of");
    assert_eq!(status_field(command, "SigIgn").unwrap(), "0000000000000000");
    assert_eq!(status_field(command, "SigBlk").unwrap(), "0000000000000000");
    kill(daemon, libc::SIGTERM);
    eventually("it has ended and was waited for", || state(daemon).is_none());
    assert!(lives(command));
    let _ = child.kill();
}

#[test]
fn the_command_finds_the_links_first_in_its_path() {
    let host = Host::start();
    let boxed = Boxed::of(&host);
    let output = boxed.command(&["/bin/bkt-guest", "--entry", "--name", "dev", "sh", "-c", "echo $PATH"]).output().unwrap();
    assert_eq!(stdout(output), "/run/bkt/bin:/bin\n");
}

#[test]
fn what_is_wrong_with_the_daemon_does_not_keep_the_command_from_starting() {
    let nobody = nobody();
    let boxed = Boxed::new(&nobody.0);
    // Files where the directories for its links would be.
    for path in ["/run/bkt", "/run/user"] {
        fs::write(boxed.path(path), "").unwrap();
    }
    let output = boxed.command(&["/bin/bkt-guest", "--entry", "sh", "-c", "exit 3"]).output().unwrap();
    complaint(&output, 3, "/bin: Not a directory");
    let usage = boxed.command(&["/bin/bkt-guest"]).output().unwrap();
    complaint(&usage, 125, "--entry or --daemon");
}

// ---- the hello

#[test]
fn the_hello_says_version_name_and_wanted_capabilities() {
    let host = FakeHost::new();
    let _guest = host.boxed().guest("dev", &[]);
    let mut peer = host.accept();
    let said = peer.expect(kind::Serve);
    let serve: message::Serve<'_> = message::decode(&said.body).unwrap();
    assert_eq!((serve.hello.release, serve.hello.container.0, serve.returns), (env!("CARGO_PKG_VERSION"), &b"dev"[..], false));
    assert_eq!(serve.hello.capabilities, ["host_exec", "notify", "xdg_open", "clipboard"]);
}

#[test]
fn the_name_comes_from_the_runtime_and_only_at_last_from_the_environment() {
    let host = FakeHost::new();
    let name_of = |boxed: Boxed| {
        let mut command = boxed.command(&["/bin/bkt-guest", "--daemon"]);
        let _guest = Client(command.stderr(Stdio::null()).spawn().unwrap());
        let said = host.accept().expect(kind::Serve);
        text(message::decode::<message::Serve<'_>>(&said.body).unwrap().hello.container.0)
    };
    let written = host.boxed().with("CONTAINER_ID", "claimed");
    fs::write(written.path("/run/.containerenv"), "engine=\"podman-4.3.1\"\nname=\"written\"\n").unwrap();
    assert_eq!(name_of(written), "written");
    assert_eq!(name_of(host.boxed().with("CONTAINER_ID", "claimed")), "claimed");
}

#[test]
fn a_difference_in_version_is_one_warning_that_names_both_and_the_remedy() {
    for (handed_down, said) in [(Some("9.8.7"), "9.8.7"), (None, "9.8.7"), (Some("9.8.7"), env!("CARGO_PKG_VERSION"))] {
        let host = FakeHost::new();
        let boxed = host.boxed();
        let boxed = handed_down.into_iter().fold(boxed, |boxed, release| boxed.with("BKT_HOST_VERSION", release));
        let guest = boxed.guest("dev", &[]);
        let mut peer = host.accept();
        peer.expect(kind::Serve);
        peer.say(&message::HelloAnswer { release: said, accepted: vec![], rejected: vec![] }, None);
        boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
        let warnings: Vec<String> = guest.log().lines().filter(|line| line.contains("WARN")).map(str::to_string).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("9.8.7") && warnings[0].contains(env!("CARGO_PKG_VERSION")) && warnings[0].contains("install the same bkt"), "{warnings:?}");
    }
}

/// Commands that are meant for a container go to whoever has its name: who has it, the host sees by itself.
#[test]
fn a_name_is_given_to_the_container_that_has_it_and_to_nobody_else() {
    let host = Host::start();
    let refused = |mut command: Command, sentence: &str| complaint(&command.output().unwrap(), 125, sentence);
    let guest = |name: &'static str| ["/bin/bkt-guest", "--daemon", "--name", name];
    let boxed = Boxed::of(&host);
    let bank = Client(boxed.named("bank", &["/bin/sleep", "1000"]).spawn().unwrap());
    eventually("bank runs", || children(bank.0.id()).iter().any(|child| !children(*child).is_empty()));
    refused(boxed.named("teller", &guest("bank")), "this is the container teller, as the host sees it, and not bank; start it with --name teller");
    // A conmon of the container's own makes nothing of it.
    let fake = ["/conmon", "-c", boxed::ID, "-n", "bank", "/bin/bkt-guest", "--daemon", "--name", "bank"];
    refused(boxed.named("teller", &fake), "this is the container teller, as the host sees it, and not bank");
    // Nor does a user namespace with the host's root, or the host itself.
    let taken = "bank is a container that runs here, and this is not in it; take another name";
    refused(boxed.command(&guest("bank")), taken);
    for namespaces in [&["--dev-bind"][..], &["--unshare-user", "--dev-bind"]] {
        let mut here = Command::new("bwrap");
        here.args(namespaces).args(["/", "/", "--tmpfs", "/run", support::BKT, "bkt-guest", "--daemon", "--name", "bank"]);
        here.env("BKT_SOCKET", host.socket()).env("BKT_LOG_FORMAT", "text");
        refused(here, taken);
    }
    assert!(!is_listed(&host, "bank") && !is_listed(&host, "teller"));
    // By its id it is the same container, and without a name as well.
    for claim in [&["--name", &boxed::ID[..12]][..], &[]] {
        let mut guest = boxed.named("teller", &[&["/bin/bkt-guest", "--daemon"], claim].concat());
        let _guest = Client(guest.stderr(Stdio::null()).spawn().unwrap());
        eventually("teller is there", || is_listed(&host, "teller"));
        drop(_guest);
        eventually("teller has gone", || !is_listed(&host, "teller"));
    }
}

#[test]
fn a_sandbox_that_nobody_has_named_says_its_name_and_gives_way_to_the_container_of_that_name() {
    let host = Host::start();
    let mut sandbox = Boxed::of(&host).guest("vault", &["--reconnect"]).ready(&host);
    assert_eq!(stdout(enter(&host, "vault", ["sh", "-c", "echo $INSIDE"]).output().unwrap()), "yes\n");
    let boxed = Boxed::of(&host).with("INSIDE", "itself");
    let mut itself = boxed.named("vault", &["/bin/bkt-guest", "--daemon"]);
    let _itself = Client(itself.stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(sandbox.wait().code(), Some(125), "it does not come back");
    assert_says(sandbox.log().as_bytes(), "the container vault itself has a guest daemon now; take another name");
    assert_eq!(stdout(enter(&host, "vault", ["sh", "-c", "echo $INSIDE"]).output().unwrap()), "itself\n");
}

// ---- what it makes, and takes away

/// The names in the directory of links.
fn links(boxed: &Boxed) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(boxed.path("/run/bkt/bin")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn there_are_links_for_exactly_what_is_granted_and_a_later_hello_takes_lost_ones_back() {
    let host = FakeHost::new();
    let guest = host.boxed().guest("dev", &["--reconnect"]);
    let clipboard = ["bkt-clipboard", "pbcopy", "pbpaste", "podbox-clipboard", "wl-copy", "wl-paste", "xclip", "xsel"];
    let table: [(&[&str], Vec<&str>); 5] = [
        (&["notify", "xdg_open"], vec!["notify-send", "xdg-open"]),
        (&["clipboard"], clipboard.to_vec()),
        (&[], vec![]),
        (&["host_exec", "notify"], vec!["host-exec", "notify-send"]),
        (&["teleport"], vec![]),
    ];
    for (granted, names) in table {
        let mut peer = host.welcome(granted);
        boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
        assert_eq!(links(&guest.boxed), names, "{granted:?}");
        for name in names {
            assert_eq!(fs::read_link(guest.boxed.path("/run/bkt/bin").join(name)).unwrap().to_str(), Some("/bin/bkt"));
        }
    }
}

#[test]
fn a_file_in_the_place_of_a_link_that_is_not_ours_is_left_alone() {
    let host = FakeHost::new();
    let boxed = host.boxed();
    fs::create_dir_all(boxed.path("/run/bkt/bin")).unwrap();
    std::os::unix::fs::symlink("/opt/own-notify", boxed.path("/run/bkt/bin/notify-send")).unwrap();
    let mut guest = boxed.guest("dev", &[]);
    let mut peer = host.welcome(&["notify", "xdg_open"]);
    boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
    assert_says(guest.log().as_bytes(), "notify-send: leads to /opt/own-notify");
    drop(peer);
    assert!(guest.wait().success());
    assert_eq!(links(&guest.boxed), ["notify-send"]);
}

#[test]
fn login_shells_fish_and_systemd_are_told_of_the_links_each_where_it_is_at_home() {
    let host = FakeHost::new();
    let guest = host.boxed().guest("dev", &[]);
    let mut peer = host.welcome(&["notify"]);
    boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
    let read = |path: &str| fs::read_to_string(guest.boxed.path(path)).unwrap();
    assert!(read("/etc/environment.d/90-bkt.conf").ends_with("\nPATH=/run/bkt/bin:$PATH\n"));
    assert!(read("/etc/fish/conf.d/bkt.fish").contains("set -gx PATH /run/bkt/bin $PATH"));
    for (before, after) in [("/bin", "/run/bkt/bin:/bin"), ("/bin:/run/bkt/bin", "/bin:/run/bkt/bin")] {
        let script = "PATH=$1; . /etc/profile.d/zz-bkt.sh; echo $PATH";
        assert_eq!(stdout(guest.boxed.command(&["/bin/sh", "-c", script, "sh", before]).output().unwrap()), format!("{after}\n"));
    }
    let bare = host.boxed();
    for directory in ["/etc/profile.d", "/etc/environment.d", "/etc/fish"] {
        fs::remove_dir(bare.path(directory)).unwrap();
    }
    let bare = bare.guest("bare", &[]);
    let mut other = host.welcome(&["notify"]);
    boxed::ask(&mut other, &message::Ping {}, kind::Pong);
    assert_eq!(fs::read_dir(bare.boxed.path("/etc")).unwrap().count(), 0, "nobody is at home");
}

#[test]
fn whatever_ends_it_nothing_is_left_behind() {
    type End = fn(&Guest, support::peer::Peer) -> Option<support::peer::Peer>;
    let ends: [(&str, End); 4] = [
        ("Shutdown", |_, peer| {
            peer.say(&message::Shutdown {}, None);
            Some(peer)
        }),
        ("the end of the link", |_, _| None),
        ("SIGTERM", |guest, peer| {
            kill(guest.pid(), libc::SIGTERM);
            Some(peer)
        }),
        ("SIGINT", |guest, peer| {
            kill(guest.pid(), libc::SIGINT);
            Some(peer)
        }),
    ];
    for (what, end) in ends {
        let host = FakeHost::new();
        let boxed = host.boxed();
        let before = boxed.traces();
        let mut guest = boxed.guest("dev", &[]);
        let mut peer = host.welcome(&["notify", "clipboard"]);
        boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
        assert!(guest.boxed.traces().len() > before.len() + 10, "there is something to leave");
        let peer = end(&guest, peer);
        assert_eq!(guest.wait().code(), Some(0), "{what}");
        drop(peer);
        assert_eq!(guest.boxed.traces(), before, "{what}");
    }
}

#[test]
fn where_run_cannot_be_written_the_links_are_below_the_runtime_directory() {
    let host = FakeHost::new();
    let runtime = TempDir::new();
    let boxed = host.boxed().share(&runtime.0, "/user").with("XDG_RUNTIME_DIR", "/user").with("BKT_SOCKET", "/run/host-user/bkt/host.sock");
    // A file where the directory would be: not even root makes one there.
    fs::write(boxed.path("/run/bkt"), "").unwrap();
    let mut guest = boxed.guest("dev", &[]);
    let mut peer = host.welcome(&["notify"]);
    boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
    assert!(runtime.0.join("bkt/guests/dev/bin/notify-send").is_symlink());
    drop(peer);
    assert!(guest.wait().success());
    assert_eq!(fs::read_dir(runtime.0.join("bkt")).unwrap().count(), 0);
}

// ---- the link

#[test]
fn a_host_that_is_not_there_is_tried_three_times() {
    let nobody = nobody();
    let boxed = Boxed::new(&nobody.0);
    let before = boxed.traces();
    let begun = Instant::now();
    let mut guest = boxed.guest("dev", &[]);
    assert_eq!(guest.wait().code(), Some(125));
    assert!(begun.elapsed().as_millis() >= 1_000, "half a second apart");
    let log = guest.log();
    assert_eq!(log.matches("trying again in 500 ms").count(), 2, "{log}");
    assert!(log.lines().last().unwrap().starts_with("bkt: no daemon of the host answers at "), "{log}");
    assert_eq!(guest.boxed.traces(), before);
}

#[test]
fn a_host_that_comes_within_the_three_attempts_is_found() {
    let dir = nobody();
    let guest = Boxed::new(&dir.0).guest("dev", &[]);
    eventually("it has tried in vain", || guest.log().contains("trying again"));
    let listener = bkt::sys::socket::listen(&dir.0.join("bkt/host.sock"), 1).unwrap();
    eventually("it has connected", || bkt::sys::socket::accept(std::os::fd::AsFd::as_fd(&listener)).is_ok());
}

#[test]
fn a_ping_is_answered_and_without_anything_to_do_it_sleeps() {
    let host = FakeHost::new();
    let guest = host.boxed().guest("dev", &[]);
    let mut peer = host.welcome(&["notify"]);
    for _ in 0..3 {
        boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
    }
    assert_asleep(guest.pid());
}

#[test]
fn so_long_without_a_message_and_without_a_run_ends_it() {
    let host = Host::start();
    let mut guest = Boxed::of(&host).guest("dev", &["--idle-timeout", "1"]).ready(&host);
    let mut run = Client(enter(&host, "dev", ["sleep", "1000"]).spawn().unwrap());
    let sleep = find_below(guest.bwrap.id(), "sleep");
    std::thread::sleep(std::time::Duration::from_millis(1_300));
    assert!(lives(guest.pid()) && lives(sleep), "a run is no idleness");
    kill(run.id(), libc::SIGTERM);
    assert_eq!(run.wait().unwrap().signal(), Some(libc::SIGTERM));
    let ended = Instant::now();
    assert_eq!(guest.wait().code(), Some(0));
    assert!(ended.elapsed().as_millis() >= 900, "the time counts from the run's end");
    assert_says(guest.log().as_bytes(), "nothing was asked for in 1 s");
    let forever = Boxed::of(&host).guest("other", &["--idle-timeout", "0"]).ready(&host);
    assert_asleep(forever.pid());
}

#[test]
fn a_refusal_that_is_an_answer_ends_it_and_one_that_passes_does_not() {
    let host = FakeHost::new();
    let mut guest = host.boxed().guest("dev", &["--reconnect"]);
    for code in [message::Code::Busy, message::Code::ShuttingDown] {
        let mut peer = host.accept();
        peer.expect(kind::Serve);
        peer.say(&message::Refused { code: code as u8, text: "not now, try again" }, None);
    }
    let mut peer = host.accept();
    peer.expect(kind::Serve);
    peer.say(&message::Refused { code: message::Code::Denied as u8, text: "you are not wanted here" }, None);
    assert_eq!(guest.wait().code(), Some(125));
    assert_says(guest.log().as_bytes(), "the host's daemon refuses: you are not wanted here");
}

#[test]
fn a_host_that_talks_nonsense_is_left() {
    for nonsense in [&[3, 0, 0, 0, 0, 0, 0, 0][..], &[0xff; 16]] {
        let host = FakeHost::new();
        let mut guest = host.boxed().guest("dev", &["--reconnect"]);
        let peer = host.welcome(&[]);
        peer.send(nonsense, &[]);
        assert_eq!(guest.wait().code(), Some(125));
        assert_says(guest.log().as_bytes(), "cannot be understood");
    }
    let host = FakeHost::new();
    let guest = host.boxed().guest("dev", &[]);
    let mut peer = host.welcome(&[]);
    peer.say(&message::HandOver { bytes: message::Bytes(b"x"), directory: None }, None);
    peer.say(&message::Done {}, None);
    boxed::ask(&mut peer, &message::Ping {}, kind::Pong);
    assert!(lives(guest.pid()), "what means nothing changes nothing");
}

// ---- a real host

#[test]
fn a_second_guest_of_the_same_name_is_refused_while_the_first_answers_and_takes_over_when_it_does_not() {
    let host = Host::start();
    let first = Guest::of(&host, "dev");
    let mut second = Boxed::of(&host).guest("dev", &[]);
    assert_eq!(second.wait().code(), Some(125));
    assert_says(second.log().as_bytes(), "dev has a guest daemon already (version");
    assert_eq!(stdout(enter(&host, "dev", ["sh", "-c", "echo $INSIDE"]).output().unwrap()), "yes\n");

    kill(first.pid(), libc::SIGSTOP);
    let third = Boxed::of(&host).with("INSIDE", "third").guest("dev", &[]);
    eventually("the third is the guest", || third.log().contains("connected to the host's daemon"));
    assert_eq!(stdout(enter(&host, "dev", ["sh", "-c", "echo $INSIDE"]).output().unwrap()), "third\n");
    kill(first.pid(), libc::SIGCONT);
    eventually("the first has noticed", || first.log().contains("the link to the host's daemon is lost"));
}

#[test]
fn a_second_daemon_in_the_same_container_takes_nothing_of_the_firsts_away() {
    let host = Host::start();
    let boxed = Boxed::of(&host);
    let script = "bkt-guest --daemon --name dev & while ! [ -e /run/bkt/bin/host-exec ]; do sleep 0.05; done; bkt-guest --daemon --name dev; echo $?; ls /run/bkt/bin | grep host; kill %1; wait";
    let output = boxed.command(&["/bin/sh", "-c", script]).output().unwrap();
    assert_eq!(stdout(output), "125\nhost-exec\n");
}

#[test]
fn a_host_that_is_killed_and_started_again_gets_its_guest_back_and_runs_go_on_meanwhile() {
    let mut host = Host::start();
    let guest = Boxed::of(&host).guest("dev", &["--reconnect"]).ready(&host);
    let mut run = Client(enter(&host, "dev", ["sh", "-c", "echo begun; read a; echo got $a; exit 9"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    host.daemon.kill().unwrap();
    host.daemon.wait().unwrap();
    eventually("the guest has noticed", || guest.log().contains("trying to get it back"));
    assert_asleep_between_attempts(&guest);
    host.restart();
    eventually("the guest is back", || is_listed(&host, "dev"));
    run.stdin.take().unwrap().write_all(b"word\n").unwrap();
    said.read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), run.wait().unwrap().code()), ("begun\ngot word\n", Some(9)));
    assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 4"]).status().unwrap().code(), Some(4));
}

/// It waits for the next attempt, it does not look for it: a handful of wake-ups in the time of one.
#[track_caller]
fn assert_asleep_between_attempts(guest: &Guest) {
    let before = support::peer::wakeups(guest.pid());
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    let woken = support::peer::wakeups(guest.pid()) - before;
    assert!(woken <= 10, "{woken} wake-ups in a second");
}

#[test]
fn without_reconnect_a_guest_that_lost_its_host_ends_when_its_last_run_has() {
    let mut host = Host::start();
    let mut guest = Guest::of(&host, "dev");
    let mut run = Client(enter(&host, "dev", ["sh", "-c", "read a; exit 9"]).stdin(Stdio::piped()).spawn().unwrap());
    find_below(guest.bwrap.id(), "sh");
    host.daemon.kill().unwrap();
    host.daemon.wait().unwrap();
    eventually("the guest has noticed", || guest.log().contains("is lost"));
    assert!(lives(guest.pid()));
    drop(run.stdin.take());
    assert_eq!(run.wait().unwrap().code(), Some(9));
    assert_eq!(guest.wait().code(), Some(0));
}

#[test]
fn a_reload_of_the_host_keeps_guests_and_what_runs_there() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    let mut run = Client(enter(&host, "dev", ["sh", "-c", "read a; exit 9"]).stdin(Stdio::piped()).spawn().unwrap());
    find_below(guest.bwrap.id(), "sh");
    for _ in 0..3 {
        assert!(host.bkt(["admin", "daemon", "reload"]).output().unwrap().status.success());
        assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
    }
    assert!(!guest.log().contains("is lost"), "{}", guest.log());
    drop(run.stdin.take());
    assert_eq!(run.wait().unwrap().code(), Some(9));
}

/// `make install` of a newer version, where the container sees the same file.
#[test]
fn a_guest_becomes_the_version_that_was_installed_when_the_host_has_and_nothing_runs_in_it() {
    let bin = TempDir::new();
    let installed = bin.0.join("bkt");
    support::copy_bkt(&installed);
    let host = Host::start_with(|command| {
        let mut installed = Command::new(&installed);
        installed.arg0("bkt-hostd").arg("-v").env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        installed.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *command = installed;
    });
    let boxed = Boxed::of(&host);
    let before = boxed.traces();
    // Held open here, it is another file for certain: its number is not given again.
    let old = fs::File::open(boxed.path("/bin/bkt")).unwrap();
    let guest = boxed.guest("dev", &[]).ready(&host);
    let version_of =
        || text(&host.bkt(["--no-delegate", "ps"]).output().unwrap().stdout).lines().find_map(|line| Some(line.strip_prefix("dev ")?.split_whitespace().next()?.to_string()));
    let pid = guest.pid();
    let mut run = Client(enter(&host, "dev", ["sh", "-c", "read a; exit 9"]).stdin(Stdio::piped()).spawn().unwrap());
    find_below(guest.bwrap.id(), "sh");

    let fresh = bin.0.join("fresh");
    support::other_version(&fresh);
    let put = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg(from).arg(to.with_extension("new")).status().unwrap().success());
        fs::rename(to.with_extension("new"), to).unwrap();
    };
    put(&fresh, &installed);
    // As `podman cp` leaves it for a moment.
    let half = bin.0.join("half");
    fs::write(&half, &fs::read(&fresh).unwrap()[..300_000]).unwrap();
    fs::set_permissions(&half, fs::Permissions::from_mode(0o755)).unwrap();
    put(&half, &guest.boxed.path("/bin/bkt"));
    assert!(host.bkt(["admin", "daemon", "reload"]).output().unwrap().status.success());
    assert_eq!(version_of().as_deref(), Some(env!("CARGO_PKG_VERSION")), "not while something runs");
    let doctor = Command::new(&fresh).arg0("bkt").arg("doctor").env("BKT_SOCKET", host.socket()).env("HOME", &host.dir.0).output().unwrap();
    assert_says(&doctor.stdout, &format!("the guest daemon of dev is version {}, this bkt 9.9.9", env!("CARGO_PKG_VERSION")));
    assert_says(&doctor.stdout, " dev:\"$(bkt enter dev -- readlink /proc/");
    drop(run.stdin.take());
    assert_eq!(run.wait().unwrap().code(), Some(9));
    assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3), "half of the new one is none");
    put(&fresh, &guest.boxed.path("/bin/bkt"));
    eventually("it is the new one", || version_of().as_deref() == Some("9.9.9"));
    assert_eq!(find_below(guest.bwrap.id(), "bkt"), pid, "in the same process");
    assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
    drop(old);
    kill(pid, libc::SIGTERM);
    let mut guest = guest;
    assert_eq!(guest.wait().code(), Some(0));
    assert_eq!(guest.boxed.traces(), before, "nothing is left behind by either");
}

/// What the policy grants changes with a reload; a guest's links change with it.
#[test]
fn after_a_reload_a_guest_has_the_links_that_are_granted_then() {
    let host = Host::start();
    let guest = Guest::of(&host, "dev");
    eventually("all links are there", || links(&guest.boxed).contains(&"notify-send".to_string()));
    fs::create_dir_all(host.dir.0.join(".config/bkt")).unwrap();
    fs::write(host.dir.0.join(".config/bkt/policy.json"), r#"{"listeners": {"host": {"notify": "deny", "clipboard": "deny"}}}"#).unwrap();
    stdout(host.bkt(["admin", "daemon", "reload"]).output().unwrap());
    eventually("two are left", || links(&guest.boxed) == ["host-exec", "xdg-open"]);
    assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
}

#[test]
fn a_host_that_ends_tells_its_guests_and_those_that_come_back_only_when_it_is_for_good() {
    let host = Host::start();
    let mut plain = Guest::of(&host, "plain");
    let mut returning = Boxed::of(&host).guest("returning", &["--reconnect"]).ready(&host);
    host.signal_daemon(libc::SIGTERM);
    assert_eq!(plain.wait().code(), Some(0));
    assert_says(plain.log().as_bytes(), "tells this guest to end");
    eventually("the other waits", || returning.log().contains("trying to get it back"));

    let mut host = host;
    host.daemon.wait().unwrap();
    host.restart();
    eventually("it is back", || is_listed(&host, "returning"));
    assert!(host.bkt(["admin", "daemon", "stop"]).output().unwrap().status.success());
    assert_eq!(returning.wait().code(), Some(0));
    assert_says(returning.log().as_bytes(), "tells this guest to end");
}

#[test]
fn a_guest_that_is_told_to_end_ends_what_runs_there() {
    let host = Host::start();
    let mut guest = Guest::of(&host, "dev");
    let mut run = Client(enter(&host, "dev", ["sleep", "1000"]).spawn().unwrap());
    find_below(guest.bwrap.id(), "sleep");
    kill(guest.pid(), libc::SIGTERM);
    assert_eq!(run.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert_eq!(guest.wait().code(), Some(0));
    assert!(!is_listed(&host, "dev"));
}

#[test]
fn ps_shows_containers_versions_and_what_runs() {
    let host = Host::start();
    let (dev, _other) = (Guest::of(&host, "dev"), Guest::of(&host, "other"));
    let pid_file = dev.boxed.path("/tmp/pid");
    let _run = Client(enter(&host, "dev", ["sh", "-c", "echo $$ >/tmp/pid; exec sleep 1000"]).spawn().unwrap());
    let pid = number_in(&pid_file);
    let shown = stdout(host.bkt(["--no-delegate", "ps"]).output().unwrap());
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["CONTAINER", "GUEST", "CONNECTED", "RUNNING"]);
    assert_eq!((lines[1][0], lines[1][1], *lines[1].last().unwrap()), ("dev", env!("CARGO_PKG_VERSION"), "1"), "{shown}");
    assert!(lines[2][0].starts_with("op-") && lines[2].contains(&"sh") && lines[2].contains(&pid.to_string().as_str()), "{shown}");
    assert_eq!((lines[3][0], *lines[3].last().unwrap()), ("other", "0"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&stdout(host.bkt(["--no-delegate", "ps", "--json"]).output().unwrap())).unwrap();
    assert_eq!((json[0]["container"].as_str(), json[0]["running"][0]["name"].as_str(), json[1]["running"].as_array().map(Vec::len)), (Some("dev"), Some("sh"), Some(0)), "{json}");
    let nobody = host.bkt(["--no-delegate", "ps"]).env("BKT_SOCKET", "/no/such/socket").output().unwrap();
    complaint(&nobody, 125, "no daemon answers");
}
