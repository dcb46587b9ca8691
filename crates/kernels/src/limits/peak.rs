//! Peak speed of multiplications whose operands are in registers or the first-level cache.

use super::together;
use crate::Table;
use std::hint::black_box;

/// Runs of which the best counts: other work on the machine only makes them slower.
const RUNS: usize = 5;
/// Multiply-adds of a thread in one run, about: some 20 ms on a fast core, and 100 times fewer without optimisation.
const WORK: u64 = if cfg!(debug_assertions) { 1 << 25 } else { 1 << 32 };

/// Peak operations per second; a multiplication and an addition count as two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Products of bytes, summed in integers.
    pub int8: f64,
    /// Multiply-adds of single precision.
    pub f32: f64,
    /// Products of bfloat16, summed in single precision; `None` where there are no instructions for them.
    pub bf16: Option<f64>,
}

impl Peaks {
    /// The larger of each.
    pub fn max(self, other: Peaks) -> Peaks {
        let bf16 = self.bf16.zip(other.bf16).map(|(a, b)| a.max(b));
        Peaks { int8: self.int8.max(other.int8), f32: self.f32.max(other.f32), bf16 }
    }
}

/// A loop of multiply-adds of ones.
#[derive(Clone, Copy)]
struct Kernel {
    /// Multiply-adds of a round.
    width: u64,
    /// Takes the number of rounds and returns the sum of all products.
    run: fn(u64) -> u64,
}

/// The peaks of `threads` threads with the instructions of a table, bound round-robin to `cpus` if there are any.
///
/// # Panics
/// When a result is wrong.
pub fn peaks(table: &Table, threads: usize, cpus: &[usize]) -> Peaks {
    let [int8, f32] = kernels(table);
    let bf16 = bf16(table).map(|kernel| peak(kernel, threads, cpus, WORK / 2));
    Peaks { int8: peak(int8, threads, cpus, WORK), f32: peak(f32, threads, cpus, WORK / 4), bf16 }
}

fn peak(kernel: Kernel, threads: usize, cpus: &[usize], work: u64) -> f64 {
    // Whole passages of 64 rounds, and sums that single precision holds exactly.
    let rounds = (work / kernel.width / 64 * 64).clamp(64, 1 << 24);
    let run = || {
        let (seconds, sums) = together(threads.max(1), cpus, &|_| (kernel.run)(rounds));
        assert!(sums.iter().all(|&sum| sum == rounds * kernel.width), "{sums:?} multiply-adds of {rounds} rounds");
        (2 * rounds * kernel.width * sums.len() as u64) as f64 / seconds
    };
    (0..RUNS).map(|_| run()).fold(0.0, f64::max)
}

/// The loops for bytes and for floats.
fn kernels(table: &Table) -> [Kernel; 2] {
    match table.name {
        #[cfg(target_arch = "x86_64")]
        "avx512" => x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        "avxvnni" => x86::AVX_VNNI,
        #[cfg(target_arch = "x86_64")]
        "avx2" => x86::AVX2,
        #[cfg(target_arch = "x86_64")]
        "sse4.1" => [x86::SSE41, PLAIN[1]],
        #[cfg(target_arch = "aarch64")]
        "i8mm" | "dotprod" => [arm::SDOT, arm::FMLA],
        #[cfg(target_arch = "aarch64")]
        "neon" => [PLAIN[0], arm::FMLA],
        _ => PLAIN,
    }
}

/// The loop for pairs of bfloat16.
fn bf16(table: &Table) -> Option<Kernel> {
    match table.name {
        #[cfg(target_arch = "x86_64")]
        "avx512" if is_x86_feature_detected!("avx512bf16") => Some(x86::BF16),
        _ => None,
    }
}

/// As the compiler vectorizes plain code.
const PLAIN: [Kernel; 2] = [Kernel { width: 1024, run: int8 }, Kernel { width: LANES as u64, run: f32 }];

fn int8(rounds: u64) -> u64 {
    let (u, s) = (black_box([1u8; 1024]), black_box([1i8; 1024]));
    let dot = |u: &[u8; 1024], s: &[i8; 1024]| u.iter().zip(s).map(|(&u, &s)| i32::from(u) * i32::from(s)).sum::<i32>();
    (0..rounds).map(|_| dot(black_box(&u), black_box(&s)) as u64).sum()
}

