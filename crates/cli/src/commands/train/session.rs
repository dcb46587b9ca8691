//! The trainer as the command sees it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_train::{Config, Event, Finished, Plan, Progress, Result, Trainer};

/// What a run takes, without starting it.
///
/// # Errors
/// When the tokenizer or a model cannot be read.
pub fn plan(config: &Config) -> Result<Plan> {
    Trainer::plan(config)
}

/// The checkpoints in the output folder of a run.
pub fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect()
}

/// A run that can begin, or go on.
pub struct Session(Trainer);

impl Session {
    /// Reads data and models; `prepare` hears how far that is: what, done, in all.
    ///
    /// # Errors
    /// When data, models or checkpoints cannot be read.
    pub fn new(config: &Config, resume: bool, prepare: &mut dyn FnMut(&'static str, u64, u64)) -> Result<Session> {
        let mut observe = |progress: Progress| prepare(progress.what, progress.done, progress.total);
        Ok(Session(Trainer::new(config, resume, &mut observe)?))
    }

    /// Trains to the end, or until `observe` breaks off.
    ///
    /// # Errors
    /// When nothing can be written, or the model no longer learns.
    pub fn run(&mut self, observe: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Finished> {
        self.0.run(observe)
    }
}
