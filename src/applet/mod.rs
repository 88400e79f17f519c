//! The table of names: what this executable is, by the name it was started under.
//!
//! May import: everything below. Start here: `run` finds the row, the row's file reads the options (`lexopt` lives on this floor
//! alone) and calls one role. Dispatch, `--list` and a test read the same table.

#[cfg(feature = "tools")]
mod admin;
mod bkt;
mod clipboard;
#[cfg(feature = "tools")]
mod commands;
#[cfg(not(feature = "tools"))]
#[path = "few_commands.rs"]
mod commands;
#[cfg(feature = "tools")]
mod complete;
mod containers;
mod distrobox;
#[cfg(feature = "tools")]
mod doctor;
#[cfg(feature = "tools")]
mod enter;
mod guest;
#[cfg(feature = "tools")]
mod history;
mod host_exec;
mod hostd;
mod interceptor;
mod notify;
mod open;
mod output;
#[cfg(feature = "tools")]
mod overview;
mod perform;
#[cfg(feature = "tools")]
mod schema;
#[cfg(feature = "tools")]
mod service;
#[cfg(feature = "tools")]
mod shell;
#[cfg(feature = "tools")]
mod shell_line;
mod shim;
#[cfg(feature = "tools")]
mod shims;
#[cfg(feature = "tools")]
mod sides;
#[cfg(feature = "tools")]
mod system;

use crate::error::Result;
use crate::exit::{self, End};
use crate::invocation::Invocation;
use crate::logging;
use crate::opid::OpId;
use crate::process::environment;
use crate::shims::manifest::is_of_bkt;
use crate::sys::files;
use log::LevelFilter;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The release, as in `bkt --version`.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Names a descriptor for one line about a failure of ours, and nothing where there was none: by it a script tells our 125 from
/// the command's.
const FAILURE_FD: &str = "BKT_FAILURE_FD";

/// One name.
pub struct Applet {
    pub name: &'static str,
    entry: fn(&Call) -> Result<End>,
    pub help: &'static str,
}

/// All names but the shims, which are whatever else this executable is called.
pub const APPLETS: &[Applet] = &[
    Applet { name: "bkt", entry: bkt::run, help: "the command-line tool" },
    Applet { name: "bkt-hostd", entry: hostd::run, help: "the daemon that runs commands for its callers (host)" },
    Applet { name: "bkt-guest", entry: guest::run, help: "a container's start, and its guest daemon (container)" },
    Applet { name: "host-exec", entry: host_exec::run, help: "runs a command of the host (container)" },
    Applet { name: "notify-send", entry: notify::run, help: "shows a notification on the host's desktop (container)" },
    Applet { name: "xdg-open", entry: open::run, help: "opens a URI or a file with the host's programs (container)" },
    Applet { name: "bkt-clipboard", entry: clipboard::run, help: "the host's clipboard: set, get, clear, types" },
    Applet { name: "podbox-clipboard", entry: clipboard::run, help: "the same" },
    Applet { name: "wl-copy", entry: clipboard::wl_copy, help: "the host's clipboard, as wl-clipboard has it (container)" },
    Applet { name: "wl-paste", entry: clipboard::wl_paste, help: "the same" },
    Applet { name: "xclip", entry: clipboard::xclip, help: "the host's clipboard, as xclip has it (container)" },
    Applet { name: "xsel", entry: clipboard::xsel, help: "the host's clipboard, as xsel has it (container)" },
    Applet { name: "pbcopy", entry: clipboard::pbcopy, help: "the host's clipboard, as macOS has it (container)" },
    Applet { name: "pbpaste", entry: clipboard::pbpaste, help: "the same" },
    Applet { name: "bkt-perform", entry: perform::run, help: "does what a container was granted; started by the daemon" },
];

/// One call of an applet: how it was started, and what all of them share.
pub struct Call {
    pub invocation: Invocation,
    pub op: OpId,
}

