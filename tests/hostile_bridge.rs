//! The hostile local process between host and containers: as a guest, as a container that is granted little, and as a caller of the
//! host's desktop. What it gets is a refusal; what the daemon has afterwards is what it had before.
#![allow(unsafe_code)]

mod support;

use bkt::proto::capability::Capability;
use bkt::proto::message::{self, Bytes, Code, Enter, Hello, Pong, Run, Serve, Stream, kind};
use bkt::sys::process::Inheritance;
use bkt::sys::signals::{self, SignalSet};
use bkt::sys::terminal::{Modes, Size};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::boxed::{Boxed, Guest, enter, is_listed};
use support::peer::{Account, Peer, assert_asleep, op, resident_kib, run};
use support::{AT_ONCE, Client, Host, TempDir, children, complaint, eventually, lives, stdout, text};

const DENY_BUT_UNAME: &str = r#"{"listeners": {"host": {"host_exec": {"default": "deny", "rules": [{"allow": "uname"}]}}}}"#;

fn narrowed(policy: &str, change: impl FnOnce(&Path, &mut Command)) -> Host {
    Host::start_with(|daemon| {
        let home = daemon.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap().to_os_string();
        let home = Path::new(&home);
        fs::create_dir_all(home.join(".config/bkt")).unwrap();
        fs::write(home.join(".config/bkt/policy.json"), policy).unwrap();
        change(home, daemon);
    })
}

fn program(path: &Path, lines: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn serve(name: &str) -> Serve<'_> {
    Serve { hello: Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(name.as_bytes()), capabilities: vec![] }, returns: false }
}

/// A guest of our own making, welcomed.
fn guest(host: &Host, name: &str) -> Peer {
    let mut peer = Peer::connect(host);
    peer.say(&serve(name), None);
    peer.expect(kind::HelloAnswer);
    peer
}

fn to_enter(name: &str) -> Enter<'_> {
    Enter { container: Bytes(name.as_bytes()), directory: None }
}

// ---- as a guest

#[test]
fn a_guests_link_is_nothing_else_and_its_name_is_free_when_it_goes() {
    let host = Host::start();
    let dev = Guest::of(&host, "dev");
    let account = Account::open(&host);
    let second: [(&str, Vec<u8>); 5] = [
        ("the same guest again", message::encode(&serve("box"), 0, None)),
        ("another guest", message::encode(&serve("more"), 0, None)),
        ("a caller of a container", message::encode(&to_enter("dev"), 0, None)),
        ("a caller", message::encode(&run(b"sleep\x00100\0"), 0, None)),
        ("who asks for the list", message::encode(&message::GuestsRequest {}, 0, None)),
    ];
    for (what, bytes) in &second {
        let mut welcomed = guest(&host, "box");
        welcomed.send(bytes, &[]);
        assert_eq!(welcomed.refusal().0, Code::BadRequest, "{what}");
        // While it waits for the one that is there to answer.
        let mut older = guest(&host, "box");
        let mut rival = Peer::connect(&host);
        rival.say(&serve("box"), None);
        older.expect(kind::Ping);
        rival.send(bytes, &[]);
        assert_eq!(rival.refusal().0, Code::BadRequest, "a rival as {what}");
        older.say(&Pong {}, None);
        drop((older, rival));
        for name in ["box", "more"] {
            eventually(&format!("{name} is not listed any more, after {what}"), || !is_listed(&host, name));
        }
        assert_asleep(host.pid());
    }
    let mut busy = Peer::connect(&host);
    busy.say(&run(b"sleep\x00100\0"), None);
    busy.expect(kind::Started);
    busy.say(&serve("box"), None);
    assert_eq!(busy.refusal().0, Code::BadRequest, "a caller as a guest");
    // The name has been left by all of them.
    drop(guest(&host, "box"));
    account.close(2 * second.len() + 1);
    assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
    drop(dev);
}

