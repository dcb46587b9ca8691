//! Random numbers that depend on nothing but the seed and the position.

/// SplitMix64's output function (Steele, Lea, Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in `[0, 1)`: that of the position in the SplitMix64 sequence that starts at the mixed seed.
pub(crate) fn uniform(seed: u64, position: usize) -> f64 {
    let counter = (position as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mix(mix(seed).wrapping_add(counter)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 1234567 of the generator's published C code.
    #[test]
    fn mix_is_splitmix64() {
        let output = |i: u64| mix(1_234_567_u64.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        assert_eq!([1, 2, 3].map(output), [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }
}
