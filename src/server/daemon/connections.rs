//! Who calls: connections are accepted, read, answered and closed, and none of them takes the room of the others.

use crate::checks;
use crate::error::counted;
use crate::proto::channel::{Channel, Filled};
use crate::proto::frame;
use crate::proto::message::{self, Code, Message, Refusal};
use crate::server::caller::Caller;
use crate::server::daemon::Daemon;
use crate::server::listener::Listener;
use crate::server::session::Event;
use crate::sys::files::FileId;
use crate::sys::process;
use crate::sys::socket;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

/// Connections at once. A run needs one descriptor of ours, two with a terminal, three where it lasts; the kernel's usual hard limit is 4096 or more.
const MAX_CALLERS: usize = 4096;
/// Of those, by one container's own socket: more than it needs, and far from all. An eighth of the descriptors where they are few.
const MAX_CALLERS_OF_CONTAINER: usize = 256;
/// Descriptors kept free for starting commands: a pty, a pipe, `/dev/null`, and some. A fifth of a limit that is very low.
const SPARE_DESCRIPTORS: u64 = 32;
/// Bytes of requests whose commands do not run yet, of all callers together: eight of the largest.
const MAX_PENDING_BYTES: usize = 8 * frame::MAX_BODY;
/// Likewise by one container's own socket.
const MAX_PENDING_BYTES_OF_CONTAINER: usize = 2 * frame::MAX_BODY;
/// One connection's share of them that is not worth adding up for.
const SMALL_REQUEST_BYTES: usize = 16 * 1024;
/// Bytes that may wait for one peer to read; one that reads nothing is as good as gone.
const MAX_UNSENT_BYTES: usize = 64 * 1024;
/// Connections accepted in one turn, likewise.
const ACCEPTS_PER_TURN: usize = 64;
/// How long last words may wait to be read.
pub(super) const LAST_WORDS_MS: u64 = 2_000;
/// Warnings about descriptors are not repeated sooner: they come and go with every connection.
const SAME_WARNING_MS: u64 = 60_000;

impl Daemon {
    pub(super) fn on_connections(&mut self, at: Option<usize>) {
        for accepted in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.door(at) else { return };
            match socket::accept(listener.as_fd()) {
                Ok(connection) => {
                    self.on_accepted(connection, at);
                    // Often it is the only one, and has asked already: it need not wait until we know that nobody else is there.
                    if accepted == 0 && self.queue.len() == 1 {
                        self.start_queued();
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                Err(e) => {
                    if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) && self.on_full_table(&e, at) {
                        continue;
                    }
                    // Whoever waits there still waits, and would wake us at once.
                    self.pause_until = Some(process::monotonic_ms() + 50);
                    return;
                }
            }
        }
    }

    /// The user's own socket, or the container's of that place.
    fn door(&self, at: Option<usize>) -> Option<&Listener> {
        at.map_or(self.listener.as_ref(), |at| self.doors.get(at).map(|door| &door.listener))
    }

    fn on_accepted(&mut self, connection: OwnedFd, at: Option<usize>) {
        self.watch_descriptors(&connection);
        let own = process::user();
        let door = at.and_then(|at| self.doors.get(at));
        let refused = match socket::peer(connection.as_fd()) {
            Ok(peer) if peer.uid != own && !door.is_some_and(|door| self.doors.admits(door, peer.uid)) => {
                Some(Refusal::new(Code::Denied, format!("this daemon serves uid {own} only; you are uid {}", peer.uid)))
            }
            Err(e) => Some(Refusal::new(Code::Internal, format!("cannot tell who is calling: {e}"))),
            Ok(_) => self.at_limit(&connection).or_else(|| self.at_limit_of(&door?.name)),
        };
        let container = door.map(|door| door.name.clone());
        let mut channel = Channel::new(connection);
        if refused.is_some() {
            // Only to learn which operation it is that is refused.
            channel.fill();
        }
        let id = self.take(channel, None, container);
        match refused {
            Some(refusal) => self.refuse(id, refusal),
            // A client writes right after it connects: often it is all there.
            None => self.on_connection(id, true),
        }
    }

