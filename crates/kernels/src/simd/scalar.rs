//! Plain Rust: the definition that the other instruction sets are tested against, and the fallback for CPUs without them.

use super::{BYTES, Job, LANES, SMALLEST_BF16, Simd, SimdBytes, SimdF32, SimdI32};
use half::{bf16, f16};
use std::array::from_fn;

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// See [`Simd::call`].
#[inline(never)]
fn call(job: impl Job) {
    job.run(Scalar);
}

fn le<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    from_fn(|j| bytes[i * N + j])
}

impl SimdF32 for Scalar {
    type F = [f32; LANES];

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
    fn unpack_bf16(self, a: Self::F) -> [Self::F; 2] {
        [a.map(|a| f32::from_bits(a.to_bits() << 16)), a.map(|a| f32::from_bits(a.to_bits() & 0xffff_0000))]
    }
    #[inline(always)]
    fn pack_bf16(self, a: [Self::F; 2]) -> Self::F {
        let bits = |i: usize| u32::from(bf16::from_f32(a[i / LANES][i % LANES]).to_bits());
        from_fn(|i| f32::from_bits(bits(2 * i) | bits(2 * i + 1) << 16))
    }
    #[inline(always)]
    fn flush_bf16(self, a: Self::F) -> Self::F {
        let flush = |half: u32| if half & 0x7fff < SMALLEST_BF16.into() { 0 } else { half };
        a.map(|a| f32::from_bits(flush(a.to_bits() & 0xffff) | flush(a.to_bits() >> 16) << 16))
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
    fn sqrt(self, a: Self::F) -> Self::F {
        a.map(f32::sqrt)
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
    fn reduce_max(self, a: Self::F) -> f32 {
        let most = |a: f32, b: f32| if a > b { a } else { b };
        let eight: [f32; 8] = from_fn(|i| most(a[i], a[i + 8]));
        let four: [f32; 4] = from_fn(|i| most(eight[i], eight[i + 4]));
        most(most(four[0], four[2]), most(four[1], four[3]))
    }
    #[inline(always)]
    fn reduce_sum(self, a: Self::F) -> f32 {
        let eight: [f32; 8] = from_fn(|i| a[i] + a[i + 8]);
        let four: [f32; 4] = from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        x.map(f32::from)
    }
}

impl SimdBytes for Scalar {
    type B = [u8; BYTES];

    #[inline(always)]
    fn load_bytes(self, x: &[u8; BYTES]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn load_halves(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B {
        from_fn(|i| if i < 32 { low[i] } else { high[i - 32] })
    }
    #[inline(always)]
    fn load_quarters(self, x: [&[u8; 16]; 4]) -> Self::B {
        from_fn(|i| x[i / 16][i % 16])
    }
    #[inline(always)]
    fn splat_i8x4(self, x: &[i8; 4]) -> Self::B {
        from_fn(|i| x[i % 4] as u8)
    }
    #[inline(always)]
    fn splat_u8(self, x: u8) -> Self::B {
        [x; BYTES]
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]) {
        *out = a;
    }
    #[inline(always)]
    fn shr_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        a.map(|a| (a >> n) & mask)
    }
    #[inline(always)]
    fn shl_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        a.map(|a| (a << n) & mask)
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], a: Self::B) -> Self::B {
        a.map(|a| table[a as usize & 15])
    }
    #[inline(always)]
    fn expand_bits(self, a: Self::B, n: u32, value: u8) -> Self::B {
        let n = n as usize;
        from_fn(|i| if a[i / 4 * 4 + n / 2] >> (n % 2 * 4 + i % 4) & 1 == 1 { value } else { 0 })
    }
    #[inline(always)]
    fn bit_fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B {
        from_fn(|i| (u32::from_le_bytes(le(&a, i / 4)) >> at[i % 4]) as u8 & mask[i % 4])
    }
    #[inline(always)]
    fn trits(self, a: Self::B) -> [Self::B; 5] {
        [1u8, 3, 9, 27, 81].map(|power| a.map(|a| ((3 * a.wrapping_mul(power) as u16) >> 8) as u8))
    }
    #[inline(always)]
    fn transpose8(self, rows: [Self::B; 8]) -> [Self::B; 8] {
        from_fn(|c| from_fn(|i| rows[i / 4 % 8][32 * (i / 32) + 4 * c + i % 4]))
    }
    #[inline(always)]
    fn transpose4(self, rows: [Self::B; 4]) -> [Self::B; 4] {
        from_fn(|c| from_fn(|i| rows[i / 4 % 4][16 * (i / 16) + 4 * c + i % 4]))
    }
}

impl SimdI32 for Scalar {
    type I = [i32; LANES];
    const BIAS: i32 = 0;

    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        [0; LANES]
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        from_fn(|j| sums[j] + (4 * j..4 * j + 4).map(|i| u[i] as i32 * s[i] as i8 as i32).sum::<i32>())
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn bias(self, a: Self::B) -> Self::B {
        a
    }
    #[inline(always)]
    fn dot_biased(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        from_fn(|j| sums[j] + (4 * j..4 * j + 4).map(|i| a[i] as i8 as i32 * s[i] as i8 as i32).sum::<i32>())
    }
    #[inline(always)]
    fn extract_u8(self, a: Self::B, n: u32) -> Self::I {
        from_fn(|j| a[4 * j + n as usize] as i32)
    }
    #[inline(always)]
    fn extract_i8(self, a: Self::B, n: u32) -> Self::I {
        from_fn(|j| a[4 * j + n as usize] as i8 as i32)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        a.map(|a| a as f32)
    }
    #[inline(always)]
    fn unpack_f16(self, a: Self::B) -> [Self::F; 2] {
        [0, 2].map(|at| from_fn(|j| f16::from_le_bytes([a[4 * j + at], a[4 * j + at + 1]]).to_f32()))
    }
    #[inline(always)]
    fn reduce_sums(self, a: [Self::I; 4]) -> [i32; 4] {
        a.map(|a| a.into_iter().fold(0, i32::wrapping_add))
    }
}

impl Simd for Scalar {
    const WIDE: bool = false;

    #[inline(always)]
    fn call(self, job: impl Job) {
        call(job);
    }
    #[inline(always)]
    fn prefetch_l1(self, _: *const u8) {}
    #[inline(always)]
    fn prefetch_l2(self, _: *const u8) {}
}
