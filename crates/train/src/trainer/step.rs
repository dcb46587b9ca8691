//! One step: gradients of a batch, and what the optimiser makes of them.

use super::{Trainer, sum};
use crate::adjoint::{AdamW, Adjoint, Muon, Rounding};
use crate::config::{Config, Weights};
use crate::data::Row;
use crate::tape::{Param, Tape};
use crate::teacher::Lesson;
use crate::{Error, Result, Step};
use std::time::Instant;
use trine_backend::{Backend, Cpu};

impl Trainer {
    /// One step of the optimiser.
    ///
    /// # Errors
    /// When gradients are not finite, and no loss scale explains it.
    pub fn advance(&mut self) -> Result<Step> {
        let begin = Instant::now();
        let Config { train, quantization, .. } = &self.config;
        let (batch, sequence, steps) = (train.batch, train.sequence, train.steps);
        let portion = train.micro_batch.unwrap_or(batch).clamp(1, batch);
        let step = self.state.step + 1;
        if quantization.warm_in > 0 && quantization.weights == Weights::Ternary {
            let share = (step as f32 / quantization.warm_in as f32).min(1.0);
            self.tape.set_inner(if share < 1.0 { Rounding::Towards(share) } else { Rounding::Ternary });
        }
        self.tape.settle()?;
        self.tape.clear_gradients();
        let scale = self.state.scaler.map_or(1.0, |scaler| scaler.scale);
        let (mut loss, mut divergence, mut compared, mut flops) = (0.0, 0.0, 0.0, 0.0);
        let tokens = batch * sequence;
        for first in (0..batch).step_by(portion) {
            let rows: Vec<Row> =
                (first..batch.min(first + portion)).map(|row| self.train.row(self.state.rows + row as u64)).collect();
            flops += 3.0 * self.flops(&rows);
            let parts = self.learn(&rows, scale / tokens as f64)?;
            loss += parts[0];
            divergence += parts[1];
            compared += parts[2];
        }
        let mut squares = 0.0;
        for i in 0..self.tape.params.len() {
            let Tape { device, params, .. } = &mut self.tape;
            let sum = device.sum_of_squares(&params[i].grad);
            // No loss scale makes a loss infinite.
            if !sum.is_finite() && (self.state.scaler.is_none() || !loss.is_finite()) {
                return Err(Error::NotFinite { tensor: params[i].name.clone(), step, loss: loss / tokens as f64 });
            }
            squares += sum;
        }
        let norm = squares.sqrt() / scale;
        let finite = norm.is_finite();
        if let Some(scaler) = &mut self.state.scaler {
            if !finite && scaler.is_lost() {
                return Err(Error::Overflow { step, scale, loss: loss / tokens as f64 });
            }
            scaler.update(&self.config.train.loss_scale, finite);
        }
        let rate = self.config.schedule.rate(&self.config.optimizer, step, steps);
        if finite {
            self.update(step, rate, norm, scale);
        }
        self.state.step = step;
        self.state.rows += batch as u64;
        self.state.tokens += tokens as u64;
        Ok(Step {
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

    /// Adds the gradients of some sequences, and returns the sums of their losses and of their divergences from the teacher, and of how many tokens.
    /// Each token's gradient counts `scale`.
    fn learn(&mut self, rows: &[Row], scale: f64) -> Result<[f64; 3]> {
        self.lay_out(rows)?;
        let share = self.config.distill.as_ref().map_or(0.0, |distill| distill.share);
        let targets: Vec<u32> = rows.iter().flat_map(|row| row.targets.iter().copied()).collect();
        let logits = self.model.forward(&mut self.tape, &self.batch);
        self.losses.clear();
        let own = (scale * (1.0 - share)) as f32;
        let mut dlogits = self.tape.device.cross_entropy(logits.value(), &targets, own, &mut self.losses);
        let mut sums = [sum(&self.losses), 0.0, 0.0];
        if let (Some(teacher), Some(distill)) = (&mut self.teacher, &self.config.distill) {
            let (temperature, scale) = (distill.temperature as f32, (scale * share) as f32);
            let Lesson { rows, logits: theirs } = teacher.lesson(&self.batch, self.blocks, temperature)?;
            self.losses.clear();
            let device = &mut self.tape.device;
            match rows {
                None => device.divergence(logits.value(), &theirs, temperature, scale, &mut dlogits, &mut self.losses),
                Some(rows) => {
                    let ours = device.gather_rows(logits.value(), &rows);
                    let mut part = device.copy(&ours);
                    device.clear(&mut part);
                    device.divergence(&ours, &theirs, temperature, scale, &mut part, &mut self.losses);
                    let part = device.select_back(&rows, targets.len(), &part);
                    device.accumulate(&mut dlogits, &part);
                }
            }
            sums[1] = sum(&self.losses);
            sums[2] = self.losses.len() as f64;
        }
        self.tape.backward(logits, dlogits);
        Ok(sums)
    }

    /// Floating-point operations of the matrix products of a forward pass.
    fn flops(&self, rows: &[Row]) -> f64 {
        let spec = self.model.spec();
        let is_product = |param: &&Param<Cpu>| param.shape.len() == 2;
        let mut weights: usize = self.tape.params.iter().filter(is_product).map(Param::len).sum();
        // A head of its own leaves the embedding without a product.
        if self.tape.params.iter().any(|param| param.name == "output.weight") {
            weights -= spec.vocab_size * spec.hidden_size;
        }
        let spans = || rows.iter().flat_map(|row| &row.spans);
        let tokens: usize = spans().sum();
        let pairs: usize = spans().map(|len| len * (len + 1) / 2).sum();
        2.0 * weights as f64 * tokens as f64 + 4.0 * (pairs * spec.n_layers * spec.n_heads * spec.head_dim) as f64
    }

    /// Changes the weights by their gradients, which are `scale` times too large, and whose norm would be `norm`.
    fn update(&mut self, step: u64, rate: f64, norm: f64, scale: f64) {
        let Config { train, optimizer, schedule, .. } = &self.config;
        let clip = train.clip_grad_norm;
        let factor = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 } / scale;
        let decay = schedule.decay(optimizer, step, train.steps);
        let Tape { device, params, .. } = &mut self.tape;
        for (param, moments) in params.iter_mut().zip(&mut self.moments) {
            let decay = if param.is_inner() { decay } else { 0.0 };
            let (beta1, beta2, eps, factor) = (optimizer.beta1, optimizer.beta2, optimizer.eps, factor as f32);
            let Param { master, grad, .. } = param;
            match &mut moments[..] {
                [m] => device.muon(&Muon { rate, momentum: beta1, decay, factor }, master, grad, m),
                [m, v] => device.adamw(&AdamW { step, rate, beta1, beta2, eps, decay, factor }, master, grad, m, v),
                _ => unreachable!("an optimiser keeps one or two numbers for each weight"),
            }
        }
    }
}
