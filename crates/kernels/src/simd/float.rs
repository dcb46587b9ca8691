//! Vectors of 16 floats: arithmetic and reductions.

/// Lanes of [`SimdF32::F`] and of [`SimdI32::I`](super::SimdI32::I).
pub(crate) const LANES: usize = 16;

/// The bits of 2^-56 as bfloat16. The product of two such numbers or larger ones has 16 bits, the last worth 2^-126 at least.
pub(crate) const SMALLEST_BF16: u16 = (127 - 56) << 7;

/// Operations on 16 floats. Slices must hold at least 16 elements; the methods check.
pub(crate) trait SimdF32: Copy {
    type F: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32]) -> Self::F;
    fn store(self, x: Self::F, out: &mut [f32]);
    /// 16 little-endian floats of 4 bytes each, at any alignment.
    fn load_f32(self, bytes: &[u8]) -> Self::F;
    /// 16 half-precision floats, widened.
    fn load_f16(self, bytes: &[u8]) -> Self::F;
    /// 16 bfloat16 numbers, widened.
    fn load_bf16(self, bytes: &[u8]) -> Self::F;
    /// Lanes that are two bfloat16 numbers each, widened: those in the low halves, and those in the high halves.
    fn unpack_bf16(self, a: Self::F) -> [Self::F; 2];
    /// The bfloat16 numbers nearest to those of both, ties to even, in their order: lanes that are two each.
    fn pack_bf16(self, a: [Self::F; 2]) -> Self::F;
    /// Lanes that are two bfloat16 numbers each, with zero for those below [`SMALLEST_BF16`].
    fn flush_bf16(self, a: Self::F) -> Self::F;
    /// 16 signed bytes, converted.
    fn load_i8(self, x: &[i8; LANES]) -> Self::F;
    /// Integral values in -128..=127 as bytes.
    fn store_i8(self, a: Self::F, out: &mut [i8]);
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
    fn sqrt(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integral `n` in -126..=127; unspecified for other values.
    fn exp2(self, n: Self::F) -> Self::F;
    /// The sum of the lanes in the one canonical tree: halves, then quarters, down to a pair.
    fn reduce_sum(self, a: Self::F) -> f32;
    /// The largest lane, compared in the tree of [`SimdF32::reduce_sum`] as [`SimdF32::max`] does.
    fn reduce_max(self, a: Self::F) -> f32;
}
