//! The commands of `bkt`, for people. Those that belong to the host go there by themselves. The feature `tools` has them.

use crate::applet::shim::Asked;
use crate::applet::{Before, Call, admin, complete, doctor, enter, history, hostd, output, overview, schema, service, shell, shim, system, usage};
use crate::client::run::Command;
use crate::container::{self, Side};
use crate::error::{Error, Result};
use crate::exit::End;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

pub const HELP: &str = "\
bkt runs the host's commands from its containers, transparently.

Usage: bkt [-v] [--no-delegate] COMMAND
       bkt NAME ARGS…               the same as a link NAME to bkt

  status [--json]                   both sides at a glance
  doctor [--fix] [--json] [NAME]    what is wrong and what mends it; who answers to a name and why
  log [-f] [--op ID] [--since WHEN] [--json]
                                    what the daemon has written
  enter NAME [-- CMD ARGS…]         run CMD in a container, or a login shell; 'bkt enter --help'
  ps [--json]                       the containers, their guest daemons, and what runs there
  admin daemon run                  be the daemon (bkt-hostd)
  admin daemon status [--json]      is it there, and what does it do
  admin daemon test [--json]        run a command through it and say how long each part took
  admin daemon exec OPTIONS -- CMD  run CMD through it; 'bkt admin daemon exec --help'
  admin daemon reload               re-execute its binary in place; nothing that runs notices
  admin daemon stop                 end it
  admin daemon install|uninstall    have it started at every login, or no longer
  admin system install|uninstall    everything for this user: bkt, its names, shims, manual, service; and back as it was
  admin system status [--json]      what was installed, against what is there
  admin system restart [--force]    end the daemon, and start it anew
  shim COMMAND                      the shims of this home: add, remove, list, sync, capture, check; 'bkt shim --help'
  shim init bash|zsh|fish           code for that shell's start-up file: PATH, completions and man pages of the host's commands
  man [SECTION] NAME                the host's page
  schema policy|shims               the JSON Schemas of policy.json and shims.json

  --list            the names of this executable, and of the shims that come with it
  --install DIR     make a link in DIR for each of those shims
  -v, --verbose     say which way a command takes
  --no-delegate     do not run on the host what belongs there
  -V, --version     the version
  -h, --help        this text; 'bkt help COMMAND' the one of a command

Exit status: the command's own; 125 bkt itself failed, 126 cannot execute, 127 not found.
Environment: BKT_SOCKET, BKT_FALLBACK (auto, never, never:NAME,…), BKT_SIDE (host, container), BKT_LOG.
";

/// All help texts, and the commands that they are of; also for the completion of our own words.
const HELPS: &[complete::Help] = &[
    ("", HELP),
    ("admin daemon run ", hostd::HELP),
    ("admin daemon exec ", admin::EXEC_HELP),
    ("admin daemon install ", service::HELP),
    ("admin daemon uninstall ", service::HELP),
    ("admin system ", system::HELP),
    ("doctor ", doctor::HELP),
    ("enter ", enter::ENTER_HELP),
    ("log ", history::HELP),
    ("man ", shell::MAN_HELP),
    ("shim ", crate::applet::shims::HELP),
    ("shim init ", shell::INIT_HELP),
];

/// The nearest text, where one is asked for; it is had without anybody else. After `--`, and behind words that are another
/// command's, `--help` is that one's.
fn help(words: &[&str]) -> Option<&'static str> {
    let (own, asked) = match words {
        ["help", asked @ ..] => (true, asked),
        ["man" | "complete", _, _, ..] => (false, words),
        _ => (words.iter().take_while(|word| **word != "--").any(|word| ["--help", "-h"].contains(word)), words),
    };
    let asked: String = asked.iter().map(|word| format!("{word} ")).collect();
    HELPS.iter().filter(|(command, _)| own && asked.starts_with(command)).max_by_key(|(command, _)| command.len()).map(|(_, text)| *text)
}

