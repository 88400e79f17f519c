//! Notifications: libnotify's options, checked, and shown by the host's `notify-send`.
//!
//! | a picture is given as | and the host gets |
//! |---|---|
//! | a name of a theme that the host has, too | the name |
//! | a file that the host has, too (same device and inode) | its path |
//! | a file or a name that only the container has | a copy beside the socket, at most 1 MiB |

use crate::desktop::open::same_file;
use crate::desktop::programs::{self, Programs};
use crate::error::{Error, Result};
use crate::handed;
use crate::paths;
use crate::process::directory;
use crate::sys::files;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The largest picture that is handed over.
pub const MAX_PICTURE_BYTES: u64 = 1024 * 1024;

/// The types of a hint's value.
const HINT_TYPES: &[&str] = &["boolean", "int", "double", "string", "byte", "variant"];

/// Hints whose value is a picture's path.
const PICTURE_HINTS: &[&[u8]] = &[b"string:image-path:", b"string:image_path:"];

/// Hints whose value is, or holds, a file's name.
const FILE_HINTS: &[&str] = &["image-path", "image_path", "sound-file"];

/// Where pictures with a name lie, for the themes that every other one falls back to (Icon Theme Specification).
const PICTURE_PLACES: &[&str] = &[
    "/usr/share/icons/hicolor/scalable/apps",
    "/usr/share/icons/hicolor/256x256/apps",
    "/usr/share/icons/hicolor/128x128/apps",
    "/usr/share/icons/hicolor/64x64/apps",
    "/usr/share/icons/hicolor/48x48/apps",
    "/usr/share/icons/hicolor/32x32/apps",
    "/usr/share/pixmaps",
];

/// One picture, and the number of the descriptor that brings it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// What stands before its name in the option: nothing, or the beginning of a hint.
    hint: &'static [u8],
    pub name: Vec<u8>,
    pub file: Option<u16>,
}

/// What is to be shown.
#[derive(Default, Debug)]
pub struct Notification {
    /// Long options, `--name=value`.
    pub options: Vec<Vec<u8>>,
    pub pictures: Vec<Picture>,
    /// Summary and body.
    pub words: Vec<Vec<u8>>,
    /// An option that libnotify has only since 0.8.
    recent: Option<&'static str>,
}

impl Notification {
    /// An option with its value, or what is wrong with it. `file` brings the picture that the value names.
    pub fn option(&mut self, name: &'static str, value: &[u8], file: Option<u16>) -> Result<(), String> {
        let text = String::from_utf8_lossy(value);
        let (fine, wanted) = match name {
            "urgency" => (matches!(&*text, "low" | "normal" | "critical"), "low, normal or critical"),
            "expire-time" => (text.parse::<i32>().is_ok(), "milliseconds"),
            "replace-id" => (text.parse::<u32>().is_ok(), "the number that --print-id printed"),
            "hint" => (is_hint(&text), "TYPE:NAME:VALUE; types are boolean, int, double, string, byte, variant"),
            "action" => (!text.is_empty(), "NAME=Text, or a text"),
            _ => (true, ""),
        };
        if !fine {
            return Err(format!("--{name} wants {wanted}, not '{}'", crate::logging::shown(value)));
        }
        if matches!(name, "action" | "replace-id") {
            self.recent.get_or_insert(name);
        }
        let hint = PICTURE_HINTS.iter().find(|hint| name == "hint" && starts_as(value, hint));
        // Other hints that name a file, or the same ones said in another way: what they name would be read unseen.
        if name == "hint" && hint.is_none() && FILE_HINTS.iter().any(|file| text.split(':').nth(1) == Some(file)) {
            return Err(format!("--hint: of the hints that name a file only string:image-path is passed on, not '{}'", crate::logging::shown(value)));
        }
        if name == "icon" || hint.is_some() {
            let hint = hint.map_or(&b""[..], |hint| hint);
            self.pictures.push(Picture { hint, name: value[hint.len()..].to_vec(), file });
            return Ok(());
        }
        self.options.push(format!("--{name}={text}").into_bytes());
        Ok(())
    }

