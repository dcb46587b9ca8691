//! x86-64 with AVX2, FMA and F16C: two registers for everything. CPUs differ in how they multiply bytes, so there are two tables: with
//! AVX-VNNI, which client CPUs without AVX-512 have, and without it.

use super::bytes::{bit_masks, bit_sources};
use super::{BYTES, Job, LANES, SMALLEST_BF16, Simd, SimdBytes, SimdF32, SimdI32};
use core::arch::x86_64::*;

/// Only built inside the `target_feature` functions of a table, which have the instructions of `M`.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<M>(M);

/// Products of bytes, four to a sum.
pub(crate) trait Multiply: Copy {
    /// See [`SimdI32::MAX_SMALL_DOTS`].
    const MAX_SMALL_DOTS: usize;
    /// Adds the products of unsigned bytes of at most 128 with signed ones.
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn dot(sums: __m256i, u: __m256i, s: __m256i) -> __m256i;
    /// See [`SimdI32::dot_small`].
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn dot_small(sums: __m256i, u: __m256i, s: __m256i) -> __m256i;
    /// See [`SimdI32::widen`].
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn widen(sums: __m256i) -> __m256i;
    /// See [`Simd::call`].
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn call(job: impl Job);
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

pub(crate) mod plain {
    use super::*;

    table!(Avx2(Plain), "avx2", features: "avx2,fma,f16c", supported: has_avx2());

    #[derive(Clone, Copy)]
    pub(crate) struct Plain;

    // SAFETY (all blocks below): as the functions'.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Multiply for Plain {
        /// Pairs of products in 16 bits: `40 * 2 * 3 * 127 < 2^15`.
        const MAX_SMALL_DOTS: usize = 40;

        #[inline(always)]
        unsafe fn dot(sums: __m256i, u: __m256i, s: __m256i) -> __m256i {
            // No saturation: u <= 128 and |s| <= 128, so a pair is at most 32768 in size, and -32768 fits.
            unsafe { _mm256_add_epi32(sums, Self::widen(_mm256_maddubs_epi16(u, s))) }
        }
        #[inline(always)]
        unsafe fn dot_small(sums: __m256i, u: __m256i, s: __m256i) -> __m256i {
            unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(u, s)) }
        }
        #[inline(always)]
        unsafe fn widen(sums: __m256i) -> __m256i {
            unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
        }
        #[inline(always)]
        unsafe fn call(job: impl Job) {
            unsafe { call(job) }
        }
    }
}

pub(crate) mod vnni {
    use super::*;

    table!(Avx2(Vnni), "avxvnni", features: "avx2,fma,f16c,avxvnni",
        supported: has_avx2() && is_x86_feature_detected!("avxvnni"), others: plain::BASE);

    #[derive(Clone, Copy)]
    pub(crate) struct Vnni;

    // SAFETY (all blocks below): as the functions'.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Multiply for Vnni {
        const MAX_SMALL_DOTS: usize = usize::MAX;

        #[inline(always)]
        unsafe fn dot(sums: __m256i, u: __m256i, s: __m256i) -> __m256i {
            unsafe { _mm256_dpbusd_avx_epi32(sums, u, s) }
        }
        #[inline(always)]
        unsafe fn dot_small(sums: __m256i, u: __m256i, s: __m256i) -> __m256i {
            unsafe { Self::dot(sums, u, s) }
        }
        #[inline(always)]
        unsafe fn widen(sums: __m256i) -> __m256i {
            sums
        }
        #[inline(always)]
        unsafe fn call(job: impl Job) {
            unsafe { call(job) }
        }
    }
}

/// The same for both registers. Not a function of a closure, which would not be inlined where the CPU's features are
/// known.
macro_rules! both {
    ($a:expr, |$half:ident| $body:expr) => {{
        let a = $a;
        let low = {
            let $half = a.0;
            $body
        };
        let $half = a.1;
        (low, $body)
    }};
}

/// An instruction with two inputs, for both registers.
macro_rules! each {
    ($instruction:ident, $a:expr, $b:expr) => {
        ($instruction($a.0, $b.0), $instruction($a.1, $b.1))
    };
}

