//! The session leader of a run that has a terminal: the process between daemon and command.
//!
//! The kernel discards the terminal's stop signals for a process group that is orphaned, that is, none of whose members has a
//! parent in the same session but another group. The command's parent must therefore be a session leader of ours; sudo calls it
//! the monitor. It is a fork of the daemon with nothing of it but this link; it moves no byte, it waits for the command, moves it
//! between the pty's foreground and background, and sends it the signals that it is told to send.
//!
//! When the command has ended the monitor takes the foreground itself before it exits: the kernel hangs up on the foreground
//! group when a session leader exits, and a program that forked and returned must not be killed by that.

use crate::event::Wait;
use crate::exit::End;
use crate::proto::message::Terminal;
use crate::sys::launch::{Launch, Plan, Report, Stage};
use crate::sys::process::{self, Change};
use crate::sys::signals::{self, SignalReader, SignalSet, Target};
use crate::sys::{files, socket, terminal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// From SIGHUP to SIGTERM to SIGKILL when the daemon itself is gone and cannot climb the ladder.
const LADDER_MS: u64 = 3_000;

/// How long a command's stop is waited for that is to begin its reads anew.
const STOP_MS: u64 = 20;

/// What the daemon tells the monitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Signal(u8),
    Continue {
        foreground: bool,
    },
    SetForeground(bool),
    /// The client is gone: put its terminal's modes back if it left them raw.
    RestoreTerminal,
}

/// What the monitor tells the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    Running(u32),
    Failed(Stage, i32),
    Stopped(u8),
    Continued,
    Ended(End),
}

/// One packet: tag, small value, padding, wide value.
type Packet = [u8; 8];

fn packet(tag: u8, small: u8, wide: u32) -> Packet {
    let [a, b, c, d] = wide.to_ne_bytes();
    [tag, small, 0, 0, a, b, c, d]
}

impl Order {
    fn packet(self) -> Packet {
        match self {
            Order::Signal(signal) => packet(1, signal, 0),
            Order::Continue { foreground } => packet(2, foreground.into(), 0),
            Order::SetForeground(yes) => packet(3, yes.into(), 0),
            Order::RestoreTerminal => packet(4, 0, 0),
        }
    }

    fn from_packet([tag, small, ..]: Packet) -> Option<Order> {
        match tag {
            1 => Some(Order::Signal(small)),
            2 => Some(Order::Continue { foreground: small != 0 }),
            3 => Some(Order::SetForeground(small != 0)),
            4 => Some(Order::RestoreTerminal),
            _ => None,
        }
    }
}

impl Word {
    fn packet(self) -> Packet {
        match self {
            Word::Running(pid) => packet(1, 0, pid),
            Word::Failed(stage, errno) => packet(2, stage as u8, errno as u32),
            Word::Stopped(signal) => packet(3, signal, 0),
            Word::Continued => packet(4, 0, 0),
            Word::Ended(End::Code(code)) => packet(5, code, 0),
            Word::Ended(End::Signal(signal)) => packet(6, signal, 0),
        }
    }

    fn from_packet([tag, small, _, _, wide @ ..]: Packet) -> Option<Word> {
        let wide = u32::from_ne_bytes(wide);
        match tag {
            1 => Some(Word::Running(wide)),
            2 => Some(Word::Failed(Stage::from_number(i32::from(small)), wide as i32)),
            3 => Some(Word::Stopped(small)),
            4 => Some(Word::Continued),
            5 => Some(Word::Ended(End::Code(small))),
            6 => Some(Word::Ended(End::Signal(small))),
            _ => None,
        }
    }
}

/// The daemon's end of the link.
pub fn tell(link: &OwnedFd, order: Order) -> io::Result<()> {
    socket::send(link.as_fd(), &order.packet(), &[]).map(drop)
}

/// What has come over the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard<T> {
    Some(T),
    Nothing,
    End,
}

/// The daemon's ear: the next word of the monitor.
pub fn hear(link: &OwnedFd) -> Heard<Word> {
    receive(link, Word::from_packet)
}

fn receive<T>(link: &OwnedFd, read: fn(Packet) -> Option<T>) -> Heard<T> {
    let mut packet = Packet::default();
    match files::read(link.as_fd(), &mut packet) {
        Ok(8) => read(packet).map_or(Heard::Nothing, Heard::Some),
        Ok(0) => Heard::End,
        Ok(_) => Heard::Nothing,
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Heard::Nothing,
        // Said once, and before what is there to be read: the other side has ended without reading all that it was told.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => receive(link, read),
        Err(_) => Heard::End,
    }
}

/// A monitor that was forked.
pub struct Forked {
    pub pid: u32,
    pub link: OwnedFd,
}

