//! What the machine is like, as far as a service of its user is concerned.

use crate::checks::unit::UNIT;
use crate::error::{Error, Result};
use crate::exit::End;
use crate::invocation::Invocation;
use crate::paths;
use crate::process::tool::{self, Errors};
use crate::sys::process;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How long systemctl may take: it waits for a unit's start or stop, for which systemd itself allows 90 s each.
const SYSTEMCTL_MS: u64 = 300_000;

/// How long an answer may take for which nothing has to happen.
const ANSWER_MS: u64 = 2_000;

/// Who could start the daemon at login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Manager {
    /// The user's systemd, which answers.
    Systemd(Unit),
    /// systemd is there, and the user's own does not answer; why.
    Unreachable(String),
    /// A desktop that starts what is in its autostart directory.
    Desktop,
    None,
}

/// The unit, as the user's systemd has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unit {
    /// `active`, `inactive`, `failed`, …
    pub state: String,
    pub main_pid: u32,
    /// `enabled`, `disabled`, empty where there is no unit.
    pub enabled: String,
    /// The file it was read from.
    pub file: String,
    /// Its user manager outlives the last session.
    pub lingers: bool,
}

/// Where our files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    pub bkt: PathBuf,
    pub unit: PathBuf,
    pub autostart: PathBuf,
}

impl Files {
    pub fn of(invocation: &Invocation) -> Result<Files> {
        let bkt = process::own_path()?;
        let config = paths::config_directory(invocation).ok_or_else(|| Error::new("HOME is not set: there is no place for a unit"))?;
        let config = config.parent().unwrap_or(Path::new("/"));
        Ok(Files {
            bkt: Path::new(OsStr::from_bytes(bkt.as_bytes())).to_path_buf(),
            unit: config.join("systemd/user").join(UNIT),
            autostart: config.join("autostart/bkt-hostd.desktop"),
        })
    }
}

/// The text of a file, `None` where there is none.
pub fn text_of(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read {}", path.display()), &e)),
    }
}

/// How many directories will have to be made for a file; of more than nine the rest is forgotten.
pub fn missing_directories(path: &Path) -> usize {
    path.ancestors().skip(1).take_while(|directory| !directory.exists()).take(9).count()
}

/// Looks who could start the daemon.
pub fn manager(invocation: &Invocation) -> Manager {
    // sd_booted(3).
    if Path::new("/run/systemd/system").is_dir() {
        return match ask_systemd(invocation) {
            Ok(unit) => Manager::Systemd(unit),
            Err(e) => Manager::Unreachable(e.into_text()),
        };
    }
    let desktop = ["XDG_CURRENT_DESKTOP", "WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| invocation.var(name).is_some());
    if desktop { Manager::Desktop } else { Manager::None }
}

fn ask_systemd(invocation: &Invocation) -> Result<Unit> {
    let shown = systemctl(invocation, &["show", "--property=ActiveState,MainPID,UnitFileState,FragmentPath", UNIT])?;
    let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("").to_string();
    Ok(Unit {
        state: value("ActiveState"),
        main_pid: value("MainPID").parse().unwrap_or(0),
        enabled: value("UnitFileState"),
        file: value("FragmentPath"),
        lingers: paths::linger_mark(invocation).is_some_and(|mark| mark.exists()),
    })
}

/// Whether the cgroup of a unit, which asks, is its own to divide.
pub fn delegates(invocation: &Invocation, unit: &str) -> Result<bool> {
    ask_within(invocation, &["show", "--property=Delegate", unit], ANSWER_MS).map(|said| said.trim() == "Delegate=yes")
}

/// Asks, or tells, the user's systemd something; its answer, or a sentence with its own words.
pub fn systemctl(invocation: &Invocation, args: &[&str]) -> Result<String> {
    ask_within(invocation, args, SYSTEMCTL_MS)
}

fn ask_within(invocation: &Invocation, args: &[&str], ms: u64) -> Result<String> {
    // su(1) and cron leave it out; without it systemctl does not know whom to ask.
    let runtime = paths::runtime_directory(invocation, process::user());
    let runtime = CString::new([b"XDG_RUNTIME_DIR=", runtime.as_os_str().as_bytes()].concat()).unwrap_or_default();
    let mut asking = invocation.clone();
    asking.env.retain(|entry| !entry.to_bytes().starts_with(b"XDG_RUNTIME_DIR="));
    asking.env.push(Box::leak(runtime.into_boxed_c_str()));
    let words: Vec<&[u8]> = [&b"systemctl"[..], b"--user"].into_iter().chain(args.iter().map(|arg| arg.as_bytes())).collect();
    let doing = format!("systemctl --user {}", args.join(" "));
    let (end, said) = tool::ask(&asking, &paths::shim_directories(invocation), &words, Errors::WithOutput, ms).map_err(|e| Error::io(&doing, &e))?;
    let said = String::from_utf8_lossy(&said);
    if end == End::Code(0) { Ok(said.into_owned()) } else { Err(Error::new(format!("{doing}: {}", said.trim().replace('\n', "; ")))) }
}
