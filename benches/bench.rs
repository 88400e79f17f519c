//! What a bridge costs: commands run directly and through bkt, in turn, in one run, on one machine.
//!
//! `BENCH_ROUNDS` is the number of rounds (200 by default). The table goes to standard output, the same as JSON to
//! `target/bench.json`. Nothing fails on a number; a run fails where a command does not end as it must.
//!
//! The shims are real ones: they are started in a root directory of their own, so that the daemon, which has ours, does what
//! it does for a container. Everything measured is started in the same way from the same small process: `posix_spawn(3)`, no
//! controlling terminal, `/dev/null` or a pipe or a new pty as streams.

// System calls that std does not offer: spawning without its fork, ptys, chroot and mounts.
#![allow(unsafe_code)]

mod lab;

use lab::place::{self, Place};
use lab::spawn::{Io, Program};
use lab::stats::{Samples, Summary};
use lab::table::Table;
use lab::{Result, crowd, peers};

/// Rounds that are run and not counted: page cache, branch predictors, lazily made memory.
const WARM_UP: usize = 10;
/// Bulk rounds for each 20 of the others, which are a thousand times shorter.
const BULK_SHARE: usize = 20;
const MIB: u64 = 1 << 20;
/// What is shown at a terminal: lines of 79 characters.
const SCREEN_BYTES: u64 = 32 * MIB;
const CROWD: usize = 1000;

fn main() {
    if std::env::args().next().is_some_and(|name| name.rsplit('/').next() == Some("tiny")) {
        return;
    }
    let code = place::in_own_process(|place| {
        let table = measure(place)?;
        print!("{table}");
        let json = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
        std::fs::write(&json, table.json()).map_err(|e| format!("{}: {e}", json.display()))?;
        println!("\nthe same as JSON: {}", json.display());
        Ok(())
    });
    std::process::exit(code);
}

