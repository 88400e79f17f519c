//! Whether this is a container, and what it is called.
//!
//! The kernel and the container's runtime know; the environment, which anything may have set, is asked last.
//! May import: floors 0 and 1.

use crate::invocation::Invocation;
use std::fs;
use std::path::Path;

/// Which side we are on, as far as it can be told without a daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Host,
    Container,
}

impl Side {
    /// In sentences and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Side::Host => "host",
            Side::Container => "container",
        }
    }
}

/// What container managers leave behind: podman and buildah, docker, toolbox, flatpak, nspawn and others (container interface of
/// systemd).
const MARKS: &[&str] = &["/run/.containerenv", "/.dockerenv", "/run/.toolboxenv", "/.flatpak-info", "/run/systemd/container", "/run/host/container-manager"];

/// `BKT_SIDE=host|container` decides; else the marks do. An environment variable that anything may have set comes last.
pub fn side(invocation: &Invocation) -> Side {
    match invocation.var("BKT_SIDE") {
        Some(b"host") => return Side::Host,
        Some(b"container") => return Side::Container,
        _ => {}
    }
    let marked = MARKS.iter().any(|mark| fs::symlink_metadata(mark).is_ok());
    if marked || invocation.var("CONTAINER_ID").is_some() || invocation.var("container").is_some() { Side::Container } else { Side::Host }
}

/// The name as the environment claims it, without looking at any file: for the server's log.
pub fn claimed(invocation: &Invocation) -> &'static [u8] {
    invocation.var("CONTAINER_ID").or_else(|| invocation.var("container")).unwrap_or(b"")
}

/// The name, if there is one: as podman wrote it down, as the cgroup is called, as systemd-nspawn names the machine, as distrobox
/// says in the environment.
pub fn name(invocation: &Invocation) -> Option<Vec<u8>> {
    let text = |path: &str| fs::read(path).unwrap_or_default();
    let machine = || (Path::new("/run/host/container-manager").exists() || Path::new("/run/systemd/container").exists()).then(|| text("/proc/sys/kernel/hostname"));
    of_runtime(&text("/run/.containerenv"))
        .or_else(|| of_cgroup(&text("/proc/self/cgroup")))
        .or_else(|| of_toolbox(invocation))
        .or_else(|| invocation.var("CONTAINER_ID").map(<[u8]>::to_vec))
        .or_else(|| machine().map(|name| name.trim_ascii().to_vec()))
        .filter(|name| !name.is_empty())
}

/// podman's `/run/.containerenv`, which is empty in a container without privileges: `name="dev"`.
fn of_runtime(text: &[u8]) -> Option<Vec<u8>> {
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"name="))?;
    Some(line.iter().copied().filter(|b| *b != b'"').collect())
}

/// The last part of the cgroup's path that a container's manager has named. Of an id, the twelve digits that are shown to people.
fn of_cgroup(text: &[u8]) -> Option<Vec<u8>> {
    let parts = text.split(|b| matches!(*b, b'\n' | b'/'));
    parts.filter_map(of_cgroup_part).next_back().map(<[u8]>::to_vec)
}

fn of_cgroup_part(part: &[u8]) -> Option<&[u8]> {
    let between = |before: &str, after: &str| part.strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes());
    let is_id = |id: &&[u8]| id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit);
    let id = [between("libpod-", ".scope"), between("libpod-", ""), between("docker-", ".scope"), Some(part)].into_iter().flatten().find(is_id);
    let named = [between("lxc.payload.", ""), between("systemd-nspawn@", ".service"), between("machine-", ".scope")];
    id.map(|id| &id[..12]).or_else(|| named.into_iter().flatten().next())
}

/// toolbox says so only by a file and the name in its prompt; what remains is the hostname it sets.
fn of_toolbox(invocation: &Invocation) -> Option<Vec<u8>> {
    let hostname = invocation.var("HOSTNAME").filter(|_| Path::new("/run/.toolboxenv").exists())?;
    (hostname != b"toolbx" && hostname != b"toolbox").then(|| hostname.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_has_written_the_name_down() {
        assert_eq!(of_runtime(b"engine=\"podman-4.3.1\"\nname=\"dev\"\nid=\"12\"\n"), Some(b"dev".to_vec()));
        assert_eq!(of_runtime(b""), None);
    }

    #[test]
    fn a_cgroup_names_its_container() {
        let id = "0123456789abcdef".repeat(4);
        let table = [
            (format!("0::/user.slice/libpod-{id}.scope/container\n"), Some("0123456789ab")),
            (format!("0::/machine.slice/libpod-conmon-{id}.scope\n"), None),
            (format!("12:cpu:/docker/{id}\n0::/docker/{id}\n"), Some("0123456789ab")),
            (format!("0::/system.slice/docker-{id}.scope\n"), Some("0123456789ab")),
            ("0::/machine.slice/systemd-nspawn@box.service/payload\n".into(), Some("box")),
            ("0::/lxc.payload.web/init.scope\n".into(), Some("web")),
            ("0::/\n".into(), None),
            ("0::/user.slice/user-1000.slice/session-2.scope\n".into(), None),
        ];
        for (text, expected) in table {
            assert_eq!(of_cgroup(text.as_bytes()), expected.map(|name| name.as_bytes().to_vec()), "{text}");
        }
    }

    fn with(env: &[&'static std::ffi::CStr]) -> Invocation {
        Invocation { env: env.to_vec(), ..Invocation::default() }
    }

    #[test]
    fn the_side_can_be_said_outright() {
        assert_eq!(side(&with(&[c"BKT_SIDE=container"])), Side::Container);
        assert_eq!(side(&with(&[c"BKT_SIDE=host", c"container=podman"])), Side::Host);
        assert_eq!(side(&with(&[c"container=podman"])), Side::Container);
    }
}
