//! `bkt admin daemon install | uninstall`: the daemon as a service that is simply there after login.

use crate::applet::{Call, RELEASE, output, usage};
use crate::checks::unit::UNIT;
use crate::client::ask::{self, Found};
use crate::error::{Error, Result};
use crate::event::Wait;
use crate::exit::End;
use crate::service::facts::{self, Files, Manager};
use crate::service::plan::{self, Daemon, Facts};
use crate::service::step::{self, Step};
use crate::service::unit;
use crate::sys::process;
use lexopt::{Arg, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// How long a started daemon may take to answer: it asks a login shell first, which may take 5 s.
const ANSWER_MS: u64 = 10_000;
/// Between two looks.
const LOOK_MS: u64 = 50;

pub const HELP: &str = "\
Usage: bkt admin daemon install [--force] [--dry-run]
       bkt admin daemon uninstall [--force] [--dry-run]

Makes the daemon a service of this user: a unit of the user's systemd (~/.config/systemd/user/bkt-hostd.service),
enabled, started and asked whether it answers; without systemd an autostart entry of the desktop; without that
it says what to do. 'uninstall' takes that away again. Both may be repeated.

  --force     replace (or take away) a file that somebody changed; it is kept beside, as NAME.before-bkt
  --dry-run   say what would be done, and do nothing
";

/// What was typed.
#[derive(Default)]
pub struct Typed {
    pub force: bool,
    pub dry_run: bool,
}

pub fn install(call: &Call, args: Vec<OsString>) -> Result<End> {
    let typed = read(args)?;
    let facts = look(call, typed.force, ask::status(&call.sockets(), call.op)?)?;
    if facts.manager == Manager::None {
        output::print(&unit::by_hand(&facts.files.bkt));
    }
    perform(call, &facts, &plan::install(&facts)?, &typed)
}

pub fn uninstall(call: &Call, args: Vec<OsString>) -> Result<End> {
    let typed = read(args)?;
    // One that is ending, or stopped, must not keep us from it.
    let found = ask::status(&call.sockets(), call.op).unwrap_or(Found::Nothing(PathBuf::new()));
    let facts = look(call, typed.force, found)?;
    let steps = plan::uninstall(&facts)?;
    if steps.is_empty() {
        output::print("nothing to take away: neither a unit nor an autostart entry of bkt-hostd is there\n");
    }
    perform(call, &facts, &steps, &typed)?;
    let drop_ins = facts.files.unit.with_extension("service.d");
    if !steps.is_empty() && drop_ins.exists() {
        output::print(&format!("left as they are: your own settings in {}\n", drop_ins.display()));
    }
    Ok(End::Code(0))
}

fn read(args: Vec<OsString>) -> Result<Typed> {
    let mut typed = Typed::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|e| usage(e, "bkt admin daemon install"))? {
        match arg {
            Arg::Long("force") => typed.force = true,
            Arg::Long("dry-run") => typed.dry_run = true,
            other => return Err(usage(other.unexpected(), "bkt admin daemon install")),
        }
    }
    Ok(typed)
}

/// All that the plans are made from.
pub fn look(call: &Call, force: bool, found: Found) -> Result<Facts> {
    let files = Files::of(&call.invocation)?;
    let daemon = match found {
        Found::Running(status) => Some(Daemon { pid: status.pid, running: other_runs(call, &status), release: status.release }),
        Found::Stale(_) | Found::Nothing(_) | Found::Reserved(_) => None,
    };
    let (unit_text, autostart_text) = (facts::text_of(&files.unit)?, facts::text_of(&files.autostart)?);
    let made = |text: &Option<String>, path| text.as_deref().map_or_else(|| facts::missing_directories(path), unit::directories);
    let directories = (made(&unit_text, &files.unit), made(&autostart_text, &files.autostart));
    Ok(Facts { manager: facts::manager(&call.invocation), files, unit_text, autostart_text, directories, daemon, release: RELEASE, force })
}

/// What the daemon runs, less this command itself where it came that way.
pub fn other_runs(call: &Call, status: &ask::Status) -> usize {
    status.running.iter().filter(|run| run.op != Some(call.op)).count()
}

/// Does the steps, and says each; with `--dry-run` it only says them.
pub fn perform(call: &Call, facts: &Facts, steps: &[Step], typed: &Typed) -> Result<End> {
    for step in steps {
        if typed.dry_run {
            let verb = match step {
                Step::Systemctl(_) | Step::Stop => "would run ",
                Step::Say(_) => "",
                _ => "would ",
            };
            output::print(&format!("{verb}{}\n", step.describe()));
            continue;
        }
        // Said before it is done: some take their time, and one may end us.
        if *step != Step::Verify {
            output::print(&format!("{}\n", step.describe()));
        }
        step::perform(step, &facts.files.bkt, &call.invocation)?;
        match step {
            Step::Verify => verify(call, facts)?,
            Step::Start => drop(wait_for_answer(call, |_| true)?),
            _ => {}
        }
    }
    Ok(End::Code(0))
}

/// The unit runs from our file, and it is its process that answers at the socket.
fn verify(call: &Call, facts: &Facts) -> Result<()> {
    let Manager::Systemd(unit) = facts::manager(&call.invocation) else { return Err(Error::new("your systemd does not answer any more")) };
    if unit.file != facts.files.unit.to_string_lossy() {
        return Err(Error::new(format!("your systemd reads {UNIT} from '{}', not from {}: is XDG_CONFIG_HOME another one there?", unit.file, facts.files.unit.display())));
    }
    let status = wait_for_answer(call, |status| status.pid == unit.main_pid)?;
    let socket = call.sockets().first().map_or_else(String::new, |path| path.display().to_string());
    output::print(&format!("running: pid {}, version {}, at {socket}\n", status.pid, status.release));
    Ok(())
}

pub fn wait_for_answer(call: &Call, right: impl Fn(&ask::Status) -> bool) -> Result<ask::Status> {
    let end = process::monotonic_ms() + ANSWER_MS;
    loop {
        let found = ask::status(&call.sockets(), call.op)?;
        let now = process::monotonic_ms();
        match found {
            Found::Running(status) if right(&status) => return Ok(status),
            Found::Running(status) if now >= end => {
                return Err(Error::new(format!("another daemon answers (pid {}): end it with 'bkt admin daemon stop', then install again", status.pid)));
            }
            _ if now >= end => return Err(Error::new("the daemon was started and does not answer; 'systemctl --user status bkt-hostd' or its log says why")),
            _ => drop(Wait::<()>::with_capacity(0).run(now, Some(now + LOOK_MS))),
        }
    }
}

/// Until a process that was told to end has ended. One that nobody has waited for has no executable any more (proc(5)).
pub fn wait_for_end(pid: u32) -> Result<()> {
    let end = process::monotonic_ms() + ANSWER_MS;
    while std::fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
        let now = process::monotonic_ms();
        if now >= end {
            return Err(Error::new(format!("the daemon (pid {pid}) was told to end, and has not within {} s; its log says why", ANSWER_MS / 1000)));
        }
        Wait::<()>::with_capacity(0).run(now, Some(now + LOOK_MS));
    }
    Ok(())
}
