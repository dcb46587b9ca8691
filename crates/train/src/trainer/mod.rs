//! A training run: steps, validations, checkpoints, and the final model.

mod save;
mod step;

use crate::adjoint::Adjoint;
use crate::config::{Config, Precision, TrainConfig};
use crate::data::{PackedDataset, PackedRow};
use crate::export::{FileLayout, Formats};
use crate::scaler::Scaler;
use crate::setup::{self, Setup};
use crate::tape::{Parameter, Tape};
use crate::teacher::Teacher;
use crate::{Error, Plan, Result, SetupProgress, TrainEvent, Validation};
use crate::{checkpoint, plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::cpu::Act;
use trine_backend::profile::Recorder;
use trine_backend::{BLOCK_LEN, Backend, Batch, CacheId, CacheType, Cpu};
use trine_model::{Model, ModelOptions};

/// A training run, with all that it has on its device and in its output folder.
pub struct Trainer {
    config: Config,
    tape: Tape<Cpu>,
    model: Model<Tape<Cpu>>,
    teacher: Option<Teacher>,
    train: PackedDataset,
    validation: PackedDataset,
    /// Whether the vocabulary spells all of the texts, so that bytes can be counted.
    spells_all: bool,
    /// The optimizer states of each weight, as its rule has them; none for frozen weights.
    optimizer_states: Vec<Vec<Act>>,
    state: State,
    /// The step whose checkpoint was written or read last.
    saved: Option<u64>,
    /// Of the model file; its metadata lacks the recipe.
    layout: FileLayout,
    formats: Formats,
    /// The KV cache, and how many blocks it has.
    cache: Option<(CacheId, usize)>,
    /// Blocks of the current batch.
    blocks: usize,
    batch: Batch,
    losses: Vec<f32>,
    /// To report when the run starts.
    warnings: Vec<String>,
    /// While it is open, no other run can use the output folder.
    _lock: Option<File>,
}

/// The state of a run, as checkpoints have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    config: Value,
    /// A hash of the tokenizer.
    language: Option<String>,
    /// A hash of the texts, the tokenizer, and how those are read.
    #[serde(default)]
    data: Option<String>,
    /// A hash of the teacher, if there is one.
    #[serde(default)]
    teacher: Option<String>,
    step: u64,
    /// Steps whose gradients overflowed. They do not count for the schedule and the optimizer.
    #[serde(default)]
    skipped: u64,
    /// Sequences used so far.
    rows: u64,
    tokens: u64,
    scaler: Option<Scaler>,
    /// The step and loss of the best validation.
    best: Option<(u64, f64)>,
    /// Those of the last validation.
    #[serde(default)]
    validated: Option<(u64, f64)>,
}

/// The end of a run, or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The model, or the checkpoint of a run that was stopped.
    pub model: PathBuf,
    pub steps: u64,
    /// Whether the observer stopped it before its end.
    pub stopped: bool,
}

