//! Files that others could use against us, or that we cannot read.

use crate::checks::{Finding, Mend, quoted};
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

const PRIVATE: &str = "whoever can write there could put a socket of theirs in our place";

/// The socket's directory. `own_purpose` says that it is for nothing else, so that its modes are ours to change.
pub fn directory(path: &Path, about: &Metadata, own_purpose: bool, user: u32) -> Option<Finding> {
    let (at, modes) = (path.display(), about.mode() & 0o7777);
    if about.uid() != user {
        let what = format!("{at} belongs to uid {}, not to us (uid {user})", about.uid());
        return Some(Finding::broken(what, PRIVATE, Mend::ByHand(format!("sudo chown {user} {}", quoted(path)))));
    }
    let tighter = Mend::Modes(path.to_path_buf(), if own_purpose { 0o700 } else { modes & !0o022 });
    if !own_purpose {
        // It has another purpose, perhaps: /tmp, or a home. Not ours to change.
        let mend = Mend::ByHand(tighter.command());
        return (modes & 0o022 != 0).then(|| Finding::broken(format!("others may write to {at} (mode {modes:o})"), PRIVATE, mend));
    }
    (modes & 0o077 != 0).then(|| Finding::warning(format!("{at} has mode {modes:o}, not 700"), PRIVATE, tighter))
}

/// The kernel's word for a user that has no number in here, user_namespaces(7).
const NOBODY: u32 = 65_534;

/// In a container, the socket of somebody else: nothing is wrong with it, and it is not to be touched. docker's containers run as
/// root where nothing else is said.
pub fn anothers(path: &Path, owner: u32, user: u32) -> Finding {
    let mend = match owner {
        NOBODY => "podman run --userns=keep-id …   # when the container is made".to_string(),
        owner => format!("docker exec --user {owner} …   # or podman; --user is an option of run, too"),
    };
    let what = format!("{} belongs to uid {owner}, and in this container we are uid {user}", path.display());
    Finding::broken(what, "the daemon serves its own user: no command of the host runs from here", Mend::ByHand(mend))
}

/// The socket's file.
pub fn socket(path: &Path, about: &Metadata, user: u32) -> Option<Finding> {
    let (at, modes) = (path.display(), about.mode() & 0o7777);
    if !about.file_type().is_socket() {
        let mend = Mend::ByHand(format!("mv {0} {0}.old", quoted(path)));
        return Some(Finding::broken(format!("{at} exists and is no socket; it is left as it is"), "the daemon cannot listen there; BKT_SOCKET names another place", mend));
    }
    if about.uid() != user {
        let mend = Mend::ByHand(format!("sudo rm {}", quoted(path)));
        return Some(Finding::broken(format!("{at} belongs to uid {}, not to us (uid {user})", about.uid()), "somebody else's daemon would get our commands", mend));
    }
    let tighter = Mend::Modes(path.to_path_buf(), 0o600);
    (modes & 0o077 != 0).then(|| Finding::warning(format!("{at} has mode {modes:o}, not 600"), "others may call the daemon; it refuses them, but they cost it time", tighter))
}

/// The modes of a container's own socket: its directory's and its file's. Where the container's users have other ids outside, both
/// must let them in; others do not come so far, since the directory above is closed to them, and a mount is what leads past it.
pub fn container_modes(mapped: bool) -> (u32, u32) {
    if mapped { (0o711, 0o666) } else { (0o700, 0o600) }
}

/// A container's own socket, or its directory.
pub fn of_container(path: &Path, about: Option<&Metadata>, mode: u32) -> Option<Finding> {
    let found = about.map(|about| about.mode() & 0o7777);
    let what = match found {
        Some(found) if found == mode => return None,
        Some(found) => format!("{} has mode {found:o}, not {mode:o}", path.display()),
        None => format!("{} is not there", path.display()),
    };
    Some(Finding::warning(what, "the container whose own it is cannot call the host, or others can", Mend::Run(&["bkt", "admin", "daemon", "reload"])))
}

/// The empty directory for commands that have none.
pub fn refuge(path: &Path, about: &Metadata, mode: u32) -> Option<Finding> {
    let modes = about.mode() & 0o7777;
    let what = format!("{} has mode {modes:o}, not {mode:o}", path.display());
    (modes != mode).then(|| Finding::warning(what, "commands whose directory is missing here run in it, and must not leave anything there", Mend::Modes(path.to_path_buf(), mode)))
}

/// A document that a person writes; `wrong` says what is wrong with it, with its place.
pub fn document(path: &Path, wrong: &str, why: &'static str) -> Finding {
    let line = wrong.rsplit_once(".json:").and_then(|(_, rest)| rest.split(':').next()).filter(|line| line.bytes().all(|b| b.is_ascii_digit()));
    let mend = format!("${{EDITOR:-vi}} {}{}", line.map_or_else(String::new, |line| format!("+{line} ")), quoted(path));
    Finding::broken(wrong.to_string(), why, Mend::ByHand(mend))
}

/// The policy's text as the daemon read it and as it is now, as their stamps; 0 is none.
pub fn policy_in_force(path: &Path, read: u64, now: u64) -> Option<Finding> {
    let what = match (read, now) {
        _ if read == now => return None,
        (0, _) => format!("{} came after the daemon had started, and is not in force", path.display()),
        (_, 0) => format!("{} is gone, and still in force", path.display()),
        _ => format!("{} has been changed since the daemon read it", path.display()),
    };
    Some(Finding::warning(what, "what callers may run is not what the file says", Mend::Run(&["bkt", "admin", "daemon", "reload"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_document_is_opened_at_its_line() {
        let found = document(Path::new("/h/policy.json"), "/h/policy.json:3:7: unknown field", "");
        assert_eq!(found.mend.command(), "${EDITOR:-vi} +3 /h/policy.json");
        let found = document(Path::new("/h/policy.json"), "/h/policy.json is not a file", "");
        assert_eq!(found.mend.command(), "${EDITOR:-vi} /h/policy.json");
    }

    #[test]
    fn a_policy_that_is_not_in_force_is_told_by_its_stamp() {
        let found = |read, now| policy_in_force(Path::new("/p"), read, now).map(|f| f.what);
        assert_eq!((found(0, 0), found(7, 7)), (None, None));
        assert!(found(0, 7).unwrap().contains("not in force") && found(7, 0).unwrap().contains("is gone") && found(7, 8).unwrap().contains("changed"));
    }
}