#[test]
fn thousands_who_want_to_be_guests_cost_little_and_claims_of_any_size_are_refused() {
    let host = Host::start();
    let account = Account::open(&host);
    support::peer::raise_descriptor_limit(2_000);
    let huge = "x".repeat(60_000);
    let hello = |release, capabilities| Serve { hello: Hello { release, container: Bytes(b"dev"), capabilities }, returns: true };
    let claims = [hello(&huge, vec![]), hello("1\u{1b}[2J", vec![]), hello("1", vec![""; 60_000]), hello("1", vec![&huge[..50_000]])];
    for claim in &claims {
        let mut peer = Peer::connect(&host);
        peer.say(claim, None);
        assert_eq!(peer.refusal().0, Code::BadRequest);
    }
    let before = resident_kib(host.pid());
    // One that answers, and a thousand that want its place: all are told no, and meanwhile others are served.
    let mut first = guest(&host, "dev");
    let rivals: Vec<Peer> = (0..1_000).map(|_| Peer::connect(&host)).collect();
    rivals.iter().for_each(|rival| rival.say(&serve("dev"), None));
    let begun = Instant::now();
    assert!(host.sh("exit 0").status().unwrap().success());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    first.expect(kind::Ping);
    first.say(&Pong {}, None);
    let mut refused = 0;
    for mut rival in rivals {
        loop {
            match rival.answer() {
                Some(answer) if answer.kind == kind::Refused => {
                    let refused: message::Refused<'_> = message::decode(&answer.body).unwrap();
                    assert_eq!(Code::from_number(refused.code), Code::Taken, "{}", refused.text);
                    break;
                }
                Some(_) => {
                    first.say(&Pong {}, None);
                }
                None => panic!("hung up on without a word"),
            }
        }
        refused += 1;
    }
    // And a hundred names.
    let many: Vec<Peer> = (0..255).map(|n| guest(&host, &format!("box{n}"))).collect();
    let mut more = Peer::connect(&host);
    more.say(&serve("one more"), None);
    assert_eq!((refused, more.refusal().0), (1_000, Code::Busy));
    drop((many, first));
    eventually("the memory is given back", || resident_kib(host.pid()) < before + (2 << 10));
    account.close(claims.len());
}

/// A guest that never reads: callers are told in time, and neither they nor their number hold up anybody else.
#[test]
fn a_guest_that_never_reads_costs_its_callers_two_seconds_and_the_host_nothing_that_stays() {
    let host = Host::start();
    support::peer::raise_descriptor_limit(2_500);
    let deaf = guest(&host, "deaf");
    let callers: Vec<Peer> = (0..2_000).map(|_| Peer::connect(&host)).collect();
    for caller in &callers {
        caller.send(&[message::encode(&to_enter("deaf"), 0, op(9)), message::encode(&run(b"true\0"), 0, op(9))].concat(), &[]);
    }
    let begun = Instant::now();
    assert!(host.sh("exit 0").status().unwrap().success());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // In the middle of it the daemon is renewed.
    stdout(host.bkt(["admin", "daemon", "reload"]).output().unwrap());
    eventually("who was not passed on has been refused", || host.descriptors() < 100);
    let resident = resident_kib(host.pid());
    assert!(resident < 20 << 10, "{resident} KiB");
    drop(deaf);
    let mut told = 0;
    for mut caller in callers {
        match caller.answer() {
            Some(answer) => {
                assert_eq!(answer.kind, kind::Refused);
                told += 1;
            }
            // Passed on: the guest had it, unread, when it went.
            None => continue,
        }
    }
    assert!(told > 1_000, "{told}");
    eventually("no child is left", || host.children().is_empty() && host.zombies() == 0);
    assert_asleep(host.pid());
}

// ---- as a container that is granted little

#[test]
fn where_commands_are_restricted_a_container_neither_ends_nor_reloads_the_daemon() {
    let host = narrowed(DENY_BUT_UNAME, |_, _| {});
    let other = Boxed::of(&host);
    for what in ["stop", "reload"] {
        let refused = other.command(&["/bin/bkt", "--no-delegate", "admin", "daemon", what]).output().unwrap();
        assert!(text(&refused.stderr).contains("containers may not end or reload the host's daemon"), "{what}: {}", text(&refused.stderr));
        assert!(!refused.status.success());
    }
    assert!(!host.log().contains("reloaded as") && lives(host.pid()));
    stdout(host.bkt(["admin", "daemon", "reload"]).output().unwrap());
    assert!(host.log().contains("reloaded as"));
}

