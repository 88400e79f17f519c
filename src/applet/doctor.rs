//! `bkt doctor`: what is wrong with this set-up, on both sides, and the command that mends it.

use crate::applet::sides::{self, OtherSide, Place};
use crate::applet::{APPLETS, Call, RELEASE, output, usage};
use crate::checks::{self, Finding, Level, Mend, files};
use crate::client::ask::{self, Found};
use crate::container::Side;
use crate::doctor::examine::Checked;
use crate::doctor::{name, treat};
use crate::error::{Result, counted};
use crate::exit::End;
use crate::logging::shown;
use crate::shims::links::{self, Facts, Record};
use crate::shims::manifest::Manifest;
use crate::shims::place::Places;
use crate::sys::process;
use lexopt::{Arg, Parser, ValueExt};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub const HELP: &str = "\
Usage: bkt doctor [--fix] [--json] [NAME]

Looks at the whole set-up, in a container at both sides: socket, daemon, unit, environment, PATH, shims, policy.
Each finding says what is wrong, why it matters, and the command that mends it. With NAME: which files answer to
that name, in the order of PATH, and which one wins.

  --fix    do what is safe: modes of our own files, links of our own making, what ends nothing that runs
  --json   for programs

Exit status: 0 all is well, or there are warnings only; 1 something is broken.
";

#[derive(Default)]
struct Typed {
    fix: bool,
    json: bool,
    name: Option<String>,
    /// What a container's doctor found, as its JSON, and its exit status: it is shown beside ours.
    container: Option<String>,
    code: u8,
}

fn read(args: Vec<OsString>) -> Result<Typed> {
    let wrong = |e: lexopt::Error| usage(e, "bkt doctor");
    let (mut typed, mut parser) = (Typed::default(), Parser::from_args(args));
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("fix") => typed.fix = true,
            Arg::Long("json") => typed.json = true,
            // From a container's bkt to the host's; not for people.
            Arg::Long("container") => typed.container = Some(parser.value().and_then(|v| v.string()).map_err(wrong)?),
            Arg::Long("code") => typed.code = parser.value().and_then(|v| v.parse()).map_err(wrong)?,
            Arg::Value(name) if typed.name.is_none() && !name.is_empty() => typed.name = Some(name.string().map_err(wrong)?),
            other => return Err(wrong(other.unexpected())),
        }
    }
    Ok(typed)
}

pub fn run(call: &Call, args: Vec<OsString>, other: OtherSide<'_>) -> Result<End> {
    let typed = read(args)?;
    let mut place = Place::look(call);
    let other = other.filter(|_| place.has_other_side());
    let side = place.side;
    let (code, text, json) = match &typed.name {
        Some(name) => explain(call, name, &place),
        None => {
            let mut checks = examine(call, &place);
            if typed.fix && fix(call, &place, &checks) {
                // What was mended is looked at again, and the rest with it.
                place = Place::look(call);
                checks = examine(call, &place);
            }
            let worst = checks.iter().flat_map(|c| &c.findings).map(|f| f.level).max();
            (u8::from(worst == Some(Level::Broken)), describe(&checks, side, typed.fix), report(&checks, side))
        }
    };
    let code = code.max(typed.code);
    match (side, other) {
        (Side::Container, Some(other)) => {
            let mut further: Vec<OsString> = vec!["--code".into(), code.to_string().into()];
            if typed.json {
                further.extend(["--container".into(), json.clone().into()]);
            } else {
                output::print(&format!("{text}\n"));
            }
            other(further).or_else(|error| {
                output::complain(&format!("bkt: the host's side cannot be looked at: {} ({})", error.text, call.op));
                if typed.json {
                    sides::print_json(None, Some(&json))?;
                }
                Ok(End::Code(1))
            })
        }
        (Side::Container, None) if typed.json => sides::print_json(None, Some(&json)).map(|()| End::Code(code)),
        (Side::Host, _) if typed.json => sides::print_json(Some(&json), typed.container.as_deref()).map(|()| End::Code(code)),
        _ => {
            output::print(&text);
            Ok(End::Code(code))
        }
    }
}

/// The guest daemons that are of another release than this.
fn guests(call: &Call) -> Checked {
    let all = ask::guests(&call.sockets(), call.op).unwrap_or_default();
    let judge = |guest: &ask::Guest| {
        let (name, pid) = (shown(&guest.container), guest.status.as_ref().map_or(0, |status| status.pid));
        let own = checks::quoted(Path::new(OsStr::from_bytes(process::own_path().ok()?.to_bytes())));
        // What calls itself so may be a sandbox that hopes for a person's shell.
        let word = checks::quoted(Path::new(&name));
        // Where it is the same file it does that by itself, as soon as nothing runs there.
        let mend = format!("podman cp {own} {word}:\"$(bkt enter {word} -- readlink /proc/{pid}/exe)\" && bkt enter {word} -- true   # then it renews itself");
        checks::daemon::release(&format!("the guest daemon of {name}"), &shown(guest.release.as_bytes()), RELEASE, Mend::ByHand(mend))
    };
    Checked { check: "guests", about: format!("guest daemons: {}", all.len()), findings: all.iter().filter_map(judge).collect() }
}

