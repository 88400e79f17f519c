//! Terminals: modes, size, foreground group, and the making of a pty.

use crate::sys::check;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The number of control characters in the kernel's `struct termios`.
pub const CONTROL_CHARACTERS: usize = 19;

/// A terminal's modes, `termios(3)`: the kernel's own numbers, the same on every C library.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Modes {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub characters: [u8; CONTROL_CHARACTERS],
}

/// A terminal's size in character cells and pixels, as TIOCGWINSZ has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
    pub width: u16,
    pub height: u16,
}

impl Modes {
    /// What `cfmakeraw(3)` makes of these: every byte goes through as it is, both ways.
    pub fn raw(self) -> Modes {
        let mut raw = self;
        raw.input &= !(libc::IGNBRK | libc::BRKINT | libc::PARMRK | libc::ISTRIP | libc::INLCR | libc::IGNCR | libc::ICRNL | libc::IXON);
        raw.output &= !libc::OPOST;
        raw.local &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
        raw.control = raw.control & !(libc::CSIZE | libc::PARENB) | libc::CS8;
        raw.characters[libc::VMIN] = 1;
        raw.characters[libc::VTIME] = 0;
        raw
    }

    /// Lines are edited by the driver and echoed: nobody has asked for single keys or a hidden password.
    pub fn is_line_mode(&self) -> bool {
        self.local & libc::ICANON != 0 && self.local & libc::ECHO != 0
    }

    /// The same with the output's modes left as they are: others write to the same screen.
    pub fn raw_input(self) -> Modes {
        Modes { output: self.output, ..self.raw() }
    }

    /// Whether these are what was made of the others by `raw` or `raw_input`.
    pub fn is_raw_of(&self, before: &Modes) -> bool {
        Modes { output: before.output, ..*self } == before.raw_input()
    }

    /// Where somebody edits lines by himself (a shell at its prompt), what he will leave for the next command.
    pub fn for_lines(self) -> Modes {
        if self.local & libc::ICANON != 0 {
            return self;
        }
        let mut lines = self;
        lines.input |= libc::ICRNL;
        lines.output |= libc::OPOST | libc::ONLCR;
        lines.local |= libc::ICANON | libc::ECHO | libc::ISIG | libc::IEXTEN;
        for (character, usual) in [(libc::VLNEXT, 0x16), (libc::VINTR, 0x03), (libc::VQUIT, 0x1c), (libc::VSUSP, 0x1a), (libc::VEOF, 0x04)] {
            if lines.characters[character] == 0 {
                lines.characters[character] = usual;
            }
        }
        lines
    }

    /// The same for a command that is out of its pty's foreground only because it shares the keyboard: what it writes must not stop it.
    pub fn for_sharing(self) -> Modes {
        Modes { local: self.local & !libc::TOSTOP, ..self }
    }

    /// The same without lines: what is typed can be read at once, and is still echoed.
    pub fn single_keys(self) -> Modes {
        let mut keys = Modes { local: self.local & !libc::ICANON, ..self };
        (keys.characters[libc::VMIN], keys.characters[libc::VTIME]) = (1, 0);
        keys
    }

    /// The same without echo.
    pub fn hidden(self) -> Modes {
        Modes { local: self.local & !libc::ECHO, ..self }
    }

    /// Lines are edited and not echoed: somebody has asked for a password.
    pub fn is_line_hidden(&self) -> bool {
        self.local & libc::ICANON != 0 && self.local & libc::ECHO == 0
    }

    /// The driver turns each newline written into carriage return and newline.
    pub fn adds_carriage_returns(&self) -> bool {
        self.output & libc::OPOST != 0 && self.output & libc::ONLCR != 0
    }
}

/// Reads the modes; works on a pty's leader too, which answers for its follower.
pub fn modes(fd: BorrowedFd<'_>) -> io::Result<Modes> {
    let c = c_modes(fd)?;
    let mut characters = [0; CONTROL_CHARACTERS];
    characters.copy_from_slice(&c.c_cc[..CONTROL_CHARACTERS]);
    Ok(Modes { input: c.c_iflag, output: c.c_oflag, control: c.c_cflag, local: c.c_lflag, characters })
}

/// Sets the modes at once, keeping what was typed and what is being written.
pub fn set_modes(fd: BorrowedFd<'_>, modes: &Modes) -> io::Result<()> {
    // The speeds are kept: only a real serial line has any, and its owner has set them.
    let mut c = c_modes(fd)?;
    (c.c_iflag, c.c_oflag, c.c_cflag, c.c_lflag) = (modes.input, modes.output, modes.control, modes.local);
    c.c_cc[..CONTROL_CHARACTERS].copy_from_slice(&modes.characters);
    // SAFETY: a valid structure.
    check(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, &raw const c) }).map(drop)
}

