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

/// The name, if there is one: as podman wrote it down, as the cgroup is called, as distrobox says in the environment, by the id
/// in what is mounted, as systemd-nspawn names the machine.
pub fn name(invocation: &Invocation) -> Option<Vec<u8>> {
    let text = |path: &str| fs::read(path).unwrap_or_default();
    let machine = || Path::new("/run/host/container-manager").exists() || Path::new("/run/systemd/container").exists();
    of_runtime(&text("/run/.containerenv"))
        .or_else(|| of_cgroup(&text("/proc/self/cgroup")))
        .or_else(|| invocation.var("CONTAINER_ID").map(<[u8]>::to_vec))
        .or_else(|| of_mounts(&text("/proc/self/mountinfo")))
        .or_else(|| machine().then(hostname))
        .filter(|name| !name.is_empty())
}

/// What the kernel calls this machine, proc_sys_kernel(5).
pub fn hostname() -> Vec<u8> {
    fs::read("/proc/sys/kernel/hostname").unwrap_or_default().trim_ascii().to_vec()
}

/// podman's `/run/.containerenv`, which is empty in a container without privileges: `name="dev"`.
fn of_runtime(text: &[u8]) -> Option<Vec<u8>> {
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"name="))?;
    Some(line.iter().copied().filter(|b| *b != b'"').collect())
}

/// The last part of the cgroup's path that a container's manager has named. Of an id, the twelve digits that are shown to people.
fn of_cgroup(text: &[u8]) -> Option<Vec<u8>> {
    named_parts(text).next_back().map(|name| name[..if is_id(name) { SHOWN_DIGITS } else { name.len() }].to_vec())
}

/// The container of another process, by the text of its cgroup as this side sees it and by that of our own: the id, or the name, of
/// the outermost container that we are not in ourselves. The outermost, since below it the container makes what names it likes.
pub fn of_other(theirs: &[u8], ours: &[u8]) -> Option<Vec<u8>> {
    let ours: Vec<&[u8]> = named_parts(ours).collect();
    named_parts(theirs).find(|name| !ours.contains(name)).map(<[u8]>::to_vec)
}

/// How many digits of an id are shown to people.
pub const SHOWN_DIGITS: usize = 12;

/// An id, as podman and docker give them.
pub fn is_id(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit)
}

/// What people are shown of one, and what docker's containers are called here: their names docker alone knows.
pub fn is_short_id(name: &[u8]) -> bool {
    name.len() == SHOWN_DIGITS && name.iter().all(u8::is_ascii_hexdigit)
}

fn named_parts(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(|b| matches!(*b, b'\n' | b'/')).filter_map(of_cgroup_part)
}

fn of_cgroup_part(part: &[u8]) -> Option<&[u8]> {
    let between = |before: &str, after: &str| part.strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes());
    let ids = [between("libpod-", ".scope"), between("libpod-", ""), between("docker-", ".scope"), Some(part)];
    let named = [between("lxc.payload.", ""), between("systemd-nspawn@", ".service"), between("machine-", ".scope")];
    ids.into_iter().flatten().find(|id| is_id(id)).or_else(|| named.into_iter().flatten().next())
}

/// docker and podman mount `/etc/hostname` and others from a directory of the container's, named by its id. It is seen where
/// the cgroup has a namespace of its own, as both have it with cgroups v2, and is `/` in there, cgroup_namespaces(7).
fn of_mounts(text: &[u8]) -> Option<Vec<u8>> {
    let mounted = text.split(|b| *b == b'\n').find(|line| line.split(|b| *b == b' ').nth(4) == Some(b"/etc/hostname"))?;
    mounted.split(|b| matches!(*b, b' ' | b'/')).find(|part| is_id(part)).map(|id| id[..SHOWN_DIGITS].to_vec())
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

    #[test]
    fn where_the_cgroup_says_nothing_a_mount_has_the_id() {
        let id = "0123456789abcdef".repeat(4);
        let root = "561 420 254:0 / / rw - ext4 /dev/vda rw\n";
        for path in [
            format!("/var/lib/docker/containers/{id}/hostname"),
            format!("/containers/vfs-containers/{id}/userdata/hostname"),
            format!("/overlay-containers/{id}/userdata/hostname"),
        ] {
            assert_eq!(of_mounts(format!("{root}562 561 254:0 {path} /etc/hostname rw - ext4 /dev/vda rw\n").as_bytes()), Some(b"0123456789ab".to_vec()));
        }
        assert_eq!(of_mounts(format!("{root}562 561 254:0 /srv/{id} /data rw - ext4 /dev/vda rw\n").as_bytes()), None, "a volume may have any name");
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

    #[test]
    fn another_container_is_the_outermost_that_we_are_not_in() {
        let (id, other) = ("0123456789abcdef".repeat(4), "ab".repeat(32));
        let theirs = format!("0::/machine.slice/systemd-nspawn@box.service/payload/libpod-{id}.scope/libpod-{other}.scope\n");
        let of = |theirs: &str, ours: &str| of_other(theirs.as_bytes(), ours.as_bytes()).map(|name| String::from_utf8(name).unwrap());
        assert_eq!(of(&theirs, "0::/user.slice\n").as_deref(), Some("box"));
        assert_eq!(of(&theirs, "0::/machine.slice/systemd-nspawn@box.service/payload/init.scope\n"), Some(id));
        assert_eq!(of("0::/user.slice\n", "0::/user.slice\n"), None);
    }
}
