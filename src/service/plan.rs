//! From facts to steps, without I/O.

use crate::checks::unit::UNIT;
use crate::error::{Error, Result, counted};
use crate::service::facts::{Files, Manager, Unit};
use crate::service::step::Step;
use crate::service::unit::{self, Found};
use std::path::{Path, PathBuf};

/// A daemon that answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Daemon {
    pub pid: u32,
    pub running: usize,
    pub release: String,
}

/// All that decides what is to be done.
pub struct Facts {
    pub files: Files,
    pub manager: Manager,
    pub unit_text: Option<String>,
    pub autostart_text: Option<String>,
    /// How many directories were, or are to be, made for the unit, and for the autostart entry.
    pub directories: (usize, usize),
    pub daemon: Option<Daemon>,
    /// Our own release.
    pub release: &'static str,
    /// Files that somebody changed are replaced; theirs are kept beside.
    pub force: bool,
}

/// What to do, in this order.
pub fn install(facts: &Facts) -> Result<Vec<Step>> {
    match &facts.manager {
        Manager::Systemd(unit) => install_unit(facts, unit),
        Manager::Unreachable(why) => Err(Error::new(format!(
            "systemd runs here, and yours does not answer ({why}); log in anew (su and sudo make no session; 'machinectl shell {{you}}@' does), or look at 'systemctl status user@$(id -u)'"
        ))),
        Manager::Desktop => {
            let wanted = unit::autostart(&facts.files.bkt, facts.directories.1)?;
            let mut steps = write(&facts.files.autostart, facts.autostart_text.as_deref(), wanted, facts.force)?;
            if facts.daemon.is_none() {
                steps.push(Step::Start);
            }
            steps.push(Step::Say("the desktop starts it at every login".into()));
            Ok(steps)
        }
        Manager::None => Err(Error::new("nothing was installed: see above")),
    }
}

fn install_unit(facts: &Facts, unit: &Unit) -> Result<Vec<Step>> {
    if unit.enabled == "masked" {
        return Err(Error::new(format!("the unit {UNIT} is masked: nothing may start it; first: systemctl --user unmask {UNIT}; nothing was changed")));
    }
    if let Some(daemon) = &facts.daemon
        && daemon.pid != unit.main_pid
    {
        return Err(Error::new(format!(
            "a daemon that was started by hand is in the way (pid {}, with {}); end it with 'bkt admin daemon stop', then install again; nothing was changed",
            daemon.pid,
            counted(daemon.running, "running command")
        )));
    }
    let mut steps = write(&facts.files.unit, facts.unit_text.as_deref(), unit::unit(&facts.files.bkt, facts.directories.0)?, facts.force)?;
    let changed = !steps.is_empty();
    if changed {
        steps.push(Step::Systemctl(&["daemon-reload"]));
    }
    if unit.enabled != "enabled" {
        steps.push(Step::Systemctl(&["enable", "--quiet", UNIT]));
    }
    if matches!(unit.state.as_str(), "failed" | "activating") {
        // Or it might not be started again so soon.
        steps.push(Step::Systemctl(&["reset-failed", UNIT]));
    }
    match &facts.daemon {
        None => steps.push(Step::Systemctl(&["restart", UNIT])),
        Some(daemon) if changed && daemon.running == 0 => steps.push(Step::Systemctl(&["restart", UNIT])),
        Some(daemon) if changed => {
            let text = format!(
                "the new unit counts from the next start of the daemon; to start it anew now (this ends {}): systemctl --user restart bkt-hostd",
                counted(daemon.running, "command")
            );
            steps.push(Step::Say(text));
        }
        Some(daemon) if daemon.release != facts.release => steps.push(Step::Systemctl(&["reload", UNIT])),
        Some(_) => {}
    }
    steps.push(Step::Verify);
    steps.push(Step::Say(lingering(unit).into()));
    Ok(steps)
}

fn lingering(unit: &Unit) -> &'static str {
    if unit.lingers {
        "it starts with the machine, and stays when you log out (you linger)"
    } else {
        "it starts when you log in, and ends after your last logout; to have it from the machine's start on, whether you are there or not: loginctl enable-linger"
    }
}

/// Puts a file of ours in its place, unless somebody changed the one that is there.
fn write(path: &Path, there: Option<&str>, wanted: String, force: bool) -> Result<Vec<Step>> {
    let write = Step::Write { path: path.to_path_buf(), text: wanted };
    let Step::Write { text: wanted, .. } = &write else { return Ok(vec![]) };
    match unit::judge(there, wanted) {
        Found::Same => Ok(vec![]),
        Found::None | Found::Older => Ok(vec![write]),
        Found::Foreign if force => Ok(vec![Step::KeepAside { path: path.to_path_buf(), as_: aside(path) }, write]),
        Found::Foreign => Err(Error::new(format!(
            "{} was changed by somebody, and stays as it is: put your changes into a drop-in ('systemctl --user edit bkt-hostd'), then install with --force, which keeps this file as {}",
            path.display(),
            aside(path).display()
        ))),
    }
}

/// Where a file goes that is replaced. Not read as a unit or as an autostart entry: the suffix is none of theirs.
pub fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".before-bkt");
    name.into()
}

