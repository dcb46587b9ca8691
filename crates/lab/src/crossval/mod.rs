//! Another program's numbers beside ours: the ids of the same texts, and the probabilities after each of the tokens with which that program
//! goes on. A mistake in either shows as a difference that rounding does not explain.

mod reference;

use reference::ReferenceStep;
pub use reference::{PYTHON, Reference, Source};
use trine_backend::CacheType;

use serde::Serialize;
use std::ops::ControlFlow;
use trine_model::Runner;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, argmax, score};
use trine_text::{EncodeOptions, Tokenizer};

/// Why two programs cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// The forward pass failed, or there is no room for the cache.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// A logit is not finite.
    #[error(transparent)]
    Engine(#[from] trine_engine::Error),
    /// The reference does not do what it should.
    #[error("{reference}: {problem}")]
    Reference { reference: String, problem: String },
    /// A prompt with its continuation does not fit into the context; both are in tokens.
    #[error("a prompt with its continuation of {found} tokens: the model's context has {context}")]
    Context { found: usize, context: usize },
}

/// Texts that most tokenizers split into words, spaces, digits, marks and letters of several scripts, each in its own way.
pub const PROMPTS: [&str; 3] =
    ["Once upon a time there was a little", "def fib(n):\n    if n < 2:\n        return", "Zażółć 你好 1234567 🦙's "];

/// Tokens to which the reference gives less are not compared: what rounding does to them says little.
const LIKELY: f64 = 0.01;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct CrossvalOptions {
    /// Tokens with which the reference goes on, at most.
    pub tokens: usize,
    /// Tokens of a batch, at most.
    pub batch: usize,
    /// What keys and values are kept as.
    pub cache_type: CacheType,
}

/// Both programs on one text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptComparison {
    pub prompt: String,
    pub ids: Vec<u32>,
    /// Its ids there, which both models are given.
    pub reference_ids: Vec<u32>,
    /// The tokens after it.
    pub steps: Vec<Step>,
}

/// The token that the reference takes next, and what Trine says of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The reference's token, its most likely one.
    pub reference_id: u32,
    /// The most likely one here.
    pub id: u32,
    /// By how many nats the token here is more likely, here, than the reference's.
    pub margin: f64,
    /// Largest difference between `ln p` here and there, of tokens to which the reference gives at least 1 %, nats; unknown where it does
    /// not tell, as of tokens that end within a letter.
    pub difference: Option<f64>,
}

impl PromptComparison {
    /// Whether both have the same ids for the text.
    pub fn same_ids(&self) -> bool {
        self.ids == self.reference_ids
    }

    /// Steps at which both take the same token.
    pub fn same_tokens(&self) -> usize {
        self.steps.iter().filter(|step| step.id == step.reference_id).count()
    }

    /// The largest known difference of any step, nats.
    pub fn difference(&self) -> Option<f64> {
        self.steps.iter().filter_map(|step| step.difference).reduce(f64::max)
    }
}

/// Compares the two on each of these texts. `progress` gets how many are done, and may break off.
///
/// # Errors
/// When the reference does not answer, its ids or the texts are none that the model can read, a logit is no number, there is no room for the
/// caches, or `progress` breaks off.
pub fn compare(
    runner: &mut dyn Runner,
    tokenizer: &Tokenizer,
    reference: &Reference,
    prompts: &[String],
    options: &CrossvalOptions,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<PromptComparison>, Error> {
    let mut comparisons = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        if progress(comparisons.len()).is_break() {
            return Err(Error::Cancelled);
        }
        let ids = tokenizer.encode(prompt, EncodeOptions { parse_special: true, add_special: true });
        let reference_ids = reference.tokenize(prompt)?;
        let continuation = reference.go_on(&reference_ids, options.tokens)?;
        let taken = continuation.iter().map(|step| step.id);
        let inputs: Vec<u32> = reference_ids.iter().copied().chain(taken).collect();
        let vocab = runner.spec().vocab_size;
        let likely = continuation.iter().flat_map(|step| &step.likely).map(|&(id, _)| id);
        if let Some(id) = inputs.iter().copied().chain(likely).find(|&id| id as usize >= vocab) {
            return Err(reference.problem(format!("expected ids below {vocab}, found {id}: it runs another model")));
        }
        let context = runner.spec().context_length;
        if inputs.len() > context {
            let found = inputs.len();
            return Err(Error::Context { found, context });
        }
        let mut steps = Vec::with_capacity(continuation.len());
        if let Some(inputs) = inputs.len().checked_sub(1).map(|last| &inputs[..last]) {
            let rows = rows(runner, inputs, continuation.len(), options)?;
            for (i, (row, theirs)) in rows.chunks(vocab).zip(&continuation).enumerate() {
                steps.push(step(row, reference_ids.len() + i, theirs)?);
            }
        }
        comparisons.push(PromptComparison { prompt: prompt.clone(), ids, reference_ids, steps });
    }
    Ok(comparisons)
}

/// The logits after the last `outputs` of `ids`, `[outputs, vocab_size]`.
fn rows(runner: &mut dyn Runner, ids: &[u32], outputs: usize, options: &CrossvalOptions) -> Result<Vec<f32>, Error> {
    let mut all = Vec::new();
    let scoring = ScoreOptions { batch: options.batch, cache_type: options.cache_type, want: Want::Logits };
    score(runner, &[ScoreInput { ids: ids.to_vec(), outputs }], &scoring, &mut |_, output| {
        all.extend_from_slice(&output.values);
        Ok::<_, Error>(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// Trine's logits after a token beside the reference's. `position` is for messages.
fn step(row: &[f32], position: usize, theirs: &ReferenceStep) -> Result<Step, Error> {
    let not_finite = |id: u32| trine_engine::Error::NotFinite { id, position, value: row[id as usize] };
    let id = argmax(row).map_err(not_finite)?;
    let most = f64::from(row[id as usize]);
    let total: f64 = row.iter().map(|&logit| libm::exp(f64::from(logit) - most)).sum();
    let log = |id: u32| f64::from(row[id as usize]) - most - libm::log(total);
    let likely = theirs.likely.iter().filter(|(_, log)| libm::exp(*log) >= LIKELY);
    let difference = likely.map(|&(id, theirs)| (log(id) - theirs).abs()).reduce(f64::max);
    Ok(Step { reference_id: theirs.id, id, margin: log(id) - log(theirs.id), difference })
}
