//! `bkt-hostd`, which is `bkt admin daemon run`.

use crate::applet::{APPLETS, Call, RELEASE, output, usage};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::invocation::Invocation;
use crate::logging::{self, Format};
use crate::paths;
use crate::process::program;
use crate::server::daemon::{self, Options};
use crate::service::{facts, login};
use crate::sys::cgroup::{self, Delegated};
use crate::sys::{files, process};
use lexopt::{Arg, Parser, ValueExt};
use log::LevelFilter;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::IsTerminal;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

pub const HELP: &str = "\
Usage: bkt-hostd [OPTIONS]
       bkt admin daemon run [OPTIONS]

Runs commands of this side for callers in containers. One daemon a user; it stays in the foreground
and ends by SIGTERM. SIGHUP makes it re-execute its binary in place: no running command notices.

  -v              one line for each operation; -vv: with arguments
  --socket PATH   listen there (default: $BKT_SOCKET, else $XDG_RUNTIME_DIR/bkt/host.sock)
  --log-file[=PATH]
                  append the log to a file (default: $XDG_STATE_HOME/bkt/hostd.log), opened anew by a reload;
                  above 8 MiB it is begun anew then, and what it was is kept as NAME.old
  --login-environment
                  take the environment that a login shell makes: its PATH is where commands are found
  -h, --help      this text
  -V, --version   the version

Environment: BKT_LOG (a level: error, warn, info, debug), BKT_LOG_FORMAT (text or json; by default text
at a terminal), SHELL, LISTEN_FDS and NOTIFY_SOCKET as set by systemd.
Exit status: 0 after SIGTERM; 125 on failure, also where a daemon already serves.
";

/// A log file that is larger is put aside when it is opened: some 40,000 operations.
const MAX_LOG_BYTES: u64 = 8 * 1024 * 1024;

/// What was typed.
#[derive(Default)]
struct Typed {
    verbosity: u8,
    socket: Option<PathBuf>,
    /// `Some(None)` is the usual file.
    log_file: Option<Option<PathBuf>>,
    login_environment: bool,
    resume: Option<RawFd>,
    check_state: Option<RawFd>,
}

pub fn run(call: &Call) -> Result<End> {
    run_with(call, call.typed(), 0)
}

