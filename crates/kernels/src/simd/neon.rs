//! aarch64: four registers for everything. CPUs differ in how they multiply bytes, so there are three tables: with
//! I8MM, with the dot product of Armv8.2, and with plain NEON, which every such CPU has.

use super::bytes::{bit_masks, bit_sources};
use super::{BYTES, Job, LANES, SMALLEST_BF16, Simd, SimdBytes, SimdF32, SimdI32};
use core::arch::{aarch64::*, asm};
use std::arch::is_aarch64_feature_detected;

/// Only built inside the `target_feature` functions of a table, which have the instructions of `M`.
#[derive(Clone, Copy)]
pub(crate) struct Neon<M>(M);

/// Products of bytes, four to a sum.
pub(crate) trait Multiply: Copy {
    /// Signed by signed that is never -128.
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn signed(sums: int32x4_t, a: uint8x16_t, s: uint8x16_t) -> int32x4_t;
    /// Unsigned below 128, which is a signed byte, too, by signed.
    ///
    /// # Safety
    /// The CPU has the instructions.
    #[inline(always)]
    unsafe fn unsigned(sums: int32x4_t, u: uint8x16_t, s: uint8x16_t) -> int32x4_t {
        // SAFETY: as the function's.
        unsafe { Self::signed(sums, u, s) }
    }
    /// See [`Simd::call`].
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn call(job: impl Job);
}

pub(crate) mod plain {
    use super::*;

    table!(Neon(Plain), "neon", features: "neon", supported: is_aarch64_feature_detected!("neon"));

    #[derive(Clone, Copy)]
    pub(crate) struct Plain;

    impl Multiply for Plain {
        #[inline(always)]
        unsafe fn call(job: impl Job) {
            // SAFETY: as the function's.
            unsafe { call(job) }
        }
        #[inline(always)]
        unsafe fn signed(sums: int32x4_t, a: uint8x16_t, s: uint8x16_t) -> int32x4_t {
            // SAFETY: as the function's.
            unsafe {
                let (a, s) = (vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(s));
                let (low, high) = (vmull_s8(vget_low_s8(a), vget_low_s8(s)), vmull_high_s8(a, s));
                // No overflow: a product is at most 127 * 128 in size, and two of them fit 16 bits.
                vpadalq_s16(sums, vpaddq_s16(low, high))
            }
        }
    }
}

pub(crate) mod dotprod {
    use super::*;

    table!(Neon(Dotprod), "dotprod", features: "neon,dotprod",
        supported: is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod"));

    #[derive(Clone, Copy)]
    pub(crate) struct Dotprod;

    impl Multiply for Dotprod {
        #[inline(always)]
        unsafe fn call(job: impl Job) {
            // SAFETY: as the function's.
            unsafe { call(job) }
        }
        #[inline(always)]
        unsafe fn signed(sums: int32x4_t, a: uint8x16_t, s: uint8x16_t) -> int32x4_t {
            // SAFETY: as the function's.
            unsafe { sdot(sums, a, s) }
        }
    }

    /// Stable Rust has no name for the instruction.
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    pub(super) fn sdot(mut sums: int32x4_t, a: uint8x16_t, b: uint8x16_t) -> int32x4_t {
        // SAFETY: it touches these registers only.
        unsafe {
            asm!("sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b", sums = inout(vreg) sums, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags));
        }
        sums
    }
}

pub(crate) mod i8mm {
    use super::*;

    table!(Neon(I8mm), "i8mm", features: "neon,dotprod,i8mm",
        supported: is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod")
            && is_aarch64_feature_detected!("i8mm"));

    #[derive(Clone, Copy)]
    pub(crate) struct I8mm;

    impl Multiply for I8mm {
        #[inline(always)]
        unsafe fn call(job: impl Job) {
            // SAFETY: as the function's.
            unsafe { call(job) }
        }
        #[inline(always)]
        unsafe fn signed(sums: int32x4_t, a: uint8x16_t, s: uint8x16_t) -> int32x4_t {
            // SAFETY: as the function's.
            unsafe { dotprod::sdot(sums, a, s) }
        }
        #[inline(always)]
        unsafe fn unsigned(sums: int32x4_t, u: uint8x16_t, s: uint8x16_t) -> int32x4_t {
            // SAFETY: as the function's.
            unsafe { usdot(sums, u, s) }
        }
    }

