//! Opening: a URI of an allowed scheme, or a file, by the host's `xdg-open`.
//!
//! A path is never believed: with it comes a descriptor of what the container means by it. Where the host has the same file (device
//! and inode) under that path, the host's is opened; a file that only the container has is copied beside the socket first,
//! because a program finds out what a file is by its name, and opens it by its name, after we are gone.
//!
//! So between our look and the program's, whoever may write to that directory can put another file there. It is opened by name all
//! the same, as xdg-desktop-portal's OpenURI does it: a descriptor's path (`/proc/PID/fd/N`) has no ending to choose a program by, ends
//! with this process, and cannot be saved to; a copy has no neighbours (a page's pictures) and loses what is edited. What the other
//! file could gain is little: its name is judged without links in it, so that no link leads elsewhere later without the directory
//! itself being written to, and what is shown, the person at the screen sees, not the container.

use crate::desktop::programs::Programs;
use crate::error::{Error, Result};
use crate::handed;
use crate::logging::shown;
use crate::paths;
use crate::process::directory;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The largest file that is handed over: it is copied to memory.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Longer ones are no address of anything.
const MAX_URI_BYTES: usize = 32 * 1024;

/// Ends of names of files that run when they are opened. Running is not opening: it is `host_exec`.
const PROGRAMS: &[&str] = &["desktop", "exe", "msi", "bat", "cmd", "com", "scr", "lnk", "vbs", "ps1", "jar", "jnlp", "appimage", "run", "flatpakref"];

/// What is to be opened.
pub enum Target {
    Uri(Vec<u8>),
    /// A path as the container has it, and what lies there.
    File(Vec<u8>, File),
}

/// Whether two are one.
pub fn same_file(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The scheme of a URI (RFC 3986, 3.1), if it is one.
pub fn scheme(text: &[u8]) -> Option<&[u8]> {
    let scheme = &text[..text.iter().position(|b| *b == b':')?];
    let rest = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    (scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(rest)).then_some(scheme)
}

/// Whether a URI may be opened; `schemes` has commas between.
pub fn check_uri(uri: &[u8], schemes: &str) -> Result<()> {
    let wrong = |what: &str| Err(Error::new(format!("'{}' is not opened: {what}", shown(&uri[..uri.len().min(200)]))));
    let Some(scheme) = scheme(uri) else { return wrong("it is no URI") };
    // `file:` too: what file is meant is said by a descriptor, never by a name.
    if !schemes.split(',').any(|allowed| scheme.eq_ignore_ascii_case(allowed.as_bytes())) || scheme.eq_ignore_ascii_case(b"file") {
        return wrong(&format!("the host's policy does not allow '{}:' (allowed: {schemes})", shown(scheme)));
    }
    if uri.len() > MAX_URI_BYTES {
        return wrong(&format!("it is longer than {MAX_URI_BYTES} bytes"));
    }
    // Not in any URI (RFC 3986), and once read as more than text by those who pass URIs on.
    if uri.iter().any(|b| b.is_ascii_control() || b" \"<>\\`".contains(b)) {
        return wrong("it has a blank, a quote or a control character in it; percent-encode it (%20, %22)");
    }
    // Mail programs have taken files along by this, however it was written.
    let plain = decoded(uri);
    if scheme.eq_ignore_ascii_case(b"mailto") && plain.split(|b| matches!(b, b'?' | b'&' | b';')).skip(1).any(|field| field.trim_ascii_start().starts_with(b"attach")) {
        return wrong("a mail's attachment is not chosen by its address");
    }
    Ok(())
}

/// Without percent-encoding, in small letters.
fn decoded(uri: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(uri.len()), uri);
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%').and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        out.push(digits.unwrap_or(first).to_ascii_lowercase());
        rest = if digits.is_some() { &after[2..] } else { after };
    }
    out
}

/// Opens it; returns only where that failed.
pub fn open(target: Target, schemes: &str, programs: &mut Programs<'_>, handed: &Path) -> Result<()> {
    let what = match target {
        Target::Uri(mut uri) => {
            check_uri(&uri, schemes)?;
            // The same by RFC 3986, and what handlers are registered for.
            let length = scheme(&uri).map_or(0, <[u8]>::len);
            uri[..length].make_ascii_lowercase();
            uri
        }
        Target::File(path, file) => place(&path, file, handed)?.into_os_string().into_encoded_bytes(),
    };
    let program = programs.need("xdg-open", "xdg-utils")?;
    programs.know_display();
    Err(programs.become_one(&program, &[what]))
}

