//! AdamW (arXiv:1711.05101): means of gradients and of their squares, with decoupled weight decay.

use super::{Hyperparameters, Rule};
use trine_kernels::{AdamW, CpuExecutor};

pub static RULE: Rule = Rule { states: &["m", "v"], scratch: |_| 0, update };

fn update(
    executor: &mut CpuExecutor,
    hyper: &Hyperparameters,
    _cols: usize,
    w: &mut [f32],
    grad: &[f32],
    states: &mut [&mut [f32]],
) {
    let [m, v] = states else { unreachable!("a slice for each state") };
    let Hyperparameters { step, learning_rate, beta1, beta2, eps, weight_decay, grad_factor } = *hyper;
    let adamw = AdamW { step, rate: learning_rate, beta1, beta2, eps, decay: weight_decay, factor: grad_factor };
    executor.adamw(&adamw, w, grad, m, v);
}
