//! `bkt complete`: what the shells' completions ask. For a shim the host's own completion of that command answers, for `bkt`
//! itself its help does.
//!
//! Whatever goes wrong, there are no candidates then: this is called between two keys, and has nobody to tell.

use crate::applet::shell_line::{self, Line};
use crate::applet::{Call, output, shim, usage};
use crate::client::local::{self, Side};
use crate::client::run::{self, Command, Outcome, WantPty};
use crate::error::{Error, Result};
use crate::event::Wait;
use crate::exit::End;
use crate::process::program;
use crate::sys::process::{self, Forked};
use crate::sys::{files, signals};
use crate::{paths, shims};
use std::ffi::{CStr, CString, OsStr, OsString};
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

/// A help text and the words that lead to it. These texts are the table of our own words and options.
pub type Help = (&'static [&'static str], &'static str);

/// What a command's completion has to say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// From bash: candidates stand for what bash would complete, and are as they are to be typed, unless they are files.
    from_bash: bool,
    no_space: bool,
    files: bool,
    candidates: Vec<Candidate>,
}

#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    text: Vec<u8>,
    description: Vec<u8>,
}

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
        _ if words.len() == 1 => Answer::default(),
        name => from_bytes(&ask_host(call, shell, &line.with_name(&meant(call, name)), breaks)),
    };
    output::print_bytes(&match shell {
        b"bash" => for_bash(answer, &line),
        b"zsh" => for_zsh(answer, &line),
        _ => for_fish(answer, &line),
    });
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
    let words = [&b"bkt"[..], b"complete", b"host", shell, line, breaks].map(|w| CString::new(w).unwrap_or_default());
    let args: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let command = Command { args: shim::joined(&args), not_on_own_side: true, pty: WantPty::Never, ..Command::default() };
    match run::run(&command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(_) => Ok(()),
        Outcome::NoDaemon { .. } if local::side(&call.invocation) == Side::Container => Ok(()),
        Outcome::SameSide | Outcome::NoDaemon { .. } => Err(exec_host(call, shell, line, breaks)),
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
    let words: Vec<CString> = words.into_iter().map(|w| CString::new(w).unwrap_or_default()).collect();
    let args: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let path = call.invocation.var("PATH").unwrap_or(program::DEFAULT_PATH);
    for candidate in program::candidates(b"bash", path, &paths::shim_directories(&call.invocation)).paths {
        process::exec(&candidate, &args, &call.invocation.env);
    }
    Error::with_code("completions are asked of bash, which is not in PATH here", crate::exit::NOT_FOUND)
}

/// Reads what the host printed: options, then candidates, each ended by NUL; what came after the last NUL was cut off.
fn from_bytes(bytes: &[u8]) -> Answer {
    let mut records = bytes.split_inclusive(|b| *b == 0).filter_map(|r| r.strip_suffix(b"\0"));
    let options: Vec<&[u8]> = records.next().unwrap_or(b"").split(|b| *b == b' ').collect();
    let has = |option: &[u8]| options.contains(&option);
    let from_bash = has(b"bash");
    let candidate = |record: &[u8]| match record.iter().position(|b| *b == b'\t') {
        Some(tab) if !from_bash => Candidate { text: record[..tab].to_vec(), description: record[tab + 1..].to_vec() },
        _ => Candidate { text: record.to_vec(), description: vec![] },
    };
    Answer { from_bash, no_space: has(b"nospace"), files: has(b"filenames"), candidates: records.filter(|r| !r.is_empty()).map(candidate).collect() }
}

