//! The links in a directory of shims, and what else lies there.

use crate::checks::{Finding, Mend, quoted};
use std::path::Path;

/// What a name in a directory of shims is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry<'a> {
    /// It leads to a bkt.
    Shim,
    /// A link that leads nowhere; what it says.
    Dangling(&'a Path),
    /// A link to something else.
    Foreign(&'a Path),
    /// No link at all.
    File,
    /// The very executable, under a shim's name and not as a link: it does not know itself.
    Copy,
}

/// `executable` is where links of ours lead.
pub fn entry(path: &Path, entry: Entry<'_>, executable: &Path) -> Option<Finding> {
    let at = path.display();
    match entry {
        Entry::Shim => None,
        Entry::Dangling(to) if to.file_name().is_some_and(|name| name == "bkt") => {
            let mend = Mend::Link { link: path.to_path_buf(), to: executable.to_path_buf() };
            Some(Finding::broken(format!("the shim {at} leads to {}, which is not there", to.display()), "the shell says 'not found', or runs another command of that name", mend))
        }
        Entry::Dangling(to) => Some(Finding::warning(
            format!("{at} leads to {}, which is not there, and is not ours", to.display()),
            "the name does not work",
            Mend::ByHand(format!("rm {}", quoted(path))),
        )),
        Entry::Foreign(to) => Some(Finding::warning(
            format!("{at} leads to {}, not to bkt", to.display()),
            "among the shims it is taken for one, and runs in the container",
            Mend::ByHand(format!("rm {}", quoted(path))),
        )),
        Entry::File => {
            let mend = Mend::ByHand(format!("mv -n {} \"$HOME\"", quoted(path)));
            Some(Finding::warning(format!("{at} is a file, not a link to bkt"), "among the shims it is taken for one, and runs in the container", mend))
        }
        Entry::Copy => copy(path),
    }
}

/// A copy of bkt under the name of a command, where the daemon searches for that command.
pub fn copy(path: &Path) -> Option<Finding> {
    let what = format!("{} is a copy of bkt, not a link to it", path.display());
    Some(Finding::broken(what, "it is found in place of the real command, and calls itself until it is stopped", Mend::ByHand(format!("rm {}", quoted(path)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_of_ours_is_mended_unasked() {
        let found = |what| entry(Path::new("/s/ls"), what, Path::new("/b/bkt"));
        assert_eq!(found(Entry::Shim), None);
        let dangling = found(Entry::Dangling(Path::new("/old/bkt"))).unwrap();
        assert_eq!(dangling.mend, Mend::Link { link: "/s/ls".into(), to: "/b/bkt".into() });
        for foreign in [Entry::Dangling(Path::new("/old/x")), Entry::Foreign(Path::new("/x")), Entry::File, Entry::Copy] {
            assert!(matches!(found(foreign).unwrap().mend, Mend::ByHand(_)), "{foreign:?}");
        }
    }
}
