//! The caller's terminal on one side, the leader of the command's pty on the other.
//!
//! Two chapters have files of their own: `keyboard` (keys on their way to the command, and who has them) and `screen` (what the
//! command writes). Here is what both share, and signals, stops and the end.

mod keyboard;
mod screen;

use crate::client::capture::{Streams, Terminal};
use crate::exit::End;
use crate::proto::message::Stream;
use crate::sys::files::{self, Standard};
use crate::sys::signals::{self, Arrived, Target};
use crate::sys::terminal::{self, Modes};
use screen::Newlines;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes moved at one go; a pty's driver hands out at most 4095.
const CHUNK: usize = 4096;
/// Keys that may wait for the command to read them; beyond, they stay in the terminal.
const MAX_TYPED: usize = 4096;

/// What the daemon is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Signal(u8),
    Continue {
        foreground: bool,
    },
    /// Take the keyboard from the command while it runs.
    Background,
}

/// Where keys come from and output goes to.
enum Side {
    Terminal(Terminal),
    /// It has been hung up: nothing comes from there any more, nothing can be shown.
    Gone,
    /// `--pty` without a terminal: plain descriptors, used only as far as `poll` says they do not block.
    Plain {
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    },
}

pub struct Relay {
    leader: Option<OwnedFd>,
    side: Side,
    /// Output goes to the caller's standard output though there is a terminal (`--pty cmd | tee`).
    diverted: Option<OwnedFd>,
    /// The command shares keyboard and screen with nobody.
    whole: bool,
    /// Its standard input is the terminal.
    reads_keys: bool,
    /// The command is in the foreground of its pty, as far as we have asked for it.
    foreground: bool,
    /// The terminal's modes before we made it raw; `Some` exactly while the command has the keyboard.
    before: Option<Modes>,
    /// The modes that the command's terminal got from ours; it may have set others since.
    given: Modes,
    /// How many bytes of a line that is not whole yet our terminal had echoed when it became raw.
    line_begun: usize,
    /// A whole line has been handed over since the keyboard was lent.
    line_given: bool,
    /// Part of it was typed while the command had echo off: a password.
    hidden: bool,
    /// The command has been told to go on and has not done so yet: a key that makes a signal would be lost on it, because its
    /// continuation discards pending stop signals.
    resuming: bool,
    /// What the command's terminal will echo though ours has done so already, and how many more reads may bring it.
    echoed: (Vec<u8>, u8),
    /// Keys on their way to the command.
    typed: Vec<u8>,
    /// What was typed last does not end a line.
    line_open: bool,
    /// Output read and not shown yet.
    output: Vec<u8>,
    newlines: Newlines,
    /// The signal that the last key typed makes.
    signal_typed: Option<u8>,
    /// A stop signal that our neighbours got, or nobody else was meant to get, is on its way to the command.
    stop_passed_on: Option<u8>,
}

impl Relay {
    pub fn new(leader: OwnedFd, streams: Streams) -> Relay {
        let duplicate = |number: i32| files::inherited(number).and_then(|fd| files::duplicate(fd).ok());
        let is_open = |number: usize| streams.kinds[number] != Standard::Closed;
        let shown_elsewhere = streams.forced && !matches!(streams.kinds[1], Standard::Terminal(_)) && is_open(1);
        let typed_elsewhere = streams.forced && !matches!(streams.kinds[0], Standard::Terminal(_));
        let diverted = if shown_elsewhere { duplicate(1) } else { None };
        let side = match streams.terminal {
            Some(terminal) if !typed_elsewhere => Side::Terminal(terminal),
            _ => Side::Plain { input: duplicate(0), output: if is_open(1) { duplicate(1) } else { None } },
        };
        debug_assert!(streams.plan.contains(&Stream::Terminal) || matches!(side, Side::Terminal(_)));
        Relay {
            leader: Some(leader),
            side,
            diverted,
            whole: streams.whole,
            reads_keys: streams.plan[0] == Stream::Terminal,
            foreground: streams.foreground,
            before: None,
            given: streams.modes,
            line_begun: 0,
            line_given: false,
            hidden: false,
            resuming: false,
            echoed: (Vec::new(), 0),
            typed: Vec::new(),
            line_open: false,
            output: Vec::new(),
            newlines: Newlines::default(),
            signal_typed: None,
            stop_passed_on: None,
        }
    }

    /// The command has started.
    pub fn begin(&mut self) {
        if self.foreground {
            self.lend();
            self.pass_over_echo();
            self.hand_over();
        }
    }

    /// Says what is waited for: is it the leader, the descriptor, reading, writing.
    pub fn interests<'a>(&'a self, mut watch: impl FnMut(bool, BorrowedFd<'a>, bool, bool)) {
        if let Some(leader) = &self.leader {
            watch(true, leader.as_fd(), self.output.is_empty(), !self.typed.is_empty() && !self.resuming);
        }
        let wants_keys = self.leader.is_some() && self.typed.len() < MAX_TYPED;
        let pending = !self.output.is_empty();
        match &self.side {
            // Watched even without an interest, so that its hangup is seen.
            Side::Terminal(terminal) => {
                watch(false, terminal.fd.as_fd(), wants_keys && self.before.is_some(), pending && self.diverted.is_none());
                if let Some(output) = &self.diverted {
                    watch(false, output.as_fd(), false, pending);
                }
            }
            Side::Gone => {}
            Side::Plain { input, output } => {
                if let Some(input) = input.as_ref().filter(|_| wants_keys) {
                    watch(false, input.as_fd(), true, false);
                }
                if let Some(output) = output.as_ref().filter(|_| pending) {
                    watch(false, output.as_fd(), false, true);
                }
            }
        }
    }

