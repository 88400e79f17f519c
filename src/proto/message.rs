//! What is said: one type a kind. Numbers and field orders are the protocol; `tests` holds their golden bytes.
//!
//! Strings that a command gets are bytes from end to end: each is NUL-terminated, one after the other, in one run of bytes, so
//! that their number needs no count and their pointers can lead straight into the received frame.

use crate::error::counted;
use crate::exit;
use crate::opid::OpId;
use crate::proto::frame::{self, Header};
pub use crate::proto::refusal::{Code, Refusal};
use crate::sys::process::Inheritance;
use crate::sys::terminal::{Modes, Size};
use serde::{Deserialize, Serialize, Serializer};

/// Bytes that are written in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Bytes<'a>(#[serde(borrow)] pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Bytes", &Raw(self.0))
    }
}

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A kind of frame: its number, and how its body looks.
pub trait Message: Serialize {
    const KIND: u8;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? = $number:literal;)*) => {
        /// The numbers of the kinds.
        pub mod kind {
            $($(#[$doc])* #[allow(non_upper_case_globals)] pub const $name: u8 = $number;)*
        }
        $(impl $(<$life>)? Message for $name $(<$life>)? { const KIND: u8 = $number; })*
    };
}

kinds! {
    /// Opens a longer conversation; a run needs none.
    Hello<'a> = 1;
    /// Runs a command. Descriptors: each [`Stream::Passed`] in order, then [`Run::extra`] in order, then the caller's terminal
    /// where [`Run::terminal`] is given.
    Run<'a> = 2;
    Signal = 3;
    Continue = 4;
    Foreground = 5;
    StatusRequest = 6;
    Reload = 7;
    Stop = 8;
    /// A container's guest daemon says hello, and stays to be handed those who want to enter. Answered like a hello.
    Serve<'a> = 16;
    /// The next frame of this connection is for a container's guest, and follows at once: the server hands the connection over as
    /// it is. The next frame's descriptors may ride on this one's first byte, so that both can be sent in one go.
    Enter<'a> = 17;
    /// The guest's answer to a ping.
    Pong = 18;
    GuestsRequest = 19;
    HelloAnswer<'a> = 129;
    Accepted = 130;
    /// Descriptors: the pty's leader where the run has a terminal; else none, or one that is only to be kept open: it has the
    /// command's group hung up on when the server dies.
    Started = 131;
    Stopped = 132;
    Continued = 133;
    Exited = 134;
    /// Number and body are the same in every version.
    Refused<'a> = 135;
    Status<'a> = 136;
    Done = 137;
    Reloaded<'a> = 138;
    /// Asks a guest whether it is still there.
    Ping = 144;
    /// The guest is to end.
    Shutdown = 145;
    /// Descriptors: the connection that wants to enter, then those that had come on it and are not used yet.
    HandOver<'a> = 146;
    Guests<'a> = 147;
}

/// Who is calling and what it would like to use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// The release of the caller's bkt, for a warning when it differs.
    pub release: &'a str,
    /// What the caller says it is called; on a container's own socket the listener knows better.
    pub container: Bytes<'a>,
    #[serde(borrow)]
    pub capabilities: Vec<&'a str>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HelloAnswer<'a> {
    pub release: &'a str,
    #[serde(borrow)]
    pub accepted: Vec<&'a str>,
    #[serde(borrow)]
    pub rejected: Vec<&'a str>,
}

/// A guest daemon's hello.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Serve<'a> {
    #[serde(borrow)]
    pub hello: Hello<'a>,
    /// It comes back by itself when the server does: a server that restarts need not end it.
    pub returns: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enter<'a> {
    #[serde(borrow)]
    pub container: Bytes<'a>,
    /// Identity of the caller's directory (device, inode), by which the guest finds it under whatever path it has there.
    pub directory: Option<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ping {}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pong {}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shutdown {}

/// A connection for the guest to go on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandOver<'a> {
    /// What had come on it and belongs to the guest; the rest is still in the socket.
    #[serde(borrow)]
    pub bytes: Bytes<'a>,
    /// As in [`Enter`].
    pub directory: Option<(u64, u64)>,
}

/// Asks which guests there are; not an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GuestsRequest {}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guests<'a> {
    #[serde(borrow)]
    pub guests: Vec<Guest<'a>>,
}

/// One guest daemon that is connected now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guest<'a> {
    #[serde(borrow)]
    pub container: Bytes<'a>,
    pub release: &'a str,
    pub since_ms: u64,
}

/// What one of the command's standard streams is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Stream {
    /// Closed at the caller, closed at the command.
    Closed,
    /// A descriptor of the caller, passed as it is.
    Passed,
    /// The follower of the run's pty.
    Terminal,
    /// `/dev/null` of the server.
    Null,
}

