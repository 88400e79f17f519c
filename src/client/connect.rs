//! Finding the daemon: a connection within its deadline, or the reason why there is none.

use crate::error::{Error, Result, reason};
use crate::event::Wait;
use crate::sys::{process, socket};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Connecting and the first answer must come within this; a run itself may take for ever.
pub const HANDSHAKE_MS: u64 = 2_000;

/// How often a full queue is tried again: the kernel has no event for room in somebody else's queue.
const RETRY_MS: u64 = 5;

/// What connecting came to.
pub enum Connection {
    Made(OwnedFd),
    /// Nobody listens there: no request was taken by anybody.
    NoDaemon {
        path: PathBuf,
        why: io::Error,
    },
}

/// Connects to the first socket of the list that exists. An error means that a daemon is there and cannot be used.
pub fn connect(paths: &[PathBuf]) -> Result<Connection> {
    let mut none = None;
    for path in paths {
        match connect_one(path) {
            Ok(socket) => return check_owner(socket, path),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                return Err(Error::new(format!("the daemon at {} does not take our connection within {} s: it is overloaded or stopped", path.display(), HANDSHAKE_MS / 1000)));
            }
            // The first path is the one to speak of, unless a later one exists.
            Err(e) if none.is_none() || e.kind() != io::ErrorKind::NotFound => none = Some((path.clone(), e)),
            Err(_) => {}
        }
    }
    match none {
        Some((path, why)) => Ok(Connection::NoDaemon { path, why }),
        None => Err(Error::new("no path of a daemon's socket is known")),
    }
}

fn connect_one(path: &std::path::Path) -> io::Result<OwnedFd> {
    let mut deadline = None;
    loop {
        match socket::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        let now = process::monotonic_ms();
        if now >= *deadline.get_or_insert(now + HANDSHAKE_MS) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Wait::<()>::with_capacity(0).run(now, Some(now + RETRY_MS));
    }
}

/// A socket in our place that belongs to somebody else would get our environment and our streams.
fn check_owner(socket: OwnedFd, path: &std::path::Path) -> Result<Connection> {
    let own = process::user();
    match socket::peer(socket.as_fd()) {
        Ok(peer) if peer.uid == own || peer.uid == 0 && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| root_is_a_user(&map)) => Ok(Connection::Made(socket)),
        Ok(peer) => Err(Error::new(format!(
            "the daemon at {} belongs to uid {}, not to us (uid {own}); nothing was sent; be that user (in a container: --user {1})",
            path.display(),
            peer.uid
        ))),
        Err(e) => Err(Error::io(format!("ask whose daemon listens at {}", path.display()), &e)),
    }
}

/// Whether root here is an ordinary user outside, by user_namespaces(7): in a rootless container, the one who made it and whose
/// daemon it is. Our environment is not hidden from that user anyway.
fn root_is_a_user(map: &str) -> bool {
    let leads_elsewhere = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next() == Some("0") && fields.next() != Some("0")
    };
    map.lines().any(leads_elsewhere)
}

/// The sentence for a user without a daemon.
pub fn no_daemon(path: &std::path::Path, why: &io::Error) -> Error {
    if why.kind() == io::ErrorKind::PermissionDenied {
        return Error::new(format!(
            "the daemon's socket {} does not let us in: as uid {} here we are not its user outside; start the container with --userns=keep-id, or give it a socket of its own \
             with \"users\": \"mapped\" (bkt(1), POLICY)",
            path.display(),
            process::user()
        ));
    }
    Error::new(format!(
        "no daemon answers at {} ({}); start it on the host: 'bkt-hostd', or 'systemctl --user start bkt-hostd' where it is installed as a unit",
        path.display(),
        reason(why)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_a_user_in_a_rootless_container_and_nowhere_else() {
        assert!(root_is_a_user("         0       1000          1\n         1     100000      65536\n"));
        for map in ["         0          0 4294967295\n", "      1000       1000          1\n", "", "         1     100000      65536\n"] {
            assert!(!root_is_a_user(map), "{map:?}");
        }
    }
}
