//! x86-64 with AVX2, FMA and F16C: two registers of 8 floats, one of 32 bytes.

use super::{BYTES, LANES, Simd};
use core::arch::x86_64::*;

/// Only built inside the `target_feature` functions of this file's table.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

table!(Avx2, "avx2", features: "avx2,fma,f16c",
    supported: is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c"));

/// What the two x86 instruction sets do alike: bytes, integers and 8 floats in 256-bit registers.
macro_rules! in_256_bits {
    () => {
        type B = __m256i;
        type I = __m256i;
        type H = __m256;

        #[inline(always)]
        fn bytes(self, x: &[u8; BYTES]) -> Self::B {
            unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
        }
        #[inline(always)]
        fn signed(self, x: &[i8; BYTES]) -> Self::B {
            unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
        }
        #[inline(always)]
        fn twice(self, x: &[u8; 16]) -> Self::B {
            unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(x.as_ptr().cast())) }
        }
        #[inline(always)]
        fn splat8(self, x: u8) -> Self::B {
            unsafe { _mm256_set1_epi8(x as i8) }
        }
        #[inline(always)]
        fn shift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
            unsafe { _mm256_and_si256(_mm256_srl_epi16(a, _mm_cvtsi32_si128(n as i32)), self.splat8(mask)) }
        }
        #[inline(always)]
        fn lift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
            unsafe { _mm256_and_si256(_mm256_sll_epi16(a, _mm_cvtsi32_si128(n as i32)), self.splat8(mask)) }
        }
        #[inline(always)]
        fn or(self, a: Self::B, b: Self::B) -> Self::B {
            unsafe { _mm256_or_si256(a, b) }
        }
        #[inline(always)]
        fn halves(self, a: Self::B, b: Self::B) -> Self::B {
            unsafe { _mm256_blend_epi32(a, b, 0xf0) }
        }
        #[inline(always)]
        fn add8(self, a: Self::B, b: Self::B) -> Self::B {
            unsafe { _mm256_add_epi8(a, b) }
        }
        #[inline(always)]
        fn zero(self) -> Self::I {
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        fn ints(self, x: &[i32; 8]) -> Self::I {
            unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
        }
        #[inline(always)]
        fn two_ints(self, low: i32, high: i32) -> Self::I {
            unsafe { _mm256_set_m128i(_mm_set1_epi32(high), _mm_set1_epi32(low)) }
        }
        #[inline(always)]
        fn mul_int(self, a: Self::I, b: Self::I) -> Self::I {
            unsafe { _mm256_mullo_epi32(a, b) }
        }
        #[inline(always)]
        fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
            unsafe { _mm256_sub_epi32(a, b) }
        }
        #[inline(always)]
        fn sums(self, a: [Self::I; 8]) -> Self::I {
            unsafe { sums(a) }
        }
        #[inline(always)]
        fn sum_all(self, a: Self::I) -> i32 {
            unsafe { sum_all(a) }
        }
        #[inline(always)]
        fn half(self, x: &[f32; 8]) -> Self::H {
            unsafe { _mm256_loadu_ps(x.as_ptr()) }
        }
        #[inline(always)]
        fn half_f16(self, x: &[u16; 8]) -> Self::H {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
        }
        #[inline(always)]
        fn to_half(self, a: Self::I) -> Self::H {
            unsafe { _mm256_cvtepi32_ps(a) }
        }
        #[inline(always)]
        fn mul_half(self, a: Self::H, b: Self::H) -> Self::H {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        fn fma_half(self, a: Self::H, b: Self::H, c: Self::H) -> Self::H {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
    };
}
pub(super) use in_256_bits;

// SAFETY (all blocks below): `Avx2` exists only where the CPU has the instructions, and every pointer comes from a slice that was
// just cut to the length that is read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    const WIDE: bool = false;
    type F = (__m256, __m256);
    in_256_bits!();

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
    fn sum(self, a: Self::F) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(a.0, a.1);
            sum8(eight)
        }
    }

    #[inline(always)]
    fn at_least(self, a: Self::B, least: u8) -> Self::B {
        unsafe {
            let reached = _mm256_cmpeq_epi8(_mm256_max_epu8(a, self.splat8(least)), a);
            _mm256_and_si256(reached, self.splat8(1))
        }
    }

    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        // No saturation: u <= 128 and |s| <= 128, so a pair is at most 32768 in size, and -32768 fits.
        unsafe {
            let pairs = _mm256_maddubs_epi16(u, s);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    fn dot_signed(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        unsafe { self.dot(sums, _mm256_abs_epi8(a), _mm256_sign_epi8(s, a)) }
    }

    #[inline(always)]
    fn sum_half(self, a: Self::H) -> f32 {
        unsafe { sum8(a) }
    }

    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let high = _mm_unpackhi_epi64(x, x);
            (_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)))
        }
    }
    #[inline(always)]
    fn prefetch(self, x: &[u8]) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().cast()) }
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

/// Lane `j` is the sum of input `j`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn sums(a: [__m256i; 8]) -> __m256i {
    // SAFETY: as the function's.
    unsafe {
        let pair = |i: usize| _mm256_hadd_epi32(a[i], a[i + 1]);
        let low = _mm256_hadd_epi32(pair(0), pair(2));
        let high = _mm256_hadd_epi32(pair(4), pair(6));
        _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31))
    }
}

/// Sum of all lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn sum_all(a: __m256i) -> i32 {
    // SAFETY: as the function's.
    unsafe {
        let four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01_00_11_10));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b00_00_00_01)))
    }
}