#[test]
fn a_user_namespace_with_the_hosts_root_is_not_the_host() {
    let host = narrowed(DENY_BUT_UNAME, |_, _| {});
    let dev = Guest::of(&host, "dev");
    let mut by_itself = Command::new("unshare");
    by_itself.args(["--user", "--map-root-user", support::BKT, "enter", "dev", "--", "touch", "/tmp/ran"]);
    by_itself.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "host").current_dir("/tmp").stdin(Stdio::null());
    complaint(&by_itself.output().unwrap(), 125, "containers may not enter each other where the host's policy");
    assert!(!dev.boxed.path("/tmp/ran").exists());
    assert_eq!(enter(&host, "dev", ["sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
}

#[test]
fn many_guests_that_are_silent_hold_up_the_list_no_longer_than_one() {
    let host = Host::start();
    let silent: Vec<Peer> = (0..12).map(|i| guest(&host, &format!("a{i}"))).collect();
    let _dev = Guest::of(&host, "dev");
    let begun = Instant::now();
    let list = stdout(host.bkt(["--no-delegate", "ps"]).output().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert_eq!(list.matches("has not answered within 2 s").count(), silent.len(), "{list}");
    let dev = list.lines().find(|line| line.starts_with("dev ")).unwrap();
    assert!(dev.ends_with(" 0"), "who answers is heard: {dev}");
}

#[test]
fn a_guests_words_do_nothing_to_the_terminal_of_who_lists_it_nor_its_name_to_a_shell() {
    let host = Host::start();
    let mut peer = Peer::connect(&host);
    let hello = Hello { release: "9.9.9", container: Bytes(b"x;touch ran;$(touch ran)"), capabilities: vec![] };
    peer.say(&Serve { hello, returns: false }, None);
    peer.expect(kind::HelloAnswer);
    for command in ["ps", "doctor"] {
        let asks = host.bkt(["--no-delegate", command]).env("BKT_SIDE", "host").env("HOME", &host.dir.0).stdout(Stdio::piped()).spawn().unwrap();
        let handed = peer.expect(kind::HandOver).fds.remove(0);
        let caller = Peer { channel: bkt::proto::channel::Channel::new(handed) };
        caller.say(&message::Refused { code: Code::Internal as u8, text: "\u{1b}]0;mine\u{7}\u{9b}2J" }, None);
        let said = text(&asks.wait_with_output().unwrap().stdout);
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{said:?}");
        if command == "ps" {
            assert!(said.contains(r"\u{1b}]0;mine\u{7}\u{9b}2J"), "{said}");
        } else {
            let mend = said.lines().find(|line| line.contains("podman cp")).unwrap();
            assert_eq!(mend.matches("'x;touch ran;$(touch ran)'").count(), 3, "{mend}");
            assert_eq!(mend.matches("touch").count(), 6, "{mend}");
        }
    }
}

#[test]
fn what_another_user_calls_conmon_takes_no_name_away() {
    let host = Host::start();
    let conmon = host.dir.0.join("conmon");
    // Nobody else's on this machine.
    let name = format!("bank-{}", std::process::id());
    program(&conmon, "cat");
    fs::set_permissions(&host.dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    let start = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--clear-groups"]).arg(&conmon).args(["-n", &name, "-c", &support::boxed::ID.repeat(4)]);
        let started = Client(command.stdin(Stdio::piped()).spawn().unwrap());
        eventually("it has its name", || fs::read_to_string(format!("/proc/{}/comm", started.id())).unwrap() == "conmon\n");
        started
    };
    let theirs = start("65534");
    drop(guest(&host, &name));
    drop(theirs);
    // Whereas our own is podman's.
    let _ours = start("0");
    eventually("it is seen, a second later at most", || {
        let mut peer = Peer::connect(&host);
        peer.say(&serve(&name), None);
        peer.answer().unwrap().kind == kind::Refused
    });
}

/// As `sudo podman` and `distrobox --root` leave it: the daemon is an ordinary user's, which may not ask in which namespaces it is.
#[test]
fn what_root_calls_its_container_is_known_to_an_ordinary_users_daemon() {
    let dir = TempDir::new();
    let at = |name: &str| dir.0.join(name);
    support::copy_bkt(at("bkt"));
    program(&at("conmon"), "cat");
    fs::create_dir(at("run")).unwrap();
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(at("run"), Some(65_534), Some(65_534)).unwrap();
    let as_user = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(at("bkt")).args(words).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("XDG_RUNTIME_DIR", at("run")).env("HOME", at("run")).stdin(Stdio::null());
        command
    };
    let mut conmon = Command::new(at("conmon"));
    let conmon = Client(conmon.args(["-n", "vault", "-c", &support::boxed::ID.repeat(4)]).stdin(Stdio::piped()).spawn().unwrap());
    eventually("it has its name", || fs::read_to_string(format!("/proc/{}/comm", conmon.id())).unwrap() == "conmon\n");
    let _daemon = Client(as_user(&["bkt-hostd"]).spawn().unwrap());
    eventually("the daemon listens", || as_user(&["admin", "daemon", "status"]).output().unwrap().status.success());
    complaint(&as_user(&["bkt-guest", "--daemon", "--idle-timeout", "1", "--name", "vault"]).output().unwrap(), 125, "vault is a container that runs here, and this is not in it");
}

/// A cgroup named as systemd names that of a container, below our own: more of the tree need not be writable.
struct Scope(PathBuf);

impl Scope {
    fn make(unit: &str) -> Scope {
        let (mounts, own) = (fs::read_to_string("/proc/mounts").unwrap(), fs::read_to_string("/proc/self/cgroup").unwrap());
        let tree = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1)).expect("cgroup v2 is mounted");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let scope = Scope(Path::new(tree).join(own).join(format!("{unit}.scope")));
        fs::create_dir(&scope.0).unwrap_or_else(|e| panic!("make {}: {e}", scope.0.display()));
        scope
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        eventually("nothing is left in there", || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_container_of_roots_that_has_made_the_hosts_root_its_own_is_not_the_host() {
    let host = narrowed(DENY_BUT_UNAME, |_, _| {});
    let dev = Guest::of(&host, "dev");
    let scope = Scope::make(&format!("machine-foe{}", std::process::id()));
    let mut inside = Command::new("sh");
    inside.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec chroot / \"$@\""]).arg(&scope.0);
    inside.args([support::BKT, "enter", "dev", "--", "touch", "/tmp/ran"]);
    inside.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "host").current_dir("/tmp").stdin(Stdio::null());
    complaint(&inside.output().unwrap(), 125, "containers may not enter each other where the host's policy");
    assert!(!dev.boxed.path("/tmp/ran").exists());
}

