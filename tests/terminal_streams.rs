//! Bytes at a terminal: which streams are one, what the screen shows, that nothing is lost. What is right is what the same command
//! shows without us.

mod support;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::pty::{Terminal, moment, stay_on_one_processor};
use support::{BKT, Host, PATIENCE, TempDir, eventually, stdout, text};

/// `bash -c SCRIPT`, where `$X` runs a command through the daemon, or natively.
fn script(host: &Host, text: &str, native: bool) -> Command {
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile", "-c", text]).env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container");
    command.env("BKT", BKT).env("X", if native { "" } else { "eval_x" });
    // A function, so that `$X cmd` works whatever the path of the binary holds.
    command.env("BASH_FUNC_eval_x%%", "() {  \"$BKT\" admin daemon exec -- \"$@\"\n}");
    command
}

/// What the screen shows of a script, byte for byte.
fn screen(host: &Host, text: &str, native: bool) -> Vec<u8> {
    let mut terminal = Terminal::run(&mut script(host, text, native));
    terminal.wait();
    terminal.shown
}

#[test]
fn the_screen_shows_the_same_bytes_as_without_us() {
    let host = Host::start();
    let dir = TempDir::new();
    let file = dir.0.join("file");
    fs::write(&file, b"one\r\ntwo\n\r\n\tthree\r\rfour\x00\x1b[1mfive\xff\n").unwrap();
    let file = file.display();
    let table = [
        "$X printf 'a\\nb\\n'".to_string(),
        "$X printf 'no newline'".into(),
        "$X printf 'a\\r\\nb\\r\\n\\r\\r\\n10%%\\r20%%\\r\\n'".into(),
        format!("$X cat {file}"),
        format!("$X cat < {file}"),
        format!("cat {file} | $X cat"),
        format!("$X cat {file} | cat"),
        format!("$X cat {file} | $X cat"),
        format!("$X cat {file} | $X cat | $X cat >&2"),
        "$X sh -c 'echo out; echo err >&2; echo out'".into(),
        "$X sh -c 'echo out; echo err >&2' 2>/dev/null".into(),
        "$X sh -c 'echo out; echo err >&2' >/dev/null".into(),
        "$X sh -c 'echo err >&2; echo out' 2>&1 | cat".into(),
        "$X sh -c 'echo err >&2' | cat".into(),
        "echo x | $X sh -c 'cat; echo err >&2' > /dev/null".into(),
        "$X sh -c 'echo to the terminal > /dev/tty' < /dev/null > /dev/null 2>&1".into(),
        "$X printf 'a\\nb\\n' & wait".into(),
        // Whether bash tells of a job that has ended depends on when it looks.
        "set -m; exec 3>&2 2>/dev/null; $X printf 'a\\nb\\n' 2>&3 & wait".into(),
        "set -m; exec 3>&2 2>/dev/null; $X sh -c 'echo a; echo b >&2' < /dev/null 2>&3 & wait".into(),
        "(exec 0<&-; $X echo a)".into(),
        "$X echo a 2>&-".into(),
        "$X sh -c 'stty raw; printf \"a\\nb\\n\"; stty sane; printf \"c\\nd\\n\"'".into(),
        "stty -onlcr; $X printf 'a\\nb\\n'; stty onlcr".into(),
        "stty -opost; $X printf 'a\\nb\\n'; $X sh -c 'echo c >&2' | cat; stty opost".into(),
        "stty raw; $X printf 'a\\nb\\n'; stty sane".into(),
        "x=$($X echo a); echo \"[$x]\"".into(),
        "for i in 1 2 3; do $X echo $i; done".into(),
        "$X seq 5000".into(),
        "$X seq 5000 2>&1 >/dev/null | cat; $X seq 3 >&2 | cat".into(),
        "$X head -c 300000 /dev/zero | tr '\\0' x".into(),
        "$X sh -c 'seq 20000 >&2' | cat".into(),
    ];
    for line in table {
        let [native, through] = [true, false].map(|native| screen(&host, &line, native));
        assert!(native == through, "{line}\nnatively: {:?}\nthrough:  {:?}", end_of(&native), end_of(&through));
        assert!(line.contains("dev/null") || line.contains("2>&-") || !native.is_empty(), "{line}");
    }
}

