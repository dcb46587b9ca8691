//! The backward pass over a tape.

use super::Tape;
use super::op::{Op, SavedVar, Var};
use super::parameter::TapeWeight;
use crate::adjoint::Adjoint;

impl<B: Adjoint> Tape<B> {
    /// Adds to the gradients of all trained weights what follows from `dy`, the gradient of `y`, and clears the tape.
    pub fn backward(&mut self, y: Var<B::Act>, dy: B::Act) {
        self.end_layer();
        let mut grads: Vec<Option<B::Act>> = (0..self.ops.len()).map(|_| None).collect();
        grads[y.id] = Some(dy);
        drop(y);
        while !self.ops.is_empty() {
            if let Some(layer) = self.checkpointed.pop_if(|layer| layer.end == self.ops.len()) {
                self.recompute(layer);
            }
            let op = self.ops.pop().expect("there is one");
            let Some(dy) = grads.pop().flatten() else { continue };
            let Tape { device, params, batch, factors, .. } = self;
            let mut give = |device: &mut B, to: &SavedVar<B::Act>, part: B::Act| match &mut grads[to.id] {
                Some(sum) => device.accumulate(sum, &part),
                empty => *empty = Some(part),
            };
            match op {
                Op::RopeCache { .. } => {}
                Op::Embed { table, tokens } => {
                    if let Some(master) = params[table].master_mut() {
                        device.embed_backward(&tokens, &dy, &mut master.grad);
                    }
                }
                Op::Linear { w, x, .. } => {
                    if let Some(master) = params[w].master_mut() {
                        let grad = &mut master.grad;
                        device.linear_backward_weight(&master.effective, x.value(), &dy, *factors, grad);
                    }
                    let dx = grads[x.id].take();
                    grads[x.id] = Some(device.linear_backward_input(params[w].effective(), &dy, *factors, dx));
                }
                Op::Bias { b, x } => {
                    if let Some(master) = params[b].master_mut() {
                        device.bias_backward(&dy, &mut master.grad);
                    }
                    give(device, &x, dy);
                }
                Op::RmsNorm { gain, x, eps } => {
                    let (gain, dgain) = match &mut params[gain].weight {
                        TapeWeight::Frozen(gain) => (&*gain, None),
                        TapeWeight::Trained(master) => (&master.effective, Some(&mut master.grad)),
                    };
                    let dx = device.rms_norm_backward(gain, x.value(), eps, &dy, dgain);
                    give(device, &x, dx);
                }
                Op::Add { a, b } => {
                    let part = device.copy(&dy);
                    give(device, &a, part);
                    give(device, &b, dy);
                }
                Op::Scale { factor, x } => {
                    let dx = device.scale(&dy, factor);
                    give(device, &x, dx);
                }
                Op::GatedActivation { kind, gate, up } => {
                    let [dgate, dup] = device.gated_activation_backward(kind, gate.value(), up.value(), &dy);
                    give(device, &gate, dgate);
                    give(device, &up, dup);
                }
                Op::Rope { rope, cache, x } => {
                    let dx = device.rope_backward(&rope, cache.value(), dy);
                    give(device, &x, dx);
                }
                Op::Attention { attend, qkv, out } => {
                    let out = out.expect("kept with the operands");
                    let qkv_values = qkv.each_ref().map(SavedVar::value);
                    let parts = device.attention_backward(qkv_values, &out, &dy, &attend, batch);
                    for (to, part) in qkv.iter().zip(parts) {
                        give(device, to, part);
                    }
                }
                Op::GatherRows { rows, x, total } => {
                    let dx = device.gather_rows_backward(&rows, total, &dy);
                    give(device, &x, dx);
                }
            }
        }
    }
}
