//! What is done at every event of a run: it is logged, shown and printed.

use super::log::{Log, Record};
use super::sample;
use super::view::View;
use anyhow::Result;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::train::Event;

/// Who watches a run.
pub struct Watch<'a> {
    pub log: Log,
    pub view: View,
    /// Steps done, as soon as that is known.
    pub step: Option<u64>,
    /// Whether events go to stdout, too.
    pub json: bool,
    /// What sample texts begin with.
    pub prompts: &'a [String],
    pub threads: usize,
    /// Set by Ctrl-C.
    pub stop: Arc<AtomicBool>,
    /// Why the run was broken off, if not by `stop`.
    pub failed: Option<anyhow::Error>,
}

impl Watch<'_> {
    /// Breaks the run off after Ctrl-C, and when the event cannot be written.
    pub fn event(&mut self, event: Event) -> ControlFlow<()> {
        if let Err(error) = self.tell(event) {
            self.failed.get_or_insert(error);
        }
        if self.failed.is_some() || self.stop.load(Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn tell(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Step(step) => {
                self.step = Some(step.step);
                self.record(&Record::Step(step))?;
                self.view.step(step, &self.log.history);
            }
            Event::Validation(validation) => {
                self.record(&Record::Validation(validation))?;
                self.view.validation(validation);
            }
            Event::Checkpoint { step, path, best } => {
                self.record(&Record::Checkpoint { step, path, best })?;
                self.view.checkpoint(step, best);
            }
            Event::Sample { step, model } => self.sample(step, model)?,
            Event::Warning(text) => self.warning(text)?,
        }
        Ok(())
    }

    /// A model that cannot write a text is no reason to stop training it.
    fn sample(&mut self, step: u64, model: &Path) -> Result<()> {
        match sample::texts(model, self.prompts, self.threads, &self.stop) {
            Ok(texts) => texts.iter().try_for_each(|(prompt, text)| {
                self.record(&Record::Sample { step, prompt, text })?;
                self.view.sample(step, prompt, text);
                Ok(())
            }),
            Err(error) => self.warning(&format!("no sample text: {error}")),
        }
    }

    fn warning(&mut self, text: &str) -> Result<()> {
        self.view.warning(text);
        self.record(&Record::Warning { step: self.step, text })
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        let line = self.log.write(record)?;
        if self.json {
            writeln!(std::io::stdout(), "{line}")?;
        }
        Ok(())
    }
}