/// The command `word` with what follows it; `all` is everything that was before.
pub fn run(call: &Call, before: &Before, word: &OsStr, rest: Vec<OsString>, all: &[OsString]) -> Result<End> {
    call.start_log(before.verbosity);
    let words: Vec<&str> = std::iter::once(word).chain(rest.iter().map(OsString::as_os_str)).map(|w| w.to_str().unwrap_or("")).collect();
    let after = |n: usize| rest[n..].to_vec();
    if let Some(text) = help(&words) {
        output::print(text);
        return Ok(End::Code(0));
    }
    match words[..] {
        ["admin", "daemon", "run", ..] => on_host(call, before, all, None, |_| hostd::run_with(call, after(2), before.verbosity)),
        ["admin", "daemon", "status", ..] => admin::status(call, after(2)),
        ["admin", "daemon", "test", ..] => admin::test(call, after(2)),
        ["admin", "daemon", "exec", ..] => admin::exec(call, after(2)),
        ["admin", "daemon", "reload"] => admin::reload(call),
        ["admin", "daemon", "stop"] => admin::stop(call),
        ["admin", "daemon", "install", ..] => on_host(call, before, all, Some(b"/"), |_| service::install(call, after(2))),
        ["admin", "daemon", "uninstall", ..] => on_host(call, before, all, Some(b"/"), |_| service::uninstall(call, after(2))),
        ["admin", "system", ..] => on_host(call, before, all, Some(b"/"), |_| system::run(call, after(1))),
        ["admin", "daemon", other, ..] => Err(usage(format_args!("'admin daemon' has no command '{other}'"), "bkt")),
        ["admin", "daemon"] => Err(usage("'admin daemon' wants a command", "bkt")),
        ["admin", ..] => Err(usage("'admin' wants 'daemon' or 'system', and a command", "bkt")),
        ["complete", ..] => complete::run(call, &rest, HELPS),
        ["shim", "init", ..] => shell::init(call, &rest[1..]),
        ["man", ..] => shell::man(call, &rest),
        ["enter", ..] => enter::enter(call, after(0), Some(&|| on_host(call, before, all, None, |_| enter::enter(call, after(0), None)))),
        ["ps", ..] => on_host(call, before, all, Some(b"/"), |_| enter::ps(call, after(0))),
        ["schema", ..] => schema::run(&rest),
        ["shim", ..] => crate::applet::shims::run(call, after(0)),
        ["log", ..] => on_host(call, before, all, Some(b"/"), |_| history::run(call, after(0))),
        ["status" | "doctor", ..] => {
            let other = |further: Vec<OsString>| {
                let all = [all, &further].concat();
                on_host(call, before, &all, Some(b"/"), |_| Err(Error::new("the daemon has come or gone just now; try again")))
            };
            let other: Option<&dyn Fn(Vec<OsString>) -> Result<End>> = if before.delegate { Some(&other) } else { None };
            if other.is_none() {
                log::info!(op_id = call.op; "running here, as asked for");
            }
            if word == "status" { overview::run(call, after(0), other) } else { doctor::run(call, after(0), other) }
        }
        [other, ..] => Err(usage(format_args!("there is no command '{other}'"), "bkt")),
        [] => Err(usage("no command given", "bkt")),
    }
}

/// Runs what belongs to the host there: here where this is the host, else by its own bkt through the daemon, else by another
/// bridge. `directory` is given where ours does not matter. What runs here is told which side that is.
fn on_host(call: &Call, before: &Before, all: &[OsString], directory: Option<&[u8]>, here: impl FnOnce(Side) -> Result<End>) -> Result<End> {
    if !before.delegate {
        log::info!(op_id = call.op; "running here, as asked for");
        return here(container::side(&call.invocation));
    }
    let args: Vec<std::ffi::CString> = std::iter::once(c"bkt".to_owned()).chain(all.iter().filter_map(|a| std::ffi::CString::new(a.as_bytes()).ok())).collect();
    let args: Vec<&CStr> = args.iter().map(std::ffi::CString::as_c_str).collect();
    let command = Command { args: shim::joined(&args), directory: directory.map(<[u8]>::to_vec), not_on_own_side: true, ..Command::default() };
    log::info!(op_id = call.op; "asking the host's bkt through the daemon");
    match shim::ask(call, &command)? {
        Asked::Ended(end) => Ok(end),
        Asked::Here(missing) => {
            let why = missing.map_or_else(String::new, |(path, _)| format!("no daemon at {}; ", path.display()));
            log::info!(op_id = call.op; "{why}this is the host: running here");
            here(Side::Host)
        }
        Asked::NoDaemon(missing) => Err(shim::become_bridge(call, &args, &missing)),
    }
}
