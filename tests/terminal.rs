//! Job control at a real terminal: what the keys and the shell's `fg`, `bg` and `&` do to a command. Most are done twice, natively
//! and through the daemon, so that the expectation is shown to be the shell's own.

mod support;
use std::fs;
use support::pty::{self, Terminal, moment, natively_and_through};
use support::{Host, TempDir, eventually, kill, lives, number_in, state};

/// Long enough for any test, short enough not to stay.
const LONG: &str = "sleep 60";

/// The same natively and through a daemon.
fn both(test: impl Fn(&mut Terminal)) {
    natively_and_through(&Host::start(), test);
}

#[test]
fn a_command_has_the_terminal_as_its_controlling_one_in_the_foreground() {
    both(|t| {
        let shown = t.line("$X tty");
        assert!(shown.starts_with("/dev/pts/"), "{shown:?}");
        let shown = t.line("$X sh -c 'ps -o tty=,tpgid=,pgid= -p $$; tty'");
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!((words[1], format!("/dev/{}", words[0]).as_str()), (words[2], words[3]), "{shown:?}");
        assert_eq!(t.line("$X stty size"), "24 80\r\n");
        t.resize(31, 97);
        assert_eq!(t.line("$X stty size"), "31 97\r\n");
        let own = t.line("stty -a");
        assert_eq!(t.line("$X stty -a"), own);
    });
}

#[test]
fn ctrl_c_and_ctrl_backslash_end_the_command_by_their_signals() {
    both(|t| {
        for (key, status) in [("\x03", 130), ("\x1c", 131)] {
            t.begin(&format!("ulimit -c 0; $X sh -c 'echo begun; exec {LONG}'"));
            t.end_by(key);
            t.expect_status(status);
        }
    });
}

#[test]
fn a_command_may_catch_ctrl_c() {
    both(|t| {
        t.begin("$X bash -c 'trap \"echo caught\" INT; echo begun; read a; echo got $a; exit 3'");
        t.send("\x03");
        t.expect("caught");
        t.answer("x", "got x");
        t.expect_status(3);
    });
}

fn stop_and_fg(t: &mut Terminal, command: &str, times: usize, settle: fn()) {
    t.begin(command);
    for _ in 0..times {
        settle();
        t.ctrl_z();
        assert!(t.line("jobs").contains("Stopped"));
        t.fg();
    }
    t.answer("one", "got one");
}

#[test]
fn ctrl_z_and_fg_work_five_times_in_a_row() {
    both(|t| stop_and_fg(t, "$X sh -c 'echo begun; read a; echo got $a'", 5, || {}));
}

/// A program that catches Ctrl-Z's signal, cleans up, as editors do, and then stops itself by another one.
fn self_stopping(dir: &TempDir, by: &str) -> String {
    let path = dir.0.join(format!("stops-by-{by}"));
    let text = format!(
        "import os, signal, sys
def on_tstp(*_):
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.{by})
    signal.signal(signal.SIGTSTP, on_tstp)
signal.signal(signal.SIGTSTP, on_tstp)
print('begun', flush=True)
print('got', sys.stdin.readline())
"
    );
    fs::write(&path, text).unwrap();
    format!("$X python3 {}", path.display())
}

#[test]
fn a_command_that_catches_tstp_and_stops_itself_is_a_stopped_job() {
    let host = Host::start();
    let dir = TempDir::new();
    for by in ["SIGSTOP", "SIGTSTP"] {
        let command = self_stopping(&dir, by);
        natively_and_through(&host, |t| stop_and_fg(t, &command, 3, moment));
    }
}

#[test]
fn a_script_stops_as_a_whole_even_if_its_command_stops_itself() {
    let host = Host::start();
    let dir = TempDir::new();
    let script = dir.0.join("script");
    for body in ["$X sh -c 'echo begun; read a; echo got $a'".to_string(), self_stopping(&dir, "SIGSTOP")] {
        fs::write(&script, format!("echo from a script\n{body}\necho 'after it'\n")).unwrap();
        for shell in ["bash", "sh"] {
            natively_and_through(&host, |t| {
                t.line("export X");
                t.begin(&format!("{shell} {}", script.display()));
                for _ in 0..2 {
                    moment();
                    t.ctrl_z();
                    // The script has stopped; its command is about to.
                    moment();
                    t.fg();
                }
                t.send("one\r");
                t.expect("got one");
                t.expect("after it");
                t.prompt();
            });
        }
    }
}

