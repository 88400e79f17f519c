//! `bkt`: the command-line tool. Options first, then a command, which `commands` knows.

use crate::applet::{APPLETS, Before, Call, RELEASE, commands, output, usage};
use crate::error::Result;
use crate::exit::End;
use crate::shims;
use crate::sys::process;
use lexopt::{Arg, Parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn run(call: &Call) -> Result<End> {
    let all = call.typed();
    let mut before = Before { verbosity: 0, delegate: true };
    let mut parser = Parser::from_args(all.clone());
    let wrong = |e: lexopt::Error| usage(e, "bkt");
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Short('v') | Arg::Long("verbose") => before.verbosity = before.verbosity.saturating_add(1),
            Arg::Long("no-delegate") => before.delegate = false,
            Arg::Long("list") => return Ok(list()),
            Arg::Long("install") => {
                let directory = parser.value().map_err(wrong)?;
                return install(Path::new(&directory));
            }
            Arg::Short('V') | Arg::Long("version") => {
                output::print(&format!("bkt {RELEASE}\n"));
                return Ok(End::Code(0));
            }
            Arg::Short('h') | Arg::Long("help") => {
                output::print(commands::HELP);
                return Ok(End::Code(0));
            }
            Arg::Value(word) => {
                let rest: Vec<OsString> = parser.raw_args().map_err(wrong)?.collect();
                return commands::run(call, &before, &word, rest, &all);
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    output::complain(commands::HELP.trim_end());
    Err(usage("no command given", "bkt"))
}

fn list() -> End {
    let mut text = String::new();
    for applet in APPLETS {
        text.push_str(&format!("{:16} {}\n", applet.name, applet.help));
    }
    for name in shims::shipped() {
        text.push_str(&format!("{name:16} shim: the host's {name}\n"));
    }
    output::print(&text);
    End::Code(0)
}

fn install(directory: &Path) -> Result<End> {
    let target = process::own_path()?;
    let target = Path::new(OsStr::from_bytes(target.as_bytes()));
    let (all, changed) = shims::links::install(directory, target)?;
    output::print(&format!("{all} links to {} in {}; {changed} new or moved\n", target.display(), directory.display()));
    Ok(End::Code(0))
}