    /// Stable Rust has no name for the instruction.
    #[inline]
    #[target_feature(enable = "neon,i8mm")]
    fn usdot(mut sums: int32x4_t, u: uint8x16_t, s: uint8x16_t) -> int32x4_t {
        // SAFETY: it touches these registers only.
        unsafe {
            asm!("usdot {sums:v}.4s, {u:v}.16b, {s:v}.16b", sums = inout(vreg) sums, u = in(vreg) u, s = in(vreg) s,
                options(pure, nomem, nostack, preserves_flags));
        }
        sums
    }
}

// SAFETY (all blocks below): `Neon` exists only where the CPU has the instructions, and every pointer comes from a slice that was
// just cut to the length that is read or written.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<M: Multiply> SimdF32 for Neon<M> {
    type F = [float32x4_t; 4];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [unsafe { vdupq_n_f32(x) }; 4]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        let x = x[..LANES].as_ptr();
        unsafe { [vld1q_f32(x), vld1q_f32(x.add(4)), vld1q_f32(x.add(8)), vld1q_f32(x.add(12))] }
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32]) {
        let out = out[..LANES].as_mut_ptr();
        unsafe {
            vst1q_f32(out, x[0]);
            vst1q_f32(out.add(4), x[1]);
            vst1q_f32(out.add(8), x[2]);
            vst1q_f32(out.add(12), x[3]);
        }
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        let x = self.load_bytes(bytes.first_chunk().expect("16 floats"));
        quarters!(|x| unsafe { vreinterpretq_f32_u8(x) })
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        let x = words(bytes);
        quarters!(|x| unsafe { vcvt_f32_f16(vreinterpret_f16_u16(x)) })
    }
    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        let x = words(bytes);
        quarters!(|x| unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(x)) })
    }
    #[inline(always)]
    fn unpack_bf16(self, a: Self::F) -> [Self::F; 2] {
        let a = quarters!(|a| unsafe { vreinterpretq_u32_f32(a) });
        [
            quarters!(|a| unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(a)) }),
            quarters!(|a| unsafe { vreinterpretq_f32_u32(vandq_u32(a, vdupq_n_u32(0xffff_0000))) }),
        ]
    }
    #[inline(always)]
    fn pack_bf16(self, a: [Self::F; 2]) -> Self::F {
        let round = |x: float32x4_t| unsafe {
            let bits = vreinterpretq_u32_f32(x);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let near = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
            let quiet = vorrq_u32(bits, vdupq_n_u32(1 << 22));
            vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(x, x), near, quiet))
        };
        let [a, b] = a.map(|[a, b, c, d]| unsafe {
            [vcombine_u16(round(a), round(b)), vcombine_u16(round(c), round(d))].map(|x| vreinterpretq_f32_u16(x))
        });
        [a[0], a[1], b[0], b[1]]
    }
    #[inline(always)]
    fn flush_bf16(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe {
            let a = vreinterpretq_u16_f32(a);
            let kept = vcgeq_u16(vandq_u16(a, vdupq_n_u16(0x7fff)), vdupq_n_u16(SMALLEST_BF16));
            vreinterpretq_f32_u16(vandq_u16(a, kept))
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        quarters!(|a, b, c| unsafe { vfmaq_f32(c, a, b) })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // NEON's own maximum is NaN where either is.
        quarters!(|a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe { vsqrtq_f32(a) })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe { vabsq_f32(a) })
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        quarters!(|a| unsafe { vrndnq_f32(a) })
    }
    #[inline(always)]
    fn exp2(self, n: Self::F) -> Self::F {
        quarters!(|n| unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }
    #[inline(always)]
    fn store_i8(self, a: Self::F, out: &mut [i8]) {
        let out = out[..LANES].as_mut_ptr();
        unsafe {
            let [a, b, c, d] = quarters!(|a| vqmovn_s32(vcvtq_s32_f32(a)));
            let (low, high) = (vqmovn_s16(vcombine_s16(a, b)), vqmovn_s16(vcombine_s16(c, d)));
            vst1q_s8(out, vcombine_s8(low, high));
        }
    }
    #[inline(always)]
    fn reduce_max(self, [a, b, c, d]: Self::F) -> f32 {
        unsafe {
            let most = |a, b| vbslq_f32(vcgtq_f32(a, b), a, b);
            let four = most(most(a, c), most(b, d));
            let two = most(four, vextq_f32::<2>(four, four));
            vgetq_lane_f32::<0>(most(two, vextq_f32::<1>(two, two)))
        }
    }
    #[inline(always)]
    fn reduce_sum(self, [a, b, c, d]: Self::F) -> f32 {
        unsafe {
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::F {
        unsafe {
            let x = vld1q_s8(x.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            let x = [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ];
            self.to_f32(x)
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl<M: Multiply> SimdBytes for Neon<M> {
    type B = [uint8x16_t; 4];

    #[inline(always)]
    fn load_bytes(self, x: &[u8; BYTES]) -> Self::B {
        let x = x.as_ptr();
        unsafe { [vld1q_u8(x), vld1q_u8(x.add(16)), vld1q_u8(x.add(32)), vld1q_u8(x.add(48))] }
    }
    #[inline(always)]
    fn load_halves(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B {
        let (low, high) = (low.as_ptr(), high.as_ptr());
        unsafe { [vld1q_u8(low), vld1q_u8(low.add(16)), vld1q_u8(high), vld1q_u8(high.add(16))] }
    }
    #[inline(always)]
    fn load_quarters(self, x: [&[u8; 16]; 4]) -> Self::B {
        quarters!(|x| unsafe { vld1q_u8(x.as_ptr()) })
    }
    #[inline(always)]
    fn splat_i8x4(self, x: &[i8; 4]) -> Self::B {
        let x = u32::from_le_bytes(*bytemuck::cast_ref(x));
        [unsafe { vreinterpretq_u8_u32(vdupq_n_u32(x)) }; 4]
    }
    #[inline(always)]
    fn splat_u8(self, x: u8) -> Self::B {
        [unsafe { vdupq_n_u8(x) }; 4]
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]) {
        let out = out.as_mut_ptr();
        unsafe {
            vst1q_u8(out, a[0]);
            vst1q_u8(out.add(16), a[1]);
            vst1q_u8(out.add(32), a[2]);
            vst1q_u8(out.add(48), a[3]);
        }
    }
    #[inline(always)]
    fn shr_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        quarters!(|a| unsafe { vandq_u8(vshlq_u8(a, vdupq_n_s8(-(n as i8))), vdupq_n_u8(mask)) })
    }
    #[inline(always)]
    fn shl_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B {
        quarters!(|a| unsafe { vandq_u8(vshlq_u8(a, vdupq_n_s8(n as i8)), vdupq_n_u8(mask)) })
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        quarters!(|a, b| unsafe { vorrq_u8(a, b) })
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], a: Self::B) -> Self::B {
        let table = unsafe { vld1q_u8(table.as_ptr()) };
        quarters!(|a| unsafe { vqtbl1q_u8(table, a) })
    }
    #[inline(always)]
    fn expand_bits(self, a: Self::B, n: u32, value: u8) -> Self::B {
        let (byte, bit) = (self.load_quarters([&bit_sources(n); 4])[0], self.splat_i8x4(&bit_masks(n))[0]);
        quarters!(|a| unsafe { vandq_u8(vtstq_u8(vqtbl1q_u8(a, byte), bit), vdupq_n_u8(value)) })
    }
    #[inline(always)]
    fn bit_fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B {
        let mut fields = self.splat_u8(0);
        for j in 0..4 {
            let (left, mask) = (8 * j as i32 - at[j] as i32, (mask[j] as u32) << (8 * j));
            let field = quarters!(|a| unsafe {
                let there = vshlq_u32(vreinterpretq_u32_u8(a), vdupq_n_s32(left));
                vreinterpretq_u8_u32(vandq_u32(there, vdupq_n_u32(mask)))
            });
            fields = self.or(fields, field);
        }
        fields
    }
    #[inline(always)]
    fn trits(self, a: Self::B) -> [Self::B; 5] {
        let (mut trits, mut rest) = ([a; 5], a);
        for trit in &mut trits {
            // Three halves of the byte, halved and with 6 bits less; that a half is rounded down changes none of the 256 results.
            *trit = quarters!(|rest| unsafe { vshrq_n_u8::<6>(vhaddq_u8(rest, vshrq_n_u8::<1>(rest))) });
            rest = quarters!(|rest| unsafe { vaddq_u8(vaddq_u8(rest, rest), rest) });
        }
        trits
    }
    #[inline(always)]
    fn transpose8(self, [a, b, c, d, e, f, g, h]: [Self::B; 8]) -> [Self::B; 8] {
        // Registers of rows 0..8: groups 0..4, groups 4..8, and the same of rows 8..16.
        let (top, bottom) = (self.transpose4([a, b, c, d]), self.transpose4([e, f, g, h]));
        let mut columns = [a; 8];
        for c in 0..4 {
            columns[c] = [top[c][0], bottom[c][0], top[c][2], bottom[c][2]];
            columns[c + 4] = [top[c][1], bottom[c][1], top[c][3], bottom[c][3]];
        }
        columns
    }
    #[inline(always)]
    fn transpose4(self, [a, b, c, d]: [Self::B; 4]) -> [Self::B; 4] {
        let [e, f, g, h] = quarters!(|a, b, c, d| unsafe { square(a, b, c, d) });
        let mut columns = [a; 4];
        for c in 0..4 {
            columns[c] = [e[c], f[c], g[c], h[c]];
        }
        columns
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl<M: Multiply> SimdI32 for Neon<M> {
    type I = [int32x4_t; 4];
    const BIAS: i32 = 0;

    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        self.splat_i32(0)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [unsafe { vdupq_n_s32(x) }; 4]
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, u: Self::B, s: Self::B) -> Self::I {
        quarters!(|sums, u, s| unsafe { M::unsigned(sums, u, s) })
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        unsafe { [vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1]), vaddq_s32(a[2], b[2]), vaddq_s32(a[3], b[3])] }
    }
    #[inline(always)]
    fn bias(self, a: Self::B) -> Self::B {
        a
    }
    #[inline(always)]
    fn dot_biased(self, sums: Self::I, a: Self::B, s: Self::B) -> Self::I {
        quarters!(|sums, a, s| unsafe { M::signed(sums, a, s) })
    }
    #[inline(always)]
    fn extract_u8(self, a: Self::B, n: u32) -> Self::I {
        quarters!(|a| unsafe {
            let byte = vshlq_u32(vreinterpretq_u32_u8(a), vdupq_n_s32(-8 * n as i32));
            vreinterpretq_s32_u32(vandq_u32(byte, vdupq_n_u32(255)))
        })
    }
    #[inline(always)]
    fn extract_i8(self, a: Self::B, n: u32) -> Self::I {
        quarters!(|a| unsafe { vshrq_n_s32::<24>(vshlq_s32(vreinterpretq_s32_u8(a), vdupq_n_s32(24 - 8 * n as i32))) })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        quarters!(|a| unsafe { vcvtq_f32_s32(a) })
    }
    #[inline(always)]
    fn unpack_f16(self, a: Self::B) -> [Self::F; 2] {
        let a = quarters!(|a| unsafe { vreinterpretq_u32_u8(a) });
        [
            quarters!(|a| unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(a))) }),
            quarters!(|a| unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32::<16>(a))) }),
        ]
    }
    #[inline(always)]
    fn reduce_sums(self, a: [Self::I; 4]) -> [i32; 4] {
        unsafe {
            let [a, b, c, d] = quarters!(|a| vaddq_s32(vaddq_s32(a[0], a[1]), vaddq_s32(a[2], a[3])));
            let mut out = [0; 4];
            vst1q_s32(out.as_mut_ptr(), vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
            out
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "as above")]
impl<M: Multiply> Simd for Neon<M> {
    const WIDE: bool = false;

    #[inline(always)]
    fn call(self, job: impl Job) {
        unsafe { M::call(job) }
    }
    #[inline(always)]
    fn prefetch_l1(self, at: *const u8) {
        unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags)) }
    }
    #[inline(always)]
    fn prefetch_l2(self, at: *const u8) {
        unsafe { asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags)) }
    }
}

