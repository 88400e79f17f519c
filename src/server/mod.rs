//! The daemon: runs commands for its callers.
//!
//! May import: floors 0 to 2. Start at `daemon` (the loop), with `session` (what is decided) beside it; `caller` is who is served. `plan` turns a request
//! into a launch, `monitor` is the session leader of a run that has a terminal, `listener` owns the socket's file, `policy` says
//! what a listener allows, `errors` and `seen` are what `bkt status` tells of the past, `reload` carries everything over to a new
//! binary. `guests` is the switchboard to containers, and `upstream` its other end: a guest daemon is this same daemon with a link to
//! the host for a door.

mod caller;
mod cgroups;
pub mod daemon;
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
