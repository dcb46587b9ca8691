//! Vectors of 16 integers, and the products of bytes that they sum.

use super::{SimdBytes, SimdF32};

/// Operations on 16 integers of 32 bits: sums of products of bytes, and conversions.
pub(crate) trait SimdI32: SimdF32 + SimdBytes {
    type I: Copy;
    /// What [`SimdI32::bias`] adds to signed bytes: 0 where the CPU multiplies signed by signed.
    const BIAS: i32;
    /// How many times [`SimdI32::dot_small`] may add to sums before they are widened.
    const MAX_SMALL_DOTS: usize = usize::MAX;

    fn zero_i32(self) -> Self::I;
    fn splat_i32(self, x: i32) -> Self::I;
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `sums[j] += Σ u[4j..4j+4] * s[4j..4j+4]` with `u` unsigned and below 128, so that it is a signed byte, too,
    /// and a pair of products fits 16 bits.
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I;
    /// [`SimdI32::dot`] with `u` at most 3, for sums that start as zeros and are widened after at most
    /// [`SimdI32::MAX_SMALL_DOTS`] additions.
    #[inline(always)]
    fn dot_small(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        self.dot(sums, u, s)
    }
    /// Converts sums of [`SimdI32::dot_small`] to those of [`SimdI32::dot`].
    #[inline(always)]
    fn widen(self, sums: Self::I) -> Self::I {
        sums
    }
    /// Signed bytes as [`SimdI32::dot_biased`] takes them: each plus [`SimdI32::BIAS`].
    fn bias(self, a: Self::B) -> Self::B;
    /// [`SimdI32::dot`] for biased signed `a`; the caller subtracts the bias. `s` is never -128.
    fn dot_biased(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I;
    /// The unsigned byte `n` of each lane of 4.
    fn extract_u8(self, a: Self::B, n: u32) -> Self::I;
    /// The signed byte `n` of each lane of 4.
    fn extract_i8(self, a: Self::B, n: u32) -> Self::I;
    /// Converts to the nearest floats.
    fn to_f32(self, a: Self::I) -> Self::F;
    /// The half-precision floats in the low and in the high halves of lanes of 4 bytes, widened.
    fn unpack_f16(self, a: Self::B) -> [Self::F; 2];
    /// Sums of all lanes of each, modulo 2^32.
    fn reduce_sums(self, a: [Self::I; 4]) -> [i32; 4];
}
