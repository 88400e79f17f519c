//! `bkt admin system install | status | restart | uninstall`: all of bkt for one user, by one command, recorded and taken back.

use crate::applet::{APPLETS, Call, RELEASE, admin, output, service, usage};
use crate::checks::unit::UNIT;
use crate::client::ask::{self, Found};
use crate::document;
use crate::error::{Error, Result, counted};
use crate::exit::End;
use crate::logging::{self, shown};
use crate::paths;
use crate::process::environment;
use crate::process::tool::{self, Errors};
use crate::service::facts::{Manager, systemctl};
use crate::service::install::{self, Back, DIRECTORY, Entry, NOTHING, Record, Wanted};
use crate::service::plan::{self, Facts};
use crate::service::step::Step;
use crate::service::unit;
use crate::shims::links::{self, shipped};
use crate::shims::manifest::{Manifest, Mode};
use crate::shims::place::{self, AS, Places};
use crate::sys::{files, process};
use lexopt::{Arg, Parser};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub const HELP: &str = "\
Usage: bkt admin system COMMAND

  install [--prefix DIR] [--files DIR] [--no-service]
                        from this executable, wherever it lies: bkt and its names, shim links, man pages, completions,
                        and the daemon as a service; again it is an upgrade: the daemon is reloaded, no command ends
  status [--json]       the record against what is there; exit status 1 if that differs, 3 if nothing is installed
  restart [--force]     end the daemon and start it anew; --force also where commands run, which are ended
  uninstall [--force]   everything as it was before

  --force     install: replace what is not ours; files are kept as NAME.before-bkt, and come back
              uninstall: also where somebody changed the unit, which is kept so
  --dry-run   say what would be done (install, restart, uninstall)

The prefix is ~/.local by default. Man pages and completions lie in man/ and completions/ of --files, by default beside
this executable or above it. The record is $XDG_STATE_HOME/bkt/install.json.
";

const SEE: &str = "bkt admin system";
/// Exit codes of `status`: as those of `admin daemon status`.
const DRIFTED: u8 = 1;
const NOT_INSTALLED: u8 = 3;
/// How long a program that stands where ours stood may take to say its version.
const VERSION_MS: u64 = 2_000;
/// How far above an executable its sources may be: `target/TRIPLE/release/bkt`.
const ABOVE: usize = 4;

/// What comes as text: where it lies with the sources, and below the prefix.
const TEXTS: &[(&str, &str)] = &[
    ("man/bkt.1", "share/man/man1/bkt.1"),
    ("man/bkt-hostd.8", "share/man/man8/bkt-hostd.8"),
    ("man/bkt-guest.8", "share/man/man8/bkt-guest.8"),
    ("completions/bkt.bash", "share/bash-completion/completions/bkt"),
    ("completions/bkt.fish", "share/fish/vendor_completions.d/bkt.fish"),
    ("completions/_bkt", "share/zsh/site-functions/_bkt"),
];

/// What `make install` lists what it made in.
const LIST: &str = "share/bkt/installed";

/// The commands and their options.
const COMMANDS: &[(&str, &[&str])] =
    &[("install", &["prefix", "files", "no-service", "force", "dry-run"]), ("status", &["json"]), ("restart", &["force", "dry-run"]), ("uninstall", &["force", "dry-run"])];

/// What was typed.
#[derive(Default)]
struct Typed {
    prefix: Option<PathBuf>,
    files: Option<PathBuf>,
    no_service: bool,
    json: bool,
    done: service::Typed,
}

