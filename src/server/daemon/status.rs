//! What the daemon says of itself: `bkt status`.

use crate::document;
use crate::opid::OpId;
use crate::process::environment;
use crate::proto::message::{self, Bytes, Past};
use crate::server::caller::{Caller, Child};
use crate::server::daemon::Daemon;
use crate::sys::process;

/// What is told of the commands that run: half of what may wait for one peer to read, see `MAX_UNSENT_BYTES`. A hundred with the
/// longest of names, a thousand with usual ones.
const MAX_TOLD_BYTES: usize = 32 * 1024;
/// What telling of one takes besides its name.
const RUN_BYTES: usize = 24;

impl Daemon {
    pub(super) fn running(&self) -> usize {
        self.callers.values().filter(|c| c.session.is_running()).count()
    }

    pub(super) fn reply_status(&mut self, id: u64) {
        let now = process::monotonic_ms();
        let mut room = MAX_TOLD_BYTES;
        let has_room = |c: &&Caller| {
            room = room.saturating_sub(c.name.len() + RUN_BYTES);
            room > 0
        };
        let running = self.callers.values().filter(|c| c.session.is_running()).take_while(has_room);
        let entries: Vec<(u64, u32, u64, Vec<u8>, bool)> = running
            .map(|c| {
                let (pid, terminal) = match &c.child {
                    Some(Child::Direct { pid, .. }) => (*pid, false),
                    Some(Child::Monitored { command, .. }) => (*command, true),
                    None => (0, false),
                };
                (c.op.map_or(0, OpId::bits), pid, now.saturating_sub(c.since_ms), c.name.clone(), terminal)
            })
            .collect();
        let running =
            entries.iter().map(|(op, pid, since_ms, name, terminal)| message::Running { op: *op, pid: *pid, since_ms: *since_ms, name: Bytes(name), terminal: *terminal });
        let is_told = |entry: &&[u8]| message::OF_THE_SESSION.iter().any(|name| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")));
        let session: Vec<u8> = environment::strings(&self.context.env.bytes).filter(is_told).flat_map(|entry| [entry, b"\0"].concat()).collect();
        // Out of our hands while they are told.
        let (seen, errors) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.errors));
        let (policy, policy_error) = self.policy.told();
        let (policy, policy_error) = (policy.to_vec(), policy_error.to_string());
        let status = message::Status {
            release: self.options.release,
            pid: std::process::id(),
            uptime_ms: now.saturating_sub(self.started_ms),
            served: self.served,
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u32),
            descriptor_limit: self.descriptor_limit,
            root: (self.context.root.device, self.context.root.inode),
            clock_ms: now,
            supervised: self.options.notify.is_some(),
            cgroups: self.cgroups.are_used(),
            session: Bytes(&session),
            policy: Bytes(&policy),
            policy_stamp: self.policy.text().map_or(0, document::stamp),
            policy_error: &policy_error,
            untold: (self.running() - entries.len()) as u32,
            running: running.collect(),
            past: Past { seen: seen.told(), errors: errors.told() },
        };
        self.reply(id, &status, vec![]);
        (self.seen, self.errors) = (seen, errors);
    }
}
