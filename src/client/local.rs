//! The ways without the daemon: the real command on our own side, or another bridge to the host.

pub use crate::client::capture::directory;
pub use crate::client::connect::no_daemon;
use crate::error::{Error, Result, reason};
use crate::invocation::Invocation;
use crate::opid::OpId;
use crate::process::{environment, program};
use crate::sys::{files, process};
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};

/// Whether and for whom other bridges may be used: `BKT_FALLBACK=never`, or `never:NAME,NAME…` for some shims.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    Allowed,
    Never,
}

pub fn fallback_for(name: &[u8], invocation: &Invocation) -> Result<Fallback> {
    match invocation.var("BKT_FALLBACK") {
        None | Some(b"auto") => Ok(Fallback::Allowed),
        Some(b"never") => Ok(Fallback::Never),
        Some(value) => match value.strip_prefix(b"never:") {
            Some(names) if names.split(|b| *b == b',').any(|n| n == name) => Ok(Fallback::Never),
            Some(_) => Ok(Fallback::Allowed),
            None => Err(Error::new(format!("BKT_FALLBACK={} is not understood; it is 'auto', 'never' or 'never:NAME,NAME'", String::from_utf8_lossy(value)))),
        },
    }
}

/// Other bridges, best first, and the arguments they want before the command.
const BRIDGES: &[(&str, &[&CStr])] = &[("distrobox-host-exec", &[]), ("host-spawn", &[]), ("flatpak-spawn", &[c"--host"])];

/// Their names.
pub fn bridges() -> impl Iterator<Item = &'static str> {
    BRIDGES.iter().map(|(bridge, _)| *bridge)
}

/// Replaces this process by another bridge to the host; returns only with the reason why not.
pub fn exec_fallback(args: &[&CStr], invocation: &Invocation, shims: &[PathBuf], op: OpId, missing: (&Path, &io::Error)) -> Error {
    let name = args.first().map_or(&b""[..], |a| a.to_bytes());
    let (path, why) = missing;
    let nothing = no_daemon(path, why);
    match fallback_for(name.rsplit(|&b| b == b'/').next().unwrap_or(name), invocation) {
        Ok(Fallback::Allowed) => {}
        Ok(Fallback::Never) => return Error::new(format!("{}; other ways are switched off (BKT_FALLBACK)", nothing.text)),
        Err(e) => return e,
    }
    let env = match handed_on(name, invocation, op) {
        Ok(env) => env,
        Err(e) => return e,
    };
    for (bridge, options) in BRIDGES {
        let Some(program) = program::find(bridge.as_bytes(), invocation.var("PATH"), shims) else { continue };
        log::warn!(op_id = op; "no daemon at {} ({}): running {} by {bridge}", path.display(), reason(why), String::from_utf8_lossy(name));
        let bridge_name = CString::new(*bridge).unwrap_or_default();
        let mut all: Vec<&CStr> = vec![&bridge_name];
        all.extend(*options);
        all.extend(args);
        let error = exec_with(&program.path, &all, &env);
        return Error::io(format!("execute {}", program.path.to_string_lossy()), &error);
    }
    let names: Vec<&str> = bridges().collect();
    Error::new(format!("{}; nor is there another bridge ({})", nothing.text, names.join(", ")))
}

/// The depth counter as what we become is to have it, or that it has counted enough.
fn one_deeper(name: &[u8], invocation: &Invocation) -> Result<String> {
    let depth = environment::depth_of(invocation.var(environment::DEPTH));
    if depth < environment::MAX_DEPTH {
        return Ok(format!("{}={}", environment::DEPTH, depth + 1));
    }
    Err(Error::new(format!("{} has come through {depth} bridges already: shims are calling each other in a circle", String::from_utf8_lossy(name))))
}

/// Becomes a program with this environment.
fn exec_with(program: &CStr, args: &[&CStr], env: &[Cow<'static, CStr>]) -> io::Error {
    let env: Vec<&CStr> = env.iter().map(|entry| &**entry).collect();
    process::exec(program, args, &env)
}

/// Our environment with these variables in it, each NAME=VALUE.
fn with(invocation: &Invocation, ours: &[String]) -> Vec<Cow<'static, CStr>> {
    let is_ours = |entry: &[u8]| ours.iter().any(|o| o.split('=').next().is_some_and(|name| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))));
    let kept = invocation.env.iter().copied().filter(|entry| !is_ours(entry.to_bytes())).map(Cow::Borrowed);
    kept.chain(ours.iter().filter_map(|entry| CString::new(entry.as_str()).ok()).map(Cow::Owned)).collect()
}