pub fn run(call: &Call, args: Vec<OsString>) -> Result<End> {
    let wrong = |e: lexopt::Error| usage(e, SEE);
    let mut parser = Parser::from_args(args);
    let command = match parser.next().map_err(wrong)? {
        Some(Arg::Value(command)) => command,
        Some(other) => return Err(wrong(other.unexpected())),
        None => return Err(usage("'admin system' wants a command: install, status, restart or uninstall", SEE)),
    };
    let Some((command, options)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
        return Err(usage(format_args!("'admin system' has no command '{}'; it has install, status, restart and uninstall", command.display()), SEE));
    };
    let mut typed = Typed::default();
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long(option) if options.contains(&option) => match option {
                "prefix" => typed.prefix = Some(directory(&mut parser)?),
                "files" => typed.files = Some(directory(&mut parser)?),
                "no-service" => typed.no_service = true,
                "json" => typed.json = true,
                "dry-run" => typed.done.dry_run = true,
                _ => typed.done.force = true,
            },
            other => return Err(usage(format_args!("admin system {command}: {}", other.unexpected()), SEE)),
        }
    }
    match *command {
        "install" => install(call, &typed),
        "status" => status(call, typed.json),
        "restart" => restart(call, &typed),
        _ => uninstall(call, &typed),
    }
}

fn directory(parser: &mut Parser) -> Result<PathBuf> {
    let typed = PathBuf::from(parser.value().map_err(|e| usage(e, SEE))?);
    if !typed.is_absolute() {
        return Err(usage("--prefix and --files want absolute paths: a relative one may mean another directory on the host", SEE));
    }
    Ok(place::tidy(&typed))
}

fn record_path(call: &Call) -> Result<PathBuf> {
    let state = paths::state_directory(&call.invocation).ok_or_else(|| Error::new("HOME is not set to an absolute path, so that there is no place for a record; set it"))?;
    Ok(state.join("install.json"))
}

/// Keeps another installation of the same user away until the file is dropped.
fn lock(directory: &Path) -> Result<File> {
    let failed = |e: std::io::Error| Error::io(format!("lock {} (is another installation at work?)", directory.display()), &e);
    let file = File::open(directory).map_err(failed)?;
    files::try_lock(&file).map_err(failed)?;
    Ok(file)
}

