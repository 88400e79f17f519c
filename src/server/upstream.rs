//! The door of a guest daemon: no listener, but a link to the host's daemon, over which it is handed its callers.
//!
//! The plan of connecting is decided without I/O by `Attempts`; `Upstream` keeps the link and does what the plan says.

use crate::error::{Error, Result, reason};
use crate::opid::OpId;
use crate::proto::capability::Capability;
use crate::proto::channel::{Channel, Filled, Frame};
use crate::proto::frame;
use crate::proto::message::{self, Bytes, Code, Hello, Message, Serve, kind};
use crate::sys::{process, socket};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often the host's socket is tried before there is taken to be no host.
const ATTEMPTS: u32 = 3;
/// The time between: a host's daemon that is being restarted is back within one of them.
const ATTEMPT_MS: u64 = 500;
/// The longest time between two attempts of a guest that is to come back: what a user may wait for it after a host's restart.
const MOST_MS: u64 = 30_000;
/// How long the host may take to answer our hello: it asks an older guest of our name first.
const ANSWER_MS: u64 = 3_000;

/// Told what is granted, by the capabilities' names.
pub type OnGranted = Box<dyn Fn(&[&str])>;

/// Asked whether another file has taken the place of ours; whoever says yes starts that one when the daemon has ended.
pub type IsReplaced = Box<dyn Fn() -> bool>;

/// What a guest daemon is started with.
pub struct Wanted {
    pub sockets: Vec<PathBuf>,
    /// What it is called, where that is known here.
    pub container: Vec<u8>,
    /// Come back when the link is lost.
    pub reconnect: bool,
    /// End after so long without a message and without a run.
    pub idle_ms: Option<u64>,
    /// The release of the host, where it was handed down by whoever started the container; a difference has been told then.
    pub host_release: Option<String>,
    /// Called with what is granted, each time it may have changed.
    pub on_granted: OnGranted,
    pub is_replaced: IsReplaced,
}

/// When to try next, decided from how often it was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Attempts {
    failed: u32,
}

impl Attempts {
    /// After one more failure: when to try again, or that it is enough.
    fn next(&mut self, now: u64, reconnect: bool) -> Option<u64> {
        self.failed += 1;
        if self.failed < ATTEMPTS {
            return Some(now + ATTEMPT_MS);
        }
        let doubled = ATTEMPT_MS << (self.failed - ATTEMPTS).min(16);
        reconnect.then(|| now + doubled.min(MOST_MS))
    }
}

enum State {
    /// Not connected: to be tried at that time.
    Waiting {
        at: u64,
    },
    /// The hello is sent; the answer has until then.
    Asking {
        channel: Channel,
        until: u64,
    },
    Linked(Channel),
    /// Nothing more will come from there.
    Over,
}

pub struct Upstream {
    wanted: Wanted,
    release: &'static str,
    attempts: Attempts,
    state: State,
    told: bool,
    /// The host is of another release: should ours have been installed here too, it is time to become that.
    outdated: bool,
    /// When the last message came, or the last run ended.
    active_ms: u64,
    /// Nothing ran when we last looked.
    idle: bool,
    /// Why it is over, where that is a failure.
    pub failure: Option<Error>,
}

/// What the host says that is not about the link itself.
pub enum Said {
    /// A caller for us.
    HandOver(Frame),
    Shutdown,
}

impl Upstream {
    /// The first attempt is due at once.
    pub fn new(wanted: Wanted, release: &'static str, now: u64) -> Upstream {
        let told = wanted.host_release.as_deref().is_some_and(|host| warn_of_difference(release, host));
        Upstream { wanted, release, attempts: Attempts::default(), state: State::Waiting { at: now }, told, outdated: false, active_ms: now, idle: true, failure: None }
    }

    /// For people.
    pub fn container(&self) -> &[u8] {
        if self.wanted.container.is_empty() { b"this container" } else { &self.wanted.container }
    }

