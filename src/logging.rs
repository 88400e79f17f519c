//! The log: one line per fact, on standard error.
//!
//! JSON lines where a program reads (standard error is no terminal and a supervisor is there, or `BKT_LOG_FORMAT=json`), plain
//! text for people. The operation id is a field of the record (`op_id`), so that one `grep` finds an operation on either side.
//! May import: floors 0 and 1.

use crate::opid::OpId;
use crate::sys::{files, socket};
use log::kv::{self, Key, ToValue, Value, VisitSource, VisitValue};
use log::{LevelFilter, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Serialize, Serializer};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A log file that is larger is put aside, and begun anew: some 40,000 operations. A container that is refused all day has two of them.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Who reads the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `bkt: message (op-…)`: a client's words among those of other programs.
    Client,
    /// Time, level, message: a daemon at a terminal.
    Text,
    /// One JSON object a line: a daemon under a supervisor.
    Json,
}

/// A file that is standard error.
pub struct LogFile {
    path: PathBuf,
    old: PathBuf,
    /// By our count; others may write to it.
    bytes: u64,
}

impl LogFile {
    /// Makes a file our standard error: the log, and whatever else might be said there. `old` is where a large one is put.
    pub fn open(path: &Path, old: &Path) -> io::Result<LogFile> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        if fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() > MAX_FILE_BYTES) {
            fs::rename(path, old)?;
        }
        // Arguments stand in it at -vv: it is its owner's alone. A fifo that nobody reads is an error, and not waited for.
        let file = File::options().append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
        let bytes = file.metadata()?.len();
        files::become_standard(file.into(), 2)?;
        Ok(LogFile { path: path.to_path_buf(), old: old.to_path_buf(), bytes })
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes > MAX_FILE_BYTES {
            // Where that fails it goes on as it is, and is tried again as much later.
            self.bytes = LogFile::open(&self.path, &self.old).map_or(0, |file| file.bytes);
        }
    }
}

/// Starts the log. `filter` is `BKT_LOG` (a level, or env_logger's `target=level` list); `verbosity` counts `-v`.
pub fn start(format: Format, base: LevelFilter, verbosity: u8, filter: Option<&[u8]>, file: Option<LogFile>) {
    let mut builder = env_logger::Builder::new();
    let level = match verbosity {
        0 => base,
        1 => LevelFilter::Info.max(base),
        _ => LevelFilter::Debug.max(base),
    };
    builder.filter_level(level);
    if let Some(filter) = filter.and_then(|f| std::str::from_utf8(f).ok()) {
        builder.parse_filters(filter);
    }
    let daemon = Mutex::new(StandardError { json: format == Format::Json, lost: 0, cut: false, file });
    builder.format(move |out, record| {
        let fields = fields(record);
        let line = match format {
            Format::Json => json(record.level().as_str(), &record.args().to_string(), &fields),
            Format::Text => format!("{} {:5} {}{}", now(), record.level(), record.args(), suffix(&fields)),
            // Its own output waits for the same reader.
            Format::Client => return writeln!(out, "bkt: {}{}", record.args(), suffix(&fields)),
        };
        daemon.lock().unwrap_or_else(PoisonError::into_inner).say(line + "\n");
        Ok(())
    });
    // A second start (a test in one process) keeps the first.
    let _ = builder.try_init();
}

/// A daemon's standard error, whose reader may be slow or stopped: what is not taken at once is lost, not waited for. The next line
/// that is taken says how many were lost.
struct StandardError {
    json: bool,
    lost: u32,
    /// The reader has the beginning of a line.
    cut: bool,
    file: Option<LogFile>,
}

impl StandardError {
    fn say(&mut self, line: String) {
        if self.lost > 0 && self.put(self.lost_lines().as_bytes()) {
            (self.lost, self.cut) = (0, false);
        }
        if self.lost > 0 || !self.put(line.as_bytes()) {
            self.lost += 1;
        }
    }

    fn lost_lines(&self) -> String {
        let (start, text) = (if self.cut { "\n" } else { "" }, format!("lines of the log that are lost here, its reader was too slow: {}", self.lost));
        if self.json { format!("{start}{}\n", json("warn", &text, &[])) } else { format!("{start}{} WARN  {text}\n", now()) }
    }

    /// Says whether all of it was taken.
    fn put(&mut self, line: &[u8]) -> bool {
        let mut rest = line;
        while !rest.is_empty() {
            let Ok(taken) = put_at_once(rest) else { break };
            rest = &rest[taken..];
        }
        if let Some(file) = &mut self.file {
            file.grow(line.len() - rest.len());
        }
        self.cut |= !rest.is_empty() && rest.len() < line.len();
        rest.is_empty()
    }
}

