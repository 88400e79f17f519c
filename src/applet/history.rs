//! `bkt log`: what the daemon has written, from the journal or from its log file.

use crate::applet::{Call, output, usage};
use crate::checks::unit::UNIT;
use crate::client::ask::{self, Found};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::logging::{self, shown};
use crate::opid::OpId;
use crate::paths;
use crate::process::tool::{Errors, Tool};
use crate::sys::{cgroup, files};
use lexopt::{Arg, Parser, ValueExt};
use serde::Deserialize;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

pub const HELP: &str = "\
Usage: bkt log [-f] [--op ID] [--since WHEN] [--json]

What the host's daemon has written to the journal, or to its log file: one line for each operation where it runs with -v,
as the unit of 'bkt admin daemon install' has it; else warnings and errors. What systemd says of the unit is shown with it.

  -f, --follow   wait for more
  --op ID        one operation, as in '(op-1f3a9c0b7d2e)' at the end of an error
  --since WHEN   10m, 2h, 3d; or a date and time as the log has it (UTC): 2026-01-31, 2026-01-31T18:30
  --json         one JSON object a line, as the daemon writes them
";

/// The longest line that is kept whole.
const MAX_LINE: usize = 1024 * 1024;

#[derive(Default)]
struct Wanted {
    follow: bool,
    json: bool,
    op: Option<String>,
    /// Earlier times are smaller, as text.
    since: String,
}

/// One line of the log, as `logging` writes it. What is not known of another is empty.
#[derive(Deserialize, Default)]
struct Record {
    time: String,
    level: String,
    message: String,
    #[serde(default)]
    op_id: String,
}

pub fn run(call: &Call, args: Vec<OsString>) -> Result<End> {
    let wrong = |e: lexopt::Error| usage(e, "bkt log");
    let (mut wanted, mut parser) = (Wanted::default(), Parser::from_args(args));
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Short('f') | Arg::Long("follow") => wanted.follow = true,
            Arg::Long("json") => wanted.json = true,
            Arg::Long("op") => {
                let id = parser.value().map_err(wrong)?;
                let op =
                    OpId::parse(id.as_bytes()).ok_or_else(|| usage(format_args!("'{}' is no operation id; one looks like op-1f3a9c0b7d2e", shown(id.as_bytes())), "bkt log"))?;
                wanted.op = Some(op.to_string());
            }
            Arg::Long("since") => wanted.since = since(&parser.value().and_then(|v| v.string()).map_err(wrong)?, logging::unix_seconds())?,
            other => return Err(wrong(other.unexpected())),
        }
    }
    show(call, &wanted)
}

/// The earliest time that is wanted, as the log writes it, or the beginning of one.
fn since(text: &str, now: u64) -> Result<String> {
    let unit = |c: u8| [(b's', 1), (b'm', 60), (b'h', 3600), (b'd', 86_400)].into_iter().find(|(letter, _)| *letter == c).map(|(_, seconds)| seconds);
    if let Some((last, digits)) = text.as_bytes().split_last()
        && let (Some(seconds), Some(count)) = (unit(*last), std::str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok()))
    {
        return Ok(logging::rfc3339(now.saturating_sub(count.saturating_mul(seconds)), 0));
    }
    let text = text.replace(' ', "T");
    if text.len() >= "2026-01-31".len() && is_time(text.as_bytes()) {
        return Ok(text);
    }
    Err(usage(format_args!("--since wants 10m, 2h, 3d, or a date like 2026-01-31 or 2026-01-31T18:30, not '{text}'"), "bkt log"))
}

/// Whether this is a time as the log has it, or the beginning of one.
fn is_time(text: &[u8]) -> bool {
    let like = b"0000-00-00T00:00:00.000Z";
    text.len() <= like.len() && text.iter().zip(like).all(|(byte, l)| if l.is_ascii_digit() { byte.is_ascii_digit() } else { byte == l })
}

