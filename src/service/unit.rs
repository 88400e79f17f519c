//! The files that make a service manager start the daemon: their texts, and whether somebody has changed one.

use crate::document::stamp;
use crate::error::{Error, Result};
use std::path::Path;

/// What stands before the sum in the first line of each file.
const SUM: &str = "sum ";

/// And before the number of directories that were made for it.
const DIRECTORIES: &str = "directories made for it: ";

/// The unit of the user's systemd, for an executable. `directories` were made for it, and go with it.
pub fn unit(bkt: &Path, directories: usize) -> Result<String> {
    let bkt = quoted(bkt)?;
    Ok(signed(
        directories,
        &format!(
            "\
# What you want otherwise belongs into a drop-in, which stays: systemctl --user edit bkt-hostd

[Unit]
Description=bkt: the host's commands for this user's containers
Documentation=man:bkt-hostd(8) man:bkt(1)

[Service]
# Ready when it listens. A reload executes its binary anew, in place: no running command notices.
Type=notify
ExecStart={bkt} bkt-hostd -v --login-environment
ExecReload={bkt} admin daemon reload
# After a crash. Commands are hung up on then; those meant to outlive their callers live on.
Restart=on-failure
RestartSec=1
# At its end the daemon ends its commands by itself (TERM, 5 s later KILL). What a command left behind on purpose, as xdg-open
# leaves a browser, is nobody's command any more, and is not to die of a restart.
KillMode=process
TimeoutStopSec=15
# A cgroup for each command; one that runs out of memory takes neither the others nor the daemon with it.
Delegate=yes
OOMPolicy=continue
# Should it crash, what lives on in those cgroups must not keep the next one from being started.
ExecStopPost=-{bkt} bkt-hostd --give-back-cgroup
# No sandboxing: all commands would inherit it. NoNewPrivileges= breaks sudo, PrivateTmp= and ProtectSystem= hide files,
# RestrictNamespaces= breaks podman and flatpak, SystemCallFilter= and MemoryDenyWriteExecute= whatever they do not expect.

[Install]
WantedBy=default.target
"
        ),
    ))
}

/// The entry of a desktop's autostart, for an executable.
pub fn autostart(bkt: &Path, directories: usize) -> Result<String> {
    Ok(signed(
        directories,
        &format!(
            "\
[Desktop Entry]
Type=Application
Name=bkt-hostd
Comment=Runs the host's commands for this user's containers
Exec={} bkt-hostd -v --log-file
Terminal=false
NoDisplay=true
",
            quoted(bkt)?
        ),
    ))
}

/// What to do by hand where nothing is known that could start it.
pub fn by_hand(bkt: &Path) -> String {
    let bkt = bkt.display();
    format!(
        "\
Neither systemd nor a desktop was found here that could start the daemon at login. What can:

  you, now       {bkt} bkt-hostd -v --log-file </dev/null >/dev/null 2>&1 &
  your login     a line in ~/.profile:
                   {bkt} admin daemon status >/dev/null || setsid {bkt} bkt-hostd -v --log-file </dev/null >/dev/null 2>&1 &
  runit          ~/service/bkt-hostd/run, made executable, below a runsvdir of yours:
                   #!/bin/sh
                   exec {bkt} bkt-hostd -v --login-environment --log-file
  openrc 0.60    ~/.config/rc/init.d/bkt-hostd, made executable, then 'rc-update --user add bkt-hostd default':
                   #!/sbin/openrc-run
                   supervisor=supervise-daemon
                   command={bkt}
                   command_args=\"bkt-hostd -v --login-environment --log-file\"

XDG_RUNTIME_DIR must be the same for it and for your containers.
"
    )
}

/// A word for `Exec=` lines of systemd and of desktop entries: both know double quotes, backslashes and `%%`.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| Error::new(format!("{} cannot stand in a unit: move the executable to a path of plain text", path.display())))?;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' => out.push_str("%%"),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

/// The text with a first line that says who wrote it, and its sum, so that a change by somebody else can be seen.
fn signed(directories: usize, body: &str) -> String {
    let made = if directories == 0 { String::new() } else { format!("{DIRECTORIES}{directories}; ") };
    format!("# Written by bkt; {made}{SUM}{:016x}\n{body}", stamp(body))
}

/// How many directories were made for a file of ours, as it says itself.
pub fn directories(text: &str) -> usize {
    let digit = || text.split_once(DIRECTORIES)?.1.chars().next()?.to_digit(10);
    digit().unwrap_or(0) as usize
}

/// What a file is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    None,
    /// As it would be written now.
    Same,
    /// Written by us, by another version or for another path, and left as it was.
    Older,
    /// Changed, or made, by somebody else.
    Foreign,
}

pub fn judge(there: Option<&str>, wanted: &str) -> Found {
    let Some(there) = there else { return Found::None };
    if there == wanted {
        return Found::Same;
    }
    let ours = there.split_once('\n').is_some_and(|(first, body)| first.rsplit_once(SUM).is_some_and(|(_, hex)| u64::from_str_radix(hex, 16) == Ok(stamp(body))));
    if ours { Found::Older } else { Found::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_by_hand_is_seen_and_an_older_text_of_ours_is_known() {
        let (old, new) = (unit(Path::new("/old/bkt"), 2).unwrap(), unit(Path::new("/new/bkt"), 0).unwrap());
        assert_eq!(judge(None, &new), Found::None);
        assert_eq!(judge(Some(&new), &new), Found::Same);
        assert_eq!(judge(Some(&old), &new), Found::Older);
        assert_eq!(judge(Some(&old.replace("RestartSec=1", "RestartSec=2")), &new), Found::Foreign);
        assert_eq!(judge(Some(""), &new), Found::Foreign);
        assert_eq!((directories(&old), directories(&new), directories("")), (2, 0, 0));
    }

    #[test]
    fn a_path_stands_in_a_unit_as_one_word() {
        assert_eq!(quoted(Path::new("/a b/100%\"")).unwrap(), "\"/a b/100%%\\\"\"");
        assert!(quoted(Path::new("/a\nb")).unwrap_err().text.contains("cannot stand in a unit"));
    }
}
