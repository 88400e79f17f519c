//! Descriptors and files: what std does not offer.

use crate::sys::{check, check_len};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What makes a file the same file: device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// Makes a link, or puts it in the place of what is there. Under another name first: there is no moment without one, and nobody
/// finds half of a change.
pub fn put_link(link: &Path, target: &Path) -> io::Result<()> {
    let fresh = link.with_file_name(format!(".bkt-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    symlink(target, &fresh).and_then(|()| std::fs::rename(&fresh, link)).inspect_err(|_| drop(std::fs::remove_file(&fresh)))
}

/// A path as the kernel wants it.
pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path contains a NUL byte"))
}

/// Identity of what a path leads to, through links.
pub fn file_id(path: &CStr) -> io::Result<FileId> {
    stat(path).map(|s| FileId { device: s.st_dev, inode: s.st_ino })
}

/// The text of a symbolic link, where the path is one and the text fits.
pub fn link_text<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: a C string, and a valid buffer of that length.
    let length = check_len(unsafe { libc::readlink(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }).ok()?;
    // A text that fills the buffer may have been cut off.
    if length < buffer.len() { buffer.get(..length) } else { None }
}

fn stat(path: &CStr) -> io::Result<libc::stat> {
    // SAFETY: plain numbers, zero is valid; the path is a C string.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::stat(path.as_ptr(), &raw mut stat))?;
        Ok(stat)
    }
}

/// What one of the three standard descriptors is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standard {
    Closed,
    /// A terminal, by its device number.
    Terminal(u64),
    /// A socket: it cannot be opened again through `/proc`.
    Socket,
    Other,
}

/// Looks at descriptor 0, 1, 2 or any other number that a caller may have left us.
pub fn standard(number: RawFd) -> Standard {
    // SAFETY: plain numbers, zero is valid; fstat and isatty on a number that is no descriptor answer EBADF.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(number, &raw mut stat) != 0 {
            return Standard::Closed;
        }
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFCHR if libc::isatty(number) == 1 => Standard::Terminal(stat.st_rdev as u64),
            libc::S_IFSOCK => Standard::Socket,
            _ => Standard::Other,
        }
    }
}

/// Borrows a descriptor that the caller of this process left open, if it is one.
pub fn inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: touches no memory; a number that is no descriptor answers EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return None;
    }
    // SAFETY: open, as just seen, and the process closes inherited descriptors in one place only (`close_inherited`), after
    // which no such borrow is used.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Takes over a descriptor that the process inherited by number (from a supervisor, or across its own re-execution).
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 || standard(number) == Standard::Closed {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: open, as just seen; the number was handed to this process as its own, and each is adopted once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    set_close_on_exec(&fd, true)?;
    Ok(fd)
}

/// Closes inherited descriptors, so that their readers and writers see the end the moment the command closes its own.
pub fn close_inherited(numbers: &[RawFd]) {
    for &number in numbers {
        // SAFETY: see `inherited`: nothing of ours owns these.
        unsafe { libc::close(number) };
    }
}

pub fn set_close_on_exec(fd: &OwnedFd, on: bool) -> io::Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: an open descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// For the open description, which others may share.
pub fn set_non_blocking(fd: &OwnedFd, on: bool) -> io::Result<()> {
    // SAFETY: an open descriptor; plain numbers.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))? & !libc::O_NONBLOCK;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, if on { flags | libc::O_NONBLOCK } else { flags })).map(drop)
    }
}

/// A duplicate, close-on-exec, numbered 3 or higher.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: an open descriptor; the new one is ours.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))?)) }
}

/// Makes every descriptor from 3 up close-on-exec: whatever a daemon's own caller left open is not for its commands.
pub fn close_all_on_exec() {
    // SAFETY: touches no memory; flags only.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Makes sure that 0, 1 and 2 are open, so that no descriptor of a daemon ever lands there.
pub fn fill_standard() -> io::Result<()> {
    loop {
        // SAFETY: a constant path; the number is looked at, and given up to the process where it is 0, 1 or 2.
        unsafe {
            let fd = check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC))?;
            if fd > 2 {
                libc::close(fd);
                return Ok(());
            }
            libc::fcntl(fd, libc::F_SETFD, 0);
        }
    }
}

