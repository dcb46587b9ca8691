//! Recorded operations and their operands.

use std::rc::Rc;
use trine_backend::{Activation, Rope};
use trine_kernels::AttentionOptions;

/// Activations of a recorded forward pass.
pub struct Var<A> {
    pub(super) id: usize,
    pub(super) value: Rc<A>,
}

impl<A> Clone for Var<A> {
    fn clone(&self) -> Self {
        Var { id: self.id, value: self.value.clone() }
    }
}

impl<A> Var<A> {
    /// The activations on the device.
    pub fn value(&self) -> &A {
        &self.value
    }
}

/// A saved input of an operation: the operation that computed it, and its value for as long as that is needed.
pub(super) struct SavedVar<A> {
    pub id: usize,
    pub value: Option<Rc<A>>,
}

impl<A> SavedVar<A> {
    pub fn of(x: &Var<A>) -> SavedVar<A> {
        SavedVar { id: x.id, value: Some(x.value.clone()) }
    }

    pub fn value(&self) -> &A {
        self.value.as_ref().expect("operands that are needed are kept")
    }
}

/// An operation, with its weights by their index in [`Tape::params`](super::Tape::params).
pub(super) enum Recorded<A> {
    Constant {
        value: Rc<A>,
    },
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
    /// Operands whose values the backward pass needs, and those that only computing the operation again would need.
    pub fn operands(&mut self) -> (Vec<&mut SavedVar<A>>, Vec<&mut SavedVar<A>>) {
        match self {
            Recorded::Constant { .. } | Recorded::RopeCache { .. } | Recorded::Embed { .. } => (vec![], vec![]),
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
