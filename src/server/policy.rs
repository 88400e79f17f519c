//! The policy in force: read at the start and at each reload, never while commands are asked for.
//!
//! A daemon with a policy that it cannot read does not start: to allow everything would be worse. A reload that finds such a one
//! keeps the policy that was in force, which is why its text goes from image to image.

use crate::document;
use crate::error::{Error, Result};
use crate::logging::shown;
use crate::paths;
use crate::policy::rules::{Asked, Judgement, Listener, Policy, Users};
use crate::process::{directory, environment, program};
use crate::proto::capability::Capability;
use crate::proto::message::{Code, Refusal, Run};
use crate::server::plan::{self, Bounds, Context};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// So many rules are named in a refusal: it is one sentence.
const MAX_NAMED: usize = 12;

pub struct InForce {
    policy: Policy,
    path: Option<PathBuf>,
    /// What the policy was read from; `None` where there was no file.
    text: Option<String>,
    /// Why the file of now is not what is in force.
    error: String,
}

impl InForce {
    /// For a new daemon.
    pub fn start(path: Option<PathBuf>) -> Result<InForce> {
        let (policy, text) = read(path.as_deref())
            .map_err(|e| Error::new(format!("{}; nothing is served without a policy that can be read: mend it ('bkt schema policy'), or move it away", e.text)))?;
        Ok(InForce { policy, path, text, error: String::new() })
    }

    /// For the next image of a daemon, with what was in force before.
    pub fn resume(path: Option<PathBuf>, before: Option<String>) -> InForce {
        match read(path.as_deref()) {
            Ok((policy, text)) => InForce { policy, path, text, error: String::new() },
            Err(error) => {
                let policy = match &before {
                    None => Policy::everything(),
                    // An image of another release may not know its words: then it allows nothing.
                    Some(text) => document::parse(text).unwrap_or_else(|_| Policy::nothing()),
                };
                log::error!("{}; the policy stays as it was", error.text);
                InForce { policy, path, text: before, error: error.into_text() }
            }
        }
    }

    /// For the next image.
    pub fn text(&self) -> Option<&String> {
        self.text.as_ref()
    }

    /// The file, if it narrows anything, and why what it says now is not in force.
    pub fn told(&self) -> (&[u8], &str) {
        let path = self.path.as_deref().filter(|_| self.text.is_some()).map_or(&b""[..], |p| p.as_os_str().as_bytes());
        (path, &self.error)
    }

    /// What is granted to the callers of one listener: the user's own, or a container's.
    pub fn of<'a>(&'a self, container: Option<&'a str>) -> Granted<'a> {
        Granted { listener: self.policy.listener(container), path: self.path.as_deref(), container }
    }

    /// Containers that have a socket of their own.
    pub fn containers(&self) -> impl Iterator<Item = (&str, Users)> {
        self.policy.containers()
    }
}

/// What the policy says of one listener.
#[derive(Clone, Copy)]
pub struct Granted<'a> {
    listener: &'a Listener,
    path: Option<&'a Path>,
    container: Option<&'a str>,
}

