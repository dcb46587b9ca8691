//! Recorded operations and their operands.

use std::rc::Rc;
use trine_backend::{Activation, Rope};
use trine_kernels::Attend;

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
pub(super) enum Op<A> {
    RopeCache {
        rope: Rope,
    },
    Embed {
        table: usize,
        tokens: Vec<u32>,
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
        attend: Attend,
        qkv: [SavedVar<A>; 3],
        out: Option<Rc<A>>,
    },
    GatherRows {
        rows: Vec<u32>,
        x: SavedVar<A>,
        /// Rows of `x`.
        total: usize,
    },
}

impl<A> Op<A> {
    /// Operands whose values the backward pass needs, and those that only computing the operation again would need.
    pub fn operands(&mut self) -> (Vec<&mut SavedVar<A>>, Vec<&mut SavedVar<A>>) {
        match self {
            Op::RopeCache { .. } | Op::Embed { .. } => (vec![], vec![]),
            Op::Linear { x, trained: true, .. } | Op::RmsNorm { x, .. } => (vec![x], vec![]),
            Op::Linear { x, .. } | Op::Bias { x, .. } | Op::Scale { x, .. } | Op::GatherRows { x, .. } => {
                (vec![], vec![x])
            }
            Op::Add { a, b } => (vec![], vec![a, b]),
            Op::GatedActivation { gate, up, .. } => (vec![gate, up], vec![]),
            Op::Rope { cache, x, .. } => (vec![cache], vec![x]),
            Op::Attention { qkv, .. } => (qkv.iter_mut().collect(), vec![]),
        }
    }
}