fn install(call: &Call, typed: &Typed) -> Result<End> {
    let places = Places::of(&call.invocation)?;
    let record_path = record_path(call)?;
    let prefix = typed.prefix.clone().unwrap_or_else(|| places.home.join(".local"));
    let state = record_path.parent().unwrap_or(&prefix);
    let mut held = if state.is_dir() && !typed.done.dry_run { Some(lock(state)?) } else { None };
    let recorded = document::read::<Record>(&record_path)?;
    if let Some(old) = recorded.as_ref().filter(|old| Path::new(&old.prefix) != prefix) {
        return Err(Error::new(format!("bkt is installed below {} already; nothing was changed: add --prefix {0}, or first: bkt admin system uninstall", old.prefix)));
    }
    let list = prefix.join(LIST);
    let old = match (recorded, document::read_text(&list)?) {
        (Some(old), _) => old,
        (None, Some(list)) => Record::of_list(&prefix, &list)?,
        (None, None) => Record::default(),
    };

    let bkt = prefix.join("bin/bkt");
    let own = process::own_path()?;
    let own = Path::new(std::ffi::OsStr::from_bytes(own.as_bytes()));
    let mut paths = wanted(&prefix, own, typed.files.as_deref(), &Places { own: bkt.clone(), ..places })?;
    let mut unit_before = String::new();
    let service = if typed.no_service { None } else { service_of(call, typed.done.force, &bkt)? };
    if let Some((_, _, file)) = &service {
        paths.push(file.clone());
    }
    if let Some((Facts { manager: Manager::Systemd(unit), .. }, ..)) = &service {
        unit_before = format!("{} {}", unit.enabled, unit.state);
    }
    let there: Result<Vec<(Wanted, String)>> =
        with_directories(paths, &record_path)?.into_iter().map(|wanted| Ok((wanted.clone(), install::seen(Path::new(&wanted.path))?))).collect();
    let mut there = there?;
    for (wanted, there) in &mut there {
        let shim = wanted.is.starts_with("link /") && there.starts_with("link ");
        wanted.ours |= shim && there.ends_with("/bkt");
    }
    let entries = install::plan(&there, &old.paths, typed.done.force)?;
    for (entry, (_, there)) in entries.iter().zip(&there) {
        install::check_aside(entry, there, &old.paths)?;
    }
    let gone = install::gone(&there, &old.paths);

    let is_new = there.iter().any(|(wanted, there)| wanted.path.ends_with("/bin/bkt") && *there != wanted.is);
    let changes = there.iter().filter(|(wanted, there)| *there != wanted.is);
    if typed.done.dry_run {
        let verb = |there: &str| if there == NOTHING { "make" } else { "replace" };
        let mut text: String = changes.clone().map(|(wanted, there)| format!("would {} {}\n", verb(there), wanted.path)).collect();
        text.extend(gone.iter().map(|entry| format!("would take away {}\n", entry.path)));
        output::print(&text);
    } else {
        let changed = changes.count();
        let user = call.invocation.var("USER").or_else(|| call.invocation.var("LOGNAME")).unwrap_or(b"");
        let earlier = if is_new || old.prefix.is_empty() { old.version.clone() } else { old.earlier.clone() };
        let mut record = Record {
            version: RELEASE.into(),
            earlier,
            user: shown(user),
            uid: process::user(),
            at: logging::rfc3339(logging::unix_seconds(), 0),
            source: shown(own.as_os_str().as_bytes()),
            prefix: install::text_of(&prefix)?,
            unit_before: if old.unit_before.is_empty() { unit_before } else { old.unit_before.clone() },
            paths: entries,
        };
        // The record comes first, so that what was interrupted can be gone on with, and taken back.
        document::write(&record_path, &record.text())?;
        if held.is_none() {
            held = Some(lock(state)?);
        }
        for (entry, (wanted, there)) in record.paths.iter().zip(&there) {
            install::make(wanted, there, &entry.before)?;
        }
        gone.iter().try_for_each(|entry| take_back(entry).map(drop))?;
        let _ = fs::remove_file(&list);
        record.paths.iter_mut().for_each(|entry| entry.was.clear());
        document::write(&record_path, &record.text())?;
        let from = if record.earlier.is_empty() { String::new() } else { format!(" (before: {})", record.earlier) };
        output::print(&format!("installed: version {RELEASE}{from}, {changed} of {} changed, below {}\n", counted(record.paths.len(), "path"), record.prefix));
        if !record.paths.iter().any(|entry| entry.path.ends_with("/bkt.1")) {
            output::print("note: no man pages and completions lie beside this executable; with the sources: --files DIR\n");
        }
    }
    match &service {
        Some((facts, steps, _)) => drop(service::perform(call, facts, steps, &typed.done)?),
        None if typed.no_service => {}
        None => output::print(&unit::by_hand(&bkt)),
    }
    let begun = |(_, steps, _): &(Facts, Vec<Step>, Wanted)| steps.iter().any(|step| matches!(step, Step::Start | Step::Systemctl(["restart" | "reload", ..])));
    if is_new && !service.as_ref().is_some_and(begun) && matches!(ask::status(&call.sockets(), call.op)?, Found::Running(_)) {
        output::print(&if typed.done.dry_run { "would reload the daemon\n".into() } else { ask::reload(&call.sockets(), call.op)? });
    }
    drop(held);
    let path = call.invocation.var("PATH").unwrap_or_default();
    if !path.split(|b| *b == b':').any(|directory| directory == prefix.join("bin").as_os_str().as_bytes()) {
        let bin = prefix.join("bin");
        output::print(&format!("note: {0} is not in your PATH; a new login may put it there, and the line that '{0}/bkt shim init --help' tells of does\n", bin.display()));
    }
    Ok(End::Code(0))
}

