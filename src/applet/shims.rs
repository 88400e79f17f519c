//! `bkt shim …`: the shims of a home. Acts where it is started: homes are shared, host and containers see the same links.

use crate::applet::{Call, output, usage};
use crate::container::{self, Side};
use crate::document;
use crate::error::{Error, Result, counted};
use crate::exit::End;
use crate::shims::capture;
use crate::shims::links::{self, Act, Facts, Left, Record, Step};
use crate::shims::manifest::{self, Host, Manifest, Mode, Shim};
use crate::shims::place::{self, Places};
use crate::shims::source;
use lexopt::{Arg, Parser, ValueExt};
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `check` ends with where something has drifted.
const DRIFTED: u8 = 1;

pub const HELP: &str = "\
Usage: bkt shim COMMAND

  add NAME                          a container's program, in every container and on the host:
      [--container C] [--source P]    by default the one in which this runs, and the program found in the usual places
  add NAME --host [CMD]             the host's command, in containers; CMD where its name differs (docker --host podman)
  add NAME --host-only [--source P] the program itself: a plain link in ~/.local/bin
  remove NAME… [--mode MODE]        takes shims out of the manifest, and their links away
  list [--json]                     those that are declared, and those that come with bkt
  sync [--prune]                    makes the links as declared; with --prune takes away those of ours that are not
  capture [DIR…]                    declares what is there: scripts of distrobox-export, links into ~/.cargo, ~/.proto and
                                      others of their kind, script shims; also in further directories
  check [--json]                    says what is not as declared; exit status 1 if there is anything
  init bash|zsh|fish                code for that shell's start-up file; 'bkt shim init --help'

  --dry-run     write nothing, say what would be done (add, remove, sync, capture)
  --force       also replace files that are not ours (add, sync)

MODE is host, distrobox or host-only. The manifest is $XDG_CONFIG_HOME/bkt/shims.json; 'bkt schema shims' describes it.
In PATH: ~/.local/bin/distrobox before ~/.local/bin, and in containers ~/.local/share/bkt/shims before everything.
";

/// What was typed.
#[derive(Default)]
struct Typed {
    words: Vec<String>,
    /// `--host`, and how many words stood before it.
    host: Option<usize>,
    host_only: bool,
    container: Option<String>,
    source: Option<String>,
    mode: Option<Mode>,
    json: bool,
    prune: bool,
    dry_run: bool,
    force: bool,
}

/// The commands and their options; a table, so that an option that a command does not know is an error.
const COMMANDS: &[(&str, &[&str])] = &[
    ("add", &["host", "host-only", "container", "source", "dry-run", "force"]),
    ("remove", &["mode", "dry-run"]),
    ("list", &["json"]),
    ("sync", &["prune", "dry-run", "force"]),
    ("capture", &["dry-run"]),
    ("check", &["json"]),
];

const SEE: &str = "bkt shim";

pub fn run(call: &Call, args: Vec<OsString>) -> Result<End> {
    let (command, typed) = read(args)?;
    let takes_names = ["add", "remove", "capture"].contains(&command);
    if !takes_names && !typed.words.is_empty() {
        return Err(usage(format_args!("'shim {command}' takes no name"), SEE));
    }
    let places = Places::of(&call.invocation)?;
    match command {
        "add" => add(call, &typed, &places),
        "remove" => remove(&typed, &places),
        "list" => list(&typed, &places),
        "sync" => sync(&typed, &places),
        "capture" => capture(call, &typed, &places),
        _ => check(&typed, &places),
    }
}

