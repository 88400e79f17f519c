//! Files handed over to this side's programs: copies, in a directory beside the socket, few and not for ever.
//!
//! A program that is asked to open a file does so later than we are told that it runs, and by name; so the file needs a place. A
//! copy stays until the daemon ends, at least a day if there is room; when there is not, the oldest go.
//!
//! May import: floors 0 and 1.

use crate::error::{Error, Result};
use crate::sys::{files, process};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Copies at once.
const MAX_FILES: usize = 64;
/// Bytes of all of them, of the user's own callers or of one container that has a socket of its own: they are in memory, where the runtime directory is.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Copies older than this go when another comes.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The modes of a copy: there to be read, not written. And before it is whole.
const FINISHED: u32 = 0o400;
const UNFINISHED: u32 = 0o600;
/// What is kept of a name: enough to know it by, and its end.
const MAX_NAME_BYTES: usize = 80;

/// Copies a file to where this side's programs can open it by name, and returns that name. It is there to be read, not written:
/// the copy's changes would reach nobody.
pub fn keep(directory: &Path, from: File, name: &[u8], most: u64) -> Result<PathBuf> {
    let failed = |e: io::Error| Error::io(format!("copy {} to {}", String::from_utf8_lossy(name), directory.display()), &e);
    let size = from.metadata().map_err(failed)?.len();
    if size > most {
        return Err(Error::new(format!(
            "{} has {size} bytes; at most {most} are handed over to the host: put it into a directory that both sides have",
            String::from_utf8_lossy(name)
        )));
    }
    prepare(directory)?;
    let (place, path, mut to) = reserve(directory, name, size).map_err(failed)?;
    match copy(from.take(size + 1), &mut to, size) {
        Ok(true) => Ok(path),
        Ok(false) => {
            remove(&place);
            Err(Error::new(format!("{} grew while it was read: it is not handed over", String::from_utf8_lossy(name))))
        }
        Err(e) => {
            remove(&place);
            Err(failed(e))
        }
    }
}

/// Removes all of them, and those beside them whose directories are named after this one: containers' shares.
pub fn remove_shares(directory: &Path) {
    let (Some(above), Some(name)) = (directory.parent(), directory.file_name()) else { return };
    let is_one = |path: &PathBuf| path.file_name().is_some_and(|other| other.as_bytes().starts_with(name.as_bytes()));
    places(above).filter(is_one).for_each(|share| remove_all(&share));
}

/// Removes all of them, and the directory.
pub fn remove_all(directory: &Path) {
    for place in places(directory) {
        remove(&place);
    }
    let _ = fs::remove_dir(directory);
}

fn prepare(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(format!("make {}", directory.display()), &e)),
        _ => {}
    }
    match fs::symlink_metadata(directory) {
        Ok(about) if about.is_dir() && about.uid() == process::user() && about.mode() & 0o077 == 0 => Ok(()),
        _ => Err(Error::new(format!("{} is not a private directory of ours; move it away", directory.display()))),
    }
}

/// Makes room, and a file that has its size already: whoever comes next counts it, and many at once take no more than they may.
/// The lock is never held while anything is read: a caller's file may be one that never comes.
fn reserve(directory: &Path, name: &[u8], size: u64) -> io::Result<(PathBuf, PathBuf, File)> {
    let lock = File::open(directory)?;
    files::lock(&lock)?;
    make_room(directory, size);
    let (place, path) = new_place(directory, name)?;
    let to = File::options().write(true).create_new(true).mode(UNFINISHED).open(&path)?;
    to.set_len(size)?;
    Ok((place, path, to))
}

/// A directory of its own for each, so that the file keeps its name. They sort by their age.
fn new_place(directory: &Path, name: &[u8]) -> io::Result<(PathBuf, PathBuf)> {
    let place = directory.join(format!("{:020}-{}", process::monotonic_us(), std::process::id()));
    DirBuilder::new().mode(0o700).create(&place)?;
    let path = place.join(tame(name));
    Ok((place, path))
}

/// A name that means nothing to anybody: no directory, no option, nothing hidden, nothing that a terminal would obey.
fn tame(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let plain: String = name.chars().map(|c| if c.is_control() || "/\\\"'`$<>|&;*?".contains(c) { '_' } else { c }).collect();
    let plain = plain.trim_start_matches(['.', '-', ' ']);
    let mut from = plain.len().saturating_sub(MAX_NAME_BYTES);
    while !plain.is_char_boundary(from) {
        from += 1;
    }
    let plain = plain[from..].trim_start_matches(['.', '-', ' ']);
    if plain.is_empty() { "file".to_string() } else { plain.to_string() }
}

