//! Printing, to streams that may be closed, full or gone: that is no reason to crash.

use std::io::{self, Write};

/// A line for a person, on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on standard output. A reader that has gone (`| head`) ends the printing and nothing else.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
