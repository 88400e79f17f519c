//! The asking side: runs a command through the daemon as if it were our own child.
//!
//! May import: floors 0 to 2. Start at `run` (the story of one run), then `relay` (what happens at a terminal). `capture` looks
//! at what the caller gave us, `connect` finds the daemon, `local` is the way without it, `ask` is everything that is no run.

pub mod ask;
pub mod capture;
mod connect;
pub mod local;
mod relay;
pub mod run;
