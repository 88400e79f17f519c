//! Any body of any kind: it is refused, or it is a message that reads the same when it is written again.
#![no_main]

use bkt::proto::channel::Frame;
use bkt::proto::message::*;
use bkt::sys::process::Inheritance;
use bkt::sys::terminal::{Modes, Size};
use bkt_fuzz::seed;
use libfuzzer_sys::fuzz_target;

/// `go_round!(body; Type, …)`: the kind's number, then its body.
macro_rules! go_round {
    ($kind:expr, $body:expr; $($name:ident),*) => {
        match $kind {
            $(kind::$name => {
                let Ok(read) = decode::<$name>($body) else { return };
                let frame = Frame::from_parts(encode(&read, 0, None), vec![]).expect("what is written is a whole frame");
                assert_eq!(frame.header.kind, $kind);
                assert_eq!(decode::<$name>(frame.body()).expect("what is written can be read"), read);
            })*
            _ => {}
        }
    };
}

fn seeds() -> Vec<Vec<u8>> {
    let terminal = Terminal { modes: Modes::default(), size: Size { rows: 24, columns: 80, width: 0, height: 0 }, foreground: true, passed: true };
    let run = Run {
        args: Bytes(b"ls\0-l\0"),
        env: Bytes(b"A=1\0"),
        set_env: Bytes(b"B=2\0"),
        unset_env: Bytes(b"C\0"),
        clear_env: false,
        directory: Bytes(b"/tmp"),
        directory_required: false,
        streams: [Stream::Closed, Stream::Passed, Stream::Terminal],
        extra: vec![5],
        terminal: Some(terminal),
        inheritance: Inheritance { umask: 0o22, ..Inheritance::default() },
        detach: false,
        not_on_root: Some((1, 2)),
        container: Bytes(b"dev"),
        capability: 0,
    };
    let hello = Hello { release: "0.1.0", container: Bytes(b"dev"), capabilities: vec!["notify"] };
    let running = Running { op: 1, pid: 2, since_ms: 3, name: Bytes(b"ls"), terminal: false };
    let past = Past { seen: vec![Seen { name: Bytes(b"dev"), at_ms: 3, runs: 4 }], errors: vec![Failed { op: 5, at_ms: 6, code: 7, text: "no" }] };
    let status = Status { release: "0.1.0", pid: 1, uptime_ms: 2, served: 3, descriptors: 4, descriptor_limit: 5, root: (8, 9), clock_ms: 6, supervised: true, session: Bytes(b"A=1\0"), policy: Bytes(b"/p"), policy_stamp: 10, policy_error: "bad", cgroups: true, running: vec![running], untold: 11, past };
    let frames = [
        encode(&run, 0, None),
        encode(&hello, 0, None),
        encode(&HelloAnswer { release: "0.1.0", accepted: vec!["notify"], rejected: vec!["x"] }, 0, None),
        encode(&status, 0, None),
        encode(&Refused { code: 6, text: "no" }, 0, None),
        encode(&Signal { signal: 15 }, 0, None),
        encode(&Started { pid: 300 }, 0, None),
        encode(&Exited { by_signal: true, value: 9 }, 0, None),
        encode(&Serve { hello: hello.clone(), returns: true }, 0, None),
        encode(&Enter { container: Bytes(b"dev"), directory: Some((1, 2)) }, 0, None),
        encode(&HandOver { bytes: Bytes(b"ab"), directory: None }, 0, None),
        encode(&Guests { guests: vec![Guest { container: Bytes(b"dev"), release: "0.1.0", since_ms: 3 }] }, 0, None),
    ];
    // The kind is the frame's seventh byte, the body begins at the seventeenth.
    frames.iter().map(|frame| [&frame[6..7], &frame[16..]].concat()).collect()
}

fuzz_target!(init: { seed(&seeds()); }, |data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    go_round!(*kind, body; Hello, Run, Signal, Continue, Foreground, StatusRequest, Reload, Stop, HelloAnswer, Accepted, Started,
        Stopped, Continued, Exited, Refused, Status, Done, Serve, Enter, Pong, GuestsRequest, Ping, Shutdown, HandOver, Guests);
});