impl Granted<'_> {
    /// Splits what a client wants into accepted and rejected; what nobody knows is rejected, never an error.
    pub fn judge<'w>(&self, wanted: &[&'w str]) -> (Vec<&'w str>, Vec<&'w str>) {
        wanted.iter().partition(|word| Capability::from_word(word).is_some_and(|capability| self.grants(capability)))
    }

    fn grants(&self, capability: Capability) -> bool {
        match capability {
            Capability::HostExec => !self.listener.allows_no_command(),
            Capability::Notify => self.listener.allows_notify(),
            Capability::XdgOpen => self.listener.allows_open(),
            Capability::Clipboard => self.listener.allows_clipboard(),
        }
    }

    /// The capability that a run uses, if it is granted; asked on every request, whatever a hello was told.
    pub fn allow(&self, run: &Run<'_>, context: &Context) -> Result<Capability, Refusal> {
        match Capability::from_number(run.capability) {
            Some(Capability::HostExec) if self.grants(Capability::HostExec) => self.allow_run(run, context).map(|()| Capability::HostExec),
            Some(Capability::HostExec) => Err(self.not_granted(&shown(plan::name(run)), ": it is a command, and host_exec is not granted")),
            Some(capability) if self.grants(capability) => Ok(capability),
            Some(capability) => Err(self.not_granted(capability.word(), "")),
            None => Err(Refusal::new(Code::Denied, format!("this daemon knows no capability of number {}: install the same bkt on both sides", run.capability))),
        }
    }

    fn not_granted(&self, what: &str, why: &str) -> Refusal {
        let (place, granted) = (self.place(), self.granted());
        Refusal::new(Code::Denied, format!("{what} is denied by the host's policy {place}{why} (granted: {granted}); the host's user can allow it there"))
    }

    fn granted(&self) -> String {
        let granted: Vec<&str> = Capability::ALL.iter().filter(|c| self.grants(**c)).map(|c| c.word()).collect();
        if granted.is_empty() { "nothing".to_string() } else { granted.join(", ") }
    }

    /// Whether the daemon itself may be asked or told something: never by a container's own socket. What others run, and whether
    /// the daemon goes on, is not that container's affair.
    pub fn allow_question(&self, what: &str) -> Result<(), Refusal> {
        let Some(name) = self.container else { return Ok(()) };
        let text =
            format!("{what}: that is for the host's user; this socket is the container {name}'s own and serves what the host's policy grants it (granted: {})", self.granted());
        Err(Refusal::new(Code::Denied, text))
    }

    /// Whether callers may do what only the host's own processes may where commands are restricted: end or reload the daemon, and
    /// enter containers. What is run there is not seen here; another container would have a way round by it. `hosts` says whether
    /// the caller is one.
    pub fn allow_own(&self, what: &str, hosts: impl FnOnce() -> bool) -> Result<(), Refusal> {
        if self.listener.allows_every_command() || hosts() {
            return Ok(());
        }
        let text = format!("containers may not {what} where the host's policy {} restricts commands; the host's user can do it there", self.place());
        Err(Refusal::new(Code::Denied, text))
    }

    /// Whether callers may enter a container. One with a socket of its own needs the right by name.
    pub fn allow_enter(&self, target: &[u8], hosts: impl FnOnce() -> bool) -> Result<(), Refusal> {
        if self.container.is_none() {
            return self.allow_own("enter each other", hosts);
        }
        let denied =
            || Refusal::new(Code::Denied, format!("entering {} is denied by the host's policy {}; the host's user can allow it there ('enter')", shown(target), self.place()));
        self.listener.enters(target).then_some(()).ok_or_else(denied)
    }

    /// How a run that is allowed is to be done.
    pub fn bounds(&self, capability: u8) -> Bounds {
        if capability == Capability::HostExec as u8 {
            return Bounds { narrow: self.listener.denies_by_default(), ..Bounds::default() };
        }
        Bounds { schemes: self.listener.schemes(), narrow: true, share: self.container.map_or_else(String::new, |name| format!(".{name}")) }
    }

    /// Where the user finds the words.
    fn place(&self) -> String {
        let path = self.path.unwrap_or(Path::new("")).display();
        self.container.map_or_else(|| path.to_string(), |name| format!("{path} for the container {name}"))
    }

    /// Whether a command may be run.
    fn allow_run(&self, run: &Run<'_>, context: &Context) -> Result<(), Refusal> {
        if self.listener.allows_every_command() {
            return Ok(());
        }
        let name = plan::name(run);
        let arguments: Vec<&[u8]> = environment::strings(run.args.0).skip(1).collect();
        let found = find(name, context);
        let directory = directory::translate(run.directory.0, paths::HOST_ROOT).unwrap_or(b"/");
        let real = || {
            let asked_for = if name.contains(&b'/') { Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name)) } else { found.clone() };
            asked_for.canonicalize().unwrap_or_default().into_os_string().into_vec()
        };
        let asked = Asked { name, arguments: &arguments, found: found.as_os_str().as_bytes(), real: b"" };
        let why = match self.listener.judge_unseen(asked, real) {
            Judgement::Allowed => return self.allow_environment(run),
            Judgement::Denied(Some(rule)) => format!("its rule '{rule}' denies it"),
            Judgement::Denied(None) => "no rule allows it with these arguments".to_string(),
        };
        Err(self.denied(&format!("{} is denied", shown(name)), &why))
    }

    /// Where commands are denied by default, no variable may turn an allowed one into another: `LD_PRELOAD` would, and `BASH_ENV`.
    fn allow_environment(&self, run: &Run<'_>) -> Result<(), Refusal> {
        match environment::strings(run.set_env.0).find(|entry| !environment::is_harmless(entry)) {
            Some(entry) if self.listener.denies_by_default() => {
                let name = entry.split(|b| *b == b'=').next().unwrap_or(entry);
                Err(self.denied(&format!("the variable {} is denied", shown(name)), "it could change what an allowed command does; TERM, LANG, LC_* and the like can be set"))
            }
            _ => Ok(()),
        }
    }

    fn denied(&self, what: &str, why: &str) -> Refusal {
        let mut allowed: Vec<String> = self.listener.allowed().map(|words| format!("'{words}'")).take(MAX_NAMED + 1).collect();
        if allowed.len() > MAX_NAMED {
            allowed[MAX_NAMED] = "others".to_string();
        }
        let allowed = match (allowed.is_empty(), self.listener.denies_by_default()) {
            (_, false) => "everything else is allowed".to_string(),
            (true, true) => "nothing is allowed".to_string(),
            (false, true) => format!("allowed are {}", allowed.join(", ")),
        };
        Refusal::new(Code::Denied, format!("{what} by the host's policy {}: {why}; {allowed}", self.place()))
    }
}

