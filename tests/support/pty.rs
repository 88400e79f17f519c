//! A terminal to drive programs in: a pty whose follower is the program's controlling terminal, as in a terminal emulator.

use super::PATIENCE;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

pub struct Terminal {
    leader: File,
    follower: OwnedFd,
    pub child: Child,
    /// Everything the terminal has shown.
    pub shown: Vec<u8>,
    /// How far `expect` has read.
    seen: usize,
    /// The child is a shell that edits its lines itself.
    is_shell: bool,
}

impl Terminal {
    /// Runs a command as the session leader of a new terminal of 24 rows and 80 columns; streams that were not set are it.
    pub fn run(command: &mut Command) -> Terminal {
        Terminal::run_with(command, |_, _| {})
    }

    /// The same, with streams replaced: the closure gets the command and a way to make descriptors of the terminal.
    pub fn run_with(command: &mut Command, change: impl FnOnce(&mut Command, &OwnedFd)) -> Terminal {
        let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: an int and a winsize; both descriptors are new and ours, and no child of another test inherits them.
        let (leader, follower) = unsafe {
            let leader = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK);
            assert!(leader >= 0 && libc::grantpt(leader) == 0 && libc::unlockpt(leader) == 0, "{}", std::io::Error::last_os_error());
            let follower = libc::ioctl(leader, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            assert!(follower >= 0 && libc::ioctl(follower, libc::TIOCSWINSZ, &raw const size) == 0, "{}", std::io::Error::last_os_error());
            (File::from_raw_fd(leader), OwnedFd::from_raw_fd(follower))
        };
        let stream = || follower.try_clone().unwrap();
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "xterm").env("PS1", "$ ").env_remove("PROMPT_COMMAND");
        super::caller::with_default_signals(command);
        change(command, &follower);
        let number = follower.as_raw_fd();
        // SAFETY: only system calls between fork and exec; the follower's number is still open there.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                if libc::ioctl(number, libc::TIOCSCTTY, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Terminal { leader, follower, child, shown: Vec::new(), seen: 0, is_shell: false }
    }

    pub fn send(&mut self, keys: &str) {
        self.send_bytes(keys.as_bytes());
    }

    pub fn send_bytes(&mut self, keys: &[u8]) {
        let end = Instant::now() + PATIENCE;
        let mut rest = keys;
        while !rest.is_empty() {
            match self.leader.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    self.pump();
                    assert!(Instant::now() < end, "the terminal takes no keys");
                }
                Err(e) => panic!("send: {e}"),
            }
        }
    }

    /// A line for the shell, which must have come back with its prompt by the time this returns; what it showed.
    #[track_caller]
    pub fn line(&mut self, line: &str) -> String {
        self.start(line);
        self.prompt()
    }

    /// A line for the shell, whose echo is passed over.
    #[track_caller]
    pub fn start(&mut self, line: &str) {
        if !line.is_empty() {
            self.send(line);
            self.expect(line);
        }
        self.send("\r");
        self.expect("\r\n");
    }

    /// Waits for the shell's prompt; what was shown before it.
    #[track_caller]
    pub fn prompt(&mut self) -> String {
        self.expect("READY> ")
    }

    /// Starts a command that says when it has begun.
    #[track_caller]
    pub fn begin(&mut self, line: &str) {
        self.start(line);
        self.expect("begun\r\n");
    }

    /// Ctrl-Z: the shell has a stopped job, and its prompt is back.
    #[track_caller]
    pub fn ctrl_z(&mut self) {
        self.send("\x1a");
        self.expect_stopped();
    }

    /// The shell tells of a stopped job, and asks for a command.
    #[track_caller]
    pub fn expect_stopped(&mut self) {
        self.expect("Stopped");
        self.prompt();
    }

    /// Keys by which the command that has the keyboard ends; what was shown till the prompt.
    #[track_caller]
    pub fn end_by(&mut self, keys: &str) -> String {
        self.send(keys);
        self.prompt()
    }

    /// A last line for the command, which shows this before it ends.
    #[track_caller]
    pub fn answer(&mut self, line: &str, shown: &str) {
        self.send(&format!("{line}\r"));
        self.expect(shown);
        self.prompt();
    }

    /// The exit status of the last command, as the shell has it.
    #[track_caller]
    pub fn expect_status(&mut self, status: i32) {
        assert_eq!(self.line("echo status $?"), format!("status {status}\r\n"));
    }

    /// Waits until the shell knows that its job has stopped.
    #[track_caller]
    pub fn wait_for_stopped_job(&mut self) {
        super::eventually("the shell has a stopped job", || self.line("jobs").contains("Stopped"));
    }

    /// The process group that has the terminal's foreground.
    pub fn foreground(&self) -> i32 {
        // SAFETY: touches no memory.
        unsafe { libc::tcgetpgrp(self.leader.as_raw_fd()) }
    }

    /// Says `fg` to the shell and waits until the job is there.
    #[track_caller]
    pub fn fg(&mut self) {
        self.start("fg");
        self.expect("\r\n");
        self.wait_for_job();
    }

    /// Waits until the shell has given the terminal to a job.
    #[track_caller]
    pub fn wait_for_job(&self) {
        super::eventually("a job has the foreground", || self.foreground() != self.child.id() as i32);
    }

    /// Waits until a program has taken the keyboard: lines are not edited by this terminal any more, nor by the shell.
    #[track_caller]
    pub fn wait_until_raw(&self) {
        if self.is_shell {
            self.wait_for_job();
        }
        super::eventually("the terminal is raw", || self.is_raw());
    }

    /// Lines are neither edited nor echoed.
    pub fn is_raw(&self) -> bool {
        self.modes().3 & (libc::ICANON | libc::ECHO) == 0
    }

    /// Takes what is shown by now.
    pub fn pump(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let mut any = false;
        loop {
            match self.leader.read(&mut buffer) {
                Ok(0) => return any,
                Ok(n) => {
                    self.shown.extend_from_slice(&buffer[..n]);
                    any = true;
                }
                Err(_) => return any,
            }
        }
    }

    fn wait_readable(&self, ms: i32) {
        let mut poll = libc::pollfd { fd: self.leader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure.
        unsafe { libc::poll(&raw mut poll, 1, ms) };
    }

    /// Waits until the text is shown after what earlier calls have found; returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let rest = &self.shown[self.seen..];
            if let Some(at) = rest.windows(wanted.len()).position(|w| w == wanted.as_bytes()) {
                let before = String::from_utf8_lossy(&rest[..at]).into_owned();
                self.seen += at + wanted.len();
                return before;
            }
            assert!(Instant::now() < end, "never shown: {wanted:?}; since the last find: {:?}", String::from_utf8_lossy(rest));
            self.wait_readable(50);
            self.pump();
        }
    }

    /// Drops what has been shown so far: only what comes from now on will be found.
    pub fn forget(&mut self) {
        self.pump();
        self.shown.clear();
        self.seen = 0;
    }

    /// Everything shown that `expect` has not consumed.
    pub fn rest(&mut self) -> String {
        self.pump();
        String::from_utf8_lossy(&self.shown[self.seen..]).into_owned()
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: a valid structure.
        unsafe { libc::ioctl(self.leader.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// The terminal's modes, for comparing before and after.
    pub fn modes(&self) -> (u32, u32, u32, u32) {
        // SAFETY: plain numbers.
        unsafe {
            let mut m: libc::termios = std::mem::zeroed();
            libc::tcgetattr(self.follower.as_raw_fd(), &raw mut m);
            (m.c_iflag, m.c_oflag, m.c_cflag, m.c_lflag)
        }
    }

    /// Lines are edited and echoed: the modes of a terminal at rest.
    pub fn is_cooked(&self) -> bool {
        self.modes().3 & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }

    /// Waits for the program's end and takes the last of what it showed.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            self.pump();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.pump();
                return status;
            }
            assert!(Instant::now() < end, "the program does not end; shown: {:?}", self.rest());
            self.wait_readable(10);
        }
    }

    /// Closes the terminal, as a window is closed.
    pub fn close(self) -> Child {
        self.child
    }
}

