//! A socket of its own for one container: the listener says who calls and what is granted, whatever the caller claims.
#![allow(unsafe_code)]

mod support;

use bkt::proto::message::{self, Bytes, Code, Enter, GuestsRequest, Hello, Reload, Serve, StatusRequest, Stop, kind};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use support::boxed::{Boxed, Guest, enter, is_listed};
use support::peer::{Account, Peer, SUCCESS, run};
use support::{Client, Host, complaint, eventually, lives, number_in, stdout, text};

fn write(home: &Path, listeners: &str) {
    fs::create_dir_all(home.join(".config/bkt")).unwrap();
    fs::write(home.join(".config/bkt/policy.json"), format!("{{\"listeners\": {{{listeners}}}}}\n")).unwrap();
}

fn start(listeners: &str) -> Host {
    Host::start_with(|command| {
        let home: PathBuf = command.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap().into();
        write(&home, listeners);
    })
}

fn reload(host: &Host, listeners: &str) {
    write(&host.dir.0, listeners);
    stdout(host.bkt(["admin", "daemon", "reload"]).output().unwrap());
}

fn socket(host: &Host, name: &str) -> PathBuf {
    host.dir.0.join("bkt/containers").join(name).join("host.sock")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// A container that has nothing of the host but its own socket's directory.
fn boxed(host: &Host, name: &str) -> Boxed {
    let directory = socket(host, name).parent().unwrap().to_path_buf();
    let mut boxed = Boxed::new(&directory);
    boxed.shared = vec![];
    for link in ["host-exec", "notify-send", "xdg-open", "wl-paste", "id"] {
        symlink("/bin/bkt", boxed.path("box").join(link)).unwrap();
    }
    boxed.share(&directory, "/run/user/1000/bkt").with("XDG_RUNTIME_DIR", "/run/user/1000").with("BKT_SIDE", "container")
}

const NOTIFY_ONLY: &str = r#""container:dev": {"notify": "allow"}"#;

#[test]
fn with_only_notify_granted_everything_else_is_refused_in_words() {
    let host = start(NOTIFY_ONLY);
    let (dev, policy) = (boxed(&host, "dev"), host.dir.0.join(".config/bkt/policy.json"));
    let of_policy = format!("is denied by the host's policy {} for the container dev", policy.display());
    let granted = "(granted: notify)";
    for (line, parts) in [
        (&["/box/host-exec", "id"][..], ["id ", &of_policy, "it is a command, and host_exec is not granted (granted: notify)"]),
        (&["/box/id"], ["id ", &of_policy, granted]),
        (&["/box/xdg-open", "https://example.org"], ["xdg_open ", &of_policy, granted]),
        (&["/box/wl-paste"], ["clipboard ", &of_policy, granted]),
        (&["/bin/bkt", "admin", "daemon", "exec", "--", "true"], ["true ", &of_policy, granted]),
        (&["/bin/bkt", "enter", "web", "--", "true"], ["entering web ", &of_policy, "the host's user can allow it there ('enter')"]),
        (&["/bin/bkt", "--no-delegate", "ps"], ["which containers there are: that is for the host's user", "the container dev's own", granted]),
        (&["/bin/bkt", "--no-delegate", "admin", "daemon", "stop"], ["stopping the daemon: that is for the host's user", "the container dev's own", granted]),
        (&["/bin/bkt", "--no-delegate", "admin", "daemon", "reload"], ["reloading the daemon: that is for the host's user", "the container dev's own", granted]),
    ] {
        let output = dev.command(line).env("BKT_FALLBACK", "never").output().unwrap();
        println!("{line:?}: {}", text(&output.stderr));
        for part in parts {
            complaint(&output, 125, part);
        }
    }
    let sent = dev.command(&["/box/notify-send", "hello"]).output().unwrap();
    println!("notify-send: {}", text(&sent.stderr));
    assert!(!text(&sent.stderr).contains("denied"), "granted, though there is no desktop here: {}", text(&sent.stderr));
    assert_eq!(host.exec(["true"]).status().unwrap().code(), Some(0), "the user's own socket is as without a file");
    let log = host.log();
    let refusal = log.lines().find(|line| line.contains("stopping the daemon")).unwrap();
    assert!(refusal.contains(r#""container":"dev""#) && refusal.contains(r#""level":"warn""#), "{refusal}");
}

#[test]
fn inside_status_and_doctor_say_what_it_may_have_and_what_is_the_hosts() {
    let host = start(NOTIFY_ONLY);
    let dev = boxed(&host, "dev");
    let sentence =
        "how the daemon is, and what it runs: that is for the host's user; this socket is the container dev's own and serves what the host's policy grants it (granted: notify)";
    for line in [&["/bin/bkt", "status"][..], &["/bin/bkt", "doctor"]] {
        let output = dev.command(line).output().unwrap();
        let shown = text(&output.stdout);
        println!("{shown}");
        assert!(shown.contains(sentence) && shown.starts_with("bkt ") && shown.contains("in the container"), "{shown}{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    }
    let json: serde_json::Value = serde_json::from_str(&stdout(dev.command(&["/bin/bkt", "status", "--json"]).output().unwrap())).unwrap();
    assert_eq!((&json["host"], &json["container"]["daemon"]["state"]), (&serde_json::Value::Null, &"reserved".into()));
    assert_eq!(json["container"]["daemon"]["why"], sentence);
    let doctor: serde_json::Value = serde_json::from_str(&text(&dev.command(&["/bin/bkt", "doctor", "--json"]).output().unwrap().stdout)).unwrap();
    let checks = doctor["container"]["checks"].as_array().unwrap();
    let level = |name: &str| checks.iter().find(|check| check["check"] == name).map(|check| check["level"].clone());
    assert_eq!((level("socket"), level("daemon")), (Some("ok".into()), Some("ok".into())), "{doctor:#}");
}

#[test]
fn each_request_is_judged_by_the_socket_it_came_by() {
    let commands = r#""host_exec": {"default": "deny", "rules": [{"allow": "echo"}]}"#;
    let host = start(&format!(r#""container:dev": {{{commands}, "xdg_open": {{"default": "allow"}}}}, "container:web": {{"clipboard": "allow"}}"#));
    let account = Account::open(&host);
    let hello = Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(b"web"), capabilities: vec!["host_exec", "notify", "xdg_open", "clipboard", "teleport"] };
    for (path, granted) in [(socket(&host, "dev"), "host_exec xdg_open"), (socket(&host, "web"), "clipboard"), (host.socket(), "host_exec notify xdg_open clipboard")] {
        let mut peer = Peer::connect_to(&path);
        peer.say(&hello, None);
        let answer = peer.expect(kind::HelloAnswer);
        assert_eq!(message::decode::<message::HelloAnswer<'_>>(&answer.body).unwrap().accepted.join(" "), granted);
        // Whatever a hello was told, the request is judged.
        peer.say(&run(b"true\0"), None);
        if path == host.socket() {
            assert_eq!(peer.exit(), SUCCESS);
        } else {
            assert_eq!(peer.refusal().0, Code::Denied);
        }
    }
    let mut peer = Peer::connect_to(&socket(&host, "dev"));
    peer.say(&run(b"echo\0a\0"), None);
    assert_eq!(peer.exit(), SUCCESS);
    let ask = |path: &Path, say: &dyn Fn(&Peer)| {
        let mut peer = Peer::connect_to(path);
        say(&peer);
        peer.refusal().0
    };
    let dev = socket(&host, "dev");
    assert_eq!(ask(&dev, &|p| p.say(&Stop {}, None)), Code::Denied);
    assert_eq!(ask(&dev, &|p| p.say(&Reload {}, None)), Code::Denied);
    assert_eq!(ask(&dev, &|p| p.say(&StatusRequest {}, None)), Code::Denied);
    assert_eq!(ask(&dev, &|p| p.say(&GuestsRequest {}, None)), Code::Denied);
    assert_eq!(ask(&dev, &|p| p.say(&Enter { container: Bytes(b"web"), directory: None }, None)), Code::Denied);
    // Seven refusals, and by each of the two sockets one claim of another name, though dev has claimed two.
    account.close(7 + 2);
}

#[test]
fn a_guest_is_called_what_its_socket_is_called_and_nobody_else_is() {
    let host = start(r#""container:dev": {"notify": "allow"}, "container:web": {"enter": ["dev"]}"#);
    let _guest = {
        let claimed = boxed(&host, "dev").guest("bank", &[]);
        eventually("listed by its socket's name", || is_listed(&host, "dev"));
        claimed
    };
    assert!(!is_listed(&host, "bank"));
    assert_eq!(stdout(enter(&host, "dev", ["sh", "-c", "echo $INSIDE"]).output().unwrap()), "yes\n");
    assert_eq!(host.log().matches("the container dev calls itself bank; it is dev by its socket").count(), 1);

    // By the user's own socket, nobody takes the place of a container that has one.
    let mut peer = Peer::connect(&host);
    let hello = Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(b"web"), capabilities: vec![] };
    peer.say(&Serve { hello, returns: false }, None);
    let (code, sentence, _) = peer.refusal();
    assert!(code == Code::Denied && sentence.contains("web has a socket of its own"), "{sentence}");

    // The right to enter is by name, and nobody has it unnamed.
    let web = boxed(&host, "web");
    assert_eq!(stdout(web.command(&["/bin/bkt", "enter", "dev", "--", "sh", "-c", "echo through"]).output().unwrap()), "through\n");
    complaint(&boxed(&host, "dev").command(&["/bin/bkt", "enter", "dev", "--", "true"]).output().unwrap(), 125, "entering dev is denied by the host's policy");
    drop::<Guest>(_guest);
}

/// Whether some process has a mount of the directory of this container, whose name is nobody else's.
fn is_mounted(name: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let root = format!("/containers/{name} ");
    processes.filter_map(|process| fs::read_to_string(process.path().join("mountinfo")).ok()).any(|mounts| mounts.contains(&root))
}

#[test]
fn what_a_guest_leaves_that_is_killed_with_its_container_goes_with_the_next_one_or_with_the_socket() {
    // The daemon looks for mounts of directories of this name, whosever they are: other tests have some, too.
    let name = &*format!("left-{}", std::process::id());
    let host = start(&NOTIFY_ONLY.replace("container:dev", &format!("container:{name}")));
    let directory = socket(&host, name).parent().unwrap().to_path_buf();
    let link = directory.join("guests").join(name).join("bin/notify-send");
    let start = || {
        let dev = boxed(&host, name);
        // Not even root makes a directory where a file is.
        fs::write(dev.path("/run/bkt"), "").unwrap();
        let guest = dev.guest(name, &[]);
        eventually("it has its links", || link.is_symlink());
        guest
    };
    let killed = || {
        drop(start());
        eventually("the host has noticed", || !is_listed(&host, name));
        // A process closes its connections before it leaves its mounts.
        eventually("nobody has the directory mounted any more", || !is_mounted(name));
        assert!(link.is_symlink());
    };
    killed();
    let mut next = start();
    eventually("it is there", || is_listed(&host, name));
    support::kill(next.pid(), libc::SIGTERM);
    assert!(next.wait().success());
    assert!(directory.exists() && !directory.join("guests").exists());

    killed();
    // Not the user's own, where a container has laid a link.
    fs::create_dir_all(host.dir.0.join("mine/dev/bin")).unwrap();
    symlink(host.dir.0.join("mine"), directory.join("guests/mine")).unwrap();
    reload(&host, "");
    assert!(!host.dir.0.join("bkt/containers").exists() && host.dir.0.join("mine/dev/bin").exists());
}

#[test]
fn a_reload_makes_what_is_added_closes_what_is_dropped_and_keeps_the_rest() {
    let commands = r#"{"host_exec": {"default": "allow"}}"#;
    // As in the test before: nobody else's.
    let b = &*format!("b-{}", std::process::id());
    let host = start(&format!(r#""container:a": {commands}, "container:{b}": {commands}"#));
    let exec = |name: &str, script: &str| {
        let mut command = host.sh(script);
        command.env("BKT_SOCKET", socket(&host, name));
        command
    };
    let (pid_file, go) = (host.dir.0.join("pid"), host.dir.0.join("go"));
    let script = format!("echo $$ > {}; until test -e {}; do sleep 0.01; done; exit 9", pid_file.display(), go.display());
    let mut runs_on = Client(exec("a", &script).spawn().unwrap());
    let command = number_in(&pid_file);
    let kept = fs::metadata(socket(&host, b)).unwrap().ino();
    // What a container has done to its own is mended.
    let dev = boxed(&host, b);

    reload(&host, &format!(r#""container:{b}": {commands}, "container:c": {{"users": "mapped", "host_exec": {{"default": "allow"}}}}"#));
    assert!(!socket(&host, "a").exists() && lives(command));
    assert_eq!(fs::metadata(socket(&host, b)).unwrap().ino(), kept, "carried over");
    assert_eq!((mode(&socket(&host, b)), mode(socket(&host, b).parent().unwrap())), (0o600, 0o700));
    assert_eq!((mode(&socket(&host, "c")), mode(socket(&host, "c").parent().unwrap())), (0o666, 0o711));
    assert_eq!(mode(&host.dir.0.join("bkt/containers")), 0o700);
    for name in [b, "c"] {
        assert_eq!(exec(name, "exit 3").status().unwrap().code(), Some(3), "{name}");
    }
    complaint(&exec("a", "true").env("BKT_FALLBACK", "never").output().unwrap(), 125, "containers/a/host.sock");
    fs::write(&go, "").unwrap();
    assert_eq!(runs_on.wait().unwrap().code(), Some(9), "what runs goes on, and is told of its end");

    // A running container finds its socket again, in the directory that it has mounted. Others' go.
    let inside = dev.command(&["/bin/sh", "-c", "echo ready; read a; exec /box/host-exec sh -c 'exit 4'"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut inside = Client(inside.unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(inside.stdout.take().unwrap()), &mut line).unwrap();
    reload(&host, "");
    let there = |name: &str| host.dir.0.join("bkt/containers").join(name).exists();
    assert!(there(b) && !there("a") && !there("c") && !socket(&host, b).exists());
    complaint(&exec(b, "true").env("BKT_FALLBACK", "never").output().unwrap(), 125, "host.sock");
    reload(&host, &format!(r#""container:{b}": {commands}"#));
    drop(inside.stdin.take());
    assert_eq!(inside.wait().unwrap().code(), Some(4));

    // A policy that cannot be read changes nothing.
    write(&host.dir.0, r#""container:../x": {}"#);
    let output = host.bkt(["admin", "daemon", "reload"]).output().unwrap();
    complaint(&output, 125, "a container's name has 1 to 64 letters");
    assert_eq!(exec(b, "exit 3").status().unwrap().code(), Some(3));

    let mut host = host;
    host.signal_daemon(libc::SIGTERM);
    assert!(host.daemon.wait().unwrap().success());
    assert!(!host.dir.0.join("bkt").exists(), "nothing is left behind, now that no container has it mounted");
}

#[test]
fn nothing_in_a_containers_directory_is_followed_and_a_broken_one_is_said() {
    let host = start("");
    let precious = host.dir.0.join("precious");
    fs::write(&precious, "mine").unwrap();
    fs::set_permissions(&precious, fs::Permissions::from_mode(0o444)).unwrap();
    for name in ["link", "occupied"] {
        fs::create_dir_all(socket(&host, name).parent().unwrap()).unwrap();
    }
    symlink(&precious, socket(&host, "link")).unwrap();
    fs::create_dir(socket(&host, "occupied")).unwrap();
    let long = "x".repeat(64);
    let listeners = format!(r#""container:link": {{}}, "container:occupied": {{}}, "container:{long}": {{}}"#);
    reload(&host, &listeners);
    assert_eq!((fs::read_to_string(&precious).unwrap().as_str(), mode(&precious)), ("mine", 0o444));
    assert_eq!(mode(&socket(&host, "link")), 0o600);
    let shown = stdout(host.bkt(["status"]).env("BKT_SIDE", "host").env("HOME", &host.dir.0).output().unwrap());
    assert!(shown.contains("the container occupied has no socket: listen at "), "{shown}");
    let fits = socket(&host, &long).as_os_str().len() <= 107;
    assert_eq!(socket(&host, &long).exists(), fits, "{shown}");

    // It is in place again after whatever the container does with it.
    fs::remove_file(socket(&host, "link")).unwrap();
    let doctor = || text(&host.bkt(["doctor"]).env("BKT_SIDE", "host").env("HOME", &host.dir.0).output().unwrap().stdout);
    let shown = doctor();
    assert!(shown.contains("containers/link/host.sock is not there") && shown.contains("bkt admin daemon reload"), "{shown}");
    fs::remove_dir(socket(&host, "occupied")).unwrap();
    reload(&host, r#""container:link": {}, "container:occupied": {}"#);
    fs::set_permissions(socket(&host, "link"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(doctor().contains("containers/link/host.sock has mode 666, not 600"));
    stdout(host.bkt(["admin", "daemon", "reload"]).output().unwrap());
    assert_eq!((mode(&socket(&host, "link")), mode(&socket(&host, "occupied"))), (0o600, 0o600));
    let shown = doctor();
    assert!(!shown.contains("containers/"), "{shown}");
}

#[test]
fn one_container_does_not_take_the_room_of_others() {
    let host = start(r#""container:dev": {"host_exec": {"default": "allow"}}, "container:web": {"host_exec": {"default": "allow"}}"#);
    let account = Account::open(&host);
    let held: Vec<Peer> = (0..256).map(|_| Peer::connect_to(&socket(&host, "dev"))).collect();
    let (code, sentence, _) = Peer::connect_to(&socket(&host, "dev")).refusal();
    assert!(code == Code::Busy && sentence.contains("commands and callers of the container dev: 256,"), "{sentence}");
    assert_eq!(host.exec(["true"]).status().unwrap().code(), Some(0));
    assert_eq!(host.exec(["true"]).env("BKT_SOCKET", socket(&host, "web")).status().unwrap().code(), Some(0));
    drop(held);
    account.close(0);
    assert_eq!(host.exec(["true"]).env("BKT_SOCKET", socket(&host, "dev")).status().unwrap().code(), Some(0));
}

/// Makes a directory or file appear at another place, for this thread or process alone.
fn bind(from: &std::ffi::CStr, at: &std::ffi::CStr) {
    // SAFETY: valid strings; no file system type and no data are wanted.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "this test runs as root");
        assert_eq!(libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()), 0);
        assert_eq!(libc::mount(from.as_ptr(), at.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null()), 0);
    }
}

#[test]
fn subordinate_ids_may_call_only_where_the_policy_says_so() {
    let ids = support::TempDir::new();
    fs::write(ids.0.join("subuid"), "0:100000:65536\n").unwrap();
    let subuid = std::ffi::CString::new(ids.0.join("subuid").to_str().unwrap()).unwrap();
    let host = Host::start_with(|command| {
        let home: PathBuf = command.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap().into();
        let all = r#"{"users": "mapped", "host_exec": {"default": "allow"}}"#;
        write(&home, &format!(r#""container:mapped": {all}, "container:same": {{"host_exec": {{"default": "allow"}}}}"#));
        // SAFETY: system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                bind(&subuid, c"/etc/subuid");
                Ok(())
            });
        }
    });
    let call = |name: &str, user: libc::c_long| {
        let directory = std::ffi::CString::new(socket(&host, name).parent().unwrap().to_str().unwrap()).unwrap();
        // The mount and the user are this thread's alone: the bare system calls are, the libc's own are not.
        let peer = move || {
            bind(&directory, c"/mnt");
            // SAFETY: numbers only.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) }, 0);
            let made = bkt::sys::socket::connect(Path::new("/mnt/host.sock")).map(|socket| {
                let mut peer = Peer { channel: bkt::proto::channel::Channel::new(socket) };
                peer.say(&run(b"true\0"), None);
                let answer = peer.answer().unwrap();
                if answer.kind == kind::Refused { message::decode::<message::Refused<'_>>(&answer.body).unwrap().text.to_string() } else { "ran".to_string() }
            });
            made.unwrap_or_else(|e| e.to_string())
        };
        std::thread::scope(|scope| scope.spawn(peer).join().unwrap())
    };
    assert_eq!(call("mapped", 0), "ran");
    assert_eq!(call("mapped", 100_000), "ran");
    assert_eq!(call("mapped", 165_535), "ran");
    for stranger in [99_999, 165_536, 65_534] {
        assert_eq!(call("mapped", stranger), format!("this daemon serves uid 0 only; you are uid {stranger}"));
    }
    assert_eq!(call("same", 0), "ran");
    assert!(call("same", 100_000).contains("Permission denied"), "the file's modes already say so");
}
