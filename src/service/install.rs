//! All of bkt that is installed for a user: the record of it, what is to be done, and how each path is made and given back.
//!
//! What a path is, is one word and what tells it from others: `nothing`, `link TARGET`, `file SUM`, `directory`. So the record, what
//! is there and what is wanted are compared as they stand.

use crate::document;
use crate::error::{Error, Result};
use crate::service::plan::aside;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub const NOTHING: &str = "nothing";
pub const DIRECTORY: &str = "directory";
/// There before, exactly so: it is not ours, and stays.
const SAME: &str = "same";
/// Another file was there before, which lies beside now.
pub const KEPT: &str = "kept";

/// What is made, till it is whole. Always the same, so that what an interrupted run leaves is found; only one runs at a time.
const FRESH: &str = ".bkt-fresh";

/// `install.json`.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub version: String,
    /// What was installed before that; empty at the first time.
    pub earlier: String,
    pub user: String,
    pub uid: u32,
    pub at: String,
    pub source: String,
    pub prefix: String,
    /// How the unit was before, if there was one: `enabled active`.
    pub unit_before: String,
    pub paths: Vec<Entry>,
}

/// One path of ours.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub path: String,
    pub is: String,
    /// While an installation is under way: what it replaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub was: String,
    pub before: String,
}

/// What a path is to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub path: String,
    pub is: String,
    /// For a file: what it is a copy of, and its modes. Without it somebody else writes it.
    pub copy: Option<(PathBuf, u32)>,
    /// What is there may be replaced unasked: a shim that leads to another bkt, a unit for another path.
    pub ours: bool,
}

impl Record {
    pub fn text(&self) -> String {
        document::text(self)
    }

    /// What was listed by `make install`, whose place this record takes: a path a line below the prefix.
    pub fn of_list(prefix: &Path, list: &str) -> Result<Record> {
        let mut paths = Vec::new();
        for path in list.lines().map(|line| prefix.join(line.trim_end_matches('/'))) {
            paths.push(Entry { is: seen(&path)?, path: text_of(&path)?, was: String::new(), before: NOTHING.into() });
        }
        paths.retain(|entry| entry.is != NOTHING);
        Ok(Record { version: "make install".into(), paths, ..Record::default() })
    }
}

impl Entry {
    /// Whether what is there is what we made, or have not come to replace.
    fn knows(&self, there: &str) -> bool {
        there == self.is || there == self.was
    }

    pub fn state(&self, there: &str) -> &'static str {
        match there {
            _ if there == self.is => "as recorded",
            NOTHING => "missing",
            _ => "changed",
        }
    }

    /// Whether it was there before, and outlives us.
    pub fn stays(&self) -> bool {
        self.before == SAME
    }
}

/// A path as it stands in the record.
pub fn text_of(path: &Path) -> Result<String> {
    path.to_str().map(str::to_string).ok_or_else(|| Error::new(format!("{} cannot stand in a record: choose a path of plain text", path.display())))
}

/// What is at a path.
pub fn seen(path: &Path) -> Result<String> {
    let failed = |e: io::Error| Error::io(format!("look at {}", path.display()), &e);
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(NOTHING.into()),
        Err(e) => return Err(failed(e)),
    };
    Ok(match about.file_type() {
        kind if kind.is_symlink() => format!("link {}", fs::read_link(path).map_err(failed)?.display()),
        kind if kind.is_file() => file(&fs::read(path).map_err(failed)?),
        kind if kind.is_dir() => DIRECTORY.into(),
        _ => "something else".into(),
    })
}

/// A file of that content.
pub fn file(content: &[u8]) -> String {
    format!("file {:016x}", document::stamp(content))
}