fn f32(rounds: u64) -> u64 {
    let (mut sums, one) = ([0f32; LANES], black_box([1f32; LANES]));
    for _ in 0..rounds {
        for (sum, one) in sums.iter_mut().zip(&one) {
            *sum = *sum * one + one;
        }
    }
    sums.iter().map(|&sum| sum as u64).sum()
}

/// Sums of [`f32`] that do not wait for each other: 8 registers of 4.
const LANES: usize = 32;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, black_box};
    use core::arch::{asm, x86_64::*};
    use core::mem::transmute;

    /// Sums that do not wait for each other: more than any core's latency times its multipliers.
    const SUMS: usize = 12;

    pub const AVX512: [Kernel; 2] = [
        // SAFETY: the table is reached only where the CPU has its instructions.
        Kernel { width: 64 * SUMS as u64, run: |rounds| unsafe { dpbusd(rounds) } },
        // SAFETY: the table is reached only where the CPU has its instructions.
        Kernel { width: 16 * SUMS as u64, run: |rounds| unsafe { fma512(rounds) } },
    ];
    // SAFETY: used only where the CPU has the instructions.
    pub const BF16: Kernel = Kernel { width: 32 * SUMS as u64, run: |rounds| unsafe { dpbf16(rounds) } };
    const FMA256: Kernel =
        // SAFETY: the table is reached only where the CPU has its instructions.
        Kernel { width: 8 * SUMS as u64, run: |rounds| unsafe { fma256(rounds) } };
    pub const AVX_VNNI: [Kernel; 2] = [
        // SAFETY: the table is reached only where the CPU has its instructions.
        Kernel { width: 32 * SUMS as u64, run: |rounds| unsafe { dpbusd256(rounds) } },
        FMA256,
    ];
    pub const AVX2: [Kernel; 2] = [
        // SAFETY: the table is reached only where the CPU has its instructions.
        Kernel { width: 32 * MADDS as u64, run: |rounds| unsafe { maddubs256(rounds) } },
        FMA256,
    ];
    pub const SSE41: Kernel =
        // SAFETY: the table is reached only where the CPU has its instructions.
        Kernel { width: 16 * MADDS as u64, run: |rounds| unsafe { maddubs128(rounds) } };

    macro_rules! dpbusd {
        ($name:ident, $features:literal, $lanes:literal, $splat:ident, $zero:ident, $dpbusd:ident) => {
            #[target_feature(enable = $features)]
            fn $name(rounds: u64) -> u64 {
                let ones = black_box($splat(1));
                let mut sums = [$zero(); SUMS];
                for _ in 0..rounds {
                    sums.iter_mut().for_each(|sum| *sum = $dpbusd(*sum, ones, ones));
                }
                // SAFETY: both are integers of the same size.
                let lanes: [[u32; $lanes]; SUMS] = unsafe { transmute(sums) };
                lanes.as_flattened().iter().map(|&lane| u64::from(lane)).sum()
            }
        };
    }
    dpbusd!(dpbusd, "avx512f,avx512vnni", 16, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_dpbusd_epi32);
    dpbusd!(dpbusd256, "avx2,avxvnni", 8, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_dpbusd_avx_epi32);

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dpbf16(rounds: u64) -> u64 {
        // SAFETY: both are 64 bytes.
        let ones: __m512bh = unsafe { transmute(black_box(_mm512_set1_epi16(0x3f80))) };
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|sum| *sum = _mm512_dpbf16_ps(*sum, ones, ones));
        }
        // SAFETY: both are 64 bytes of floats.
        let lanes: [[f32; 16]; SUMS] = unsafe { transmute(sums) };
        lanes.as_flattened().iter().map(|&lane| lane as u64).sum()
    }

    #[target_feature(enable = "avx512f")]
    fn fma512(rounds: u64) -> u64 {
        let one = black_box(_mm512_set1_ps(1.0));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(one, one, *sum));
        }
        // SAFETY: both are 64 bytes of floats.
        let lanes: [[f32; 16]; SUMS] = unsafe { transmute(sums) };
        lanes.as_flattened().iter().map(|&lane| lane as u64).sum()
    }

    /// Sums of `maddubs`; the factors of each need a register, too, and there are 16.
    const MADDS: usize = 6;

    /// Pairs of products added in 16 bits, 64 times, before they are widened: the fastest way that bounded bytes have.
    macro_rules! maddubs {
        ($name:ident, $features:literal, $register:ident, $lanes:literal, $splat:ident, $splat16:ident, $zero:ident,
            $add16:ident, $add32:ident, $maddubs:ident, $madd:ident) => {
            #[target_feature(enable = $features)]
            fn $name(rounds: u64) -> u64 {
                let factors = black_box([$splat(1); MADDS]);
                let mut other = factors[0];
                let ones = $splat16(1);
                let mut total = 0;
                let mut left = rounds;
                while left > 0 {
                    let passage = left.min(1 << 16);
                    let mut wide = [$zero(); MADDS];
                    for _ in 0..passage / 64 {
                        let mut sums = [$zero(); MADDS];
                        for _ in 0..64 {
                            // Products of the same operands would be taken out of the loop.
                            // SAFETY: there are no instructions; the compiler takes the register for changed.
                            unsafe {
                                asm!("/* {0} */", inout($register) other, options(nomem, nostack, preserves_flags))
                            };
                            for (sum, factor) in sums.iter_mut().zip(factors) {
                                *sum = $add16(*sum, $maddubs(factor, other));
                            }
                        }
                        for (wide, sum) in wide.iter_mut().zip(sums) {
                            *wide = $add32(*wide, $madd(sum, ones));
                        }
                    }
                    // SAFETY: both are integers of the same size.
                    let lanes: [[u32; $lanes]; MADDS] = unsafe { transmute(wide) };
                    total += lanes.as_flattened().iter().map(|&lane| u64::from(lane)).sum::<u64>();
                    left -= passage;
                }
                total
            }
        };
    }
    maddubs!(
        maddubs256,
        "avx2",
        ymm_reg,
        8,
        _mm256_set1_epi8,
        _mm256_set1_epi16,
        _mm256_setzero_si256,
        _mm256_add_epi16,
        _mm256_add_epi32,
        _mm256_maddubs_epi16,
        _mm256_madd_epi16
    );
    maddubs!(
        maddubs128,
        "ssse3",
        xmm_reg,
        4,
        _mm_set1_epi8,
        _mm_set1_epi16,
        _mm_setzero_si128,
        _mm_add_epi16,
        _mm_add_epi32,
        _mm_maddubs_epi16,
        _mm_madd_epi16
    );

    #[target_feature(enable = "avx2,fma")]
    fn fma256(rounds: u64) -> u64 {
        let one = black_box(_mm256_set1_ps(1.0));
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|sum| *sum = _mm256_fmadd_ps(one, one, *sum));
        }
        // SAFETY: both are 32 bytes of floats.
        let lanes: [[f32; 8]; SUMS] = unsafe { transmute(sums) };
        lanes.as_flattened().iter().map(|&lane| lane as u64).sum()
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Kernel, black_box};
    use core::arch::{aarch64::*, asm};
    use core::mem::transmute;

    /// Sums that do not wait for each other: more than any core's latency times its multipliers.
    const SUMS: usize = 24;

    // SAFETY: the table is reached only where the CPU has its instructions.
    pub const SDOT: Kernel = Kernel { width: 16 * SUMS as u64, run: |rounds| unsafe { sdot(rounds) } };
    pub const FMLA: Kernel = Kernel { width: 4 * SUMS as u64, run: fmla };

    #[target_feature(enable = "neon,dotprod")]
    fn sdot(rounds: u64) -> u64 {
        let ones = black_box(vdupq_n_s8(1));
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // SAFETY: it touches these registers only; stable Rust has no name for the instruction.
                unsafe {
                    asm!("sdot {sum:v}.4s, {ones:v}.16b, {ones:v}.16b", sum = inout(vreg) *sum, ones = in(vreg) ones,
                        options(pure, nomem, nostack, preserves_flags));
                }
            }
        }
        // SAFETY: both are 16 bytes of integers.
        let lanes: [[u32; 4]; SUMS] = unsafe { transmute(sums) };
        lanes.as_flattened().iter().map(|&lane| u64::from(lane)).sum()
    }

    fn fmla(rounds: u64) -> u64 {
        // SAFETY: what this target's every CPU has.
        unsafe {
            let one = black_box(vdupq_n_f32(1.0));
            let mut sums = [vdupq_n_f32(0.0); SUMS];
            for _ in 0..rounds {
                sums.iter_mut().for_each(|sum| *sum = vfmaq_f32(*sum, one, one));
            }
            // SAFETY: both are 16 bytes of floats.
            let lanes: [[f32; 4]; SUMS] = transmute(sums);
            lanes.as_flattened().iter().map(|&lane| lane as u64).sum()
        }
    }
}
