//! Batch jobs: OpenAI's batch files, answered many lines at once.

mod answer;
mod line;
mod request;

pub use line::{Lines, count_answered};

use crate::generate::seed_of;
use answer::Answers;
use request::Ask;
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use trine_engine::sample::Filter;
use trine_engine::{Engine, EventKind, FinishReason, Request, Sampling, SeqId};
use trine_text::Template;

/// Why a batch cannot go on. What is wrong with one line or request is a line of the output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input or the output cannot be read or written.
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// An output to resume that is not one of this input.
    #[error("{path}: line {line}: expected the answer to {expected}, found {found}")]
    Another { path: String, line: u64, expected: String, found: String },
}

/// How to answer.
pub struct BatchOptions<'a> {
    /// The name of the model in answers.
    pub model: String,
    /// The model's chat template, or why it has none.
    pub template: Result<&'a Template, String>,
    /// What a request does not say.
    pub sampling: Sampling,
    /// What the seeds of requests are made of that have none: the same line gets the same.
    pub seed: u64,
    /// Requests that run at once. It changes the speed, never an answer.
    pub parallel: usize,
    /// For `response_format`.
    pub json_schema: &'a SchemaFilter<'a>,
}

/// Gives a filter for answers that are JSON documents as a schema describes them, or why there is none.
pub type SchemaFilter<'a> = dyn Fn(&Value) -> Result<Box<dyn Filter>, String> + 'a;

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

/// Requests that are read while the first of them is not answered, relative to those that run.
const WINDOW: usize = 16;

/// A line that is not written yet.
struct Pending {
    sequence: Option<SeqId>,
    answers: Answers,
    /// The line, when it is complete.
    done: Option<String>,
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
    let mut ids = HashSet::new();
    for _ in 0..answered {
        if let Some(line) = input.next()? {
            ids.extend(line.id().map(fingerprint));
        }
    }
    let (mut pending, mut counts, mut index): (VecDeque<Pending>, _, _) =
        (VecDeque::new(), BatchCounts::default(), answered);
    let (mut running, mut ended, mut stopped) = (0, false, false);
    loop {
        while !ended && running < options.parallel.max(1) && pending.len() < WINDOW * options.parallel.max(1) {
            let Some(line) = input.next()? else {
                ended = true;
                break;
            };
            let fresh = line.id().is_none_or(|id| ids.insert(fingerprint(id)));
            pending.push_back(begin(engine, options, line.read(fresh), index));
            running += usize::from(pending.back().is_some_and(|pending| pending.sequence.is_some()));
            index += 1;
        }
        let ready = pending.iter().take_while(|pending| pending.done.is_some()).count();
        for Pending { answers, done, .. } in pending.drain(..ready) {
            counts.lines += 1;
            counts.failed += u64::from(answers.failed);
            counts.prompt_tokens += answers.usage.prompt_tokens as u64;
            counts.completion_tokens += answers.usage.completion_tokens as u64;
            writeln!(output, "{}", done.expect("it is ready"))?;
        }
        if ready > 0 {
            output.flush()?;
        }
        if progress(counts, input.bytes()).is_break() || stopped {
            break;
        }
        if ended && pending.is_empty() {
            return Ok((counts, true));
        }
        engine.step(&mut |event| {
            let place = pending.iter_mut().find(|pending| pending.sequence == Some(event.sequence));
            let Some(Pending { sequence, answers, done }) = place else { return ControlFlow::Break(()) };
            match event.kind {
                // Nobody may ask for what it would hold.
                EventKind::Prompt { .. } => {}
                EventKind::Token { id, text, logprob, top } => answers.push(id, text, logprob, top),
                EventKind::Finished { reason: FinishReason::Cancelled, .. } => {
                    (*sequence, running, stopped) = (None, running - 1, true);
                }
                EventKind::Finished { text, reason, usage, .. } => {
                    (*sequence, running) = (None, running - 1);
                    *done = Some(answers.finish(text, &reason, usage));
                }
            }
            ControlFlow::Continue(())
        });
    }
    for sequence in pending.iter().filter_map(|pending| pending.sequence) {
        engine.cancel(sequence);
    }
    Ok((counts, false))
}

/// Submits the request of a line, or answers it with what is wrong.
fn begin(engine: &mut Engine, options: &BatchOptions, line: Result<line::Task, line::Wrong>, index: u64) -> Pending {
    let failed = |mut answers: Answers, line: String| {
        answers.failed = true;
        Pending { sequence: None, answers, done: Some(line) }
    };
    let task = match line {
        Ok(task) => task,
        Err(wrong) => return failed(Answers::default(), wrong.to_line(index)),
    };
    let mut answers = Answers::new(index, &task, options.model.clone());
    let asked = request::read(&task, options).and_then(|Ask { prompt, mut sampling, filters, chat }| {
        sampling.seed.get_or_insert(seed_of(options.seed, index));
        answers.begin(engine.tokenizer().clone(), chat, sampling.logprobs);
        Ok(engine.submit(Request { filters, ..Request::new(prompt, sampling) })?)
    });
    match asked {
        Ok(sequence) => Pending { sequence: Some(sequence), answers, done: None },
        Err(problem) => {
            let line = answers.refuse(&problem);
            failed(answers, line)
        }
    }
}

/// What stands for an id in memory.
fn fingerprint(id: &str) -> u128 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}
