//! Printing, to streams that may be closed, full or gone: that is no reason to crash.

use crate::sys::files;
use std::io::{self, Write};

/// A line for a person, on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on standard output. A reader that has gone (`| head`) ends the printing and nothing else.
pub fn print(text: &str) {
    try_print(text);
}

/// The same, and says whether there is anybody to print for.
pub fn try_print(text: &str) -> bool {
    print_bytes(text.as_bytes())
}

/// The same for what need not be text.
pub fn print_bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// A line to a descriptor that our caller left open for it, by its number.
pub fn tell(number: &[u8], line: &str) {
    if let Some(fd) = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()).and_then(files::inherited) {
        let _ = files::write(fd, line.as_bytes());
    }
}
