//! `host-exec CMD ARGS…`: a command of the host. Everything after the name is the command's, even `--help`.

use crate::applet::{Call, RELEASE, shim};
use crate::error::{Error, Result};
use crate::exit::End;
use std::ffi::CStr;

pub fn run(call: &Call) -> Result<End> {
    let args: Vec<&CStr> = call.invocation.args.iter().skip(1).copied().collect();
    if args.is_empty() {
        return Err(Error::new("host-exec wants a command: 'host-exec CMD ARGS…' runs it on the host"));
    }
    call.start_log(0);
    shim::command(call, &args, Some(RELEASE))
}
