//! `bkt enter` and `bkt ps`: the way back, from the host into its containers.

use crate::applet::{Call, admin, output, usage};
use crate::client::ask;
use crate::client::run::{self, Command, Outcome};
use crate::error::{Error, Result, reason};
use crate::exit::End;
use crate::logging::shown;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const ENTER_HELP: &str = "\
Usage: bkt enter NAME [OPTIONS] [-- CMD ARGS…]

Runs CMD in the container NAME as if it ran here: with these streams, this terminal, these signals, in the same
directory, and with its own exit status. Without CMD it is a login shell. The container's guest daemon runs it
(bkt-guest); where there is none, distrobox-enter, podman or toolbox do, and start the container if need be.

  --cwd DIR         run in DIR, a path of the container (default: the same directory as here)
  --env K=V, --unset-env K, --clear-env, --fd N, --detach, --pty, --no-pty
                    as in 'bkt admin daemon exec --help'
";

/// The guest's own word for a login shell of its user.
const LOGIN_SHELL: &[u8] = b"bkt-guest\0--shell\0";

pub fn enter(call: &Call, args: Vec<OsString>) -> Result<End> {
    let wrong = |text: &str| usage(text, "bkt enter");
    let at = args.iter().position(|a| a == "--").unwrap_or(args.len());
    let mut options = args[..at].to_vec();
    if options.iter().any(|a| a == "--help" || a == "-h") {
        output::print(ENTER_HELP);
        return Ok(End::Code(0));
    }
    if options.first().is_none_or(|name| name.is_empty() || name.as_bytes().starts_with(b"-")) {
        return Err(wrong("enter wants the name of a container; 'bkt ps' lists those that have a guest daemon"));
    }
    let container = options.remove(0).into_vec();
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
    command.container = Some(container);
    enter_with(call, &command)
}

/// Through the guest daemon, else by whatever else enters containers.
fn enter_with(call: &Call, command: &Command) -> Result<End> {
    match run::run(command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => Ok(end),
        Outcome::SameSide => Err(Error::new("the daemon took this for a shim")),
        Outcome::NoDaemon { why, .. } => Err(Error::new(reason(&why))),
    }
}

#[derive(Serialize)]
struct Row {
    container: String,
    version: String,
    connected_ms: u64,
    pid: Option<u32>,
    running: Vec<admin::Run>,
    error: Option<String>,
}

pub fn ps(call: &Call, args: Vec<OsString>) -> Result<End> {
    let json = admin::wants_json(args, "ps")?;
    let guests = ask::guests(&call.sockets(), call.op)?;
    if json {
        let row = |guest: &ask::Guest| Row {
            container: shown(&guest.container),
            version: guest.release.clone(),
            connected_ms: guest.since_ms,
            pid: guest.status.as_ref().ok().map(|status| status.pid),
            running: guest.status.as_ref().map_or(vec![], |status| status.running.iter().map(admin::Run::of).collect()),
            error: guest.status.as_ref().err().map(|error| error.text.clone()),
        };
        output::print(&admin::to_json(&guests.iter().map(row).collect::<Vec<_>>()));
        return Ok(End::Code(0));
    }
    let mut text = format!("{:<24} {:<10} {:>14}  {}\n", "CONTAINER", "GUEST", "CONNECTED", "RUNNING");
    for guest in &guests {
        let runs = guest.status.as_ref().map_or_else(|error| error.text.clone(), |status| status.running.len().to_string());
        text.push_str(&format!("{:<24} {:<10} {:>14}  {runs}\n", shown(&guest.container), guest.release, admin::duration(guest.since_ms)));
        if let Ok(status) = &guest.status {
            admin::describe_running(&mut text, status);
        }
    }
    output::print(&text);
    Ok(End::Code(0))
}
