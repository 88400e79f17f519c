//! What runs: commands are started in their turn, heard while they run, signalled, and waited for in one place, `reap`.

use crate::error::Result;
use crate::exit::End;
use crate::logging::shown;
use crate::proto::channel::Channel;
use crate::proto::message::{self, Code, Refusal, Run};
use crate::server::caller::{Caller, Child};
use crate::server::daemon::Daemon;
use crate::server::monitor::{self, Heard, Order, Word};
use crate::server::plan::{self, Decided};
use crate::server::session::{Event, State};
use crate::sys::launch::{Launch, Report};
use crate::sys::process::{self, Change};
use crate::sys::signals::{self, Target};
use std::io;

/// Commands started in one turn, so that signals, news and the clock are never behind a long queue.
const STARTS_PER_TURN: usize = 16;

impl Daemon {
    pub(super) fn start_queued(&mut self) {
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
            log::info!(op_id = caller.op, code = refusal.code.word(); "refused: {}", refusal.text);
            self.errors.note(caller.op, process::monotonic_ms(), refusal.code, &refusal.text, caller.container.clone());
        }
        self.on(id, Event::NotStarted(refusal));
    }

    /// What the child itself says: its birth, and with a terminal all of its life.
    pub(super) fn on_child(&mut self, id: u64) {
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

    /// The one place where children are waited for.
    pub(super) fn reap(&mut self) {
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
        // The name goes into the log and is not needed any more; a command's end is told first, and written then.
        let done = self.callers.get_mut(id).filter(|_| log::log_enabled!(log::Level::Info)).map(|c| (c.op, c.since_ms, std::mem::take(&mut c.name)));
        self.on(id, Event::Ended { end, group_left });
        let Some((op, since_ms, name)) = done else { return };
        self.release(id);
        let how = match end {
            End::Code(code) => format!("exit status {code}"),
            End::Signal(signal) => format!("killed by signal {signal}"),
        };
        let ms = process::monotonic_ms().saturating_sub(since_ms);
        log::info!(op_id = op, pid = command, ms = ms; "{}: {how} after {ms} ms", shown(&name));
    }

    /// The caller sees that its command was killed, and nothing of why.
    fn note_out_of_memory(&mut self, id: u64) {
        if let Some(caller) = self.callers.get(id)
            && caller.cgroup.as_ref().is_some_and(|name| self.cgroups.ran_out_of_memory(name))
        {
            let text = format!("{} ran out of memory; the kernel has killed it, with all that it had started", shown(&caller.name));
            log::warn!(op_id = caller.op; "{text}");
            self.errors.note(caller.op, process::monotonic_ms(), Code::OutOfMemory, &text, caller.container.clone());
        }
    }

    pub(super) fn reply_started(&mut self, id: u64) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        let pid = match caller.child {
            Some(Child::Direct { pid, .. } | Child::Monitored { command: pid, .. }) => pid,
            None => 0,
        };
        let fd = caller.leader.take().or_else(|| caller.hang_up_at_our_death(self.descriptor_limit));
        self.reply(id, &message::Started { pid }, fd.into_iter().collect());
    }

    pub(super) fn signal_group(&self, id: u64, signal: u8) {
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

    pub(super) fn kill_child(&self, id: u64) {
        if let Some(Child::Direct { pid, .. } | Child::Monitored { monitor: Some(pid), .. }) = self.callers.get(id).and_then(|c| c.child.as_ref()) {
            let _ = signals::send(Target::Process(*pid), signals::KILL);
        }
    }

    pub(super) fn order(&self, id: u64, order: Order) {
        if let Some(Child::Monitored { monitor: Some(_), link: Some(link), .. }) = self.callers.get(id).and_then(|c| c.child.as_ref()) {
            let _ = monitor::tell(link, order);
        }
    }
}
