//! A caller of the daemon: its connection, its run, and the child that runs it; and how all of that goes from one image to the next.

use crate::opid::OpId;
use crate::proto::channel::{Channel, Frame};
use crate::server::saved::{SavedCaller, SavedChild, SavedConnection};
use crate::server::session::{Session, State};
use crate::sys::files::{self, FileId};
use crate::sys::launch::Launch;
use crate::sys::signals::{self, Group};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// A connection and what became of it.
pub struct Caller {
    pub channel: Option<Channel>,
    pub session: Session,
    pub op: Option<OpId>,
    /// The run that waits for its turn.
    pub request: Option<Frame>,
    /// How long that was: as much is held for it until its command runs.
    pub request_bytes: usize,
    pub child: Option<Child>,
    /// The command's group, where its leader's number is not enough.
    pub group: Option<Group>,
    /// The command's own, where there are such.
    pub cgroup: Option<String>,
    /// The pty's leader, until it goes to the client.
    pub leader: Option<OwnedFd>,
    pub name: Vec<u8>,
    /// What its run uses, [`Capability`](crate::proto::capability::Capability) as a number.
    pub capability: u8,
    /// For the sentence that says it could not be entered.
    pub directory: Vec<u8>,
    /// Identity of the directory of a caller that was handed over.
    pub origin: Option<FileId>,
    /// Whose own socket it came by; `None` is the user's.
    pub container: Option<Rc<str>>,
    pub questions: u32,
    pub since_ms: u64,
    /// The connection is to be closed once everything is sent, at the latest then.
    pub close_by: Option<u64>,
}

pub enum Child {
    /// The launch is waited for once it is watched; before, its end (SIGCHLD) tells of both.
    Direct { pid: u32, launch: Option<Launch>, watched: bool, ended: bool },
    /// The link is `None` once the monitor has closed it.
    Monitored { monitor: Option<u32>, link: Option<OwnedFd>, command: u32 },
}

impl Caller {
    /// One that has just connected.
    pub fn new(channel: Channel, origin: Option<FileId>, container: Option<Rc<str>>, now: u64) -> Caller {
        Caller {
            op: channel.peek().and_then(|header| header.op),
            channel: Some(channel),
            session: Session::new(now),
            request: None,
            request_bytes: 0,
            child: None,
            group: None,
            cgroup: None,
            leader: None,
            name: vec![],
            capability: 0,
            directory: vec![],
            origin,
            container,
            questions: 0,
            since_ms: now,
            close_by: None,
        }
    }

    /// A command without a monitor is hung up on by the kernel when we die, its leader as our child, and the rest of its group as
    /// long as the client keeps the descriptor returned. Not one that is to survive, or has ended already; nor where descriptors
    /// are few, for this takes two more.
    pub fn hang_up_at_our_death(&mut self, limit: u64) -> Option<OwnedFd> {
        let Some(Child::Direct { pid, ended: false, .. }) = self.child else { return None };
        if self.session.survives() {
            return None;
        }
        let mut group = Group::hold(pid).ok()?;
        let kept = group.signal_at_death(signals::HUP).and_then(files::duplicate).ok()?;
        if kept.as_raw_fd() as u64 * 2 > limit {
            return None;
        }
        self.group = Some(group);
        Some(kept)
    }

    /// The bytes of what it has asked for and has not got: what came of its request, and what its command is to be made of. A command
    /// may be on its way for ever: its directory lies on a dead mount, nobody reads the pipe that is to hear of a missing one.
    pub fn pending_bytes(&self) -> usize {
        let waits = match &self.child {
            None => self.request.is_some(),
            Some(Child::Direct { launch, .. }) => launch.is_some(),
            Some(Child::Monitored { command, .. }) => *command == 0,
        };
        self.channel.as_ref().map_or(0, Channel::unread) + if waits { self.request_bytes } else { 0 }
    }

    /// The cgroup, while what is left in there is being ended.
    pub fn swept_cgroup(&self) -> Option<&str> {
        self.cgroup.as_deref().filter(|_| matches!(self.session.state(), State::Sweeping { .. }))
    }

