//! What can be wrong with a set-up: facts in, a finding out, without I/O.
//!
//! May import: floors 0 and 1. The commands themselves call these before they act, and `bkt doctor` calls them all: so it finds
//! what they would stumble over. A finding says what, why it matters, and the command that mends it.

pub mod daemon;
pub mod environment;
pub mod files;
pub mod links;
pub mod search;
pub mod unit;

use std::path::{Path, PathBuf};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// It works, and will surprise somebody.
    Warning,
    /// Something does not work.
    Broken,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::Warning => "warning",
            Level::Broken => "broken",
        }
    }
}

/// What mends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mend {
    /// For a person to run: it takes something away, or ends something, or only they know.
    ByHand(String),
    /// Safe to do unasked: the modes of a file of ours.
    Modes(PathBuf, u32),
    /// Safe: a link of ours is to lead to this executable.
    Link { link: PathBuf, to: PathBuf },
    /// Safe: a program and its arguments.
    Run(&'static [&'static str]),
}

impl Mend {
    /// The exact command, for a shell.
    pub fn command(&self) -> String {
        match self {
            Mend::ByHand(command) => command.clone(),
            Mend::Modes(path, mode) => format!("chmod {mode:o} {}", quoted(path)),
            Mend::Link { link, to } => format!("ln -sfn {} {}", quoted(to), quoted(link)),
            Mend::Run(words) => words.join(" "),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub level: Level,
    pub what: String,
    pub why: &'static str,
    pub mend: Mend,
}

impl Finding {
    pub fn warning(what: String, why: &'static str, mend: Mend) -> Finding {
        Finding { level: Level::Warning, what, why, mend }
    }

    pub fn broken(what: String, why: &'static str, mend: Mend) -> Finding {
        Finding { level: Level::Broken, what, why, mend }
    }

    /// All of it in one sentence: what a command says that cannot go on because of it.
    pub fn sentence(&self) -> String {
        format!("{}: {}; mend it with: {}", self.what, self.why, self.mend.command())
    }
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%~".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { String::from_utf8_lossy(&crate::quoted::quoted(text.as_bytes())).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mending_command_survives_the_shell() {
        let mend = |path: &str| Mend::Modes(path.into(), 0o700).command();
        assert_eq!(mend("/run/user/1/bkt"), "chmod 700 /run/user/1/bkt");
        assert_eq!(mend("/a b/it's"), r"chmod 700 '/a b/it'\''s'");
        let link = Mend::Link { link: "/a/$b".into(), to: "/c".into() };
        assert_eq!(link.command(), "ln -sfn /c '/a/$b'");
    }
}
