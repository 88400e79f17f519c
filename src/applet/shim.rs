//! A shim: the command of that name, on the other side. Every argument belongs to the command.

use crate::applet::Call;
use crate::client::local::{self, Side};
use crate::client::run::{self, Command, Outcome};
use crate::error::Result;
use crate::exit::End;
use crate::invocation::Invocation;
use crate::paths;
use crate::sys::files;
use std::ffi::{CStr, CString};

pub fn run(call: &Call) -> Result<End> {
    // Only what is asked for is set up: the log costs more than the rest of the start.
    if call.invocation.var("BKT_LOG").is_some() {
        call.start_log(0);
    }
    // Looked up by its last component: the link's own path is on the wrong side.
    let mut text = [0; LINK_BYTES];
    let name = CString::new(meant(&call.invocation, &mut text)).unwrap_or_default();
    let mut args: Vec<&CStr> = vec![&name];
    args.extend(call.invocation.args.iter().skip(1));
    command(call, &args, None)
}

/// Runs a command on the other side, or here where this is that side, or by another bridge. `hello` is our release, where the
/// request is to begin with one.
pub fn command(call: &Call, args: &[&CStr], hello: Option<&'static str>) -> Result<End> {
    let name = args.first().copied().unwrap_or_default();
    let command = Command { args: joined(args), not_on_own_side: true, hello, ..Command::default() };
    match run::run(&command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => Ok(end),
        Outcome::SameSide => {
            call.start_log(0);
            log::info!(op_id:% = call.op; "this is the daemon's own side: running {} here", name.to_string_lossy());
            Err(local::exec_here(args, &call.invocation, &paths::shim_directories(&call.invocation), None))
        }
        Outcome::NoDaemon { path, why } => {
            call.start_log(0);
            let shims = paths::shim_directories(&call.invocation);
            match local::side(&call.invocation) {
                Side::Host => Err(local::exec_here(args, &call.invocation, &shims, Some((&path, &why)))),
                Side::Container => Err(local::exec_fallback(args, &call.invocation, &shims, call.op, (&path, &why))),
            }
        }
    }
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
