//! `bkt` without the feature `tools`: its names and its options, and no command.

use crate::applet::{Before, Call, usage};
use crate::error::Result;
use crate::exit::End;
use std::ffi::{OsStr, OsString};

pub const HELP: &str = "\
bkt runs the host's commands from its containers, transparently. This one was made without its tools.

Usage: bkt NAME ARGS…               the same as a link NAME to bkt

  --list            the names of this executable, and of the shims that come with it
  --install DIR     make a link in DIR for each of those shims
  -V, --version     the version
  -h, --help        this text

Exit status: the command's own; 125 bkt itself failed, 126 cannot execute, 127 not found.
Environment: BKT_SOCKET, BKT_FALLBACK (auto, never, never:NAME,…), BKT_SIDE (host, container), BKT_LOG.
";

/// As in the other `commands`.
pub fn run(call: &Call, before: &Before, word: &OsStr, _rest: Vec<OsString>, _all: &[OsString]) -> Result<End> {
    call.start_log(before.verbosity);
    Err(usage(format_args!("this bkt was made without its tools, so it has no command '{}'", word.display()), "bkt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Invocation;
    use crate::opid::OpId;

    #[test]
    fn a_command_that_was_left_out_is_named() {
        let call = Call { invocation: Invocation::default(), op: OpId::from_random([1; 6]) };
        let refused = run(&call, &Before { verbosity: 0, delegate: true }, OsStr::new("status"), vec![], &[]).unwrap_err();
        assert!(refused.text.contains("without its tools") && refused.text.contains("'status'"), "{refused}");
    }
}
