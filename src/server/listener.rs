//! The socket's file: made under a lock, never taken from a live daemon, removed only while it is ours.

use crate::checks::{self, Finding, Level, Mend};
use crate::error::{Error, Result, reason};
use crate::handed;
use crate::paths;
use crate::server::origin;
use crate::sys::files::{self, FileId};
use crate::sys::launch::REFUGE_MODE;
use crate::sys::socket;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Connections that may wait to be accepted: what the kernel allows by default (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// The same for a container's own socket: one container's callers.
const CONTAINER_BACKLOG: i32 = 256;

/// How long another daemon may take to make its socket before we give up; making one takes well below a millisecond.
const LOCK_TRIES: u32 = 200;

/// What is read of a list of mounts: a thousand and more.
const MAX_MOUNTS_BYTES: u64 = 1024 * 1024;

/// A listening socket and, where we made it, its file.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// The file that we bound; `None` for a socket handed to us by a supervisor, whose file is its own affair.
    file: Option<FileId>,
}

impl Listener {
    /// Listens at `path`: directory 0700, socket 0600. Refuses where a daemon answers there; replaces a stale file.
    pub fn make(path: &Path, user: u32) -> Result<Listener> {
        let directory = path.parent().filter(|d| d.is_absolute()).ok_or_else(|| Error::new(format!("the socket's path {} is not absolute", path.display())))?;
        let _lock = lock(directory, || prepare_directory(directory, user))?;
        match socket::connect(path) {
            Ok(_) => return Err(already_running(path)),
            // A full queue: busy, but alive.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(already_running(path)),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            // A socket of another type, perhaps, that somebody else uses.
            Err(e) => return Err(Error::io(format!("cannot tell whether a daemon listens at {}", path.display()), &e)),
        }
        let there = fs::symlink_metadata(path).ok().and_then(|about| checks::files::socket(path, &about, user));
        if let Some(finding) = there.filter(|finding| finding.level == Level::Broken) {
            return Err(Error::new(finding.sentence()));
        }
        prepare_refuge(path)?;
        // Bound under another name and renamed: at its own name there is never a socket that refuses, or has loose modes.
        let fresh = directory.join(format!(".{}.sock", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let failed = |e: io::Error| Error::io(format!("listen at {}", path.display()), &e);
        let socket = socket::listen(&fresh, BACKLOG).map_err(failed)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&fresh, path)).map_err(failed)?;
        let file = identity(path).map_err(failed)?;
        Ok(Listener { socket, path: path.to_path_buf(), file: Some(file) })
    }

