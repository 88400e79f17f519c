//! What a command is made of: its environment, its directory, its program. `sys::launch` makes it.
//!
//! May import: floors 0 and 1. Read `environment` first: it is the table users ask about. It and `directory` decide without I/O;
//! `program` looks at the files of PATH. `tool` runs other programs that we ask something ourselves.

pub mod directory;
pub mod environment;
pub mod program;
pub mod tool;
