//! The cautious: a policy file narrows what callers may run of the host, whatever they call it; what is wrong with it is said, and
//! never widens it.
#![allow(unsafe_code)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use support::{BKT, Host, TempDir, caller, complaint, eventually, stdout, text};

/// A policy for the user's own socket.
fn host_exec(words: &str) -> String {
    format!("{{\n  \"listeners\": {{\n    \"host\": {{\n      \"host_exec\": {words}\n    }}\n  }}\n}}\n")
}

fn container(name: &str, words: &str) -> String {
    format!(r#"{{"listeners": {{"container:{name}": {{{words}}}}}}}"#)
}

fn deny_but(rules: &str) -> String {
    host_exec(&format!("{{\"default\": \"deny\", \"rules\": [{rules}]}}"))
}

/// A daemon whose home has a policy, and a directory `bin` that is first in its PATH.
struct Narrowed {
    host: Host,
}

impl Narrowed {
    fn start(policy: &str) -> Narrowed {
        let host = Host::start_with(|command| {
            let home = home_of(command);
            fs::create_dir_all(home.join("bin")).unwrap();
            write(&home, policy);
            command.env("PATH", format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap()));
        });
        Narrowed { host }
    }

    fn program(&self, path: &str, lines: &str) -> PathBuf {
        let path = self.host.dir.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Writes another policy and has it read; returns what the daemon said of it.
    fn reload(&self, policy: &str) -> String {
        write(&self.host.dir.0, policy);
        let (before, said) = (self.reloads(), self.host.log().len());
        self.host.signal_daemon(libc::SIGHUP);
        eventually("reloaded", || self.reloads() > before);
        self.host.log()[said..].to_string()
    }

    fn reloads(&self) -> usize {
        self.host.log().matches("reloaded as version").count()
    }
}

fn home_of(command: &Command) -> PathBuf {
    command.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap().into()
}

fn write(home: &std::path::Path, policy: &str) {
    fs::create_dir_all(home.join(".config/bkt")).unwrap();
    fs::write(home.join(".config/bkt/policy.json"), policy).unwrap();
}

#[track_caller]
fn denied(output: &Output, part: &str) -> String {
    let op = complaint(output, 125, part);
    assert!(text(&output.stderr).contains("is denied by the host's policy"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    op
}

#[test]
fn what_no_rule_allows_is_denied_and_the_sentence_names_what_is_allowed() {
    let it = Narrowed::start(&deny_but(r#"{"allow": "echo", "arguments": ["hello", "*"]}, {"allow": "id"}"#));
    let host = &it.host;
    assert_eq!(stdout(host.exec(["echo", "hello", "a b"]).output().unwrap()), "hello a b\n");
    assert!(host.exec(["id"]).output().unwrap().status.success());
    let mark = host.dir.0.join("ran");
    let op = denied(&host.exec(["touch", mark.to_str().unwrap()]).output().unwrap(), "touch is denied");
    denied(&host.exec(["echo", "hello"]).output().unwrap(), "no rule allows it with these arguments");
    denied(&host.exec(["echo", "hello", "a", "b"]).output().unwrap(), "allowed are 'echo hello *', 'id'");
    let path = host.dir.0.join(".config/bkt/policy.json");
    denied(&host.exec(["no-such-command", "secret-argument"]).output().unwrap(), path.to_str().unwrap());
    assert!(!mark.exists(), "nothing was run");
    let log = host.log();
    let line = log.lines().find(|line| line.contains(&op)).unwrap();
    assert!(line.contains("\"code\":\"denied\"") && line.contains("\"level\":\"warn\""), "{line}");
    assert!(!log.contains("secret-argument"), "a refusal tells no arguments");
}

#[test]
fn neither_a_path_nor_a_second_name_is_a_way_round() {
    let it = Narrowed::start(&deny_but(r#"{"allow": "greet"}"#));
    let (host, dir) = (&it.host, it.host.dir.0.clone());
    let greet = it.program("bin/greet", "echo greetings");
    it.program("elsewhere/greet", "echo forged");
    assert_eq!(stdout(host.exec(["greet"]).output().unwrap()), "greetings\n");
    assert_eq!(stdout(host.exec([greet.to_str().unwrap()]).output().unwrap()), "greetings\n", "the very file that the name finds");
    symlink("/bin/sh", dir.join("bin/elsewhere-sh")).unwrap();
    symlink(&greet, dir.join("bin/second")).unwrap();
    for name in ["elsewhere/greet", "bin/second", "bin/../bin/greet", "bin/elsewhere-sh"] {
        denied(&host.exec([dir.join(name)]).output().unwrap(), "is denied");
    }
    denied(&host.exec(["./greet"]).current_dir(dir.join("bin")).output().unwrap(), "./greet is denied");
    denied(&host.exec(["second"]).output().unwrap(), "second is denied");

    it.reload(&host_exec(r#"{"default": "allow", "rules": [{"deny": "greet"}]}"#));
    for name in ["bin/greet", "elsewhere/greet", "bin/second", "bin/../bin/greet"] {
        denied(&host.exec([dir.join(name)]).output().unwrap(), "its rule 'greet' denies it; everything else is allowed");
    }
    denied(&host.exec(["../bin/second"]).current_dir(dir.join("elsewhere")).output().unwrap(), "is denied");
    denied(&host.exec(["second"]).output().unwrap(), "second is denied");
    assert_eq!(stdout(host.sh("echo free").output().unwrap()), "free\n");
}

#[test]
fn where_commands_are_denied_by_default_no_variable_makes_an_allowed_one_another() {
    let it = Narrowed::start(&deny_but(r#"{"allow": "id"}"#));
    let with = |entry: &str| it.host.bkt(["admin", "daemon", "exec", "--env", entry, "--", "id"]).output().unwrap();
    denied(&with("LD_PRELOAD=/tmp/mine.so"), "the variable LD_PRELOAD is denied");
    denied(&with("PATH=/tmp"), "the variable PATH is denied");
    denied(&with("BASH_ENV=/tmp/mine"), "the variable BASH_ENV is denied");
    assert!(with("LC_ALL=C").status.success());
    // What the caller simply has is left behind: a script that may be run would read this first.
    let (mine, mark) = (it.program("mine", "touch \"$HOME/mark\""), it.host.dir.0.join("mark"));
    it.program("bin/id", "echo");
    fs::write(it.host.dir.0.join("bin/id"), "#!/bin/bash\necho \"$LANG $PAGER\"\n").unwrap();
    let run = || stdout(it.host.exec(["id"]).env("BASH_ENV", &mine).env("PAGER", &mine).env("LANG", "C.UTF-8").output().unwrap());
    assert_eq!((run().as_str(), mark.exists()), ("C.UTF-8 \n", false));
    it.reload(&host_exec(r#"{"default": "allow", "rules": [{"deny": "podman"}]}"#));
    assert!(with("PATH=/tmp").status.success());
    assert_eq!((run(), mark.exists()), (format!("C.UTF-8 {}\n", mine.display()), true));
}

#[test]
fn arguments_that_are_not_text_are_judged_as_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let it = Narrowed::start(&deny_but(r#"{"allow": "printf", "arguments": ["%s", "caf*"]}"#));
    let output = it.host.exec([&b"printf"[..], b"%s", b"caf\xe9"].map(std::ffi::OsStr::from_bytes)).output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"caf\xe9"[..]), "{}", text(&output.stderr));
}

#[test]
fn a_script_tells_a_refusal_from_the_commands_own_125() {
    let it = Narrowed::start(&deny_but(r#"{"allow": "sh"}"#));
    let told = |words: &[&str]| {
        let file = it.host.dir.0.join("failure");
        let to = fs::File::create(&file).unwrap();
        let mut command = it.host.exec(words);
        command.env("BKT_FAILURE_FD", "9").stderr(Stdio::null());
        caller::with_descriptors(&mut command, vec![(to.into(), 9)]);
        (command.status().unwrap().code(), fs::read_to_string(&file).unwrap())
    };
    assert_eq!(told(&["sh", "-c", "exit 125"]), (Some(125), String::new()));
    let (code, line) = told(&["id"]);
    let op = line.strip_prefix("denied 125 op-").and_then(|rest| rest.strip_suffix('\n'));
    assert!(code == Some(125) && op.is_some_and(|op| op.len() == 12), "{line:?}");
    // The command does not get it, and a number that is no descriptor is no reason to fail otherwise.
    assert_eq!(told(&["sh", "-c", "echo x >&9 || exit 7"]), (Some(7), String::new()));
    let output = it.host.exec(["id"]).env("BKT_FAILURE_FD", "77").output().unwrap();
    denied(&output, "id is denied");
}

#[test]
fn a_daemon_does_not_start_with_a_policy_that_it_cannot_read() {
    let dir = TempDir::new();
    let start = || Command::new(BKT).arg("bkt-hostd").env_clear().env("HOME", &dir.0).env("XDG_RUNTIME_DIR", &dir.0).output().unwrap();
    let path = dir.0.join(".config/bkt/policy.json");
    for (policy, place, wanted) in [
        ("", ":1:0: ", "EOF"),
        ("{", ":1:1: ", "EOF"),
        ("{}", ":1:2: ", "missing field `listeners`"),
        ("[]", ":1:", "expected an object with `listeners`"),
        ("{\n  \"listener\": {}\n}", ":2:12: ", "unknown field `listener`, expected `$schema` or `listeners`"),
        ("{\"listeners\": {\n  \"guest\": {}}}", ":2:9: ", "unknown field `guest`, expected `host`"),
        (&host_exec("{\"rules\": []}"), ":4:32: ", "missing field `default`"),
        (&host_exec("{\"default\": \"maybe\"}"), ":4:38: ", "unknown variant `maybe`, expected `allow` or `deny`"),
        (&deny_but("{\"allow\": \"ls\", \"deny\": \"ls\"}"), ":4:", "either `allow` or `deny`"),
        (&deny_but("{\"arguments\": []}"), ":4:", "either `allow` or `deny`"),
        (&deny_but("{\"allow\": \"./ls\"}"), ":4:", "an absolute path"),
        (&deny_but("{\"allow\": \"\"}"), ":4:", "a command is a name"),
        (&deny_but("{\"allow\": \"ls\", \"arguments\": [\"**\", \"x\"]}"), ":4:", "can only be the last"),
        (&deny_but("{\"allow\": \"ls\", \"arguments\": [1]}"), ":4:", "invalid type: integer `1`, expected a string"),
        (&deny_but("{\"allow\": \"ls\", \"argument\": []}"), ":4:", "unknown field `argument`, expected one of `allow`, `deny`, `arguments`"),
    ] {
        write(&dir.0, policy);
        let output = start();
        complaint(&output, 125, &format!("{}{place}", path.display()));
        let said = text(&output.stderr);
        assert!(said.contains(wanted) && said.contains("bkt schema policy"), "{policy}: {wanted:?} is not in {said}");
        assert!(!dir.0.join("bkt").exists(), "nothing was made");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    complaint(&start(), 125, "is not a file");
}

#[test]
fn a_reload_takes_the_new_policy_and_keeps_the_old_one_where_the_new_one_is_wrong() {
    let it = Narrowed::start(&deny_but(r#"{"allow": "echo"}"#));
    let host = &it.host;
    assert!(host.exec(["echo"]).output().unwrap().status.success());
    it.reload(&deny_but(r#"{"allow": "id"}"#));
    denied(&host.exec(["echo"]).output().unwrap(), "allowed are 'id'");
    // Twice: the image that read it wrongly hands on what it was handed.
    for _ in 0..2 {
        let said = it.reload("{\n\"listeners\": {\"host\": 1}}");
        assert!(said.contains("policy.json:2:") && said.contains("the policy stays as it was"), "{said}");
        assert!(host.exec(["id"]).output().unwrap().status.success());
        denied(&host.exec(["echo"]).output().unwrap(), "allowed are 'id'");
    }
    let shown = stdout(host.bkt(["admin", "daemon", "status"]).output().unwrap());
    assert!(shown.contains("policy.json:2:"), "{shown}");
    let asked = host.bkt(["admin", "daemon", "reload"]).output().unwrap();
    complaint(&asked, 125, "the policy stays as it was");
    assert!(text(&asked.stdout).starts_with("reloaded: "), "all else is new: {}", text(&asked.stdout));
    it.reload(&host_exec(r#"{"default": "allow"}"#));
    assert!(host.exec(["echo"]).output().unwrap().status.success());
    fs::remove_file(host.dir.0.join(".config/bkt/policy.json")).unwrap();
    host.signal_daemon(libc::SIGHUP);
    eventually("reloaded without a policy", || it.reloads() == 6);
    assert!(host.exec(["echo"]).output().unwrap().status.success());
}

#[test]
fn the_schema_and_the_daemon_agree() {
    let schema = stdout(Command::new(BKT).args(["schema", "policy"]).output().unwrap());
    let dir = TempDir::new();
    fs::write(dir.0.join("schema.json"), schema).unwrap();
    let documents = [
        (true, r#"{"listeners": {}}"#.to_string()),
        (true, r#"{"$schema": "policy.schema.json", "listeners": {"host": {}}}"#.to_string()),
        (true, host_exec(r#"{"default": "allow"}"#)),
        (true, deny_but(r#"{"allow": "systemctl", "arguments": ["--user", "status", "**"]}, {"deny": "/usr/bin/podman"}, {"allow": "*"}"#)),
        (true, deny_but(r#"{"allow": "/*", "arguments": []}"#)),
        (true, container("dev", r#""notify": "allow""#)),
        (true, container("a_B-1.x", r#""enter": "deny", "users": "same", "host_exec": {"default": "deny"}"#)),
        (true, container("dev", r#""enter": ["web", "db"], "users": "mapped""#)),
        (false, container("", "")),
        (false, container("..", "")),
        (false, container("a/b", "")),
        (false, container("-a", "")),
        (false, container(&"x".repeat(65), "")),
        (false, container("dev", r#""enter": "some""#)),
        (false, container("dev", r#""enter": [1]"#)),
        (false, container("dev", r#""users": "all""#)),
        (false, r#"{"listeners": {"host": {"enter": "allow"}}}"#.to_string()),
        (false, "[]".to_string()),
        (false, "{}".to_string()),
        (false, r#"{"listeners": {"guest": {}}}"#.to_string()),
        (false, host_exec("{}")),
        (false, host_exec(r#"{"default": "ask"}"#)),
        (false, deny_but("{}")),
        (false, deny_but(r#"{"allow": "a", "deny": "a"}"#)),
        (false, deny_but(r#"{"allow": "bin/a"}"#)),
        (false, deny_but(r#"{"allow": ""}"#)),
        (false, deny_but(r#"{"allow": "a", "arguments": "b"}"#)),
        (false, deny_but(r#"{"allow": "a", "when": "b"}"#)),
    ];
    let script = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\njsonschema.Draft202012Validator.check_schema(schema)\nv = jsonschema.Draft202012Validator(schema)\nprint(*['yes' if v.is_valid(json.loads(d)) else 'no' for d in sys.argv[2:]])";
    let by_schema = stdout(Command::new("python3").args(["-c", script]).arg(dir.0.join("schema.json")).args(documents.iter().map(|(_, d)| d)).output().unwrap());
    let it = Narrowed::start(&documents[0].1);
    for ((valid, document), by_schema) in documents.iter().zip(by_schema.split_whitespace()) {
        assert_eq!(*valid, by_schema == "yes", "by the schema: {document}");
        assert_eq!(*valid, !it.reload(document).contains("the policy stays as it was"), "by the daemon: {document}");
    }
    assert_eq!(by_schema.split_whitespace().count(), documents.len());
    let unknown = Command::new(BKT).args(["schema", "nothing"]).output().unwrap();
    complaint(&unknown, 125, "'schema' wants one of these names: ");
}

#[test]
fn a_hello_is_told_that_no_command_is_granted() {
    use bkt::proto::message::{self, Bytes, kind};
    let it = Narrowed::start(&deny_but(""));
    let ask = || {
        let mut peer = support::peer::Peer::connect(&it.host);
        peer.say(&message::Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(b"dev"), capabilities: vec!["host_exec", "notify"] }, None);
        let answer = peer.expect(kind::HelloAnswer);
        let answer: message::HelloAnswer<'_> = message::decode(&answer.body).unwrap();
        (answer.accepted.join(" "), answer.rejected.join(" "))
    };
    assert_eq!(ask(), ("notify".to_string(), "host_exec".to_string()));
    denied(&it.host.exec(["true"]).output().unwrap(), "it is a command, and host_exec is not granted (granted: notify, xdg_open, clipboard)");
    it.reload(&deny_but(r#"{"allow": "true"}"#));
    assert_eq!(ask(), ("host_exec notify".to_string(), String::new()));
}