fn show(call: &Call, wanted: &Wanted) -> Result<End> {
    let file = paths::log_file(&call.invocation).filter(|path| path.is_file());
    let supervised = matches!(ask::status(&call.sockets(), call.op), Ok(Found::Running(status)) if status.supervised);
    let shims = paths::shim_directories(&call.invocation);
    let start = |words: &[&[u8]]| Tool::start(&call.invocation, &shims, words, Errors::Ours);
    let journal = || {
        let mut words: Vec<&[u8]> = vec![b"journalctl", b"--user", b"--output=export", b"--output-fields=MESSAGE,_COMM,_SYSTEMD_CGROUP", b"--no-pager", b"--quiet"];
        if wanted.follow {
            words.extend([&b"--follow"[..], b"--no-tail"]);
        }
        // Not --unit=, which also takes what a command of the daemon, or any process of the user, says in its name.
        let unit = UNIT.as_bytes();
        let (of, about) = ([b"_SYSTEMD_USER_UNIT=", unit].concat(), [b"USER_UNIT=", unit].concat());
        words.extend([b"_TRANSPORT=stdout", &of[..], b"+", b"_SYSTEMD_USER_UNIT=init.scope", &about]);
        start(&words)
    };
    if let Some(file) = file.as_ref().filter(|_| !supervised) {
        let path = file.as_os_str().as_bytes();
        let follow: &[&[u8]] = &[b"tail", b"-n", b"+1", b"-F", path];
        let once: &[&[u8]] = &[b"cat", path];
        let mut tool = start(if wanted.follow { follow } else { once }).map_err(|e| Error::io(format!("read {}", file.display()), &e))?;
        relay(&mut tool, wanted, of_file)?;
        return Ok(End::Code(0));
    }
    let nowhere = |why: &str| {
        let file = paths::log_file(&call.invocation).unwrap_or_default();
        Error::new(format!(
            "there is no log: {why}, and no {}. 'bkt admin daemon install' makes the daemon a unit that writes to the journal; without systemd, 'bkt-hostd -v --log-file' writes to that file",
            file.display()
        ))
    };
    let mut tool = journal().map_err(|e| Error::io("start journalctl", &e))?;
    let lines = relay(&mut tool, wanted, of_journal)?;
    match tool.wait() {
        Ok(End::Code(0)) if lines > 0 || supervised => Ok(End::Code(0)),
        Ok(End::Code(0)) => Err(nowhere("the journal has nothing of bkt-hostd")),
        Ok(_) => Err(nowhere("journalctl --user cannot read the journal (where /var/log/journal is not, only the group systemd-journal may)")),
        Err(_) => Err(nowhere("there is no journal here (journalctl --user)")),
    }
}

/// Takes the first line off what has come: its length, and the line unless it is nobody's who counts. `None` while it is not whole.
type Next = fn(&[u8]) -> Option<(usize, Option<Line<'_>>)>;

/// Shows the lines that are wanted as they come; says how many there were in all.
fn relay(tool: &mut Tool, wanted: &Wanted, next: Next) -> Result<usize> {
    let (mut lines, mut rest, mut buffer, mut time) = (0, Vec::new(), [0; 8192], String::new());
    loop {
        let length = files::read(tool.output.as_fd(), &mut buffer).map_err(|e| Error::io("read the log", &e))?;
        rest.extend_from_slice(&buffer[..length]);
        if length == 0 {
            // A last line without its newline counts too.
            rest.push(b'\n');
        }
        let (mut text, mut done) = (String::new(), 0);
        while let Some((taken, line)) = next(&rest[done..]) {
            done += taken;
            if let Some(line) = line {
                lines += 1;
                text.extend(wanted.shown(line, &mut time));
            }
        }
        rest.drain(..done);
        if !output::try_print(&text) || length == 0 {
            return Ok(lines);
        }
    }
}

/// A line as it came, in its parts.
struct Line<'a> {
    /// As our records have it; empty where nothing says when it came.
    time: String,
    /// Who wrote it, where that is known.
    who: &'a [u8],
    said: &'a [u8],
}