/// All paths but the service's and directories.
fn wanted(prefix: &Path, own: &Path, sources: Option<&Path>, places: &Places) -> Result<Vec<Wanted>> {
    let copy = |from: &Path, to: PathBuf, modes: u32| {
        Ok::<_, Error>(Wanted { path: install::text_of(&to)?, is: install::seen(from)?, copy: Some((from.to_path_buf(), modes)), ours: false })
    };
    let link = |path: PathBuf, target: &Path| Ok::<_, Error>(Wanted { path: install::text_of(&path)?, is: format!("link {}", install::text_of(target)?), copy: None, ours: false });
    let bin = prefix.join("bin");
    let mut all = vec![copy(own, bin.join("bkt"), 0o755)?];
    // The others (notify-send, xdg-open, …) belong into containers: here they would hide the real ones.
    for applet in APPLETS.iter().filter(|applet| applet.name.starts_with("bkt-")) {
        all.push(link(bin.join(applet.name), Path::new("bkt"))?);
    }
    for name in shipped() {
        all.push(link(places.host.join(name), &places.own)?);
    }
    // Declared twice: as in the manifest. What was declared for the host only is no link of ours, and stays when we go.
    let manifest = Manifest::read(places)?;
    for (declared, _) in links::Facts::look(&manifest, &links::Record::read(places)?, places).wanted {
        if declared.mode != Mode::HostOnly {
            let declared = link(declared.path, &declared.target)?;
            all.retain(|known| known.path != declared.path);
            all.push(declared);
        }
    }
    let has_texts = |directory: &&Path| directory.join(TEXTS[0].0).is_file();
    let above = || own.ancestors().skip(1).take(ABOVE).find(has_texts);
    let beside = match sources {
        Some(directory) if !has_texts(&directory) => return Err(Error::new(format!("there is no {} in {}; nothing was changed", TEXTS[0].0, directory.display()))),
        given => given.or_else(above),
    };
    for (from, to) in TEXTS {
        if let Some(from) = beside.map(|directory| directory.join(from)).filter(|from| from.is_file()) {
            all.push(copy(&from, prefix.join(to), 0o644)?);
        }
    }
    Ok(all)
}

/// The same with the directories that are not there yet, each before what is in it; the record's, too.
fn with_directories(paths: Vec<Wanted>, record: &Path) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for path in paths.iter().map(|wanted| Path::new(&wanted.path)).chain([record]) {
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|directory| !directory.is_dir()).collect();
        for directory in missing.into_iter().rev() {
            let path = install::text_of(directory)?;
            if all.iter().all(|known| known.path != path) {
                all.push(Wanted { path, is: DIRECTORY.into(), copy: None, ours: false });
            }
        }
    }
    all.extend(paths);
    Ok(all)
}

/// How the daemon becomes a service, and the file of it; `None` where nothing could start it.
fn service_of(call: &Call, force: bool, bkt: &Path) -> Result<Option<(Facts, Vec<Step>, Wanted)>> {
    let mut facts = service::look(call, force, ask::status(&call.sockets(), call.op)?)?;
    facts.files.bkt = bkt.to_path_buf();
    // The record has those that are made now.
    if facts.unit_text.is_none() {
        facts.directories.0 = 0;
    }
    if facts.autostart_text.is_none() {
        facts.directories.1 = 0;
    }
    let (path, text, there) = match &facts.manager {
        Manager::None => return Ok(None),
        Manager::Desktop => (&facts.files.autostart, unit::autostart(bkt, facts.directories.1)?, &facts.autostart_text),
        Manager::Systemd(_) | Manager::Unreachable(_) => (&facts.files.unit, unit::unit(bkt, facts.directories.0)?, &facts.unit_text),
    };
    let ours = unit::judge(there.as_deref(), &text) == unit::Found::Older;
    let file = Wanted { path: install::text_of(path)?, is: install::file(text.as_bytes()), copy: None, ours };
    let mut steps = plan::install(&facts).map_err(|e| Error::new(format!("{}; without the service: --no-service", e.text)))?;
    // Kept as all that is replaced is kept.
    steps.retain(|step| !matches!(step, Step::KeepAside { .. }));
    Ok(Some((facts, steps, file)))
}

