//! x86-64 with AVX-512 (F, BW, DQ, VL), VNNI and VBMI (Ice Lake, Zen 4 and later): everything in one register.

use super::avx2::{max8, sum8};
use super::{BYTES, Grid, Job, LANES, SMALLEST_BF16, Simd, SimdBytes, SimdF32, SimdI32};
use core::arch::x86_64::*;
use core::mem::transmute;

#[cfg(test)]
mod tests;

/// Only built inside the `target_feature` functions of this file's table.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

table!(Avx512(()), "avx512", features: "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c",
    supported: is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c"));

/// What [`SimdBytes::trits`] of each byte are: the first four, two bits each, and the fifth.
static TRITS: [[[u8; BYTES]; 4]; 2] = {
    let mut tables = [[[0; BYTES]; 4]; 2];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut n) = (byte, 0);
        while n < 5 {
            let trit = ((3 * rest) >> 8) as u8;
            tables[n / 4][byte / BYTES][byte % BYTES] |= trit << (2 * (n % 4));
            rest = 3 * rest % 256;
            n += 1;
        }
        byte += 1;
    }
    tables
};

/// Only called where the CPU has AVX512-BF16, too.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16,avx2,fma,f16c")]
#[inline(never)]
fn call_bf16(job: impl Job) {
    job.run(Avx512(()));
}

impl Avx512 {
    /// Entries of a table of `64 N`, by an index's low byte and what is above it.
    #[inline(always)]
    fn look_up<const N: usize>(self, table: &[[u8; BYTES]; N], low: __m512i, high: __m512i) -> __m512i {
        let mut parts = [low; 16];
        for i in 0..N / 2 {
            let (first, second) = (self.load_bytes(&table[2 * i]), self.load_bytes(&table[2 * i + 1]));
            // SAFETY: `Avx512` exists only where the CPU has the instructions.
            parts[i] = unsafe { _mm512_permutex2var_epi8(first, low, second) };
        }
        // The instruction uses 7 bits of the index; each of the others chooses between halves of what is left.
        for bit in 0..4 {
            for i in 0..N >> (bit + 2) {
                // SAFETY: as above.
                parts[i] = unsafe {
                    let set = match bit {
                        0 => _mm512_movepi8_mask(low),
                        _ => _mm512_test_epi8_mask(high, self.splat_u8(1 << (bit - 1))),
                    };
                    _mm512_mask_blend_epi8(set, parts[2 * i], parts[2 * i + 1])
                };
            }
        }
        parts[0]
    }
    /// Byte `j` of each lane of 4 bytes: bits of the lane from `at[j]` on, which may be before its first, masked.
    #[inline(always)]
    fn select_bits(self, a: __m512i, at: [u8; 4], mask: [u8; 4]) -> __m512i {
        let [low, mask] = [at, mask].map(u32::from_le_bytes);
        let at = (low & 0x3f3f_3f3f) as u64;
        // SAFETY: `Avx512` exists only where the CPU has the instructions.
        unsafe {
            let bits = _mm512_multishift_epi64_epi8(_mm512_set1_epi64((at | (at + 0x2020_2020) << 32) as i64), a);
            _mm512_and_si512(bits, _mm512_set1_epi32(mask as i32))
        }
    }
}

