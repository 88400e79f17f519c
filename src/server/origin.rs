//! Where a caller is, as the kernel and the programs that run containers tell it. Nothing is believed that a container could say of
//! itself: what lies in its file system it writes, and its processes call themselves what they like.
//!
//! podman's containers each have a conmon on this side, whose arguments are the container's name and id: it is above the
//! container's processes, or its id is the one that their cgroup is named after. Other managers name the cgroup after the container.

use crate::container;
use crate::sys::files::{self, FileId};
use crate::sys::{process, socket};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

/// The program that podman leaves with each container, conmon(8).
const MONITOR: &str = "conmon";
/// Processes above one another: more than there ever are, and not for ever.
const MAX_ABOVE: usize = 64;
/// How long what was seen is good for.
const LOOK_MS: u64 = 1_000;
/// What is read of one file in /proc. A conmon's arguments are 2 KiB, and begin with what is looked for.
const MAX_BYTES: u64 = 16 * 1024;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The daemon's own side.
    Host,
    /// A container; its name is empty where only its id is known.
    Container { name: Vec<u8>, id: Vec<u8> },
    /// Elsewhere, and nobody on this side has a name for it: a sandbox by hand, or a process that /proc does not show (`hidepid`).
    Unnamed,
}

/// The origin of whoever connected; `root` is the root directory of this side.
pub fn of(connection: BorrowedFd<'_>, root: FileId) -> Origin {
    let looked = socket::peer(connection).and_then(|peer| Ok((peer.pid, socket::peer_process(connection)?)));
    let Ok((pid @ 1.., process)) = looked else { return Origin::Unnamed };
    let here = Here::look();
    let origin = if here.is_of_host(pid, root) { Origin::Host } else { here.in_container(pid) };
    // Should it have ended meanwhile, this was not told of it.
    if socket::has_ended(process.as_fd()) { Origin::Unnamed } else { origin }
}

/// The containers that run here, name and id, as of a moment ago: to look takes milliseconds, and anybody who connects can ask for it.
#[derive(Default)]
pub struct Running {
    looked_ms: Option<u64>,
    all: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Running {
    pub fn look(&mut self, now: u64) -> &Running {
        if self.looked_ms.is_none_or(|at| now >= at + LOOK_MS) {
            self.looked_ms = Some(now);
            self.all.clear();
            let here = Here::look();
            let by_cgroup = |pid| here.of_cgroup(pid).filter(|name| !container::is_id(name)).map(|name| (without_escapes(&name), vec![]));
            for one in processes().into_iter().filter_map(|pid| here.monitored(pid).or_else(|| by_cgroup(pid))) {
                if !self.all.contains(&one) {
                    self.all.push(one);
                }
            }
        }
        self
    }

    pub fn has(&self, name: &[u8]) -> bool {
        self.all.iter().any(|(its, _)| its == name)
    }

    pub fn name_of(&self, id: &[u8]) -> Option<&[u8]> {
        self.all.iter().find(|(_, its)| its == id).map(|(name, _)| &**name)
    }
}

/// This side, against which others are told. All this the kernel answers by itself; nothing of another process's is touched that could
/// keep us waiting.
struct Here {
    cgroup: Vec<u8>,
    processes: Option<FileId>,
}

impl Here {
    fn look() -> Here {
        let own = std::process::id();
        Here { cgroup: read(own, "cgroup", MAX_BYTES), processes: id(own, "ns/pid") }
    }

    /// Whether a process is this side's: in our user namespace, with our root directory, and in no container's cgroup. The root alone
    /// says little: who has a user namespace of its own can make any directory its root, also the host's where the container sees
    /// that; and root's containers can without one, chroot(2). And first the namespace, which the kernel knows: a root may lie on a
    /// file system whose answer would never come.
    fn is_of_host(&self, pid: u32, root: FileId) -> bool {
        let theirs = id(pid, "ns/user");
        theirs.is_some() && theirs == id(std::process::id(), "ns/user") && id(pid, "root") == Some(root) && self.of_cgroup(pid).is_none()
    }

    fn in_container(&self, pid: u32) -> Origin {
        let named = self.of_cgroup(pid);
        if let Some(name) = named.as_deref().filter(|name| !container::is_id(name)) {
            return Origin::Container { name: without_escapes(name), id: vec![] };
        }
        // The uppermost: those below it the container may have made.
        let (mut found, mut at) = (None, Some(pid));
        for _ in 0..MAX_ABOVE {
            let Some(pid) = at else { break };
            found = self.monitored(pid).or(found);
            at = parent(pid);
        }
        match (named, found) {
            (None, None) => Origin::Unnamed,
            (None, Some((name, id))) => Origin::Container { name, id },
            (Some(id), Some((name, of))) if of == id => Origin::Container { name, id },
            // A process that its starter has left behind has nobody above it any more; see `Running`.
            (Some(id), _) => Origin::Container { name: vec![], id },
        }
    }

