//! The registry of instruction sets: how to detect each, and its kernels.

use crate::activations::{ActivationBlock, ActivationLayout, Bf16Activations, BlockActivations, TokenActivations};
use crate::adjoint::adamw::AdamWStep;
use crate::attention::backward;
use crate::attention::tile::AttentionTile;
use crate::cache_line::CacheLine;
use crate::dot::bf16::Strip;
use crate::dot::block::Group;
use crate::elementwise::Activation;
use crate::error::Error;
use crate::gemm;
use crate::matrix::{Out, Rows};
use crate::simd;
use crate::simd::scalar::Scalar;
use trine_tensor::{Format, IntegerScheme};

/// Multiplies by weights widened to float.
pub(crate) type FloatKernel = fn(&Rows, &[f32], &mut Out);
/// Multiplies by float weights rounded to bfloat16; takes scratch for a strip of rows.
pub(crate) type Bf16Kernel = fn(&Rows, &Bf16Activations, &mut [Strip], &mut Out);
/// Multiplies by weights of a block format; takes scratch for the unpacked groups of 16 rows.
pub(crate) type BlockKernel = fn(&Rows, &BlockActivations, &mut [Group], &mut Out);
/// Multiplies by ternary weights.
pub(crate) type TernaryKernel = fn(&Rows, &TokenActivations, &mut Out);

/// The kernels of one instruction set.
#[expect(clippy::type_complexity, reason = "the type of a kernel is the list of what it takes")]
pub struct Table {
    /// The name, such as `avx2`.
    pub name: &'static str,
    pub(crate) supported: fn() -> bool,
    pub(crate) f32: FloatKernel,
    pub(crate) f16: FloatKernel,
    pub(crate) bf16: FloatKernel,
    pub(crate) f16_as_bf16: Bf16Kernel,
    pub(crate) bf16_as_bf16: Bf16Kernel,
    pub(crate) bytes: &'static ByteProducts,
    pub(crate) quantize_token: fn(&[f32], &mut [i8]) -> f32,
    pub(crate) quantize_blocks: fn(&[f32], usize, usize, &mut [ActivationBlock]),
    pub(crate) quantize_bf16: fn(&[f32], &mut [CacheLine]),
    pub(crate) rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    pub(crate) add: fn(&[f32], &[f32], &mut [f32]),
    pub(crate) layer_norm: fn(&[f32], &[f32], Option<&[f32]>, f32, &mut [f32]),
    pub(crate) gated_activation: fn(Activation, &[f32], Option<&[f32]>, &mut [f32]),
    pub(crate) scale: fn(&[f32], f32, &mut [f32]),
    pub(crate) softcap: fn(&[f32], f32, &mut [f32]),
    pub(crate) add_weighted: fn(&[f32], f32, &mut [f32]),
    pub(crate) attend_chunk: fn(&AttentionTile, usize, &mut [CacheLine], &mut [CacheLine]),
    pub(crate) merge: fn(&mut [CacheLine], &[CacheLine]),
    pub(crate) softmax_part: fn(&backward::BackwardTile, &mut [CacheLine], &mut [CacheLine], &mut [CacheLine]),
    pub(crate) score_gradients:
        fn(&backward::BackwardTile, &mut [CacheLine], &mut [CacheLine], &[CacheLine], &[CacheLine], &[CacheLine]),
    pub(crate) pack: fn(&gemm::Piece, &mut [f32]),
    pub(crate) tile: fn(&gemm::GemmTile),
    pub(crate) rms_norm_back: fn(&[f32], &[f32], f32, &[f32], &mut [f32], &mut [f32]),
    pub(crate) gated_activation_back: fn(Activation, &[f32], &[f32], &[f32], &mut [f32], &mut [f32]),
    pub(crate) softmax_numerators: fn(&[f32], f32, &mut [f32]),
    pub(crate) cross_entropy: fn(&[f32], usize, f32, &mut [f32]) -> f32,
    pub(crate) divergence: fn(&[f32], &[f32], f32, f32, &mut [f32]) -> f32,
    pub(crate) adamw: fn(&AdamWStep, &mut [f32], &[f32], &mut [f32], &mut [f32]),
    pub(crate) sum_of_squares: fn(&[f32]) -> f64,
    pub(crate) encode: fn(&Format, &[f32], Option<&[f32]>, &mut [u8]),
    pub(crate) integers: fn(IntegerScheme, &[f32], &mut [i8]) -> (f32, i8),
}

