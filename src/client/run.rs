//! The story of one run: connect, send the request with everything the command is to have, pass on what happens until it ends.

pub use crate::client::capture::WantPty;
use crate::client::capture::{self, Streams};
use crate::client::connect::{self, Connection, HANDSHAKE_MS};
use crate::client::relay::{Next, Relay};
use crate::container;
use crate::error::{Error, Failure, Result};
use crate::event::Wait;
use crate::exit::End;
use crate::invocation::Invocation;
use crate::logging::shown;
use crate::opid::OpId;
use crate::process::environment;
use crate::proto::capability::Capability;
use crate::proto::channel::{Channel, Filled, Frame};
use crate::proto::frame;
use crate::proto::message::{self, Bytes, Code, Run, Terminal, kind};
use crate::sys::process::{self, Inheritance};
use crate::sys::signals::{self, SignalReader, SignalSet};
use crate::sys::{files, socket, terminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// How soon a request is tried again whose descriptors the kernel had no room for.
const RETRY_MS: u64 = 2;

/// A command to be run on the other side.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// NUL-terminated strings, here and in the next two.
    pub args: Vec<u8>,
    pub set_env: Vec<u8>,
    pub unset_env: Vec<u8>,
    pub clear_env: bool,
    /// Instead of the caller's own.
    pub directory: Option<Vec<u8>>,
    pub detach: bool,
    pub pty: WantPty,
    /// Further descriptors to pass, under their own numbers.
    pub extra: Vec<u16>,
    /// Run it ourselves where the daemon is on our own side: what a shim does.
    pub not_on_own_side: bool,
    /// Run it in this container of the daemon's side, by the container's guest daemon.
    pub container: Option<Vec<u8>>,
    /// What of the host the command uses; with another than `host_exec`, `args` says what to do instead of naming a command.
    pub capability: Capability,
    /// Say hello first, with this release of ours, in the same round trip.
    pub hello: Option<&'static str>,
    /// Keep our own copies of the streams: we go on after the run. Their readers and writers wait for us, then.
    pub keep_streams: bool,
}

/// What became of it.
pub enum Outcome {
    Ended(End),
    /// The daemon has our own root directory.
    SameSide,
    /// There is no daemon, or the container has no guest daemon, so nobody has taken the request.
    NoDaemon {
        path: PathBuf,
        why: std::io::Error,
    },
}

/// When the phases of a run were over, in microseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub begun: u64,
    pub connected: u64,
    pub started: u64,
    pub ended: u64,
}

/// Runs a command through the daemon.
pub fn run(command: &Command, invocation: &Invocation, sockets: &[PathBuf], op: OpId) -> Result<Outcome> {
    run_timed(command, invocation, sockets, op, &mut Times::default())
}

