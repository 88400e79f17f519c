//! Other programs: those that we ask something (`systemctl`, `journalctl`, a login shell), whose output comes through a pipe and
//! whose errors are ours, and one that is only started.

use crate::exit::End;
use crate::invocation::Invocation;
use crate::process::program;
use crate::sys::files::{self, FileId};
use crate::sys::launch::{Launch, Place, Plan, Report, Strings};
use crate::sys::process;
use crate::sys::signals::{self, Target};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The most of an answer that is kept.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A program that runs, and the reading end of its output. Dropped, it is killed with all of its group, and waited for.
pub struct Tool {
    pub output: OwnedFd,
    launch: Launch,
    ended: Option<End>,
}

impl Tool {
    /// Starts the first program of that name in our PATH; standard error goes where `errors` says.
    pub fn start(invocation: &Invocation, shims: &[PathBuf], words: &[&[u8]], errors: Errors) -> io::Result<Tool> {
        // Blocking, both ends: programs do not expect otherwise.
        let (output, input) = io::pipe()?;
        let mut fds: Vec<OwnedFd> = vec![input.into()];
        let errors = match errors {
            Errors::Ours => files::inherited(2).map(files::duplicate).transpose()?.map_or(NULL, |fd| {
                fds.push(fd);
                2
            }),
            Errors::WithOutput => 1,
            Errors::Nowhere => NULL,
        };
        let launch = launch(invocation, shims, words, fds, [NULL, 1, errors], signals::KILL)?;
        Ok(Tool { launch, output: files::keep_above_standard(output.into())?, ended: None })
    }

    /// All that it says, up to the end of its output.
    pub fn read(&self, within_ms: u64) -> io::Result<Vec<u8>> {
        let by = process::monotonic_ms() + within_ms;
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            if !is_readable(self.output.as_fd(), by.saturating_sub(process::monotonic_ms())) {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            match files::read(self.output.as_fd(), &mut buffer)? {
                0 => return Ok(said),
                length if said.len() < MAX_BYTES => said.extend_from_slice(&buffer[..length]),
                _ => {}
            }
        }
    }

    /// Ends it with all of its group; the same as `wait` where it has ended by itself.
    pub fn end(&mut self) -> io::Result<End> {
        if self.ended.is_none() {
            // Not waited for yet, so the number is its own. Before it has a session there is no such group.
            let _ = signals::send(Target::Group(self.launch.pid), signals::KILL);
            let _ = signals::send(Target::Process(self.launch.pid), signals::KILL);
        }
        self.wait()
    }

    /// Its end, which is waited for; an error where it was never that program.
    pub fn wait(&mut self) -> io::Result<End> {
        if self.ended.is_none() {
            self.ended = Some(process::wait_for(self.launch.pid)?);
        }
        match self.launch.report() {
            Report::Failed(_, error) => Err(error),
            _ => Ok(self.ended.unwrap_or(End::Code(0))),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.end();
        }
    }
}

/// Where a tool's standard error goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    Ours,
    /// Into the same pipe.
    WithOutput,
    Nowhere,
}

/// Where `launch` puts `/dev/null` among the descriptors.
const NULL: usize = 0;

/// The program in a session of its own, in the root directory. `fds` come behind [`NULL`], and `streams` counts from there.
fn launch(invocation: &Invocation, shims: &[PathBuf], words: &[&[u8]], mut fds: Vec<OwnedFd>, streams: [usize; 3], on_parent_death: u8) -> io::Result<Launch> {
    let name = words.first().copied().unwrap_or(b"");
    let found = program::candidates(name, invocation.var("PATH").unwrap_or(program::DEFAULT_PATH), shims);
    fds.insert(NULL, File::options().read(true).write(true).open("/dev/null")?.into());
    let own = process::inheritance();
    let terminated = |words: &mut dyn Iterator<Item = &[u8]>| Strings::new(words.flat_map(|word| [word, b"\0"].concat()).collect());
    Launch::start(Plan {
        candidates: found.paths,
        searched: found.searched,
        ourselves: FileId::default(),
        args: terminated(&mut words.iter().copied()),
        env: terminated(&mut invocation.env.iter().map(|entry| entry.to_bytes())),
        directory: c"/".to_owned(),
        refuge: None,
        fds,
        streams: streams.map(Some),
        extra: vec![],
        place: Place::NewSession,
        inheritance: own,
        own,
        on_parent_death,
        cgroup: None,
        elsewhere: None,
    })
}

/// What a program says on standard output, and how it ended; an error where there is no such program, or no answer in time.
pub fn ask(invocation: &Invocation, shims: &[PathBuf], words: &[&[u8]], errors: Errors, within_ms: u64) -> io::Result<(End, Vec<u8>)> {
    let by = process::monotonic_ms() + within_ms;
    let mut tool = Tool::start(invocation, shims, words, errors)?;
    let said = tool.read(within_ms)?;
    // It may have closed its output and live on.
    if !process::ends_within(tool.launch.pid, by.saturating_sub(process::monotonic_ms())) {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    Ok((tool.wait()?, said))
}

/// Starts a program that outlives us, with `/dev/null` for its streams; an error where it cannot be executed.
pub fn leave(invocation: &Invocation, words: &[&[u8]]) -> io::Result<()> {
    let mut launch = launch(invocation, &[], words, vec![], [NULL; 3], 0)?;
    loop {
        match launch.report() {
            Report::Running => return Ok(()),
            Report::Failed(_, error) => return Err(error),
            // The pipe's hangup says that it has been executed, or has failed; that takes no time of its own.
            Report::Pending => drop(is_readable(launch.as_fd(), i32::MAX as u64)),
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>, ms: u64) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::ZERO);
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str], ms: u64) -> io::Result<(End, Vec<u8>)> {
        let invocation = Invocation { env: vec![c"PATH=/usr/bin:/bin", c"ASKED=yes"], ..Invocation::default() };
        ask(&invocation, &[], &words.iter().map(|w| w.as_bytes()).collect::<Vec<_>>(), Errors::WithOutput, ms)
    }

    #[test]
    fn a_program_is_asked_and_its_end_is_known() {
        assert_eq!(asked(&["sh", "-c", "echo $ASKED >&2; exit 3"], 10_000).unwrap(), (End::Code(3), b"yes\n".to_vec()));
        assert_eq!(asked(&["no-such-program-here"], 10_000).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(asked(&["sleep", "100"], 20).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let silent = asked(&["sh", "-c", "exec >&- 2>&-; sleep 100"], 20).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut, "its output has ended, and it has not");
    }

    #[test]
    fn a_program_that_cannot_be_left_behind_is_an_error() {
        let invocation = Invocation::default();
        assert!(leave(&invocation, &[b"true"]).is_ok());
        assert_eq!(leave(&invocation, &[b"/no/such/program"]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