/// The products of one instruction set with weights of a few bits and activations rounded to bytes.
pub(crate) struct ByteProducts {
    pub(crate) q8_0: BlockKernel,
    pub(crate) q4_0: BlockKernel,
    pub(crate) q4_1: BlockKernel,
    pub(crate) q5_0: BlockKernel,
    pub(crate) q5_1: BlockKernel,
    pub(crate) q2_k: BlockKernel,
    pub(crate) q3_k: BlockKernel,
    pub(crate) q4_k: BlockKernel,
    pub(crate) q5_k: BlockKernel,
    pub(crate) q6_k: BlockKernel,
    pub(crate) iq4_nl: BlockKernel,
    pub(crate) iq4_xs: BlockKernel,
    pub(crate) mxfp4: BlockKernel,
    pub(crate) nvfp4: BlockKernel,
    pub(crate) iq3_s: BlockKernel,
    pub(crate) iq3_xxs: BlockKernel,
    pub(crate) iq2_s: BlockKernel,
    pub(crate) iq2_xs: BlockKernel,
    pub(crate) iq2_xxs: BlockKernel,
    pub(crate) iq1_m: BlockKernel,
    pub(crate) iq1_s: BlockKernel,
    pub(crate) q1_0: BlockKernel,
    pub(crate) q2_0: BlockKernel,
    pub(crate) q2_0_128: BlockKernel,
    pub(crate) i2_s: TernaryKernel,
    pub(crate) iq2_bn: TernaryKernel,
    pub(crate) tq1_0: TernaryKernel,
    pub(crate) tq2_0: TernaryKernel,
}

/// The registry of instruction sets, best first; the scalar one is last and always supported. Unit tests do without some, whose kernels they
/// would compile once more.
static TABLES: &[&Table] = &[
    #[cfg(target_arch = "x86_64")]
    &simd::avx512::TABLE,
    #[cfg(all(target_arch = "x86_64", not(test)))]
    &simd::avx2::vnni::TABLE,
    #[cfg(target_arch = "x86_64")]
    &simd::avx2::plain::TABLE,
    #[cfg(all(target_arch = "x86_64", not(test)))]
    &simd::sse41::TABLE,
    #[cfg(target_arch = "aarch64")]
    &simd::neon::i8mm::TABLE,
    #[cfg(target_arch = "aarch64")]
    &simd::neon::dotprod::TABLE,
    #[cfg(target_arch = "aarch64")]
    &simd::neon::plain::TABLE,
    &scalar::TABLE,
];

/// The tables that this CPU can run, best first; the last is `scalar`, in plain Rust.
pub fn tables() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().copied().filter(|table| (table.supported)())
}

/// The table called `name`, in any case.
///
/// # Errors
/// When there is no such instruction set, or this CPU lacks it.
pub fn table(name: &str) -> Result<&'static Table, Error> {
    let known = || TABLES.iter().map(|table| table.name).collect::<Vec<_>>().join(", ");
    let found = TABLES.iter().find(|table| table.name.eq_ignore_ascii_case(name));
    let table = found.ok_or_else(|| Error::UnknownIsa { name: name.into(), known: known() })?;
    let present = || tables().map(|table| table.name).collect::<Vec<_>>().join(", ");
    if (table.supported)() { Ok(table) } else { Err(Error::MissingIsa { name: name.into(), present: present() }) }
}

/// How a table multiplies by a matrix of some format.
pub(crate) enum Kernel {
    /// Also with both operands rounded to bfloat16, if there is a kernel for it.
    Float(FloatKernel, Option<Bf16Kernel>),
    Block(BlockKernel),
    /// With the layout of the activations.
    Ternary(TernaryKernel, ActivationLayout),
    /// Rows are decoded to float first: every format without a kernel of its own.
    Decode,
}