fn end_of(bytes: &[u8]) -> String {
    text(&bytes[bytes.len().saturating_sub(400)..])
}

/// Each of 0, 1 and 2 is a terminal, a pipe, a file or closed: 64 runs, each compared with the native one in what the command sees,
/// what arrives where, and what the screen shows.
#[test]
fn every_combination_of_streams_is_at_the_command_as_at_the_caller() {
    let host = Host::start();
    let dir = TempDir::new();
    let at = |name: &str| dir.0.join(name).display().to_string();
    fs::write(at("in"), "key\n").unwrap();
    let probe = format!(
        "for n in 0 1 2; do if [ -t $n ]; then k=terminal; elif [ -p /dev/fd/$n ]; then k=pipe; elif [ -e /dev/fd/$n ]; then k=other; else k=closed; fi; echo $n $k >> {0}.new; done; \
         printf 'OUT\\nput\\n' 2>/dev/null; printf 'ERR\\nor\\n' >&2; read line 2>/dev/null; echo \"read $line\" >> {0}.new; mv {0}.new {0}",
        at("report")
    );
    let probe_file = at("probe");
    fs::write(&probe_file, probe).unwrap();
    let kinds = ["terminal", "pipe", "file", "closed"];
    for combination in 0..64 {
        let [input, output, errors] = [combination / 16, combination / 4 % 4, combination % 4].map(|k| kinds[k]);
        let input_text = match input {
            "terminal" => String::new(),
            "pipe" => "< <(printf 'key\\n')".into(),
            "file" => format!("< {}", at("in")),
            _ => "<&-".into(),
        };
        let to = |kind: &str, number: i32, name: &str| match kind {
            "terminal" => String::new(),
            "pipe" => format!("{number}> >(cat > {0}.new; mv {0}.new {0})", at(name)),
            "file" => format!("{number}> {}", at(name)),
            _ => format!("{number}>&-"),
        };
        // The session's end would hang up on the readers of the pipes.
        let read = |kind: &str, name: &str| if kind == "pipe" { format!("; until test -e {}; do sleep 0.01; done", at(name)) } else { String::new() };
        let (to_output, to_errors) = (to(output, 1, "out"), to(errors, 2, "err"));
        let line = format!("$X sh {probe_file} {input_text} {to_output} {to_errors}; echo \"status $?\"{}{}", read(output, "out"), read(errors, "err"));
        let results = [true, false].map(|native| {
            for name in ["report.new", "report", "out", "err"] {
                let _ = fs::remove_file(at(name));
            }
            let mut terminal = Terminal::run(&mut script(&host, &line, native));
            if input == "terminal" {
                for (kind, last) in [(output, "put\r\n"), (errors, "or\r\n")] {
                    if kind == "terminal" {
                        terminal.expect(last);
                    }
                }
                if native {
                    moment();
                } else {
                    terminal.wait_until_raw();
                }
                terminal.send("key\r");
            }
            terminal.wait();
            let collect = |kind: &str, name: &str| match kind {
                "pipe" | "file" => {
                    eventually(&format!("{name} of {line}"), || fs::metadata(at(name)).is_ok());
                    fs::read_to_string(at(name)).unwrap()
                }
                _ => String::new(),
            };
            (fs::read_to_string(at("report")).unwrap_or_default(), collect(output, "out"), collect(errors, "err"), text(&terminal.shown), terminal.is_cooked())
        });
        assert_eq!(results[0], results[1], "{line}");
        let report: Vec<String> = [input, output, errors].iter().enumerate().map(|(n, k)| format!("{n} {}", if *k == "file" { "other" } else { k })).collect();
        assert!(results[1].0.starts_with(&report.join("\n")), "{line}: {}", results[1].0);
        assert_eq!(results[1].0.contains("read key"), input != "closed", "{line}: {}", results[1].0);
    }
}

