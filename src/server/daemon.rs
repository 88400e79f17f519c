//! The daemon's loop: one thread, one `poll`, no wake-up while nothing happens.
//!
//! Each turn: say what is waited for, wait, read what came, start what is queued, look at the clock. What a message means is
//! decided by `session`; here it is done. The chapters have files of their own below: `connections` (who calls), `requests` (what is
//! asked), `commands` (what runs), `switchboard` (who is passed on to a container), `status`, and `reload`.

mod commands;
mod connections;
mod reload;
mod requests;
mod status;
mod switchboard;

use crate::error::{Error, Result, counted};
use crate::event::Wait;
use crate::exit::End;
use crate::logging::shown;
use crate::opid::OpId;
use crate::paths;
use crate::process::environment::Base;
use crate::proto::message::{self, Code};
use crate::server::caller::{Caller, Child};
use crate::server::cgroups::Cgroups;
use crate::server::doors::Doors;
use crate::server::errors::Errors;
use crate::server::guests::Guests;
use crate::server::listener::Listener;
use crate::server::monitor::Order;
use crate::server::origin::Running;
use crate::server::plan::Context;
use crate::server::policy::InForce;
use crate::server::saved::{self, SavedListener};
use crate::server::seen::Containers;
use crate::server::session::{Action, Event, State, TERM_GRACE_MS};
use crate::server::supervisor::Supervisor;
use crate::server::table::Table;
use crate::server::upstream::{self, Upstream};
use crate::sys::allocator;
use crate::sys::files::{self, FileId};
use crate::sys::launch::Launch;
use crate::sys::process;
use crate::sys::signals::{self, Group, SignalReader, SignalSet};
use connections::{LAST_WORDS_MS, close_door, turn_all_away, turn_away};
use reload::Reloading;
use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How often a cgroup that is being ended is looked at, for the few seconds that this takes: what is empty is not waited for.
const SWEEP_LOOK_MS: u64 = 20;

/// What the daemon is started with.
pub struct Options {
    pub socket: PathBuf,
    /// `NAME=VALUE`, NUL-terminated.
    pub env: Vec<u8>,
    pub path: Vec<u8>,
    pub shim_directories: Vec<PathBuf>,
    pub own_names: Vec<&'static str>,
    /// A listening socket that a supervisor handed over.
    pub inherited: Option<RawFd>,
    /// Where to say that we are ready, `sd_notify(3)`.
    pub notify: Option<PathBuf>,
    /// State of an earlier image.
    pub resume: Option<RawFd>,
    /// The cgroup that we were started in is ours to divide.
    pub delegated: bool,
    /// A guest daemon's door, in place of a listener.
    pub guest: Option<GuestOptions>,
    /// `-v` flags, for the next image.
    pub flags: Vec<CString>,
    /// The file that says what callers may have.
    pub policy: Option<PathBuf>,
    pub release: &'static str,
}

/// What only a guest daemon has.
pub struct GuestOptions {
    pub upstream: upstream::Wanted,
    /// The directory of names that lead to capabilities of the host: a command of such a name is that link.
    pub interceptors: PathBuf,
}

/// How `--check-state` ends when all is well. Not 0: any program might end so.
pub const STATE_UNDERSTOOD: u8 = 100;
/// How it ends where another program has started it in place of becoming it.
pub const NOT_ITSELF: u8 = 101;

/// Checks that the state in a descriptor can be read by this binary: what a running daemon asks before it becomes us.
pub fn check_state(number: RawFd) -> Result<u8> {
    let fd = files::adopt(number).map_err(|e| Error::io(format!("descriptor {number}"), &e))?;
    saved::read(fd)?;
    // The daemon has made what it started the leader of a session. A script under our name that does not `exec` us keeps that for
    // itself, and would keep the daemon's children for itself, too.
    Ok(if process::leads_its_session() { STATE_UNDERSTOOD } else { NOT_ITSELF })
}

/// Serves until told to end.
pub fn serve(options: Options) -> Result<End> {
    let mut daemon = Daemon::start(options)?;
    daemon.run();
    daemon.finish()
}

