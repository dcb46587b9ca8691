//! x86-64 with SSE4.1 and SSSE3, which CPUs from 2008 on have: four registers for everything. They have neither fused multiply-adds nor
//! half-precision floats, which are made of other instructions here, to the same bits.

use super::bytes::{bit_masks, bit_sources};
use super::{BYTES, Job, LANES, SMALLEST_BF16, Simd, SimdBytes, SimdF32, SimdI32};
use core::arch::x86_64::*;

#[cfg(test)]
mod tests;

/// Only built inside the `target_feature` functions of this file's table.
#[derive(Clone, Copy)]
pub(crate) struct Sse41(());

table!(Sse41(()), "sse4.1", features: "sse4.1,ssse3",
    supported: is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3"));

// SAFETY (all blocks below): `Sse41` exists only where the CPU has the instructions, and every pointer comes from a slice that was
// just cut to the length that is read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SimdF32 for Sse41 {
    type F = [__m128; 4];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [unsafe { _mm_set1_ps(x) }; 4]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        let x = x[..LANES].as_ptr();
        unsafe { [_mm_loadu_ps(x), _mm_loadu_ps(x.add(4)), _mm_loadu_ps(x.add(8)), _mm_loadu_ps(x.add(12))] }
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32]) {
        let out = out[..LANES].as_mut_ptr();
        unsafe {
            _mm_storeu_ps(out, x[0]);
            _mm_storeu_ps(out.add(4), x[1]);
            _mm_storeu_ps(out.add(8), x[2]);
            _mm_storeu_ps(out.add(12), x[3]);
        }
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        let x = self.load_bytes(bytes.first_chunk().expect("16 floats"));
        quarters!(|x| unsafe { _mm_castsi128_ps(x) })
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        let x = words(bytes);
        quarters!(|x| unsafe { widen_f16(x) })
    }
    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        let x = words(bytes);
        quarters!(|x| unsafe { _mm_castsi128_ps(_mm_slli_epi32(x, 16)) })
    }
    #[inline(always)]
    fn unpack_bf16(self, a: Self::F) -> [Self::F; 2] {
        [
            quarters!(|a| unsafe { _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(a), 16)) }),
            quarters!(|a| unsafe { _mm_and_ps(a, _mm_castsi128_ps(_mm_set1_epi32(-0x1_0000))) }),
        ]
    }
    #[inline(always)]
    fn pack_bf16(self, a: [Self::F; 2]) -> Self::F {
        let round = |x: __m128| unsafe {
            let bits = _mm_castps_si128(x);
            let odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
            let near = _mm_add_epi32(_mm_add_epi32(bits, _mm_set1_epi32(0x7fff)), odd);
            let quiet = _mm_or_si128(bits, _mm_set1_epi32(1 << 22));
            let nan = _mm_castps_si128(_mm_cmpunord_ps(x, x));
            _mm_srli_epi32(_mm_blendv_epi8(near, quiet, nan), 16)
        };
        let [a, b] = a;
        let pairs = [[a[0], a[1]], [a[2], a[3]], [b[0], b[1]], [b[2], b[3]]];
        quarters!(|pairs| unsafe { _mm_castsi128_ps(_mm_packus_epi32(round(pairs[0]), round(pairs[1]))) })
    }
    #[inline(always)]
    fn flush_bf16(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe {
            let size = _mm_and_si128(_mm_castps_si128(a), _mm_set1_epi16(0x7fff));
            let kept = _mm_cmpgt_epi16(size, _mm_set1_epi16(SMALLEST_BF16 as i16 - 1));
            _mm_and_ps(a, _mm_castsi128_ps(kept))
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { _mm_add_ps(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { _mm_sub_ps(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { _mm_mul_ps(a, b) })
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { _mm_div_ps(a, b) })
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        quarters!(|a, b, c| unsafe { fma(a, b, c) })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { _mm_max_ps(a, b) })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { _mm_min_ps(a, b) })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe { _mm_sqrt_ps(a) })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe { _mm_andnot_ps(_mm_set1_ps(-0.0), a) })
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        quarters!(|a| unsafe { _mm_round_ps(a, NEAREST) })
    }
    #[inline(always)]
    fn exp2(self, n: Self::F) -> Self::F {
        quarters!(|n| unsafe {
            let biased = _mm_add_epi32(_mm_cvtps_epi32(n), _mm_set1_epi32(127));
            _mm_castsi128_ps(_mm_slli_epi32(biased, 23))
        })
    }
    #[inline(always)]
    fn store_i8(self, a: Self::F, out: &mut [i8]) {
        let out = out[..LANES].as_mut_ptr().cast::<__m128i>();
        unsafe {
            let [a, b, c, d] = quarters!(|a| _mm_cvtps_epi32(a));
            _mm_storeu_si128(out, _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
        }
    }
    #[inline(always)]
    fn reduce_max(self, [a, b, c, d]: Self::F) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm_max_ps(a, c), _mm_max_ps(b, d));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn reduce_sum(self, [a, b, c, d]: Self::F) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let x = [x, _mm_srli_si128(x, 4), _mm_srli_si128(x, 8), _mm_srli_si128(x, 12)];
            quarters!(|x| _mm_cvtepi32_ps(_mm_cvtepi8_epi32(x)))
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl SimdBytes for Sse41 {
    type B = [__m128i; 4];

    #[inline(always)]
    fn load_bytes(self, x: &[u8; BYTES]) -> Self::B {
        let x = x.as_chunks::<16>().0;
        quarters!(|x| unsafe { _mm_loadu_si128(x.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_halves(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B {
        let (low, high) = (low.as_chunks::<16>().0, high.as_chunks::<16>().0);
        self.load_quarters([&low[0], &low[1], &high[0], &high[1]])
    }
    #[inline(always)]
    fn load_quarters(self, x: [&[u8; 16]; 4]) -> Self::B {
        quarters!(|x| unsafe { _mm_loadu_si128(x.as_ptr().cast()) })
    }
    #[inline(always)]
    fn splat_i8x4(self, x: &[i8; 4]) -> Self::B {
        [unsafe { _mm_set1_epi32(i32::from_le_bytes(*bytemuck::cast_ref(x))) }; 4]
    }
    #[inline(always)]
    fn splat_u8(self, x: u8) -> Self::B {
        [unsafe { _mm_set1_epi8(x as i8) }; 4]
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]) {
        let out = out.as_chunks_mut::<16>().0;
        for (out, a) in out.iter_mut().zip(a) {
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), a) }
        }
    }
    #[inline(always)]
    fn shr_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        quarters!(|a| unsafe {
            _mm_and_si128(_mm_srl_epi16(a, _mm_cvtsi32_si128(n as i32)), _mm_set1_epi8(mask as i8))
        })
    }
    #[inline(always)]
    fn shl_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        quarters!(|a| unsafe {
            _mm_and_si128(_mm_sll_epi16(a, _mm_cvtsi32_si128(n as i32)), _mm_set1_epi8(mask as i8))
        })
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        quarters!(|a, b| unsafe { _mm_or_si128(a, b) })
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], a: Self::B) -> Self::B {
        let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
        quarters!(|a| unsafe { _mm_shuffle_epi8(table, a) })
    }
    #[inline(always)]
    fn expand_bits(self, a: Self::B, n: u32, value: u8) -> Self::B {
        let (byte, bit) = (self.load_quarters([&bit_sources(n); 4])[0], self.splat_i8x4(&bit_masks(n))[0]);
        quarters!(|a| unsafe {
            let set = _mm_cmpeq_epi8(_mm_and_si128(_mm_shuffle_epi8(a, byte), bit), bit);
            _mm_and_si128(set, _mm_set1_epi8(value as i8))
        })
    }
    #[inline(always)]
    fn bit_fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B {
        let mut fields = self.splat_u8(0);
        for j in 0..4 {
            // Up and down again, so that a field of any place comes to its byte.
            let (up, down) = ((8 * j as u32).saturating_sub(at[j]), at[j].saturating_sub(8 * j as u32));
            let mask = (u32::from(mask[j]) << (8 * j)) as i32;
            let field = quarters!(|a| unsafe {
                let there = _mm_sll_epi32(a, _mm_cvtsi32_si128(up as i32));
                let there = _mm_srl_epi32(there, _mm_cvtsi32_si128(down as i32));
                _mm_and_si128(there, _mm_set1_epi32(mask))
            });
            fields = self.or(fields, field);
        }
        fields
    }
    #[inline(always)]
    fn trits(self, a: Self::B) -> [Self::B; 5] {
        let (mut trits, mut rest) = ([a; 5], a);
        for trit in &mut trits {
            *trit = quarters!(|rest| unsafe {
                // A third of 256 and two thirds: how many of them the byte has passed.
                let one = _mm_set1_epi8(1);
                let first = _mm_min_epu8(_mm_subs_epu8(rest, _mm_set1_epi8(85)), one);
                let second = _mm_min_epu8(_mm_subs_epu8(rest, _mm_set1_epi8(170u8 as i8)), one);
                _mm_add_epi8(first, second)
            });
            rest = quarters!(|rest| unsafe { _mm_add_epi8(_mm_add_epi8(rest, rest), rest) });
        }
        trits
    }
    #[inline(always)]
    fn transpose8(self, [a, b, c, d, e, f, g, h]: [Self::B; 8]) -> [Self::B; 8] {
        // Registers of rows 0..8: groups 0..4, groups 4..8, and the same of rows 8..16.
        let (top, bottom) = (self.transpose4([a, b, c, d]), self.transpose4([e, f, g, h]));
        let mut columns = [a; 8];
        for c in 0..4 {
            columns[c] = [top[c][0], bottom[c][0], top[c][2], bottom[c][2]];
            columns[c + 4] = [top[c][1], bottom[c][1], top[c][3], bottom[c][3]];
        }
        columns
    }
    #[inline(always)]
    fn transpose4(self, [e, f, g, h]: [Self::B; 4]) -> [Self::B; 4] {
        let (a, b) = (
            quarters!(|e, f| unsafe { _mm_unpacklo_epi32(e, f) }),
            quarters!(|g, h| unsafe { _mm_unpacklo_epi32(g, h) }),
        );
        let (c, d) = (
            quarters!(|e, f| unsafe { _mm_unpackhi_epi32(e, f) }),
            quarters!(|g, h| unsafe { _mm_unpackhi_epi32(g, h) }),
        );
        [
            quarters!(|a, b| unsafe { _mm_unpacklo_epi64(a, b) }),
            quarters!(|a, b| unsafe { _mm_unpackhi_epi64(a, b) }),
            quarters!(|c, d| unsafe { _mm_unpacklo_epi64(c, d) }),
            quarters!(|c, d| unsafe { _mm_unpackhi_epi64(c, d) }),
        ]
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl SimdI32 for Sse41 {
    type I = [__m128i; 4];
    const BIAS: i32 = 0;
    /// Pairs of products in 16 bits: `40 * 2 * 3 * 127 < 2^15`.
    const MAX_SMALL_DOTS: usize = 40;

    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        [unsafe { _mm_setzero_si128() }; 4]
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [unsafe { _mm_set1_epi32(x) }; 4]
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        // No saturation: u <= 128 and |s| <= 128, so a pair is at most 32768 in size, and -32768 fits.
        quarters!(|sums, u, s| unsafe {
            _mm_add_epi32(sums, _mm_madd_epi16(_mm_maddubs_epi16(u, s), _mm_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        quarters!(|a, b| unsafe { _mm_add_epi32(a, b) })
    }
    #[inline(always)]
    fn dot_small(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        quarters!(|sums, u, s| unsafe { _mm_add_epi16(sums, _mm_maddubs_epi16(u, s)) })
    }
    #[inline(always)]
    fn widen(self, sums: Self::I) -> Self::I {
        quarters!(|sums| unsafe { _mm_madd_epi16(sums, _mm_set1_epi16(1)) })
    }
    #[inline(always)]
    fn bias(self, a: Self::B) -> Self::B {
        a
    }
    #[inline(always)]
    fn dot_biased(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        let s = quarters!(|s, a| unsafe { _mm_sign_epi8(s, a) });
        self.dot(sums, quarters!(|a| unsafe { _mm_abs_epi8(a) }), s)
    }
    #[inline(always)]
    fn extract_u8(self, a: Self::B, n: u32) -> Self::I {
        quarters!(|a| unsafe { _mm_and_si128(_mm_srl_epi32(a, _mm_cvtsi32_si128(8 * n as i32)), _mm_set1_epi32(255)) })
    }
    #[inline(always)]
    fn extract_i8(self, a: Self::B, n: u32) -> Self::I {
        quarters!(|a| unsafe { _mm_srai_epi32(_mm_sll_epi32(a, _mm_cvtsi32_si128(24 - 8 * n as i32)), 24) })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        quarters!(|a| unsafe { _mm_cvtepi32_ps(a) })
    }
    #[inline(always)]
    fn unpack_f16(self, a: Self::B) -> [Self::F; 2] {
        [
            quarters!(|a| unsafe { widen_f16(_mm_and_si128(a, _mm_set1_epi32(0xffff))) }),
            quarters!(|a| unsafe { widen_f16(_mm_srli_epi32(a, 16)) }),
        ]
    }
    #[inline(always)]
    fn reduce_sums(self, a: [Self::I; 4]) -> [i32; 4] {
        unsafe {
            let [a, b, c, d] = quarters!(|a| _mm_add_epi32(_mm_add_epi32(a[0], a[1]), _mm_add_epi32(a[2], a[3])));
            let mut out = [0; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d)));
            out
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl Simd for Sse41 {
    const WIDE: bool = false;
    const EXTRA: bool = true;

    #[inline(always)]
    fn call(self, job: impl Job) {
        unsafe { call(job) }
    }
    #[inline(always)]
    fn prefetch_l1(self, at: *const u8) {
        unsafe { _mm_prefetch(at.cast(), _MM_HINT_T0) }
    }
    #[inline(always)]
    fn prefetch_l2(self, at: *const u8) {
        unsafe { _mm_prefetch(at.cast(), _MM_HINT_T1) }
    }
}

/// 16 words of 2 bytes, widened by zeros.
#[inline(always)]
fn words(bytes: &[u8]) -> [__m128i; 4] {
    let x = bytes[..2 * LANES].as_ptr().cast::<__m128i>();
    // SAFETY: the slice was just cut to the length that is read; only `Sse41` calls this.
    unsafe {
        let (low, high) = (_mm_loadu_si128(x), _mm_loadu_si128(x.add(1)));
        let x = [low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)];
        quarters!(|x| _mm_cvtepu16_epi32(x))
    }
}

/// Half-precision floats in the low halves of lanes, the high halves of which are zeros.
///
/// # Safety
/// The CPU has SSE2, as all of this architecture.
#[inline(always)]
unsafe fn widen_f16(x: __m128i) -> __m128 {
    // SAFETY: as the function's.
    unsafe {
        let sign = _mm_slli_epi32(_mm_and_si128(x, _mm_set1_epi32(0x8000)), 16);
        // The exponent is read with the larger bias, so that the number is too small by 2^112; subnormal numbers come out normal.
        let small = _mm_slli_epi32(_mm_and_si128(x, _mm_set1_epi32(0x7fff)), 13);
        let scaled = _mm_mul_ps(_mm_castsi128_ps(small), _mm_castsi128_ps(_mm_set1_epi32((127 + 112) << 23)));
        // Infinity and NaN keep the largest exponent.
        let special = _mm_cmpgt_epi32(small, _mm_set1_epi32((0x7c00 << 13) - 1));
        let exponent = _mm_and_si128(special, _mm_set1_epi32(0x7f80_0000));
        _mm_castsi128_ps(_mm_or_si128(_mm_or_si128(_mm_castps_si128(scaled), exponent), sign))
    }
}

/// `a * b + c`, rounded once. Not inlined, so that kernels stay small.
#[inline(never)]
#[target_feature(enable = "sse4.1,ssse3")]
fn fma(a: __m128, b: __m128, c: __m128) -> __m128 {
    let high = |x| _mm_cvtps_pd(_mm_movehl_ps(x, x));
    let low = fused(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
    _mm_movelh_ps(low, fused(high(a), high(b), high(c)))
}

/// `a * b + c` of numbers of single precision, rounded once, in the low lanes.
///
/// The product is exact in double precision. Its sum with `c` is rounded to odd, after which the rounding to single precision gives what
/// one rounding would: Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums" (2008).
#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn fused(a: __m128d, b: __m128d, c: __m128d) -> __m128 {
    let product = _mm_mul_pd(a, b);
    let sum = _mm_add_pd(product, c);
    // What the sum lacks, exactly: Knuth's TwoSum.
    let rest = _mm_sub_pd(sum, product);
    let error = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, rest)), _mm_sub_pd(c, rest));
    let zero = _mm_setzero_pd();
    let inexact = _mm_or_pd(_mm_cmplt_pd(error, zero), _mm_cmpgt_pd(error, zero));
    // An even sum that is not exact moves to its neighbour on the side of the error: up in size if their signs agree.
    let bits = _mm_castpd_si128(sum);
    let even = _mm_cmpeq_epi64(_mm_and_si128(bits, _mm_set1_epi64x(1)), _mm_setzero_si128());
    let differ = _mm_srai_epi32(_mm_castpd_si128(_mm_xor_pd(error, sum)), 31);
    let step = _mm_or_si128(_mm_shuffle_epi32(differ, 0b11_11_01_01), _mm_set1_epi64x(1));
    let step = _mm_and_si128(step, _mm_and_si128(even, _mm_castpd_si128(inexact)));
    _mm_cvtpd_ps(_mm_castsi128_pd(_mm_add_epi64(bits, step)))
}
