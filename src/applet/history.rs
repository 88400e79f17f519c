//! `bkt log`: what the daemon has written, from the journal or from its log file.

use crate::applet::{Call, output, usage};
use crate::client::ask::{self, Found};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::logging::{self, shown};
use crate::opid::OpId;
use crate::paths;
use crate::process::tool::{Errors, Tool};
use crate::sys::files;
use lexopt::{Arg, Parser, ValueExt};
use serde::Deserialize;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

pub const HELP: &str = "\
Usage: bkt log [-f] [--op ID] [--since WHEN] [--json]

What the host's daemon has written to the journal, or to its log file: one line for each operation where it runs with -v,
as the unit of 'bkt admin daemon install' has it; else warnings and errors. What others say of it there is shown with it.

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

/// One line of the log, as `logging` writes it. What is not known of somebody else's is empty.
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
            Arg::Short('h') | Arg::Long("help") => {
                output::print(HELP);
                return Ok(End::Code(0));
            }
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
        let mut words: Vec<&[u8]> = vec![b"journalctl", b"--user", b"--unit=bkt-hostd", b"--output=short-unix", b"--no-hostname", b"--all", b"--no-pager", b"--quiet"];
        if wanted.follow {
            words.extend([&b"--follow"[..], b"--no-tail"]);
        }
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

/// Shows the lines that are wanted as they come; says how many there were in all.
fn relay(tool: &mut Tool, wanted: &Wanted, take_apart: fn(&[u8]) -> Line<'_>) -> Result<usize> {
    let (mut lines, mut rest, mut buffer, mut time) = (0, Vec::new(), [0; 8192], String::new());
    loop {
        let length = files::read(tool.output.as_fd(), &mut buffer).map_err(|e| Error::io("read the log", &e))?;
        rest.extend_from_slice(&buffer[..length]);
        let mut text = String::new();
        // At the end, a last line without its newline counts too.
        let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let whole = if length == 0 || rest.len() > MAX_LINE { rest.len() } else { whole };
        for line in rest[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            lines += 1;
            text.extend(wanted.shown(take_apart(line), &mut time));
        }
        rest.drain(..whole);
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

/// One of the journal: `1769884200.123456 systemd[812]: Started it.` (journalctl(1), `short-unix`).
fn of_journal(line: &[u8]) -> Line<'_> {
    let parts = || {
        let (time, rest) = line.split_at(line.iter().position(|b| *b == b' ')?);
        let (seconds, micros) = std::str::from_utf8(time).ok()?.split_once('.')?;
        let (who, said) = rest.split_at(rest.windows(2).position(|two| two == b": ")?);
        let who = who.split(|b| *b == b'[').next()?;
        Some(Line { time: logging::rfc3339(seconds.parse().ok()?, micros.get(..3)?.parse().ok()?), who: who.get(1..)?, said: said.get(2..)? })
    };
    // A message goes on in further lines.
    parts().unwrap_or(Line { time: String::new(), who: b"", said: line })
}

/// One of the log file: a record, or text with or without a time.
fn of_file(line: &[u8]) -> Line<'_> {
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
            // Somebody else's words: the service manager's, or of a daemon that logs as text.
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
        let shown = |wanted: &Wanted, line: &[u8]| wanted.shown(of_file(line), &mut "2026-01-31T18:29:00.000Z".to_string());
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
    fn a_line_of_the_journal_and_of_a_file_is_taken_apart() {
        let parts = |line: Line<'_>| (line.time, shown(line.who), shown(line.said));
        let of = |time: &str, who: &str, said: &str| (time.to_string(), who.to_string(), said.to_string());
        assert_eq!(parts(of_journal(b"951782400.007999 systemd[812]: Started: it.")), of("2000-02-29T00:00:00.007Z", "systemd", "Started: it."));
        assert_eq!(parts(of_journal(b"951782400.007999 bkt: x")), of("2000-02-29T00:00:00.007Z", "bkt", "x"));
        for more in ["          more of it", "", " ", "1.5", "1.5 x", "x.y z: w", "1. x: y"] {
            assert_eq!(parts(of_journal(more.as_bytes())), of("", "", more));
        }
        assert_eq!(parts(of_file(b"2026-01-31T18:30:00.000Z WARN  text")), of("2026-01-31T18:30:00.000Z", "", "WARN  text"));
        assert_eq!(parts(of_file(b"panicked at x")), of("", "", "panicked at x"));
    }
}
