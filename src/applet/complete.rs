//! `bkt complete`: what the shells' completions ask. For a shim the host's own completion of that command answers, for `bkt`
//! itself its help does.
//!
//! Whatever goes wrong, there are no candidates then: this is called between two keys, and has nobody to tell.

use crate::applet::shell_line::{self, Line};
use crate::applet::shim::{self, Asked};
use crate::applet::{Call, output, usage};
use crate::client::run::{Command, WantPty};
use crate::error::{Error, Result};
use crate::event::Wait;
use crate::exit::End;
use crate::process::program;
use crate::sys::process::{self, Forked};
use crate::sys::{files, signals};
use crate::{paths, shims};
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// A completion that takes longer is worth less than the key that was typed instead.
const LIMIT_MS: u64 = 2_000;

/// More is nothing that a person would look through; the host's `systemctl` has some 20 KB of unit names.
const MOST_BYTES: usize = 1 << 20;

/// What bash splits words at, where the asking shell does not say.
const BREAKS: &[u8] = b"=:";

/// Asks the completions of the host, which are made for an interactive shell, without one.
const HOST: &str = include_str!("shell/host.bash");

/// The words that lead to a help text, and the text: these are the table of our own words and options.
pub type Help = (&'static str, &'static str);

/// `bkt complete SHELL LINE [BREAKS]`: SHELL is who asks, and how the answer is written, or `host` (with the shell behind it)
/// for the answer as the host gives it; LINE is up to the cursor.
pub fn run(call: &Call, args: &[OsString], helps: &[Help]) -> Result<End> {
    let words: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
    match words[..] {
        [b"host", shell, line, breaks] => Err(exec_host(call, shell, line, breaks)),
        [shell @ (b"bash" | b"zsh" | b"fish"), line] => complete(call, helps, shell, line, BREAKS),
        [b"bash", line, breaks] => complete(call, helps, b"bash", line, breaks),
        _ => Err(usage("complete is for the code that 'bkt shim init' prints", "bkt")),
    }
}

fn complete(call: &Call, helps: &[Help], shell: &[u8], line: &[u8], breaks: &[u8]) -> Result<End> {
    let mut line = shell_line::take_apart(line, breaks);
    let mut words = line.words();
    if base_name(&words[0]) == b"bkt" {
        // A command of its own follows 'exec --', and, as elsewhere, a shim's name may stand behind ours.
        let own = line.pieces[..line.pieces.len() - 1]
            .iter()
            .position(|p| p.raw == b"--")
            .or_else(|| shims::shipped().any(|s| words.get(1).is_some_and(|w| w == s.as_bytes())).then_some(0));
        line.pieces.drain(..own.map_or(0, |at| at + 1));
        words = line.words();
    }
    let answer = match base_name(&words[0]) {
        b"bkt" => of_ourselves(call, helps, &words),
        // Which command it is to be is nobody's to complete.
        _ if words.len() == 1 => Vec::new(),
        name => ask_host(call, shell, &line.with_name(&meant(call, name)), breaks),
    };
    output::print_bytes(&written_for(shell, &answer, &line));
    Ok(End::Code(0))
}

/// A command's name, without the path it was typed with: that is one of this side.
fn base_name(command: &[u8]) -> &[u8] {
    command.rsplit(|b| *b == b'/').next().unwrap_or(b"")
}

/// The command that a shim stands for: its link says so where that has another name (`docker -> .as/podman`).
fn meant(call: &Call, name: &[u8]) -> Vec<u8> {
    let links = paths::shim_directories(&call.invocation).into_iter().filter_map(|shims| std::fs::read_link(shims.join(OsStr::from_bytes(name))).ok());
    let other = links.filter_map(|link| link.as_os_str().as_bytes().strip_prefix(b".as/").map(<[u8]>::to_vec)).next();
    other.unwrap_or_else(|| name.to_vec())
}

