//! The containers that podman or docker know, running or not. It takes them a tenth of a second to say so, so they are asked where
//! a container is not reached by its guest daemon, and for lists.

use crate::applet::Call;
use crate::client::local;
use crate::error::{Error, Result};
use crate::exit::{self, End};
use crate::paths;
use crate::process::tool::{self, Errors};
use crate::shims::enter::{DESCRIBE, Found, Manager};
use std::io;

/// They wait for each other, where one is just making a container.
const ASK_MS: u64 = 10_000;

/// Of both, as distrobox uses either; toolbox's are podman's.
const MANAGERS: [(&[u8], Manager); 2] = [(b"podman", Manager::Podman), (b"docker", Manager::Docker)];

/// So many are named to who has mistyped one.
const MAX_NAMED: usize = 12;

pub struct Known {
    pub name: String,
    pub id: String,
    /// In one word: `running`, `exited`, `created`, …
    pub state: String,
}

/// All of them, and whether docker is there and gave no answer: it has no daemon then, or none that lets us in. `None` where nobody
/// could be asked, or podman gave no answer.
pub fn known(call: &Call) -> Option<(Vec<Known>, bool)> {
    let shims = paths::shim_directories(&call.invocation);
    let (mut all, mut silent) = (None, false);
    for (program, manager) in MANAGERS {
        match tool::ask(&call.invocation, &shims, &[program, b"ps", b"--all", b"--no-trunc", b"--format", b"{{.ID}}\t{{.State}}\t{{.Names}}"], Errors::Nowhere, ASK_MS) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Ok((End::Code(0), said)) => {
                let all: &mut Vec<Known> = all.get_or_insert_default();
                // A `docker` may be podman by another name.
                for known in read(&said)? {
                    if !all.iter().any(|other| other.id == known.id) {
                        all.push(known);
                    }
                }
            }
            _ if manager == Manager::Podman => return None,
            _ => silent = true,
        }
    }
    all.map(|all| (all, silent))
}

fn read(said: &[u8]) -> Option<Vec<Known>> {
    let text = String::from_utf8_lossy(said);
    let one = |line: &str| {
        let mut fields = line.splitn(3, '\t').map(str::to_string);
        Some(Known { id: fields.next()?, state: word(&fields.next()?), name: fields.next()? })
    };
    text.lines().map(one).collect()
}

/// docker says `running` where podman says `Up 3 minutes`, and `exited` for `Exited (0) 2 hours ago`.
fn word(state: &str) -> String {
    let first = state.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    if first == "up" { "running".to_string() } else { first }
}

/// One container; `None` where nobody could be asked, or has answered in time. Where it is not there, the error says which are, and
/// begins with `name`.
pub fn find(name: &str, container: &str, call: &Call) -> Result<Option<Found>> {
    // Before anything is started: whoever comes through bridge after bridge ends here.
    local::handed_on(name.as_bytes(), &call.invocation, call.op)?;
    let shims = paths::shim_directories(&call.invocation);
    for (program, manager) in MANAGERS {
        let words = [program, b"inspect", b"--type", b"container", b"--format", DESCRIBE.as_bytes(), container.as_bytes()];
        match tool::ask(&call.invocation, &shims, &words, Errors::Nowhere, ASK_MS) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(None),
            Ok((End::Code(0), said)) => {
                if let Some(found) = Found::read(manager, &String::from_utf8_lossy(&said)) {
                    return Ok(Some(found));
                }
            }
            _ => {}
        }
    }
    missing(name, container, call).map_or(Ok(None), Err)
}

/// Why a container cannot be entered: it is not there, as far as they know who could enter it.
fn missing(name: &str, container: &str, call: &Call) -> Option<Error> {
    let (all, silent) = known(call)?;
    if all.iter().any(|known| known.name == container) {
        return None;
    }
    let mut names: Vec<String> = all.iter().take(MAX_NAMED).map(|known| format!("{} ({})", known.name, known.state)).collect();
    if all.len() > MAX_NAMED {
        names.push("and others".to_string());
    }
    let docker = if silent { "; docker does not answer" } else { "" };
    let there = if names.is_empty() { "none is there; distrobox-create, toolbox, podman or docker make one".to_string() } else { format!("there are: {}", names.join(", ")) };
    Some(Error::with_code(format!("{name}: there is no container {container}; {there}{docker}"), exit::NOT_FOUND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_container_and_anything_else_is_no_answer() {
        let all = read(b"0123\trunning\tdev\nabcd\tExited (0) 2 hours ago\tweb\nef01\tUp 3 minutes\tdb\n").unwrap();
        assert_eq!(all.iter().map(|k| [&*k.id, &*k.state, &*k.name].join(" ")).collect::<Vec<_>>(), ["0123 running dev", "abcd exited web", "ef01 running db"]);
        assert!(read(b"").unwrap().is_empty() && read(b"Error: no\n").is_none());
    }
}
