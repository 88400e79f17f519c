//! `bkt schema NAME`: what may stand in a file that people write, for their editors.

use crate::applet::{output, usage};
use crate::error::Result;
use crate::exit::End;
use crate::shims::manifest;

/// A row for each file.
const SCHEMAS: &[(&str, &str)] = &[("shims", manifest::SCHEMA)];

pub fn run(words: &[&str]) -> Result<End> {
    let names: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
    let found = match words {
        [one] => SCHEMAS.iter().find(|(name, _)| name == one),
        _ => None,
    };
    match found {
        Some((_, text)) => output::print(text),
        None => return Err(usage(format_args!("'schema' wants one of: {}", names.join(", ")), "bkt")),
    }
    Ok(End::Code(0))
}