/// docker tells nobody its names, so its containers (and distrobox's in it, by CONTAINER_ID) say them: 20.10.24.
#[test]
fn a_container_of_dockers_says_its_name_but_not_that_of_another() {
    let host = Host::start();
    let boxed = Boxed::of(&host);
    let bank = Client(boxed.named("bank-of-podmans", &["/bin/sleep", "1000"]).spawn().unwrap());
    eventually("it runs", || children(bank.id()).iter().any(|child| !children(*child).is_empty()));
    let id = format!("{:064x}", std::process::id());
    let scope = Scope::make(&format!("docker-{id}"));
    let guest = |name: &[&str]| {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]).arg(&scope.0);
        // Where it is welcome it would tell the machine's login shells of its links.
        inside
            .args(["bwrap", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/run", support::BKT, "bkt-guest", "--daemon", "--idle-timeout", "20"])
            .args(name);
        inside.env("BKT_SOCKET", host.socket()).env("BKT_LOG_FORMAT", "text").stdin(Stdio::null());
        inside
    };
    for (name, called) in [(&["--name", "web"][..], "web"), (&[], &id[..12])] {
        let guest = Client(guest(name).stderr(Stdio::null()).spawn().unwrap());
        eventually("the guest is there", || is_listed(&host, called));
        drop(guest);
        eventually("it has gone", || !is_listed(&host, called));
    }
    complaint(&guest(&["--name", "bank-of-podmans"]).output().unwrap(), 125, &format!("this is the container {}, as the host sees it", &id[..12]));
}

/// A mount whose server never answers, in namespaces of its own; whoever looks into it waits for ever.
struct Mire(Client);

