//! The doctor: looks at a set-up, and says what is wrong with it.
//!
//! May import: floors 0 to 2. `examine` gathers the facts of one side and puts them to `checks`; `name` explains who answers to a
//! name; `treat` does what is safe to do unasked; `look` is how a file, a link or a process is seen. What only another role knows
//! (whether the daemon answers) is handed in.

pub mod examine;
pub mod look;
pub mod name;
pub mod treat;
