//! The working directory: the same path on the other side.
//!
//! | the caller is in | the command runs in |
//! |---|---|
//! | `/home/u/src` | `/home/u/src` |
//! | `/run/host/etc` (the host's tree, seen from a container) | `/etc` |
//! | `/run/host` | `/` |
//! | a directory that the server does not have, or may not enter | an empty read-only directory, with one line of warning |
//! | a directory that has been deleted | the same |
//! | anything, with `--cwd DIR` | `DIR`, and if that is not there nothing runs |

/// The path on the server's side; `host_root` is where callers see the server's tree. A caller whose directory has no path (deleted, unreachable) gives none.
pub fn translate<'a>(path: &'a [u8], host_root: &str) -> Option<&'a [u8]> {
    if !path.starts_with(b"/") {
        return None;
    }
    match path.strip_prefix(host_root.as_bytes()) {
        Some(b"" | b"/") => Some(b"/"),
        Some(rest) if rest.starts_with(b"/") => Some(rest),
        _ => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_table() {
        let table: [(&[u8], Option<&[u8]>); 10] = [
            (b"/", Some(b"/")),
            (b"/home/u/src", Some(b"/home/u/src")),
            (b"/run/host", Some(b"/")),
            (b"/run/host/", Some(b"/")),
            (b"/run/host/etc", Some(b"/etc")),
            (b"/run/hostile", Some(b"/run/hostile")),
            (b"/run", Some(b"/run")),
            (b"/\xff\xfe dir", Some(b"/\xff\xfe dir")),
            (b"(unreachable)/x", None),
            (b"", None),
        ];
        for (from, to) in table {
            assert_eq!(translate(from, "/run/host"), to, "{:?}", String::from_utf8_lossy(from));
        }
    }
}