/// The activations that products with a format take, on every instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Activations rounded to bytes.
    Bytes,
    Floats,
    /// Floats, and every row is decoded first.
    Decoded,
}

/// The activations that products with `format` take.
pub fn operand_of(format: &Format) -> Operand {
    match scalar::TABLE.kernel(format) {
        Kernel::Float(..) => Operand::Floats,
        Kernel::Block(_) | Kernel::Ternary(..) => Operand::Bytes,
        Kernel::Decode => Operand::Decoded,
    }
}

/// Whether products with `format` also take [`ActivationLayout::Bf16`], on every instruction set; weights are then rounded to bfloat16, too.
pub fn multiplies_bf16(format: &Format) -> bool {
    matches!(scalar::TABLE.kernel(format), Kernel::Float(_, Some(_)))
}

impl Table {
    /// What `encode` of [`Format`] does, with this instruction set: the same bytes sooner.
    pub fn encode(&self, format: &Format, weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        (self.encode)(format, weights, importance, out);
    }

    pub(crate) fn kernel(&self, format: &Format) -> Kernel {
        let bytes = self.bytes;
        match format.name {
            "F32" => Kernel::Float(self.f32, None),
            "F16" => Kernel::Float(self.f16, Some(self.f16_as_bf16)),
            "BF16" => Kernel::Float(self.bf16, Some(self.bf16_as_bf16)),
            "Q8_0" => Kernel::Block(bytes.q8_0),
            "Q4_0" => Kernel::Block(bytes.q4_0),
            "Q4_1" => Kernel::Block(bytes.q4_1),
            "Q5_0" => Kernel::Block(bytes.q5_0),
            "Q5_1" => Kernel::Block(bytes.q5_1),
            "Q2_K" => Kernel::Block(bytes.q2_k),
            "Q3_K" => Kernel::Block(bytes.q3_k),
            "Q4_K" => Kernel::Block(bytes.q4_k),
            "Q5_K" => Kernel::Block(bytes.q5_k),
            "Q6_K" => Kernel::Block(bytes.q6_k),
            "IQ4_NL" => Kernel::Block(bytes.iq4_nl),
            "IQ4_XS" => Kernel::Block(bytes.iq4_xs),
            "MXFP4" => Kernel::Block(bytes.mxfp4),
            "NVFP4" => Kernel::Block(bytes.nvfp4),
            "IQ3_S" => Kernel::Block(bytes.iq3_s),
            "IQ3_XXS" => Kernel::Block(bytes.iq3_xxs),
            "IQ2_S" => Kernel::Block(bytes.iq2_s),
            "IQ2_XS" => Kernel::Block(bytes.iq2_xs),
            "IQ2_XXS" => Kernel::Block(bytes.iq2_xxs),
            "IQ1_M" => Kernel::Block(bytes.iq1_m),
            "IQ1_S" => Kernel::Block(bytes.iq1_s),
            "Q1_0" => Kernel::Block(bytes.q1_0),
            "Q2_0" => Kernel::Block(bytes.q2_0),
            "Q2_0_128" => Kernel::Block(bytes.q2_0_128),
            "IQ2_BN" => Kernel::Ternary(bytes.iq2_bn, ActivationLayout::PerToken),
            "I2_S" => Kernel::Ternary(bytes.i2_s, ActivationLayout::PerToken),
            "TQ1_0" => Kernel::Ternary(bytes.tq1_0, ActivationLayout::Tq1),
            "TQ2_0" => Kernel::Ternary(bytes.tq2_0, ActivationLayout::PerToken),
            _ => Kernel::Decode,
        }
    }
}

