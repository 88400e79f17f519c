//! A `distrobox` shim: a container's program. Known by the directory it was executed in, so that host shims pay nothing for it.

use crate::applet::shim::Asked;
use crate::applet::{Call, containers, shim};
use crate::client::local;
use crate::client::run::{self, Command, Outcome};
use crate::container::{self, Side};
use crate::error::{Error, Result, reason};
use crate::exit::{self, End};
use crate::invocation::Invocation;
use crate::logging::shown;
use crate::paths;
use crate::shims::enter::{self, Entry, Inside, Way};
use crate::shims::manifest::{Manifest, Mode, Shim};
use crate::shims::place::{self, DISTROBOX, Places};
use crate::sys::files::{self, Standard};
use crate::sys::process;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whether this is one: the link that was executed is in a directory of that name.
pub fn is_one(invocation: &Invocation) -> bool {
    match invocation.executed().0 {
        // As `./cargo` or `../distrobox/x/../cargo`: the text says nothing.
        b"." | b".." => link(invocation).is_some_and(|path| path.parent().is_some_and(|directory| directory.ends_with(DISTROBOX))),
        directory => directory == DISTROBOX.as_bytes(),
    }
}

/// The executed link, from the root on; its directory may be reached by links, as a home often is.
fn link(invocation: &Invocation) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(invocation.path.to_bytes()));
    let below = if path.is_absolute() { path.to_path_buf() } else { std::env::current_dir().ok()?.join(path) };
    Some(place::tidy(&below))
}

pub fn run(call: &Call) -> Result<End> {
    call.start_log(0);
    let invocation = &call.invocation;
    let places = Places::of(invocation)?;
    let name = shown(invocation.executed().1);
    let manifest = Manifest::read(&places)?;
    let Some(shim) = manifest.find(&name, Mode::Distrobox) else {
        let text = format!(
            "{name}: {} has no distrobox shim of that name; bkt shim add {name} --container NAME --source PATH, or take the link away: bkt shim sync --prune",
            places.shown(&places.manifest)
        );
        return Err(Error::with_code(text, exit::NOT_FOUND));
    };
    let container = manifest.container_of(shim);
    let own = container::name(invocation);
    let inside = match container::side(invocation) {
        Side::Host => Inside::Host,
        Side::Container => Inside::Container(own.as_deref()),
    };
    match enter::way(container, inside) {
        Way::Here => Err(become_program(shim, &places, invocation)),
        Way::Enter => enter_container(shim, container, &places, call),
        Way::ThroughHost => through_host(shim, container, &places, call),
    }
}

fn arguments(invocation: &Invocation) -> &[&'static CStr] {
    invocation.args.get(1..).unwrap_or_default()
}

fn program_of(shim: &Shim, places: &Places) -> (PathBuf, CString) {
    let path = places.expand(shim.source.as_deref().unwrap_or_default());
    let text = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    (path, text)
}

/// In the program's own container: this process becomes the program, under its full path: many programs look there for what
/// belongs to them, and by the shim's name alone they would find the shim.
fn become_program(shim: &Shim, places: &Places, invocation: &Invocation) -> Error {
    let (path, program) = program_of(shim, places);
    let leads_to_us = |program: &Path| place::is_own(Path::new("/"), program, &places.own);
    if !path.ends_with("bkt") && leads_to_us(&path) {
        return Error::new(format!("{}: its source {} leads back to bkt; name the program itself: bkt shim add {0} --source PATH", shim.name, places.shown(&path)));
    }
    let args = invocation.args_as(&program);
    let error = match local::exec_path(shim.name.as_bytes(), &program, &args, invocation) {
        Ok(error) => error,
        Err(e) => return e,
    };
    let code = if error.kind() == std::io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::CANNOT_EXECUTE };
    Error::with_code(format!("{}: cannot execute {}: {}; install it here, or: bkt shim add {0} --source PATH", shim.name, places.shown(&path), reason(&error)), code)
}