/// One entry of the journal, as systemd's "Journal Export Formats" has it: `NAME=value` lines, and an empty one.
fn of_journal(text: &[u8]) -> Option<(usize, Option<Line<'_>>)> {
    let (mut rest, [mut time, mut cgroup, mut who, mut said]) = (text, [&b""[..]; 4]);
    loop {
        let (field, after) = rest.split_at(rest.iter().position(|b| *b == b'\n')?);
        rest = &after[1..];
        if field.is_empty() {
            break;
        }
        let (name, value) = match field.iter().position(|b| *b == b'=') {
            Some(at) => (&field[..at], &field[at + 1..]),
            // No plain text: the name alone, the length in 8 bytes, the value, a newline.
            None => {
                let (length, after) = rest.split_first_chunk()?;
                let value = after.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
                rest = after.get(value.len() + 1..)?;
                (field, value)
            }
        };
        match name {
            b"__REALTIME_TIMESTAMP" => time = value,
            b"_SYSTEMD_CGROUP" => cgroup = value,
            b"_COMM" => who = value,
            b"MESSAGE" => said = value,
            _ => {}
        }
    }
    let micros: u64 = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok()).unwrap_or(0);
    let line = Line { time: logging::rfc3339(micros / 1_000_000, (micros / 1000 % 1000) as u32), who, said };
    Some((text.len() - rest.len(), is_by_the_daemon_or_its_manager(cgroup, who).then_some(line)))
}

/// Where a line comes from, by what the journal knows itself (`systemd.journal-fields(7)`): a command may well say that it is the
/// daemon, as `logger -t` does, but it lives in a cgroup of its own, and where there are none it has another name.
fn is_by_the_daemon_or_its_manager(cgroup: &[u8], name: &[u8]) -> bool {
    let (place, last) = cgroup.split_at(cgroup.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1));
    match last {
        b"init.scope" => true,
        _ if last == cgroup::OWN.as_bytes() => place.strip_suffix(b"/").is_some_and(|place| place.ends_with(UNIT.as_bytes())),
        _ => last == UNIT.as_bytes() && name.starts_with(b"bkt"),
    }
}

/// The first line of the log file.
fn of_file(text: &[u8]) -> Option<(usize, Option<Line<'_>>)> {
    let newline = text.iter().position(|b| *b == b'\n');
    let end = newline.or_else(|| (text.len() > MAX_LINE).then_some(text.len()))?;
    Some((newline.map_or(end, |at| at + 1), (end > 0).then(|| line_of_file(&text[..end]))))
}

/// A record, or text with or without a time.
fn line_of_file(line: &[u8]) -> Line<'_> {
    match line.iter().position(|b| *b == b' ').map(|at| line.split_at(at)) {
        Some((time, said)) if time.ends_with(b"Z") && is_time(time) => Line { time: shown(time), who: b"", said: said.trim_ascii_start() },
        _ => Line { time: String::new(), who: b"", said: line },
    }
}

