//! How a `distrobox` shim gets to its program: decided here, without I/O; what is decided is executed as it stands.
//!
//! | the shim runs | it |
//! |---|---|
//! | in the program's own container | becomes the program |
//! | on the host | enters the container: [`entering`] |
//! | in another container | runs itself on the host, through the daemon |

use crate::process::environment;
use crate::quoted::quoted;
use std::ffi::{CStr, CString};

/// Which side this process is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inside<'a> {
    Host,
    /// A container, by its name where that can be told.
    Container(Option<&'a [u8]>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Here,
    ThroughHost,
    Enter,
}

/// The way to a program of that container. Where no container is named, any will do: the home and with it the program are the
/// same in all of them.
pub fn way(container: Option<&str>, inside: Inside<'_>) -> Way {
    match (inside, container) {
        (Inside::Host, _) => Way::Enter,
        (Inside::Container(_), None) => Way::Here,
        (Inside::Container(name), Some(wanted)) if name == Some(wanted.as_bytes()) => Way::Here,
        (Inside::Container(_), Some(_)) => Way::ThroughHost,
    }
}

/// Whose command says what there is, and enters it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manager {
    Podman,
    Docker,
}

/// Who has made a container, and knows when it is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maker {
    Distrobox,
    Toolbox,
    /// Podman or docker by hand, compose and others: it is ready when it runs.
    Other,
}

/// A container, as its manager describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub manager: Manager,
    pub maker: Maker,
    pub runs: bool,
    pub id: String,
}

/// What is asked of a manager for [`Found`]: distrobox puts a label on its containers, toolbox runs itself in them. Its label
/// is its images', and in all that others make of these.
pub const DESCRIBE: &str = "{{.ID}} {{.State.Running}} {{.Path}} {{index .Config.Labels \"manager\"}}";

impl Found {
    /// The answer to [`DESCRIBE`].
    pub fn read(manager: Manager, said: &str) -> Option<Found> {
        let mut words = said.trim_end_matches('\n').splitn(3, ' ');
        let (id, runs, rest) = (words.next()?, words.next()? == "true", words.next()?);
        let maker = match rest {
            rest if rest.ends_with(" distrobox") => Maker::Distrobox,
            rest if rest.starts_with("toolbox ") => Maker::Toolbox,
            _ => Maker::Other,
        };
        Some(Found { manager, maker, runs, id: id.to_string() })
    }
}

/// The programs that enter a container, best first, as they are looked up. distrobox-enter is for those of distrobox: of another one
/// that is stopped it waits for ever to hear that it is ready. It refuses to serve root. `None` is a container of which podman
/// and docker could tell nothing, because neither is there, or has answered.
pub fn tools(found: Option<&Found>, user: u32) -> &'static [&'static CStr] {
    const ALL: &[&CStr] = &[c"distrobox-enter", c"distrobox", c"podman", c"toolbox"];
    const DOCKER: &[&CStr] = &[c"distrobox-enter", c"distrobox", c"docker"];
    let all = if found.is_some_and(|found| found.manager == Manager::Docker) { DOCKER } else { ALL };
    if user == 0 || found.is_some_and(|found| found.maker != Maker::Distrobox) { &all[2..] } else { all }
}

/// What is to be run in which container.
pub struct Entry<'a> {
    pub container: &'a str,
    pub program: &'a CStr,
    /// Without the name.
    pub args: &'a [&'a CStr],
    /// The environment that the tool gets.
    pub env: &'a [&'a CStr],
    pub directory: &'a [u8],
    pub user: u32,
    pub group: u32,
    /// It need not be started.
    pub runs: bool,
    /// Both keyboard and screen are a terminal.
    pub at_terminal: bool,
}

/// What to execute to get in, and its arguments, its name first. `tool` is one of [`tools`], by its path.
pub fn entering(tool: &CStr, entry: &Entry<'_>) -> (CString, Vec<CString>) {
    let name = tool.to_bytes().rsplit(|&b| b == b'/').next().unwrap_or_default();
    let program = if matches!(name, b"podman" | b"docker") && !entry.runs { c"/bin/sh" } else { tool };
    (program.to_owned(), arguments(tool, name, entry))
}

