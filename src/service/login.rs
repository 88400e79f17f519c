//! The environment that the user's login shell makes.
//!
//! A service manager starts what it starts with a short PATH of its own; what the user has in `~/.profile` is not in it. The
//! login shell is asked: it runs this executable, which prints what it was given.

use crate::event::Wait;
use crate::invocation::Invocation;
use crate::sys::signals::{self, Target};
use crate::sys::{files, process};
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

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
    let shell = OsStr::from_bytes(invocation.var("SHELL").unwrap_or(b"/bin/sh"));
    match ask(shell) {
        Ok(env) => Some(Invocation { args: invocation.args.clone(), env, path: invocation.path }),
        Err(e) => {
            log::warn!("the environment of a login shell ({}) cannot be had: {e}; going on with the one we were started with", shell.display());
            None
        }
    }
}

fn ask(shell: &OsStr) -> io::Result<Vec<&'static CStr>> {
    let script = [b"exec ", &quoted(process::own_path().map_err(io::Error::other)?.as_bytes())[..], b" bkt-hostd --print-environment"].concat();
    let mut child =
        Command::new(shell).args([OsStr::new("-l"), OsStr::new("-c"), OsStr::from_bytes(&script)]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn()?;
    let answer = child.stdout.take().map_or_else(|| Ok(Vec::new()), |out| read_within(out.as_fd(), process::monotonic_ms() + SHELL_MS));
    // Its group: whatever of a profile still runs. It has not been waited for, so the number is its own.
    let _ = signals::send(Target::Group(child.id()), signals::KILL);
    child.wait()?;
    parse(&answer?).ok_or_else(|| io::Error::other("it did not run what it was asked to"))
}

fn read_within(out: std::os::fd::BorrowedFd<'_>, deadline: u64) -> io::Result<Vec<u8>> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let now = process::monotonic_ms();
        if now >= deadline {
            return Err(io::Error::other(format!("it took longer than {} s", SHELL_MS / 1000)));
        }
        let mut wait = Wait::with_capacity(1);
        wait.watch((), out, true, false);
        if wait.run(now, Some(deadline)).is_empty() {
            continue;
        }
        match files::read(out, &mut part)? {
            0 => return Ok(all),
            length => all.extend_from_slice(&part[..length]),
        }
    }
}

/// What stands after the last mark. It is kept for as long as the process lives, like the environment that it stands for.
fn parse(answer: &[u8]) -> Option<Vec<&'static CStr>> {
    let at = answer.windows(MARK.len()).rposition(|window| window == MARK)?;
    let entries = answer[at + MARK.len()..].split_inclusive(|b| *b == 0).filter_map(|entry| CString::from_vec_with_nul(entry.to_vec()).ok());
    let ours = |entry: &CString| !OF_THE_SHELL.contains(&entry.as_bytes().split(|b| *b == b'=').next().unwrap_or(b""));
    Some(entries.filter(ours).map(|entry| &*Box::leak(entry.into_boxed_c_str())).collect())
}

/// A word as every shell reads it, the fish and the C shell too.
fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => out.extend(b"'\\''"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
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

    #[test]
    fn a_path_with_a_quote_is_one_word() {
        assert_eq!(quoted(b"/a b/it's"), b"'/a b/it'\\''s'");
    }
}
