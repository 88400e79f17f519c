//! The end of a run: exit codes, deaths by signal, and our own failures, each with the operation's id.
#![allow(unsafe_code)]

mod support;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use support::{BKT, Host, TempDir, caller, complaint, op_id_at_end, stdout, text};

#[test]
fn every_exit_code_arrives_untouched() {
    let host = Host::start();
    for code in 0..=255 {
        let output = host.sh(&format!("exit {code}")).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(code), String::new()));
    }
}

/// Signals whose default is not to kill.
const HARMLESS: [i32; 8] = [libc::SIGCHLD, libc::SIGCONT, libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGURG, libc::SIGWINCH];

/// Dies of the signal named by its second argument, whatever it was started with; the first is the number of `rt_sigaction`.
const DIE: &str = r#"my $default = pack("Q4", 0, 0, 0, 0); syscall(0 + shift, 0 + $ARGV[0], $default, 0, 8); kill $ARGV[0], $$; sleep 60"#;

#[test]
fn a_command_killed_by_a_signal_makes_the_client_die_of_the_same_without_a_core_dump() {
    let host = Host::start();
    let place = TempDir::new();
    type Habit = fn(&mut Command);
    let habits: [(&str, Habit); 3] = [("plain", |_| {}), ("ignoring", |c| caller::ignoring(c, caller::catchable())), ("blocking", caller::blocking_all)];
    for (habit, change) in habits {
        for signal in (1..=64).filter(|s| !HARMLESS.contains(s)) {
            let mut command = host.exec(["perl", "-e", DIE, &libc::SYS_rt_sigaction.to_string(), &signal.to_string()]);
            caller::with_limits(&mut command, [(libc::RLIMIT_CORE as u32, u64::MAX, None)]);
            change(&mut command);
            let output = command.current_dir(&place.0).output().unwrap();
            assert_eq!((output.status.signal(), text(&output.stderr)), (Some(signal), String::new()), "{habit}: {:?}", output.status);
            assert!(!output.status.core_dumped(), "{habit}: signal {signal}");
        }
    }
}

/// A directory of programs that are good, bad and none at all; first in the daemon's PATH.
fn programs() -> TempDir {
    let place = TempDir::new();
    let file = |name: &str, text: &str, mode: u32| {
        let path = place.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("not-executable", "#!/bin/sh\n", 0o644);
    file("no-interpreter", "#!/no/such/interpreter\n", 0o755);
    file("directory-interpreter", "#!/etc\n", 0o755);
    file("no-shebang", "printf '%s|' \"$0\" \"$@\"\nexit 9\n", 0o755);
    file("empty", "", 0o755);
    fs::create_dir(place.0.join("directory")).unwrap();
    place
}

fn with_path(first: &Path) -> Host {
    let path = format!("{}:{}", first.display(), std::env::var("PATH").unwrap());
    Host::start_with(|command| {
        command.env("PATH", path);
    })
}

#[test]
fn what_cannot_be_run_is_told_apart_by_its_code() {
    let place = programs();
    let host = with_path(&place.0);
    let below = |name: &str| place.0.join(name).display().to_string();
    let table = [
        ("no-such-command".to_string(), 127, "command not found"),
        ("/no/such/command".into(), 127, "command not found"),
        (below("no-such-command"), 127, "command not found"),
        (String::new(), 127, "command not found"),
        // A search passes over directories, a path does not.
        ("directory".into(), 127, "command not found"),
        (below("directory"), 126, "cannot execute"),
        ("/".into(), 126, "cannot execute"),
        ("not-executable".into(), 126, "Permission denied"),
        (below("not-executable"), 126, "Permission denied"),
        (below("not-executable") + "/below", 127, "command not found"),
        ("no-interpreter".into(), 126, "interpreter is missing"),
        (below("no-interpreter"), 126, "interpreter is missing"),
        (below("directory-interpreter"), 126, "cannot execute"),
    ];
    for (name, code, part) in &table {
        let op = complaint(&host.exec([name]).output().unwrap(), *code, part);
        assert!(host.log().contains(&op), "{name}: {op} is not in the daemon's log");
    }
}

#[test]
fn a_script_without_an_interpreter_is_run_by_the_shell() {
    let place = programs();
    let host = with_path(&place.0);
    let path = place.0.join("no-shebang").display().to_string();
    for name in ["no-shebang", &path] {
        let output = host.exec([name, "a b", "", "*", "-c"]).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(9), format!("{path}|a b||*|-c|")), "{}", text(&output.stderr));
    }
    assert_eq!(host.exec(["empty"]).status().unwrap().code(), Some(0));
}

