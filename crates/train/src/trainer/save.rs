//! What a run leaves on disk: checkpoints, and models.

use super::{State, Trainer};
use crate::adjoint::{Adjoint, Rounding};
use crate::checkpoint::{self, Checkpoint, Tensors};
use crate::config::Weights;
use crate::tape::Tape;
use crate::{Error, Result, export};
use std::iter;
use std::path::{Path, PathBuf};

/// Names of a weight, and of what the optimiser keeps for it.
const SUFFIXES: [&str; 3] = ["", ".m", ".v"];

impl Trainer {
    /// Writes a checkpoint, and removes those that are too many.
    pub(super) fn save(&mut self) -> Result<PathBuf> {
        self.check_weights()?;
        let folder = self.config.output.folder.clone();
        let path = checkpoint::path(&folder, self.state.step);
        let mut tensors = Tensors::new();
        for (param, moments) in self.tape.params.iter().zip(&self.moments) {
            for (suffix, values) in SUFFIXES.iter().zip(iter::once(&param.master).chain(moments)) {
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

    /// Makes sure that what is kept can be used.
    fn check_weights(&mut self) -> Result<()> {
        let Tape { device, params, .. } = &mut self.tape;
        match params.iter().find(|param| !device.sum_of_squares(&param.master).is_finite()) {
            None => Ok(()),
            Some(param) => Err(Error::NotFiniteWeight { tensor: param.name.clone(), step: self.state.step }),
        }
    }

    /// Goes on from the last checkpoint.
    pub(super) fn restore(&mut self) -> Result<()> {
        let folder = &self.config.output.folder;
        let mut steps = checkpoint::steps(folder);
        let step = steps.pop().ok_or_else(|| Error::NoCheckpoint { folder: folder.join("checkpoints") })?;
        let path = checkpoint::path(folder, step);
        let damaged = |error: Error| Error::Checkpoint {
            path: path.clone(),
            problem: match error {
                Error::Checkpoint { problem, .. } => problem,
                error => error.to_string(),
            },
            earlier: steps.last().copied(),
        };
        let file = Checkpoint::open(&path).map_err(damaged)?;
        let state: State = file.state().map_err(damaged)?;
        let changed = self.config.check_resumes(&state.config)?;
        if !changed.is_empty() {
            self.warnings.push(format!("from step {step} on with another {}", changed.join(", ")));
        }
        if state.language.is_some() && state.language != self.state.language {
            return Err(Error::Config {
                key: "model.tokenizer".into(),
                expected: "the tokenizer with which this run began".into(),
                found: "another".into(),
            });
        }
        for (param, moments) in self.tape.params.iter_mut().zip(&mut self.moments) {
            for (suffix, values) in SUFFIXES.iter().zip(iter::once(&mut param.master).chain(moments)) {
                let saved = file.tensor(&format!("{}{suffix}", param.name), values.data().len())?;
                values.data_mut().copy_from_slice(&saved);
            }
        }
        self.state = state;
        Ok(())
    }

    /// Writes the model as it is, with its recipe.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn export(&mut self, path: &Path) -> Result<()> {
        self.check_weights()?;
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
