//! Small-bit language models in one library: open a model file, run it, stream its text.

mod size;

pub use size::{Memory, parameters};
pub use trine_backend as backend;
pub use trine_engine as engine;
pub use trine_kernels as kernels;
pub use trine_model as model;
pub use trine_tensor as tensor;
pub use trine_text as text;