#[test]
fn an_own_failure_is_125_with_a_sentence_that_ends_in_the_operation_id() {
    let host = Host::start();
    let table: [(&[&str], &str, bool); 21] = [
        (&["exec"], "'--'", false),
        (&["exec", "true"], "'--'", false),
        (&["exec", "--env", "A=1", "true"], "'--'", false),
        (&["exec", "--"], "wants a command", false),
        (&["exec", "--no-such-option", "--", "true"], "--no-such-option", false),
        (&["exec", "-x", "--", "true"], "-x", false),
        (&["exec", "word", "--", "true"], "word", false),
        (&["exec", "--env", "--", "true"], "missing argument", false),
        (&["exec", "--env", "A", "--", "true"], "NAME=VALUE", false),
        (&["exec", "--env", "=A", "--", "true"], "NAME=VALUE", false),
        (&["exec", "--unset-env", "A=1", "--", "true"], "--unset-env", false),
        (&["exec", "--unset-env", "", "--", "true"], "--unset-env", false),
        (&["exec", "--cwd", "relative", "--", "true"], "absolute", false),
        (&["exec", "--cwd", "/no/such/directory", "--", "true"], "/no/such/directory", true),
        (&["exec", "--cwd", "/etc/passwd", "--", "true"], "/etc/passwd", true),
        (&["exec", "--fd", "2", "--", "true"], "3 to 255", false),
        (&["exec", "--fd", "256", "--", "true"], "3 to 255", false),
        (&["exec", "--fd", "many", "--", "true"], "many", false),
        (&["exec", "--detach", "--pty", "--", "true"], "exclude", false),
        (&["exec", "--detach=yes", "--", "true"], "--detach", false),
        (&["no-such-subcommand"], "no-such-subcommand", false),
    ];
    for (args, part, reaches_the_daemon) in table {
        let mut command = host.bkt(["admin", "daemon"]);
        let output = command.args(args).output().unwrap();
        let op = complaint(&output, 125, part);
        assert_eq!(host.log().contains(&op), reaches_the_daemon, "{args:?}: {op} in the daemon's log");
        assert_eq!(text(&output.stdout), "", "{args:?}");
    }
}

#[test]
fn without_a_daemon_the_sentence_says_how_to_start_it() {
    let host = Host::start();
    let mut command = host.exec(["true"]);
    let output = command.env("BKT_SOCKET", host.dir.0.join("nobody")).output().unwrap();
    complaint(&output, 125, "bkt-hostd");
    complaint(&output, 125, &host.dir.0.join("nobody").display().to_string());
}

#[test]
fn the_callers_operation_id_is_adopted_and_anything_else_is_replaced() {
    let host = Host::start();
    let handed_on = |given: Option<&str>| {
        let mut command = host.exec(["printenv", "BKT_OP_ID"]);
        match given {
            Some(given) => command.env("BKT_OP_ID", given),
            None => command.env_remove("BKT_OP_ID"),
        };
        stdout(command.output().unwrap()).trim().to_string()
    };
    assert_eq!(handed_on(Some("op-0123456789ab")), "op-0123456789ab");
    let bad = ["", "op-", "op-0123456789a", "op-0123456789abc", "op-0123456789AB", "op-000000000000", "op-0123456789ag", "0123456789ab", "op-0123456789ab\n", "\u{e9}"];
    for given in [None].into_iter().chain(bad.map(Some)) {
        let made = handed_on(given);
        assert_ne!(Some(made.as_str()), given);
        assert_eq!(op_id_at_end(&format!("x ({made})")), made, "{given:?}");
        assert!(host.log().contains(&made), "{given:?}: {made} is not in the daemon's log");
    }
    assert!(host.log().contains("op-0123456789ab"));
    let mut command = host.exec(["no-such-command"]);
    assert_eq!(complaint(&command.env("BKT_OP_ID", "op-0123456789ac").output().unwrap(), 127, "not found"), "op-0123456789ac");
}

#[test]
fn bridges_are_counted_and_the_seventeenth_is_refused() {
    let host = Host::start();
    for (given, then) in [(None, "1"), (Some("0"), "1"), (Some("1"), "2"), (Some("15"), "16")] {
        let mut command = host.exec(["printenv", "BKT_DEPTH"]);
        command.env_remove("BKT_DEPTH");
        given.map(|g| command.env("BKT_DEPTH", g));
        assert_eq!(stdout(command.output().unwrap()), format!("{then}\n"), "{given:?}");
    }
    for given in ["16", "17", "4294967296", "-1", "many"] {
        let mut command = host.exec(["echo", "ran"]);
        let output = command.env("BKT_DEPTH", given).output().unwrap();
        let op = complaint(&output, 125, "circle");
        assert!(host.log().contains(&op) && host.log().contains("too_deep"), "{}", host.log());
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_command_that_calls_itself_through_the_daemon_ends_after_sixteen_rounds() {
    let host = Host::start();
    let count = host.dir.0.join("count");
    let script = host.dir.0.join("again");
    fs::write(&script, format!("echo $BKT_OP_ID >> {}\nexec {BKT} admin daemon exec -- \"$0\"\n", count.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = host.exec([&script]);
    let op = complaint(&command.env("BKT_OP_ID", "op-00000000beef").output().unwrap(), 125, "circle");
    assert_eq!(op, "op-00000000beef");
    assert_eq!(fs::read_to_string(&count).unwrap(), "op-00000000beef\n".repeat(16));
}
