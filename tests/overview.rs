//! Both sides at a glance, and what was written: `bkt status` and `bkt log`, on the host and in a container.
#![allow(unsafe_code)]

mod support;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{BKT, Client, Host, TempDir, complaint, eventually, op_id_at_end, stdout, text};

fn json(output: Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// `bkt` on the host, as its user.
fn on_host(host: &Host, args: &[&str]) -> Command {
    let mut command = Command::new(BKT);
    command.args(args).env_clear().env("HOME", &host.dir.0).env("XDG_RUNTIME_DIR", &host.dir.0).env("PATH", std::env::var_os("PATH").unwrap());
    command.env("BKT_SIDE", "host").stdin(Stdio::null());
    command
}

/// A shell in a container called `dev`, which has a root of its own.
fn in_container(host: &Host, script: &str) -> Output {
    let root = TempDir::new();
    for directory in ["bin", "shims", "proc", "dev", "tmp", "run/bkt"] {
        fs::create_dir_all(root.0.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.0.join("bin/busybox")).expect("busybox-static is installed by tests/install-dependencies");
    support::copy_bkt(root.0.join("bin/bkt"));
    symlink("busybox", root.0.join("bin/sh")).unwrap();
    symlink("/bin/bkt", root.0.join("shims/systemctl")).unwrap();
    symlink("/nowhere/bkt", root.0.join("shims/podman")).unwrap();
    fs::write(root.0.join("run/.containerenv"), "").unwrap();
    let user = fs::metadata(&root.0).unwrap().uid().to_string();
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--uid", &user, "--gid", &user, "--bind"]).arg(&root.0).args(["/", "--bind"]).arg(host.dir.0.join("bkt")).arg("/run/bkt");
    command.args(["--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp", "/bin/sh", "-c", script]).env_clear();
    command.env("PATH", "/shims:/bin").env("XDG_RUNTIME_DIR", "/run").env("CONTAINER_ID", "dev").stdin(Stdio::null()).output().unwrap()
}

// ---- status

#[test]
fn the_hosts_status_tells_containers_shims_and_the_last_errors_without_their_arguments() {
    let host = Host::start();
    for name in ["dev", "test", "dev"] {
        assert!(host.exec(["true"]).env("CONTAINER_ID", name).status().unwrap().success());
    }
    let failed = host.exec(["no-such-command", "secret-argument"]).output().unwrap();
    let op = complaint(&failed, 127, "command not found");
    let shims = host.dir.0.join(".local/share/bkt/shims");
    fs::create_dir_all(&shims).unwrap();
    symlink(BKT, shims.join("systemctl")).unwrap();
    symlink("/nowhere/bkt", shims.join("podman")).unwrap();

    let log = host.log();
    let shown = stdout(on_host(&host, &["status"]).output().unwrap());
    for part in
        [" on the host\n", "running, pid", "started: by hand", "2 in ", "podman leads to /nowhere/bkt", "bkt doctor", "dev ", "2 runs", "test ", &op, "not_found: no-such-command"]
    {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let all = json(on_host(&host, &["status", "--json"]).output().unwrap());
    assert_eq!(host.log(), log, "asking is no operation");
    let status = &all["host"];
    assert_eq!((all["container"].is_null(), status["side"].as_str(), status["daemon"]["pid"].as_u64()), (true, Some("host"), Some(u64::from(host.pid()))));
    assert_eq!((status["drift"].as_bool(), status["daemon"]["supervised"].as_bool()), (Some(false), Some(false)));
    let runs = |name: &str| status["containers"].as_array().unwrap().iter().find(|c| c["name"] == name).and_then(|c| c["runs"].as_u64());
    assert_eq!((runs("dev"), runs("test"), runs("other")), (Some(2), Some(1), None));
    let error = &status["errors"][0];
    assert_eq!((error["op_id"].as_str(), error["code"].as_str()), (Some(&*op), Some("not_found")));
    assert!(error["ago_ms"].as_u64().unwrap() < 60_000 && !all.to_string().contains("secret-argument"), "{error}");
    assert!(status["shims"]["wrong"][0].as_str().unwrap().contains("podman"));
}

#[test]
fn what_is_remembered_is_bounded_and_outlives_a_reload() {
    let host = Host::start();
    for n in 0..70 {
        let name = if n < 20 { format!("no-such-{n}") } else { "true".to_string() };
        let _ = host.exec([name]).env("CONTAINER_ID", format!("c{n}")).output().unwrap();
    }
    let look = || json(on_host(&host, &["status", "--json"]).output().unwrap())["host"].clone();
    let before = look();
    assert_eq!((before["containers"].as_array().unwrap().len(), before["errors"].as_array().unwrap().len()), (64, 16));
    let last = before["errors"][15]["text"].as_str().unwrap().to_string();
    assert!(last.starts_with("no-such-19:"), "{last}");
    host.signal_daemon(libc::SIGHUP);
    eventually("reloaded", || host.log().contains("reloaded as version"));
    let after = look();
    for (part, field) in [("containers", "name"), ("containers", "runs"), ("errors", "op_id"), ("errors", "text")] {
        let of = |all: &Value| all[part].as_array().unwrap().iter().map(|entry| entry[field].to_string()).collect::<Vec<_>>();
        assert_eq!(of(&before), of(&after), "{part} {field}");
    }
}

#[test]
fn a_container_shows_its_own_side_and_the_hosts() {
    let host = Host::start();
    let shown = stdout(in_container(&host, "bkt status"));
    let (ours, theirs) = shown.split_once("\n\nbkt ").unwrap();
    for part in [" in the container\n", "name:    dev\n", "socket:  /run/bkt/host.sock\n", "2 in /shims", "podman leads to /nowhere/bkt"] {
        assert!(ours.contains(part), "{part:?} in {ours}");
    }
    for part in [" on the host\n", host.socket().to_str().unwrap(), "dev "] {
        assert!(theirs.contains(part), "{part:?} in {theirs}");
    }
    let both = json(in_container(&host, "bkt status --json"));
    assert_eq!((both["container"]["side"].as_str(), both["container"]["name"].as_str(), both["host"]["side"].as_str()), (Some("container"), Some("dev"), Some("host")));
    assert_eq!(both["container"]["daemon"]["socket"], "/run/bkt/host.sock");
    assert_eq!(both["host"]["daemon"]["pid"].as_u64(), Some(u64::from(host.pid())));
    assert!(both["container"]["shims"]["wrong"][0].as_str().unwrap().contains("podman"));
    let alone = json(in_container(&host, "bkt --no-delegate status --json"));
    assert!(alone["host"].is_null() && alone["container"]["side"] == "container");
}

#[test]
fn without_a_daemon_the_status_says_so_and_ends_otherwise_than_well() {
    let host = Host::start();
    host.signal_daemon(libc::SIGKILL);
    eventually("it is dead", || !support::lives(host.pid()));
    let output = on_host(&host, &["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("stale"), "{}", text(&output.stdout));
    let inside = in_container(&host, "bkt status --json");
    assert_eq!(inside.status.code(), Some(125));
    let both: Value = serde_json::from_slice(&inside.stdout).unwrap();
    assert!(both["host"].is_null() && both["container"]["daemon"]["state"] == "stale", "{both}");
    op_id_at_end(&text(&inside.stderr));
}

#[test]
fn a_daemon_under_a_service_manager_is_said_to_be() {
    let dir = TempDir::new();
    let socket = std::os::unix::net::UnixDatagram::bind(dir.0.join("notify")).unwrap();
    let host = Host::start_with(|command| {
        command.env("NOTIFY_SOCKET", dir.0.join("notify"));
    });
    drop(socket);
    assert!(stdout(on_host(&host, &["status"]).output().unwrap()).contains("started: by a service manager"));
}

// ---- log

const LINES: &str = r#"{"time":"2026-01-31T18:30:00.000Z","level":"info","message":"ls: exit status 0 after 2 ms","op_id":"op-00000000000a","ms":"2"}
{"time":"2026-01-31T18:31:00.000Z","level":"info","message":"podman: exit status 0","op_id":"op-00000000000b"}
somebody else's words about op-00000000000b
{"time":"2026-02-01T08:00:00.000Z","level":"warn","message":"refused: \u001b[1mno","op_id":"op-00000000000a","code":"denied"}
"#;

fn log_file(host: &Host) -> PathBuf {
    let path = host.dir.0.join(".local/state/bkt/hostd.log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, LINES).unwrap();
    path
}

#[test]
fn the_log_file_is_shown_as_a_table_and_filtered() {
    let host = Host::start();
    log_file(&host);
    let log = |args: &[&str]| stdout(on_host(&host, &[&["log"], args].concat()).output().unwrap());
    let all = log(&[]);
    assert_eq!(all.lines().count(), 4);
    assert_eq!(all.lines().next().unwrap(), "2026-01-31T18:30:00.000Z info  op-00000000000a ls: exit status 0 after 2 ms");
    assert!(all.contains("warn  op-00000000000a refused: \\u{1b}[1mno"), "shown, not obeyed: {all}");
    let one = log(&["--op", "op-00000000000a"]);
    assert!(one.lines().count() == 2 && one.lines().all(|l| l.contains("op-00000000000a")), "both hops of it: {one}");
    assert!(log(&["--op", "op-00000000000b"]).contains("somebody else's words"));
    assert_eq!(log(&["--since", "2026-02-01"]).lines().count(), 1);
    assert_eq!(log(&["--since", "2026-01-31T18:30:30"]).lines().count(), 3, "words without a time came after the line before them");
    assert_eq!(log(&["--since", "10m"]), "");
    let raw = log(&["--json", "--op", "op-00000000000b"]);
    let raw: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((raw.len(), &raw[0]["message"]), (2, &Value::from("podman: exit status 0")));
    assert_eq!((&raw[1]["time"], &raw[1]["level"]), (&raw[0]["time"], &Value::from("")));
    for (args, part) in [(&["--op", "x"][..], "'x' is no operation id"), (&["--since", "yesterday"], "--since wants"), (&["--all"], "invalid option '--all'")] {
        complaint(&on_host(&host, &[&["log"], args].concat()).output().unwrap(), 125, part);
    }
}

#[test]
fn a_followed_log_shows_what_is_added() {
    let host = Host::start();
    let path = log_file(&host);
    let mut follower = Client(on_host(&host, &["log", "-f", "--op", "op-00000000000a"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("ls: exit status 0"));
    assert!(lines.next().unwrap().unwrap().contains("refused"));
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(LINES.lines().nth(1).unwrap().as_bytes()).unwrap();
    file.write_all(b"\n{\"time\":\"2026-02-01T09:00:00.000Z\",\"level\":\"info\",\"message\":\"added\",\"op_id\":\"op-00000000000a\"}\n").unwrap();
    assert!(lines.next().unwrap().unwrap().contains("added"));
    let tails = support::children(follower.id());
    follower.kill().unwrap();
    follower.wait().unwrap();
    eventually("what it had started is gone with it", || tails.iter().all(|pid| !support::lives(*pid)));
    assert_eq!(tails.len(), 1);
}

/// A directory with a journal of our own making: it prints what is in a file, and keeps what it was asked.
fn journal(directory: &Path) -> String {
    let script = format!("#!/bin/sh\nprintf '%s ' \"$@\" >>{0}/asked\n[ -e {0}/none ] && exit 1\ncat {0}/lines\n", directory.display());
    fs::write(directory.join("journalctl"), script).unwrap();
    fs::set_permissions(directory.join("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let of = |line: &str| if line.starts_with('{') { "bkt\n_SYSTEMD_CGROUP=/a/bkt-hostd.service/daemon" } else { "systemd\n_SYSTEMD_CGROUP=/a/init.scope" };
    let lines: Vec<String> = LINES.lines().enumerate().map(|(at, line)| format!("__REALTIME_TIMESTAMP=180000000000{at}000\nMESSAGE={line}\n_COMM={}\n\n", of(line))).collect();
    fs::write(directory.join("lines"), lines.concat()).unwrap();
    format!("{}:{}", directory.display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_journal_is_asked_for_our_unit_and_no_log_at_all_is_said() {
    let host = Host::start();
    let dir = TempDir::new();
    let path = journal(&dir.0);
    let shown = stdout(on_host(&host, &["log", "--op", "op-00000000000a"]).env("PATH", &path).output().unwrap());
    assert_eq!(shown.lines().count(), 2, "{shown}");
    let asked = fs::read_to_string(dir.0.join("asked")).unwrap();
    assert!(asked.contains("--user") && asked.contains("_SYSTEMD_USER_UNIT=bkt-hostd.service") && asked.contains("--output=export"), "{asked}");
    let shown = stdout(on_host(&host, &["log", "--since", "2027-01-15"]).env("PATH", &path).output().unwrap());
    assert_eq!(shown, "2027-01-15T08:00:00.002Z -     -               systemd: somebody else's words about op-00000000000b\n");

    fs::write(dir.0.join("lines"), "").unwrap();
    let nothing = on_host(&host, &["log"]).env("PATH", &path).output().unwrap();
    complaint(&nothing, 125, "the journal has nothing of bkt-hostd");
    fs::write(dir.0.join("none"), "").unwrap();
    let nothing = on_host(&host, &["log"]).env("PATH", &path).output().unwrap();
    complaint(&nothing, 125, "journalctl --user cannot read the journal");
    let said = text(&nothing.stderr);
    assert!(said.contains(".local/state/bkt/hostd.log") && said.contains("--log-file") && said.contains("bkt admin daemon install"), "{said}");
    // With a file there, that is what there is.
    log_file(&host);
    assert_eq!(stdout(on_host(&host, &["log"]).env("PATH", &path).output().unwrap()).lines().count(), 4);
}

#[test]
fn a_container_is_shown_the_hosts_log() {
    let host = Host::start();
    log_file(&host);
    assert!(stdout(in_container(&host, "bkt log --op op-00000000000b")).starts_with("2026-01-31T18:31:00.000Z info  op-00000000000b podman"));
}