impl Mire {
    fn start(dir: &Path) -> Mire {
        let script =
            format!("exec 3<>/dev/fuse && mount -i -n -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none {0}/mire && touch {0}/ready && exec sleep 1000", dir.display());
        fs::create_dir(dir.join("mire")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--kill-child", "sh", "-c", &script]);
        let mire = Mire(Client(command.stdin(Stdio::null()).spawn().unwrap()));
        eventually("the mount is there", || dir.join("ready").exists());
        mire
    }
}

#[test]
fn no_path_leads_the_daemon_into_a_mount_that_never_answers() {
    let host = narrowed(r#"{"listeners": {"host": {"host_exec": {"default": "allow", "rules": [{"deny": "podman"}]}}}}"#, |_, _| {});
    let mire = Mire::start(&host.dir.0);
    let account = Account::open(&host);
    let inside = format!("/proc/{}/root{}/mire", children(mire.0.id()).first().copied().unwrap_or(mire.0.id()), host.dir.0.display());
    for (name, directory) in [(format!("{inside}/x\0"), "/"), ("./x\0".to_string(), inside.as_str())] {
        let mut peer = Peer::connect(&host);
        peer.say(&Run { directory: Bytes(directory.as_bytes()), ..run(name.as_bytes()) }, op(1));
        let begun = Instant::now();
        assert!(host.sh("exit 0").status().unwrap().success());
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        // It waits for ever to be executed, and goes with its caller.
        peer.expect(kind::Accepted);
    }
    let mut peer = Peer::connect(&host);
    peer.say(&Run { directory: Bytes(inside.as_bytes()), ..run(b"true\0") }, op(2));
    peer.expect(kind::Accepted);
    assert!(host.sh("exit 0").status().unwrap().success());
    drop(peer);
    account.close(0);
}

#[test]
fn a_megabyte_of_name_is_no_megabyte_of_log() {
    let host = narrowed(DENY_BUT_UNAME, |_, _| {});
    let account = Account::of_narrow(&host);
    let before = host.log().lines().filter(|line| line.contains("refused: ")).map(str::len).sum::<usize>();
    let name = [&vec![b'\x01'; 2 << 20][..], b"\0"].concat();
    for request in [run(&name), Run { capability: 9, ..run(&name) }, Run { set_env: Bytes(&name), ..run(b"uname\0") }] {
        let mut peer = Peer::connect(&host);
        peer.say(&request, op(1));
        let (code, sentence, _) = peer.refusal();
        assert!(code == Code::Denied && sentence.len() < 5_000, "{code:?} {}", sentence.len());
    }
    let after = host.log().lines().filter(|line| line.contains("refused: ")).map(str::len).sum::<usize>();
    assert!(after - before < 100_000, "{} bytes of log", after - before);
    account.close(3);
}

// ---- as who asks for the desktop

/// A host whose `xdg-open` and `notify-send` do what a script says.
fn desktop(script: &str) -> Host {
    narrowed(r#"{"listeners": {"host": {"host_exec": {"default": "deny"}}}}"#, |home, daemon| {
        for name in ["xdg-open", "notify-send"] {
            program(&home.join("bin").join(name), script);
        }
        daemon.env("PATH", format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap())).env("DISPLAY", ":4715");
    })
}

fn handed(host: &Host) -> Vec<(PathBuf, u64)> {
    let files = |place: fs::DirEntry| fs::read_dir(place.path()).into_iter().flatten().flatten();
    let places = fs::read_dir(host.dir.0.join("bkt/host.sock.files")).into_iter().flatten().flatten();
    places.flat_map(files).filter_map(|file| Some((file.path(), file.metadata().ok()?.blocks() * 512))).collect()
}

#[test]
fn files_handed_over_by_many_at_once_never_take_more_room_than_they_may() {
    let host = desktop("exit 0");
    let account = Account::of_narrow(&host);
    // It costs its owner nothing.
    let sparse = host.dir.0.join("sparse");
    File::create(&sparse).unwrap().set_len(64 << 20).unwrap();
    let words = b"file\0/no/such/picture.png\x003\0";
    let request = Run { capability: Capability::XdgOpen as u8, extra: vec![3], ..run(words) };
    let mut peers: Vec<Peer> = (0..12).map(|_| Peer::connect(&host)).collect();
    for peer in &peers {
        // Each with an offset of its own.
        let own = File::open(&sparse).unwrap();
        peer.send(&message::encode(&request, 1, None), &[own.as_fd()]);
    }
    let mut most = 0;
    eventually("all are done", || {
        most = most.max(handed(&host).iter().map(|(_, bytes)| bytes).sum::<u64>());
        let asked = host.log().matches("asked for: file").count() == peers.len();
        asked && host.children().is_empty()
    });
    for peer in &mut peers {
        peer.exit();
    }
    assert!((64 << 20..=(256 << 20) + (1 << 20)).contains(&most), "{} MiB", most >> 20);
    assert!(handed(&host).iter().all(|(path, _)| fs::metadata(path).unwrap().mode() & 0o777 == 0o400));
    drop(peers);
    account.close(0);
}

#[test]
fn hundreds_who_want_notifications_and_ignore_hangups_leave_nothing_when_they_go() {
    let host = desktop("exec sleep 1000");
    let account = Account::of_narrow(&host);
    let ignoring = Inheritance { umask: 0o22, ignored: SignalSet::default().with(signals::HUP), ..Inheritance::default() };
    let request = Run { capability: Capability::Notify as u8, inheritance: ignoring, ..run(b"--\0x\0") };
    let mut peers: Vec<Peer> = (0..200).map(|_| Peer::connect(&host)).collect();
    peers.iter().for_each(|peer| peer.say(&request, None));
    for peer in &mut peers {
        peer.expect(kind::Started);
    }
    assert_eq!(host.children().len(), 200);
    // They outlive a reload, and not their callers.
    host.signal_daemon(libc::SIGHUP);
    eventually("reloaded", || host.log().contains("reloaded as version"));
    assert_eq!(host.children().len(), 200);
    drop(peers);
    account.close(0);
}