/// What to do to have none of it, in this order. Nothing to do is no error.
pub fn uninstall(facts: &Facts) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let (of_unit, of_autostart) = facts.directories;
    let files = [
        (&facts.files.unit, &facts.unit_text, unit::unit(&facts.files.bkt, of_unit)?, of_unit),
        (&facts.files.autostart, &facts.autostart_text, unit::autostart(&facts.files.bkt, of_autostart)?, of_autostart),
    ];
    if facts.unit_text.is_some()
        && let Manager::Unreachable(why) = &facts.manager
    {
        return Err(Error::new(format!("the unit cannot be stopped, for your systemd does not answer ({why}); log in anew; nothing was changed")));
    }
    for (path, there, wanted, directories) in files {
        match unit::judge(there.as_deref(), &wanted) {
            Found::None => {}
            Found::Foreign if !facts.force => {
                return Err(Error::new(format!(
                    "{} was changed by somebody, and stays as it is; nothing was changed; with --force it is taken away, and kept as {}",
                    path.display(),
                    aside(path).display()
                )));
            }
            found => {
                if let (Manager::Systemd(_), true) = (&facts.manager, path == &facts.files.unit) {
                    steps.push(Step::Systemctl(&["disable", "--quiet", UNIT]));
                }
                match found {
                    Found::Foreign => steps.push(Step::KeepAside { path: path.clone(), as_: aside(path) }),
                    _ => steps.push(Step::Remove { path: path.clone(), directories }),
                }
            }
        }
    }
    if let Manager::Systemd(unit) = &facts.manager
        && facts.unit_text.is_some()
    {
        // Last: whoever runs this through that very daemon is ended with it.
        if unit.state != "inactive" {
            if let Some(daemon) = facts.daemon.as_ref().filter(|d| d.running > 0) {
                steps.push(Step::Say(ends_with_it(daemon)));
            }
            steps.push(Step::Stop);
        }
        steps.push(Step::Systemctl(&["daemon-reload"]));
    }
    Ok(steps)
}

/// Said before a daemon is stopped.
pub fn ends_with_it(daemon: &Daemon) -> String {
    format!("the daemon is stopped, and with it what it runs: {}", counted(daemon.running, "command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(unit_text: Option<String>, daemon: Option<Daemon>, unit: Unit) -> Facts {
        let files = Files { bkt: "/b/bkt".into(), unit: "/c/u".into(), autostart: "/c/a".into() };
        Facts { files, manager: Manager::Systemd(unit), unit_text, autostart_text: None, directories: (0, 0), daemon, release: "2", force: false }
    }

    fn daemon(running: usize, release: &str) -> Option<Daemon> {
        Some(Daemon { pid: 7, running, release: release.into() })
    }

    fn active() -> Unit {
        Unit { state: "active".into(), main_pid: 7, enabled: "enabled".into(), ..Unit::default() }
    }

    fn has(steps: &[Step], verb: &str) -> bool {
        steps.iter().any(|step| matches!(step, Step::Systemctl(args) if args[0] == verb))
    }

    #[test]
    fn what_is_right_already_is_left_alone() {
        let ours = unit::unit(Path::new("/b/bkt"), 0).unwrap();
        let steps = install(&facts(Some(ours.clone()), daemon(1, "2"), active())).unwrap();
        assert!(matches!(steps[..], [Step::Verify, Step::Say(_)]), "{steps:?}");
        let steps = install(&facts(Some(ours), daemon(1, "1"), active())).unwrap();
        assert!(has(&steps, "reload") && !has(&steps, "restart"), "another version only reloads: {steps:?}");
    }

    #[test]
    fn running_commands_are_not_ended_for_a_new_unit() {
        let older = unit::unit(Path::new("/old/bkt"), 0).unwrap();
        assert!(!has(&install(&facts(Some(older.clone()), daemon(1, "2"), active())).unwrap(), "restart"));
        assert!(has(&install(&facts(Some(older), daemon(0, "2"), active())).unwrap(), "restart"));
    }

    #[test]
    fn a_daemon_of_somebody_else_and_a_changed_unit_are_said_and_left() {
        let error = install(&facts(None, daemon(3, "2"), Unit::default())).unwrap_err().into_text();
        assert!(error.contains("by hand") && error.contains("3 running commands"), "{error}");
        let mut changed = facts(Some("[Service]\n".into()), None, Unit::default());
        assert!(install(&changed).unwrap_err().text.contains("--force"));
        assert!(uninstall(&changed).unwrap_err().text.contains("--force"));
        changed.force = true;
        assert!(matches!(install(&changed).unwrap()[0], Step::KeepAside { .. }));
    }

    #[test]
    fn the_daemon_is_stopped_after_everything_else_is_gone() {
        let ours = unit::unit(Path::new("/b/bkt"), 0).unwrap();
        let steps = uninstall(&facts(Some(ours), daemon(1, "2"), active())).unwrap();
        let at = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
        assert!(at(|s| matches!(s, Step::Remove { .. })) < at(|s| matches!(s, Step::Stop)), "{steps:?}");
        assert_eq!(uninstall(&facts(None, None, Unit::default())).unwrap().len(), 0);
    }
}
