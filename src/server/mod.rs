//! The daemon: runs commands for its callers.
//!
//! May import: floors 0 to 2. Start at `daemon` (the loop), with `session` (what is decided) beside it. `plan` turns a request
//! into a launch, `monitor` is the session leader of a run that has a terminal, `listener` owns the socket's file, `grants` and
//! `policy` say what a listener allows, `reload` carries everything over to a new binary.

pub mod daemon;
pub mod grants;
mod listener;
mod monitor;
mod plan;
pub mod policy;
mod reload;
pub mod session;
mod table;
