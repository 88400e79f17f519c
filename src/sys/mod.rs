//! The thin layer over the system calls: the one room with `unsafe` in it.
//!
//! May import: floor 0 words, nothing else of the house. Read whichever file you need: each stands by itself, or on `files`,
//! `signals` and `process`.
//! What comes out is safe to use wrongly: descriptors are owned or borrowed, never numbers; signals are checked numbers;
//! memory that another process reads (`launch`) is owned by the value that must outlive the reading.
#![allow(unsafe_code)]

pub mod allocator;
pub mod cgroup;
pub mod entry;
pub mod files;
pub mod launch;
pub mod process;
pub mod raw;
pub mod signals;
pub mod socket;
pub mod terminal;

use std::io;

/// Turns the `-1` convention into an `io::Error`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}