/// Has the host complete the line, in a process of its own, so that whatever holds it up ends with that.
fn ask_host(call: &Call, shell: &[u8], line: &[u8], breaks: &[u8]) -> Vec<u8> {
    let Ok((reader, writer)) = files::pipe() else { return Vec::new() };
    let child = match process::fork() {
        Ok(Forked::Child) => {
            // Programs expect streams that wait. The writer stays open beside the copy that the command gets, until we end: so
            // the reader sees the end when all is over.
            let copy = files::set_non_blocking(&writer, false).and_then(|()| files::duplicate(writer.as_fd()));
            let done = copy.and_then(|copy| files::become_standard(copy, 1));
            if done.is_ok() {
                let _ = through_daemon(call, shell, line, breaks);
            }
            process::end_child(0);
        }
        Ok(Forked::Parent(child)) => child,
        Err(_) => return Vec::new(),
    };
    drop(writer);
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    let deadline = process::monotonic_ms() + LIMIT_MS;
    loop {
        let now = process::monotonic_ms();
        if now >= deadline || answer.len() > MOST_BYTES {
            break;
        }
        let mut wait = Wait::with_capacity(1);
        wait.watch((), reader.as_fd(), true, false);
        wait.run(now, Some(deadline));
        match files::read(reader.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    // Late or too long: its end makes the daemon end the command.
    let _ = signals::send(signals::Target::Process(child), signals::KILL);
    let _ = process::wait_for(child);
    answer
}

/// The way of all that belongs to the host, but without another bridge where there is no daemon: they take a while.
fn through_daemon(call: &Call, shell: &[u8], line: &[u8], breaks: &[u8]) -> Result<()> {
    let args = terminated(&[b"bkt", b"complete", b"host", shell, line, breaks]);
    let command = Command { args, not_on_own_side: true, pty: WantPty::Never, ..Command::default() };
    match shim::ask(call, &command)? {
        Asked::Ended(_) | Asked::NoDaemon(_) => Ok(()),
        Asked::Here(_) => Err(exec_host(call, shell, line, breaks)),
    }
}

/// Becomes the bash that asks this side's completions. It is made for this alone, so it is to read nothing at its start (`-p`),
/// though the user's shell may have said so in the environment.
fn exec_host(call: &Call, shell: &[u8], line: &[u8], breaks: &[u8]) -> Error {
    let parts = shell_line::take_apart(line, breaks);
    let count = parts.pieces.len().to_string();
    let mut words: Vec<&[u8]> = vec![b"bash", b"-p", b"-c", HOST.as_bytes(), b"bkt", shell, line, breaks, parts.current(), count.as_bytes()];
    words.extend(parts.pieces.iter().map(|p| &p.raw[..]));
    let whole = parts.words();
    words.extend(whole.iter().map(|w| &w[..]));
    let words = terminated(&words);
    let args: Vec<&CStr> = words.split_inclusive(|b| *b == 0).filter_map(|w| CStr::from_bytes_with_nul(w).ok()).collect();
    let path = call.invocation.var("PATH").unwrap_or(program::DEFAULT_PATH);
    for candidate in program::candidates(b"bash", path, &paths::shim_directories(&call.invocation)).paths {
        process::exec(&candidate, &args, &call.invocation.env);
    }
    Error::with_code("completions are asked of bash, which is not in PATH here", crate::exit::NOT_FOUND)
}

/// Each ended by NUL. None has one in it: they come from our own arguments.
fn terminated(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in words {
        out.extend_from_slice(word);
        out.push(0);
    }
    out
}

/// Completes `bkt` from its help: `  word word [--option] NAME   what it does`, `  -o, --option VALUE   what it does`. The answer is
/// written as the host's is from fish.
fn of_ourselves(call: &Call, helps: &[Help], words: &[Vec<u8>]) -> Vec<u8> {
    let (current, before) = words.split_last().map_or((&b""[..], &[][..]), |(current, before)| (&current[..], before));
    let mut typed = Vec::new();
    for word in before.iter().skip(1).filter(|w| !w.starts_with(b"-")) {
        typed.extend_from_slice(word);
        typed.push(b' ');
    }
    let mut out = b"fish\0".to_vec();
    for (path, help) in helps {
        // The words of a line, a blank behind each.
        let mut lead = Vec::new();
        for line in help.as_bytes().split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"  ")) {
            let (left, about) = explanation(line.trim_ascii());
            let mut rest = left;
            // A line that is further in, with options, goes on the one before.
            if !line.starts_with(b" ") {
                lead = path.as_bytes().to_vec();
                while rest.first().is_some_and(u8::is_ascii_lowercase) && !first_word(rest).contains(&b'|') {
                    let word = first_word(rest);
                    lead.extend_from_slice(word);
                    lead.push(b' ');
                    rest = rest[word.len()..].trim_ascii_start();
                }
            } else if !left.starts_with(b"[") && !left.starts_with(b"-") {
                continue;
            }
            if current.starts_with(b"-") {
                if typed.starts_with(&lead) && (typed.is_empty() || !lead.is_empty()) {
                    let options = rest.split(|b| b" [],|".contains(b)).filter(|w| w.starts_with(b"-") && *w != b"--");
                    options.for_each(|option| add(&mut out, current, option, if left.starts_with(b"-") { about } else { b"" }));
                }
            } else if lead.len() > typed.len() && lead.starts_with(&typed) {
                let next = first_word(&lead[typed.len()..]);
                add(&mut out, current, next, if typed.len() + next.len() + 1 == lead.len() { about } else { b"" });
            } else if lead == typed && !typed.is_empty() {
                let next = first_word(rest);
                if next.contains(&b'|') && !next.starts_with(b"[") {
                    next.split(|b| *b == b'|').for_each(|choice| add(&mut out, current, choice, about));
                } else if next.starts_with(b"NAME") && typed.starts_with(b"shim ") && typed != b"shim add " {
                    add_shim_names(call, &mut out, current);
                }
            }
        }
    }
    out
}

