//! Where things are: decided from the environment handed in, without looking at the disk.
//!
//! May import: floor 0.

use crate::invocation::Invocation;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The host's root inside distrobox and toolbox containers.
pub const HOST_ROOT: &str = "/run/host";

/// The socket's name below the directory of the same name in the runtime directory.
const SOCKET: &str = "bkt/host.sock";

/// The last part of that.
const SOCKET_NAME: &str = "host.sock";

/// The directory in which the socket usually is, and nothing else: ours to make private and to remove.
const SOCKET_DIRECTORY: &str = "bkt";

/// The directory that a command runs in when its own does not exist here: beside the socket, empty, mode 0500.
const REFUGE: &str = "nowhere";

/// What is appended to the socket's name for the directory of files that were handed over.
const HANDED: &str = ".files";

/// The runtime directory, `$XDG_RUNTIME_DIR` or its usual place (XDG Base Directory Specification; pam_systemd(8)).
pub fn runtime_directory(invocation: &Invocation, user: u32) -> PathBuf {
    match invocation.var("XDG_RUNTIME_DIR") {
        Some(bytes) if bytes.starts_with(b"/") => PathBuf::from(OsStr::from_bytes(bytes)),
        _ => PathBuf::from(format!("/run/user/{user}")),
    }
}

/// Where the daemon listens: `$BKT_SOCKET`, else `bkt/host.sock` in the runtime directory.
pub fn server_socket(invocation: &Invocation, user: u32) -> PathBuf {
    match invocation.var("BKT_SOCKET") {
        Some(path) => PathBuf::from(OsStr::from_bytes(path)),
        None => runtime_directory(invocation, user).join(SOCKET),
    }
}

/// Where a client looks for the daemon, in order: as the daemon would, then where containers show the host's directory.
pub fn client_sockets(invocation: &Invocation, user: u32) -> Vec<PathBuf> {
    let first = server_socket(invocation, user);
    if invocation.var("BKT_SOCKET").is_some() {
        return vec![first];
    }
    let usual = PathBuf::from(format!("/run/user/{user}")).join(SOCKET);
    let below_host = Path::new(HOST_ROOT).join(usual.strip_prefix("/").unwrap_or(&usual));
    let mut all = vec![first];
    for path in [usual, below_host, Path::new("/run/host-user").join(SOCKET)] {
        if !all.iter().any(|known: &PathBuf| known.as_os_str() == path.as_os_str()) {
            all.push(path);
        }
    }
    all
}

/// Whether a directory is by its name the socket's own.
pub fn is_socket_directory(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name == SOCKET_DIRECTORY)
}

/// The empty directory beside the daemon's socket.
pub fn refuge(socket: &Path) -> PathBuf {
    socket.parent().unwrap_or(Path::new("/")).join(REFUGE)
}

/// Where files lie that were handed over to this side's programs: beside the socket, and named after it.
pub fn handed(socket: &Path) -> PathBuf {
    let mut name = socket.file_name().unwrap_or_default().to_os_string();
    name.push(HANDED);
    socket.with_file_name(name)
}

/// A container's own socket: in a directory that holds nothing else, to be mounted there in the place of the daemon's.
pub fn container_socket(socket: &Path, name: &str) -> PathBuf {
    container_sockets(socket).join(name).join(SOCKET_NAME)
}

/// The directory of those directories: beside the daemon's socket and, where that has not its usual name, named after it.
pub fn container_sockets(socket: &Path) -> PathBuf {
    match socket.file_name() {
        Some(name) if name != SOCKET_NAME => {
            let mut name = name.to_os_string();
            name.push(".containers");
            socket.with_file_name(name)
        }
        _ => socket.with_file_name("containers"),
    }
}

/// Where guest daemons have what is theirs that may not write to `/run`: in the socket's directory, as their containers see it.
pub fn guests(directory: &Path) -> PathBuf {
    directory.join("guests")
}

