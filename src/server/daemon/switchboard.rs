//! The switchboard: containers' guests, who wants to enter, and the other end of it, a guest daemon's own door.

use crate::container::SHOWN_DIGITS;
use crate::error::Result;
use crate::logging::shown;
use crate::proto::channel::{Channel, Frame};
use crate::proto::message::{self, Bytes, Code, Refusal};
use crate::server::daemon::{Daemon, turn_away};
use crate::server::doors::MAX_TOLD_BYTES;
use crate::server::guests::{Entering, Guest, Verdict};
use crate::server::origin::{self, Origin};
use crate::server::session::{Event, State};
use crate::server::upstream::Said;
use crate::sys::files::FileId;
use crate::sys::process;
use std::io;
use std::os::fd::AsFd;

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_string).collect()
}

impl Daemon {
    pub(super) fn on_offer(&mut self, id: u64, offer: &message::Serve<'_>) {
        let (name, vouched) = match self.heed(id, offer.hello.container.0) {
            Some(own) => (own.as_bytes().to_vec(), true),
            None => match self.name_of(id, offer.hello.container.0) {
                Ok(named) => named,
                Err(text) => return self.refuse(id, Refusal::new(Code::Denied, text)),
            },
        };
        let (accepted, rejected) = self.granted(id).judge(&offer.hello.capabilities);
        let now = process::monotonic_ms();
        let guest =
            Guest { id, name, vouched, release: offer.hello.release.to_string(), returns: offer.returns, since_ms: now, accepted: owned(accepted), rejected: owned(rejected) };
        match self.guests.on_offer(guest, now) {
            Verdict::Welcome(guest) => self.welcome(&guest),
            Verdict::Ask(older) => self.reply(older, &message::Ping {}, vec![]),
            Verdict::Replace(older, refusal) => self.refuse(older, refusal),
            Verdict::Refuse(refusal) => self.refuse(id, refusal),
        }
    }

    /// The name of a caller of the user's own socket, and whether the host knows it by that; or why it does not get the one it claims.
    /// Commands that are meant for a container go to whoever has its name: so a container has its own and no other. What nobody here
    /// has named, a sandbox made by hand, says itself what it is called, and may not say that it is a container that runs.
    fn name_of(&mut self, id: u64, claim: &[u8]) -> Result<(Vec<u8>, bool), String> {
        let claimed = if claim.is_empty() { "NAME".to_string() } else { shown(&claim[..claim.len().min(MAX_TOLD_BYTES)]) };
        if self.doors.has(claim) {
            return Err(format!("{claimed} has a socket of its own, and its guest daemon comes by that: mount …/bkt/containers/{claimed} in the place of bkt"));
        }
        let now = process::monotonic_ms();
        match self.origin(id) {
            Origin::Host | Origin::Unnamed if claim.is_empty() => Err("nothing says what this container is called; say it with --name".to_string()),
            Origin::Host | Origin::Unnamed if self.running.look(now).has(claim) => {
                Err(format!("{claimed} is a container that runs here, and this is not in it; take another name"))
            }
            Origin::Host | Origin::Unnamed => Ok((claim.to_vec(), false)),
            Origin::Container { name, id } => {
                let known = if name.is_empty() { self.running.look(now).name_of(&id).map(<[u8]>::to_vec) } else { Some(name) };
                let name = known.clone().unwrap_or_else(|| id[..SHOWN_DIGITS.min(id.len())].to_vec());
                if claim.is_empty() || claim == name || claim.len() >= SHOWN_DIGITS && id.starts_with(claim) {
                    return Ok((name, true));
                }
                // What docker calls its containers is not to be seen from here.
                if known.is_none() && !self.running.look(now).has(claim) {
                    return Ok((claim.to_vec(), false));
                }
                Err(format!("this is the container {}, as the host sees it, and not {claimed}; start it with --name {0}", shown(&name)))
            }
        }
    }

    fn origin(&self, id: u64) -> Origin {
        let channel = self.callers.get(id).and_then(|caller| caller.channel.as_ref());
        channel.map_or(Origin::Unnamed, |channel| origin::of(channel.as_fd(), self.context.root))
    }

    fn welcome(&mut self, guest: &Guest) {
        let whose = if guest.vouched { "" } else { ", by its own word" };
        log::info!("{} has a guest daemon, version {}{whose}", shown(&guest.name), guest.release);
        self.greet(guest);
        self.on(guest.id, Event::Serves);
    }

    /// After a reload: who we are now, and what the policy grants now.
    pub(super) fn greet_again(&mut self) {
        let mut all: Vec<Guest> = self.guests.iter().cloned().collect();
        for guest in &mut all {
            let wanted = [&guest.accepted[..], &guest.rejected].concat();
            let (accepted, rejected) = self.granted(guest.id).judge(&wanted.iter().map(String::as_str).collect::<Vec<_>>());
            [guest.accepted, guest.rejected] = [accepted, rejected].map(owned);
            self.guests.update(guest);
            self.greet(guest);
        }
    }

    fn greet(&mut self, guest: &Guest) {
        let [accepted, rejected] = [&guest.accepted, &guest.rejected].map(|names| names.iter().map(String::as_str).collect());
        let answer = message::HelloAnswer { release: self.options.release, accepted, rejected };
        self.reply(guest.id, &answer, vec![]);
    }