/// Completes `bkt` from its help: `  word word [--option] NAME   what it does`, `  -o, --option VALUE   what it does`.
fn of_ourselves(call: &Call, helps: &[Help], words: &[Vec<u8>]) -> Answer {
    let (current, before) = words.split_last().map_or((&b""[..], &[][..]), |(current, before)| (&current[..], before));
    let typed: Vec<&str> = before.iter().skip(1).filter_map(|w| std::str::from_utf8(w).ok()).filter(|w| !w.starts_with('-')).collect();
    let mut answer = Answer::default();
    for (path, help) in helps {
        let mut lead: Vec<&str> = Vec::new();
        for (left, description) in help.lines().filter_map(entry) {
            let is_word = |w: &&str| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !w.starts_with('-');
            // A line that is further in, with options, goes on the one before.
            if !left.starts_with(' ') {
                lead = path.iter().copied().chain(left.split_whitespace().take_while(is_word)).collect();
            }
            let rest = left.split_whitespace().skip_while(|w| is_word(w)).map(|w| w.trim_matches(['[', ']', ',', '…']));
            let mut add = |text: &str, description: &str| {
                if text.as_bytes().starts_with(current) && !answer.candidates.iter().any(|c| c.text == text.as_bytes()) {
                    answer.candidates.push(Candidate { text: text.as_bytes().to_vec(), description: description.as_bytes().to_vec() });
                }
            };
            if current.starts_with(b"-") {
                if typed.starts_with(&lead) && (typed.is_empty() || !lead.is_empty()) {
                    rest.filter(|w| w.starts_with('-') && *w != "--").for_each(|option| add(option, if lead.len() == path.len() { description } else { "" }));
                }
            } else if lead.len() > typed.len() && lead.starts_with(&typed) {
                add(lead[typed.len()], if lead.len() == typed.len() + 1 { description } else { "" });
            } else if lead == typed && !typed.is_empty() {
                match rest.take(1).next() {
                    Some(choice) if choice.contains('|') => choice.split('|').for_each(|word| add(word, description)),
                    Some("NAME") if typed[0] == "shim" && typed[1..] != ["add"] => shim_names(call).iter().for_each(|name| add(name, "")),
                    _ => {}
                }
            }
        }
    }
    answer
}

/// A line of a help text that explains something: what is typed, and what it means.
fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("  ")?;
    let indent = line.len() - line.trim_start().len();
    let (left, description) = line[indent..].split_once("  ").unwrap_or((&line[indent..], ""));
    (indent == 0 || left.starts_with(['[', '-'])).then(|| (&line[..indent + left.len()], description.trim()))
}

/// The names of all shims there are.
fn shim_names(call: &Call) -> Vec<String> {
    let home = paths::home(&call.invocation).map(|home| home.join(".local/bin/distrobox"));
    let directories = paths::shim_directories(&call.invocation).into_iter().chain(home);
    let names = directories.filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| !name.starts_with('.')).collect()
}

/// Whether something is to follow at once: a directory's content, an option's value.
fn is_open(text: &[u8]) -> bool {
    text.last().is_some_and(|last| b"/=:@".contains(last))
}

/// For bash's `COMPREPLY`: first the options for `compopt`, then the candidates, each ended by NUL.
fn for_bash(answer: Answer, line: &Line) -> Vec<u8> {
    let no_space = answer.no_space || answer.candidates.iter().any(|c| is_open(&c.text));
    // Told that these are files, bash shows their last components and quotes them; but not '$' in names that it does not find here.
    let files = answer.files && !answer.candidates.iter().any(|c| c.text.contains(&b'$'));
    let mut out = match (no_space, files) {
        (true, true) => b"nospace filenames\0".to_vec(),
        (true, false) => b"nospace\0".to_vec(),
        (false, true) => b"filenames\0".to_vec(),
        (false, false) => b"\0".to_vec(),
    };
    let before = line.before_current();
    for candidate in answer.candidates {
        if answer.from_bash && answer.files == files {
            out.extend(candidate.text);
        } else {
            let text = candidate.text.strip_prefix(&before[..]).unwrap_or(&candidate.text);
            out.extend(shell_line::quoted(text, line.quote));
            if no_space && !is_open(text) && line.quote.is_none() {
                out.push(b' ');
            }
        }
        out.push(0);
    }
    out
}