/// The caller's terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// Its modes, which the pty gets, and which are put back if the client dies with the terminal in raw mode.
    pub modes: Modes,
    pub size: Size,
    /// The command starts in the pty's foreground; else it is stopped, and lent the terminal, when it first needs it.
    pub foreground: bool,
    /// The terminal's descriptor rides along.
    pub passed: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run<'a> {
    #[serde(borrow)]
    pub args: Bytes<'a>,
    /// The caller's whole environment.
    pub env: Bytes<'a>,
    /// `NAME=VALUE` to add and names to take away, last of all.
    pub set_env: Bytes<'a>,
    pub unset_env: Bytes<'a>,
    /// Nothing of either side's environment.
    pub clear_env: bool,
    pub directory: Bytes<'a>,
    /// The directory was asked for by name: that it is missing is an error.
    pub directory_required: bool,
    pub streams: [Stream; 3],
    /// The numbers of further descriptors, 3 or higher.
    pub extra: Vec<u16>,
    pub terminal: Option<Terminal>,
    pub inheritance: Inheritance,
    /// The command is to survive its caller.
    pub detach: bool,
    /// Identity of the caller's root directory (device, inode): a server with the same one refuses with `same_side`.
    pub not_on_root: Option<(u64, u64)>,
    /// The caller's container, as it says, for the log.
    pub container: Bytes<'a>,
    /// A [`Capability`](crate::proto::capability::Capability), as its number. With another than `host_exec` the server itself does
    /// what is asked for: `args` is not a command but what to do, in that capability's own words, and nothing of the caller's
    /// environment, directory or terminal counts.
    pub capability: u8,
}

impl Run<'_> {
    /// How many descriptors the frame must bring.
    pub fn descriptors(&self) -> usize {
        let passed = self.streams.iter().filter(|s| **s == Stream::Passed).count();
        passed + self.extra.len() + usize::from(self.terminal.is_some_and(|t| t.passed))
    }
}

/// The client caught this signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signal {
    pub signal: u8,
}

/// The client is running again: continue the command, in the pty's foreground or background.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Continue {
    pub foreground: bool,
}

/// Moves the command between the pty's foreground and background while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Foreground {
    pub foreground: bool,
}

/// Asks how the daemon is; not an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusRequest {}

/// The daemon is to re-execute itself in place; it answers when it has, or knows that it cannot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reload {}

/// The daemon is to end, as by SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stop {}

/// The request was taken; the command will start when its turn comes. Sent only where starting takes noticeable time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {}

/// The command has exec'ed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// In the server's PID namespace.
    pub pid: u32,
}

/// The command was stopped by this signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stopped {
    pub signal: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Continued {}

/// The command's end: by exit with a code, or by a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exited {
    pub by_signal: bool,
    pub value: u8,
}

impl From<exit::End> for Exited {
    fn from(end: exit::End) -> Exited {
        match end {
            exit::End::Code(value) => Exited { by_signal: false, value },
            exit::End::Signal(value) => Exited { by_signal: true, value },
        }
    }
}

impl From<Exited> for exit::End {
    fn from(exited: Exited) -> exit::End {
        if exited.by_signal { exit::End::Signal(exited.value) } else { exit::End::Code(exited.value) }
    }
}

/// What was asked for has been done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {}

/// The daemon has become its next image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded<'a> {
    /// The releases before and after.
    pub from: &'a str,
    pub to: &'a str,
    /// Commands that run on, and those that wait for their turn to be started.
    pub running: u32,
    pub waiting: u32,
}

/// A typed refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused<'a> {
    /// A [`Code`], as its number.
    pub code: u8,
    /// What is wrong and what to try.
    pub text: &'a str,
}

/// What commands are lost without, and what is told of the daemon's environment: to its own user, who asks whether it is of the
/// session of now.
pub const OF_THE_SESSION: &[&str] = &["PATH", "WAYLAND_DISPLAY", "DISPLAY", "DBUS_SESSION_BUS_ADDRESS"];

/// How the daemon is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status<'a> {
    pub release: &'a str,
    pub pid: u32,
    pub uptime_ms: u64,
    /// Runs that were taken since the daemon first started; a reload does not reset it.
    pub served: u64,
    pub descriptors: u32,
    pub descriptor_limit: u64,
    /// Identity of the daemon's root directory (device, inode): a caller with the same one is on its side.
    pub root: (u64, u64),
    /// The daemon's clock, by which the times below are to be read.
    pub clock_ms: u64,
    /// A service manager started it, and will again.
    pub supervised: bool,
    /// Each command has a cgroup of its own.
    pub cgroups: bool,
    /// Those variables of the daemon that [`OF_THE_SESSION`] names, as NUL-terminated strings.
    #[serde(borrow)]
    pub session: Bytes<'a>,
    /// The policy file that narrows what is allowed; empty where none does.
    #[serde(borrow)]
    pub policy: Bytes<'a>,
    /// What tells its text from others; 0 is none.
    pub policy_stamp: u64,
    /// Why what that file says now is not in force; empty where it is.
    pub policy_error: &'a str,
    #[serde(borrow)]
    pub running: Vec<Running<'a>>,
    /// So many more run: an answer has its limits.
    pub untold: u32,
    #[serde(borrow)]
    pub past: Past<'a>,
}

