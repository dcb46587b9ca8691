//! One step: the gradients of a batch, and the update of the weights.

use super::{Trainer, sum};
use crate::adjoint::{Adjoint, Rounding};
use crate::config::{Config, WeightQuantization};
use crate::data::PackedRow;
use crate::optimizer::Hyperparameters;
use crate::tape::{MasterWeight, Parameter, Tape};
use crate::teacher::TeacherLogits;
use crate::{Error, Result, StepMetrics};
use std::time::Instant;
use trine_backend::Cpu;

impl Trainer {
    /// Computes the gradients of a batch and updates the weights.
    ///
    /// # Errors
    /// When gradients are not finite, and a smaller loss scale would not help.
    pub fn advance(&mut self) -> Result<StepMetrics> {
        let begin = Instant::now();
        self.tape.begin_step();
        let Config { train, quantization, .. } = &self.config;
        let (batch, sequence, steps) = (train.batch, train.sequence, train.steps);
        let micro_batch = train.micro_batch.unwrap_or(batch).clamp(1, batch);
        let step = self.state.step + 1;
        // The number of the update, for all that changes over a run.
        let update = step - self.state.skipped;
        if quantization.warm_in > 0 && quantization.weights == WeightQuantization::Ternary {
            let share = (update as f32 / quantization.warm_in as f32).min(1.0);
            self.tape.set_inner(if share < 1.0 { Rounding::Blend(share) } else { Rounding::Ternary });
        }
        self.tape.begin_phase("quantize", 0);
        self.tape.requantize()?;
        self.tape.clear_gradients();
        let scale = self.state.scaler.map_or(1.0, |scaler| scaler.scale);
        let (mut loss, mut divergence, mut compared, mut flops) = (0.0, 0.0, 0.0, 0.0);
        let tokens = batch * sequence;
        for first in (0..batch).step_by(micro_batch) {
            let end = batch.min(first + micro_batch);
            self.tape.begin_phase("data", (end - first) * sequence);
            let rows: Vec<PackedRow> = (first..end).map(|row| self.train.row(self.state.rows + row as u64)).collect();
            flops += 3.0 * self.flops(&rows);
            let parts = self.accumulate_gradients(&rows, scale / tokens as f64)?;
            loss += parts[0];
            divergence += parts[1];
            compared += parts[2];
        }
        self.tape.begin_phase("optimizer", 0);
        let mut squares = 0.0;
        for i in 0..self.tape.params.len() {
            let Tape { device, params, profile, .. } = &mut self.tape;
            let Some(master) = params[i].master() else { continue };
            let _span = profile.as_ref().map(|profile| profile.weight_span("sum_of_squares", i, 1));
            let sum = device.sum_of_squares(&master.grad);
            // The loss itself does not depend on the loss scale.
            if !sum.is_finite() && (self.state.scaler.is_none() || !loss.is_finite()) {
                return Err(Error::NotFinite { tensor: params[i].name.clone(), step, loss: loss / tokens as f64 });
            }
            squares += sum;
        }
        let norm = squares.sqrt() / scale;
        let finite = norm.is_finite();
        if let Some(scaler) = &mut self.state.scaler {
            let config = &self.config.train.loss_scale;
            if !finite && scaler.is_exhausted(config) {
                return Err(Error::Overflow { step, scale, loss: loss / tokens as f64 });
            }
            scaler.update(config, finite);
        }
        let rate = self.config.schedule.rate(&self.config.optimizer, update, steps);
        match finite {
            true => self.update(update, rate, norm, scale),
            false => self.state.skipped += 1,
        }
        self.state.step = step;
        self.state.rows += batch as u64;
        self.state.tokens += tokens as u64;
        self.tape.end_step();
        Ok(StepMetrics {
            step,
            steps,
            loss: loss / tokens as f64,
            distillation: (compared > 0.0).then(|| divergence / compared),
            tokens: tokens as u64,
            total_tokens: self.state.tokens,
            learning_rate: rate,
            grad_norm: norm,
            loss_scale: self.state.scaler.map(|_| scale),
            skipped: !finite,
            flops,
            seconds: begin.elapsed().as_secs_f64(),
        })
    }

