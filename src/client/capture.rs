//! What the caller gave us: which streams are what, where its terminal is, what a child of ours would inherit.

use crate::invocation::Invocation;
use crate::proto::message::Stream;
use crate::sys::files::{self, Standard};
use crate::sys::process::Inheritance;
use crate::sys::signals;
use crate::sys::terminal::{self, Modes};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// Whether a run gets a pty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WantPty {
    /// Where the caller is at a terminal.
    #[default]
    Auto,
    Always,
    Never,
}

/// The caller's terminal.
pub struct Terminal {
    /// An open description of our own where that could be had, so that it can be non-blocking without others noticing.
    pub fd: OwnedFd,
    /// Writing and reading never block.
    pub own: bool,
}

/// The standard streams, and how each is to be at the command.
pub struct Streams {
    pub kinds: [Standard; 3],
    pub plan: [Stream; 3],
    pub terminal: Option<Terminal>,
    /// Keyboard and screen are both the terminal: the command shares them with nobody. Otherwise it is part of a pipeline, or
    /// redirected.
    pub whole: bool,
    /// The command has the pty's foreground from the start: it is whole, and we are in our own terminal's foreground.
    /// Otherwise it gets the keyboard when it first needs it.
    pub foreground: bool,
    /// It has not, though we are in our terminal's: it is lent the keyboard when it asks.
    pub asks: bool,
    /// The modes that the pty is to start with.
    pub modes: Modes,
    /// Streams that are no terminal are made one (`--pty`).
    pub forced: bool,
    /// Further descriptors that travel, under their own numbers.
    pub extra: Vec<u16>,
}

impl Streams {
    /// What the command inherits of it. To ask for the keyboard is to be stopped by SIGTTIN or SIGTTOU; with these ignored, as bash
    /// has them in `$(…)`, reading would fail (EIO), where a child of our caller's own just reads.
    pub fn inherited(&self, mut inheritance: Inheritance) -> Inheritance {
        if self.asks {
            inheritance.ignored = inheritance.ignored.without(signals::TTIN).without(signals::TTOU);
        }
        inheritance
    }
}

/// Looks at 0, 1 and 2. Nothing is opened before all three have been looked at: a new descriptor would take a closed one's place.
pub fn streams(want: WantPty, detach: bool, inheritance: &Inheritance) -> Streams {
    let kinds = [0, 1, 2].map(files::standard);
    let passed = |kind: Standard| if kind == Standard::Closed { Stream::Closed } else { Stream::Passed };
    let mut streams = Streams {
        kinds,
        plan: kinds.map(passed),
        terminal: None,
        whole: false,
        foreground: false,
        asks: false,
        modes: Modes::default(),
        forced: want == WantPty::Always,
        extra: Vec::new(),
    };
    if detach {
        // A terminal that is not ours to keep: what is left of the command must not read or write it.
        streams.plan = kinds.map(|kind| if matches!(kind, Standard::Terminal(_)) { Stream::Null } else { passed(kind) });
        return streams;
    }
    if want == WantPty::Never {
        return streams;
    }
    let Some((terminal, same)) = find_terminal(&kinds, inheritance) else {
        if streams.forced {
            (streams.plan, streams.whole, streams.foreground) = ([Stream::Terminal; 3], true, true);
        }
        return streams;
    };
    for (plan, same) in streams.plan.iter_mut().zip(same) {
        if same || streams.forced {
            *plan = Stream::Terminal;
        }
    }
    streams.whole = same[0] && same[1] || streams.forced;
    let in_foreground = terminal::in_foreground(terminal.fd.as_fd()).unwrap_or(true);
    streams.foreground = streams.whole && in_foreground;
    streams.asks = !streams.whole && in_foreground;
    // From the background, it is the shell's own modes that we see.
    let modes = terminal::modes(terminal.fd.as_fd()).unwrap_or_default();
    streams.modes = match (in_foreground, streams.whole) {
        (true, true) => modes,
        (true, false) => modes.for_sharing(),
        (false, _) => modes.for_lines(),
    };
    streams.terminal = Some(terminal);
    streams
}

/// The terminal that the caller is at, and which of the streams are that same one.
fn find_terminal(kinds: &[Standard; 3], inheritance: &Inheritance) -> Option<(Terminal, [bool; 3])> {
    let is_controlling = |number: i32| files::inherited(number).is_some_and(terminal::is_controlling);
    let controlling: [bool; 3] = [0, 1, 2].map(|n| matches!(kinds[n as usize], Standard::Terminal(_)) && is_controlling(n));
    let any_terminal = kinds.iter().any(|k| matches!(k, Standard::Terminal(_)));
    // With no stream at a terminal a command may still ask there (for a password), unless its caller has turned away from it.
    let asked_for = controlling.contains(&true) || !any_terminal && !inheritance.ignored.contains(signals::HUP);
    if asked_for && let Ok(fd) = files::open_terminal(c"/dev/tty") {
        return Some((Terminal { fd, own: true }, controlling));
    }
    let (at, device) = kinds.iter().enumerate().find_map(|(at, kind)| match kind {
        Standard::Terminal(device) => Some((at as i32, *device)),
        _ => None,
    })?;
    let same = kinds.map(|kind| kind == Standard::Terminal(device));
    let path = CString::new(format!("/proc/self/fd/{at}")).ok()?;
    match files::open_terminal(&path) {
        Ok(fd) => Some((Terminal { fd, own: true }, same)),
        Err(_) => Some((Terminal { fd: files::duplicate(files::inherited(at)?).ok()?, own: false }, same)),
    }
}

/// The working directory as the caller names it: `$PWD` where that is true (so that symbolic links stay), else as the kernel
/// has it, else nothing.
pub fn directory(invocation: &Invocation) -> Vec<u8> {
    let same = |a: &OsStr| match (std::fs::metadata(a), std::fs::metadata(".")) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    };
    match invocation.var("PWD") {
        Some(pwd) if pwd.starts_with(b"/") && same(OsStr::from_bytes(pwd)) => pwd.to_vec(),
        _ => std::env::current_dir().map(|d| d.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
    }
}

/// The numbers of all that travels, to be closed once the command has it.
pub fn passed_numbers(streams: &Streams) -> Vec<i32> {
    let standard = (0..3).filter(|n| streams.plan[*n as usize] == Stream::Passed);
    standard.chain(streams.extra.iter().map(|n| i32::from(*n))).collect()
}

/// The highest number that the daemon takes.
const MAX_NAMED: u16 = 255;

/// Descriptors that the arguments name, as a shell does in the place of `<(…)`: `/dev/fd/63`, also at the end of an option.
/// Looked for in the arguments' text alone, unless there is one.
pub fn named_descriptors(args: &[u8]) -> impl Iterator<Item = u16> {
    let named = |arg: &[u8]| {
        let digits = arg.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let (path, digits) = arg.split_at(arg.len() - digits);
        let number = if path.ends_with(b"/dev/fd/") || path.ends_with(b"/proc/self/fd/") { std::str::from_utf8(digits).ok()?.parse().ok()? } else { return None };
        ((3..=MAX_NAMED).contains(&number) && files::inherited(number.into()).is_some()).then_some(number)
    };
    args.split(|b| *b == 0).filter_map(named)
}

/// A handle on standard error, by which an error that comes late can still be said.
pub fn late_voice(streams: &Streams) -> Option<OwnedFd> {
    let passed = streams.plan[2] == Stream::Passed && streams.kinds[2] != Standard::Socket;
    passed.then(|| files::handle_of(2).ok()).flatten()
}
