//! A training run: steps, validations, checkpoints, and the model at its end.

use crate::adjoint::{AdamW, Adjoint, Muon, Rounding};
use crate::checkpoint::{self, Checkpoint, Tensors};
use crate::config::{Config, OptimizerName, Precision, Train, Weights};
use crate::data::{Packing, Row};
use crate::export::{self, Formats};
use crate::scaler::Scaler;
use crate::setup::{self, Setup};
use crate::tape::{Param, Tape};
use crate::teacher::{Lesson, Teacher};
use crate::{Error, Event, Plan, Progress, Result, Step, Validation};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;
use trine_backend::{Act, Backend, Batch, Cpu};
use trine_kernels::Factors;
use trine_model::Model;
use trine_tensor::Metadata;
use trine_tensor::format::{BF16, F16, F32};

/// Tokens of a block of the attention's cache.
const BLOCK: usize = 16;

/// A run.
pub struct Trainer {
    config: Config,
    tape: Tape<Cpu>,
    model: Model<Tape<Cpu>>,
    teacher: Option<Teacher>,
    train: Packing,
    validation: Packing,
    /// Means of gradients and of their squares, for each weight.
    means: Vec<[Act; 2]>,
    state: State,
    /// What the model's file says, but its recipe.
    metadata: Metadata,
    formats: Formats,
    /// Blocks of the attention's cache.
    blocks: usize,
    batch: Batch,
    losses: Vec<f32>,
}

/// Where a run is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    config: Config,
    step: u64,
    /// Sequences that were learned from.
    rows: u64,
    tokens: u64,
    scaler: Option<Scaler>,
    /// The step and loss of the best validation.
    best: Option<(u64, f64)>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The model, or the checkpoint that was written when the run was stopped.
    pub model: PathBuf,
    /// Steps done.
    pub steps: u64,
    /// Whether somebody stopped it before its end.
    pub stopped: bool,
}