fn c_modes(fd: BorrowedFd<'_>) -> io::Result<libc::termios> {
    // SAFETY: plain numbers, zero is valid.
    unsafe {
        let mut c: libc::termios = std::mem::zeroed();
        check(libc::tcgetattr(fd.as_raw_fd(), &raw mut c))?;
        Ok(c)
    }
}

/// How many bytes can be read without waiting.
pub fn waiting(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(count as usize)
}

pub fn size(fd: BorrowedFd<'_>) -> io::Result<Size> {
    // SAFETY: plain numbers, zero is valid; the request writes one winsize.
    unsafe {
        let mut c: libc::winsize = std::mem::zeroed();
        check(libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut c))?;
        Ok(Size { rows: c.ws_row, columns: c.ws_col, width: c.ws_xpixel, height: c.ws_ypixel })
    }
}

/// Sets the size; the kernel tells the terminal's foreground group (SIGWINCH) where it changed.
pub fn set_size(fd: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let c = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: size.width, ws_ypixel: size.height };
    // SAFETY: a valid structure, read only.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const c) }).map(drop)
}

/// Whether this terminal is the caller's controlling one.
pub fn is_controlling(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: touches no memory of ours.
    unsafe { libc::tcgetsid(fd.as_raw_fd()) != -1 }
}

/// The foreground process group of our controlling terminal: `Some(true)` where it is our own group, `None` where the
/// terminal is not our controlling one and so has no job control for us.
pub fn in_foreground(fd: BorrowedFd<'_>) -> Option<bool> {
    // SAFETY: touches no memory of ours.
    unsafe {
        match libc::tcgetpgrp(fd.as_raw_fd()) {
            -1 => None,
            group => Some(group == libc::getpgrp()),
        }
    }
}

/// The foreground group of the terminal, as a number in our PID namespace.
pub fn foreground_group(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: touches no memory of ours.
    check(unsafe { libc::tcgetpgrp(fd.as_raw_fd()) }).map(|group| group as u32)
}

/// Puts a group into the foreground. SIGTTOU has to be blocked, or we would be stopped for asking from the background.
pub fn set_foreground_group(fd: BorrowedFd<'_>, group: u32) -> io::Result<()> {
    // SAFETY: touches no memory of ours.
    check(unsafe { libc::tcsetpgrp(fd.as_raw_fd(), group as libc::pid_t) }).map(drop)
}

/// Makes the terminal the controlling one of the calling session leader.
pub fn take_as_controlling(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: touches no memory of ours; 0 means "do not steal it from another session".
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// A new pty: leader (non-blocking) and follower, both close-on-exec.
pub fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: constant path and request; the descriptor is new and ours; `unlock` is a valid int.
    let leader = unsafe {
        let leader = OwnedFd::from_raw_fd(check(libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK))?);
        let unlock: libc::c_int = 0;
        check(libc::ioctl(leader.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock))?;
        leader
    };
    let follower = open_follower(leader.as_fd())?;
    Ok((leader, follower))
}

/// Opens the follower of a leader without a path, so that no mount of devpts has to be found (ioctl_tty(2)).
pub fn open_follower(leader: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `_IO('T', 0x41)`.
    const TIOCGPTPEER: libc::c_ulong = 0x5441;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: touches no memory of ours; the descriptor is new and ours.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::ioctl(leader.as_raw_fd(), TIOCGPTPEER as _, flags))?)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::files;

    #[test]
    fn a_pty_in_raw_mode_passes_every_byte() {
        let (leader, follower) = open_pty().unwrap();
        let cooked = modes(leader.as_fd()).unwrap();
        assert!(cooked.is_line_mode() && cooked.adds_carriage_returns());
        set_modes(follower.as_fd(), &cooked.raw()).unwrap();
        assert_eq!(modes(leader.as_fd()).unwrap(), cooked.raw());
        let all: Vec<u8> = (0..=255).collect();
        files::write(follower.as_fd(), &all).unwrap();
        let mut back = [0; 512];
        let n = files::read(leader.as_fd(), &mut back).unwrap();
        assert_eq!(&back[..n], &all[..]);
    }

    #[test]
    fn what_a_shell_has_made_raw_is_made_whole_for_lines() {
        let (leader, _follower) = open_pty().unwrap();
        let cooked = modes(leader.as_fd()).unwrap();
        assert_eq!(cooked.for_lines(), cooked);
        assert!(cooked.raw().for_lines().is_line_mode());
        assert_eq!(cooked.raw().for_lines().raw(), cooked.raw());
    }

    #[test]
    fn the_size_goes_through_the_leader() {
        let (leader, follower) = open_pty().unwrap();
        let wanted = Size { rows: 7, columns: 93, width: 1, height: 2 };
        set_size(leader.as_fd(), wanted).unwrap();
        assert_eq!(size(follower.as_fd()).unwrap(), wanted);
    }
}
