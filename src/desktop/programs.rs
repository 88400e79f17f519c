//! The host's own programs: found, replaced by, or run with nothing of the caller's.

use crate::error::{Error, Result};
use crate::exit::{self, End};
use crate::invocation::Invocation;
use crate::process::program;
use crate::sys::process::{self, Forked};
use crate::sys::{files, signals, socket};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How much of a program's complaint is passed on.
const MAX_COMPLAINT_BYTES: u64 = 4096;

/// The host as its programs see it.
pub struct Programs<'a> {
    pub invocation: &'a Invocation,
    /// Directories that hold nothing but our own names.
    pub shims: Vec<PathBuf>,
    /// Variables that are set for the programs, on top of the environment.
    pub set: Vec<(&'static str, Vec<u8>)>,
}

impl Programs<'_> {
    pub fn find(&self, name: &str) -> Option<CString> {
        program::find(name.as_bytes(), self.invocation.var("PATH"), &self.shims).map(|found| found.path)
    }

    /// The same, where there is no way without it.
    pub fn need(&self, name: &str, package: &str) -> Result<CString> {
        self.find(name).ok_or_else(|| Error::with_code(format!("the host has no {name}: install there the package that has it ({package})"), exit::NOT_FOUND))
    }

    /// A variable, as the programs have it.
    pub fn var(&self, name: &str) -> Option<&[u8]> {
        let set = self.set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_slice());
        set.or_else(|| self.invocation.var(name))
    }

    /// Whether a Wayland compositor answers, by our environment or, where that is older than the session, by its socket.
    pub fn know_wayland(&mut self) -> bool {
        let Some(runtime) = self.var("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(OsStr::from_bytes(dir))) else { return false };
        let answers = |name: &[u8]| socket::connect(&runtime.join(OsStr::from_bytes(name))).is_ok();
        if self.var("WAYLAND_DISPLAY").is_some_and(answers) {
            return true;
        }
        let found = names(&runtime).into_iter().find(|name| name.starts_with(b"wayland-") && !name.ends_with(b".lock") && answers(name));
        self.set.extend(found.clone().map(|name| ("WAYLAND_DISPLAY", name)));
        found.is_some()
    }

    /// The same for an X server.
    pub fn know_x(&mut self) -> bool {
        if self.var("DISPLAY").is_some() {
            return true;
        }
        let sockets = PathBuf::from("/tmp/.X11-unix");
        let number = |name: &[u8]| name.strip_prefix(b"X").filter(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit)).map(<[u8]>::to_vec);
        let answers = |name: &&Vec<u8>| number(name).is_some() && socket::connect(&sockets.join(OsStr::from_bytes(name))).is_ok();
        let Some(number) = names(&sockets).iter().find(answers).and_then(|name| number(name)) else { return false };
        self.set.push(("DISPLAY", [b":", &number[..]].concat()));
        // Compositors that start an X server put its key into the runtime directory.
        if let (None, Some(runtime)) = (self.var("XAUTHORITY"), self.var("XDG_RUNTIME_DIR")) {
            let runtime = PathBuf::from(OsStr::from_bytes(runtime));
            let key = names(&runtime).into_iter().find(|name| name.starts_with(b".mutter-Xwaylandauth.") || name.starts_with(b"xauth_"));
            let key = key.map(|name| runtime.join(OsStr::from_bytes(&name)).into_os_string().into_encoded_bytes());
            self.set.extend(key.map(|key| ("XAUTHORITY", key)));
        }
        true
    }

    /// Tells programs where the session's display is, if the environment does not.
    pub fn know_display(&mut self) {
        if self.var("WAYLAND_DISPLAY").is_none() && self.var("DISPLAY").is_none() {
            self.know_wayland();
            self.know_x();
        }
    }

    /// Becomes the program; returns only with the reason why not.
    pub fn become_one(&self, program: &CStr, args: &[Vec<u8>]) -> Error {
        let error = self.exec(program, args);
        Error::io(format!("execute {}", program.to_string_lossy()), &error)
    }

    fn exec(&self, program: &CStr, args: &[Vec<u8>]) -> std::io::Error {
        let args: Vec<CString> = std::iter::once(program.to_bytes().to_vec()).chain(args.iter().cloned()).filter_map(|a| CString::new(a).ok()).collect();
        let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
        let is_set = |entry: &[u8]| self.set.iter().any(|(name, _)| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")));
        let set: Vec<CString> = self.set.iter().filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value].concat()).ok()).collect();
        let kept = self.invocation.env.iter().copied().filter(|entry| !is_set(entry.to_bytes()));
        let env: Vec<&CStr> = kept.chain(set.iter().map(CString::as_c_str)).collect();
        process::exec(program, &args, &env)
    }

    /// Runs a program to its end in a session of its own, with nothing of the caller's open: what it leaves behind to serve the
    /// desktop holds up nobody who waits for the caller's streams to end. Returns its end and its complaint. It dies with us.
    pub fn run(&self, program: &CStr, args: &[Vec<u8>], input: Option<&File>, output: Option<&File>) -> Result<(End, String)> {
        let failed = |e: std::io::Error| Error::io(format!("run {}", program.to_string_lossy()), &e);
        let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
        let mut complaint = files::memory_file(c"complaint").map_err(failed)?;
        let streams = [input.unwrap_or(&null), output.unwrap_or(&null), &complaint].map(|file| file.try_clone());
        let parent = std::process::id();
        let pid = match process::fork().map_err(failed)? {
            Forked::Parent(pid) => pid,
            Forked::Child => {
                let _ = process::new_session();
                if process::end_with_parent(parent, signals::TERM).is_err() {
                    process::end_child(exit::FAILED);
                }
                for (number, stream) in streams.into_iter().enumerate() {
                    if stream.and_then(|file| files::become_standard(file.into(), number as i32)).is_err() {
                        process::end_child(exit::FAILED);
                    }
                }
                files::close_all_on_exec();
                self.exec(program, args);
                process::end_child(exit::CANNOT_EXECUTE)
            }
        };
        let end = process::wait_for(pid).map_err(failed)?;
        let mut said = Vec::new();
        let _ = complaint.rewind().and_then(|()| complaint.by_ref().take(MAX_COMPLAINT_BYTES).read_to_end(&mut said));
        Ok((end, String::from_utf8_lossy(&said).trim_end().to_string()))
    }
}

fn names(directory: &Path) -> Vec<Vec<u8>> {
    files::names(directory).into_iter().map(OsString::into_encoded_bytes).collect()
}

/// An end that is none of success, as an error that says what the program said.
pub fn succeeded(program: &CStr, (end, complaint): (End, String)) -> Result<()> {
    let name = program.to_string_lossy();
    match end {
        End::Code(0) => Ok(()),
        _ if !complaint.is_empty() => Err(Error::with_code(format!("the host's {name} says: {}", complaint.replace('\n', "; ")), 1)),
        End::Code(exit::CANNOT_EXECUTE) => Err(Error::with_code(format!("the host's {name} cannot be executed"), exit::CANNOT_EXECUTE)),
        other => Err(Error::with_code(format!("the host's {name} ended with status {}", other.shell_code()), 1)),
    }
}