/// From the invocation to the end. Errors are printed here, and nowhere else.
pub fn run(invocation: Invocation) -> End {
    let handed = invocation.var(environment::OP_ID).and_then(OpId::parse);
    let op = handed.unwrap_or_else(|| OpId::from_random(files::random()));
    let mut call = Call { invocation, op };
    let entry = find(&mut call.invocation);
    entry(&call).unwrap_or_else(|error| {
        output::complain(&format!("bkt: {} ({op})", error.text));
        call.tell_failure(error.word, error.code);
        End::Code(error.code)
    })
}

/// The applet of a name. As first argument of `bkt` a name is accepted too, and then stands where `argv[0]` stood.
fn find(invocation: &mut Invocation) -> fn(&Call) -> Result<End> {
    let named = |name: &[u8]| APPLETS.iter().find(|applet| applet.name.as_bytes() == name);
    let mut tool = is_tool(invocation, named);
    let verbose = |arg: &&&CStr| matches!(arg.to_bytes(), b"-v" | b"--verbose");
    let before = if tool { 1 + invocation.args.iter().skip(1).take_while(verbose).count() } else { 0 };
    if tool
        && let Some(first) = invocation.args.get(before)
        && (named(first.to_bytes()).is_some_and(|applet| applet.name != "bkt") || crate::shims::shipped().any(|name| name.as_bytes() == first.to_bytes()))
    {
        invocation.args.drain(..before);
        tool = false;
        if before > 1 {
            // Names know no option of ours, but all of them this.
            invocation.env.retain(|entry| !entry.to_bytes().starts_with(b"BKT_LOG="));
            invocation.env.push(c"BKT_LOG=info");
        }
    }
    match invocation.name() {
        b"" => bkt::run,
        _ if tool => bkt::run,
        // A container may have an `xclip` of its own, shown to the host: its link is that, and not the host's clipboard.
        name => match named(name).filter(|applet| is_of_bkt(applet.name.as_bytes()) || !distrobox::is_one(invocation)) {
            Some(applet) => applet.entry,
            None if is_of_bkt(name) => no_such_name,
            None if distrobox::is_one(invocation) => distrobox::run,
            None => shim::run,
        },
    }
}

/// Whether this is `bkt` itself: by its name, or as a file under whatever name it was downloaded, as busybox has it. A link is
/// made for its name, and one that we do not know is an error: the host has no command of it.
fn is_tool(invocation: &Invocation, named: impl Fn(&[u8]) -> Option<&'static Applet>) -> bool {
    let name = invocation.name();
    let is_file = || std::fs::read_link(OsStr::from_bytes(invocation.path.to_bytes())).is_err();
    name == b"bkt" || is_of_bkt(name) && named(name).is_none() && is_file()
}

fn no_such_name(call: &Call) -> Result<End> {
    let name = logging::shown(call.invocation.name());
    let text = format!("{name} is a link to bkt {RELEASE}, which has no such name ('bkt --list' names all); make it a link to what was meant, or install a newer bkt");
    Err(crate::error::Error::with_code(text, exit::NOT_FOUND))
}

/// What was typed between `bkt` and its command.
struct Before {
    verbosity: u8,
    /// What belongs to the host goes there.
    delegate: bool,
}

impl Call {
    /// For scripts, see [`FAILURE_FD`].
    fn tell_failure(&self, word: &str, code: u8) {
        if let Some(number) = self.invocation.var(FAILURE_FD) {
            output::tell(number, &format!("{word} {code} {}\n", self.op));
        }
    }

    /// What was typed after the name.
    fn typed(&self) -> Vec<OsString> {
        self.invocation.args.iter().skip(1).map(|arg| OsStr::from_bytes(arg.to_bytes()).to_os_string()).collect()
    }

    /// Starts the log of a program that people call.
    fn start_log(&self, verbosity: u8) {
        logging::start(logging::Format::Client, LevelFilter::Warn, verbosity, self.invocation.var("BKT_LOG"), None);
    }

