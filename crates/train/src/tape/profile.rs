//! What a tape tells a profile: the work of each operation, forward and backward.

use super::Tape;
use super::op::Recorded;
use super::parameter::Parameter;
use crate::adjoint::Adjoint;
use trine_backend::profile::{Guard, OpWork, Part, PassSize, Recorder, RoutesSize, TensorMemory, WeightSize};
use trine_backend::{Batch, Op};
use trine_tensor::Format;

/// Where the operations of a tape are counted.
pub(crate) struct TapeProfile {
    recorder: Recorder,
    /// The effective weights, and the formats in which the recorder knows them.
    weights: Vec<(&'static Format, WeightSize)>,
}

impl<B: Adjoint> Tape<B> {
    /// Counts all operations from now on: those of the backward pass have names of their own, such as `linear_backward_weight`.
    pub fn set_recorder(&mut self, recorder: Recorder) {
        self.profile = Some(TapeProfile { recorder, weights: Vec::new() });
        self.describe_weights();
    }

    /// Where operations are counted, if anywhere.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.profile.as_ref().map(|profile| &profile.recorder)
    }

    /// Makes known in what format each effective weight is now.
    pub(super) fn describe_weights(&mut self) {
        let Tape { device, params, profile: Some(TapeProfile { recorder, weights }), .. } = self else { return };
        for (i, param) in params.iter().enumerate() {
            let format = device.format(param.effective());
            match weights.get_mut(i) {
                Some((known, _)) if *known == format => {}
                Some(known) => *known = (format, describe(recorder, param, format)),
                None => weights.push((format, describe(recorder, param, format))),
            }
        }
    }

    /// Begins a step of training.
    pub(crate) fn begin_step(&self) {
        self.recorder().into_iter().for_each(|recorder| recorder.begin_step("step", None));
    }

    /// Begins a phase of so many tokens, which ends the one before.
    pub(crate) fn begin_phase(&self, phase: &'static str, tokens: usize) {
        self.recorder().into_iter().for_each(|recorder| recorder.begin_phase(phase, tokens));
    }

    /// Ends a step, or a phase that is in none.
    pub(crate) fn end_step(&self) {
        if let Some(recorder) = self.recorder() {
            recorder.end_step();
            recorder.sample_memory(self.device.memory().unwrap_or_default().activations as usize);
        }
    }
}

fn describe<B: Adjoint>(recorder: &Recorder, param: &Parameter<B>, format: &'static Format) -> WeightSize {
    let cols = param.shape.last().copied().unwrap_or(1);
    let rows = param.len() / cols.max(1);
    let bytes = format.size(rows as u64, cols as u64).unwrap_or_default() as usize;
    let memory = TensorMemory { name: param.name.clone(), format: format.name, shape: param.shape.clone(), bytes };
    WeightSize { tensor: recorder.add(memory), rows, cols, bytes }
}

impl TapeProfile {
    /// Counts what happens until the guard is dropped as an operation.
    pub fn span(&self, name: &'static str) -> Guard<'_> {
        self.recorder.span(name, Part::Other)
    }

    /// Counts what happens until the guard is dropped as an operation on a weight, and on so many float32 numbers for each of its own.
    pub fn weight_span(&self, name: &'static str, weight: usize, numbers: usize) -> Guard<'_> {
        let size = self.weights[weight].1;
        self.recorder.operation(OpWork::new(name, Part::Other, numbers * size.rows * size.cols, 0).with(size, 0))
    }

    /// Counts what happens until the guard is dropped as the forward pass of an operation.
    pub(super) fn forward<B: Adjoint>(&self, device: &B, op: &Recorded<B::Act>, batch: &Batch) -> Guard<'_> {
        self.recorder.operation(self.work(device, op, batch))
    }

    fn work<B: Adjoint>(&self, device: &B, op: &Recorded<B::Act>, batch: &Batch) -> OpWork {
        let op: Op<WeightSize, B::Act, RoutesSize, Batch> = op.op(|w| &self.weights[w].1, batch);
        let position = match op {
            Op::Attention { k, v, .. } => size_of::<f32>() * (device.columns(k) + device.columns(v)),
            _ => 0,
        };
        let (tokens, outputs) = (batch.tokens().len(), batch.outputs().len());
        let pass = PassSize { tokens, outputs, spans: batch.spans(), position };
        OpWork::of(&op, |w| *w, |x| device.shape(x), |routes| *routes, |_| pass).0
    }

    /// Counts what happens until the guard is dropped as the gradient of the weight of a linear layer: a product as large as its own. It is added
    /// to what is there.
    pub(super) fn linear_backward_weight(&self, w: usize, tokens: usize) -> Guard<'_> {
        let (name, w) = ("linear_backward_weight", self.weights[w].1);
        let (moved, operations) = (tokens * (w.rows + w.cols) + 2 * w.rows * w.cols, 2 * tokens * w.rows * w.cols);
        let gradient = WeightSize { bytes: 0, ..w };
        self.recorder.operation(OpWork::new(name, Part::Products, moved, operations).with(gradient, tokens))
    }

    /// The same for its input.
    pub(super) fn linear_backward_input(&self, w: usize, tokens: usize) -> Guard<'_> {
        let (name, w) = ("linear_backward_input", self.weights[w].1);
        let (moved, operations) = (tokens * (w.rows + w.cols), 2 * tokens * w.rows * w.cols);
        self.recorder.operation(OpWork::new(name, Part::Products, moved, operations).with(w, tokens))
    }

    /// Counts what happens until the guard is dropped as the backward pass of another operation, whose result has the gradient `dy`.
    pub(super) fn backward<B: Adjoint>(
        &self,
        device: &B,
        op: &Recorded<B::Act>,
        dy: &B::Act,
        batch: &Batch,
    ) -> Option<Guard<'_>> {
        let shape = device.shape(dy);
        let (rows, len) = (shape[0], shape.iter().product::<usize>());
        let other = |name, moved, operations| OpWork::new(name, Part::Other, moved, operations);
        let work = match op {
            // Its products are counted alone, and a rope cache is a constant.
            Recorded::Linear { .. } | Recorded::RopeCache { .. } => return None,
            Recorded::Embed { table } => {
                let table = WeightSize { bytes: 0, ..self.weights[*table].1 };
                other("embed_backward", 3 * len, len).with(table, rows)
            }
            Recorded::Bias { b, .. } => other("bias_backward", len, len).with(self.weights[*b].1, rows),
            Recorded::RmsNorm { gain, .. } => {
                let work = OpWork::new("rms_norm_backward", Part::Norms, 3 * len, 9 * len);
                work.with(self.weights[*gain].1, rows)
            }
            Recorded::Add { .. } => other("add_backward", 2 * len, 0),
            Recorded::Scale { .. } => other("scale_backward", 2 * len, len),
            Recorded::GatedActivation { .. } => other("gated_activation_backward", 5 * len, 11 * len),
            Recorded::Rope { .. } => other("rope_backward", 2 * len, 3 * len),
            Recorded::Attention { qkv: [_, k, v], .. } => {
                // Five products in place of two: the scores again, and the gradients of probabilities, values, queries and keys.
                let forward = self.work(device, op, batch);
                let columns = device.columns(k.value()) + device.columns(v.value());
                let moved = 4 * len + 2 * rows * columns;
                let work = OpWork::new("attention_backward", Part::Attention, moved, forward.operations / 2 * 5);
                OpWork { rows, ..work }
            }
            Recorded::GatherOutputs { .. } => other("gather_outputs_backward", 2 * len, 0),
        };
        Some(self.recorder.operation(work))
    }
}
