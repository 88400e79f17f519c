//! Shims: names that are links to this executable, and the manifest that declares them.
//!
//! May import: floors 0 to 2. Read `manifest` first (what a person declares), then `links` (what is wanted against what is there),
//! then `enter` (how a `distrobox` shim gets to its program). `place` says where things are, `source` where programs are,
//! `capture` reads what others made.

pub mod capture;
pub mod enter;
pub mod links;
pub mod manifest;
pub mod place;
pub mod source;

pub use links::shipped;