/// Builds `TABLE` of one instruction set: each kernel, written once over `Simd`, compiled with that set's features. `others` names a table
/// whose kernels serve for all but products of bytes.
macro_rules! table {
    ($isa:expr, $name:literal, $(features: $features:literal,)? supported: $supported:expr) => {
        table!(@bytes $isa, $($features)?);

        #[cfg_attr(test, allow(dead_code, reason = "not all are in the registry"))]
        pub(crate) static TABLE: $crate::table::Table = BASE;

        #[allow(unused_unsafe, reason = "plain Rust needs no features")]
        pub(super) const BASE: $crate::table::Table = {
            use $crate::{
                activations::{ActivationBlock, Bf16Activations}, adjoint, attention::{backward, forward, tile::AttentionTile},
                cache_line::CacheLine, dot::{bf16, float}, elementwise, gemm, matrix::{Out, Rows}, quantize, table::Table,
            };
            table!(@kernels Table { name: $name, supported: || $supported, bytes: &BYTE_PRODUCTS }
                [$(#[target_feature(enable = $features)])?] $isa,
                f32(w: &Rows, x: &[f32], out: &mut Out) -> () = float::product::<_, float::F32>;
                f16(w: &Rows, x: &[f32], out: &mut Out) -> () = float::product::<_, float::F16>;
                bf16(w: &Rows, x: &[f32], out: &mut Out) -> () = float::product::<_, float::Bf16>;
                f16_as_bf16(w: &Rows, x: &Bf16Activations, strip: &mut [bf16::Strip], out: &mut Out) -> () = bf16::product::<_, bf16::F16>;
                bf16_as_bf16(w: &Rows, x: &Bf16Activations, strip: &mut [bf16::Strip], out: &mut Out) -> () = bf16::product::<_, bf16::Bf16>;
                quantize_token(x: &[f32], q: &mut [i8]) -> f32 = quantize::token;
                quantize_blocks(x: &[f32], cols: usize, tokens: usize, out: &mut [ActivationBlock]) -> () = quantize::blocks;
                quantize_bf16(x: &[f32], out: &mut [CacheLine]) -> () = quantize::bf16;
                rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) -> () = elementwise::rms_norm;
                add(a: &[f32], b: &[f32], out: &mut [f32]) -> () = elementwise::add;
                layer_norm(x: &[f32], gain: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) -> () = elementwise::layer_norm;
                gated_activation(kind: elementwise::Activation, x: &[f32], up: Option<&[f32]>, out: &mut [f32]) -> () = elementwise::gated_activation;
                scale(x: &[f32], factor: f32, out: &mut [f32]) -> () = elementwise::scale;
                softcap(x: &[f32], cap: f32, out: &mut [f32]) -> () = elementwise::softcap;
                add_weighted(x: &[f32], weight: f32, sum: &mut [f32]) -> () = elementwise::add_weighted;
                attend_chunk(tile: &AttentionTile, chunk: usize, scratch: &mut [CacheLine], states: &mut [CacheLine]) -> () = forward::attend_chunk;
                merge(state: &mut [CacheLine], next: &[CacheLine]) -> () = forward::merge;
                softmax_part(
                    part: &backward::BackwardTile, scores: &mut [CacheLine], slopes: &mut [CacheLine], states: &mut [CacheLine]
                ) -> () = backward::softmax_part;
                score_gradients(
                    part: &backward::BackwardTile, weights: &mut [CacheLine], grads: &mut [CacheLine], slopes: &[CacheLine], states: &[CacheLine], totals: &[CacheLine]
                ) -> () = backward::score_gradients;
                pack(piece: &gemm::Piece, out: &mut [f32]) -> () = gemm::pack_piece;
                tile(job: &gemm::GemmTile) -> () = gemm::tile;
                rms_norm_back(x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dgain: &mut [f32]) -> () = adjoint::elementwise::rms_norm_back;
                gated_activation_back(
                    kind: elementwise::Activation, x: &[f32], up: &[f32], dy: &[f32], dx: &mut [f32], dup: &mut [f32]
                ) -> () = adjoint::elementwise::gated_activation_back;
                softmax_numerators(x: &[f32], temperature: f32, out: &mut [f32]) -> () = adjoint::loss::softmax_numerators;
                cross_entropy(x: &[f32], target: usize, scale: f32, grad: &mut [f32]) -> f32 = adjoint::loss::cross_entropy;
                divergence(x: &[f32], teacher: &[f32], temperature: f32, scale: f32, grad: &mut [f32]) -> f32 = adjoint::loss::divergence;
                adamw(constants: &adjoint::adamw::AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) -> () = adjoint::adamw::adamw;
                sum_of_squares(x: &[f32]) -> f64 = adjoint::adamw::sum_of_squares;
                encode(
                    format: &trine_tensor::Format, weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]
                ) -> () = quantize::encode;
                integers(scheme: trine_tensor::IntegerScheme, weights: &[f32], codes: &mut [i8]) -> (f32, i8) = quantize::integers;
            )
        };
    };
    ($isa:expr, $name:literal, features: $features:literal, supported: $supported:expr, others: $others:expr) => {
        table!(@bytes $isa, $features);

        #[cfg_attr(test, allow(dead_code, reason = "not all are in the registry"))]
        pub(crate) static TABLE: $crate::table::Table =
            $crate::table::Table { name: $name, supported: || $supported, bytes: &BYTE_PRODUCTS, ..$others };
    };
    (@bytes $isa:expr, $($features:literal)?) => {
        $(
            /// See [`Simd::call`](crate::simd::Simd::call).
            #[target_feature(enable = $features)]
            #[inline(never)]
            fn call(job: impl $crate::simd::Job) {
                job.run($isa);
            }
        )?

        #[allow(unused_unsafe, reason = "plain Rust needs no features")]
        static BYTE_PRODUCTS: $crate::table::ByteProducts = {
            use $crate::{
                activations::{BlockActivations, TokenActivations}, dot::{block::Group, grid, product::product, ternary, unpack},
                matrix::{Out, Rows}, table::ByteProducts,
            };
            table!(@kernels ByteProducts {} [$(#[target_feature(enable = $features)])?] $isa,
                q8_0(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q8_0>;
                q4_0(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q4_0>;
                q4_1(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q4_1>;
                q5_0(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q5_0>;
                q5_1(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q5_1>;
                q2_k(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q2_K>;
                q3_k(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q3_K>;
                q4_k(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q4_K>;
                q5_k(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q5_K>;
                q6_k(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q6_K>;
                iq4_nl(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::IQ4_NL>;
                iq4_xs(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::IQ4_XS>;
                mxfp4(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::MXFP4>;
                nvfp4(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::NVFP4>;
                iq3_s(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ3_S>;
                iq3_xxs(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ3_XXS>;
                iq2_s(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ2_S>;
                iq2_xs(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ2_XS>;
                iq2_xxs(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ2_XXS>;
                iq1_m(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ1_M>;
                iq1_s(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, grid::IQ1_S>;
                q1_0(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q1_0>;
                q2_0(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q2_0>;
                q2_0_128(w: &Rows, x: &BlockActivations, groups: &mut [Group], out: &mut Out) -> () = product::<_, unpack::Q2_0_128>;
                iq2_bn(w: &Rows, x: &TokenActivations, out: &mut Out) -> () = ternary::product::<_, ternary::IQ2_BN>;
                i2_s(w: &Rows, x: &TokenActivations, out: &mut Out) -> () = ternary::product::<_, ternary::I2_S>;
                tq1_0(w: &Rows, x: &TokenActivations, out: &mut Out) -> () = ternary::product::<_, ternary::TQ1_0>;
                tq2_0(w: &Rows, x: &TokenActivations, out: &mut Out) -> () = ternary::product::<_, ternary::TQ2_0>;
            )
        };
    };
    (@kernels $of:ident { $($field:ident: $value:expr),* } $attrs:tt $isa:expr,
        $($kernel:ident $args:tt -> $ret:ty = $body:expr;)*) => {{
        $(table!(@kernel $attrs $isa, $kernel $args -> $ret = $body);)*
        $of { $($field: $value,)* $($kernel: table!(@call $kernel $args)),* }
    }};
    (@kernel [$($attr:tt)*] $isa:expr, $kernel:ident ($($arg:ident: $type:ty),*) -> $ret:ty = $body:expr) => {
        $($attr)*
        fn $kernel($($arg: $type),*) -> $ret { ($body)($isa, $($arg),*) }
    };
    (@call $kernel:ident ($($arg:ident: $type:ty),*)) => {
        // SAFETY: a table is reached only through `tables` and `table`, which check `supported`.
        |$($arg),*| unsafe { $kernel($($arg),*) }
    };
}

/// The scalar instruction set.
mod scalar {
    use super::Scalar;

    table!(Scalar, "scalar", supported: true);
}