fn arguments(tool: &CStr, name: &[u8], entry: &Entry<'_>) -> Vec<CString> {
    let container = CString::new(entry.container).unwrap_or_default();
    let start: &[&CStr] = match name {
        b"podman" => return by_manager(tool, &container, Manager::Podman, entry),
        b"docker" => return by_manager(tool, &container, Manager::Docker, entry),
        b"toolbox" => &[c"toolbox", c"run", c"-c", &container],
        b"distrobox" => &[c"distrobox", c"enter", c"-n", &container, c"--"],
        _ => &[c"distrobox-enter", c"-n", &container, c"--"],
    };
    let mut all = strings(start.iter().copied());
    all.extend(command(entry, if name == b"toolbox" { is_text } else { is_plain }));
    all
}

/// The program and its arguments, written so that they survive the way, which carries only what `survives`.
fn command(entry: &Entry<'_>, survives: fn(&[u8]) -> bool) -> Vec<CString> {
    let program = std::iter::once(entry.program).chain(entry.args.iter().copied());
    if program.clone().all(|arg| survives(arg.to_bytes())) {
        return strings(program);
    }
    let mut all = strings([c"sh", c"-c", DECODE, c"sh"].into_iter());
    all.extend(encoded(program));
    all
}

fn strings<'a>(all: impl Iterator<Item = &'a CStr>) -> Vec<CString> {
    all.map(CStr::to_owned).collect()
}

/// What every `distrobox-enter` passes on as it is. Those before 1.5 build one line of shell out of their arguments, in which
/// newlines, runs of spaces and patterns are lost.
fn is_plain(arg: &[u8]) -> bool {
    !arg.is_empty() && arg.iter().all(|b| b.is_ascii_alphanumeric() || b"_-./=:,+@%".contains(b))
}

/// What podman and docker pass on as it is: on its way a command is JSON, in which other bytes become question marks.
fn is_text(arg: &[u8]) -> bool {
    std::str::from_utf8(arg).is_ok()
}

/// Puts the pieces of [`encoded`] together and executes them. It has no quotes, patterns, newlines or runs of spaces itself.
/// Backslashes are doubled, and undone first, because those old ones `echo` each argument to look for quotes in it, and some
/// shells' echo undoes them once. The point at the end of each piece keeps `$()` from taking newlines away.
const DECODE: &CStr = c"IFS= ; set -f; bkt_e= ; for bkt_a do bkt_a=$(printf %b $bkt_a); bkt_a=$(printf %b. $bkt_a); bkt_e=$bkt_e${bkt_a%.}; done; eval exec $bkt_e";

/// How long a piece may get: the kernel takes 128 KiB in one string (`MAX_ARG_STRLEN`).
const PIECE_BYTES: usize = 100 * 1024;

