//! Any bytes with any descriptors, in any pieces, over a real socket: every frame that comes out is one that went in, with as
//! many descriptors as it announced; nothing else is kept, and no descriptor is lost.
#![no_main]

use bkt::opid::OpId;
use bkt::proto::channel::{Channel, Filled};
use bkt::proto::frame;
use bkt::proto::message::{self, Exited, Refused, Signal, Started};
use bkt::sys::socket;
use bkt_fuzz::{Input, seed};
use libfuzzer_sys::fuzz_target;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The lowest number that is free tells how many descriptors are open.
fn lowest_free() -> i32 {
    // SAFETY: duplicates a standard descriptor and closes the duplicate.
    unsafe {
        let number = libc::dup(0);
        libc::close(number);
        number
    }
}

/// An input is pieces: a length (two bytes, the top three bits the number of descriptors), then so many bytes.
fn piece(bytes: &[u8], fds: u8) -> Vec<u8> {
    let head = (bytes.len() as u16 & 0x1fff) | u16::from(fds) << 13;
    [&head.to_le_bytes()[..], bytes].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let op = OpId::from_bits(7);
    let signal = message::encode(&Signal { signal: 15 }, 0, op);
    let started = message::encode(&Started { pid: 300 }, 2, op);
    let refused = message::encode(&Refused { code: 6, text: "no" }, 0, None);
    let exited = message::encode(&Exited { by_signal: false, value: 3 }, 0, op);
    vec![
        piece(&signal, 0),
        piece(&started, 2),
        [piece(&started[..3], 2), piece(&started[3..], 0)].concat(),
        piece(&[&started[..], &exited[..], &refused[..]].concat(), 2),
        [piece(&signal, 0), piece(&started, 1), piece(&exited, 7)].concat(),
        piece(&[255; 20], 0),
    ]
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    let before = lowest_free();
    run(Input(data));
    assert_eq!(lowest_free(), before, "a descriptor was lost");
});

fn run(mut input: Input<'_>) {
    let (peer, ours) = UnixStream::pair().expect("a socket pair");
    let mut channel = Channel::new(OwnedFd::from(ours));
    let (mut sent, mut seen, mut attached) = (Vec::new(), 0, 0);
    while !input.is_empty() {
        let head = input.number();
        let (bytes, fds) = (input.bytes(usize::from(head & 0x1fff)), usize::from(head >> 13));
        if !bytes.is_empty() {
            let all: Vec<BorrowedFd<'_>> = (0..fds).map(|_| peer.as_fd()).collect();
            // What does not fit is cut off here: the other end has been read, so that some always does.
            let Ok(length) = socket::send(peer.as_fd(), bytes, &all) else { return };
            sent.extend_from_slice(&bytes[..length]);
            attached += fds;
        }
        while channel.fill() == Filled::Some {
            loop {
                match channel.next_frame() {
                    Err(refusal) => {
                        assert!(!refusal.text.is_empty());
                        return;
                    }
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        let rest = &sent[seen..];
                        let found = frame::peek(rest).expect("a frame came out of what is none").expect("a frame came out before its header went in");
                        assert_eq!((found.header, found.length), (frame.header, frame.bytes().len()));
                        assert_eq!(frame.bytes(), &rest[..found.length]);
                        assert_eq!(frame.fds.len(), usize::from(frame.header.fds));
                        assert!(frame.fds.len() <= attached, "descriptors from nowhere");
                        attached -= frame.fds.len();
                        seen += found.length;
                    }
                }
            }
            assert_eq!(channel.unread(), sent.len() - seen, "bytes were lost, or made up");
        }
    }
}
