//! One wait: interests in, readiness out.
//!
//! A loop says what it waits for from its state, waits once, acts, and says it again: nothing is registered, so nothing can be
//! stale. May import: floors 0 and 1.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;

/// The longest that poll(2) waits at one go: some 24 days.
const MAX_WAIT_MS: u64 = i32::MAX as u64;

/// What a descriptor is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The other end is gone, or the descriptor is broken; there may still be something to read.
    pub hangup: bool,
}

/// The interests of one turn of a loop; `T` names whose they are.
pub struct Wait<'fd, T> {
    fds: Vec<PollFd<'fd>>,
    names: Vec<T>,
}

impl<'fd, T: Copy> Wait<'fd, T> {
    pub fn with_capacity(capacity: usize) -> Wait<'fd, T> {
        Wait { fds: Vec::with_capacity(capacity), names: Vec::with_capacity(capacity) }
    }

    /// A hangup is reported even where neither reading nor writing is asked for.
    pub fn watch(&mut self, name: T, fd: BorrowedFd<'fd>, read: bool, write: bool) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, read);
        flags.set(PollFlags::POLLOUT, write);
        self.fds.push(PollFd::new(fd, flags));
        self.names.push(name);
    }

    /// Waits until something is ready or `deadline_ms` (of the same clock as `now_ms`) has come; for ever without one, which is
    /// right where every peer is watched by the kernel and its end is an event.
    pub fn run(mut self, now_ms: u64, deadline_ms: Option<u64>) -> Vec<(T, Ready)> {
        let timeout = match deadline_ms {
            None => PollTimeout::NONE,
            // One more than the difference: the clock's milliseconds are rounded down, and waking early would only spin.
            Some(at) => PollTimeout::try_from(at.saturating_sub(now_ms).saturating_add(u64::from(at > now_ms)).min(MAX_WAIT_MS)).unwrap_or(PollTimeout::ZERO),
        };
        match poll(&mut self.fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Vec::new(),
            // EFAULT and EINVAL cannot be; ENOMEM may be, and passes.
            Ok(_) | Err(_) => {}
        }
        let ready = |fd: &PollFd<'_>| {
            let got = fd.revents().unwrap_or(PollFlags::empty());
            let hangup = got.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL);
            Ready { readable: got.contains(PollFlags::POLLIN), writable: got.contains(PollFlags::POLLOUT), hangup }
        };
        let all = self.fds.iter().map(ready).zip(self.names);
        all.filter(|(r, _)| r.readable || r.writable || r.hangup).map(|(r, name)| (name, r)).collect()
    }
}
