//! Plain Rust: the definition that the other instruction sets are tested against, and the fallback for CPUs without them.

use super::{BYTES, LANES, Simd};
use half::{bf16, f16};
use std::array::from_fn;

#[derive(Clone, Copy)]
pub(crate) struct Scalar(());

table!(Scalar, "scalar", supported: true);

fn le<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    from_fn(|j| bytes[i * N + j])
}

impl Simd for Scalar {
    const WIDE: bool = false;
    type F = [f32; LANES];
    type B = [u8; BYTES];
    type I = [i32; 8];
    type H = [f32; 8];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        from_fn(|i| x[i])
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32]) {
        out[..LANES].copy_from_slice(&x);
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        from_fn(|i| f32::from_le_bytes(le(bytes, i)))
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        from_fn(|i| f16::from_le_bytes(le(bytes, i)).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        from_fn(|i| bf16::from_le_bytes(le(bytes, i)).to_f32())
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn exp2(self, n: Self::F) -> Self::F {
        n.map(|n| f32::from_bits((n as i32).wrapping_add(127).wrapping_shl(23) as u32))
    }
    #[inline(always)]
    fn store_i8(self, a: Self::F, out: &mut [i8]) {
        out[..LANES].copy_from_slice(&a.map(|a| a as i8));
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        self.sum_half(from_fn(|i| a[i] + a[i + 8]))
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; BYTES]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn signed(self, x: &[i8; BYTES]) -> Self::B {
        x.map(|x| x as u8)
    }
    #[inline(always)]
    fn twice(self, x: &[u8; 16]) -> Self::B {
        from_fn(|i| x[i % 16])
    }
    #[inline(always)]
    fn splat8(self, x: u8) -> Self::B {
        [x; BYTES]
    }
    #[inline(always)]
    fn shift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        a.map(|a| (a >> n) & mask)
    }
    #[inline(always)]
    fn lift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        a.map(|a| (a << n) & mask)
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn halves(self, a: Self::B, b: Self::B) -> Self::B {
        from_fn(|i| if i < 16 { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn add8(self, a: Self::B, b: Self::B) -> Self::B {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn at_least(self, a: Self::B, least: u8) -> Self::B {
        a.map(|a| (a >= least) as u8)
    }

    #[inline(always)]
    fn zero(self) -> Self::I {
        [0; 8]
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        from_fn(|j| sums[j] + (4 * j..4 * j + 4).map(|i| u[i] as i32 * s[i] as i8 as i32).sum::<i32>())
    }
    #[inline(always)]
    fn dot_signed(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        from_fn(|j| sums[j] + (4 * j..4 * j + 4).map(|i| a[i] as i8 as i32 * s[i] as i8 as i32).sum::<i32>())
    }
    #[inline(always)]
    fn ints(self, x: &[i32; 8]) -> Self::I {
        *x
    }
    #[inline(always)]
    fn two_ints(self, low: i32, high: i32) -> Self::I {
        from_fn(|i| if i < 4 { low } else { high })
    }
    #[inline(always)]
    fn mul_int(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|i| a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn sums(self, a: [Self::I; 8]) -> Self::I {
        a.map(|a| self.sum_all(a))
    }
    #[inline(always)]
    fn sum_all(self, a: Self::I) -> i32 {
        a.into_iter().fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    fn half(self, x: &[f32; 8]) -> Self::H {
        *x
    }
    #[inline(always)]
    fn half_f16(self, x: &[u16; 8]) -> Self::H {
        x.map(|x| f16::from_bits(x).to_f32())
    }
    #[inline(always)]
    fn to_half(self, a: Self::I) -> Self::H {
        a.map(|a| a as f32)
    }
    #[inline(always)]
    fn mul_half(self, a: Self::H, b: Self::H) -> Self::H {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn fma_half(self, a: Self::H, b: Self::H, c: Self::H) -> Self::H {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn sum_half(self, a: Self::H) -> f32 {
        let four: [f32; 4] = from_fn(|i| a[i] + a[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }

    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        x.map(f32::from)
    }
    #[inline(always)]
    fn prefetch(self, _x: &[u8]) {}
}
