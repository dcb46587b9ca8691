//! Frequencies of rotary positions.

use crate::Pairs;

/// Rotary position embedding: how fast each pair of a head turns.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Radians per position of each pair.
    pub frequencies: Vec<f64>,
    /// Cosines and sines are multiplied by this (YaRN's attention factor).
    pub magnitude: f64,
    /// Which numbers form a pair.
    pub pairs: Pairs,
    /// Numbers of a head; those behind the last pair do not turn.
    pub head_dim: usize,
}

impl Rope {
    /// Cosine and sine of each pair at a position, in double precision and by a library in plain Rust: the same bits everywhere.
    pub fn angles(&self, position: usize) -> impl Iterator<Item = [f32; 2]> {
        self.frequencies.iter().map(move |frequency| {
            let (sin, cos) = libm::sincos(position as f64 * frequency);
            [(cos * self.magnitude) as f32, (sin * self.magnitude) as f32]
        })
    }
}
