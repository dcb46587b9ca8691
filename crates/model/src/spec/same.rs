//! Whether two files say the same of a model.

use super::Spec;
use trine_backend::Rope;

impl Spec {
    /// What of the computation differs between this model and another, if anything does. Numbers may differ in their last digits, and the order
    /// of elements within heads is the file's, as is whether activations are rounded.
    pub fn difference(&self, other: &Spec) -> Option<&'static str> {
        let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * a.abs().max(b.abs());
        let maybe = |a: Option<f32>, b: Option<f32>| match (a, b) {
            (Some(a), Some(b)) => near(a, b),
            (a, b) => a == b,
        };
        let rope = |a: &Rope, b: &Rope| {
            let frequencies = a.frequencies.iter().zip(&b.frequencies);
            a.frequencies.len() == b.frequencies.len()
                && frequencies.into_iter().all(|(a, b)| near(*a as f32, *b as f32))
                && near(a.magnitude as f32, b.magnitude as f32)
                && format!("{:?}", a.temperature) == format!("{:?}", b.temperature)
        };
        let ropes = |a: &[Rope], b: &[Rope]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| rope(a, b));
        let short = match (&self.short_ropes, &other.short_ropes) {
            (Some((a, x)), Some((b, y))) => a == b && ropes(x, y),
            (a, b) => a.is_none() && b.is_none(),
        };
        let (a, b) = (&self.sizes, &other.sizes);
        let counts = |sizes: &crate::Sizes| {
            let &crate::Sizes { n_layers, hidden_size, n_heads, n_kv_heads, head_dim, vocab_size, .. } = sizes;
            [n_layers, hidden_size, n_heads, n_kv_heads, head_dim, vocab_size]
        };
        let mla = |spec: &Spec| spec.mla.map(|mla| crate::Mla { norm_eps: 0.0, ..mla });
        let checks = [
            ("the architecture", a.arch.gguf == b.arch.gguf && self.activation == other.activation),
            ("the sizes", counts(a) == counts(b) && a.intermediate_size == b.intermediate_size),
            ("the length of the context", a.context_length == b.context_length),
            ("the epsilon of norms", near(a.eps, b.eps)),
            ("whether the embedding is the head", a.tied == b.tied),
            ("the kinds of layers", self.layer_kinds == other.layer_kinds),
            ("the rotations", ropes(&self.ropes, &other.ropes) && short),
            (
                "the rotations of queries",
                match (&self.query_rope, &other.query_rope) {
                    (Some(a), Some(b)) => rope(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                },
            ),
            ("the scale of attention", near(self.attention_scale, other.attention_scale)),
            ("the softcaps", {
                maybe(self.attention_softcap, other.attention_softcap) && maybe(self.logit_softcap, other.logit_softcap)
            }),
            ("the factors of the residual stream", {
                near(self.embedding_scale, other.embedding_scale)
                    && near(self.residual_scale, other.residual_scale)
                    && near(self.logit_scale, other.logit_scale)
            }),
            (
                "the order of a layer's halves",
                self.parallel_residual == other.parallel_residual && self.causal == other.causal,
            ),
            ("the experts", format!("{:?}", self.experts) == format!("{:?}", other.experts)),
            ("the compression of keys", format!("{:?}", mla(self)) == format!("{:?}", mla(other))),
        ];
        checks.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}
