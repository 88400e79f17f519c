//! What one image of the daemon hands to the next, through `execve(2)`: descriptors stay open, children stay children, blocked
//! signals stay pending. Everything else is in this record, written to memory and read once.

use crate::error::{Error, Result};
use crate::server::guests::{Entering, Guest};
use crate::server::listener::Listener;
use crate::server::session::Session;
use crate::sys::files;
use crate::sys::process::{LIMITS, Limit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Changes with the layout of [`Saved`]. An image that does not know it says so, and the old one stays.
const FORMAT: u32 = 6;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub struct Saved {
    /// Of the earlier image.
    pub release: String,
    /// Callers that wait to hear what became of the reload.
    pub reload_asked: Vec<u64>,
    pub started_ms: u64,
    pub served: u64,
    pub next_id: u64,
    /// The limits that the first image was started with.
    pub limits: [Limit; LIMITS],
    pub listener: SavedListener,
    /// Containers' own, by their names.
    pub doors: Vec<(String, SavedListener)>,
    pub callers: Vec<SavedCaller>,
    pub guests: Vec<Guest>,
    pub entering: Vec<Entering>,
    /// The text of the policy in force.
    pub policy: Option<String>,
    /// What is remembered, as it goes over the wire.
    pub past: Vec<u8>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub struct SavedListener {
    pub fd: RawFd,
    pub path: Vec<u8>,
    /// Device and inode of the file that we made.
    pub file: Option<(u64, u64)>,
}

impl SavedListener {
    pub fn of(listener: &Listener) -> SavedListener {
        let (fd, path, file) = listener.parts();
        SavedListener { fd: fd.as_raw_fd(), path: path.as_os_str().as_bytes().to_vec(), file: file.map(|f| (f.device, f.inode)) }
    }
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub struct SavedCaller {
    pub id: u64,
    pub op: u64,
    pub since_ms: u64,
    pub name: Vec<u8>,
    pub capability: u8,
    pub directory: Vec<u8>,
    pub session: Session,
    pub connection: Option<SavedConnection>,
    /// A request that waits for its turn: the frame's bytes and descriptors.
    pub request: Option<(Vec<u8>, Vec<RawFd>)>,
    pub child: Option<SavedChild>,
    /// Both ends of what holds the command's group, and the signal that our death makes.
    pub group: Option<([RawFd; 2], u8)>,
    pub cgroup: Option<String>,
    /// Whose own socket it came by.
    pub container: Option<String>,
    /// The pty leader that goes out with `Started`.
    pub leader: Option<RawFd>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub struct SavedConnection {
    pub fd: RawFd,
    pub incoming: Vec<u8>,
    pub fds: Vec<RawFd>,
    pub unsent: Vec<u8>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub enum SavedChild {
    Direct { pid: u32, report: Option<RawFd> },
    Monitored { monitor: u32, link: Option<RawFd>, command: u32 },
}

/// Writes the record to memory; the descriptors in it must stay open across the `execve`.
pub fn write(saved: &Saved) -> Result<File> {
    let failed = |e: std::io::Error| Error::io("keep the daemon's state for its next image", &e);
    let mut file = files::memory_file(c"bkt-state").map_err(failed)?;
    let bytes = postcard::to_extend(saved, FORMAT.to_le_bytes().to_vec()).map_err(|e| Error::new(format!("keep the daemon's state: {e}")))?;
    file.write_all(&bytes).and_then(|()| files::rewind(&file)).map_err(failed)?;
    Ok(file)
}

/// Reads the record that another image wrote.
pub fn read(fd: OwnedFd) -> Result<Saved> {
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    files::rewind(&file).and_then(|()| file.read_to_end(&mut bytes)).map_err(|e| Error::io("read the state of the daemon's earlier image", &e))?;
    let Some((format, rest)) = bytes.split_first_chunk::<4>() else { return Err(Error::new("the state of the daemon's earlier image is empty")) };
    if u32::from_le_bytes(*format) != FORMAT {
        return Err(Error::new(format!("the running daemon's state has format {}, this bkt reads {FORMAT}; restart the daemon instead", u32::from_le_bytes(*format))));
    }
    postcard::from_bytes(rest).map_err(|e| Error::new(format!("the state of the daemon's earlier image is damaged: {e}")))
}

/// Keeps descriptors open across `execve`, or not; returns the first failure after trying all.
pub fn keep_open(fds: &[&OwnedFd], keep: bool) -> std::io::Result<()> {
    let mut outcome = Ok(());
    for fd in fds {
        outcome = outcome.and(files::set_close_on_exec(fd, !keep));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_goes_round_and_another_format_is_refused() {
        let caller = SavedCaller {
            id: 3,
            op: 4,
            since_ms: 5,
            name: b"ls".to_vec(),
            capability: 3,
            directory: b"/tmp".to_vec(),
            session: Session::new(6),
            connection: Some(SavedConnection { fd: 7, incoming: vec![1], fds: vec![8], unsent: vec![2] }),
            request: Some((vec![9], vec![10])),
            child: Some(SavedChild::Monitored { monitor: 11, link: Some(12), command: 13 }),
            cgroup: Some("op-1".into()),
            group: Some(([14, 15], 1)),
            container: Some("dev".into()),
            leader: None,
        };
        let listener = SavedListener { fd: 3, path: b"/x".to_vec(), file: Some((1, 2)) };
        let door = SavedListener { fd: 4, path: b"/y".to_vec(), file: Some((1, 3)) };
        let guest = Guest { id: 1, name: b"dev".to_vec(), vouched: true, release: "1".into(), returns: true, since_ms: 5, accepted: vec!["notify".into()], rejected: vec![] };
        let entering = Entering { caller: 3, guest: 1, directory: Some((4, 5)) };
        let saved = Saved {
            release: "0.1".into(),
            reload_asked: vec![3],
            started_ms: 1,
            served: 2,
            next_id: 4,
            limits: [Limit { soft: 7, hard: 8 }; LIMITS],
            listener,
            doors: vec![("dev".into(), door)],
            callers: vec![caller],
            guests: vec![guest],
            entering: vec![entering],
            policy: Some("{}".into()),
            past: vec![0, 0],
        };
        assert_eq!(read(write(&saved).unwrap().into()).unwrap(), saved);

        let mut other = files::memory_file(c"test").unwrap();
        other.write_all(&99u32.to_le_bytes()).unwrap();
        assert!(read(other.into()).unwrap_err().text.contains("format 99"));
    }
}
