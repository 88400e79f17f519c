//! The hostile local process that has the socket in hand: whatever it says, holds back or closes, the daemon answers by name, logs
//! it once, delays nobody else, and has afterwards what it had before. And the other way round: a hostile daemon.
#![allow(unsafe_code)]

mod support;

use bkt::opid::OpId;
use bkt::proto::frame::{self, Header, MAX_BODY, VERSION};
use bkt::proto::message::{self, Bytes, Code, Run, Stream, kind};
use bkt::sys::process::Inheritance;
use bkt::sys::terminal::{Modes, Size};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::peer::{self, Account, Peer, SUCCESS, assert_says, op, run};
use support::pty::Terminal;
use support::{AT_ONCE, BKT, Host, PATIENCE, TempDir, eventually, lives, text};

/// A frame of any kind around any body.
fn framed(version: u16, kind: u8, fds: u8, op: Option<OpId>, body: &[u8]) -> Vec<u8> {
    frame::build(Header { version, kind, fds, op }, |mut bytes| {
        bytes.extend(body);
        bytes
    })
}

fn body<M: message::Message>(message: &M) -> Vec<u8> {
    message::encode(message, 0, None).split_off(frame::HEADER_BYTES)
}

/// The longest that a run through the daemon takes, of some.
fn slowest_of(runs: usize, host: &Host) -> Duration {
    let one = |_| {
        let begun = Instant::now();
        assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
        begun.elapsed()
    };
    (0..runs).map(one).max().unwrap()
}

#[test]
fn however_much_runs_the_answer_of_how_it_is_fits_and_says_how_much() {
    let host = Host::start();
    peer::raise_descriptor_limit(2_000);
    let directory = TempDir::new();
    let program = directory.0.join("x".repeat(255 - directory.0.as_os_str().len().min(200)));
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let words = [program.as_os_str().as_encoded_bytes(), b"1000", b""].join(&0);
    let mut all: Vec<Peer> = (0..600).map(|_| Peer::connect(&host)).collect();
    all.iter().for_each(|peer| peer.say(&run(&words), None));
    for peer in &mut all {
        while peer.answer().expect("it starts").kind != kind::Started {}
    }
    let shown = host.bkt(["admin", "daemon", "status"]).output().unwrap();
    assert_says(&shown.stdout, "running: 600\n");
    assert_says(&shown.stdout, " more\n");
    // Sixteen at once, of one that reads later.
    let mut patient = Peer::connect(&host);
    (0..16).for_each(|_| patient.say(&message::StatusRequest {}, None));
    patient.wait_taken();
    (0..16).for_each(|_| drop(patient.expect(kind::Status)));
    drop(all);
    eventually("all have ended", || host.children().is_empty());
}

#[test]
fn what_is_no_frame_is_refused_by_name_with_the_operations_id_and_one_line() {
    let host = Host::start();
    let account = Account::open(&host);
    let id = op(0x00ab_cdef_0123);
    let length = |n: u32| [&n.to_le_bytes()[..], &[0; 12]].concat();
    let good = body(&run(b"true\0"));
    let mut cases: Vec<(String, Vec<u8>, Code, Option<OpId>)> = Vec::new();
    for n in [0, 1, 11, MAX_BODY as u32 + 13, 3 << 30, u32::MAX] {
        cases.push((format!("length {n}"), length(n), Code::BadFrame, None));
        cases.push((format!("length {n} and nothing more"), n.to_le_bytes().to_vec(), Code::BadFrame, None));
    }
    for version in [0, VERSION + 1, 256, u16::MAX] {
        cases.push((format!("version {version}"), framed(version, kind::Run, 0, id, &good), Code::BadVersion, id));
        cases.push((format!("version {version}, unknown kind"), framed(version, 99, 0, id, b"x"), Code::BadVersion, id));
    }
    let known = || (kind::Hello..=kind::Stop).chain(kind::Serve..=kind::GuestsRequest);
    for unknown in (0..=255).filter(|unknown| known().all(|known| known != *unknown)) {
        cases.push((format!("kind {unknown}"), framed(VERSION, unknown, 0, id, b"whatever"), Code::UnknownMethod, id));
    }
    for known in known() {
        cases.push((format!("garbage as kind {known}"), framed(VERSION, known, 0, id, &[0xff; 40]), Code::BadFrame, id));
    }
    for (name, kind, body) in [("run", kind::Run, good.clone()), ("status", kind::StatusRequest, vec![]), ("signal", kind::Signal, vec![15]), ("stop", kind::Stop, vec![])] {
        cases.push((format!("{name} and a byte too much"), framed(VERSION, kind, 0, id, &[&body[..], b"x"].concat()), Code::BadFrame, id));
    }
    for cut in 0..good.len() {
        cases.push((format!("a run cut at {cut}"), framed(VERSION, kind::Run, 0, id, &good[..cut]), Code::BadFrame, id));
    }
    let hello = message::Hello { release: "0", container: Bytes(b""), capabilities: vec![""; 70_000] };
    cases.push(("a hello of 70,000 capabilities".into(), message::encode(&hello, 0, id), Code::BadFrame, id));
    let count = cases.len();
    for (what, bytes, code, id) in cases {
        let mut peer = Peer::connect(&host);
        peer.send(&bytes, &[]);
        let (found, sentence, found_id) = peer.refusal();
        assert_eq!((found, found_id), (code, id), "{what}: {sentence}");
    }
    assert!(host.log().lines().filter(|line| line.contains("op-00abcdef0123")).count() >= 240);
    account.close(count);
}

