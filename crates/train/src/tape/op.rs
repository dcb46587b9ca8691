//! Recorded operations and their operands.

use std::rc::Rc;
use trine_backend::{Activation, Batch, Ids, Op, Rope};
use trine_kernels::AttentionOptions;
use trine_model::{NormKind, Sizes, Spec};

/// Activations of a forward pass on a [`Tape`](super::Tape).
pub struct Var<A> {
    /// The operation that computed it; none for constants, which get no gradient.
    pub(super) id: Option<OpId>,
    pub(super) value: Rc<A>,
}

/// An operation of one of the passes that a tape has recorded.
#[derive(Clone)]
pub(super) struct OpId {
    /// Every pass has a batch of its own, so that equal pointers are the same pass.
    pub pass: Rc<Batch>,
    pub index: usize,
}

impl<A> Clone for Var<A> {
    fn clone(&self) -> Self {
        Var { id: self.id.clone(), value: self.value.clone() }
    }
}

impl<A> Var<A> {
    /// The activations on the device.
    pub fn value(&self) -> &A {
        &self.value
    }
}

/// A saved input of an operation: the operation of the same pass that computed it, if any did, and its value for as long as that is needed.
pub(super) struct SavedVar<A> {
    pub id: Option<usize>,
    pub value: Option<Rc<A>>,
}

impl<A> SavedVar<A> {
    pub fn value(&self) -> &A {
        self.value.as_ref().expect("operands that are needed are kept")
    }
}

/// An operation, with its weights by their index in [`Tape::params`](super::Tape::params).
pub(super) enum Recorded<A> {
    RopeCache {
        rope: Rope,
    },
    Embed {
        table: usize,
    },
    Linear {
        w: usize,
        /// The gradient of the weight needs `x`, that of `x` does not.
        trained: bool,
        x: SavedVar<A>,
    },
    Bias {
        b: usize,
        x: SavedVar<A>,
    },
    RmsNorm {
        gain: usize,
        x: SavedVar<A>,
        eps: f32,
    },
    Add {
        a: SavedVar<A>,
        b: SavedVar<A>,
    },
    Scale {
        factor: f32,
        x: SavedVar<A>,
    },
    GatedActivation {
        kind: Activation,
        gate: SavedVar<A>,
        up: SavedVar<A>,
    },
    Rope {
        rope: Rope,
        cache: SavedVar<A>,
        x: SavedVar<A>,
    },
    Attention {
        options: AttentionOptions,
        qkv: [SavedVar<A>; 3],
        out: Option<Rc<A>>,
    },
    GatherOutputs {
        x: SavedVar<A>,
    },
}

impl<A> Recorded<A> {
    /// The operation of a backend whose weights are these, and whose operands are there.
    pub fn op<'a, W, R, P>(&'a self, weight: impl Fn(usize) -> &'a W, pass: &'a P) -> Op<'a, W, A, R, P> {
        match *self {
            Recorded::RopeCache { ref rope } => Op::RopeCache { rope, pass },
            Recorded::Embed { table } => Op::Embed { table: weight(table), ids: Ids::Token, pass },
            Recorded::Linear { w, ref x, .. } => Op::Linear { w: weight(w), x: x.value() },
            Recorded::Bias { b, ref x } => Op::Bias { b: weight(b), x: x.value() },
            Recorded::RmsNorm { gain, ref x, eps } => Op::RmsNorm { gain: weight(gain), x: x.value(), eps },
            Recorded::Add { ref a, ref b } => Op::Add { a: a.value(), b: b.value() },
            Recorded::Scale { factor, ref x } => Op::Scale { x: x.value(), factor },
            Recorded::GatedActivation { kind, ref gate, ref up } => {
                Op::GatedActivation { kind, gate: gate.value(), up: Some(up.value()) }
            }
            Recorded::Rope { ref rope, ref cache, ref x } => Op::Rope { rope, cache: cache.value(), x: x.value() },
            // All layers share the cache of one: each pass begins its sequences anew.
            Recorded::Attention { options, qkv: [ref q, ref k, ref v], .. } => {
                let [q, k, v] = [q, k, v].map(SavedVar::value);
                Op::Attention { layer: 0, q, k, v, options, sinks: None, pass }
            }
            Recorded::GatherOutputs { ref x } => Op::GatherOutputs { x: x.value(), pass },
        }
    }

    /// Operands whose values the backward pass needs, and those that only computing the operation again would need.
    pub fn operands(&mut self) -> (Vec<&mut SavedVar<A>>, Vec<&mut SavedVar<A>>) {
        match self {
            Recorded::RopeCache { .. } | Recorded::Embed { .. } => (vec![], vec![]),
            Recorded::Linear { x, trained: true, .. } | Recorded::RmsNorm { x, .. } => (vec![x], vec![]),
            Recorded::Linear { x, .. }
            | Recorded::Bias { x, .. }
            | Recorded::Scale { x, .. }
            | Recorded::GatherOutputs { x } => (vec![], vec![x]),
            Recorded::Add { a, b } => (vec![], vec![a, b]),
            Recorded::GatedActivation { gate, up, .. } => (vec![gate, up], vec![]),
            Recorded::Rope { cache, x, .. } => (vec![cache], vec![x]),
            Recorded::Attention { qkv, .. } => (qkv.iter_mut().collect(), vec![]),
        }
    }
}

/// The first operation of a model for which [`Tape`](super::Tape) has no gradient; `None` if it can be trained.
pub fn unsupported_operation(spec: &Spec) -> Option<&'static str> {
    let Spec { sizes: Sizes { arch, .. }, activation, causal, logit_softcap, ref experts, mla, .. } = *spec;
    [
        (arch.norm == NormKind::Layer, "layer norm"),
        (!matches!(activation, Activation::Silu | Activation::Relu2), "activations other than silu and relu2"),
        (!arch.gated, "feed-forward layers without a gate"),
        (arch.sinks, "attention sinks"),
        (!causal, "bidirectional attention"),
        (logit_softcap.is_some(), "softcapped logits"),
        (experts.is_some(), "mixture of experts"),
        (mla.is_some(), "multi-head latent attention"),
    ]
    .into_iter()
    .find_map(|(there, what)| there.then_some(what))
}
