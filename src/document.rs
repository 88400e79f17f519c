//! JSON files that people write: read with a place in every error, replaced as a whole.
//!
//! May import: floors 0 and 1.

use crate::error::{Error, Result, reason};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The largest file that is read: a list for people is a thousand times shorter.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads a file; `None` where there is none. What is wrong in it is said with line, column and what was expected.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    read_text(path)?.map(|text| parse_file(path, &text)).transpose()
}

/// What a file says, from its text.
pub fn parse_file<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    parse(text).map_err(|what| Error::new(format!("{}:{what}", path.display())))
}

/// The text of a file that may be a document; `None` where there is none.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    // Looked at first: opening a named pipe would wait for its writer.
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("read {}", path.display()), &e)),
    };
    if !about.is_file() {
        return Err(Error::new(format!("{} is not a file", path.display())));
    }
    if about.len() > MAX_BYTES {
        return Err(Error::new(format!("{} has {} bytes; at most {MAX_BYTES} are read", path.display(), about.len())));
    }
    fs::read_to_string(path).map(Some).map_err(|e| Error::io(format!("read {}", path.display()), &e))
}

/// The same for text at hand; an error begins with `LINE:COLUMN: `, both counted from 1.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| {
        let what = e.to_string();
        // serde_json says the place at the end; people's editors want it in front.
        let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what);
        // What it calls an identifier is one of three words.
        let what = what.replace("expected ident", "expected true, false or null");
        format!("{}:{}: {what}", e.line(), e.column())
    })
}

/// Text of a document, as it is written.
pub fn text(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// What tells a text or a file from others (FNV-1a): against accidents, not against malice. Never 0.
pub fn stamp(text: impl AsRef<[u8]>) -> u64 {
    text.as_ref().iter().fold(0xcbf2_9ce4_8422_2325, |stamp: u64, byte| (stamp ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)).max(1)
}

/// Replaces a file as a whole: nobody ever reads half of it, and a failure leaves the old one. A link is followed, so that a file
/// kept elsewhere (a repository of dotfiles) stays there. Its directories are made, its modes kept.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |e: io::Error| Error::new(format!("write {}: {}; it is as it was", path.display(), reason(&e)));
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(_) => path.to_path_buf(),
    };
    let directory = real.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed)?;
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fresh = directory.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let written = (|| {
        let mut file = File::create_new(&fresh)?;
        if let Ok(old) = fs::metadata(&real) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &real)
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&fresh);
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Named {
        #[allow(dead_code)]
        name: String,
    }

    #[test]
    fn an_error_says_line_column_and_what_was_expected() {
        assert_eq!(parse::<Named>("{\n  \"name\": 1\n}").unwrap_err(), "2:11: invalid type: integer `1`, expected a string");
        assert_eq!(parse::<Named>("{\"nom\": 1}").unwrap_err(), "1:6: unknown field `nom`, expected `name`");
        assert!(parse::<Named>("{\"name\": \"x\"").unwrap_err().starts_with("1:12: EOF"));
    }

    #[test]
    fn a_file_is_replaced_behind_its_link_and_keeps_its_modes() {
        let directory = std::env::temp_dir().join(format!("bkt-document-{}", std::process::id()));
        let (real, link) = (directory.join("kept/real.json"), directory.join("link.json"));
        write(&real, "1\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        write(&link, "2\n").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "2\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(read::<u32>(&link).unwrap(), Some(2));
        assert_eq!(read::<u32>(&directory.join("none.json")).unwrap(), None);
        assert_eq!(fs::read_dir(directory.join("kept")).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(directory).unwrap();
    }
}
