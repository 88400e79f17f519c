//! Links: what is wanted against what is there. Facts are looked up, steps are decided from them without I/O, then done.
//!
//! A link is ours where it leads to an executable of ours; a `host-only` link, which leads to a program, where `links.json` says
//! that we made it and it still leads there. Nothing else is ever touched without `--force`.

use crate::document;
use crate::error::{Error, Result};
use crate::logging::shown;
use crate::process::program::is_executable;
use crate::shims::manifest::{Host, Manifest, Mode, Shim};
use crate::shims::place::{self, AS, Places};
use crate::sys::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The list that comes with bkt: one name a line, `#` begins a comment.
const SHIPPED: &str = include_str!("../../shims/host");

/// The names of `shims/host`.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|name| !name.is_empty())
}

/// The `host-only` links that we made: name and source, as in the manifest.
#[derive(Deserialize, Serialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct Record {
    host_only: BTreeMap<String, String>,
}

impl Record {
    pub fn read(places: &Places) -> Result<Record> {
        document::read(&places.record).map(Option::unwrap_or_default)
    }
}

/// A link that the manifest asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub name: String,
    pub mode: Mode,
    pub path: PathBuf,
    pub target: PathBuf,
    source: Option<String>,
}

/// What is at a link's path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum There {
    Nothing,
    Link { target: PathBuf, ours: bool },
    File,
    Directory,
}

/// A link of ours that the manifest does not ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub name: String,
    pub mode: Mode,
    pub path: PathBuf,
    pub target: PathBuf,
    /// It comes with bkt, so that it needs no manifest: its name does, and it stands for no other command.
    pub shipped: bool,
    dangling: bool,
}

/// What was seen.
pub struct Facts {
    pub wanted: Vec<(Wanted, There)>,
    pub left: Vec<Left>,
    /// Sources that ought to be seen from here, and are no program.
    pub missing: Vec<PathBuf>,
}

/// What is to be done to one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    Keep,
    Make,
    /// It is ours, and leads elsewhere.
    Move,
    /// It is not ours, and `--force` was given.
    Replace,
    Remove,
    /// It is not ours, for this reason.
    Blocked(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub name: String,
    pub mode: Mode,
    pub path: PathBuf,
    pub target: PathBuf,
    source: Option<String>,
    pub act: Act,
}

/// Something that is not as the manifest has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub name: String,
    pub mode: Mode,
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// The command that mends it, or what a person has to do.
    pub mend: String,
    /// It is not as declared. Else the declaration itself lacks something.
    pub drift: bool,
}

/// The links of one shim; for a command of another name there are two, the inner first.
fn wanted(shim: &Shim, places: &Places) -> Vec<Wanted> {
    let link = |path: PathBuf, target: &Path| Wanted { name: shim.name.clone(), mode: shim.mode(), path, target: target.to_path_buf(), source: shim.source.clone() };
    match &shim.host {
        Some(Host::Command(command)) if *command != shim.name => {
            let inner = Path::new(AS).join(command);
            vec![link(places.host.join(&inner), &places.own), link(places.host.join(&shim.name), &inner)]
        }
        Some(_) => vec![link(places.host.join(&shim.name), &places.own)],
        None if shim.host_only => vec![link(places.bin.join(&shim.name), &places.expand(shim.source.as_deref().unwrap_or_default()))],
        None => vec![link(places.distrobox.join(&shim.name), &places.own)],
    }
}

impl Facts {
    /// Looks at every path that matters.
    pub fn look(manifest: &Manifest, record: &Record, places: &Places) -> Facts {
        let mut all: Vec<Wanted> = Vec::new();
        for wanted in manifest.shims.iter().flat_map(|shim| wanted(shim, places)) {
            // Two names may stand for the same command.
            if !all.iter().any(|known| known.path == wanted.path) {
                all.push(wanted);
            }
        }
        let mut left = Vec::new();
        let inner = places.host.join(AS);
        for (directory, mode) in [(&places.host, Mode::Host), (&inner, Mode::Host), (&places.distrobox, Mode::Distrobox)] {
            for name in names(directory) {
                let path = directory.join(&name);
                if let There::Link { target, ours: true } = look(&path, &name, mode, record, places) {
                    let shipped = directory == &places.host && !target.starts_with(AS) && shipped().any(|known| known == name);
                    left.push(Left { dangling: fs::metadata(&path).is_err(), name, mode, path, target, shipped });
                }
            }
        }
        for (name, source) in &record.host_only {
            let path = places.bin.join(name);
            if let There::Link { target, ours: true } = look(&path, name, Mode::HostOnly, record, places) {
                left.push(Left { name: name.clone(), mode: Mode::HostOnly, path, target, shipped: false, dangling: fs::metadata(places.expand(source)).is_err() });
            }
        }
        left.retain(|link| all.iter().all(|wanted| wanted.path != link.path));
        let wanted = all.into_iter().map(|wanted| {
            let there = look(&wanted.path, &wanted.name, wanted.mode, record, places);
            (wanted, there)
        });
        // Only a home is seen from everywhere.
        let seen = |shim: &&Shim, path: &Path| shim.mode() == Mode::HostOnly || path.starts_with(&places.home);
        let sources = manifest.shims.iter().filter_map(|shim| Some((shim, places.expand(shim.source.as_deref()?))));
        let missing = sources.filter(|(shim, path)| seen(shim, path) && !is_executable(path)).map(|(_, path)| path);
        Facts { wanted: wanted.collect(), left, missing: missing.collect() }
    }
}

