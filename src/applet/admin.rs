//! `bkt admin daemon …`: what people and scripts ask of the daemon.

use crate::applet::{Call, RELEASE, output, usage};
use crate::client::ask::{self, Found};
use crate::client::local;
use crate::client::run::{self, Command, Outcome, Times};
use crate::error::{Error, Result, counted};
use crate::exit::End;
use crate::logging::shown;
use lexopt::{Arg, Parser, ValueExt};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Exit codes of `status`, as for services in the LSB core specification.
const NOT_RUNNING: u8 = 3;
const STALE: u8 = 1;

/// Runs of `test`, of which the medians are shown.
const TEST_RUNS: usize = 21;

pub const EXEC_HELP: &str = "\
Usage: bkt admin daemon exec [OPTIONS] -- CMD ARGS…

Runs CMD on the daemon's side as if it ran here: with these streams, this terminal, these signals, and its own exit status.

  --cwd DIR         run in DIR (default: the same path as here); fails if it is not there
  --env K=V         set a variable; may be repeated
  --unset-env K     take a variable away; may be repeated
  --clear-env       nothing of either side's environment but --env
  --fd N            pass descriptor N (3 to 255) under its own number; may be repeated
  --detach          do not wait: the command survives us; its terminal streams are /dev/null
  --pty, --no-pty   always or never give it a terminal (default: where we are at one)
";

pub fn wants_json(args: Vec<OsString>, command: &str) -> Result<bool> {
    let mut json = false;
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|e| usage(e, "bkt"))? {
        match arg {
            Arg::Long("json") => json = true,
            other => return Err(usage(format_args!("{command}: {}", other.unexpected()), "bkt")),
        }
    }
    Ok(json)
}

pub fn status(call: &Call, args: Vec<OsString>) -> Result<End> {
    let json = wants_json(args, "status")?;
    let sockets = call.sockets();
    let found = ask::status(&sockets, call.op)?;
    output::print(&if json { crate::document::text(&State::of(&found, &sockets)) } else { describe(&found, &sockets) });
    Ok(End::Code(code(&found)))
}

pub fn code(found: &Found) -> u8 {
    match found {
        Found::Running(_) | Found::Reserved(_) => 0,
        Found::Stale(_) => STALE,
        Found::Nothing(_) => NOT_RUNNING,
    }
}

pub fn describe(found: &Found, sockets: &[std::path::PathBuf]) -> String {
    let socket = || sockets.first().map_or_else(String::new, |s| s.display().to_string());
    let (path, why) = match found {
        Found::Running(status) => return describe_running_daemon(status, &socket()),
        Found::Reserved(words) => return format!("daemon:  running\nsocket:  {}\n         {words}\n", socket()),
        Found::Stale(path) => (path, "stale: nobody listens; the next daemon replaces it"),
        Found::Nothing(path) => (path, "not there"),
    };
    format!("daemon:  not running\nsocket:  {} ({why})\nstart:   systemctl --user start bkt-hostd   (bkt-hostd where it is no unit)\n", path.display())
}

fn describe_running_daemon(status: &ask::Status, socket: &str) -> String {
    let mut text = format!(
        "daemon:  running, pid {}, version {}{}\nsocket:  {}\nuptime:  {}\nserved:  {}\nopen:    {} descriptors of {}\ncgroup:  {}\nrunning: {}\n",
        status.pid,
        status.release,
        if status.release == RELEASE { String::new() } else { format!(" (this is {RELEASE})") },
        socket,
        duration(status.uptime_ms),
        counted(status.served as usize, "operation"),
        status.descriptors,
        status.descriptor_limit,
        cgroup(status),
        status.running.len() + status.untold,
    );
    if !status.policy.is_empty() {
        text.push_str(&format!("policy:  {}\n", shown(&status.policy)));
    }
    if !status.policy_error.is_empty() {
        text.push_str(&format!("         refused, the earlier one stays: {}\n", status.policy_error));
    }
    describe_running(&mut text, status);
    text
}

