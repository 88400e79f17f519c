//! The daemon: runs commands for its callers.
//!
//! May import: floors 0 to 2. Start at `daemon` (the loop), with `session` (what is decided) beside it; `caller` is who is served.
//! `plan` turns a request into a launch, `monitor` is the session leader of a run that has a terminal, `cgroups` holds each command
//! together, `listener` owns a socket's file, `doors` are the sockets that containers have of their own, `policy` says what each
//! allows. `errors` and `seen` are what `bkt status` tells of the past, `saved` is what goes over to a new binary, `supervisor` the service manager that is told of all this. `guests` knows
//! the containers that can be entered, `origin` where a caller really is, and `upstream` is the other end: a guest daemon is this same daemon with a link to the host
//! for a door.

mod caller;
mod cgroups;
pub mod daemon;
mod doors;
mod errors;
mod guests;
mod listener;
mod monitor;
mod origin;
mod plan;
mod policy;
mod saved;
mod seen;
pub mod session;
mod supervisor;
mod table;
pub mod upstream;