/// What the daemon remembers; it outlives a reload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Past<'a> {
    #[serde(borrow)]
    pub seen: Vec<Seen<'a>>,
    /// The oldest first.
    #[serde(borrow)]
    pub errors: Vec<Failed<'a>>,
}

/// A container that has asked for runs, by the name it gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen<'a> {
    #[serde(borrow)]
    pub name: Bytes<'a>,
    pub at_ms: u64,
    pub runs: u64,
}

/// A refusal or failure of the past.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed<'a> {
    pub op: u64,
    pub at_ms: u64,
    /// A [`Code`], as its number.
    pub code: u8,
    pub text: &'a str,
}

/// One command that runs now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Running<'a> {
    pub op: u64,
    pub pid: u32,
    pub since_ms: u64,
    /// The command's name, without its arguments.
    #[serde(borrow)]
    pub name: Bytes<'a>,
    pub terminal: bool,
}

/// A whole frame around a message.
pub fn encode<M: Message>(message: &M, fds: usize, op: Option<OpId>) -> Vec<u8> {
    let header = Header { version: frame::VERSION, kind: M::KIND, fds: fds as u8, op };
    // Into memory, of plain numbers and bytes: nothing in it can fail.
    frame::build(header, |bytes| postcard::serialize_with_flavor(message, Body(bytes)).expect("a message is always writable"))
}

/// A body alone.
pub fn body(value: &impl Serialize) -> Vec<u8> {
    postcard::serialize_with_flavor(value, Body(Vec::new())).expect("a message is always writable")
}

/// Where a body is written to; postcard's own takes runs of bytes one by one.
struct Body(Vec<u8>);

