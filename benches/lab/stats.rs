//! Samples of a duration in nanoseconds, and what is said of them.

/// Measured durations.
#[derive(Default)]
pub struct Samples(Vec<u64>);

/// Median and the tenths that were faster and slower, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub struct Summary {
    pub median: u64,
    pub p10: u64,
    pub p90: u64,
    pub count: usize,
}

impl Samples {
    pub fn add(&mut self, ns: u64) {
        self.0.push(ns);
    }

    /// Leaves out the first rounds.
    pub fn add_after(&mut self, round: usize, warm_up: usize, ns: u64) {
        if round >= warm_up {
            self.add(ns);
        }
    }

    /// All of them together.
    pub fn spent(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
        Summary { median: at(50), p10: at(10), p90: at(90), count: sorted.len() }
    }
}

/// Microseconds.
pub fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}
