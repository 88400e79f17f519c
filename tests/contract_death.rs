//! The death of a client: nothing of its command is left, unless that was to survive; and a command never runs twice.
#![allow(unsafe_code)]

mod support;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{BKT, Client, Host, TempDir, caller, complaint, eventually, kill, lives, number_in, stdout, text};

/// From SIGHUP to SIGTERM, and from there to SIGKILL.
const HANGUP_GRACE: Duration = Duration::from_secs(3);
const TERM_GRACE: Duration = Duration::from_secs(5);

/// A process that does not outlive its test.
struct Stray(u32);

impl Drop for Stray {
    fn drop(&mut self) {
        // SAFETY: kill(2) touches no memory; the process is of this test.
        unsafe { libc::kill(self.0 as i32, libc::SIGKILL) };
    }
}

/// Starts a client of `sh -c SCRIPT`, whose `$0` is a directory; waits for the numbers that the script writes to files of these
/// names there.
fn started(host: &Host, script: &str, files: &[&str]) -> (Client, Vec<u32>) {
    started_by(host, host.sh(script), files)
}

fn started_by(host: &Host, mut command: Command, files: &[&str]) -> (Client, Vec<u32>) {
    let client = Client(command.arg(&host.dir.0).spawn().unwrap());
    let numbers = files.iter().map(|name| number_in(&host.dir.0.join(name))).collect();
    (client, numbers)
}

fn kill_and_wait(mut client: Client) {
    kill(client.id(), libc::SIGKILL);
    client.wait().unwrap();
}

#[track_caller]
fn end_soon(pids: &[u32]) {
    pids.iter().for_each(|pid| eventually(&format!("{pid} ends"), || !lives(*pid)));
}

/// Descriptors and children of a daemon at rest.
fn rests_as(host: &Host, descriptors: usize) {
    eventually("the daemon has no child left, no zombie either", || host.children().is_empty());
    eventually("the daemon has closed what was the run's", || host.descriptors() == descriptors);
}

#[test]
fn a_killed_clients_command_is_hung_up_on_at_once_with_its_whole_group() {
    let host = Host::start();
    let before = host.descriptors();
    let script = r#"sleep 1000 & echo $! >"$0/child"; (sh -c 'echo $$ >"$0/deep"; exec sleep 1000' "$0"; :) & echo $$ >"$0/leader"; wait"#;
    let (client, group) = started(&host, script, &["child", "deep", "leader"]);
    let since = Instant::now();
    kill_and_wait(client);
    end_soon(&group);
    assert!(since.elapsed() < HANGUP_GRACE, "by the SIGHUP, not by what follows it");
    rests_as(&host, before);
}

#[test]
fn a_stopped_command_is_continued_to_notice() {
    let host = Host::start();
    let before = host.descriptors();
    // It forks nothing meanwhile: a shell whose child stops between vfork and exec is not stopped itself.
    let script = r#"trap 'echo 1 >"$0/hung-up"; exit' HUP; sleep 1000 & echo $$ >"$0/leader"; wait"#;
    let (mut client, group) = started(&host, script, &["leader"]);
    kill(client.id(), libc::SIGTSTP);
    eventually("it is stopped", || support::state(group[0]) == Some('T'));
    kill(client.id(), libc::SIGKILL);
    client.wait().unwrap();
    assert_eq!(number_in(&host.dir.0.join("hung-up")), 1);
    end_soon(&group);
    rests_as(&host, before);
}

/// Notes each signal with the time, in milliseconds of the kernel's uptime, and goes on.
const STUBBORN: &str = r#"note() { read up idle </proc/uptime; echo "$1 $up" >>"$0/signals"; }
for s in HUP TERM CONT; do trap "note $s" $s; done; echo $$ >"$0/leader"; while :; do sleep 0.05; done"#;

#[test]
fn who_ignores_hup_gets_term_and_who_ignores_that_gets_kill_each_after_its_grace() {
    let host = Host::start();
    let before = host.descriptors();
    let (client, group) = started(&host, STUBBORN, &["leader"]);
    let since = Instant::now();
    kill_and_wait(client);
    end_soon(&group);
    assert!(since.elapsed() >= HANGUP_GRACE + TERM_GRACE, "killed after {:?}", since.elapsed());
    let noted = fs::read_to_string(host.dir.0.join("signals")).unwrap();
    let noted: Vec<(&str, f64)> = noted.lines().map(|l| l.split_once(' ').map(|(name, at)| (name, at.parse().unwrap())).unwrap()).collect();
    assert_eq!(noted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["HUP", "CONT", "TERM", "CONT"]);
    // Not earlier than its grace; a trap waits for the end of `sleep 0.05`, on a busy machine for longer.
    assert!(noted[2].1 - noted[0].1 > HANGUP_GRACE.as_secs_f64() - 1.0, "{noted:?}");
    rests_as(&host, before);
}

