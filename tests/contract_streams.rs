//! Streams: the command has the caller's own descriptors, nobody keeps a copy, and no byte is touched.
#![allow(unsafe_code)]

mod support;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{Client, Host, TempDir, caller, complaint, eventually, kill, pty, stdout, text};

/// What a stream is at the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Pipe,
    File,
    Null,
    Closed,
}

const KINDS: [Kind; 4] = [Kind::Pipe, Kind::File, Kind::Null, Kind::Closed];

/// What `/proc` calls a descriptor of ours.
fn link(fd: &impl AsRawFd) -> String {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().display().to_string()
}

/// What was written to a stream, once the command has ended.
type Written = Box<dyn FnOnce() -> String>;

/// A stream of that kind for number 0 (with bytes in it), 1 or 2; what it is called; and what to look at afterwards.
fn stream(kind: Kind, number: i32, place: &Path) -> (Stdio, String, Option<Written>) {
    let path: PathBuf = place.join(number.to_string());
    match (kind, number) {
        (Kind::Pipe, 0) => {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(b"given\n").unwrap();
            let name = link(&reader);
            (reader.into(), name, None)
        }
        (Kind::Pipe, _) => {
            let (mut reader, writer) = io::pipe().unwrap();
            let name = link(&writer);
            let read = move || {
                let mut bytes = String::new();
                reader.read_to_string(&mut bytes).unwrap();
                bytes
            };
            (writer.into(), name, Some(Box::new(read)))
        }
        (Kind::File, 0) => {
            fs::write(&path, "given\n").unwrap();
            (File::open(&path).unwrap().into(), path.display().to_string(), None)
        }
        (Kind::File, _) => (File::create(&path).unwrap().into(), path.display().to_string(), Some(Box::new(move || fs::read_to_string(path).unwrap()))),
        (Kind::Null | Kind::Closed, _) => (Stdio::null(), if kind == Kind::Null { "/dev/null".into() } else { "closed".into() }, None),
    }
}

/// Says what its three streams are, and what it read, in the file it is given; says `out` and `err` where it can.
const REPORT: &str = r#"(for n in 0 1 2; do readlink /proc/$$/fd/$n || echo closed; done) >>"$0"
[ -e /proc/$$/fd/0 ] && cat >>"$0"
[ -e /proc/$$/fd/1 ] && echo out
[ -e /proc/$$/fd/2 ] && echo err >&2
exit 7"#;

#[test]
fn every_combination_of_pipe_file_null_and_closed_is_the_same_at_the_command() {
    let host = Host::start();
    for kinds in KINDS.iter().flat_map(|a| KINDS.iter().flat_map(move |b| KINDS.iter().map(move |c| [*a, *b, *c]))) {
        let place = TempDir::new();
        let report = place.0.join("report");
        let [input, output, error] = [0, 1, 2].map(|n| stream(kinds[n as usize], n, &place.0));
        let mut command = host.sh(REPORT);
        command.arg(&report).stdin(input.0).stdout(output.0).stderr(error.0);
        caller::closed(&mut command, (0..3).filter(|n| kinds[*n as usize] == Kind::Closed));
        assert_eq!(command.status().unwrap().code(), Some(7), "{kinds:?}");
        // It holds our copies of the streams.
        drop(command);
        let given = if matches!(kinds[0], Kind::Pipe | Kind::File) { "given\n" } else { "" };
        assert_eq!(fs::read_to_string(&report).unwrap(), format!("{}\n{}\n{}\n{given}", input.1, output.1, error.1), "{kinds:?}");
        for (read, said) in [(output.2, "out\n"), (error.2, "err\n")] {
            if let Some(read) = read {
                assert_eq!(read(), said, "{kinds:?}");
            }
        }
    }
}

#[test]
fn with_all_streams_closed_an_own_failure_still_has_its_code() {
    let host = Host::start();
    for closed in [vec![2], vec![0, 2], vec![1, 2], vec![0, 1, 2]] {
        for (args, code) in [(["exec", "--", "no-such-command"], 127), (["exec", "--", "/"], 126), (["exec", "--no-such-option", "--"], 125)] {
            let mut command = host.bkt(["admin", "daemon"]);
            caller::closed(command.args(args), closed.clone());
            assert_eq!(command.status().unwrap().code(), Some(code), "{closed:?} {args:?}");
        }
    }
}

#[test]
fn file_offsets_are_shared_with_the_caller() {
    let host = Host::start();
    let place = TempDir::new();
    let path = place.0.join("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"one\n").unwrap();
    assert!(host.sh("echo two; echo three >&2").stdout(file.try_clone().unwrap()).stderr(file.try_clone().unwrap()).status().unwrap().success());
    file.write_all(b"four\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\n");
    // The same for reading: what the command has not taken is left.
    let mut file = File::open(&path).unwrap();
    assert_eq!(stdout(host.sh("read line; echo $line").stdin(file.try_clone().unwrap()).output().unwrap()), "one\n");
    assert_eq!(file.stream_position().unwrap(), 4);
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "two\nthree\nfour\n");
}

