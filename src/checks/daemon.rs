//! The daemon itself: whether it answers, in which release, with how much room.

use crate::checks::unit::UNIT;
use crate::checks::{Finding, Mend, quoted};
use std::path::Path;

/// Share of the descriptor limit at which a warning is due, in percent.
const CROWDED_PERCENT: u64 = 80;
/// With fewer descriptors a script's worth of pipelines is too much.
const FEW_DESCRIPTORS: u64 = 256;

/// What there is at the socket.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    Running,
    /// The file is there and nobody listens.
    Stale,
    Nothing,
    /// Somebody listens and does not answer as a daemon should: what became of asking, and which process it is.
    Wrong(&'a str, u32),
}

/// What starts the daemon here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Starter {
    /// The unit is installed.
    Unit,
    /// It could be, or does not come up.
    NoUnit,
    /// The unit is not to be started by anybody.
    Masked,
    Hand,
    /// This is the container: it is started on the host.
    Elsewhere,
}

/// Starts a daemon that nobody manages, here and now.
pub const BY_HAND: &str = "bkt-hostd -v --log-file </dev/null >/dev/null 2>&1 &";

pub fn answers(socket: &Path, answer: Answer<'_>, starter: Starter) -> Option<Finding> {
    let at = socket.display();
    let masked = if starter == Starter::Masked { format!(", and the unit {UNIT} is masked") } else { String::new() };
    let start = match starter {
        Starter::Unit => Mend::Run(&["systemctl", "--user", "start", "bkt-hostd"]),
        Starter::NoUnit => Mend::ByHand("bkt admin daemon install".to_string()),
        Starter::Masked => Mend::ByHand(format!("systemctl --user unmask {UNIT} && bkt admin daemon install")),
        Starter::Hand => Mend::ByHand(BY_HAND.to_string()),
        Starter::Elsewhere => Mend::ByHand("systemctl --user start bkt-hostd || bkt-hostd   # on the host".to_string()),
    };
    match answer {
        Answer::Running => None,
        Answer::Stale => Some(Finding::broken(
            format!("the daemon has died and left {at} behind{masked}"),
            "no command of the host runs from a container; the next daemon replaces the socket",
            start,
        )),
        Answer::Nothing => Some(Finding::broken(format!("no daemon is running: there is no {at}{masked}"), "no command of the host runs from a container", start)),
        Answer::Wrong(words, pid) => {
            let mend = if pid == 0 { "bkt admin daemon stop   # on the host".to_string() } else { format!("kill -CONT {pid}   # and if that does not help: kill -KILL {pid}") };
            Some(Finding::broken(words.to_string(), "every shim fails after its deadline", Mend::ByHand(mend)))
        }
    }
}

/// A container that does not see where the daemon would be.
pub fn visible(runtime: &Path, seen: bool) -> Option<Finding> {
    let why = "the daemon's socket is there; without it no command of the host runs from here";
    let path = quoted(runtime);
    let mend = Mend::ByHand(format!("podman run -v {path}:{path} -e XDG_RUNTIME_DIR={path} …   # when the container is made; distrobox and toolbox do so"));
    (!seen).then(|| Finding::broken(format!("the runtime directory {} of the host is not visible in this container", runtime.display()), why, mend))
}

/// Two releases that talk to each other.
pub fn release(who: &str, theirs: &str, ours: &str, mend: Mend) -> Option<Finding> {
    let what = || format!("{who} is version {theirs}, this bkt {ours}: install the same on both sides");
    (theirs != ours).then(|| Finding::warning(what(), "an option or a message of one may be unknown to the other", mend))
}

/// The file that the daemon was started from is no more what is installed.
pub fn outdated(executable: &Path) -> Option<Finding> {
    let path = executable.to_str()?.strip_suffix(" (deleted)")?;
    let mend = Mend::Run(&["bkt", "admin", "daemon", "reload"]);
    Some(Finding::warning(format!("the daemon still runs a file that has been replaced at {path}"), "what the new version mends is not mended yet", mend))
}

/// Whether descriptors are about to run out.
pub fn is_crowded(open: u64, limit: u64) -> bool {
    open * 100 >= limit * CROWDED_PERCENT
}

pub fn descriptors(open: u64, limit: u64) -> Option<Finding> {
    if is_crowded(open, limit) {
        let mend = Mend::ByHand("bkt admin daemon status   # shows what runs".to_string());
        return Some(Finding::warning(format!("{open} of at most {limit} descriptors of the daemon are open"), "further callers will be told to try again", mend));
    }
    let mend = Mend::ByHand(format!("bkt admin daemon stop; prlimit --nofile=4096:4096 {BY_HAND}"));
    (limit < FEW_DESCRIPTORS).then(|| Finding::warning(format!("the daemon may open {limit} descriptors"), "only few commands can run at once", mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_table_is_told_from_a_small_one() {
        assert!(descriptors(10, 4096).is_none());
        assert!(descriptors(3_277, 4096).unwrap().what.contains("are open"));
        assert!(descriptors(10, 64).unwrap().what.contains("may open 64"));
    }

    #[test]
    fn a_replaced_file_is_told_by_the_kernels_words() {
        assert!(outdated(Path::new("/x/bkt")).is_none());
        assert!(outdated(Path::new("/x/bkt (deleted)")).unwrap().what.ends_with("at /x/bkt"));
    }
}
