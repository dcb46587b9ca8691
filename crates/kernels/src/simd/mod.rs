//! The few vector operations that every kernel is written over.
//!
//! Widths are *virtual*: 16 float lanes, 64 bytes, 16 integer lanes on every instruction set. A CPU with narrower
//! registers uses several, so a kernel's float operations happen in the same lanes and the same order everywhere and
//! its results have the same bits.
//!
//! The operations are layered by element type: [`SimdF32`], [`SimdBytes`], and [`SimdI32`] over both. Kernels are
//! generic over [`Simd`], which has them all.

/// The same for all four registers of instruction sets that have 16 bytes in each. Not a function of a closure, which would not be
/// inlined where the CPU's features are known.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! quarters {
    (|$($x:ident),+| $body:expr) => {
        [
            quarters!(@ 0 |$($x),+| $body),
            quarters!(@ 1 |$($x),+| $body),
            quarters!(@ 2 |$($x),+| $body),
            quarters!(@ 3 |$($x),+| $body),
        ]
    };
    (@ $i:literal |$($x:ident),+| $body:expr) => {{
        let ($($x,)+) = ($($x[$i],)+);
        $body
    }};
}

mod bytes;
mod features;
mod float;
mod int;
pub(crate) mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod sse41;

pub(crate) use bytes::{BYTES, Grid, SimdBytes};
pub use features::require_cpu_features;
pub(crate) use float::{LANES, SMALLEST_BF16, SimdF32};
pub(crate) use int::SimdI32;

/// One instruction set. A value of an implementing type is proof that this CPU has it.
///
/// Every operation is exact or rounds once as IEEE 754 says, so all implementations agree in every
/// bit (payloads of NaN excepted).
pub(crate) trait Simd: SimdI32 {
    /// Registers are many and wide: matrix products in larger tiles pay. It changes speed, never results.
    const WIDE: bool;
    /// Has instructions that the rest of the program is compiled without.
    const EXTRA: bool = false;

    /// Runs a job in a function of its own that has the CPU's instructions: large code with
    /// several callers is compiled once.
    fn call(self, job: impl Job);
    /// Whether this CPU has [`Simd::dot_bf16`]: CPUs with the same instruction set differ.
    #[inline(always)]
    fn has_dot_bf16(self) -> bool {
        false
    }
    /// As [`Simd::call`], with the instructions of [`Simd::dot_bf16`]; only where [`Simd::has_dot_bf16`] is true.
    #[inline(always)]
    fn call_bf16(self, _: impl Job) {
        unreachable!("the caller checks `has_dot_bf16`")
    }
    /// `c + a1 * b1 + a0 * b0` of lanes that are two bfloat16 each, the high half first: as two fused multiply-adds, but that subnormal
    /// numbers count as zeros. Only inside [`Simd::call_bf16`].
    #[inline(always)]
    fn dot_bf16(self, _a: Self::F, _b: Self::F, _c: Self::F) -> Self::F {
        unreachable!("only inside `call_bf16`")
    }
    /// [`SimdF32::pack_bf16`] by an instruction, which takes subnormal numbers for zeros. Only inside [`Simd::call_bf16`].
    #[inline(always)]
    fn convert_bf16(self, _a: [Self::F; 2]) -> Self::F {
        unreachable!("only inside `call_bf16`")
    }
    /// Prefetches the cache line of `at`, which need not be mapped.
    fn prefetch_l1(self, at: *const u8);
    /// The same into the second-level cache, for lines that come in bursts: the first level waits for few at a time.
    fn prefetch_l2(self, at: *const u8);
}

/// What [`Simd::call`] runs; inlined there with everything it calls.
pub(crate) trait Job {
    fn run<S: Simd>(self, simd: S);
}
