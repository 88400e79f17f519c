//! Unix stream sockets that carry descriptors.
//!
//! Received descriptors are owned and close-on-exec before anything looks at them; a message whose descriptors did not all
//! fit is reported, never silently shortened.

use crate::sys::{check, check_len, files};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most descriptors one message may carry: the kernel's `SCM_MAX_FD`.
pub const MAX_FDS: usize = 253;

/// The longest path of a socket: `sun_path` less its NUL, unix(7).
pub const MAX_PATH_BYTES: usize = 107;

const CONTROL_SPACE: usize = {
    // SAFETY: CMSG_SPACE is arithmetic.
    unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) as usize }
};

/// A control buffer, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_SPACE]);

/// A `sockaddr_un`; a path that does not fit (108 bytes with its NUL) is an error that says so.
fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: plain numbers, zero is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket's path is longer than 107 bytes (unix(7))"));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let mut length = size_of::<libc::sa_family_t>() + bytes.len() + 1;
    if bytes.first() == Some(&b'@') {
        // An abstract address, as in NOTIFY_SOCKET: a leading NUL, and no terminating one.
        address.sun_path[0] = 0;
        length -= 1;
    }
    Ok((address, length as libc::socklen_t))
}

fn new_socket(kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is new and ours.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0))?)) }
}

/// Connects without waiting. `WouldBlock` means that the server's queue of waiting connections is full.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    connect_as(libc::SOCK_STREAM, path)
}

/// The same to a datagram socket. [`send`] says `WouldBlock` where its queue is full.
pub fn connect_datagram(path: &Path) -> io::Result<OwnedFd> {
    connect_as(libc::SOCK_DGRAM, path)
}

fn connect_as(kind: libc::c_int, path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(kind)?;
    let (address, length) = address(path)?;
    // SAFETY: a valid address of that length.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // A client whose own 0, 1 or 2 is closed must not have its socket there.
    files::keep_above_standard(socket)
}

/// Binds and listens; `backlog` is capped by the kernel's `net.core.somaxconn`.
pub fn listen(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket = new_socket(libc::SOCK_STREAM)?;
    let (address, length) = address(path)?;
    // SAFETY: a valid address of that length.
    unsafe {
        check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length))?;
        check(libc::listen(socket.as_raw_fd(), backlog))?;
    }
    Ok(socket)
}

/// Accepts a connection that waits, if any.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no address wanted; the descriptor is new and ours.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags))?)) }
}

/// Whether the descriptor is a listening Unix stream socket.
pub fn is_listener(fd: BorrowedFd<'_>) -> bool {
    let option = |name| {
        let mut value: libc::c_int = -1;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: a valid int and its size.
        let done = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut size) };
        (done == 0).then_some(value)
    };
    option(libc::SO_ACCEPTCONN) == Some(1) && option(libc::SO_DOMAIN) == Some(libc::AF_UNIX) && option(libc::SO_TYPE) == Some(libc::SOCK_STREAM)
}

/// A connected pair that keeps message boundaries (`SOCK_SEQPACKET`), non-blocking.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    // SAFETY: room for two descriptors, both new and ours.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0, pair.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])))
    }
}

/// Who is at the other end, as the kernel recorded it at `connect` or `listen` (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// 0 where the peer's process is not visible in our PID namespace.
    pub pid: u32,
}

pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    // SAFETY: plain numbers, zero is valid; the size is the structure's.
    unsafe {
        let mut credentials: libc::ucred = std::mem::zeroed();
        let mut size = size_of_val(&credentials) as libc::socklen_t;
        check(libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut credentials).cast(), &raw mut size))?;
        Ok(Peer { uid: credentials.uid, pid: credentials.pid.max(0) as u32 })
    }
}

/// The peer's process itself, which no other can become as a number can; an error where it has been waited for already. Linux before
/// 6.5 knows only the number that it had: there the process of that number now.
pub fn peer_process(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `SO_PEERPIDFD`, socket(7).
    const PEER_PIDFD: libc::c_int = 77;
    // SAFETY: an int and its size; the descriptors are new, close-on-exec and ours.
    unsafe {
        let mut fd: RawFd = -1;
        let mut size = size_of_val(&fd) as libc::socklen_t;
        match check(libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, PEER_PIDFD, (&raw mut fd).cast(), &raw mut size)) {
            Ok(_) => Ok(OwnedFd::from_raw_fd(fd)),
            Err(e) if e.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                let fd = check_len(libc::syscall(libc::SYS_pidfd_open, peer(socket)?.pid, 0) as isize)?;
                Ok(OwnedFd::from_raw_fd(fd as RawFd))
            }
            Err(e) => Err(e),
        }
    }
}

/// Whether the process of such a descriptor has ended: what was read of its number since may be another's.
pub fn has_ended(process: BorrowedFd<'_>) -> bool {
    is_ready(process, libc::POLLIN)
}

/// Sends bytes, and on their first byte the descriptors. Returns how many bytes went; never raises SIGPIPE, never blocks.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.is_empty() {
        // SAFETY: a valid buffer of that length.
        return check_len(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) });
    }
    assert!(fds.len() <= MAX_FDS, "more descriptors than one message carries");
    let mut control = Control([0; CONTROL_SPACE]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let payload = size_of_val(fds) as u32;
    // SAFETY: the header describes `part` and the first CMSG_SPACE(payload) bytes of `control`, which holds MAX_FDS; sendmsg
    // reads them only. BorrowedFd is a transparent RawFd.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(payload) as _;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(payload) as _;
        std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(first), payload as usize);
        check_len(libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT))
    }
}

/// What one `recvmsg(2)` brought.
#[derive(Debug)]
pub struct Received {
    /// 0 at the end of the stream.
    pub length: usize,
    /// The descriptors that rode along, all owned and close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The kernel could not deliver all of them (`MSG_CTRUNC`): our table was full.
    pub truncated: bool,
}

/// Receives up to `most` bytes, appended to the buffer, and any descriptors that ride on them; never blocks.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>, most: usize) -> io::Result<Received> {
    buffer.reserve(most);
    let room = &mut buffer.spare_capacity_mut()[..most];
    let mut control = Control([0; CONTROL_SPACE]);
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: the header describes `part` and all of `control`; recvmsg writes within them. Each descriptor in an SCM_RIGHTS
    // message has just been made for us by the kernel and is owned by nobody else.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_SPACE as _;
        let length = check_len(libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT))?;
        let mut fds = Vec::new();
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(at).cast::<RawFd>();
                let count = ((*at).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                fds.extend((0..count).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
        // recvmsg has written this many bytes into the room after the old length.
        buffer.set_len(buffer.len() + length);
        Ok(Received { length, fds, truncated: header.msg_flags & libc::MSG_CTRUNC != 0 })
    }
}

/// Whether the peer has closed or shut down, without taking a byte.
pub fn peer_is_gone(socket: BorrowedFd<'_>) -> bool {
    is_ready(socket, libc::POLLRDHUP)
}

/// Whether that is so now, or the other end is gone.
fn is_ready(fd: BorrowedFd<'_>, events: libc::c_short) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one valid structure; a timeout of 0 does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR | events) != 0
}

/// Ends a connection both ways while the descriptor stays open.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: touches no memory; a connection that is gone already is no error.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}
