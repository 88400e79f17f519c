//! Signals of a run without a terminal, and what a command inherits: everything of the caller's that a child of its own would get,
//! and nothing of the daemon's.
#![allow(unsafe_code)]

mod support;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use support::{BKT, Client, Host, caller, eventually, field_of, kill, state, status_field, stdout, text};

/// The signals that stop, and can be caught.
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Blocks every signal, the C library's own too, and makes a child that does likewise; says both numbers and sleeps. What they
/// were sent can be read in `/proc` then. The argument is the number of `rt_sigprocmask`.
/// Blocked after the fork, which in the C library unblocks the signal it uses itself.
const BLOCK: &str = r#"my $number = 0 + shift; my $all = pack("Q", ~0); $| = 1; pipe(my $r, my $w);
my $child = fork; syscall($number, 2, $all, 0, 8);
if ($child) { sysread($r, my $ready, 1); print "$$ $child\n" } else { syswrite($w, "x") } sleep 1000 while 1"#;

/// Starts a client whose command says the numbers of the processes of its group.
fn started(mut command: Command) -> (Client, Vec<u32>) {
    let mut client = Client(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(client.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let group: Vec<u32> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(!group.is_empty(), "the command said nothing");
    (client, group)
}

/// Signals that have arrived at a process that blocks them, as a set.
fn arrived(pid: u32) -> u64 {
    ["ShdPnd", "SigPnd"].iter().map(|field| u64::from_str_radix(&status_field(pid, field).unwrap(), 16).unwrap()).fold(0, |a, b| a | b)
}

#[test]
fn every_signal_that_can_be_caught_reaches_the_whole_group() {
    let host = Host::start();
    let (mut client, group) = started(host.exec(["perl", "-e", BLOCK, &libc::SYS_rt_sigprocmask.to_string()]));
    assert_eq!(group.len(), 2);
    let mut sent = 0;
    for signal in caller::catchable().filter(|s| !STOPS.contains(s)) {
        kill(client.id(), signal);
        sent |= 1u64 << (signal - 1);
        for pid in &group {
            eventually(&format!("signal {signal} is at {pid}"), || arrived(*pid) & 1 << (signal - 1) != 0);
            assert_eq!(arrived(*pid), sent, "nothing but what was sent is at {pid}, after signal {signal}");
        }
    }
    group.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    assert_eq!(client.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Waits for the client as a shell does.
fn changes(client: &Child, options: i32) -> i32 {
    let mut status = 0;
    // SAFETY: a valid int; a stop or a continuation does not reap.
    eventually("the client's state changes", || unsafe { libc::waitpid(client.id() as i32, &raw mut status, options | libc::WNOHANG) } > 0);
    status
}

#[test]
fn a_stop_signal_stops_command_and_client_and_cont_continues_both_twice_in_a_row() {
    let host = Host::start();
    for signal in STOPS {
        let (mut client, group) = started(host.sh("sleep 1000 & echo $$ $!; wait"));
        for round in 0..2 {
            kill(client.id(), signal);
            let status = changes(&client, libc::WUNTRACED);
            assert!(libc::WIFSTOPPED(status), "signal {signal}, round {round}: {status:#x}");
            assert_eq!(libc::WSTOPSIG(status), libc::SIGSTOP);
            for pid in &group {
                // The leader has, or we would not; the others may be just about to.
                eventually(&format!("{pid} is stopped by signal {signal}, round {round}"), || state(*pid) == Some('T'));
            }
            kill(client.id(), libc::SIGCONT);
            assert!(libc::WIFCONTINUED(changes(&client, libc::WCONTINUED)));
            for pid in &group {
                eventually("the group runs again", || state(*pid) == Some('S'));
            }
        }
        kill(client.id(), libc::SIGTERM);
        assert_eq!(client.wait().unwrap().signal(), Some(libc::SIGTERM));
        for pid in group {
            eventually("the group is gone", || !support::lives(pid));
        }
    }
}

#[test]
fn a_command_that_stops_itself_is_seen_stopped_and_goes_on_when_the_client_is_continued() {
    let host = Host::start();
    let mut client = Client(host.sh("kill -STOP $$; exit 5").spawn().unwrap());
    assert!(libc::WIFSTOPPED(changes(&client, libc::WUNTRACED)));
    kill(client.id(), libc::SIGCONT);
    assert_eq!(client.wait().unwrap().code(), Some(5));
}

#[test]
fn a_stop_signal_ignored_at_the_caller_stops_nothing() {
    let host = Host::start();
    let mut command = host.sh("echo $$; read line; exit 6");
    caller::ignoring(&mut command, STOPS);
    let (mut client, group) = started({
        command.stdin(Stdio::piped());
        command
    });
    STOPS.iter().for_each(|signal| kill(client.id(), *signal));
    support::pty::moment();
    assert_eq!((state(client.id()), state(group[0])), (Some('S'), Some('S')));
    drop(client.stdin.take());
    assert_eq!(client.wait().unwrap().code(), Some(6));
}

/// Ignored, blocked and caught signals of a process, from its `/proc/PID/status`.
fn dispositions(status: &str) -> [u64; 3] {
    ["SigIgn", "SigBlk", "SigCgt"].map(|field| u64::from_str_radix(&field_of(status, field).unwrap(), 16).unwrap())
}

#[test]
fn what_is_ignored_at_the_caller_is_ignored_at_the_command_and_nothing_else() {
    // The daemon's own caller ignores and blocks everything: none of it is handed on.
    let host = Host::start_with(|daemon| {
        caller::ignoring(daemon, caller::catchable());
        caller::blocking_all(daemon);
    });
    let one_by_one = caller::catchable().map(|signal| vec![signal]);
    for ignored in one_by_one.chain([vec![], caller::catchable().collect()]) {
        for blocking in [false, true] {
            let mut command = host.exec(["cat", "/proc/self/status"]);
            caller::ignoring(&mut command, ignored.clone());
            if blocking {
                caller::blocking_all(&mut command);
            }
            let expected = ignored.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
            assert_eq!(dispositions(&stdout(command.output().unwrap())), [expected, 0, 0], "ignored {ignored:?}, blocking {blocking}");
        }
    }
}

/// Soft limits that differ from each other and from what is usual, by the kernel's resource number.
const SOFT_LIMITS: [u64; 16] = [54_321, 1 << 41, 1 << 36, 7 << 20, 4096, 1 << 35, 5_001, 777, 65_536, 1 << 37, 12_345, 4_321, 100_001, 0, 0, 98_765_432];

#[test]
fn umask_nice_value_and_every_resource_limit_are_those_of_a_child_of_the_caller() {
    // A daemon with habits of its own, within which the caller's fit.
    let host = Host::start_with(|daemon| {
        caller::with_umask(daemon, 0o007);
        caller::with_nice(daemon, 1);
    });
    let soft = |resource: usize| (resource as u32, SOFT_LIMITS[resource], None);
    let report = "umask; cut -d' ' -f19 /proc/self/stat; cat /proc/self/limits";
    let compare = |what: &str, habit: &dyn Fn(&mut Command)| {
        let mut through = host.sh(report);
        let mut direct = Command::new("sh");
        direct.args(["-c", report]);
        habit(&mut through);
        habit(&mut direct);
        let direct = stdout(direct.output().unwrap());
        assert_eq!(stdout(through.output().unwrap()), direct, "{what}");
        direct
    };
    for mask in [0, 0o022, 0o027, 0o077, 0o777] {
        let seen = compare("umask", &|c| caller::with_umask(c, mask));
        assert!(seen.starts_with(&format!("{mask:04o}\n")));
    }
    for nice in [1, 5, 19] {
        let seen = compare("nice", &|c| caller::with_nice(c, nice));
        assert!(seen.contains(&format!("\n{nice}\n")));
    }
    let plain = compare("no habit", &|_| {});
    for (resource, wanted) in SOFT_LIMITS.iter().copied().enumerate() {
        let seen = compare(&format!("soft limit {resource}"), &|c| caller::with_limits(c, [soft(resource)]));
        let (now, hard) = caller::limit(resource as u32).unwrap();
        assert_eq!(seen != plain, wanted.min(hard) != now, "the row for {resource} shows a difference");
        compare(&format!("hard limit {resource}"), &|c| caller::with_limits(c, [(resource as u32, wanted, Some(wanted))]));
    }
    compare("all soft limits", &|c| caller::with_limits(c, (0..16).map(soft)));
}

#[test]
fn a_command_has_a_session_and_a_group_of_its_own_and_no_terminal() {
    let host = Host::start();
    let stat = stdout(host.exec(["cat", "/proc/self/stat"]).output().unwrap());
    let pid = stat.split(' ').next().unwrap();
    let rest: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Group, session, terminal: proc(5).
    assert_eq!(rest[2..5], [pid, pid, "0"]);
}

fn some_file() -> OwnedFd {
    File::open("/etc/passwd").unwrap().into()
}

#[test]
fn a_command_has_no_descriptor_but_the_three() {
    // Neither what the daemon's caller left open, nor what the client's did, nor anything of ours.
    let host = Host::start_with(|daemon| caller::with_descriptors(daemon, [5, 9, 63, 200].map(|n| (some_file(), n)).into()));
    let mut others: Vec<Child> = (0..3).map(|_| host.exec(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()).collect();
    for round in 0..3 {
        let mut command = host.exec(["ls", "/proc/self/fd"]);
        caller::with_descriptors(&mut command, [3, 4, 7, 100].map(|n| (some_file(), n)).into());
        // The last is the directory that is being listed.
        assert_eq!(stdout(command.output().unwrap()), "0\n1\n2\n3\n", "round {round}");
    }
    for other in &mut others {
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
    }
}

#[test]
fn a_command_is_not_traced_back_to_the_clients_name_or_arguments() {
    // argv arrives as it was given, argv[0] too, and nothing of the options that came before `--`.
    let host = Host::start();
    let output =
        Command::new(BKT).arg0("/odd/place/bkt").args(["admin", "daemon", "exec", "--env", "A=1", "--", "cat", "/proc/self/cmdline"]).env("BKT_SOCKET", host.socket()).output();
    assert_eq!(text(&output.unwrap().stdout), "cat\0/proc/self/cmdline\0");
}
