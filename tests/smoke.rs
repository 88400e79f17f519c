mod support;
use support::{Host, pty, stdout, text};

#[test]
fn a_command_runs_through_the_daemon() {
    let host = Host::start();
    assert_eq!(stdout(host.sh("echo $SERVER_SIDE").output().unwrap()), "yes\n");
}

#[test]
fn verbose_says_which_way_a_name_goes() {
    let host = Host::start();
    let output = host.bkt(["-v", "host-exec", "sh", "-c", "echo $SERVER_SIDE; exit 3"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "yes\n"));
    assert!(text(&output.stderr).contains("the daemon runs it"), "{}", text(&output.stderr));
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
