//! From a request to a launch: everything is decided here, nothing is done but the opening of a pty.

use crate::error::counted;
use crate::logging::shown;
use crate::opid::OpId;
use crate::paths;
use crate::process::environment::{self, Base};
use crate::process::{directory, program};
use crate::proto::capability::Capability;
use crate::proto::message::{Bytes, Code, Refusal, Run, Stream, Terminal};
use crate::sys::files::FileId;
use crate::sys::launch::{Elsewhere, Place, Plan, Stage, Strings};
use crate::sys::process::{Inheritance, LIMITS, Limit};
use crate::sys::{files, signals, terminal};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The highest number that a further descriptor may have at the command; shells name them up to 255.
pub const MAX_EXTRA_NUMBER: u16 = 255;

/// What `execve(2)` takes at the most, arguments and environment and a pointer to each: three quarters of 8 MiB, whatever the stack.
const MAX_EXEC_BYTES: usize = 6 * 1024 * 1024;

/// The longest path with its NUL, limits.h.
const PATH_MAX: usize = libc::PATH_MAX as usize;

/// The name by which our executable does what a capability is for.
const PERFORMER: &str = "bkt-perform";

/// What the server itself is made of, as far as its commands are concerned.
pub struct Context {
    /// Its own environment.
    pub env: Base,
    pub path: Vec<u8>,
    pub shim_directories: Vec<PathBuf>,
    /// The empty directory.
    pub refuge: CString,
    /// Where files are put that a caller hands over to this side's programs.
    pub handed: CString,
    pub own_executable: CString,
    pub own_file: FileId,
    pub root: FileId,
    pub inheritance: Inheritance,
    /// The limits that it was started with, for what it does itself: that of descriptors it has raised, and programs that use select(2)
    /// or close all that could be open want no more than they are used to.
    pub limits: [Limit; LIMITS],
    /// Names that mean this executable itself, not a command that a shim stands for.
    pub own_names: Vec<&'static str>,
    /// In a guest: the directory of links to this executable by which a container reaches capabilities of the host.
    pub interceptors: Option<PathBuf>,
}

/// What the policy has to say of how a run is done.
#[derive(Default)]
pub struct Bounds {
    /// The schemes of URIs that may be opened, with commas between.
    pub schemes: String,
    /// Of the caller's environment only what is harmless.
    pub narrow: bool,
    /// The container whose own socket it came by, after a point: files that are handed over lie apart, and take nobody else's room.
    pub share: String,
}

/// A launch that has been decided.
pub struct Decided {
    pub plan: Plan,
    pub pty: Option<Pty>,
}

/// The pty of a run: the leader goes to the client, the follower to the command.
pub struct Pty {
    pub leader: OwnedFd,
    pub follower: OwnedFd,
    /// The caller's terminal, to be put back in order if the client cannot.
    pub caller: Option<(OwnedFd, Terminal)>,
}

/// The name of the command, as it was asked for.
pub fn name<'a>(run: &Run<'a>) -> &'a [u8] {
    environment::strings(run.args.0).next().unwrap_or(b"")
}

/// What can be refused as soon as the request is read.
pub fn check(run: &Run<'_>, fds: usize, context: &Context) -> Result<(), Refusal> {
    let bad = |text: String| Err(Refusal::new(Code::BadRequest, text));
    if run.descriptors() != fds {
        return Err(Refusal::new(Code::BadDescriptors, format!("{} came where the request needs {}", counted(fds, "descriptor"), run.descriptors())));
    }
    for (what, bytes) in [("arguments", run.args.0), ("environment", run.env.0), ("--env", run.set_env.0), ("--unset-env", run.unset_env.0)] {
        if bytes.last().is_some_and(|b| *b != 0) {
            return bad(format!("the {what} are not NUL-terminated"));
        }
    }
    if run.args.0.is_empty() {
        return bad("there is no command".into());
    }
    // Before anything is made of them: a frame full of short strings would cost a hundred times its length. Those of most runs need
    // not be counted.
    let strings = [run.args.0, run.env.0, run.set_env.0];
    let needed = |s: &&[u8]| s.len() + size_of::<usize>() * environment::strings(s).count();
    let length: usize = strings.iter().map(|s| s.len()).sum();
    if length > MAX_EXEC_BYTES / (1 + size_of::<usize>()) && strings.iter().map(needed).sum::<usize>() > MAX_EXEC_BYTES {
        return Err(Refusal::new(Code::NotExecutable, format!("{}: cannot execute: argument list too long", shown(name(run)))));
    }
    if run.directory.0.contains(&0) {
        return bad("the directory contains a NUL byte".into());
    }
    if run.directory.0.len() >= PATH_MAX {
        return bad(format!("the directory's path is longer than {} bytes, and nobody can enter it by that", PATH_MAX - 1));
    }
    if let Some(number) = run.extra.iter().find(|n| !(3..=MAX_EXTRA_NUMBER).contains(n)) {
        return bad(format!("descriptor {number} cannot be passed; 3 to {MAX_EXTRA_NUMBER} can"));
    }
    if let Some(number) = run.extra.iter().enumerate().find_map(|(at, n)| run.extra[..at].contains(n).then_some(n)) {
        return bad(format!("descriptor {number} is to be passed twice"));
    }
    if run.capability != Capability::HostExec as u8 && (run.terminal.is_some() || run.detach) {
        return bad("only a command has a terminal, or outlives its caller".into());
    }
    if run.terminal.is_none() && run.streams.contains(&Stream::Terminal) {
        return bad("a stream is to be a terminal, and there is none".into());
    }
    if !(-20..=19).contains(&run.inheritance.nice) {
        return bad(format!("nice value {} is not between -20 and 19", run.inheritance.nice));
    }
    if environment::depth(run.env.0) >= environment::MAX_DEPTH {
        let text = format!("{} has come through {} bridges already: shims are calling each other in a circle", shown(name(run)), environment::MAX_DEPTH);
        return Err(Refusal::new(Code::TooDeep, text));
    }
    if run.not_on_root == Some((context.root.device, context.root.inode)) {
        return Err(Refusal::new(Code::SameSide, "caller and daemon have the same root directory"));
    }
    Ok(())
}