/// The command, and what was typed behind it.
fn read(args: Vec<OsString>) -> Result<(&'static str, Typed)> {
    let wrong = |e: lexopt::Error| usage(e, SEE);
    let mut parser = Parser::from_args(args);
    let command = match parser.next().map_err(wrong)? {
        Some(Arg::Value(command)) => command.string().map_err(wrong)?,
        Some(other) => return Err(wrong(other.unexpected())),
        None => return Err(usage("'shim' wants a command: add, remove, list, sync, capture, check or init", SEE)),
    };
    let Some((command, options)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
        return Err(usage(format_args!("'shim' has no command '{command}'; it has add, remove, list, sync, capture and check"), SEE));
    };
    let mut typed = Typed::default();
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Value(word) => typed.words.push(word.string().map_err(wrong)?),
            Arg::Long(option) if options.contains(&option) => match option {
                "host" => {
                    typed.host = Some(typed.words.len());
                    typed.words.extend(parser.optional_value().map(|command| command.string()).transpose().map_err(wrong)?);
                }
                "host-only" => typed.host_only = true,
                "container" => typed.container = Some(parser.value().and_then(|v| v.string()).map_err(wrong)?),
                "source" => typed.source = Some(parser.value().and_then(|v| v.string()).map_err(wrong)?),
                "mode" => {
                    let word = parser.value().and_then(|v| v.string()).map_err(wrong)?;
                    let mode = Mode::of_word(&word).ok_or_else(|| usage(format_args!("--mode wants host, distrobox or host-only, not '{word}'"), SEE))?;
                    typed.mode = Some(mode);
                }
                "json" => typed.json = true,
                "prune" => typed.prune = true,
                "dry-run" => typed.dry_run = true,
                _ => typed.force = true,
            },
            other => return Err(usage(format_args!("shim {command}: {}", other.unexpected()), SEE)),
        }
    }
    Ok((*command, typed))
}

/// A change of the manifest and of links: one at a time, from reading to writing.
struct Change<'a> {
    places: &'a Places,
    dry_run: bool,
    manifest: Manifest,
    record: Record,
    _lock: Option<std::fs::File>,
}

impl<'a> Change<'a> {
    fn begin(typed: &Typed, places: &'a Places) -> Result<Change<'a>> {
        let lock = if typed.dry_run { None } else { Some(places.lock()?) };
        Ok(Change { places, dry_run: typed.dry_run, manifest: Manifest::read(places)?, record: Record::read(places)?, _lock: lock })
    }

    fn facts(&self) -> Facts {
        Facts::look(&self.manifest, &self.record, self.places)
    }

    /// Writes the manifest where it changed, does the steps, and says what was done.
    fn finish(&mut self, changed: bool, steps: &[Step]) -> Result<()> {
        if !self.dry_run {
            if changed {
                self.manifest.write(self.places)?;
            }
            links::apply(steps, &mut self.record, self.places)?;
        }
        let would = if self.dry_run { "would " } else { "" };
        let mut text = String::new();
        for step in steps {
            let (path, target) = (self.places.shown(&step.path), self.places.shown(&step.target));
            match &step.act {
                Act::Keep | Act::Blocked(_) => continue,
                Act::Make => text.push_str(&format!("{would}make {path} -> {target}\n")),
                Act::Move => text.push_str(&format!("{would}move {path} -> {target}\n")),
                Act::Replace => text.push_str(&format!("{would}replace {path} -> {target}\n")),
                Act::Remove => text.push_str(&format!("{would}remove {path}\n")),
            }
        }
        if changed {
            text.push_str(&format!("{would}write {}\n", self.places.shown(&self.places.manifest)));
        }
        output::print(&text);
        Ok(())
    }
}

/// The first thing in the way, as an error: nothing has been changed yet.
fn blocked(steps: &[Step], places: &Places) -> Result<()> {
    match steps.iter().find_map(|step| if let Act::Blocked(what) = &step.act { Some((step, what)) } else { None }) {
        Some((step, what)) => Err(Error::new(format!("{} {what}; nothing was changed: {}", places.shown(&step.path), remedy(what)))),
        None => Ok(()),
    }
}

fn remedy(what: &str) -> &'static str {
    if what == "is a directory" { "move it away" } else { "move it away, or replace it with --force" }
}

