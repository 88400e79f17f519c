//! Which files may be the program: the candidates of a search, in order, as `execvp(3)` has them.

use crate::sys::entry;
use crate::sys::files::{self, FileId};
use std::ffi::{CString, OsStr};
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The PATH of a server that has none, as in `execvp(3)` and systemd.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest name of a file, limits.h.
const NAME_MAX: usize = libc::NAME_MAX as usize;

/// What to try to execute.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidates {
    pub paths: Vec<CString>,
    /// They come from a search of PATH.
    pub searched: bool,
}

/// The candidates for a name. With a slash in it, it is a path and is taken as it is; else each directory of PATH is tried but
/// those that hold shims.
pub fn candidates(name: &[u8], path: &[u8], leave_out: &[PathBuf]) -> Candidates {
    if name.contains(&b'/') {
        return Candidates { paths: CString::new(name).into_iter().collect(), searched: false };
    }
    if name.is_empty() {
        return Candidates { paths: vec![], searched: true };
    }
    // A longer name than any file's fails in the first directory as in all: hundreds of copies of it tell no more.
    let most = if name.len() > NAME_MAX { 1 } else { usize::MAX };
    let wanted = directories(path).filter(|directory| !leave_out.iter().any(|out| out == directory)).take(most);
    let paths = wanted.filter_map(|directory| CString::new([directory.as_os_str().as_bytes(), b"/", name].concat()).ok()).collect();
    Candidates { paths, searched: true }
}

/// The directories of a PATH. Relative ones are left out: they would mean whatever directory its reader is in.
pub fn directories(path: &[u8]) -> impl Iterator<Item = &Path> {
    path.split(|&b| b == b':').filter(|d| d.starts_with(b"/")).map(|d| Path::new(OsStr::from_bytes(d)))
}

/// Whether a path leads to a file that may be executed.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| may_be_executed(&about))
}

fn may_be_executed(about: &Metadata) -> bool {
    about.is_file() && about.mode() & 0o111 != 0
}

/// Whether a path leads to a file of our name: another version of us.
pub fn leads_to_our_name(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|real| real.file_name().is_some_and(|name| name == "bkt"))
}

/// A file that may be executed and is not ours.
pub struct Program {
    pub path: CString,
    /// It is for an interpreter.
    pub is_script: bool,
}

/// The first of that name in a PATH of ours.
pub fn find(name: &[u8], path: Option<&[u8]>, leave_out: &[PathBuf]) -> Option<Program> {
    let ourselves = files::file_id(c"/proc/self/exe").unwrap_or_default();
    let all = candidates(name, path.unwrap_or(DEFAULT_PATH), leave_out).paths;
    all.into_iter().find_map(|candidate| real_program(candidate, ourselves))
}

/// The file at a path, if it is a program that is not us.
pub fn real_program(candidate: CString, ourselves: FileId) -> Option<Program> {
    let path = Path::new(OsStr::from_bytes(candidate.to_bytes()));
    let about = fs::metadata(path).ok()?;
    let is_us = FileId { device: about.dev(), inode: about.ino() } == ourselves;
    if !may_be_executed(&about) || is_us || leads_to_our_name(path) {
        return None;
    }
    // A copy of us under another name would look for the next of that name too, and find us. What cannot be read is no script.
    let mut page = [0; 4096];
    let length = fs::File::open(path).and_then(|mut file| file.read(&mut page)).unwrap_or(0);
    let page = &page[..length];
    (!entry::is_ours(page)).then(|| Program { is_script: length > 0 && !page.starts_with(b"\x7fELF"), path: candidate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_leaves_out_shim_directories_and_relative_ones() {
        let found = candidates(b"ls", b"/a:/shims/:.::/b", &[PathBuf::from("/shims")]);
        assert_eq!(found.paths, [c"/a/ls".to_owned(), c"/b/ls".to_owned()]);
        assert!(found.searched);
    }

    #[test]
    fn a_path_is_not_searched_and_an_empty_name_is_nothing() {
        assert_eq!(candidates(b"./ls", b"/a", &[]), Candidates { paths: vec![c"./ls".to_owned()], searched: false });
        assert!(candidates(b"", b"/a", &[]).paths.is_empty());
    }
}