pub fn describe_running(text: &mut String, status: &ask::Status) {
    for run in &status.running {
        let op = run.op.map_or_else(String::new, |op| op.to_string());
        let terminal = if run.terminal { "terminal" } else { "-" };
        text.push_str(&format!("  {op}  pid {:<8} {:>10}  {terminal:8}  {}\n", run.pid, duration(run.since_ms), shown(&run.name)));
    }
    if status.untold > 0 {
        text.push_str(&format!("  and {} more\n", status.untold));
    }
}

/// By what the daemon holds a command together.
fn cgroup(status: &ask::Status) -> &'static str {
    if status.cgroups { "per command" } else { "by process group" }
}

/// What `--json` prints; its fields are told of in bkt(1).
#[derive(Serialize)]
#[serde(tag = "state")]
pub enum State {
    #[serde(rename = "running")]
    Running {
        socket: String,
        version: String,
        pid: u32,
        uptime_ms: u64,
        served: u64,
        descriptors: u32,
        descriptor_limit: u64,
        supervised: bool,
        cgroup: &'static str,
        policy: Option<String>,
        policy_error: Option<String>,
        running: Vec<Run>,
        untold: usize,
    },
    /// Asked by a container's own socket, where no more is told.
    #[serde(rename = "reserved")]
    Reserved { socket: String, why: String },
    #[serde(rename = "stale")]
    Stale { socket: String },
    #[serde(rename = "not running")]
    NotRunning { socket: String },
}

#[derive(Serialize)]
pub struct Run {
    op_id: Option<String>,
    pid: u32,
    since_ms: u64,
    name: String,
    terminal: bool,
}

impl Run {
    pub fn of(r: &ask::Running) -> Run {
        Run { op_id: r.op.map(|op| op.to_string()), pid: r.pid, since_ms: r.since_ms, name: shown(&r.name), terminal: r.terminal }
    }
}

#[derive(Serialize)]
struct RoundTrip {
    command: &'static str,
    runs: usize,
    connect_us: u64,
    spawn_us: u64,
    run_us: u64,
    total_us: u64,
}

impl State {
    pub fn of(found: &Found, sockets: &[std::path::PathBuf]) -> State {
        let some = |text: String| Some(text).filter(|t| !t.is_empty());
        let shown_path = |path: &std::path::Path| path.display().to_string();
        match found {
            Found::Reserved(words) => State::Reserved { socket: sockets.first().map_or_else(String::new, |s| shown_path(s)), why: words.clone() },
            Found::Stale(path) => State::Stale { socket: shown_path(path) },
            Found::Nothing(path) => State::NotRunning { socket: shown_path(path) },
            Found::Running(status) => State::Running {
                socket: sockets.first().map_or_else(String::new, |s| shown_path(s)),
                version: status.release.clone(),
                pid: status.pid,
                uptime_ms: status.uptime_ms,
                served: status.served,
                descriptors: status.descriptors,
                descriptor_limit: status.descriptor_limit,
                supervised: status.supervised,
                cgroup: cgroup(status),
                policy: some(shown(&status.policy)),
                policy_error: some(status.policy_error.clone()),
                running: status.running.iter().map(Run::of).collect(),
                untold: status.untold,
            },
        }
    }
}

pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{}.{:03} s", s, ms % 1000),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

pub fn test(call: &Call, args: Vec<OsString>) -> Result<End> {
    let json = wants_json(args, "test")?;
    let command = Command { args: b"true\0".to_vec(), pty: run::WantPty::Never, keep_streams: true, ..Command::default() };
    let mut all: Vec<[u64; 4]> = Vec::new();
    for _ in 0..TEST_RUNS {
        let mut times = Times::default();
        match run::run_timed(&command, &call.invocation, &call.sockets(), call.op, &mut times)? {
            Outcome::Ended(End::Code(0)) => {}
            Outcome::Ended(end) => return Err(Error::new(format!("'true' ran through the daemon and ended with {}", end.shell_code()))),
            Outcome::SameSide => return Err(Error::new("the daemon took this for a shim")),
            Outcome::NoDaemon { path, why } => return Err(local::no_daemon(&path, &why)),
        }
        let Times { begun, connected, started, ended } = times;
        all.push([connected - begun, started - connected, ended - started, ended - begun]);
    }
    let [connect, spawn, run, total] = [0, 1, 2, 3].map(|part| median(&all, part));
    output::print(&if json {
        crate::document::text(&RoundTrip { command: "true", runs: TEST_RUNS, connect_us: connect, spawn_us: spawn, run_us: run, total_us: total })
    } else {
        format!(
            "ok: 'true' ran through the daemon {TEST_RUNS} times; medians:\n  connect {connect:>6} µs\n  spawn   {spawn:>6} µs\n  run     {run:>6} µs\n  total   {total:>6} µs\n"
        )
    });
    Ok(End::Code(0))
}

