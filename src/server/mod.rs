//! The daemon: runs commands for its callers.
//!
//! May import: floors 0 to 2. Start at `daemon` (the loop), with `session` (what is decided) beside it. `plan` turns a request
//! into a launch, `monitor` is the session leader of a run that has a terminal, `listener` owns a socket's file, `doors`
//! are those that containers have of their own, `policy` says what each allows, `errors` and `seen` are what `bkt status` tells of the past, `reload` carries everything over to a new
//! binary. `guests` is the switchboard to containers, and `upstream` its other end: a guest daemon is this same daemon with a link to
//! the host for a door.

mod cgroups;
pub mod daemon;
mod doors;
mod errors;
mod guests;
mod listener;
mod monitor;
mod plan;
mod policy;
mod reload;
mod seen;
pub mod session;
mod table;
pub mod upstream;