/// Says whether it was no longer than that.
fn copy(mut from: impl Read, to: &mut File, most: u64) -> io::Result<bool> {
    let (mut buffer, mut length) = (vec![0; 64 * 1024], 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => {
                to.set_len(length)?;
                to.set_permissions(Permissions::from_mode(FINISHED))?;
                return Ok(true);
            }
            Ok(count) => {
                length += count as u64;
                // Without a name it counts for nobody, and would fill the memory all the same.
                if to.metadata()?.nlink() == 0 {
                    return Err(io::Error::other("too many files are being handed over at once; try again"));
                }
                if length > most {
                    return Ok(false);
                }
                to.write_all(&buffer[..count])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Takes the oldest away until there is room for one more of so many bytes.
fn make_room(directory: &Path, more: u64) {
    let (mut count, mut bytes) = (1, more);
    for place in files::names(directory).iter().rev().map(|name| directory.join(name)) {
        (count, bytes) = (count + 1, bytes + size(&place));
        if count > MAX_FILES || bytes > MAX_BYTES || age(&place) > MAX_AGE {
            remove(&place);
        }
    }
}

fn places(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn age(place: &Path) -> Duration {
    let made = fs::symlink_metadata(place).and_then(|about| about.modified());
    made.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

fn size(place: &Path) -> u64 {
    places(place).filter_map(|file| fs::symlink_metadata(file).ok()).map(|about| about.len()).sum()
}

fn remove(place: &Path) {
    for file in places(place) {
        // One that is still being written is kept by its writer, who may be waiting for ever: not what is in it.
        if fs::symlink_metadata(&file).is_ok_and(|about| about.is_file() && about.mode() & 0o200 != 0) {
            let _ = File::options().write(true).truncate(true).open(&file);
        }
        let _ = fs::remove_file(file);
    }
    let _ = fs::remove_dir(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("bkt-handed-{name}-{}", std::process::id()));
        remove_all(&path);
        path
    }

    fn file(text: &str) -> File {
        let path = std::env::temp_dir().join(format!("bkt-handed-from-{}-{text}", std::process::id()));
        fs::write(&path, text).unwrap();
        let open = File::open(&path).unwrap();
        fs::remove_file(path).unwrap();
        open
    }

    #[test]
    fn a_copy_keeps_its_name_and_only_we_may_read_it() {
        let directory = scratch("name");
        let path = keep(&directory, file("text"), b"Report 1.pdf", 100).unwrap();
        assert_eq!((path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(&path).unwrap().as_str()), ("Report 1.pdf", "text"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(keep(&directory, file("longer"), b"x", 5).unwrap_err().text.contains("6 bytes"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left of the one that was too long");
        remove_all(&directory);
        assert!(!directory.exists());
    }

    #[test]
    fn no_name_is_an_option_a_path_or_hidden() {
        for (name, tamed) in [
            ("../../etc/x", "_.._etc_x"),
            ("-rf.txt", "rf.txt"),
            (".profile", "profile"),
            ("a\u{1b}[2J$(x).png", "a_[2J_(x).png"),
            ("", "file"),
            ("..", "file"),
            ("ü.svg", "ü.svg"),
        ] {
            assert_eq!(tame(name.as_bytes()), tamed, "{name:?}");
        }
        assert_eq!(tame(&[b"\xc3\xbc".repeat(60), b".png".to_vec()].concat()).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn what_has_lost_its_place_is_copied_no_further() {
        let directory = scratch("lost");
        prepare(&directory).unwrap();
        let (place, _, mut to) = reserve(&directory, b"x", 1 << 20).unwrap();
        assert_eq!(size(&place), 1 << 20, "it is counted before it is there");
        to.write_all(b"some").unwrap();
        make_room(&directory, MAX_BYTES);
        assert_eq!((place.exists(), to.metadata().unwrap().len()), (false, 0));
        assert!(copy(&b"more"[..], &mut to, 10).unwrap_err().to_string().contains("try again"));
        assert_eq!(to.metadata().unwrap().len(), 0);
        remove_all(&directory);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let directory = scratch("many");
        let all: Vec<PathBuf> = (0..MAX_FILES + 3).map(|i| keep(&directory, file("x"), format!("{i}").as_bytes(), 10).unwrap()).collect();
        assert!(all.iter().take(3).all(|p| !p.exists()) && all.iter().skip(3).all(|p| p.exists()));
        remove_all(&directory);
    }
}