/// The same with arguments that another command line has left.
pub fn run_with(call: &Call, args: Vec<OsString>, verbosity: u8) -> Result<End> {
    let mut typed = Typed { verbosity, ..Typed::default() };
    let mut parser = Parser::from_args(args);
    let wrong = |e: lexopt::Error| usage(e, "bkt-hostd");
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Short('v') | Arg::Long("verbose") => typed.verbosity = typed.verbosity.saturating_add(1),
            Arg::Long("socket") => typed.socket = Some(parser.value().map_err(wrong)?.into()),
            Arg::Long("log-file") => typed.log_file = Some(parser.optional_value().map(PathBuf::from)),
            Arg::Long("login-environment") => typed.login_environment = true,
            // What the login shell is asked to run; not for people.
            Arg::Long("print-environment") => {
                login::print(&call.invocation).map_err(|e| Error::io("print the environment", &e))?;
                return Ok(End::Code(0));
            }
            // What the unit calls after the daemon's end; not for people.
            Arg::Long("give-back-cgroup") => {
                cgroup::give_back_for_the_dead();
                return Ok(End::Code(0));
            }
            // Between one image of the daemon and the next; not for people.
            Arg::Long("resume") => typed.resume = Some(parser.value().and_then(|v| v.parse()).map_err(wrong)?),
            Arg::Long("check-state") => typed.check_state = Some(parser.value().and_then(|v| v.parse()).map_err(wrong)?),
            Arg::Short('h') | Arg::Long("help") => {
                output::print(HELP);
                return Ok(End::Code(0));
            }
            Arg::Short('V') | Arg::Long("version") => {
                output::print(&format!("bkt {RELEASE}\n"));
                return Ok(End::Code(0));
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    if let Some(number) = typed.check_state {
        return daemon::check_state(number).map(End::Code);
    }
    serve(call, typed)
}

fn serve(call: &Call, typed: Typed) -> Result<End> {
    let mut flags = vec![c"-v".to_owned(); usize::from(typed.verbosity)];
    let log_file = match typed.log_file {
        Some(path) => Some(open_log(&call.invocation, path)?),
        None => None,
    };
    start_log(&call.invocation, typed.verbosity, log_file.is_some())?;
    if let Some(path) = log_file {
        let option = [b"--log-file=", path.as_os_str().as_bytes()].concat();
        flags.push(CString::new(option).map_err(|_| Error::new("the log file's path contains a NUL byte"))?);
    }
    // After a reload it is there already.
    let from_login = if typed.login_environment && typed.resume.is_none() { login::environment(&call.invocation) } else { None };
    let invocation = from_login.as_ref().unwrap_or(&call.invocation);

    let socket = match typed.socket {
        Some(path) => std::path::absolute(&path).map_err(|e| Error::io(path.display(), &e))?,
        None => paths::server_socket(invocation, process::user()),
    };
    let mut env = Vec::new();
    for entry in &invocation.env {
        env.extend_from_slice(entry.to_bytes_with_nul());
    }
    flags.extend([CString::from(c"--socket"), files::c_path(&socket).map_err(|e| Error::io("the socket's path", &e))?]);
    daemon::serve(Options {
        socket,
        env,
        path: invocation.var("PATH").unwrap_or(program::DEFAULT_PATH).to_vec(),
        shim_directories: paths::shim_directories(invocation),
        // The others mean the host's own programs of that name.
        own_names: APPLETS.iter().map(|applet| applet.name).filter(|name| name.starts_with("bkt")).collect(),
        inherited: inherited_socket(call)?,
        notify: invocation.var("NOTIFY_SOCKET").map(|path| PathBuf::from(OsStr::from_bytes(path))),
        resume: typed.resume,
        delegated: is_delegated(invocation, typed.resume.is_some()),
        guest: None,
        flags,
        policy: paths::policy_file(invocation),
        release: RELEASE,
    })
}

/// Whether the cgroup that we were started in is ours to divide: as the kernel or, where only that knows, the user's systemd says.
fn is_delegated(invocation: &Invocation, resumed: bool) -> bool {
    match cgroup::is_delegated(resumed) {
        Delegated::Yes => true,
        Delegated::Perhaps(unit) if invocation.var("NOTIFY_SOCKET").is_some() => facts::delegates(invocation, &unit).unwrap_or_else(|e| {
            log::warn!("no command gets a cgroup of its own: {e}");
            false
        }),
        // By hand, from a terminal that is a service itself.
        Delegated::Perhaps(_) | Delegated::No => false,
    }
}

pub fn start_log(invocation: &Invocation, verbosity: u8, to_file: bool) -> Result<()> {
    let format = match invocation.var("BKT_LOG_FORMAT") {
        Some(b"json") => Format::Json,
        Some(b"text") => Format::Text,
        Some(other) => return Err(Error::new(format!("BKT_LOG_FORMAT={} is not understood; it is 'text' or 'json'", String::from_utf8_lossy(other)))),
        None if !to_file && std::io::stderr().is_terminal() => Format::Text,
        None => Format::Json,
    };
    logging::start(format, LevelFilter::Warn, verbosity, invocation.var("BKT_LOG"));
    Ok(())
}

/// Makes a file our standard error: the log, and whatever else might be said there. The path is returned in full.
fn open_log(invocation: &Invocation, path: Option<PathBuf>) -> Result<PathBuf> {
    let path = match path {
        Some(path) => std::path::absolute(&path).map_err(|e| Error::io(path.display(), &e))?,
        None => paths::log_file(invocation).ok_or_else(|| Error::new("HOME is not set: say which file, --log-file=PATH"))?,
    };
    let failed = |e| Error::io(format!("open the log file {}", path.display()), &e);
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    if std::fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() > MAX_LOG_BYTES) {
        std::fs::rename(&path, paths::old_log(&path)).map_err(failed)?;
    }
    // Arguments stand in it at -vv: it is its owner's alone.
    let file = File::options().append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
    files::become_standard(file.into(), 2).map_err(failed)?;
    Ok(path)
}

/// The first of the sockets that a supervisor passes (`sd_listen_fds(3)`), if they are meant for this process.
fn inherited_socket(call: &Call) -> Result<Option<RawFd>> {
    /// `SD_LISTEN_FDS_START`.
    const FIRST: RawFd = 3;
    let number = |name| call.invocation.var(name).and_then(|v| std::str::from_utf8(v).ok()?.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    match number("LISTEN_FDS") {
        Some(1) if ours => Ok(Some(FIRST)),
        Some(0) | None => Ok(None),
        Some(count) if ours => Err(Error::new(format!("LISTEN_FDS={count}: one listening socket is wanted"))),
        Some(_) => Ok(None),
    }
}
