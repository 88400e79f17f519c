//! The systemd user unit, in the words of `systemctl --user is-enabled` and `is-active`.

use crate::checks::{Finding, Mend};

/// The unit that we install, which says `Delegate=yes`.
pub const UNIT: &str = "bkt-hostd.service";

/// What the service manager says.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    pub enabled: &'a str,
    pub active: &'a str,
    /// A daemon answers at the socket, and whether a service manager started it.
    pub running: bool,
    pub supervised: bool,
}

pub fn judge(unit: Unit<'_>) -> Option<Finding> {
    match (unit.enabled, unit.active) {
        ("", _) => None,
        ("not-found", _) => {
            let why = "the daemon is not there after the next login";
            Some(Finding::warning(format!("the unit {UNIT} is not installed"), why, Mend::ByHand("bkt admin daemon install".to_string())))
        }
        (enabled, _) if is_masked(enabled) => Some(Finding::broken(
            format!("the unit {UNIT} is masked"),
            "once it has ended, the daemon cannot be started again",
            Mend::ByHand(format!("systemctl --user unmask {UNIT}")),
        )),
        (_, "failed") if !unit.running => {
            // Which also has systemd forget how often it has tried: a plain start might be refused.
            let mend = Mend::Run(&["bkt", "admin", "daemon", "install"]);
            Some(Finding::broken(format!("the unit {UNIT} has failed; 'bkt log' says why"), "the service manager has given it up", mend))
        }
        ("disabled", _) => {
            Some(Finding::warning(format!("the unit {UNIT} is not enabled"), "the daemon is not there after the next login", Mend::Run(&["systemctl", "--user", "enable", UNIT])))
        }
        (_, active) if active != "active" && unit.running && !unit.supervised => {
            let mend = Mend::ByHand("bkt admin daemon stop && bkt admin daemon install".to_string());
            Some(Finding::warning(
                format!("a daemon runs that was started by hand; the unit {UNIT} is {active}"),
                "nobody starts it again when it ends, and its log is not in the journal",
                mend,
            ))
        }
        _ => None,
    }
}

/// Whether nobody may start it.
pub fn is_masked(enabled: &str) -> bool {
    enabled.starts_with("masked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_the_unit_has_its_command() {
        let judged = |enabled, active, running, supervised| judge(Unit { enabled, active, running, supervised }).map(|f| f.mend.command());
        let mend = |enabled, active, supervised| judged(enabled, active, true, supervised);
        assert_eq!(mend("enabled", "active", true), None);
        assert_eq!(mend("", "", false), None, "no service manager");
        assert_eq!(mend("not-found", "inactive", false).unwrap(), "bkt admin daemon install");
        assert_eq!(mend("disabled", "active", true).unwrap(), "systemctl --user enable bkt-hostd.service");
        assert_eq!(mend("masked", "inactive", false).unwrap(), "systemctl --user unmask bkt-hostd.service");
        assert_eq!(judged("enabled", "failed", false, false).unwrap(), "bkt admin daemon install");
        assert_eq!(mend("enabled", "failed", false).unwrap(), "bkt admin daemon stop && bkt admin daemon install");
        assert_eq!(mend("enabled", "inactive", false).unwrap(), "bkt admin daemon stop && bkt admin daemon install");
    }
}
