//! Everything asked of the daemon that is no run: how it is, to reload, to end.

use crate::client::connect::{self, Connection, HANDSHAKE_MS};
use crate::error::{Error, Result, counted};
use crate::event::Wait;
use crate::opid::OpId;
use crate::proto::channel::{Channel, Filled, Frame};
use crate::proto::message::{self, Code, Message, kind};
use crate::sys::{files, process};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A reload is answered when it is over: the new binary has 2 s to say that it can follow, twice where somebody else asks meanwhile.
const RELOAD_MS: u64 = 6_000;

/// How the daemon is, with everything owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub release: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub served: u64,
    pub descriptors: u32,
    pub descriptor_limit: u64,
    pub supervised: bool,
    pub cgroups: bool,
    pub policy: Vec<u8>,
    pub policy_stamp: u64,
    /// `NAME=VALUE`, NUL-terminated.
    pub session: Vec<u8>,
    pub policy_error: String,
    /// The daemon's root directory is ours: this is its side.
    pub same_side: bool,
    pub running: Vec<Running>,
    /// So many more run.
    pub untold: usize,
    pub seen: Vec<Seen>,
    /// The oldest first.
    pub errors: Vec<Failed>,
}

/// A container that the daemon has run commands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: Vec<u8>,
    pub ago_ms: u64,
    pub runs: u64,
}

/// A refusal or failure that the daemon remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub op: Option<OpId>,
    pub ago_ms: u64,
    pub code: Code,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub op: Option<OpId>,
    pub pid: u32,
    pub since_ms: u64,
    pub name: Vec<u8>,
    pub terminal: bool,
}

/// What there is at the socket.
#[derive(Debug)]
pub enum Found {
    Running(Status),
    /// The file is there and nobody listens.
    Stale(PathBuf),
    Nothing(PathBuf),
    /// One runs, and does not tell here: this is a container's own socket. Its words say what that may have.
    Reserved(String),
}

/// Asks how the daemon is. An error means that one is there and does not answer as it should.
pub fn status(sockets: &[PathBuf], op: OpId) -> Result<Found> {
    match connect::connect(sockets)? {
        Connection::NoDaemon { path, .. } if std::fs::symlink_metadata(&path).is_ok() => Ok(Found::Stale(path)),
        Connection::NoDaemon { path, .. } => Ok(Found::Nothing(path)),
        Connection::Made(socket) => {
            let frame = exchange(Channel::new(socket), &message::StatusRequest {}, op, kind::Status, HANDSHAKE_MS)?;
            match refusal(&frame)? {
                None => owned(&frame).map(Found::Running),
                Some(refused) if Code::from_number(refused.code) == Code::Denied => Ok(Found::Reserved(refused.text.to_string())),
                Some(refused) => Err(Error::new(refused.text)),
            }
        }
    }
}

fn owned(frame: &Frame) -> Result<Status> {
    let status: message::Status<'_> = message::decode(frame.body()).map_err(unreadable)?;
    let running = status.running.iter().map(|r| Running { op: OpId::from_bits(r.op), pid: r.pid, since_ms: r.since_ms, name: r.name.0.to_vec(), terminal: r.terminal });
    let ago = |at_ms: u64| status.clock_ms.saturating_sub(at_ms);
    let seen = status.past.seen.iter().map(|s| Seen { name: s.name.0.to_vec(), ago_ms: ago(s.at_ms), runs: s.runs });
    let errors = status.past.errors.iter();
    let errors = errors.map(|e| Failed { op: OpId::from_bits(e.op), ago_ms: ago(e.at_ms), code: Code::from_number(e.code), text: e.text.to_string() });
    Ok(Status {
        release: status.release.to_string(),
        pid: status.pid,
        uptime_ms: status.uptime_ms,
        served: status.served,
        descriptors: status.descriptors,
        descriptor_limit: status.descriptor_limit,
        supervised: status.supervised,
        cgroups: status.cgroups,
        policy: status.policy.0.to_vec(),
        session: status.session.0.to_vec(),
        policy_stamp: status.policy_stamp,
        policy_error: status.policy_error.to_string(),
        same_side: files::file_id(c"/").is_ok_and(|root| (root.device, root.inode) == status.root),
        running: running.collect(),
        untold: status.untold as usize,
        seen: seen.collect(),
        errors: errors.collect(),
    })
}

/// A container's guest daemon, and how it is where it could be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    pub container: Vec<u8>,
    pub release: String,
    pub since_ms: u64,
    pub status: Result<Status>,
}