// SAFETY (all blocks below): `Avx512` exists only where the CPU has the instructions, and every pointer comes from a slice that was
// just cut to the length that is read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SimdF32 for Avx512 {
    type F = __m512;

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
    fn unpack_bf16(self, a: Self::F) -> [Self::F; 2] {
        unsafe {
            let a = _mm512_castps_si512(a);
            let high = _mm512_and_si512(a, _mm512_set1_epi32(-0x1_0000));
            [_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(high)]
        }
    }
    #[inline(always)]
    fn pack_bf16(self, a: [Self::F; 2]) -> Self::F {
        let round = |x: __m512| unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
            let near = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
            let near = _mm512_mask_or_epi32(near, nan, bits, _mm512_set1_epi32(1 << 22));
            _mm512_cvtepi32_epi16(_mm512_srli_epi32(near, 16))
        };
        unsafe {
            let words = _mm512_inserti64x4(_mm512_castsi256_si512(round(a[0])), round(a[1]), 1);
            _mm512_castsi512_ps(words)
        }
    }
    #[inline(always)]
    fn flush_bf16(self, a: Self::F) -> Self::F {
        unsafe {
            let a = _mm512_castps_si512(a);
            let size = _mm512_and_si512(a, _mm512_set1_epi16(0x7fff));
            let kept = _mm512_cmpge_epi16_mask(size, _mm512_set1_epi16(SMALLEST_BF16 as i16));
            _mm512_castsi512_ps(_mm512_maskz_mov_epi16(kept, a))
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
    fn sqrt(self, a: Self::F) -> Self::F {
        unsafe { _mm512_sqrt_ps(a) }
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
    fn reduce_max(self, a: Self::F) -> f32 {
        unsafe { max8(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1))) }
    }
    #[inline(always)]
    fn reduce_sum(self, a: Self::F) -> f32 {
        unsafe { sum8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1))) }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl SimdBytes for Avx512 {
    type B = __m512i;

    #[inline(always)]
    fn load_bytes(self, x: &[u8; BYTES]) -> Self::B {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_partial(self, x: &[u8]) -> Self::B {
        assert!(x.len() < BYTES);
        unsafe { _mm512_maskz_loadu_epi8((1 << x.len()) - 1, x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_halves(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B {
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.as_ptr().cast()));
            _mm512_inserti64x4(low, _mm256_loadu_si256(high.as_ptr().cast()), 1)
        }
    }
    #[inline(always)]
    fn load_quarters(self, x: [&[u8; 16]; 4]) -> Self::B {
        unsafe {
            let first = _mm512_castsi128_si512(_mm_loadu_si128(x[0].as_ptr().cast()));
            let two = _mm512_mask_broadcast_i32x4(first, 0x00f0, _mm_loadu_si128(x[1].as_ptr().cast()));
            let three = _mm512_mask_broadcast_i32x4(two, 0x0f00, _mm_loadu_si128(x[2].as_ptr().cast()));
            _mm512_mask_broadcast_i32x4(three, 0xf000, _mm_loadu_si128(x[3].as_ptr().cast()))
        }
    }
    #[inline(always)]
    fn splat_i8x4(self, x: &[i8; 4]) -> Self::B {
        unsafe { _mm512_set1_epi32(i32::from_le_bytes(*bytemuck::cast_ref(x))) }
    }
    #[inline(always)]
    fn splat_u8(self, x: u8) -> Self::B {
        unsafe { _mm512_set1_epi8(x as i8) }
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]) {
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), a) }
    }
    #[inline(always)]
    fn shr_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        unsafe { _mm512_and_si512(_mm512_srl_epi16(a, _mm_cvtsi32_si128(n as i32)), self.splat_u8(mask)) }
    }
    #[inline(always)]
    fn shl_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        unsafe { _mm512_and_si512(_mm512_sll_epi16(a, _mm_cvtsi32_si128(n as i32)), self.splat_u8(mask)) }
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], a: Self::B) -> Self::B {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), a) }
    }
    #[inline(always)]
    fn grid_points<const WIDTH: usize, const N: usize>(
        self,
        grid: &Grid<WIDTH, N>,
        low: Self::B,
        high: Self::B,
    ) -> [Self::B; WIDTH] {
        let packed = [self.look_up(&grid.packed[0], low, high), self.look_up(&grid.packed[1], low, high)];
        let mut points = [low; WIDTH];
        for k in 0..WIDTH {
            points[k] = if WIDTH == 8 {
                let at = 8 * (k as u32 / 2);
                self.bit_fields(packed[k % 2], [at, at + 2, at + 4, at + 6], [3; 4])
            } else {
                let at = 8 * k as u32;
                let first = self.bit_fields(packed[0], [at, at + 4, 0, 0], [15, 15, 0, 0]);
                self.or(first, self.bit_fields(packed[1], [0, 0, at, at + 4], [0, 0, 15, 15]))
            };
        }
        points
    }
    #[inline(always)]
    fn bit_fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B {
        self.select_bits(a, [at[0] as u8, at[1] as u8, at[2] as u8, at[3] as u8], mask)
    }
    #[inline(always)]
    fn expand_bits(self, a: Self::B, n: u32, value: u8) -> Self::B {
        // Moves the bit to where `value` is; the mask clears the others.
        let at = (4 * n as u8).wrapping_sub(value.trailing_zeros() as u8);
        self.select_bits(a, [at, at.wrapping_add(1), at.wrapping_add(2), at.wrapping_add(3)], [value; 4])
    }
    #[inline(always)]
    fn trits(self, a: Self::B) -> [Self::B; 5] {
        let (packed, fifth) = (self.look_up(&TRITS[0], a, a), self.look_up(&TRITS[1], a, a));
        let trit = [
            self.shr_mask(packed, 0, 3),
            self.shr_mask(packed, 2, 3),
            self.shr_mask(packed, 4, 3),
            self.shr_mask(packed, 6, 3),
        ];
        [trit[0], trit[1], trit[2], trit[3], fifth]
    }
    #[inline(always)]
    fn transpose8(self, [a, b, c, d, e, f, g, h]: [Self::B; 8]) -> [Self::B; 8] {
        // Of rows 0..4 and 8..12, and of the others: lanes of 128 bits with groups `n`, `n + 4`, `n`, `n + 4`.
        let (top, bottom) = (self.transpose4([a, b, c, d]), self.transpose4([e, f, g, h]));
        let mut columns = [a; 8];
        for c in 0..4 {
            unsafe {
                let (even, odd) =
                    (_mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15));
                columns[c] = _mm512_permutex2var_epi64(top[c], even, bottom[c]);
                columns[c + 4] = _mm512_permutex2var_epi64(top[c], odd, bottom[c]);
            }
        }
        columns
    }
    #[inline(always)]
    fn transpose4(self, rows: [Self::B; 4]) -> [Self::B; 4] {
        unsafe {
            let (a, b) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3]));
            let (c, d) = (_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3]));
            [
                _mm512_unpacklo_epi64(a, b),
                _mm512_unpackhi_epi64(a, b),
                _mm512_unpacklo_epi64(c, d),
                _mm512_unpackhi_epi64(c, d),
            ]
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl SimdI32 for Avx512 {
    type I = __m512i;
    const BIAS: i32 = 128;

    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        unsafe { _mm512_dpbusd_epi32(sums, u, s) }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn bias(self, a: Self::B) -> Self::B {
        unsafe { _mm512_xor_si512(a, self.splat_u8(128)) }
    }
    #[inline(always)]
    fn dot_biased(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        unsafe { _mm512_dpbusd_epi32(sums, a, s) }
    }
    #[inline(always)]
    fn extract_u8(self, a: Self::B, n: u32) -> Self::I {
        unsafe { _mm512_and_si512(_mm512_srl_epi32(a, _mm_cvtsi32_si128(8 * n as i32)), _mm512_set1_epi32(255)) }
    }
    #[inline(always)]
    fn extract_i8(self, a: Self::B, n: u32) -> Self::I {
        unsafe { _mm512_srai_epi32(_mm512_sll_epi32(a, _mm_cvtsi32_si128(24 - 8 * n as i32)), 24) }
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn unpack_f16(self, a: Self::B) -> [Self::F; 2] {
        unsafe {
            let (low, high) = (_mm512_cvtepi32_epi16(a), _mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16)));
            [_mm512_cvtph_ps(low), _mm512_cvtph_ps(high)]
        }
    }
    #[inline(always)]
    fn reduce_sums(self, [a, b, c, d]: [Self::I; 4]) -> [i32; 4] {
        unsafe {
            let two = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let others = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let four = _mm512_add_epi32(_mm512_unpacklo_epi64(two, others), _mm512_unpackhi_epi64(two, others));
            let half = _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
            let mut out = [0; 4];
            _mm_storeu_si128(out.as_mut_ptr().cast(), sums);
            out
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl Simd for Avx512 {
    const WIDE: bool = true;
    const EXTRA: bool = true;

    #[inline(always)]
    fn call(self, job: impl Job) {
        unsafe { call(job) }
    }
    #[inline(always)]
    fn has_dot_bf16(self) -> bool {
        is_x86_feature_detected!("avx512bf16")
    }
    #[inline(always)]
    fn call_bf16(self, job: impl Job) {
        assert!(self.has_dot_bf16());
        unsafe { call_bf16(job) }
    }
    #[inline(always)]
    fn dot_bf16(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_dpbf16_ps(c, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b)) }
    }
    #[inline(always)]
    fn convert_bf16(self, [a, b]: [Self::F; 2]) -> Self::F {
        unsafe { transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(b, a)) }
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