struct Daemon {
    options: Options,
    context: Context,
    policy: InForce,
    seen: Containers,
    errors: Errors,
    signals: SignalReader,
    supervisor: Supervisor,
    listener: Option<Listener>,
    /// Containers' own.
    doors: Doors,
    /// What a guest daemon has instead.
    upstream: Option<Upstream>,
    guests: Guests,
    running: Running,
    callers: Table<Caller>,
    cgroups: Cgroups,
    /// Which caller a child belongs to.
    children: Vec<(u32, u64)>,
    queue: VecDeque<u64>,
    /// What a launch leaves behind. It is cleared away at the end of the turn: the client is told first.
    born: Option<Launch>,
    next_id: u64,
    served: u64,
    started_ms: u64,
    descriptor_limit: u64,
    /// When running out of descriptors was last warned of.
    descriptor_warned: Option<u64>,
    /// Given up for a moment when the table is full, to tell a caller so.
    reserve: Option<File>,
    /// Accepting again makes sense from then on.
    pause_until: Option<u64>,
    reloading: Option<Reloading>,
    /// Callers that wait to hear what became of it.
    reload_asked: Vec<u64>,
    ending_by: Option<u64>,
}

#[derive(Clone, Copy)]
enum Source {
    Signals,
    Supervisor,
    Listener,
    /// A container's own, by its place among them.
    Door(usize),
    Upstream,
    Connection(u64),
    Child(u64),
    Probe,
}

impl Daemon {
    fn start(mut options: Options) -> Result<Daemon> {
        files::fill_standard().map_err(|e| Error::io("open /dev/null", &e))?;
        files::unblock_standard_error();
        files::close_all_on_exec();
        let started_with = process::limits();
        let descriptor_limit = process::raise_descriptor_limit();
        signals::reset_all();
        let inheritance = process::inheritance();
        let signals = SignalReader::new(SignalSet::ALL).map_err(|e| Error::io("signalfd", &e))?;
        let own_executable = process::own_path()?;
        let user = process::user();
        let mut saved = match options.resume {
            Some(number) => Some(saved::read(files::adopt(number).map_err(|e| Error::io(format!("descriptor {number}"), &e))?)?),
            None => None,
        };
        let policy = match &saved {
            Some(saved) => InForce::resume(options.policy.clone(), saved.policy.clone()),
            None => InForce::start(options.policy.clone())?,
        };
        let listener = match (&saved, options.inherited) {
            _ if options.guest.is_some() => None,
            (Some(saved), _) => Some(adopt_listener(&saved.listener)?),
            (None, Some(number)) => Some(Listener::inherit(files::adopt(number).map_err(|e| Error::io("LISTEN_FDS", &e))?, &options.socket, user)?),
            (None, None) => Some(Listener::make(&options.socket, user)?),
        };
        let mut before = vec![];
        for (name, door) in saved.iter_mut().flat_map(|saved| saved.doors.drain(..)) {
            before.push((name, adopt_listener(&door)?));
        }
        let (doors, failures, dropped) = match &listener {
            None => (Doors::default(), vec![], vec![]),
            Some(listener) => Doors::open(policy.containers(), listener.path(), user, before),
        };
        dropped.into_iter().for_each(|listener| close_door(&listener, Code::Denied, "the host's policy names this container no more; the command was not started"));
        let now = process::monotonic_ms();
        let guest = options.guest.take();
        let interceptors = guest.as_ref().map(|guest| guest.interceptors.clone());
        let place = listener.as_ref().map_or(&*options.socket, Listener::path);
        let context = Context {
            env: Base::new(options.env.clone()),
            path: options.path.clone(),
            shim_directories: options.shim_directories.clone(),
            refuge: files::c_path(&paths::refuge(place)).map_err(|e| Error::io("the socket's path", &e))?,
            handed: files::c_path(&paths::handed(place)).map_err(|e| Error::io("the socket's path", &e))?,
            own_file: files::file_id(c"/proc/self/exe").map_err(|e| Error::io("look at our own executable", &e))?,
            own_executable,
            root: files::file_id(c"/").map_err(|e| Error::io("look at /", &e))?,
            inheritance,
            limits: saved.as_ref().map_or(started_with, |saved| saved.limits),
            own_names: options.own_names.clone(),
            interceptors,
        };
        let in_use = saved.iter().flat_map(|saved| &saved.callers).filter_map(|caller| caller.cgroup.as_deref());
        let cgroups = if options.delegated { Cgroups::start(&in_use.collect::<Vec<_>>()) } else { Cgroups::none() };
        let mut daemon = Daemon {
            context,
            policy,
            seen: Containers::default(),
            errors: Errors::default(),
            signals,
            supervisor: Supervisor::new(options.notify.clone()),
            listener,
            doors,
            upstream: guest.map(|guest| Upstream::new(guest.upstream, options.release, now)),
            guests: Guests::default(),
            running: Running::default(),
            callers: Table::new(),
            cgroups,
            children: Vec::new(),
            queue: VecDeque::new(),
            born: None,
            next_id: 1,
            served: 0,
            started_ms: now,
            descriptor_limit,
            descriptor_warned: None,
            reserve: File::open("/dev/null").ok(),
            pause_until: None,
            reloading: None,
            reload_asked: Vec::new(),
            ending_by: None,
            options,
        };
        match saved {
            Some(saved) => {
                let (from, asked) = (saved.release.clone(), saved.reload_asked.clone());
                daemon.resume(saved)?;
                daemon.on_reloaded(&from, &asked);
            }
            None => match &daemon.upstream {
                None => log::info!("version {} listens at {}", daemon.options.release, daemon.options.socket.display()),
                Some(upstream) => log::info!("version {} is the guest daemon of {}", daemon.options.release, shown(upstream.container())),
            },
        }
        for failure in failures {
            log::error!("{failure}");
            daemon.errors.note(None, now, Code::Internal, &failure, None);
        }
        daemon.supervisor.tell(format!("READY=1\nMAINPID={}\nSTATUS=listening at {}", std::process::id(), daemon.options.socket.display()));
        Ok(daemon)
    }