#[test]
fn a_run_that_makes_no_sense_is_refused_and_nothing_runs() {
    let host = Host::start();
    let account = Account::open(&host);
    let id = op(77);
    let mark = host.dir.0.join("ran");
    let script = format!("sh\0-c\0touch {}\0", mark.display());
    let base = || run(script.as_bytes());
    let nice = |nice| Run { inheritance: Inheritance { umask: 0o22, nice, ..Inheritance::default() }, ..base() };
    let extra = |extra: &[u16]| Run { extra: extra.to_vec(), ..base() };
    let root = bkt::sys::files::file_id(c"/").unwrap();
    let table: Vec<(&str, Run<'_>, Code)> = vec![
        ("no arguments", run(b""), Code::BadRequest),
        ("arguments without an end", run(b"true"), Code::BadRequest),
        ("an empty name", run(b"\0"), Code::NotFound),
        ("a directory as the command", run(b"/tmp\0"), Code::NotExecutable),
        ("environment without an end", Run { env: Bytes(b"A=1"), ..base() }, Code::BadRequest),
        ("--env without an end", Run { set_env: Bytes(b"A=1"), ..base() }, Code::BadRequest),
        ("--unset-env without an end", Run { unset_env: Bytes(b"A"), ..base() }, Code::BadRequest),
        ("a NUL in the directory", Run { directory: Bytes(b"/tmp\0/x"), ..base() }, Code::BadRequest),
        ("a required directory that is not there", Run { directory: Bytes(b"/no/such"), directory_required: true, ..base() }, Code::BadDirectory),
        ("a required directory that is none", Run { directory: Bytes(b"/etc/passwd"), directory_required: true, ..base() }, Code::BadDirectory),
        ("nice 20", nice(20), Code::BadRequest),
        ("nice -21", nice(-21), Code::BadRequest),
        ("nice i32::MIN", nice(i32::MIN), Code::BadRequest),
        ("a further descriptor 0", extra(&[0]), Code::BadRequest),
        ("a further descriptor 2", extra(&[2]), Code::BadRequest),
        ("a further descriptor 256", extra(&[256]), Code::BadRequest),
        ("a further descriptor 65535", extra(&[65535]), Code::BadRequest),
        ("the same number twice", extra(&[5, 6, 5]), Code::BadRequest),
        ("a terminal stream without a terminal", Run { streams: [Stream::Null, Stream::Terminal, Stream::Null], ..base() }, Code::BadRequest),
        ("sixteen bridges", Run { env: Bytes(b"BKT_DEPTH=16\0"), ..base() }, Code::TooDeep),
        ("a forged depth", Run { env: Bytes(b"BKT_DEPTH=-3\0"), ..base() }, Code::TooDeep),
        ("our own side", Run { not_on_root: Some((root.device, root.inode)), ..base() }, Code::SameSide),
    ];
    let null = File::open("/dev/null").unwrap();
    for (what, request, code) in &table {
        let fds = vec![null.as_fd(); request.descriptors()];
        let mut peer = Peer::connect(&host);
        peer.send(&message::encode(request, fds.len(), id), &fds);
        let (found, sentence, found_id) = peer.refusal();
        assert_eq!((found, found_id), (*code, id), "{what}: {sentence}");
    }
    // A command that is not there, or the wrong side, is nobody's misbehaviour.
    let bad = table.iter().filter(|(_, _, code)| *code == Code::BadRequest).count();
    assert!(!mark.exists());
    account.close(bad);
}

