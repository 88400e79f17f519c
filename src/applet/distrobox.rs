//! A `distrobox` shim: a container's program. Known by the directory it was executed in, so that host shims pay nothing for it.

use crate::applet::shim::Asked;
use crate::applet::{Call, containers, shim};
use crate::client::local;
use crate::client::run::{self, Command, Outcome};
use crate::container::{self, SHOWN_DIGITS, Side};
use crate::error::{Error, Result, reason};
use crate::exit::{self, End};
use crate::invocation::Invocation;
use crate::logging::shown;
use crate::paths;
use crate::process::tool::{self, Errors};
use crate::shims::enter::{self, Entry, Found, Inside, Maker, Manager, Way};
use crate::shims::manifest::{Manifest, Mode, Shim};
use crate::shims::place::{self, DISTROBOX, Places};
use crate::sys::files::{self, Standard};
use crate::sys::process;
use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// It waits half as long itself.
const TOOLBOX_MS: u64 = 60_000;

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
    let code = if error.kind() == ErrorKind::NotFound { exit::NOT_FOUND } else { exit::CANNOT_EXECUTE };
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
    let mut command = to(container, &call.invocation.args_as(&program));
    let why = match by_guest(&command, call)? {
        Ok(end) => return Ok(end),
        Err(why) => why,
    };
    let found = containers::find(&shim.name, container, call)?;
    match by_guest_of_id(found.as_ref(), &mut command, call)? {
        Some(end) => Ok(end),
        None => Err(by_tool(&shim.name, container, found.as_ref(), &program, arguments(&call.invocation), &why, call)),
    }
}

fn to(container: &str, args: &[&CStr]) -> Command {
    Command { args: shim::joined(args), container: Some(container.into()), ..Command::default() }
}

/// The inner error is why nobody has taken the request: no guest daemon there, or no daemon at all.
fn by_guest(command: &Command, call: &Call) -> Result<Result<End, String>> {
    match run::run(command, &call.invocation, &call.sockets(), call.op)? {
        Outcome::Ended(end) => Ok(Ok(end)),
        Outcome::SameSide => Ok(Err("the daemon took this for a shim".to_string())),
        Outcome::NoDaemon { why, .. } => Ok(Err(reason(&why))),
    }
}

/// The daemon sees by which id docker's containers run; what docker calls them it has told the client.
pub fn by_guest_of_id(found: Option<&Found>, command: &mut Command, call: &Call) -> Result<Option<End>> {
    let Some(id) = found.filter(|found| found.manager == Manager::Docker && found.runs).and_then(|found| found.id.get(..SHOWN_DIGITS)) else { return Ok(None) };
    command.container = Some(id.into());
    by_guest(command, call).map(Result::ok)
}

/// The one place that decides how a container is entered where it has no guest daemon; it is started if need be. `name` is what
/// errors speak of, `why` the guest daemon does not do it. Returns only with the reason why not.
pub fn by_tool(name: &str, container: &str, found: Option<&Found>, program: &CStr, args: &[&CStr], why: &str, call: &Call) -> Error {
    let invocation = &call.invocation;
    let directories = paths::shim_directories(invocation);
    let tool = enter::tools(found, process::user()).iter().find_map(|tool| local::find_tool(tool.to_bytes(), invocation, &directories));
    let Some(tool) = tool else {
        return Error::new(format!("{name}: nothing here enters the container {container}: neither distrobox, podman, docker nor toolbox is in PATH"));
    };
    let mut env = match local::handed_on(name.as_bytes(), invocation, call.op) {
        Ok(env) => env,
        Err(e) => return e,
    };
    if let Some(Found { manager, maker: Maker::Distrobox, .. }) = found {
        // It would ask podman for docker's, where both are there.
        env.retain(|entry| !entry.to_bytes().starts_with(b"DBX_CONTAINER_MANAGER="));
        env.push(Cow::Borrowed(if *manager == Manager::Docker { c"DBX_CONTAINER_MANAGER=docker" } else { c"DBX_CONTAINER_MANAGER=podman" }));
    }
    if let Some(Found { maker: Maker::Toolbox, runs: false, .. }) = found
        && let Err(error) = start_toolbox(name, container, &directories, call)
    {
        return error;
    }
    let is_terminal = |number| matches!(files::standard(number), Standard::Terminal(_));
    let directory = local::directory(invocation);
    let env: Vec<&CStr> = env.iter().map(|entry| &**entry).collect();
    let (user, group) = (process::user(), process::group());
    let runs = found.is_some_and(|found| found.runs);
    let entry = Entry { container, program, args, env: &env, directory: &directory, user, group, runs, at_terminal: is_terminal(0) && is_terminal(1) };
    let (file, args) = enter::entering(&tool, &entry);
    log::info!(op_id = call.op; "{container} is entered by {}, not by its guest daemon: {why}", tool.to_string_lossy());
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let error = process::exec(&file, &args, &env);
    Error::with_code(format!("{name}: cannot execute {}: {}", file.to_string_lossy(), reason(&error)), exit::CANNOT_EXECUTE)
}

/// toolbox makes the user and the mounts in its containers at each start, and alone knows when that is done. Only that is left to it:
/// `toolbox run` is `podman exec` less the directory and the environment, and of the status 127 of a command it makes 0.
fn start_toolbox(name: &str, container: &str, shims: &[PathBuf], call: &Call) -> Result<()> {
    match tool::ask(&call.invocation, shims, &[b"toolbox", b"run", b"-c", container.as_bytes(), b"true"], Errors::WithOutput, TOOLBOX_MS) {
        Ok((End::Code(0), _)) => Ok(()),
        Ok((_, said)) => Err(Error::new(format!("{name}: toolbox cannot start {container}: {}", shown(said.trim_ascii())))),
        // Then podman starts it.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("{name}: start {container} by toolbox"), &e)),
    }
}

/// In another container: to its guest daemon by way of the host's, else the same link, on the host. Homes are shared, so that it has the same path there.
fn through_host(shim: &Shim, container: Option<&str>, places: &Places, call: &Call) -> Result<End> {
    let invocation = &call.invocation;
    if let Some(container) = container
        && let Ok(end) = by_guest(&to(container, &invocation.args_as(&program_of(shim, places).1)), call)?
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
