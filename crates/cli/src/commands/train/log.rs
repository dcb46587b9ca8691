//! `log.jsonl`: what happened in a run, a line of JSON for each event.

use super::history::History;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use trine::train::{Step, Validation};

/// A line of the log. What is no number is null.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Record<'a> {
    Step(&'a Step),
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
    /// Before the first step of a run that goes on, the step is not known.
    Warning {
        step: Option<u64>,
        text: &'a str,
    },
}

/// The log of a run, and the curve in it.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Whether it may hold lines of steps that are done again.
    uncut: bool,
    /// Lines that wait for a step to be known.
    held: String,
    pub history: History,
}

impl Log {
    /// The log in a folder: that of the run that goes on, or an empty one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(folder: &Path, resume: bool) -> Result<Log> {
        let path = folder.join("log.jsonl");
        let open = || {
            std::fs::create_dir_all(folder)?;
            File::options().read(true).write(true).create(true).truncate(!resume).open(&path)
        };
        let file = open().with_context(|| path.display().to_string())?;
        Ok(Log { path, file, uncut: resume, held: String::new(), history: History::default() })
    }

    /// Writes a line, and gives it back. Before the first, what a run that broke off had written of the same steps goes away.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<String> {
        let json = serde_json::to_value(record)?;
        let line = json.to_string();
        self.held += &line;
        self.held.push('\n');
        if !self.uncut || json["step"].is_u64() {
            let mut write = || {
                if std::mem::take(&mut self.uncut) {
                    cut(&mut self.file, |event| is_before(event, &json), &mut self.history)?;
                }
                self.file.write_all(std::mem::take(&mut self.held).as_bytes())
            };
            write().with_context(|| self.path.display().to_string())?;
        }
        match record {
            Record::Step(step) => self.history.step(step),
            Record::Validation(validation) => self.history.validation(validation),
            _ => {}
        }
        Ok(line)
    }

    /// Writes what waits, and knows the whole curve even where a run had nothing left to do.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        let mut write = || {
            if std::mem::take(&mut self.uncut) {
                cut(&mut self.file, |_| true, &mut self.history)?;
            }
            self.file.write_all(std::mem::take(&mut self.held).as_bytes())
        };
        write().with_context(|| self.path.display().to_string())
    }
}

/// Whether an event was before another. A step comes before what is done after it.
fn is_before(event: &Value, next: &Value) -> bool {
    let step = |event: &Value| event["step"].as_u64();
    step(event) < step(next) || step(event) == step(next) && next["event"] != "step" && event["event"] != next["event"]
}

/// Ends a log before the first event that is not to stay, and reads what stays.
fn cut(file: &mut File, stays: impl Fn(&Value) -> bool, history: &mut History) -> std::io::Result<()> {
    let mut end = 0;
    let mut lines = BufReader::new(&*file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let Some(event) = whole(&line).filter(&stays) else { break };
        match event["event"].as_str() {
            Some("step") => serde_json::from_value(event).iter().for_each(|step| history.step(step)),
            Some("validation") => serde_json::from_value(event).iter().for_each(|found| history.validation(found)),
            _ => {}
        }
        end += line.len() as u64;
        line.clear();
    }
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

/// The event on a line, unless the program was ended while it wrote it.
fn whole(line: &[u8]) -> Option<Value> {
    line.ends_with(b"\n").then(|| serde_json::from_slice(line).ok()).flatten()
}
