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

What the host's daemon has written to the journal, or to its log file: one line for each operation with 'bkt-hostd -v',
else warnings and errors.

  -f, --follow   wait for more
  --op ID        one operation, as in '(op-1f3a9c0b7d2e)' at the end of an error
  --since WHEN   10m, 2h, 3d; or a date and time as the log has it (UTC): 2026-01-31, 2026-01-31T18:30
  --json         the lines as they are written
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

/// One line of the log, as `logging` writes it.
#[derive(Deserialize)]
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
    let like = b"0000-00-00T00:00:00.000Z";
    let fits = |at: usize, byte: u8| like.get(at).is_some_and(|l| if l.is_ascii_digit() { byte.is_ascii_digit() } else { byte == *l });
    let text = text.replace(' ', "T");
    if text.len() >= 10 && text.bytes().enumerate().all(|(at, byte)| fits(at, byte)) {
        return Ok(text);
    }
    Err(usage(format_args!("--since wants 10m, 2h, 3d, or a date like 2026-01-31 or 2026-01-31T18:30, not '{text}'"), "bkt log"))
}

fn show(call: &Call, wanted: &Wanted) -> Result<End> {
    let file = paths::log_file(&call.invocation).filter(|path| path.is_file());
    let supervised = matches!(ask::status(&call.sockets(), call.op), Ok(Found::Running(status)) if status.supervised);
    let shims = paths::shim_directories(&call.invocation);
    let start = |words: &[&[u8]]| Tool::start(&call.invocation, &shims, words, Errors::Ours);
    let journal = || {
        let mut words: Vec<&[u8]> = vec![b"journalctl", b"--user", b"--unit=bkt-hostd", b"--output=cat", b"--no-pager", b"--quiet"];
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
        relay(&mut tool, wanted)?;
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
    let lines = relay(&mut tool, wanted)?;
    match tool.wait() {
        Ok(End::Code(0)) if lines > 0 || supervised => Ok(End::Code(0)),
        Ok(End::Code(0)) => Err(nowhere("the journal has nothing of bkt-hostd")),
        Ok(_) => Err(nowhere("journalctl --user cannot read the journal (where /var/log/journal is not, only the group systemd-journal may)")),
        Err(_) => Err(nowhere("there is no journal here (journalctl --user)")),
    }
}

/// Shows the lines that are wanted as they come; says how many there were in all.
fn relay(tool: &mut Tool, wanted: &Wanted) -> Result<usize> {
    let (mut lines, mut rest, mut buffer) = (0, Vec::new(), [0; 8192]);
    loop {
        let length = files::read(tool.output.as_fd(), &mut buffer).map_err(|e| Error::io("read the log", &e))?;
        rest.extend_from_slice(&buffer[..length]);
        let mut text = String::new();
        // At the end, a last line without its newline counts too.
        let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let whole = if length == 0 || rest.len() > MAX_LINE { rest.len() } else { whole };
        for line in rest[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            lines += 1;
            text.extend(wanted.shown(line));
        }
        rest.drain(..whole);
        if !output::try_print(&text) || length == 0 {
            return Ok(lines);
        }
    }
}

impl Wanted {
    /// The line as it is shown, if it is wanted.
    fn shown(&self, line: &[u8]) -> Option<String> {
        let plain = || format!("{}\n", shown(line));
        let Ok(record) = serde_json::from_slice::<Record>(line) else {
            // Somebody else's words: the service manager's, or of a daemon that logs as text.
            let is_wanted = !self.json && self.since.is_empty() && self.op.as_ref().is_none_or(|op| line.windows(op.len()).any(|w| w == op.as_bytes()));
            return is_wanted.then(plain);
        };
        if *record.time < *self.since || self.op.as_ref().is_some_and(|op| *op != record.op_id) {
            return None;
        }
        if self.json {
            return Some(plain());
        }
        let op = if record.op_id.is_empty() { "-" } else { &record.op_id };
        Some(format!("{:24} {:5} {op:15} {}\n", shown(record.time.as_bytes()), shown(record.level.as_bytes()), shown(record.message.as_bytes())))
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
        let all = Wanted::default();
        assert_eq!(all.shown(line).unwrap(), "2026-01-31T18:30:00.000Z info  op-00000000000a ls: exit status 0\n");
        assert_eq!(all.shown(b"Started \x1b[1mit").unwrap(), "Started \\u{1b}[1mit\n");
        let op = |id: &str| Wanted { op: Some(id.into()), ..Wanted::default() };
        assert!(op("op-00000000000a").shown(line).is_some() && op("op-00000000000b").shown(line).is_none());
        let after = |time: &str| Wanted { since: time.into(), ..Wanted::default() };
        assert!(after("2026-01-31").shown(line).is_some() && after("2026-01-31T18:31").shown(line).is_none());
        let json = Wanted { json: true, ..Wanted::default() };
        assert_eq!(json.shown(line).unwrap().as_bytes(), [&line[..], b"\n"].concat());
        assert_eq!(json.shown(b"no record"), None);
    }
}