impl postcard::ser_flavors::Flavor for Body {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// A body as the type its kind says. Bytes left over are an error: they would be somebody's mistake.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(Refusal::new(Code::BadFrame, format!("the body is {} too long", counted(rest.len(), "byte")))),
        Err(_) => Err(Refusal::new(Code::BadFrame, "the body is not what its kind says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run() -> Run<'static> {
        Run {
            args: Bytes(b"ls\0-l\0"),
            env: Bytes(b"A=1\0"),
            set_env: Bytes(b""),
            unset_env: Bytes(b"B\0"),
            clear_env: false,
            directory: Bytes(b"/tmp"),
            directory_required: false,
            streams: [Stream::Closed, Stream::Passed, Stream::Terminal],
            extra: vec![5],
            terminal: Some(Terminal { modes: Modes::default(), size: Size { rows: 24, columns: 80, width: 0, height: 0 }, foreground: true, passed: true }),
            inheritance: Inheritance { umask: 0o22, nice: -1, ..Inheritance::default() },
            detach: false,
            not_on_root: Some((1, 2)),
            container: Bytes(b"dev"),
            capability: 2,
        }
    }

    #[test]
    fn the_golden_bytes_of_a_run_do_not_change() {
        let bytes = encode(&run(), 3, OpId::parse(b"op-000000000001"));
        let mut golden: Vec<u8> = vec![116, 0, 0, 0, 1, 0, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0];
        golden.extend(b"\x06ls\0-l\0\x04A=1\0\x00\x02B\0\x00\x04/tmp\x00");
        golden.extend([0, 1, 2, 1, 5]); // streams, extra
        golden.extend([1, 0, 0, 0, 0]); // terminal: four mode words
        golden.extend([0; 19]);
        golden.extend([24, 80, 0, 0, 1, 1]);
        golden.extend([18, 1]); // umask, nice (zigzag)
        golden.extend([0; 32]); // limits
        golden.push(0); // ignored
        golden.extend([0, 1, 1, 2]); // detach, root
        golden.extend(b"\x03dev\x02"); // container, capability
        golden[0] = (golden.len() - 4) as u8;
        assert_eq!(bytes, golden);
        assert_eq!(decode::<Run>(&bytes[16..]).unwrap(), run());
        assert_eq!(run().descriptors(), 3);
    }

    #[test]
    fn the_golden_bytes_of_the_small_ones_do_not_change() {
        let body = |frame: Vec<u8>| (frame[6], frame[16..].to_vec());
        assert_eq!(body(encode(&Signal { signal: 15 }, 0, None)), (3, vec![15]));
        assert_eq!(body(encode(&Continue { foreground: true }, 0, None)), (4, vec![1]));
        assert_eq!(body(encode(&Foreground { foreground: false }, 0, None)), (5, vec![0]));
        assert_eq!(body(encode(&StatusRequest {}, 0, None)), (6, vec![]));
        assert_eq!(body(encode(&Started { pid: 300 }, 1, None)), (131, vec![0xac, 2]));
        assert_eq!(body(encode(&Stopped { signal: 20 }, 0, None)), (132, vec![20]));
        assert_eq!(body(encode(&Exited { by_signal: true, value: 9 }, 0, None)), (134, vec![1, 9]));
        assert_eq!(body(encode(&Reloaded { from: "1", to: "2", running: 3, waiting: 0 }, 0, None)), (138, b"\x011\x012\x03\x00".to_vec()));
        assert_eq!(body(encode(&Refused { code: 6, text: "no" }, 0, None)), (135, vec![6, 2, b'n', b'o']));
        let past = Past { seen: vec![Seen { name: Bytes(b"dev"), at_ms: 3, runs: 4 }], errors: vec![Failed { op: 5, at_ms: 6, code: 7, text: "no" }] };
        let running = vec![Running { op: 1, pid: 2, since_ms: 3, name: Bytes(b"ls"), terminal: true }];
        let status = Status {
            release: "0.1.0",
            pid: 1,
            uptime_ms: 2,
            served: 3,
            descriptors: 4,
            descriptor_limit: 5,
            root: (8, 9),
            clock_ms: 6,
            supervised: true,
            cgroups: true,
            session: Bytes(b"A=1\0"),
            policy: Bytes(b"/p"),
            policy_stamp: 10,
            policy_error: "bad",
            running,
            untold: 11,
            past,
        };
        assert_eq!(
            body(encode(&status, 0, None)),
            (136, b"\x050.1.0\x01\x02\x03\x04\x05\x08\x09\x06\x01\x01\x04A=1\0\x02/p\x0a\x03bad\x01\x01\x02\x03\x02ls\x01\x0b\x01\x03dev\x03\x04\x01\x05\x06\x07\x02no".to_vec())
        );
        let hello = Hello { release: "0.1.0", container: Bytes(b"dev"), capabilities: vec!["notify"] };
        assert_eq!(body(encode(&hello, 0, None)), (1, b"\x050.1.0\x03dev\x01\x06notify".to_vec()));
        assert_eq!(body(encode(&Serve { hello, returns: true }, 0, None)), (16, b"\x050.1.0\x03dev\x01\x06notify\x01".to_vec()));
        assert_eq!(body(encode(&Enter { container: Bytes(b"dev"), directory: Some((1, 300)) }, 0, None)), (17, b"\x03dev\x01\x01\xac\x02".to_vec()));
        assert_eq!(body(encode(&Pong {}, 0, None)), (18, vec![]));
        assert_eq!(body(encode(&GuestsRequest {}, 0, None)), (19, vec![]));
        assert_eq!(body(encode(&Ping {}, 0, None)), (144, vec![]));
        assert_eq!(body(encode(&Shutdown {}, 0, None)), (145, vec![]));
        assert_eq!(body(encode(&HandOver { bytes: Bytes(b"ab"), directory: None }, 4, None)), (146, b"\x02ab\x00".to_vec()));
        let guests = Guests { guests: vec![Guest { container: Bytes(b"dev"), release: "0.1.0", since_ms: 300 }] };
        assert_eq!(body(encode(&guests, 0, None)), (147, b"\x01\x03dev\x050.1.0\xac\x02".to_vec()));
    }

    #[test]
    fn bytes_left_over_are_refused() {
        assert_eq!(decode::<Signal>(&[1, 2]).unwrap_err().code, Code::BadFrame);
        assert_eq!(decode::<Signal>(&[]).unwrap_err().code, Code::BadFrame);
    }

    proptest! {
        #[test]
        fn any_body_is_decoded_without_harm(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<Run>(&body);
            let _ = decode::<Hello>(&body);
            let _ = decode::<Status>(&body);
            let _ = decode::<Refused>(&body);
            let _ = decode::<Serve>(&body);
            let _ = decode::<HandOver>(&body);
            let _ = decode::<Guests>(&body);
        }

        #[test]
        fn a_run_with_any_byte_changed_is_decoded_without_harm(at in 0usize..99, to: u8) {
            let mut bytes = encode(&run(), 3, None).split_off(16);
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode::<Run>(&bytes);
        }
    }
}
