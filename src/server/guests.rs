//! The switchboard: which containers have a guest daemon, and who waits to be handed over to one. Decided without I/O.
//!
//! A container has one guest. Where a second one of the same name comes, the first is asked whether it is still there: a
//! container that was stopped and started again must not find its place taken by a link that nobody has closed. Who only says of
//! itself that it has a name gives way to whom the host knows by it.

use crate::logging::shown;
use crate::proto::message::{Code, Refusal};
use serde::{Deserialize, Serialize};

/// Guests at once: as many containers as a person runs, several times over. Each costs one descriptor.
const MAX_GUESTS: usize = 256;
/// The longest name of a container, as in hostnames.
const MAX_NAME_BYTES: usize = 255;
/// Capabilities that one guest may want: several times as many as there are. They are kept for as long as it stays.
const MAX_WANTED: usize = 32;
/// The longest release, and the longest name of a capability.
const MAX_WORD_BYTES: usize = 64;
/// How long the older of two guests may take to answer; well within the newer one's 2 s of patience.
const PING_MS: u64 = 1_000;

/// A guest daemon, or one that wants to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guest {
    /// The caller whose connection it is.
    pub id: u64,
    pub name: Vec<u8>,
    /// The name is the one that the host itself knows it by, and not only its own word.
    pub vouched: bool,
    pub release: String,
    /// It comes back by itself.
    pub returns: bool,
    pub since_ms: u64,
    /// What is granted to it.
    pub accepted: Vec<String>,
    pub rejected: Vec<String>,
}

/// A caller that is to be handed over as soon as the guest's link takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entering {
    pub caller: u64,
    /// The guest, by its caller.
    pub guest: u64,
    pub directory: Option<(u64, u64)>,
}

struct Rival {
    newer: Guest,
    older: u64,
    until: u64,
}

#[derive(Default)]
pub struct Guests {
    all: Vec<Guest>,
    rivals: Vec<Rival>,
    pub entering: Vec<Entering>,
}

/// What is to be done about somebody who wants to be a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Welcome(Guest),
    /// Ask the guest that is there, and wait for its answer.
    Ask(u64),
    /// Send the guest that is there away with this; the new one is welcome when it has gone.
    Replace(u64, Refusal),
    Refuse(Refusal),
}

impl Guests {
    /// What one image of the daemon has left to the next.
    pub fn of(all: Vec<Guest>, entering: Vec<Entering>) -> Guests {
        Guests { all, rivals: vec![], entering }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.all.iter()
    }

    pub fn get(&self, id: u64) -> Option<&Guest> {
        self.all.iter().find(|guest| guest.id == id)
    }

    /// The guest of a container.
    pub fn named(&self, name: &[u8]) -> Option<&Guest> {
        self.all.iter().find(|guest| guest.name == name)
    }

    /// What is granted to one has changed.
    pub fn update(&mut self, guest: &Guest) {
        if let Some(known) = self.all.iter_mut().find(|known| known.id == guest.id) {
            known.clone_from(guest);
        }
    }

    pub fn on_offer(&mut self, guest: Guest, now: u64) -> Verdict {
        if !is_name(&guest.name) {
            return Verdict::Refuse(Refusal::new(Code::BadRequest, "the name of the container is empty, too long, or no name; give it one with --name"));
        }
        // They go to other people's terminals, and are kept.
        let is_word = |word: &String| word.len() <= MAX_WORD_BYTES && word.bytes().all(|b| (b' '..=b'~').contains(&b));
        let wanted = || guest.accepted.iter().chain(&guest.rejected);
        if wanted().count() > MAX_WANTED || !wanted().chain([&guest.release]).all(is_word) {
            let text = format!("a guest names its release and at most {MAX_WANTED} capabilities, in at most {MAX_WORD_BYTES} plain characters each");
            return Verdict::Refuse(Refusal::new(Code::BadRequest, text));
        }
        if let Some((older, vouched)) = self.named(&guest.name).map(|older| (older.id, older.vouched)) {
            let name = String::from_utf8_lossy(&guest.name);
            if vouched && !guest.vouched {
                return Verdict::Refuse(Refusal::new(Code::Taken, format!("{name} has a guest daemon, and the host knows it by that name; take another")));
            }
            if guest.vouched && !vouched {
                let why = Refusal::new(Code::Taken, format!("the container {name} itself has a guest daemon now; take another name"));
                return self.replace(older, guest, now, why);
            }
            self.rivals.push(Rival { newer: guest, older, until: now + PING_MS });
            return Verdict::Ask(older);
        }
        if self.all.len() >= MAX_GUESTS {
            // One sandbox can have given itself all the names there are.
            if let Some(older) = self.all.iter().rfind(|older| guest.vouched && !older.vouched).map(|older| older.id) {
                let why = Refusal::new(Code::Busy, format!("{MAX_GUESTS} guests are all this daemon can hold, and a container needs the place"));
                return self.replace(older, guest, now, why);
            }
            return Verdict::Refuse(Refusal::new(Code::Busy, format!("{MAX_GUESTS} guests are all this daemon can hold; end one of them")));
        }
        self.all.push(guest.clone());
        Verdict::Welcome(guest)
    }

