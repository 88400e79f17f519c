//! `bkt-guest`: a container's start, and its guest daemon.

use crate::applet::{APPLETS, Call, RELEASE, hostd, output, usage};
use crate::container;
use crate::error::{Error, Result};
use crate::exit::End;
use crate::guest::entry;
use crate::guest::places::Places;
use crate::invocation::Invocation;
use crate::paths;
use crate::process::tool::{self, Errors};
use crate::server::daemon::{self, GuestOptions, Options};
use crate::server::upstream;
use crate::sys::{files, process};
use lexopt::{Arg, Parser, ValueExt};
use std::cell::Cell;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;

const HELP: &str = "\
Usage: bkt-guest --entry [OPTIONS] [CMD ARGS…]
       bkt-guest --daemon [OPTIONS]
       bkt-guest --shell

--entry    starts the guest daemon in the background and becomes CMD, or a login shell ($SHELL, /bin/bash,
           /bin/sh): what a container is started with
--daemon   the guest daemon: runs commands here for the host ('bkt enter'), and gives the container
           those capabilities of the host that its policy grants
--shell    becomes a login shell

  --reconnect         come back to the host's daemon when the link is lost, instead of ending
  --idle-timeout S    end after S seconds without a message and without a run (default: 300; 0: never)
  --name NAME         what this container is called (default: as its runtime and the host say)
  --socket PATH       the host's socket (default: $BKT_SOCKET, $XDG_RUNTIME_DIR/bkt/host.sock, …)
  -v                  one line for each operation; -vv: with arguments
  -h, --help          this text
  -V, --version       the version

Environment: BKT_HOST_VERSION (the host's version, as whoever starts the container knows it), BKT_SOCKET,
BKT_LOG, BKT_LOG_FORMAT.
Exit status: CMD's own; of the daemon 0 when it was told to end, had nothing to do, or lost the host; 125 on failure.
";

/// Seconds without a message and without a run, after which a guest is of no use.
const IDLE_S: u64 = 300;

/// How long a new file may take to say its version, while nothing runs here.
const VERSION_MS: u64 = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Entry,
    Daemon,
    Shell,
}

/// What was typed.
#[derive(Debug)]
struct Typed {
    mode: Mode,
    reconnect: bool,
    idle_s: u64,
    name: Option<Vec<u8>>,
    socket: Option<PathBuf>,
    verbosity: u8,
    command: Vec<OsString>,
}

enum Read {
    Typed(Typed),
    Print(String),
}

pub fn run(call: &Call) -> Result<End> {
    match read(call.typed())? {
        Read::Print(text) => {
            output::print(&text);
            Ok(End::Code(0))
        }
        Read::Typed(typed) => match typed.mode {
            Mode::Shell => {
                let env = call.invocation.env.clone();
                Err(entry::become_login_shell(&call.invocation, &env))
            }
            Mode::Entry => Err(enter(call, &typed)),
            Mode::Daemon => serve(call, typed),
        },
    }
}