/// Writes to standard error what it takes without waiting. Whoever shares it (a journal's socket is everybody's) may want to wait: so
/// the write says it, and not the descriptor.
fn put_at_once(bytes: &[u8]) -> io::Result<usize> {
    let fd = files::inherited(2).ok_or(io::ErrorKind::NotFound)?;
    match socket::send(fd, bytes, &[]) {
        Err(e) if e.raw_os_error() == Some(libc::ENOTSOCK) => {}
        sent => return sent,
    }
    // Where a pipe can be written to there is room for this much, `PIPE_BUF` of pipe(7).
    match poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO) {
        Ok(1) => files::write(fd, &bytes[..bytes.len().min(4096)]),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn fields(record: &Record<'_>) -> Vec<(String, String)> {
    struct Collect(Vec<(String, String)>);
    impl<'kvs> VisitSource<'kvs> for Collect {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            let mut field = Field { is_op: key.as_str() == OP_FIELD, text: String::new() };
            value.visit(&mut field)?;
            self.0.push((key.to_string(), field.text));
            Ok(())
        }
    }
    let mut all = Collect(Vec::new());
    let _ = record.key_values().visit(&mut all);
    all.0
}

/// One field of a record. Ours are texts, numbers, operation ids, and the lack of one: a value's own `Display` writes everything that
/// there is, and brings 10 KB of code for floating-point numbers.
struct Field {
    is_op: bool,
    text: String,
}

impl<'v> VisitValue<'v> for Field {
    fn visit_any(&mut self, _: Value<'_>) -> Result<(), kv::Error> {
        self.visit_str("?")
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.visit_str("none")
    }

    fn visit_u64(&mut self, number: u64) -> Result<(), kv::Error> {
        let op = OpId::from_bits(number).filter(|_| self.is_op);
        self.text = op.map_or_else(|| number.to_string(), |op| op.to_string());
        Ok(())
    }

    fn visit_str(&mut self, text: &str) -> Result<(), kv::Error> {
        self.text = text.to_string();
        Ok(())
    }
}

/// The name of the field that has the operation's id.
const OP_FIELD: &str = "op_id";

impl ToValue for OpId {
    /// Its number, which is written as an id in [`OP_FIELD`] alone.
    fn to_value(&self) -> Value<'_> {
        self.bits().into()
    }
}

fn suffix(fields: &[(String, String)]) -> String {
    fields.iter().filter(|(key, _)| key == OP_FIELD).map(|(_, value)| format!(" ({value})")).collect()
}

fn json(level: &str, message: &str, fields: &[(String, String)]) -> String {
    let (time, level) = (now(), level.to_ascii_lowercase());
    let fixed = [("time", &*time), ("level", &level), ("message", message)];
    let all = fixed.into_iter().chain(fields.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    object(all.collect())
}

/// One line of JSON, with its fields in this order.
pub fn object(fields: Vec<(&str, &str)>) -> String {
    serde_json::to_string(&Object(fields)).unwrap_or_default()
}

/// An object in the order of its fields.
struct Object<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// The date, as the log's records have it.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_millis())
}

/// UTC as RFC 3339 has it, to the millisecond.
pub fn rfc3339(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970, counted in 400-year eras that begin on 1 March (the usual proleptic Gregorian method).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Bytes as a person may safely see them: UTF-8 as it is, control characters and broken bytes escaped.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_right_across_leap_days() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(1_709_251_199, 999), "2024-02-29T23:59:59.999Z");
        assert_eq!(rfc3339(1_709_251_200, 0), "2024-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(4_107_542_399, 0), "2100-02-28T23:59:59.000Z");
        assert_eq!(rfc3339(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn each_field_of_a_record_is_written() {
        let op = OpId::parse(b"op-00000000000a");
        let all = [("op_id", op.to_value()), ("pid", 7u32.to_value()), ("ms", 8u64.to_value()), ("code", "busy".to_value())];
        let written = fields(&Record::builder().key_values(&&all[..]).build());
        assert_eq!(json("info", "x", &written).split_once("\"message\"").unwrap().1, r#":"x","op_id":"op-00000000000a","pid":"7","ms":"8","code":"busy"}"#);
        assert_eq!(suffix(&written), " (op-00000000000a)");
        let none = [("op_id", None::<OpId>.to_value())];
        assert_eq!(suffix(&fields(&Record::builder().key_values(&&none[..]).build())), " (none)");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(shown(b"a\x1b[31m\n\xff\xc3\xa9"), "a\\u{1b}[31m\\n\\xff\u{e9}");
    }
}