    fn run(&mut self) {
        // Children that ended while there was no loop to hear of it.
        self.reap();
        while !self.is_done() {
            let now = process::monotonic_ms();
            for (source, ready) in self.wait(now) {
                match source {
                    Source::Signals => self.on_signals(),
                    Source::Supervisor => self.supervisor.go_on(),
                    Source::Listener => self.on_connections(None),
                    Source::Door(at) => self.on_connections(Some(at)),
                    Source::Upstream => self.on_upstream(),
                    Source::Connection(id) => self.on_connection(id, ready.readable || ready.hangup),
                    Source::Child(id) => self.on_child(id),
                    Source::Probe => self.on_probe_report(),
                }
            }
            self.start_queued();
            self.on_time();
            self.born = None;
            if self.callers.is_empty() {
                self.rest();
            }
        }
    }

    /// The last caller has left: what a rush of them has made large goes back to the kernel.
    fn rest(&mut self) {
        self.callers = Table::new();
        self.queue = VecDeque::new();
        self.children.shrink_to_fit();
        allocator::trim();
    }

    fn is_done(&self) -> bool {
        // A guest without its host serves those it has, whose clients it still talks to.
        let alone = self.upstream.as_ref().is_some_and(Upstream::is_over);
        alone && self.callers.is_empty() || self.ending_by.is_some_and(|by| self.callers.is_empty() || process::monotonic_ms() > by)
    }

    fn wait(&self, now: u64) -> Vec<(Source, crate::event::Ready)> {
        let mut wait = Wait::with_capacity(2 * self.callers.len() + 3);
        wait.watch(Source::Signals, self.signals.as_fd(), true, false);
        if let Some(link) = self.supervisor.interest() {
            wait.watch(Source::Supervisor, link, false, true);
        }
        if let (Some(listener), None) = (&self.listener, self.pause_until) {
            wait.watch(Source::Listener, listener.as_fd(), true, false);
            for (at, door) in self.doors.iter().enumerate() {
                wait.watch(Source::Door(at), door.listener.as_fd(), true, false);
            }
        }
        if let Some((link, writing)) = self.upstream.as_ref().and_then(Upstream::interest) {
            wait.watch(Source::Upstream, link, true, writing);
        }
        for (id, caller) in self.callers.iter() {
            if let Some(channel) = &caller.channel {
                let reading = caller.close_by.is_none() && !self.guests.is_entering(id);
                wait.watch(Source::Connection(id), channel.as_fd(), reading, channel.unsent() > 0 || self.guests.is_waited_for(id));
            }
            match &caller.child {
                Some(Child::Direct { launch: Some(launch), watched: true, .. }) => wait.watch(Source::Child(id), launch.as_fd(), false, false),
                Some(Child::Monitored { link: Some(link), .. }) => wait.watch(Source::Child(id), link.as_fd(), true, false),
                _ => {}
            }
        }
        if let Some(Reloading { launch: Some(launch), .. }) = &self.reloading {
            wait.watch(Source::Probe, launch.as_fd(), false, false);
        }
        wait.run(now, if self.queue.is_empty() { self.deadline() } else { Some(now) })
    }

