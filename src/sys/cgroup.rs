//! Control groups, version 2: a part of the tree that has been delegated to this process, cgroups(7).

use crate::sys::check;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where the tree is mounted: alone, or beside version 1 ("hybrid").
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;

/// Marks that systemd leaves on what it delegates; the second can be seen by root only. A user's own systemd leaves none.
const MARKS: [&std::ffi::CStr; 2] = [c"user.delegate", c"trusted.delegate"];

/// Where the process itself goes: a cgroup with others below may have none of its own, once controllers are handed down.
pub const OWN: &str = "daemon";

/// A delegated cgroup, to be divided by us.
#[derive(Debug)]
pub struct Subtree {
    path: PathBuf,
    /// The memory controller is handed down: what runs out of memory is ended as a whole.
    memory: bool,
}

impl Subtree {
    /// The one that this process was started in. The process moves into a leaf of it.
    pub fn enter() -> Option<Subtree> {
        let here = own_cgroup()?;
        let path = subtree_around(&here)?.to_path_buf();
        let leaf = path.join(OWN);
        if here != leaf {
            match fs::create_dir(&leaf) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return None,
                _ => {}
            }
            fs::write(leaf.join("cgroup.procs"), "0").ok()?;
        }
        let memory = fs::write(path.join("cgroup.subtree_control"), "+memory").is_ok();
        Some(Subtree { path, memory })
    }

    /// Makes a cgroup; a process can be born into what is returned.
    pub fn make(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        if self.memory {
            let _ = fs::write(path.join("memory.oom.group"), "1");
        }
        File::open(&path)
    }

    /// Removes a cgroup in which nothing lives any more, with whatever was made below it.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        match fs::remove_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound && !is_populated(&path) => remove_all(&path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    pub fn is_populated(&self, name: &str) -> bool {
        is_populated(&self.path.join(name))
    }

    /// Whether the kernel has killed something in there because memory was short.
    pub fn ran_out_of_memory(&self, name: &str) -> bool {
        let events = fs::read_to_string(self.path.join(name).join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    }

    /// Kills all that lives in a cgroup and below, at one stroke: nothing escapes by forking.
    pub fn kill(&self, name: &str) -> io::Result<()> {
        fs::write(self.path.join(name).join("cgroup.kill"), "1")
    }

    /// The cgroups below, but our own.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != OWN).collect()
    }

    /// Takes the controllers back, so that a supervisor can start another process where it started us: what lives on in cgroups
    /// below would be in its way (EBUSY).
    pub fn give_back(&self) {
        let _ = fs::write(self.path.join("cgroup.subtree_control"), "-memory");
    }
}

/// What of the tree may be delegated to this process.
#[derive(Debug, PartialEq, Eq)]
pub enum Delegated {
    No,
    Yes,
    /// It is that of a unit, whose service manager is to be asked.
    Perhaps(String),
}

/// Whether the cgroup that this process was started in is delegated to it. `resumed`: by an earlier image of it, which knew.
pub fn is_delegated(resumed: bool) -> Delegated {
    let Some(here) = own_cgroup() else { return Delegated::No };
    let Some(path) = subtree_around(&here) else { return Delegated::No };
    let known = if resumed { here != path } else { is_marked(path) };
    match path.file_name().and_then(OsStr::to_str) {
        _ if known => Delegated::Yes,
        Some(unit) if unit.ends_with(".service") && !resumed => Delegated::Perhaps(unit.to_string()),
        _ => Delegated::No,
    }
}

/// What there is to be divided: where we are, or where we were before we went into the leaf.
fn subtree_around(here: &Path) -> Option<&Path> {
    if here.ends_with(OWN) { here.parent() } else { Some(here) }
}

/// What [`Subtree::give_back`] does, for a process that died before it could: called by a helper of its supervisor, which systemd
/// puts into a leaf of that name beside it where the unit's cgroup is delegated, and only there.
pub fn give_back_for_the_dead() {
    if let Some(here) = own_cgroup().filter(|here| here.ends_with(".control"))
        && let Some(parent) = here.parent()
    {
        Subtree { path: parent.to_path_buf(), memory: false }.give_back();
    }
}

fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = MOUNTS.iter().map(Path::new).find(|mount| is_cgroup2(mount))?;
    Some(mount.join(path))
}

fn is_cgroup2(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: plain numbers, zero is valid; the path is a C string.
    unsafe {
        let mut about: libc::statfs = std::mem::zeroed();
        check(libc::statfs(path.as_ptr(), &raw mut about)).is_ok() && about.f_type as i64 == CGROUP2
    }
}

fn is_marked(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    MARKS.iter().any(|mark| {
        let mut value = [0u8; 1];
        // SAFETY: two C strings and a buffer of that length.
        unsafe { libc::getxattr(path.as_ptr(), mark.as_ptr(), value.as_mut_ptr().cast(), 1) == 1 && value == *b"1" }
    })
}

fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
}

/// Directories only: the files in them cannot be removed, and need not be.
fn remove_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_all(&entry.path())?;
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_killed_for_want_of_memory_is_known_from_its_count() {
        let path = std::env::temp_dir().join(format!("bkt-cgroup-{}", std::process::id()));
        fs::create_dir_all(path.join("op")).unwrap();
        let subtree = Subtree { path: path.clone(), memory: true };
        assert!(!subtree.ran_out_of_memory("op"), "no memory controller");
        for (events, short) in [("low 0\nmax 18\noom 1\noom_kill 0\noom_group_kill 0\n", false), ("max 18\noom 1\noom_kill 5\noom_group_kill 1\n", true)] {
            fs::write(path.join("op/memory.events"), events).unwrap();
            assert_eq!(subtree.ran_out_of_memory("op"), short, "{events}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
