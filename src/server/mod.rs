//! The daemon: runs commands for its callers.
//!
//! May import: floors 0 to 2. Start at `daemon` (the loop), with `session` (what is decided) beside it. `plan` turns a request
//! into a launch, `monitor` is the session leader of a run that has a terminal, `listener` owns the socket's file, `policy` says
//! what a listener allows, `reload` carries everything over to a new binary.
//! `guests` is the switchboard to containers, and `upstream` the other end of it: a guest daemon is this same daemon with a link to the host for a door.

pub mod daemon;
mod guests;
mod listener;
mod monitor;
mod plan;
pub mod policy;
mod reload;
pub mod session;
mod table;
pub mod upstream;