/// A line of shell in pieces, with everything that is not plain written for `printf %b`.
fn encoded<'a>(args: impl Iterator<Item = &'a CStr>) -> Vec<CString> {
    let mut pieces = vec![String::new()];
    for arg in args {
        for b in quoted(arg.to_bytes()).into_iter().chain([b' ']) {
            if pieces.last().is_some_and(|piece| piece.len() > PIECE_BYTES) {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut() {
                if is_plain(&[b]) { piece.push(char::from(b)) } else { piece.push_str(&format!("\\\\0{b:03o}")) }
            }
        }
    }
    pieces.into_iter().filter_map(|piece| CString::new(piece).ok()).collect()
}

/// In the container: the caller's directory, where it is there (or where distrobox and toolbox show the host's), then the program.
const IN_DIRECTORY: &CStr =
    c"cd \"$1\" 2>/dev/null || cd \"/run/host$1\" 2>/dev/null || { cd / && echo \"bkt: cannot enter $1 in the container; running in /\" >&2; }; shift; exec \"$@\"";

/// On the host: a container that does not run, as far as is known, is started first; `start` leaves a running one alone.
const START: &CStr = c"\"$0\" start \"$1\" >/dev/null || exit 125; shift; exec \"$0\" exec \"$@\"";

/// `podman exec` has no idea of the caller's directory, environment and terminal: it is told. Nor has `docker exec`, which beside
/// that knows no way to switch the keys off by which one leaves, Ctrl-P Ctrl-Q, and holds the first of them back until the
/// next: there it is one that shells do not use. And docker's containers seldom know the user, who then would have the group of root.
fn by_manager(tool: &CStr, container: &CStr, manager: Manager, entry: &Entry<'_>) -> Vec<CString> {
    let (keys, user) = match manager {
        Manager::Podman => (c"--detach-keys=", entry.user.to_string()),
        Manager::Docker => (c"--detach-keys=ctrl-^,ctrl-@,ctrl-^", format!("{}:{}", entry.user, entry.group)),
    };
    let user = CString::new(user).unwrap_or_default();
    let directory = CString::new(entry.directory).unwrap_or_default();
    let start: &[&CStr] = if entry.runs { &[tool, c"exec"] } else { &[c"sh", c"-c", START, tool, container] };
    let mut all = strings(start.iter().copied().chain([c"--interactive", keys, c"--user", &user]));
    if entry.at_terminal {
        all.push(c"--tty".to_owned());
    }
    // By name only: the value is taken from the environment, so that every byte of it arrives.
    for name in entry.env.iter().filter_map(|variable| environment::carried(variable.to_bytes())) {
        all.extend([c"--env".to_owned(), CString::new(name).unwrap_or_default()]);
    }
    all.extend([c"--env".to_owned(), CString::new(format!("CONTAINER_ID={}", entry.container)).unwrap_or_default()]);
    all.extend(strings([container, c"/bin/sh", c"-c", IN_DIRECTORY, c"sh", &directory].into_iter()));
    all.extend(command(entry, is_text));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    fn the_way_is_the_shortest_there_is() {
        let table = [
            (Some("dev"), Inside::Host, Way::Enter),
            (None, Inside::Host, Way::Enter),
            (Some("dev"), Inside::Container(Some(b"dev")), Way::Here),
            (Some("dev"), Inside::Container(Some(b"other")), Way::ThroughHost),
            (Some("dev"), Inside::Container(None), Way::ThroughHost),
            (None, Inside::Container(None), Way::Here),
            (None, Inside::Container(Some(b"other")), Way::Here),
        ];
        for (container, inside, expected) in table {
            assert_eq!(way(container, inside), expected, "{container:?} {inside:?}");
        }
    }

    #[test]
    fn each_container_is_entered_by_who_has_made_it_or_runs_it() {
        let id = "0123456789abcdef".repeat(4);
        let of = |manager, rest: &str| Found::read(manager, &format!("{id} true {rest}\n")).unwrap();
        let first = |found: Option<&Found>, user| tools(found, user)[0].to_str().unwrap();
        let table = [
            (Manager::Podman, "/usr/bin/entrypoint distrobox", Maker::Distrobox, "distrobox-enter"),
            (Manager::Docker, "/usr/bin/entrypoint distrobox", Maker::Distrobox, "distrobox-enter"),
            (Manager::Podman, "toolbox ", Maker::Toolbox, "podman"),
            (Manager::Podman, "sleep ", Maker::Other, "podman"),
            (Manager::Docker, "sleep compose", Maker::Other, "docker"),
            (Manager::Docker, "/my distrobox ", Maker::Other, "docker"),
        ];
        for (manager, rest, maker, expected) in table {
            let found = of(manager, rest);
            assert_eq!((found.maker, first(Some(&found), 1000)), (maker, expected), "{rest}");
            assert_eq!(first(Some(&found), 0), if manager == Manager::Docker { "docker" } else { "podman" }, "distrobox serves no root");
        }
        assert_eq!((first(None, 1000), first(None, 0)), ("distrobox-enter", "podman"));
        assert_eq!(Found::read(Manager::Podman, ""), None);
    }

    #[test]
    fn encoded_arguments_come_out_as_they_went_in() {
        let all: Vec<u8> = (1..=255).collect();
        let long = vec![b'\n'; 300 * 1024 / 6];
        let args: [&[u8]; 9] = [b"", b"a  b", b"\n", b"x\n\n", b"$HOME `x` \\n %s", b"'\"'", b"-n", &all, &long];
        let args: Vec<CString> = args.iter().map(|arg| CString::new(*arg).unwrap()).collect();
        let pieces = encoded(std::iter::once(c"/usr/bin/printf").chain([c"%s\\0"]).chain(args.iter().map(CString::as_c_str)));
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.to_bytes().len() < 128 * 1024));
        for shell in ["dash", "bash", "busybox"] {
            let mut command = Command::new(shell);
            command.args(if shell == "busybox" { &["sh", "-c"][..] } else { &["-c"] }).arg(DECODE.to_str().unwrap()).arg("sh");
            command.args(pieces.iter().map(|piece| std::ffi::OsStr::from_bytes(piece.to_bytes())));
            let output = command.output().unwrap();
            let expected: Vec<u8> = args.iter().flat_map(|arg| arg.to_bytes_with_nul()).copied().collect();
            assert!(output.stdout == expected, "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
