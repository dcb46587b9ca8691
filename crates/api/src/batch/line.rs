//! The lines of a batch file.

use super::Error;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line in bytes.
pub const MAX_LINE: u64 = 64 << 20;

/// Bytes after which a line that is too long must end, or the input is no file of lines.
const MAX_SKIPPED: u64 = 64 * MAX_LINE;

/// Lines at the beginning of which one at least is a request, or the file is not one of embeddings.
const AHEAD: usize = 1000;

/// A request of a batch: a line of the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The id of its answer.
    #[serde(skip)]
    pub answer_id: String,
    pub custom_id: String,
    #[serde(default)]
    pub method: Option<String>,
    pub url: String,
    pub body: Map<String, Value>,
}

/// A line as it was read, without its end.
pub struct Line {
    number: u64,
    answer_id: String,
    parsed: Result<Task, String>,
}

/// What is wrong with a line.
pub struct Wrong {
    answer_id: String,
    custom_id: Option<String>,
    code: &'static str,
    message: String,
}

impl Line {
    /// The id of its request, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.parsed.as_ref().ok().map(|task| task.custom_id.as_str())
    }

    /// Its request. `fresh` says that no line before has the same id.
    pub fn read(self, fresh: bool) -> Result<Task, Wrong> {
        let Line { number, answer_id, parsed } = self;
        let (custom_id, code, problem) = match parsed {
            Ok(task) if fresh => return Ok(Task { answer_id, ..task }),
            Ok(task) => {
                let problem = format!("an earlier line has the custom_id {:?}, too", task.custom_id);
                (Some(task.custom_id), "duplicate_custom_id", problem)
            }
            Err(problem) => (None, "invalid_json_line", problem),
        };
        Err(Wrong { answer_id, custom_id, code, message: format!("line {number}: {problem}") })
    }
}

impl Wrong {
    /// Its line of the output.
    pub fn to_line(&self) -> String {
        let error = json!({"code": self.code, "message": self.message});
        json!({"id": self.answer_id, "custom_id": self.custom_id, "response": null, "error": error}).to_string()
    }
}

/// Reads the lines of an input one by one. Blank ones are passed over.
pub struct Lines<R> {
    input: R,
    job: String,
    /// How many were read.
    index: u64,
    number: u64,
    bytes: u64,
    /// Lines that were read before they were asked for.
    ahead: VecDeque<Line>,
}

impl<R: BufRead> Lines<R> {
    /// `job` is what answers depend on beside the lines: the model and the seed, for example.
    pub fn new(input: R, job: &str) -> Lines<R> {
        Lines { input, job: job.to_owned(), index: 0, number: 0, bytes: 0, ahead: VecDeque::new() }
    }

    /// The id of the answer to the next line: that of another line, or in another job, is another.
    fn answer_id(&mut self, text: &[u8]) -> String {
        let digest = Sha256::new().chain_update(&self.job).chain_update([0]).chain_update(text).finalize();
        let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        self.index += 1;
        format!("batch_req_{}_{digest}", self.index - 1)
    }

    /// Whether they ask for embeddings: the first request does. All requests of a file do, or none, as in OpenAI's API.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn are_for_embeddings(&mut self) -> io::Result<bool> {
        while self.ahead.len() < AHEAD {
            let Some(line) = self.read()? else { break };
            let url = line.parsed.as_ref().map(|task| task.url == super::EMBEDDINGS).ok();
            self.ahead.push_back(line);
            if let Some(url) = url {
                return Ok(url);
            }
        }
        Ok(false)
    }

    /// Bytes that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut text = Vec::new();
            let read = self.input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut text)? as u64;
            (self.number, self.bytes) = (self.number + 1, self.bytes + read);
            if read == 0 {
                return Ok(None);
            }
            let number = self.number;
            if read > MAX_LINE {
                let skipped = self.input.by_ref().take(MAX_SKIPPED).skip_until(b'\n')? as u64;
                if skipped == MAX_SKIPPED {
                    let bytes = MAX_LINE + MAX_SKIPPED;
                    return Err(io::Error::other(format!(
                        "line {number} of the input: expected an end within {bytes} bytes"
                    )));
                }
                self.bytes += skipped;
                let parsed = Err(format!("expected at most {MAX_LINE} bytes, found more"));
                return Ok(Some(Line { number, answer_id: self.answer_id(&text), parsed }));
            }
            let text = text.trim_ascii();
            let text = if number == 1 { text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text) } else { text };
            if !text.is_empty() {
                let parsed = match text {
                    [b'{', ..] => serde_json::from_slice(text).map_err(|error| error.to_string()),
                    _ => Err("expected an object".to_owned()),
                };
                return Ok(Some(Line { number, answer_id: self.answer_id(text), parsed }));
            }
        }
    }
}

/// How many lines of an input an output has answers for, and how many bytes those have: the rest is a line that was being written when the run
/// ended. `job` is that of [`Lines::new`]; the paths are for messages.
///
/// # Errors
/// When a file cannot be read, or an answer is not to the line in its place, by this job.
pub fn count_answered(input: (&Path, File), output: (&Path, &File), job: &str) -> Result<(u64, u64), Error> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io { path: path.clone(), source }
    };
    let mut requests = Lines::new(BufReader::new(input.1), job);
    let mut answers = BufReader::new(output.1);
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let mut answer = Vec::new();
        let read = answers.read_until(b'\n', &mut answer).map_err(at(output.0))?;
        if answer.last() != Some(&b'\n') {
            return Ok((lines, bytes));
        }
        (lines, bytes) = (lines + 1, bytes + read as u64);
        let request = requests.next().map_err(at(input.0))?;
        let found =
            serde_json::from_slice::<Value>(&answer).ok().and_then(|answer| Some(answer["id"].as_str()?.to_owned()));
        if found.is_none() || found != request.map(|line| line.answer_id) {
            return Err(Error::Another { path: output.0.display().to_string(), line: lines });
        }
    }
}
