//! What was measured, for people and as JSON.

use super::Result;
use super::place::{BKT, Memory, Place};
use super::stats::{Summary, us};
use std::fmt;
use std::time::Duration;

/// The lines of the table and the members of the JSON object, in the same order.
pub struct Table {
    lines: Vec<String>,
    json: Vec<String>,
    peers: Vec<String>,
}

const HEAD: &str = "                                              direct       through bkt    ratio   difference   to reach";

impl Table {
    pub fn new(rounds: usize, place: &Place) -> Table {
        let about = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, |n| n.get());
        let size = std::fs::metadata(BKT).map_or(0, |m| m.len());
        let lines = vec![
            format!("bkt {}, Linux {}, {processors} processors, {rounds} rounds by turns; medians, in brackets the 10th and 90th of 100", env!("CARGO_PKG_VERSION"), about.trim()),
            place.note.clone(),
            String::new(),
            HEAD.to_string(),
        ];
        let json = vec![
            format!(r#""version": "{}", "kernel": "{}", "processors": {processors}, "rounds": {rounds}"#, env!("CARGO_PKG_VERSION"), about.trim()),
            format!(r#""setting": "{}""#, place.note.replace(['"', '\\'], "'")),
            format!(r#""binary_bytes": {size}"#),
        ];
        Table { lines, json, peers: vec![] }
    }

    /// A start: microseconds.
    pub fn latency(&mut self, name: &str, direct: Summary, bkt: Summary, goal: &str) {
        self.row(name, direct, bkt, goal, |s| format!("{:.0} µs", us(s)));
    }

    /// Something long: milliseconds, and how many bytes that is a second.
    pub fn bulk(&mut self, name: &str, bytes: u64, direct: Summary, bkt: Summary, goal: &str) {
        self.row(name, direct, bkt, goal, |s| format!("{:.1} ms", us(s) / 1000.0));
        if bytes > 0 {
            let rate = |s: Summary| bytes as f64 / us(s.median) / 1.048_576;
            self.lines.push(format!("{:40} {:>7.0} MiB/s {:>11.0} MiB/s", "", rate(direct), rate(bkt)));
        }
    }

    fn row(&mut self, name: &str, direct: Summary, bkt: Summary, goal: &str, show: impl Fn(u64) -> String) {
        let ratio = bkt.median as f64 / direct.median.max(1) as f64;
        let difference = us(bkt.median) - us(direct.median);
        self.lines.push(format!("{name:40} {:>13} {:>17} {ratio:>8.2} {difference:>+9.0} µs   {goal}", show(direct.median), show(bkt.median)));
        let range = |s: Summary| format!("[{} – {}]", show(s.p10), show(s.p90));
        self.lines.push(format!("{:>54} {:>23}", range(direct), range(bkt)));
        self.json.push(format!(
            r#""{name}": {{ "direct": {}, "bkt": {}, "ratio": {ratio:.3}, "difference_us": {difference:.1}, "to_reach": "{goal}" }}"#,
            json_of(direct),
            json_of(bkt)
        ));
    }

    /// A number that has nothing to stand beside.
    pub fn note(&mut self, name: &str, what: Summary) {
        self.lines.push(format!("{name:40} {:>28.0} µs", us(what.median)));
        self.json.push(format!(r#""{name}": {}"#, json_of(what)));
    }

    /// What the next peers are compared in.
    pub fn ways(&mut self, title: &str) {
        self.lines.extend([String::new(), format!("{title:48} median                       ratio   difference   runs")]);
    }

    pub fn peer(&mut self, name: &str, direct: Summary, result: Result<Summary>) {
        match result {
            Ok(s) => {
                let ratio = s.median as f64 / direct.median.max(1) as f64;
                let (range, difference) = (format!("[{:.0} – {:.0}]", us(s.p10), us(s.p90)), us(s.median) - us(direct.median));
                self.lines.push(format!("{name:40} {:>10.0} µs {range:>20} {ratio:>9.2} {difference:>+9.0} µs   {}", us(s.median), s.count));
                self.peers.push(format!(r#""{name}": {{ "time": {}, "ratio": {ratio:.3}, "difference_us": {difference:.1} }}"#, json_of(s)));
            }
            Err(why) => {
                self.lines.push(format!("{name:40} {why}"));
                self.peers.push(format!(r#""{name}": "{}""#, why.replace(['"', '\\', '\n'], "'")));
            }
        }
    }

    pub fn daemon(&mut self, fresh: Memory, after: Memory, (wakes, watched): (u64, Duration)) {
        let size = std::fs::metadata(BKT).map_or(0, |m| m.len());
        let memory = |m: Memory| format!("{} KiB resident ({} KiB of it its own)", m.resident, m.anonymous);
        self.lines.extend([
            String::new(),
            format!("idle daemon: {wakes} wake-ups in {} s (to reach: 0)", watched.as_secs()),
            format!("             {} when new, {} after all this (to reach: ≤ 1024 KiB)", memory(fresh), memory(after)),
            format!("binary:      {size} bytes (to reach: ≤ 600 KB)"),
        ]);
        let memory = |m: Memory| format!(r#"{{ "resident_kib": {}, "anonymous_kib": {} }}"#, m.resident, m.anonymous);
        self.json.push(format!(r#""idle": {{ "wake_ups": {wakes}, "seconds": {}, "new": {}, "after": {} }}"#, watched.as_secs(), memory(fresh), memory(after)));
    }

    pub fn json(&self) -> String {
        format!("{{\n  {},\n  \"peers\": {{\n    {}\n  }}\n}}\n", self.json.join(",\n  "), self.peers.join(",\n    "))
    }
}

fn json_of(s: Summary) -> String {
    format!(r#"{{ "median_us": {:.1}, "p10_us": {:.1}, "p90_us": {:.1}, "runs": {} }}"#, us(s.median), us(s.p10), us(s.p90), s.count)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}
