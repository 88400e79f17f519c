//! What interceptors share: the way to the daemon with one request of a capability, and the ways without one.

use crate::applet::shim::{self, Asked, Missing};
use crate::applet::{Call, RELEASE};
use crate::client::local;
use crate::client::run::{Command, WantPty};
use crate::desktop::programs::Programs;
use crate::error::{Error, Result};
use crate::exit::{self, End};
use crate::paths;
use crate::proto::capability::Capability;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};

/// A request in the capability's own words, with the files that go along.
#[derive(Default)]
pub struct Request {
    words: Vec<u8>,
    files: Vec<u16>,
}

impl Request {
    pub fn word(&mut self, word: impl AsRef<[u8]>) {
        self.words.extend_from_slice(word.as_ref());
        self.words.push(0);
    }

    /// Sends a file along; returns the number that it has there.
    pub fn file(&mut self, file: File) -> Result<u16> {
        let number = file.into_raw_fd();
        let fits = u16::try_from(number).ok().filter(|n| (3..=255).contains(n));
        let fits = fits.ok_or_else(|| Error::new("too many files are open in this process: close some"))?;
        self.files.push(fits);
        Ok(fits)
    }
}

pub fn ask(call: &Call, capability: Capability, request: Request) -> Result<Asked> {
    let command = Command { args: request.words, extra: request.files, capability, hello: Some(RELEASE), pty: WantPty::Never, not_on_own_side: true, ..Command::default() };
    let asked = shim::ask(call, &command)?;
    // No desktop's program ends so: it is ours over there that has failed, and has said why.
    if let Asked::Ended(End::Code(code @ exit::FAILED..=exit::NOT_FOUND)) = asked {
        call.tell_failure("failed", code);
    }
    Ok(asked)
}

/// For a name that the host has a program of: on the host itself it becomes that program, and without a daemon another bridge
/// starts it there. Either gets what was typed.
pub fn or_become(call: &Call, asked: Asked) -> Result<End> {
    // By its last component: a link's own path may mean us again.
    let name = CString::new(call.invocation.name()).unwrap_or_default();
    let args = call.invocation.args_as(&name);
    match asked {
        Asked::Ended(end) => Ok(end),
        Asked::Here(_) => Err(shim::become_here(call, &args, None)),
        Asked::NoDaemon(missing) => Err(shim::become_bridge(call, &args, &missing)),
    }
}

/// The error of those that no other bridge can do.
pub fn no_daemon((path, why): &Missing) -> Error {
    local::no_daemon(path, why)
}

/// The host's programs, as this process sees them.
pub fn programs(call: &Call) -> Programs<'_> {
    Programs { invocation: &call.invocation, shims: paths::shim_directories(&call.invocation), set: vec![] }
}

/// The path as seen from the root of this side.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A `file:` URI as the path that it means (RFC 8089); `None` where it is none, or means another machine.
pub fn file_uri(uri: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = (uri.get(..5)?, uri.get(5..)?);
    if !scheme.eq_ignore_ascii_case(b"file:") {
        return None;
    }
    let rest = match rest.strip_prefix(b"//") {
        Some(rest) => rest.strip_prefix(b"localhost").unwrap_or(rest),
        None => rest,
    };
    let rest = rest.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(rest);
    if !rest.starts_with(b"/") {
        return None;
    }
    let (mut path, mut at) = (Vec::new(), 0);
    while let Some(byte) = rest.get(at) {
        let digits = rest.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        path.push(digits.unwrap_or(*byte));
        at += if digits.is_some() { 3 } else { 1 };
    }
    (!path.contains(&0)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_uri_is_a_path_of_this_machine() {
        for (uri, path) in [("file:///a%20b", Some("/a b")), ("FILE:/x", Some("/x")), ("file://localhost/x#y", Some("/x")), ("file:///100%", Some("/100%"))] {
            assert_eq!(file_uri(uri.as_bytes()), path.map(|p| p.as_bytes().to_vec()), "{uri}");
        }
        for uri in ["file://elsewhere/x", "file:x", "http:///x", "file:///a%00b", ""] {
            assert_eq!(file_uri(uri.as_bytes()), None, "{uri}");
        }
    }
}
