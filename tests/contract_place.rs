//! Where and with what a command runs: its directory, its environment, its bytes.

mod support;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::{Host, TempDir, caller, complaint, eventually, op_id_at_end, stdout, text};

// ---- directory

#[test]
fn a_command_runs_in_the_callers_directory() {
    let host = Host::start();
    let place = TempDir::new();
    fs::create_dir_all(place.0.join("real/with a blank")).unwrap();
    std::os::unix::fs::symlink("real", place.0.join("link")).unwrap();
    let odd = place.0.join(OsStr::from_bytes(b"\xff\xfe\x01 dir"));
    fs::create_dir(&odd).unwrap();
    // Entered by `$PWD` where that is true, so that links stay as the caller sees them.
    let table = [
        (place.0.join("real"), None, place.0.join("real")),
        (place.0.join("real/with a blank"), None, place.0.join("real/with a blank")),
        (place.0.join("real"), Some(place.0.join("link")), place.0.join("link")),
        (place.0.join("real"), Some("/etc".into()), place.0.join("real")),
        (place.0.join("real"), Some("relative".into()), place.0.join("real")),
        (odd.clone(), None, odd),
        ("/".into(), None, "/".into()),
    ];
    for (directory, pwd, expected) in table {
        let mut command = host.sh("pwd; printenv PWD");
        command.current_dir(&directory).env_remove("PWD");
        if let Some(pwd) = &pwd {
            command.env("PWD", pwd);
        }
        let output = command.output().unwrap();
        let line = [expected.as_os_str().as_bytes(), b"\n"].concat();
        assert_eq!((text(&output.stderr), output.stdout), (String::new(), [&line[..], &line].concat()), "{directory:?} {pwd:?}");
    }
}

#[test]
fn cwd_overrides_and_must_exist() {
    let host = Host::start();
    let in_directory = |directory: &str| host.bkt(["admin", "daemon", "exec", "--cwd", directory, "--", "pwd"]).output().unwrap();
    for (directory, seen) in [("/etc", "/etc\n"), ("/", "/\n"), ("/etc/../usr", "/usr\n")] {
        assert_eq!(stdout(in_directory(directory)), seen);
    }
    for directory in ["/no/such/directory", "/etc/passwd", "/run/host/no-such"] {
        let output = in_directory(directory);
        complaint(&output, 125, directory);
        assert_eq!(text(&output.stdout), "");
    }
}

/// Runs a client whose directory is not on the daemon's side: the container sees a tree of its own at that path.
fn elsewhere(host: &Host, client: &Command, directory: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs none /mnt && mkdir -p "/mnt/$0" && cd "/mnt/$0" && exec "$@""#;
    command.args(["-m", "sh", "-c", script, directory]).arg(client.get_program()).args(client.get_args());
    command.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container").stdin(Stdio::null());
    caller::by_itself(&mut command);
    command
}

/// The one line of warning at the start of standard error; the rest is returned.
#[track_caller]
fn warned<'a>(output: &'a Output, directory: &str) -> &'a str {
    let said = std::str::from_utf8(&output.stderr).unwrap();
    let (first, rest) = said.split_once('\n').unwrap();
    assert!(first.starts_with("bkt: ") && first.contains(directory) && first.contains("--cwd"), "{first:?}");
    op_id_at_end(first);
    rest
}

#[test]
fn a_directory_that_is_not_there_becomes_an_empty_one_with_one_line_of_warning() {
    let host = Host::start();
    let refuge = host.dir.0.join("bkt/nowhere");
    for code in [0, 3, 255] {
        let output = elsewhere(&host, &host.sh(&format!("pwd; ls -A; echo mine >&2; exit {code}")), "not-there").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert_eq!((warned(&output, "/mnt/not-there"), text(&output.stdout)), ("mine\n", format!("{}\n", refuge.display())));
    }
    let about = fs::metadata(&refuge).unwrap();
    assert_eq!((about.permissions().mode() & 0o7777, fs::read_dir(&refuge).unwrap().count()), (0o500, 0));
    // Another name for the host's own tree is none.
    for (below_run_host, directory) in [("run/host/etc", "/etc"), ("run/host", "/")] {
        let client = host.exec(["pwd"]);
        let script = r#"mount -t tmpfs none /run && mkdir -p "/$0" && cd "/$0" && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, below_run_host]).arg(client.get_program()).args(client.get_args());
        command.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container").env_remove("PWD");
        caller::by_itself(&mut command);
        let output = command.output().unwrap();
        assert_eq!((text(&output.stdout), text(&output.stderr)), (format!("{directory}\n"), String::new()));
    }
}