    /// The container's name or id, by its cgroup.
    fn of_cgroup(&self, pid: u32) -> Option<Vec<u8>> {
        container::of_other(&read(pid, "cgroup", MAX_BYTES), &self.cgroup)
    }

    /// What a conmon of ours watches over; one that a container has in itself is none, nor is another user's, who can give any
    /// program this name, and have its memory read from where no answer comes.
    fn monitored(&self, pid: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let is_conmon = read(pid, "comm", MAX_BYTES).trim_ascii_end() == MONITOR.as_bytes();
        let is_ours = is_conmon && is_trusted(pid) && self.has_our_processes(pid) && self.of_cgroup(pid).is_none();
        if is_ours { monitored(pid) } else { None }
    }

    /// Whether a process is in our process namespace. Of root's processes (root's podman, `distrobox --root`) the link is not for
    /// us to read; how many numbers it has is: one in each namespace from ours down to its own.
    fn has_our_processes(&self, pid: u32) -> bool {
        id(pid, "ns/pid").map_or_else(|| status(pid, b"NSpid:").split(|b| *b == b'\t').count() == 1, |theirs| Some(theirs) == self.processes)
    }
}

/// Whether all user ids of a process are our user's, or root's. What runs set-user-ID keeps its caller's.
fn is_trusted(pid: u32) -> bool {
    let ids = status(pid, b"Uid:");
    let are = |user: u32| ids.split(|b| *b == b'\t').all(|id| id == user.to_string().as_bytes());
    are(process::user()) || are(0)
}

/// A line of its status, the numbers alone, proc_pid_status(5).
fn status(pid: u32, field: &[u8]) -> Vec<u8> {
    let status = read(pid, "status", MAX_BYTES);
    status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim_ascii().to_vec()
}

/// The name and the id of the container that a conmon watches over.
fn monitored(pid: u32) -> Option<(Vec<u8>, Vec<u8>)> {
    let line = read(pid, "cmdline", MAX_BYTES);
    let after = |option: &[u8]| line.split(|b| *b == 0).skip_while(|word| *word != option).nth(1).map(<[u8]>::to_vec);
    Some((after(b"-n")?, after(b"-c")?))
}

/// The number in its stat, behind the name in parentheses, proc_pid_stat(5).
fn parent(pid: u32) -> Option<u32> {
    let stat = read(pid, "stat", MAX_BYTES);
    let behind = stat.iter().rposition(|b| *b == b')')?;
    let number = stat[behind..].split(|b| *b == b' ').nth(2)?;
    std::str::from_utf8(number).ok()?.parse().ok().filter(|pid| *pid > 0)
}

/// All that are seen here.
pub fn processes() -> Vec<u32> {
    let mut all = vec![];
    if let Ok(entries) = fs::read_dir("/proc") {
        for entry in entries {
            let number: Option<u32> = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse().ok());
            all.extend(number);
        }
    }
    all
}

/// The beginning of a process's file in /proc; nothing where it may not be read.
pub fn read(pid: u32, what: &str, most: u64) -> Vec<u8> {
    let mut text = vec![];
    if let Ok(file) = File::open(format!("/proc/{pid}/{what}")) {
        let _ = file.take(most).read_to_end(&mut text);
    }
    text
}

/// What one of its links in /proc leads to.
pub fn id(pid: u32, what: &str) -> Option<FileId> {
    files::file_id(&CString::new(format!("/proc/{pid}/{what}")).ok()?).ok()
}

/// systemd writes a hyphen in a unit's name as `\x2d`, systemd.unit(5).
fn without_escapes(name: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (vec![], name);
    while let Some((first, after)) = rest.split_first() {
        let hyphen = rest.strip_prefix(br"\x2d");
        plain.push(if hyphen.is_some() { b'-' } else { *first });
        rest = hyphen.unwrap_or(after);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn our_own_process_is_of_the_host_and_has_a_parent() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert_eq!(of(a.as_fd(), files::file_id(c"/").unwrap()), Origin::Host);
        assert_ne!(of(a.as_fd(), FileId::default()), Origin::Host, "with another root");
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert!(processes().contains(&std::process::id()));
    }

    #[test]
    fn a_units_name_is_read_as_its_user_wrote_it() {
        assert_eq!(without_escapes(br"my\x2dbox\x2dtoo"), b"my-box-too");
        assert_eq!(without_escapes(br"plain\x41"), br"plain\x41");
    }
}