/// Directories that hold nothing but shims: never searched for a command to run.
pub fn shim_directories(invocation: &Invocation) -> Vec<PathBuf> {
    data_directory(invocation).into_iter().map(|data| data.join("shims")).collect()
}

/// What people write for us: `$XDG_CONFIG_HOME/bkt`. Like the next two, `None` without a home.
pub fn config_directory(invocation: &Invocation) -> Option<PathBuf> {
    base(invocation, "XDG_CONFIG_HOME", ".config")
}

/// What the daemon's callers may have.
pub fn policy_file(invocation: &Invocation) -> Option<PathBuf> {
    config_directory(invocation).map(|directory| directory.join("policy.json"))
}

/// What we make for others to use: `$XDG_DATA_HOME/bkt`.
pub fn data_directory(invocation: &Invocation) -> Option<PathBuf> {
    base(invocation, "XDG_DATA_HOME", ".local/share")
}

/// What we remember: `$XDG_STATE_HOME/bkt`.
pub fn state_directory(invocation: &Invocation) -> Option<PathBuf> {
    base(invocation, "XDG_STATE_HOME", ".local/state")
}

/// Where a daemon that has no journal keeps its log (`--log-file`).
pub fn log_file(invocation: &Invocation) -> Option<PathBuf> {
    state_directory(invocation).map(|directory| directory.join("hostd.log"))
}

/// Where a log file is put when it has become large.
pub fn old_log(file: &Path) -> PathBuf {
    let mut old = file.as_os_str().to_os_string();
    old.push(".old");
    old.into()
}

/// The file by which logind knows a user whose services outlive the last session, loginctl(1).
pub fn linger_mark(invocation: &Invocation) -> Option<PathBuf> {
    let user = invocation.var("USER").or_else(|| invocation.var("LOGNAME")).filter(|user| !user.contains(&b'/'))?;
    Some(Path::new("/var/lib/systemd/linger").join(OsStr::from_bytes(user)))
}

/// A directory of ours below one of the XDG Base Directory Specification, which counts only if it is absolute.
fn base(invocation: &Invocation, variable: &str, below_home: &str) -> Option<PathBuf> {
    let below = match invocation.var(variable) {
        Some(path) if path.starts_with(b"/") => PathBuf::from(OsStr::from_bytes(path)),
        _ => home(invocation)?.join(below_home),
    };
    Some(below.join("bkt"))
}

/// `$HOME`, if it is absolute.
pub fn home(invocation: &Invocation) -> Option<PathBuf> {
    invocation.var("HOME").filter(|home| home.starts_with(b"/")).map(|home| PathBuf::from(OsStr::from_bytes(home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[&'static std::ffi::CStr]) -> Invocation {
        Invocation { env: env.to_vec(), ..Invocation::default() }
    }

    #[test]
    fn the_socket_is_in_the_runtime_directory_unless_it_is_named() {
        assert_eq!(server_socket(&with(&[c"XDG_RUNTIME_DIR=/r"]), 7), Path::new("/r/bkt/host.sock"));
        assert_eq!(server_socket(&with(&[c"XDG_RUNTIME_DIR=relative"]), 7), Path::new("/run/user/7/bkt/host.sock"));
        assert_eq!(server_socket(&with(&[c"BKT_SOCKET=/s"]), 7), Path::new("/s"));
        assert_eq!(client_sockets(&with(&[c"BKT_SOCKET=/s"]), 7), [Path::new("/s")]);
        assert_eq!(container_socket(Path::new("/r/bkt/host.sock"), "dev"), Path::new("/r/bkt/containers/dev/host.sock"));
        assert_eq!(container_socket(Path::new("/tmp/s"), "dev"), Path::new("/tmp/s.containers/dev/host.sock"));
        let all = client_sockets(&with(&[c"XDG_RUNTIME_DIR=/run/user/7"]), 7);
        assert_eq!(all[..2], [Path::new("/run/user/7/bkt/host.sock"), Path::new("/run/host/run/user/7/bkt/host.sock")]);
    }
}