fn read(path: Option<&Path>) -> Result<(Policy, Option<String>)> {
    let Some(path) = path else { return Ok((Policy::everything(), None)) };
    match document::read_text(path)? {
        None => Ok((Policy::everything(), None)),
        Some(text) => Ok((document::parse_file(path, &text)?, Some(text))),
    }
}

/// The file that a search for the name's last component finds, as the launch will find it; empty where there is none.
fn find(name: &[u8], context: &Context) -> PathBuf {
    let base = name.rsplit(|b| *b == b'/').next().unwrap_or(b"");
    if context.own_names.iter().any(|own| own.as_bytes() == base) {
        return PathBuf::from(OsStr::from_bytes(context.own_executable.to_bytes()));
    }
    let all = program::candidates(base, &context.path, &context.shim_directories).paths.into_iter();
    all.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes()))).find(|path| program::is_executable(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_socket_has_everything_there_is_and_less_where_no_command_is_allowed() {
        let mut policy = InForce::resume(None, None);
        assert_eq!(policy.of(None).judge(&["host_exec", "teleport", "clipboard"]), (vec!["host_exec", "clipboard"], vec!["teleport"]));
        assert!(policy.of(None).allow_question("stop").is_ok());
        let sandbox = policy.of(Some("dev"));
        assert_eq!(sandbox.judge(&["host_exec", "notify"]), (vec![], vec!["host_exec", "notify"]));
        assert!(sandbox.allow_question("stop").is_err_and(|r| r.code == Code::Denied && r.text.contains("dev's own")));
        assert!(sandbox.allow_enter(b"web", || true).is_err());
        policy.policy = Policy::nothing();
        assert_eq!(policy.of(None).judge(&["host_exec", "notify"]), (vec![], vec!["host_exec", "notify"]));
    }
}
