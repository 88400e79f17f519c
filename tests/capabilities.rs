//! Capabilities of the host, used from a sandbox that has nothing but busybox and bkt: real notifications on a real session bus,
//! the real clipboards of X and of Wayland, and a real xdg-open with a handler that writes down what it got.
#![allow(unsafe_code)]

mod support;
use bkt::proto::capability::Capability;
use bkt::proto::message::{self, Bytes, Code, Run, Stream};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::peer::{Peer, run};
use support::sandbox::Sandbox;
use support::{BKT, Host, TempDir, complaint, eventually, lives, number_in, stdout, text};

/// All names that a container may have of them.
const NAMES: &[&str] = &["notify-send", "xdg-open", "podbox-clipboard", "bkt-clipboard", "wl-copy", "wl-paste", "xclip", "xsel", "pbcopy", "pbpaste", "host-exec"];

/// A policy that narrows nothing.
const EVERYTHING: &str = r#"{"listeners": {}}"#;

/// A program that lives as long as the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        // SAFETY: one system call between fork and exec: it must not outlive the test, however that ends.
        unsafe { command.pre_exec(|| if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }) };
        Running(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; tests/install-dependencies installs it")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An X server with nothing on it.
struct Screen {
    display: String,
    _server: Running,
}

impl Screen {
    fn start() -> Screen {
        let dir = TempDir::new();
        let number = dir.0.join("display");
        // It says which number was free.
        let script = r#"exec Xvfb -displayfd 1 -screen 0 640x480x24 -nolisten tcp >"$0" 2>/dev/null"#;
        let server = Running::start(Command::new("sh").args(["-c", script]).arg(&number));
        Screen { display: format!(":{}", number_in(&number)), _server: server }
    }
}

/// A session bus, and dunst on it.
struct Notifications {
    screen: Screen,
    address: String,
    _bus: Running,
    _dunst: Running,
    _dir: TempDir,
}

impl Notifications {
    /// `choice` is what a person picks when the menu of a notification's actions opens.
    fn start(choice: &str) -> Notifications {
        let (screen, dir) = (Screen::start(), TempDir::new());
        let address = format!("unix:path={}", dir.0.join("session").display());
        // No services to start by themselves: another dunst would come up before ours.
        let bus_settings = dir.0.join("bus.conf");
        let allow = "<policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy>";
        fs::write(&bus_settings, format!("<busconfig><type>session</type><listen>{address}</listen>{allow}</busconfig>")).unwrap();
        let bus = Running::start(
            Command::new("dbus-daemon").stderr(Stdio::null()).args(["--nofork", "--nopidfile", "--nosyslog"]).arg(format!("--config-file={}", bus_settings.display())),
        );
        eventually("the session bus listens", || dir.0.join("session").exists());
        let (menu, settings) = (dir.0.join("menu"), dir.0.join("dunstrc"));
        script(&menu, &format!("grep -m1 '{choice}'"));
        fs::write(&settings, format!("[global]\ndmenu = {}\nmax_icon_size = 32\n", menu.display())).unwrap();
        let log = File::create(dir.0.join("dunst.log")).unwrap();
        let mut dunst = Command::new("dunst");
        dunst.arg("-conf").arg(settings).env("DISPLAY", &screen.display).env("DBUS_SESSION_BUS_ADDRESS", &address).stdout(log.try_clone().unwrap()).stderr(log);
        let desktop = Notifications { screen, address, _bus: bus, _dunst: Running::start(&mut dunst), _dir: dir };
        eventually("dunst answers", || desktop.dunstctl(&["count", "displayed"]).status.success());
        desktop
    }

    fn dunstctl(&self, args: &[&str]) -> Output {
        Command::new("dunstctl").args(args).env("DBUS_SESSION_BUS_ADDRESS", &self.address).output().unwrap()
    }

    fn displayed(&self) -> usize {
        text(&self.dunstctl(&["count", "displayed"]).stdout).trim().parse().unwrap()
    }

    /// A daemon of this desktop's session.
    fn host(&self) -> Host {
        self.host_with(EVERYTHING)
    }

    fn host_with(&self, policy: &str) -> Host {
        Host::start_with(|command| {
            set_policy(command, policy);
            command.env("DISPLAY", &self.screen.display).env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        })
    }

    /// What has been shown, newest first, after all of it is closed.
    fn history(&self) -> Vec<serde_json::Value> {
        assert!(self.dunstctl(&["close-all"]).status.success());
        eventually("nothing is displayed", || self.displayed() == 0);
        let history: serde_json::Value = serde_json::from_slice(&self.dunstctl(&["history"]).stdout).unwrap();
        history["data"][0].as_array().unwrap().clone()
    }
}

/// A variable of a command that was set for it.
fn var(command: &Command, name: &str) -> PathBuf {
    PathBuf::from(command.get_envs().find(|(k, _)| *k == name).unwrap().1.unwrap())
}

fn set_policy(command: &Command, policy: &str) {
    let directory = var(command, "HOME").join(".config/bkt");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("policy.json"), policy).unwrap();
}