fn add(call: &Call, typed: &Typed, places: &Places) -> Result<End> {
    let shim = declared(typed)?;
    let shim = complete(call, shim, &Manifest::read(places)?, places)?;
    shim.check().map_err(|what| usage(what, SEE))?;
    let mut change = Change::begin(typed, places)?;
    let (name, mode) = (shim.name.clone(), shim.mode());
    let changed = change.manifest.put(shim.clone());
    let facts = change.facts();
    // An inner link of the command that it had before goes with this.
    let mut steps = links::plan(&facts, typed.force, &|_| false);
    steps.retain(|step| step.name == name && step.mode == mode || step.act == Act::Remove);
    blocked(&steps, places)?;
    change.finish(changed, &steps)?;
    if !changed && steps.iter().all(|step| step.act == Act::Keep) {
        output::print(&format!("{name} is there already\n"));
    }
    if mode == Mode::Distrobox && change.manifest.container_of(&shim).is_none() {
        output::complain(&format!(
            "bkt: nothing says which container {name} is in, so that it runs in containers only; bkt shim add {name} --container NAME, or \"container\": \"NAME\" at the top of {}",
            places.shown(&places.manifest)
        ));
    }
    if let Some(source) = shim.source.as_deref().map(|source| places.expand(source)).filter(|source| facts.missing.contains(source)) {
        output::complain(&format!("bkt: there is no program {} yet", places.shown(&source)));
    }
    Ok(End::Code(0))
}

/// The shim as it was typed, with each part right in itself.
fn declared(typed: &Typed) -> Result<Shim> {
    let wrong = |what: String| usage(what, SEE);
    let (name, command) = match (&typed.words[..], typed.host) {
        ([name], _) => (name, None),
        ([name, command], Some(1)) => (name, Some(command)),
        ([], _) => return Err(wrong("'shim add' wants a name".into())),
        (_, Some(0)) => return Err(wrong("the name comes first: 'bkt shim add NAME --host CMD'".into())),
        ([_, further, ..], _) => return Err(wrong(format!("'shim add' takes one name; what is '{further}'?"))),
    };
    manifest::check_name(name).map_err(wrong)?;
    let host = match (typed.host, command) {
        (None, _) => None,
        (Some(_), Some(command)) if command != name => Some(Host::named(command).map_err(wrong)?),
        (Some(_), _) => Some(Host::SameName),
    };
    typed.container.as_deref().map_or(Ok(()), manifest::check_container).map_err(wrong)?;
    let together = |one: &str, other: &str| wrong(format!("{one} and {other} exclude each other"));
    match typed {
        Typed { host: Some(_), host_only: true, .. } => Err(together("--host", "--host-only")),
        Typed { host: Some(_), source: Some(_), .. } => Err(together("--host", "--source")),
        Typed { host: Some(_), container: Some(_), .. } => Err(together("--host", "--container")),
        Typed { host_only: true, container: Some(_), .. } => Err(together("--host-only", "--container")),
        _ => Ok(Shim { name: name.clone(), source: typed.source.clone(), host_only: typed.host_only, host, container: typed.container.clone() }),
    }
}

/// Adds what was not typed: the source from the usual places, the container in which we are.
fn complete(call: &Call, mut shim: Shim, manifest: &Manifest, places: &Places) -> Result<Shim> {
    let invocation = &call.invocation;
    if shim.mode() == Mode::Host {
        return Ok(shim);
    }
    let path = match &shim.source {
        Some(source) => {
            manifest::check_source(source).map_err(|what| usage(what, SEE))?;
            place::tidy(&places.expand(source))
        }
        None => source::find(&shim.name, shim.mode(), invocation, places).ok_or_else(|| {
            let option = if shim.host_only { " --host-only" } else { "" };
            Error::new(format!(
                "no program {} was found in ~/.cargo/bin, ~/.proto/shims and their like, nor in PATH; say where it is: bkt shim add {0}{option} --source PATH",
                shim.name
            ))
        })?,
    };
    shim.source = Some(manifest::to_source(&path, &places.home)?);
    if shim.mode() == Mode::Distrobox && shim.container.is_none() && container::side(invocation) == Side::Container {
        // An id would be another one in the next container of the same name.
        let here = container::name(invocation).filter(|name| !container::is_short_id(name));
        shim.container = here.and_then(|name| String::from_utf8(name).ok()).filter(|name| manifest::check_container(name).is_ok());
    }
    // What the manifest says for all need not be said again.
    shim.container = shim.container.filter(|container| manifest.container.as_ref() != Some(container));
    Ok(shim)
}