#[test]
fn a_deleted_directory_is_one_that_is_not_there() {
    let host = Host::start();
    let place = TempDir::new();
    let gone = place.0.join("gone");
    let client = host.sh("pwd");
    for pwd in [None, Some(&gone)] {
        fs::create_dir_all(&gone).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", r#"cd "$0" && rmdir "$0" && exec "$@""#]).arg(&gone).arg(client.get_program()).args(client.get_args());
        command.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container").env_remove("PWD");
        caller::by_itself(&mut command);
        if let Some(pwd) = &pwd {
            command.env("PWD", pwd);
        }
        let output = command.output().unwrap();
        assert_eq!(warned(&output, ""), "");
        assert_eq!(stdout(output), format!("{}\n", host.dir.0.join("bkt/nowhere").display()));
    }
}

#[test]
fn a_warning_that_nobody_can_hear_harms_nothing() {
    let host = Host::start();
    // Closed, and a pipe whose reader has gone: the warning's SIGPIPE must not be the command's.
    let mut closed = elsewhere(&host, &host.sh("exit 4"), "not-there");
    caller::closed(&mut closed, [2]);
    assert_eq!(closed.status().unwrap().code(), Some(4));
    let mut broken = elsewhere(&host, &host.sh("exit 4"), "not-there");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(broken.stderr(writer).status().unwrap().code(), Some(4));
}

#[test]
fn removing_everything_in_the_empty_directory_harms_nothing() {
    let host = Host::start();
    let before = tree(&host.dir.0);
    for script in ["rm -rf * .* ./* 2>/dev/null; :", "rm -rf \"$PWD\" 2>/dev/null; :", "find . -mindepth 1 -delete"] {
        let output = elsewhere(&host, &host.sh(script), "not-there").output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        // The second takes the directory itself: the next command must find one again, or say clearly that it cannot.
        let next = elsewhere(&host, &host.sh("pwd"), "not-there").output().unwrap();
        assert_eq!(stdout(next), format!("{}\n", host.dir.0.join("bkt/nowhere").display()), "after {script}");
    }
    assert_eq!(tree(&host.dir.0), before);
}

/// Names and kinds of all files below.
fn tree(directory: &Path) -> Vec<(OsString, u32)> {
    let mut all: Vec<_> = fs::read_dir(directory).unwrap().flatten().collect::<Vec<_>>().iter().map(|e| (e.path().into_os_string(), e.metadata().unwrap().mode())).collect();
    let below: Vec<_> = all.iter().filter(|(_, mode)| mode & libc::S_IFMT == libc::S_IFDIR).flat_map(|(path, _)| tree(Path::new(path))).collect();
    all.extend(below);
    all.sort();
    all
}

// ---- environment and bytes

#[test]
fn the_environment_is_merged_by_the_table() {
    let host = Host::start_with(|daemon| {
        daemon.env("BOTH", "server").env("LD_LIBRARY_PATH", "/server");
    });
    let server_path = std::env::var("PATH").unwrap();
    let table: [(&[&str], &str, Option<&str>); 21] = [
        (&[], "TERM", Some("xterm-odd")),
        (&[], "PATH", Some(&server_path)),
        (&[], "HOME", host.dir.0.to_str()),
        (&[], "MINE", Some("caller")),
        (&[], "BOTH", Some("caller")),
        (&[], "SERVER_SIDE", Some("yes")),
        (&[], "LD_PRELOAD", None),
        (&[], "LD_LIBRARY_PATH", Some("/server")),
        (&[], "container", None),
        (&[], "CONTAINER_ID", None),
        (&[], "BKT_SOCKET", None),
        (&["--env", "MINE=set"], "MINE", Some("set")),
        (&["--env", "MINE="], "MINE", Some("")),
        (&["--env", "MINE=a=b"], "MINE", Some("a=b")),
        (&["--env", "MINE=1", "--env=MINE=2"], "MINE", Some("2")),
        (&["--env", "PATH=/usr/bin:/bin"], "PATH", Some("/usr/bin:/bin")),
        (&["--unset-env", "MINE"], "MINE", None),
        (&["--unset-env", "SERVER_SIDE"], "SERVER_SIDE", None),
        (&["--clear-env"], "SERVER_SIDE", None),
        (&["--clear-env"], "MINE", None),
        (&["--clear-env", "--env", "MINE=set"], "MINE", Some("set")),
    ];
    for (options, name, value) in table {
        let mut command = host.bkt(["admin", "daemon", "exec"]);
        command.args(options).args(["--", "/usr/bin/printenv", name]);
        command.env("TERM", "xterm-odd").env("MINE", "caller").env("BOTH", "caller").env("PATH", "/caller/only").env("HOME", "/caller");
        command.env("LD_PRELOAD", "/caller/only.so").env("LD_LIBRARY_PATH", "/caller").env("container", "podman").env("CONTAINER_ID", "box");
        let output = command.output().unwrap();
        assert_eq!(text(&output.stdout), value.map_or(String::new(), |v| format!("{v}\n")), "{options:?} {name}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(i32::from(value.is_none())), "{options:?} {name}");
    }
}

#[test]
fn a_cleared_environment_holds_what_was_set_and_three_of_ours() {
    let host = Host::start();
    let command = &mut host.bkt(["admin", "daemon", "exec", "--clear-env", "--env", "A=1", "--", "env"]);
    let seen = stdout(command.env_remove("BKT_DEPTH").output().unwrap());
    let mut names: Vec<&str> = seen.lines().map(|l| l.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "BKT_DEPTH", "BKT_OP_ID", "PWD"]);
}

