//! `bkt status`: both sides at a glance.

use crate::applet::admin::{self, State};
use crate::applet::sides::{self, OtherSide, Place};
use crate::applet::{Call, RELEASE, output, usage};
use crate::client::ask::{Found, Status};
use crate::container;
use crate::container::Side;
use crate::doctor::examine::Checked;
use crate::document;
use crate::error::{Result, counted};
use crate::exit::End;
use crate::logging::shown;
use lexopt::{Arg, Parser, ValueExt};
use serde::Serialize;
use std::ffi::OsString;

/// Refusals that people are shown; programs get all.
const SHOWN_ERRORS: usize = 5;

pub fn run(call: &Call, args: Vec<OsString>, other: OtherSide<'_>) -> Result<End> {
    let wrong = |e: lexopt::Error| usage(e, "bkt");
    let (mut json, mut container, mut parser) = (false, None, Parser::from_args(args));
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Long("json") => json = true,
            // From a container's bkt to the host's; not for people.
            Arg::Long("container") => container = Some(parser.value().and_then(|v| v.string()).map_err(wrong)?),
            other => return Err(usage(format_args!("status: {}", other.unexpected()), "bkt")),
        }
    }
    let place = Place::look(call);
    let other = other.filter(|_| place.has_other_side());
    let side = place.side;
    let (text, own) = one_side(call, &place);
    if let (Side::Container, Some(other)) = (side, other) {
        if !json {
            output::print(&format!("{text}\n"));
            return other(vec![]);
        }
        return other(vec!["--container".into(), own.clone().into()]).or_else(|error| sides::print_json(None, Some(&own)).and(Err(error)));
    }
    match (json, side) {
        (true, Side::Host) => sides::print_json(Some(&own), container.as_deref())?,
        (true, Side::Container) => sides::print_json(None, Some(&own))?,
        (false, _) => output::print(&text),
    }
    place.found.map(|found| End::Code(admin::code(&found)))
}

/// What `--json` prints of one side.
#[derive(Serialize)]
struct Overview<'a> {
    side: &'static str,
    version: &'static str,
    name: String,
    /// Another version than the daemon's.
    drift: bool,
    daemon: Option<State>,
    shims: Shims<'a>,
    containers: Vec<Container>,
    errors: Vec<Failure<'a>>,
}

#[derive(Serialize)]
struct Shims<'a> {
    about: &'a str,
    wrong: Vec<&'a str>,
}

#[derive(Serialize)]
struct Container {
    name: String,
    runs: u64,
    ago_ms: u64,
}

#[derive(Serialize)]
struct Failure<'a> {
    op_id: Option<String>,
    ago_ms: u64,
    code: &'static str,
    text: &'a str,
}

/// As a person sees it, and as a program does.
fn one_side(call: &Call, place: &Place) -> (String, String) {
    let name = if place.side == Side::Host { String::new() } else { shown(&container::name(&call.invocation).unwrap_or_default()) };
    let running = match &place.found {
        Ok(Found::Running(status)) => Some(status),
        _ => None,
    };
    let shims = place.patient(call).shims();
    let text = describe(place, &name, running, &shims);
    (text, document::text(&overview(place, name, running, &shims)))
}

fn describe(place: &Place, name: &str, running: Option<&Status>, shims: &Checked) -> String {
    let mut text = format!("bkt {RELEASE} {}\n", sides::on(place.side));
    if !name.is_empty() {
        text.push_str(&format!("name:    {name}\n"));
    }
    text.push('\n');
    match &place.found {
        Ok(found) => text.push_str(&admin::describe(found, &place.sockets)),
        Err(error) => text.push_str(&format!("daemon:  {}\n", error.text)),
    }
    if let Some(status) = running {
        let starter = if status.supervised { "a service manager, which watches over it" } else { "hand" };
        text.push_str(&format!("started: by {starter}\n"));
    }
    text.push_str(&format!("shims:   {}{}\n", shims.about, if shims.findings.is_empty() { "" } else { ", and with faults: 'bkt doctor' says more" }));
    for finding in &shims.findings {
        text.push_str(&format!("  {}\n", finding.what));
    }
    if let Some(status) = running.filter(|_| place.side == Side::Host) {
        if !status.seen.is_empty() {
            text.push_str("containers:\n");
        }
        for seen in &status.seen {
            text.push_str(&format!("  {:20} {:>11}, the last {} ago\n", shown(&seen.name), counted(seen.runs as usize, "run"), admin::duration(seen.ago_ms)));
        }
        if !status.errors.is_empty() {
            text.push_str("last errors:\n");
        }
        for error in status.errors.iter().rev().take(SHOWN_ERRORS) {
            let op = error.op.map_or_else(|| "-".to_string(), |op| op.to_string());
            text.push_str(&format!("  {op:15}  {} ago  {}: {}\n", admin::duration(error.ago_ms), error.code.word(), error.text));
        }
    }
    text
}

fn overview<'a>(place: &Place, name: String, running: Option<&'a Status>, shims: &'a Checked) -> Overview<'a> {
    Overview {
        side: place.side.word(),
        version: RELEASE,
        name,
        drift: running.is_some_and(|status| status.release != RELEASE),
        daemon: place.found.as_ref().ok().map(|found| State::of(found, &place.sockets)),
        shims: Shims { about: &shims.about, wrong: shims.findings.iter().map(|f| &*f.what).collect() },
        containers: running.map_or_else(Vec::new, |s| s.seen.iter().map(|c| Container { name: shown(&c.name), runs: c.runs, ago_ms: c.ago_ms }).collect()),
        errors: running
            .map_or_else(Vec::new, |s| s.errors.iter().map(|e| Failure { op_id: e.op.map(|op| op.to_string()), ago_ms: e.ago_ms, code: e.code.word(), text: &e.text }).collect()),
    }
}
