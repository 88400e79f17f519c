//! How files, links and other processes are seen.

use crate::checks::links::Entry;
use crate::invocation::Invocation;
use crate::process::{environment, program};
use crate::sys::files::{self, FileId};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories of our own PATH.
pub fn own_path(invocation: &Invocation) -> Vec<PathBuf> {
    program::directories(invocation.var("PATH").unwrap_or(program::DEFAULT_PATH)).map(Path::to_path_buf).collect()
}

/// Whether a path leads to a bkt: this one, or by its name another.
pub fn leads_to_us(path: &Path) -> bool {
    let Ok(about) = fs::metadata(path) else { return false };
    let this = files::file_id(c"/proc/self/exe").is_ok_and(|own| own == FileId { device: about.dev(), inode: about.ino() });
    this || program::leads_to_our_name(path)
}

/// Whether a link was made to lead to a bkt, be that there or not.
pub fn is_link_to_us(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|to| to.file_name().is_some_and(|name| name == "bkt")) || leads_to_us(path)
}

/// Whether a file has our own bytes without being our own file.
pub fn is_copy_of_us(path: &Path) -> bool {
    let size = |path: &Path| fs::metadata(path).map(|about| about.len()).ok();
    let own = Path::new("/proc/self/exe");
    if leads_to_us(path) || size(path).is_none() || size(path) != size(own) {
        return false;
    }
    let (Ok(mut a), Ok(mut b)) = (File::open(path), File::open(own)) else { return false };
    let (mut of_a, mut of_b) = ([0; 4096], [0; 4096]);
    loop {
        match (a.read(&mut of_a), b.read(&mut of_b)) {
            (Ok(0), Ok(0)) => return true,
            (Ok(n), Ok(m)) if n == m && of_a[..n] == of_b[..m] => {}
            _ => return false,
        }
    }
}

/// What a name in a directory of shims is; `link` is room for what a link says. `None` for a directory.
pub fn entry<'l>(path: &Path, link: &'l mut PathBuf) -> Option<Entry<'l>> {
    match fs::read_link(path) {
        Ok(to) => *link = to,
        Err(_) if path.is_dir() => return None,
        Err(_) => return Some(if leads_to_us(path) || is_copy_of_us(path) { Entry::Copy } else { Entry::File }),
    }
    Some(match fs::metadata(path) {
        Err(_) => Entry::Dangling(link),
        Ok(_) if leads_to_us(path) => Entry::Shim,
        Ok(_) => Entry::Foreign(link),
    })
}

/// The names in a directory, in their order, without those that begin with a dot.
pub fn names(directory: &Path) -> Vec<PathBuf> {
    files::names(directory).iter().filter(|name| !name.as_bytes().starts_with(b".")).map(|name| directory.join(name)).collect()
}

/// Somebody else's environment, or some of it: `NAME=VALUE`, NUL-terminated.
pub struct Environment(pub Vec<u8>);

impl Environment {
    /// From lines of `NAME=VALUE`.
    pub fn of_lines(mut text: Vec<u8>) -> Environment {
        text.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = 0);
        Environment(text)
    }

    pub fn var(&self, name: &str) -> Option<&[u8]> {
        environment::strings(&self.0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).filter(|value| !value.is_empty())
    }
}
