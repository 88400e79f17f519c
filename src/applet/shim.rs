//! A shim: the command of that name, on the other side. Every argument belongs to the command.

use crate::applet::Call;
use crate::client::local;
use crate::client::run::{self, Command, Outcome};
use crate::container::{self, Side};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::invocation::Invocation;
use crate::paths;
use crate::sys::files;
use std::ffi::{CStr, CString};
use std::io;
use std::path::PathBuf;

pub fn run(call: &Call) -> Result<End> {
    // Only what is asked for is set up: the log costs more than the rest of the start.
    if call.invocation.var("BKT_LOG").is_some() {
        call.start_log(0);
    }
    // Looked up by its last component: the link's own path is on the wrong side.
    let mut text = [0; LINK_BYTES];
    let name = CString::new(meant(&call.invocation, &mut text)).unwrap_or_default();
    command(call, &call.invocation.args_as(&name), None)
}

/// Runs a command on the other side, or here where this is that side, or by another bridge. `hello` is our release, where the
/// request is to begin with one.
pub fn command(call: &Call, args: &[&CStr], hello: Option<&'static str>) -> Result<End> {
    let command = Command { args: joined(args), not_on_own_side: true, hello, ..Command::default() };
    let asked = ask(call, &command)?;
    if !matches!(asked, Asked::Ended(_)) {
        call.start_log(0);
    }
    match asked {
        Asked::Ended(end) => Ok(end),
        Asked::Here(missing) => {
            let name = args.first().copied().unwrap_or_default();
            log::info!(op_id = call.op; "this is the host: running {} here", name.to_string_lossy());
            Err(become_here(call, args, missing.as_ref()))
        }
        Asked::NoDaemon(missing) => Err(become_bridge(call, args, &missing)),
    }
}

/// The socket where no daemon answers, and why not.
pub type Missing = (PathBuf, io::Error);

/// What became of a request that is for the host.
pub enum Asked {
    Ended(End),
    /// This is the host itself: its daemon says so, or there is none and nothing here looks like a container.
    Here(Option<Missing>),
    /// This is a container, and nobody has taken the request.
    NoDaemon(Missing),
}

/// The one place that decides where what belongs to the host is done.
pub fn ask(call: &Call, command: &Command) -> Result<Asked> {
    Ok(match run::run(command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => Asked::Ended(end),
        Outcome::SameSide => Asked::Here(None),
        Outcome::NoDaemon { path, why } => match container::side(&call.invocation) {
            Side::Host => Asked::Here(Some((path, why))),
            Side::Container => Asked::NoDaemon((path, why)),
        },
    })
}

/// Becomes the real command on this side. Returns only with the reason why not.
pub fn become_here(call: &Call, args: &[&CStr], missing: Option<&Missing>) -> Error {
    local::exec_here(args, &call.invocation, &paths::shim_directories(&call.invocation), missing.map(|(path, why)| (&**path, why)))
}

/// Becomes another bridge to the host, likewise.
pub fn become_bridge(call: &Call, args: &[&CStr], (path, why): &Missing) -> Error {
    local::exec_fallback(args, &call.invocation, &paths::shim_directories(&call.invocation), call.op, (path, why))
}

/// Room for the text of a link that names another command: `.as/` and a file name (`NAME_MAX`).
const LINK_BYTES: usize = 264;

/// The command that a link stands for: of its own name, or of the one that it leads to, `docker -> .as/podman`. That is one look
/// at the link (1.4 µs) and no file read.
fn meant<'a>(invocation: &Invocation, text: &'a mut [u8]) -> &'a [u8] {
    match files::link_text(invocation.path, text).and_then(|text| text.strip_prefix(b".as/")) {
        Some(command) => command,
        None => invocation.name(),
    }
}

/// NUL-terminated strings, one after the other.
pub fn joined(args: &[&CStr]) -> Vec<u8> {
    args.iter().flat_map(|a| a.to_bytes_with_nul()).copied().collect()
}