/// The entries of the new record, from what is wanted, what is there, and what we know; or what is in the way.
pub fn plan(wanted: &[(Wanted, String)], old: &[Entry], force: bool) -> Result<Vec<Entry>> {
    let (mut entries, mut foreign) = (Vec::new(), String::new());
    for (wanted, there) in wanted {
        let aside = || if there.starts_with("link ") { there.clone() } else { KEPT.to_string() };
        let replaceable = there.starts_with("link ") || there.starts_with("file ");
        let before = match old.iter().find(|entry| entry.path == wanted.path) {
            // What was there before us, and as we want it till now, is kept when it has to change.
            Some(entry) if entry.knows(there) && entry.stays() && *there != wanted.is => aside(),
            Some(entry) if entry.knows(there) || there == NOTHING => entry.before.clone(),
            Some(entry) if *there == wanted.is => entry.before.clone(),
            None if there == NOTHING => NOTHING.into(),
            None if *there == wanted.is => SAME.into(),
            _ if replaceable && (force || wanted.ours) => aside(),
            _ => {
                foreign.push_str(&format!(" {}", wanted.path));
                continue;
            }
        };
        let was = if *there == wanted.is || there == NOTHING { String::new() } else { there.clone() };
        entries.push(Entry { path: wanted.path.clone(), is: wanted.is.clone(), was, before });
    }
    if !foreign.is_empty() {
        return Err(Error::new(format!(
            "not installed by us, so nothing was changed:{foreign}; move these away, or replace them with --force, which keeps files as NAME.before-bkt"
        )));
    }
    // What an earlier version had stays known; its names go, see `gone`.
    entries.extend(old.iter().filter(|entry| wanted.iter().all(|(wanted, _)| wanted.path != entry.path) && !is_gone(entry)).cloned());
    Ok(entries)
}

/// Names that an earlier version had, and this one has not.
pub fn gone<'a>(wanted: &[(Wanted, String)], old: &'a [Entry]) -> Vec<&'a Entry> {
    old.iter().filter(|entry| is_gone(entry) && wanted.iter().all(|(wanted, _)| wanted.path != entry.path)).collect()
}

fn is_gone(entry: &Entry) -> bool {
    entry.is.starts_with("link ")
}

/// Where the file goes that was there before; an error where something lies there already.
pub fn check_aside(entry: &Entry, there: &str, old: &[Entry]) -> Result<()> {
    let path = aside(Path::new(&entry.path));
    let known = old.iter().any(|old| old.path == entry.path && old.before == KEPT && (old.knows(there) || there == NOTHING));
    if entry.before != KEPT || known {
        return Ok(());
    }
    let beside = seen(&path)?;
    if beside == NOTHING || beside == there {
        return Ok(());
    }
    Err(Error::new(format!("{} is in the way: what is replaced would be kept there; move it away; nothing was changed", path.display())))
}

/// Makes a path what is wanted: under another name first, so that nobody finds half of it, and what runs goes on with the old file.
pub fn make(wanted: &Wanted, there: &str, before: &str) -> Result<()> {
    let path = Path::new(&wanted.path);
    let failed = |e: io::Error| Error::io(format!("make {}", path.display()), &e);
    if there == wanted.is {
        return Ok(());
    }
    if wanted.is == DIRECTORY {
        // The record's are made by its first writing.
        return fs::create_dir(path).or_else(|e| if path.is_dir() { Ok(()) } else { Err(e) }).map_err(failed);
    }
    let beside = aside(path);
    if before == KEPT && !beside.exists() {
        // By a second name, for there is to be no moment without the first.
        fs::hard_link(path, &beside).or_else(|_| fs::copy(path, &beside).map(drop)).map_err(failed)?;
    }
    match (&wanted.copy, wanted.is.strip_prefix("link ")) {
        (Some((source, mode)), _) => replace(path, |fresh| {
            io::copy(&mut File::open(source)?, &mut File::create_new(fresh)?)?;
            fs::set_permissions(fresh, Permissions::from_mode(*mode))?;
            File::open(fresh)?.sync_all()
        }),
        (None, Some(target)) => replace(path, |fresh| symlink(target, fresh)),
        (None, None) => Ok(()),
    }
    .map_err(failed)
}

fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let fresh = path.with_file_name(FRESH);
    let _ = fs::remove_file(&fresh);
    make(&fresh).and_then(|()| fs::rename(&fresh, path)).inspect_err(|_| drop(fs::remove_file(&fresh)))
}

/// What taking an entry back means for what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Back {
    Nothing,
    Remove,
    /// The file that lies beside.
    File,
    /// The link that was there.
    Link,
    /// Somebody has changed it since; it is left.
    Changed,
}