/// No capability but one.
fn only(capability: &str) -> String {
    let all = [("host_exec", r#"{"default": "deny"}"#), ("notify", r#""deny""#), ("xdg_open", r#"{"default": "deny"}"#), ("clipboard", r#""deny""#)];
    let denied: Vec<String> = all.iter().filter(|(name, _)| *name != capability).map(|(name, deny)| format!(r#""{name}": {deny}"#)).collect();
    format!(r#"{{"listeners": {{"host": {{{}}}}}}}"#, denied.join(", "))
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn of<'a>(shown: &'a serde_json::Value, what: &str) -> &'a str {
    shown[what]["data"].as_str().unwrap_or_else(|| panic!("{what} in {shown}"))
}

/// Copies that the daemon's programs may open by name.
fn handed(host: &Host) -> Vec<PathBuf> {
    let places = fs::read_dir(host.dir.0.join("bkt/host.sock.files")).into_iter().flatten().flatten();
    places.flat_map(|place| fs::read_dir(place.path()).unwrap().flatten().map(|file| file.path())).collect()
}

// ---- notifications

#[test]
fn a_notification_from_a_sandbox_is_shown_by_the_hosts_service() {
    let desktop = Notifications::start("Yes");
    let host = desktop.host();
    let sandbox = Sandbox::new(&host, NAMES);
    let args = ["/names/notify-send", "-u", "critical", "-t", "0", "--app-name=Über", "-c", "im.received", "-h", "int:value:42", "--", "-n\u{fc}", "two\\nlines"];
    stdout(sandbox.command(&args).output().unwrap());
    let printed = stdout(sandbox.sh("notify-send -p one; notify-send -p -r 77 other").output().unwrap());
    let numbers: Vec<u32> = printed.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!((numbers.len(), numbers[1]), (2, 77), "{printed}");
    let history = desktop.history();
    let first = history.iter().find(|shown| of(shown, "summary") == "-n\u{fc}").unwrap_or_else(|| panic!("{history:?}"));
    assert_eq!((of(first, "body"), of(first, "appname"), of(first, "category")), ("two\nlines", "Über", "im.received"));
    assert_eq!((&first["progress"]["data"], &first["timeout"]["data"]), (&42.into(), &0.into()));
}

#[test]
fn the_key_of_the_chosen_action_is_printed_and_nothing_where_none_was_chosen() {
    let desktop = Notifications::start("Later");
    let host = desktop.host();
    let sandbox = Sandbox::new(&host, NAMES);
    let show = |args: &[&str]| {
        let all: Vec<&str> = ["/names/notify-send"].iter().chain(args).copied().collect();
        let child = sandbox.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("it is displayed", || desktop.displayed() == 1);
        child
    };
    for (args, answer, printed) in [
        (&["-A", "now=Restart now", "--action=later=Later", "Update", "ready"][..], "context", "later\n"),
        (&["-A", "default=Open", "-A", "x=Other", "Mail"][..], "action", "default\n"),
        (&["-A", "Now", "-A", "Later", "Numbered"][..], "context", "1\n"),
        (&["-A", "a=A", "Unanswered"][..], "close", ""),
        (&["-w", "Waited for"][..], "close", ""),
    ] {
        let child = show(args);
        assert!(desktop.dunstctl(&[answer]).status.success());
        assert_eq!(stdout(child.wait_with_output().unwrap()), printed, "{args:?}");
        eventually("nothing is displayed", || desktop.displayed() == 0);
    }
}

#[test]
fn a_caller_that_goes_takes_its_waiting_notification_along() {
    let desktop = Notifications::start("Yes");
    let host = desktop.host();
    let sandbox = Sandbox::new(&host, NAMES);
    let before = host.descriptors();
    let mut child = sandbox.command(&["/names/notify-send", "-w", "Waiting"]).spawn().unwrap();
    eventually("it is displayed", || desktop.displayed() == 1);
    let waiting = host.children();
    assert_eq!(waiting.len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the host's notify-send has ended", || !lives(waiting[0]) && host.children().is_empty());
    eventually("the daemon has let go of all", || host.descriptors() == before);
}

#[test]
fn an_icon_that_only_the_sandbox_has_travels_and_one_that_both_have_goes_by_its_path() {
    let desktop = Notifications::start("Yes");
    let host = desktop.host();
    let mut sandbox = Sandbox::new(&host, NAMES);
    let shared = TempDir::new();
    sandbox.share(&shared.0);
    // A picture of one red point.
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'><rect width='8' height='8' fill='red'/></svg>";
    for path in [sandbox.path("tmp/own.svg"), sandbox.path("usr/share/pixmaps/only-in-the-sandbox.svg"), shared.0.join("both.svg")] {
        fs::write(path, svg).unwrap();
    }
    let both = shared.0.join("both.svg");
    let script = format!(
        "notify-send -i own.svg relative; notify-send -i file:///tmp/own.svg uri; notify-send -i only-in-the-sandbox named; notify-send -h string:image-path:/tmp/own.svg hint;
         notify-send -i {0} shared; notify-send -i /run/host{0} through; notify-send -i dialog-information theme; cat /tmp/own.svg | notify-send -i /dev/stdin piped",
        both.display()
    );
    stdout(sandbox.sh(&script).output().unwrap());
    let copies = handed(&host);
    assert_eq!(copies.len(), 5, "{copies:?}");
    assert!(copies.iter().all(|copy| fs::read_to_string(copy).unwrap() == svg));
    let history = desktop.history();
    let icon = |summary: &str| {
        history.iter().find(|shown| of(shown, "summary") == summary).map(|shown| of(shown, "icon_path").to_string()).unwrap_or_else(|| panic!("{summary}: {history:?}"))
    };
    for (summary, name) in [("relative", "own.svg"), ("uri", "own.svg"), ("named", "only-in-the-sandbox.svg"), ("hint", "own.svg"), ("piped", "stdin")] {
        assert!(copies.iter().any(|copy| copy.display().to_string() == icon(summary)) && icon(summary).ends_with(name), "{summary}: {}", icon(summary));
    }
    assert_eq!((icon("shared"), icon("through")), (both.display().to_string(), both.display().to_string()));
    fs::write(sandbox.path("tmp/large.png"), vec![0; 1024 * 1024 + 1]).unwrap();
    complaint(&sandbox.command(&["/names/notify-send", "-i", "large.png", "x"]).output().unwrap(), 125, "longer than 1048576 bytes");
    // The copies go with the daemon.
    assert!(host.bkt(["admin", "daemon", "stop"]).status().unwrap().success());
    eventually("nothing is left of them", || !host.dir.0.join("bkt").exists());
}

#[test]
fn wrong_options_are_named_and_an_old_notify_send_is_told_from_a_missing_one() {
    let programs = TempDir::new();
    for name in ["sh", "cat"] {
        symlink(format!("/bin/{name}"), programs.0.join(name)).unwrap();
    }
    let host = Host::start_with(|command| {
        command.env("PATH", &programs.0);
    });
    let sandbox = Sandbox::new(&host, NAMES);
    let send = |args: &[&str]| sandbox.command(&[&["/names/notify-send"], args].concat()).output().unwrap();
    for (args, part) in [
        (&["-u", "loud", "x"][..], "--urgency wants low, normal or critical, not 'loud'"),
        (&["-t", "5s", "x"], "--expire-time wants milliseconds"),
        (&["-h", "x", "y"], "TYPE:NAME:VALUE"),
        (&["--frobnicate", "y"], "invalid option '--frobnicate'"),
        (&[], "there is no summary"),
        (&["a", "b", "c"], "'c' is too much"),
    ] {
        complaint(&send(args), 125, part);
    }
    assert!(stdout(send(&["--help"])).contains("--action"));
    complaint(&send(&["x"]), 127, "the host has no notify-send: install there the package that has it (libnotify");
    script(&programs.0.join("notify-send"), "echo 'Application Options: --urgency'; echo \"$@\" >&2");
    complaint(&send(&["-A", "a=A", "x"]), 125, "the host's notify-send has no --action: it comes with libnotify 0.8");
    assert_eq!(text(&send(&["-u", "low", "x", "y"]).stderr), "--urgency=low -- x y\n");
}

// ---- opening

/// A host whose handler for addresses and texts writes down its argument, its environment, and the file where it is one.
struct Opener {
    host: Host,
    noted: PathBuf,
}

impl Opener {
    fn start(policy: &str) -> Opener {
        let host = Host::start_with(|command| {
            let home = var(command, "HOME");
            let applications = home.join(".local/share/applications");
            fs::create_dir_all(&applications).unwrap();
            script(
                &home.join("handler"),
                &format!("cd {0}; printf '%s\\n' \"$1\" >name.new; env >env; if [ -f \"$1\" ]; then cat \"$1\" >content; fi; mv name.new name", home.display()),
            );
            let handler = format!("[Desktop Entry]\nType=Application\nName=Handler\nExec={}/handler %u\n", home.display());
            fs::write(applications.join("handler.desktop"), handler).unwrap();
            let kinds = ["x-scheme-handler/http", "x-scheme-handler/https", "x-scheme-handler/mailto", "x-scheme-handler/tel", "text/plain", "inode/directory"];
            let list: String = kinds.iter().map(|kind| format!("{kind}=handler.desktop\n")).collect();
            fs::write(applications.join("mimeapps.list"), format!("[Default Applications]\n{list}")).unwrap();
            // A display is all that xdg-open asks for; the handler draws nothing.
            set_policy(command, policy);
            command.env("DISPLAY", ":4712");
        });
        let noted = host.dir.0.join("name");
        Opener { host, noted }
    }

    /// What the handler was given since the last time.
    fn opened(&self) -> String {
        eventually("the handler was called", || self.noted.exists());
        let name = fs::read_to_string(&self.noted).unwrap();
        fs::remove_file(&self.noted).unwrap();
        name.trim_end_matches('\n').to_string()
    }
}

#[test]
fn a_uri_of_an_allowed_scheme_is_opened_by_the_hosts_handler() {
    let opener = Opener::start(EVERYTHING);
    let sandbox = Sandbox::new(&opener.host, NAMES);
    for uri in ["https://example.org/a?b=c&d=%20#e", "HTTP://example.org/$(touch${IFS}x)", "mailto:a@example.org?subject=x;y", "tel:+49-30-1", "http://a/'x'"] {
        stdout(sandbox.command(&["/names/xdg-open", uri]).output().unwrap());
        // Handlers are registered for schemes in small letters.
        assert_eq!(opener.opened(), uri.replace("HTTP:", "http:"));
    }
    let env = fs::read_to_string(opener.host.dir.0.join("env")).unwrap();
    assert!(env.contains("SERVER_SIDE=yes") && env.contains("BKT_OP_ID=op-") && env.contains("DISPLAY=:4712"), "{env}");
    assert!(!env.to_lowercase().contains("evil"), "nothing of the sandbox's environment: {env}");
    assert!(!opener.host.dir.0.join("x").exists());
}

#[test]
fn what_the_daemon_does_itself_has_the_limits_that_it_was_started_with() {
    let noted = TempDir::new();
    let host = Host::start_with(|command| {
        let bin = var(command, "HOME").join("bin");
        fs::create_dir_all(&bin).unwrap();
        script(&bin.join("xdg-open"), &format!("ulimit -Sn >{0}/new; mv {0}/new {0}/limit", noted.0.display()));
        command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())).env("DISPLAY", ":4712");
        let few = |hard| libc::rlimit { rlim_cur: 300, rlim_max: hard };
        let hard = bkt::sys::process::limits()[libc::RLIMIT_NOFILE as usize].hard;
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(move || if libc::setrlimit(libc::RLIMIT_NOFILE, &few(hard)) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }) };
    });
    for _ in 0..2 {
        let mut peer = Peer::connect(&host);
        peer.say(&Run { capability: Capability::XdgOpen as u8, ..run(b"uri\0tel:1\0") }, None);
        assert!(!peer.exit().by_signal);
        assert_eq!(number_in(&noted.0.join("limit")), 300);
        fs::remove_file(noted.0.join("limit")).unwrap();
        assert!(host.bkt(["admin", "daemon", "reload"]).status().unwrap().success());
    }
}

#[test]
fn the_policy_names_the_schemes() {
    let opener = Opener::start(r#"{"listeners": {"host": {"xdg_open": {"default": "allow", "schemes": ["TEL", "vscode"]}}}}"#);
    let sandbox = Sandbox::new(&opener.host, NAMES);
    stdout(sandbox.command(&["/names/xdg-open", "tel:1"]).output().unwrap());
    assert_eq!(opener.opened(), "tel:1");
    complaint(&sandbox.command(&["/names/xdg-open", "https://a"]).output().unwrap(), 125, "does not allow 'https:' (allowed: TEL,vscode)");
}

#[test]
fn what_is_no_allowed_uri_is_refused_with_a_sentence_and_opens_nothing() {
    let opener = Opener::start(EVERYTHING);
    let sandbox = Sandbox::new(&opener.host, NAMES);
    for (args, code, part) in [
        (&["ftp://example.org"][..], 125, "the host's policy does not allow 'ftp:' (allowed: http,https,mailto,tel)"),
        (&["javascript:alert(1)"], 125, "does not allow 'javascript:'"),
        (&["http://a b"], 125, "a blank, a quote or a control character"),
        (&["http://a/\u{1b}[2J"], 125, "a blank, a quote or a control character"),
        (&["mailto:a@b?attach=/etc/passwd"], 125, "attachment"),
        (&["--config=/etc/passwd"], 1, "unexpected option '--config=/etc/passwd'"),
        (&["-e", "/bin/sh"], 1, "unexpected option '-e'"),
        (&["http://a", "http://b"], 1, "unexpected argument 'http://b'"),
        (&[], 1, "wants a file or a URL"),
        (&["/no/such/file"], 2, "/no/such/file: No such file or directory"),
        (&["file:///no/such/file"], 2, "/no/such/file: No such file or directory"),
        (&["/dev/null"], 125, "neither a file nor a directory"),
        // The host's is another.
        (&["/bin"], 125, "the host does not have this directory"),
        (&["/names"], 125, "the host does not have this directory"),
    ] {
        let output = sandbox.command(&[&["/names/xdg-open"], args].concat()).output().unwrap();
        complaint(&output, code, part);
    }
    fs::write(sandbox.path("tmp/x.desktop"), "[Desktop Entry]\nType=Application\nExec=touch /tmp/evil\n").unwrap();
    complaint(&sandbox.command(&["/names/xdg-open", "x.desktop"]).output().unwrap(), 125, "such a file runs when it is opened");
    assert!(stdout(sandbox.command(&["/names/xdg-open", "--help"]).output().unwrap()).contains("--manual"));
    assert!(stdout(sandbox.command(&["/names/xdg-open", "--version"]).output().unwrap()).starts_with("xdg-open"));
    assert!(!opener.noted.exists() && handed(&opener.host).is_empty());
}

#[test]
fn a_file_of_both_sides_is_opened_by_its_path_and_one_of_the_sandbox_alone_as_a_copy() {
    let opener = Opener::start(EVERYTHING);
    let mut sandbox = Sandbox::new(&opener.host, NAMES);
    let shared = TempDir::new();
    sandbox.share(&shared.0);
    let both = shared.0.join("both sides.txt");
    fs::write(&both, "both\n").unwrap();
    let path = both.display().to_string();
    for name in [path.clone(), format!("/run/host{path}"), format!("file://{}", path.replace(' ', "%20"))] {
        if name.starts_with("/run/host") {
            // As distrobox shows the host's tree.
            fs::create_dir_all(sandbox.path("run/host/tmp")).unwrap();
            let _ = symlink(&shared.0, sandbox.path(format!("/run/host{}", shared.0.display())));
        }
        stdout(sandbox.command(&["/names/xdg-open", &name]).output().unwrap());
        assert_eq!(opener.opened(), path, "{name}");
    }
    stdout(sandbox.command(&["/names/xdg-open", shared.0.to_str().unwrap()]).output().unwrap());
    assert_eq!(opener.opened(), shared.0.display().to_string(), "a directory of both sides");
    // The host has another file of this path.
    fs::create_dir_all(sandbox.path("etc")).unwrap();
    fs::write(sandbox.path("etc/hostname"), "sandboxed\n").unwrap();
    fs::write(sandbox.path("tmp/-own; file.txt"), "own\n").unwrap();
    for (name, copied, content) in [("/etc/hostname", "hostname", "sandboxed\n"), ("./-own; file.txt", "own_ file.txt", "own\n")] {
        stdout(sandbox.command(&["/names/xdg-open", name]).output().unwrap());
        let opened = PathBuf::from(opener.opened());
        assert!(opened.starts_with(opener.host.dir.0.join("bkt/host.sock.files")), "{opened:?}");
        assert_eq!((opened.file_name().unwrap().to_str().unwrap(), fs::read_to_string(opener.host.dir.0.join("content")).unwrap().as_str()), (copied, content));
        let about = fs::metadata(&opened).unwrap();
        assert_eq!((about.mode() & 0o777, fs::metadata(opened.parent().unwrap()).unwrap().mode() & 0o777), (0o400, 0o700));
    }
}

#[test]
fn what_a_container_hands_over_by_its_own_socket_lies_apart_and_goes_with_the_daemon() {
    let mut opener = Opener::start(r#"{"listeners": {"container:dev": {"xdg_open": {"default": "allow"}}}}"#);
    let mut sandbox = Sandbox::new(&opener.host, NAMES);
    let shared = TempDir::new();
    sandbox.share(&shared.0);
    fs::write(sandbox.path("tmp/own.txt"), "own\n").unwrap();
    let open = |name: &str| stdout(sandbox.command(&["/names/xdg-open", name]).env("BKT_SOCKET", "/run/bkt/containers/dev/host.sock").output().unwrap());
    open("own.txt");
    let opened = PathBuf::from(opener.opened());
    assert!(opened.starts_with(opener.host.dir.0.join("bkt/host.sock.files.dev")) && opened.ends_with("own.txt"), "{opened:?}");
    assert!(handed(&opener.host).is_empty());
    // A link is judged by what it leads to, and that is what is opened: it may lead elsewhere a moment later.
    fs::write(shared.0.join("real.txt"), "text\n").unwrap();
    symlink("real.txt", shared.0.join("link.txt")).unwrap();
    open(shared.0.join("link.txt").to_str().unwrap());
    assert_eq!(opener.opened(), shared.0.join("real.txt").display().to_string());
    opener.host.signal_daemon(libc::SIGTERM);
    assert!(opener.host.daemon.wait().unwrap().success());
    assert!(!opener.host.dir.0.join("bkt").exists(), "copies, sockets and directories are gone");
}

#[test]
fn the_host_without_xdg_open_names_the_package() {
    let programs = TempDir::new();
    let host = Host::start_with(|command| {
        command.env("PATH", &programs.0).env("DISPLAY", ":4714");
    });
    let sandbox = Sandbox::new(&host, NAMES);
    complaint(&sandbox.command(&["/names/xdg-open", "http://a"]).output().unwrap(), 127, "the host has no xdg-open: install there the package that has it (xdg-utils)");
    complaint(&sandbox.command(&["/names/wl-paste"]).output().unwrap(), 127, "neither xclip nor xsel");
}

// ---- the clipboard

/// Bytes of every value, without end or beginning that a tool could trim unseen.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).chain(*b"\n\n").collect()
}

fn given(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    // To the ends of both: whoever kept one of them open would keep us here.
    child.wait_with_output().unwrap()
}

/// What is true of every clipboard, whatever serves it.
fn any_clipboard(host: &Host, on_wayland: bool) {
    let sandbox = Sandbox::new(host, NAMES);
    let sh = |script: &str| stdout(sandbox.sh(script).output().unwrap());
    // Any size, any bytes, both names, and the content stays when all callers have gone.
    for length in [0, 1, 3_000_000] {
        let content = bytes(length);
        stdout(given(&mut sandbox.sh("podbox-clipboard set"), &content));
        for _ in 0..2 {
            let got = sandbox.sh("bkt-clipboard get").output().unwrap();
            assert!(got.status.success() && got.stdout == content, "{length}: {} bytes, {}", got.stdout.len(), text(&got.stderr));
        }
    }
    assert_eq!(sh("x=$(printf 'a\\n\\n' | podbox-clipboard set 2>&1); printf '<%s>' \"$x\"; podbox-clipboard get"), "<>a\n\n");
    // The two selections are two.
    assert_eq!(sh("printf p | podbox-clipboard set --primary; printf c | podbox-clipboard set; podbox-clipboard get --primary; podbox-clipboard get"), "pc");
    // The names that scripts know.
    assert_eq!(sh("wl-copy Hello '  World'; wl-paste; wl-paste -n"), "Hello   World\nHello   World");
    assert_eq!(sh("printf 'x\\n\\n' | wl-copy -n; wl-paste -n; printf y | wl-copy -p; wl-paste -np"), "x\ny");
    assert_eq!(sh("printf one | xclip; printf 'two\\n' | xclip -sel clip; xclip -o; xclip -selection c -o -r"), "onetwo");
    assert_eq!(sh("printf 1 >/tmp/1; printf 2 >/tmp/2; xclip -selection clipboard -f </tmp/1; xclip /tmp/1 /tmp/2 -i -sel c; xclip -o -sel c"), "112");
    assert_eq!(sh("printf s | xsel -ib; printf t | xsel -ab; xsel -ob; xsel -b | cat"), "stst");
    assert_eq!(sh("printf mac | pbcopy; pbpaste; pbpaste -pboard general"), "macmac");
    // A picture is not text, and comes as it went.
    let picture = [&b"\x89PNG\r\n\x1a\n"[..], &bytes(5_000)].concat();
    stdout(given(&mut sandbox.sh("wl-copy -t image/png"), &picture));
    assert!(sandbox.sh("wl-paste").output().unwrap().stdout == picture, "without a newline of ours");
    assert!(sandbox.sh("xclip -o -selection clipboard -t image/png").output().unwrap().stdout == picture);
    assert!(sh("wl-paste -l").lines().any(|kind| kind == "image/png") && sh("xclip -o -sel c -t TARGETS").contains("image/png"));
    // Once is once.
    let once = sandbox.sh("printf secret | wl-copy -o; wl-paste -n; echo; wl-paste -n 2>/dev/null | cat").output().unwrap();
    // wl-copy's own --paste-once is now and then gone before the first paste (seen with wl-clipboard 2.1 on sway, without us), so
    // there it is only certain that nobody gets it twice.
    let lost = on_wayland && text(&once.stdout) == "\n";
    assert!(lost || text(&once.stdout) == "secret\n", "{:?}, {}", text(&once.stdout), text(&once.stderr));
    sh("printf x | wl-copy; wl-copy --clear");
    assert_eq!(text(&sandbox.sh("podbox-clipboard get").output().unwrap().stdout), "");
    for (script, part) in [
        ("bkt-clipboard", "set, get, clear or types"),
        ("bkt-clipboard get --type 'a b'", "'a b' is no type"),
        ("wl-paste --watch cat", "--watch"),
        ("xsel -x", "--exchange"),
        ("xclip /no/such", "/no/such: No such file"),
    ] {
        let output = sandbox.sh(script).output().unwrap();
        complaint(&output, output.status.code().filter(|code| [1, 125].contains(code)).unwrap(), part);
    }
    eventually("nothing of it is a child of the daemon's", || host.children().is_empty());
}

#[test]
fn the_clipboard_of_x_takes_and_gives_any_bytes() {
    let screen = Screen::start();
    let host = Host::start_with(|command| {
        command.env("DISPLAY", &screen.display);
    });
    any_clipboard(&host, false);
    // A caller that is killed while it is still being read sets nothing, and leaves nothing behind.
    let sandbox = Sandbox::new(&host, NAMES);
    stdout(given(&mut sandbox.sh("xclip -sel c"), b"before"));
    let mut child = sandbox.sh("podbox-clipboard set").stdin(Stdio::piped()).spawn().unwrap();
    // Waiting for it would close this, and then there would be no more to read.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"half").unwrap();
    eventually("it is being read", || host.children().len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the host's side has ended", || host.children().is_empty());
    drop(input);
    assert_eq!(stdout(sandbox.sh("xclip -sel c -o").output().unwrap()), "before");
    // Served in the foreground, it ends when something else is set.
    let foreground = sandbox.sh("printf f | xclip -quiet -sel c").stderr(Stdio::null()).spawn().unwrap();
    eventually("it is served", || sandbox.sh("xclip -sel c -o").output().unwrap().stdout == b"f");
    stdout(sandbox.sh("printf g | wl-copy").output().unwrap());
    assert!(foreground.wait_with_output().unwrap().status.success());
}

#[test]
fn the_host_with_xsel_alone_carries_text_and_names_xclip_for_more() {
    let (screen, programs) = (Screen::start(), TempDir::new());
    symlink("/usr/bin/xsel", programs.0.join("xsel")).unwrap();
    let host = Host::start_with(|command| {
        command.env("DISPLAY", &screen.display).env("PATH", &programs.0);
    });
    let sandbox = Sandbox::new(&host, NAMES);
    assert_eq!(stdout(sandbox.sh("printf 'a\\nb' | wl-copy; wl-paste -n; wl-copy -c; wl-paste -n").output().unwrap()), "a\nb");
    complaint(&sandbox.sh("wl-copy -t image/png x").output().unwrap(), 127, "install xclip there");
    complaint(&sandbox.sh("wl-paste -l").output().unwrap(), 127, "install xclip there");
}

#[test]
fn the_clipboard_of_wayland_takes_and_gives_any_bytes() {
    // sway does not run as root: an ordinary user's session, which the daemon finds by its socket.
    let dir = TempDir::new();
    let runtime = dir.0.join("runtime");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    let (user, group) = (65_534, 65_534);
    std::os::unix::fs::chown(&runtime, Some(user), Some(group)).unwrap();
    fs::write(dir.0.join("config"), "xwayland disable\n").unwrap();
    let log = File::create(dir.0.join("log")).unwrap();
    let mut sway = Command::new("setpriv");
    sway.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL", "sway", "-c"])
        .arg(dir.0.join("config"))
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap());
    sway.envs([("WLR_BACKENDS", "headless"), ("WLR_LIBINPUT_NO_DEVICES", "1"), ("WLR_RENDERER", "pixman")]).env("XDG_RUNTIME_DIR", &runtime).env("HOME", &runtime);
    let _sway = Running::start(sway.stdout(log.try_clone().unwrap()).stderr(log));
    eventually("sway listens", || runtime.join("wayland-1").exists());
    let host = Host::start_with(|command| {
        let directory = var(command, "XDG_RUNTIME_DIR");
        fs::write(directory.join("wayland-0"), "stale, and no socket at all").unwrap();
        symlink(runtime.join("wayland-1"), directory.join("wayland-1")).unwrap();
    });
    any_clipboard(&host, true);
    let sandbox = Sandbox::new(&host, NAMES);
    stdout(sandbox.sh("printf x | wl-copy -t text/x-own; bkt-clipboard get --type text/x-own").output().unwrap());
    complaint(&sandbox.sh("bkt-clipboard get --type image/png").output().unwrap(), 1, "the host's /usr/bin/wl-paste says");
    complaint(&sandbox.sh("xsel -is </dev/null").output().unwrap(), 125, "Wayland, which has no secondary selection");
}

#[test]
fn a_host_without_a_desktop_says_so() {
    let host = Host::start();
    let sandbox = Sandbox::new(&host, NAMES);
    // Another test's X server may be there to be found: then there is a clipboard after all.
    let output = sandbox.sh("podbox-clipboard types").output().unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success() && (said.contains("neither Wayland nor X runs there") || said.contains("the host's /")), "{said}");
    // A script is told of that, too, and not of a command's own end.
    let told = stdout(sandbox.sh("BKT_FAILURE_FD=9 /names/podbox-clipboard get 9>&1 2>/dev/null; BKT_FAILURE_FD=9 /names/host-exec sh -c 'exit 125' 9>&1; true").output().unwrap());
    assert!(told.starts_with("failed 125 op-") && told.lines().count() == 1, "{told:?}");
}

#[test]
fn who_uses_the_clipboard_without_end_takes_his_own_room_alone() {
    let screen = Screen::start();
    let host = Host::start_with(|command| {
        set_policy(command, r#"{"listeners": {"container:dev": {"clipboard": "allow"}}}"#);
        command.env("DISPLAY", &screen.display);
    });
    let of_container = host.dir.0.join("bkt/containers/dev/host.sock");
    let words = [&b"set"[..], b""].join(&0);
    let (reading, _writing) = std::io::pipe().unwrap();
    // Its content never comes.
    let start = || {
        let peer = Peer::connect_to(&of_container);
        let mut request = Run { capability: Capability::Clipboard as u8, ..run(&words) };
        request.streams[0] = Stream::Passed;
        peer.send(&message::encode(&request, 1, None), &[reading.as_fd()]);
        peer
    };
    let hold = |mut peer: Peer| {
        peer.expect(message::kind::Started);
        peer
    };
    let mut held: Vec<Peer> = (0..4).map(|_| hold(start())).collect();
    let mut one_more = start();
    let (code, sentence, _) = one_more.refusal();
    assert!(code == Code::Busy && sentence.contains("4 callers use the clipboard already"), "{sentence}");
    // Of the user's own socket there is room.
    stdout(given(&mut Sandbox::new(&host, NAMES).command(&["/names/podbox-clipboard", "set"]), b"mine"));
    held.clear();
    eventually("there is room again", || {
        let mut peer = start();
        let refused = peer.answer().is_some_and(|answer| answer.kind == message::kind::Refused && text(&answer.body).contains("already"));
        !refused
    });
}

// ---- commands, and who may what

#[test]
fn host_exec_takes_everything_after_it_literally() {
    let host = Host::start();
    let sandbox = Sandbox::new(&host, NAMES);
    let exec = |args: &[&str]| sandbox.command(&[&["/names/host-exec"], args].concat()).output().unwrap();
    assert_eq!(stdout(exec(&["printf", "<%s>", "--help", "-v", "--", "a b", ""])), "<--help><-v><--><a b><>");
    assert_eq!(stdout(exec(&["sh", "-c", "echo $SERVER_SIDE"])), "yes\n");
    for code in [0, 3, 125, 255] {
        assert_eq!(exec(&["sh", "-c", &format!("exit {code}")]).status.code(), Some(code));
    }
    complaint(&exec(&["--help"]), 127, "--help: command not found on the daemon's side");
    complaint(&exec(&[]), 125, "host-exec wants a command");
    assert_eq!(text(&given(&mut sandbox.command(&["/names/host-exec", "cat"]), b"through\0it").stdout), "through\0it");
}

#[test]
fn a_listener_that_grants_one_capability_refuses_all_others_in_words() {
    let desktop = Notifications::start("Yes");
    let host = desktop.host_with(&only("notify"));
    let sandbox = Sandbox::new(&host, NAMES);
    let policy = host.dir.0.join(".config/bkt/policy.json");
    stdout(sandbox.command(&["/names/notify-send", "granted"]).output().unwrap());
    assert_eq!(of(&desktop.history()[0], "summary"), "granted");
    for (args, capability) in [
        (&["host-exec", "true"][..], "host_exec"),
        (&["xdg-open", "https://example.org"], "xdg_open"),
        (&["podbox-clipboard", "get"], "clipboard"),
        (&["wl-copy", "x"], "clipboard"),
        (&["xsel", "-o"], "clipboard"),
    ] {
        let output = sandbox.command(&[&[format!("/names/{}", args[0]).as_str()], &args[1..]].concat()).output().unwrap();
        let what = if capability == "host_exec" { "true" } else { capability };
        complaint(&output, 125, &format!("{what} is denied by the host's policy {}", policy.display()));
        complaint(&output, 125, "(granted: notify); the host's user can allow it there");
        assert!(text(&output.stderr).contains(capability));
        println!("$ {}\n{}", args.join(" "), text(&output.stderr).trim_end());
    }
    // A shim is host_exec, too, and a reload changes nothing of it.
    let reloaded = host.log();
    assert!(host.bkt(["admin", "daemon", "reload"]).status().unwrap().success());
    eventually("it has reloaded", || host.log()[reloaded.len()..].contains("reloaded as version"));
    complaint(&host.exec(["true"]).output().unwrap(), 125, "host_exec is not granted (granted: notify)");
    stdout(sandbox.command(&["/names/notify-send", "still"]).output().unwrap());
    assert!(host.log().contains("refused: xdg_open is denied"));
    // What is allowed is read anew.
    fs::write(&policy, r#"{"listeners": {"host": {"host_exec": {"default": "deny", "rules": [{"allow": "true"}]}}}}"#).unwrap();
    let reloaded = host.log();
    assert!(host.bkt(["admin", "daemon", "reload"]).status().unwrap().success());
    eventually("it has reloaded", || host.log()[reloaded.len()..].contains("reloaded as version"));
    stdout(sandbox.command(&["/names/host-exec", "true"]).output().unwrap());
    complaint(&sandbox.command(&["/names/host-exec", "id", "-u"]).output().unwrap(), 125, "id is denied by the host's policy");
    complaint(&sandbox.command(&["/names/host-exec", "id", "-u"]).output().unwrap(), 125, "allowed are 'true'");
}

#[test]
fn a_stranger_at_the_socket_gets_no_further_than_the_interceptors() {
    let host = Host::start_with(|command| {
        set_policy(command, r#"{"listeners": {"host": {"host_exec": {"default": "deny"}}}}"#);
        command.env("PATH", "/no/such").env("DISPLAY", ":4713");
    });
    let before = host.descriptors();
    let fifo = host.dir.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let fifo = File::options().read(true).write(true).open(&fifo).unwrap();
    let refusals = [
        (Capability::HostExec as u8, &b"true\0"[..], Code::Denied),
        (99, b"x\0", Code::Denied),
        (Capability::Notify as u8, b"x", Code::BadRequest),
        (Capability::Notify as u8, b"", Code::BadRequest),
    ];
    for (capability, words, code) in refusals {
        let mut peer = Peer::connect(&host);
        peer.say(&Run { capability, ..run(words) }, None);
        assert_eq!(peer.refusal().0, code, "{capability} {words:?}");
    }
    let mut peer = Peer::connect(&host);
    peer.say(&Run { detach: true, capability: Capability::Notify as u8, ..run(b"x\0") }, None);
    assert_eq!(peer.refusal().0, Code::BadRequest, "it does not outlive its caller");
    // What comes as far as the performer ends there, with a sentence.
    for (capability, words, part) in [
        (Capability::XdgOpen, &b"uri\0file:///etc/passwd\0"[..], "does not allow 'file:'"),
        (Capability::XdgOpen, b"uri\0-x\0", "it is no URI"),
        (Capability::XdgOpen, b"file\0/etc/passwd\x003\0", "neither a file nor a directory"),
        (Capability::XdgOpen, b"file\0/etc/passwd\x000\0", "take the file over"),
        (Capability::XdgOpen, b"file\0/etc/passwd\x009\0", "take the file over"),
        (Capability::XdgOpen, b"run\0/bin/sh\0", "nothing to open"),
        (Capability::Clipboard, b"dance\0", "'dance'"),
        (Capability::Clipboard, b"get\0--type=-o\0", "'-o' is no type"),
        (Capability::Notify, b"--help\0", "invalid option '--help'"),
        (Capability::Notify, b"--file=3\0--icon=/x.png\0--\0x\0", "the host has no notify-send"),
    ] {
        let (mut said, hears) = std::io::pipe().unwrap();
        let peer = Peer::connect(&host);
        let request = Run { capability: capability as u8, streams: [Stream::Null, Stream::Null, Stream::Passed], extra: vec![3], env: Bytes(b"PATH=/usr/bin\0"), ..run(words) };
        peer.send(&message::encode(&request, 2, None), &[hears.as_fd(), fifo.as_fd()]);
        drop(hears);
        let mut text = String::new();
        said.read_to_string(&mut text).unwrap();
        assert!(text.contains(part) && text.starts_with("bkt: "), "{words:?}: {text}");
    }
    drop(peer);
    eventually("the daemon has let go of all", || host.descriptors() == before && host.children().is_empty() && host.zombies() == 0);
}

#[test]
fn on_the_host_itself_the_names_become_the_real_commands() {
    let programs = TempDir::new();
    let names = programs.0.join("names");
    fs::create_dir(&names).unwrap();
    for name in NAMES {
        symlink(BKT, names.join(name)).unwrap();
    }
    for name in ["notify-send", "xdg-open", "xclip"] {
        script(&programs.0.join(name), &format!("echo real {name} \"$@\"; cat"));
    }
    let path = format!("{}:{}:/usr/bin:/bin", names.display(), programs.0.display());
    let host = Host::start();
    let with_daemon = |command: &mut Command| command.env("PATH", &path).env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container").output().unwrap();
    let without = |command: &mut Command| command.env("PATH", &path).env("BKT_SOCKET", "/no/such.sock").env("BKT_SIDE", "host").output().unwrap();
    for here in [&with_daemon as &dyn Fn(&mut Command) -> Output, &without] {
        assert_eq!(stdout(here(Command::new(names.join("notify-send")).args(["-A", "a=b", "x"]))), "real notify-send -A a=b x\n");
        assert_eq!(stdout(here(Command::new(names.join("xdg-open")).arg("/etc/passwd"))), "real xdg-open /etc/passwd\n");
        assert_eq!(stdout(here(Command::new(names.join("xclip")).args(["-sel", "c"]))), "real xclip -sel c\n");
        assert_eq!(stdout(here(Command::new(names.join("host-exec")).args(["echo", "-n", "x"]))), "x");
    }
    // Without /usr/bin: a real bridge may be installed there.
    let no_bridge = format!("{}:{}", names.display(), programs.0.display());
    let in_container = |name: &str, args: &[&str]| {
        Command::new(names.join(name)).args(args).env("PATH", &no_bridge).env("BKT_SOCKET", "/no/such.sock").env("BKT_SIDE", "container").output().unwrap()
    };
    for (name, args) in [("notify-send", &["x"][..]), ("podbox-clipboard", &["get"]), ("xdg-open", &["/etc/passwd"]), ("host-exec", &["true"]), ("wl-copy", &["x"])] {
        complaint(&in_container(name, args), 125, "no daemon answers at /no/such.sock");
    }
    script(&programs.0.join("host-spawn"), "echo by host-spawn: \"$@\"");
    let bridged = in_container("xdg-open", &["https://example.org"]);
    assert_eq!(text(&bridged.stdout), "by host-spawn: xdg-open https://example.org\n");
    assert!(text(&bridged.stderr).contains("no daemon at /no/such.sock"), "{}", text(&bridged.stderr));
}
