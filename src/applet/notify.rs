//! `notify-send`: libnotify's options, and a notification on the host's desktop.

use crate::applet::interceptor::{self, Request};
use crate::applet::{Call, RELEASE, output, usage};
use crate::desktop::notify::{self, MAX_PICTURE_BYTES, Notification, Picture};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::proto::capability::Capability;
use crate::sys::files;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const HELP: &str = "\
Usage: notify-send [OPTIONS] SUMMARY [BODY]

Shows a notification on the host's desktop, by the host's notify-send.

  -u, --urgency=LEVEL           low, normal, critical
  -t, --expire-time=TIME        milliseconds
  -a, --app-name=NAME
  -i, --icon=ICON               a name, or a file of this side
  -c, --category=TYPE[,TYPE…]
  -e, --transient
  -h, --hint=TYPE:NAME:VALUE
  -p, --print-id
  -r, --replace-id=ID
  -w, --wait                    until it is closed
  -A, --action=[NAME=]TEXT      prints NAME when it is chosen; several are possible; waits
  -v, --version
  -?, --help
";

/// Options with a value, with their letters.
const VALUES: &[(&str, char)] = &[("urgency", 'u'), ("expire-time", 't'), ("app-name", 'a'), ("icon", 'i'), ("category", 'c'), ("hint", 'h'), ("replace-id", 'r'), ("action", 'A')];
const FLAGS: &[(&str, char)] = &[("transient", 'e'), ("print-id", 'p'), ("wait", 'w')];

/// What the options came to.
enum Typed {
    Show(Notification),
    Help,
    Version,
}

pub fn run(call: &Call) -> Result<End> {
    call.start_log(0);
    let mut notification = match read(call.typed(), false)? {
        Typed::Show(notification) => notification,
        Typed::Help => {
            output::print(HELP);
            return Ok(End::Code(0));
        }
        Typed::Version => {
            output::print(&format!("notify-send of bkt {RELEASE}\n"));
            return Ok(End::Code(0));
        }
    };
    let mut request = Request::default();
    for option in &notification.options {
        request.word(option);
    }
    for picture in &mut notification.pictures {
        if let Some(file) = open(picture)? {
            let number = request.file(file)?;
            request.word(format!("--file={number}"));
        }
        request.word(picture.option(&picture.name));
    }
    request.word("--");
    notification.words.iter().for_each(|word| request.word(word));
    interceptor::or_become(call, interceptor::ask(call, Capability::Notify, request)?)
}

/// The file that a picture's name means on this side, if there is one; its name becomes a whole path then. Without one, the host
/// may know what is meant.
fn open(picture: &mut Picture) -> Result<Option<File>> {
    let path = interceptor::file_uri(&picture.name).unwrap_or_else(|| picture.name.clone());
    let is_path = path.contains(&b'/') || path.contains(&b'.') && Path::new(OsStr::from_bytes(&path)).is_file();
    let path = match notify::find_picture(&picture.name) {
        _ if is_path => interceptor::absolute(Path::new(OsStr::from_bytes(&path))),
        Some(path) => path,
        None => return Ok(None),
    };
    let path = path.into_os_string().into_vec();
    picture.name.clone_from(&path);
    let failed = |e: std::io::Error| Error::io(format!("read the picture {}", String::from_utf8_lossy(&path)), &e);
    let Ok(file) = File::open(OsStr::from_bytes(&path)) else { return Ok(None) };
    let about = file.metadata().map_err(failed)?;
    if about.is_file() && about.len() <= MAX_PICTURE_BYTES {
        return Ok(Some(file));
    }
    // A pipe of the shell's, perhaps: its bytes travel.
    let mut bytes = Vec::new();
    file.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_PICTURE_BYTES {
        return Err(Error::new(format!("the picture {} is longer than {MAX_PICTURE_BYTES} bytes: take a smaller one", String::from_utf8_lossy(&path))));
    }
    let mut memory = files::memory_file(c"picture").map_err(failed)?;
    memory.write_all(&bytes).and_then(|()| memory.rewind()).map_err(failed)?;
    Ok(Some(memory))
}

/// What an interceptor sent, read as a stranger's.
pub fn sent(args: Vec<OsString>) -> Result<Notification> {
    match read(args, true)? {
        Typed::Show(notification) => Ok(notification),
        Typed::Help | Typed::Version => Err(Error::new("there is nothing to show")),
    }
}

/// Reads what a person typed, or what an interceptor sent, which has `--file=N` before the picture that the descriptor brings.
fn read(args: Vec<OsString>, sent: bool) -> Result<Typed> {
    let mut notification = Notification::default();
    let mut file = None;
    let mut parser = Parser::from_args(args);
    let wrong = |e: lexopt::Error| usage(e, "notify-send");
    let bad = |what: String| usage(what, "notify-send");
    while let Some(arg) = parser.next().map_err(wrong)? {
        if let Some(name) = known(VALUES, &arg) {
            let value = parser.value().map_err(wrong)?;
            notification.option(name, value.as_bytes(), file.take()).map_err(bad)?;
            continue;
        }
        if let Some(name) = known(FLAGS, &arg) {
            notification.flag(name);
            continue;
        }
        match arg {
            Arg::Long("help") | Arg::Short('?') if !sent => return Ok(Typed::Help),
            Arg::Long("version") | Arg::Short('v') if !sent => return Ok(Typed::Version),
            Arg::Long("file") if sent => file = Some(parser.value().and_then(|v| v.parse()).map_err(wrong)?),
            Arg::Value(word) => notification.word(word.as_bytes()).map_err(bad)?,
            other => return Err(wrong(other.unexpected())),
        }
    }
    match notification.words.first() {
        Some(summary) if !summary.is_empty() => Ok(Typed::Show(notification)),
        _ => Err(usage("there is no summary", "notify-send")),
    }
}

fn known(list: &[(&'static str, char)], arg: &Arg<'_>) -> Option<&'static str> {
    let is = |(name, letter): &&(&'static str, char)| match arg {
        Arg::Long(long) => long == name,
        Arg::Short(short) => short == letter,
        Arg::Value(_) => false,
    };
    list.iter().find(is).map(|(name, _)| *name)
}
