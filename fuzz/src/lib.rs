//! What the fuzz targets share. Each target starts with the rule that it holds its input against.

use std::fs;
use std::path::Path;

/// Writes a target's first inputs to the corpus directory that `FUZZ_SEEDS` names, if it names one. libFuzzer reads it afterwards.
pub fn seed(inputs: &[Vec<u8>]) {
    let Some(directory) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (at, input) in inputs.iter().enumerate() {
        fs::write(Path::new(&directory).join(format!("seed-{at}")), input).expect("the corpus directory is there and can be written");
    }
}

/// Takes input apart, byte by byte; gives zeros once it is used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Up to so many bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