#[test]
fn descriptors_are_counted_and_surplus_ones_are_closed() {
    let host = Host::start();
    let account = Account::open(&host);
    let id = op(5);
    let null = File::open("/dev/null").unwrap();
    let some = |n: usize| vec![null.as_fd(); n];
    let wants_two = Run { streams: [Stream::Passed, Stream::Passed, Stream::Null], ..run(b"true\0") };
    // What is announced, what comes along.
    let table: [(&Run<'_>, u8, usize); 9] = [
        (&wants_two, 2, 1),
        (&wants_two, 2, 3),
        (&wants_two, 2, 0),
        (&wants_two, 0, 0),
        (&wants_two, 0, 2),
        (&wants_two, 3, 3),
        (&wants_two, 255, 253),
        (&wants_two, 1, 1),
        (&wants_two, 0, 253),
    ];
    for (request, announced, coming) in table {
        let mut peer = Peer::connect(&host);
        peer.send(&framed(VERSION, kind::Run, announced, id, &body(request)), &some(coming));
        let (code, sentence, found_id) = peer.refusal();
        assert_eq!((code, found_id), (Code::BadDescriptors, id), "{announced} announced, {coming} sent: {sentence}");
    }
    for kind in [kind::Hello, kind::Signal, kind::Continue, kind::Foreground, kind::StatusRequest, kind::Reload, kind::Stop] {
        for announced in [0, 2] {
            let mut peer = Peer::connect(&host);
            peer.send(&framed(VERSION, kind, announced, id, &[1]), &some(2));
            assert_eq!(peer.refusal().0, Code::BadDescriptors, "kind {kind}, {announced} announced");
        }
    }
    // With each byte of a header that is never whole, as many as go.
    let mut hoarder = Peer::connect(&host);
    for byte in &framed(VERSION, kind::Run, 255, id, &body(&wants_two))[..15] {
        hoarder.send(&[*byte], &some(253));
    }
    assert_eq!(hoarder.refusal().0, Code::BadDescriptors);
    account.close(9 + 14 + 1);
}

#[test]
fn as_many_descriptors_as_a_message_carries_reach_the_command() {
    let host = Host::start();
    let account = Account::open(&host);
    let file = host.dir.0.join("shared");
    File::create(&file).unwrap();
    let append = File::options().append(true).open(&file).unwrap();
    let numbers: Vec<u16> = (3..=255).collect();
    let script = "sh\0-c\0n=3; while [ $n -le 255 ]; do [ -w /proc/self/fd/$n ] || exit 1; n=$((n+1)); done; echo x >&9\0";
    let request = Run { extra: numbers.clone(), ..run(script.as_bytes()) };
    let mut peer = Peer::connect(&host);
    let fds = vec![append.as_fd(); numbers.len()];
    peer.send(&message::encode(&request, fds.len(), op(6)), &fds);
    assert_eq!(peer.exit(), SUCCESS);
    assert_eq!(fs::read_to_string(&file).unwrap(), "x\n");
    account.close(0);
}

#[test]
fn any_kind_of_descriptor_may_be_a_stream_and_none_harms_the_daemon() {
    let host = Host::start();
    let account = Account::open(&host);
    let (pipe_end, _other) = UnixStream::pair().unwrap();
    let path_only: OwnedFd = bkt::sys::files::handle_of(0).unwrap();
    let listener = UnixListener::bind(host.dir.0.join("l")).unwrap();
    let things: Vec<(&str, OwnedFd)> = vec![
        ("a directory", File::open("/").unwrap().into()),
        ("a socket", pipe_end.into()),
        ("a listening socket", listener.into()),
        ("a connection to the daemon", UnixStream::connect(host.socket()).unwrap().into()),
        ("a handle (O_PATH)", path_only),
        ("the daemon's memory", File::open(format!("/proc/{}/mem", host.pid())).unwrap().into()),
    ];
    for (what, thing) in &things {
        let request = Run { streams: [Stream::Passed; 3], ..run(b"true\0") };
        let mut peer = Peer::connect(&host);
        peer.send(&message::encode(&request, 3, op(7)), &[thing.as_fd(); 3]);
        assert_eq!(peer.exit(), SUCCESS, "{what}");
    }
    // The connection itself, both as a stream and held back in half a frame: its own end keeps it open.
    let own = Peer::connect(&host);
    let request = Run { streams: [Stream::Passed, Stream::Null, Stream::Null], ..run(b"sleep\x000.1\0") };
    own.send(&message::encode(&request, 1, op(8)), &[own.channel.as_fd()]);
    drop(own);
    let held = Peer::connect(&host);
    held.send(&framed(VERSION, kind::Run, 1, op(9), &[0; 20])[..20], &[held.channel.as_fd()]);
    held.wait_taken();
    drop(held);
    // Its only sign of life was half a frame; the connection to the daemon among the things was never used.
    drop(things);
    account.close(1);
}

#[test]
fn terminal_streams_work_whatever_is_passed_as_the_callers_terminal() {
    let host = Host::start();
    let account = Account::open(&host);
    let (reader, writer) = std::io::pipe().unwrap();
    let things: [(&str, OwnedFd); 4] =
        [("a file", File::open("/etc/passwd").unwrap().into()), ("a pipe", reader.into()), ("the other end", writer.into()), ("a directory", File::open("/").unwrap().into())];
    let wild = Modes { input: u32::MAX, output: u32::MAX, control: u32::MAX, local: u32::MAX, characters: [255; 19] };
    for modes in [Modes::default(), wild] {
        for (what, thing) in &things {
            for leave in [false, true] {
                let terminal = message::Terminal { modes, size: Size { rows: u16::MAX, columns: 0, width: 1, height: 1 }, foreground: true, passed: true };
                let args: &[u8] = if leave { b"sleep\x00100\0" } else { b"true\0" };
                let request = Run { streams: [Stream::Terminal; 3], terminal: Some(terminal), ..run(args) };
                let mut peer = Peer::connect(&host);
                peer.send(&message::encode(&request, 1, op(7)), &[thing.as_fd()]);
                assert_eq!(peer.expect(kind::Started).fds.len(), 1, "{what}: the leader comes along");
                if !leave {
                    assert_eq!(peer.exit(), SUCCESS, "{what}");
                }
            }
        }
    }
    account.close(0);
}

#[test]
fn frames_may_be_cut_and_joined_anywhere() {
    let host = Host::start();
    let account = Account::open(&host);
    let null = File::open("/dev/null").unwrap();
    let request = Run { streams: [Stream::Passed, Stream::Null, Stream::Passed], ..run(b"true\0") };
    let bytes = message::encode(&request, 2, op(7));
    let fds: [BorrowedFd<'_>; 2] = [null.as_fd(), null.as_fd()];
    for cut in 1..bytes.len() {
        let mut peer = Peer::connect(&host);
        peer.send(&bytes[..cut], &fds);
        peer.wait_taken();
        peer.send(&bytes[cut..], &[]);
        assert_eq!(peer.exit(), SUCCESS, "cut at {cut}");
    }
    let mut slow = Peer::connect(&host);
    slow.send(&bytes[..1], &fds);
    for byte in &bytes[1..] {
        slow.wait_taken();
        slow.send(&[*byte], &[]);
    }
    assert_eq!(slow.exit(), SUCCESS, "byte by byte");

    // A hello and the run behind it, joined and cut at each place; the descriptors come with the run's first byte.
    let hello = message::encode(&message::Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(b"x"), capabilities: vec!["host_exec", "teleport"] }, 0, op(7));
    let signal = message::encode(&message::Signal { signal: 28 }, 0, op(7));
    for cut in 1..hello.len() {
        let mut peer = Peer::connect(&host);
        peer.send(&hello[..cut], &[]);
        if cut % 2 == 0 {
            peer.wait_taken();
        }
        peer.send(&hello[cut..], &[]);
        peer.send(&[&bytes[..], &signal, &signal].concat(), &fds);
        let answer = peer.expect(kind::HelloAnswer);
        let answer: message::HelloAnswer<'_> = message::decode(&answer.body).unwrap();
        assert_eq!((answer.accepted, answer.rejected), (vec!["host_exec"], vec!["teleport"]));
        assert_eq!(peer.exit(), SUCCESS, "cut at {cut}");
    }
    account.close(0);
}

#[test]
fn requests_out_of_order_or_out_of_range_harm_only_their_sender() {
    let host = Host::start();
    let account = Account::open(&host);
    for signal in [0, 65, 255] {
        let mut early = Peer::connect(&host);
        early.say(&message::Signal { signal }, op(1));
        assert_eq!(early.refusal().0, Code::BadRequest, "signal {signal}");
        let mut late = Peer::connect(&host);
        late.say(&run(b"sleep\x00100\0"), op(1));
        let started: message::Started = message::decode(&late.expect(kind::Started).body).unwrap();
        late.say(&message::Signal { signal }, op(1));
        assert_eq!(late.refusal().0, Code::BadRequest, "signal {signal}");
        eventually("its command is hung up on", || !lives(started.pid));
    }
    // Before there is a command these mean nothing, and do nothing.
    let mut early = Peer::connect(&host);
    early.say(&message::Signal { signal: 9 }, op(1));
    early.say(&message::Continue { foreground: true }, op(1));
    early.say(&message::Foreground { foreground: true }, op(1));
    early.say(&run(b"true\0"), op(1));
    assert_eq!(early.exit(), SUCCESS);

    let mut twice = Peer::connect(&host);
    twice.say(&run(b"sleep\x00100\0"), op(1));
    let started: message::Started = message::decode(&twice.expect(kind::Started).body).unwrap();
    let mark = host.dir.0.join("second");
    let second = format!("touch\0{}\0", mark.display());
    twice.say(&run(second.as_bytes()), op(1));
    assert_eq!(twice.refusal().0, Code::BadRequest);
    eventually("the first command is hung up on", || !lives(started.pid));
    assert!(!mark.exists());

    // Both in one go: the second is there before the first was started.
    let mut joined = Peer::connect(&host);
    let one = message::encode(&run(second.as_bytes()), 0, op(1));
    joined.send(&[&one[..], &one].concat(), &[]);
    assert_eq!(joined.refusal().0, Code::BadRequest);
    assert!(!mark.exists());
    account.close(3 + 3 + 2);
}

#[test]
fn an_operation_keeps_its_id_and_one_without_gets_one() {
    let host = Host::start();
    let account = Account::open(&host);
    let mut renamed = Peer::connect(&host);
    renamed.say(&run(b"sleep\x00100\0"), op(0xa));
    assert_eq!(renamed.expect(kind::Started).op, op(0xa));
    renamed.say(&message::Signal { signal: 9 }, op(0xb));
    let last = renamed.expect(kind::Exited);
    assert_eq!(last.op, op(0xa), "a signal does not rename the run it is for");

    for forged in [0, 1 << 48, u64::MAX] {
        let mut bytes = message::encode(&run(b"true\0"), 0, None);
        bytes[8..16].copy_from_slice(&u64::to_le_bytes(forged));
        let mut peer = Peer::connect(&host);
        peer.send(&bytes, &[]);
        let exited = peer.expect(kind::Started);
        let made = exited.op.expect("an id is made where none is given");
        assert!(host.log().contains(&made.to_string()));
    }
    account.close(0);
}

#[test]
fn who_is_silent_is_refused_in_time_and_nobody_waits_for_it() {
    let host = Host::start();
    let account = Account::open(&host);
    let id = op(0x511);
    let whole = message::encode(&run(b"true\0"), 0, id);
    let null = File::open("/dev/null").unwrap();
    // How much of a frame comes; from a whole header on the operation is known.
    let mut silent: Vec<(usize, Peer)> = Vec::new();
    for sent in [0, 1, 3, 4, 15, 16, 17, whole.len() - 1] {
        let peer = Peer::connect(&host);
        peer.send(&whole[..sent], &[]);
        silent.push((sent, peer));
    }
    // One that holds descriptors, one that dribbles, one that only ever signals.
    let holder = Peer::connect(&host);
    holder.send(&framed(VERSION, kind::Run, 253, id, &[0; 99])[..60], &vec![null.as_fd(); 253]);
    silent.push((16, holder));
    let begun = Instant::now();
    let dribbler = Peer::connect(&host);
    let large = framed(VERSION, kind::Run, 0, id, &[0; 100_000]);
    let mut at = 0;
    while begun.elapsed() < Duration::from_millis(4_500) {
        dribbler.send(&large[at..=at], &[]);
        at += 1;
        assert!(slowest_of(1, &host) < AT_ONCE, "others are not delayed");
        std::thread::sleep(Duration::from_millis(20));
    }
    silent.push((16, dribbler));
    for (sent, peer) in &mut silent {
        let (code, sentence, found) = peer.refusal();
        assert_eq!((code, found), (Code::TooSlow, if *sent < 16 { None } else { id }), "{sent} bytes: {sentence}");
    }
    assert!(begun.elapsed() < Duration::from_secs(12));
    let count = silent.len();
    drop(silent);
    account.close(count);
}

#[test]
fn who_leaves_in_the_middle_is_noted_once_and_forgotten() {
    let host = Host::start();
    let account = Account::open(&host);
    let null = File::open("/dev/null").unwrap();
    let request = Run { streams: [Stream::Passed, Stream::Null, Stream::Null], ..run(b"true\0") };
    let whole = message::encode(&request, 1, op(3));
    for sent in 0..whole.len() {
        let peer = Peer::connect(&host);
        peer.send(&whole[..sent], &[null.as_fd()]);
    }
    // Half closed is as good as closed.
    let mut half = Peer::connect(&host);
    half.send(&whole[..20], &[null.as_fd()]);
    // SAFETY: an open descriptor.
    unsafe { libc::shutdown(half.channel.as_fd().as_raw_fd(), libc::SHUT_WR) };
    assert!(half.answer().is_none());
    account.close(whole.len() - 1 + 1);
}

#[test]
fn large_claims_and_large_bodies_cost_a_bounded_amount_of_memory() {
    let host = Host::start();
    let account = Account::open(&host);
    // As large as a frame may be, of nothing but ends of strings; and with a count that no body could hold.
    let nuls = vec![0; MAX_BODY - 200];
    let mut forged = body(&run(b"true\0"));
    forged[0] = 0xff;
    let huge = [run(&nuls), Run { env: Bytes(&nuls), ..run(b"true\0") }];
    let mut bad = 0;
    for request in &huge {
        let mut peer = Peer::connect(&host);
        peer.say(request, op(1));
        assert_eq!(peer.refusal().0, Code::NotExecutable);
    }
    for claim in [[0xff, 0xff, 0xff, 0xff, 0x0f].as_slice(), &[0x80; 20], &[0xff; 10]] {
        let mut peer = Peer::connect(&host);
        peer.send(&framed(VERSION, kind::Run, 0, op(1), claim), &[]);
        assert_eq!(peer.refusal().0, Code::BadFrame);
        bad += 1;
    }
    // The most that execve takes, in many small pieces, and is really run.
    let many: String = (0..100_000).map(|n| format!("v{n}=\0")).collect();
    let begun = Instant::now();
    let mut peer = Peer::connect(&host);
    peer.say(&Run { env: Bytes(many.as_bytes()), ..run(b"true\0") }, op(1));
    assert_eq!(peer.exit(), SUCCESS);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // A name that is a megabyte long is neither logged nor sent back as one.
    let name = [vec![1u8; 1 << 20], vec![0]].concat();
    let mut peer = Peer::connect(&host);
    peer.say(&run(&name), op(1));
    let (_, sentence, _) = peer.refusal();
    assert!(sentence.len() < 10_000, "{} bytes of refusal", sentence.len());
    // Many that each send most of a large request and then wait: together they get no more than the daemon's share.
    let begun = Instant::now();
    let mut many: Vec<Peer> = (0..40).map(|_| Peer::connect(&host)).collect();
    let part = framed(VERSION, kind::Run, 0, op(1), &vec![0; 4 << 20]);
    std::thread::scope(|scope| {
        for peer in &many {
            scope.spawn(|| peer.send(&part[..part.len() - 1], &[]));
        }
    });
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 200 << 10, "{resident} KiB for requests that are not whole");
    assert!(slowest_of(3, &host) < AT_ONCE);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut busy = 0;
    for peer in &mut many {
        match peer.refusal().0 {
            Code::Busy => busy += 1,
            Code::TooSlow => bad += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 10 && busy < 40, "{busy} of 40 were turned away");
    drop(many);
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 20 << 10, "{resident} KiB when all are gone");
    account.close(bad);
}

