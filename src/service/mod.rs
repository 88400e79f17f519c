//! The daemon as a service of its user: there after every login, without anybody thinking of it.
//!
//! May import: floors 0 to 2. Read `plan` first: from facts to steps, without I/O. `unit` has the texts of the files, `facts` looks
//! at the machine, `step` does what was planned. `install` is everything else of a user's installation, and its record.

pub mod facts;
pub mod install;
pub mod login;
pub mod plan;
pub mod step;
pub mod unit;
