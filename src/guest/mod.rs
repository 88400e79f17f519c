//! What is a guest daemon's own; the rest of it is the daemon of the host with another door.
//!
//! May import: floors 0 to 2. Read `entry` first (how a container starts with it), then `places` (what it makes in the container,
//! and takes away again).

pub mod entry;
pub mod places;
