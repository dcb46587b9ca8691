//! Batch jobs: OpenAI's batch files, answered many lines at once.

mod answer;
mod embedding;
mod line;
mod queue;

pub use embedding::{EmbedTexts, EmbeddingOptions, embed};
pub use line::{Lines, MAX_LINE, count_answered};

use crate::{Fields, Problem, Served, Stop, Writer, openai};
use answer::{Answers, Head};
use line::Task;
use queue::{Done, Queue};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use trine_engine::{Engine, EventKind, FinishReason, SeqId, seed_of};

/// Why a batch cannot go on. What is wrong with one line or request is a line of the output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input or the output cannot be read or written.
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// An output to resume that is not of this job.
    #[error(
        "{path}: line {line}: expected the answer to this line of the input with this model and seed, found another"
    )]
    Another { path: String, line: u64 },
}

/// How to answer.
pub struct BatchOptions<'a> {
    pub served: &'a Arc<Served>,
    /// What the seeds of requests are made of that have none: the same line gets the same.
    pub seed: u64,
    /// Requests that run at once. It changes the speed, never an answer.
    pub parallel: usize,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Lines that are written.
    pub lines: u64,
    /// Those of them that have an error.
    pub failed: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// The url of requests for embeddings.
const EMBEDDINGS: &str = "/v1/embeddings";

/// Requests that are read while the first of them is not answered, relative to those that run.
const WINDOW: usize = 16;

/// A line that is not written yet.
enum Pending {
    Running(Answers),
    Done(Done),
}

/// Answers the lines of `input`, after those that an earlier run has answered, and writes a line for each, in their order. `progress` gets what
/// is written so far and how many bytes are read, and may break off; what is then in the output is whole, and a later run goes on after it.
/// Returns whether everything is answered.
///
/// # Errors
/// When the input cannot be read or the output cannot be written.
pub fn batch<R: BufRead, W: Write>(
    engine: &mut Engine,
    options: &BatchOptions,
    input: &mut Lines<R>,
    answered: u64,
    output: &mut W,
    progress: &mut dyn FnMut(BatchCounts, u64) -> ControlFlow<()>,
) -> std::io::Result<(BatchCounts, bool)> {
    let mut queue = Queue::new(input, answered, output)?;
    let (mut pending, parallel) = (VecDeque::new(), options.parallel.max(1));
    // The line of each sequence that runs, and which of its answers it is.
    let mut running: HashMap<SeqId, (u64, usize)> = HashMap::new();
    let (mut ended, mut stopped) = (false, false);
    loop {
        while !ended && running.len() < parallel && pending.len() < WINDOW * parallel {
            let Some((index, task)) = queue.next()? else {
                ended = true;
                break;
            };
            let line = match task.and_then(|task| begin(engine, options, &task, index)) {
                Ok((sequences, answers)) => {
                    running.extend(sequences.iter().enumerate().map(|(choice, &sequence)| (sequence, (index, choice))));
                    Pending::Running(answers)
                }
                Err(done) => Pending::Done(done),
            };
            pending.push_back(line);
        }
        let ready = pending.iter().take_while(|line| matches!(line, Pending::Done(_))).count();
        queue.write(pending.drain(..ready).filter_map(|line| match line {
            Pending::Done(done) => Some(done),
            Pending::Running(_) => None,
        }))?;
        if progress(queue.counts, queue.bytes()).is_break() || stopped {
            break;
        }
        if ended && pending.is_empty() {
            return Ok((queue.counts, true));
        }
        let first = answered + queue.counts.lines;
        engine.step(&mut |event| {
            let Some(&(index, choice)) = running.get(&event.sequence) else { return ControlFlow::Break(()) };
            let line = &mut pending[(index - first) as usize];
            if let EventKind::Finished { finish_reason, .. } = &event.kind {
                running.remove(&event.sequence);
                stopped |= matches!(finish_reason, FinishReason::Cancelled);
            }
            if let Pending::Running(answers) = line
                && !stopped
                && let Some(done) = answers.update(choice, event.kind.into())
            {
                *line = Pending::Done(done);
            }
            ControlFlow::Continue(())
        });
    }
    for sequence in running.into_keys() {
        engine.cancel(sequence);
    }
    Ok((queue.counts, false))
}

/// Submits the request of a line, or answers it with what is wrong.
fn begin(engine: &mut Engine, options: &BatchOptions, task: &Task, index: u64) -> Result<(Vec<SeqId>, Answers), Done> {
    let head = Head::new(index, task);
    match submit(engine, options, task, index) {
        Ok((sequences, writer)) => {
            let answers = Answers::new(head, writer, sequences.len());
            Ok((sequences, answers))
        }
        Err(problem) => Err(head.fail(&problem)),
    }
}

/// The sequences of a request, one for each answer, and how they are written.
fn submit(
    engine: &mut Engine,
    options: &BatchOptions,
    task: &Task,
    index: u64,
) -> Result<(Vec<SeqId>, Box<dyn Writer>), Problem> {
    let mut fields = fields(task)?;
    fields.only("stream", &json!(false), "a line of a batch has one answer")?;
    let id = index.to_string();
    let (mut ask, writer) = match task.url.as_str() {
        "/v1/chat/completions" => openai::chat(fields, options.served, &id)?,
        "/v1/completions" => openai::completion(fields, options.served, &id)?,
        EMBEDDINGS => return Err(Problem::field("url", "expected embeddings in a file that begins with embeddings")),
        other => {
            let expected = "expected /v1/chat/completions or /v1/completions";
            return Err(Problem::field("url", format_args!("{expected}, found {other}")));
        }
    };
    ask.sampling.seed.get_or_insert(seed_of(options.seed, index));
    let mut sequences = Vec::new();
    for request in ask.requests(options.served, &Stop::default())? {
        match engine.submit_all(request) {
            Ok(ids) => sequences.extend(ids),
            Err(error) => {
                sequences.into_iter().for_each(|id| drop(engine.cancel(id)));
                return Err(error.into());
            }
        }
    }
    Ok((sequences, writer))
}

/// The fields of a request's body.
fn fields(task: &Task) -> Result<Fields, Problem> {
    match task.method.as_ref().filter(|method| *method != "POST") {
        Some(method) => Err(Problem::field("method", format_args!("expected POST, found {method}"))),
        None => Ok(Fields::from(task.body.clone())),
    }
}
