//! What instructions for pairs of bfloat16 do, and what products make of it.

use super::*;
use crate::activations::Bf16Activations;
use crate::cache_line::CacheLine;
use crate::dot::bf16::{self, Product, ROWS, Weights};
use crate::matrix::{Out, Rows};
use std::array::from_fn;
use std::marker::PhantomData;

/// Whether this CPU can run the test that calls it.
fn runs(test: &str, needed: bool) -> bool {
    if !needed {
        eprintln!("{test}: skipped: this CPU lacks the instructions");
    }
    needed
}

/// Numbers that look random and are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }
}

/// `x`, or zero of its sign if it is subnormal.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// A step of the instruction: `a b + c` of operands and a result that count as zeros where they are subnormal. The result is subnormal if
/// it were below 2^-126 with an exponent of any size.
fn step(a: f32, b: f32, c: f32) -> f32 {
    let [a, b, c] = [a, b, c].map(flush);
    let sum = a.mul_add(b, c);
    if sum == 0.0 || sum.abs() > f32::MIN_POSITIVE {
        return sum;
    }
    // The sum is tiny, so its terms are small enough to be scaled.
    let scale = 2f32.powi(60);
    let (large, small) = if a.abs() > b.abs() { (a, b) } else { (b, a) };
    let scaled = (small * scale).mul_add(large, c * scale);
    if scaled.abs() < f32::MIN_POSITIVE * scale { 0f32.copysign(sum) } else { sum }
}

/// The numbers in the low and in the high half.
fn halves(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

/// Pairs, pairs, and sums.
type Operands = [[u32; LANES]; 3];

struct Dot<'a>(&'a [Operands], &'a mut [[f32; LANES]]);

impl Job for Dot<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (operands, out) in self.0.iter().zip(self.1) {
            let [a, b, c] = operands.map(|x| simd.load(&x.map(f32::from_bits)));
            simd.store(simd.dot_bf16(a, b, c), out);
        }
    }
}

/// Checks the instruction with numbers that `bits` makes of random ones: pairs, or a sum.
fn check(name: &str, bits: impl Fn(u32, bool) -> u32) {
    let mut random = Random(7);
    for _ in 0..64 {
        let operands: Vec<Operands> =
            (0..512).map(|_| [false, false, true].map(|sum| from_fn(|_| bits(random.next(), sum)))).collect();
        let mut out = vec![[0.0; LANES]; operands.len()];
        Avx512(()).call_bf16(Dot(&operands, &mut out));
        for ([a, b, c], out) in operands.iter().zip(&out) {
            for i in 0..LANES {
                let ([a0, a1], [b0, b1], c) = (halves(a[i]), halves(b[i]), f32::from_bits(c[i]));
                let expected = step(a0, b0, step(a1, b1, c));
                let same = out[i].to_bits() == expected.to_bits() || out[i].is_nan() && expected.is_nan();
                assert!(same, "{name}: {c:e} + {a1:e} * {b1:e} + {a0:e} * {b0:e}: {:e} for {expected:e}", out[i]);
            }
        }
    }
}

/// Both halves of a pair, or the whole of a sum: random bits with an exponent that is `low` or up to `n` more.
fn exponents(pairs: [u32; 2], sums: [u32; 2]) -> impl Fn(u32, bool) -> u32 {
    move |bits, sum| {
        let exponent = |[low, n]: [u32; 2], from: u32| (low + from % n) << 7;
        let half = |bits: u32, range| bits & 0x807f | exponent(range, bits >> 8 & 0x7f);
        if sum {
            half(bits >> 16, sums) << 16 | bits & 0xffff
        } else {
            half(bits >> 16, pairs) << 16 | half(bits & 0xffff, pairs)
        }
    }
}