fn measure(place: &mut Place) -> Result<Table> {
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200).max(1);
    let bulk_rounds = (rounds / BULK_SHARE).max(1);
    let fresh = place.daemon.memory();
    let mut table = Table::new(rounds, place);

    let shim = place.shim(&["true"]);
    let latencies: [(&str, Program, bool, &str); 3] = [
        ("/bin/true", place.direct(&["/bin/true"]), false, "≤ 1.25, ≤ 250 µs"),
        ("a static program that does nothing", place.direct(&[place.tiny()]), false, ""),
        ("/bin/true at a terminal", place.direct(&["/bin/true"]), true, ""),
    ];
    let through = [place.shim(&["true"]), place.shim(&["tiny"]), place.shim(&["true"])];
    let mut samples: Vec<[Samples; 2]> = (0..3).map(|_| Default::default()).collect();
    for round in 0..rounds + WARM_UP {
        for (at, (_, direct, terminal, _)) in latencies.iter().enumerate() {
            // Who comes second finds warmer caches: take turns.
            for which in [round % 2, 1 - round % 2] {
                let program = [direct, &through[at]][which];
                let took = if *terminal { place.at_terminal(program)?.0 } else { place.run(program, Io::Null)? };
                samples[at][which].add_after(round, WARM_UP, took);
            }
        }
    }
    for ((name, _, _, goal), [direct, bkt]) in latencies.iter().zip(&samples) {
        table.latency(name, direct.summary(), bkt.summary(), goal);
    }

    for (name, bytes, rounds) in [("64 MiB through a pipe, one processor", 64 * MIB, bulk_rounds), ("1 GiB through a pipe, one processor", 1024 * MIB, bulk_rounds.div_ceil(3))] {
        let count = bytes.to_string();
        let programs = [place.direct(&["/usr/bin/head", "-c", &count, "/dev/zero"]), place.shim(&["head", "-c", &count, "/dev/zero"])];
        let [direct, bkt] = place.on_one_processor(|| in_turn(rounds, |which| place.through_pipe(&programs[which], bytes)))?;
        table.bulk(name, bytes, direct, bkt, "≤ 1.02");
    }
    let (file, shown) = place.screenful(SCREEN_BYTES)?;
    let programs = [place.direct(&["/bin/cat", &file]), place.shim(&["cat", &file])];
    let [direct, bkt] = in_turn(bulk_rounds, |which| {
        let (took, bytes) = place.at_terminal(&programs[which])?;
        if bytes == shown { Ok(took) } else { Err(format!("{bytes} bytes arrived at the terminal of {shown}")) }
    })?;
    table.bulk("32 MiB of lines to a terminal", shown, direct, bkt, "≤ 1.15");

    let sleepers = [place.direct(&["/bin/sh"]), place.shim(&["sh"])];
    let mut during = Samples::default();
    let [direct, bkt] = in_turn(bulk_rounds.div_ceil(3), |which| {
        let mut one_more = || (0..5).try_for_each(|_| place.run(&shim, Io::Null).map(|took| during.add(took)));
        crowd::run(place, &sleepers[which], CROWD, || if which == 1 { one_more() } else { Ok(()) })
    })?;
    table.bulk("1,000 commands at once, all right", 0, direct, bkt, "all end rightly");
    table.note("one more shim while those 1,000 run", during.summary());

    let others = peers::all(place);
    let mut samples: Vec<Samples> = (0..others.len() + 2).map(|_| Samples::default()).collect();
    let mut broken: Vec<Option<String>> = others.iter().map(|_| None).collect();
    let direct = place.direct(&["/bin/true"]);
    for round in 0..rounds {
        for (at, samples) in samples.iter_mut().enumerate() {
            let took = match at {
                0 => place.run(&direct, Io::Null)?,
                1 => place.run(&shim, Io::Null)?,
                _ => {
                    let peer = &others[at - 2];
                    let (Ok(program), None, true) = (&peer.program, &broken[at - 2], samples.spent() < peers::BUDGET) else { continue };
                    match place.run(program, Io::Null) {
                        Ok(took) => took,
                        Err(why) => {
                            broken[at - 2] = Some(why);
                            continue;
                        }
                    }
                }
            };
            samples.add_after(round, 1, took);
        }
    }
    let mut sums = samples.iter().map(Samples::summary);
    let (direct, ours) = (sums.next().unwrap_or_default(), sums.next().unwrap_or_default());
    table.ways("Ways to run a host's /bin/true, by turns");
    table.peer("direct", direct, Ok(direct));
    table.peer("bkt, a shim", direct, Ok(ours));
    for ((peer, broken), sum) in others.iter().zip(&broken).zip(sums) {
        let result = match (&peer.program, broken) {
            (Err(why), _) | (_, Some(why)) => Err(why.clone()),
            _ => Ok(sum),
        };
        table.peer(peer.name, direct, result);
    }
    drop(others);
    ways_in(place, &mut table, rounds)?;

    table.daemon(fresh, place.daemon.memory(), place.daemon.idle()?);
    Ok(table)
}

/// The other direction: from the host into a container.
fn ways_in(place: &Place, table: &mut Table, rounds: usize) -> Result<()> {
    let ways = match peers::ways_in(place) {
        Ok(ways) => ways,
        Err(why) => {
            table.ways("Ways into a container");
            table.peer("into a container", Summary::default(), Err(why));
            return Ok(());
        }
    };
    for (at, what) in ["/bin/true", "sh -i at a terminal"].into_iter().enumerate() {
        let mut samples: Vec<Samples> = ways.iter().map(|_| Samples::default()).collect();
        for round in 0..rounds {
            for (way, samples) in ways.iter().zip(&mut samples) {
                let (Ok(program), true) = (&way.programs[at], samples.spent() < peers::BUDGET) else { continue };
                let took = if at == 0 { place.run(program, Io::Null)? } else { place.at_terminal(program)?.0 };
                samples.add_after(round, 1, took);
            }
        }
        table.ways(&format!("Ways into a container, {what}"));
        let direct = samples[0].summary();
        for (way, samples) in ways.iter().zip(&samples) {
            let result = way.programs[at].as_ref().map(|_| samples.summary()).map_err(Clone::clone);
            table.peer(&format!("{}, {what}", way.name), direct, result);
        }
    }
    Ok(())
}

/// Direct and through bkt by turns.
fn in_turn(rounds: usize, mut one: impl FnMut(usize) -> Result<u64>) -> Result<[Summary; 2]> {
    let mut samples = [Samples::default(), Samples::default()];
    for round in 0..rounds {
        for which in [round % 2, 1 - round % 2] {
            samples[which].add(one(which)?);
        }
    }
    Ok([samples[0].summary(), samples[1].summary()])
}
