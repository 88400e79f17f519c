//! An error: a sentence that says what failed, where, and what to try, with the exit code it stands for.
//!
//! Made where the thing failed, handed up, printed once at the top.

use crate::exit;
use std::fmt;
use std::ops::Deref;

/// A failure of ours, ready to be printed. One pointer: a result is then as large as what is returned when all goes well, and
/// handing it up is a move of a register (38 KB of code were moves of sentences that are hardly ever made).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Failure>);

/// What an [`Error`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
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
        Failure { text: text.into(), code: exit::FAILED, word: "failed" }.into()
    }

    /// The same with another code.
    pub fn with_code(text: impl Into<String>, code: u8) -> Error {
        Failure { text: text.into(), code, word: "failed" }.into()
    }

    /// What was being done, and what the system said.
    pub fn io(doing: impl fmt::Display, cause: &std::io::Error) -> Error {
        fn said(doing: &dyn fmt::Display, cause: &std::io::Error) -> Error {
            Error::new(format!("{doing}: {}", reason(cause)))
        }
        said(&doing, cause)
    }

    /// The sentence alone.
    pub fn into_text(self) -> String {
        self.0.text
    }
}

impl From<Failure> for Error {
    #[cold]
    #[inline(never)]
    fn from(failure: Failure) -> Error {
        Error(Box::new(failure))
    }
}

impl Deref for Error {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// A number and what it counts: `1 command`, `2 commands`.
#[inline(never)]
pub fn counted(count: usize, what: &str) -> String {
    [&*count.to_string(), " ", what, if count == 1 { "" } else { "s" }].concat()
}

/// The system's words for an error, without the "(os error 2)" that std appends.
pub fn reason(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "command")), ["0 commands", "1 command", "2 commands"]);
    }
}