fn remove(typed: &Typed, places: &Places) -> Result<End> {
    if typed.words.is_empty() {
        return Err(usage("'shim remove' wants a name", SEE));
    }
    let mut change = Change::begin(typed, places)?;
    let is_meant = |name: &str, mode: Mode| typed.words.iter().any(|word| word == name) && typed.mode.is_none_or(|wanted| wanted == mode);
    let before = change.facts();
    for word in &typed.words {
        let declared = change.manifest.shims.iter().any(|shim| shim.name == *word && is_meant(word, shim.mode()));
        if !declared && !before.left.iter().any(|link| link.name == *word && is_meant(word, link.mode)) {
            let mode = typed.mode.map_or(String::new(), |mode| format!(" in mode {}", mode.word()));
            return Err(Error::new(format!("there is no shim '{word}'{mode}; nothing was changed: bkt shim list")));
        }
    }
    let count = change.manifest.shims.len();
    change.manifest.shims.retain(|shim| !is_meant(&shim.name, shim.mode()));
    let changed = change.manifest.shims.len() != count;
    let after = change.facts();
    let mut steps = links::plan(&after, false, &|link| is_meant(&link.name, link.mode));
    steps.retain(|step| step.act == Act::Remove);
    change.finish(changed, &steps)?;
    for (wanted, there) in before.wanted.iter().filter(|(wanted, _)| is_meant(&wanted.name, wanted.mode)) {
        let kept = *there != links::There::Nothing && !steps.iter().any(|step| step.path == wanted.path) && !after.wanted.iter().any(|(other, _)| other.path == wanted.path);
        if kept {
            output::complain(&format!("bkt: {} is not ours and was left alone", places.shown(&wanted.path)));
        }
    }
    Ok(End::Code(0))
}

/// A row of `list --json`.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    source: &'a str,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
}

fn list(typed: &Typed, places: &Places) -> Result<End> {
    let mut manifest = Manifest::read(places)?;
    // Those that come with bkt need no declaration, and are shims like others.
    let left = Facts::look(&manifest, &Record::read(places)?, places).left;
    manifest.shims.extend(left.into_iter().filter(|link| link.shipped).map(|link| Shim { name: link.name, host: Some(Host::SameName), ..Shim::default() }));
    let row = |shim: &'_ Shim| (shim.name.clone(), shim.shown_source().to_string(), shim.mode());
    if typed.json {
        let rows = manifest.shims.iter().map(|shim| Row {
            name: &shim.name,
            source: shim.shown_source(),
            mode: shim.mode().word(),
            container: manifest.container_of(shim).filter(|_| shim.mode() == Mode::Distrobox),
        });
        output::print(&document::text(&rows.collect::<Vec<_>>()));
        return Ok(End::Code(0));
    }
    let rows: Vec<(String, String, Mode)> = manifest.shims.iter().map(row).collect();
    let width = |header: usize, of: fn(&(String, String, Mode)) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0).max(header) + 2;
    let (names, sources) = (width(8, |row| &row.0), width(24, |row| &row.1));
    let mut text = format!("{:names$}{:sources$}MODE\n", "NAME", "SOURCE");
    for (name, source, mode) in &rows {
        text.push_str(&format!("{name:names$}{source:sources$}{}\n", mode.word()));
    }
    output::print(&text);
    Ok(End::Code(0))
}

