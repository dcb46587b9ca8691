//! `log.jsonl`: the events of a run, one line of JSON each.

use super::curve::LossCurve;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use trine_train::{StepMetrics, Validation};

/// A line of the log. Numbers that are not finite are null.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LogRecord<'a> {
    Step(&'a StepMetrics),
    Validation(&'a Validation),
    Checkpoint {
        step: u64,
        path: &'a Path,
        best: bool,
    },
    Sample {
        step: u64,
        prompt: &'a str,
        text: &'a str,
    },
    /// The step is unknown before the first step of a resumed run.
    Warning {
        step: Option<u64>,
        text: &'a str,
    },
}

/// The log of a run, and the curve of its losses.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Whether the file may have lines of steps that are run again.
    uncut: bool,
    /// Lines to write when the step is known.
    pending: String,
    pub curve: LossCurve,
}

impl Log {
    /// Opens the log in a folder, or creates an empty one unless the run is resumed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(folder: &Path, resume: bool) -> Result<Log> {
        let path = folder.join("log.jsonl");
        let open = || {
            std::fs::create_dir_all(folder)?;
            File::options().read(true).write(true).create(true).truncate(!resume).open(&path)
        };
        let file = open().with_context(|| path.display().to_string())?;
        Ok(Log { path, file, uncut: resume, pending: String::new(), curve: LossCurve::default() })
    }

    /// Writes a line and returns it. The first one removes the lines of an interrupted run about the same steps.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, record: &LogRecord) -> Result<String> {
        let json = serde_json::to_value(record)?;
        let line = json.to_string();
        self.pending += &line;
        self.pending.push('\n');
        if !self.uncut || json["step"].is_u64() {
            let mut write = || {
                if std::mem::take(&mut self.uncut) {
                    cut(&mut self.file, |event| is_before(event, &json), &mut self.curve)?;
                }
                self.file.write_all(std::mem::take(&mut self.pending).as_bytes())
            };
            write().with_context(|| self.path.display().to_string())?;
        }
        match record {
            LogRecord::Step(step) => self.curve.step(step),
            LogRecord::Validation(validation) => self.curve.validation(validation),
            _ => {}
        }
        Ok(line)
    }

    /// Writes pending lines, and completes the curve even if the run had no steps left.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        let mut write = || {
            if std::mem::take(&mut self.uncut) {
                cut(&mut self.file, |_| true, &mut self.curve)?;
            }
            self.file.write_all(std::mem::take(&mut self.pending).as_bytes())
        };
        write().with_context(|| self.path.display().to_string())
    }
}

/// Whether an event comes before another. A step comes before its validation, checkpoint and samples.
fn is_before(event: &Value, next: &Value) -> bool {
    let step = |event: &Value| event["step"].as_u64();
    step(event) < step(next) || step(event) == step(next) && next["event"] != "step" && event["event"] != next["event"]
}

/// Truncates a log before the first event that `keep` rejects, and reads the rest into the curve.
fn cut(file: &mut File, keep: impl Fn(&Value) -> bool, curve: &mut LossCurve) -> std::io::Result<()> {
    let mut end = 0;
    let mut lines = BufReader::new(&*file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let Some(event) = whole(&line).filter(&keep) else { break };
        match event["event"].as_str() {
            Some("step") => serde_json::from_value(event).iter().for_each(|step| curve.step(step)),
            Some("validation") => serde_json::from_value(event).iter().for_each(|found| curve.validation(found)),
            _ => {}
        }
        end += line.len() as u64;
        line.clear();
    }
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

/// The event on a line, unless the line is incomplete because the program was killed.
fn whole(line: &[u8]) -> Option<Value> {
    line.ends_with(b"\n").then(|| serde_json::from_slice(line).ok()).flatten()
}