/// Gives one path back; a word about it where there is one.
fn take_back(entry: &Entry) -> Result<Back> {
    let (path, beside) = (Path::new(&entry.path), plan::aside(Path::new(&entry.path)));
    let how = install::back(entry, &install::seen(path)?, install::seen(&beside)? != NOTHING);
    install::give_back(entry, how).map(|()| how)
}

fn uninstall(call: &Call, typed: &Typed) -> Result<End> {
    let record_path = record_path(call)?;
    let Some(record) = document::read::<Record>(&record_path)? else {
        return Err(Error::new(format!("nothing is recorded as installed ({} is not there); what 'make install' made, 'make uninstall' takes away", record_path.display())));
    };
    let _lock = lock(record_path.parent().unwrap_or(Path::new("/")))?;
    let bkt = Path::new(&record.prefix).join("bin/bkt");
    let found = ask::status(&call.sockets(), call.op).unwrap_or_else(|_| Found::Nothing(PathBuf::new()));
    let mut facts = service::look(call, typed.done.force, found)?;
    facts.files.bkt = bkt.clone();
    let of = |path: &Path| record.paths.iter().find(|entry| Path::new(&entry.path) == path);
    let service = of(&facts.files.unit).or_else(|| of(&facts.files.autostart));
    // A service that was there before stays, if what it starts stays too.
    let stays = service.is_some_and(Entry::stays) && of(&bkt).is_some_and(Entry::stays);
    let mut steps = if stays { vec![] } else { plan::uninstall(&facts)? };
    let restored = service.is_some_and(|entry| !stays && entry.before == install::KEPT);
    if restored {
        // What somebody changed is put aside under the name where the earlier one lies.
        if steps.iter().any(|step| matches!(step, Step::KeepAside { .. })) {
            let path = &facts.files.unit;
            return Err(Error::new(format!(
                "{} was changed, and {} is what was there before: move one of them away; nothing was changed",
                path.display(),
                plan::aside(path).display()
            )));
        }
    }
    if let (Some(daemon), false) = (&facts.daemon, steps.contains(&Step::Stop))
        && fs::read_link(format!("/proc/{}/exe", daemon.pid)).is_ok_and(|exe| exe == bkt)
        && !of(&bkt).is_some_and(Entry::stays)
    {
        steps.push(Step::Say(plan::ends_with_it(daemon)));
        steps.push(Step::Stop);
    }
    // Through the daemon, it is stopped last: we are one of its commands.
    let last = if call.invocation.var(environment::DEPTH).is_some() { steps.iter().position(|step| *step == Step::Stop) } else { None };
    let after = last.map_or_else(Vec::new, |at| steps.split_off(at));
    do_steps(call, &facts, &steps, typed)?;

    let mut changed = String::new();
    for entry in record.paths.iter().rev() {
        if typed.done.dry_run {
            let how = install::back(entry, &install::seen(Path::new(&entry.path))?, install::seen(&plan::aside(Path::new(&entry.path)))? != NOTHING);
            let what = match how {
                Back::Nothing => continue,
                Back::Remove => "take away",
                Back::File | Back::Link => "give back what was before as",
                Back::Changed => "leave, as it was changed since,",
            };
            output::print(&format!("would {what} {}\n", entry.path));
        } else if take_back(entry)? == Back::Changed {
            changed.push_str(&format!(" {}", entry.path));
        }
    }
    let goes = !of(&bkt).is_some_and(Entry::stays);
    let ended = facts.daemon.is_none() || steps.iter().chain(&after).any(|step| *step == Step::Stop);
    let mut later = if goes { later_links(call, &record, &bkt)? } else { vec![] };
    if goes && ended {
        let log = paths::log_file(&call.invocation);
        later.extend(log.into_iter().flat_map(|log| [paths::old_log(&log), log]).filter(|log| log.is_file()));
    }
    for path in &later {
        if typed.done.dry_run {
            output::print(&format!("would take away {}\n", path.display()));
        } else {
            fs::remove_file(path).map_err(|e| Error::io(format!("remove {}", path.display()), &e))?;
            // Where the last of the commands of other names lay.
            let _ = path.parent().filter(|directory| directory.ends_with(AS)).map(fs::remove_dir);
        }
    }
    if typed.done.dry_run {
        return do_steps(call, &facts, &after, typed);
    }
    let mut begin: Option<&[&str]> = None;
    if restored && let Manager::Systemd(_) = facts.manager {
        systemctl(&call.invocation, &["daemon-reload"])?;
        if record.unit_before.starts_with("enabled") {
            systemctl(&call.invocation, &["enable", "--quiet", UNIT])?;
        }
        begin = Some(&["restart", "--no-block", UNIT][..]).filter(|_| record.unit_before.ends_with(" active"));
    }
    let directories = || record.paths.iter().rev().filter(|entry| entry.is == DIRECTORY && !entry.stays()).for_each(|entry| drop(fs::remove_dir(&entry.path)));
    directories();
    fs::remove_file(&record_path).map_err(|e| Error::io(format!("remove {}", record_path.display()), &e))?;
    directories();
    if !changed.is_empty() {
        output::complain(&format!("bkt: changed since by somebody, and left as they are:{changed}"));
    }
    output::print(&format!("uninstalled: version {}, below {}\n", record.version, record.prefix));
    match begin {
        // It ends the daemon, too.
        Some(begin) => systemctl(&call.invocation, begin).map(|_| End::Code(0)),
        None => do_steps(call, &facts, &after, typed),
    }
}

