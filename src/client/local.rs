//! The ways without the daemon: the real command on our own side, or another bridge to the host.

pub use crate::client::connect::no_daemon;
use crate::error::{Error, Result, reason};
use crate::invocation::Invocation;
use crate::opid::OpId;
use crate::process::{environment, program};
use crate::sys::process;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which side we are on, as far as it can be told without a daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Host,
    Container,
}

/// What container managers leave behind: podman and buildah, docker, toolbox, flatpak, nspawn and others (container interface of
/// systemd).
const MARKS: &[&str] = &["/run/.containerenv", "/.dockerenv", "/run/.toolboxenv", "/.flatpak-info", "/run/systemd/container", "/run/host/container-manager"];

/// `BKT_SIDE=host|container` decides; else the marks do. An environment variable that anything may have set comes last.
pub fn side(invocation: &Invocation) -> Side {
    match invocation.var("BKT_SIDE") {
        Some(b"host") => return Side::Host,
        Some(b"container") => return Side::Container,
        _ => {}
    }
    let marked = MARKS.iter().any(|mark| fs::symlink_metadata(mark).is_ok());
    if marked || invocation.var("CONTAINER_ID").is_some() || invocation.var("container").is_some() { Side::Container } else { Side::Host }
}

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

/// Replaces this process by another bridge to the host; returns only with the reason why not.
pub fn exec_fallback(args: &[&CStr], invocation: &Invocation, shims: &[PathBuf], op: OpId, missing: (&Path, &io::Error)) -> Error {
    let name = args.first().map_or(&b""[..], |a| a.to_bytes());
    let (path, why) = missing;
    let nothing = no_daemon(path, why);
    match fallback_for(name, invocation) {
        Ok(Fallback::Allowed) => {}
        Ok(Fallback::Never) => return Error::new(format!("{}; other ways are switched off (BKT_FALLBACK)", nothing.text)),
        Err(e) => return e,
    }
    let mut kept = Vec::new();
    for entry in &invocation.env {
        kept.extend_from_slice(entry.to_bytes_with_nul());
    }
    let depth = environment::depth(&kept);
    if depth >= environment::MAX_DEPTH {
        return Error::new(format!("{} has come through {depth} bridges already: shims are calling each other in a circle", String::from_utf8_lossy(name)));
    }
    for (bridge, options) in BRIDGES {
        let Some(program) = program::find(bridge.as_bytes(), invocation.var("PATH"), shims) else { continue };
        log::warn!(op_id:% = op; "no daemon at {} ({}): running {} by {bridge}", path.display(), reason(why), String::from_utf8_lossy(name));
        let bridge_name = CString::new(*bridge).unwrap_or_default();
        let mut all: Vec<&CStr> = vec![&bridge_name];
        all.extend(*options);
        all.extend(args);
        let env = handed_on(invocation, op, depth + 1);
        let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
        let error = process::exec(&program, &all, &env);
        return Error::io(format!("execute {}", program.to_string_lossy()), &error);
    }
    let names: Vec<&str> = BRIDGES.iter().map(|(bridge, _)| *bridge).collect();
    Error::new(format!("{}; nor is there another bridge ({})", nothing.text, names.join(", ")))
}

/// Our environment with the operation's id and the depth in it.
fn handed_on(invocation: &Invocation, op: OpId, depth: u32) -> Vec<CString> {
    let is_ours = |entry: &[u8]| [environment::OP_ID, environment::DEPTH].iter().any(|n| entry.strip_prefix(n.as_bytes()).is_some_and(|r| r.starts_with(b"=")));
    let kept = invocation.env.iter().filter(|e| !is_ours(e.to_bytes())).map(|e| (*e).to_owned());
    let ours = [format!("{}={op}", environment::OP_ID), format!("{}={depth}", environment::DEPTH)];
    kept.chain(ours.into_iter().filter_map(|e| CString::new(e).ok())).collect()
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
    let error = process::exec(&program, args, &invocation.env);
    let code = if error.kind() == io::ErrorKind::NotFound { crate::exit::NOT_FOUND } else { crate::exit::CANNOT_EXECUTE };
    Error::with_code(format!("{shown}: cannot execute {}: {}", program.to_string_lossy(), reason(&error)), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[&'static CStr]) -> Invocation {
        Invocation { args: vec![], env: env.to_vec() }
    }

    #[test]
    fn fallback_is_switched_off_for_all_or_for_some() {
        assert_eq!(fallback_for(b"ls", &with(&[])), Ok(Fallback::Allowed));
        assert_eq!(fallback_for(b"ls", &with(&[c"BKT_FALLBACK=never"])), Ok(Fallback::Never));
        assert_eq!(fallback_for(b"ls", &with(&[c"BKT_FALLBACK=never:cat,ls"])), Ok(Fallback::Never));
        assert_eq!(fallback_for(b"dog", &with(&[c"BKT_FALLBACK=never:cat,ls"])), Ok(Fallback::Allowed));
        assert!(fallback_for(b"ls", &with(&[c"BKT_FALLBACK=yes"])).unwrap_err().text.contains("auto"));
    }

    #[test]
    fn the_side_can_be_said_outright() {
        assert_eq!(side(&with(&[c"BKT_SIDE=container"])), Side::Container);
        assert_eq!(side(&with(&[c"BKT_SIDE=host", c"container=podman"])), Side::Host);
        assert_eq!(side(&with(&[c"container=podman"])), Side::Container);
    }
}
