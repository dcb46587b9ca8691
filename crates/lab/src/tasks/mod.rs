//! Questions with known answers, as lm-evaluation-harness asks them: the same files and models give the same numbers.
//!
//! A task is a file of JSON lines. Each has a question and choices (`query`, `choices`, `gold`), a sentence with several beginnings
//! (`context_options`, `continuation`, `gold`), or a text and how it goes on (`context`, `continuation`). Between both parts stands a space.

mod generate;
mod paired;
mod read;
mod requests;

pub use paired::{Paired, paired};
pub use read::{Example, Task};

use requests::{Answer, Requests};
use serde::Serialize;
use std::ops::ControlFlow;
use trine_backend::CacheType;
use trine_model::Runner;
use trine_text::Tokenizer;

/// Why a task cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// A forward pass failed, or there is no room for the cache.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// A line of a file is no example. Lines count from 1.
    #[error("{path}, line {line}: expected {expected}, found {found}")]
    Line { path: String, line: usize, expected: String, found: String },
    /// A file has no examples.
    #[error("{path}: expected examples, found none")]
    Empty { path: String },
    /// A logit is NaN or infinite.
    #[error("task {task}, example {example}: expected finite logits, found another")]
    NotFinite { task: String, example: usize },
    /// The answer alone is longer than what the model reads.
    #[error("task {task}, example {example}: an answer of {tokens} tokens in a context of {context}")]
    TooLong { task: String, example: usize, tokens: usize, context: usize },
}

/// Options of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct TaskOptions {
    /// Maximum tokens per forward pass. It changes the speed, never the result.
    pub batch: usize,
    /// What the cache keeps keys and values as.
    pub cache_type: CacheType,
    /// Tokens that the model reads at most: what is longer loses its beginning, as in lm-evaluation-harness.
    pub context: usize,
    /// Whether BOS stands before each text, if the model uses it.
    pub bos: bool,
    /// Whether texts are also continued greedily to the end of the line, and compared.
    pub generate: bool,
}

/// How one example went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The best choice is the right one; the model's most likely tokens are those of the continuation.
    pub correct: bool,
    /// The same, of log-likelihoods per character of the choices.
    pub correct_norm: Option<bool>,
    /// Whether the generated line is the continuation.
    pub exact: Option<bool>,
    /// Log-likelihood of the right answer, nats.
    pub log_likelihood: f64,
}

/// How a model did in a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskResult {
    /// Share of right answers, and its standard error; unknown for one example.
    pub acc: f64,
    pub stderr: Option<f64>,
    /// The same with log-likelihoods per character; for questions with choices.
    pub acc_norm: Option<f64>,
    pub stderr_norm: Option<f64>,
    /// `e` to the mean negative log-likelihood of continuations; for texts that go on.
    pub perplexity: Option<f64>,
    /// Share of generated lines that are the continuation.
    pub exact_match: Option<f64>,
    pub stderr_exact: Option<f64>,
    /// What guessing would reach.
    pub chance: f64,
    pub examples: usize,
    /// Texts that lost their beginning, as they are longer than the context.
    pub truncated: usize,
    #[serde(skip)]
    pub outcomes: Vec<Outcome>,
}

/// Measures how a model does in a task. `progress` gets how many of how many texts are done, and may break off.
///
/// # Errors
/// When a pass fails, a logit is not finite, an answer is longer than the context, or `progress` breaks off.
pub fn run(
    runner: &mut dyn Runner,
    tokenizer: &Tokenizer,
    task: &Task,
    options: &TaskOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<TaskResult, Error> {
    let requests = Requests::new(tokenizer, task, options)?;
    let truncated = requests.truncated;
    let answers = requests.run(runner, task, options, progress)?;
    let mut answers = answers.into_iter();
    let mut outcomes = Vec::with_capacity(task.examples.len());
    for example in &task.examples {
        outcomes.push(match example {
            Example::Choice { pairs, lengths, gold } => {
                let answers: Vec<Answer> = answers.by_ref().take(pairs.len()).collect();
                let best = |of: &dyn Fn(usize) -> f64| {
                    (1..pairs.len()).fold(0, |best, i| if of(i) > of(best) { i } else { best })
                };
                let by_length =
                    lengths.as_ref().map(|lengths| best(&|i| answers[i].log_likelihood / lengths[i] as f64) == *gold);
                Outcome {
                    correct: best(&|i| answers[i].log_likelihood) == *gold,
                    correct_norm: by_length,
                    exact: None,
                    log_likelihood: answers[*gold].log_likelihood,
                }
            }
            Example::Continuation { context, continuation } => {
                let Answer { log_likelihood, greedy } = answers.next().expect("one for each");
                let exact = match options.generate {
                    true => Some(generate::line(runner, tokenizer, context, options)? == continuation.trim()),
                    false => None,
                };
                Outcome { correct: greedy, correct_norm: None, exact, log_likelihood }
            }
        });
    }
    Ok(summary(task, outcomes, truncated))
}

fn summary(task: &Task, outcomes: Vec<Outcome>, truncated: usize) -> TaskResult {
    let n = outcomes.len() as f64;
    let share = |right: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| right(outcome)).count() as f64 / n;
    // The standard deviation of the sample over the root of its size.
    let error = |share: f64| (n > 1.0).then(|| (share * (1.0 - share) / (n - 1.0)).sqrt());
    let acc = share(&|outcome| outcome.correct);
    let all = |of: fn(&Outcome) -> Option<bool>| {
        outcomes.iter().all(|outcome| of(outcome).is_some()).then(|| share(&|outcome| of(outcome) == Some(true)))
    };
    let (acc_norm, exact_match) = (all(|outcome| outcome.correct_norm), all(|outcome| outcome.exact));
    let texts = task.examples.iter().all(|example| matches!(example, Example::Continuation { .. }));
    let mean = outcomes.iter().map(|outcome| outcome.log_likelihood).sum::<f64>() / n;
    let chance = |example: &Example| match example {
        Example::Choice { pairs, .. } => 1.0 / pairs.len() as f64,
        Example::Continuation { .. } => 0.0,
    };
    TaskResult {
        acc,
        stderr: error(acc),
        acc_norm,
        stderr_norm: acc_norm.and_then(error),
        perplexity: texts.then(|| (-mean).exp()),
        exact_match,
        stderr_exact: exact_match.and_then(error),
        chance: task.examples.iter().map(chance).sum::<f64>() / n,
        examples: outcomes.len(),
        truncated,
        outcomes,
    }
}

/// Scores of several tasks as one number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Aggregate {
    /// The mean share of right answers, each task alike.
    pub acc: f64,
    /// The same where guessing counts as 0 and all right as 1.
    pub above_chance: f64,
}

/// The scores of all tasks together; `None` without tasks.
pub fn aggregate<'a>(results: impl ExactSizeIterator<Item = &'a TaskResult> + Clone) -> Option<Aggregate> {
    let n = results.len() as f64;
    let mean = |of: fn(&TaskResult) -> f64| results.clone().map(of).sum::<f64>() / n;
    let above = |result: &TaskResult| (result.acc - result.chance) / (1.0 - result.chance).max(f64::EPSILON);
    (n > 0.0).then(|| Aggregate { acc: mean(|result| result.acc), above_chance: mean(above) })
}
