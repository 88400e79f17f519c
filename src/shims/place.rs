//! Where shims are: the directories of a home, and the path by which links lead to this executable.

use crate::error::{Error, Result};
use crate::event::Wait;
use crate::invocation::Invocation;
use crate::paths;
use crate::process::program;
use crate::sys::{files, process};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The directory of `distrobox` shims is told by its name when one of them is started: see the applets' `find`.
pub const DISTROBOX: &str = "distrobox";

/// In the directory of `host` shims, the one that holds a link for each command of another name: `docker -> .as/podman`.
pub const AS: &str = ".as";

/// How long another change of the shims is waited for; one takes some milliseconds.
const LOCK_MS: u64 = 5_000;

/// How often the lock is tried: `flock(2)` that waits would have no deadline.
const LOCK_RETRY_MS: u64 = 10;

/// All that depends on whose home it is.
#[derive(Clone, Debug)]
pub struct Places {
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME/bkt/shims.json`.
    pub manifest: PathBuf,
    /// `$XDG_STATE_HOME/bkt/links.json`: the `host-only` links that are ours, since nothing in such a link says so.
    pub record: PathBuf,
    /// `$XDG_DATA_HOME/bkt/shims`: links of `host` shims. Only containers have it in PATH.
    pub host: PathBuf,
    /// `~/.local/bin/distrobox`.
    pub distrobox: PathBuf,
    /// `~/.local/bin`.
    pub bin: PathBuf,
    /// What our links lead to.
    pub own: PathBuf,
}

impl Places {
    pub fn of(invocation: &Invocation) -> Result<Places> {
        let home = paths::home(invocation);
        let (Some(home), Some(config), Some(data), Some(state)) =
            (home, paths::config_directory(invocation), paths::data_directory(invocation), paths::state_directory(invocation))
        else {
            return Err(Error::new("HOME is not set to an absolute path, so that there is no place for shims; set it"));
        };
        let bin = home.join(".local/bin");
        let own = own_path(&bin, invocation)?;
        Ok(Places { manifest: config.join("shims.json"), record: state.join("links.json"), host: data.join("shims"), distrobox: bin.join(DISTROBOX), bin, own, home })
    }

    /// The directories that hold links of ours.
    pub fn all(&self) -> [&PathBuf; 3] {
        [&self.host, &self.distrobox, &self.bin]
    }

    /// Keeps other changes away until the file is dropped.
    pub fn lock(&self) -> Result<File> {
        let directory = self.manifest.parent().unwrap_or(&self.home);
        let failed = |e: std::io::Error| Error::io(format!("lock {}", directory.display()), &e);
        fs::create_dir_all(directory).map_err(failed)?;
        let file = File::open(directory).map_err(failed)?;
        let deadline = process::monotonic_ms() + LOCK_MS;
        loop {
            match files::try_lock(&file) {
                Ok(()) => return Ok(file),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(failed(e)),
            }
            let now = process::monotonic_ms();
            if now >= deadline {
                return Err(Error::new(format!("another bkt has been changing the shims for {} s; end it, and try again", LOCK_MS / 1000)));
            }
            Wait::<()>::with_capacity(0).run(now, Some(now + LOCK_RETRY_MS));
        }
    }

    /// A path of the manifest as a path.
    pub fn expand(&self, source: &str) -> PathBuf {
        match source.strip_prefix("~/") {
            Some(below) => self.home.join(below),
            None => PathBuf::from(source),
        }
    }

    /// A path as people write it: the home as `~`.
    pub fn shown(&self, path: &Path) -> String {
        let shown = match path.strip_prefix(&self.home) {
            Ok(below) if self.home.parent().is_some() => Path::new("~").join(below),
            _ => path.to_path_buf(),
        };
        crate::logging::shown(shown.as_os_str().as_bytes())
    }
}

/// Whether a path, as it stands in a link of that directory, leads to an executable of ours: by its name, or because it is this
/// very file.
pub fn is_own(directory: &Path, target: &Path, own: &Path) -> bool {
    let full = directory.join(target);
    target.file_name().is_some_and(|name| name == "bkt") || same_file(&full, own) || program::leads_to_our_name(&full)
}

/// The path to this executable that stays right: `~/.local/bin/bkt` or the `bkt` of PATH where that is us, since an upgrade
/// replaces those; else the file itself.
pub fn own_path(bin: &Path, invocation: &Invocation) -> Result<PathBuf> {
    let exe = process::own_path()?;
    let exe = PathBuf::from(std::ffi::OsString::from_vec(exe.into_bytes()));
    let path = invocation.var("PATH").unwrap_or_default();
    let named = std::iter::once(bin).chain(program::directories(path)).map(|directory| directory.join("bkt"));
    Ok(named.into_iter().find(|candidate| same_file(candidate, &exe)).unwrap_or(exe))
}

/// Whether two paths lead to one file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// A path without `.` and `..`, by its text alone.
pub fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}
