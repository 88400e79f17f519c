//! The environment that the user's login shell makes.
//!
//! A service manager starts what it starts with a short PATH of its own; what the user has in `~/.profile` is not in it. The
//! login shell is asked: it runs this executable, which prints what it was given.

use crate::invocation::Invocation;
use crate::logging::shown;
use crate::process::tool::{Errors, Tool};
use crate::quoted::quoted;
use crate::sys::process;
use std::ffi::{CStr, CString};
use std::io::{self, Write};

/// How long a profile may take: what hangs there must not keep the daemon from starting.
const SHELL_MS: u64 = 5_000;

/// Before the environment: profiles may print, too.
const MARK: &[u8] = b"\0bkt-environment\0";

/// What a shell sets for itself.
const OF_THE_SHELL: [&[u8]; 4] = [b"_", b"SHLVL", b"PWD", b"OLDPWD"];

/// What the shell runs: prints the environment, and ends.
pub fn print(invocation: &Invocation) -> io::Result<()> {
    let mut text = MARK.to_vec();
    for entry in &invocation.env {
        text.extend_from_slice(entry.to_bytes_with_nul());
    }
    io::stdout().write_all(&text)
}

/// The invocation as it would be from a login shell, `$SHELL` or `/bin/sh`. `None`, and a warning, where that cannot be had.
pub fn environment(invocation: &Invocation) -> Option<Invocation> {
    let shell = invocation.var("SHELL").unwrap_or(b"/bin/sh");
    match ask(shell, invocation) {
        Ok(env) => Some(Invocation { args: invocation.args.clone(), env, path: invocation.path }),
        Err(e) => {
            log::warn!("the environment of a login shell ({}) cannot be had: {e}; going on with the one we were started with", shown(shell));
            None
        }
    }
}

fn ask(shell: &[u8], invocation: &Invocation) -> io::Result<Vec<&'static CStr>> {
    let script = [b"exec ", &quoted(process::own_path().map_err(io::Error::other)?.as_bytes())[..], b" bkt-hostd --print-environment"].concat();
    let mut tool = Tool::start(invocation, &[], &[shell, b"-l", b"-c", &script], Errors::Ours)?;
    let answer = tool.read(SHELL_MS).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => io::Error::other(format!("it took longer than {} s", SHELL_MS / 1000)),
        _ => e,
    });
    // And whatever of a profile still runs.
    tool.end()?;
    let answer = answer?;
    parse(&answer).ok_or_else(|| io::Error::other("it did not run what it was asked to"))
}

/// What stands after the last mark. It is kept for as long as the process lives, like the environment that it stands for.
fn parse(answer: &[u8]) -> Option<Vec<&'static CStr>> {
    let at = answer.windows(MARK.len()).rposition(|window| window == MARK)?;
    let entries = answer[at + MARK.len()..].split_inclusive(|b| *b == 0).filter_map(|entry| CString::from_vec_with_nul(entry.to_vec()).ok());
    let ours = |entry: &CString| !OF_THE_SHELL.contains(&entry.as_bytes().split(|b| *b == b'=').next().unwrap_or(b""));
    Some(entries.filter(ours).map(|entry| &*Box::leak(entry.into_boxed_c_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_prints_is_not_taken_for_the_environment() {
        let found = parse(b"Welcome!\nA=0\0\0bkt-environment\0PATH=/a:/b\0_=/x\0SHLVL=1\0B=x=y\n\0").unwrap();
        assert_eq!(found, [c"PATH=/a:/b", c"B=x=y\n"]);
        assert_eq!(parse(b"Welcome!"), None);
    }
}