    pub fn flag(&mut self, name: &'static str) {
        self.recent.get_or_insert(name);
        self.options.push(format!("--{name}").into_bytes());
    }

    /// Summary, then body; bytes that are no text would not get through the session bus.
    pub fn word(&mut self, word: &[u8]) -> Result<(), String> {
        if self.words.len() == 2 {
            return Err(format!("a summary and a body are all; '{}' is too much (quote a text with blanks)", crate::logging::shown(word)));
        }
        self.words.push(String::from_utf8_lossy(word).into_owned().into_bytes());
        Ok(())
    }
}

impl Picture {
    /// The option again.
    pub fn option(&self, name: &[u8]) -> Vec<u8> {
        if self.hint.is_empty() { [b"--icon=", name].concat() } else { [b"--hint=", self.hint, name].concat() }
    }
}

/// The type in any case of letters, as libnotify takes it.
fn starts_as(value: &[u8], hint: &[u8]) -> bool {
    value.len() >= hint.len() && value[..hint.len()].eq_ignore_ascii_case(hint) && value[b"string".len()..].starts_with(&hint[b"string".len()..])
}

fn is_hint(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let known = parts.next().is_some_and(|kind| HINT_TYPES.contains(&kind.to_ascii_lowercase().as_str()));
    known && parts.next().is_some_and(|name| !name.is_empty()) && parts.next().is_some()
}

/// The file of a picture's name on this side.
pub fn find_picture(name: &[u8]) -> Option<PathBuf> {
    if name.is_empty() || name.contains(&b'/') {
        return None;
    }
    let ends: [&[u8]; 3] = [b".svg", b".png", b".xpm"];
    let all = PICTURE_PLACES.iter().flat_map(|place| ends.map(|end| Path::new(place).join(OsStr::from_bytes(&[name, end].concat()))));
    all.into_iter().find(|path| path.is_file())
}

/// Shows it; returns only where that failed.
pub fn show(mut notification: Notification, programs: &mut Programs<'_>, handed: &Path) -> Result<()> {
    let program = programs.need("notify-send", "libnotify-bin, libnotify")?;
    // glib takes arguments for text of the locale, and in a daemon's that may be ASCII.
    programs.set.push(("LC_ALL", b"C.UTF-8".to_vec()));
    if let Some(option) = notification.recent {
        require(option, &program, programs)?;
    }
    let mut args = std::mem::take(&mut notification.options);
    for picture in &notification.pictures {
        args.extend(place(picture, handed)?.map(|name| picture.option(&name)));
    }
    args.push(b"--".to_vec());
    args.extend(notification.words);
    Err(programs.become_one(&program, &args))
}

/// Older programs would end with a complaint about an option that nobody typed.
fn require(option: &str, program: &std::ffi::CStr, programs: &Programs<'_>) -> Result<()> {
    let mut help = files::memory_file(c"help").map_err(|e| Error::io("memory", &e))?;
    programs::succeeded(program, programs.run(program, &[b"--help".to_vec()], None, Some(&help))?)?;
    let mut text = Vec::new();
    help.rewind().and_then(|()| help.read_to_end(&mut text)).map_err(|e| Error::io("read what notify-send can do", &e))?;
    if String::from_utf8_lossy(&text).contains(&format!("--{option}")) {
        return Ok(());
    }
    Err(Error::new(format!("the host's notify-send has no --{option}: it comes with libnotify 0.8; install that on the host, or leave the option out")))
}

