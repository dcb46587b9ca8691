//! Checkpoints and models of a run.

use super::{State, Trainer};
use crate::adjoint::{Adjoint, Rounding};
use crate::checkpoint::{self, Checkpoint, Tensors};
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
        let mut tensors = Tensors::new();
        self.each_saved(&mut |name, values| {
            tensors.push((name.to_owned(), values.data().to_vec()));
            Ok(())
        })?;
        self.state.config = serde_json::to_value(&self.config).expect("configurations are plain");
        checkpoint::write(&path, &self.state, &tensors)?;
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
        let changed = self.config.check_resumes(&state.config)?;
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
        self.each_saved(&mut |name, values| {
            let saved = file.tensor(name, values.data().len())?;
            values.data_mut().copy_from_slice(&saved);
            Ok(())
        })?;
        self.state = state;
        self.saved = Some(step);
        Ok(())
    }

    /// Calls `body` with the master and optimizer states of each trained weight, and the names of their tensors in checkpoints.
    fn each_saved(&mut self, body: &mut dyn FnMut(&str, &mut Act) -> Result<()>) -> Result<()> {
        for (param, states) in self.tape.params.iter_mut().zip(&mut self.optimizer_states) {
            let rule = self.config.optimizer.name.rule(param.is_inner());
            let Parameter { name, weight: TapeWeight::Trained(master), .. } = param else { continue };
            body(name, &mut master.values)?;
            for (suffix, state) in rule.states.iter().zip(states) {
                body(&format!("{name}.{suffix}"), state)?;
            }
        }
        Ok(())
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