/// The terminal echoes what comes before it is raw, the command's own what comes after; here a key comes in the very moment: the client
/// runs where this test does, and only when this test sleeps.
#[test]
fn a_key_typed_as_the_keyboard_is_lent_is_echoed_once() {
    let host = Host::start();
    let processor = stay_on_one_processor();
    let line = format!("X='taskset -c {processor} chrt -i 0 '$BKT' admin daemon exec --'; for i in $(seq 100); do $X head -n 1 > /dev/null; echo done; done");
    let mut t = Terminal::run(&mut script(&host, &line, false));
    for _ in 0..100 {
        let end = Instant::now() + PATIENCE;
        while !t.is_raw() {
            assert!(Instant::now() < end, "the terminal is never raw");
            std::thread::sleep(Duration::from_micros(20));
        }
        t.send("key\r");
        assert_eq!(t.expect("done\r\n"), "key\r\n");
    }
}

#[test]
fn a_thousand_short_runs_lose_no_byte() {
    let host = Host::start();
    let mut t = Terminal::run(&mut script(&host, "for i in $(seq 1000); do $X echo run $i ends; done; echo all", false));
    let shown = t.expect("all\r\n");
    let wanted: String = (1..=1000).map(|i| format!("run {i} ends\r\n")).collect();
    assert!(shown == wanted, "{} of {} bytes", shown.len(), wanted.len());
    assert!(t.is_cooked());
    eventually("the last monitor has ended too", || host.children().is_empty());
}

#[test]
fn many_terminals_at_once_lose_no_byte() {
    let host = Host::start();
    let line = "for i in 1 2 3 4 5; do $X seq 3000; done; $X sh -c 'seq 3000 >&2' | cat";
    let mut all: Vec<Terminal> = (0..20).map(|_| Terminal::run(&mut script(&host, line, false))).collect();
    let wanted: String = (0..6).flat_map(|_| (1..=3000).map(|i| format!("{i}\r\n"))).collect();
    for t in &mut all {
        t.wait();
        assert!(text(&t.shown) == wanted, "{} of {} bytes", t.shown.len(), wanted.len());
    }
    eventually("no child is left", || host.children().is_empty());
}

/// A hundred kilobytes and the end at once, to a screen that takes them slowly.
#[test]
fn the_last_output_is_shown_before_the_end_however_slow_the_screen() {
    let host = Host::start();
    for line in ["$X head -c 100000 /dev/zero", "$X head -c 100000 /dev/zero & wait", "$X sh -c 'head -c 100000 /dev/zero >&2' | cat"] {
        for slow in [false, true] {
            let mut t = Terminal::run(&mut script(&host, &format!("{line}; echo END"), false));
            if slow {
                // The command has long ended: only the screen is waited for.
                moment();
            }
            t.expect("END\r\n");
            assert_eq!(t.shown.iter().filter(|b| **b == 0).count(), 100_000, "{line}");
        }
    }
}

#[test]
fn large_output_arrives_whole() {
    let host = Host::start();
    const BYTES: usize = 50 << 20;
    let mut t = Terminal::run(&mut script(&host, &format!("$X head -c {BYTES} /dev/zero; echo END"), false));
    t.wait();
    assert_eq!(t.shown.len(), BYTES + 5);
}

#[test]
fn a_large_paste_arrives_whole() {
    let host = Host::start();
    let dir = TempDir::new();
    let out = dir.0.join("out");
    let pasted: Vec<u8> = (0..200_000u32).map(|i| b'a' + (i * 7 % 26) as u8).collect();
    for (start, command) in [("", "stty raw -echo; echo begun >&2; exec head -c 200000"), ("stty raw -echo; ", "echo begun >&2; exec head -c 200000")] {
        for redirected in [format!("> {}", out.display()), format!("| cat > {}", out.display())] {
            let mut t = Terminal::run(&mut script(&host, &format!("{start}$X sh -c '{command}' {redirected}; stty sane; echo END"), false));
            t.expect("begun");
            t.wait_until_raw();
            t.send_bytes(&pasted);
            t.expect("END\r\n");
            eventually("all of it is there", || fs::metadata(&out).unwrap().len() >= 200_000);
            assert!(fs::read(&out).unwrap() == pasted, "{start}{command} {redirected}");
        }
    }
    // Lines, into a terminal that edits them.
    let lines: String = (0..20_000).map(|i| format!("line {i}\r")).collect();
    let mut t = Terminal::run(&mut script(&host, &format!("stty -echo; $X sh -c 'echo begun >&2; exec cat > {}'; stty sane; echo END", out.display()), false));
    t.expect("begun");
    t.wait_until_raw();
    t.send(&lines);
    t.send("\x04");
    t.expect("END\r\n");
    assert!(fs::read_to_string(&out).unwrap() == lines.replace('\r', "\n"));
}

