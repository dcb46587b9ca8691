//! Frequencies of rotary positions.

use crate::RopeLayout;

/// Rotary position embedding (RoPE, arXiv:2104.09864): the frequency of each pair of a head.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Radians per position of each pair.
    pub frequencies: Vec<f64>,
    /// Cosines and sines are multiplied by this (YaRN's attention factor).
    pub magnitude: f64,
    /// And by this, which grows with the position.
    pub temperature: Option<Temperature>,
    /// Which numbers form a pair.
    pub pairs: RopeLayout,
    /// Elements of a head; those after the last pair are not rotated.
    pub head_dim: usize,
}

/// The temperature of attention at far positions, as Llama 4 has it: `1 + scale ln(1 + floor(position / length))`.
#[derive(Clone, Copy, Debug)]
pub struct Temperature {
    pub scale: f64,
    /// Positions before it begins to grow.
    pub length: usize,
}

impl Temperature {
    fn at(&self, position: usize) -> f64 {
        1.0 + self.scale * libm::log((1 + position / self.length) as f64)
    }
}

impl Rope {
    /// Cosine and sine of each pair at a position, in double precision and by a library in plain Rust: the same bits everywhere.
    pub fn angles(&self, position: usize) -> impl Iterator<Item = [f32; 2]> {
        let magnitude = self.magnitude * self.temperature.map_or(1.0, |temperature| temperature.at(position));
        self.frequencies.iter().map(move |frequency| {
            let (sin, cos) = libm::sincos(position as f64 * frequency);
            [(cos * magnitude) as f32, (sin * magnitude) as f32]
        })
    }
}