/// What is typed and what it means: two blanks are between.
fn explanation(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.windows(2).position(|two| two == b"  ").unwrap_or(line.len());
    (&line[..at], line[at..].trim_ascii())
}

fn first_word(text: &[u8]) -> &[u8] {
    text.split(|b| *b == b' ').next().unwrap_or(b"")
}

/// Adds a candidate, unless it is none or is there.
fn add(out: &mut Vec<u8>, current: &[u8], text: &[u8], about: &[u8]) {
    let record = [text, b"\t"].concat();
    if text.starts_with(current) && !out.split(|b| *b == 0).any(|other| other.starts_with(&record)) {
        out.extend(record);
        out.extend_from_slice(about);
        out.push(0);
    }
}

/// The names of all shims there are.
fn add_shim_names(call: &Call, out: &mut Vec<u8>, current: &[u8]) {
    let mut directories = paths::shim_directories(&call.invocation);
    directories.extend(paths::home(&call.invocation).map(|home| home.join(".local/bin/distrobox")));
    for entry in directories.iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten() {
        let name = entry.file_name();
        if !name.as_bytes().starts_with(b".") {
            add(out, current, name.as_bytes(), b"");
        }
    }
}

/// Whether something is to follow at once: a directory's content, an option's value.
fn is_open(text: &[u8]) -> bool {
    text.last().is_some_and(|last| b"/=:@".contains(last))
}

