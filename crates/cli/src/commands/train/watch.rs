//! Logs, shows and prints the events of a run.

use super::log::{Log, LogRecord};
use super::sample;
use super::view::RunView;
use anyhow::Result;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_train::TrainEvent;

pub struct Watch<'a> {
    pub log: Log,
    pub view: RunView,
    /// The last step, once it is known.
    pub step: Option<u64>,
    /// Whether to print events to stdout as JSON.
    pub json: bool,
    /// The prompts of sample texts.
    pub prompts: &'a [String],
    pub threads: usize,
    /// Set by the Ctrl-C handler.
    pub stop: Arc<AtomicBool>,
    /// Why an event could not be handled.
    pub failed: Option<anyhow::Error>,
}

impl Watch<'_> {
    /// Handles an event. Stops the run after Ctrl-C, and after an error.
    pub fn event(&mut self, event: TrainEvent) -> ControlFlow<()> {
        if let Err(error) = self.handle(event) {
            self.failed.get_or_insert(error);
        }
        if self.failed.is_some() || self.stop.load(Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn handle(&mut self, event: TrainEvent) -> Result<()> {
        match event {
            TrainEvent::Step(step) => {
                self.step = Some(step.step);
                self.record(&LogRecord::Step(step))?;
                self.view.step(step, &self.log.curve);
            }
            TrainEvent::Validation(validation) => {
                self.record(&LogRecord::Validation(validation))?;
                self.view.validation(validation);
            }
            TrainEvent::Checkpoint { step, path, best } => {
                self.record(&LogRecord::Checkpoint { step, path, best })?;
                self.view.checkpoint(step, best);
            }
            TrainEvent::Sample { step, model } => self.sample(step, model)?,
            TrainEvent::Warning(text) => self.warning(text)?,
        }
        Ok(())
    }

    /// An error in generation is only a warning.
    fn sample(&mut self, step: u64, model: &Path) -> Result<()> {
        match sample::texts(model, self.prompts, self.threads, &self.stop) {
            Ok(texts) => texts.iter().try_for_each(|(prompt, text)| {
                self.record(&LogRecord::Sample { step, prompt, text })?;
                self.view.sample(step, prompt, text);
                Ok(())
            }),
            Err(error) => self.warning(&format!("no sample text: {error}")),
        }
    }

    fn warning(&mut self, text: &str) -> Result<()> {
        self.view.warning(text);
        self.record(&LogRecord::Warning { step: self.step, text })
    }

    fn record(&mut self, record: &LogRecord) -> Result<()> {
        let line = self.log.write(record)?;
        if self.json {
            writeln!(std::io::stdout(), "{line}")?;
        }
        Ok(())
    }
}
