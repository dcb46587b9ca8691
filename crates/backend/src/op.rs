//! The operations of a decoder, as values.

use crate::{Activation, AttentionOptions, Rope};
use std::ops::Range;

/// Which row of an embedding table each token of a pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The row of its token id.
    Token,
    /// The row of its position, for learned position embeddings.
    Position,
    /// Row 0: a text is a single segment.
    TokenType,
}

/// One operation with its operands, which are borrowed. They return new activations; [`Op::Attention`] alone changes something else, the KV cache.
///
/// The type parameters are those of a [`Backend`](crate::Backend); [`OpOf`](crate::OpOf) names them. Shapes are `[tokens, columns]`.
#[derive(Debug)]
pub enum Op<'a, W, A, R, P> {
    /// Rows of `table`, one for each token of the pass.
    Embed { table: &'a W, ids: Ids, pass: &'a P },
    /// `x · wᵀ`, `[tokens, rows of w]`.
    Linear { w: &'a W, x: &'a A },
    /// Each of `heads` parts of a row of `x` times its own part of the rows of `w`, `[tokens, rows of w]`.
    LinearPerHead { w: &'a W, x: &'a A, heads: usize },
    /// `x` plus the same row for every token.
    Bias { b: &'a W, x: &'a A },
    /// Root-mean-square norm over each run of as many columns as `gain` has: the whole row, or each head.
    RmsNorm { gain: &'a W, x: &'a A, eps: f32 },
    /// Layer norm over each run of `width` columns; `gain` and `bias` have a multiple of `width`, and repeat.
    LayerNorm { gain: &'a W, bias: Option<&'a W>, x: &'a A, width: usize, eps: f32 },
    /// `a + b`.
    Add { a: &'a A, b: &'a A },
    /// `factor * x`.
    Scale { x: &'a A, factor: f32 },
    /// `cap * tanh(x / cap)`.
    Softcap { x: &'a A, cap: f32 },
    /// `kind(gate) * up`, or `kind(gate)` without `up`.
    GatedActivation { kind: Activation, gate: &'a A, up: Option<&'a A> },
    /// The columns `range` of each run of `width` columns.
    SliceColumns { x: &'a A, width: usize, range: Range<usize> },
    /// Each run of `width` columns of `a` followed by a run of `width_b` columns of `b`. Where `b` has a single run per row, it follows each.
    Concat { a: &'a A, width: usize, b: &'a A, width_b: usize },
    /// Each token times its experts' parts of the rows of `w`, `[tokens * used, rows of w / n_experts]`. `x` has a row for each token, or
    /// one for each of its experts.
    Experts { w: &'a W, x: &'a A, routes: &'a R, n_experts: usize },
    /// `x`, `[tokens * used, columns]`, plus each expert's part of `b`.
    ExpertsBias { b: &'a W, x: &'a A, routes: &'a R },
    /// The outputs of each token's experts, `[tokens * used, columns]`, summed with their weights: `[tokens, columns]`.
    CombineExperts { x: &'a A, routes: &'a R },
    /// Cosines, then sines, of the positions of a pass, `[tokens, 2 * frequencies]`, for [`Op::Rope`] in every layer.
    RopeCache { rope: &'a Rope, pass: &'a P },
    /// Rotates every head of `x` by its token's row of `cache`.
    Rope { rope: &'a Rope, cache: &'a A, x: &'a A },
    /// Stores `k` and `v` in the cache of `layer` at the pass's positions, then attends: `softmax(q kᵀ scale) v` as `options` says, each
    /// query head with the KV head of its group. `sinks` has one score for each query head, without a value.
    Attention {
        layer: usize,
        q: &'a A,
        k: &'a A,
        v: &'a A,
        options: AttentionOptions,
        sinks: Option<&'a W>,
        pass: &'a P,
    },
    /// The rows of a pass whose outputs are wanted.
    GatherOutputs { x: &'a A, pass: &'a P },
}

impl<W, A, R, P> Clone for Op<'_, W, A, R, P> {
    fn clone(&self) -> Self {
        self.map(|w| w, |a| a, |r| r, |p| p)
    }
}

impl<'a, W, A, R, P> Op<'a, W, A, R, P> {
    /// The name of the operation, as profiles and comparisons print it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::Linear { .. } => "linear",
            Op::LinearPerHead { .. } => "linear_per_head",
            Op::Bias { .. } => "bias",
            Op::RmsNorm { .. } => "rms_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Add { .. } => "add",
            Op::Scale { .. } => "scale",
            Op::Softcap { .. } => "softcap",
            Op::GatedActivation { .. } => "gated_activation",
            Op::SliceColumns { .. } => "slice_columns",
            Op::Concat { .. } => "concat",
            Op::Experts { .. } => "experts",
            Op::ExpertsBias { .. } => "experts_bias",
            Op::CombineExperts { .. } => "combine_experts",
            Op::RopeCache { .. } => "rope_cache",
            Op::Rope { .. } => "rope",
            Op::Attention { .. } => "attention",
            Op::GatherOutputs { .. } => "gather_outputs",
        }
    }

    /// The same operation on the operands of another backend: what a wrapper hands to the one it wraps.
    pub fn map<W2, A2, R2, P2>(
        &self,
        weight: impl Fn(&'a W) -> &'a W2,
        act: impl Fn(&'a A) -> &'a A2,
        routes: impl Fn(&'a R) -> &'a R2,
        pass: impl Fn(&'a P) -> &'a P2,
    ) -> Op<'a, W2, A2, R2, P2> {
        match *self {
            Op::Embed { table, ids, pass: p } => Op::Embed { table: weight(table), ids, pass: pass(p) },
            Op::Linear { w, x } => Op::Linear { w: weight(w), x: act(x) },
            Op::LinearPerHead { w, x, heads } => Op::LinearPerHead { w: weight(w), x: act(x), heads },
            Op::Bias { b, x } => Op::Bias { b: weight(b), x: act(x) },
            Op::RmsNorm { gain, x, eps } => Op::RmsNorm { gain: weight(gain), x: act(x), eps },
            Op::LayerNorm { gain, bias, x, width, eps } => {
                Op::LayerNorm { gain: weight(gain), bias: bias.map(weight), x: act(x), width, eps }
            }
            Op::Add { a, b } => Op::Add { a: act(a), b: act(b) },
            Op::Scale { x, factor } => Op::Scale { x: act(x), factor },
            Op::Softcap { x, cap } => Op::Softcap { x: act(x), cap },
            Op::GatedActivation { kind, gate, up } => Op::GatedActivation { kind, gate: act(gate), up: up.map(act) },
            Op::SliceColumns { x, width, ref range } => Op::SliceColumns { x: act(x), width, range: range.clone() },
            Op::Concat { a, width, b, width_b } => Op::Concat { a: act(a), width, b: act(b), width_b },
            Op::Experts { w, x, routes: r, n_experts } => {
                Op::Experts { w: weight(w), x: act(x), routes: routes(r), n_experts }
            }
            Op::ExpertsBias { b, x, routes: r } => Op::ExpertsBias { b: weight(b), x: act(x), routes: routes(r) },
            Op::CombineExperts { x, routes: r } => Op::CombineExperts { x: act(x), routes: routes(r) },
            Op::RopeCache { rope, pass: p } => Op::RopeCache { rope, pass: pass(p) },
            Op::Rope { rope, cache, x } => Op::Rope { rope, cache: act(cache), x: act(x) },
            Op::Attention { layer, q, k, v, options, sinks, pass: p } => Op::Attention {
                layer,
                q: act(q),
                k: act(k),
                v: act(v),
                options,
                sinks: sinks.map(weight),
                pass: pass(p),
            },
            Op::GatherOutputs { x, pass: p } => Op::GatherOutputs { x: act(x), pass: pass(p) },
        }
    }
}