#[test]
fn a_file_opened_for_appending_is_appended_to() {
    let host = Host::start();
    let place = TempDir::new();
    let path = place.0.join("file");
    fs::write(&path, "old\n").unwrap();
    let open = || File::options().append(true).open(&path).unwrap();
    let mut children: Vec<Child> = (0..8).map(|n| host.sh(&format!("for i in 1 2 3 4; do echo {n} $i; done")).stdout(open()).spawn().unwrap()).collect();
    assert!(children.iter_mut().all(|c| c.wait().unwrap().success()));
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!((written.lines().next(), written.lines().count()), (Some("old"), 33));
}

/// Bytes that no rule predicts, the same each time.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_ne_bytes());
        }
    }
}

#[test]
fn sixty_four_mebibytes_go_through_pipes_unharmed() {
    const PIECES: usize = 1024;
    const PIECE: usize = 64 * 1024;
    let host = Host::start();
    let mut client = host.exec(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let writer = std::thread::spawn(move || {
        let (mut noise, mut piece) = (Noise(88), vec![0; PIECE]);
        for _ in 0..PIECES {
            noise.fill(&mut piece);
            input.write_all(&piece).unwrap();
        }
    });
    let (mut noise, mut piece, mut came) = (Noise(88), vec![0; PIECE], vec![0; PIECE]);
    for n in 0..PIECES {
        noise.fill(&mut piece);
        output.read_exact(&mut came).unwrap();
        assert!(piece == came, "piece {n} differs");
    }
    assert_eq!(output.read(&mut came).unwrap(), 0, "and then the end");
    writer.join().unwrap();
    assert!(client.wait().unwrap().success());
}

/// Ends the command behind a client, and the client with it.
fn end(mut client: Client) {
    kill(client.id(), libc::SIGTERM);
    client.wait().unwrap();
}

#[test]
fn a_stream_that_the_command_closes_is_at_its_end_for_the_reader_while_the_command_runs() {
    let host = Host::start();
    for (number, script) in [(1, "echo last; exec 1>&-; sleep 1000"), (2, "echo last >&2; exec 2>&-; sleep 1000")] {
        let mut command = host.sh(script);
        let mut client = Client(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut all = String::new();
        match number {
            1 => client.stdout.take().unwrap().read_to_string(&mut all).unwrap(),
            _ => client.stderr.take().unwrap().read_to_string(&mut all).unwrap(),
        };
        assert_eq!((all.as_str(), client.try_wait().unwrap()), ("last\n", None), "stream {number}");
        end(client);
    }
}

#[test]
fn a_writer_gets_a_broken_pipe_when_the_command_closes_its_input_and_runs_on() {
    let host = Host::start();
    let mut client = Client(host.sh("read line; exec 0<&-; sleep 1000").stdin(Stdio::piped()).spawn().unwrap());
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"line\n").unwrap();
    eventually("the pipe breaks", || matches!(input.write_all(b"x"), Err(e) if e.kind() == io::ErrorKind::BrokenPipe));
    assert!(client.try_wait().unwrap().is_none());
    end(client);
}

#[test]
fn the_commands_sigpipe_is_its_own_when_its_reader_goes() {
    let host = Host::start();
    let mut client = host.exec(["yes"]).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(client.wait().unwrap().signal(), Some(libc::SIGPIPE));
}

/// Descriptors of a process that hold the pipe of that name open for reading or writing; a mere handle (`O_PATH`) does not.
fn holders(pid: u32, pipe: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == pipe) {
            let number = entry.file_name().into_string().unwrap();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
            let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).map_or(0, |f| i32::from_str_radix(f.trim(), 8).unwrap());
            if flags & libc::O_PATH == 0 {
                found.push(number);
            }
        }
    }
    found
}

#[test]
fn neither_client_nor_daemon_keeps_a_copy_of_what_was_passed_on() {
    let host = Host::start();
    let (extra, _kept) = io::pipe().unwrap();
    let mut command = host.bkt(["admin", "daemon", "exec", "--fd", "9", "--", "sleep", "1000"]);
    let extra_name = link(&extra);
    caller::with_descriptors(&mut command, vec![(extra.into(), 9)]);
    let client = Client(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    drop(command);
    let pipes = [link(client.stdin.as_ref().unwrap()), link(client.stdout.as_ref().unwrap()), link(client.stderr.as_ref().unwrap()), extra_name];
    eventually("the command runs", || host.children().iter().any(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| !exe.ends_with("bkt"))));
    let command = host.children()[0];
    for pipe in &pipes {
        assert_eq!(holders(command, pipe).len(), 1, "{pipe} at the command");
        eventually(&format!("{pipe} is closed at the client"), || holders(client.id(), pipe).is_empty());
        eventually(&format!("{pipe} is closed at the daemon"), || holders(host.pid(), pipe).is_empty());
    }
    end(client);
}

