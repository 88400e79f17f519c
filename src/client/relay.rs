//! The caller's terminal on one side, the leader of the command's pty on the other.
//!
//! **Who has the keyboard.** Where keyboard and screen are both the terminal and the client is in its foreground, the command
//! has it from the start: the terminal is raw, every key goes to the pty, whose driver edits, echoes and makes signals.
//! Otherwise (a pipeline, a redirection, a background job) the command starts in the background of its pty, and the terminal is
//! left alone. When the command reads from its terminal, or changes its modes, the kernel stops it (SIGTTIN, SIGTTOU), and that
//! is how we learn that it needs the keyboard: if we are in the foreground, we lend it and let the command go on; if not, we
//! stop, as any background job would. In a pipeline a neighbour may want keys too, so the loan ends with the line where the
//! command has no terminal as its standard input, has asked for a hidden password, or has come to a terminal that a neighbour was
//! reading single keys from; and whenever somebody else sets modes of the terminal. A command that reads single keys itself is
//! let to.
//!
//! **Newlines.** Only a raw terminal shows what it gets as it is. While it is not raw it makes carriage returns itself, so those
//! that the pty's driver has made are taken out again. Where neighbours share the screen, only the keyboard is made raw.

use crate::client::capture::{Streams, Terminal};
use crate::event::Ready;
use crate::exit::End;
use crate::proto::message::Stream;
use crate::sys::files::{self, Standard};
use crate::sys::signals::{self, Arrived, Target};
use crate::sys::terminal::{self, Modes};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes moved at one go; a pty's driver hands out at most 4095.
const CHUNK: usize = 4096;
/// Chunks moved before others get their turn.
const CHUNKS_PER_TURN: usize = 16;
/// The echo of keys that were handed over comes with one of the next few reads, as the command may have written something first.
const READS_TO_ECHO: u8 = 4;
/// Keys that may wait for the command to read them; beyond, they stay in the terminal.
const MAX_TYPED: usize = 4096;

