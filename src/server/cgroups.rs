//! A cgroup for each command, where the daemon's own is delegated to it. Without that, all of this does nothing.
//!
//! What a command leaves behind on purpose lives on in its cgroup until it ends; the empty cgroup is removed when the next command
//! ends, or at a reload: nobody wakes up for it.

use crate::opid::OpId;
use crate::sys::cgroup::Subtree;
use std::os::fd::OwnedFd;

pub struct Cgroups {
    subtree: Option<Subtree>,
    /// Of commands that have ended, and had something left in there when last looked at.
    left: Vec<String>,
}

impl Cgroups {
    /// Divides the cgroup that we were started in, which is delegated to us. `in_use` are those of commands that an earlier image started.
    pub fn start(in_use: &[&str]) -> Cgroups {
        let subtree = Subtree::enter();
        let there = subtree.as_ref().map_or_else(Vec::new, Subtree::names);
        let left = there.into_iter().filter(|name| name.starts_with("op-") && !in_use.contains(&name.as_str())).collect();
        let mut cgroups = Cgroups { subtree, left };
        cgroups.tidy();
        cgroups
    }

    pub fn none() -> Cgroups {
        Cgroups { subtree: None, left: Vec::new() }
    }

    pub fn are_used(&self) -> bool {
        self.subtree.is_some()
    }

    /// The cgroup of a command that is about to be started. A command without one runs all the same.
    pub fn make(&self, op: OpId, caller: u64) -> Option<(String, OwnedFd)> {
        let subtree = self.subtree.as_ref()?;
        let name = op.to_string();
        let made = subtree.make(&name).map(|fd| (name, fd)).or_else(|_| {
            // An operation may run several commands.
            let name = format!("{op}.{caller}");
            subtree.make(&name).map(|fd| (name, fd))
        });
        made.map(|(name, fd)| (name, fd.into())).inspect_err(|e| log::warn!(op_id = op; "no cgroup for the command: {e}")).ok()
    }

    pub fn is_populated(&self, name: &str) -> bool {
        self.subtree.as_ref().is_some_and(|subtree| subtree.is_populated(name))
    }

    pub fn ran_out_of_memory(&self, name: &str) -> bool {
        self.subtree.as_ref().is_some_and(|subtree| subtree.ran_out_of_memory(name))
    }

    pub fn kill(&self, name: &str) {
        if let Some(subtree) = &self.subtree {
            let _ = subtree.kill(name);
        }
    }

    /// A command is over, and so is its cgroup, unless something lives on in it.
    pub fn forget(&mut self, name: String) {
        self.left.push(name);
        self.tidy();
    }

    fn tidy(&mut self) {
        if let Some(subtree) = &self.subtree {
            self.left.retain(|name| subtree.remove(name).is_err());
        }
    }

    pub fn end(&self) {
        if let Some(subtree) = &self.subtree {
            subtree.give_back();
        }
    }
}