    /// Adds the gradients of sequences, each token's times `scale`. Returns the sum of losses, the sum of divergences from the teacher, and the number
    /// of tokens that have such a divergence.
    fn accumulate_gradients(&mut self, rows: &[PackedRow], scale: f64) -> Result<[f64; 3]> {
        let cache = self.fill_batch(rows)?;
        let share = self.config.distill.as_ref().map_or(0.0, |distill| distill.share);
        let targets: Vec<u32> = rows.iter().flat_map(|row| row.targets.iter().copied()).collect();
        self.tape.begin_phase("forward", targets.len());
        let logits = self.model.forward(&mut self.tape, cache, &self.batch)?;
        self.losses.clear();
        let own = (scale * (1.0 - share)) as f32;
        let mut dlogits = {
            let Tape { device, profile, .. } = &mut self.tape;
            let _span = profile.as_ref().map(|profile| profile.span("cross_entropy"));
            device.cross_entropy(logits.value(), &targets, own, &mut self.losses)
        };
        let mut sums = [sum(&self.losses), 0.0, 0.0];
        if let (Some(teacher), Some(distill)) = (&mut self.teacher, &self.config.distill) {
            let (temperature, scale) = (distill.temperature as f32, (scale * share) as f32);
            self.tape.begin_phase("teacher", targets.len());
            let TeacherLogits { rows, logits: theirs } =
                teacher.logits(&mut self.tape.device, &self.batch, self.blocks, temperature)?;
            self.losses.clear();
            let Tape { device, profile, .. } = &mut self.tape;
            let _span = profile.as_ref().map(|profile| profile.span("kl_divergence"));
            match rows {
                None => {
                    device.kl_divergence(logits.value(), &theirs, temperature, scale, &mut dlogits, &mut self.losses)
                }
                Some(rows) => {
                    let ours = device.gather_rows(logits.value(), &rows);
                    let mut part = device.zeros_like(&ours);
                    device.kl_divergence(&ours, &theirs, temperature, scale, &mut part, &mut self.losses);
                    let part = device.gather_rows_backward(&rows, targets.len(), &part);
                    device.accumulate(&mut dlogits, &part);
                }
            }
            sums[1] = sum(&self.losses);
            sums[2] = self.losses.len() as f64;
        }
        self.tape.begin_phase("backward", targets.len());
        self.tape.backward(logits, dlogits)?;
        Ok(sums)
    }

    /// Floating-point operations of the matrix products of a forward pass.
    fn flops(&self, rows: &[PackedRow]) -> f64 {
        let spec = self.model.spec();
        let is_product = |param: &&Parameter<Cpu>| param.shape.len() == 2;
        let mut weights: usize = self.tape.params.iter().filter(is_product).map(Parameter::len).sum();
        // With a separate output head, the embedding is no product.
        if self.tape.params.iter().any(|param| param.name == "output.weight") {
            weights -= spec.vocab_size * spec.hidden_size;
        }
        let spans = || rows.iter().flat_map(|row| &row.spans);
        let tokens: usize = spans().sum();
        let pairs: usize = spans().map(|len| len * (len + 1) / 2).sum();
        2.0 * weights as f64 * tokens as f64 + 4.0 * (pairs * spec.n_layers * spec.n_heads * spec.head_dim) as f64
    }

    /// Updates the weights for the `step`th time by their gradients, which are `scale` times too large, and whose norm without that is `norm`.
    fn update(&mut self, step: u64, learning_rate: f64, norm: f64, scale: f64) {
        let Config { train, optimizer, schedule, .. } = &self.config;
        let clip = train.clip_grad_norm;
        let factor = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 } / scale;
        let decay = schedule.decay(optimizer, step, train.steps);
        let Tape { device, params, profile, .. } = &mut self.tape;
        for (i, (param, states)) in params.iter_mut().zip(&mut self.optimizer_states).enumerate() {
            let inner = param.is_inner();
            let Some(MasterWeight { values, grad, .. }) = param.master_mut() else { continue };
            // The weight and each state are read and written, the gradient is read.
            let _span = profile.as_ref().map(|profile| profile.weight_span("update", i, 3 + 2 * states.len()));
            let hyper = Hyperparameters {
                step,
                learning_rate,
                beta1: optimizer.beta1,
                beta2: optimizer.beta2,
                eps: optimizer.eps,
                weight_decay: if inner { decay } else { 0.0 },
                grad_factor: factor as f32,
            };
            device.update(optimizer.name.rule(inner), &hyper, values, grad, states);
        }
    }
}
