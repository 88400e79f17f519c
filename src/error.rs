//! An error: a sentence that says what failed, where, and what to try, with the exit code it stands for.
//!
//! Made where the thing failed, handed up, printed once at the top.

use crate::exit;
use std::fmt;

/// A failure of ours, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One sentence, without a final full stop and without the operation id, which the printer adds.
    pub text: String,
    /// The exit code, see [`exit`].
    pub code: u8,
    /// One word for programs: that of the daemon's refusal, else `failed`.
    pub word: &'static str,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of bkt itself: exit code 125.
    pub fn new(text: impl Into<String>) -> Error {
        Error::with_code(text, exit::FAILED)
    }

    /// The same with another code.
    pub fn with_code(text: impl Into<String>, code: u8) -> Error {
        Error { text: text.into(), code, word: "failed" }
    }

    /// What was being done, and what the system said.
    pub fn io(doing: impl fmt::Display, cause: &std::io::Error) -> Error {
        Error::new(format!("{doing}: {}", reason(cause)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// The system's words for an error, without the "(os error 2)" that std appends.
pub fn reason(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}
