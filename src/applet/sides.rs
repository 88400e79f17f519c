//! What `status` and `doctor` share: each looks at the side it is started on and, in a container, asks the host's bkt for the rest.

use crate::applet::{Call, RELEASE, output};
use crate::client::ask::{self, Found};
use crate::client::local;
use crate::container::{self, Side};
use crate::doctor::examine::{Daemon, Patient, Running};
use crate::doctor::look::Environment;
use crate::error::{Error, Result};
use crate::shims::place;
use crate::sys::process;
use crate::{paths, shims};
use serde::de::IgnoredAny;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs this same command line on the host, with further arguments: the other half.
pub type OtherSide<'a> = Option<&'a dyn Fn(Vec<OsString>) -> Result<crate::exit::End>>;

/// Where we are, in a sentence.
pub fn on(side: Side) -> &'static str {
    match side {
        Side::Host => "on the host",
        Side::Container => "in the container",
    }
}

/// What asking the daemon came to, and what that says of the side we are on: the daemon knows its own root directory.
pub struct Place {
    pub sockets: Vec<PathBuf>,
    pub shims: Vec<PathBuf>,
    /// Where links of ours lead.
    pub executable: PathBuf,
    pub found: Result<Found>,
    pub side: Side,
}

impl Place {
    pub fn look(call: &Call) -> Place {
        let sockets = call.sockets();
        let found = ask::status(&sockets, call.op);
        let side = match &found {
            Ok(Found::Running(status)) if status.same_side => Side::Host,
            Ok(Found::Running(_) | Found::Reserved(_)) => Side::Container,
            _ => container::side(&call.invocation),
        };
        let bin = paths::home(&call.invocation).unwrap_or_default().join(".local/bin");
        let executable = place::own_path(&bin, &call.invocation).unwrap_or_default();
        Place { sockets, shims: paths::shim_directories(&call.invocation), executable, found, side }
    }

    /// Whether the other side can be asked for its half. A container with a socket of its own is told nothing there.
    pub fn has_other_side(&self) -> bool {
        !matches!(self.found, Ok(Found::Reserved(_)))
    }

    pub fn patient<'a>(&'a self, call: &'a Call) -> Patient<'a> {
        let daemon = match &self.found {
            Ok(Found::Running(status)) => Daemon::Running(Running {
                release: status.release.clone(),
                pid: status.pid,
                descriptors: u64::from(status.descriptors),
                descriptor_limit: status.descriptor_limit,
                supervised: status.supervised,
                cgroups: status.cgroups,
                policy_stamp: status.policy_stamp,
                session: Environment(status.session.clone()),
            }),
            Ok(Found::Reserved(words)) => Daemon::Reserved(words.clone()),
            Ok(Found::Stale(path)) => Daemon::Stale(path.clone()),
            Ok(Found::Nothing(path)) => Daemon::Nothing(path.clone()),
            Err(error) => Daemon::Wrong(error.text.clone()),
        };
        Patient {
            invocation: &call.invocation,
            user: process::user(),
            release: RELEASE,
            on_host: self.side == Side::Host,
            sockets: &self.sockets,
            executable: self.executable.clone(),
            daemon,
            shims: &self.shims,
            known: shims::shipped().collect(),
            bridges: local::bridges().collect(),
            bridges_wrong: local::fallback_for(b"", &call.invocation).err().map(|e| e.into_text()),
        }
    }
}

/// One document for both sides; what the other side hands over is checked, and goes in as it is.
pub fn print_json(host: Option<&str>, container: Option<&str>) -> Result<()> {
    let [host, container] = [host, container].map(|text| text.unwrap_or("null").trim_end());
    for text in [host, container] {
        serde_json::from_str::<IgnoredAny>(text).map_err(|e| Error::new(format!("what the other side says cannot be read: {e}")))?;
    }
    output::print(&format!("{{\n\"host\": {host},\n\"container\": {container}\n}}\n"));
    Ok(())
}