/// A pipe that takes nothing more.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: numbers only.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    writer.write_all(&vec![0; size as usize]).unwrap();
    (reader, writer)
}

/// It is to say first that its directory is missing; where nobody reads that, it is never executed.
fn stuck<'a>(args: &'a [u8], env: &'a [u8]) -> Run<'a> {
    Run { env: Bytes(env), directory: Bytes(b"/no/such"), streams: [Stream::Null, Stream::Null, Stream::Passed], ..run(args) }
}

#[test]
fn commands_that_never_begin_hold_no_more_memory_than_requests_that_wait() {
    let host = Host::start();
    let account = Account::open(&host);
    let (reader, full) = full_pipe();
    let fill: String = (0..40).map(|n| format!("A{n}={}\0", "x".repeat(100_000))).collect();
    let request = message::encode(&stuck(b"true\0", fill.as_bytes()), 1, op(1));
    let mut all: Vec<Peer> = vec![];
    let mut busy = 0;
    for _ in 0..60 {
        let mut peer = Peer::connect(&host);
        peer.send(&request, &[full.as_fd()]);
        // Of one that waits for the pipe, that it was taken.
        busy += usize::from(peer.answer().is_none_or(|answer| answer.kind == kind::Refused));
        all.push(peer);
    }
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 200 << 10, "{resident} KiB for commands that have not begun");
    assert!(busy > 30 && busy < 60, "{busy} of 60 were turned away");
    assert!(slowest_of(3, &host) < AT_ONCE);
    drop((all, reader, full));
    account.close(0);
}

