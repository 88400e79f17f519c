//! What a listener allows, decided without I/O: a document in, a verdict out.
//!
//! May import: floors 0 and 1. `pattern` is the language of one name or argument, `rules` the document and how it is applied.
//! Who asks must know what a name leads to before it is judged: see [`rules::Asked`].

pub mod pattern;
pub mod rules;

/// What tells a text from others (FNV-1a), so that the daemon need not hand it round to say which it read. Never 0.
pub fn stamp(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |stamp: u64, byte| (stamp ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)).max(1)
}

/// The document's JSON Schema, for editors; a test holds the reader to it.
pub const SCHEMA: &str = include_str!("schema.json");
