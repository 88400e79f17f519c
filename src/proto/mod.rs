//! The wire: frames, messages, and a channel that carries both with their descriptors.
//!
//! May import: floors 0 and 1. Read `frame` first (the layout that never changes), then `message` (what is said) and
//! `refusal` (what is answered where it is not done), then `channel` (how it gets across without trusting the peer).
//!
//! ```text
//! client                                   server
//!   | -- Run + streams [+ terminal] ------->  |   one frame, one round trip
//!   | <------------ Started [+ pty leader] -- |   the command has exec'ed   (or Refused)
//!   | -- Signal | Continue | Foreground ----> |   any number
//!   | <---------------- Stopped | Continued -- |   any number
//!   | <----------------------------- Exited -- |   the last word
//! ```
//!
//! The way back, from the host into a container, is the same conversation with another server. The host's daemon is only the
//! switchboard: it passes the connection itself to the container's guest daemon, which has stayed connected for that.
//!
//! ```text
//! client                       host's daemon                       guest
//!   |                                |  <--- Serve (hello, stays) -- |
//!   | -- Enter, Run + streams ---->  |  -- HandOver + connection --> |
//!   | <----------------------------------------- Started, … Exited -- |
//! ```

pub mod capability;
pub mod channel;
pub mod frame;
pub mod message;
pub mod refusal;