    /// A container's own, at `…/NAME/host.sock`. Whoever holds the daemon's own socket holds those, too: there is no lock, and no
    /// question whether somebody answers there. That directory is in the container's hands, so that a link or another socket may
    /// lie in it: the socket is made and given its modes beside it, and moved in.
    pub fn make_for_container(path: &Path, user: u32, mapped: bool) -> Result<Listener> {
        let failed = |e: io::Error| Error::io(format!("listen at {}", path.display()), &e);
        let (Some(directory), Some(above)) = (path.parent(), path.parent().and_then(Path::parent)) else { return Err(failed(io::ErrorKind::InvalidInput.into())) };
        let (directory_mode, mode) = checks::files::container_modes(mapped);
        for (directory, mode) in [(above, 0o700), (directory, directory_mode)] {
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(format!("make {}", directory.display()), &e)),
                _ => {}
            }
            let about = fs::symlink_metadata(directory).map_err(failed)?;
            if !about.is_dir() || about.uid() != user {
                return Err(Error::new(format!("{} is no directory of ours; move it away", directory.display())));
            }
            fs::set_permissions(directory, Permissions::from_mode(mode)).map_err(failed)?;
        }
        let fresh = above.join(format!(".{}.sock", std::process::id()));
        let _ = fs::remove_file(&fresh);
        // Its name in there is longer, and others connect by it: said now, not to them.
        if path.as_os_str().len() > socket::MAX_PATH_BYTES {
            return Err(Error::new(format!("listen at {}: the path is longer than {} bytes (unix(7)): give the container a shorter name", path.display(), socket::MAX_PATH_BYTES)));
        }
        let socket = socket::listen(&fresh, CONTAINER_BACKLOG).map_err(failed)?;
        let moved = fs::set_permissions(&fresh, Permissions::from_mode(mode)).and_then(|()| identity(&fresh)).and_then(|file| fs::rename(&fresh, path).map(|()| file));
        let file = moved.map_err(|e| {
            let _ = fs::remove_file(&fresh);
            failed(e)
        })?;
        Ok(Listener { socket, path: path.to_path_buf(), file: Some(file) })
    }

    /// Whether the file is there, ours, and as it should be.
    pub fn is_in_place(&self, path: &Path, mapped: bool) -> bool {
        let (directory, mode) = checks::files::container_modes(mapped);
        let has = |path: &Path, mode| fs::symlink_metadata(path).ok().filter(|about| about.mode() & 0o7777 == mode);
        let about = path.parent().and_then(|parent| has(parent, directory)).and_then(|_| has(path, mode));
        path == self.path && about.is_some_and(|about| Some(FileId { device: about.dev(), inode: about.ino() }) == self.file)
    }

    /// Takes a container's socket away, if it is still ours. Its directory stays where a container that runs has it mounted, which
    /// finds the next daemon's socket in it, and would look into a directory of no name otherwise.
    pub fn remove_from_container(&self) {
        if identity(&self.path).ok().is_some_and(|now| Some(now) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
        let Some(directory) = self.path.parent() else { return };
        if !is_mounted_elsewhere(directory) {
            // What a guest left that was killed with its container. Nobody is in there any more, and no link is followed.
            let _ = fs::remove_dir_all(paths::guests(directory));
            // The one above as soon as it is empty.
            let _ = fs::remove_dir(directory).and_then(|()| fs::remove_dir(directory.with_file_name("")));
        }
    }

    /// A socket that a supervisor made, and will remove; what belongs beside it is ours.
    pub fn inherit(socket: OwnedFd, path: &Path, user: u32) -> Result<Listener> {
        if let Some(directory) = path.parent().filter(|d| d.is_absolute()) {
            prepare_directory(directory, user)?;
            prepare_refuge(path)?;
        }
        // Supervisors hand over blocking ones: accepting would wait where nobody waits to be accepted.
        files::set_non_blocking(&socket, true).map_err(|e| Error::io("LISTEN_FDS", &e))?;
        Listener::adopt(socket, path.to_path_buf(), None)
    }

    /// A socket that a supervisor, or our own earlier image, made.
    pub fn adopt(socket: OwnedFd, path: PathBuf, file: Option<FileId>) -> Result<Listener> {
        if !socket::is_listener(socket.as_fd()) {
            return Err(Error::new("the inherited descriptor is no listening Unix stream socket"));
        }
        Ok(Listener { socket, path, file })
    }

    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it apart for the process that takes over; the file stays.
    pub fn parts(&self) -> (BorrowedFd<'_>, &Path, Option<FileId>) {
        (self.socket.as_fd(), &self.path, self.file)
    }

    /// Removes what we made: the file if it is still ours, the refuge, the directory once it is empty.
    pub fn remove(&self) {
        handed::remove_shares(&paths::handed(&self.path));
        let (Some(ours), Some(directory)) = (self.file, self.path.parent()) else { return };
        // Without the lock another daemon could put its socket there between the look and the removal.
        let Ok(_lock) = lock(directory, || Ok(())) else { return };
        if identity(&self.path).is_ok_and(|now| now == ours) {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_dir(paths::refuge(&self.path));
            if paths::is_socket_directory(directory) {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn already_running(path: &Path) -> Error {
    Error::new(format!("a daemon already listens at {}; see 'bkt admin daemon status', or end it with 'bkt admin daemon stop'", path.display()))
}

fn identity(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|about| FileId { device: about.dev(), inode: about.ino() })
}

/// Whether a process in another mount namespace has a mount of this directory, proc_pid_mountinfo(5): of one with the same name, at
/// least, for how the path begins depends on what is mounted where.
fn is_mounted_elsewhere(directory: &Path) -> bool {
    let mut parts = directory.iter().rev();
    let (Some(name), Some(above)) = (parts.next(), parts.next()) else { return false };
    let root = [b"/", above.as_bytes(), b"/", name.as_bytes(), b" "].concat();
    let mut seen = vec![None, origin::id(std::process::id(), "ns/mnt")];
    for pid in origin::processes() {
        let namespace = origin::id(pid, "ns/mnt");
        // Many processes, few namespaces.
        if !seen.contains(&namespace) {
            seen.push(namespace);
            if origin::read(pid, "mountinfo", MAX_MOUNTS_BYTES).windows(root.len()).any(|part| part == root) {
                return true;
            }
        }
    }
    false
}

/// The directory, 0700 and ours: whoever else could write there could put a socket of theirs in our place.
fn prepare_directory(directory: &Path, user: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|e| Error::io(format!("make {} (is XDG_RUNTIME_DIR right?)", directory.display()), &e))?;
    let about = fs::metadata(directory).map_err(|e| Error::io(format!("look at {}", directory.display()), &e))?;
    match checks::files::directory(directory, &about, paths::is_socket_directory(directory), user) {
        None => Ok(()),
        Some(Finding { mend: Mend::Modes(path, mode), .. }) => {
            let tightened = fs::set_permissions(&path, Permissions::from_mode(mode));
            tightened.map_err(|e| Error::io(format!("make {} private (mode {mode:o})", path.display()), &e))
        }
        Some(finding) => Err(Error::new(finding.sentence())),
    }
}

/// An empty directory that nothing can be created in, for commands whose own does not exist here.
fn prepare_refuge(socket: &Path) -> Result<()> {
    let refuge = paths::refuge(socket);
    match DirBuilder::new().mode(REFUGE_MODE).create(&refuge) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(&refuge).is_ok_and(|a| a.is_dir()) => {
            fs::set_permissions(&refuge, Permissions::from_mode(REFUGE_MODE)).map_err(|e| Error::io(format!("set the modes of {}", refuge.display()), &e))
        }
        Err(e) => Err(Error::new(format!("make {}: {}; move it away", refuge.display(), reason(&e)))),
    }
}

/// Holds the directory itself locked, so that there is no lock file to leave behind. A daemon that ends removes the directory:
/// then the lock is one on a directory that nobody will find, and the next is tried.
fn lock(directory: &Path, prepare: impl Fn() -> Result<()>) -> Result<File> {
    for _ in 0..LOCK_TRIES {
        prepare()?;
        let open = match File::open(directory) {
            Ok(open) => open,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(format!("open {}", directory.display()), &e)),
        };
        match files::try_lock(&open) {
            Ok(()) if is_at(&open, directory) => return Ok(open),
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => pause_ms(10),
            Err(e) => return Err(Error::io(format!("lock {}", directory.display()), &e)),
        }
    }
    Err(Error::new(format!("another process has held the lock of {} for 2 s; is a daemon hanging there?", directory.display())))
}

fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The lock's holder tells nobody when it is done, so there is nothing to wait on but time.
fn pause_ms(ms: u64) {
    let now = crate::sys::process::monotonic_ms();
    crate::event::Wait::<()>::with_capacity(0).run(now, Some(now + ms));
}
