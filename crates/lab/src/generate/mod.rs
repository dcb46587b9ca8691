//! A model writes texts, many at once, each from a seed of its own.

mod file;

pub use file::{Counts, Keep, TextWriter};

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use trine_engine::sample::Filter;
use trine_engine::{Engine, EventKind, FinishReason, Request, Sampling, SeqId, seed_of};

/// Why texts cannot be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A request is invalid, or its forward pass failed.
    #[error(transparent)]
    Engine(#[from] trine_engine::Error),
    /// The output exists.
    #[error("{path}: expected the name of a new file, found one")]
    Exists { path: String },
    /// The output cannot be read or written.
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// A line of an output to resume, counted from 1, is not of this job.
    #[error("{path}: line {line}: expected {expected}, found {found}")]
    Line { path: String, line: usize, expected: String, found: String },
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// What texts begin with, in turn: text `i` with prompt `i` modulo their number, of which there is one at least.
    pub prompts: Vec<TextPrompt>,
    /// How tokens are picked. The seed is that of each text.
    pub sampling: Sampling,
    /// What the seeds of texts are made of.
    pub seed: u64,
    /// Which texts. Each is the same whatever the others are.
    pub indices: Range<u64>,
    /// Texts that are written at once. It changes the speed, never a text.
    pub parallel: usize,
}

/// The beginning of texts.
#[derive(Clone, Debug)]
pub struct TextPrompt {
    /// As it stands in front of what the model writes.
    pub text: String,
    /// Its tokens, BOS included.
    pub ids: Vec<u32>,
}

/// A text that a model wrote: a line of a JSONL file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedText {
    /// The prompt and what followed.
    pub text: String,
    /// Tokens that the model picked, its end included.
    pub tokens: usize,
    pub finish: End,
    pub index: u64,
    /// The seed that its tokens were picked with.
    pub seed: u64,
}

/// How a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Where the model ended it.
    Stop,
    /// At the limit of tokens, or of the context: in the middle.
    Length,
}

/// A text that is not with the taker yet.
struct Pending {
    sequence: SeqId,
    text: GeneratedText,
    done: bool,
}

/// Writes texts, each with `filters` of its own. After each step of the engine, which must be idle at first, `take` gets those that are ready, in order and without gaps, and
/// the number of tokens picked so far; it may break off, which loses the texts that are not ready.
///
/// # Errors
/// When a prompt does not fit into the context, an option is out of its range, a logit is not finite, or `take` fails.
pub fn generate(
    engine: &mut Engine,
    job: &GenerateOptions,
    filters: &dyn Fn() -> Vec<Box<dyn Filter>>,
    take: &mut dyn FnMut(Vec<GeneratedText>, u64) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let mut next = job.indices.clone();
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let (mut running, mut tokens, mut stopped) = (0, 0, false);
    let written = loop {
        while running < job.parallel.max(1) {
            let Some(index) = next.next() else { break };
            let seed = seed_of(job.seed, index);
            let prompt = &job.prompts[(index % job.prompts.len() as u64) as usize];
            let sampling = Sampling { seed: Some(seed), ..job.sampling.clone() };
            let sequence =
                engine.submit(Request { filters: filters(), ..Request::new(prompt.ids.clone(), sampling) })?;
            let text = GeneratedText { text: prompt.text.clone(), tokens: 0, finish: End::Stop, index, seed };
            pending.push_back(Pending { sequence, text, done: false });
            running += 1;
        }
        if pending.is_empty() {
            break Ok(());
        }
        let mut failure = None;
        engine.step(&mut |event| {
            let at = pending.binary_search_by_key(&event.sequence, |pending| pending.sequence);
            let Some(Pending { text, done, .. }) = at.ok().and_then(|at| pending.get_mut(at)) else {
                return ControlFlow::Continue(());
            };
            match event.kind {
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                EventKind::Token { text: more, .. } => {
                    text.text.push_str(more);
                    text.tokens += 1;
                    tokens += 1;
                }
                EventKind::Finished { finish_reason: FinishReason::Cancelled, .. } => {
                    (running, stopped) = (running - 1, true)
                }
                EventKind::Finished { finish_reason, .. } => {
                    (*done, running) = (true, running - 1);
                    match finish_reason {
                        FinishReason::MaxTokens | FinishReason::ContextFull => text.finish = End::Length,
                        FinishReason::Failed(error) => failure = Some(error),
                        FinishReason::EndToken
                        | FinishReason::StopToken
                        | FinishReason::StopString
                        | FinishReason::Cancelled => {}
                    }
                }
            }
            ControlFlow::Continue(())
        });
        if let Some(error) = failure {
            break Err(error.into());
        }
        let ready = pending.iter().take_while(|pending| pending.done).count();
        match take(pending.drain(..ready).map(|pending| pending.text).collect(), tokens) {
            Ok(ControlFlow::Continue(())) if !stopped => {}
            Ok(_) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    for pending in pending.iter().filter(|pending| !pending.done) {
        engine.cancel(pending.sequence);
    }
    written
}