/// The value that has as many below it as above; there are few enough to count.
fn median(all: &[[u64; 4]], part: usize) -> u64 {
    let below = |value: u64| all.iter().filter(|times| times[part] < value).count();
    all.iter().map(|times| times[part]).filter(|value| below(*value) <= all.len() / 2).max().unwrap_or(0)
}

pub fn exec(call: &Call, args: Vec<OsString>) -> Result<End> {
    let end_of_options = args.iter().position(|a| a == "--");
    let Some(at) = end_of_options else {
        return Err(usage("exec wants '--' before the command, so that its options are not taken for ours", "bkt admin daemon exec"));
    };
    let mut command = read_run_options(args[..at].to_vec(), "bkt admin daemon exec")?;
    for arg in &args[at + 1..] {
        command.args.extend(arg.as_bytes());
        command.args.push(0);
    }
    if command.args.is_empty() {
        return Err(usage("exec wants a command after '--'", "bkt admin daemon exec"));
    }
    match run::run(&command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => Ok(end),
        Outcome::NoDaemon { path, why } => Err(local::no_daemon(&path, &why)),
        Outcome::SameSide => Err(Error::new("the daemon took this for a shim")),
    }
}

/// The options that a run may have, as `exec` and `enter` know them.
pub fn read_run_options(args: Vec<OsString>, help: &str) -> Result<Command> {
    let wrong = |e: lexopt::Error| usage(e, help);
    let mut command = Command::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("cwd") => {
                let directory = parser.value().map_err(wrong)?.into_vec();
                if !directory.starts_with(b"/") {
                    return Err(usage("--cwd wants an absolute path: a relative one would mean another directory there", help));
                }
                command.directory = Some(directory);
            }
            Arg::Long("env") => {
                let entry = parser.value().map_err(wrong)?.into_vec();
                if entry.iter().position(|b| *b == b'=').is_none_or(|at| at == 0) {
                    return Err(usage(format_args!("--env wants NAME=VALUE, not '{}'", shown(&entry)), help));
                }
                command.set_env.extend(entry);
                command.set_env.push(0);
            }
            Arg::Long("unset-env") => {
                let name = parser.value().map_err(wrong)?.into_vec();
                if name.is_empty() || name.contains(&b'=') {
                    return Err(usage(format_args!("--unset-env wants a name, not '{}'", shown(&name)), help));
                }
                command.unset_env.extend(name);
                command.unset_env.push(0);
            }
            Arg::Long("fd") => {
                let number: u16 = parser.value().and_then(|v| v.parse()).map_err(wrong)?;
                if !(3..=255).contains(&number) {
                    return Err(usage(format_args!("--fd wants a number from 3 to 255, not {number}"), help));
                }
                if !command.extra.contains(&number) {
                    command.extra.push(number);
                }
            }
            Arg::Long("clear-env") => command.clear_env = true,
            Arg::Long("detach") => command.detach = true,
            Arg::Long("pty") => command.pty = run::WantPty::Always,
            Arg::Long("no-pty") => command.pty = run::WantPty::Never,
            other => return Err(wrong(other.unexpected())),
        }
    }
    if command.detach && command.pty == run::WantPty::Always {
        return Err(usage("--detach and --pty exclude each other: nobody would be at the terminal", help));
    }
    Ok(command)
}

pub fn reload(call: &Call) -> Result<End> {
    output::print(&ask::reload(&call.sockets(), call.op)?);
    match ask::status(&call.sockets(), call.op)? {
        Found::Running(status) if !status.policy_error.is_empty() => Err(Error::new(format!("{}; the policy stays as it was", status.policy_error))),
        _ => Ok(End::Code(0)),
    }
}

pub fn stop(call: &Call) -> Result<End> {
    ask::stop(&call.sockets(), call.op).map(|()| End::Code(0))
}
