//! Weights on the tape.

use trine_backend::{Backend, Role};

/// A weight of the model.
pub struct Parameter<B: Backend> {
    /// The name of its tensor.
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
    pub weight: TapeWeight<B>,
}

/// A weight that training changes, or not.
pub enum TapeWeight<B: Backend> {
    /// As its file has it, in any format that the device can multiply by. Gradients flow through it, and it has none itself.
    Frozen(B::Weight),
    Trained(MasterWeight<B>),
}

/// A weight that training changes.
pub struct MasterWeight<B: Backend> {
    /// In float32, `[rows, cols]`.
    pub values: B::Act,
    /// The sum of gradients since [`Tape::clear_gradients`](super::Tape::clear_gradients).
    pub grad: B::Act,
    /// What the forward pass multiplies by, from [`Tape::requantize`](super::Tape::requantize) on.
    pub(super) effective: B::Weight,
}

impl<B: Backend> Parameter<B> {
    /// The number of its elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a matrix inside a layer: these are quantized, and have weight decay.
    pub fn is_inner(&self) -> bool {
        matches!(self.role, Role::Linear | Role::BitLinear)
    }

    /// None if it is frozen.
    pub fn master(&self) -> Option<&MasterWeight<B>> {
        match &self.weight {
            TapeWeight::Frozen(_) => None,
            TapeWeight::Trained(master) => Some(master),
        }
    }

    /// None if it is frozen.
    pub fn master_mut(&mut self) -> Option<&mut MasterWeight<B>> {
        match &mut self.weight {
            TapeWeight::Frozen(_) => None,
            TapeWeight::Trained(master) => Some(master),
        }
    }

    /// What the forward pass multiplies by.
    pub fn effective(&self) -> &B::Weight {
        match &self.weight {
            TapeWeight::Frozen(weight) => weight,
            TapeWeight::Trained(master) => &master.effective,
        }
    }
}