/// The same, and says how long each part took.
pub fn run_timed(command: &Command, invocation: &Invocation, sockets: &[PathBuf], op: OpId, times: &mut Times) -> Result<Outcome> {
    // Before anything of ours is opened, and takes a number that was free.
    if let Some(number) = command.extra.iter().find(|number| files::inherited(i32::from(**number)).is_none()) {
        return Err(Error::new(format!("descriptor {number} is not open; --fd passes only open ones")));
    }
    let mut extra = command.extra.clone();
    if command.capability == Capability::HostExec {
        for number in capture::named_descriptors(&command.args) {
            if !extra.contains(&number) {
                extra.push(number);
            }
        }
    }
    times.begun = process::monotonic_us();
    let socket = match connect::connect(sockets)? {
        Connection::Made(socket) => socket,
        Connection::NoDaemon { path, why } => return Ok(Outcome::NoDaemon { path, why }),
    };
    times.connected = process::monotonic_us();
    // A daemon that sleeps takes some 30 µs to wake up for the connection: what it will find there is put together meanwhile.
    let inheritance = process::inheritance();
    let mut streams = capture::streams(command.pty, command.detach, &inheritance);
    streams.extra = extra;
    let (request, fds) = request(command, invocation, &streams, streams.inherited(inheritance), op)?;
    // From here on every signal is read, and passed on, not acted upon. Those ignored at the caller stay as they are: blocked, the
    // kernel would keep them for us, ignored or not.
    let signals = SignalReader::new(SignalSet(!inheritance.ignored.0)).map_err(|e| Error::io("signalfd", &e))?;
    let mut conversation = Conversation { channel: Channel::new(socket), signals, passed_on: SignalSet::EMPTY, op, deadline: Some(process::monotonic_ms() + HANDSHAKE_MS) };
    if let Some(release) = command.hello {
        let hello = message::Hello { release, container: Bytes(container::claimed(invocation)), capabilities: vec![command.capability.word()] };
        conversation.push_out(&message::encode(&hello, 0, Some(op)), &[])?;
    }
    conversation.push_out(&request, &fds)?;
    match conversation.first_answer(command.hello)? {
        First::SameSide => {
            conversation.signals.restore_mask(conversation.passed_on);
            Ok(Outcome::SameSide)
        }
        First::NoGuest(why) => {
            conversation.signals.restore_mask(conversation.passed_on);
            Ok(Outcome::NoDaemon { path: sockets.first().cloned().unwrap_or_default(), why: std::io::Error::other(why) })
        }
        First::Started { descriptor } => {
            log::info!(op_id = op; "the daemon runs it");
            // Without a terminal there is nothing to be done with it, but to keep it open to the end.
            let (leader, _kept) = if describes_terminal(&streams) { (descriptor, None) } else { (None, descriptor) };
            times.started = process::monotonic_us();
            if command.detach {
                return Ok(Outcome::Ended(End::Code(0)));
            }
            let end = conversation.until_the_end(streams, command, leader)?;
            times.ended = process::monotonic_us();
            Ok(Outcome::Ended(end))
        }
    }
}

struct Conversation {
    channel: Channel,
    signals: SignalReader,
    /// What has arrived and was passed on without a terminal.
    passed_on: SignalSet,
    op: OpId,
    /// When the next answer must have come.
    deadline: Option<u64>,
}

enum First {
    Started { descriptor: Option<OwnedFd> },
    SameSide,
    NoGuest(String),
}

#[derive(Clone, Copy)]
enum Source {
    Socket,
    Signals,
    Terminal,
    Leader,
}

