//! What others made, read as shims: wrapper scripts of `distrobox-export`, of earlier versions of bkt and their like, and links
//! into the directories of package managers.
//!
//! The scripts of `distrobox-export` have looked differently over the years, but two things stayed: the two comments at the top,
//! and that the last `else` runs the program itself. The line that enters the container tells what a shim cannot do: become
//! root, pass further arguments or options. Such a script is left alone, and the reason is said.

use crate::document;
use crate::invocation::Invocation;
use crate::shims::links::{names, shipped};
use crate::shims::manifest::{Host, Mode, Shim, check_container, check_name, check_source, is_own_name, to_source};
use crate::shims::place::{AS, Places, is_own, tidy};
use crate::shims::source;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest script that is looked at; those of `distrobox-export` have less than 1,000 bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Where an earlier bkt kept its script shims.
const EARLIER: &str = ".local/toolbox/shims";

/// How scripts reach the host; what follows is the command.
const TO_HOST: &[&str] = &["exec bkt admin daemon exec -- ", "exec flatpak-spawn --host ", "exec distrobox-host-exec ", "exec host-spawn "];

/// What was found at a path: a shim, or the reason why it cannot be one.
pub struct Found {
    pub path: PathBuf,
    pub shim: Result<Shim, String>,
}

/// Looks through the directories of shims, and through further ones.
pub fn capture(further: &[PathBuf], invocation: &Invocation, places: &Places) -> Vec<Found> {
    let mut directories = vec![places.distrobox.clone(), places.bin.clone(), places.host.clone(), places.home.join(EARLIER)];
    further.iter().filter(|directory| !places.all().contains(directory)).for_each(|directory| directories.push(directory.clone()));
    let mut found = Vec::new();
    for directory in &directories {
        for name in names(directory) {
            let path = directory.join(&name);
            let shim = match fs::read_link(&path) {
                Ok(target) => of_link(&name, directory, &target, invocation, places),
                Err(_) => read_script(&path).and_then(|text| of_script(&name, &text, places)),
            };
            let checked = shim.map(|shim| shim.and_then(|shim| check_name(&shim.name).and(shim.check()).map(|()| shim)));
            found.extend(checked.map(|shim| Found { path, shim }));
        }
    }
    found
}

/// The text of a script; other files are nobody's business.
fn read_script(path: &Path) -> Option<String> {
    document::read_text(path).ok().flatten().filter(|text| text.starts_with("#!") && text.len() <= MAX_BYTES)
}

/// What a link stands for, if it is any of ours or of a package manager.
fn of_link(name: &str, directory: &Path, target: &Path, invocation: &Invocation, places: &Places) -> Option<Result<Shim, String>> {
    if directory == places.host {
        let inner = target.strip_prefix(AS).ok().and_then(Path::to_str);
        return match inner {
            Some(command) => Some(Host::named(command).map(|host| shim_of_host(name, host))),
            None if is_own(directory, target, &places.own) && !shipped().any(|known| known == name) => Some(Ok(shim_of_host(name, Host::SameName))),
            None => None,
        };
    }
    if directory == places.distrobox && is_own(directory, target, &places.own) {
        let program = source::find(name, Mode::Distrobox, invocation, places);
        let missing = format!("is a link to bkt, and no program of that name was found; bkt shim add {name} --source PATH");
        return Some(program.ok_or(missing).and_then(|path| plain(&path, places)).map(|source| Shim { name: name.into(), source: Some(source), ..Shim::default() }));
    }
    let program = tidy(&directory.join(target));
    let managed = directory != places.distrobox && source::is_managed(&program, invocation, &places.home);
    managed.then(|| plain(&program, places).map(|source| Shim { name: name.into(), source: Some(source), host_only: true, ..Shim::default() }))
}

fn plain(path: &Path, places: &Places) -> Result<String, String> {
    let source = to_source(path, &places.home).map_err(|e| e.into_text())?;
    check_source(&source).map(|()| source)
}

fn shim_of_host(name: &str, host: Host) -> Shim {
    let host = if host == Host::Command(name.into()) { Host::SameName } else { host };
    Shim { name: name.into(), host: Some(host), ..Shim::default() }
}