/// Links that were made since, by `bkt shim add`, and would lead to nothing. What declares them is the user's, and stays.
fn later_links(call: &Call, record: &Record, bkt: &Path) -> Result<Vec<PathBuf>> {
    let places = Places { own: bkt.to_path_buf(), ..Places::of(&call.invocation)? };
    let facts = links::Facts::look(&Manifest::default(), &links::Record::read(&places)?, &places);
    let steps = links::plan(&facts, false, &|link| link.target == bkt || link.target.starts_with(AS));
    let is_known = |path: &Path| record.paths.iter().any(|entry| Path::new(&entry.path) == path);
    Ok(steps.into_iter().map(|step| step.path).filter(|path| !is_known(path)).collect())
}

/// The steps; a daemon that no unit has is told itself to stop.
fn do_steps(call: &Call, facts: &Facts, steps: &[Step], typed: &Typed) -> Result<End> {
    let by_unit = matches!(&facts.manager, Manager::Systemd(unit) if facts.daemon.as_ref().is_some_and(|daemon| daemon.pid == unit.main_pid));
    for step in steps {
        match &facts.daemon {
            // Said before, in a sentence.
            Some(_) if *step == Step::Stop && !by_unit && typed.done.dry_run => {}
            Some(daemon) if *step == Step::Stop && !by_unit => {
                ask::stop(&call.sockets(), call.op)?;
                service::wait_for_end(daemon.pid)?;
            }
            _ => drop(service::perform(call, facts, std::slice::from_ref(step), &typed.done)?),
        }
    }
    Ok(End::Code(0))
}

/// What `status --json` prints: the record, and how it is now.
#[derive(Serialize)]
struct State<'a> {
    installed: &'a Record,
    /// What the file at `bin/bkt` says of itself.
    file_version: &'a str,
    /// Empty where no daemon answers.
    daemon_version: &'a str,
    drift: Vec<Drift<'a>>,
}

/// A path that is not as recorded.
#[derive(Serialize)]
struct Drift<'a> {
    path: &'a str,
    /// `missing` or `changed`.
    state: &'static str,
}

