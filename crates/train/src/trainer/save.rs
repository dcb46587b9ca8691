//! Checkpoints and models of a run.

use super::{State, Trainer};
use crate::adjoint::{Adjoint, Rounding};
use crate::checkpoint::{self, Checkpoint};
use crate::config::WeightQuantization;
use crate::tape::{Parameter, Tape, TapeWeight};
use crate::{Error, Result, export};
use std::path::{Path, PathBuf};
use trine_backend::cpu::Act;

impl Trainer {
    /// Writes a checkpoint and removes old ones.
    pub(super) fn save(&mut self) -> Result<PathBuf> {
        self.check_weights()?;
        let folder = self.config.output.folder.clone();
        let path = checkpoint::path(&folder, self.state.step);
        self.state.config = serde_json::to_value(&self.config).expect("configurations are plain");
        let state = self.state.clone();
        let saved = self.saved_tensors();
        let tensors: Vec<_> = saved.iter().map(|(name, values)| (name.clone(), values.data())).collect();
        checkpoint::write(&path, &state, &tensors)?;
        self.saved = Some(self.state.step);
        let best = self.state.best.map(|(step, _)| step);
        let steps = checkpoint::steps(&folder);
        let keep = steps.len().saturating_sub(self.config.output.keep.max(1));
        for &old in steps[..keep].iter().filter(|&&step| Some(step) != best) {
            let path = checkpoint::path(&folder, old);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(path)
    }

    /// Checks that all weights are finite.
    fn check_weights(&mut self) -> Result<()> {
        let Tape { device, params, .. } = &mut self.tape;
        let mut is_finite = |values: &Act| device.sum_of_squares(values).is_finite();
        match params.iter().find(|param| param.master().is_some_and(|master| !is_finite(&master.values))) {
            None => Ok(()),
            Some(param) => Err(Error::NotFiniteWeight { tensor: param.name.clone(), step: self.state.step }),
        }
    }

    /// Continues from the last checkpoint.
    pub(super) fn restore(&mut self) -> Result<()> {
        let folder = &self.config.output.folder;
        let mut steps = checkpoint::steps(folder);
        let step = steps.pop().ok_or_else(|| Error::NoCheckpoint { folder: folder.join("checkpoints") })?;
        let path = checkpoint::path(folder, step);
        let damaged = |error: Error| Error::Checkpoint {
            path: path.clone(),
            problem: match error {
                Error::Checkpoint { problem, .. } => problem,
                Error::File(error) => error.cause().to_string(),
                error => error.to_string(),
            },
            earlier: steps.last().copied(),
        };
        let file = Checkpoint::open(&path).map_err(damaged)?;
        let state: State = file.state().map_err(damaged)?;
        let mut changed = self.config.check_resumes(&state.config)?;
        // Wherever its file is.
        if state.teacher.as_ref().zip(self.state.teacher.as_ref()).is_some_and(|(before, now)| before != now) {
            changed.push("distill.teacher".to_owned());
        }
        if !changed.is_empty() {
            self.warnings.push(format!("from step {step} on, these keys differ: {}", changed.join(", ")));
        }
        if state.language.is_some() && state.language != self.state.language {
            return Err(Error::Config {
                key: "model.tokenizer".into(),
                expected: "the tokenizer with which this run began".into(),
                found: "another tokenizer".into(),
            });
        }
        if state.data.is_some() && state.data != self.state.data {
            return Err(Error::Config {
                key: "data.files".into(),
                expected: "the texts with which this run began; `model.from` starts another run with its model".into(),
                found: "other texts".into(),
            });
        }
        for (name, values) in self.saved_tensors() {
            let saved = file.tensor(&name, values.data().len())?;
            values.data_mut().copy_from_slice(&saved);
        }
        self.state = State { teacher: self.state.teacher.take(), ..state };
        self.saved = Some(step);
        Ok(())
    }

    /// The master and optimizer states of each trained weight, with the names of their tensors in checkpoints.
    fn saved_tensors(&mut self) -> Vec<(String, &mut Act)> {
        let optimizer = self.config.optimizer.name;
        let mut saved = Vec::new();
        for (param, states) in self.tape.params.iter_mut().zip(&mut self.optimizer_states) {
            let rule = optimizer.rule(param.is_inner());
            let Parameter { name, weight: TapeWeight::Trained(master), .. } = param else { continue };
            let states = rule.states.iter().zip(states).map(|(suffix, state)| (format!("{name}.{suffix}"), state));
            saved.extend(std::iter::once((name.clone(), &mut master.values)).chain(states));
        }
        saved
    }

    /// Writes the current model, with its recipe in its metadata. Equal weights give equal files.
    ///
    /// # Errors
    /// When a weight is not finite, or the file cannot be written.
    pub fn export(&mut self, path: &Path) -> Result<()> {
        self.check_weights()?;
        if self.config.quantization.weights == WeightQuantization::Ternary {
            self.tape.set_inner(Rounding::Ternary);
        }
        self.tape.requantize()?;
        let mut layout = self.layout.clone();
        let metadata = &mut layout.metadata;
        let name = self.config.output.name.clone();
        if let Some(name) = name {
            metadata.insert("general.name", name);
        }
        metadata.insert("trine.train.config", self.config.recipe().to_string());
        metadata.insert("trine.train.steps", self.state.step);
        metadata.insert("trine.train.tokens", self.state.tokens);
        if let Some((_, loss)) = self.state.validated.filter(|&(step, _)| step == self.state.step) {
            metadata.insert("trine.train.validation_loss", loss as f32);
        }
        export::write(&mut self.tape, &layout, self.formats, path)
    }
}