/// What the host's notification service can read under what name; `None` where there is no picture to be had.
fn place(picture: &Picture, handed: &Path) -> Result<Option<Vec<u8>>> {
    let name = &picture.name;
    let is_path = name.starts_with(b"/");
    if name.is_empty() || name.contains(&b'/') && !is_path || name.iter().any(u8::is_ascii_control) {
        return Err(Error::new(format!("'{}' is neither a picture's path nor its name", crate::logging::shown(name))));
    }
    // A theme's picture of the container's, and the host has one of that name, too.
    let base = name.rsplit(|b| *b == b'/').next().unwrap_or(name);
    let stem = &base[..base.iter().rposition(|b| *b == b'.').unwrap_or(base.len())];
    let of_theme = is_path && PICTURE_PLACES.iter().any(|dir| name.strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.len() == base.len() + 1));
    if of_theme && find_picture(stem).is_some() {
        return Ok(Some(stem.to_vec()));
    }
    let here = if is_path { directory::translate(name, paths::HOST_ROOT).map(|p| PathBuf::from(OsStr::from_bytes(p))) } else { None };
    let file = picture.file.map(|number| files::adopt(i32::from(number)).map(File::from)).transpose().map_err(|e| Error::io("take the picture over", &e))?;
    let Some(file) = file else {
        // A device or a pipe would keep the notification service reading.
        let readable = !is_path || here.as_ref().is_some_and(|path| path.is_file());
        return Ok(readable.then(|| here.map_or_else(|| name.clone(), |path| path.into_os_string().into_encoded_bytes())));
    };
    match here {
        Some(path) if same_file(&path, &file) => Ok(Some(path.into_os_string().into_encoded_bytes())),
        _ => {
            if !file.metadata().is_ok_and(|about| about.is_file()) {
                return Err(Error::new(format!("the picture {} is no file", crate::logging::shown(name))));
            }
            handed::keep(handed, file, base, MAX_PICTURE_BYTES).map(|path| Some(path.into_os_string().into_encoded_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_before_anything_is_shown() {
        let mut all = Notification::default();
        for (name, value) in [("urgency", "high"), ("expire-time", "5s"), ("replace-id", "-1"), ("hint", "string:x"), ("hint", "color:a:b"), ("action", "")] {
            assert!(all.option(name, value.as_bytes(), None).unwrap_err().contains(name), "{name}={value}");
        }
        for (name, value) in [("urgency", "low"), ("expire-time", "-1"), ("hint", "INT:value:5"), ("hint", "string:x:a:b"), ("app-name", "--x")] {
            all.option(name, value.as_bytes(), None).unwrap();
        }
        assert_eq!((all.options.len(), all.recent), (5, None));
        // Files are looked at before the notification service is told of them.
        for value in ["variant:image-path:'/dev/zero'", "STRING:sound-file:/dev/zero", "byte:image_path:1"] {
            assert!(all.option("hint", value.as_bytes(), None).unwrap_err().contains("name a file"), "{value}");
        }
        all.option("hint", b"String:image-path:/dev/zero", None).unwrap();
        assert_eq!((all.options.len(), all.pictures.pop().unwrap().name), (5, b"/dev/zero".to_vec()));
        all.option("action", b"yes=Yes", None).unwrap();
        assert_eq!(all.recent, Some("action"));
        all.word(b"a").unwrap();
        all.word(b"b\xff").unwrap();
        assert!(all.word(b"c").is_err() && all.words[1] == "b\u{fffd}".as_bytes());
    }

    #[test]
    fn an_icon_and_a_picture_hint_stay_what_they_are() {
        let mut all = Notification::default();
        all.option("icon", b"/x/a.png", Some(5)).unwrap();
        all.option("hint", b"string:image-path:/y", None).unwrap();
        assert!(all.options.is_empty());
        assert_eq!(all.pictures[0].option(b"/z"), b"--icon=/z");
        assert_eq!(all.pictures[1].option(b"/z"), b"--hint=string:image-path:/z");
    }

    #[test]
    fn a_picture_without_a_file_is_a_name_or_a_file_of_the_hosts() {
        let place = |name: &str| place(&Picture { hint: b"", name: name.into(), file: None }, Path::new("/nowhere"));
        assert_eq!(place("dialog-information").unwrap(), Some(b"dialog-information".to_vec()));
        assert_eq!(place("/etc/passwd").unwrap(), Some(b"/etc/passwd".to_vec()));
        assert_eq!(place("/run/host/etc/passwd").unwrap(), Some(b"/etc/passwd".to_vec()));
        assert_eq!((place("/dev/zero").unwrap(), place("/no/such").unwrap()), (None, None));
        assert!(place("a/b").is_err() && place("").is_err() && place("a\nb").is_err());
    }
}