    /// Whether nothing more will come from the host.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The descriptor to be watched, and whether something waits to be written to it.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.state {
            State::Asking { channel, .. } | State::Linked(channel) => Some((channel.as_fd(), channel.unsent() > 0)),
            State::Waiting { .. } | State::Over => None,
        }
    }

    /// When [`Upstream::on_time`] is wanted; `idle` says that nothing runs here.
    pub fn deadline(&self, idle: bool) -> Option<u64> {
        let own = match self.state {
            State::Waiting { at } => Some(at),
            State::Asking { until, .. } => Some(until),
            State::Linked(_) | State::Over => None,
        };
        [own, self.idle_until(idle)].into_iter().flatten().min()
    }

    fn idle_until(&self, idle: bool) -> Option<u64> {
        self.wanted.idle_ms.filter(|_| idle && !self.is_over()).map(|ms| self.active_ms.saturating_add(ms))
    }

    pub fn on_time(&mut self, now: u64, idle: bool) {
        match self.state {
            State::Waiting { at } if at <= now => self.connect(now),
            State::Asking { until, .. } if until <= now => self.fail(now, Error::new(format!("the host's daemon has not answered within {} s", ANSWER_MS / 1000))),
            _ => {}
        }
        // A run that goes on, or has just ended, is as good as a message.
        if !(idle && self.idle) {
            self.active_ms = now;
        }
        self.idle = idle;
        if self.outdated && idle && !self.is_over() && (self.wanted.is_replaced)() {
            log::info!("nothing runs: becoming the version that is installed here now");
            self.state = State::Over;
        }
        if self.idle_until(idle).is_some_and(|at| at <= now) {
            log::info!("nothing was asked for in {} s: ending", self.wanted.idle_ms.unwrap_or(0) / 1000);
            self.state = State::Over;
        }
    }

    fn connect(&mut self, now: u64) {
        match connect_first(&self.wanted.sockets) {
            Ok(connection) => {
                let mut channel = Channel::new(connection);
                // All there are: which of them are granted is the listener's to say.
                let capabilities = Capability::ALL.iter().map(|capability| capability.word()).collect();
                let hello = Hello { release: self.release, container: Bytes(&self.wanted.container), capabilities };
                match channel.send(&Serve { hello, returns: self.wanted.reconnect }, None, vec![]) {
                    Ok(()) => self.state = State::Asking { channel, until: now + ANSWER_MS },
                    Err(e) => self.fail(now, Error::io("say hello to the host's daemon", &e)),
                }
            }
            Err(error) => self.fail(now, error),
        }
    }

    /// One attempt, or the link, has failed.
    fn fail(&mut self, now: u64, error: Error) {
        match self.attempts.next(now, self.wanted.reconnect) {
            Some(at) => {
                log::debug!("{}; trying again in {} ms", error.text, at - now);
                self.state = State::Waiting { at };
            }
            None => self.end(Some(error)),
        }
    }

    fn end(&mut self, failure: Option<Error>) {
        self.state = State::Over;
        self.failure = failure;
    }

    /// Reads what has come; what is for others to do is returned, until there is nothing more.
    pub fn hear(&mut self, filled: bool) -> Option<Said> {
        let now = process::monotonic_ms();
        let (State::Asking { channel, .. } | State::Linked(channel)) = &mut self.state else { return None };
        let _ = channel.flush();
        let ended = filled && channel.fill() == Filled::End;
        loop {
            let (State::Asking { channel, .. } | State::Linked(channel)) = &mut self.state else { return None };
            match channel.next_frame() {
                Ok(Some(frame)) => {
                    self.active_ms = now;
                    if let Some(said) = self.on_frame(frame, now) {
                        return Some(said);
                    }
                }
                Ok(None) if ended => {
                    self.on_lost(now);
                    return None;
                }
                Ok(None) => return None,
                Err(refusal) => {
                    self.end(Some(Error::new(format!("the host's daemon cannot be understood: {}", refusal.text))));
                    return None;
                }
            }
        }
    }

    fn on_frame(&mut self, frame: Frame, now: u64) -> Option<Said> {
        match frame.header.kind {
            kind::Refused => self.on_refused(&frame, now),
            _ if frame.header.version != frame::VERSION => {
                let text = format!("the host's daemon speaks protocol version {}, this guest {}: install the same bkt on both sides", frame.header.version, frame::VERSION);
                self.end(Some(Error::new(text)));
            }
            kind::HelloAnswer => {
                if let Ok(answer) = message::decode::<message::HelloAnswer<'_>>(frame.body()) {
                    self.on_welcome(&answer);
                }
            }
            kind::Ping => self.say(&message::Pong {}),
            kind::Shutdown => return Some(Said::Shutdown),
            kind::HandOver => return Some(Said::HandOver(frame)),
            other => log::warn!("the host's daemon sent a message of kind {other}, which means nothing to a guest"),
        }
        None
    }

    /// The answer to our hello, and once more after each reload of the host's daemon: release and policy may be others.
    fn on_welcome(&mut self, answer: &message::HelloAnswer<'_>) {
        self.outdated = answer.release != self.release;
        if !self.told {
            self.told = warn_of_difference(self.release, answer.release);
        }
        log::info!("connected to the host's daemon; granted: {}; not granted: {}", answer.accepted.join(", "), answer.rejected.join(", "));
        (self.wanted.on_granted)(&answer.accepted);
        self.attempts = Attempts::default();
        if let State::Asking { channel, .. } | State::Linked(channel) = std::mem::replace(&mut self.state, State::Over) {
            self.state = State::Linked(channel);
        }
    }

    /// What passes by itself is tried again; the rest is an answer.
    fn on_refused(&mut self, frame: &Frame, now: u64) {
        let (code, text) = match message::decode::<message::Refused<'_>>(frame.body()) {
            Ok(refused) => (Code::from_number(refused.code), refused.text.to_string()),
            Err(refusal) => (Code::Internal, refusal.into_text()),
        };
        let error = Error::new(format!("the host's daemon refuses: {text}"));
        if matches!(code, Code::Busy | Code::ShuttingDown | Code::TooSlow | Code::Internal) { self.fail(now, error) } else { self.end(Some(error)) }
    }

    /// The link has ended: what runs here goes on, with its clients.
    fn on_lost(&mut self, now: u64) {
        if matches!(self.state, State::Asking { .. }) {
            return self.fail(now, Error::new("the host's daemon hung up on our hello"));
        }
        if self.wanted.reconnect {
            log::info!("the link to the host's daemon is lost; trying to get it back");
            self.state = State::Waiting { at: now + ATTEMPT_MS };
        } else {
            log::info!("the link to the host's daemon is lost");
            self.end(None);
        }
    }

    fn say<M: Message>(&mut self, message: &M) {
        if let State::Linked(channel) = &mut self.state {
            // Its end will be read where all ends are.
            let _ = channel.send(message, None::<OpId>, vec![]);
        }
    }

    /// No more callers: the host is to know at once.
    pub fn close(&mut self) {
        self.state = State::Over;
    }
}