    pub(super) fn take(&mut self, channel: Channel, origin: Option<FileId>, container: Option<Rc<str>>) -> u64 {
        let now = process::monotonic_ms();
        let id = self.next_id;
        self.next_id += 1;
        self.callers.insert(id, Caller::new(channel, origin, container, now));
        id
    }

    pub(super) fn at_limit(&self, connection: &OwnedFd) -> Option<Refusal> {
        let spare = SPARE_DESCRIPTORS.min(self.descriptor_limit / 5);
        let few_left = connection.as_raw_fd() as u64 + spare >= self.descriptor_limit;
        (self.callers.len() >= MAX_CALLERS || few_left)
            .then(|| Refusal::new(Code::Busy, format!("commands and callers: {}, and this daemon can hold no more; try again", self.callers.len())))
    }

    /// What one container's callers may hold, so that it does not take everybody's room.
    fn at_limit_of(&self, container: &str) -> Option<Refusal> {
        let most = MAX_CALLERS_OF_CONTAINER.min(self.descriptor_limit as usize / 8).max(1);
        let held = self.callers.values().filter(|c| c.container.as_deref() == Some(container)).count();
        (held >= most).then(|| Refusal::new(Code::Busy, format!("commands and callers of the container {container}: {held}, and it may have no more at once; try again")))
    }

    /// The kernel gives the lowest free number, so the number of a new descriptor says how many there are at least.
    pub(super) fn watch_descriptors(&mut self, newest: &OwnedFd) {
        let high = checks::daemon::is_crowded(newest.as_raw_fd() as u64, self.descriptor_limit);
        if high && self.may_warn() {
            log::warn!("{} of at most {} descriptors are open", newest.as_raw_fd() + 1, self.descriptor_limit);
        }
    }

    fn may_warn(&mut self) -> bool {
        let now = process::monotonic_ms();
        let due = self.descriptor_warned.is_none_or(|at| now - at >= SAME_WARNING_MS);
        if due {
            self.descriptor_warned = Some(now);
        }
        due
    }

    /// Not even one descriptor is left to say so with: the reserve is. Says whether it served.
    fn on_full_table(&mut self, error: &io::Error, at: Option<usize>) -> bool {
        if self.may_warn() {
            log::error!("accept: {error}; callers are told to try again");
        }
        self.reserve = None;
        let accepted = self.door(at).map(|l| socket::accept(l.as_fd()));
        let told = accepted.and_then(io::Result::ok).map(|connection| turn_away(connection, Code::Busy, "the daemon has no free descriptor; try again"));
        self.reserve = File::open("/dev/null").ok();
        told.is_some() && self.reserve.is_some()
    }

    pub(super) fn on_connection(&mut self, id: u64, readable: bool) {
        if self.guests.is_entering(id) {
            // Its guest reads the rest. Nothing was asked for but a hangup.
            return self.on_gone(id);
        }
        if self.guests.is_waited_for(id) {
            self.hand_over(id);
        }
        let Some(caller) = self.callers.get_mut(id) else { return };
        let Some(channel) = &mut caller.channel else { return };
        if channel.flush().is_err() {
            return self.on_gone(id);
        }
        if caller.close_by.is_some() {
            if channel.unsent() == 0 {
                caller.channel = None;
                self.forget_if_over(id);
            }
            return;
        }
        if !readable {
            return;
        }
        match channel.fill() {
            Filled::None => {}
            Filled::End => self.on_gone(id),
            Filled::Some => self.on_bytes(id),
        }
    }