/// Everything of our side, with what the shims' own check says: that is what 'bkt shim check' prints.
fn examine(call: &Call, place: &Place) -> Vec<Checked> {
    let mut checks = place.patient(call).examine();
    if let (Side::Host, Ok(Found::Running(_))) = (place.side, &place.found) {
        checks.push(guests(call));
    }
    if place.side == Side::Host
        && let Ok(places) = Places::of(&call.invocation)
    {
        let known: Vec<&Finding> = checks.iter().flat_map(|c| &c.findings).collect();
        let findings = match Manifest::read(&places).and_then(|manifest| Ok((Record::read(&places)?, manifest))) {
            Err(wrong) => vec![files::document(&places.manifest, &wrong.text, "no shim can be added, made or run from it")],
            Ok((record, manifest)) => {
                let found = links::check(&manifest, &Facts::look(&manifest, &record, &places), &places);
                // What lies in the place of a link was told already.
                let is_new = |f: &&links::Finding| !known.iter().any(|k| k.what.contains(&*f.path.to_string_lossy()));
                found.iter().filter(is_new).map(|f| declared(f, &places)).collect()
            }
        };
        checks.push(Checked { check: "manifest", about: places.shown(&places.manifest), findings });
    }
    checks
}

fn declared(found: &links::Finding, places: &Places) -> Finding {
    let mend = match &*found.mend {
        "bkt shim sync" => Mend::Run(&["bkt", "shim", "sync"]),
        mend if mend.starts_with("bkt ") => Mend::ByHand(mend.replacen(", or", "   # or", 1)),
        mend => Mend::ByHand(format!("# {mend}")),
    };
    let what = format!("{} ({}): {}", places.shown(&found.path), found.mode.word(), found.what);
    Finding::warning(what, "the shim is not what the manifest says, and not the same on the next machine", mend)
}

/// Does what may be done unasked, and says each step; whether there was any.
fn fix(call: &Call, place: &Place, checks: &[Checked]) -> bool {
    let mut any = false;
    for finding in checks.iter().flat_map(|c| &c.findings) {
        match treat::treat(&finding.mend, &call.invocation, &place.shims, &place.executable) {
            Ok(false) => {}
            Ok(true) => {
                any = true;
                output::complain(&format!("done: {}", finding.mend.command()));
            }
            Err(error) => output::complain(&format!("not done: {}", error.text)),
        }
    }
    any
}

fn describe(checks: &[Checked], side: Side, fixed: bool) -> String {
    let mut text = format!("bkt {RELEASE} {}\n", sides::on(side));
    let (mut broken, mut safe, mut all) = (0, 0, 0);
    for Checked { check, about, findings } in checks {
        if findings.is_empty() {
            text.push_str(&format!("  ok       {check:12} {about}\n"));
        }
        for Finding { level, what, why, mend } in findings {
            text.push_str(&format!("  {:8} {check:12} {what}\n                        {why}\n                        mend: {}\n", level.word(), mend.command()));
            all += 1;
            broken += usize::from(*level == Level::Broken);
            safe += usize::from(!matches!(mend, Mend::ByHand(_)));
        }
    }
    match all {
        0 => text.push_str("all is well\n"),
        _ => text.push_str(&format!("{broken} broken, {}\n", counted(all - broken, "warning"))),
    }
    if safe > 0 && !fixed {
        text.push_str(&format!("'bkt doctor --fix' does {safe} of the mending commands\n"));
    }
    text
}

/// What `--json` prints of one side.
#[derive(Serialize)]
struct Report<'a> {
    side: &'a str,
    version: &'a str,
    checks: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    check: &'a str,
    /// `ok`, `warning` or `broken`.
    level: &'a str,
    what: &'a str,
    why: &'a str,
    mend: String,
    /// `--fix` does it.
    safe: bool,
}

fn report(checks: &[Checked], side: Side) -> String {
    let mut items = Vec::new();
    for Checked { check, about, findings } in checks {
        if findings.is_empty() {
            items.push(Item { check, level: "ok", what: about, why: "", mend: String::new(), safe: false });
        }
        items.extend(findings.iter().map(|f| Item { check, level: f.level.word(), what: &f.what, why: f.why, mend: f.mend.command(), safe: !matches!(f.mend, Mend::ByHand(_)) }));
    }
    crate::document::text(&Report { side: side.word(), version: RELEASE, checks: items })
}

#[derive(Serialize)]
struct Explained<'a> {
    side: &'a str,
    name: &'a str,
    candidates: Vec<Candidate>,
    why: &'a str,
}

#[derive(Serialize)]
struct Candidate {
    path: String,
    mode: &'static str,
    wins: bool,
}

/// Who answers to a name; not there at all is no fault of the set-up.
fn explain(call: &Call, wanted: &str, place: &Place) -> (u8, String, String) {
    let is_tool = wanted == "host-exec" || wanted.starts_with("bkt") && APPLETS.iter().any(|applet| applet.name == wanted);
    let (all, why) = name::explain(wanted, is_tool, &call.invocation, &place.shims, place.side == Side::Host);
    let side = place.side.word();
    let mut text = format!("{wanted} {}, in the order of PATH\n", sides::on(place.side));
    for candidate in &all {
        text.push_str(&format!("{} {:14} {}\n                 {}\n", if candidate.wins { '>' } else { ' ' }, candidate.mode, candidate.path.display(), candidate.what));
    }
    text.push_str(&format!("{why}\n"));
    let candidates = all.iter().map(|c| Candidate { path: c.path.display().to_string(), mode: c.mode, wins: c.wins }).collect();
    (0, text, crate::document::text(&Explained { side, name: wanted, candidates, why: &why }))
}
