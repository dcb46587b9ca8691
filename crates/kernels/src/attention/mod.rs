//! Attention: which positions a query sees, its output, and its gradients.

pub(crate) mod backward;
pub(crate) mod forward;
pub(crate) mod hadamard;
pub(crate) mod options;
mod softmax;
pub(crate) mod tile;
