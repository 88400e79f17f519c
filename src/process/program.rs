//! Which files may be the program: the candidates of a search, in order, as `execvp(3)` has them.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The PATH of a server that has none, as in `execvp(3)` and systemd.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to try to execute.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidates {
    pub paths: Vec<CString>,
    /// They come from a search of PATH.
    pub searched: bool,
}

/// The candidates for a name. With a slash in it, it is a path and is taken as it is; else each directory of PATH is tried but
/// those that hold shims. Relative directories of PATH are left out: they would mean the caller's directory.
pub fn candidates(name: &[u8], path: &[u8], leave_out: &[PathBuf]) -> Candidates {
    if name.contains(&b'/') {
        return Candidates { paths: CString::new(name).into_iter().collect(), searched: false };
    }
    if name.is_empty() {
        return Candidates { paths: vec![], searched: true };
    }
    let directories = path.split(|&b| b == b':').filter(|d| d.starts_with(b"/"));
    let wanted = directories.filter(|d| !leave_out.iter().any(|out| out == Path::new(OsStr::from_bytes(d))));
    let paths = wanted.filter_map(|d| CString::new([d, b"/", name].concat()).ok()).collect();
    Candidates { paths, searched: true }
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