impl Conversation {
    /// Sends all of the request within the deadline.
    fn push_out(&mut self, request: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut raised = false;
        loop {
            match self.channel.begin(request, fds) {
                Ok(()) => break,
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
                // Descriptors under way count against our own limit, those of other processes of the user too (unix(7)).
                Err(e) if e.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                    if !std::mem::replace(&mut raised, true) {
                        process::raise_descriptor_limit();
                        continue;
                    }
                }
                Err(e) => return self.send_failed(&e),
            }
            // Nobody tells us when others' descriptors have arrived.
            let now = self.in_time()?;
            Wait::<()>::with_capacity(0).run(now, Some(now + RETRY_MS));
        }
        while self.channel.unsent() > 0 {
            let now = self.in_time()?;
            let mut wait = Wait::with_capacity(1);
            wait.watch((), self.channel.as_fd(), false, true);
            wait.run(now, self.deadline);
            if let Err(e) = self.channel.flush() {
                return self.send_failed(&e);
            }
        }
        Ok(())
    }

    /// A daemon that refused and hung up has left its reason behind.
    fn send_failed(&mut self, error: &std::io::Error) -> Result<()> {
        if self.channel.fill() == Filled::Some { Ok(()) } else { Err(Error::io("send the request to the daemon", error)) }
    }

    /// The time now, unless the deadline of the next answer has passed.
    fn in_time(&self) -> Result<u64> {
        let now = process::monotonic_ms();
        if self.deadline.is_some_and(|at| now >= at) {
            return Err(Error::new(format!("the daemon has not answered within {} s: it is stopped or overloaded; the command may still run later", HANDSHAKE_MS / 1000)));
        }
        Ok(now)
    }

    /// Waits until the command runs, or does not.
    fn first_answer(&mut self, own_release: Option<&str>) -> Result<First> {
        loop {
            while let Some(mut frame) = self.next_frame()? {
                match frame.header.kind {
                    // What it rejects, it refuses too, with the reason.
                    kind::HelloAnswer => {
                        let answer: message::HelloAnswer<'_> = decode(&frame)?;
                        if own_release.is_some_and(|own| own != answer.release) {
                            log::warn!(op_id = self.op; "the host's daemon is version {}, this bkt {}: install the same on both sides", answer.release, own_release.unwrap_or(""));
                        }
                    }
                    // Taken; it starts when its turn comes, and that may be any time.
                    kind::Accepted => self.deadline = None,
                    kind::Started => {
                        let descriptor = frame.fds.pop().map(files::keep_above_standard).transpose().map_err(|e| Error::io("keep the pty's leader", &e))?;
                        self.deadline = None;
                        return Ok(First::Started { descriptor });
                    }
                    kind::Refused => {
                        let refused: message::Refused<'_> = decode(&frame)?;
                        let code = Code::from_number(refused.code);
                        return match code {
                            Code::SameSide => Ok(First::SameSide),
                            Code::NoGuest => Ok(First::NoGuest(shown(refused.text.as_bytes()))),
                            _ => Err(refusal(refused.text, code)),
                        };
                    }
                    other => return Err(unexpected(other)),
                }
            }
            let now = self.in_time()?;
            let mut wait = Wait::with_capacity(2);
            wait.watch(Source::Socket, self.channel.as_fd(), true, false);
            wait.watch(Source::Signals, self.signals.as_fd(), true, false);
            for (source, _) in wait.run(now, self.deadline) {
                match source {
                    Source::Signals => self.pass_on_signals(),
                    _ => {
                        if self.channel.fill() == Filled::End {
                            return Err(Error::new("the daemon closed the connection before it answered; the command may or may not have run"));
                        }
                    }
                }
            }
        }
    }

    /// The run itself: waits for ever, as the command may; the daemon's death is an event.
    fn until_the_end(&mut self, streams: Streams, command: &Command, leader: Option<OwnedFd>) -> Result<End> {
        let mut voice = None;
        // A command that has ended already leaves nobody to wait for our copies; they go with us.
        if !command.keep_streams && !self.has_ended() {
            voice = capture::late_voice(&streams);
            // The command has these now. Kept here too, they would keep its readers and writers waiting when it closes them.
            files::close_inherited(&capture::passed_numbers(&streams));
        }
        let mut relay = leader.map(|leader| Relay::new(leader, streams));
        let end = self.attend(relay.as_mut());
        if end.is_err() {
            drop(relay);
            regain_voice(voice);
        }
        end
    }

    /// The last word is here already.
    fn has_ended(&self) -> bool {
        self.channel.peek().is_some_and(|header| header.kind == kind::Exited)
    }

    fn attend(&mut self, mut relay: Option<&mut Relay>) -> Result<End> {
        if let Some(relay) = &mut relay {
            relay.begin();
        }
        let mut ended = None;
        loop {
            while let Some(frame) = self.next_frame()? {
                match frame.header.kind {
                    kind::Exited => {
                        let exited: message::Exited = decode(&frame)?;
                        ended = Some(End::from(exited));
                    }
                    kind::Stopped => {
                        let message::Stopped { signal } = decode(&frame)?;
                        self.on_stopped(signal, relay.as_deref_mut())?;
                    }
                    kind::Continued => {
                        if let Some(relay) = &mut relay {
                            relay.on_resumed();
                        }
                    }
                    kind::Accepted => {}
                    kind::Refused => {
                        let refused: message::Refused<'_> = decode(&frame)?;
                        return Err(refusal(refused.text, Code::from_number(refused.code)));
                    }
                    other => return Err(unexpected(other)),
                }
            }
            if let Some(end) = ended
                && relay.as_deref_mut().is_none_or(Relay::pump)
            {
                if let Some(relay) = &mut relay {
                    relay.finish(end);
                }
                return Ok(end);
            }
            let mut wait = Wait::with_capacity(4);
            if ended.is_none() {
                wait.watch(Source::Socket, self.channel.as_fd(), true, self.channel.unsent() > 0);
            }
            wait.watch(Source::Signals, self.signals.as_fd(), true, false);
            if let Some(relay) = &relay {
                relay.interests(|is_leader, fd, read, write| wait.watch(if is_leader { Source::Leader } else { Source::Terminal }, fd, read, write));
            }
            for (source, ready) in wait.run(0, None) {
                match (source, &mut relay) {
                    (Source::Socket, _) => {
                        // What cannot be sent any more may cross with last words: only the end of reading is the end.
                        let _ = self.channel.flush();
                        if self.channel.fill() == Filled::End {
                            return Err(Error::new("the daemon died while the command ran; its exit status is lost, and the command has been hung up on"));
                        }
                    }
                    (Source::Signals, Some(relay)) => {
                        while let Some(arrived) = self.signals.next() {
                            let next = relay.on_signal(arrived);
                            // The command is gone, and its last output waits for a screen that takes no more: do as we are told.
                            if ended.is_some() && [signals::HUP, signals::INT, signals::QUIT, signals::TERM].contains(&arrived.signal) {
                                return Ok(End::Signal(arrived.signal));
                            }
                            self.tell(next)?;
                        }
                    }
                    (Source::Signals, None) => self.pass_on_signals(),
                    (Source::Terminal, Some(relay)) => {
                        let next = relay.on_terminal(ready);
                        self.tell(next)?;
                    }
                    (Source::Leader, Some(relay)) => {
                        let next = relay.on_leader(ready);
                        self.tell(next)?;
                    }
                    (Source::Terminal | Source::Leader, None) => {}
                }
            }
        }
    }

    /// The command stopped: so do we, for our caller to see, until we are continued; then the command is too.
    fn on_stopped(&mut self, signal: u8, relay: Option<&mut Relay>) -> Result<()> {
        match relay {
            Some(relay) => {
                let next = relay.on_stopped(signal);
                self.tell(next)?;
                // Our own continuation was just acted upon; the rest of what came meanwhile is passed on.
                while let Some(arrived) = self.signals.next() {
                    if arrived.signal != signals::CONT {
                        let next = relay.on_signal(arrived);
                        self.tell(next)?;
                    }
                }
                Ok(())
            }
            None => {
                // Without a terminal the command was stopped by SIGSTOP, whatever was meant; our shell says just "stopped".
                signals::stop_self(signals::STOP, false);
                self.tell(Some(Next::Signal(signals::CONT)))
            }
        }
    }

    fn pass_on_signals(&mut self) {
        while let Some(arrived) = self.signals.next() {
            self.passed_on = self.passed_on.with(arrived.signal);
            let _ = self.tell(Some(Next::Signal(arrived.signal)));
        }
    }

    fn tell(&mut self, next: Option<Next>) -> Result<()> {
        let (op, channel) = (Some(self.op), &mut self.channel);
        let sent = match next {
            None => return Ok(()),
            Some(Next::Signal(signal)) => channel.send(&message::Signal { signal }, op, vec![]),
            Some(Next::Continue { foreground }) => channel.send(&message::Continue { foreground }, op, vec![]),
            Some(Next::Background) => channel.send(&message::Foreground { foreground: false }, op, vec![]),
        };
        // A connection that broke has an end to be read, and maybe words before it: that is where it is dealt with.
        drop(sent);
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        match self.channel.next_frame() {
            // A refusal is read whatever its version: its layout is the same in all.
            Ok(Some(frame)) if frame.header.version != frame::VERSION && frame.header.kind != kind::Refused => {
                Err(Error::new(format!("the daemon speaks protocol version {}, we {}: install the same bkt on both sides", frame.header.version, frame::VERSION)))
            }
            Ok(frame) => Ok(frame),
            Err(refusal) => Err(Error::new(format!("the daemon's answer cannot be read: {}", refusal.text))),
        }
    }
}