#[test]
fn pairs_are_two_fused_steps_the_high_half_first() {
    if !runs("pairs_are_two_fused_steps_the_high_half_first", Avx512(()).has_dot_bf16()) {
        return;
    }
    check("any bits", |bits, _| bits);
    check("numbers near one", exponents([125, 4], [125, 4]));
    check("tiny products", exponents([62, 4], [0, 4]));
    check("sums around the smallest normal number", exponents([50, 16], [1, 2]));
    check("subnormal numbers", exponents([0, 1], [0, 2]));
    check("subnormal numbers by large ones", |bits, sum| {
        exponents(if bits & 1 == 0 { [0, 2] } else { [240, 14] }, [0, 2])(bits, sum)
    });
    check("large numbers", exponents([188, 8], [252, 3]));
    check("infinity, NaN and zero", |bits, _| {
        let special = [0x7f80, 0xff80, 0x7fc1, 0x7f81, 0, 0x8000];
        let half = |bits: u32| special.get(bits as usize % 8).copied().unwrap_or(bits & 0xffff);
        half(bits >> 16) << 16 | half(bits & 0xffff)
    });
}

/// The product with `PAIRS` or without, whatever this CPU has.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16,avx2,fma,f16c")]
fn product<W: Weights, const PAIRS: bool>(w: &Rows, x: &Bf16Activations) -> Vec<f32> {
    let mut out = vec![0.0; x.tokens * w.range.len()];
    let mut strip = vec![[CacheLine::ZERO; ROWS]; x.width];
    // SAFETY: the buffer is ours.
    let mut to = unsafe { Out::new(out.as_mut_ptr(), out.len(), w.range.len(), w.range.clone()) };
    let job = Product::<W, PAIRS> { w, x, strip: &mut strip, out: &mut to, format: PhantomData };
    job.run(Avx512(()));
    out
}

#[test]
fn pairs_and_multiply_adds_give_the_same_products() {
    if !runs("pairs_and_multiply_adds_give_the_same_products", (TABLE.supported)() && Avx512(()).has_dot_bf16()) {
        return;
    }
    let mut random = Random(9);
    for (rows, cols, tokens) in [(6, 64, 4), (13, 77, 9), (1, 31, 1), (7, 2048, 5)] {
        // Of any size, and mostly so small that sums of their products would be subnormal if none were taken for zero.
        let mut half = || ((random.next() % 0x8000 * (random.next() % 8) / 8) | (random.next() & 0x8000)) as u16;
        let bytes: Vec<u8> = (0..rows * cols).flat_map(|_| half().to_le_bytes()).collect();
        let width = usize::div_ceil(cols, 32);
        let x: Vec<u16> =
            (0..tokens * width * 32).map(|_| half()).map(|x| if x & 0x7fff < SMALLEST_BF16 { 0 } else { x }).collect();
        let lines: Vec<CacheLine> =
            x.chunks(32).map(|x| bytemuck::pod_read_unaligned(bytemuck::cast_slice(x))).collect();
        let w = Rows { bytes: &bytes, stride: 2 * cols, cols, interleaved: false, tail: &[], range: 0..rows };
        let x = Bf16Activations { lines: &lines, width, tokens, first: 0 };
        // SAFETY: this CPU has the instructions.
        let both = unsafe {
            [
                [product::<bf16::F16, true>(&w, &x), product::<bf16::F16, false>(&w, &x)],
                [product::<bf16::Bf16, true>(&w, &x), product::<bf16::Bf16, false>(&w, &x)],
            ]
        };
        for [pairs, steps] in both {
            assert!(pairs.iter().any(|&x| x.is_finite() && x != 0.0));
            for (a, b) in pairs.iter().zip(&steps) {
                assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{rows}x{cols}: {a:e} and {b:e}");
            }
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_even_on_all_instruction_sets() {
    let mut random = Random(11);
    let chosen = [0, 1, 0x8000, 0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0xffff_ffff];
    let x: Vec<f32> = (0..1 << 20).map(|_| random.next()).chain(chosen).map(f32::from_bits).collect();
    for table in crate::tables() {
        let mut out = vec![CacheLine::ZERO; x.len().div_ceil(32)];
        (table.quantize_bf16)(&x, &mut out);
        let out: &[u16] = bytemuck::cast_slice(&out);
        for (&x, found) in x.iter().zip(out.iter().copied().map(half::bf16::from_bits)) {
            let nearest = half::bf16::from_f32(x);
            let expected = if nearest.to_f32().abs() < 2f32.powi(-56) { half::bf16::ZERO } else { nearest };
            let same = found.to_bits() == expected.to_bits() || x.is_nan() && found.is_nan();
            assert!(same, "{}: {found} for {x:e}", table.name);
        }
    }
}
