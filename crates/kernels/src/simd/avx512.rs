//! x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI: one register of 16 floats, and 256-bit integer dot products.

use super::avx2::{in_256_bits, sum_all, sum8, sums};
use super::{BYTES, LANES, Simd};
use core::arch::x86_64::*;

/// Only built inside the `target_feature` functions of this file's table.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

table!(Avx512, "avx512", features: "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c",
    supported: is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c"));

// SAFETY (all blocks below): `Avx512` exists only where the CPU has the instructions, and every pointer comes from a slice that was
// just cut to the length that is read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    const WIDE: bool = true;
    type F = __m512;
    in_256_bits!();

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        unsafe { _mm512_loadu_ps(x[..LANES].as_ptr()) }
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32]) {
        unsafe { _mm512_storeu_ps(out[..LANES].as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        unsafe { _mm512_loadu_ps(bytes[..4 * LANES].as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes[..2 * LANES].as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        unsafe {
            let x = _mm256_loadu_si256(bytes[..2 * LANES].as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
    }
    #[inline(always)]
    fn exp2(self, n: Self::F) -> Self::F {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))
        }
    }
    #[inline(always)]
    fn store_i8(self, a: Self::F, out: &mut [i8]) {
        unsafe { _mm_storeu_si128(out[..LANES].as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a))) }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe { sum8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1))) }
    }

    #[inline(always)]
    fn at_least(self, a: Self::B, least: u8) -> Self::B {
        unsafe { _mm256_maskz_mov_epi8(_mm256_cmpge_epu8_mask(a, self.splat8(least)), self.splat8(1)) }
    }

    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        unsafe { _mm256_dpbusd_epi32(sums, u, s) }
    }
    #[inline(always)]
    fn dot_signed(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        unsafe { _mm256_dpbusd_epi32(sums, _mm256_abs_epi8(a), _mm256_sign_epi8(s, a)) }
    }

    #[inline(always)]
    fn sum_half(self, a: Self::H) -> f32 {
        unsafe { sum8(a) }
    }

    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn prefetch(self, x: &[u8]) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.as_ptr().cast()) }
    }
}