/// An interactive bash with job control in a terminal; `$X` is the command line that runs a command through the daemon.
pub fn bash(host: &super::Host) -> Terminal {
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    command.env("BKT_SOCKET", host.socket()).env("BKT_SIDE", "container").env("HISTFILE", "").env("INPUTRC", "/dev/null");
    command.env("PATH", format!("{}:{}", std::path::Path::new(super::BKT).parent().unwrap().display(), std::env::var("PATH").unwrap()));
    let mut terminal = Terminal::run(&mut command);
    terminal.is_shell = true;
    terminal.expect("$ ");
    terminal.send("bind 'set enable-bracketed-paste off' 2>/dev/null; X='bkt admin daemon exec --'; PS1='READY> '\r");
    terminal.expect("PS1='READY> '");
    terminal.expect("READY> ");
    terminal
}

/// Does the same in two such shells: in one with `$X` empty, so that the command is the shell's own child, which shows that what is
/// expected is what happens without us; then in one that runs it through the daemon.
pub fn natively_and_through(host: &super::Host, test: impl Fn(&mut Terminal)) {
    for native in [true, false] {
        let mut terminal = bash(host);
        if native {
            terminal.line("X=");
        }
        eprintln!("---- {}", if native { "natively" } else { "through the daemon" });
        test(&mut terminal);
    }
}

/// A pause in which nothing is expected: only to give something wrong the time to happen.
pub fn moment() {
    std::thread::sleep(Duration::from_millis(150));
}

/// Binds the calling thread to the processor that it runs on now; its number.
pub fn stay_on_one_processor() -> i32 {
    // SAFETY: a set of processors, of which zero is the empty one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let processor = libc::sched_getcpu();
        libc::CPU_SET(processor as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
        processor
    }
}