/// 16 words of 2 bytes.
#[inline(always)]
fn words(bytes: &[u8]) -> [uint16x4_t; 4] {
    let x = bytes[..2 * LANES].as_ptr();
    // SAFETY: the slice was just cut to the length that is read; every aarch64 that has these registers has the instructions.
    unsafe {
        let (low, high) = (vreinterpretq_u16_u8(vld1q_u8(x)), vreinterpretq_u16_u8(vld1q_u8(x.add(16))));
        [vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)]
    }
}

/// Four rows of four groups of 4 bytes to columns.
///
/// # Safety
/// The CPU has NEON.
#[inline(always)]
unsafe fn square(a: uint8x16_t, b: uint8x16_t, c: uint8x16_t, d: uint8x16_t) -> [uint8x16_t; 4] {
    // SAFETY: as the function's.
    unsafe {
        let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
        let (c, d) = (vreinterpretq_u32_u8(c), vreinterpretq_u32_u8(d));
        // Of rows `a` and `b`: groups 0 and 2, groups 1 and 3; then of `c` and `d`.
        let pairs = [vtrn1q_u32(a, b), vtrn2q_u32(a, b), vtrn1q_u32(c, d), vtrn2q_u32(c, d)];
        let [e, f, g, h] = quarters!(|pairs| vreinterpretq_u64_u32(pairs));
        let columns = [vtrn1q_u64(e, g), vtrn1q_u64(f, h), vtrn2q_u64(e, g), vtrn2q_u64(f, h)];
        quarters!(|columns| vreinterpretq_u8_u64(columns))
    }
}
