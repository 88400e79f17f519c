//! Many commands that run at the same time.

use super::Result;
use super::place::{self, Place};
use super::spawn::{self, Io, Program};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

/// Starts that many shells, each of which says that it runs, waits for its input's end, and ends with a code of its own.
/// Nanoseconds from the first start to the last end, less what `while_all_run` takes.
pub fn run(place: &Place, shell: &Program, count: usize, while_all_run: impl FnOnce() -> Result<()>) -> Result<u64> {
    let (input, hold) = place::pipe()?;
    let (read, output) = place::pipe()?;
    let codes: Vec<String> = (0..count).map(|at| (at % 120).to_string()).collect();
    let shells: Vec<Program> = codes.iter().map(|code| shell.with(&["-c", "echo; read x; exit $0", code])).collect();
    let begun = spawn::now();
    let mut pids = Vec::new();
    for shell in &shells {
        pids.push(place.spawn(shell, Io::Streams { input: input.as_fd(), output: output.as_fd() })?.0);
    }
    drop((input, output));
    let mut said = vec![0; count];
    File::from(read).read_exact(&mut said).map_err(|e| format!("not all of {count} commands ran at once: {e}"))?;
    let all_run = spawn::now();
    while_all_run()?;
    let resumed = spawn::now();
    drop(hold);
    for (at, pid) in pids.into_iter().enumerate() {
        let code = spawn::wait(pid)?;
        if code != (at % 120) as i32 {
            return Err(format!("command {at} of {count} ended with {code}, not {}", at % 120));
        }
    }
    Ok(all_run - begun + (spawn::now() - resumed))
}
