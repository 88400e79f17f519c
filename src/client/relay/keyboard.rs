//! Keys on their way to the command, and who has the keyboard.
//!
//! Where keyboard and screen are both the terminal and the client is in its foreground, the command has it from the start: the
//! terminal is raw, every key goes to the pty, whose driver edits, echoes and makes signals. Otherwise (a pipeline, a
//! redirection, a background job) the command starts in the background of its pty, and the terminal is left alone. When the
//! command reads from its terminal, or changes its modes, the kernel stops it (SIGTTIN, SIGTTOU), and that is how we learn that
//! it needs the keyboard: if we are in the foreground, we lend it and let the command go on; if not, we stop, as any background
//! job would. In a pipeline a neighbour may want keys too, so the loan ends with the line where the command has no terminal as
//! its standard input, has asked for a hidden password, or has come to a terminal that a neighbour was reading single keys
//! from; and whenever somebody else sets modes of the terminal. A command that reads single keys itself is let to.

use crate::client::relay::{CHUNK, MAX_TYPED, Next, Relay, Side};
use crate::event::{Ready, Wait};
use crate::sys::files;
use crate::sys::signals;
use crate::sys::terminal::{self, Modes};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The echo of keys that were handed over comes with one of the next few reads, as the command may have written something first.
const READS_TO_ECHO: u8 = 4;

/// The control characters of `termios(3)`, as indexes.
const INTERRUPT: usize = libc::VINTR;
const QUIT: usize = libc::VQUIT;
const SUSPEND: usize = libc::VSUSP;
const END_OF_FILE: usize = libc::VEOF;

impl Relay {
    /// What was typed before the start has been echoed by our terminal. The command runs, and may be setting modes itself: so its
    /// terminal's are left alone, and what they make of the keys is passed over when it comes.
    pub(super) fn pass_over_echo(&mut self) {
        if !self.before.is_some_and(|before| before.is_line_mode()) {
            return;
        }
        self.read_line_begun();
        let Some(modes) = self.command_modes().filter(Modes::is_line_mode) else { return };
        let is_plain = |key: &u8| *key >= b' ' && *key != 0x7f || *key == b'\n';
        // Keys that edit or make signals are echoed in ways of their own.
        if self.typed.iter().all(is_plain) && modes.adds_carriage_returns() {
            let echo = self.typed.iter().flat_map(|&key| if key == b'\n' { vec![b'\r', b'\n'] } else { vec![key] });
            self.echoed = (echo.collect(), READS_TO_ECHO);
        }
    }

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
            let next = self.read_keys(CHUNK, ready.hangup);
            self.hand_over();
            return next;
        }
        None
    }

    fn read_keys(&mut self, at_most: usize, hangup: bool) -> Option<Next> {
        let mut chunk = [0; CHUNK];
        let room = MAX_TYPED.saturating_sub(self.typed.len()).min(at_most).min(CHUNK);
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
    pub(super) fn end_of_input(&mut self) {
        if let Some(modes) = self.command_modes() {
            let times = if self.line_open { 2 } else { 1 };
            self.typed.extend([modes.characters[END_OF_FILE]].repeat(times));
        }
        if let Side::Plain { input, .. } = &mut self.side {
            *input = None;
        }
    }

    pub(super) fn hand_over(&mut self) {
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

    /// The part of a line, not whole yet, that our terminal has echoed before it became raw.
    fn read_line_begun(&mut self) {
        let length = std::mem::take(&mut self.line_begun);
        if length > 0 {
            let _ = self.read_keys(length, false);
        }
    }

    /// Gives the keyboard to the command: raw mode, and the size as it is now.
    pub(super) fn lend(&mut self) {
        (self.line_begun, self.line_given, self.hidden) = (0, false, false);
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
            let fd = terminal.fd.as_fd();
            if terminal.own && now.is_line_mode() {
                // What is counted between the two steps has been echoed; a key that comes after the second one has not.
                let _ = terminal::set_modes(fd, &now.single_keys());
                self.line_begun = terminal::waiting(fd).unwrap_or(0);
            }
            let raw = if self.whole { before.raw() } else { before.raw_input() };
            let _ = terminal::set_modes(fd, &raw);
        }
        self.before = Some(before);
        if self.resuming && before.is_line_mode() {
            self.hand_over_hidden();
        }
    }

    /// What was typed before the loan has been echoed, by our terminal, and is not to be echoed again by the command's. Only while
    /// the command is stopped: it could be setting modes itself.
    fn hand_over_hidden(&mut self) {
        if !self.loan_is_over() {
            self.read_line_begun();
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
    pub(super) fn take_back(&mut self) {
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

    pub(super) fn end_loan_if_over(&mut self) -> Option<Next> {
        if self.loan_is_over() { self.end_loan() } else { None }
    }

    fn end_loan(&mut self) -> Option<Next> {
        self.take_back();
        self.foreground = false;
        Some(Next::Background)
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut wait = Wait::with_capacity(1);
    wait.watch((), fd, true, false);
    wait.run(0, Some(0)).iter().any(|(_, ready)| ready.readable && !ready.hangup)
}