    fn deadline(&self) -> Option<u64> {
        let sessions = self.callers.values().flat_map(|c| [c.session.deadline(), c.close_by]);
        let sweeps = self.callers.values().any(|c| c.swept_cgroup().is_some());
        let look = sweeps.then(|| process::monotonic_ms() + SWEEP_LOOK_MS);
        let upstream = self.upstream.as_ref().and_then(|upstream| upstream.deadline(self.callers.is_empty()));
        let own = [look, self.pause_until, self.ending_by, self.reloading.as_ref().map(|r| r.by), upstream, self.guests.deadline()];
        sessions.chain(own).flatten().min()
    }

    // ---- signals to the daemon itself

    fn on_signals(&mut self) {
        // Most of the time it is a child's end, and somebody waits for word of it.
        self.reap();
        let mut changed = false;
        while let Some(arrived) = self.signals.next() {
            match arrived.signal {
                signals::CHLD => changed = true,
                // A log that nobody reads any more makes this one. To write of it would make the next, for ever.
                signals::PIPE => {}
                signals::HUP if self.upstream.is_some() => log::info!("a guest daemon is not reloaded; end it, and start the new one"),
                signals::HUP => self.begin_reload(),
                signals::TERM | signals::INT | signals::QUIT => self.begin_end(),
                other => log::debug!("signal {other} means nothing to the daemon"),
            }
        }
        // It may be word of another one, which had not ended when we looked.
        if changed {
            self.reap();
        }
    }

    // ---- what the session decides