/// Our environment as it is handed on to another bridge: with the operation's id, and one deeper; an error where that is too deep.
pub fn handed_on(name: &[u8], invocation: &Invocation, op: OpId) -> Result<Vec<Cow<'static, CStr>>> {
    one_deeper(name, invocation).map(|depth| with(invocation, &[format!("{}={op}", environment::OP_ID), depth]))
}

/// Replaces this process by the program at a path, on our own side. Returns only with the reason why not: what the kernel says,
/// or that we have been here too often.
pub fn exec_path(name: &[u8], path: &CStr, args: &[&CStr], invocation: &Invocation) -> Result<io::Error> {
    let ourselves = files::file_id(c"/proc/self/exe").unwrap_or_default();
    let counted = program::real_program(path.to_owned(), ourselves).is_none_or(|program| program.is_script);
    become_program(name, path, counted, args, invocation)
}

/// A program gets the environment as it is. A script may call our shim again, and without a count that would never end.
fn become_program(name: &[u8], path: &CStr, counted: bool, args: &[&CStr], invocation: &Invocation) -> Result<io::Error> {
    let ours = if counted { vec![one_deeper(name, invocation)?] } else { vec![] };
    Ok(exec_with(path, args, &with(invocation, &ours)))
}

/// Where a program of that name is, the first in PATH that is not us.
pub fn find_tool(name: &[u8], invocation: &Invocation, shims: &[PathBuf]) -> Option<CString> {
    program::find(name, invocation.var("PATH"), shims).map(|program| program.path)
}

/// Replaces this process by the real command of that name on our own side: the next in PATH that is not us. Returns only with
/// the reason why not. `missing` is the daemon that could have told that this is its side, where there is none.
pub fn exec_here(args: &[&CStr], invocation: &Invocation, shims: &[PathBuf], missing: Option<(&Path, &io::Error)>) -> Error {
    let name = args.first().map_or(&b""[..], |a| a.to_bytes());
    let shown = String::from_utf8_lossy(name);
    let Some(program) = program::find(name, invocation.var("PATH"), shims) else {
        let text = match missing {
            None => format!("{shown}: command not found on the host, which is this side: PATH has only our shim of that name"),
            Some((path, why)) => format!(
                "{shown}: command not found here. This is taken for the host; if it is a container, set BKT_SIDE=container, and start the daemon: none answers at {} ({})",
                path.display(),
                reason(why)
            ),
        };
        return Error::with_code(text, crate::exit::NOT_FOUND);
    };
    let error = match become_program(name, &program.path, program.is_script, args, invocation) {
        Ok(error) => error,
        Err(e) => return e,
    };
    let code = if error.kind() == io::ErrorKind::NotFound { crate::exit::NOT_FOUND } else { crate::exit::CANNOT_EXECUTE };
    Error::with_code(format!("{shown}: cannot execute {}: {}", program.path.to_string_lossy(), reason(&error)), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started_with(env: &[&'static CStr]) -> Invocation {
        Invocation { env: env.to_vec(), ..Invocation::default() }
    }

    #[test]
    fn fallback_is_switched_off_for_all_or_for_some() {
        assert_eq!(fallback_for(b"ls", &started_with(&[])), Ok(Fallback::Allowed));
        assert_eq!(fallback_for(b"ls", &started_with(&[c"BKT_FALLBACK=never"])), Ok(Fallback::Never));
        assert_eq!(fallback_for(b"ls", &started_with(&[c"BKT_FALLBACK=never:cat,ls"])), Ok(Fallback::Never));
        assert_eq!(fallback_for(b"dog", &started_with(&[c"BKT_FALLBACK=never:cat,ls"])), Ok(Fallback::Allowed));
        assert!(fallback_for(b"ls", &started_with(&[c"BKT_FALLBACK=yes"])).unwrap_err().text.contains("auto"));
    }
}
