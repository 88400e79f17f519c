//! The exit codes of bkt: a written contract, in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0–255 | the command's own, untouched |
//! | 125 | bkt itself failed: no daemon, refused, daemon lost, bad usage |
//! | 126 | the command was found and could not be executed |
//! | 127 | the command was not found |
//!
//! A command killed by a signal makes the client die of the same signal, so that a shell shows 128 + n.
//! The three numbers are those of `env(1)`, `timeout(1)` and `podman-exec(1)`.

/// bkt itself failed.
pub const FAILED: u8 = 125;
/// Found, and the kernel would not execute it.
pub const CANNOT_EXECUTE: u8 = 126;
/// No such command.
pub const NOT_FOUND: u8 = 127;

/// How a process ends; the process's own end is taken once, in the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By `exit(3)` with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl End {
    /// Reads a wait status as `waitpid(2)` gives it for a process that has ended.
    pub fn from_wait_status(status: i32) -> End {
        match status & 0x7f {
            0 => End::Code((status >> 8) as u8),
            signal => End::Signal(signal as u8),
        }
    }

    /// The number a shell would show in `$?`.
    pub fn shell_code(self) -> u8 {
        match self {
            End::Code(code) => code,
            End::Signal(signal) => 128u8.wrapping_add(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_read_as_the_kernel_writes_it() {
        for code in 0..=255u8 {
            assert_eq!(End::from_wait_status(i32::from(code) << 8), End::Code(code));
        }
        for signal in 1..=64u8 {
            assert_eq!(End::from_wait_status(i32::from(signal)), End::Signal(signal));
            assert_eq!(End::from_wait_status(i32::from(signal) | 0x80), End::Signal(signal), "with core");
        }
    }
}
