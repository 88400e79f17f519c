//! What a guest daemon makes in its container: a directory of links, and the lines that put it first in PATH. All of it is taken
//! away again, and nothing of anybody else's.

use crate::error::{Error, Result};
use crate::paths;
use crate::proto::capability::Capability;
use crate::sys::files;
use std::cell::RefCell;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where it is where `/run` can be written to: the container's own, gone with it.
const USUAL: &str = "/run/bkt";

/// First line of what we write, by which it is known again.
const MARK: &str = "# made by bkt-guest, which removes it when it ends\n";

/// One program's way to be told of a PATH.
struct PathFile {
    /// There where its owner is installed.
    owner: &'static [&'static str],
    directory: &'static str,
    name: &'static str,
    text: fn(&str) -> String,
}

const PATH_FILES: &[PathFile] = &[
    // systemd's user manager and what it starts, environment.d(5).
    PathFile {
        owner: &["/etc/environment.d", "/usr/lib/environment.d", "/usr/lib/systemd/user-environment-generators"],
        directory: "/etc/environment.d",
        name: "90-bkt.conf",
        text: |bin| format!("PATH={bin}:$PATH\n"),
    },
    // Login shells of the Bourne family.
    PathFile {
        owner: &["/etc/profile.d"],
        directory: "/etc/profile.d",
        name: "zz-bkt.sh",
        text: |bin| format!("case \":$PATH:\" in *:{bin}:*) ;; *) PATH={bin}:$PATH; export PATH ;; esac\n"),
    },
    PathFile { owner: &["/etc/fish"], directory: "/etc/fish/conf.d", name: "bkt.fish", text: |bin| format!("contains -- {bin} $PATH; or set -gx PATH {bin} $PATH\n") },
];

/// The directory of this guest, and in it `bin`.
#[derive(Clone, Debug)]
pub struct Places {
    base: PathBuf,
    own: PathBuf,
    /// Directories of others' that were not there before.
    made: Rc<RefCell<Vec<&'static str>>>,
}

/// Where a guest that may not write to `/run` has its own.
pub fn below(runtime: &Path, container: &[u8]) -> PathBuf {
    paths::guests(&runtime.join("bkt")).join(String::from_utf8_lossy(container).replace('/', "_"))
}

impl Places {
    /// Makes the directory where it can be made: `/run/bkt`, else below the runtime directory, which other containers of the user
    /// may share. `own` is what the links lead to.
    pub fn make(runtime: &Path, container: &[u8], own: PathBuf) -> Result<Places> {
        let below = below(runtime, container);
        let mut failure = None;
        for base in [PathBuf::from(USUAL), below] {
            match make_directory(&base) {
                Ok(()) => return Ok(Places { base, own, made: Rc::default() }),
                Err(e) => failure = Some(Error::io(format!("make {}", base.join("bin").display()), &e)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::new("no place for the links")))
    }

    /// The directory of the links.
    pub fn bin(&self) -> PathBuf {
        self.base.join("bin")
    }

    /// What stands in for the socket that a guest has not: the empty directory is beside it.
    pub fn socket(&self) -> PathBuf {
        self.base.join("guest.sock")
    }

    /// Links for exactly these capabilities, and the PATH that leads to them.
    pub fn grant(&self, granted: &[&str]) {
        for capability in Capability::ALL {
            for name in capability.names() {
                let outcome = if granted.contains(&capability.word()) { self.link(name) } else { self.unlink(name) };
                if let Err(e) = outcome {
                    log::warn!("the link {}: {e}", self.bin().join(name).display());
                }
            }
        }
        let bin = self.bin().display().to_string();
        for file in PATH_FILES.iter().filter(|file| file.owner.iter().any(|owner| Path::new(owner).exists())) {
            if !Path::new(file.directory).exists() && DirBuilder::new().mode(0o755).create(file.directory).is_ok() {
                self.made.borrow_mut().push(file.directory);
            }
            match file.write(&bin) {
                // An ordinary user's guest writes to no /etc.
                Err(e) => log::debug!("{}: {e}", file.path().display()),
                Ok(()) => log::debug!("{} puts {bin} first in PATH", file.path().display()),
            }
        }
    }

    /// Takes away all that was made. Links and files only if they are ours: another guest of this container may have been there
    /// first, and still be.
    pub fn remove(&self, granted: bool) {
        let bin = self.bin();
        if granted {
            Capability::ALL.iter().flat_map(|capability| capability.names()).for_each(|name| drop(self.unlink(name)));
            let bin = bin.display().to_string();
            PATH_FILES.iter().for_each(|file| file.remove(&bin));
            self.made.borrow().iter().for_each(|directory| drop(fs::remove_dir(directory)));
        }
        // From the inside out; where something of somebody else's is left in one, it and the rest are theirs too.
        let parent = self.base.parent().filter(|_| self.base != Path::new(USUAL));
        let directories = [Some(bin.as_path()), Some(&self.base.join("nowhere")), Some(&self.base), parent];
        let _ = directories.into_iter().flatten().try_for_each(fs::remove_dir);
    }

    fn link(&self, name: &str) -> io::Result<()> {
        let path = self.bin().join(name);
        match fs::read_link(&path) {
            Ok(now) if now == self.own => return Ok(()),
            Ok(now) if now.file_name() != self.own.file_name() => return Err(io::Error::other(format!("leads to {}, and is left as it is", now.display()))),
            _ => {}
        }
        files::put_link(&path, &self.own)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let path = self.bin().join(name);
        match fs::read_link(&path) {
            Ok(now) if now == self.own => fs::remove_file(&path),
            _ => Ok(()),
        }
    }
}

fn make_directory(base: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(base.join("bin"))?;
    // It may be there and somebody else's: then the links would not be.
    let probe = base.join("bin").join(format!(".probe-{}", std::process::id()));
    symlink("bkt", &probe)?;
    fs::remove_file(&probe)?;
    match DirBuilder::new().mode(0o500).create(base.join("nowhere")) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

impl PathFile {
    fn path(&self) -> PathBuf {
        Path::new(self.directory).join(self.name)
    }

    fn write(&self, bin: &str) -> io::Result<()> {
        let (path, text) = (self.path(), format!("{MARK}{}", (self.text)(bin)));
        match fs::read(&path) {
            Ok(now) if now == text.as_bytes() => return Ok(()),
            Ok(now) if !now.starts_with(MARK.as_bytes()) => return Err(io::Error::other("is somebody else's, and left as it is")),
            _ => {}
        }
        let fresh = Path::new(self.directory).join(format!(".{}-{}", self.name, std::process::id()));
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh).and_then(|mut file| file.write_all(text.as_bytes()));
        written.and_then(|()| fs::rename(&fresh, &path)).inspect_err(|_| drop(fs::remove_file(&fresh)))
    }

    fn remove(&self, bin: &str) {
        if fs::read(self.path()).is_ok_and(|now| now == format!("{MARK}{}", (self.text)(bin)).as_bytes()) {
            let _ = fs::remove_file(self.path());
        }
    }
}
