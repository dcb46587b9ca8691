//! The few vector operations that every kernel is written over.
//!
//! Widths are *virtual*: 16 float lanes, 64 bytes, 16 integer lanes on every instruction set. A machine with narrower registers uses
//! several, so a kernel's float operations happen in the same lanes and the same order everywhere and its results have the same bits.

use crate::gemm;

pub(crate) mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;

/// Float lanes of [`Simd::F`].
pub(crate) const LANES: usize = 16;
/// Bytes of [`Simd::B`].
pub(crate) const BYTES: usize = 64;

/// One instruction set. A value of an implementing type is proof that this CPU has it.
///
/// Every operation is exact or rounds once as IEEE 754 says, so all implementations agree in every bit (payloads of NaN excepted).
/// Slices must be long enough; the methods check.
pub(crate) trait Simd: Copy {
    /// Registers are many and wide: matrix products in larger tiles pay. It changes speed, never results.
    const WIDE: bool;
    /// What [`Simd::raise`] adds to signed bytes.
    const RAISED: i32;
    /// 16 floats.
    type F: Copy;
    /// 64 bytes, signed or unsigned as the operation says.
    type B: Copy;
    /// 16 integers of 32 bits.
    type I: Copy;

    /// Runs a job in a function of its own that has the CPU's instructions: what is large and called from several places is there once.
    fn call(self, job: impl Job);

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
    /// [`gemm::pairs`] where there is [`Simd::fma_pairs`]: CPUs with the same instruction set differ.
    #[inline(always)]
    fn pairs(self) -> Option<fn(&gemm::Tile)> {
        None
    }
    /// `c + a0 * b0 + a1 * b1` of lanes that are two bfloat16 each, rounded as the CPU does it.
    #[inline(always)]
    fn fma_pairs(self, _a: Self::F, _b: Self::F, _c: Self::F) -> Self::F {
        unreachable!("asked for only where it is")
    }
    /// `a > b ? a : b` in each lane: the second where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b` in each lane: the second where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integral `n` in -126..=127; anything for other values.
    fn exp2(self, n: Self::F) -> Self::F;
    /// Integral values in -128..=127 as bytes.
    fn store_i8(self, a: Self::F, out: &mut [i8]);
    /// The largest lane, compared in the tree of [`Simd::sum`] as [`Simd::max`] does.
    fn largest(self, a: Self::F) -> f32;
    /// The lanes added in the one canonical tree: halves, then quarters, down to a pair.
    fn sum(self, a: Self::F) -> f32;

    fn bytes(self, x: &[u8; BYTES]) -> Self::B;
    /// Fewer than 64 bytes, then zeros.
    #[inline(always)]
    fn part(self, x: &[u8]) -> Self::B {
        let mut all = [0; BYTES];
        all[..x.len()].copy_from_slice(x);
        self.bytes(&all)
    }
    /// 32 bytes, then 32 others.
    fn pair(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B;
    /// Four times 16 bytes.
    fn quad(self, x: [&[u8; 16]; 4]) -> Self::B;
    /// 4 bytes, 16 times.
    fn splat4(self, x: &[i8; 4]) -> Self::B;
    fn splat8(self, x: u8) -> Self::B;
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]);
    /// Every byte shifted right by `n` in 0..8, and masked by `mask`, which must clear what the shift brings in from a neighbour.
    fn shift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B;
    /// Every byte shifted left by `n`, and masked likewise.
    fn lift_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// The entry of the table for each byte, which is below 16.
    fn pick(self, table: &[u8; 16], a: Self::B) -> Self::B;
    /// The points of a grid for each byte of `low` and that of `high`, which is what the index has above it: `WIDTH` bytes of every lane for
    /// its four points, one behind the other, 4 bytes in each vector.
    #[inline(always)]
    fn points<const WIDTH: usize, const N: usize>(
        self,
        grid: &Grid<WIDTH, N>,
        low: Self::B,
        high: Self::B,
    ) -> [Self::B; WIDTH] {
        let (mut indices, mut bytes, mut points) = ([[0; BYTES]; 2], [[0; BYTES]; WIDTH], [low; WIDTH]);
        self.store_bytes(low, &mut indices[0]);
        self.store_bytes(high, &mut indices[1]);
        for i in 0..BYTES {
            let index = indices[0][i] as usize | (indices[1][i] as usize) << 8;
            let point = &grid.points.as_flattened()[index % (BYTES * N)];
            for (j, four) in point.as_chunks::<4>().0.iter().enumerate() {
                bytes[i % 4 * (WIDTH / 4) + j].as_chunks_mut().0[i / 4] = *four;
            }
        }
        for k in 0..WIDTH {
            points[k] = self.bytes(&bytes[k]);
        }
        points
    }
    /// Byte `j` of each lane of 4 bytes: those 8 bits of the lane that begin at bit `at[j]`, masked by `mask[j]`, which leaves none from beyond it.
    fn fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B;
    /// Bits `4 n..4 n + 4` of each lane of 4 bytes, a byte for each: `value`, a power of two, where it is set, or 0.
    fn spread(self, a: Self::B, n: u32, value: u8) -> Self::B;
    /// For each byte, five trits packed as a fixed-point fraction of 256: trit `n` is the high byte of `3 * (byte * 3^n mod 256)`.
    fn trits(self, a: Self::B) -> [Self::B; 5];
    /// Rows of 8 groups of 4 bytes, two in each input (`j` and `j + 8`), to columns: output `c` has group `c` of each of the 16 rows.
    fn transpose8(self, rows: [Self::B; 8]) -> [Self::B; 8];
    /// The same for 4 groups: input `j` has rows `j`, `j + 4`, `j + 8` and `j + 12`.
    fn transpose4(self, rows: [Self::B; 4]) -> [Self::B; 4];

    fn zero(self) -> Self::I;
    fn splat_int(self, x: i32) -> Self::I;
    /// `sums[j] += Σ u[4j..4j+4] * s[4j..4j+4]` with `u` unsigned and below 128, so that it is a signed byte, too, and a pair of products fits 16 bits.
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I;
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// How many times [`Simd::dot_small`] may add to sums.
    const SMALL: usize = usize::MAX;
    /// [`Simd::dot`] with `u` at most 3, for sums that began with zeros and are widened after [`Simd::SMALL`] times.
    #[inline(always)]
    fn dot_small(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        self.dot(sums, u, s)
    }
    /// Sums of [`Simd::dot_small`] as [`Simd::dot`] has them.
    #[inline(always)]
    fn widen(self, sums: Self::I) -> Self::I {
        sums
    }
    /// Signed bytes as [`Simd::dot_raised`] wants them.
    fn raise(self, a: Self::B) -> Self::B;
    /// [`Simd::dot`] for signed `a` that was raised: each is greater by [`Simd::RAISED`]. `s` is never -128.
    fn dot_raised(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I;
    /// The unsigned byte `n` of each lane of 4.
    fn byte(self, a: Self::B, n: u32) -> Self::I;
    /// The signed byte `n` of each lane of 4.
    fn signed_byte(self, a: Self::B, n: u32) -> Self::I;
    /// The nearest floats.
    fn to_float(self, a: Self::I) -> Self::F;
    /// The half-precision floats in the low and in the high halves of lanes of 4 bytes, widened.
    fn two_f16(self, a: Self::B) -> [Self::F; 2];
    /// Sums of all lanes of each, modulo 2^32.
    fn sums(self, a: [Self::I; 4]) -> [i32; 4];
    /// Asks for the cache line of `at`, which need not be there.
    fn prefetch(self, at: *const u8);
    /// The same in the second-level cache, for lines that come in bursts: the innermost cache waits for few at a time.
    fn prefetch_second(self, at: *const u8);
    /// 16 signed bytes as floats.
    fn load_i8(self, x: &[i8; LANES]) -> Self::F;
}

