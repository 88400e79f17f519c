//! The daemon's loop: one thread, one `poll`, no wake-up while nothing happens.
//!
//! Each turn: say what is waited for, wait, read what came, start what is queued, look at the clock. What a message means is
//! decided by `session`; here it is done. Children are waited for in one place, `reap`. Three chapters of it have files of their
//! own below: `reload`, `status`, and `switchboard`.

mod reload;
mod status;
mod switchboard;

use crate::checks::{self, Mend};
use crate::error::{Error, Result};
use crate::event::Wait;
use crate::exit::End;
use crate::logging::shown;
use crate::opid::OpId;
use crate::paths;
use crate::process::environment;
use crate::proto::capability::Capability;
use crate::proto::channel::{Channel, Filled, Frame};
use crate::proto::frame;
use crate::proto::message::{self, Code, Message, Refusal, Run, kind};
use crate::server::caller::{Caller, Child};
use crate::server::cgroups::Cgroups;
use crate::server::doors::Doors;
use crate::server::errors::Errors;
use crate::server::guests::Guests;
use crate::server::listener::Listener;
use crate::server::monitor::{self, Heard, Order, Word};
use crate::server::plan::{self, Context, Decided};
use crate::server::policy::{Granted, InForce};
use crate::server::saved::{self, SavedListener};
use crate::server::seen::Containers;
use crate::server::session::{Action, Event, State, TERM_GRACE_MS, Terms};
use crate::server::table::Table;
use crate::server::upstream::{self, Upstream};
use crate::sys::files::{self, FileId};
use crate::sys::launch::{Launch, Report};
use crate::sys::process::{self, Change};
use crate::sys::signals::{self, Group, SignalReader, SignalSet, Target};
use crate::sys::{allocator, socket};
use reload::Reloading;
use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Connections at once. A run needs one descriptor of ours, two with a terminal, three where it lasts; the kernel's usual hard limit is 4096 or more.
const MAX_CALLERS: usize = 4096;
/// Of those, by one container's own socket: more than it needs, and far from all. An eighth of the descriptors where they are few.
const MAX_CALLERS_OF_CONTAINER: usize = 256;
/// Descriptors kept free for starting commands: a pty, a pipe, `/dev/null`, and some. A fifth of a limit that is very low.
const SPARE_DESCRIPTORS: u64 = 32;
/// Questions (hello, status, reload, stop) that one connection may ask: one or two are usual, and each costs others time.
const MAX_QUESTIONS: u32 = 16;
/// The largest body of anything that is not a run.
const MAX_SMALL_BODY: usize = 64 * 1024;
/// The longest name of a command that is kept for logs and answers.
const MAX_NAME_BYTES: usize = 256;
/// Bytes of requests that have not been started, of all callers together: eight of the largest.
const MAX_PENDING_BYTES: usize = 8 * frame::MAX_BODY;
/// Likewise by one container's own socket.
const MAX_PENDING_BYTES_OF_CONTAINER: usize = 2 * frame::MAX_BODY;
/// One connection's share of them that is not worth adding up for.
const SMALL_REQUEST_BYTES: usize = 16 * 1024;
/// Bytes that may wait for one peer to read; one that reads nothing is as good as gone.
const MAX_UNSENT_BYTES: usize = 64 * 1024;
/// Commands started in one turn, so that signals, news and the clock are never behind a long queue.
const STARTS_PER_TURN: usize = 16;
/// How often a cgroup that is being ended is looked at, for the few seconds that this takes: what is empty is not waited for.
const SWEEP_LOOK_MS: u64 = 20;
/// Connections accepted in one turn, likewise.
const ACCEPTS_PER_TURN: usize = 64;
/// What is remembered of a directory: `PATH_MAX`; a longer path cannot be entered anyway.
const MAX_DIRECTORY_BYTES: usize = 4096;
/// How long last words may wait to be read.
const LAST_WORDS_MS: u64 = 2_000;
/// Warnings about descriptors are not repeated sooner: they come and go with every connection.
const SAME_WARNING_MS: u64 = 60_000;

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
    listener: Option<Listener>,
    /// Containers' own.
    doors: Doors,
    /// What a guest daemon has instead.
    upstream: Option<Upstream>,
    guests: Guests,
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
            env: options.env.clone(),
            path: options.path.clone(),
            shim_directories: options.shim_directories.clone(),
            refuge: files::c_path(&paths::refuge(place)).map_err(|e| Error::io("the socket's path", &e))?,
            handed: files::c_path(&paths::handed(place)).map_err(|e| Error::io("the socket's path", &e))?,
            own_file: files::file_id(c"/proc/self/exe").map_err(|e| Error::io("look at our own executable", &e))?,
            own_executable,
            root: files::file_id(c"/").map_err(|e| Error::io("look at /", &e))?,
            inheritance,
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
            listener,
            doors,
            upstream: guest.map(|guest| Upstream::new(guest.upstream, options.release, now)),
            guests: Guests::default(),
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
            daemon.errors.note(None, now, Code::Internal, &failure);
        }
        daemon.notify(&format!("READY=1\nMAINPID={}\nSTATUS=listening at {}", std::process::id(), daemon.options.socket.display()));
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

    /// The one place where children are waited for.
    fn reap(&mut self) {
        while let Some((pid, change)) = process::next_change() {
            if self.reloading.as_ref().is_some_and(|r| r.probe == pid) {
                if let Change::Ended(end) = change {
                    self.on_probe_end(end);
                }
                continue;
            }
            let Some(at) = self.children.iter().position(|(child, _)| *child == pid) else { continue };
            let (_, id) = self.children[at];
            // What a child had to say before this is heard before this, and told in one go.
            if let Some(channel) = self.callers.get_mut(id).and_then(|c| c.channel.as_mut()) {
                channel.hold();
            }
            if let Change::Ended(_) = change {
                self.children.swap_remove(at);
                if let Some(Child::Direct { ended, launch, .. }) = self.callers.get_mut(id).and_then(|c| c.child.as_mut()) {
                    *ended = true;
                    launch.iter_mut().for_each(Launch::child_has_ended);
                }
            }
            self.on_child(id);
            let Some(caller) = self.callers.get_mut(id) else { continue };
            match (change, &mut caller.child) {
                (Change::Ended(_), Some(Child::Monitored { monitor, command, .. })) => {
                    *monitor = None;
                    let event = match command {
                        0 => Event::NotStarted(Refusal::new(Code::Internal, "the command's monitor died before the command ran")),
                        _ => Event::MonitorLost,
                    };
                    self.on(id, event);
                }
                (Change::Ended(end), _) => self.on_end(id, pid, end),
                (Change::Stopped(signal), Some(Child::Direct { .. })) => self.on(id, Event::Stopped(signal)),
                (Change::Continued, Some(Child::Direct { .. })) => self.on(id, Event::Continued),
                _ => {}
            }
            self.release(id);
        }
    }

    fn release(&mut self, id: u64) {
        if let Some(caller) = self.callers.get_mut(id)
            && let Some(channel) = &mut caller.channel
            && channel.release().is_err()
        {
            // Its end will be read where all ends are.
            log::debug!(op_id:% = op_text(caller.op); "the caller is gone");
        }
    }

    fn on_end(&mut self, id: u64, command: u32, end: End) {
        // The number of a group is not given to anybody else while it has a member.
        let mut group_left = signals::send(Target::Group(command), 0).is_ok();
        // One that is being ended takes along what has left its group; one that ends by itself may leave something behind.
        if let Some(Caller { session, cgroup: Some(name), .. }) = self.callers.get(id)
            && matches!(session.state(), State::Ending { .. })
        {
            group_left |= self.cgroups.is_populated(name);
        }
        if end == End::Signal(signals::KILL) {
            self.note_out_of_memory(id);
        }
        if log::log_enabled!(log::Level::Info)
            && let Some(caller) = self.callers.get(id)
        {
            let how = match end {
                End::Code(code) => format!("exit status {code}"),
                End::Signal(signal) => format!("killed by signal {signal}"),
            };
            let ms = process::monotonic_ms().saturating_sub(caller.since_ms);
            log::info!(op_id:% = op_text(caller.op), pid = command, ms = ms; "{}: {how} after {ms} ms", shown(&caller.name));
        }
        self.on(id, Event::Ended { end, group_left });
    }

    /// The caller sees that its command was killed, and nothing of why.
    fn note_out_of_memory(&mut self, id: u64) {
        if let Some(caller) = self.callers.get(id)
            && caller.cgroup.as_ref().is_some_and(|name| self.cgroups.ran_out_of_memory(name))
        {
            let text = format!("{} ran out of memory; the kernel has killed it, with all that it had started", shown(&caller.name));
            log::warn!(op_id:% = op_text(caller.op); "{text}");
            self.errors.note(caller.op, process::monotonic_ms(), Code::Internal, &text);
        }
    }

    // ---- connections

    /// The user's own socket, or the container's of that place.
    fn door(&self, at: Option<usize>) -> Option<&Listener> {
        at.map_or(self.listener.as_ref(), |at| self.doors.get(at).map(|door| &door.listener))
    }

    fn on_connections(&mut self, at: Option<usize>) {
        for accepted in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.door(at) else { return };
            match socket::accept(listener.as_fd()) {
                Ok(connection) => {
                    self.on_accepted(connection, at);
                    // Often it is the only one, and has asked already: it need not wait until we know that nobody else is there.
                    if accepted == 0 && self.queue.len() == 1 {
                        self.start_queued();
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                Err(e) => {
                    if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) && self.on_full_table(&e, at) {
                        continue;
                    }
                    // Whoever waits there still waits, and would wake us at once.
                    self.pause_until = Some(process::monotonic_ms() + 50);
                    return;
                }
            }
        }
    }

    fn on_accepted(&mut self, connection: OwnedFd, at: Option<usize>) {
        self.watch_descriptors(&connection);
        let own = process::user();
        let door = at.and_then(|at| self.doors.get(at));
        let refused = match socket::peer(connection.as_fd()) {
            Ok(peer) if peer.uid != own && !door.is_some_and(|door| self.doors.admits(door, peer.uid)) => {
                Some(Refusal::new(Code::Denied, format!("this daemon serves uid {own} only; you are uid {}", peer.uid)))
            }
            Err(e) => Some(Refusal::new(Code::Internal, format!("cannot tell who is calling: {e}"))),
            Ok(_) => self.at_limit(&connection).or_else(|| self.at_limit_of(&door?.name)),
        };
        let container = door.map(|door| door.name.clone());
        let mut channel = Channel::new(connection);
        if refused.is_some() {
            // Only to learn which operation it is that is refused.
            channel.fill();
        }
        let id = self.take(channel, None, container);
        match refused {
            Some(refusal) => self.refuse(id, refusal),
            // A client writes right after it connects: often it is all there.
            None => self.on_connection(id, true),
        }
    }

    fn take(&mut self, channel: Channel, origin: Option<FileId>, container: Option<Rc<str>>) -> u64 {
        let now = process::monotonic_ms();
        let id = self.next_id;
        self.next_id += 1;
        self.callers.insert(id, Caller::new(channel, origin, container, now));
        id
    }

    fn at_limit(&self, connection: &OwnedFd) -> Option<Refusal> {
        let spare = SPARE_DESCRIPTORS.min(self.descriptor_limit / 5);
        let few_left = connection.as_raw_fd() as u64 + spare >= self.descriptor_limit;
        (self.callers.len() >= MAX_CALLERS || few_left)
            .then(|| Refusal::new(Code::Busy, format!("{} commands and callers are all this daemon can hold; try again", self.callers.len())))
    }

    /// What one container's callers may hold, so that it does not take everybody's room.
    fn at_limit_of(&self, container: &str) -> Option<Refusal> {
        let most = MAX_CALLERS_OF_CONTAINER.min(self.descriptor_limit as usize / 8).max(1);
        let held = self.callers.values().filter(|c| c.container.as_deref() == Some(container)).count();
        (held >= most).then(|| Refusal::new(Code::Busy, format!("{held} commands and callers are all that the container {container} may have at once; try again")))
    }

    /// What the listener that a caller came by grants.
    fn granted(&self, id: u64) -> Granted<'_> {
        self.policy.of(self.callers.get(id).and_then(|caller| caller.container.as_deref()))
    }

    /// The kernel gives the lowest free number, so the number of a new descriptor says how many there are at least.
    fn watch_descriptors(&mut self, newest: &OwnedFd) {
        let high = checks::daemon::is_crowded(newest.as_raw_fd() as u64, self.descriptor_limit);
        if high && self.may_warn() {
            log::warn!("{} of at most {} descriptors are open", newest.as_raw_fd() + 1, self.descriptor_limit);
        }
    }

    fn may_warn(&mut self) -> bool {
        let now = process::monotonic_ms();
        let due = self.descriptor_warned.is_none_or(|at| now - at >= SAME_WARNING_MS);
        if due {
            self.descriptor_warned = Some(now);
        }
        due
    }

    /// Not even one descriptor is left to say so with: the reserve is. Says whether it served.
    fn on_full_table(&mut self, error: &io::Error, at: Option<usize>) -> bool {
        if self.may_warn() {
            log::error!("accept: {error}; callers are told to try again");
        }
        self.reserve = None;
        let accepted = self.door(at).map(|l| socket::accept(l.as_fd()));
        let told = accepted.and_then(io::Result::ok).map(|connection| turn_away(connection, Code::Busy, "the daemon has no free descriptor; try again"));
        self.reserve = File::open("/dev/null").ok();
        told.is_some() && self.reserve.is_some()
    }

    fn on_connection(&mut self, id: u64, readable: bool) {
        if self.guests.is_entering(id) {
            // Its guest reads the rest. Nothing was asked for but a hangup.
            return self.on_gone(id);
        }
        if self.guests.is_waited_for(id) {
            self.hand_over(id);
        }
        let Some(caller) = self.callers.get_mut(id) else { return };
        let Some(channel) = &mut caller.channel else { return };
        if channel.flush().is_err() {
            return self.on_gone(id);
        }
        if caller.close_by.is_some() {
            if channel.unsent() == 0 {
                caller.channel = None;
                self.forget_if_over(id);
            }
            return;
        }
        if !readable {
            return;
        }
        match channel.fill() {
            Filled::None => {}
            Filled::End => self.on_gone(id),
            Filled::Some => self.on_bytes(id),
        }
    }

    fn on_gone(&mut self, id: u64) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        if let Some(channel) = &caller.channel
            && channel.unread() > 0
        {
            log::warn!(op_id:% = op_text(caller.op); "a caller left in the middle of a request ({} bytes)", channel.unread());
        }
        caller.channel = None;
        // Nobody will take it any more; kept, it would hold up a command that nobody reads.
        caller.leader = None;
        // Whether the command has begun decides how its child is ended.
        self.on_child(id);
        self.on(id, Event::Gone);
    }

    fn on_bytes(&mut self, id: u64) {
        while let Some(caller) = self.callers.get_mut(id) {
            let Some(channel) = &mut caller.channel else { return };
            if caller.close_by.is_some() || self.guests.is_entering(id) {
                return;
            }
            // Known from now on, should the rest never come.
            let (op, next) = (channel.peek().and_then(|header| header.op), channel.next_frame());
            let unread = channel.unread();
            caller.learn_op(op);
            match next {
                Err(refusal) => return self.refuse(id, refusal),
                Ok(Some(frame)) => self.on_frame(id, frame),
                Ok(None) if unread > SMALL_REQUEST_BYTES && self.has_too_much_pending(id) => {
                    return self.refuse(id, Refusal::new(Code::Busy, "too many large requests at once; try again"));
                }
                Ok(None) => return,
            }
        }
    }

    /// Of all callers, or of those that came by this one's container's socket.
    fn has_too_much_pending(&self, id: u64) -> bool {
        let container = self.callers.get(id).and_then(|c| c.container.as_deref());
        let of = |c: &Caller| c.channel.as_ref().map_or(0, Channel::unread) + c.request.as_ref().map_or(0, |r| r.body().len());
        let its = |c: &&Caller| container.is_some() && c.container.as_deref() == container;
        self.callers.values().map(of).sum::<usize>() > MAX_PENDING_BYTES || self.callers.values().filter(its).map(of).sum::<usize>() > MAX_PENDING_BYTES_OF_CONTAINER
    }

    fn on_frame(&mut self, id: u64, frame: Frame) {
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
                    let op = op_text(self.callers.get(id).and_then(|c| c.op));
                    log::warn!(op_id:% = op; "{}", finding.what);
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
        // What shows or holds something for a caller ends with it: a thousand that nobody waits for would fill the daemon.
        let outlives = run.capability == Capability::HostExec as u8 && run.inheritance.ignored.contains(signals::HUP);
        let terms = Terms { terminal: run.terminal.is_some(), survives: run.detach || outlives, detach: run.detach };
        let name = name[..name.len().min(MAX_NAME_BYTES)].to_vec();
        let directory = run.directory.0[..run.directory.0.len().min(MAX_DIRECTORY_BYTES)].to_vec();
        let arguments = || environment::strings(run.args.0).map(shown).collect::<Vec<_>>().join(" ");
        let container = own.as_deref().map_or(run.container.0, str::as_bytes);
        let Some(caller) = self.callers.get_mut(id) else { return Ok(()) };
        if !matches!(caller.session.state(), State::Greeting { .. }) {
            return Err(Refusal::new(Code::BadRequest, "one connection runs one command"));
        }
        let op = *caller.op.get_or_insert_with(|| OpId::from_random(files::random()));
        log::debug!(op_id:% = op, container = shown(container).as_str(), directory = shown(run.directory.0).as_str(); "asked for: {}", arguments());
        (caller.name, caller.directory) = (name, directory);
        self.seen.note(container, caller.since_ms);
        caller.request = Some(frame);
        self.on(id, Event::Asked(terms));
        Ok(())
    }

    /// The name that a caller's container has by its socket; another one that it claims is told.
    fn heed(&mut self, id: u64, claim: &[u8]) -> Option<Rc<str>> {
        let own = self.callers.get(id)?.container.clone()?;
        self.doors.heed(&own, claim);
        Some(own)
    }

    fn refuse(&mut self, id: u64, refusal: Refusal) {
        if let Some(caller) = self.callers.get(id) {
            let by_peer = matches!(refusal.code, Code::BadFrame | Code::BadDescriptors | Code::BadVersion | Code::UnknownMethod | Code::BadRequest | Code::Denied | Code::TooSlow);
            let level = if by_peer { log::Level::Warn } else { log::Level::Info };
            match caller.container.as_deref() {
                None => log::log!(level, op_id:% = op_text(caller.op), code = refusal.code.word(); "refused: {}", refusal.text),
                Some(name) => log::log!(level, op_id:% = op_text(caller.op), code = refusal.code.word(), container = name; "refused: {}", refusal.text),
            }
            self.errors.note(caller.op, process::monotonic_ms(), refusal.code, &refusal.text);
        }
        self.on(id, Event::Refuse(refusal));
    }

    // ---- starting commands

    fn start_queued(&mut self) {
        for _ in 0..STARTS_PER_TURN {
            let Some(id) = self.queue.pop_front() else { return };
            // A caller that has gone before its command was started gets nothing started.
            if self.callers.get(id).and_then(|c| c.channel.as_ref()).is_some_and(Channel::peer_is_gone) {
                self.on_gone(id);
                continue;
            }
            if let Err(refusal) = self.start_one(id) {
                self.on_not_started(id, refusal);
            }
        }
    }

    fn start_one(&mut self, id: u64) -> Result<(), Refusal> {
        let Some(caller) = self.callers.get_mut(id) else { return Ok(()) };
        let (Some(mut frame), Some(op)) = (caller.request.take(), caller.op) else { return Ok(()) };
        let fds = std::mem::take(&mut frame.fds);
        let run: Run<'_> = message::decode(frame.body())?;
        let internal = |e: io::Error| Refusal::new(Code::Busy, format!("{} cannot be started: {}; try again", shown(plan::name(&run)), crate::error::reason(&e)));
        let bounds = self.policy.of(caller.container.as_deref()).bounds(run.capability);
        let Decided { mut plan, pty } = plan::decide(&run, fds, op, &self.context, &bounds).map_err(internal)?;
        plan.elsewhere = caller.origin.and_then(|origin| plan::elsewhere(&run, &plan, origin));
        self.served += 1;
        (caller.cgroup, plan.cgroup) = self.cgroups.make(op, id).unzip();
        let pid = match pty {
            None => {
                let launch = Launch::start(plan).map_err(internal)?;
                let pid = launch.pid;
                caller.child = Some(Child::Direct { pid, launch: Some(launch), watched: false, ended: false });
                pid
            }
            Some(pty) => {
                caller.leader = Some(pty.leader);
                let forked = monitor::fork(plan, pty.follower, pty.caller).map_err(internal)?;
                caller.child = Some(Child::Monitored { monitor: Some(forked.pid), link: Some(forked.link), command: 0 });
                forked.pid
            }
        };
        self.children.push((pid, id));
        self.on(id, Event::Made);
        Ok(())
    }

    fn on_not_started(&mut self, id: u64, refusal: Refusal) {
        if let Some(caller) = self.callers.get(id) {
            log::info!(op_id:% = op_text(caller.op), code = refusal.code.word(); "refused: {}", refusal.text);
            self.errors.note(caller.op, process::monotonic_ms(), refusal.code, &refusal.text);
        }
        self.on(id, Event::NotStarted(refusal));
    }

    /// What the child itself says: its birth, and with a terminal all of its life.
    fn on_child(&mut self, id: u64) {
        loop {
            let Some(caller) = self.callers.get_mut(id) else { return };
            match &mut caller.child {
                Some(Child::Direct { launch, .. }) => {
                    let Some(report) = launch.as_mut().map(Launch::report) else { return };
                    match report {
                        Report::Pending => {}
                        Report::Running => {
                            self.born = launch.take();
                            self.on(id, Event::Started);
                        }
                        Report::Failed(stage, error) => {
                            *launch = None;
                            let refusal = plan::refusal(stage, &error, &caller.name, &caller.directory);
                            self.on_not_started(id, refusal);
                        }
                    }
                    return;
                }
                Some(Child::Monitored { link, command, .. }) => match link.as_ref().map_or(Heard::Nothing, monitor::hear) {
                    Heard::Nothing => return,
                    // Its end comes as SIGCHLD. Not to be watched any more, or it would wake us for ever.
                    Heard::End => {
                        *link = None;
                        return;
                    }
                    Heard::Some(Word::Running(pid)) => {
                        *command = pid;
                        self.on(id, Event::Started);
                    }
                    Heard::Some(Word::Failed(stage, errno)) => {
                        let refusal = plan::refusal(stage, &io::Error::from_raw_os_error(errno), &caller.name, &caller.directory);
                        self.on_not_started(id, refusal);
                    }
                    Heard::Some(Word::Stopped(signal)) => self.on(id, Event::Stopped(signal)),
                    Heard::Some(Word::Continued) => self.on(id, Event::Continued),
                    Heard::Some(Word::Ended(end)) => {
                        let pid = *command;
                        self.on_end(id, pid, end);
                    }
                },
                None => return,
            }
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

    fn reply<M: Message>(&mut self, id: u64, message: &M, fds: Vec<OwnedFd>) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        if let Some(channel) = &mut caller.channel
            && channel.send(message, caller.op, fds).is_err()
        {
            // Its end will be read where all ends are.
            log::debug!(op_id:% = op_text(caller.op); "the caller is gone");
        }
        if let Some(channel) = &caller.channel
            && channel.unsent() > MAX_UNSENT_BYTES
        {
            log::warn!(op_id:% = op_text(caller.op); "a caller reads nothing; it is taken for gone");
            channel.break_off();
        }
    }

    fn reply_started(&mut self, id: u64) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        let pid = match caller.child {
            Some(Child::Direct { pid, .. } | Child::Monitored { command: pid, .. }) => pid,
            None => 0,
        };
        let fd = caller.leader.take().or_else(|| caller.hang_up_at_our_death(self.descriptor_limit));
        self.reply(id, &message::Started { pid }, fd.into_iter().collect());
    }

    fn signal_group(&self, id: u64, signal: u8) {
        let Some(caller) = self.callers.get(id) else { return };
        if let (signals::KILL, Some(name), State::Ending { .. } | State::Over) = (signal, &caller.cgroup, caller.session.state()) {
            self.cgroups.kill(name);
        }
        if let State::Sweeping { .. } | State::Over = caller.session.state() {
            return caller.group.iter().for_each(|group| drop(group.signal(signal)));
        }
        match &caller.child {
            Some(Child::Monitored { monitor: Some(_), link: Some(link), .. }) => drop(monitor::tell(link, Order::Signal(signal))),
            Some(Child::Direct { pid, .. } | Child::Monitored { command: pid, .. }) => drop(signals::send(Target::Group(*pid), signal)),
            None => {}
        }
    }

    fn kill_child(&self, id: u64) {
        if let Some(Child::Direct { pid, .. } | Child::Monitored { monitor: Some(pid), .. }) = self.callers.get(id).and_then(|c| c.child.as_ref()) {
            let _ = signals::send(Target::Process(*pid), signals::KILL);
        }
    }

    fn order(&self, id: u64, order: Order) {
        if let Some(Child::Monitored { monitor: Some(_), link: Some(link), .. }) = self.callers.get(id).and_then(|c| c.child.as_ref()) {
            let _ = monitor::tell(link, order);
        }
    }

    fn hang_up(&mut self, id: u64) {
        self.release(id);
        let Some(caller) = self.callers.get_mut(id) else { return };
        match &caller.channel {
            Some(channel) if channel.unsent() > 0 => caller.close_by = Some(process::monotonic_ms() + LAST_WORDS_MS),
            _ => caller.channel = None,
        }
    }

    fn forget_if_over(&mut self, id: u64) {
        if self.callers.get(id).is_some_and(|c| c.session.is_over() && c.channel.is_none()) {
            // A monitor that still has to exit is waited for like any child; only nobody asks for it any more.
            if let Some(name) = self.callers.get_mut(id).and_then(|c| c.cgroup.take()) {
                self.cgroups.forget(name);
            }
            self.callers.remove(id);
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
            log::warn!(op_id:% = op_text(None); "a container's guest does not answer; another takes its place");
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
            log::warn!(op_id:% = op_text(caller.op); "refused: a caller sent no whole request in time");
        }
    }

    // ---- end

    fn begin_end(&mut self) {
        if self.ending_by.is_some() {
            return;
        }
        log::info!("ending; {} commands run", self.running());
        self.notify("STOPPING=1");
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
        log::info!("ended; {} operations served", self.served);
        match self.upstream.and_then(|upstream| upstream.failure) {
            Some(failure) => Err(failure),
            None => Ok(End::Code(0)),
        }
    }

    fn notify(&self, words: &str) {
        if let Some(path) = &self.options.notify
            && let Err(e) = socket::send_datagram(path, words.as_bytes())
        {
            log::warn!("notify {}: {e}", path.display());
        }
    }
}

/// A container's own socket is no more.
fn close_door(listener: &Listener, code: Code, text: &str) {
    listener.remove_from_container();
    turn_all_away(listener, code, text);
}

/// Those that wait to be accepted where nobody will.
fn turn_all_away(listener: &Listener, code: Code, text: &str) {
    while let Ok(connection) = socket::accept(listener.as_fd()) {
        turn_away(connection, code, text);
    }
}

/// A refusal for a connection that is not even taken.
fn turn_away(connection: OwnedFd, code: Code, text: &str) {
    let mut channel = Channel::new(connection);
    channel.fill();
    let op = channel.peek().and_then(|header| header.op);
    let _ = channel.send(&message::Refused { code: code as u8, text }, op, vec![]);
}

fn adopt_listener(saved: &SavedListener) -> Result<Listener> {
    let socket = files::adopt(saved.fd).map_err(|e| Error::io("take over the listening socket", &e))?;
    let file = saved.file.map(|(device, inode)| FileId { device, inode });
    Listener::adopt(socket, Path::new(OsStr::from_bytes(&saved.path)).to_path_buf(), file)
}

fn op_text(op: Option<OpId>) -> String {
    op.map_or_else(|| "none".to_string(), |op| op.to_string())
}
