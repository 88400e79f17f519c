//! The steps of an installation, and how each is done.

use crate::checks::unit::UNIT;
use crate::document;
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::process::{environment, tool};
use crate::service::facts;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Write {
        path: PathBuf,
        text: String,
    },
    /// Renames a file that is not ours.
    KeepAside {
        path: PathBuf,
        as_: PathBuf,
    },
    /// Removes a file of ours, and so many of the directories around it, where nothing else is in them.
    Remove {
        path: PathBuf,
        directories: usize,
    },
    Systemctl(&'static [&'static str]),
    /// Stops the unit.
    Stop,
    /// Starts a daemon that nobody supervises.
    Start,
    /// Asks the daemon whether it is the unit's; done by whoever can talk to it.
    Verify,
    Say(String),
}

impl Step {
    /// One line for a person.
    pub fn describe(&self) -> String {
        match self {
            Step::Write { path, .. } => format!("write {}", path.display()),
            Step::KeepAside { path, as_ } => format!("keep {} as {}", path.display(), as_.display()),
            Step::Remove { path, .. } => format!("remove {}", path.display()),
            Step::Systemctl(args) => format!("systemctl --user {}", args.join(" ")),
            Step::Stop => format!("systemctl --user stop {UNIT}"),
            Step::Start => "start the daemon".into(),
            Step::Verify => "ask the daemon".into(),
            Step::Say(text) => text.clone(),
        }
    }
}

/// Does one step.
pub fn perform(step: &Step, bkt: &Path, invocation: &Invocation) -> Result<()> {
    match step {
        Step::Write { path, text } => document::write(path, text),
        Step::KeepAside { as_, .. } if as_.exists() => Err(Error::new(format!("{} is in the way: what is replaced would be kept there; move it away", as_.display()))),
        Step::KeepAside { path, as_ } => fs::rename(path, as_).map_err(|e| Error::io(format!("rename {} to {}", path.display(), as_.display()), &e)),
        Step::Remove { path, directories } => {
            fs::remove_file(path).map_err(|e| Error::io(format!("remove {}", path.display()), &e))?;
            // From the inside out, until one is in use.
            let _ = path.ancestors().skip(1).take(*directories).try_for_each(fs::remove_dir);
            Ok(())
        }
        Step::Systemctl(args) => facts::systemctl(invocation, args).map(drop).map_err(|e| Error::new(format!("{}; see 'journalctl --user -u bkt-hostd'", e.text))),
        Step::Stop => {
            // As a command of the daemon that is stopped, we would wait for our own end.
            let of_the_daemon = invocation.var(environment::DEPTH).is_some();
            let args: &[&str] = if of_the_daemon { &["stop", "--no-block", UNIT] } else { &["stop", UNIT] };
            facts::systemctl(invocation, args).map(drop)
        }
        Step::Start => start(bkt, invocation),
        Step::Verify | Step::Say(_) => Ok(()),
    }
}

/// A daemon of its own session, which writes its log to the usual file.
fn start(bkt: &Path, invocation: &Invocation) -> Result<()> {
    tool::leave(invocation, &[bkt.as_os_str().as_bytes(), b"bkt-hostd", b"-v", b"--log-file"]).map_err(|e| Error::io(format!("start {}", bkt.display()), &e))
}
