//! The bench's tools. Read `place` first: the machine that is set up; then `spawn`: how everything is started.

pub mod crowd;
pub mod peers;
pub mod place;
pub mod spawn;
pub mod stats;
pub mod table;

/// What failed, in words.
pub type Result<T> = std::result::Result<T, String>;

/// The last error of the C library, with what was being done.
pub fn failed(doing: &str) -> String {
    format!("{doing}: {}", std::io::Error::last_os_error())
}
