//! The backward pass over a tape.

use super::op::{Recorded, SavedVar, Var};
use super::parameter::TapeWeight;
use super::{Tape, TapePass};
use crate::adjoint::Adjoint;
use crate::{Error, Result};
use std::rc::Rc;
use trine_backend::Ops;

impl<B: Adjoint> Tape<B> {
    /// Adds to the gradients of all trained weights what follows from `dy`, the gradient of `y`, and clears the tape.
    ///
    /// # Errors
    /// [`Error::NotRecorded`] when `y` follows from constants alone, or was computed in [`Tape::no_grad`] or in a pass that has ended, which
    /// leaves tape and gradients as they are; and when the device failed in the pass.
    pub fn backward(&mut self, y: Var<B::Act>, dy: B::Act) -> Result<()> {
        let last = y.id.as_ref().and_then(|id| self.index(id)).ok_or(Error::NotRecorded)?;
        self.end_layer();
        let mut grads: Vec<Option<B::Act>> = (0..self.ops.len()).map(|_| None).collect();
        grads[last] = Some(dy);
        // Rope caches, which layers share, and their inverses.
        let mut inverses: Vec<(Rc<B::Act>, B::Act)> = Vec::new();
        drop(y);
        while !self.ops.is_empty() {
            if let Some(layer) = self.checkpointed.pop_if(|layer| layer.end == self.ops.len()) {
                self.recompute(layer);
            }
            let op = self.ops.pop().expect("there is one");
            let Some(dy) = grads.pop().flatten() else { continue };
            let Tape { device, params, pass, factors, profile, .. } = self;
            let (TapePass { device: pass, batch }, profile) =
                (pass.as_ref().expect("a pass was recorded"), profile.as_ref());
            let _span = profile.and_then(|profile| profile.backward(device, &op, &dy, batch));
            let mut give = |device: &mut B, to: &SavedVar<B::Act>, part: B::Act| match to.id.map(|id| &mut grads[id]) {
                None => {}
                Some(Some(sum)) => device.accumulate(sum, &part),
                Some(empty) => *empty = Some(part),
            };
            match op {
                Recorded::RopeCache { .. } => {}
                Recorded::Embed { table } => {
                    if let Some(master) = params[table].master_mut() {
                        device.embed_backward(batch.tokens(), &dy, &mut master.grad);
                    }
                }
                Recorded::Linear { w, x, .. } => {
                    let [tokens, _] = device.shape(&dy);
                    if let Some(master) = params[w].master_mut() {
                        let _span = profile.map(|profile| profile.linear_backward_weight(w, tokens));
                        let grad = &mut master.grad;
                        device.linear_backward_weight(&master.effective, x.value(), &dy, *factors, grad);
                    }
                    if let Some(dx) = x.id.map(|id| &mut grads[id]) {
                        let _span = profile.map(|profile| profile.linear_backward_input(w, tokens));
                        *dx = Some(device.linear_backward_input(params[w].effective(), &dy, *factors, dx.take()));
                    }
                }
                Recorded::Bias { b, x } => {
                    if let Some(master) = params[b].master_mut() {
                        device.bias_backward(&dy, &mut master.grad);
                    }
                    give(device, &x, dy);
                }
                Recorded::RmsNorm { gain, x, eps } => {
                    let (gain, dgain) = match &mut params[gain].weight {
                        TapeWeight::Frozen(gain) => (&*gain, None),
                        TapeWeight::Trained(master) => (&master.effective, Some(&mut master.grad)),
                    };
                    let dx = device.rms_norm_backward(gain, x.value(), eps, &dy, dgain);
                    give(device, &x, dx);
                }
                Recorded::Add { a, b } => {
                    let part = device.copy(&dy);
                    give(device, &a, part);
                    give(device, &b, dy);
                }
                Recorded::Scale { factor, x } => {
                    let dx = device.scale(&dy, factor);
                    give(device, &x, dx);
                }
                Recorded::GatedActivation { kind, gate, up } => {
                    let [dgate, dup] = device.gated_activation_backward(kind, gate.value(), up.value(), &dy);
                    give(device, &gate, dgate);
                    give(device, &up, dup);
                }
                Recorded::Rope { rope, cache, x } => {
                    let cache = cache.value.expect("kept with the operands");
                    let found = inverses.iter().position(|(of, _)| Rc::ptr_eq(of, &cache));
                    let i = found.unwrap_or_else(|| {
                        let inverse = device.rope_cache_backward(&rope, &cache);
                        inverses.push((cache, inverse));
                        inverses.len() - 1
                    });
                    let dx = device.rope(&rope, &inverses[i].1, &dy);
                    give(device, &x, dx);
                }
                Recorded::Attention { options, qkv, out } => {
                    let out = out.expect("kept with the operands");
                    let qkv_values = qkv.each_ref().map(SavedVar::value);
                    let parts = device.attention_backward(qkv_values, &out, &dy, &options, pass);
                    for (to, part) in qkv.iter().zip(parts) {
                        give(device, to, part);
                    }
                }
                Recorded::GatherOutputs { x } => {
                    let dx = device.gather_rows_backward(batch.outputs(), batch.tokens().len(), &dy);
                    give(device, &x, dx);
                }
            }
        }
        Ok(self.finish_pass()?)
    }
}
