//! A connection that carries frames and descriptors, and does not trust its peer.
//!
//! What arrives is owned first, judged afterwards. A buffer grows with the bytes that have come, never with a length that was
//! announced. Writing never blocks: what does not fit waits here, and the owner asks for writability.

use crate::error::counted;
use crate::opid::OpId;
use crate::proto::frame::{self, Bad, HEADER_BYTES, Header};
use crate::proto::message::{self, Code, Message, Refusal};
use crate::sys::socket;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Bytes taken from the kernel at one go: most requests whole, and little enough that the page it needs is one.
const FIRST_READ_BYTES: usize = 3 * 1024;
/// The same for a request that turns out to be large; also what one peer can keep the daemon busy with before others get their
/// turn.
const READ_BYTES: usize = 64 * 1024;

/// A frame that has arrived whole, with its descriptors.
#[derive(Debug)]
pub struct Frame {
    pub header: Header,
    bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// The whole frame, header included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A frame that was taken apart; `None` where the bytes are no whole one.
    pub fn from_parts(bytes: Vec<u8>, fds: Vec<OwnedFd>) -> Option<Frame> {
        let found = frame::peek(&bytes).ok().flatten().filter(|f| f.length == bytes.len())?;
        Some(Frame { header: found.header, bytes, fds })
    }

    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// Bytes; look for frames.
    Some,
    /// Nothing yet.
    None,
    /// The peer has closed, or the connection broke.
    End,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Descriptors that ride on the first byte.
    fds: Vec<OwnedFd>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    incoming: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    fds_lost: bool,
    outgoing: VecDeque<Outgoing>,
    /// Nothing is sent for now.
    held: bool,
}