/// Candidates as whole words without quotes, and whether a space is to follow: what zsh and fish want.
fn whole_words(answer: Answer, line: &Line) -> impl Iterator<Item = (Vec<u8>, bool, Vec<u8>)> {
    let before = line.before_current();
    let Answer { from_bash, no_space, files, candidates } = answer;
    candidates.into_iter().map(move |candidate| {
        let Candidate { mut text, description } = candidate;
        let mut space = !is_open(&text);
        if from_bash {
            let with_space = text.strip_suffix(b" ").map(<[u8]>::to_vec);
            space &= !no_space || with_space.is_some();
            text = with_space.unwrap_or(text);
            if !files {
                text = shell_line::take_apart(&text, b"").words().concat();
            }
            if !text.starts_with(&before) {
                text = [&before[..], &text].concat();
            }
        }
        (text, space, description)
    })
}

/// For zsh: three strings a candidate: `+` where a space is to follow, else `-`; the candidate as it is to be typed; its description.
fn for_zsh(answer: Answer, line: &Line) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, space, description) in whole_words(answer, line) {
        let record = [if space { b"+" } else { &b"-"[..] }, &shell_line::quoted(&text, line.quote), &description];
        for part in record {
            out.extend(part);
            out.push(0);
        }
    }
    out
}

/// For fish: a line a candidate, with its description behind a tab. fish quotes, and knows itself where no space is to follow.
fn for_fish(answer: Answer, line: &Line) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, _, description) in whole_words(answer, line).filter(|(text, ..)| !text.contains(&b'\n') && !text.contains(&b'\t')) {
        out.extend(text);
        if !description.is_empty() {
            out.push(b'\t');
            out.extend(description);
        }
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELPS: &[Help] = &[
        (
            &[],
            "Usage: bkt COMMAND\n\n  status [--json]      both sides\n  admin daemon run     be it\n  admin daemon stop    end it\n  shim init bash|zsh   code\n  shim add NAME\n      [--container C]    where it is\n\n  -v, --verbose   more\n      and more\n",
        ),
        (&["admin", "daemon", "run"], "  --socket PATH   there\n"),
    ];

    fn own(line: &str) -> Vec<String> {
        let call = Call { invocation: Default::default(), op: crate::opid::OpId::from_random([7; 6]) };
        let answer = of_ourselves(&call, HELPS, &shell_line::take_apart(line.as_bytes(), BREAKS).words());
        let shown = |c: &Candidate| [&c.text[..], if c.description.is_empty() { b"" } else { b": " }, &c.description].concat();
        answer.candidates.iter().map(|c| String::from_utf8(shown(c)).unwrap()).collect()
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
        let from_bash = |options: &str, all: &str| from_bytes(format!("bash{options}\0{all}").as_bytes());
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace('\0', ";");
        // Of a record without its NUL nobody knows whether it is whole.
        let files = || from_bash(" filenames", "x y\0xd/\0cut");
        assert_eq!(shown(for_bash(files(), &line)), "nospace filenames;x y;xd/;");
        assert_eq!(shown(for_zsh(files(), &line)), "+;--a=x\\ y;;-;--a=xd/;;");
        assert_eq!(shown(for_fish(files(), &line)), "--a=x y\n--a=xd/\n");
        assert_eq!(shown(for_bash(from_bash(" filenames", "x$y\0"), &line)), ";x\\$y;");
        let words = || from_bash(" nospace", "x\\ y \0xz\0");
        assert_eq!(shown(for_bash(words(), &line)), "nospace;x\\ y ;xz;");
        assert_eq!(shown(for_zsh(words(), &line)), "+;--a=x\\ y;;-;--a=xz;;");
        let from_fish = || from_bytes(b"fish\0--a=x y\tmeans it\0--a=x=\0");
        assert_eq!(shown(for_bash(from_fish(), &line)), "nospace;x\\ y ;x=;");
        assert_eq!(shown(for_fish(from_fish(), &line)), "--a=x y\tmeans it\n--a=x=\n");
        assert_eq!(shown(for_bash(from_bytes(b""), &line)), ";");
    }
}