/// Decides a run that `check` has passed; the descriptors are in the order of [`Run`].
pub fn decide(run: &Run<'_>, fds: Vec<OwnedFd>, op: OpId, context: &Context, bounds: &Bounds) -> io::Result<Decided> {
    let (words, depth, own);
    let run = match Capability::from_number(run.capability) {
        Some(Capability::HostExec) | None => run,
        Some(capability) => {
            (words, depth) = (performance_words(capability, run, context, bounds), performance_depth(run));
            own = performance(run, &words, &depth, context);
            &own
        }
    };
    let mut fds = fds;
    let caller = match run.terminal {
        Some(terminal) if terminal.passed => fds.pop().map(|fd| (fd, terminal)),
        _ => None,
    };
    let pty = run.terminal.map(|terminal| open_pty(terminal, caller)).transpose()?;
    let extra_at = fds.len().saturating_sub(run.extra.len());
    let extra = run.extra.iter().enumerate().map(|(i, number)| (i32::from(*number), extra_at + i)).collect();
    let mut passed = 0..extra_at;
    let mut streams = [None; 3];
    let mut follower = None;
    for (at, stream) in run.streams.iter().enumerate() {
        streams[at] = match stream {
            Stream::Closed => None,
            Stream::Passed => passed.next(),
            Stream::Terminal => pty.as_ref().map(|pty| follower_index(&mut follower, &mut fds, pty)).transpose()?,
            Stream::Null => {
                fds.push(File::options().read(true).write(true).open("/dev/null")?.into());
                Some(fds.len() - 1)
            }
        };
    }
    let place = match &pty {
        None => Place::NewSession,
        Some(pty) => {
            let tty = follower_index(&mut follower, &mut fds, pty)?;
            Place::NewGroup { tty, foreground: run.terminal.is_some_and(|t| t.foreground) }
        }
    };
    let (wanted, required) = (directory::translate(run.directory.0, paths::HOST_ROOT), run.directory_required);
    let entered = if required { run.directory.0 } else { wanted.unwrap_or(b"") };
    let wanted_env = environment::Wanted { callers: run.env.0, set: run.set_env.0, unset: run.unset_env.0, clear: run.clear_env, narrow: bounds.narrow };
    let env = environment::merge(&context.env, wanted_env, entered, op);
    let (candidates, searched) = look_up(name(run), context);
    // Children of a stopped or killed daemon are hung up on; those that are to outlive their caller outlive it too.
    let on_parent_death = if run.detach { 0 } else { signals::HUP };
    let plan = Plan {
        candidates,
        searched,
        ourselves: context.own_file,
        args: Strings::new(run.args.0.to_vec()),
        env: Strings::new(env),
        directory: CString::new(entered).unwrap_or_default(),
        refuge: (!required).then(|| (context.refuge.clone(), warning(run.directory.0, op))),
        fds,
        streams,
        extra,
        place,
        inheritance: within(run.inheritance, context.limits),
        own: context.inheritance,
        on_parent_death,
        cgroup: None,
        elsewhere: None,
    };
    Ok(Decided { plan, pty })
}

/// Where else a directory of the host may be in this container: below the place where containers show the host's tree. It is the
/// right one if it is the same directory as the caller's.
pub fn elsewhere(run: &Run<'_>, plan: &Plan, origin: FileId) -> Option<Elsewhere> {
    let path = run.directory.0;
    if run.directory_required || !path.starts_with(b"/") {
        return None;
    }
    let seen = [paths::HOST_ROOT.as_bytes(), path].concat();
    let (directory, pwd) = (CString::new(seen.clone()).ok()?, CString::new([b"PWD=", &seen[..]].concat()).ok()?);
    // The path as the caller has it, not as a host would read it: it comes from there.
    let same = CString::new(path).ok()?;
    let same_pwd = CString::new([b"PWD=", path].concat()).ok()?;
    let slot = plan.env.iter().position(|entry| entry.starts_with(b"PWD="));
    Some(Elsewhere { origin, candidates: [(same, same_pwd), (directory, pwd)], slot })
}