// SAFETY (all blocks below): `Avx2` exists only where the CPU has the instructions, and every pointer comes from a slice that was
// just cut to the length that is read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<M: Multiply> SimdF32 for Avx2<M> {
    type F = (__m256, __m256);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        let x = unsafe { _mm256_set1_ps(x) };
        (x, x)
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        let x = x[..LANES].as_ptr();
        unsafe { (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8))) }
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32]) {
        let out = out[..LANES].as_mut_ptr();
        unsafe {
            _mm256_storeu_ps(out, x.0);
            _mm256_storeu_ps(out.add(8), x.1);
        }
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        let x = bytes[..4 * LANES].as_ptr().cast::<f32>();
        unsafe { (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8))) }
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        let x = bytes[..2 * LANES].as_ptr().cast::<__m128i>();
        unsafe { (_mm256_cvtph_ps(_mm_loadu_si128(x)), _mm256_cvtph_ps(_mm_loadu_si128(x.add(1)))) }
    }
    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        let x = bytes[..2 * LANES].as_ptr().cast::<__m128i>();
        let widen = |x| unsafe { _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)) };
        unsafe { (widen(_mm_loadu_si128(x)), widen(_mm_loadu_si128(x.add(1)))) }
    }
    #[inline(always)]
    fn unpack_bf16(self, a: Self::F) -> [Self::F; 2] {
        let low = both!(a, |a| unsafe { _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16)) });
        let high = both!(a, |a| unsafe { _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-0x1_0000))) });
        [low, high]
    }
    #[inline(always)]
    fn pack_bf16(self, a: [Self::F; 2]) -> Self::F {
        let round = |x: __m256| unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
            let near = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(1 << 22));
            let nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
            _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, nan), 16)
        };
        both!((a[0], a[1]), |a| unsafe {
            let words = _mm256_packus_epi32(round(a.0), round(a.1));
            _mm256_castsi256_ps(_mm256_permute4x64_epi64(words, 0b11_01_10_00))
        })
    }
    #[inline(always)]
    fn flush_bf16(self, a: Self::F) -> Self::F {
        both!(a, |a| unsafe {
            let size = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi16(0x7fff));
            let kept = _mm256_cmpgt_epi16(size, _mm256_set1_epi16(SMALLEST_BF16 as i16 - 1));
            _mm256_and_ps(a, _mm256_castsi256_ps(kept))
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { (_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { (_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        unsafe { (_mm256_sqrt_ps(a.0), _mm256_sqrt_ps(a.1)) }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        let abs = |a| unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) };
        (abs(a.0), abs(a.1))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { (_mm256_round_ps(a.0, NEAREST), _mm256_round_ps(a.1, NEAREST)) }
    }
    #[inline(always)]
    fn exp2(self, n: Self::F) -> Self::F {
        let exp2 = |n| unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))
        };
        (exp2(n.0), exp2(n.1))
    }
    #[inline(always)]
    fn store_i8(self, a: Self::F, out: &mut [i8]) {
        let out = out[..LANES].as_mut_ptr().cast::<__m128i>();
        unsafe {
            // The packing instructions work within 128-bit halves; the permutation puts the four groups back in order.
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(a.1));
            let words = _mm256_permute4x64_epi64(words, 0b11_01_10_00);
            let low = _mm256_castsi256_si128(words);
            _mm_storeu_si128(out, _mm_packs_epi16(low, _mm256_extracti128_si256(words, 1)));
        }
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        unsafe { max8(_mm256_max_ps(a.0, a.1)) }
    }
    #[inline(always)]
    fn reduce_sum(self, a: Self::F) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(a.0, a.1);
            sum8(eight)
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let high = _mm_unpackhi_epi64(x, x);
            (_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)))
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl<M: Multiply> SimdBytes for Avx2<M> {
    type B = (__m256i, __m256i);

    #[inline(always)]
    fn load_bytes(self, x: &[u8; BYTES]) -> Self::B {
        let x = x.as_ptr().cast::<__m256i>();
        unsafe { (_mm256_loadu_si256(x), _mm256_loadu_si256(x.add(1))) }
    }
    #[inline(always)]
    fn load_halves(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B {
        unsafe { (_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_quarters(self, [a, b, c, d]: [&[u8; 16]; 4]) -> Self::B {
        unsafe {
            let (a, b) = (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast()));
            let (c, d) = (_mm_loadu_si128(c.as_ptr().cast()), _mm_loadu_si128(d.as_ptr().cast()));
            (_mm256_set_m128i(b, a), _mm256_set_m128i(d, c))
        }
    }
    #[inline(always)]
    fn splat_i8x4(self, x: &[i8; 4]) -> Self::B {
        let x = unsafe { _mm256_set1_epi32(i32::from_le_bytes(*bytemuck::cast_ref(x))) };
        (x, x)
    }
    #[inline(always)]
    fn splat_u8(self, x: u8) -> Self::B {
        let x = unsafe { _mm256_set1_epi8(x as i8) };
        (x, x)
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]) {
        let out = out.as_mut_ptr().cast::<__m256i>();
        unsafe {
            _mm256_storeu_si256(out, a.0);
            _mm256_storeu_si256(out.add(1), a.1);
        }
    }
    #[inline(always)]
    fn shr_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        let mask = self.splat_u8(mask).0;
        both!(a, |a| unsafe { _mm256_and_si256(_mm256_srl_epi16(a, _mm_cvtsi32_si128(n as i32)), mask) })
    }
    #[inline(always)]
    fn shl_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        let mask = self.splat_u8(mask).0;
        both!(a, |a| unsafe { _mm256_and_si256(_mm256_sll_epi16(a, _mm_cvtsi32_si128(n as i32)), mask) })
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        unsafe { (_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1)) }
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], a: Self::B) -> Self::B {
        let table = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())) };
        both!(a, |a| unsafe { _mm256_shuffle_epi8(table, a) })
    }
    #[inline(always)]
    fn expand_bits(self, a: Self::B, n: u32, value: u8) -> Self::B {
        let (byte, bit) = (self.load_quarters([&bit_sources(n); 4]).0, self.splat_i8x4(&bit_masks(n)).0);
        both!(a, |a| unsafe {
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(a, byte), bit), bit);
            _mm256_and_si256(set, _mm256_set1_epi8(value as i8))
        })
    }
    #[inline(always)]
    fn bit_fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B {
        // For even and for odd bytes: two bytes with all of a field, and the power of two that moves it to the upper one. Arithmetic, of
        // which constants become constants, as they would not of loops.
        let order = |a: u32, b: u32| (0x0100_0100 + a / 8 * 0x0101 + b / 8 * 0x0101_0000) as i32;
        let power = |a: u32, b: u32| (0x0100 >> (a % 8)) + (0x0100_0000 >> (b % 8));
        let order = [order(at[0], at[2]), order(at[1], at[3])];
        let power = [power(at[0], at[2]), power(at[1], at[3])];
        let (order, power) = unsafe {
            let lanes = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c);
            (
                [
                    _mm256_add_epi8(lanes, _mm256_set1_epi32(order[0])),
                    _mm256_add_epi8(lanes, _mm256_set1_epi32(order[1])),
                ],
                [_mm256_set1_epi32(power[0]), _mm256_set1_epi32(power[1])],
            )
        };
        let mask = u32::from_le_bytes(mask) as i32;
        both!(a, |a| unsafe {
            let even = _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(a, order[0]), power[0]), 8);
            let odd = _mm256_mullo_epi16(_mm256_shuffle_epi8(a, order[1]), power[1]);
            let both = _mm256_blendv_epi8(even, odd, _mm256_set1_epi16(0xff00u16 as i16));
            _mm256_and_si256(both, _mm256_set1_epi32(mask))
        })
    }
    #[inline(always)]
    fn trits(self, a: Self::B) -> [Self::B; 5] {
        let (mut trits, mut rest) = ([a; 5], a);
        for trit in &mut trits {
            *trit = both!(rest, |a| unsafe {
                // A third of 256 and two thirds: how many of them the byte has passed.
                let one = _mm256_set1_epi8(1);
                let first = _mm256_min_epu8(_mm256_subs_epu8(a, _mm256_set1_epi8(85)), one);
                let second = _mm256_min_epu8(_mm256_subs_epu8(a, _mm256_set1_epi8(170u8 as i8)), one);
                _mm256_add_epi8(first, second)
            });
            rest = both!(rest, |a| unsafe { _mm256_add_epi8(_mm256_add_epi8(a, a), a) });
        }
        trits
    }
    #[inline(always)]
    fn transpose8(self, [a, b, c, d, e, f, g, h]: [Self::B; 8]) -> [Self::B; 8] {
        let (top, bottom) = (self.transpose4([a, b, c, d]), self.transpose4([e, f, g, h]));
        let mut columns = [a; 8];
        for c in 0..4 {
            let (top, bottom) = (top[c], bottom[c]);
            unsafe {
                columns[c].0 = _mm256_permute2x128_si256(top.0, bottom.0, 0x20);
                columns[c].1 = _mm256_permute2x128_si256(top.1, bottom.1, 0x20);
                columns[c + 4].0 = _mm256_permute2x128_si256(top.0, bottom.0, 0x31);
                columns[c + 4].1 = _mm256_permute2x128_si256(top.1, bottom.1, 0x31);
            }
        }
        columns
    }
    #[inline(always)]
    fn transpose4(self, [e, f, g, h]: [Self::B; 4]) -> [Self::B; 4] {
        unsafe {
            let (a, b) = (each!(_mm256_unpacklo_epi32, e, f), each!(_mm256_unpacklo_epi32, g, h));
            let (c, d) = (each!(_mm256_unpackhi_epi32, e, f), each!(_mm256_unpackhi_epi32, g, h));
            [
                each!(_mm256_unpacklo_epi64, a, b),
                each!(_mm256_unpackhi_epi64, a, b),
                each!(_mm256_unpacklo_epi64, c, d),
                each!(_mm256_unpackhi_epi64, c, d),
            ]
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl<M: Multiply> SimdI32 for Avx2<M> {
    type I = (__m256i, __m256i);
    const BIAS: i32 = 0;
    const MAX_SMALL_DOTS: usize = M::MAX_SMALL_DOTS;

    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        let zero = unsafe { _mm256_setzero_si256() };
        (zero, zero)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        let x = unsafe { _mm256_set1_epi32(x) };
        (x, x)
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        unsafe { (M::dot(sums.0, u.0, s.0), M::dot(sums.1, u.1, s.1)) }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { each!(_mm256_add_epi32, a, b) }
    }
    #[inline(always)]
    fn dot_small(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        unsafe { (M::dot_small(sums.0, u.0, s.0), M::dot_small(sums.1, u.1, s.1)) }
    }
    #[inline(always)]
    fn widen(self, sums: Self::I) -> Self::I {
        unsafe { (M::widen(sums.0), M::widen(sums.1)) }
    }
    #[inline(always)]
    fn bias(self, a: Self::B) -> Self::B {
        a
    }
    #[inline(always)]
    fn dot_biased(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        let s = unsafe { each!(_mm256_sign_epi8, s, a) };
        self.dot(sums, both!(a, |a| unsafe { _mm256_abs_epi8(a) }), s)
    }
    #[inline(always)]
    fn extract_u8(self, a: Self::B, n: u32) -> Self::I {
        let n = unsafe { _mm_cvtsi32_si128(8 * n as i32) };
        both!(a, |a| unsafe { _mm256_and_si256(_mm256_srl_epi32(a, n), _mm256_set1_epi32(255)) })
    }
    #[inline(always)]
    fn extract_i8(self, a: Self::B, n: u32) -> Self::I {
        let n = unsafe { _mm_cvtsi32_si128(24 - 8 * n as i32) };
        both!(a, |a| unsafe { _mm256_srai_epi32(_mm256_sll_epi32(a, n), 24) })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        unsafe { (_mm256_cvtepi32_ps(a.0), _mm256_cvtepi32_ps(a.1)) }
    }
    #[inline(always)]
    fn unpack_f16(self, a: Self::B) -> [Self::F; 2] {
        let low = both!(a, |a| unsafe { _mm256_and_si256(a, _mm256_set1_epi32(0xffff)) });
        let high = both!(a, |a| unsafe { _mm256_srli_epi32(a, 16) });
        let (low, high) = unsafe { (_mm256_packus_epi32(low.0, low.1), _mm256_packus_epi32(high.0, high.1)) };
        let widen = both!((low, high), |x| unsafe {
            let x = _mm256_permute4x64_epi64(x, 0b11_01_10_00);
            (_mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)))
        });
        [widen.0, widen.1]
    }
    #[inline(always)]
    fn reduce_sums(self, [a, b, c, d]: [Self::I; 4]) -> [i32; 4] {
        unsafe {
            let (a, b) = (_mm256_add_epi32(a.0, a.1), _mm256_add_epi32(b.0, b.1));
            let (c, d) = (_mm256_add_epi32(c.0, c.1), _mm256_add_epi32(d.0, d.1));
            let four = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
            let mut out = [0; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), sums);
            out
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl<M: Multiply> Simd for Avx2<M> {
    const WIDE: bool = false;
    const EXTRA: bool = true;

    #[inline(always)]
    fn call(self, job: impl Job) {
        unsafe { M::call(job) }
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

/// The last three steps of the canonical tree.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
pub(super) unsafe fn sum8(eight: __m256) -> f32 {
    // SAFETY: as the function's.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// The largest of eight lanes, compared in the tree in which [`sum8`] adds them.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn max8(eight: __m256) -> f32 {
    // SAFETY: as the function's.
    unsafe {
        let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    }
}
