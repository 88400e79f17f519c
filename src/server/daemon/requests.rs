//! What is asked: each frame is checked, and does what its kind says, or is refused with a sentence.

use crate::checks::{self, Mend};
use crate::logging::shown;
use crate::opid::OpId;
use crate::process::environment;
use crate::proto::capability::Capability;
use crate::proto::channel::Frame;
use crate::proto::frame;
use crate::proto::message::{self, Code, Refusal, Run, kind};
use crate::server::caller::Caller;
use crate::server::daemon::Daemon;
use crate::server::plan;
use crate::server::policy::Granted;
use crate::server::session::{Event, State, Terms};
use crate::sys::files;
use crate::sys::process;
use crate::sys::signals;
use std::rc::Rc;

/// Questions (hello, status, reload, stop) that one connection may ask: one or two are usual, and each costs others time.
const MAX_QUESTIONS: u32 = 16;
/// Callers that use the clipboard at once, of the user's own socket or of one container's: each may hold `MAX_BYTES` of content, 1 GiB
/// all together. One that waits to be pasted from (`--foreground`) is one of them.
const MAX_CLIPBOARDS: usize = 4;
/// The largest body of anything that is not a run.
const MAX_SMALL_BODY: usize = 64 * 1024;
/// The longest name of a command that is kept for logs and answers.
const MAX_NAME_BYTES: usize = 256;

impl Daemon {
    pub(super) fn on_frame(&mut self, id: u64, frame: Frame) {
        if frame.header.version != frame::VERSION {
            let text = format!("you speak protocol version {}, this daemon {}: install the same bkt on both sides", frame.header.version, frame::VERSION);
            return self.refuse(id, Refusal::new(Code::BadVersion, text));
        }
        // Whether the command has begun decides what a message does; that may not have been looked at yet.
        self.on_child(id);
        if (kind::Hello..=kind::GuestsRequest).contains(&frame.header.kind) && frame.header.kind != kind::Run {
            if !frame.fds.is_empty() {
                return self.refuse(id, Refusal::new(Code::BadDescriptors, format!("a frame of kind {} carries no descriptors", frame.header.kind)));
            }
            if frame.body().len() > MAX_SMALL_BODY {
                return self.refuse(id, Refusal::new(Code::BadFrame, format!("a frame of kind {} is no longer than {MAX_SMALL_BODY} bytes", frame.header.kind)));
            }
        }
        if let Err(refusal) = self.on_message(id, frame) {
            self.refuse(id, refusal);
        }
    }

    fn on_message(&mut self, id: u64, frame: Frame) -> Result<(), Refusal> {
        let body = frame.body();
        if frame.header.kind != kind::Pong && self.guests.knows(id) {
            return Err(Refusal::new(Code::BadRequest, "a guest's link carries nothing but its answers"));
        }
        if matches!(frame.header.kind, kind::Hello | kind::Serve | kind::GuestsRequest | kind::StatusRequest | kind::Reload | kind::Stop)
            && let Some(caller) = self.callers.get_mut(id)
        {
            caller.questions += 1;
            if caller.questions > MAX_QUESTIONS {
                return Err(Refusal::new(Code::BadRequest, format!("one connection asks at most {MAX_QUESTIONS} questions")));
            }
        }
        let question = match frame.header.kind {
            kind::StatusRequest => "how the daemon is, and what it runs",
            kind::GuestsRequest => "which containers there are",
            kind::Reload => "reloading the daemon",
            kind::Stop => "stopping the daemon",
            _ => "",
        };
        if !question.is_empty() {
            self.granted(id).allow_question(question)?;
        }
        match frame.header.kind {
            kind::Run => return self.on_run(id, frame),
            kind::Signal => {
                let message::Signal { signal } = message::decode(body)?;
                if !(1..=signals::LAST).contains(&signal) {
                    return Err(Refusal::new(Code::BadRequest, format!("there is no signal {signal}")));
                }
                self.on(id, Event::Signal(signal));
            }
            kind::Continue => {
                let message::Continue { foreground } = message::decode(body)?;
                self.on(id, Event::Continue { foreground });
            }
            kind::Foreground => {
                let message::Foreground { foreground } = message::decode(body)?;
                self.on(id, Event::Foreground(foreground));
            }
            kind::Hello => {
                let hello: message::Hello<'_> = message::decode(body)?;
                if let Some(finding) = checks::daemon::release(&shown(hello.container.0), &shown(hello.release.as_bytes()), self.options.release, Mend::Run(&[])) {
                    log::warn!(op_id = self.callers.get(id).and_then(|c| c.op); "{}", finding.what);
                }
                self.heed(id, hello.container.0);
                let (accepted, rejected) = self.granted(id).judge(&hello.capabilities);
                let answer = message::HelloAnswer { release: self.options.release, accepted, rejected };
                self.reply(id, &answer, vec![]);
            }
            kind::Serve if self.upstream.is_none() => {
                let offer: message::Serve<'_> = message::decode(body)?;
                if !self.callers.get(id).is_some_and(|c| matches!(c.session.state(), State::Greeting { .. })) {
                    return Err(Refusal::new(Code::BadRequest, "a connection with a command does not become a guest's link"));
                }
                self.on_offer(id, &offer);
            }
            kind::Enter if self.upstream.is_none() => {
                let enter: message::Enter<'_> = message::decode(body)?;
                return self.on_enter(id, &enter);
            }
            kind::Pong => {
                let message::Pong {} = message::decode(body)?;
                for (rival, refusal) in self.guests.on_pong(id, process::monotonic_ms()) {
                    self.refuse(rival, refusal);
                }
            }
            kind::GuestsRequest => {
                let message::GuestsRequest {} = message::decode(body)?;
                self.reply_guests(id);
            }
            kind::StatusRequest => {
                let message::StatusRequest {} = message::decode(body)?;
                self.reply_status(id);
            }
            kind::Reload if self.upstream.is_some() => return Err(Refusal::new(Code::BadRequest, "a guest daemon is not reloaded; end it, and start the new one")),
            kind::Reload => {
                let message::Reload {} = message::decode(body)?;
                self.allow_control(id)?;
                if self.ending_by.is_some() {
                    return Err(Refusal::new(Code::ShuttingDown, "the daemon is ending; it is not reloaded"));
                }
                self.reload_asked.push(id);
                self.begin_reload();
            }
            kind::Stop => {
                let message::Stop {} = message::decode(body)?;
                self.allow_control(id)?;
                // First: who is told that we end may look for a daemon at once, and must not find us.
                self.close_doors();
                self.reply(id, &message::Done {}, vec![]);
                self.dismiss_guests(true);
                self.begin_end();
            }
            other => return Err(Refusal::new(Code::UnknownMethod, format!("this daemon (version {}) knows no request of kind {other}", self.options.release))),
        }
        Ok(())
    }