/// The control characters of `termios(3)`, as indexes.
const INTERRUPT: usize = libc::VINTR;
const QUIT: usize = libc::VQUIT;
const SUSPEND: usize = libc::VSUSP;
const END_OF_FILE: usize = libc::VEOF;

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

    /// What was typed before the start has been echoed by our terminal. The command runs, and may be setting modes itself: so its
    /// terminal's are left alone, and what they make of the keys is passed over when it comes.
    fn pass_over_echo(&mut self) {
        if !self.before.is_some_and(|before| before.is_line_mode()) {
            return;
        }
        if let Side::Terminal(terminal) = &self.side
            && terminal.own
            && is_readable(terminal.fd.as_fd())
        {
            // The part of a line that is not whole yet.
            let _ = self.read_keys(false);
        }
        let Some(modes) = self.command_modes().filter(Modes::is_line_mode) else { return };
        let is_plain = |key: &u8| *key >= b' ' && *key != 0x7f || *key == b'\n';
        // Keys that edit or make signals are echoed in ways of their own.
        if self.typed.iter().all(is_plain) && modes.adds_carriage_returns() {
            let echo = self.typed.iter().flat_map(|&key| if key == b'\n' { vec![b'\r', b'\n'] } else { vec![key] });
            self.echoed = (echo.collect(), READS_TO_ECHO);
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

    // ---- output

    /// The leader is ready: show what the command wrote, hand over what was typed.
    pub fn on_leader(&mut self, ready: Ready) -> Option<Next> {
        if ready.writable {
            self.hand_over();
        }
        if ready.readable || ready.hangup {
            for _ in 0..CHUNKS_PER_TURN {
                if !self.read_output() {
                    break;
                }
                self.show();
                if !self.output.is_empty() {
                    break;
                }
            }
        }
        self.end_loan_if_over()
    }

    /// Reads once; false where there is nothing more now. After the last follower is closed that is so for ever: reading says
    /// EIO then (a pty's end of file), and the leader is closed so that nobody waits for it.
    fn read_output(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        let mut chunk = [0; CHUNK];
        match files::read(leader.as_fd(), &mut chunk) {
            Ok(mut length) if length > 0 => {
                if self.echoed.1 > 0 {
                    length = self.without_echo(&mut chunk, length);
                }
                if self.screen_adds_carriage_returns() {
                    self.newlines.strip(&chunk[..length], &mut self.output);
                } else {
                    self.newlines.flush(&mut self.output);
                    self.output.extend_from_slice(&chunk[..length]);
                }
                true
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            // A follower may be opened again (/dev/tty), but by a program that we could not hear anyway.
            Ok(_) | Err(_) => {
                self.leader = None;
                false
            }
        }
    }

    /// Takes the echo that is to be passed over out of what was read; the length that is left.
    fn without_echo(&mut self, chunk: &mut [u8], length: usize) -> usize {
        let echo = &self.echoed.0;
        let found = if echo.is_empty() { None } else { chunk[..length].windows(echo.len()).position(|window| window == echo) };
        let Some(at) = found else {
            self.echoed.1 -= 1;
            return length;
        };
        let echo = std::mem::take(&mut self.echoed).0;
        chunk.copy_within(at + echo.len()..length, at);
        length - echo.len()
    }

    /// Whether those that the pty's driver has made are to be taken out. A screen whose output modes were left to our neighbours
    /// follows the command's: one that makes its own carriage returns moves the cursor down by newlines, too.
    fn screen_adds_carriage_returns(&self) -> bool {
        let (Side::Terminal(terminal), None) = (&self.side, &self.diverted) else { return false };
        if self.whole && self.before.is_some() {
            return false;
        }
        let Ok(now) = terminal::modes(terminal.fd.as_fd()) else { return false };
        let (Some(before), Some(command)) = (self.before, self.command_modes()) else { return now.adds_carriage_returns() };
        let wanted = Modes { output: if command.adds_carriage_returns() { before.output } else { before.raw().output }, ..before.raw() };
        if now != wanted && now.is_raw_of(&before) {
            let _ = terminal::set_modes(terminal.fd.as_fd(), &wanted);
            return wanted.adds_carriage_returns();
        }
        now.adds_carriage_returns()
    }

    /// Writes as much of the output as goes now.
    fn show(&mut self) {
        while !self.output.is_empty() {
            let screen = match (&self.diverted, &self.side) {
                (Some(output), _) => Some((output.as_fd(), false)),
                (None, Side::Terminal(terminal)) => Some((terminal.fd.as_fd(), terminal.own)),
                (None, Side::Plain { output, .. }) => output.as_ref().map(|o| (o.as_fd(), false)),
                (None, Side::Gone) => None,
            };
            let Some((fd, nonblocking)) = screen else { return self.output.clear() };
            if !nonblocking && !is_writable(fd) {
                return;
            }
            let most = if nonblocking { self.output.len() } else { self.output.len().min(libc::PIPE_BUF) };
            match files::write(fd, &self.output[..most]) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                // The screen is gone. What it should have shown is lost, as with any terminal that is closed.
                Err(_) => {
                    self.output.clear();
                    if self.diverted.is_some() || matches!(self.side, Side::Plain { .. }) {
                        self.leader = None;
                    }
                    return;
                }
            }
        }
    }

    /// Shows what the command has written so far, as far as the screen takes it now; true once that is all of it. Before a read
    /// of a pty's leader says "nothing", the kernel has moved all that was written (n_tty flushes its work first), so nothing
    /// that precedes this call in time is missed.
    pub fn pump(&mut self) -> bool {
        loop {
            self.show();
            if !self.output.is_empty() {
                return false;
            }
            if !self.read_output() {
                break;
            }
        }
        self.newlines.flush(&mut self.output);
        self.show();
        self.output.is_empty()
    }

    /// The same, waiting for the screen.
    fn drain(&mut self) {
        while !self.pump() {
            if !self.wait_for_screen() {
                self.output.clear();
            }
        }
    }

    /// Waits until the screen takes more. For ever, as a write of the command itself would; a hangup ends it.
    fn wait_for_screen(&self) -> bool {
        let fd = match (&self.diverted, &self.side) {
            (Some(output), _) => output.as_fd(),
            (None, Side::Terminal(terminal)) => terminal.fd.as_fd(),
            (None, Side::Plain { output: Some(output), .. }) => output.as_fd(),
            (None, Side::Plain { output: None, .. } | Side::Gone) => return false,
        };
        let mut wait = crate::event::Wait::with_capacity(1);
        wait.watch((), fd, false, true);
        wait.run(0, None).iter().any(|(_, ready)| ready.writable)
    }

    // ---- keys

    /// The terminal (or what stands for it) is ready.
    pub fn on_terminal(&mut self, ready: Ready) -> Option<Next> {
        if ready.writable {
            self.show();
        }
        if ready.readable || ready.hangup {
            // The key that waits may be a neighbour's.
            if let Some(next) = self.end_loan_if_over() {
                return Some(next);
            }
            let next = self.read_keys(ready.hangup);
            self.hand_over();
            return next;
        }
        None
    }

    fn read_keys(&mut self, hangup: bool) -> Option<Next> {
        let mut chunk = [0; CHUNK];
        let room = MAX_TYPED.saturating_sub(self.typed.len()).min(CHUNK);
        let (fd, is_terminal) = match &self.side {
            Side::Terminal(terminal) if self.before.is_some() || hangup => (terminal.fd.as_fd(), true),
            Side::Plain { input: Some(input), .. } => (input.as_fd(), false),
            _ => return None,
        };
        if room == 0 && !hangup {
            return None;
        }
        match files::read(fd, &mut chunk[..room]) {
            Ok(0) if !is_terminal => self.end_of_input(),
            Ok(length) if length > 0 => self.on_keys(&chunk[..length]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // Somebody has taken the foreground from us: reading is refused, the terminal lives.
            Err(_) if is_terminal && self.in_foreground() == Some(false) && !hangup => return self.end_loan(),
            // The terminal is gone. So is, for the command, its own: closing the leader hangs up the pty, as the kernel would.
            Ok(_) | Err(_) => {
                self.leader = None;
                self.before = None;
                self.typed.clear();
                if is_terminal {
                    self.side = Side::Gone;
                }
            }
        }
        None
    }

    fn on_keys(&mut self, keys: &[u8]) {
        let Some(modes) = self.command_modes() else { return };
        let ends_line = |key: &u8| matches!(key, b'\n' | b'\r') || *key == modes.characters[END_OF_FILE];
        self.line_given |= keys.iter().any(ends_line);
        self.line_open = !keys.last().is_some_and(ends_line);
        self.hidden |= modes.is_line_hidden();
        let made_by = |(character, signal): (usize, u8)| (keys.last() == Some(&modes.characters[character])).then_some(signal);
        let makes_signals = modes.local & libc::ISIG != 0;
        self.signal_typed = [(INTERRUPT, signals::INT), (QUIT, signals::QUIT), (SUSPEND, signals::TSTP)].into_iter().filter(|_| makes_signals).find_map(made_by);
        self.typed.extend_from_slice(keys);
    }

    /// No more input: what a person would type to say so, twice where a line has been begun (the first one only ends that).
    fn end_of_input(&mut self) {
        if let Some(modes) = self.command_modes() {
            let times = if self.line_open { 2 } else { 1 };
            self.typed.extend([modes.characters[END_OF_FILE]].repeat(times));
        }
        if let Side::Plain { input, .. } = &mut self.side {
            *input = None;
        }
    }

    fn hand_over(&mut self) {
        if self.resuming {
            return;
        }
        while let (false, Some(leader)) = (self.typed.is_empty(), &self.leader) {
            match files::write(leader.as_fd(), &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                Err(_) => self.typed.clear(),
            }
        }
    }

    // ---- the keyboard's owner

    /// Gives the keyboard to the command: raw mode, and the size as it is now.
    fn lend(&mut self) {
        (self.line_given, self.hidden) = (false, false);
        self.sync_size();
        let now = match &self.side {
            Side::Terminal(terminal) => terminal::modes(terminal.fd.as_fd()),
            Side::Plain { .. } | Side::Gone => return,
        };
        let Ok(now) = now else { return };
        // Lent already, and still raw: what is to be put back is older than that.
        let before = self.before.filter(|before| now.is_raw_of(before)).unwrap_or(now);
        self.give_modes(before);
        self.read_lines_typed_ahead(&before);
        if let Side::Terminal(terminal) = &self.side {
            let raw = if self.whole { before.raw() } else { before.raw_input() };
            let _ = terminal::set_modes(terminal.fd.as_fd(), &raw);
        }
        self.before = Some(before);
        if self.resuming && before.is_line_mode() {
            self.hand_over_hidden();
        }
    }

    /// What was typed before the loan has been echoed, by our terminal, and is not to be echoed again by the command's. Only while
    /// the command is stopped: it could be setting modes itself.
    fn hand_over_hidden(&mut self) {
        let Side::Terminal(terminal) = &self.side else { return };
        if !self.loan_is_over() && terminal.own && is_readable(terminal.fd.as_fd()) {
            // The part of a line that is not whole yet.
            let _ = self.read_keys(false);
        }
        let Some(leader) = self.leader.as_ref().filter(|_| !self.typed.is_empty()) else { return };
        let (Ok(follower), Ok(modes)) = (terminal::open_follower(leader.as_fd()), terminal::modes(leader.as_fd())) else { return };
        // A key that makes a signal waits until the command goes on: its continuation would discard the signal.
        let makes_signal = |key: &u8| modes.local & libc::ISIG != 0 && [INTERRUPT, QUIT, SUSPEND].iter().any(|at| modes.characters[*at] == *key);
        let until = self.typed.iter().position(makes_signal).unwrap_or(self.typed.len());
        if until == 0 {
            return;
        }
        let _ = terminal::set_modes(leader.as_fd(), &modes.hidden());
        if let Ok(written) = files::write(leader.as_fd(), &self.typed[..until]) {
            self.typed.drain(..written);
        }
        // Keys are taken in by a worker of the kernel, which a poll of the follower waits for (n_tty_poll).
        is_readable(follower.as_fd());
        let _ = terminal::set_modes(leader.as_fd(), &modes);
    }

    /// Modes that were set on our terminal since the command got them are set on its own, unless it has chosen its own.
    fn give_modes(&mut self, now: Modes) {
        let now = if self.whole { now } else { now.for_sharing() };
        if now == self.given || self.command_modes() != Some(self.given) {
            return;
        }
        if let Some(leader) = &self.leader {
            let _ = terminal::set_modes(leader.as_fd(), &now);
        }
        self.given = now;
    }

    /// Whole lines that were typed before the loan are read while the terminal still knows them as lines: in raw mode an end of
    /// file among them would read as a NUL byte.
    fn read_lines_typed_ahead(&mut self, modes: &Modes) {
        let mut chunk = [0; CHUNK];
        loop {
            let Side::Terminal(terminal) = &self.side else { return };
            if !terminal.own || modes.local & libc::ICANON == 0 || self.typed.len() >= MAX_TYPED || !is_readable(terminal.fd.as_fd()) {
                return;
            }
            match files::read(terminal.fd.as_fd(), &mut chunk) {
                Ok(0) => self.end_of_input(),
                Ok(length) => self.on_keys(&chunk[..length]),
                Err(_) => return,
            }
            // The rest may be for somebody else.
            if self.loan_ends_with_the_line() {
                return;
            }
        }
    }

    /// Takes it back. If somebody else has changed the modes meanwhile, they are theirs.
    fn take_back(&mut self) {
        let (Some(before), Side::Terminal(terminal)) = (self.before.take(), &self.side) else { return };
        let fd = terminal.fd.as_fd();
        if terminal::in_foreground(fd) != Some(false) && terminal::modes(fd).is_ok_and(|now| now.is_raw_of(&before)) {
            let _ = terminal::set_modes(fd, &before);
        }
    }

    /// Whether a neighbour may be waiting for the next line.
    fn loan_ends_with_the_line(&self) -> bool {
        !self.whole && (!self.reads_keys || self.hidden || self.before.is_some_and(|before| !before.is_line_mode()))
    }

    /// A loan in a pipeline may be for one line, as long as the command is content with lines; and it is over when somebody else
    /// has set the terminal's modes. Not before what was read meanwhile is shown: it is meant for a raw screen.
    fn loan_is_over(&self) -> bool {
        let (Some(before), false, true) = (self.before, self.whole, self.output.is_empty()) else { return false };
        let line_is_over = self.line_given && self.typed.is_empty() && self.loan_ends_with_the_line() && self.command_modes().is_some_and(|m| m.is_line_mode());
        line_is_over || self.terminal_modes().is_some_and(|now| !now.is_raw_of(&before))
    }

    fn end_loan_if_over(&mut self) -> Option<Next> {
        if self.loan_is_over() { self.end_loan() } else { None }
    }

    fn end_loan(&mut self) -> Option<Next> {
        self.take_back();
        self.foreground = false;
        Some(Next::Background)
    }

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

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut wait = crate::event::Wait::with_capacity(1);
    wait.watch((), fd, true, false);
    wait.run(0, Some(0)).iter().any(|(_, ready)| ready.readable && !ready.hangup)
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut wait = crate::event::Wait::with_capacity(1);
    wait.watch((), fd, false, true);
    wait.run(0, Some(0)).iter().any(|(_, ready)| ready.writable || ready.hangup)
}

/// Takes out the carriage return that a pty's driver puts before each newline, and no other. What the command itself wrote as
/// `\r\n` has two of them by then and keeps one.
#[derive(Default)]
struct Newlines {
    /// The last byte was a carriage return, and what follows it is not known yet.
    held: bool,
}

impl Newlines {
    fn strip(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if std::mem::take(&mut self.held) && byte != b'\n' {
                out.push(b'\r');
            }
            if byte == b'\r' {
                self.held = true;
            } else {
                out.push(byte);
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held) {
            out.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a driver with ONLCR makes of bytes.
    fn with_carriage_returns(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|&b| if b == b'\n' { vec![b'\r', b'\n'] } else { vec![b] }).collect()
    }

    proptest! {
        #[test]
        fn stripping_undoes_the_driver_whatever_was_written(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..60), cut in 0usize..60) {
            let sent = with_carriage_returns(&bytes);
            let (first, second) = sent.split_at(cut.min(sent.len()));
            let (mut newlines, mut out) = (Newlines::default(), vec![]);
            newlines.strip(first, &mut out);
            newlines.strip(second, &mut out);
            newlines.flush(&mut out);
            prop_assert_eq!(out, bytes);
        }
    }
}