/// The path under which the host has what the descriptor leads to.
fn place(path: &[u8], file: File, handed: &Path) -> Result<PathBuf> {
    let wrong = |what: &str| Err(Error::new(format!("{} is not opened: {what}", shown(path))));
    let runs = "such a file runs when it is opened; to run something on the host there is host-exec";
    let base = path.rsplit(|b| *b == b'/').next().unwrap_or(b"");
    if is_program(base) {
        return wrong(runs);
    }
    let Some(here) = directory::translate(path, paths::HOST_ROOT).map(|p| PathBuf::from(OsStr::from_bytes(p))) else { return wrong("its path is not absolute") };
    match file.metadata() {
        Ok(about) if about.is_file() || about.is_dir() => match fs::canonicalize(&here) {
            // Under a harmless name, and some programs look behind links.
            Ok(real) if real.file_name().is_some_and(|name| is_program(name.as_bytes())) => wrong(runs),
            // Its real name, since that was judged, and looked at last.
            Ok(real) if same_file(&real, &file) => Ok(real),
            _ if about.is_file() => handed::keep(handed, file, base, MAX_FILE_BYTES),
            _ => wrong("the host does not have this directory"),
        },
        _ => wrong("it is neither a file nor a directory"),
    }
}

fn is_program(name: &[u8]) -> bool {
    let end = name.iter().rposition(|b| *b == b'.').map_or(&b""[..], |at| &name[at + 1..]);
    PROGRAMS.iter().any(|program| end.eq_ignore_ascii_case(program.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: &str = "http,https,mailto,tel";

    #[test]
    fn schemes_are_allowed_by_a_list_whatever_their_case() {
        for uri in ["http://a/b?c=d&e#f", "HTTPS://a", "mailto:a@b?subject=x%20attach%2", "tel:+49-1", "https://a/\u{fc}"] {
            assert_eq!(check_uri(uri.as_bytes(), SCHEMES), Ok(()), "{uri}");
        }
        for uri in ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://a", "javascript:x", "ssh://a", "ms-office:x", "httpx://a", "data:text/html,x", ""] {
            assert!(check_uri(uri.as_bytes(), SCHEMES).is_err(), "{uri}");
        }
        assert!(check_uri(b"file:///x", "file,http").is_err(), "not even if the policy says so");
        assert_eq!(check_uri(b"vscode://x", "http,vscode"), Ok(()));
    }

    #[test]
    fn what_is_no_part_of_a_uri_is_refused() {
        for uri in [
            "http://a b",
            "http://a\nb",
            "http://a\u{7f}",
            "http://a/\"x",
            "http://a/`x`",
            "http://a/\\x",
            "mailto:a@b?attach=/etc/passwd",
            "MAILTO:a?x=y&Attachment=/x",
            "mailto:a?%61ttach=/x",
            "mailto:a%3F%41TTACH=/x",
            "mailto:a?x=y&amp;attach=/x",
            "-x",
            "--help",
            "/etc/passwd",
            "//a",
        ] {
            assert!(check_uri(uri.as_bytes(), SCHEMES).is_err(), "{uri:?}");
        }
        assert!(check_uri(&[b"http://".to_vec(), vec![b'a'; MAX_URI_BYTES]].concat(), SCHEMES).is_err());
    }

    #[test]
    fn a_file_that_runs_is_not_opened() {
        for name in ["/tmp/x.desktop", "/tmp/x.EXE", "/tmp/a.b.jar", "/tmp/.desktop"] {
            let refused = place(name.as_bytes(), File::open("/dev/null").unwrap(), Path::new("/nowhere")).unwrap_err();
            assert!(refused.text.contains("host-exec"), "{}", refused.text);
        }
        let directory = std::env::temp_dir().join(format!("bkt-open-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (real, link) = (directory.join("x.desktop"), directory.join("x.txt"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let refused = place(link.as_os_str().as_bytes(), File::open(&link).unwrap(), Path::new("/nowhere")).unwrap_err();
        assert!(refused.text.contains("host-exec"), "{}", refused.text);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_same_file_is_opened_by_the_hosts_path_and_a_device_not_at_all() {
        let place = |path: &str, file: &str| place(path.as_bytes(), File::open(file).unwrap(), Path::new("/nowhere"));
        assert_eq!(place("/etc/passwd", "/etc/passwd").unwrap(), Path::new("/etc/passwd"));
        assert_eq!(place("/run/host/etc/passwd", "/etc/passwd").unwrap(), Path::new("/etc/passwd"));
        assert_eq!(place("/etc", "/etc").unwrap(), Path::new("/etc"));
        assert!(place("/etc", "/tmp").unwrap_err().text.contains("directory"));
        assert!(place("/etc/passwd", "/dev/null").is_err() && place("relative", "/etc/passwd").is_err());
    }
}