/// The names in a directory that may be shims, in order; those that begin with a dot are none.
pub fn names(directory: &Path) -> Vec<String> {
    files::names(directory).into_iter().filter_map(|name| name.into_string().ok()).filter(|name| !name.starts_with('.')).collect()
}

fn look(path: &Path, name: &str, mode: Mode, record: &Record, places: &Places) -> There {
    look_for(path, |target| match mode {
        Mode::HostOnly => record.host_only.get(name).is_some_and(|source| places.expand(source) == target),
        Mode::Host | Mode::Distrobox => is_ours(path, target, &places.own),
    })
}

fn look_for(path: &Path, ours: impl Fn(&Path) -> bool) -> There {
    match fs::read_link(path) {
        Ok(target) => There::Link { ours: ours(&target), target },
        Err(_) => match fs::symlink_metadata(path) {
            Err(_) => There::Nothing,
            Ok(about) if about.is_dir() => There::Directory,
            Ok(_) => There::File,
        },
    }
}

fn is_ours(path: &Path, target: &Path, own: &Path) -> bool {
    target.starts_with(AS) || place::is_own(path.parent().unwrap_or(Path::new("/")), target, own)
}

/// What to do for one link.
fn decide(wanted: &Wanted, there: &There, force: bool) -> Act {
    let foreign = |what: String| if force { Act::Replace } else { Act::Blocked(what) };
    match there {
        There::Nothing => Act::Make,
        There::Link { target, .. } if *target == wanted.target => Act::Keep,
        There::Link { ours: true, .. } => Act::Move,
        There::Link { target, .. } => foreign(format!("is a link to {}, which is not ours", shown(target.as_os_str().as_bytes()))),
        There::File => foreign("is a file that is not ours".into()),
        There::Directory => Act::Blocked("is a directory".into()),
    }
}

/// The steps for what is wanted, and to take away those of our links that `gone` names.
pub fn plan(facts: &Facts, force: bool, gone: &dyn Fn(&Left) -> bool) -> Vec<Step> {
    let step =
        |wanted: &Wanted, act| Step { name: wanted.name.clone(), mode: wanted.mode, path: wanted.path.clone(), target: wanted.target.clone(), source: wanted.source.clone(), act };
    let mut steps: Vec<Step> = facts.wanted.iter().map(|(wanted, there)| step(wanted, decide(wanted, there, force))).collect();
    let is_inner = |link: &Left| link.path.parent().is_some_and(|directory| directory.ends_with(AS));
    let (inner, outer): (Vec<&Left>, Vec<&Left>) = facts.left.iter().partition(|link| is_inner(link));
    let (gone, stay): (Vec<&Left>, Vec<&Left>) = outer.into_iter().partition(|link| gone(link));
    // An inner link goes with the last that leads to it.
    let unused = |link: &Left| !stay.iter().any(|other| other.path.with_file_name(&other.target) == link.path);
    for link in gone.into_iter().chain(inner.into_iter().filter(|link| unused(link))) {
        steps.push(Step { name: link.name.clone(), mode: link.mode, path: link.path.clone(), target: link.target.clone(), source: None, act: Act::Remove });
    }
    steps
}

/// Does the steps and keeps the record, which says first what is about to be made. Stops at the first that fails.
pub fn apply(steps: &[Step], record: &mut Record, places: &Places) -> Result<()> {
    let before = document::text(record);
    for step in steps.iter().filter(|step| step.mode == Mode::HostOnly && matches!(step.act, Act::Keep | Act::Make | Act::Move | Act::Replace)) {
        record.host_only.insert(step.name.clone(), step.source.clone().unwrap_or_default());
    }
    if document::text(record) != before {
        document::write(&places.record, &document::text(record))?;
    }
    for step in steps {
        match &step.act {
            Act::Make | Act::Move | Act::Replace => make(&step.path, &step.target)?,
            Act::Remove => fs::remove_file(&step.path).map_err(|e| Error::io(format!("remove {}", step.path.display()), &e))?,
            Act::Keep | Act::Blocked(_) => {}
        }
    }
    let known = record.host_only.len();
    steps.iter().filter(|step| step.mode == Mode::HostOnly && step.act == Act::Remove).for_each(|step| drop(record.host_only.remove(&step.name)));
    if record.host_only.len() != known { document::write(&places.record, &document::text(record)) } else { Ok(()) }
}