#[test]
fn a_command_that_never_begins_keeps_nobody_elses_pipe_open() {
    let host = Host::start();
    let account = Account::open(&host);
    let (reader, full) = full_pipe();
    let (mut output, input) = std::io::pipe().unwrap();
    // The first is started at once, the others in their turn: the last one's pipe is here already when the second is made.
    host.signal_daemon(libc::SIGSTOP);
    let all: Vec<Peer> = (0..3).map(|_| Peer::connect(&host)).collect();
    all[0].say(&run(b"true\0"), op(1));
    all[1].send(&message::encode(&stuck(b"true\0", b""), 1, op(2)), &[full.as_fd()]);
    let streams = [Stream::Null, Stream::Passed, Stream::Null];
    all[2].send(&message::encode(&Run { streams, ..run(b"echo\0said\0") }, 1, op(3)), &[input.as_fd()]);
    drop(input);
    host.signal_daemon(libc::SIGCONT);
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        said
    });
    eventually("the pipe of who has ended has ended", || said.is_finished());
    assert_eq!(said.join().unwrap(), "said\n");
    drop((all, reader, full));
    account.close(0);
}

#[test]
fn a_command_that_never_begins_does_not_keep_the_place_of_a_daemon_that_was_killed() {
    let mut host = Host::start();
    let (reader, full) = full_pipe();
    let mut peer = Peer::connect(&host);
    peer.send(&message::encode(&stuck(b"true\0", b""), 1, op(1)), &[full.as_fd()]);
    peer.expect(kind::Accepted);
    host.daemon.kill().unwrap();
    host.daemon.wait().unwrap();
    host.restart();
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    drop((reader, full));
}

#[test]
fn a_path_that_nobody_can_enter_is_refused_before_anything_is_made_of_it() {
    let host = Host::start();
    let account = Account::open(&host);
    let path = [b"/", &vec![b'x'; 5_000][..]].concat();
    let mut peer = Peer::connect(&host);
    peer.say(&Run { directory: Bytes(&path), ..run(b"true\0") }, op(1));
    let (code, sentence, _) = peer.refusal();
    assert_eq!(code, Code::BadRequest, "{sentence}");
    assert!(sentence.contains("4095"), "{sentence}");
    account.close(1);
}

#[test]
fn a_command_that_cannot_be_started_leaves_no_memory_behind() {
    let host = Host::start();
    let account = Account::open(&host);
    let fill = format!("FILL={}\0", "x".repeat(120_000));
    for _ in 0..400 {
        let mut peer = Peer::connect(&host);
        peer.say(&Run { env: Bytes(fill.as_bytes()), detach: true, ..run(b"no-such-command\0") }, op(1));
        assert_eq!(peer.refusal().0, Code::NotFound);
    }
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 10 << 10, "{resident} KiB");
    account.close(0);
}

