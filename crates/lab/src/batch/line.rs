//! The lines of a batch file.

use super::Error;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line in bytes.
const LONGEST: u64 = 64 << 20;

/// Lines at the beginning of which one at least is a request, or the file is not one of embeddings.
const AHEAD: usize = 1000;

/// A request of a batch: a line of the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub custom_id: String,
    #[serde(default)]
    pub method: Option<String>,
    pub url: String,
    pub body: Map<String, Value>,
}

/// A line as it was read, without its end.
pub struct Line {
    number: u64,
    parsed: Result<Task, String>,
}

/// What is wrong with a line.
pub struct Wrong {
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
        let number = self.number;
        let wrong = |code, message| Wrong { custom_id: None, code, message };
        let task = self.parsed.map_err(|problem| wrong("invalid_json_line", format!("line {number}: {problem}")))?;
        if fresh {
            return Ok(task);
        }
        let message = format!("line {number}: an earlier line has the custom_id {:?}, too", task.custom_id);
        Err(Wrong { custom_id: Some(task.custom_id), ..wrong("duplicate_custom_id", message) })
    }
}

impl Wrong {
    /// Its line of the output.
    pub fn to_line(&self, index: u64) -> String {
        let error = json!({"code": self.code, "message": self.message});
        json!({"id": format!("batch_req_{index}"), "custom_id": self.custom_id, "response": null, "error": error})
            .to_string()
    }
}

/// Reads the lines of an input one by one. Blank ones are passed over.
pub struct Lines<R> {
    input: R,
    number: u64,
    bytes: u64,
    /// Lines that were read before they were asked for.
    ahead: VecDeque<Line>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Lines<R> {
        Lines { input, number: 0, bytes: 0, ahead: VecDeque::new() }
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
            let read = self.input.by_ref().take(LONGEST + 1).read_until(b'\n', &mut text)? as u64;
            (self.number, self.bytes) = (self.number + 1, self.bytes + read);
            if read == 0 {
                return Ok(None);
            }
            let number = self.number;
            if read > LONGEST {
                self.bytes += self.input.skip_until(b'\n')? as u64;
                let parsed = Err(format!("expected at most {LONGEST} bytes, found more"));
                return Ok(Some(Line { number, parsed }));
            }
            let text = text.trim_ascii();
            let text = if number == 1 { text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text) } else { text };
            if !text.is_empty() {
                let parsed = serde_json::from_slice(text).map_err(|error| error.to_string());
                return Ok(Some(Line { number, parsed }));
            }
        }
    }
}

/// How many lines of an input an output has answers for, and how many bytes those have: the rest is a line that was being written when the run
/// ended.
///
/// # Errors
/// When a file cannot be read, or the last answer is not to the line in its place.
pub fn count_answered(input: &Path, output: &Path) -> Result<(u64, u64), Error> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io { path: path.clone(), source }
    };
    let mut answers = BufReader::new(File::open(output).map_err(at(output))?);
    let (mut lines, mut bytes, mut last) = (0, 0, Vec::new());
    loop {
        let mut line = Vec::new();
        let read = answers.read_until(b'\n', &mut line).map_err(at(output))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        (lines, bytes, last) = (lines + 1, bytes + read as u64, line);
    }
    let mut requests = Lines::new(BufReader::new(File::open(input).map_err(at(input))?));
    let mut request = None;
    for _ in 0..lines {
        request = requests.next().map_err(at(input))?;
    }
    if lines > 0 {
        let found = serde_json::from_slice::<Value>(&last).ok().map(|answer| answer["custom_id"].clone());
        let expected = request.map(|line| line.id().map_or(Value::Null, Value::from));
        if found != expected || found.is_none() {
            let show = |id: Option<Value>| id.map_or("none".to_owned(), |id| format!("custom_id {id}"));
            let path = output.display().to_string();
            return Err(Error::Another { path, line: lines, expected: show(expected), found: show(found) });
        }
    }
    Ok((lines, bytes))
}