    pub(super) fn on_gone(&mut self, id: u64) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        if let Some(channel) = &caller.channel
            && channel.unread() > 0
        {
            log::warn!(op_id = caller.op; "a caller left in the middle of a request ({})", counted(channel.unread(), "byte"));
        }
        caller.channel = None;
        // Nobody will take it any more; kept, it would hold up a command that nobody reads.
        caller.leader = None;
        // Whether the command has begun decides how its child is ended.
        self.on_child(id);
        self.on(id, Event::Gone);
    }

    pub(super) fn on_bytes(&mut self, id: u64) {
        while let Some(caller) = self.callers.get_mut(id) {
            let Some(channel) = &mut caller.channel else { return };
            if caller.close_by.is_some() || self.guests.is_entering(id) {
                return;
            }
            // Known from now on, should the rest never come.
            let (op, next) = (channel.peek().and_then(|header| header.op), channel.next_frame());
            let unread = channel.unread();
            caller.learn_op(op);
            match next {
                Err(refusal) => return self.refuse(id, refusal),
                Ok(Some(frame)) => self.on_frame(id, frame),
                Ok(None) if unread > SMALL_REQUEST_BYTES && self.has_too_much_pending(id) => {
                    return self.refuse(id, Refusal::new(Code::Busy, "too many large requests at once; try again"));
                }
                Ok(None) => return,
            }
        }
    }

    /// Of all callers, or of those that came by this one's container's socket.
    fn has_too_much_pending(&self, id: u64) -> bool {
        let container = self.callers.get(id).and_then(|c| c.container.as_deref());
        let its = |c: &&Caller| container.is_some() && c.container.as_deref() == container;
        let pending = Caller::pending_bytes;
        self.callers.values().map(pending).sum::<usize>() > MAX_PENDING_BYTES || self.callers.values().filter(its).map(pending).sum::<usize>() > MAX_PENDING_BYTES_OF_CONTAINER
    }

    pub(super) fn reply<M: Message>(&mut self, id: u64, message: &M, fds: Vec<OwnedFd>) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        if let Some(channel) = &mut caller.channel
            && channel.send(message, caller.op, fds).is_err()
        {
            // Its end will be read where all ends are.
            log::debug!(op_id = caller.op; "the caller is gone");
        }
        if let Some(channel) = &caller.channel
            && channel.unsent() > MAX_UNSENT_BYTES
        {
            log::warn!(op_id = caller.op; "a caller reads nothing; it is taken for gone");
            channel.break_off();
        }
    }

    pub(super) fn release(&mut self, id: u64) {
        if let Some(caller) = self.callers.get_mut(id)
            && let Some(channel) = &mut caller.channel
            && channel.release().is_err()
        {
            // Its end will be read where all ends are.
            log::debug!(op_id = caller.op; "the caller is gone");
        }
    }

    pub(super) fn hang_up(&mut self, id: u64) {
        self.release(id);
        let Some(caller) = self.callers.get_mut(id) else { return };
        match &caller.channel {
            Some(channel) if channel.unsent() > 0 => caller.close_by = Some(process::monotonic_ms() + LAST_WORDS_MS),
            _ => caller.channel = None,
        }
    }

    pub(super) fn forget_if_over(&mut self, id: u64) {
        if self.callers.get(id).is_some_and(|c| c.session.is_over() && c.channel.is_none()) {
            // A monitor that still has to exit is waited for like any child; only nobody asks for it any more.
            if let Some(name) = self.callers.get_mut(id).and_then(|c| c.cgroup.take()) {
                self.cgroups.forget(name);
            }
            self.callers.remove(id);
        }
    }
}

/// A container's own socket is no more.
pub(super) fn close_door(listener: &Listener, code: Code, text: &str) {
    listener.remove_from_container();
    turn_all_away(listener, code, text);
}

/// Those that wait to be accepted where nobody will.
pub(super) fn turn_all_away(listener: &Listener, code: Code, text: &str) {
    while let Ok(connection) = socket::accept(listener.as_fd()) {
        turn_away(connection, code, text);
    }
}

/// A refusal for a connection that is not even taken.
pub(super) fn turn_away(connection: OwnedFd, code: Code, text: &str) {
    let mut channel = Channel::new(connection);
    channel.fill();
    let op = channel.peek().and_then(|header| header.op);
    let _ = channel.send(&message::Refused { code: code as u8, text }, op, vec![]);
}