pub fn back(entry: &Entry, there: &str, aside_there: bool) -> Back {
    let link = entry.before.starts_with("link ");
    match &*entry.before {
        SAME => Back::Nothing,
        _ if entry.is == DIRECTORY => Back::Nothing,
        // Given back already, by a run that was interrupted.
        before if there == before => Back::Nothing,
        KEPT if !aside_there && there != entry.is => Back::Nothing,
        _ if there != NOTHING && !entry.knows(there) => Back::Changed,
        KEPT if aside_there => Back::File,
        _ if link => Back::Link,
        _ => Back::Remove,
    }
}

pub fn give_back(entry: &Entry, how: Back) -> Result<()> {
    let path = Path::new(&entry.path);
    let beside = aside(path);
    let _ = fs::remove_file(path.with_file_name(FRESH));
    match how {
        Back::Nothing | Back::Changed => Ok(()),
        Back::Remove => fs::remove_file(path),
        // rename(2) does nothing for two names of one file, as they are where it had not come to be replaced.
        Back::File => fs::rename(&beside, path).map(|()| drop(fs::remove_file(&beside))),
        Back::Link => replace(path, |fresh| symlink(&entry.before["link ".len()..], fresh)),
    }
    .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(Error::io(format!("give back {}", path.display()), &e)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(there: &str) -> [(Wanted, String); 1] {
        [(Wanted { path: "/p/bin/bkt".into(), is: "file 2".into(), copy: None, ours: false }, there.into())]
    }

    fn entry(is: &str, was: &str, before: &str) -> Entry {
        Entry { path: "/p/bin/bkt".into(), is: is.into(), was: was.into(), before: before.into() }
    }

    #[test]
    fn what_was_there_decides_what_comes_back() {
        let planned = |there: &str, old: &[Entry], force| plan(&wanted(there), old, force).map(|mut all| all.remove(0));
        assert_eq!(planned("nothing", &[], false).unwrap(), entry("file 2", "", NOTHING));
        assert_eq!(planned("file 2", &[], false).unwrap(), entry("file 2", "", SAME));
        assert!(planned("file 1", &[], false).unwrap_err().text.contains("--force"));
        assert_eq!(planned("file 1", &[], true).unwrap(), entry("file 2", "file 1", KEPT));
        assert_eq!(planned("link x", &[], true).unwrap(), entry("file 2", "link x", "link x"));
        assert!(planned(DIRECTORY, &[], true).is_err());
        // Ours: replaced unasked, and what was there first is remembered.
        assert_eq!(planned("file 1", &[entry("file 1", "", NOTHING)], false).unwrap(), entry("file 2", "file 1", NOTHING));
        assert_eq!(planned("file 1", &[entry("file 1", "", KEPT)], false).unwrap(), entry("file 2", "file 1", KEPT));
        assert_eq!(planned("file 1", &[entry("file 1", "", SAME)], false).unwrap(), entry("file 2", "file 1", KEPT));
        assert!(planned("file 7", &[entry("file 1", "", NOTHING)], false).is_err(), "changed since");
        // Interrupted before it was replaced.
        assert_eq!(planned("file 1", &[entry("file 2", "file 1", KEPT)], false).unwrap(), entry("file 2", "file 1", KEPT));
    }

    #[test]
    fn taking_back_can_be_interrupted_anywhere_and_spares_what_others_changed() {
        assert_eq!(back(&entry("file 2", "", NOTHING), "file 2", false), Back::Remove);
        assert_eq!(back(&entry("file 2", "", NOTHING), NOTHING, false), Back::Nothing);
        assert_eq!(back(&entry("file 2", "", NOTHING), "file 7", false), Back::Changed);
        assert_eq!(back(&entry("file 2", "", KEPT), "file 2", true), Back::File);
        assert_eq!(back(&entry("file 2", "file 1", KEPT), "file 1", true), Back::File);
        assert_eq!(back(&entry("file 2", "", KEPT), "file 1", false), Back::Nothing, "it came back");
        assert_eq!(back(&entry("link b", "", "link a"), "link b", false), Back::Link);
        assert_eq!(back(&entry("link b", "", "link a"), "link a", false), Back::Nothing);
        assert_eq!(back(&entry("file 2", "", SAME), "file 2", false), Back::Nothing);
    }
}