    fn on(&mut self, id: u64, event: Event) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        let had_leader = !matches!(caller.session.state(), State::Sweeping { .. } | State::Over);
        let actions = caller.session.on(event, process::monotonic_ms());
        // Its leader has been waited for in this instant, if not by us. Later, the number may be a stranger's.
        let sweeps = match caller.session.state() {
            State::Sweeping { .. } => true,
            State::Over => actions.iter().any(|action| matches!(action, Action::SignalGroup(_))),
            _ => false,
        };
        if had_leader
            && sweeps
            && let (None, Some(Child::Direct { pid, .. } | Child::Monitored { command: pid, .. })) = (&caller.group, &caller.child)
        {
            caller.group = Group::hold(*pid).ok();
        }
        for action in actions {
            self.act(id, action);
        }
        self.forget_if_over(id);
    }

    fn act(&mut self, id: u64, action: Action) {
        match action {
            Action::Enqueue => self.queue.push_back(id),
            Action::Discard => self.queue.retain(|queued| *queued != id),
            Action::Watch => {
                if let Some(Child::Direct { watched, .. }) = self.callers.get_mut(id).and_then(|c| c.child.as_mut()) {
                    *watched = true;
                }
            }
            Action::Accepted => self.reply(id, &message::Accepted {}, vec![]),
            Action::StartedReply => self.reply_started(id),
            Action::StoppedReply(signal) => self.reply(id, &message::Stopped { signal }, vec![]),
            Action::ContinuedReply => self.reply(id, &message::Continued {}, vec![]),
            Action::ExitedReply(end) => self.reply(id, &message::Exited::from(end), vec![]),
            Action::Refuse(refusal) => self.reply(id, &message::Refused { code: refusal.code as u8, text: &refusal.text }, vec![]),
            Action::SignalGroup(signal) => self.signal_group(id, signal),
            Action::KillChild => self.kill_child(id),
            Action::ContinueOnTerminal { foreground } => self.order(id, Order::Continue { foreground }),
            Action::SetForeground(yes) => self.order(id, Order::SetForeground(yes)),
            Action::RestoreTerminal => self.order(id, Order::RestoreTerminal),
            Action::Hangup => {
                self.hang_up(id);
                self.on_guest_gone(id);
            }
        }
    }

    fn on_time(&mut self) {
        let now = process::monotonic_ms();
        if self.pause_until.is_some_and(|at| at <= now) {
            self.pause_until = None;
        }
        if self.reloading.as_ref().is_some_and(|r| r.by <= now) {
            self.abandon_reload("the new binary did not answer in time");
        }
        for id in self.guests.silent(now) {
            log::warn!(op_id = None::<OpId>; "a container's guest does not answer; another takes its place");
            self.on_gone(id);
        }
        let idle = self.callers.is_empty();
        if let Some(upstream) = &mut self.upstream {
            upstream.on_time(now, idle);
        }
        let due = |c: &Caller| c.swept_cgroup().is_some() || c.session.deadline().is_some_and(|at| at <= now) || c.close_by.is_some_and(|at| at <= now);
        let ids: Vec<u64> = self.callers.iter().filter(|(_, c)| due(c)).map(|(id, _)| id).collect();
        for id in ids {
            if let Some(caller) = self.callers.get_mut(id)
                && caller.close_by.is_some_and(|at| at <= now)
            {
                caller.channel = None;
                caller.close_by = None;
            }
            self.note_slow(id, now);
            let is_swept = |c: &Caller| c.swept_cgroup().is_some_and(|name| !self.cgroups.is_populated(name));
            let event = if self.callers.get(id).is_some_and(is_swept) { Event::Swept } else { Event::Time };
            self.on(id, event);
        }
    }

    fn note_slow(&self, id: u64, now: u64) {
        if let Some(caller) = self.callers.get(id)
            && let State::Greeting { until } = caller.session.state()
            && until <= now
        {
            log::warn!(op_id = caller.op; "refused: a caller sent no whole request in time");
        }
    }

    // ---- end

    fn begin_end(&mut self) {
        if self.ending_by.is_some() {
            return;
        }
        log::info!("ending, with {} still running", counted(self.running(), "command"));
        self.supervisor.tell("STOPPING=1".into());
        self.ending_by = Some(process::monotonic_ms() + TERM_GRACE_MS + 1_000);
        self.dismiss_guests(false);
        if let Some(upstream) = &mut self.upstream {
            upstream.close();
        }
        // It would become a daemon that knows nothing of ending.
        self.end_probe();
        self.reload_asked.clear();
        self.close_doors();
        for id in self.callers.ids() {
            // Whether its command has begun decides how it is ended.
            self.on_child(id);
            self.on(id, Event::Shutdown);
        }
    }

    fn close_doors(&mut self) {
        const WHY: &str = "the daemon is ending; the command was not started";
        // Before our own: whoever makes the next one makes these, too.
        std::mem::take(&mut self.doors).into_listeners().for_each(|listener| close_door(&listener, Code::ShuttingDown, WHY));
        if let Some(listener) = self.listener.take() {
            // The file first: whoever found it before is in the queue, and is told, not cut off.
            listener.remove();
            turn_all_away(&listener, Code::ShuttingDown, WHY);
        }
    }

    fn finish(self) -> Result<End> {
        self.callers.values().filter_map(|c| c.cgroup.as_deref()).for_each(|name| self.cgroups.kill(name));
        self.cgroups.end();
        log::info!("ended; {} served", counted(self.served as usize, "operation"));
        match self.upstream.and_then(|upstream| upstream.failure) {
            Some(failure) => Err(failure),
            None => Ok(End::Code(0)),
        }
    }
}

fn adopt_listener(saved: &SavedListener) -> Result<Listener> {
    let socket = files::adopt(saved.fd).map_err(|e| Error::io("take over the listening socket", &e))?;
    let file = saved.file.map(|(device, inode)| FileId { device, inode });
    Listener::adopt(socket, Path::new(OsStr::from_bytes(&saved.path)).to_path_buf(), file)
}
