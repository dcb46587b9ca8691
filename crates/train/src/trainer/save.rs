//! What a run leaves on disk: checkpoints, and models.

use super::{State, Trainer};
use crate::adjoint::Rounding;
use crate::checkpoint::{self, Checkpoint, Tensors};
use crate::config::Weights;
use crate::{Error, Result, export};
use std::iter;
use std::path::{Path, PathBuf};

/// Names of a weight, and of what the optimiser keeps for it.
const SUFFIXES: [&str; 3] = ["", ".m", ".v"];

impl Trainer {
    /// Writes a checkpoint, and removes those that are too many.
    pub(super) fn save(&mut self) -> Result<PathBuf> {
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

    /// Goes on from the last checkpoint.
    pub(super) fn restore(&mut self) -> Result<()> {
        let folder = &self.config.output.folder;
        let step = checkpoint::steps(folder).pop();
        let step = step.ok_or_else(|| Error::NoCheckpoint { folder: folder.join("checkpoints") })?;
        let path = checkpoint::path(folder, step);
        let file = Checkpoint::open(&path)?;
        let state: State = file.state()?;
        self.config.check_resumes(&state.config)?;
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