/// Turns what the host said into what a shell reads. The host's is options, then candidates, each ended by NUL (what came after
/// the last NUL was cut off). From bash, candidates stand for what bash would complete and are as they are to be typed, unless
/// they are files; from fish, they are whole words without quotes, with a tab and a description.
///
/// - bash gets the same, for its `COMPREPLY`: the options for `compopt`, then candidates;
/// - zsh three strings a candidate: `+` where a space is to follow, else `-`; the word as it is to be typed; its description;
/// - fish a line a candidate: the word, a tab, its description. It quotes, and knows itself where no space is to follow.
fn written_for(shell: &[u8], answer: &[u8], line: &Line) -> Vec<u8> {
    let whole = answer.iter().rposition(|b| *b == 0).unwrap_or(0);
    let mut records = answer[..whole].split(|b| *b == 0);
    let options = records.next().unwrap_or(b"");
    let has = |option: &[u8]| options.split(|b| *b == b' ').any(|o| o == option);
    let from_bash = has(b"bash");
    let mut all: Vec<(&[u8], &[u8])> = Vec::new();
    for record in records.filter(|r| !r.is_empty()) {
        let tab = record.iter().position(|b| *b == b'\t').filter(|_| !from_bash);
        all.push(tab.map_or((record, b""), |tab| (&record[..tab], &record[tab + 1..])));
    }
    let before = line.before_current();
    let mut out = Vec::new();
    if shell == b"bash" {
        let no_space = has(b"nospace") || all.iter().any(|(text, _)| is_open(text));
        // Told that these are files, bash shows their last components and quotes them; but not '$' in names that it does not find here.
        let files = has(b"filenames") && !all.iter().any(|(text, _)| text.contains(&b'$'));
        out.extend_from_slice(if no_space { b"nospace " } else { b"" });
        out.extend_from_slice(if files { b"filenames\0" } else { b"\0" });
        for (text, _) in all {
            if from_bash && files == has(b"filenames") {
                out.extend_from_slice(text);
            } else {
                let text = text.strip_prefix(&before[..]).unwrap_or(text);
                out.extend(shell_line::quoted(text, line.quote));
                if no_space && !is_open(text) && line.quote.is_none() {
                    out.push(b' ');
                }
            }
            out.push(0);
        }
        return out;
    }
    for (text, about) in all {
        let mut text = text.to_vec();
        let mut space = !is_open(&text);
        if from_bash {
            // Some put the space there themselves.
            let has_space = text.ends_with(b" ");
            space &= has_space || !has(b"nospace");
            text.truncate(text.len() - usize::from(has_space));
            if !has(b"filenames") {
                text = shell_line::take_apart(&text, b"").words().concat();
            }
            if !text.starts_with(&before) {
                text.splice(..0, before.iter().copied());
            }
        }
        if shell == b"zsh" {
            out.extend_from_slice(if space { b"+\0" } else { b"-\0" });
            out.extend(shell_line::quoted(&text, line.quote));
            out.push(0);
            out.extend_from_slice(about);
            out.push(0);
        } else if !text.contains(&b'\n') && !text.contains(&b'\t') {
            out.extend(text);
            out.push(b'\t');
            out.extend_from_slice(about);
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELPS: &[Help] = &[
        (
            "",
            "Usage: bkt COMMAND\n\n  status [--json]      both sides\n  admin daemon run     be it\n  admin daemon stop    end it\n  shim init bash|zsh   code\n  shim add NAME\n      [--container C]    where it is\n\n  -v, --verbose   more\n      and more\n",
        ),
        ("admin daemon run ", "  --socket PATH   there\n"),
    ];

    fn own(line: &str) -> Vec<String> {
        let call = Call { invocation: Default::default(), op: crate::opid::OpId::from_random([7; 6]) };
        let line = shell_line::take_apart(line.as_bytes(), BREAKS);
        let lines = String::from_utf8(written_for(b"fish", &of_ourselves(&call, HELPS, &line.words()), &line)).unwrap();
        lines.lines().map(|line| line.trim_end().replace('\t', ": ")).collect()
    }

    #[test]
    fn our_own_words_are_those_of_the_help() {
        assert_eq!(own("bkt "), ["status: both sides", "admin", "shim"]);
        assert_eq!(own("bkt s"), ["status: both sides", "shim"]);
        assert_eq!(own("bkt -v admin daemon "), ["run: be it", "stop: end it"]);
        assert_eq!(own("bkt shim init z"), ["zsh: code"]);
        assert_eq!(own("bkt shim add x --"), ["--container"]);
        assert_eq!(own("bkt -"), ["-v: more", "--verbose: more"]);
        assert_eq!(own("bkt status --"), ["--json"]);
        assert_eq!(own("bkt admin daemon run --s"), ["--socket: there"]);
        assert!(own("bkt nonsense ").is_empty() && own("bkt admin daemon run ").is_empty());
    }

    #[test]
    fn an_answer_is_written_as_each_shell_wants_it() {
        let line = shell_line::take_apart(b"c --a=x", BREAKS);
        let written = |shell: &str, answer: &str| String::from_utf8(written_for(shell.as_bytes(), answer.as_bytes(), &line)).unwrap().replace('\0', ";");
        // Of a record without its NUL nobody knows whether it is whole.
        let files = "bash filenames\0x y\0xd/\0cut";
        assert_eq!(written("bash", files), "nospace filenames;x y;xd/;");
        assert_eq!(written("zsh", files), "+;--a=x\\ y;;-;--a=xd/;;");
        assert_eq!(written("fish", files), "--a=x y\t\n--a=xd/\t\n");
        assert_eq!(written("bash", "bash filenames\0x$y\0"), ";x\\$y;");
        let words = "bash nospace\0x\\ y \0xz\0";
        assert_eq!(written("bash", words), "nospace ;x\\ y ;xz;");
        assert_eq!(written("zsh", words), "+;--a=x\\ y;;-;--a=xz;;");
        let from_fish = "fish\0--a=x y\tmeans it\0--a=x=\0";
        assert_eq!(written("bash", from_fish), "nospace ;x\\ y ;x=;");
        assert_eq!(written("fish", from_fish), "--a=x y\tmeans it\n--a=x=\t\n");
        assert_eq!(written("bash", ""), ";");
    }
}
