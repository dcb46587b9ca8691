//! The same ternary weights by table lookups, as T-MAC and bitnet.cpp's TL1 multiply, and by the products of I2_S: one thread, one token.
//!
//! A lookup finds the sum of two activations, each times -1, 0 or 1, among nine: `pshufb` does so for 32 rows at a time, in two halves of 16 bits.
//! Weights take two bits in both forms. Tables of activations, and their bytes, are made in each run.

use std::hint::black_box;
use std::time::{Duration, Instant};
use trine_kernels::{ActivationLayout, CpuExecutor, Input, Matrix, QuantizedActivations, tables};
use trine_tensor::format::I2_S;

/// The least of many times: what the CPU can do when nothing disturbs it.
fn best(mut run: impl FnMut()) -> Duration {
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}

fn main() {
    println!("weights          by                   ms   G weights/s");
    for side in [1024, 2048, 4096] {
        let trits: Vec<i8> = (0..side * side)
            .map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 9) as u32 % 3)
            .map(|t| t as i8 - 1)
            .collect();
        let x: Vec<f32> = (0..side).map(|i| ((i * 37 % 251) as f32 - 125.0) / 125.0).collect();
        let row = |by: &str, time: Duration| {
            let speed = (side * side) as f64 / time.as_secs_f64() / 1e9;
            println!("{side:4} x {side:4}      {by:16} {:7.3} {speed:13.1}", 1e3 * time.as_secs_f64());
        };
        let mut results: Vec<Vec<f32>> = Vec::new();
        for table in tables().filter(|table| table.name != "scalar") {
            let weights: Vec<f32> = trits.iter().map(|&trit| f32::from(trit)).collect();
            let bytes = I2_S.encode(&weights);
            let mut executor = CpuExecutor::new(table, 1).expect("one thread needs no other");
            let (mut quantized, mut out) = (QuantizedActivations::default(), vec![0.0; side]);
            let time = best(|| {
                executor.quantize(&x, side, ActivationLayout::PerToken, &mut quantized);
                executor.product(Matrix::new(&I2_S, side, side, &bytes), Input::Quantized(&quantized), &mut out);
                black_box(&out);
            });
            row(&format!("I2_S, {}", table.name), time);
            results.push(out);
        }
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            let matrix = lookup::Lookup::new(&trits, side);
            let mut out = vec![0.0; side];
            let time = best(|| {
                // SAFETY: the CPU has AVX2.
                unsafe { matrix.product(&x, &mut out) };
                black_box(&out);
            });
            row("lookups, avx2", time);
            results.push(out);
        }
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * side as f32);
        assert!(results.iter().all(|other| close(&results[0], other)), "both multiply the same");
    }
}

#[cfg(target_arch = "x86_64")]
mod lookup {
    use std::arch::x86_64::*;

    /// Rows that are looked up at once.
    const ROWS: usize = 32;
    /// Pairs of columns whose sums of two bytes each fit into 16 bits.
    const PAIRS: usize = 128;

    /// A ternary matrix as indices of pairs: for 32 rows and a pair of columns, 16 bytes, whose low halves are the first 16 rows.
    pub struct Lookup {
        indices: Vec<u8>,
        side: usize,
    }

    impl Lookup {
        pub fn new(trits: &[i8], side: usize) -> Lookup {
            let mut indices = Vec::with_capacity(side * side / 4);
            for rows in trits.chunks_exact(ROWS * side) {
                for pair in 0..side / 2 {
                    let index = |row: usize| {
                        let [a, b] = [0, 1].map(|i| (rows[row * side + 2 * pair + i] + 1) as u8);
                        3 * a + b
                    };
                    indices.extend((0..16).map(|row| index(row) | index(row + 16) << 4));
                }
            }
            Lookup { indices, side }
        }

        /// Multiplies by a token, which is rounded to bytes.
        ///
        /// # Safety
        /// The CPU has AVX2.
        #[target_feature(enable = "avx2")]
        pub unsafe fn product(&self, x: &[f32], out: &mut [f32]) {
            let largest = x.iter().fold(1e-5f32, |largest, x| largest.max(x.abs()));
            let q: Vec<i16> = x.iter().map(|x| (x * 127.0 / largest).round_ties_even() as i16).collect();
            // The low and the high bytes of the sums of a pair.
            let mut sums = vec![[[0u8; 16]; 2]; q.len() / 2];
            for (sums, q) in sums.iter_mut().zip(q.chunks_exact(2)) {
                for index in 0..9 {
                    let sum = (index as i16 / 3 - 1) * q[0] + (index as i16 % 3 - 1) * q[1];
                    [sums[0][index], sums[1][index]] = sum.to_le_bytes();
                }
            }
            let scale = largest / 127.0;
            for (out, indices) in out.chunks_exact_mut(ROWS).zip(self.indices.chunks_exact(self.side / 2 * 16)) {
                let mut totals = [0i32; ROWS];
                for (sums, indices) in sums.chunks(PAIRS).zip(indices.chunks(PAIRS * 16)) {
                    let low_half = _mm256_set1_epi8(15);
                    let mut parts = [_mm256_setzero_si256(); 4];
                    // Two pairs at once, one in each half of a vector.
                    for (sums, indices) in sums.as_chunks::<2>().0.iter().zip(indices.as_chunks::<32>().0) {
                        // SAFETY: 32 bytes of indices; 16 bytes of each table.
                        let (packed, tables) = unsafe {
                            let table = |byte: usize| {
                                let [a, b] =
                                    [0, 1].map(|pair: usize| _mm_loadu_si128(sums[pair][byte].as_ptr().cast()));
                                _mm256_set_m128i(b, a)
                            };
                            (_mm256_loadu_si256(indices.as_ptr().cast()), [table(0), table(1)])
                        };
                        let first = _mm256_and_si256(packed, low_half);
                        let second = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), low_half);
                        for (i, index) in [first, second].into_iter().enumerate() {
                            let [low, high] = tables.map(|table| _mm256_shuffle_epi8(table, index));
                            parts[2 * i] = _mm256_add_epi16(parts[2 * i], _mm256_unpacklo_epi8(low, high));
                            parts[2 * i + 1] = _mm256_add_epi16(parts[2 * i + 1], _mm256_unpackhi_epi8(low, high));
                        }
                    }
                    for (part, totals) in parts.into_iter().zip(totals.chunks_exact_mut(8)) {
                        let mut sums = [0i16; 16];
                        // SAFETY: 32 bytes.
                        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), part) };
                        for (i, total) in totals.iter_mut().enumerate() {
                            *total += i32::from(sums[i]) + i32::from(sums[i + 8]);
                        }
                    }
                }
                out.iter_mut().zip(totals).for_each(|(out, total)| *out = total as f32 * scale);
            }
        }
    }
}