/// The request's bytes, and the descriptors that travel with it.
fn request<'s>(command: &Command, invocation: &Invocation, streams: &'s Streams, inheritance: Inheritance, op: OpId) -> Result<(Vec<u8>, Vec<BorrowedFd<'s>>)> {
    let mut env = Vec::with_capacity(invocation.env.iter().map(|entry| entry.count_bytes() + 1).sum());
    let of_use = |entry: &[u8]| command.capability == Capability::HostExec || entry.starts_with(environment::DEPTH.as_bytes());
    for entry in &invocation.env {
        if of_use(entry.to_bytes()) {
            env.extend_from_slice(entry.to_bytes_with_nul());
        }
    }
    let directory = command.directory.clone().unwrap_or_else(|| capture::directory(invocation));
    let root = command.not_on_own_side.then(|| files::file_id(c"/").ok()).flatten();
    let run = Run {
        args: Bytes(&command.args),
        env: Bytes(&env),
        set_env: Bytes(&command.set_env),
        unset_env: Bytes(&command.unset_env),
        clear_env: command.clear_env,
        directory: Bytes(&directory),
        directory_required: command.directory.is_some(),
        streams: streams.plan,
        extra: streams.extra.clone(),
        terminal: describe(streams),
        inheritance,
        detach: command.detach,
        not_on_root: root.map(|id| (id.device, id.inode)),
        container: Bytes(container::claimed(invocation)),
        capability: command.capability as u8,
    };
    let most = socket::MAX_FDS - (run.descriptors() - run.extra.len());
    if run.extra.len() > most {
        return Err(Error::new(format!("{} descriptors are to be passed; beside these streams the kernel passes {most} at once", run.extra.len())));
    }
    let passed = capture::passed_numbers(streams);
    let mut fds: Vec<BorrowedFd<'s>> = passed.into_iter().filter_map(files::inherited).collect();
    fds.extend(streams.terminal.as_ref().map(|terminal| terminal.fd.as_fd()));
    let mut bytes = message::encode(&run, fds.len(), Some(op));
    if let Some(container) = &command.container {
        let directory = if command.directory.is_none() { files::file_id(c".").ok() } else { None };
        let enter = message::Enter { container: Bytes(container), directory: directory.map(|id| (id.device, id.inode)) };
        // Both in one go: the guest is handed all of it at once.
        bytes.splice(..0, message::encode(&enter, 0, Some(op)));
    }
    Ok((bytes, fds))
}