/// What [`Simd::call`] runs; inlined there, as all that it calls.
pub(crate) trait Job {
    fn run<S: Simd>(self, simd: S);
}

/// `64 N` points of `WIDTH` coordinates.
pub(crate) struct Grid<const WIDTH: usize, const N: usize> {
    pub points: [[[u8; WIDTH]; BYTES]; N],
    /// The same in 16 bits each: first the low bytes of all, then the high ones.
    pub packed: [[[u8; BYTES]; N]; 2],
}

/// For [`Simd::spread`]: which byte of 16 has the bits of each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn spread_bytes(n: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    for i in 0..16 {
        bytes[i] = (i / 4 * 4) as u8 + n as u8 / 2;
    }
    bytes
}

/// For [`Simd::spread`]: which bit of its byte each is.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn spread_bits(n: u32) -> [i8; 4] {
    let first = 1u8 << (n % 2 * 4);
    [first as i8, (first << 1) as i8, (first << 2) as i8, (first << 3) as i8]
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
        ("avx512vbmi", cfg!(target_feature = "avx512vbmi"), has(extended.ecx, 1)),
    ];
    needed.into_iter().filter(|&(_, needed, there)| needed && !there).map(|(name, ..)| name).collect()
}

/// See [`crate::missing_features`]. `is_aarch64_feature_detected!` trusts the compiler's flags, too; Linux tells what there is.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
pub(crate) fn missing_features() -> Vec<&'static str> {
    // Pairs of a key and a value, the two masks of the CPU's features among them: `AT_HWCAP` and `AT_HWCAP2` of getauxval(3).
    let Ok(pairs) = std::fs::read("/proc/self/auxv") else { return Vec::new() };
    let pairs = pairs.as_chunks::<16>().0.iter().map(|pair| u128::from_ne_bytes(*pair));
    let (mut first, mut second) = (0, 0);
    for pair in pairs {
        match pair as u64 {
            16 => first = (pair >> 64) as u64,
            26 => second = (pair >> 64) as u64,
            _ => (),
        }
    }
    let has = |mask: u64, bit: u32| mask >> bit & 1 == 1;
    let needed = [
        ("lse", cfg!(target_feature = "lse"), has(first, 8)),
        ("fp16", cfg!(target_feature = "fp16"), has(first, 10)),
        ("dotprod", cfg!(target_feature = "dotprod"), has(first, 20)),
        ("sve", cfg!(target_feature = "sve"), has(first, 22)),
        ("sve2", cfg!(target_feature = "sve2"), has(second, 1)),
        ("i8mm", cfg!(target_feature = "i8mm"), has(second, 13)),
        ("bf16", cfg!(target_feature = "bf16"), has(second, 14)),
    ];
    needed.into_iter().filter(|&(_, needed, there)| needed && !there).map(|(name, ..)| name).collect()
}
