//! Real programs at a terminal, through the daemon.

mod support;
use std::fs;
use std::process::Command;
use support::pty::{self, Terminal, moment, natively_and_through};
use support::{Host, TempDir, eventually};

#[test]
fn vim_edits_resizes_stops_and_comes_back() {
    let host = Host::start();
    let dir = TempDir::new();
    let file = dir.0.join("text");
    natively_and_through(&host, |t| {
        fs::write(&file, "first line\n").unwrap();
        let modes = t.modes();
        t.start(&format!("$X vim -u NONE {}", file.display()));
        t.expect("first line");
        t.wait_until_raw();
        t.send("osecond line\x1b");
        t.expect("second line");
        t.send(":set lines? columns?\r");
        t.expect("lines=24");
        t.expect("columns=80");
        t.resize(33, 101);
        moment();
        t.send("\x0c:set lines? columns?\r");
        t.expect("lines=33");
        t.expect("columns=101");
        t.send("\r");
        for _ in 0..2 {
            t.ctrl_z();
            assert_eq!(t.modes().1, modes.1);
            t.fg();
            // The whole screen is there again.
            t.expect("first line");
            t.expect("second line");
            t.wait_until_raw();
        }
        t.send(":wq\r");
        t.prompt();
        assert_eq!(fs::read_to_string(&file).unwrap(), "first line\nsecond line\n");
        t.resize(24, 80);
        assert_eq!(t.line("echo ok"), "ok\r\n");
        assert_eq!(t.line("stty -a | grep -c -- -icanon"), "0\r\n");
    });
}

#[test]
fn vim_started_in_the_background_waits_for_fg() {
    let host = Host::start();
    natively_and_through(&host, |t| {
        t.start("$X vim -u NONE &");
        eventually("it has stopped", || t.line("jobs").contains("Stopped"));
        t.fg();
        t.wait_until_raw();
        t.send("ihello\x1b");
        t.expect("hello");
        t.send(":q!\r");
        t.prompt();
        assert_eq!(t.line("echo ok"), "ok\r\n");
    });
}

#[test]
fn less_pages_a_file_and_its_input() {
    let host = Host::start();
    let dir = TempDir::new();
    let file = dir.0.join("text");
    fs::write(&file, (1..=500).map(|i| format!("row {i}\n")).collect::<String>()).unwrap();
    for command in [format!("$X less {}", file.display()), format!("$X less < {}", file.display()), format!("cat {} | $X less", file.display())] {
        natively_and_through(&host, |t| {
            t.start(&command);
            t.expect("row 23");
            t.wait_until_raw();
            t.send(" ");
            t.expect("row 46");
            t.send("G");
            t.expect("row 500");
            moment();
            t.ctrl_z();
            t.fg();
            t.expect("row 500");
            t.send("g");
            // Inserted at the top, one by one.
            t.expect("row 2\r\n");
            t.expect("row 1\r\n");
            t.end_by("q");
            assert_eq!(t.line("echo ok"), "ok\r\n");
        });
    }
}

#[test]
fn full_screen_monitors_follow_the_terminals_size() {
    let host = Host::start();
    for command in ["$X top -d 1", "$X htop"] {
        natively_and_through(&host, |t| {
            t.start(command);
            t.expect("PID");
            t.wait_until_raw();
            t.resize(40, 132);
            moment();
            t.forget();
            // One goes to the last row by its number, the other by writing the rows before it.
            let last_row = |t: &mut Terminal| {
                let shown = t.rest();
                shown.contains("\x1b[40;") || shown.contains("\x1b[40d") || shown.split("\x1b[H").any(|frame| frame.matches('\n').count() >= 38)
            };
            eventually("the last row is used", || last_row(t));
            t.end_by("q");
            t.resize(24, 80);
            assert_eq!(t.line("echo ok"), "ok\r\n");
        });
    }
}

#[test]
fn a_python_prompt_edits_lines_and_catches_ctrl_c() {
    let host = Host::start();
    natively_and_through(&host, |t| {
        t.start("$X python3 -q");
        t.expect(">>> ");
        t.send("6*7\r");
        t.expect("42\r\n");
        t.expect(">>> ");
        t.send("abc\x7f\x7f\x7f2**10\r");
        t.expect("1024\r\n");
        t.expect(">>> ");
        t.send("import time; time.sleep(60)\r");
        t.expect("60)");
        moment();
        t.send("\x03");
        t.expect("KeyboardInterrupt");
        t.expect(">>> ");
        t.ctrl_z();
        t.fg();
        moment();
        t.send("'again'*2\r");
        t.expect("againagain");
        t.expect(">>> ");
        t.end_by("\x04");
        t.expect_status(0);
    });
}

