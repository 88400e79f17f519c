//! How the daemon becomes its next image, and takes everything along: nothing that runs notices.

use crate::error::{Error, Result, counted};
use crate::exit::End;
use crate::process::environment;
use crate::proto::channel::Channel;
use crate::proto::message::{self, Code, Past, Refusal};
use crate::server::caller::{Caller, Child};
use crate::server::daemon::{Daemon, LAST_WORDS_MS, NOT_ITSELF, STATE_UNDERSTOOD};
use crate::server::errors::Errors;
use crate::server::guests::Guests;
use crate::server::listener::Listener;
use crate::server::saved::{self, Saved, SavedListener};
use crate::server::seen::Containers;
use crate::server::session::{Event, State};
use crate::sys::files::FileId;
use crate::sys::launch::{Launch, Place, Plan, Report, Strings};
use crate::sys::process;
use crate::sys::signals::{self, Target};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// How long the new binary may take to say that it understands our state.
const PROBE_MS: u64 = 2_000;

pub(super) struct Reloading {
    pub(super) probe: u32,
    pub(super) launch: Option<Launch>,
    pub(super) by: u64,
    /// Asked for once more meanwhile: the binary may be another one again.
    pub(super) again: bool,
}

impl Daemon {
    /// First the new binary is asked whether it can read our state; only one that can is exec'ed.
    pub(super) fn begin_reload(&mut self) {
        if self.ending_by.is_some() {
            return;
        }
        if let Some(reloading) = &mut self.reloading {
            reloading.again = true;
            return;
        }
        log::info!("reloading {}", self.context.own_executable.to_string_lossy());
        self.supervisor.tell(format!("RELOADING=1\nMONOTONIC_USEC={}", process::monotonic_us()));
        if let Err(error) = self.start_probe() {
            self.go_on(&error.text);
        }
    }

    fn start_probe(&mut self) -> Result<()> {
        let state = saved::write(&self.save())?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(|e| Error::io("open /dev/null", &e))?;
        let plan = Plan {
            candidates: vec![self.context.own_executable.clone()],
            searched: false,
            ourselves: FileId::default(),
            args: Strings::new(b"bkt-hostd\0--check-state\x003\0".to_vec()),
            env: Strings::new(self.context.env.bytes.clone()),
            directory: c"/".to_owned(),
            refuge: None,
            fds: vec![null.into(), state.into()],
            streams: [Some(0), Some(0), Some(0)],
            extra: vec![(3, 1)],
            place: Place::NewSession,
            inheritance: self.context.inheritance,
            own: self.context.inheritance,
            on_parent_death: signals::KILL,
            cgroup: None,
            elsewhere: None,
        };
        let launch = Launch::start(plan).map_err(|e| Error::io("start the new binary", &e))?;
        self.reloading = Some(Reloading { probe: launch.pid, launch: Some(launch), by: process::monotonic_ms() + PROBE_MS, again: false });
        Ok(())
    }

    pub(super) fn on_probe_report(&mut self) {
        let Some(reloading) = &mut self.reloading else { return };
        match reloading.launch.as_mut().map(Launch::report) {
            Some(Report::Failed(_, error)) => {
                reloading.launch = None;
                let text = format!("the new binary cannot be executed: {}", crate::error::reason(&error));
                self.abandon_reload(&text);
            }
            Some(Report::Running) => reloading.launch = None,
            _ => {}
        }
    }

    pub(super) fn on_probe_end(&mut self, end: End) {
        if let Some(reloading) = &mut self.reloading {
            // Waited for: the number means nothing any more.
            reloading.probe = 0;
        }
        self.on_probe_report();
        if self.reloading.is_none() {
            return;
        }
        match end {
            End::Code(STATE_UNDERSTOOD) => {
                if self.reloading.take().is_some_and(|r| r.again) {
                    self.begin_reload()
                } else {
                    self.become_next()
                }
            }
            End::Code(NOT_ITSELF) => {
                let path = self.context.own_executable.to_string_lossy().into_owned();
                self.abandon_reload(&format!("the new binary would be the child of a script, {path}, and what runs would be lost; let the script 'exec' it"));
            }
            _ => self.abandon_reload("the new binary does not understand this daemon's state; restart the daemon when nothing runs"),
        }
    }

    pub(super) fn abandon_reload(&mut self, why: &str) {
        if self.end_probe() {
            log::error!("reload: {why}; it is tried again, as asked");
            self.begin_reload();
        } else {
            self.go_on(why);
        }
    }

    /// A reload that failed is over, for the supervisor and for who asked for it.
    fn go_on(&mut self, why: &str) {
        log::error!("reload: {why}; this daemon goes on as it is");
        self.errors.note(None, process::monotonic_ms(), Code::Internal, &format!("reload: {why}"), None);
        self.supervisor.tell("READY=1".into());
        for id in std::mem::take(&mut self.reload_asked) {
            self.on(id, Event::Refuse(Refusal::new(Code::Internal, format!("not reloaded: {why}; the daemon goes on as it is"))));
        }
    }

