//! What is safe to do unasked: modes of our own files, links of our own making, commands that end nothing.

use crate::checks::Mend;
use crate::error::{Error, Result};
use crate::exit::End;
use crate::invocation::Invocation;
use crate::process::tool::{self, Errors};
use crate::sys::files;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How long a service manager may take.
const WITHIN_MS: u64 = 20_000;

/// Does it, if it may be done unasked; says whether it was.
pub fn treat(mend: &Mend, invocation: &Invocation, shims: &[PathBuf], executable: &Path) -> Result<bool> {
    match mend {
        Mend::ByHand(_) => return Ok(false),
        Mend::Modes(path, mode) => fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(|e| Error::io(mend.command(), &e))?,
        Mend::Link { link, to } => files::put_link(link, to).map_err(|e| Error::io(mend.command(), &e))?,
        Mend::Run(words) => {
            let mut words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
            if words.first() == Some(&&b"bkt"[..]) {
                words[0] = executable.as_os_str().as_bytes();
            }
            let (end, _) = tool::ask(invocation, shims, &words, Errors::Nowhere, WITHIN_MS).map_err(|e| Error::io(mend.command(), &e))?;
            if end != End::Code(0) {
                return Err(Error::new(format!("'{}' ended with status {}; run it by hand to see why", mend.command(), end.shell_code())));
            }
        }
    }
    Ok(true)
}