#[test]
fn ctrl_c_during_a_scripts_command_ends_the_script() {
    let host = Host::start();
    let dir = TempDir::new();
    let script = dir.0.join("script");
    fs::write(&script, format!("echo before\n$X sh -c 'echo begun; exec {LONG}'\necho after=$?\n")).unwrap();
    for shell in ["bash", "sh"] {
        natively_and_through(&host, |t| {
            t.line("export X");
            t.begin(&format!("{shell} {}", script.display()));
            let shown = t.end_by("\x03");
            assert!(!shown.contains("after="), "{shown:?}");
            t.expect_status(130);
        });
    }
}

#[test]
fn a_script_sees_the_status_of_every_way_to_end() {
    both(|t| {
        let codes = "for s in 0 1 125 255; do $X sh -c \"exit $s\"; echo -n \"$? \"; done";
        let signals = "for s in HUP INT TERM KILL USR1 PIPE; do $X sh -c \"kill -$s \\$\\$\"; echo -n \"$? \"; done";
        let shown = t.line(&format!("X=\"$X\" bash -c '{codes}; {signals}' 2>/dev/null"));
        assert_eq!(shown, "0 1 125 255 129 130 143 137 138 141 ");
    });
}

#[test]
fn a_background_command_runs_until_it_needs_the_keyboard_and_fg_gives_it_that() {
    both(|t| {
        t.begin("$X sh -c 'echo begun; echo more; read a; echo got $a' &");
        t.expect("more\r\n");
        // The shell says so before its next prompt.
        let mut told = String::new();
        eventually("the shell tells of the stop", || {
            told += &t.line("");
            told.contains("Stopped")
        });
        assert!(told.contains("tty input") || t.line("jobs -l").contains("tty input"), "{told:?}");
        t.fg();
        t.send("one\r");
        t.expect("one\r\n");
        assert_eq!(t.prompt(), "got one\r\n");
    });
}

#[test]
fn a_background_command_comes_to_the_foreground_without_having_stopped() {
    let dir = TempDir::new();
    let go = fifo(&dir);
    both(|t| {
        t.begin(&format!("$X sh -c 'echo begun; read x < {}; read a; echo got $a' &", go.display()));
        t.fg();
        fs::write(&go, "go\n").unwrap();
        moment();
        t.answer("one", "got one\r\n");
        // And Ctrl-C ends one that never asked for the keyboard.
        t.begin(&format!("$X sh -c 'echo begun; exec {LONG}' &"));
        t.fg();
        moment();
        t.end_by("\x03");
        t.expect_status(130);
    });
}

#[test]
fn bg_continues_a_stopped_command_and_its_output_has_right_newlines() {
    let dir = TempDir::new();
    let go = fifo(&dir);
    both(|t| {
        t.begin(&format!("$X sh -c 'echo begun; read x < {}; echo one; echo two; read a; echo got $a'", go.display()));
        t.ctrl_z();
        t.line("bg");
        fs::write(&go, "go\n").unwrap();
        assert_eq!(t.expect("two\r\n"), "one\r\n");
        t.wait_for_stopped_job();
        t.fg();
        t.answer("end", "got end\r\n");
    });
}

#[test]
fn a_subshell_in_the_background_starts_its_command_there() {
    both(|t| {
        t.start("(sleep 0.1; $X sh -c 'echo one; echo two; read a; echo got $a') &");
        t.expect("one\r\ntwo\r\n");
        t.wait_for_stopped_job();
        t.fg();
        t.answer("end", "got end\r\n");
    });
}

