//! The containers that have asked for runs: a table of bounded size, in which the one longest unseen makes room.
//!
//! What a container is called is its own claim; nothing is decided by it.

use crate::proto::message::{Bytes, Seen};

/// How many are remembered.
const KEPT: usize = 64;
/// The longest name that is remembered whole.
const NAME_BYTES: usize = 64;

struct Known {
    name: Vec<u8>,
    at_ms: u64,
    runs: u64,
}

#[derive(Default)]
pub struct Containers(Vec<Known>);

impl Containers {
    /// What an image before us knew.
    pub fn resume(before: &[Seen<'_>]) -> Containers {
        Containers(before.iter().map(|s| Known { name: s.name.0.to_vec(), at_ms: s.at_ms, runs: s.runs }).collect())
    }

    /// A run was asked for. On the way of every run: it looks, and makes nothing but for a name that is new.
    pub fn note(&mut self, name: &[u8], at_ms: u64) {
        if name.is_empty() {
            return;
        }
        let name = &name[..name.len().min(NAME_BYTES)];
        if let Some(known) = self.0.iter_mut().find(|known| known.name == name) {
            (known.at_ms, known.runs) = (at_ms, known.runs + 1);
            return;
        }
        if self.0.len() >= KEPT
            && let Some(oldest) = (0..self.0.len()).min_by_key(|at| self.0[*at].at_ms)
        {
            self.0.swap_remove(oldest);
        }
        self.0.push(Known { name: name.to_vec(), at_ms, runs: 1 });
    }

    pub fn told(&self) -> Vec<Seen<'_>> {
        self.0.iter().map(|known| Seen { name: Bytes(&known.name), at_ms: known.at_ms, runs: known.runs }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unseen_makes_room_and_runs_are_counted() {
        let mut containers = Containers::default();
        containers.note(b"", 0);
        for n in 0..=KEPT as u64 {
            containers.note(format!("c{n}").as_bytes(), n);
            containers.note(b"often", n);
        }
        let told = containers.told();
        assert_eq!(told.len(), KEPT);
        let of = |name: &[u8]| told.iter().find(|s| s.name.0 == name).map(|s| (s.at_ms, s.runs));
        assert_eq!((of(b"often"), of(b"c0"), of(b"c64")), (Some((64, 65)), None, Some((64, 1))));
        assert_eq!(Containers::resume(&told).told(), told);
    }
}