    pub(super) fn on_reloaded(&mut self, from: &str, asked: &[u64]) {
        let (to, running, waiting) = (self.options.release, self.running(), self.queue.len());
        log::info!("reloaded as version {to}; {} still running, {waiting} waiting", counted(running, "command"));
        for id in asked {
            self.reply(*id, &message::Reloaded { from, to, running: running as u32, waiting: waiting as u32 }, vec![]);
        }
        self.greet_again();
    }

    /// Says whether a reload was asked for once more.
    pub(super) fn end_probe(&mut self) -> bool {
        let Some(reloading) = self.reloading.take() else { return false };
        // Not waited for yet, so the number is still its own.
        let _ = signals::send(Target::Process(reloading.probe), signals::KILL);
        reloading.again
    }

    /// Becomes the next image; returns only where that failed, with everything as it was.
    fn become_next(&mut self) {
        // Descriptors that wait to be sent cannot be passed on. They wait only where somebody asked much and reads nothing, and
        // nobody shall keep the daemon from being renewed.
        let stuck = |c: &Caller| c.channel.as_ref().is_some_and(Channel::has_unsent_descriptors);
        let stuck: Vec<u64> = self.callers.iter().filter(|(_, c)| stuck(c)).map(|(id, _)| id).collect();
        for id in stuck {
            log::warn!(op_id = self.callers.get(id).and_then(|c| c.op); "a caller reads nothing; it is taken for gone");
            self.on_gone(id);
        }
        for rival in self.guests.rivals() {
            self.refuse(rival, Refusal::new(Code::Busy, "the daemon is being reloaded; try again"));
        }
        let failure = match saved::write(&self.save()) {
            Ok(state) => {
                let state = OwnedFd::from(state);
                let kept = self.kept_descriptors(&state);
                let error = match saved::keep_open(&kept, true) {
                    Ok(()) => self.exec_next(&state),
                    Err(e) => e,
                };
                let _ = saved::keep_open(&kept, false);
                Error::io("execute the new binary", &error)
            }
            Err(error) => error,
        };
        self.go_on(&failure.text);
    }

    fn exec_next(&self, state: &OwnedFd) -> io::Error {
        let number = CString::new(state.as_raw_fd().to_string()).unwrap_or_default();
        let mut args: Vec<&CStr> = vec![c"bkt-hostd", c"--resume", &number];
        args.extend(self.options.flags.iter().map(CString::as_c_str));
        let env: Vec<CString> = environment::strings(&self.context.env.bytes).filter_map(|e| CString::new(e).ok()).collect();
        let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
        process::exec(&self.context.own_executable, &args, &env)
    }

    fn save(&self) -> Saved {
        let listener = self.listener.as_ref().map_or(SavedListener { fd: -1, path: vec![], file: None }, SavedListener::of);
        let doors = self.doors.iter().map(|door| (door.name.to_string(), SavedListener::of(&door.listener))).collect();
        let callers = self.callers.iter().map(|(id, caller)| caller.save(id)).collect();
        let (guests, entering) = (self.guests.iter().cloned().collect(), self.guests.entering.clone());
        let (release, reload_asked) = (self.options.release.to_string(), self.reload_asked.clone());
        let past = Past { seen: self.seen.told(), errors: self.errors.told() };
        let (policy, past) = (self.policy.text().cloned(), message::body(&past));
        let (started_ms, served, next_id, limits) = (self.started_ms, self.served, self.next_id, self.context.limits);
        Saved { release, reload_asked, started_ms, served, next_id, limits, listener, doors, callers, guests, entering, policy, past }
    }

    fn kept_descriptors<'a>(&'a self, state: &'a OwnedFd) -> Vec<&'a OwnedFd> {
        let mut all = vec![state];
        all.extend(self.listener.as_ref().map(Listener::socket));
        all.extend(self.doors.iter().map(|door| door.listener.socket()));
        self.callers.values().for_each(|caller| caller.add_descriptors(&mut all));
        all
    }

    pub(super) fn resume(&mut self, saved: Saved) -> Result<()> {
        (self.started_ms, self.served, self.next_id) = (saved.started_ms, saved.served, saved.next_id);
        if let Ok(Past { seen, errors }) = message::decode(&saved.past) {
            (self.seen, self.errors) = (Containers::resume(&seen), Errors::resume(&errors));
        }
        let (_, refused) = self.policy.told();
        if !refused.is_empty() {
            self.errors.note(None, process::monotonic_ms(), Code::Internal, refused, None);
        }
        for caller in saved.callers {
            let id = caller.id;
            let mut caller = Caller::resume(caller).map_err(|e| Error::io("take over a run", &e))?;
            if caller.session.is_over() {
                caller.close_by = Some(process::monotonic_ms() + LAST_WORDS_MS);
            }
            match &caller.child {
                // It has been waited for: by now the number may be another child's.
                _ if matches!(caller.session.state(), State::Sweeping { .. }) => {}
                Some(Child::Direct { pid, .. } | Child::Monitored { monitor: Some(pid), .. }) => self.children.push((*pid, id)),
                _ => {}
            }
            if caller.request.is_some() {
                self.queue.push_back(id);
            }
            self.callers.insert(id, caller);
        }
        self.guests = Guests::of(saved.guests, saved.entering);
        Ok(())
    }
}