#[test]
fn tmux_runs_inside() {
    let host = Host::start();
    let dir = TempDir::new();
    let socket = dir.0.join("tmux");
    let mut t = pty::bash(&host);
    t.start(&format!("TMUX= TMUX_TMPDIR={} $X tmux -S {} -f /dev/null new-session 'echo in; stty size; read a; echo got $a; read b'", dir.0.display(), socket.display()));
    t.expect("23 80");
    t.send("one\r");
    t.expect("got one");
    t.resize(30, 100);
    let client = || Command::new("tmux").args(["-S", socket.to_str().unwrap(), "list-clients", "-F", "#{client_height}x#{client_width}"]).output().unwrap();
    eventually("tmux knows the new size", || client().stdout == b"30x100\n");
    t.send("\r");
    t.prompt();
    t.resize(24, 80);
    assert_eq!(t.line("echo ok"), "ok\r\n");
}

/// A user that may use sudo with a password, for as long as this lives.
struct SudoUser {
    name: String,
}

impl SudoUser {
    fn new() -> SudoUser {
        let name = format!("bkttest{}", std::process::id());
        let run = |line: String| assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
        run(format!("useradd -M -d /tmp -s /bin/bash {name} && echo {name}:secret77 | chpasswd"));
        run(format!("umask 337; echo '{name} ALL=(root) ALL\nDefaults:{name} !lecture' > /etc/sudoers.d/{name}"));
        SudoUser { name }
    }

    fn id(&self) -> u32 {
        let output = Command::new("id").args(["-u", &self.name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }
}

impl Drop for SudoUser {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/etc/sudoers.d/{}", self.name));
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

/// sudo asks on the terminal wherever its streams are, shows nothing of the password, and asks again after a wrong one.
#[test]
fn sudo_asks_for_a_password_and_hides_it() {
    let user = SudoUser::new();
    let host = Host::start();
    natively_and_through(&host, |t| {
        t.line(&format!("X=\"$X setpriv --reuid={0} --regid={0} --init-groups\"", user.id()));
        for line in [
            "$X sudo -k id -un",
            "$X sudo -k id -un | cat",
            "$X sudo -k sh -c 'id -un; cat' < /dev/null",
            "$X sudo -k id -un 2>/dev/null",
            "echo x | $X sudo -k id -un -r",
            "(echo x | $X sudo -k id -un 2>&1) | cat",
        ] {
            eprintln!("---- {line}");
            t.start(line);
            // A wrong one costs two seconds.
            let passwords: &[&str] = if line.ends_with("id -un") || line.ends_with("| cat") && !line.starts_with('(') { &["wrong", "secret77"] } else { &["secret77"] };
            for password in passwords {
                t.expect("password for");
                t.expect(": ");
                eventually("echo is off", || !t.is_cooked());
                // Where we are in between, our own raw mode is not sudo's: it has to have asked for the keyboard.
                moment();
                t.send(&format!("{password}\r"));
            }
            t.expect("root\r");
            t.prompt();
            assert!(!support::text(&t.shown).contains("secret77"), "{line}: the password is shown");
            assert_eq!(t.line("echo ok"), "ok\r\n", "{line}");
        }
        // Ctrl-C at the prompt.
        t.start("$X sudo -k id -un");
        t.expect("password for");
        t.expect(": ");
        moment();
        t.end_by("\x03");
        assert_eq!(t.line("echo ok"), "ok\r\n");
    });
}

#[test]
fn a_password_is_read_from_the_terminal_though_all_streams_are_elsewhere() {
    let host = Host::start();
    let dir = TempDir::new();
    let out = dir.0.join("out");
    let program = "import getpass; print(getpass.getpass('ask: '))";
    natively_and_through(&host, |t| {
        t.start(&format!("$X python3 -c \"{program}\" < /dev/null > {} 2>/dev/null", out.display()));
        t.expect("ask: ");
        eventually("echo is off", || !t.is_cooked());
        moment();
        t.send("hidden word\r");
        t.prompt();
        assert_eq!(fs::read_to_string(&out).unwrap(), "hidden word\n");
        assert!(!support::text(&t.shown).contains("hidden word"));
        assert_eq!(t.line("echo ok"), "ok\r\n");
    });
}
