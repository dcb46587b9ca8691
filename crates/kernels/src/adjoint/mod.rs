//! The backward passes of what happens between matrix products, for training: gradients of norms and
//! activations, losses, optimizers.

pub(crate) mod adamw;
pub(crate) mod elementwise;
pub(crate) mod loss;
