//! `bkt-perform CAPABILITY DIRECTORY SCHEMES -- WORDS…`: does what a container was granted. The daemon starts it; what stands
//! before `--` is the daemon's, what stands after it is a stranger's.

use crate::applet::{Call, clipboard, interceptor, notify};
use crate::desktop::open::Target;
use crate::desktop::{self, open};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::proto::capability::Capability;
use crate::sys::files;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn run(call: &Call) -> Result<End> {
    let args: Vec<&[u8]> = call.invocation.args.iter().map(|a| a.to_bytes()).collect();
    let [_, capability, handed, schemes, b"--", words @ ..] = &args[..] else {
        return Err(Error::new("bkt-perform is started by the daemon, not by hand"));
    };
    let (handed, schemes) = (Path::new(OsStr::from_bytes(handed)), String::from_utf8_lossy(schemes));
    let mut programs = interceptor::programs(call);
    let owned = || words.iter().map(|w| OsStr::from_bytes(w).to_os_string()).collect::<Vec<OsString>>();
    match std::str::from_utf8(capability).ok().and_then(Capability::from_word) {
        Some(Capability::Notify) => desktop::notify::show(notify::sent(owned())?, &mut programs, handed)?,
        Some(Capability::XdgOpen) => open::open(target(words)?, &schemes, &mut programs, handed)?,
        Some(Capability::Clipboard) => desktop::clipboard::run(&clipboard::sent(owned())?, &mut programs)?,
        Some(Capability::HostExec) | None => return Err(Error::new("bkt-perform does not know this capability")),
    }
    Ok(End::Code(0))
}

fn target(words: &[&[u8]]) -> Result<Target> {
    match words {
        [b"uri", uri] => Ok(Target::Uri(uri.to_vec())),
        [b"file", path, number] => {
            let number = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()).filter(|n: &i32| *n > 2);
            let file = files::adopt(number.unwrap_or(-1)).map_err(|e| Error::io("take the file over", &e))?;
            Ok(Target::File(path.to_vec(), File::from(file)))
        }
        _ => Err(Error::new("there is nothing to open")),
    }
}
