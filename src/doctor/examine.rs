//! One side, looked at from end to end: facts are gathered here, judged in `checks`.

use crate::checks::daemon::{self, Answer, Starter};
use crate::checks::unit::{self, UNIT, Unit};
use crate::checks::{Finding, Mend, environment as surroundings, files, links, search};
use crate::doctor::look::{self, Environment};
use crate::invocation::Invocation;
use crate::policy::rules::{Policy, Users};
use crate::process::tool::Errors;
use crate::process::{environment, program, tool};
use crate::proto::message::OF_THE_SESSION;
use crate::sys::launch::REFUGE_MODE;
use crate::sys::socket;
use crate::{document, logging, paths};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How long a service manager may take to answer.
const ASK_MS: u64 = 5_000;

/// What asking the daemon came to.
pub enum Daemon {
    Running(Running),
    Stale(PathBuf),
    Nothing(PathBuf),
    /// It runs, and tells nothing more by a container's own socket.
    Reserved(String),
    /// Somebody is there and does not answer as it should.
    Wrong(String),
}

/// What a daemon says of itself.
pub struct Running {
    pub release: String,
    pub pid: u32,
    pub descriptors: u64,
    pub descriptor_limit: u64,
    pub supervised: bool,
    pub cgroups: bool,
    pub policy_stamp: u64,
    pub session: Environment,
}

/// The side that is looked at.
pub struct Patient<'a> {
    pub invocation: &'a Invocation,
    pub user: u32,
    pub release: &'a str,
    pub on_host: bool,
    pub sockets: &'a [PathBuf],
    /// Where links of ours lead.
    pub executable: PathBuf,
    pub daemon: Daemon,
    pub shims: &'a [PathBuf],
    /// Names that are usually shims.
    pub known: Vec<&'static str>,
    /// Programs that are other bridges, and what is wrong with the variable that rules them.
    pub bridges: Vec<&'static str>,
    pub bridges_wrong: Option<String>,
}

/// What one check came to.
pub struct Checked {
    pub check: &'static str,
    /// What was looked at, for a person to whom it is new.
    pub about: String,
    pub findings: Vec<Finding>,
}