/// On the host: by the container's guest daemon, which is there in a millisecond; else by whatever else enters it.
fn enter_container(shim: &Shim, container: Option<&str>, places: &Places, call: &Call) -> Result<End> {
    let Some(container) = container else {
        let manifest = places.shown(&places.manifest);
        return Err(Error::new(format!(
            "{}: nothing says which container it is in; bkt shim add {0} --container NAME, or \"container\": \"NAME\" at the top of {manifest}",
            shim.name
        )));
    };
    let (_, program) = program_of(shim, places);
    match by_guest(&program, container, call)? {
        Ok(end) => Ok(end),
        Err(why) => Err(by_tool(&shim.name, container, &program, arguments(&call.invocation), &why, call)),
    }
}

/// The inner error is why nobody has taken the request: no guest daemon there, or no daemon at all.
fn by_guest(program: &CStr, container: &str, call: &Call) -> Result<Result<End, String>> {
    let args = call.invocation.args_as(program);
    let command = Command { args: shim::joined(&args), container: Some(container.as_bytes().to_vec()), ..Command::default() };
    match run::run(&command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => Ok(Ok(end)),
        Outcome::SameSide => Ok(Err("the daemon took this for a shim".to_string())),
        Outcome::NoDaemon { why, .. } => Ok(Err(reason(&why))),
    }
}

/// The one place that decides how a container is entered where it has no guest daemon; it is started if need be. `name` is what
/// errors speak of, `why` the guest daemon does not do it. Returns only with the reason why not.
pub fn by_tool(name: &str, container: &str, program: &CStr, args: &[&CStr], why: &str, call: &Call) -> Error {
    let invocation = &call.invocation;
    let directories = paths::shim_directories(invocation);
    let tool = enter::tools(process::user()).iter().find_map(|tool| local::find_tool(tool.to_bytes(), invocation, &directories));
    let Some(tool) = tool else {
        return Error::new(format!("{name}: nothing here enters the container {container}: neither distrobox, podman nor toolbox is in PATH"));
    };
    let env = match local::handed_on(name.as_bytes(), invocation, call.op) {
        Ok(env) => env,
        Err(e) => return e,
    };
    // distrobox-enter would offer to make it, and wait for an answer.
    if let Some(missing) = containers::missing(call, container) {
        return Error::with_code(format!("{name}: {}", missing.text), missing.code);
    }
    let is_terminal = |number| matches!(files::standard(number), Standard::Terminal(_));
    let directory = local::directory(invocation);
    let env: Vec<&CStr> = env.iter().map(|entry| &**entry).collect();
    let entry = Entry { container, program, args, env: &env, directory: &directory, user: process::user(), at_terminal: is_terminal(0) && is_terminal(1) };
    let (file, args) = enter::entering(&tool, &entry);
    log::info!(op_id = call.op; "{container} is entered by {}, not by its guest daemon: {why}", tool.to_string_lossy());
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let error = process::exec(&file, &args, &env);
    Error::with_code(format!("{name}: cannot execute {}: {}", file.to_string_lossy(), reason(&error)), exit::CANNOT_EXECUTE)
}

/// In another container: to its guest daemon by way of the host's, else the same link, on the host. Homes are shared, so that it has the same path there.
fn through_host(shim: &Shim, container: Option<&str>, places: &Places, call: &Call) -> Result<End> {
    let invocation = &call.invocation;
    if let Some(container) = container
        && let Ok(end) = by_guest(&program_of(shim, places).1, container, call)?
    {
        return Ok(end);
    }
    let link = link(invocation).unwrap_or_else(|| places.distrobox.join(&shim.name));
    let on_host = link.strip_prefix(paths::HOST_ROOT).map_or_else(|_| link.clone(), |below| Path::new("/").join(below));
    let path = CString::new(on_host.as_os_str().as_bytes()).unwrap_or_default();
    let args = invocation.args_as(&path);
    let command = Command { args: shim::joined(&args), not_on_own_side: true, ..Command::default() };
    match shim::ask(call, &command)? {
        Asked::Ended(end) => Ok(end),
        Asked::Here(_) => enter_container(shim, container, places, call),
        Asked::NoDaemon(missing) => Err(shim::become_bridge(call, &args, &missing)),
    }
}
