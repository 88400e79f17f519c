//! What the command writes, on its way to the screen.
//!
//! Only a raw terminal shows what it gets as it is. While it is not raw it makes carriage returns itself, so those that the pty's
//! driver has made are taken out again. Where neighbours share the screen, only the keyboard is made raw.

use crate::client::relay::{CHUNK, Next, Relay, Side};
use crate::event::{Ready, Wait};
use crate::sys::files;
use crate::sys::terminal::{self, Modes};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Chunks moved before others get their turn.
const CHUNKS_PER_TURN: usize = 16;

impl Relay {
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
    pub(super) fn show(&mut self) {
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
    pub(super) fn drain(&mut self) {
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
        let mut wait = Wait::with_capacity(1);
        wait.watch((), fd, false, true);
        wait.run(0, None).iter().any(|(_, ready)| ready.writable)
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut wait = Wait::with_capacity(1);
    wait.watch((), fd, false, true);
    wait.run(0, Some(0)).iter().any(|(_, ready)| ready.writable || ready.hangup)
}

/// Takes out the carriage return that a pty's driver puts before each newline, and no other. What the command itself wrote as
/// `\r\n` has two of them by then and keeps one.
#[derive(Default)]
pub(super) struct Newlines {
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
