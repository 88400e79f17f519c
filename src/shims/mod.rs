//! Shims: names that are links to this executable.
//!
//! May import: floors 0 to 2.

use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The list that comes with bkt: one name a line, `#` begins a comment.
const SHIPPED: &str = include_str!("../../shims/host");

/// The names of `shims/host`.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|name| !name.is_empty())
}

/// What became of one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    Made,
    /// It was there and right.
    Kept,
    /// It led to another bkt and now leads to this one.
    Moved,
}

/// Makes the links of all names in a directory, which is made if need be. A file that is not ours is never replaced: all of them
/// are looked at before anything is written.
pub fn install(directory: &Path, target: &Path, names: &[&str]) -> Result<Vec<(PathBuf, Link)>> {
    fs::create_dir_all(directory).map_err(|e| Error::io(format!("make {}", directory.display()), &e))?;
    let planned = names.iter().map(|name| plan(directory.join(name), target)).collect::<Result<Vec<_>>>()?;
    for (path, link) in &planned {
        if *link != Link::Kept {
            place(path, target)?;
        }
    }
    Ok(planned)
}

fn plan(path: PathBuf, target: &Path) -> Result<(PathBuf, Link)> {
    match fs::read_link(&path) {
        Ok(now) if now == target => Ok((path, Link::Kept)),
        Ok(now) if now.file_name().is_some_and(|name| name == "bkt") => Ok((path, Link::Moved)),
        Ok(now) => Err(Error::new(format!("{} is a link to {}, not ours; nothing was changed: move it away", path.display(), now.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((path, Link::Made)),
        Err(_) => Err(Error::new(format!("{} exists and is not ours; nothing was changed: move it away, or choose another directory", path.display()))),
    }
}

/// Under another name first: there is no moment without a link, and an existing one is replaced as a whole.
fn place(path: &Path, target: &Path) -> Result<()> {
    let fresh = path.with_file_name(format!(".bkt-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    symlink(target, &fresh).and_then(|()| fs::rename(&fresh, path)).map_err(|e| Error::io(format!("make the link {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_names_are_names() {
        let names: Vec<_> = shipped().collect();
        assert!(names.contains(&"bootc") && names.contains(&"systemctl") && names.contains(&"flatpak"));
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
    }
}
