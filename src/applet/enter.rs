//! `bkt enter` and `bkt ps`: the way back, from the host into its containers.

use crate::applet::containers::{self, Known};
use crate::applet::{Call, admin, distrobox, output, usage};
use crate::client::ask;
use crate::client::local::{self, Fallback};
use crate::client::run::{self, Command, Outcome};
use crate::container::{self, Side};
use crate::document;
use crate::error::{Error, Result, reason};
use crate::exit::End;
use crate::logging::shown;
use crate::process::environment;
use serde::Serialize;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

pub const ENTER_HELP: &str = "\
Usage: bkt enter NAME [OPTIONS] [-- CMD ARGS…]

Runs CMD in the container NAME as if it ran here: with these streams, this terminal, these signals, in the same
directory, and with its own exit status. Without CMD it is a login shell. The container's guest daemon runs it
(bkt-guest); where there is none, distrobox-enter, podman or docker do, and start the container if need be.

  --cwd DIR         run in DIR, a path of the container (default: the same directory as here)
  --env K=V, --unset-env K, --clear-env, --fd N, --detach, --pty, --no-pty
                    as in 'bkt admin daemon exec --help'
";

/// The guest's own word for a login shell of its user.
const LOGIN_SHELL: &[u8] = b"bkt-guest\0--shell\0";

/// `through_host` has the host do it, and is asked in a container.
pub fn enter(call: &Call, args: Vec<OsString>, through_host: Option<&dyn Fn() -> Result<End>>) -> Result<End> {
    let wrong = |text: &str| usage(text, "bkt enter");
    let at = args.iter().position(|a| a == "--").unwrap_or(args.len());
    let mut options = args[..at].to_vec();
    if options.first().is_none_or(|name| name.is_empty() || name.as_bytes().starts_with(b"-")) {
        return Err(wrong("enter wants the name of a container; 'bkt ps' lists them"));
    }
    let container = options.remove(0).into_vec();
    let plain = options.is_empty();
    let mut command = admin::read_run_options(options, "bkt enter")?;
    if at + 1 == args.len() {
        return Err(wrong("there is no command after '--'"));
    }
    for arg in args.iter().skip(at + 1) {
        command.args.extend(arg.as_bytes());
        command.args.push(0);
    }
    if command.args.is_empty() {
        command.args = LOGIN_SHELL.to_vec();
    }
    let name = String::from_utf8_lossy(&container).into_owned();
    command.container = Some(container);
    enter_with(call, &name, command, plain, through_host.filter(|_| container::side(&call.invocation) == Side::Container))
}

/// A login shell of whatever the container has, for those who know no guest daemon.
const ANY_SHELL: &[&CStr] = &[c"/bin/sh", c"-c", c"for s in \"$SHELL\" /bin/bash /bin/sh; do [ -x \"$s\" ] && exec \"$s\" -l; done"];

/// Through the guest daemon, else by whatever else enters containers.
fn enter_with(call: &Call, container: &str, mut command: Command, plain: bool, through_host: Option<&dyn Fn() -> Result<End>>) -> Result<End> {
    let why = match run::run(&command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => return Ok(end),
        Outcome::SameSide => return Err(Error::new("the daemon took this for a shim")),
        Outcome::NoDaemon { why, .. } => reason(&why),
    };
    let nobody = |what: &str| Error::new(format!("{container} cannot be entered by its guest daemon ({why}){what}"));
    if local::fallback_for(container.as_bytes(), &call.invocation)? == Fallback::Never {
        return Err(nobody("; other ways are switched off (BKT_FALLBACK)"));
    }
    if let Some(through_host) = through_host.filter(|_| plain) {
        return through_host();
    }
    let found = containers::find("enter", container, call)?;
    if let Some(end) = distrobox::by_guest_of_id(found.as_ref(), &mut command, call)? {
        return Ok(end);
    }
    if !plain {
        return Err(nobody("; without it there is only 'bkt enter NAME -- CMD', without options"));
    }
    let words: Vec<CString> = environment::strings(&command.args).filter_map(|word| CString::new(word).ok()).collect();
    let mut words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    if command.args == LOGIN_SHELL {
        words = ANY_SHELL.to_vec();
    }
    let error = distrobox::by_tool("enter", container, found.as_ref(), words[0], &words[1..], &why, call);
    Err(Error::with_code(format!("{}; nor by its guest daemon: {why}", error.text), error.code))
}

#[derive(Serialize)]
struct Row {
    container: String,
    guest: bool,
    /// As podman or docker say; `None` where it is neither's.
    state: Option<String>,
    version: Option<String>,
    connected_ms: Option<u64>,
    pid: Option<u32>,
    running: Vec<admin::Run>,
    error: Option<String>,
}

pub fn ps(call: &Call, args: Vec<OsString>) -> Result<End> {
    let json = admin::wants_json(args, "ps")?;
    let guests = ask::guests(&call.sockets(), call.op)?;
    let is = |known: &Known, guest: &[u8]| known.name.as_bytes() == guest || container::is_short_id(guest) && known.id.as_bytes().starts_with(guest);
    let has_guest = |known: &Known| guests.iter().any(|guest| is(known, &guest.container));
    let ask_all = || containers::known(call).map_or(vec![], |(all, _)| all);
    // The guests are known at once; of the others podman tells in its own time, and docker of what it calls a guest that we know by its id.
    let first = if json || guests.iter().any(|guest| container::is_short_id(&guest.container)) { Some(ask_all()) } else { None };
    let known = |guest: &ask::Guest| first.iter().flatten().find(|known| is(known, &guest.container));
    let name = |guest: &ask::Guest| known(guest).map_or_else(|| shown(&guest.container), |known| known.name.clone());
    if json {
        let row = |guest: &ask::Guest| Row {
            container: name(guest),
            guest: true,
            state: known(guest).map(|known| known.state.clone()),
            version: Some(guest.release.clone()),
            connected_ms: Some(guest.since_ms),
            pid: guest.status.as_ref().ok().map(|status| status.pid),
            running: guest.status.as_ref().map_or(vec![], |status| status.running.iter().map(admin::Run::of).collect()),
            error: guest.status.as_ref().err().map(|error| error.text.clone()),
        };
        let other = |known: &Known| Row {
            container: known.name.clone(),
            guest: false,
            state: Some(known.state.clone()),
            version: None,
            connected_ms: None,
            pid: None,
            running: vec![],
            error: None,
        };
        let mut rows: Vec<Row> = guests.iter().map(row).collect();
        rows.extend(first.iter().flatten().filter(|known| !has_guest(known)).map(other));
        output::print(&document::text(&rows));
        return Ok(End::Code(0));
    }
    let mut text = format!("{:<24} {:<10} {:>14}  {}\n", "CONTAINER", "GUEST", "CONNECTED", "RUNNING");
    for guest in &guests {
        let runs = guest.status.as_ref().map_or_else(|error| error.text.clone(), |status| status.running.len().to_string());
        text.push_str(&format!("{:<24} {:<10} {:>14}  {runs}\n", name(guest), guest.release, admin::duration(guest.since_ms)));
        if let Ok(status) = &guest.status {
            admin::describe_running(&mut text, status);
        }
    }
    output::print(&text);
    for known in first.unwrap_or_else(ask_all).iter().filter(|known| !has_guest(known)) {
        output::print(&format!("{:<24} {:<10} {:>14}  {}\n", known.name, "none", "-", known.state));
    }
    Ok(End::Code(0))
}