/// Makes 0, 1 and 2 lead nowhere.
pub fn become_null_standard() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for number in 0..3 {
        // SAFETY: an open descriptor; what the number stood for is given up by the process.
        check(unsafe { libc::dup2(null.as_raw_fd(), number) })?;
    }
    Ok(())
}

/// Gives our standard error an open description of its own that never blocks, where it is a pipe or a terminal: a reader that
/// has stopped, or a Ctrl-S, costs log lines then, and not the daemon. Others who share the old description notice nothing.
pub fn unblock_standard_error() {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    let blocks = |about: std::fs::Metadata| about.file_type().is_fifo() || matches!(standard(2), Standard::Terminal(_));
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    if std::fs::metadata("/proc/self/fd/2").is_ok_and(blocks)
        && let Ok(own) = File::options().append(true).custom_flags(flags).open("/proc/self/fd/2")
    {
        let _ = become_standard(own.into(), 2);
    }
}

/// A pipe: what is written to the second is read from the first; both non-blocking and close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors, both new and ours.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Memory behind a descriptor, `memfd_create(2)`.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: a C string; the descriptor is new and ours.
    unsafe { Ok(File::from_raw_fd(check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?)) }
}

/// Reads what is there, without waiting where the descriptor is non-blocking.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: a valid buffer of that length.
    check_len(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes what fits, without waiting where the descriptor is non-blocking.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: a valid buffer of that length.
    check_len(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// Opens for reading and writing without waiting, without becoming anybody's controlling terminal.
pub fn open_terminal(path: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: a C string; the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::open(path.as_ptr(), flags))?) };
    keep_above_standard(fd)
}

/// A handle that names a file without holding it open for reading or writing (`O_PATH`): no reader waits because of it.
pub fn handle_of(number: RawFd) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{number}")).expect("digits");
    // SAFETY: a C string; the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC))?) };
    keep_above_standard(fd)
}

/// Opens for appending what a handle names. A named pipe that nobody reads any more is an error (ENXIO), one without a name is not.
pub fn open_handle_for_writing(handle: &OwnedFd) -> io::Result<File> {
    let path = CString::new(format!("/proc/self/fd/{}", handle.as_raw_fd())).expect("digits");
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: a C string; the descriptor is new and ours.
    unsafe { Ok(File::from_raw_fd(check(libc::open(path.as_ptr(), flags))?)) }
}

/// A client whose own 0, 1 or 2 is closed must not have its socket there when it looks which streams it was given.
pub fn keep_above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd.as_fd()) }
}

/// Takes an advisory lock on an open file or directory without waiting, `flock(2)`; held until the descriptor is closed.
pub fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: an open descriptor.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// The same, but waits for whoever has it.
pub fn lock(file: &File) -> io::Result<()> {
    loop {
        // SAFETY: an open descriptor.
        match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(drop),
        }
    }
}

/// Random bytes, `getrandom(2)`; all zeros where the kernel has none yet.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // SAFETY: a valid buffer of that length.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, libc::GRND_NONBLOCK) };
    bytes
}

/// Moves the descriptor's file offset back to the start.
pub fn rewind(file: &File) -> io::Result<()> {
    // SAFETY: an open descriptor.
    if unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_SET) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a descriptor one of this process's standard streams: 0, 1 or 2.
pub fn become_standard(fd: OwnedFd, stream: RawFd) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    assert!((0..3).contains(&stream), "any other number has an owner");
    let number = fd.into_raw_fd();
    // SAFETY: the number is ours; afterwards the stream stands for the same, and the number is closed unless it was that one itself.
    unsafe {
        if number == stream {
            return check(libc::fcntl(number, libc::F_SETFD, 0)).map(drop);
        }
        let done = check(libc::dup2(number, stream));
        libc::close(number);
        done.map(drop)
    }
}