impl Wanted {
    /// The line as it is shown, if it is wanted. One without a time came when the one `before` it did.
    fn shown(&self, line: Line<'_>, before: &mut String) -> Option<String> {
        let ours = serde_json::from_slice::<Record>(line.said).ok();
        let is_ours = ours.is_some();
        let record = ours.unwrap_or_else(|| {
            // The service manager's words, or those of a daemon that logs as text.
            let who = if line.who.is_empty() { String::new() } else { shown(line.who) + ": " };
            let time = if line.time.is_empty() { before.clone() } else { line.time };
            Record { time, message: who + &shown(line.said), ..Record::default() }
        });
        before.clone_from(&record.time);
        let is_of = |op: &String| if is_ours { *op == record.op_id } else { record.message.contains(op) };
        if *record.time < *self.since || !self.op.as_ref().is_none_or(is_of) {
            return None;
        }
        if self.json {
            let fields = || vec![("time", &*record.time), ("level", ""), ("message", &*record.message)];
            return Some(if is_ours { shown(line.said) } else { logging::object(fields()) } + "\n");
        }
        let or_none = |text: &str| if text.is_empty() { "-".to_string() } else { shown(text.as_bytes()) };
        Some(format!("{:24} {:5} {:15} {}\n", or_none(&record.time), or_none(&record.level), or_none(&record.op_id), shown(record.message.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_age_or_the_beginning_of_a_date() {
        assert_eq!(since("1d", 951_782_400).unwrap(), "2000-02-28T00:00:00.000Z");
        assert_eq!(since("10m", 951_782_400).unwrap(), "2000-02-28T23:50:00.000Z");
        assert_eq!(since("2026-01-31 18:30", 0).unwrap(), "2026-01-31T18:30");
        for wrong in ["", "d", "10", "10w", "-1d", "yesterday", "2026-1-1", "2026-01", "2026-01-31T18:30:00.000Zz"] {
            assert!(since(wrong, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_is_shown_if_it_is_wanted() {
        let line = br#"{"time":"2026-01-31T18:30:00.000Z","level":"info","message":"ls: exit status 0","op_id":"op-00000000000a","ms":"3"}"#;
        let shown = |wanted: &Wanted, line: &[u8]| wanted.shown(line_of_file(line), &mut "2026-01-31T18:29:00.000Z".to_string());
        let all = Wanted::default();
        assert_eq!(shown(&all, line).unwrap(), "2026-01-31T18:30:00.000Z info  op-00000000000a ls: exit status 0\n");
        assert_eq!(shown(&all, b"Started \x1b[1mit").unwrap(), "2026-01-31T18:29:00.000Z -     -               Started \\u{1b}[1mit\n");
        let op = |id: &str| Wanted { op: Some(id.into()), ..Wanted::default() };
        assert!(shown(&op("op-00000000000a"), line).is_some() && shown(&op("op-00000000000b"), line).is_none());
        let after = |time: &str| Wanted { since: time.into(), ..Wanted::default() };
        assert!(shown(&after("2026-01-31"), line).is_some() && shown(&after("2026-01-31T18:31"), line).is_none());
        assert!(shown(&after("2026-01-31"), b"no record").is_some() && shown(&after("2026-02-01"), b"no record").is_none());
        let json = Wanted { json: true, ..Wanted::default() };
        assert_eq!(shown(&json, line).unwrap().as_bytes(), [&line[..], b"\n"].concat());
        assert_eq!(shown(&json, b"no record").unwrap(), "{\"time\":\"2026-01-31T18:29:00.000Z\",\"level\":\"\",\"message\":\"no record\"}\n");
    }

    #[test]
    fn a_line_of_the_file_is_taken_apart_with_or_without_a_time() {
        let parts = |text: &str| of_file(text.as_bytes()).map(|(length, line)| (length, line.map(|line| (line.time, shown(line.said)))));
        let of = |time: &str, said: &str| Some((time.to_string(), said.to_string()));
        assert_eq!(parts("2026-01-31T18:30:00.000Z WARN  text\nmore"), Some((36, of("2026-01-31T18:30:00.000Z", "WARN  text"))));
        assert_eq!(parts("panicked at x\n"), Some((14, of("", "panicked at x"))));
        assert_eq!(parts("\n"), Some((1, None)));
        assert_eq!(parts("not yet whole"), None);
        let endless = "x".repeat(MAX_LINE + 1);
        assert_eq!(parts(&endless).unwrap().0, endless.len());
    }

    #[test]
    fn an_entry_of_the_journal_is_taken_when_it_is_whole() {
        let entry = b"__REALTIME_TIMESTAMP=951782400007999\n_COMM=bkt\nMESSAGE\n\x04\0\0\0\0\0\0\0a\n\n=\n_SYSTEMD_CGROUP=/a/bkt-hostd.service/daemon\n\n";
        let (length, line) = of_journal(&[&entry[..], b"_COMM=next"].concat()).map(|(length, line)| (length, line.map(|l| (l.time, l.who.to_vec(), l.said.to_vec())))).unwrap();
        assert_eq!((length, line.unwrap()), (entry.len(), ("2000-02-29T00:00:00.007Z".to_string(), b"bkt".to_vec(), b"a\n\n=".to_vec())));
        for cut in 0..entry.len() {
            assert!(of_journal(&entry[..cut]).is_none(), "{cut}");
        }
        assert!(of_journal(b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx\n\n").is_none(), "a length beyond all measure");
        assert!(of_journal(b"\n").is_some_and(|(length, line)| length == 1 && line.is_none()));
    }

    #[test]
    fn a_line_is_the_daemons_by_where_it_came_from_and_not_by_what_it_says() {
        let taken = |below: &str, name: &str| is_by_the_daemon_or_its_manager(format!("/user.slice/user@1.service/{below}").as_bytes(), name.as_bytes());
        assert!(taken("app.slice/bkt-hostd.service/daemon", "bkt") && taken("app.slice/bkt-hostd.service", "bkt-x86_64") && taken("init.scope", "systemd"));
        for (below, name) in [("app.slice/bkt-hostd.service", "logger"), ("app.slice/bkt-hostd.service/op-00000000000a", "bkt"), ("app.slice/other.service/daemon", "bkt")] {
            assert!(!taken(below, name), "{below} {name}");
        }
        assert!(!is_by_the_daemon_or_its_manager(b"", b"bkt"), "of whom nothing is known");
    }
}
