mod support;
use support::{Host, pty, stdout, text};

#[test]
fn a_command_runs_through_the_daemon() {
    let host = Host::start();
    assert_eq!(stdout(host.sh("echo $SERVER_SIDE").output().unwrap()), "yes\n");
}

#[test]
fn verbose_says_which_way_a_command_takes() {
    let host = Host::start();
    let ways: [(&[&str], &str); 2] =
        [(&["-v", "host-exec", "sh", "-c", "exit 3"], "this is the host: running sh here"), (&["-v", "admin", "daemon", "exec", "--", "sh", "-c", "exit 3"], "the daemon runs it")];
    for (words, way) in ways {
        let output = host.bkt(words).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains(way), "{}", text(&output.stderr));
    }
}

#[test]
fn ctrl_z_and_fg_twice() {
    let host = Host::start();
    let mut t = pty::bash(&host);
    t.send("$X sh -c 'echo begun; read a; echo got $a; read b; echo got $b'\r");
    t.expect("begun\r\n");
    for _ in 0..2 {
        t.ctrl_z();
        t.fg();
        t.wait_until_raw();
    }
    t.send("one\r");
    t.expect("got one");
    t.answer("two", "got two");
}