/// Forks a monitor for the plan. `follower` is the pty's, `caller` the caller's terminal and its modes.
pub fn fork(plan: Plan, follower: OwnedFd, caller: Option<(OwnedFd, Terminal)>) -> io::Result<Forked> {
    let (link, theirs) = socket::packet_pair()?;
    match process::fork()? {
        process::Forked::Parent(pid) => Ok(Forked { pid, link }),
        process::Forked::Child => {
            let mut keep: Vec<&OwnedFd> = plan.fds.iter().collect();
            keep.extend([&follower, &theirs]);
            keep.extend(caller.iter().map(|(fd, _)| fd));
            keep.extend(&plan.cgroup);
            process::close_all_but(&keep);
            let code = match Monitor::begin(plan, follower, caller) {
                Ok(mut monitor) => monitor.attend(&theirs),
                Err(e) => {
                    let _ = socket::send(theirs.as_fd(), &Word::Failed(Stage::Setup, e.raw_os_error().unwrap_or(0)).packet(), &[]);
                    1
                }
            };
            // Nothing is dropped: the daemon's values in this copy of its memory own numbers that are no longer theirs.
            process::end_child(code)
        }
    }
}

struct Monitor {
    signals: SignalReader,
    tty: OwnedFd,
    caller: Option<(OwnedFd, Terminal)>,
    launch: Option<Launch>,
    command: u32,
    /// The group that had the foreground when the command was last moved out of it: an interactive shell's job, perhaps.
    foreground_group: u32,
    /// The command is stopped, as far as we know.
    stopped: bool,
    /// What is next on the way out, and when, once the daemon is gone.
    ladder: Option<(u8, u64)>,
}

#[derive(Clone, Copy)]
enum Source {
    Signals,
    Link,
    Launch,
}

impl Monitor {
    fn begin(plan: Plan, tty: OwnedFd, caller: Option<(OwnedFd, Terminal)>) -> io::Result<Monitor> {
        process::new_session()?;
        terminal::take_as_controlling(tty.as_fd())?;
        let signals = SignalReader::new(SignalSet::ALL)?;
        let launch = Launch::start(plan)?;
        let command = launch.pid;
        Ok(Monitor { signals, tty, caller, launch: Some(launch), command, foreground_group: command, stopped: false, ladder: None })
    }

    /// Until the command has ended. Waits for ever, as the command may run for ever.
    fn attend(&mut self, link: &OwnedFd) -> u8 {
        loop {
            let mut wait = Wait::with_capacity(3);
            wait.watch(Source::Signals, self.signals.as_fd(), true, false);
            if self.ladder.is_none() {
                wait.watch(Source::Link, link.as_fd(), true, false);
            }
            if let Some(launch) = &self.launch {
                wait.watch(Source::Launch, launch.as_fd(), false, false);
            }
            let now = process::monotonic_ms();
            let ready = wait.run(now, self.ladder.map(|(_, at)| at));
            // The birth first: an end that came in the same instant must find the beginning told.
            self.on_launch(link);
            for (source, _) in ready {
                match source {
                    Source::Signals => while self.signals.next().is_some() {},
                    Source::Link => self.on_link(link),
                    Source::Launch => {}
                }
            }
            self.climb();
            while let Some((pid, change)) = process::next_change() {
                if pid != self.command {
                    continue;
                }
                match change {
                    Change::Stopped(signal) => {
                        // Who asked for the terminal gets it; else who had it, perhaps the job of an inner shell.
                        let asked = [signals::TTIN, signals::TTOU].contains(&signal);
                        let had = self.current_foreground().unwrap_or(self.foreground_group);
                        self.foreground_group = if asked { self.command } else { had };
                        self.stopped = true;
                        say(link, Word::Stopped(signal));
                    }
                    Change::Continued => {
                        self.stopped = false;
                        say(link, Word::Continued);
                    }
                    Change::Ended(end) => {
                        self.on_launch(link);
                        let _ = terminal::set_foreground_group(self.tty.as_fd(), std::process::id());
                        say(link, Word::Ended(end));
                        return 0;
                    }
                }
            }
        }
    }

    fn on_launch(&mut self, link: &OwnedFd) {
        let Some(launch) = &mut self.launch else { return };
        match launch.report() {
            Report::Pending => return,
            Report::Running => say(link, Word::Running(self.command)),
            Report::Failed(stage, error) => say(link, Word::Failed(stage, error.raw_os_error().unwrap_or(0))),
        }
        self.launch = None;
    }

