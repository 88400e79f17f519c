//! The service manager, which is told how the daemon is, sd_notify(3): all of it in its order, and without waiting.
//!
//! Its queue may be full, at a login for example: what it does not take then is told as soon as it has room. At the daemon's end
//! nothing is waited for, for that is seen.

use crate::sys::socket;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub struct Supervisor {
    /// `NOTIFY_SOCKET`, where there is anybody to be told.
    path: Option<PathBuf>,
    untold: Vec<String>,
    /// Connected while there is something to be told: only so does poll(2) say when there is room at the other end.
    link: Option<OwnedFd>,
}

impl Supervisor {
    pub fn new(path: Option<PathBuf>) -> Supervisor {
        Supervisor { path, untold: Vec::new(), link: None }
    }

    pub fn tell(&mut self, words: String) {
        if self.path.is_some() {
            self.untold.push(words);
            self.go_on();
        }
    }

    /// What can be written to when [`Supervisor::go_on`] is wanted.
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    pub fn go_on(&mut self) {
        match self.tell_all() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) => log::warn!("tell the service manager (NOTIFY_SOCKET): {e}"),
            Ok(()) => {}
        }
        self.untold.clear();
        self.link = None;
    }

    fn tell_all(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let link = match self.link.take() {
            Some(link) => link,
            None => socket::connect_datagram(path)?,
        };
        let link = self.link.insert(link);
        while let Some(words) = self.untold.first() {
            socket::send(link.as_fd(), words.as_bytes(), &[])?;
            self.untold.remove(0);
        }
        Ok(())
    }
}
