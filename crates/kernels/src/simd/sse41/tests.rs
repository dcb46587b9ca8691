//! What other instruction sets have instructions for, compared with plain Rust.

use super::*;
use half::f16;

/// Random numbers by xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    /// Any bits, or numbers near enough to each other that sums are rounded.
    fn float(&mut self) -> f32 {
        let bits = self.next();
        match self.next() % 4 {
            0 => f32::from_bits(bits),
            1 => f32::from_bits(bits & 0x80ff_ffff),
            2 => f32::from_bits((bits & 0x807f_f000) | 0x3f80_0000),
            _ => f32::from_bits((bits & 0x81ff_ffff) | 0x3e00_0000),
        }
    }
}

fn assert_same(got: f32, expected: f32, of: impl std::fmt::Debug) {
    assert!(
        got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
        "{of:?}: {got:e}, not {expected:e}"
    );
}

#[target_feature(enable = "sse4.1,ssse3")]
fn multiply_add(a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
    let (simd, mut out) = (Sse41(()), [0.0; LANES]);
    simd.store(simd.fma(simd.load(a), simd.load(b), simd.load(c)), &mut out);
    out
}

#[target_feature(enable = "sse4.1,ssse3")]
fn f16s(bytes: &[u8]) -> [f32; LANES] {
    let (simd, mut out) = (Sse41(()), [0.0; LANES]);
    simd.store(simd.load_f16(bytes), &mut out);
    out
}

#[test]
fn multiply_adds_are_rounded_once() {
    if !(is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")) {
        return eprintln!("skipped: this CPU lacks SSE4.1");
    }
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..200_000 {
        let (a, b) = ([0; LANES].map(|_| random.float()), [0; LANES].map(|_| random.float()));
        let mut c = [0; LANES].map(|_| random.float());
        for i in 0..LANES {
            // Sums that cancel, and those just beside halves of the last place.
            match random.next() % 4 {
                0 => c[i] = -(a[i] * b[i]),
                1 => c[i] = f32::from_bits((a[i] * b[i] * 16_777_216.0).to_bits() ^ (random.next() % 2)),
                2 => c[i] = f32::from_bits((a[i] * b[i] / 16_777_216.0).to_bits() ^ (random.next() << 31)),
                _ => {}
            }
        }
        // SAFETY: the CPU has the instructions.
        let got = unsafe { multiply_add(&a, &b, &c) };
        for i in 0..LANES {
            assert_same(got[i], a[i].mul_add(b[i], c[i]), (a[i], b[i], c[i]));
        }
    }
}

#[test]
fn half_precision_is_widened() {
    if !(is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")) {
        return eprintln!("skipped: this CPU lacks SSE4.1");
    }
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for words in all.as_chunks::<LANES>().0 {
        let bytes = words.map(u16::to_le_bytes);
        // SAFETY: the CPU has the instructions.
        let got = unsafe { f16s(bytes.as_flattened()) };
        for (got, &word) in got.into_iter().zip(words) {
            assert_same(got, f16::from_bits(word).to_f32(), word);
        }
    }
}