/// A named pipe: a command that opens it waits there, without a child of its own, until somebody writes.
fn fifo(dir: &TempDir) -> std::path::PathBuf {
    let path = dir.0.join("go");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// The client of a run: what bash's `$!` or the stopped job's number is.
fn job(t: &mut Terminal) -> u32 {
    let shown = t.line("jobs -p");
    shown.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no job: {shown:?}"))
}

#[test]
fn stop_signals_from_another_process_stop_the_job_and_cont_continues_it() {
    let host = Host::start();
    let dir = TempDir::new();
    for signal in [libc::SIGSTOP, libc::SIGTSTP] {
        natively_and_through(&host, |t| {
            let pid_file = dir.0.join("pid");
            let _ = fs::remove_file(&pid_file);
            t.begin(&format!("bash -c 'echo $$ > {}; exec '\"$X\"' sh -c \"echo begun; read a; echo got \\$a\"'", pid_file.display()));
            let client = number_in(&pid_file);
            for _ in 0..2 {
                kill(client, signal);
                t.expect_stopped();
                t.fg();
                eventually("it runs again", || state(client) == Some('S'));
            }
            // Stopped and continued by somebody else: the shell keeps the terminal, the command runs in the background.
            kill(client, signal);
            t.expect_stopped();
            kill(client, libc::SIGCONT);
            moment();
            t.line("true");
            t.fg();
            moment();
            t.answer("one", "got one");
        });
    }
}

#[test]
fn a_job_continued_in_the_background_by_hand_asks_for_the_keyboard_again() {
    both(|t| {
        t.begin("$X sh -c 'echo begun; read a; echo got $a'");
        t.send("\x1a");
        t.prompt();
        let client = job(t);
        kill(client, libc::SIGCONT);
        moment();
        eventually("the job has stopped again", || state(client) == Some('T'));
        t.line("");
        t.fg();
        moment();
        t.answer("one", "got one");
    });
}

#[test]
fn ctrl_z_in_a_pipeline_stops_all_of_it() {
    let host = Host::start();
    for pipeline in [
        "$X sh -c 'echo begun >&2; exec sleep 60' | cat",
        "sleep 60 | $X sh -c 'echo begun; cat'",
        "$X sleep 60 | $X sh -c 'echo begun; cat'",
        "$X sh -c 'echo begun; exec sleep 60' 2>&1 | $X cat",
        "cat | $X sh -c 'echo begun; cat'",
    ] {
        natively_and_through(&host, |t| {
            t.begin(pipeline);
            for _ in 0..2 {
                // A shell that forks right now would stop half-way.
                moment();
                t.ctrl_z();
                let runs_on = t.line("ps -o stat=,comm= -t $(tty) | grep -c '^[SR].* \\(bkt\\|sleep\\|cat\\)$'");
                assert_eq!(runs_on, "0\r\n");
                t.fg();
            }
            t.end_by("\x03");
        });
    }
}

#[test]
fn keys_go_to_the_pager_and_not_to_the_command_before_it() {
    both(|t| {
        for command in [
            "$X seq 1000 | less",
            "$X seq 1000 | $X less",
            "seq 1000 | $X less",
            "$X sh -c 'seq 1000; exec sleep 60' | less",
            "$X sh -c 'seq 1000; sleep 60; cat' 2>/dev/null | less",
        ] {
            t.start(command);
            t.expect("22\r\n");
            t.expect("23");
            t.wait_until_raw();
            moment();
            t.send(" ");
            t.expect("45");
            t.expect("46");
            t.send(" ");
            t.expect("67");
            t.expect("68");
            t.send("q");
            // A writer that never writes again lives on after the pager, in the shell's eyes too.
            moment();
            t.end_by("\x03");
            t.line("");
            assert_eq!(t.line("stty size"), "24 80\r\n");
        }
    });
}

#[test]
fn a_writer_in_a_pipeline_leaves_the_keyboard_alone_where_output_stops_background_jobs() {
    both(|t| {
        t.line("stty tostop");
        t.start("sleep 0.5 | $X sh -c 'echo out; exec cat'");
        t.expect("out\r\n");
        while t.foreground() != t.child.id() as i32 {
            assert!(t.is_cooked() || t.foreground() == t.child.id() as i32, "the keyboard was lent to a writer");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        t.prompt();
        // A real background job is stopped by its output, and goes on when it is in the foreground.
        t.line("sleep 0.1 | $X echo late &");
        let mut jobs = String::new();
        eventually("it is a stopped job", || {
            jobs += &t.line("jobs");
            jobs.contains("Stopped")
        });
        assert!(!jobs.contains("late\r\n["), "{jobs}");
        t.start("fg");
        t.expect("late\r\n");
        t.prompt();
    });
}

#[test]
fn a_command_with_only_its_input_at_the_terminal_reads_lines_to_the_end() {
    let dir = TempDir::new();
    let out = dir.0.join("out");
    both(|t| {
        for command in [format!("$X cat > {}", out.display()), format!("$X cat | cat > {}", out.display())] {
            t.start(&command);
            moment();
            t.send("one\rtwo\r");
            t.expect("two\r\n");
            // A burst, its end of file included.
            t.send("three\rfour\r\x04");
            t.prompt();
            eventually("all of it is there", || fs::read_to_string(&out).unwrap() == "one\ntwo\nthree\nfour\n");
        }
    });
}

#[test]
fn a_command_substitution_asks_at_the_terminal() {
    let host = Host::start();
    natively_and_through(&host, |t| {
        // Bash ignores SIGTTIN and SIGTTOU there; a command that inherits that cannot ask for the keyboard by being stopped.
        let hidden = "stty -echo </dev/tty; read a </dev/tty; stty echo </dev/tty; echo $a";
        for ask in ["$X sh -c 'echo ask >/dev/tty; read a; echo $a'".to_string(), format!("true | $X sh -c 'echo ask >/dev/tty; {hidden}'")] {
            t.start(&format!("x=$({ask}); echo got $x"));
            t.expect("ask\r\n");
            t.send("one\r");
            t.expect("got one\r\n");
            t.expect("READY> ");
        }
    });
}

#[test]
fn a_command_that_forks_after_each_answer_asks_for_the_next() {
    let host = Host::start();
    natively_and_through(&host, |t| {
        t.start("seq 8 | $X xargs -n1 -p echo got");
        for number in 1..=8 {
            t.expect(&format!("got {number}?..."));
            t.send("y\r");
            t.expect(&format!("got {number}\r\n"));
        }
        t.expect("READY> ");
    });
}

#[test]
fn lines_are_read_from_the_terminal_one_by_one_though_the_input_is_elsewhere() {
    both(|t| {
        for redirected in ["< /dev/null", "< /dev/null | cat", "< /dev/null 2>&1 | $X cat"] {
            // Often: the next read may begin before the terminal is taken back, or after.
            t.start(&format!("$X sh -c 'for i in $(seq 50); do read a < /dev/tty; echo got $a >&2; done' {redirected}"));
            t.wait_for_job();
            for n in 1..=50 {
                t.send(&format!("line {n}\r"));
                t.expect(&format!("got line {n}\r\n"));
            }
            t.prompt();
            assert_eq!(t.line("echo ok"), "ok\r\n");
        }
    });
}

#[test]
fn keys_typed_before_the_start_are_shown_once() {
    both(|t| {
        for (ahead, after) in [("typed\r", ""), ("one\rty", "ped\r"), ("ty", "ped\r")] {
            t.start("stty sane; sleep 0.4; $X sh -c 'echo begun; while read a; do echo got $a; [ $a = typed ] && exit; done'");
            t.wait_for_job();
            t.send(ahead);
            let mut shown = t.expect("begun\r\n");
            moment();
            t.send(after);
            shown += &t.expect("got typed\r\n");
            t.prompt();
            assert_eq!(shown.matches("ty").count(), 1, "{ahead:?}: {shown:?}");
            assert_eq!(shown.matches("one").count(), if ahead.starts_with("one") { 2 } else { 0 }, "{ahead:?}: {shown:?}");
        }
    });
}

#[test]
fn a_here_document_leaves_the_terminal_to_the_others() {
    both(|t| {
        t.send("$X sh -c 'cat; tty; test -t 1 && echo tty1; stty -a | grep -c isig' <<E\rfrom here\rE\r");
        t.expect("> E\r\n");
        assert!(t.prompt().starts_with("from here\r\nnot a tty\r\ntty1\r\n"));
    });
}

#[test]
fn an_interactive_shell_has_job_control_of_its_own() {
    let host = Host::start();
    for command in ["$X bash --norc --noprofile -i", "$X bash --norc --noprofile -i 2>&1 | cat"] {
        natively_and_through(&host, |t| {
            t.start(&format!("PS1='inner> ' {command}"));
            let inner = |t: &mut Terminal, line: &str| {
                t.start(line);
                t.expect("inner> ")
            };
            t.expect("inner> ");
            assert!(inner(t, "echo $((6*7)); echo ok").contains("42\r\nok"));
            assert!(inner(t, "echo again").contains("again"));
            t.start(LONG);
            moment();
            t.send("\x03");
            t.expect("inner> ");
            assert!(inner(t, "echo is $?").contains("is 130"));
            for _ in 0..2 {
                t.start("sh -c 'echo begun; exec sleep 60'");
                t.expect("begun");
                t.send("\x1a");
                t.expect("Stopped");
                t.expect("inner> ");
                t.start("fg");
                t.expect("sleep 60'");
                moment();
                t.send("\x1a");
                t.expect("Stopped");
                t.expect("inner> ");
                inner(t, "kill -9 $(jobs -p)");
                eventually("the job is gone", || !inner(t, "jobs").contains("Stopped"));
            }
            t.start("exit 7");
            t.prompt();
            assert!(t.line("echo status ${PIPESTATUS[0]}").contains("status 7"));
        });
    }
}

#[test]
fn an_inner_shell_can_be_suspended_and_resumed() {
    both(|t| {
        t.start("PS1='inner> ' $X bash --norc --noprofile -i");
        t.expect("inner> ");
        for _ in 0..3 {
            t.start("suspend");
            t.expect_stopped();
            t.start("fg");
            t.expect("inner> ");
            t.start("echo still $((40+2))");
            t.expect("still 42");
            t.expect("inner> ");
        }
        t.start("exit");
        t.prompt();
    });
}

#[test]
fn a_resize_reaches_the_command_wherever_the_terminal_is() {
    let host = Host::start();
    let dir = TempDir::new();
    let program = dir.0.join("program");
    let text = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
signal.signal(signal.SIGINT, signal.SIG_DFL)
print('begun', file=sys.stderr, flush=True)
while True:
    signal.sigwait([signal.SIGWINCH])
    size = os.get_terminal_size(os.open('/dev/tty', os.O_RDWR))
    print(size.lines, size.columns, file=sys.stderr, flush=True)
";
    fs::write(&program, text).unwrap();
    for redirected in ["", "| cat", "> /dev/null", "< /dev/null", "< /dev/null | cat", "2>&1 | $X cat"] {
        natively_and_through(&host, |t| {
            t.begin(&format!("$X python3 {} {redirected}", program.display()));
            moment();
            t.resize(40, 100);
            t.expect("40 100\r\n");
            t.resize(24, 80);
            t.expect("24 80\r\n");
            t.end_by("\x03");
        });
    }
}

#[test]
fn a_size_changed_while_the_command_was_away_is_right_when_it_is_back() {
    both(|t| {
        t.begin("$X bash -c 'echo begun; while read a; do stty size; done'");
        for (how, rows) in [("", 30), ("bg", 31), ("", 32)] {
            t.send("\x1a");
            t.prompt();
            if !how.is_empty() {
                t.line(how);
                // It reads, and so is stopped again; a shell that does not know that yet would not continue it.
                t.wait_for_stopped_job();
            }
            t.resize(rows, 90);
            t.fg();
            moment();
            t.send("\r");
            t.expect(&format!("{rows} 90\r\n"));
        }
        t.end_by("\x04");
    });
}

#[test]
fn typed_ahead_keys_reach_the_command_that_reads_them() {
    both(|t| {
        t.start("sleep 0.2; $X cat | tr a-z A-Z; $X cat");
        t.wait_for_job();
        t.send("one\rtwo\r\x04");
        t.expect("ONE\r\nTWO\r\n");
        // A loan that ends takes the keys with it that were typed meanwhile.
        moment();
        t.send("three\r\x04");
        t.expect("three\r\n");
        t.prompt();
    });
}

#[test]
fn an_orphaned_background_command_that_reads_gets_no_keys_and_spins_not() {
    let dir = TempDir::new();
    both(|t| {
        let done = dir.0.join("done");
        let _ = fs::remove_file(&done);
        t.start(&format!("(bash -c 'exec '\"$X\"' sh -c \"sleep 0.2; read a; echo end=\\$a > {}\"' &)", done.display()));
        t.prompt();
        eventually("reading has ended", || fs::read_to_string(&done).is_ok_and(|text| text == "end=\n"));
        assert_eq!(t.line("echo all $((1+1)) mine"), "all 2 mine\r\n");
    });
}

#[test]
fn a_killed_job_leaves_nothing() {
    let host = Host::start();
    let mut t = pty::bash(&host);
    let dir = TempDir::new();
    let pid = dir.0.join("pid");
    t.begin(&format!("$X sh -c 'echo $$ > {}; echo begun; exec {LONG}'", pid.display()));
    t.send("\x1a");
    t.prompt();
    let command = number_in(&pid);
    assert_eq!(state(command), Some('T'));
    t.line("kill %1; wait 2>/dev/null");
    eventually("the command is gone", || !lives(command));
    eventually("the daemon has no child", || host.children().is_empty());
}
