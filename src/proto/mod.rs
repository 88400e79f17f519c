//! The wire: frames, messages, and a channel that carries both with their descriptors.
//!
//! May import: floors 0 and 1. Read `frame` first (the layout that never changes), then `message` (what is said), then
//! `channel` (how it gets across without trusting the peer).
//!
//! ```text
//! client                                   server
//!   | -- Run + streams [+ terminal] ------->  |   one frame, one round trip
//!   | <------------ Started [+ pty leader] -- |   the command has exec'ed   (or Refused)
//!   | -- Signal | Continue | Foreground ----> |   any number
//!   | <---------------- Stopped | Continued -- |   any number
//!   | <----------------------------- Exited -- |   the last word
//! ```

pub mod capability;
pub mod channel;
pub mod frame;
pub mod message;