impl Trainer {
    /// Reads the data and initializes the weights; with `resume`, continues from the last checkpoint in the output folder.
    ///
    /// # Errors
    /// When the configuration is invalid, a file cannot be read, there is no checkpoint to resume, or another run uses the folder;
    /// [`Error::Cancelled`] when `progress` breaks.
    pub fn new(
        config: &Config,
        resume: bool,
        progress: &mut dyn FnMut(SetupProgress) -> ControlFlow<()>,
    ) -> Result<Trainer> {
        config.check()?;
        let folder = &config.output.folder;
        if resume && checkpoint::steps(folder).is_empty() {
            return Err(Error::NoCheckpoint { folder: folder.join("checkpoints") });
        }
        let new = ["", "cache", "lock"].map(|name| folder.join(name)).into_iter().filter(|path| !path.exists());
        let new: Vec<PathBuf> = new.collect();
        let lock = lock(folder)?;
        let trainer = Trainer::start(config, resume, progress);
        if trainer.as_ref().is_err_and(|error| !matches!(error, Error::Cancelled)) {
            // A start that is refused leaves nothing behind.
            for path in new {
                let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
        }
        Ok(Trainer { _lock: Some(lock), ..trainer? })
    }

    /// The trainer in its locked folder.
    fn start(
        config: &Config,
        resume: bool,
        progress: &mut dyn FnMut(SetupProgress) -> ControlFlow<()>,
    ) -> Result<Trainer> {
        let Setup { file, layout, train, validation, formats, device, language, data, spells_all, warnings } =
            setup::prepare(config, progress)?;
        let mut tape = Tape::of(device, config);
        let options = ModelOptions { gguf_names: true, ..ModelOptions::default() };
        let model = Model::load(&mut tape, &file, options, &mut |_| ControlFlow::Continue(()))?;
        // Its pages make room for the optimizer states.
        drop(file);
        let Tape { device, params, .. } = &mut tape;
        let mut states = |param: &Parameter<Cpu>| {
            let rule = config.optimizer.name.rule(param.is_inner());
            let masters = param.master().into_iter().flat_map(|master| rule.states.iter().map(move |_| &master.values));
            masters.map(|values| device.zeros_like(values)).collect()
        };
        let optimizer_states = params.iter().map(&mut states).collect();
        let scaler =
            if config.train.precision == Precision::F16 { Scaler::new(&config.train.loss_scale) } else { None };
        let teacher = config
            .distill
            .as_ref()
            .map(|distill| {
                Teacher::load(distill, config.train.threads, config.train.sequence, &layout.metadata, train.tokens())
            })
            .transpose()?;
        let state = State {
            config: Value::Null,
            language: Some(language),
            data: Some(data),
            teacher: teacher.as_ref().map(|teacher| teacher.hash.clone()),
            step: 0,
            skipped: 0,
            rows: 0,
            tokens: 0,
            scaler,
            best: None,
            validated: None,
        };
        let mut trainer = Trainer {
            config: config.clone(),
            tape,
            model,
            teacher,
            train,
            validation,
            spells_all,
            optimizer_states,
            state,
            saved: None,
            layout,
            formats,
            cache: None,
            blocks: 0,
            batch: Batch::new(),
            losses: Vec::new(),
            warnings,
            _lock: None,
        };
        if resume {
            trainer.restore()?;
        }
        Ok(trainer)
    }

    /// Estimates memory and work without starting the run.
    ///
    /// # Errors
    /// When the configuration is invalid, or the tokenizer or a model cannot be read.
    pub fn plan(config: &Config) -> Result<Plan> {
        plan::plan(config)
    }

    /// The number of steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// The logits after each token of a sequence, `[tokens, vocab]`, as the tape computes them.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let row = PackedRow { inputs: ids.to_vec(), spans: vec![ids.len()], ..PackedRow::default() };
        self.tape.requantize()?;
        let cache = self.fill_batch(&[row])?;
        let logits = self.tape.no_grad(|tape| self.model.forward(tape, cache, &self.batch))?;
        Ok(logits.value().data().to_vec())
    }

    /// The tape, with the device and all weights.
    pub fn tape(&mut self) -> &mut Tape<Cpu> {
        &mut self.tape
    }

    /// Tells `recorder` what the steps take, from its start on: their phases, the operations of the tape, and what each thread does. Weights, losses
    /// and gradients have the same bits.
    pub fn set_recorder(&mut self, recorder: Recorder) {
        recorder.timeline().into_iter().for_each(|timeline| self.tape.device.watch(timeline));
        self.tape.set_recorder(recorder);
    }

    /// Calls `body` as a phase outside of steps.
    fn phase<T>(&mut self, phase: &'static str, tokens: usize, body: impl FnOnce(&mut Trainer) -> T) -> T {
        self.tape.begin_phase(phase, tokens);
        let result = body(self);
        self.tape.end_step();
        result
    }