#[test]
fn who_reads_nothing_while_its_command_stops_and_goes_on_is_taken_for_gone() {
    let host = Host::start();
    let account = Account::open(&host);
    let mut deaf = Peer::connect(&host);
    deaf.say(&run(b"sleep\x00100\0"), op(0xdeaf));
    let started: message::Started = message::decode(&deaf.expect(kind::Started).body).unwrap();
    let end = Instant::now() + Duration::from_secs(15);
    let mut rounds = 0;
    while lives(started.pid) && Instant::now() < end {
        for (signal, until) in [(libc::SIGSTOP, 'T'), (libc::SIGCONT, 'S')] {
            // SAFETY: kill(2) touches no memory; the command is ours.
            unsafe { libc::kill(started.pid as i32, signal) };
            while support::state(started.pid).is_some_and(|s| s != until && s != 'Z') {
                std::thread::yield_now();
            }
        }
        rounds += 1;
        if rounds % 500 == 0 {
            assert!(slowest_of(1, &host) < AT_ONCE);
        }
    }
    assert!(!lives(started.pid), "after {rounds} rounds nobody had noticed");
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 20 << 10, "{resident} KiB");
    account.close(1);
}

#[test]
fn who_asks_the_same_thing_for_ever_is_cut_off() {
    let host = Host::start();
    let account = Account::open(&host);
    let questions: [(&str, Vec<u8>); 2] = [
        ("status", message::encode(&message::StatusRequest {}, 0, op(1))),
        ("hello", message::encode(&message::Hello { release: env!("CARGO_PKG_VERSION"), container: Bytes(b"x"), capabilities: vec![] }, 0, op(1))),
    ];
    for (what, question) in questions {
        let mut peer = Peer::connect(&host);
        peer.send(&question.repeat(5_000), &[]);
        let mut answers = 0;
        let refused = loop {
            let Some(answer) = peer.answer() else { panic!("{what}: hung up without a word") };
            if answer.kind == kind::Refused {
                break answer;
            }
            answers += 1;
        };
        assert_eq!(Code::from_number(message::decode::<message::Refused<'_>>(&refused.body).unwrap().code), Code::BadRequest);
        assert!((1..100).contains(&answers), "{what}: {answers} answers");
    }
    account.close(2);
}

#[test]
fn a_flood_of_signals_delays_nobody_else() {
    let host = Host::start();
    let account = Account::open(&host);
    let mut flooder = Peer::connect(&host);
    flooder.say(&run(b"sleep\x00100\0"), op(1));
    flooder.expect(kind::Started);
    let flood = message::encode(&message::Signal { signal: libc::SIGWINCH as u8 }, 0, op(1)).repeat(2_000);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                flooder.send(&flood, &[]);
            }
        });
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < Duration::from_secs(2) {
            slowest = slowest.max(slowest_of(1, &host));
        }
        over.store(true, Ordering::Relaxed);
        assert!(slowest < AT_ONCE, "{slowest:?}");
    });
    drop(flooder);
    account.close(0);
}

#[test]
fn a_client_killed_at_any_moment_leaves_nothing_behind() {
    let host = Host::start();
    let account = Account::open(&host);
    let mut seed = 0x2545_f491u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..300 {
        let mut command = host.sh(if round % 3 == 0 { "true" } else { "sleep 100" });
        let delay = Duration::from_micros(random(3_000));
        if round % 2 == 0 {
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(delay);
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            let mut terminal = Terminal::run(&mut command);
            std::thread::sleep(delay);
            terminal.child.kill().unwrap();
            terminal.child.wait().unwrap();
        }
    }
    eventually("every command is hung up on", || host.children().is_empty());
    // Killed while it sent: a request cut short is worth its line, and cannot be told from here.
    let noted = peer::warnings(&host).len();
    assert!(noted < 30 && peer::warnings(&host).iter().all(|line| line.contains("in the middle")), "{:#?}", peer::warnings(&host));
    account.close(noted);
}

#[test]
fn thousands_of_idle_connections_get_busy_and_then_all_is_as_before() {
    peer::raise_descriptor_limit(6_000);
    let host = Host::start();
    let account = Account::open(&host);
    let mut idle: Vec<Peer> = (0..5_000).map(|_| Peer::connect(&host)).collect();
    // The last to come is turned away by name.
    let (code, sentence, _) = idle.last_mut().unwrap().refusal();
    assert_eq!(code, Code::Busy, "{sentence}");
    let turned_away = host.sh("true").output().unwrap();
    assert_eq!(turned_away.status.code(), Some(125));
    assert_says(&turned_away.stderr, "try again");
    assert_says(&turned_away.stderr, "(op-");
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 20 << 10, "{resident} KiB while they are there");
    drop(idle);
    eventually("a normal client is served", || host.sh("exit 7").status().unwrap().code() == Some(7));
    let resident = peer::resident_kib(host.pid());
    assert!(resident < 20 << 10, "{resident} KiB after");
    // Nobody misbehaved: they connected, and left in time. At most a word about descriptors.
    let said = peer::warnings(&host).len();
    assert!(said <= 1, "{:?}", peer::warnings(&host));
    account.close(said);
}

/// A daemon that may have no more than so many descriptors.
fn with_descriptors(limit: u64) -> Host {
    Host::start_with(|command| {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(move || if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) });
        }
    })
}