fn read(args: Vec<OsString>) -> Result<Read> {
    let wrong = |e: lexopt::Error| usage(e, "bkt-guest");
    let mut mode = None;
    let mut typed = Typed { mode: Mode::Daemon, reconnect: false, idle_s: IDLE_S, name: None, socket: None, verbosity: 0, command: vec![] };
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("entry") => mode = Some(Mode::Entry),
            Arg::Long("daemon") => mode = Some(Mode::Daemon),
            Arg::Long("shell") => mode = Some(Mode::Shell),
            Arg::Long("reconnect") => typed.reconnect = true,
            Arg::Long("idle-timeout") => typed.idle_s = parser.value().and_then(|v| v.parse()).map_err(wrong)?,
            Arg::Long("name") => typed.name = Some(parser.value().map_err(wrong)?.into_vec()),
            Arg::Long("socket") => typed.socket = Some(parser.value().map_err(wrong)?.into()),
            Arg::Short('v') | Arg::Long("verbose") => typed.verbosity = typed.verbosity.saturating_add(1),
            Arg::Short('h') | Arg::Long("help") => return Ok(Read::Print(HELP.into())),
            Arg::Short('V') | Arg::Long("version") => return Ok(Read::Print(format!("bkt {RELEASE}\n"))),
            // Everything from here on is the command's.
            Arg::Value(word) if mode == Some(Mode::Entry) => {
                typed.command.push(word);
                typed.command.extend(parser.raw_args().map_err(wrong)?);
                break;
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    typed.mode = mode.ok_or_else(|| usage("what it is to be is not said: --entry or --daemon", "bkt-guest"))?;
    Ok(Read::Typed(typed))
}

/// The container's start. Whatever is wrong with the daemon is no reason for the command not to start.
fn enter(call: &Call, typed: &Typed) -> Error {
    let bin = match places(call, typed) {
        Ok((_, places)) => places.bin(),
        Err(error) => {
            output::complain(&format!("bkt: {}; going on without a guest daemon ({})", error.text, call.op));
            return become_command(call, typed, &call.invocation.env, call.invocation.var("PATH").unwrap_or(crate::process::program::DEFAULT_PATH));
        }
    };
    let (env, path) = entry::with_path_first(&call.invocation, &bin);
    let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    let args: Vec<CString> = daemon_arguments(typed).into_iter().filter_map(|arg| CString::new(arg).ok()).collect();
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let started = process::own_path().and_then(|own| entry::start_in_background(&own, &args, &env).map_err(|e| Error::io("start the guest daemon", &e)));
    if let Err(error) = started {
        output::complain(&format!("bkt: {}; going on without it ({})", error.text, call.op));
    }
    become_command(call, typed, &env, &path)
}

fn become_command(call: &Call, typed: &Typed, env: &[&CStr], path: &[u8]) -> Error {
    if typed.command.is_empty() {
        return entry::become_login_shell(&call.invocation, env);
    }
    let args: Vec<CString> = typed.command.iter().filter_map(|arg| CString::new(arg.as_bytes()).ok()).collect();
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    entry::become_command(&args, env, path)
}

fn daemon_arguments(typed: &Typed) -> Vec<Vec<u8>> {
    let mut args: Vec<Vec<u8>> = vec![b"bkt-guest".to_vec(), b"--daemon".to_vec(), format!("--idle-timeout={}", typed.idle_s).into_bytes()];
    for _ in 0..typed.verbosity {
        args.push(b"-v".to_vec());
    }
    args.extend(typed.reconnect.then(|| b"--reconnect".to_vec()));
    args.extend(typed.name.iter().map(|name| [b"--name=", &name[..]].concat()));
    args.extend(typed.socket.iter().map(|socket| [b"--socket=", socket.as_os_str().as_bytes()].concat()));
    args
}

/// What this container is called, where anything here says so (the host knows better), and the place for its links.
fn places(call: &Call, typed: &Typed) -> Result<(Vec<u8>, Places)> {
    let name = typed.name.clone().or_else(|| container::name(&call.invocation)).unwrap_or_default();
    let own = PathBuf::from(OsString::from_vec(process::own_path()?.into_bytes()));
    let runtime = paths::runtime_directory(&call.invocation, process::user());
    let directory = if name.is_empty() { container::hostname() } else { name.clone() };
    let places = Places::make(&runtime, &directory, own)?;
    Ok((name, places))
}

fn serve(call: &Call, mut typed: Typed) -> Result<End> {
    let invocation = &call.invocation;
    hostd::start_log(invocation, typed.verbosity, None)?;
    let (container, places) = places(call, &typed)?;
    let (env, path) = entry::with_path_first(invocation, &places.bin());
    let (granted, replaced, made) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)), places.clone());
    let (own, again) = (process::own_path()?, daemon_arguments(&typed));
    let is_replaced = {
        let (replaced, own, started_as) = (Rc::clone(&replaced), own.clone(), files::file_id(c"/proc/self/exe"));
        let asking = invocation.clone();
        Box::new(move || {
            let is_other = files::file_id(&own).is_ok_and(|now| started_as.as_ref().is_ok_and(|before| *before != now));
            replaced.set(is_other && is_whole(&asking, &own));
            replaced.get()
        })
    };
    let on_granted = {
        let granted = Rc::clone(&granted);
        Box::new(move |accepted: &[&str]| {
            granted.set(true);
            made.grant(accepted);
        })
    };
    let wanted = upstream::Wanted {
        sockets: typed.socket.take().map_or_else(|| call.sockets(), |socket| vec![socket]),
        container,
        reconnect: typed.reconnect,
        idle_ms: (typed.idle_s > 0).then(|| typed.idle_s.saturating_mul(1_000)),
        host_release: invocation.var("BKT_HOST_VERSION").map(|release| String::from_utf8_lossy(release).into_owned()),
        on_granted,
        is_replaced,
    };
    let ended = daemon::serve(Options {
        socket: places.socket(),
        env: env.iter().flat_map(|entry| entry.to_bytes_with_nul()).copied().collect(),
        path,
        shim_directories: paths::shim_directories(invocation),
        own_names: APPLETS.iter().map(|applet| applet.name).filter(|name| name.starts_with("bkt")).collect(),
        inherited: None,
        notify: None,
        resume: None,
        // A container's cgroups are its manager's affair.
        delegated: false,
        policy: None,
        guest: Some(GuestOptions { upstream: wanted, interceptors: places.bin() }),
        flags: vec![],
        release: RELEASE,
    });
    places.remove(granted.get());
    if replaced.get() && ended.is_ok() {
        let args: Vec<CString> = again.into_iter().filter_map(|arg| CString::new(arg).ok()).collect();
        let error = process::exec(&own, &args.iter().map(CString::as_c_str).collect::<Vec<_>>(), &invocation.env);
        return Err(Error::io(format!("execute the new {}", own.to_string_lossy()), &error));
    }
    ended
}

/// Whether the file that has taken the place of ours is all there: it may be being copied, and who becomes half of it is gone.
fn is_whole(invocation: &Invocation, file: &CStr) -> bool {
    let said = tool::ask(invocation, &[], &[file.to_bytes(), b"--version"], Errors::Nowhere, VERSION_MS);
    said.is_ok_and(|(end, said)| end == End::Code(0) && said.starts_with(b"bkt "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(args: &[&str]) -> Result<Typed> {
        read(args.iter().map(OsString::from).collect()).map(|read| match read {
            Read::Typed(typed) => typed,
            Read::Print(text) => panic!("{text}"),
        })
    }

    #[test]
    fn everything_after_the_first_word_is_the_commands() {
        let read = typed(&["--entry", "--reconnect", "--idle-timeout", "7", "ls", "--reconnect", "-h", "--", "x"]).unwrap();
        assert_eq!((read.mode, read.reconnect, read.idle_s), (Mode::Entry, true, 7));
        assert_eq!(read.command, ["ls", "--reconnect", "-h", "--", "x"]);
        assert_eq!(typed(&["--entry", "--", "-x", "y"]).unwrap().command, ["-x", "y"]);
        assert!(typed(&["--entry"]).unwrap().command.is_empty());
    }

    #[test]
    fn what_it_is_to_be_must_be_said() {
        assert!(typed(&[]).unwrap_err().text.contains("--entry or --daemon"));
        assert!(typed(&["--daemon", "ls"]).is_err());
        assert!(typed(&["--daemon", "--idle-timeout", "soon"]).is_err());
    }
}
