//! Who answers to a name: every candidate in the order of PATH, what each is, and why one wins.

use crate::doctor::look;
use crate::invocation::Invocation;
use crate::process::program;
use std::fs;
use std::path::PathBuf;

pub struct Candidate {
    pub path: PathBuf,
    /// `host`, `distrobox`, `program`, or why it cannot be run.
    pub mode: &'static str,
    pub what: String,
    pub wins: bool,
}

/// All files of that name in our PATH, and one sentence on who wins.
pub fn explain(name: &str, invocation: &Invocation, shims: &[PathBuf], on_host: bool) -> (Vec<Candidate>, String) {
    let mut all: Vec<Candidate> = Vec::new();
    for directory in look::own_path(invocation) {
        let path = directory.join(name);
        if fs::symlink_metadata(&path).is_err() || all.iter().any(|c| c.path == path) {
            continue;
        }
        let to = fs::read_link(&path).ok().map_or_else(String::new, |to| format!(" -> {}", to.display()));
        let (mode, what) = match () {
            () if fs::metadata(&path).is_err() => ("dangling", format!("leads nowhere{to}")),
            () if !program::is_executable(&path) => ("not executable", format!("cannot be executed{to}")),
            () if !look::leads_to_us(&path) && look::is_copy_of_us(&path) => ("copy", "a copy of bkt, where a link is wanted".to_string()),
            () if !look::leads_to_us(&path) => ("program", format!("a program of this side{to}")),
            () if directory.ends_with(".local/bin/distrobox") => ("distrobox", format!("a shim: a container's {name}{to}")),
            () if shims.contains(&directory) || !on_host => ("host", format!("a shim: the host's {name}, through the daemon{to}")),
            () => ("host", format!("a shim outside the shims' own directory{to}")),
        };
        all.push(Candidate { path, mode, what, wins: false });
    }
    let runs = |mode| matches!(mode, "program" | "host" | "distrobox" | "copy");
    let Some(first) = all.iter().position(|c| runs(c.mode)) else {
        let why = if all.is_empty() {
            format!("no directory in PATH has a {name}: the shell says 'command not found'")
        } else {
            format!("none of these can be executed: the shell cannot run {name}")
        };
        return (all, why);
    };
    all[first].wins = true;
    let passed = all[..first].iter().map(|c| c.mode).next();
    let mut why = match passed {
        None => format!("{} wins: its directory is the first in PATH that has the name", all[first].path.display()),
        Some(mode) => format!("{} wins: what comes before it is {mode}, and passed over", all[first].path.display()),
    };
    if on_host && all[first].mode == "host" {
        let real = all.iter().find(|c| c.mode == "program").map(|c| c.path.display().to_string());
        why.push_str(
            &real.map_or_else(|| "; this is the host, where it finds no real command to become".to_string(), |real| format!("; this is the host, where it becomes {real}")),
        );
    }
    (all, why)
}