    fn sockets(&self) -> Vec<std::path::PathBuf> {
        crate::paths::client_sockets(&self.invocation, crate::sys::process::user())
    }
}

/// An error of usage: what is wrong, and where to read how it is right.
fn usage(what: impl std::fmt::Display, help: &str) -> crate::error::Error {
    crate::error::Error::with_code(format!("{what}; see '{help} --help'"), exit::FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::capability::Capability;

    #[test]
    fn every_name_stands_once_and_says_what_it_is() {
        for applet in APPLETS {
            assert_eq!(APPLETS.iter().filter(|a| a.name == applet.name).count(), 1);
            assert!(!applet.help.is_empty());
        }
        assert!(crate::shims::shipped().all(|name| APPLETS.iter().all(|a| a.name != name)));
        assert!(APPLETS.iter().all(|a| crate::shims::manifest::is_own_name(a.name)), "a shim of that name would be the applet");
        // A link of such a name among the host's shims is the capability; as a container's program it is that program.
        assert_eq!(APPLETS.iter().filter(|a| !is_of_bkt(a.name.as_bytes())).count(), 10);
        let interceptors = || Capability::ALL.iter().flat_map(|capability| capability.names());
        assert!(interceptors().all(|name| APPLETS.iter().any(|a| a.name == *name)), "a guest's link of that name would be a shim");
    }

    #[test]
    fn a_name_is_found_as_argv0_and_as_first_argument() {
        let found = |args: &[&'static CStr]| {
            let mut invocation = Invocation { args: args.to_vec(), ..Invocation::default() };
            let entry = find(&mut invocation);
            (entry as *const () as usize, invocation.args)
        };
        assert_eq!(found(&[c"/x/bkt-hostd"]).0, hostd::run as *const () as usize);
        assert_eq!(found(&[c"bkt", c"bkt-hostd", c"-v"]), (hostd::run as *const () as usize, vec![c"bkt-hostd", c"-v"]));
        assert_eq!(found(&[c"bkt", c"systemctl", c"status"]), (shim::run as *const () as usize, vec![c"systemctl", c"status"]));
        assert_eq!(found(&[c"bkt", c"-v", c"systemctl", c"status"]), (shim::run as *const () as usize, vec![c"systemctl", c"status"]));
        assert_eq!(found(&[c"bkt", c"status"]).0, bkt::run as *const () as usize);
        assert_eq!(found(&[c"anything"]).0, shim::run as *const () as usize);
        assert_eq!(found(&[]).0, bkt::run as *const () as usize);
        let executed = |path: &'static CStr, name: &'static CStr| find(&mut Invocation { args: vec![name], path, ..Invocation::default() }) as *const () as usize;
        assert_eq!(executed(c"/home/u/.local/bin/distrobox/cargo", c"cargo"), distrobox::run as *const () as usize);
        assert_eq!(executed(c"/home/u/.local/share/bkt/shims/podman", c"podman"), shim::run as *const () as usize);
        assert_eq!(executed(c"/src/distrobox/bkt", c"bkt"), bkt::run as *const () as usize);
        assert_eq!(executed(c"/src/distrobox/bkt-0.1.0", c"./bkt-0.1.0"), bkt::run as *const () as usize);
        assert_eq!(executed(c"bkt(1)", c"bkt(1)"), bkt::run as *const () as usize);
        assert_eq!(executed(c"/x/bktool", c"bktool"), shim::run as *const () as usize);
        assert_eq!(executed(c"/proc/self/exe", c"bkt-unknown"), no_such_name as *const () as usize, "a link");
        assert_eq!(executed(c"/home/u/.local/bin/distrobox/xclip", c"xclip"), distrobox::run as *const () as usize);
        assert_eq!(executed(c"/home/u/.local/share/bkt/shims/xclip", c"xclip"), clipboard::xclip as *const () as usize);
    }
}