/// Asks the daemon which guests there are, and each of them what runs there.
pub fn guests(sockets: &[PathBuf], op: OpId) -> Result<Vec<Guest>> {
    let frame = tell(sockets, &message::GuestsRequest {}, op, kind::Guests, HANDSHAKE_MS)?;
    let all: message::Guests<'_> = message::decode(frame.body()).map_err(unreadable)?;
    let guest = |guest: &message::Guest<'_>| Guest {
        container: guest.container.0.to_vec(),
        release: guest.release.to_string(),
        since_ms: guest.since_ms,
        status: status_of_guest(sockets, guest.container, op),
    };
    Ok(all.guests.iter().map(guest).collect())
}

fn status_of_guest(sockets: &[PathBuf], container: message::Bytes<'_>, op: OpId) -> Result<Status> {
    let Connection::Made(socket) = connect::connect(sockets)? else { return Err(Error::new("the daemon has just ended")) };
    let mut channel = Channel::new(socket);
    channel.send(&message::Enter { container, directory: None }, Some(op), vec![]).map_err(|e| Error::io("ask the daemon", &e))?;
    owned(&ask(channel, &message::StatusRequest {}, op, kind::Status, HANDSHAKE_MS)?)
}

/// Tells the daemon to re-execute itself in place; what came of it, for people.
pub fn reload(sockets: &[PathBuf], op: OpId) -> Result<String> {
    let frame = tell(sockets, &message::Reload {}, op, kind::Reloaded, RELOAD_MS)?;
    let message::Reloaded { from, to, running, waiting } = message::decode(frame.body()).map_err(unreadable)?;
    let waiting = if waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
    Ok(format!("reloaded: version {from} -> {to}, {} still running{waiting}\n", counted(running as usize, "command")))
}

/// Tells the daemon to end.
pub fn stop(sockets: &[PathBuf], op: OpId) -> Result<()> {
    tell(sockets, &message::Stop {}, op, kind::Done, HANDSHAKE_MS).map(drop)
}

/// One question to a daemon that must be there.
fn tell<M: Message>(sockets: &[PathBuf], message: &M, op: OpId, answer: u8, within_ms: u64) -> Result<Frame> {
    match connect::connect(sockets)? {
        Connection::NoDaemon { path, why } => Err(connect::no_daemon(&path, &why)),
        Connection::Made(socket) => ask(Channel::new(socket), message, op, answer, within_ms),
    }
}

fn unreadable(refusal: message::Refusal) -> Error {
    Error::new(format!("the daemon's answer cannot be read: {}", refusal.text))
}

/// One question, one answer of the kind expected, within the deadline.
fn ask<M: Message>(channel: Channel, question: &M, op: OpId, answer: u8, within_ms: u64) -> Result<Frame> {
    let frame = exchange(channel, question, op, answer, within_ms)?;
    match refusal(&frame)? {
        None => Ok(frame),
        Some(refused) => Err(Error::new(refused.text)),
    }
}

fn refusal(frame: &Frame) -> Result<Option<message::Refused<'_>>> {
    if frame.header.kind != kind::Refused {
        return Ok(None);
    }
    message::decode(frame.body()).map(Some).map_err(|r| Error::new(r.into_text()))
}

/// The same, where the answer may be a refusal.
fn exchange<M: Message>(mut channel: Channel, question: &M, op: OpId, answer: u8, within_ms: u64) -> Result<Frame> {
    let deadline = process::monotonic_ms() + within_ms;
    channel.send(question, Some(op), vec![]).map_err(|e| Error::io("ask the daemon", &e))?;
    loop {
        match channel.next_frame().map_err(unreadable)? {
            Some(frame) if frame.header.kind == answer || frame.header.kind == kind::Refused => return Ok(frame),
            Some(frame) => return Err(Error::new(format!("the daemon answered with a message of kind {}, which we do not know", frame.header.kind))),
            None => {}
        }
        let now = process::monotonic_ms();
        if now >= deadline {
            return Err(Error::new(format!("the daemon has not answered within {} s: it is stopped or overloaded", within_ms / 1000)));
        }
        let mut wait = Wait::with_capacity(1);
        wait.watch((), channel.as_fd(), true, channel.unsent() > 0);
        if !wait.run(now, Some(deadline)).is_empty() && channel.flush().is_ok() && channel.fill() == Filled::End {
            return Err(Error::new("the daemon closed the connection without an answer"));
        }
    }
}