#[test]
fn pty_without_a_terminal_makes_one_of_plain_streams() {
    let host = Host::start();
    let run = |input: &[u8], command: &[&str]| {
        let mut child = host.bkt(["admin", "daemon", "exec", "--pty", "--"]).args(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        stdout(child.wait_with_output().unwrap())
    };
    let shown = run(b"", &["sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo err >&2"]);
    assert!(shown.starts_with("/dev/pts/") && shown.ends_with("all\r\nerr\r\n"), "{shown:?}");
    // The end of the input is the end that a person would type, after a whole line and after half of one.
    assert_eq!(run(b"one\n", &["sh", "-c", "stty -echo; cat"]).replace("one\r\none", "one"), "one\r\n");
    assert!(run(b"half", &["cat"]).ends_with("half"));
    assert!(run(b"a\nb\n", &["sh", "-c", "read a; read b; echo got $a $b"]).ends_with("got a b\r\n"));
    let counted = run(b"", &["head", "-c", "1000000", "/dev/zero"]);
    assert_eq!(counted.len(), 1_000_000);
    // Ctrl-C is a key.
    let mut child = host.bkt(["admin", "daemon", "exec", "--pty", "--", "sh", "-c", "echo begun; exec sleep 60"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut begun = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    input.write_all(b"\x03").unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(libc::SIGINT));
}

#[test]
fn no_pty_at_a_terminal_passes_the_terminal_itself() {
    let host = Host::start();
    let mut t = Terminal::run(&mut script(&host, "\"$BKT\" admin daemon exec --no-pty -- sh -c 'tty; ps -o tty= -p $$; stty size; read a; echo got $a'; tty", false));
    let name = t.expect("\r\n");
    assert!(name.starts_with("/dev/pts/"));
    assert!(t.expect("\r\n").starts_with('?'), "it is not its controlling one");
    t.expect("24 80\r\n");
    t.send("one\r");
    t.expect("one\r\ngot one\r\n");
    assert_eq!(t.expect("\r\n"), name, "the caller's own");
    t.wait();
}

#[test]
fn a_terminal_that_is_not_the_controlling_one_works_as_a_terminal() {
    let host = Host::start();
    for how in ["setsid -w ", "script -qec \"$X_LINE\" /dev/null #"] {
        let line = "sh -c 'test -t 0 && test -t 1 && echo both; stty size; read a; echo got $a; exit 3'";
        let mut command = script(&host, &format!("{how} $BKT admin daemon exec -- {line}; echo status $?"), false);
        if how.starts_with("script") {
            command = script(&host, "script -qec \"$LINE\" /dev/null; echo status $?", false);
            command.env("LINE", format!("{BKT} admin daemon exec -- {line}"));
        }
        let mut t = Terminal::run(&mut command);
        t.expect("both\r\n24 80\r\n");
        t.wait_until_raw();
        t.send("one\r");
        t.expect("got one\r\n");
        t.expect("status 3\r\n");
        t.wait();
        assert!(t.is_cooked(), "{how}");
    }
}

#[test]
fn a_terminal_as_output_alone_gets_what_is_written_to_it() {
    let host = Host::start();
    let program = "import os, pty, subprocess, sys
leader, follower = pty.openpty()
run = subprocess.run([os.environ['BKT'], 'admin', 'daemon', 'exec', '--', 'sh', '-c', 'test -t 1 && echo yes; test -t 0 || echo no; exit 5'], stdin=subprocess.DEVNULL, stdout=follower, start_new_session=len(sys.argv) > 1)
os.close(follower)
print(run.returncode, os.read(leader, 100))
";
    for arguments in [vec!["-c", program], vec!["-c", program, "session"]] {
        let mut command = Command::new("python3");
        command.args(arguments).env("BKT", BKT).env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container");
        assert_eq!(stdout(command.output().unwrap()), "5 b'yes\\r\\nno\\r\\n'\n");
    }
}