fn sync(typed: &Typed, places: &Places) -> Result<End> {
    let mut change = Change::begin(typed, places)?;
    let facts = change.facts();
    let undeclared = |link: &Left| !link.shipped;
    let steps = links::plan(&facts, typed.force, &|link| typed.prune && undeclared(link));
    change.finish(false, &steps)?;
    let in_the_way: Vec<(&Step, &str)> = steps.iter().filter_map(|step| if let Act::Blocked(what) = &step.act { Some((step, what.as_str())) } else { None }).collect();
    for (step, what) in &in_the_way {
        output::complain(&format!("bkt: {} {what}; {}", places.shown(&step.path), remedy(what)));
    }
    let left = facts.left.iter().filter(|link| undeclared(link)).count();
    if left > 0 && !typed.prune {
        output::complain(&format!("bkt: links of ours that are not declared: {left}; 'bkt shim sync --prune' takes them away, 'bkt shim capture' declares them"));
    }
    if !in_the_way.is_empty() {
        return Err(Error::new(format!("{} of {} could not be made; all others are as declared", in_the_way.len(), counted(facts.wanted.len(), "link"))));
    }
    if steps.iter().all(|step| step.act == Act::Keep) {
        output::print(&format!("nothing to do: {}, as declared\n", counted(facts.wanted.len(), "link")));
    }
    Ok(End::Code(0))
}

fn capture(call: &Call, typed: &Typed, places: &Places) -> Result<End> {
    let current = std::env::current_dir().unwrap_or_default();
    let further: Vec<PathBuf> = typed.words.iter().map(|word| place::tidy(&current.join(word))).collect();
    if let Some(missing) = further.iter().find(|directory| !directory.is_dir()) {
        return Err(Error::new(format!("{} is not a directory; nothing was changed", missing.display())));
    }
    let mut change = Change::begin(typed, places)?;
    let mut text = String::new();
    let mut changed = false;
    for found in capture::capture(&further, &call.invocation, places) {
        let path = places.shown(&found.path);
        match found.shim {
            // What is declared was declared on purpose.
            Err(_)
                if found.path.parent() == Some(&places.distrobox)
                    && change.manifest.find(&found.path.file_name().unwrap_or_default().to_string_lossy(), Mode::Distrobox).is_some() => {}
            Err(what) => output::complain(&format!("bkt: {path} {what}; left alone")),
            Ok(shim) if change.manifest.find(&shim.name, shim.mode()).is_some() => {}
            Ok(mut shim) => {
                shim.container = shim.container.filter(|container| change.manifest.container.as_ref() != Some(container));
                text.push_str(&format!("{path}: {} {} {}\n", shim.name, shim.mode().word(), shim.shown_source()));
                changed |= change.manifest.put(shim);
            }
        }
    }
    output::print(&text);
    change.finish(changed, &[])?;
    if !changed {
        output::print("nothing new was found\n");
    } else if !typed.dry_run {
        output::print("now make the links: bkt shim sync (--force to replace scripts by them)\n");
    }
    Ok(End::Code(0))
}

/// A row of `check --json`.
#[derive(Serialize)]
struct Drift<'a> {
    name: &'a str,
    mode: &'static str,
    path: String,
    what: &'a str,
    mend: &'a str,
    drift: bool,
}

fn check(typed: &Typed, places: &Places) -> Result<End> {
    let manifest = Manifest::read(places)?;
    let facts = Facts::look(&manifest, &Record::read(places)?, places);
    let findings = links::check(&manifest, &facts, places);
    if typed.json {
        let rows = findings.iter().map(|f| Drift { name: &f.name, mode: f.mode.word(), path: places.shown(&f.path), what: &f.what, mend: &f.mend, drift: f.drift });
        output::print(&document::text(&rows.collect::<Vec<_>>()));
    } else {
        let mut text = String::new();
        for finding in &findings {
            text.push_str(&format!("{} ({}): {} {}\n  mend: {}\n", finding.name, finding.mode.word(), places.shown(&finding.path), finding.what, finding.mend));
        }
        if !findings.iter().any(|finding| finding.drift) {
            text.push_str(&format!("{}, as declared\n", counted(manifest.shims.len(), "shim")));
        }
        output::print(&text);
    }
    Ok(End::Code(if findings.iter().any(|finding| finding.drift) { DRIFTED } else { 0 }))
}