impl Trainer {
    /// Reads data and makes weights, or with `resume` goes on from the last checkpoint of the output folder. `progress` is told how far that is.
    ///
    /// # Errors
    /// When the configuration makes no sense, a file cannot be read, or there is nothing to resume.
    pub fn new(config: &Config, resume: bool, progress: &mut dyn FnMut(Progress)) -> Result<Trainer> {
        let Setup { file, metadata, train, validation, formats, device } = setup::prepare(config, resume, progress)?;
        let outer = Rounding::Float(match config.train.precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
            Precision::F16 => &F16,
        });
        let inner = match config.quantization.weights {
            Weights::None => outer,
            Weights::Ternary => Rounding::Ternary,
        };
        let mut tape = Tape::new(device, inner, outer);
        tape.set_forgetful(config.train.grad_checkpoint);
        tape.set_factors(match config.train.precision {
            Precision::F32 => Factors::F32,
            Precision::Bf16 => Factors::Bf16,
            Precision::F16 => Factors::F16,
        });
        let model = Model::load(&mut tape, &file, &mut |_| ControlFlow::Continue(()))?;
        let zeros = |tape: &mut Tape<Cpu>, i: usize| {
            let mut zeros = tape.device.copy(&tape.params[i].grad);
            tape.device.clear(&mut zeros);
            zeros
        };
        let means = (0..tape.params.len()).map(|i| [zeros(&mut tape, i), zeros(&mut tape, i)]).collect();
        let scaler = (config.train.precision == Precision::F16).then(|| Scaler::new(&config.train.loss_scale));
        let teacher =
            config.distill.as_ref().map(|distill| Teacher::load(distill, config.train.threads, &file)).transpose()?;
        let state = State { config: config.clone(), step: 0, rows: 0, tokens: 0, scaler, best: None };
        let mut trainer = Trainer {
            config: config.clone(),
            tape,
            model,
            teacher,
            train,
            validation,
            means,
            state,
            metadata,
            formats,
            blocks: 0,
            batch: Batch::new(),
            losses: Vec::new(),
        };
        if resume {
            trainer.restore()?;
        }
        Ok(trainer)
    }

    /// What a run would take, without beginning it.
    ///
    /// # Errors
    /// When the configuration makes no sense, or the tokenizer or a model cannot be read.
    pub fn plan(config: &Config) -> Result<Plan> {
        setup::plan(config)
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// The logits behind each token of a sequence, `[tokens, vocab]`, as the tape computes them.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let row = Row { inputs: ids.to_vec(), spans: vec![ids.len()], ..Row::default() };
        self.tape.settle()?;
        self.lay_out(&[row])?;
        self.tape.record(false);
        let logits = self.model.forward(&mut self.tape, &self.batch);
        self.tape.record(true);
        Ok(logits.value().data().to_vec())
    }

    /// What is trained.
    pub fn tape(&mut self) -> &mut Tape<Cpu> {
        &mut self.tape
    }

    /// Runs to the end, or until `observe` breaks off; then a checkpoint is written.
    ///
    /// # Errors
    /// When weights stop being finite, or a file cannot be written.
    pub fn run(&mut self, observe: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Finished> {
        let Config { train: Train { steps, .. }, output, .. } = self.config.clone();
        let due = |every: u64, step: u64| every > 0 && step.is_multiple_of(every);
        let mut stopped = false;
        while self.state.step < steps && !stopped {
            let done = self.advance()?;
            let (step, last) = (done.step, done.step == steps);
            stopped |= observe(Event::Step(&done)).is_break();
            if (due(output.validate_every, step) || last)
                && let Some(validation) = self.validate()?
            {
                if self.state.best.is_none_or(|(_, loss)| validation.loss < loss) {
                    self.state.best = Some((step, validation.loss));
                }
                stopped |= observe(Event::Validation(&validation)).is_break();
            }
            if due(output.sample_every, step) && !stopped {
                let path = output.folder.join("sample.gguf");
                self.export(&path)?;
                stopped |= observe(Event::Sample { step, model: &path }).is_break();
            }
            if due(output.checkpoint_every, step) || last || stopped {
                let path = self.save()?;
                let best = self.state.best.is_some_and(|(best, _)| best == step);
                stopped |= observe(Event::Checkpoint { step, path: &path, best }).is_break();
            }
        }
        let steps_done = self.state.step;
        if steps_done < steps {
            let model = checkpoint::path(&output.folder, steps_done);
            return Ok(Finished { model, steps: steps_done, stopped: true });
        }
        let model = output.model.unwrap_or_else(|| output.folder.join("model.gguf"));
        self.export(&model)?;
        Ok(Finished { model, steps: steps_done, stopped: false })
    }

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
            if !sum.is_finite() && self.state.scaler.is_none() {
                return Err(Error::NotFinite { tensor: params[i].name.clone(), step, loss: loss / tokens as f64 });
            }
            squares += sum;
        }
        let norm = squares.sqrt() / scale;
        let finite = norm.is_finite();
        if let Some(scaler) = &mut self.state.scaler {
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
                    let ours = device.select(logits.value(), &rows);
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

    /// Makes some sequences the batch that runs next; every piece of a document stands for itself.
    fn lay_out(&mut self, rows: &[Row]) -> Result<()> {
        self.batch.clear();
        let mut blocks = 0;
        for row in rows {
            let mut start = 0;
            for &len in &row.spans {
                let own: Vec<u32> = (blocks..).take(len.div_ceil(BLOCK)).collect();
                blocks += own.len() as u32;
                self.batch.push(&row.inputs[start..start + len], 0, &own, len);
                start += len;
            }
        }
        if blocks as usize > self.blocks {
            self.blocks = blocks as usize + blocks as usize / 4;
            let shape = self.model.kv_shape(self.blocks, BLOCK);
            self.tape.reserve_kv(shape)?;
        }
        Ok(())
    }

    /// Floating-point operations of the matrix products of a forward pass.
    fn flops(&self, rows: &[Row]) -> f64 {
        let spec = self.model.spec();
        let is_product = |param: &&Param<Cpu>| param.shape.len() == 2;
        let mut weights: usize = self.tape.params.iter().filter(is_product).map(Param::len).sum();
        // A head of its own leaves the embedding without a product.
        if self.tape.params.iter().any(|param| param.name == "output.weight") {
            weights -= spec.vocab * spec.width;
        }
        let spans = || rows.iter().flat_map(|row| &row.spans);
        let tokens: usize = spans().sum();
        let pairs: usize = spans().map(|len| len * (len + 1) / 2).sum();
        2.0 * weights as f64 * tokens as f64 + 4.0 * (pairs * spec.layers * spec.heads * spec.head_dim) as f64
    }

    /// Changes the weights by their gradients, which are `scale` times too large, and whose norm would be `norm`.
    fn update(&mut self, step: u64, rate: f64, norm: f64, scale: f64) {
        let Config { train, optimizer, schedule, .. } = &self.config;
        let clip = train.clip_grad_norm;
        let factor = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 } / scale;
        let decay = schedule.decay(optimizer, step, train.steps);
        let Tape { device, params, .. } = &mut self.tape;
        for (param, [m, v]) in params.iter_mut().zip(&mut self.means) {
            let is_inner = param.is_inner();
            let decay = if is_inner { decay } else { 0.0 };
            let (beta1, beta2, eps, factor) = (optimizer.beta1, optimizer.beta2, optimizer.eps, factor as f32);
            let Param { master, grad, .. } = param;
            if optimizer.name == OptimizerName::Muon && is_inner {
                device.muon(&Muon { rate, momentum: beta1, decay, factor }, master, grad, m);
            } else {
                device.adamw(&AdamW { step, rate, beta1, beta2, eps, decay, factor }, master, grad, m, v);
            }
        }
    }

    /// The loss on the documents that are kept for it; none when there are none.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn validate(&mut self) -> Result<Option<Validation>> {
        let rows = self.validation.rows();
        if rows == 0 {
            return Ok(None);
        }
        let portion = self.config.train.micro_batch.unwrap_or(self.config.train.batch).max(1) as u64;
        self.tape.settle()?;
        self.tape.record(false);
        let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
        for first in (0..rows).step_by(portion as usize) {
            let rows: Vec<Row> = (first..rows.min(first + portion)).map(|row| self.validation.row(row)).collect();
            self.lay_out(&rows)?;
            let targets: Vec<u32> = rows.iter().flat_map(|row| row.targets.iter().copied()).collect();
            let logits = self.model.forward(&mut self.tape, &self.batch);
            self.losses.clear();
            self.tape.device.cross_entropy(logits.value(), &targets, 0.0, &mut self.losses);
            nats += sum(&self.losses);
            tokens += targets.len() as u64;
            bytes += rows.iter().map(|row| row.bytes).sum::<u64>();
        }
        self.tape.record(true);
        let loss = nats / tokens as f64;
        let bits_per_byte = nats / std::f64::consts::LN_2 / bytes as f64;
        Ok(Some(Validation { step: self.state.step, loss, perplexity: loss.exp(), bits_per_byte, tokens }))
    }

    /// Writes a checkpoint, and removes those that are too many.
    fn save(&mut self) -> Result<PathBuf> {
        let folder = self.config.output.folder.clone();
        let path = checkpoint::path(&folder, self.state.step);
        let mut tensors = Tensors::new();
        for (param, [m, v]) in self.tape.params.iter().zip(&self.means) {
            for (suffix, values) in [("", &param.master), (".m", m), (".v", v)] {
                tensors.push((format!("{}{suffix}", param.name), values.data().to_vec()));
            }
        }
        self.state.config = self.config.clone();
        checkpoint::write(&path, &self.state, &tensors)?;
        let best = self.state.best.map(|(step, _)| step);
        let steps = checkpoint::steps(&folder);
        let keep = steps.len().saturating_sub(self.config.output.keep.max(1));
        for &old in steps[..keep].iter().filter(|&&step| Some(step) != best) {
            let path = checkpoint::path(&folder, old);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(path)
    }

    /// Goes on from the last checkpoint.
    fn restore(&mut self) -> Result<()> {
        let folder = &self.config.output.folder;
        let step = checkpoint::steps(folder).pop();
        let step = step.ok_or_else(|| Error::NoCheckpoint { folder: folder.join("checkpoints") })?;
        let path = checkpoint::path(folder, step);
        let file = Checkpoint::open(&path)?;
        let state: State = file.state()?;
        self.config.check_resumes(&state.config)?;
        for (param, [m, v]) in self.tape.params.iter_mut().zip(&mut self.means) {
            for (suffix, values) in [("", &mut param.master), (".m", m), (".v", v)] {
                let saved = file.tensor(&format!("{}{suffix}", param.name), values.data().len())?;
                values.data_mut().copy_from_slice(&saved);
            }
        }
        self.state = state;
        Ok(())
    }

    /// Writes models as another configuration says from now on.
    ///
    /// # Errors
    /// When there is no such format.
    pub fn set_formats(&mut self, config: &Config) -> Result<()> {
        self.formats = setup::formats(config, self.model.spec())?;
        Ok(())
    }

    /// Writes the model as it is, with its recipe.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn export(&mut self, path: &std::path::Path) -> Result<()> {
        if self.config.quantization.weights == Weights::Ternary {
            self.tape.set_inner(Rounding::Ternary);
        }
        self.tape.settle()?;
        let mut metadata = self.metadata.clone();
        let name = self.config.output.name.clone();
        if let Some(name) = name {
            metadata.insert("general.name", name);
        }
        metadata.insert("trine.train.config", serde_json::to_string(&self.config).expect("configurations are plain"));
        metadata.insert("trine.train.steps", self.state.step);
        metadata.insert("trine.train.tokens", self.state.tokens);
        if let Some((_, loss)) = self.state.best {
            metadata.insert("trine.train.validation_loss", loss as f32);
        }
        export::write(&mut self.tape, &metadata, self.formats, path)
    }
}

/// Losses are few and small: a plain sum in double precision.
fn sum(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum()
}