    /// The older one is told why it has to go; the newer is the first to have its place.
    fn replace(&mut self, older: u64, newer: Guest, now: u64, why: Refusal) -> Verdict {
        self.rivals.insert(0, Rival { newer, older, until: now + PING_MS });
        Verdict::Replace(older, why)
    }

    /// The guest has answered: its rivals are turned away.
    pub fn on_pong(&mut self, id: u64, now: u64) -> Vec<(u64, Refusal)> {
        let Some(guest) = self.get(id) else { return vec![] };
        let (name, seconds) = (String::from_utf8_lossy(&guest.name), now.saturating_sub(guest.since_ms) / 1000);
        let text = format!("{name} has a guest daemon already (version {}, connected for {seconds} s), and it answers; end that one first", guest.release);
        self.rivals.extract_if(.., |rival| rival.older == id).map(|rival| (rival.newer.id, Refusal::new(Code::Taken, text.clone()))).collect()
    }

    /// The connection has ended. Returns who is welcome in its place, and who had waited for it in vain.
    pub fn on_gone(&mut self, id: u64) -> (Option<Guest>, Vec<u64>) {
        self.rivals.retain(|rival| rival.newer.id != id);
        self.entering.retain(|entering| entering.caller != id);
        let Some(at) = self.all.iter().position(|guest| guest.id == id) else { return (None, vec![]) };
        self.all.swap_remove(at);
        let lost = self.entering.extract_if(.., |entering| entering.guest == id).map(|entering| entering.caller).collect();
        let Some(next) = self.rivals.iter().position(|rival| rival.older == id) else { return (None, lost) };
        let next = self.rivals.remove(next).newer;
        for rival in self.rivals.iter_mut().filter(|rival| rival.older == id) {
            rival.older = next.id;
        }
        self.all.push(next.clone());
        (Some(next), lost)
    }

    /// Guests that have not answered in time.
    pub fn silent(&self, now: u64) -> Vec<u64> {
        self.rivals.iter().filter(|rival| rival.until <= now).map(|rival| rival.older).collect()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.rivals.iter().map(|rival| rival.until).min()
    }

    /// Whether a caller is a guest, or waits to be one. It is nothing else besides: a connection that is two things would end as
    /// one of them, and stay in the lists as the other.
    pub fn knows(&self, caller: u64) -> bool {
        self.all.iter().any(|guest| guest.id == caller) || self.rivals.iter().any(|rival| rival.newer.id == caller)
    }

    /// Those who wait for another guest's answer.
    pub fn rivals(&self) -> Vec<u64> {
        self.rivals.iter().map(|rival| rival.newer.id).collect()
    }

    /// Whether a caller is on its way to a guest, and nothing more is to be read from it here.
    pub fn is_entering(&self, caller: u64) -> bool {
        self.entering.iter().any(|entering| entering.caller == caller)
    }

    /// Whether somebody waits for this guest's link to take more.
    pub fn is_waited_for(&self, guest: u64) -> bool {
        self.entering.iter().any(|entering| entering.guest == guest)
    }
}