fn make(path: &Path, target: &Path) -> Result<()> {
    let directory_made = path.parent().map_or(Ok(()), fs::create_dir_all);
    directory_made.and_then(|()| files::put_link(path, target)).map_err(|e| Error::io(format!("make the link {}", path.display()), &e))
}

/// Everything that is not as the manifest has it, from what was seen.
pub fn check(manifest: &Manifest, facts: &Facts, places: &Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (wanted, there) in &facts.wanted {
        let what = match decide(wanted, there, false) {
            Act::Make => "is not there".to_string(),
            Act::Move => format!("leads elsewhere than to {}", places.shown(&wanted.target)),
            Act::Blocked(what) => what,
            _ => continue,
        };
        let force = !matches!(there, There::Nothing | There::Link { ours: true, .. });
        let mend = match there {
            There::Directory => format!("move {} away, then: bkt shim sync", places.shown(&wanted.path)),
            _ if force => "bkt shim sync --force".to_string(),
            _ => "bkt shim sync".to_string(),
        };
        findings.push(Finding { name: wanted.name.clone(), mode: wanted.mode, path: wanted.path.clone(), what, mend, drift: true });
    }
    for shim in &manifest.shims {
        let mut found = |path: &Path, what: String, mend: String, drift: bool| {
            findings.push(Finding { name: shim.name.clone(), mode: shim.mode(), path: path.to_path_buf(), what, mend, drift })
        };
        if shim.mode() == Mode::Distrobox && manifest.container_of(shim).is_none() {
            let mend = format!("bkt shim add {} --container NAME, or \"container\": \"NAME\" at the top of {}", shim.name, places.shown(&places.manifest));
            found(&places.distrobox.join(&shim.name), "is in no container that is named".into(), mend, false);
        }
        let Some(source) = shim.source.as_deref().map(|source| places.expand(source)) else { continue };
        if facts.missing.contains(&source) {
            let option = if shim.host_only { " --host-only" } else { "" };
            found(&source, "is no program".into(), format!("install it, or: bkt shim add {}{option} --source PATH", shim.name), true);
        }
    }
    for link in &facts.left {
        let (what, mend) = match link {
            Left { shipped: true, dangling: true, .. } => ("leads to nothing", format!("bkt --install {}", places.shown(&places.host))),
            Left { shipped: true, .. } => continue,
            _ => ("is not in the manifest", "bkt shim sync --prune, or into the manifest: bkt shim capture".to_string()),
        };
        findings.push(Finding { name: link.name.clone(), mode: link.mode, path: link.path.clone(), what: what.into(), mend, drift: true });
    }
    findings
}

/// Makes the links of the shipped names in any directory. All of them are looked at before anything is written; returns how
/// many there are, and how many were made or moved.
pub fn install(directory: &Path, own: &Path) -> Result<(usize, usize)> {
    let mut steps = Vec::new();
    for name in shipped() {
        let wanted = Wanted { name: name.into(), mode: Mode::Host, path: directory.join(name), target: own.into(), source: None };
        let act = decide(&wanted, &look_for(&wanted.path, |target| is_ours(&wanted.path, target, own)), false);
        if let Act::Blocked(what) = &act {
            return Err(Error::new(format!("{} {what}; nothing was changed: move it away, or choose another directory", wanted.path.display())));
        }
        steps.push((wanted.path, act));
    }
    let changed = steps.iter().filter(|(_, act)| *act != Act::Keep);
    let mut count = 0;
    for (path, _) in changed {
        make(path, own)?;
        count += 1;
    }
    Ok((steps.len(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_names_are_names() {
        let names: Vec<_> = shipped().collect();
        assert!(names.contains(&"bootc") && names.contains(&"systemctl") && names.contains(&"flatpak"));
        assert!(names.iter().all(|n| crate::shims::manifest::check_name(n).is_ok()));
    }

    #[test]
    fn what_is_done_depends_on_what_is_there_alone() {
        let wanted = Wanted { name: "x".into(), mode: Mode::Host, path: "/s/x".into(), target: "/b/bkt".into(), source: None };
        let link = |target: &str, ours| There::Link { target: target.into(), ours };
        let table = [
            (There::Nothing, Act::Make, Act::Make),
            (link("/b/bkt", true), Act::Keep, Act::Keep),
            (link("/old/bkt", true), Act::Move, Act::Move),
            (link("/usr/bin/x", false), Act::Blocked("is a link to /usr/bin/x, which is not ours".into()), Act::Replace),
            (There::File, Act::Blocked("is a file that is not ours".into()), Act::Replace),
            (There::Directory, Act::Blocked("is a directory".into()), Act::Blocked("is a directory".into())),
        ];
        for (there, mild, forced) in table {
            assert_eq!((decide(&wanted, &there, false), decide(&wanted, &there, true)), (mild, forced), "{there:?}");
        }
    }
}