#[test]
fn any_bytes_but_nul_pass_in_arguments_and_values() {
    let host = Host::start();
    let all: Vec<u8> = (1..=255).collect();
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let arguments = [odd(&all), odd(b""), odd(b" "), odd(b"\n"), odd(b"--"), odd(b"-c"), odd(b"*"), odd(b"\xff"), odd("日本".as_bytes()), odd(b"$HOME `x` \"'\\")];
    let mut command = host.exec(["cat", "/proc/self/cmdline", "/dev/fd/0"]);
    let output = command.args(["--"]).args(&arguments).stderr(Stdio::null()).output().unwrap();
    let expected: Vec<u8> = ["cat", "/proc/self/cmdline", "/dev/fd/0", "--"]
        .iter()
        .map(OsStr::new)
        .chain(arguments.iter().map(OsString::as_os_str))
        .flat_map(|a| [a.as_bytes(), b"\0"].concat())
        .collect();
    assert_eq!(output.stdout, expected);
    let mut command = host.bkt(["admin", "daemon", "exec"]);
    command.arg("--env").arg(odd(&[b"SET=", &all[..]].concat())).args(["--", "cat", "/proc/self/environ"]).env("ODD", odd(&all)).env(odd(b"N\xff"), "1");
    let environment = command.output().unwrap().stdout;
    for entry in [[b"SET=", &all[..]].concat(), [b"ODD=", &all[..]].concat(), b"N\xff=1".to_vec()] {
        assert!(environment.split(|b| *b == 0).any(|e| e == entry), "{}", text(&entry));
    }
}

/// Arguments and environment of about that many bytes, the half of each, in strings of up to 100,000.
fn fill(command: &mut Command, bytes: usize) {
    let piece = "x".repeat(100_000);
    for n in 0..bytes / 200_000 {
        command.arg(&piece).env(format!("FILL{n}"), &piece);
    }
}

#[test]
fn megabytes_of_arguments_and_environment_go_through() {
    let host = Host::start();
    // The kernel takes a quarter of the stack's limit, and 6 MiB at the most.
    for (bytes, stack) in [(1_900_000, 8 << 20), (5 << 20, u64::MAX)] {
        let mut command = host.exec(["sh", "-c", r#"cat /proc/$$/cmdline /proc/$$/environ | wc -c"#]);
        fill(&mut command, bytes);
        caller::with_limits(&mut command, [(libc::RLIMIT_STACK as u32, stack, None)]);
        let seen: usize = stdout(command.output().unwrap()).trim().parse().unwrap();
        assert!(seen > bytes / 200_000 * 200_000, "{seen} of {bytes}");
    }
}

#[test]
fn what_execve_does_not_take_is_126_with_a_sentence() {
    // Together with the server's own environment it is too much; each alone is not.
    let host = Host::start_with(|daemon| {
        daemon.envs((0..8).map(|n| (format!("SERVER{n}"), "y".repeat(100_000))));
    });
    for round in 0..2 {
        let mut command = host.exec(["true"]);
        fill(&mut command, 1_800_000);
        caller::with_limits(&mut command, [(libc::RLIMIT_STACK as u32, 8 << 20, None)]);
        complaint(&command.output().unwrap(), 126, "rgument list too long");
        // The daemon has forgotten it.
        let mut small = host.exec(["true"]);
        assert!(small.status().unwrap().success(), "round {round}");
    }
    eventually("nothing is left of them", || host.zombies() == 0 && host.children().is_empty());
}