    fn on_run(&mut self, id: u64, frame: Frame) -> Result<(), Refusal> {
        let run: Run<'_> = message::decode(frame.body())?;
        plan::check(&run, frame.fds.len(), &self.context)?;
        if self.upstream.is_some() && run.capability != Capability::HostExec as u8 {
            return Err(Refusal::new(Code::Denied, "a guest daemon runs commands, and does nothing else for the host"));
        }
        let own = self.heed(id, run.container.0);
        let name = match self.granted(id).allow(&run, &self.context)? {
            Capability::HostExec => plan::name(&run),
            // What it is called is for the caller to claim; what it uses is not.
            other => other.word().as_bytes(),
        };
        if run.capability == Capability::Clipboard as u8 {
            self.allow_clipboard(id)?;
        }
        // What shows or holds something for a caller ends with it: a thousand that nobody waits for would fill the daemon.
        let outlives = run.capability == Capability::HostExec as u8 && run.inheritance.ignored.contains(signals::HUP);
        let terms = Terms { terminal: run.terminal.is_some(), survives: run.detach || outlives, detach: run.detach };
        let name = name[..name.len().min(MAX_NAME_BYTES)].to_vec();
        let directory = run.directory.0.to_vec();
        let arguments = || environment::strings(run.args.0).map(shown).collect::<Vec<_>>().join(" ");
        let container = own.as_deref().map_or(run.container.0, str::as_bytes);
        let Some(caller) = self.callers.get_mut(id) else { return Ok(()) };
        if !matches!(caller.session.state(), State::Greeting { .. }) {
            return Err(Refusal::new(Code::BadRequest, "one connection runs one command"));
        }
        let op = *caller.op.get_or_insert_with(|| OpId::from_random(files::random()));
        log::debug!(op_id = op, container = shown(container).as_str(), directory = shown(run.directory.0).as_str(); "asked for: {}", arguments());
        (caller.name, caller.directory, caller.capability) = (name, directory, run.capability);
        self.seen.note(container, caller.since_ms);
        caller.request_bytes = frame.bytes().len();
        caller.request = Some(frame);
        self.on(id, Event::Asked(terms));
        Ok(())
    }

    /// A clipboard's content is in memory for as long as it is read and set.
    fn allow_clipboard(&self, id: u64) -> Result<(), Refusal> {
        let container = |caller: &Caller| caller.container.clone();
        let own = self.callers.get(id).and_then(container);
        let at_once = self.callers.values().filter(|c| c.capability == Capability::Clipboard as u8 && container(c) == own).count();
        if at_once < MAX_CLIPBOARDS {
            return Ok(());
        }
        Err(Refusal::new(Code::Busy, format!("{MAX_CLIPBOARDS} callers use the clipboard already, and all of it is in memory; try again")))
    }

    /// What the listener that a caller came by grants.
    pub(super) fn granted(&self, id: u64) -> Granted<'_> {
        self.policy.of(self.callers.get(id).and_then(|caller| caller.container.as_deref()))
    }

    /// The name that a caller's container has by its socket; another one that it claims is told.
    pub(super) fn heed(&mut self, id: u64, claim: &[u8]) -> Option<Rc<str>> {
        let own = self.callers.get(id)?.container.clone()?;
        self.doors.heed(&own, claim);
        Some(own)
    }

    pub(super) fn refuse(&mut self, id: u64, refusal: Refusal) {
        if let Some(caller) = self.callers.get(id) {
            let by_peer = matches!(refusal.code, Code::BadFrame | Code::BadDescriptors | Code::BadVersion | Code::UnknownMethod | Code::BadRequest | Code::Denied | Code::TooSlow);
            // A shim on the host: it becomes the real command, and nothing was refused in its eyes.
            let level = if by_peer {
                log::Level::Warn
            } else if refusal.code == Code::SameSide {
                log::Level::Debug
            } else {
                log::Level::Info
            };
            match caller.container.as_deref() {
                None => log::log!(level, op_id = caller.op, code = refusal.code.word(); "refused: {}", refusal.text),
                Some(name) => log::log!(level, op_id = caller.op, code = refusal.code.word(), container = name; "refused: {}", refusal.text),
            }
            self.errors.note(caller.op, process::monotonic_ms(), refusal.code, &refusal.text, caller.container.clone());
        }
        self.on(id, Event::Refuse(refusal));
    }
}