/// The run of our own executable that does what a capability is for: with the caller's streams and further descriptors, and with
/// nothing else of it. What a container has in its environment must not steer the host's desktop.
fn performance<'a>(run: &Run<'_>, words: &'a [u8], depth: &'a [u8], context: &Context) -> Run<'a> {
    Run {
        args: Bytes(words),
        env: Bytes(depth),
        set_env: Bytes(b""),
        unset_env: Bytes(b""),
        clear_env: false,
        directory: Bytes(b"/"),
        directory_required: true,
        streams: run.streams,
        extra: run.extra.clone(),
        terminal: None,
        inheritance: Inheritance { limits: context.limits, ..context.inheritance },
        detach: false,
        not_on_root: None,
        container: Bytes(b""),
        capability: run.capability,
    }
}

/// The performer's name, what the listener grants, and after `--` what the caller asks for, which it checks once more.
fn performance_words(capability: Capability, run: &Run<'_>, context: &Context, bounds: &Bounds) -> Vec<u8> {
    let handed = [context.handed.to_bytes(), bounds.share.as_bytes()].concat();
    let ours: [&[u8]; 5] = [PERFORMER.as_bytes(), capability.word().as_bytes(), &handed, bounds.schemes.as_bytes(), b"--"];
    let mut words = ours.join(&0);
    words.push(0);
    words.extend_from_slice(run.args.0);
    words
}

fn performance_depth(run: &Run<'_>) -> Vec<u8> {
    format!("{}={}\0", environment::DEPTH, environment::depth(run.env.0)).into_bytes()
}

/// The follower among the plan's descriptors, once.
fn follower_index(index: &mut Option<usize>, fds: &mut Vec<OwnedFd>, pty: &Pty) -> io::Result<usize> {
    if let Some(index) = *index {
        return Ok(index);
    }
    fds.push(pty.follower.try_clone()?);
    *index = Some(fds.len() - 1);
    Ok(fds.len() - 1)
}

fn open_pty(wanted: Terminal, caller: Option<(OwnedFd, Terminal)>) -> io::Result<Pty> {
    use std::os::fd::AsFd;
    let (leader, follower) = terminal::open_pty()?;
    if caller.is_some() {
        terminal::set_modes(follower.as_fd(), &wanted.modes)?;
    }
    terminal::set_size(follower.as_fd(), wanted.size)?;
    Ok(Pty { leader, follower, caller })
}

/// KILL and STOP cannot be ignored, whatever a caller claims; a caller that sent no limits gets ours.
fn within(wanted: Inheritance, own: [Limit; LIMITS]) -> Inheritance {
    let none = wanted.limits.iter().all(|limit| *limit == Limit::default());
    let limits = if none { own } else { wanted.limits };
    Inheritance { limits, ignored: wanted.ignored.without(signals::KILL).without(signals::STOP), ..wanted }
}

fn look_up(name: &[u8], context: &Context) -> (Vec<CString>, bool) {
    if context.own_names.iter().any(|own| own.as_bytes() == name) {
        // A host's `bkt` need not be in the daemon's PATH: it is this file.
        return (vec![context.own_executable.clone()], false);
    }
    if let Some(directory) = &context.interceptors
        && !name.contains(&b'/')
        && let link = directory.join(OsStr::from_bytes(name))
        && link.is_symlink()
    {
        // Links to this executable are passed over in a search; here they are what was asked for.
        return (files::c_path(&link).into_iter().collect(), false);
    }
    let found = program::candidates(name, &context.path, &context.shim_directories);
    (found.paths, found.searched)
}

/// One line, for the command's own standard error.
fn warning(directory: &[u8], op: OpId) -> Vec<u8> {
    let place = if directory.is_empty() { "the caller's directory".to_string() } else { shown(directory) };
    format!("bkt: cannot enter {place} on this side; running in an empty directory (--cwd DIR chooses another) ({op})\n").into_bytes()
}

/// A birth that failed, as the refusal that the caller gets.
pub fn refusal(stage: Stage, error: &io::Error, name: &[u8], directory: &[u8]) -> Refusal {
    let (name, reason) = (shown(name), crate::error::reason(error));
    match stage {
        Stage::Search => Refusal::new(Code::NotFound, format!("{name}: command not found on the daemon's side; is it installed there and in the daemon's PATH?")),
        Stage::Execute if error.kind() == io::ErrorKind::NotFound => {
            Refusal::new(Code::NotExecutable, format!("{name}: cannot execute: its interpreter is missing on the daemon's side"))
        }
        Stage::Execute => Refusal::new(Code::NotExecutable, format!("{name}: cannot execute: {reason}")),
        Stage::Directory => Refusal::new(Code::BadDirectory, format!("{name}: cannot enter {}: {reason}; nothing was run", shown(directory))),
        Stage::Setup => Refusal::new(Code::Internal, format!("{name}: cannot be started: {reason}")),
    }
}