// ---- further descriptors

/// A file that says its number.
fn numbered(place: &Path, number: i32) -> OwnedFd {
    let path = place.join(format!("file-{number}"));
    fs::write(&path, format!("{number}\n")).unwrap();
    File::open(path).unwrap().into()
}

/// Runs `exec OPTIONS --fd N… -- ls /proc/self/fd` and each descriptor's content with those numbers open at the caller.
fn passing(host: &Host, place: &Path, numbers: &[i32]) -> Command {
    let mut command = host.bkt(["admin", "daemon", "exec"]);
    for number in numbers {
        command.args(["--fd", &number.to_string()]);
    }
    caller::with_descriptors(&mut command, numbers.iter().map(|n| (numbered(place, *n), *n)).collect());
    command.args(["--", "sh", "-c", r#"for n; do cat /proc/self/fd/$n; done; ls /proc/$$/fd"#, "sh"]);
    command.args(numbers.iter().map(i32::to_string));
    command
}

#[test]
fn further_descriptors_are_passed_under_their_own_numbers() {
    let host = Host::start();
    let place = TempDir::new();
    // The daemon's own are among them, in any order; 250 and the three streams are as many as the kernel passes at once.
    let tables: [Vec<i32>; 9] =
        [vec![3], vec![9], vec![255], vec![4, 3], vec![3, 4, 5, 6, 7, 8, 9, 10, 11, 12], (3..=12).rev().collect(), vec![255, 3, 128], vec![10], (3..253).collect()];
    for numbers in tables {
        let seen = stdout(passing(&host, &place.0, &numbers).output().unwrap());
        let (contents, listed) = seen.split_at(numbers.iter().map(|n| n.to_string().len() + 1).sum());
        assert_eq!(contents, numbers.iter().map(|n| format!("{n}\n")).collect::<String>());
        let mut listed: Vec<i32> = listed.lines().map(|l| l.parse().unwrap()).collect();
        // Dash keeps a copy of nothing here; the list is the three and those that were asked for.
        listed.sort_unstable();
        let mut expected: Vec<i32> = (0..3).chain(numbers.iter().copied()).collect();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }
}

#[test]
fn a_descriptor_that_an_argument_names_is_passed() {
    let host = Host::start();
    let place = TempDir::new();
    // What bash puts in the place of `<(…)` and `>(…)`; none of our own descriptors has a name. The reader of the latter ends when the command has closed its end.
    let script = format!(
        "X='{} admin daemon exec --'; $X cat <(echo one) <(echo two); $X sh -c 'cat ${{0#--file=}}' --file=<(echo three); \
         mkfifo {1}; echo four | $X tee >(cat >{1}) >/dev/null & cat {1}; wait; $X ls /dev/fd/999 /dev/fd/99 /dev/fd/3 /dev/fd/4 /dev/fd/5 2>&1 | grep -c 'No such file'",
        support::BKT,
        place.0.join("end").display()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container").stdin(Stdio::null());
    caller::by_itself(&mut command);
    assert_eq!(stdout(command.output().unwrap()), "one\ntwo\nthree\nfour\n5\n");
}

#[test]
fn a_further_descriptor_is_passed_even_where_the_standard_ones_are_closed() {
    let host = Host::start();
    let place = TempDir::new();
    let mut command = host.bkt(["admin", "daemon", "exec", "--fd", "3", "--", "sh", "-c", "cat <&3 >$0"]);
    caller::with_descriptors(&mut command, vec![(numbered(&place.0, 3), 3)]);
    caller::closed(&mut command, 0..3);
    command.arg(place.0.join("out"));
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read_to_string(place.0.join("out")).unwrap(), "3\n");
}

#[test]
fn a_descriptor_that_is_not_open_is_not_passed_and_nothing_runs() {
    let host = Host::start();
    for number in ["3", "4", "9", "255"] {
        let output = host.bkt(["admin", "daemon", "exec", "--fd", number, "--", "echo", "ran"]).output().unwrap();
        complaint(&output, 125, &format!("descriptor {number} is not open"));
        assert_eq!(text(&output.stdout), "");
    }
    // Not even where something of the client's own would have that number.
    let command = &mut host.bkt(["admin", "daemon", "exec", "--fd", "3", "--", "echo", "ran"]);
    let mut terminal = pty::Terminal::run(command);
    assert_eq!(terminal.wait().code(), Some(125));
    terminal.expect("descriptor 3 is not open");
}

#[test]
fn more_descriptors_than_can_be_passed_at_once_are_refused_with_a_sentence() {
    let host = Host::start();
    let place = TempDir::new();
    for last in [253, 255] {
        let numbers: Vec<i32> = (3..=last).collect();
        let output = passing(&host, &place.0, &numbers).output().unwrap();
        complaint(&output, 125, "250");
    }
}
