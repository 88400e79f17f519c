//! The host's desktop, on behalf of containers: notifications, opening, the clipboard.
//!
//! May import: floors 0 to 2. The daemon starts one process of ours for each request (`bkt-perform`), with the caller's streams
//! and with the daemon's own environment; so the daemon waits for nobody's desktop. `notify`, `open` and `clipboard` each check
//! their request as a stranger's and say what is to be done; `programs` does it, by the host's own programs.

pub mod clipboard;
pub mod notify;
pub mod open;
pub mod programs;