/// Whatever comes in a descriptor's place: the performer says what is wrong, or waits for its caller alone.
#[test]
fn a_descriptor_that_is_no_file_is_named_and_one_that_never_answers_holds_up_its_caller_alone() {
    let host = desktop("exit 0");
    let mire = Mire::start(&host.dir.0);
    let account = Account::of_narrow(&host);
    let fifo = host.dir.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (fifo, socket) = (File::options().read(true).write(true).open(&fifo).unwrap(), std::os::unix::net::UnixStream::pair().unwrap());
    let (null, tmp, memory) = (File::open("/dev/null").unwrap(), File::open("/tmp").unwrap(), File::open("/proc/self/mem").unwrap());
    for (what, fd, code) in
        [("a fifo", fifo.as_fd(), 125), ("a socket", socket.0.as_fd(), 125), ("a device", null.as_fd(), 125), ("a directory", tmp.as_fd(), 125), ("memory", memory.as_fd(), 125)]
    {
        for (capability, words) in [(Capability::XdgOpen, &b"file\0/no/such\x003\0"[..]), (Capability::Notify, b"--file=3\0--icon=/no/such.png\0--\0x\0")] {
            let mut peer = Peer::connect(&host);
            peer.send(&message::encode(&Run { capability: capability as u8, extra: vec![3], ..run(words) }, 1, None), &[fd]);
            assert_eq!(peer.exit(), message::Exited { by_signal: false, value: code }, "{what} for {}", capability.word());
        }
    }
    assert!(handed(&host).is_empty());
    // A path of the mount's is looked at by the performer.
    let inside = format!("/proc/{}/root{}/mire/x", children(mire.0.id()).first().copied().unwrap_or(mire.0.id()), host.dir.0.display());
    let words = format!("file\0{inside}\x003\0");
    let own = File::open("/etc/hostname").unwrap();
    let mut stuck = Peer::connect(&host);
    stuck.send(&message::encode(&Run { capability: Capability::XdgOpen as u8, extra: vec![3], ..run(words.as_bytes()) }, 1, None), &[own.as_fd()]);
    stuck.expect(kind::Started);
    let mut other = Peer::connect(&host);
    other.send(&message::encode(&Run { capability: Capability::XdgOpen as u8, extra: vec![3], ..run(b"file\0/no/such.txt\x003\0") }, 1, None), &[own.as_fd()]);
    assert_eq!(other.exit(), support::peer::SUCCESS);
    drop(stuck);
    account.close(0);
}

// ---- as who reads nothing while the daemon is renewed

#[test]
fn who_reads_nothing_does_not_keep_the_daemon_from_being_renewed() {
    let host = Host::start();
    let names = "x".repeat(60_000);
    let terminal = message::Terminal { modes: Modes::default(), size: Size { rows: 24, columns: 80, width: 0, height: 0 }, foreground: true, passed: false };
    let request = Run { streams: [Stream::Terminal; 3], terminal: Some(terminal), ..run(b"sleep\x00100\0") };
    let mut stuck = vec![];
    // Somewhere here the kernel's buffer is full and the daemon's is not.
    for hellos in 1..16 {
        let peer = Peer::connect(&host);
        for _ in 0..hellos {
            peer.say(&Hello { release: "1", container: Bytes(b"deaf"), capabilities: vec![&names[..40_000]] }, None);
        }
        peer.say(&request, op(3));
        stuck.push(peer);
    }
    let gone = || host.log().matches("a caller reads nothing").count();
    eventually("commands run", || {
        let monitors = host.children();
        monitors.len() > 4 && monitors.into_iter().all(|monitor| !children(monitor).is_empty())
    });
    let before = gone();
    stdout(host.bkt(["admin", "daemon", "reload"]).output().unwrap());
    assert!(host.log().contains("reloaded as version"));
    assert!(gone() > before, "somebody had not taken its terminal");
    drop(stuck);
    eventually("no child is left", || host.children().is_empty() && host.zombies() == 0);
    assert_asleep(host.pid());
}
