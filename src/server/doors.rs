//! The sockets that single containers have of their own: made as the policy says, carried over and mended by each reload.
//!
//! What lies in such a directory is in its container's hands. So a container is called what its socket is called, whatever it
//! claims, and nothing that is found there is believed or followed.

use crate::error::Result;
use crate::logging::shown;
use crate::paths;
use crate::policy::rules::Users;
use crate::server::listener::Listener;
use std::fs;
use std::path::Path;
use std::rc::Rc;

/// Where shadow(5) gives users their subordinate ids, and who has which name.
const SUBORDINATE: &str = "/etc/subuid";
const ACCOUNTS: &str = "/etc/passwd";

/// What is told of the name that somebody claims.
pub const MAX_TOLD_BYTES: usize = 64;

pub struct Door {
    pub name: Rc<str>,
    pub listener: Listener,
    users: Users,
    /// It has called itself something else, and that was told.
    told: bool,
}

#[derive(Default)]
pub struct Doors {
    all: Vec<Door>,
    /// Subordinate ids of the daemon's user: the first, and how many.
    mapped: Vec<(u32, u32)>,
}

impl Doors {
    /// Makes the sockets of all `wanted` containers beside the daemon's own, or keeps the one of an earlier image where it is as it
    /// should be. Returns what could not be made too, and what is not wanted any more: one container keeps nobody else from being served.
    pub fn open<'a>(wanted: impl Iterator<Item = (&'a str, Users)>, socket: &Path, user: u32, before: Vec<(String, Listener)>) -> (Doors, Vec<String>, Vec<Listener>) {
        let (mut doors, mut failures, mut old) = (Doors::default(), vec![], before);
        for (name, users) in wanted {
            let path = paths::container_socket(socket, name);
            let kept = old.iter().position(|(known, listener)| known == name && listener.is_in_place(&path, users == Users::Mapped)).map(|at| old.swap_remove(at).1);
            let made: Result<Listener> = kept.map_or_else(|| Listener::make_for_container(&path, user, users == Users::Mapped), Ok);
            match made {
                Ok(listener) => doors.all.push(Door { name: name.into(), listener, users, told: false }),
                Err(error) => failures.push(format!("the container {name} has no socket: {}", error.text)),
            }
        }
        if doors.all.iter().any(|door| door.users == Users::Mapped) {
            let read = |path| fs::read_to_string(path).unwrap_or_default();
            doors.mapped = subordinate(&read(SUBORDINATE), &read(ACCOUNTS), user);
        }
        (doors, failures, old.into_iter().map(|(_, listener)| listener).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Door> {
        self.all.iter()
    }

    pub fn get(&self, at: usize) -> Option<&Door> {
        self.all.get(at)
    }

    /// Whether a container of this name has a socket of its own.
    pub fn has(&self, name: &[u8]) -> bool {
        self.all.iter().any(|door| door.name.as_bytes() == name)
    }

    /// Whether a process of this user may call, beside the daemon's own.
    pub fn admits(&self, door: &Door, user: u32) -> bool {
        door.users == Users::Mapped && is_within(&self.mapped, user)
    }

    /// What a container calls itself where it has a name already. Told once: it will say so with every command.
    pub fn heed(&mut self, name: &str, claim: &[u8]) {
        if claim.is_empty() || claim == name.as_bytes() {
            return;
        }
        if let Some(door) = self.all.iter_mut().find(|door| !door.told && &*door.name == name) {
            door.told = true;
            let claim = shown(&claim[..claim.len().min(MAX_TOLD_BYTES)]);
            log::warn!(container = name; "the container {name} calls itself {claim}; it is {name} by its socket");
        }
    }

    pub fn into_listeners(self) -> impl Iterator<Item = Listener> {
        self.all.into_iter().map(|door| door.listener)
    }
}

fn is_within(ranges: &[(u32, u32)], user: u32) -> bool {
    ranges.iter().any(|(first, count)| user.checked_sub(*first).is_some_and(|above| above < *count))
}

/// The subordinate ids of a user, who stands in subuid(5) by name or by number.
fn subordinate(text: &str, accounts: &str, user: u32) -> Vec<(u32, u32)> {
    let number = user.to_string();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (owner == number || Some(owner) == name).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_subordinate_ids_of_the_name_and_of_the_number() {
        let accounts = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n1000:x:7:7::/:/bin/sh\n";
        let text = "ada:100000:65536\nbob:165536:65536\n1000:300000:10\nada:wrong:1\nada:5\n\n";
        assert_eq!(subordinate(text, accounts, 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(subordinate(text, accounts, 1), []);
        let within = |user| is_within(&[(100_000, 65_536), (u32::MAX, 9)], user);
        assert!(within(100_000) && within(165_535) && within(u32::MAX));
        assert!(!within(99_999) && !within(165_536) && !within(0));
    }
}