fn decode<'a, T: serde::Deserialize<'a>>(frame: &'a Frame) -> Result<T> {
    message::decode(frame.body()).map_err(|refusal| Error::new(format!("the daemon's answer cannot be read: {}", refusal.text)))
}

fn refusal(text: &str, code: Code) -> Error {
    Failure { text: shown(text.as_bytes()), code: code.exit(), word: code.word() }.into()
}

fn unexpected(kind: u8) -> Error {
    Error::new(format!("the daemon answered with a message of kind {kind}, which we do not know: install the same bkt on both sides"))
}

/// Puts standard error back where it was, for one last sentence. Where the command was the last that wrote to a pipe, its reader may
/// have gone with it: then a person at the terminal hears of it there.
fn regain_voice(voice: Option<OwnedFd>) {
    let Some(voice) = voice else { return };
    let is_heard = |file: &std::fs::File| {
        let mut wait = Wait::with_capacity(1);
        wait.watch((), file.as_fd(), false, true);
        wait.run(0, Some(0)).iter().all(|(_, ready)| !ready.hangup)
    };
    let file = files::open_handle_for_writing(&voice).ok().filter(is_heard);
    if let Some(file) = file.or_else(|| files::open_terminal(c"/dev/tty").ok().map(std::fs::File::from)) {
        let _ = files::become_standard(file.into(), 2);
    }
}

fn describes_terminal(streams: &Streams) -> bool {
    streams.terminal.is_some() || streams.forced
}

fn describe(streams: &Streams) -> Option<Terminal> {
    let wanted = describes_terminal(streams);
    let fd = streams.terminal.as_ref().map(|t| t.fd.as_fd());
    wanted.then(|| Terminal { modes: streams.modes, size: fd.and_then(|fd| terminal::size(fd).ok()).unwrap_or_default(), foreground: streams.foreground, passed: fd.is_some() })
}