    pub(super) fn on_guest_gone(&mut self, id: u64) {
        let (next, lost) = self.guests.on_gone(id);
        for caller in lost {
            self.refuse(caller, Refusal::new(Code::NoGuest, "the container's guest daemon has just gone; nothing was run"));
        }
        if let Some(next) = next {
            self.welcome(&next);
        }
    }

    pub(super) fn on_enter(&mut self, id: u64, enter: &message::Enter<'_>) -> Result<(), Refusal> {
        let Some(caller) = self.callers.get(id) else { return Ok(()) };
        if !matches!(caller.session.state(), State::Greeting { .. }) {
            return Err(Refusal::new(Code::BadRequest, "a connection enters a container before anything else"));
        }
        self.granted(id).allow_enter(enter.container.0, || self.origin(id) == Origin::Host)?;
        let Some(guest) = self.guests.named(enter.container.0).map(|guest| guest.id) else {
            let text = format!("{} has no guest daemon here; start one in it: 'bkt-guest --daemon', or enter it by 'bkt-guest --entry'", shown(enter.container.0));
            return Err(Refusal::new(Code::NoGuest, text));
        };
        self.guests.entering.push(Entering { caller: id, guest, directory: enter.directory });
        self.hand_over(guest);
        Ok(())
    }

    pub(super) fn allow_control(&self, id: u64) -> Result<(), Refusal> {
        self.granted(id).allow_own("end or reload the host's daemon", || self.origin(id) == Origin::Host)
    }

    /// Passes on who waits for this guest, as far as its link takes it now. A caller stays ours until its connection is on its
    /// way: whether it was taken is always known.
    pub(super) fn hand_over(&mut self, guest: u64) {
        while let Some(entering) = self.guests.entering.iter().find(|entering| entering.guest == guest).copied() {
            let Some(caller) = self.callers.get_mut(entering.caller) else { return };
            let (op, Some(channel)) = (caller.op, caller.channel.take()) else { return };
            let link = self.callers.get_mut(guest).and_then(|guest| guest.channel.as_mut());
            let handed = link.map_or(Err(io::ErrorKind::NotConnected.into()), |link| link.hand_over(&channel, op, entering.directory));
            if handed.is_err()
                && let Some(caller) = self.callers.get_mut(entering.caller)
            {
                caller.channel = Some(channel);
            }
            match handed {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                Ok(()) => {
                    self.guests.entering.retain(|e| e.caller != entering.caller);
                    self.served += 1;
                    self.callers.remove(entering.caller);
                    log::info!(op_id = op; "handed over to {}", self.guests.get(guest).map_or_else(String::new, |guest| shown(&guest.name)));
                }
                Err(e) => {
                    self.guests.entering.retain(|e| e.caller != entering.caller);
                    let code = match e.raw_os_error() {
                        Some(libc::ETOOMANYREFS) => Code::Busy,
                        Some(libc::E2BIG) => Code::BadDescriptors,
                        _ => Code::NoGuest,
                    };
                    self.refuse(entering.caller, Refusal::new(code, format!("the container's guest daemon cannot be reached: {}; nothing was run", crate::error::reason(&e))));
                }
            }
        }
    }

    pub(super) fn reply_guests(&mut self, id: u64) {
        let now = process::monotonic_ms();
        let all: Vec<Guest> = self.guests.iter().cloned().collect();
        let guests = all.iter().map(|guest| message::Guest { container: Bytes(&guest.name), release: &guest.release, since_ms: now.saturating_sub(guest.since_ms) });
        self.reply(id, &message::Guests { guests: guests.collect() }, vec![]);
    }

    /// Tells guests to end: all of them, or those that would not come back to the next daemon.
    pub(super) fn dismiss_guests(&mut self, all: bool) {
        let dismissed: Vec<u64> = self.guests.iter().filter(|guest| all || !guest.returns).map(|guest| guest.id).collect();
        for id in dismissed {
            self.reply(id, &message::Shutdown {}, vec![]);
        }
    }

    // ---- a guest daemon's own door

    pub(super) fn on_upstream(&mut self) {
        let mut filled = true;
        while let Some(said) = self.upstream.as_mut().and_then(|upstream| upstream.hear(std::mem::take(&mut filled))) {
            match said {
                Said::Shutdown => {
                    log::info!("the host's daemon tells this guest to end");
                    self.begin_end();
                }
                Said::HandOver(frame) => self.on_handed_over(frame),
            }
        }
    }

    /// A caller of the host, with what it has said so far. Who it is was judged there.
    fn on_handed_over(&mut self, mut frame: Frame) {
        let mut fds = std::mem::take(&mut frame.fds).into_iter();
        let Some(connection) = fds.next() else { return log::warn!("the host's daemon handed over nothing") };
        self.watch_descriptors(&connection);
        if self.ending_by.is_some() {
            return turn_away(connection, Code::ShuttingDown, "the guest daemon is ending; the command was not started");
        }
        let refused = self.at_limit(&connection);
        let Ok(message::HandOver { bytes, directory }) = message::decode(frame.body()) else {
            return log::warn!("the host's daemon handed over a caller in a way that cannot be read");
        };
        let channel = Channel::from_parts(connection, bytes.0.to_vec(), fds.collect(), vec![]);
        let id = self.take(channel, directory.map(|(device, inode)| FileId { device, inode }), None);
        if let Some(caller) = self.callers.get_mut(id) {
            caller.op = frame.header.op;
        }
        match refused {
            Some(refusal) => self.refuse(id, refusal),
            None => {
                self.on_bytes(id);
                self.on_connection(id, true);
            }
        }
    }
}
