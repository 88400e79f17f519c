//! A typed refusal: why a request is not done, as a code for programs and a sentence for people.

use crate::exit;
use std::ops::Deref;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal, $exit:expr;)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code { $($(#[$doc])* $name = $number,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The name in logs, documents and JSON.
            pub fn word(self) -> &'static str {
                match self { $(Code::$name => $word,)* }
            }

            /// The exit code that the client ends with.
            pub fn exit(self) -> u8 {
                match self { $(Code::$name => $exit,)* }
            }

            /// From the wire; a number from a newer peer is an internal failure to us.
            pub fn from_number(number: u8) -> Code {
                match number { $($number => Code::$name,)* _ => Code::Internal }
            }
        }
    };
}

codes! {
    /// The peer speaks another version of the protocol.
    BadVersion = 1, "bad_version", exit::FAILED;
    /// No such kind of request here.
    UnknownMethod = 2, "unknown_method", exit::FAILED;
    /// The frame or its body is not what its kind says.
    BadFrame = 3, "bad_frame", exit::FAILED;
    /// The descriptors are not those that were announced.
    BadDescriptors = 4, "bad_descriptors", exit::FAILED;
    /// The request makes no sense: no command, a bad number.
    BadRequest = 5, "bad_request", exit::FAILED;
    /// The listener's policy does not allow it.
    Denied = 6, "denied", exit::FAILED;
    /// A limit is reached: try again later.
    Busy = 7, "busy", exit::FAILED;
    NotFound = 8, "not_found", exit::NOT_FOUND;
    NotExecutable = 9, "not_executable", exit::CANNOT_EXECUTE;
    /// The directory asked for cannot be entered.
    BadDirectory = 10, "bad_directory", exit::FAILED;
    /// Caller and server have the same root directory: the caller runs the command itself.
    SameSide = 11, "same_side", exit::FAILED;
    /// Shims that call shims that call shims.
    TooDeep = 12, "too_deep", exit::FAILED;
    /// The daemon is ending.
    ShuttingDown = 13, "shutting_down", exit::FAILED;
    /// The request did not arrive whole in time.
    TooSlow = 14, "too_slow", exit::FAILED;
    Internal = 15, "internal", exit::FAILED;
    /// The container has no guest daemon: nobody has taken the request.
    NoGuest = 20, "no_guest", exit::FAILED;
    /// The container has another guest daemon, which answers.
    Taken = 21, "taken", exit::FAILED;
    /// No refusal, but remembered among them: the kernel has killed the command because memory was short.
    OutOfMemory = 22, "out_of_memory", exit::FAILED;
}

/// A refusal before it is put on the wire. One pointer, as [`Error`](crate::error::Error) is, and for the same reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal(Box<Reason>);

/// What a [`Refusal`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    pub code: Code,
    pub text: String,
}

/// A refusal is a sentence: a command whose name is a megabyte, told in it, would be four of them in the log.
const MAX_REFUSAL_BYTES: usize = 4096;

impl Refusal {
    pub fn new(code: Code, text: impl Into<String>) -> Refusal {
        Refusal::of(Reason { code, text: text.into() })
    }

    #[cold]
    #[inline(never)]
    fn of(mut reason: Reason) -> Refusal {
        if reason.text.len() > MAX_REFUSAL_BYTES {
            let end = (0..=MAX_REFUSAL_BYTES).rev().find(|at| reason.text.is_char_boundary(*at)).unwrap_or(0);
            reason.text.replace_range(end.., "…");
        }
        Refusal(Box::new(reason))
    }

    /// The sentence alone.
    pub fn into_text(self) -> String {
        self.0.text
    }
}

impl Deref for Refusal {
    type Target = Reason;

    fn deref(&self) -> &Reason {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_and_a_word_of_its_own() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(*code as u8), *code);
            assert_eq!(Code::ALL.iter().filter(|c| c.word() == code.word()).count(), 1);
        }
        assert_eq!(Code::from_number(200), Code::Internal);
    }
}