impl Patient<'_> {
    pub fn examine(&self) -> Vec<Checked> {
        let unit = if self.on_host { self.unit() } else { None };
        let starter = match &unit {
            _ if !self.on_host => Starter::Elsewhere,
            Some((enabled, _)) if unit::is_masked(enabled) => Starter::Masked,
            // Tried too often, it is refused a plain start.
            Some((enabled, active)) if enabled == "not-found" || matches!(active.as_str(), "failed" | "activating") => Starter::NoUnit,
            Some(_) => Starter::Unit,
            None => Starter::Hand,
        };
        let mut all = vec![self.check_socket(), self.check_daemon(starter)];
        if self.on_host {
            // Why none runs has been said then.
            if starter != Starter::Masked || self.running().is_some() {
                all.push(self.check_unit(unit.as_ref()));
            }
            all.extend([self.check_environment(starter), self.check_host_path(), self.check_links(&self.shim_directory()), self.check_recursion(), self.check_policy()]);
        } else {
            let shims = self.containers_shims();
            all.extend([self.check_container_path(&shims), self.check_links(&shims), self.check_bridges()]);
        }
        all.push(self.check_machine());
        all
    }

    /// The shims of this side alone.
    pub fn shims(&self) -> Checked {
        self.check_links(&if self.on_host { self.shim_directory() } else { self.containers_shims() })
    }

    fn running(&self) -> Option<&Running> {
        match &self.daemon {
            Daemon::Running(running) => Some(running),
            _ => None,
        }
    }

    /// The socket of which to speak: one that exists, else the first.
    fn socket(&self) -> PathBuf {
        let there = self.sockets.iter().find(|path| fs::symlink_metadata(path).is_ok());
        there.or(self.sockets.first()).cloned().unwrap_or_default()
    }

    fn check_socket(&self) -> Checked {
        let (path, mut findings) = (self.socket(), Vec::new());
        if let Daemon::Reserved(_) = self.daemon {
            // It answers, and its modes are the host's affair: in here, their owner may have another number.
            return Checked { check: "socket", about: format!("{}, this container's own", path.display()), findings };
        }
        if let Some(owner) = self.stranger() {
            findings.push(files::anothers(&path, owner, self.user));
            return Checked { check: "socket", about: String::new(), findings };
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        if let Ok(about) = fs::metadata(directory) {
            findings.extend(files::directory(directory, &about, paths::is_socket_directory(directory), self.user));
        } else if !self.on_host {
            let runtime = directory.parent().unwrap_or(directory);
            findings.extend(daemon::visible(runtime, runtime.is_dir()));
        }
        if let Ok(about) = fs::symlink_metadata(&path) {
            findings.extend(files::socket(&path, &about, self.user));
        }
        let refuge = paths::refuge(&path);
        if let Ok(about) = fs::symlink_metadata(&refuge) {
            findings.extend(files::refuge(&refuge, &about, REFUGE_MODE));
        }
        Checked { check: "socket", about: path.display().to_string(), findings }
    }

    /// In a container, whose socket it is where it is not ours; where that is not to be seen, whose directory keeps us from it.
    fn stranger(&self) -> Option<u32> {
        if self.on_host || matches!(self.daemon, Daemon::Running(_) | Daemon::Reserved(_)) {
            return None;
        }
        let socket = self.socket();
        let known = socket.ancestors().map(fs::metadata).find(|about| !about.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied))?;
        known.ok().map(|about| about.uid()).filter(|owner| *owner != self.user)
    }

    fn check_daemon(&self, starter: Starter) -> Checked {
        let mut findings = Vec::new();
        if self.stranger().is_some() {
            return Checked { check: "daemon", about: "another user's".to_string(), findings };
        }
        let (path, answer) = match &self.daemon {
            Daemon::Running(_) | Daemon::Reserved(_) => (self.socket(), Answer::Running),
            Daemon::Stale(path) => (path.clone(), Answer::Stale),
            Daemon::Nothing(path) => (path.clone(), Answer::Nothing),
            Daemon::Wrong(words) => {
                let path = self.socket();
                let pid = socket::connect(&path).and_then(|s| socket::peer(s.as_fd())).map_or(0, |peer| peer.pid);
                (path, Answer::Wrong(words, pid))
            }
        };
        findings.extend(daemon::answers(&path, answer, starter));
        let mut about = if let Daemon::Reserved(words) = &self.daemon { words.clone() } else { "none".to_string() };
        if let Some(running) = self.running() {
            about = format!("version {}, pid {}, {} of {} descriptors open", running.release, running.pid, running.descriptors, running.descriptor_limit);
            let mend =
                if self.on_host { Mend::Run(&["bkt", "admin", "daemon", "reload"]) } else { Mend::ByHand("make install   # of the same version, on both sides".to_string()) };
            findings.extend(daemon::release("the daemon", &running.release, self.release, mend));
            findings.extend(daemon::descriptors(running.descriptors, running.descriptor_limit));
            if self.on_host
                && let Ok(executable) = fs::read_link(format!("/proc/{}/exe", running.pid))
            {
                findings.extend(daemon::outdated(&executable));
            }
        }
        Checked { check: "daemon", about, findings }
    }

    /// What `systemctl --user` says of the unit; `None` where no service manager answers.
    fn unit(&self) -> Option<(String, String)> {
        let word = |verb: &[u8]| {
            let (_, said) = tool::ask(self.invocation, self.shims, &[b"systemctl", b"--user", verb, UNIT.as_bytes()], Errors::Nowhere, ASK_MS).ok()?;
            let word = String::from_utf8_lossy(&said).trim().to_string();
            (!word.is_empty()).then_some(word)
        };
        match (word(b"is-enabled"), word(b"is-active")) {
            (None, None) => None,
            // systemctl before version 252 says nothing of a unit that is not there.
            (enabled, active) => Some((enabled.unwrap_or_else(|| "not-found".to_string()), active.unwrap_or_default())),
        }
    }

    fn check_unit(&self, unit: Option<&(String, String)>) -> Checked {
        let Some((enabled, active)) = unit else {
            return Checked { check: "unit", about: "no user service manager answers here: the daemon is started by hand".to_string(), findings: vec![] };
        };
        let supervised = self.running().is_some_and(|r| r.supervised);
        let findings = unit::judge(Unit { enabled, active, running: self.running().is_some(), supervised });
        let lingers = paths::linger_mark(self.invocation).is_some_and(|mark| mark.exists());
        // Where the unit's cgroup is not delegated to it: an older unit, or a drop-in that says Delegate=no.
        let held = if self.running().is_some_and(|r| r.supervised && !r.cgroups) { "commands have no cgroups of their own; " } else { "" };
        let about =
            format!("{enabled}, {active}; {held}{}", if lingers { "it outlives your logout" } else { "it ends with your last session ('loginctl enable-linger' keeps it)" });
        Checked { check: "unit", about, findings: findings.into_iter().collect() }
    }

    /// Whether this very process was started through the daemon: then its environment is no session's.
    fn came_through(&self) -> bool {
        self.invocation.var(environment::DEPTH).is_some()
    }

    fn check_environment(&self, starter: Starter) -> Checked {
        let mut findings = Vec::new();
        let about = "the daemon's, against the session's".to_string();
        let Some(Running { session: daemons, .. }) = self.running() else {
            return Checked { check: "environment", about: "no daemon to compare with".to_string(), findings };
        };
        let managers =
            tool::ask(self.invocation, self.shims, &[b"systemctl", b"--user", b"show-environment"], Errors::Nowhere, ASK_MS).map(|(_, said)| Environment::of_lines(said)).ok();
        let managers = |name: &str| managers.as_ref().and_then(|m| m.var(name));
        let own = |name: &str| self.invocation.var(name).filter(|_| !self.came_through());
        let differs = |name: &&str| own(name).or_else(|| managers(name)).is_some_and(|value| daemons.var(name) != Some(value));
        let differing: Vec<&str> = OF_THE_SESSION.iter().copied().filter(|name| *name != "PATH" && differs(name)).collect();
        findings.extend(surroundings::fresh(&differing, starter));
        if let Some(sessions) = own("PATH").or_else(|| managers("PATH")) {
            let has: Vec<&Path> = program::directories(daemons.var("PATH").unwrap_or(program::DEFAULT_PATH)).collect();
            // Login shells differ on those: a user has them in one and not in the other.
            let is_for_root = |d: &Path| d.file_name().is_some_and(|name| name == "sbin");
            // All of it is ours, and none of ours is what a daemon runs; interactive shells alone have it.
            let is_of_shims = |d: &Path| self.shims.iter().any(|shims| shims == d) || d.ends_with(".local/bin/distrobox");
            let lacks = |d: &&Path| !has.contains(d) && !is_of_shims(d) && !is_for_root(d) && d.is_dir();
            let mut missing: Vec<String> = program::directories(sessions).filter(lacks).map(|d| d.display().to_string()).collect();
            missing.dedup();
            findings.extend(surroundings::path(&missing, starter));
        }
        Checked { check: "environment", about, findings }
    }

    fn check_host_path(&self) -> Checked {
        let path = look::own_path(self.invocation);
        let mut findings: Vec<Finding> = self.shims.iter().filter_map(|shims| search::on_host(shims, &path)).collect();
        let of_containers = paths::home(self.invocation).map(|home| home.join(".local/bin/distrobox")).filter(|d| !look::names(d).is_empty());
        if let Some(directory) = of_containers.filter(|_| !self.came_through()) {
            findings.extend(search::containers_programs(&directory, &path));
        }
        Checked { check: "path", about: format!("directories: {}", path.len()), findings }
    }

    fn shim_directory(&self) -> PathBuf {
        self.shims.first().cloned().unwrap_or_default()
    }

    /// The directory of PATH in which a container has its shims, else the usual one.
    fn containers_shims(&self) -> PathBuf {
        let has_shims = |d: &PathBuf| self.shims.contains(d) || self.known.iter().any(|name| look::is_link_to_us(&d.join(name)));
        let usual = || self.shims.first().map_or_else(|| PathBuf::from("/usr/local/share/bkt/shims"), Clone::clone);
        look::own_path(self.invocation).into_iter().find(has_shims).unwrap_or_else(usual)
    }

    fn check_container_path(&self, shims: &Path) -> Checked {
        let path = look::own_path(self.invocation);
        let position = path.iter().position(|d| d == shims);
        let mut before = Vec::new();
        for shim in look::names(shims) {
            let earlier = path[..position.unwrap_or(0)].iter().map(|d| d.join(shim.file_name().unwrap_or_default()));
            before.extend(earlier.filter(|p| program::is_executable(p) && !look::leads_to_us(p)));
        }
        let findings = search::in_container(shims, !look::names(shims).is_empty(), position, &before);
        Checked { check: "path", about: format!("shims in {}", shims.display()), findings: findings.into_iter().collect() }
    }

    fn check_links(&self, shims: &Path) -> Checked {
        let (mut findings, mut count) = (Vec::new(), 0);
        for path in look::names(shims) {
            let mut link = PathBuf::new();
            if let Some(entry) = look::entry(&path, &mut link) {
                count += 1;
                findings.extend(links::entry(&path, entry, &self.executable));
            }
        }
        Checked { check: "shims", about: format!("{count} in {}", shims.display()), findings }
    }

    /// Names of shims that lead the daemon back to a shim.
    fn check_recursion(&self) -> Checked {
        let mut findings = Vec::new();
        let path = self.running().and_then(|running| running.session.var("PATH")).or_else(|| self.invocation.var("PATH")).unwrap_or(program::DEFAULT_PATH);
        let own: Vec<PathBuf> = look::names(&self.shim_directory());
        let names = own.iter().filter_map(|p| Some(p.file_name()?.as_bytes())).chain(self.known.iter().map(|name| name.as_bytes()));
        for name in names {
            let candidates = program::candidates(name, path, self.shims).paths.into_iter().map(|c| PathBuf::from(OsStr::from_bytes(c.to_bytes())));
            if let Some(found) = candidates.filter(|p| program::is_executable(p)).find(|p| !look::leads_to_us(p))
                && look::is_copy_of_us(&found)
                && !findings.iter().any(|f: &Finding| f.what.starts_with(&*found.to_string_lossy()))
            {
                findings.extend(links::copy(&found));
            }
        }
        let depth = environment::depth(&self.invocation.env.iter().flat_map(|e| e.to_bytes_with_nul()).copied().collect::<Vec<u8>>());
        findings.extend(surroundings::depth(depth, environment::MAX_DEPTH));
        Checked { check: "recursion", about: "no name leads back to itself".to_string(), findings }
    }

    fn check_policy(&self) -> Checked {
        let Some(path) = paths::policy_file(self.invocation) else {
            return Checked { check: "policy", about: "no home directory, and no policy".to_string(), findings: vec![] };
        };
        let mut containers = Vec::new();
        let mut stamp = |text: String| {
            let policy = document::parse_file::<Policy>(&path, &text)?;
            containers.extend(policy.containers().map(|(name, users)| (name.to_string(), users == Users::Mapped)));
            Ok(document::stamp(&text))
        };
        let read = document::read_text(&path).and_then(|text| text.map(&mut stamp).transpose());
        let about = if matches!(read, Ok(None)) { "everything is allowed: there is no policy file".to_string() } else { path.display().to_string() };
        let findings: Option<Finding> = match (read, self.running()) {
            (Err(wrong), Some(_)) => Some(files::document(&path, &wrong.text, "the policy that was read before stays in force, and a new daemon would not start")),
            (Err(wrong), None) => Some(files::document(&path, &wrong.text, "the daemon does not start with it: to allow everything would be worse")),
            (Ok(now), Some(running)) => files::policy_in_force(&path, running.policy_stamp, now.unwrap_or(0)),
            (Ok(_), None) => None,
        };
        let mut findings: Vec<Finding> = findings.into_iter().collect();
        // Where another policy is in force the sockets are not those that this one wants.
        if findings.is_empty() && self.running().is_some() {
            findings.extend(containers.iter().flat_map(|(name, mapped)| self.containers_socket(name, *mapped)));
        }
        Checked { check: "policy", about, findings }
    }

    fn containers_socket(&self, name: &str, mapped: bool) -> Vec<Finding> {
        let path = paths::container_socket(&self.socket(), name);
        let modes = files::container_modes(mapped);
        let both = [(path.parent().unwrap_or(&path), modes.0), (&path, modes.1)];
        both.iter().filter_map(|(path, mode)| files::of_container(path, fs::symlink_metadata(path).ok().as_ref(), *mode)).collect()
    }

    fn check_bridges(&self) -> Checked {
        let path = look::own_path(self.invocation);
        let there: Vec<&str> = self.bridges.iter().copied().filter(|bridge| path.iter().any(|d| program::is_executable(&d.join(bridge)))).collect();
        let about = if there.is_empty() { "none: without the daemon, shims end with 125".to_string() } else { format!("{} where the daemon is not there", there.join(", ")) };
        let findings = self.bridges_wrong.iter().map(|wrong| surroundings::variable("BKT_FALLBACK", wrong)).collect();
        Checked { check: "fallback", about, findings }
    }

    fn check_machine(&self) -> Checked {
        let mut findings: Vec<Finding> = surroundings::proc_is_there(fs::read_link("/proc/self/exe").is_ok()).into_iter().collect();
        if let Ok(about) = fs::metadata("/proc/self/exe") {
            findings.extend(surroundings::clock((about.mtime() - logging::unix_seconds() as i64) / 86_400));
        }
        Checked { check: "machine", about: "clock and /proc".to_string(), findings }
    }
}