/// What a script stands for, if it is one of those we know.
pub fn of_script(name: &str, text: &str, places: &Places) -> Option<Result<Shim, String>> {
    let text = text.replace("\\\n", " ");
    if text.lines().any(|line| line.trim() == "# distrobox_binary") {
        return Some(exported(&text).and_then(|(container, program)| {
            let source = plain(Path::new(&program), places)?;
            Ok(Shim { name: name.into(), source: Some(source), container: Some(container), ..Shim::default() })
        }));
    }
    let commands: Vec<&str> = text.lines().filter_map(|line| TO_HOST.iter().find_map(|way| line.trim().strip_prefix(way))).collect();
    let command = commands.first()?;
    if commands.iter().any(|other| other != command) {
        return Some(Err("runs different commands in different places".into()));
    }
    let Some(command) = command.trim().strip_suffix("\"$@\"").map(|command| unquoted(command.trim())) else {
        return Some(Err("does not pass its arguments on as they are".into()));
    };
    if is_own_name(command) && is_own_name(name) {
        return None;
    }
    Some(Host::named(command).map(|host| shim_of_host(name, host)).map_err(|_| format!("runs '{command}' on the host, which is no plain name of a command")))
}

/// Container and program of a script that `distrobox-export` wrote.
fn exported(text: &str) -> Result<(String, String), String> {
    let container = text.lines().find_map(|line| line.strip_prefix("# name: ")).map(str::trim).unwrap_or_default();
    check_container(container)?;
    let odd = || "looks like a script of distrobox-export, but not like one that we know".to_string();
    // The program itself, in the last branch.
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "else").collect::<Vec<_>>();
    let last = lines.iter().rposition(|line| *line == "else").ok_or_else(odd)?;
    let own = lines.split_off(last).into_iter().nth(1).ok_or_else(odd)?;
    let own = own.strip_prefix("exec ").unwrap_or(own).trim();
    let program = own.strip_suffix("\"$@\"").or(own.strip_suffix("$@")).ok_or_else(odd)?.trim();
    let as_root = |word: &str| ["sudo", "doas", "su-exec"].contains(&word.rsplit('/').next().unwrap_or(word));
    if program.split_whitespace().next().is_some_and(as_root) {
        return Err("runs its program as root, which a shim cannot".into());
    }
    let program = unquoted(program);
    if program.is_empty() {
        return Err(odd());
    }
    // How it enters: -n CONTAINER -- PROGRAM "$@", and nothing more.
    let is_entering = |line: &&str| line.contains("enter") && (line.contains(" -n ") || line.contains(" --name ")) && !line.starts_with('#');
    let entering = text.lines().map(str::trim).find(is_entering).ok_or_else(odd)?.replace(['"', '\''], " ");
    let words: Vec<&str> = entering.split_whitespace().collect();
    let named = words.iter().position(|word| *word == "-n" || *word == "--name").ok_or_else(odd)?;
    if words.iter().take(named).any(|word| *word == "--root" || *word == "-r") {
        return Err("enters a container of root's, which a shim cannot".into());
    }
    let rest = words.get(named + 2..).unwrap_or_default();
    if !rest.first().is_some_and(|word| *word == "--" || *word == "-e") {
        return Err("enters with further options, which a shim cannot".into());
    }
    let rest = rest[1..].join(" ");
    let (before, after) = rest.split_once(program.split_whitespace().collect::<Vec<_>>().join(" ").as_str()).ok_or_else(odd)?;
    if before.split_whitespace().any(as_root) {
        return Err("runs its program as root, which a shim cannot".into());
    }
    if after.split_whitespace().any(|word| !["$@", "--", "\\$@"].contains(&word)) {
        return Err(format!("passes further arguments ({}), which a shim cannot", after.replace("$@", "").trim()));
    }
    Ok((container.to_string(), program.to_string()))
}

/// Without the pair of quotes around it.
fn unquoted(word: &str) -> &str {
    ['\'', '"'].iter().find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(word)
}