    fn on_link(&mut self, link: &OwnedFd) {
        loop {
            match receive(link, Order::from_packet) {
                Heard::Nothing => return,
                Heard::End => {
                    // The daemon is gone; its clients have seen it too. The command is hung up on, as by the daemon itself.
                    self.caller = None;
                    self.signal(signals::HUP);
                    self.signal(signals::CONT);
                    self.ladder = Some((signals::TERM, process::monotonic_ms() + LADDER_MS));
                    return;
                }
                Heard::Some(order) => self.obey(order),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Signal(signals::CONT) => self.go_on(),
            Order::Signal(signal) => self.signal(signal),
            Order::Continue { foreground } => {
                self.set_foreground(foreground);
                if !foreground {
                    self.begin_reads_anew();
                }
                self.go_on();
            }
            Order::SetForeground(yes) => {
                self.set_foreground(yes);
                if !yes {
                    self.begin_reads_anew();
                }
            }
            Order::RestoreTerminal => {
                if let Some((fd, before)) = self.caller.take() {
                    // Only what the client itself had set is undone: by now a shell may have modes of its own there.
                    if terminal::modes(fd.as_fd()).is_ok_and(|now| now.is_raw_of(&before.modes)) {
                        let _ = terminal::set_modes(fd.as_fd(), &before.modes);
                    }
                }
            }
        }
    }

    /// To the command's group; the command is our child and not yet waited for, so the number is still its own.
    fn signal(&self, signal: u8) {
        let _ = signals::send(Target::Group(self.command), signal);
    }

    fn set_foreground(&mut self, foreground: bool) {
        let group = if foreground {
            self.foreground_group
        } else {
            self.foreground_group = self.current_foreground().unwrap_or(self.foreground_group);
            std::process::id()
        };
        if terminal::set_foreground_group(self.tty.as_fd(), group).is_err() && foreground {
            // The job of an inner shell that had it is gone.
            let _ = terminal::set_foreground_group(self.tty.as_fd(), self.command);
        }
    }

    /// The kernel looks who has the foreground when a read begins. One that waits already, in a command that runs, has to begin
    /// anew, or nobody would ever hear that it wants keys: stopping and continuing does that.
    ///
    /// A child that is being forked meanwhile is born with the stop signal, but not with the continuation, which the kernel discards
    /// for a parent that is not stopped yet: so the command's stop is waited for. Not for long: one in vfork(2) waits for its child.
    fn begin_reads_anew(&self) {
        if !self.stopped {
            self.signal(signals::STOP);
            let deadline = process::monotonic_ms() + STOP_MS;
            while !process::is_at_rest(self.command) {
                let now = process::monotonic_ms();
                if now >= deadline {
                    break;
                }
                // Any signal: it may also be told of an earlier continuation.
                let mut wait = Wait::with_capacity(1);
                wait.watch((), self.signals.as_fd(), true, false);
                wait.run(now, Some(deadline));
                while self.signals.next().is_some() {}
            }
            self.signal(signals::CONT);
        }
    }

    /// It is not stopped any more, and may be reading already, before the kernel tells us so.
    fn go_on(&mut self) {
        self.signal(signals::CONT);
        self.stopped = false;
    }

    /// The foreground group, unless it is ours.
    fn current_foreground(&self) -> Option<u32> {
        terminal::foreground_group(self.tty.as_fd()).ok().filter(|group| *group > 1 && *group != std::process::id())
    }

    fn climb(&mut self) {
        let Some((signal, at)) = self.ladder else { return };
        let now = process::monotonic_ms();
        if now < at {
            return;
        }
        self.signal(signal);
        self.signal(signals::CONT);
        self.ladder = Some((signals::KILL, now + LADDER_MS));
    }
}

/// A word that cannot be sent has nobody left to hear it; the link's end will say so.
fn say(link: &OwnedFd, word: Word) {
    let _ = socket::send(link.as_fd(), &word.packet(), &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_of_a_monitor_that_did_not_read_its_last_orders() {
        let (link, theirs) = socket::packet_pair().unwrap();
        tell(&link, Order::Signal(signals::TERM)).unwrap();
        say(&theirs, Word::Ended(End::Signal(signals::TERM)));
        drop(theirs);
        assert_eq!(hear(&link), Heard::Some(Word::Ended(End::Signal(signals::TERM))));
        assert_eq!(hear(&link), Heard::End);
    }

    #[test]
    fn orders_and_words_go_round() {
        for order in [Order::Signal(64), Order::Continue { foreground: true }, Order::SetForeground(false), Order::RestoreTerminal] {
            assert_eq!(Order::from_packet(order.packet()), Some(order));
        }
        let ends = [Word::Ended(End::Code(255)), Word::Ended(End::Signal(9))];
        for word in [Word::Running(70_000), Word::Failed(Stage::Directory, 13), Word::Stopped(20), Word::Continued].into_iter().chain(ends) {
            assert_eq!(Word::from_packet(word.packet()), Some(word));
        }
        assert_eq!(Order::from_packet([9; 8]), None);
    }
}