#[test]
fn a_daemon_with_few_descriptors_says_busy_warns_once_and_recovers() {
    let host = with_descriptors(64);
    let account = Account::open(&host);
    let null = File::open("/dev/null").unwrap();
    let mut idle: Vec<Peer> = (0..100).map(|_| Peer::connect(&host)).collect();
    let (code, sentence, _) = idle.last_mut().unwrap().refusal();
    assert_eq!(code, Code::Busy, "{sentence}");
    let refused = host.sh("true").output().unwrap();
    assert_eq!(refused.status.code(), Some(125));
    assert_says(&refused.stderr, "try again");
    drop(idle);
    eventually("a normal client is served again", || host.sh("exit 7").status().unwrap().code() == Some(7));

    // Descriptors that fill the table to the last, held back in half a frame: even then the answer has a name.
    let holders: Vec<Peer> = (0..3).map(|_| Peer::connect(&host)).collect();
    for holder in &holders {
        holder.send(&framed(VERSION, kind::Run, 17, op(1), &[0; 99])[..60], &[null.as_fd(); 17]);
        holder.wait_taken();
    }
    let mut more: Vec<Peer> = (0..20).map(|_| Peer::connect(&host)).collect();
    assert_eq!(more.last_mut().unwrap().refusal().0, Code::Busy);
    drop((holders, more));
    eventually("a normal client is served again", || host.sh("exit 7").status().unwrap().code() == Some(7));

    // More at once than it can start: each runs, or says that it did not.
    let clients: Vec<_> = (0..60).map(|_| host.sh("sleep 0.1; exit 7").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).collect();
    let mut served = 0;
    for client in clients {
        let output = client.wait_with_output().unwrap();
        match output.status.code() {
            Some(7) => served += 1,
            Some(125) => assert_says(&output.stderr, "try again"),
            other => panic!("{other:?}: {}", text(&output.stderr)),
        }
    }
    assert!(served > 0);
    let about_descriptors = peer::warnings(&host).iter().filter(|line| line.contains("descriptor")).count();
    assert_eq!(about_descriptors, 1, "{:#?}", peer::warnings(&host));
    // And a line for each of the three that left in the middle.
    account.close(1 + 3);
}

#[test]
fn a_log_that_takes_nothing_costs_its_lines_and_not_the_daemon() {
    let terminal = || {
        let (leader, follower) = bkt::sys::terminal::open_pty().unwrap();
        let kept = follower.try_clone().unwrap();
        (leader, follower, kept)
    };
    let (broken_reader, broken) = std::io::pipe().unwrap();
    drop(broken_reader);
    let (_unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&[b'x'; 65536]).unwrap();
    // As the journal is one, which others share and wait for.
    let (_unread, socket) = UnixStream::pair().unwrap();
    while bkt::sys::socket::send(socket.as_fd(), b"x\n", &[]).is_ok() {}
    let (gone, hung_up, _kept) = terminal();
    drop(gone);
    let (_leader, stopped, kept) = terminal();
    // SAFETY: an open terminal; what Ctrl-S does.
    assert_eq!(unsafe { libc::tcflow(kept.as_raw_fd(), libc::TCOOFF) }, 0);
    let logs: [(&str, Stdio); 6] = [
        ("a pipe that nobody reads any more", broken.into()),
        ("a full pipe", full.into()),
        ("a full socket", OwnedFd::from(socket).into()),
        ("a full disk", File::options().write(true).open("/dev/full").unwrap().into()),
        ("a terminal that was closed", hung_up.into()),
        ("a terminal that was stopped by Ctrl-S", stopped.into()),
    ];
    for (what, log) in logs {
        eprintln!("---- {what}");
        // It logs every operation and more.
        let host = Host::start_with(|daemon| {
            daemon.stderr(log);
        });
        assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7), "{what}");
        peer::assert_asleep(host.pid());
        host.signal_daemon(libc::SIGHUP);
        assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7), "{what}: after a reload");
        peer::assert_asleep(host.pid());
    }
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_it_has_lost() {
    let (mut reader, socket) = UnixStream::pair().unwrap();
    while bkt::sys::socket::send(socket.as_fd(), b"x\n", &[]).is_ok() {}
    let host = Host::start_with(|daemon| {
        daemon.stderr(OwnedFd::from(socket));
    });
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    reader.set_nonblocking(true).unwrap();
    let mut read = || {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all);
        text(&all)
    };
    assert!(read().lines().all(|line| line == "x"), "nothing else had room");
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    let mut log = String::new();
    eventually("the second command is in the log", || {
        log.push_str(&read());
        log.contains("exit status 7")
    });
    let records: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = records[0]["message"].as_str().unwrap();
    let lost: u32 = first.strip_prefix("lines of the log that are lost here, its reader was too slow: ").expect(first).parse().unwrap();
    assert!(lost >= 2, "its start, and the first command: {log}");
    assert!(records[1..].iter().all(|record| !record["message"].as_str().unwrap().contains("lost here")), "{log}");
}

/// A daemon that logs to a file in a directory of its own.
fn with_log_file(path: &Path) -> Host {
    Host::start_with(|daemon| {
        daemon.arg(format!("--log-file={}", path.display()));
    })
}

#[test]
fn a_log_file_that_cannot_be_opened_at_a_reload_costs_no_command() {
    let dir = TempDir::new();
    let (log, moved) = (dir.0.join("hostd.log"), dir.0.join("moved"));
    let fifo = || assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let ways: [(&str, &dyn Fn()); 2] = [("Is a directory", &|| fs::create_dir(&log).unwrap()), ("No such device", &fifo)];
    for (reason, spoil) in ways {
        let host = with_log_file(&log);
        let mut waits = host.sh("read line; exit 7").stdin(Stdio::piped()).spawn().unwrap();
        eventually("the command runs", || !host.children().is_empty());
        fs::rename(&log, &moved).unwrap();
        spoil();
        let reloaded = host.bkt(["admin", "daemon", "reload"]).output().unwrap();
        assert!(reloaded.status.success(), "{reason}: {}", text(&reloaded.stderr));
        drop(waits.stdin.take());
        assert_eq!(waits.wait().unwrap().code(), Some(7), "{reason}");
        eventually("it is in the log, which goes on", || fs::read_to_string(&moved).unwrap().contains("exit status 7"));
        let said = fs::read_to_string(&moved).unwrap();
        assert!(said.contains("the log goes on where it was") && said.contains(reason), "{said}");
        drop(host);
        let _ = fs::remove_dir(&log).or_else(|_| fs::remove_file(&log));
    }
}