    /// The operation's id, as the peer says it. That of a run does not change any more.
    pub fn learn_op(&mut self, op: Option<OpId>) {
        if matches!(self.session.state(), State::Greeting { .. }) {
            self.op = op.or(self.op);
        }
    }

    pub fn save(&self, id: u64) -> SavedCaller {
        let connection = self.channel.as_ref().map(|channel| {
            let (fd, incoming, fds, unsent) = channel.parts();
            SavedConnection { fd, incoming, fds, unsent }
        });
        let child = self.child.as_ref().map(|child| match child {
            Child::Direct { pid, launch, .. } => SavedChild::Direct { pid: *pid, report: launch.as_ref().map(|l| l.report_descriptor().as_raw_fd()) },
            Child::Monitored { monitor, link, command } => SavedChild::Monitored { monitor: monitor.unwrap_or(0), link: link.as_ref().map(AsRawFd::as_raw_fd), command: *command },
        });
        SavedCaller {
            id,
            op: self.op.map_or(0, OpId::bits),
            since_ms: self.since_ms,
            name: self.name.clone(),
            capability: self.capability,
            directory: self.directory.clone(),
            session: self.session,
            connection,
            request: self.request.as_ref().map(|r| (r.bytes().to_vec(), r.fds.iter().map(AsRawFd::as_raw_fd).collect())),
            child,
            cgroup: self.cgroup.clone(),
            container: self.container.as_deref().map(str::to_string),
            group: self.group.as_ref().map(|group| (group.descriptors().map(AsRawFd::as_raw_fd), group.at_death())),
            leader: self.leader.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    /// Everything that the next image takes over.
    pub fn add_descriptors<'a>(&'a self, all: &mut Vec<&'a OwnedFd>) {
        all.extend(self.channel.iter().flat_map(Channel::descriptors));
        all.extend(self.request.iter().flat_map(|r| &r.fds));
        all.extend(&self.leader);
        all.extend(self.group.iter().flat_map(Group::descriptors));
        match &self.child {
            Some(Child::Direct { launch: Some(launch), .. }) => all.push(launch.report_descriptor()),
            Some(Child::Monitored { link: Some(link), .. }) => all.push(link),
            _ => {}
        }
    }

    pub fn resume(saved: SavedCaller) -> io::Result<Caller> {
        let adopt_all = |numbers: Vec<RawFd>| numbers.into_iter().map(files::adopt).collect::<io::Result<Vec<OwnedFd>>>();
        let channel = match saved.connection {
            Some(c) => Some(Channel::from_parts(files::adopt(c.fd)?, c.incoming, adopt_all(c.fds)?, c.unsent)),
            None => None,
        };
        let child = match saved.child {
            Some(SavedChild::Direct { pid, report }) => {
                let report = report.map(files::adopt).transpose()?;
                Some(Child::Direct { pid, launch: report.map(|r| Launch::adopt(r, pid)), watched: true, ended: false })
            }
            Some(SavedChild::Monitored { monitor, link, command }) => {
                Some(Child::Monitored { monitor: (monitor != 0).then_some(monitor), link: link.map(files::adopt).transpose()?, command })
            }
            None => None,
        };
        let group = match saved.group {
            Some(([reading, writing], at_death)) => Some(Group::adopt(files::adopt(reading)?, files::adopt(writing)?, at_death)),
            None => None,
        };
        let request = match saved.request {
            Some((bytes, fds)) => Frame::from_parts(bytes, adopt_all(fds)?),
            None => None,
        };
        Ok(Caller {
            channel,
            session: saved.session,
            op: OpId::from_bits(saved.op),
            request_bytes: request.as_ref().map_or(0, |frame| frame.bytes().len()),
            request,
            child,
            group,
            cgroup: saved.cgroup,
            leader: saved.leader.map(files::adopt).transpose()?,
            name: saved.name,
            capability: saved.capability,
            directory: saved.directory,
            origin: None,
            container: saved.container.map(Rc::from),
            questions: 0,
            since_ms: saved.since_ms,
            close_by: None,
        })
    }
}