    /// Runs to the end, or until `observe` breaks, after which a checkpoint is written unless there is one of this step.
    ///
    /// # Errors
    /// When gradients or weights are not finite, or a file cannot be written.
    pub fn run(&mut self, observe: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>) -> Result<Finished> {
        let Config { train: TrainConfig { steps, .. }, output, .. } = self.config.clone();
        let due = |every: u64, step: u64| every > 0 && step.is_multiple_of(every);
        let mut stopped = false;
        for warning in std::mem::take(&mut self.warnings) {
            stopped |= observe(TrainEvent::Warning(&warning)).is_break();
        }
        while self.state.step < steps && !stopped {
            let done = self.advance()?;
            let (step, last, mut best) = (done.step, done.step == steps, false);
            stopped |= observe(TrainEvent::Step(&done)).is_break();
            if (due(output.validate_every, step) || last)
                && let Some(validation) = self.validate()?
            {
                best = validation.loss.is_finite() && self.state.best.is_none_or(|(_, loss)| validation.loss < loss);
                self.state.validated = Some((step, validation.loss));
                if best {
                    self.state.best = Some((step, validation.loss));
                }
                stopped |= observe(TrainEvent::Validation(&validation)).is_break();
            }
            if due(output.sample_every, step) && !stopped {
                let path = output.folder.join("sample.gguf");
                self.phase("export", 0, |trainer| trainer.export(&path))?;
                stopped |= observe(TrainEvent::Sample { step, model: &path }).is_break();
            }
            if due(output.checkpoint_every, step) || best || last {
                let path = self.phase("checkpoint", 0, Trainer::save)?;
                stopped |= observe(TrainEvent::Checkpoint { step, path: &path, best }).is_break();
            }
        }
        let steps_done = self.state.step;
        if steps_done < steps {
            let model = checkpoint::path(&output.folder, steps_done);
            if self.saved != Some(steps_done) {
                self.phase("checkpoint", 0, Trainer::save)?;
                // The run stops, whatever the answer.
                let _ = observe(TrainEvent::Checkpoint { step: steps_done, path: &model, best: false });
            }
            return Ok(Finished { model, steps: steps_done, stopped: true });
        }
        let model = output.model_path();
        self.phase("export", 0, |trainer| trainer.export(&model))?;
        Ok(Finished { model, steps: steps_done, stopped: false })
    }

    /// Makes a batch of sequences, in which every piece of a document is a sequence of its own. Returns a cache with room for it.
    fn fill_batch(&mut self, rows: &[PackedRow]) -> Result<CacheId> {
        self.batch.clear();
        let mut blocks = 0;
        for row in rows {
            let mut start = 0;
            for &len in &row.spans {
                let own: Vec<u32> = (blocks..).take(len.div_ceil(BLOCK_LEN)).collect();
                blocks += own.len() as u32;
                self.batch.push(&row.inputs[start..start + len], 0, &own, len);
                start += len;
            }
        }
        self.blocks = blocks as usize;
        if let Some((cache, room)) = self.cache
            && room >= self.blocks
        {
            return Ok(cache);
        }
        if let Some((old, _)) = self.cache.take() {
            self.tape.release_cache(old);
        }
        let room = self.blocks + self.blocks / 4;
        let cache = self.tape.create_cache(self.model.spec().kv_shape(room, CacheType::F32))?;
        self.cache = Some((cache, room));
        Ok(cache)
    }

    /// The loss on held-out documents; none if there are no such documents.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn validate(&mut self) -> Result<Option<Validation>> {
        // Its batches may be smaller than those of training, whose buffers serve them.
        self.tape.device.set_tight_buffers(false);
        let tokens = self.validation.rows() as usize * self.config.train.sequence;
        let validation = self.phase("validation", tokens, Trainer::validation_loss);
        self.tape.device.set_tight_buffers(true);
        validation
    }

    fn validation_loss(&mut self) -> Result<Option<Validation>> {
        let rows = self.validation.rows();
        if rows == 0 {
            return Ok(None);
        }
        let micro_batch = self.config.train.micro_batch.unwrap_or(self.config.train.batch).max(1) as u64;
        self.tape.requantize()?;
        let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
        for first in (0..rows).step_by(micro_batch as usize) {
            let rows: Vec<PackedRow> =
                (first..rows.min(first + micro_batch)).map(|row| self.validation.row(row)).collect();
            let cache = self.fill_batch(&rows)?;
            let targets: Vec<u32> = rows.iter().flat_map(|row| row.targets.iter().copied()).collect();
            let logits = self.tape.no_grad(|tape| self.model.forward(tape, cache, &self.batch))?;
            self.losses.clear();
            let Tape { device, profile, .. } = &mut self.tape;
            let _span = profile.as_ref().map(|profile| profile.span("cross_entropy"));
            device.cross_entropy(logits.value(), &targets, 0.0, &mut self.losses);
            nats += sum(&self.losses);
            tokens += targets.len() as u64;
            bytes += rows.iter().map(|row| row.bytes).sum::<u64>();
        }
        let loss = nats / tokens as f64;
        let bits_per_byte = self.spells_all.then(|| nats / std::f64::consts::LN_2 / bytes as f64);
        Ok(Some(Validation { step: self.state.step, loss, perplexity: loss.exp(), bits_per_byte, tokens }))
    }
}

/// Creates the folder of a run and locks it.
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

fn sum(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum()
}
