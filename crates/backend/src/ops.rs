use crate::{Activation, AttentionOptions, Backend, Ids, Op, Rope};
use std::ops::Range;

/// The operations of a [`Backend`] as methods, so that a forward pass reads like the paper. [`Op`] says what each computes.
///
/// Every backend has them, and none can replace them: they go through [`Backend::run`].
pub trait Ops: Backend {
    /// Runs [`Op::Embed`].
    #[must_use]
    fn embed(&mut self, table: &Self::Weight, ids: Ids, pass: &Self::Pass) -> Self::Act {
        self.run(Op::Embed { table, ids, pass })
    }
    /// Runs [`Op::Linear`].
    #[must_use]
    fn linear(&mut self, w: &Self::Weight, x: &Self::Act) -> Self::Act {
        self.run(Op::Linear { w, x })
    }
    /// Runs [`Op::LinearPerHead`].
    #[must_use]
    fn linear_per_head(&mut self, w: &Self::Weight, x: &Self::Act, heads: usize) -> Self::Act {
        self.run(Op::LinearPerHead { w, x, heads })
    }
    /// Runs [`Op::Bias`].
    #[must_use]
    fn bias(&mut self, b: &Self::Weight, x: &Self::Act) -> Self::Act {
        self.run(Op::Bias { b, x })
    }
    /// Runs [`Op::RmsNorm`].
    #[must_use]
    fn rms_norm(&mut self, gain: &Self::Weight, x: &Self::Act, eps: f32) -> Self::Act {
        self.run(Op::RmsNorm { gain, x, eps })
    }
    /// Runs [`Op::LayerNorm`].
    #[must_use]
    fn layer_norm(
        &mut self,
        gain: &Self::Weight,
        bias: Option<&Self::Weight>,
        x: &Self::Act,
        width: usize,
        eps: f32,
    ) -> Self::Act {
        self.run(Op::LayerNorm { gain, bias, x, width, eps })
    }
    /// Runs [`Op::Add`].
    #[must_use]
    fn add(&mut self, a: &Self::Act, b: &Self::Act) -> Self::Act {
        self.run(Op::Add { a, b })
    }
    /// Runs [`Op::Scale`].
    #[must_use]
    fn scale(&mut self, x: &Self::Act, factor: f32) -> Self::Act {
        self.run(Op::Scale { x, factor })
    }
    /// Runs [`Op::Softcap`].
    #[must_use]
    fn softcap(&mut self, x: &Self::Act, cap: f32) -> Self::Act {
        self.run(Op::Softcap { x, cap })
    }
    /// Runs [`Op::GatedActivation`].
    #[must_use]
    fn gated_activation(&mut self, kind: Activation, gate: &Self::Act, up: Option<&Self::Act>) -> Self::Act {
        self.run(Op::GatedActivation { kind, gate, up })
    }
    /// Runs [`Op::SliceColumns`].
    #[must_use]
    fn slice_columns(&mut self, x: &Self::Act, width: usize, range: Range<usize>) -> Self::Act {
        self.run(Op::SliceColumns { x, width, range })
    }
    /// Runs [`Op::Concat`].
    #[must_use]
    fn concat(&mut self, a: &Self::Act, width: usize, b: &Self::Act, width_b: usize) -> Self::Act {
        self.run(Op::Concat { a, width, b, width_b })
    }
    /// Runs [`Op::Experts`].
    #[must_use]
    fn experts(&mut self, w: &Self::Weight, x: &Self::Act, routes: &Self::Routes, n_experts: usize) -> Self::Act {
        self.run(Op::Experts { w, x, routes, n_experts })
    }
    /// Runs [`Op::ExpertsBias`].
    #[must_use]
    fn experts_bias(&mut self, b: &Self::Weight, x: &Self::Act, routes: &Self::Routes) -> Self::Act {
        self.run(Op::ExpertsBias { b, x, routes })
    }
    /// Runs [`Op::CombineExperts`].
    #[must_use]
    fn combine_experts(&mut self, x: &Self::Act, routes: &Self::Routes) -> Self::Act {
        self.run(Op::CombineExperts { x, routes })
    }
    /// Runs [`Op::RopeCache`].
    #[must_use]
    fn rope_cache(&mut self, rope: &Rope, pass: &Self::Pass) -> Self::Act {
        self.run(Op::RopeCache { rope, pass })
    }
    /// Runs [`Op::Rope`].
    #[must_use]
    fn rope(&mut self, rope: &Rope, cache: &Self::Act, x: &Self::Act) -> Self::Act {
        self.run(Op::Rope { rope, cache, x })
    }
    /// Runs [`Op::Attention`].
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "as many as the operation has")]
    fn attention(
        &mut self,
        layer: usize,
        q: &Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        options: AttentionOptions,
        sinks: Option<&Self::Weight>,
        pass: &Self::Pass,
    ) -> Self::Act {
        self.run(Op::Attention { layer, q, k, v, options, sinks, pass })
    }
    /// Runs [`Op::GatherOutputs`].
    #[must_use]
    fn gather_outputs(&mut self, x: &Self::Act, pass: &Self::Pass) -> Self::Act {
        self.run(Op::GatherOutputs { x, pass })
    }
}

impl<B: Backend + ?Sized> Ops for B {}
