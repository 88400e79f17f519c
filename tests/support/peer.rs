//! A client of our own making: it speaks to the daemon's socket byte by byte, as rightly or wrongly as a test wants.

use super::{Host, PATIENCE, eventually, stat_field, text};
use bkt::opid::OpId;
use bkt::proto::channel::{Channel, Filled};
use bkt::proto::message::{self, Bytes, Code, Message, Run, Stream, kind};
use bkt::sys::process::Inheritance;
use bkt::sys::socket;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Peer {
    pub channel: Channel,
}

/// What the daemon said.
#[derive(Debug)]
pub struct Answer {
    pub kind: u8,
    pub op: Option<OpId>,
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Peer {
    pub fn connect(host: &Host) -> Peer {
        Peer::connect_to(&host.socket())
    }

    /// The same by another of the daemon's sockets.
    pub fn connect_to(path: &Path) -> Peer {
        let mut made = None;
        eventually("the daemon's queue has room", || {
            made = match socket::connect(path) {
                Ok(socket) => Some(socket),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                Err(e) => panic!("connect: {e}"),
            };
            made.is_some()
        });
        Peer { channel: Channel::new(made.unwrap()) }
    }

    /// Sends all of the bytes, the descriptors with the first; stops without complaint where the daemon has hung up.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let (mut rest, mut fds) = (bytes, fds);
        let end = Instant::now() + PATIENCE;
        while !rest.is_empty() {
            match socket::send(self.channel.as_fd(), rest, fds) {
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(libc::POLLOUT, 100),
                Err(_) => return,
            }
            assert!(Instant::now() < end, "the daemon reads nothing");
        }
    }

    pub fn say<M: Message>(&self, message: &M, op: Option<OpId>) {
        self.send(&message::encode(message, 0, op), &[]);
    }

    /// Waits until the daemon has taken everything that was sent.
    pub fn wait_taken(&self) {
        eventually("the daemon reads what was sent", || {
            let mut waiting: libc::c_int = 0;
            // SAFETY: one int.
            unsafe { libc::ioctl(self.channel.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
            waiting == 0
        });
    }

    fn wait(&self, events: i16, ms: i32) {
        let mut poll = libc::pollfd { fd: self.channel.as_fd().as_raw_fd(), events, revents: 0 };
        // SAFETY: one valid structure.
        unsafe { libc::poll(&raw mut poll, 1, ms) };
    }

    /// The next answer; `None` when the daemon has hung up.
    #[track_caller]
    pub fn answer(&mut self) -> Option<Answer> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.channel.next_frame().expect("the daemon's frames are well-formed") {
                return Some(Answer { kind: frame.header.kind, op: frame.header.op, body: frame.body().to_vec(), fds: frame.fds });
            }
            match self.channel.fill() {
                Filled::Some => {}
                Filled::End => return None,
                Filled::None => self.wait(libc::POLLIN, 50),
            }
            assert!(Instant::now() < end, "no answer");
        }
    }

    /// The next answer, which must be of this kind.
    #[track_caller]
    pub fn expect(&mut self, wanted: u8) -> Answer {
        let answer = self.answer().expect("an answer, not a hangup");
        if answer.kind == kind::Refused && wanted != kind::Refused {
            let refused: message::Refused<'_> = message::decode(&answer.body).unwrap();
            panic!("refused: {}", refused.text);
        }
        assert_eq!(answer.kind, wanted, "{answer:?}");
        answer
    }

    /// The refusal that must come next, and the hangup that must follow it.
    #[track_caller]
    pub fn refusal(&mut self) -> (Code, String, Option<OpId>) {
        let answer = self.expect(kind::Refused);
        let refused: message::Refused<'_> = message::decode(&answer.body).unwrap();
        assert!(refused.text.len() > 10, "a sentence, not {:?}", refused.text);
        let found = (Code::from_number(refused.code), refused.text.to_string(), answer.op);
        assert!(self.answer().is_none(), "the daemon hangs up after a refusal");
        found
    }

