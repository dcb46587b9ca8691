//! The few vector operations that every kernel is written over.
//!
//! Widths are *virtual*: 16 float lanes, 32 bytes, 8 integer lanes on every instruction set. A machine with narrower registers uses
//! several, so a kernel's float operations happen in the same lanes and the same order everywhere and its results have the same bits.

pub(crate) mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

/// Float lanes of [`Simd::F`].
pub(crate) const LANES: usize = 16;
/// Bytes of [`Simd::B`].
pub(crate) const BYTES: usize = 32;

/// One instruction set. A value of an implementing type is proof that this CPU has it.
///
/// Every operation is exact or rounds once as IEEE 754 says, so all implementations agree in every bit (payloads of NaN excepted).
/// Slices must be long enough; the methods check.
pub(crate) trait Simd: Copy {
    /// Registers are many and wide enough for matrix products in tiles of 4 rows x 4 tokens. It changes speed, never results.
    const WIDE: bool;
    /// 16 floats.
    type F: Copy;
    /// 32 bytes, signed or unsigned as the operation says.
    type B: Copy;
    /// 8 integers of 32 bits.
    type I: Copy;
    /// 8 floats.
    type H: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32]) -> Self::F;
    fn store(self, x: Self::F, out: &mut [f32]);
    /// 16 little-endian floats of 4 bytes each, at any alignment.
    fn load_f32(self, bytes: &[u8]) -> Self::F;
    /// 16 half-precision floats, widened.
    fn load_f16(self, bytes: &[u8]) -> Self::F;
    /// 16 bfloat16, widened.
    fn load_bf16(self, bytes: &[u8]) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b` in each lane: the second where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b` in each lane: the second where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integral `n` in -126..=127; anything for other values.
    fn exp2(self, n: Self::F) -> Self::F;
    /// Integral values in -128..=127 as bytes.
    fn store_i8(self, a: Self::F, out: &mut [i8]);
    /// The lanes added in the one canonical tree: halves, then quarters, down to a pair.
    fn sum(self, a: Self::F) -> f32;

    fn bytes(self, x: &[u8; BYTES]) -> Self::B;
    fn signed(self, x: &[i8; BYTES]) -> Self::B;
    /// 16 bytes, twice.
    fn twice(self, x: &[u8; 16]) -> Self::B;
    fn splat8(self, x: u8) -> Self::B;
    /// Every byte shifted right by `n` in 0..8, and masked by `mask`, which must clear what the shift brings in from a neighbour.
    fn shift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B;
    /// Every byte shifted left by `n`, and masked likewise.
    fn lift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// The low 16 bytes of `a`, then the high 16 of `b`.
    fn halves(self, a: Self::B, b: Self::B) -> Self::B;
    /// Bytes added, modulo 256.
    fn add8(self, a: Self::B, b: Self::B) -> Self::B;
    /// 1 where the unsigned byte is at least `least`, else 0.
    fn at_least(self, a: Self::B, least: u8) -> Self::B;

    fn zero(self) -> Self::I;
    /// `sums[j] += Σ u[4j..4j+4] * s[4j..4j+4]` with `u` unsigned and at most 128, so that a pair of products fits 16 bits.
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I;
    /// The same with both signed; `s` is never -128.
    fn dot_signed(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I;
    fn ints(self, x: &[i32; 8]) -> Self::I;
    /// `low` in the first four lanes, `high` in the others.
    fn two_ints(self, low: i32, high: i32) -> Self::I;
    fn mul_int(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// Lane `j` is the sum of all lanes of input `j`.
    fn sums(self, a: [Self::I; 8]) -> Self::I;
    /// Sum of all lanes.
    fn sum_all(self, a: Self::I) -> i32;

    fn half(self, x: &[f32; 8]) -> Self::H;
    /// 8 half-precision floats, widened.
    fn half_f16(self, x: &[u16; 8]) -> Self::H;
    /// The nearest floats.
    fn to_half(self, a: Self::I) -> Self::H;
    fn mul_half(self, a: Self::H, b: Self::H) -> Self::H;
    /// `a * b + c`, rounded once.
    fn fma_half(self, a: Self::H, b: Self::H, c: Self::H) -> Self::H;
    /// The lanes added in the last three steps of the tree of [`Simd::sum`].
    fn sum_half(self, a: Self::H) -> f32;

    /// 16 signed bytes as floats.
    fn load_i8(self, x: &[i8; LANES]) -> Self::F;
    /// Brings what begins here nearer, if the machine can be asked.
    fn prefetch(self, x: &[u8]);
}

/// See [`crate::missing_features`]. `is_x86_feature_detected!` cannot tell: it trusts the compiler's flags.
#[cfg(target_arch = "x86_64")]
pub(crate) fn missing_features() -> Vec<&'static str> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let (basic, extended) = (__cpuid(1), __cpuid_count(7, 0));
    let has = |register: u32, bit: u32| register >> bit & 1 == 1;
    let needed = [
        ("avx", cfg!(target_feature = "avx"), has(basic.ecx, 28)),
        ("fma", cfg!(target_feature = "fma"), has(basic.ecx, 12)),
        ("f16c", cfg!(target_feature = "f16c"), has(basic.ecx, 29)),
        ("avx2", cfg!(target_feature = "avx2"), has(extended.ebx, 5)),
        ("avx512f", cfg!(target_feature = "avx512f"), has(extended.ebx, 16)),
        ("avx512dq", cfg!(target_feature = "avx512dq"), has(extended.ebx, 17)),
        ("avx512bw", cfg!(target_feature = "avx512bw"), has(extended.ebx, 30)),
        ("avx512vl", cfg!(target_feature = "avx512vl"), has(extended.ebx, 31)),
        ("avx512vnni", cfg!(target_feature = "avx512vnni"), has(extended.ecx, 11)),
    ];
    needed.into_iter().filter(|&(_, needed, there)| needed && !there).map(|(name, ..)| name).collect()
}
