//! A training run: steps, validations, checkpoints, and the model at its end.

mod save;
mod step;

use crate::adjoint::{Adjoint, Rounding};
use crate::config::{Config, Precision, Train, Weights};
use crate::data::{Packing, Row};
use crate::export::Formats;
use crate::scaler::Scaler;
use crate::setup::{self, Setup};
use crate::tape::{Param, Tape};
use crate::teacher::Teacher;
use crate::{Error, Event, Plan, Progress, Result, Validation};
use crate::{checkpoint, plan};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
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
    /// What the optimiser keeps for each weight: the sum of gradients, or their mean and that of their squares.
    moments: Vec<Vec<Act>>,
    state: State,
    /// What the model's file says, but its recipe.
    metadata: Metadata,
    formats: Formats,
    /// Blocks of the attention's cache.
    blocks: usize,
    batch: Batch,
    losses: Vec<f32>,
    /// What the observer has not been told yet.
    warnings: Vec<String>,
    /// No other run is at work in the output folder while it is open.
    _lock: File,
}

/// Where a run is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    config: Config,
    /// The hash of the tokenizer.
    language: Option<String>,
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
    /// When the configuration makes no sense, a file cannot be read, there is nothing to resume, or another run is at work in the folder;
    /// [`Error::Cancelled`] when `progress` says so.
    pub fn new(
        config: &Config,
        resume: bool,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Trainer> {
        config.check()?;
        let folder = &config.output.folder;
        if resume && checkpoint::steps(folder).is_empty() {
            return Err(Error::NoCheckpoint { folder: folder.join("checkpoints") });
        }
        let lock = lock(folder)?;
        let Setup { file, metadata, train, validation, formats, device, language, warnings } =
            setup::prepare(config, progress)?;
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
        let Tape { device, params, .. } = &mut tape;
        let mut zeros = |param: &Param<Cpu>| {
            let mut zeros = device.copy(&param.grad);
            device.clear(&mut zeros);
            zeros
        };
        let count = |param: &Param<Cpu>| config.optimizer.name.moments(param.is_inner());
        let moments = params.iter().map(|param| (0..count(param)).map(|_| zeros(param)).collect()).collect();
        let scaler = (config.train.precision == Precision::F16).then(|| Scaler::new(&config.train.loss_scale));
        let teacher = config
            .distill
            .as_ref()
            .map(|distill| Teacher::load(distill, config.train.threads, config.train.sequence, &file, train.tokens()))
            .transpose()?;
        let language = Some(language);
        let state = State { config: config.clone(), language, step: 0, rows: 0, tokens: 0, scaler, best: None };
        let mut trainer = Trainer {
            config: config.clone(),
            tape,
            model,
            teacher,
            train,
            validation,
            moments,
            state,
            metadata,
            formats,
            blocks: 0,
            batch: Batch::new(),
            losses: Vec::new(),
            warnings,
            _lock: lock,
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
        plan::plan(config)
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
        for warning in std::mem::take(&mut self.warnings) {
            stopped |= observe(Event::Warning(&warning)).is_break();
        }
        while self.state.step < steps && !stopped {
            let done = self.advance()?;
            let (step, last, mut best) = (done.step, done.step == steps, false);
            stopped |= observe(Event::Step(&done)).is_break();
            if (due(output.validate_every, step) || last)
                && let Some(validation) = self.validate()?
            {
                best = validation.loss.is_finite() && self.state.best.is_none_or(|(_, loss)| validation.loss < loss);
                if best {
                    self.state.best = Some((step, validation.loss));
                }
                stopped |= observe(Event::Validation(&validation)).is_break();
            }
            if due(output.sample_every, step) && !stopped {
                let path = output.folder.join("sample.gguf");
                self.export(&path)?;
                stopped |= observe(Event::Sample { step, model: &path }).is_break();
            }
            if due(output.checkpoint_every, step) || best || last || stopped {
                let path = self.save()?;
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
}

/// Makes the folder of a run, and keeps others out of it.
fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { folder: folder.into() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
    }
}

/// Losses are few and small: a plain sum in double precision.
fn sum(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum()
}