fn status(call: &Call, json: bool) -> Result<End> {
    let record_path = record_path(call)?;
    let Some(record) = document::read::<Record>(&record_path)? else {
        output::print(if json { "null\n" } else { "not installed by 'bkt admin system install'\n" });
        return Ok(End::Code(NOT_INSTALLED));
    };
    let bkt = Path::new(&record.prefix).join("bin/bkt");
    let mut drift = Vec::new();
    let mut file_version = record.version.clone();
    for entry in &record.paths {
        let state = entry.state(&install::seen(Path::new(&entry.path))?);
        if state != "as recorded" {
            drift.push(Drift { path: &entry.path, state });
            if Path::new(&entry.path) == bkt {
                let said = tool::ask(&call.invocation, &[], &[bkt.as_os_str().as_bytes(), b"--version"], Errors::Ours, VERSION_MS).map_or(vec![], |(_, said)| said);
                file_version = shown(said.strip_prefix(b"bkt ").unwrap_or_default().trim_ascii());
            }
        }
    }
    let found = ask::status(&call.sockets(), call.op)?;
    let daemon_version = if let Found::Running(status) = &found { &*status.release } else { "" };
    let is_drift = !drift.is_empty() || !daemon_version.is_empty() && daemon_version != record.version;
    if json {
        output::print(&document::text(&State { installed: &record, file_version: &file_version, daemon_version, drift }));
    } else {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_string() } else { text.to_string() };
        let mut text = format!(
            "installed: version {}, below {}\nbefore:    {}\nby:        {} ({}), {}\nfrom:      {}\nfile:      version {}\ndaemon:    {}\npaths:     {}, {} not as recorded\n",
            record.version,
            record.prefix,
            or(&record.earlier, "nothing"),
            record.user,
            record.uid,
            record.at,
            record.source,
            or(&file_version, "unknown"),
            or(daemon_version, "not running"),
            record.paths.len(),
            drift.len(),
        );
        text.extend(drift.iter().map(|drift| format!("  {}: {}\n", drift.state, drift.path)));
        if is_drift {
            text.push_str("mend it with 'bkt admin system install' (--force where it was changed), or 'bkt admin daemon reload'\n");
        }
        output::print(&text);
    }
    Ok(End::Code(if is_drift { DRIFTED } else { 0 }))
}

fn restart(call: &Call, typed: &Typed) -> Result<End> {
    let found = ask::status(&call.sockets(), call.op)?;
    if let Found::Running(status) = &found
        && service::other_runs(call, status) > 0
        && !typed.done.force
    {
        let mut text = String::new();
        admin::describe_running(&mut text, status);
        output::complain(text.trim_end());
        return Err(Error::new(
            "these commands run, and a restart ends them; nothing was changed: 'bkt admin daemon reload' takes a new version up and ends none; or restart with --force",
        ));
    }
    let mut facts = service::look(call, false, found)?;
    if let Some(record) = document::read::<Record>(&record_path(call)?)? {
        facts.files.bkt = Path::new(&record.prefix).join("bin/bkt");
    }
    let through = call.invocation.var(environment::DEPTH).is_some();
    match (&facts.manager, &facts.daemon) {
        (Manager::Systemd(unit), daemon) if !unit.file.is_empty() && daemon.as_ref().is_none_or(|daemon| daemon.pid == unit.main_pid) => {
            let restart = if through { &["restart", "--no-block", UNIT] } else { &["restart", UNIT][..] };
            let mut steps = vec![Step::Systemctl(restart)];
            if !through {
                steps.push(Step::Verify);
            }
            service::perform(call, &facts, &steps, &typed.done)
        }
        (_, Some(_)) if through => {
            Err(Error::new("the daemon was started by hand, and this command runs through it: it would end before it could start another; restart it on the host"))
        }
        (_, Some(daemon)) => {
            let text = format!("no unit has the daemon (pid {}): it is told to end, and started anew, with its log in the usual file", daemon.pid);
            do_steps(call, &facts, &[Step::Say(text), Step::Stop, Step::Start], typed)
        }
        (_, None) if facts.autostart_text.is_some() => service::perform(call, &facts, &[Step::Start], &typed.done),
        (_, None) => Err(Error::new("there is no daemon, and no service of it: 'bkt admin daemon install' makes one, or says how to start it")),
    }
}