    /// The command's end, after whatever else is said.
    #[track_caller]
    pub fn exit(&mut self) -> message::Exited {
        loop {
            let answer = self.answer().expect("the command's end, not a hangup");
            match answer.kind {
                kind::Exited => return message::decode(&answer.body).unwrap(),
                kind::Refused => panic!("refused: {}", message::decode::<message::Refused<'_>>(&answer.body).unwrap().text),
                _ => {}
            }
        }
    }
}

pub const SUCCESS: message::Exited = message::Exited { by_signal: false, value: 0 };

/// A run whose streams are all `/dev/null`: no descriptors needed.
pub fn run(args: &[u8]) -> Run<'_> {
    Run {
        args: Bytes(args),
        env: Bytes(b""),
        set_env: Bytes(b""),
        unset_env: Bytes(b""),
        clear_env: false,
        directory: Bytes(b"/"),
        directory_required: false,
        streams: [Stream::Null; 3],
        extra: vec![],
        terminal: None,
        inheritance: Inheritance { umask: 0o22, ..Inheritance::default() },
        detach: false,
        not_on_root: None,
        container: Bytes(b"hostile"),
        capability: 0,
    }
}

/// What the daemon has and has spent, to be compared before and after.
pub struct Account<'h> {
    host: &'h Host,
    /// How `exit 7` ends there: with 125 where the policy denies it.
    serves: i32,
    descriptors: usize,
    warnings: usize,
}

impl<'h> Account<'h> {
    pub fn open(host: &'h Host) -> Account<'h> {
        Account::of(host, 7)
    }

    /// The same of a daemon whose policy denies commands.
    pub fn of_narrow(host: &'h Host) -> Account<'h> {
        Account::of(host, 125)
    }

    fn of(host: &'h Host, serves: i32) -> Account<'h> {
        assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(serves));
        let mut before = 0;
        // Its last connection may be on its way out.
        eventually("the daemon is at rest", || {
            let now = host.descriptors();
            std::mem::replace(&mut before, now) == now && host.children().is_empty()
        });
        Account { host, serves, descriptors: host.descriptors(), warnings: warnings(host).len() }
    }

    /// Everything is as before: descriptors, children, zombies; the daemon serves, and sleeps when nobody asks. So many bad peers
    /// are worth so many lines, no more and no fewer.
    #[track_caller]
    pub fn close(self, bad_peers: usize) {
        let host = self.host;
        eventually("no child is left", || host.children().is_empty());
        assert_eq!(host.zombies(), 0);
        eventually(&format!("the daemon has its {} descriptors, not {}", self.descriptors, host.descriptors()), || host.descriptors() == self.descriptors);
        let new = warnings(host).split_off(self.warnings);
        assert_eq!(new.len(), bad_peers, "one line for each bad peer: {new:#?}");
        assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(self.serves), "the daemon serves");
        assert_asleep(host.pid());
    }
}

/// The daemon does not run at all while nobody asks for anything.
#[track_caller]
pub fn assert_asleep(pid: u32) {
    let spent = || (wakeups(pid), stat_field(pid, 11), stat_field(pid, 12));
    // What was just answered may still be put away.
    std::thread::sleep(Duration::from_millis(50));
    let before = spent();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(spent(), before, "wake-ups, user and system time while idle");
}

/// How often the process has gone to sleep, which is how often it had woken up.
pub fn wakeups(pid: u32) -> u64 {
    status_field(pid, "voluntary_ctxt_switches:")
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    status_field(pid, "VmRSS:")
}

fn status_field(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Warnings and errors in the daemon's log.
pub fn warnings(host: &Host) -> Vec<String> {
    let grave = |line: &&str| line.contains(r#""level":"warn""#) || line.contains(r#""level":"error""#);
    host.log().lines().filter(grave).map(str::to_string).collect()
}

pub fn op(number: u64) -> Option<OpId> {
    OpId::from_bits(number)
}

/// Raises our own soft limit of descriptors as far as it goes.
pub fn raise_descriptor_limit(wanted: u64) {
    assert!(bkt::sys::process::raise_descriptor_limit() >= wanted, "this test needs {wanted} descriptors");
}

/// An assertion on text that shows it.
#[track_caller]
pub fn assert_says(bytes: &[u8], wanted: &str) {
    let said = text(bytes);
    assert!(said.contains(wanted), "no {wanted:?} in {said:?}");
}
