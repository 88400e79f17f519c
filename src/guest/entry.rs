//! The start of a container: the daemon goes into the background, the container's command takes our place.

use crate::error::{Error, reason};
use crate::exit;
use crate::invocation::Invocation;
use crate::process::program;
use crate::sys::process::{self, Forked};
use crate::sys::{files, signals};
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Starts another program of ours in the background, with nothing of this process but its environment. It is nobody's child in
/// the end but process 1's, which waits for it: the command that takes our place knows nothing of it.
pub fn start_in_background(program: &CStr, args: &[&CStr], env: &[&CStr]) -> io::Result<()> {
    match process::fork()? {
        // It ends at once.
        Forked::Parent(pid) => process::wait_for(pid).map(drop),
        Forked::Child => {
            let started = process::new_session().and_then(|()| process::fork());
            if !matches!(started, Ok(Forked::Child)) {
                process::end_child(u8::from(started.is_err()));
            }
            // Each of these can only fail where nobody is left to be told.
            let _ = files::become_null_standard();
            files::close_all_on_exec();
            let _ = std::env::set_current_dir("/");
            signals::reset_all();
            let _ = process::exec(program, args, env);
            process::end_child(exit::CANNOT_EXECUTE)
        }
    }
}

/// Becomes a command; returns only with the reason why not.
pub fn become_command(args: &[&CStr], env: &[&CStr], path: &[u8]) -> Error {
    let Some(name) = args.first() else { return Error::new("there is no command") };
    let shown = name.to_string_lossy();
    let candidates = program::candidates(name.to_bytes(), path, &[]).paths;
    let mut worst = Error::with_code(format!("{shown}: command not found in this container"), exit::NOT_FOUND);
    for candidate in candidates {
        let error = process::exec(&candidate, args, env);
        let missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if !missing || is_file(&candidate) {
            worst = Error::with_code(format!("{shown}: cannot execute: {}", reason(&error)), exit::CANNOT_EXECUTE);
        } else if name.to_bytes().contains(&b'/') {
            worst = Error::with_code(format!("{shown}: {}", reason(&error)), exit::NOT_FOUND);
        }
    }
    worst
}

fn is_file(path: &CStr) -> bool {
    path.to_str().is_ok_and(|path| fs::symlink_metadata(path).is_ok_and(|about| !about.is_dir()))
}

/// Becomes a login shell: the user's own, else one that is there. Its name begins with `-`, by which shells know (login(1)).
pub fn become_login_shell(invocation: &Invocation, env: &[&CStr]) -> Error {
    let own = invocation.var("SHELL").filter(|shell| shell.starts_with(b"/")).and_then(|shell| CString::new(shell).ok());
    for shell in own.into_iter().chain([c"/bin/bash".to_owned(), c"/bin/sh".to_owned()]) {
        if program::is_executable(Path::new(OsStr::from_bytes(shell.to_bytes()))) {
            let base = shell.to_bytes().rsplit(|b| *b == b'/').next().unwrap_or(b"sh");
            let name = CString::new([b"-", base].concat()).unwrap_or_default();
            let _ = process::exec(&shell, &[&name], env);
        }
    }
    Error::with_code("there is no shell in this container: neither $SHELL, nor /bin/bash, nor /bin/sh can be executed", exit::NOT_FOUND)
}

/// The environment with this directory first in PATH.
pub fn with_path_first(invocation: &Invocation, directory: &Path) -> (Vec<CString>, Vec<u8>) {
    let directory = directory.as_os_str().as_bytes();
    let old = invocation.var("PATH").unwrap_or(program::DEFAULT_PATH);
    let rest = old.split(|b| *b == b':').filter(|other| *other != directory);
    let path = std::iter::once(directory).chain(rest).collect::<Vec<_>>().join(&b':');
    let kept = invocation.env.iter().filter(|entry| !entry.to_bytes().starts_with(b"PATH=")).map(|entry| (*entry).to_owned());
    let env = kept.chain(CString::new([b"PATH=", &path[..]].concat())).collect();
    (env, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_comes_first_in_path_and_stands_there_once() {
        let invocation = Invocation { env: vec![c"A=1", c"PATH=/bin:/run/bkt/bin:/usr/bin"], ..Invocation::default() };
        let (env, path) = with_path_first(&invocation, Path::new("/run/bkt/bin"));
        assert_eq!(path, b"/run/bkt/bin:/bin:/usr/bin");
        assert_eq!(env, [c"A=1".to_owned(), c"PATH=/run/bkt/bin:/bin:/usr/bin".to_owned()]);
        let (env, _) = with_path_first(&Invocation::default(), Path::new("/x"));
        assert!(env[0].to_bytes().starts_with(b"PATH=/x:/usr/local/sbin:"));
    }
}
