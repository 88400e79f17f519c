//! `bkt schema NAME`: the JSON Schemas of the files that people write, for their editors and programs.

use crate::applet::{output, usage};
use crate::error::Result;
use crate::exit::End;
use crate::policy;
use crate::shims::manifest;

/// A row for each file: name, and text.
const SCHEMAS: &[(&str, &str)] = &[("shims", manifest::SCHEMA), ("policy", policy::SCHEMA)];

pub fn run(words: &[&str]) -> Result<End> {
    let names: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
    let found = match words {
        [one] => SCHEMAS.iter().find(|(name, _)| name == one),
        _ => None,
    };
    match found {
        Some((_, text)) => output::print(text),
        None => return Err(usage(format_args!("'schema' wants one of these names: {}", names.join(", ")), "bkt")),
    }
    Ok(End::Code(0))
}
