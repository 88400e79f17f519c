//! The daemon's environment against that of the session it serves.

use crate::checks::daemon::{BY_HAND, Starter};
use crate::checks::{Finding, Mend};

/// Starts a daemon that nobody manages anew.
fn again() -> String {
    format!("bkt admin daemon stop; {BY_HAND}")
}

/// `differing` are names that the session has and the daemon has not, or has otherwise.
pub fn fresh(differing: &[&str], starter: Starter) -> Option<Finding> {
    let names = differing.join(" ");
    let mend = match starter {
        Starter::Unit => format!("systemctl --user import-environment {names} && systemctl --user restart bkt-hostd"),
        _ => again(),
    };
    let what = format!("the daemon has not the session's {names}: it was started before it, or elsewhere");
    (!differing.is_empty()).then(|| Finding::warning(what, "commands that want the desktop or the session bus do not find it", Mend::ByHand(mend)))
}

/// `missing` are directories of the session's PATH that the daemon's has not.
pub fn path(missing: &[String], starter: Starter) -> Option<Finding> {
    let what = format!("the daemon's PATH has not {}", missing.join(", "));
    let mend = match starter {
        Starter::Unit => "systemctl --user restart bkt-hostd   # it has the PATH of your login shell: ~/.profile".to_string(),
        _ => again(),
    };
    (!missing.is_empty()).then(|| Finding::warning(what, "commands there are not found from containers", Mend::ByHand(mend)))
}

/// How many bridges this very shell has come through.
pub fn depth(depth: u32, most: u32) -> Option<Finding> {
    let what = format!("this shell has come through {depth} bridges between host and containers; {most} is the end");
    (depth * 2 > most).then(|| Finding::warning(what, "shims that call each other in a circle are stopped there", Mend::ByHand("exit".to_string())))
}

/// A variable of ours that is not understood.
pub fn variable(name: &str, wrong: &str) -> Finding {
    Finding::broken(wrong.to_string(), "shims that find no daemon end with that sentence", Mend::ByHand(format!("unset {name}")))
}

/// The clock is behind the time at which this program was installed, by so many days.
pub fn clock(days_behind: i64) -> Option<Finding> {
    let what = format!("this program was installed {days_behind} days from now: the clock is behind");
    (days_behind > 0).then(|| Finding::warning(what, "the log's times are wrong, and certificates are refused", Mend::ByHand("sudo timedatectl set-ntp true".to_string())))
}

/// `/proc` does not know this process.
pub fn proc_is_there(readable: bool) -> Option<Finding> {
    let why = "the daemon finds neither itself nor its descriptors, and shims do not know themselves";
    (!readable).then(|| Finding::broken("/proc is not mounted, or not for this container".to_string(), why, Mend::ByHand("sudo mount -t proc proc /proc".to_string())))
}