    // ---- how both terminals are

    fn terminal_modes(&self) -> Option<Modes> {
        match &self.side {
            Side::Terminal(terminal) => terminal::modes(terminal.fd.as_fd()).ok(),
            Side::Plain { .. } | Side::Gone => None,
        }
    }

    /// The modes of the command's terminal.
    fn command_modes(&self) -> Option<Modes> {
        self.leader.as_ref().and_then(|leader| terminal::modes(leader.as_fd()).ok())
    }

    /// `None` where there is no job control.
    fn in_foreground(&self) -> Option<bool> {
        match &self.side {
            Side::Terminal(terminal) => terminal::in_foreground(terminal.fd.as_fd()),
            Side::Plain { .. } | Side::Gone => None,
        }
    }

    /// Whether the size was changed by this.
    fn sync_size(&self) -> bool {
        let (Side::Terminal(terminal), Some(leader)) = (&self.side, &self.leader) else { return false };
        match (terminal::size(terminal.fd.as_fd()), terminal::size(leader.as_fd())) {
            (Ok(now), Ok(then)) if now != then => terminal::set_size(leader.as_fd(), now).is_ok(),
            _ => false,
        }
    }

    // ---- signals, stop and end

    /// We caught a signal.
    pub fn on_signal(&mut self, arrived: Arrived) -> Option<Next> {
        match arrived.signal {
            // The kernel tells the foreground of the command's terminal itself when the size changes; a signal without a change is
            // somebody's wish.
            signals::WINCH if (self.sync_size() || arrived.from_kernel) && self.foreground => None,
            signals::CONT => Some(self.on_continued()),
            signal => {
                if [signals::TSTP, signals::TTIN, signals::TTOU].contains(&signal) {
                    self.stop_passed_on = Some(signal);
                }
                Some(Next::Signal(signal))
            }
        }
    }

    /// We were stopped by what cannot be caught, and are back: a shell may have set modes of its own meanwhile, or have put us into
    /// the background.
    fn on_continued(&mut self) -> Next {
        if self.before.is_some() && self.in_foreground() == Some(false) {
            (self.before, self.foreground) = (None, false);
            return Next::Continue { foreground: false };
        }
        if self.before.is_some() {
            self.lend();
        }
        Next::Signal(signals::CONT)
    }

    /// The command goes on: what was typed meanwhile is for it.
    pub fn on_resumed(&mut self) {
        self.resuming = false;
        self.hand_over();
    }

    /// The command has stopped. Either it wants the keyboard and may have it, or we stop too, and come back with it.
    pub fn on_stopped(&mut self, signal: u8) -> Option<Next> {
        self.resuming = true;
        self.drain();
        let wants_terminal = [signals::TTIN, signals::TTOU].contains(&signal);
        let passed_on = self.stop_passed_on.take();
        // A command that catches the signal stops by another one in the end.
        let ours = passed_on.is_some_and(|passed_on| passed_on == signal || !wants_terminal);
        if wants_terminal && !ours && self.in_foreground() != Some(false) {
            return Some(self.give_keyboard());
        }
        let had_keyboard = self.before.is_some();
        self.take_back();
        // The terminal's own stop signals go to a whole job: to our neighbours in the pipeline too, unless they have had it.
        let typed = self.signal_typed.take() == Some(signals::TSTP);
        let signal = if signal == signals::STOP && typed { signals::TSTP } else { signal };
        let stopped = signals::stop_self(signal, !ours && signal != signals::STOP);
        let in_foreground = self.in_foreground() != Some(false);
        if (had_keyboard || self.whole) && in_foreground {
            return Some(self.give_keyboard());
        }
        if wants_terminal && !stopped && !in_foreground {
            return Some(self.refuse_keyboard());
        }
        self.sync_size();
        self.foreground = false;
        Some(Next::Continue { foreground: false })
    }

    fn give_keyboard(&mut self) -> Next {
        self.lend();
        self.foreground = true;
        Next::Continue { foreground: true }
    }

    /// Nobody will ever bring us to the foreground: our group is orphaned, and the kernel would answer our own reading with EIO.
    /// The command finds the end of its input.
    fn refuse_keyboard(&mut self) -> Next {
        self.end_of_input();
        self.foreground = true;
        Next::Continue { foreground: true }
    }

    /// The command has ended and all it wrote is shown: put the terminal back, and let our neighbours know what was typed at
    /// all of us.
    pub fn finish(&mut self, end: End) {
        self.take_back();
        if let End::Signal(signal @ (signals::INT | signals::QUIT)) = end
            && self.signal_typed == Some(signal)
            && matches!(self.side, Side::Terminal(_))
        {
            let _ = signals::send(Target::OwnGroup, signal);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.take_back();
    }
}