impl Channel {
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket, incoming: Vec::new(), fds: VecDeque::new(), fds_lost: false, outgoing: VecDeque::new(), held: false }
    }

    /// Reads once. Errors of the connection count as its end: there is nobody left to tell.
    pub fn fill(&mut self) -> Filled {
        // No more than the frame under way needs: what a peer sends beside it waits for the next turn.
        let missing = frame::peek(&self.incoming).ok().flatten().map_or(0, |f| f.length.saturating_sub(self.incoming.len()));
        let most = missing.clamp(FIRST_READ_BYTES, READ_BYTES);
        match socket::receive(self.socket.as_fd(), &mut self.incoming, most) {
            Ok(received) => {
                self.fds.extend(received.fds);
                self.fds_lost |= received.truncated;
                if received.length == 0 { Filled::End } else { Filled::Some }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                // Thousands of silent peers cost a few bytes each, not a buffer.
                if self.incoming.is_empty() {
                    self.incoming = Vec::new();
                }
                Filled::None
            }
            Err(_) => Filled::End,
        }
    }

    /// The next whole frame. An error is the peer's, and final: the stream cannot be trusted to be in step any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Refusal> {
        let found = match frame::peek(&self.incoming) {
            Ok(found) => found,
            Err(Bad::TooShort(length)) => return Err(Refusal::new(Code::BadFrame, format!("a frame of {} is shorter than its header", counted(length as usize, "byte")))),
            Err(Bad::TooLong(length)) => return Err(Refusal::new(Code::BadFrame, format!("a frame of {length} bytes is longer than {} allowed", frame::MAX_BODY))),
        };
        let announced = found.map_or(0, |f| usize::from(f.header.fds));
        if self.fds_lost {
            return Err(Refusal::new(Code::Busy, "no descriptors free to receive more; try again when fewer commands run"));
        }
        if self.fds.len() > socket::MAX_FDS {
            return Err(Refusal::new(Code::BadDescriptors, format!("{} came before a whole frame did", counted(self.fds.len(), "descriptor"))));
        }
        // The first byte of a frame brings all of its descriptors. Before the header is whole nobody can say how many those are.
        if self.fds.len() > announced && (found.is_some() || self.incoming.is_empty()) && !self.more_frames_follow(found) {
            return Err(Refusal::new(Code::BadDescriptors, format!("{} came, and not the {announced} announced", counted(self.fds.len(), "descriptor"))));
        }
        let Some(found) = found.filter(|f| self.incoming.len() >= f.length) else { return Ok(None) };
        if self.fds.len() < announced {
            return Err(Refusal::new(Code::BadDescriptors, format!("{} came, and not the {announced} announced", counted(self.fds.len(), "descriptor"))));
        }
        let rest = self.incoming.split_off(found.length);
        let bytes = std::mem::replace(&mut self.incoming, rest);
        Ok(Some(Frame { header: found.header, bytes, fds: self.fds.drain(..announced).collect() }))
    }

    /// Whether bytes of a later frame are here, to which surplus descriptors may belong.
    fn more_frames_follow(&self, found: Option<frame::Found>) -> bool {
        found.is_some_and(|f| self.incoming.len() > f.length)
    }

    /// Sends a message, or queues what does not fit now.
    pub fn send<M: Message>(&mut self, message: &M, op: Option<OpId>, fds: Vec<OwnedFd>) -> io::Result<()> {
        self.queue(message::encode(message, fds.len(), op), fds)
    }

    fn queue(&mut self, bytes: Vec<u8>, fds: Vec<OwnedFd>) -> io::Result<()> {
        match self.outgoing.back_mut() {
            Some(last) if fds.is_empty() => last.bytes.extend(bytes),
            _ => self.outgoing.push_back(Outgoing { bytes, sent: 0, fds }),
        }
        self.flush()
    }

    /// Sends a frame, where nothing waits to be sent before it, with descriptors that stay the caller's, or fails with all of it unsent. What does
    /// not fit after the first byte, which takes the descriptors along, is queued.
    pub fn begin(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sent = socket::send(self.socket.as_fd(), bytes, fds)?;
        if sent < bytes.len() { self.queue(bytes[sent..].to_vec(), vec![]) } else { Ok(()) }
    }

    /// Hands another connection over, with what has come on it and its descriptors, now or not at all: what fails, or does not fit,
    /// leaves everything as it was.
    pub fn hand_over(&mut self, other: &Channel, op: Option<OpId>, directory: Option<(u64, u64)>) -> io::Result<()> {
        if !self.outgoing.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let fds: Vec<BorrowedFd<'_>> = other.descriptors().map(AsFd::as_fd).collect();
        if fds.len() > socket::MAX_FDS {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let bytes = message::encode(&message::HandOver { bytes: message::Bytes(&other.incoming), directory }, fds.len(), op);
        self.begin(&bytes, &fds)
    }

    /// Keeps what is sent from now on until [`Channel::release`], so that it goes together: each sending wakes the peer.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Sends what was held.
    pub fn release(&mut self) -> io::Result<()> {
        self.held = false;
        self.flush()
    }

    /// Sends what is queued as far as it goes now.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        while let Some(first) = self.outgoing.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = first.fds.iter().map(AsFd::as_fd).collect();
            match socket::send(self.socket.as_fd(), &first.bytes[first.sent..], &fds) {
                Ok(sent) => {
                    first.sent += sent;
                    first.fds.clear();
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(()),
                Err(e) => {
                    // Nobody will ever read what still waits; kept, it would look like something to be sent, for ever.
                    if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
                        self.outgoing.clear();
                    }
                    return Err(e);
                }
            }
            if first.sent == first.bytes.len() {
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }

    /// The header of the frame that has come next, if it has.
    pub fn peek(&self) -> Option<Header> {
        frame::peek(&self.incoming).ok().flatten().map(|found| found.header)
    }

    /// Bytes that wait for the peer to read.
    pub fn unsent(&self) -> usize {
        self.outgoing.iter().map(|o| o.bytes.len() - o.sent).sum()
    }

    /// Bytes that have come and are no whole frame yet.
    pub fn unread(&self) -> usize {
        self.incoming.len()
    }

    /// Ends the connection at once, both ways; its end will be read where all ends are.
    pub fn break_off(&self) {
        socket::shut_down(self.socket.as_fd());
    }

    /// The connection has ended, though maybe with words still unread.
    pub fn peer_is_gone(&self) -> bool {
        socket::peer_is_gone(self.socket.as_fd())
    }

    /// Descriptors wait to be sent; a process that takes over cannot send them.
    pub fn has_unsent_descriptors(&self) -> bool {
        self.outgoing.iter().any(|o| !o.fds.is_empty())
    }

    /// What a process that takes over needs: the socket, what has come and is not used yet, what has not been sent.
    pub fn parts(&self) -> (RawFd, Vec<u8>, Vec<RawFd>, Vec<u8>) {
        let unsent = self.outgoing.iter().flat_map(|o| o.bytes[o.sent..].iter().copied()).collect();
        (self.socket.as_raw_fd(), self.incoming.clone(), self.fds.iter().map(AsRawFd::as_raw_fd).collect(), unsent)
    }

    /// All descriptors among the parts.
    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        std::iter::once(&self.socket).chain(&self.fds)
    }

    /// The reverse of [`Channel::parts`].
    pub fn from_parts(socket: OwnedFd, incoming: Vec<u8>, fds: Vec<OwnedFd>, unsent: Vec<u8>) -> Channel {
        let outgoing = if unsent.is_empty() { VecDeque::new() } else { VecDeque::from([Outgoing { bytes: unsent, sent: 0, fds: vec![] }]) };
        Channel { socket, incoming, fds: fds.into(), fds_lost: false, outgoing, held: false }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
