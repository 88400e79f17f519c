//! `bkt shim init`: what a shell's start-up file is to do, on either side, as home directories are shared; and `bkt man`.

use crate::applet::{Call, output, shim, usage};
use crate::client::local;
use crate::container::{self, Side};
use crate::error::{Error, Result};
use crate::exit::End;
use crate::guest::places;
use crate::paths;
use crate::quoted::quoted;
use crate::sys::process;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub const INIT_HELP: &str = "\
Usage: bkt shim init bash|zsh|fish

Prints code for the shell's start-up file; one line there serves the host and its containers:

  ~/.bashrc                    eval \"$(~/.local/bin/bkt shim init bash)\"
  ~/.zshrc                     eval \"$(~/.local/bin/bkt shim init zsh)\"
  ~/.config/fish/config.fish   ~/.local/bin/bkt shim init fish | source

On either side it puts ~/.local/bin/distrobox first in PATH, and ~/.local/bin behind it where it is missing; and it completes bkt.
In a container it puts the directory of host shims before that, has the host complete their command lines, and lets man find the
host's pages.
";

pub const MAN_HELP: &str = "\
Usage: bkt man ARGS…

Runs man(1) for the host's pages: here where the host's files are visible (/run/host), else on the host, at this terminal.
";

/// The host's pages, where containers show the host's tree.
const HOST_PAGES: &str = "/run/host/usr/share/man";

/// What each shell gets: how values are quoted and set, and the code that uses them.
struct Shell {
    name: &'static str,
    /// Before a name, between name and value.
    set: [&'static str; 2],
    code: [&'static str; 3],
}

const SHELLS: &[Shell] = &[
    Shell { name: "bash", set: ["", "="], code: [include_str!("shell/init.bash"), include_str!("../../completions/bkt.bash"), include_str!("shell/shims.bash")] },
    Shell { name: "zsh", set: ["", "="], code: [include_str!("shell/init.bash"), include_str!("../../completions/_bkt"), include_str!("shell/shims.zsh")] },
    Shell { name: "fish", set: ["set -g ", " "], code: [include_str!("shell/init.fish"), include_str!("../../completions/bkt.fish"), include_str!("shell/shims.fish")] },
];

/// `bkt shim init SHELL`.
pub fn init(call: &Call, args: &[OsString]) -> Result<End> {
    let typed = args.first().and_then(|a| a.to_str()).unwrap_or("");
    let Some(shell) = SHELLS.iter().find(|shell| shell.name == typed && args.len() == 1) else {
        return Err(usage("init wants one of bash, zsh and fish", "bkt shim init"));
    };
    let shims = paths::shim_directories(&call.invocation).pop();
    let (Some(home), Some(shims)) = (paths::home(&call.invocation), shims) else {
        return Err(Error::new("HOME is not set, or no absolute path: where the shims are cannot be told"));
    };
    let shims = if container::side(&call.invocation) == Side::Container { shims } else { Default::default() };
    let program = process::own_path()?;
    let distrobox = home.join(".local/bin/distrobox");
    // Who starts a guest daemon as a user cannot have it write to the container's /etc/profile.d.
    let name = if shims.as_os_str().is_empty() { None } else { container::name(&call.invocation) };
    let granted = name.map_or_else(Default::default, |name| places::below(&paths::runtime_directory(&call.invocation, process::user()), &name).join("bin"));
    let values = [
        ("_bkt_program", program.to_bytes()),
        ("_bkt_distrobox", distrobox.as_os_str().as_bytes()),
        ("_bkt_shims", shims.as_os_str().as_bytes()),
        ("_bkt_granted", granted.as_os_str().as_bytes()),
        ("_bkt_pages", HOST_PAGES.as_bytes()),
    ];
    let mut text = Vec::new();
    for (name, value) in values {
        for part in [shell.set[0].as_bytes(), name.as_bytes(), shell.set[1].as_bytes(), &quoted(value), b"\n"] {
            text.extend(part);
        }
    }
    shell.code.iter().for_each(|code| text.extend(code.as_bytes()));
    output::print_bytes(&text);
    Ok(End::Code(0))
}

/// `bkt man ARGS…`: the host's pages, with this side's man where it can reach them, else with the host's.
pub fn man(call: &Call, args: &[OsString]) -> Result<End> {
    if args.is_empty() {
        output::print(MAN_HELP);
        return Ok(End::Code(0));
    }
    let words: Vec<CString> = std::iter::once(OsStr::new("man")).chain(args.iter().map(OsString::as_os_str)).map(|w| CString::new(w.as_bytes()).unwrap_or_default()).collect();
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    if container::side(&call.invocation) == Side::Container && Path::new(HOST_PAGES).is_dir() {
        let mut invocation = call.invocation.clone();
        let other = invocation.var("MANPATH").unwrap_or(b"");
        let pages = CString::new([b"MANPATH=", HOST_PAGES.as_bytes(), b":", other].concat()).unwrap_or_default();
        invocation.env.retain(|entry| !entry.to_bytes().starts_with(b"MANPATH="));
        invocation.env.push(Box::leak(pages.into_boxed_c_str()));
        // It returns where there is no man here: then the host's is as good.
        local::exec_here(&words, &invocation, &paths::shim_directories(&invocation), None);
    }
    shim::command(call, &words, None)
}