#[test]
fn children_that_ignore_what_ended_their_leader_are_ended_too() {
    let host = Host::start();
    let before = host.descriptors();
    let script = r#"(trap '' HUP TERM; exec sleep 1000) & echo $! >"$0/deaf"; (trap '' HUP; exec sleep 1000) & echo $! >"$0/half"; sleep 0.1; echo $$ >"$0/leader"; wait"#;
    let (client, group) = started(&host, script, &["leader", "deaf", "half"]);
    kill_and_wait(client);
    end_soon(&group);
    rests_as(&host, before);
}

/// In a PID namespace of its own, where numbers are given again as told and nobody else notices.
const STRANGER: &str = r#"
export BKT_SOCKET=$DIR/bkt/host.sock BKT_SIDE=container XDG_RUNTIME_DIR=$DIR
until_true() { for n in $(seq 400); do eval "$1" && return; sleep 0.05; done; echo "never: $1"; exit 1; }
"$BKT" bkt-hostd 2>&1 &
until_true '"$BKT" admin daemon status >/dev/null'
"$BKT" admin daemon exec -- sh -c '(trap "" HUP; exec sleep 1000) & echo $! >"$0/deaf"; sleep 0.1; echo $$ >"$0/leader"; wait' "$DIR" &
until_true '[ -s "$DIR/leader" ]'
read leader <"$DIR/leader"; read deaf <"$DIR/deaf"
kill -KILL $!
until_true '[ ! -e /proc/$leader ]'
# The rest of the group ends by itself, and its number is given to a stranger's group.
kill -KILL $deaf
until_true '[ ! -e /proc/$deaf ]'
set -m
echo $((leader - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 &
[ $! = $leader ] || { echo "the stranger is $!, not $leader"; exit 1; }
# Longer than the ladder.
sleep 9
kill -0 $leader && [ "$(cat /proc/$leader/comm)" = sleep ] && echo "the stranger lives"
"#;

#[test]
fn a_strangers_group_that_got_the_number_of_the_commands_is_not_signalled() {
    let dir = TempDir::new();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", STRANGER]).env("BKT", BKT).env("DIR", &dir.0).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(text(&output.stdout).ends_with("the stranger lives\n"), "{output:?}");
}

#[test]
fn a_killed_daemons_commands_are_hung_up_on_with_their_whole_groups() {
    let script = r#"sleep 1000 & echo $! >"$0/child"; (sh -c 'echo $$ >"$0/deep"; exec sleep 1000' "$0"; :) & echo $$ >"$0/leader"; wait"#;
    for reloaded in [false, true] {
        let host = Host::start();
        // What a command has left behind that has ended is not hung up on.
        let (mut returned, left) = started(&host, r#"sleep 1000 >/dev/null 2>&1 & echo $! >"$0/left"; sleep 0.1; exit 3"#, &["left"]);
        assert_eq!(returned.wait().unwrap().code(), Some(3));
        let left = Stray(left[0]);
        let mut command = host.sh(script);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let (client, group) = started_by(&host, command, &["child", "deep", "leader"]);
        eventually("the client knows that its command runs: it has closed its copies", || fs::read_link(format!("/proc/{}/fd/2", client.id())).is_err());
        if reloaded {
            assert!(host.bkt(["admin", "daemon", "reload"]).output().unwrap().status.success());
        }
        assert!(group.iter().all(|pid| lives(*pid)), "a daemon that lives hangs up on nobody");
        host.signal_daemon(libc::SIGKILL);
        end_soon(&group);
        assert!(lives(left.0));
    }
}

#[test]
fn a_client_that_is_told_to_end_tells_its_command_and_does_not_end_before_it() {
    let host = Host::start();
    let (mut client, _) = started(&host, r#"trap 'sleep 0.2; exit 42' TERM; echo $$ >"$0/leader"; while :; do sleep 0.05; done"#, &["leader"]);
    kill(client.id(), libc::SIGTERM);
    assert_eq!(client.wait().unwrap().code(), Some(42));
}

#[test]
fn what_is_to_survive_its_client_does() {
    let host = Host::start();
    let before = host.descriptors();
    // Whose caller ignores HUP,
    let mut command = host.sh(r#"echo $$ >"$0/ignoring"; exec sleep 1000"#);
    caller::ignoring(&mut command, [libc::SIGHUP]);
    let (ignoring, mut survivors) = started_by(&host, command, &["ignoring"]);
    kill_and_wait(ignoring);
    // what is detached,
    let command = host.bkt(["admin", "daemon", "exec", "--detach", "--", "sh", "-c", r#"echo $$ >"$0/detached"; exec sleep 1000"#]);
    let (mut detached, pids) = started_by(&host, command, &["detached"]);
    assert_eq!(detached.wait().unwrap().code(), Some(0));
    survivors.extend(pids);
    // and what a program leaves behind that forks and returns.
    let (mut returned, pids) = started(&host, r#"sleep 1000 >/dev/null 2>&1 & echo $! >"$0/left"; exit 3"#, &["left"]);
    assert_eq!(returned.wait().unwrap().code(), Some(3));
    survivors.extend(pids);
    let survivors: Vec<Stray> = survivors.into_iter().map(Stray).collect();
    // Longer than the whole ladder.
    std::thread::sleep(HANGUP_GRACE + TERM_GRACE + Duration::from_secs(1));
    for survivor in survivors {
        assert!(lives(survivor.0));
        kill(survivor.0, libc::SIGKILL);
    }
    rests_as(&host, before);
}

#[test]
fn a_detached_command_keeps_its_streams_and_is_not_waited_for() {
    let host = Host::start();
    let before = host.descriptors();
    let mut command = host.bkt(["admin", "daemon", "exec", "--detach", "--", "sh", "-c", r#"read line; echo "$line" >"$0/read""#]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut client = Client(command.arg(&host.dir.0).stdin(reader).spawn().unwrap());
    drop(command);
    assert_eq!(client.wait().unwrap().code(), Some(0));
    writer.write_all(b"later\n").unwrap();
    eventually("it reads on", || fs::read_to_string(host.dir.0.join("read")).is_ok_and(|t| t == "later\n"));
    rests_as(&host, before);
    // What cannot be started is told as ever.
    let output = host.bkt(["admin", "daemon", "exec", "--detach", "--", "no-such-command"]).output().unwrap();
    complaint(&output, 127, "not found");
}

/// Runs that say their number in a file of that name and then sleep.
fn counting(host: &Host, place: &Path, number: usize) -> Command {
    let mut command = host.sh(r#"echo $$ >>"$0"; exec sleep 1000"#);
    command.arg(place.join(number.to_string())).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_caller_killed_at_any_moment_never_leaves_a_command_and_never_has_it_run_twice() {
    const ROUNDS: usize = 400;
    let host = Host::start();
    let before = host.descriptors();
    let place: PathBuf = host.dir.0.join("count");
    fs::create_dir(&place).unwrap();
    // From before the client is up to after its command runs.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..ROUNDS {
        let mut client = Client(counting(&host, &place, round).spawn().unwrap());
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let until = Instant::now() + Duration::from_micros(state % 4_000);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        kill(client.id(), libc::SIGKILL);
        assert_eq!(client.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
    rests_as(&host, before);
    let runs: Vec<usize> = (0..ROUNDS).filter_map(|round| fs::read_to_string(place.join(round.to_string())).ok()).map(|t| t.lines().count()).collect();
    assert!(runs.iter().all(|times| *times <= 1), "{runs:?}");
    // Otherwise the moments were badly chosen, and the test shows nothing.
    assert!(!runs.is_empty() && runs.len() < ROUNDS, "{} of {ROUNDS} ran", runs.len());
}

#[test]
fn every_caller_that_waits_gets_its_command_run_once() {
    let host = Host::start();
    let before = host.descriptors();
    let count = host.dir.0.join("count");
    let mut clients: Vec<Client> = (0..100).map(|n| Client(host.sh(r#"echo x >>"$0"; exit $1"#).arg(&count).arg(n.to_string()).spawn().unwrap())).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.wait().unwrap().code(), Some(n as i32));
    }
    assert_eq!(fs::read_to_string(&count).unwrap().lines().count(), 100);
    rests_as(&host, before);
    assert_eq!(stdout(host.sh("echo fine").output().unwrap()), "fine\n");
}
