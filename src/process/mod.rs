//! What a command is made of: its environment, its directory, its program. Decided here without I/O, done in `sys::launch`.
//!
//! May import: floors 0 and 1. Read `environment` first: it is the table users ask about. `tool` runs other programs that we ask
//! something ourselves.

pub mod directory;
pub mod environment;
pub mod program;
pub mod tool;
