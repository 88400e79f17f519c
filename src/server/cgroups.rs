//! A cgroup for each command, where the daemon's own is delegated to it. Without that, all of this does nothing.
//!
//! What a command leaves behind on purpose lives on in its cgroup until it ends; the empty cgroup is removed when one of the next
//! commands ends, or at a reload: nobody wakes up for it.

use crate::opid::OpId;
use crate::sys::cgroup::Subtree;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Cgroups looked at when a command ends, its own among them: hundreds may have something left in them, and others wait meanwhile.
const LOOKS: usize = 4;

pub struct Cgroups {
    subtree: Option<Subtree>,
    /// Of commands that have ended, and had something left in there when last looked at: the one to be looked at next is the first.
    left: VecDeque<String>,
}

impl Cgroups {
    /// Divides the cgroup that we were started in, which is delegated to us. `in_use` are those of commands that an earlier image started.
    pub fn start(in_use: &[&str]) -> Cgroups {
        let subtree = Subtree::enter();
        let there = subtree.as_ref().map_or_else(Vec::new, Subtree::names);
        let left = there.into_iter().filter(|name| name.starts_with("op-") && !in_use.contains(&name.as_str())).collect();
        let mut cgroups = Cgroups { subtree, left };
        cgroups.tidy(usize::MAX);
        cgroups
    }

    pub fn none() -> Cgroups {
        Cgroups { subtree: None, left: VecDeque::new() }
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
        self.left.push_front(name);
        self.tidy(LOOKS);
    }

    fn tidy(&mut self, looks: usize) {
        let Some(subtree) = &self.subtree else { return };
        for _ in 0..looks.min(self.left.len()) {
            if let Some(name) = self.left.pop_front()
                && subtree.remove(&name).is_err()
            {
                self.left.push_back(name);
            }
        }
    }

    pub fn end(&self) {
        if let Some(subtree) = &self.subtree {
            subtree.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_end_looks_at_a_few_of_what_is_left_and_in_time_at_all() {
        let path = std::env::temp_dir().join(format!("bkt-cgroups-{}", std::process::id()));
        let names = || fs::read_dir(&path).unwrap().count();
        let live = |name: &str| path.join(name).join("cgroup.events");
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            fs::create_dir_all(path.join(name)).unwrap();
            fs::write(live(name), "populated 1\n").unwrap();
        }
        let mut cgroups = Cgroups { subtree: Some(Subtree::at(&path)), left: VecDeque::new() };
        ["a", "b", "c", "d", "e", "f"].iter().for_each(|name| cgroups.forget(name.to_string()));
        assert_eq!(names(), 7);
        ["a", "b", "c", "d", "e", "f", "g"].iter().for_each(|name| fs::remove_file(live(name)).unwrap());
        cgroups.forget("g".into());
        assert!(names() == 7 - LOOKS && !path.join("g").exists(), "its own is the first");
        fs::create_dir(path.join("h")).unwrap();
        cgroups.forget("h".into());
        assert_eq!(names(), 0);
        fs::remove_dir(path).unwrap();
    }
}