#[test]
fn a_log_file_is_begun_anew_while_the_daemon_runs_and_takes_no_more_than_twice_its_room() {
    let dir = TempDir::new();
    let (log, old) = (dir.0.join("hostd.log"), dir.0.join("hostd.log.old"));
    let host = with_log_file(&log);
    let long = [&vec![b'x'; 100 << 10][..], b"\0"].concat().repeat(10);
    let mut asked = 0;
    while !old.exists() {
        let mut peer = Peer::connect(&host);
        // Arguments stand in the log of these tests.
        peer.say(&run(&[b"true\0", &long[..]].concat()), op(1));
        assert_eq!(peer.exit(), SUCCESS);
        asked += 1;
        assert!(asked < 20, "{} bytes", fs::metadata(&log).unwrap().len());
    }
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&old) < 10 << 20 && size(&log) < 2 << 20, "{} and {}", size(&old), size(&log));
    assert_eq!(host.sh("exit 7").status().unwrap().code(), Some(7));
    eventually("the new one is written to", || fs::read_to_string(&log).unwrap().contains("exit status 7"));
}

#[test]
fn another_user_is_refused_even_where_it_can_reach_the_socket() {
    let host = Host::start();
    let account = Account::open(&host);
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&host.dir.0, 0o755);
    open(host.socket().parent().unwrap(), 0o755);
    open(&host.socket(), 0o666);
    let connect_as_nobody = || {
        // SAFETY: the system call itself, not the C library's: it changes this thread alone, which ends here.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0, "this test runs as root");
        let mut peer = Peer::connect(&host);
        peer.say(&run(b"true\0"), op(0xbad));
        peer.refusal()
    };
    let (code, sentence, _) = std::thread::scope(|scope| scope.spawn(connect_as_nobody).join().unwrap());
    assert_eq!(code, Code::Denied);
    assert!(sentence.contains("65534"), "{sentence}");

    // Its own bkt does not even ask: whoever owns the socket would get its environment.
    let mut client = Command::new("setpriv");
    client.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(BKT).args(["admin", "daemon", "exec", "--", "true"]);
    let refused = client.env("BKT_SOCKET", host.socket()).current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{}", text(&refused.stderr));
    assert_says(&refused.stderr, "belongs to uid 0");
    account.close(2);
}

// ---- a hostile daemon

/// A socket where a daemon should be, and a client that is about to use it.
struct Impostor {
    dir: TempDir,
    listener: UnixListener,
}

impl Impostor {
    fn new() -> Impostor {
        let dir = TempDir::new();
        let listener = UnixListener::bind(dir.0.join("s")).unwrap();
        Impostor { dir, listener }
    }

    fn client(&self) -> Command {
        let mut command = Command::new(BKT);
        command.args(["admin", "daemon", "exec", "--", "true"]).env("BKT_SOCKET", self.dir.0.join("s"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Takes the next connection and its request.
    fn take(&self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut some = [0; 65536];
        assert!(stream.read(&mut some).unwrap() > 16);
        stream
    }
}

#[test]
fn a_daemon_that_answers_wrongly_or_not_at_all_ends_the_client_with_a_sentence() {
    let impostor = Impostor::new();
    let started = message::encode(&message::Started { pid: 1 }, 0, None);
    let exited = message::encode(&message::Exited { by_signal: false, value: 0 }, 0, None);
    // What it says before it hangs up (or not), and what the client makes of it.
    let table: Vec<(&str, Vec<u8>, bool)> = vec![
        ("nothing", vec![], true),
        ("nothing, and stays", vec![], false),
        ("half a frame", started[..10].to_vec(), true),
        ("half a frame, and stays", started[..10].to_vec(), false),
        ("a forged length", vec![0xff; 64], true),
        ("an unknown kind", framed(VERSION, 200, 0, None, b""), true),
        ("another version", framed(VERSION + 1, kind::Started, 0, None, &[1]), true),
        ("an end before the start", exited.clone(), true),
        ("garbage for a refusal", framed(VERSION, kind::Refused, 0, None, &[0xff; 9]), true),
        ("a start, and then nothing", started.clone(), true),
        ("a start, and then garbage", [&started[..], &[0xff; 32]].concat(), true),
        ("descriptors announced that do not come", framed(VERSION, kind::Started, 1, None, &[1]), true),
        ("an answer in the daemon's stead, of a newer kind of refusal", framed(VERSION, kind::Refused, 0, None, &[250, 2, b'n', b'o']), true),
    ];
    for (what, answer, hangs_up) in table {
        let begun = Instant::now();
        // A file: a pipe that no command holds has ended for its reader when the client gives up its own copy.
        let said = impostor.dir.0.join("said");
        let mut client = impostor.client().stderr(File::create(&said).unwrap()).spawn().unwrap();
        let mut stream = impostor.take();
        stream.write_all(&answer).unwrap();
        let kept = (!hangs_up).then_some(stream);
        let status = client.wait().unwrap();
        let said = fs::read(&said).unwrap();
        assert_eq!(status.code(), Some(125), "{what}: {}", text(&said));
        assert_says(&said, "bkt: ");
        assert_says(&said, "(op-");
        assert_eq!(text(&said).lines().count(), 1, "{what}: {}", text(&said));
        assert!(begun.elapsed() < PATIENCE / 2, "{what}: {:?}", begun.elapsed());
        drop(kept);
    }
}

#[test]
fn what_a_client_cannot_send_any_more_does_not_hide_how_its_command_ended() {
    let impostor = Impostor::new();
    let client = impostor.client().spawn().unwrap();
    let mut stream = impostor.take();
    stream.write_all(&message::encode(&message::Started { pid: 1 }, 0, None)).unwrap();
    // From now on the client cannot send: its signal crosses with the last words, as when a command ends at that moment.
    stream.shutdown(std::net::Shutdown::Read).unwrap();
    eventually("the client has closed its copies of the streams, and waits", || fs::read_link(format!("/proc/{}/fd/1", client.id())).is_err());
    for _ in 0..3 {
        // SAFETY: kill(2) touches no memory.
        unsafe { libc::kill(client.id() as i32, libc::SIGUSR1) };
        support::pty::moment();
    }
    let _ = stream.write_all(&message::encode(&message::Exited { by_signal: false, value: 42 }, 0, None));
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42), "{}", text(&output.stderr));
}