/// What can stand in a path, in a command line that a person is told, and at a terminal that obeys control characters.
fn is_name(name: &[u8]) -> bool {
    let is_short = (1..=MAX_NAME_BYTES).contains(&name.len());
    is_short && !name.starts_with(b"-") && !name.contains(&b'/') && shown(name).as_bytes() == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(id: u64, name: &str) -> Guest {
        Guest { id, name: name.into(), vouched: true, release: "1".into(), returns: false, since_ms: 0, accepted: vec![], rejected: vec![] }
    }

    /// Only by its own word.
    fn claimant(id: u64, name: &str) -> Guest {
        Guest { vouched: false, ..guest(id, name) }
    }

    fn with(all: &[(u64, &str)]) -> Guests {
        let mut guests = Guests::default();
        for (id, name) in all {
            assert_eq!(guests.on_offer(guest(*id, name), 0), Verdict::Welcome(guest(*id, name)));
        }
        guests
    }

    #[test]
    fn a_second_guest_is_refused_while_the_first_answers() {
        let mut guests = with(&[(1, "dev"), (2, "box")]);
        assert_eq!(guests.on_offer(guest(3, "dev"), 10), Verdict::Ask(1));
        assert_eq!((guests.deadline(), guests.silent(10 + PING_MS - 1)), (Some(10 + PING_MS), vec![]));
        let refused = guests.on_pong(1, 5_000);
        assert!(matches!(&refused[..], [(3, refusal)] if refusal.code == Code::Taken && refusal.text.contains("5 s")), "{refused:?}");
        assert_eq!((guests.deadline(), guests.named(b"dev").map(|g| g.id)), (None, Some(1)));
    }

    #[test]
    fn who_only_claims_a_name_gives_way_to_whom_the_host_knows_by_it() {
        let mut guests = Guests::default();
        assert_eq!(guests.on_offer(claimant(1, "dev"), 0), Verdict::Welcome(claimant(1, "dev")));
        assert_eq!(guests.on_offer(claimant(2, "dev"), 0), Verdict::Ask(1), "as good as the first");
        assert!(matches!(guests.on_offer(guest(3, "dev"), 0), Verdict::Replace(1, refusal) if refusal.text.contains("dev itself")));
        assert_eq!(guests.on_gone(1).0, Some(guest(3, "dev")), "before those who came earlier");
        assert!(matches!(guests.on_offer(claimant(4, "dev"), 0), Verdict::Refuse(refusal) if refusal.code == Code::Taken));
    }

    #[test]
    fn a_second_guest_takes_the_place_of_one_that_does_not_answer() {
        let mut guests = with(&[(1, "dev")]);
        guests.entering.push(Entering { caller: 9, guest: 1, directory: None });
        guests.on_offer(guest(3, "dev"), 0);
        guests.on_offer(guest(4, "dev"), 1);
        assert_eq!(guests.silent(PING_MS), [1]);
        assert_eq!(guests.on_gone(1), (Some(guest(3, "dev")), vec![9]));
        assert_eq!(guests.named(b"dev").map(|g| g.id), Some(3));
        assert!(matches!(&guests.on_pong(3, 1)[..], [(4, _)]), "who came third now waits for the second");
    }

    #[test]
    fn names_that_are_none_and_guests_beyond_the_limit_are_refused() {
        for name in ["", "a/b", "a\nb", "\u{9b}31m", "--help", &"x".repeat(256)] {
            assert!(matches!(Guests::default().on_offer(guest(1, name), 0), Verdict::Refuse(r) if r.code == Code::BadRequest), "{name:?}");
        }
        let wanted = |wanted: Vec<String>| Guest { rejected: wanted, ..guest(1, "dev") };
        for wrong in [wanted(vec![String::new(); MAX_WANTED + 1]), wanted(vec!["x".repeat(65)]), Guest { release: "1\u{1b}[2J".into(), ..guest(1, "dev") }] {
            assert!(matches!(Guests::default().on_offer(wrong, 0), Verdict::Refuse(r) if r.code == Code::BadRequest));
        }
        let mut guests = Guests::default();
        for id in 0..MAX_GUESTS as u64 {
            guests.on_offer(guest(id, &format!("box{id}")), 0);
        }
        assert!(matches!(guests.on_offer(guest(999, "more"), 0), Verdict::Refuse(r) if r.code == Code::Busy));
        guests.on_gone(5);
        assert!(matches!(guests.on_offer(guest(999, "more"), 0), Verdict::Welcome(_)));
    }

    #[test]
    fn who_only_claims_a_name_leaves_its_place_to_a_container_where_there_is_none_left() {
        let mut guests = with(&[(1_000, "dev")]);
        for id in 0..MAX_GUESTS as u64 - 1 {
            guests.on_offer(claimant(id, &format!("box{id}")), 0);
        }
        assert!(matches!(guests.on_offer(claimant(1_001, "more"), 0), Verdict::Refuse(r) if r.code == Code::Busy));
        let last = MAX_GUESTS as u64 - 2;
        assert!(matches!(guests.on_offer(guest(1_002, "web"), 0), Verdict::Replace(older, r) if older == last && r.code == Code::Busy));
        assert_eq!(guests.on_gone(last), (Some(guest(1_002, "web")), vec![]));
        assert_eq!((guests.named(b"web").map(|g| g.id), guests.deadline()), (Some(1_002), None));
    }

    #[test]
    fn who_has_gone_does_not_enter_and_is_no_rival() {
        let mut guests = with(&[(1, "dev")]);
        guests.entering.push(Entering { caller: 9, guest: 1, directory: None });
        guests.on_offer(guest(3, "dev"), 0);
        assert!(guests.is_entering(9) && guests.is_waited_for(1));
        assert!(guests.knows(1) && guests.knows(3) && !guests.knows(9));
        guests.on_gone(9);
        guests.on_gone(3);
        assert_eq!((guests.deadline(), guests.is_entering(9), guests.is_waited_for(1)), (None, false, false));
        assert_eq!(guests.on_gone(1), (None, vec![]));
    }
}
