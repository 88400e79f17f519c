//! What a listener allows, decided without I/O: a document in, a verdict out.
//!
//! May import: floors 0 and 1. `pattern` is the language of one name or argument, `rules` the document and how it is applied.
//! Who asks must know what a name leads to before it is judged: see [`rules::Asked`].

pub mod pattern;
pub mod rules;

/// The document's JSON Schema, for editors; a test holds the reader to it.
pub const SCHEMA: &str = include_str!("schema.json");
