//! `bkt schema NAME`: the JSON Schemas of the files that people write, for their editors and programs.

use crate::applet::{output, usage};
use crate::error::Result;
use crate::exit::End;
use crate::policy;
use crate::shims::manifest;
use std::ffi::OsString;

/// Name, and text.
const SCHEMAS: &[(&str, &str)] = &[("policy", policy::SCHEMA), ("shims", manifest::SCHEMA)];

pub fn run(args: &[OsString]) -> Result<End> {
    let names: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
    let known = |arg: &OsString| SCHEMAS.iter().find(|(name, _)| arg == name);
    match args {
        [arg] if known(arg).is_some() => output::print(known(arg).map_or("", |(_, text)| text)),
        _ => return Err(usage(format_args!("'schema' wants one of these names: {}", names.join(", ")), "bkt")),
    }
    Ok(End::Code(0))
}