/// Says so and returns true where the releases differ.
fn warn_of_difference(guest: &str, host: &str) -> bool {
    let differs = guest != host;
    if differs {
        log::warn!("this guest is version {guest}, the host {host}: install the same bkt on both sides; where it is the same file this guest becomes it when nothing runs");
    }
    differs
}

fn connect_first(paths: &[PathBuf]) -> Result<OwnedFd> {
    let mut first = None;
    for path in paths {
        match socket::connect(path) {
            Ok(connection) => return check_owner(connection, path),
            Err(e) if first.is_none() || e.kind() != io::ErrorKind::NotFound => {
                first = Some(Error::new(format!("no daemon of the host answers at {} ({}); start it there: 'bkt-hostd'", path.display(), reason(&e))));
            }
            Err(_) => {}
        }
    }
    Err(first.unwrap_or_else(|| Error::new("no path of the host's socket is known")))
}

/// Whoever is at the other end has commands run by us.
fn check_owner(connection: OwnedFd, path: &Path) -> Result<OwnedFd> {
    let own = process::user();
    match socket::peer(connection.as_fd()) {
        Ok(peer) if peer.uid == own => Ok(connection),
        Ok(peer) => Err(Error::new(format!("the daemon at {} belongs to uid {}, not to us (uid {own}); be that user: --user {1}", path.display(), peer.uid))),
        Err(e) => Err(Error::io(format!("ask whose daemon listens at {}", path.display()), &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(reconnect: bool, count: usize) -> Vec<Option<u64>> {
        let mut attempts = Attempts::default();
        (0..count).map(|_| attempts.next(1_000, reconnect).map(|at| at - 1_000)).collect()
    }

    #[test]
    fn a_host_is_tried_three_times_half_a_second_apart() {
        assert_eq!(waits(false, 3), [Some(500), Some(500), None]);
    }

    #[test]
    fn a_guest_that_is_to_come_back_waits_longer_each_time_and_never_longer_than_half_a_minute() {
        let all = waits(true, 40);
        assert_eq!(all[..6], [Some(500), Some(500), Some(500), Some(1_000), Some(2_000), Some(4_000)]);
        assert!(all[8..].iter().all(|wait| *wait == Some(MOST_MS)), "{all:?}");
    }
}
