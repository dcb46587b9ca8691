//! How far the predictions of one model are from those of another, such as a quantized model from its source.
//!
//! Perplexity alone hides damage: a model that is wrong elsewhere may be as surprised on average. The Kullback-Leibler divergence sees every
//! changed probability. Each document is cut as llama.cpp's `llama-perplexity --kl-divergence` cuts a text, and its files of probabilities are read
//! and written, so that the numbers of both programs can be compared.

mod chunks;
mod row;
mod saved;

pub use chunks::{Chunks, LEAST_CONTEXT};
pub use row::divergence;
pub use saved::{SavedLogits, save};

use crate::perplexity::Estimate;
use row::Compared;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::CacheType;
use trine_model::Runner;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};

/// Why two models cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off before anything was known.
    #[error("cancelled")]
    Cancelled,
    /// A forward pass failed, or there is no room for the cache.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The models do not predict the same tokens.
    #[error("both models must predict the same tokens: the first has {first}, the second {second}")]
    Vocabulary { first: usize, second: usize },
    /// A logit is NaN or infinite.
    #[error("chunk {chunk}: expected finite logits, found {found} for token {id}")]
    NotFinite { chunk: usize, id: usize, found: f32 },
    /// No document has enough tokens for one chunk; the longest has `tokens`.
    #[error("expected a document of at least {context} tokens, which is one chunk, found at most {tokens}")]
    TooShort { context: usize, tokens: usize },
    /// A context that cannot be compared over.
    #[error("a context of {found} tokens: expected 4 to {most}, the context of the model")]
    Context { found: usize, most: usize },
}

/// Options of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct DivergenceOptions {
    /// Maximum tokens per forward pass. It changes the speed, never the result.
    pub batch: usize,
    /// Threads that turn logits into probabilities.
    pub threads: usize,
    /// What the caches keep keys and values as.
    pub cache_type: CacheType,
}

/// What the second model is compared with.
pub enum Reference<'a> {
    /// A model.
    Runner(&'a mut dyn Runner),
    /// The logits that a model gave, `[scored, vocab_size]` for each chunk.
    Logits(&'a [Vec<f32>]),
    /// The probabilities that a model gave, from a file.
    Saved(&'a mut SavedLogits),
}

/// How far the predictions of a model are from those of the reference, over the second half of each chunk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// `KL(reference ‖ model)`, nats per token, the mean.
    pub mean_kl: f64,
    /// Where the mean may lie at 95 %: Student's interval over chunks; unknown with a single chunk.
    pub mean_kl_low: Option<f64>,
    pub mean_kl_high: Option<f64>,
    pub median_kl: f64,
    /// The 99th percentile.
    pub p99_kl: f64,
    /// The 99.9th percentile.
    pub p999_kl: f64,
    pub max_kl: f64,
    /// Share of tokens after which both have the same most likely next token.
    pub top1: f64,
    /// Share of the reference's five most likely tokens that are among the model's five, the mean.
    pub top5: f64,
    /// Share of tokens that one model predicts as the most likely and the other does not.
    pub flips: f64,
    /// Mean of the model's probability of the text's token less the reference's, and the root of its mean square.
    pub mean_delta_p: f64,
    pub rms_delta_p: f64,
    /// Perplexity of the text, by the reference and by the model.
    pub perplexity_reference: f64,
    pub perplexity: f64,
    /// Logarithm of the ratio of perplexities, model over reference, with its interval over chunks.
    pub ln_perplexity_ratio: Estimate,
    /// Tokens after which the predictions were compared.
    pub tokens: usize,
    pub chunks: usize,
    /// Tokens of a chunk.
    pub context: usize,
    /// Whether all chunks were compared.
    pub complete: bool,
}

/// Compares a model with a reference over all chunks. `progress` gets how many are done and the mean divergence so far, and may break off:
/// the result is then that of the chunks so far.
///
/// # Errors
/// When the models have other vocabularies, the context is too long, a pass fails, a logit is not finite, or `progress` breaks off before
/// anything is known.
pub fn compare(
    mut reference: Reference,
    model: &mut dyn Runner,
    chunks: &Chunks,
    options: &DivergenceOptions,
    progress: &mut dyn FnMut(usize, f64) -> ControlFlow<()>,
) -> Result<Divergence, Error> {
    let first = match &reference {
        Reference::Runner(runner) => {
            check_context(&**runner, chunks)?;
            runner.spec().vocab_size
        }
        Reference::Logits(logits) => logits.first().map_or(0, |chunk| chunk.len() / chunks.scored()),
        Reference::Saved(saved) => saved.vocab_size(),
    };
    let second = model.spec().vocab_size;
    check_context(model, chunks)?;
    if first != second {
        return Err(Error::Vocabulary { first, second });
    }
    let mut all: Vec<Vec<Compared>> = Vec::new();
    let (mut sum, mut count) = (0.0, 0);
    for chunk in 0..chunks.len() {
        let q = match run_chunk(model, chunks, chunk, options) {
            Err(Error::Model(trine_model::Error::Stopped)) => break,
            result => result?,
        };
        let compared = match &mut reference {
            Reference::Runner(runner) => {
                let p = match run_chunk(*runner, chunks, chunk, options) {
                    Err(Error::Model(trine_model::Error::Stopped)) => break,
                    result => result?,
                };
                let row = |i: usize, out: &mut Vec<f64>| row::log_probabilities(&p[i * first..][..first], out);
                row::compare(&q, second, chunks.targets(chunk), options.threads, &row)
            }
            Reference::Logits(p) => {
                let p = &p[chunk];
                let row = |i: usize, out: &mut Vec<f64>| row::log_probabilities(&p[i * first..][..first], out);
                row::compare(&q, second, chunks.targets(chunk), options.threads, &row)
            }
            Reference::Saved(saved) => {
                let saved = saved.chunk(chunk)?;
                let row = |i: usize, out: &mut Vec<f64>| saved.log_probabilities(i, out);
                row::compare(&q, second, chunks.targets(chunk), options.threads, &row)
            }
        };
        sum += compared.iter().map(|row| row.kl).sum::<f64>();
        count += compared.len();
        all.push(compared);
        if progress(all.len(), sum / count as f64).is_break() {
            break;
        }
    }
    summary(&all, chunks).ok_or(Error::Cancelled)
}

fn check_context(runner: &dyn Runner, chunks: &Chunks) -> Result<(), Error> {
    let (most, found) = (runner.spec().context_length, chunks.context());
    if (LEAST_CONTEXT..=most).contains(&found) { Ok(()) } else { Err(Error::Context { found, most }) }
}

/// Logits of the second half of a chunk, but for its last token: `[chunks.scored(), vocab_size]`.
pub(crate) fn run_chunk(
    runner: &mut dyn Runner,
    chunks: &Chunks,
    chunk: usize,
    options: &DivergenceOptions,
) -> Result<Vec<f32>, Error> {
    let vocab = runner.spec().vocab_size;
    let input = ScoreInput { ids: chunks.inputs(chunk), outputs: chunks.scored() };
    let scoring = ScoreOptions { batch: options.batch, cache_type: options.cache_type, want: Want::Logits };
    let mut logits = Vec::with_capacity(chunks.scored() * vocab);
    score::<Error>(runner, &[input], &scoring, &mut |_, output| {
        logits.extend_from_slice(&output.values);
        Ok(ControlFlow::Continue(()))
    })?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(at) => Err(Error::NotFinite { chunk, id: at % vocab, found: logits[at] }),
        None => Ok(logits),
    }
}

/// Writes the probabilities of a model over all chunks to a file of llama.cpp's form, which `llama-perplexity --kl-divergence-base` reads.
/// `progress` as in [`compare`], but that nothing is written when it breaks off.
///
/// # Errors
/// As [`compare`], and when the file cannot be written.
pub fn save_logits(
    model: &mut dyn Runner,
    chunks: &Chunks,
    options: &DivergenceOptions,
    path: &Path,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), Error> {
    check_context(model, chunks)?;
    let vocab = model.spec().vocab_size;
    save(path, chunks, vocab, |chunk| {
        if progress(chunk).is_break() {
            return Err(Error::Cancelled);
        }
        run_chunk(model, chunks, chunk, options)
    })
}

/// `None` when nothing was compared.
fn summary(all: &[Vec<Compared>], chunks: &Chunks) -> Option<Divergence> {
    let rows = || all.iter().flatten();
    let tokens = rows().count();
    let n = tokens as f64;
    let mean = |of: fn(&Compared) -> f64| rows().map(of).sum::<f64>() / n;
    let over_chunks = |of: fn(&Compared) -> f64| {
        Estimate::ratio(all.iter().map(|rows| (rows.iter().map(of).sum(), rows.len() as f64)))
    };
    let kl = over_chunks(|row| row.kl)?.not_negative();
    let mut sorted: Vec<f64> = rows().map(|row| row.kl).collect();
    sorted.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let at = share * (n - 1.0);
        let (below, part) = (at as usize, at.fract());
        (1.0 - part) * sorted[below] + part * sorted[(below + 1).min(tokens - 1)]
    };
    Some(Divergence {
        mean_kl: kl.value,
        mean_kl_low: kl.low,
        mean_kl_high: kl.high,
        median_kl: percentile(0.5),
        p99_kl: percentile(0.99),
        p999_kl: percentile(0.999),
        max_kl: percentile(1.0),
        top1: mean(|row| f64::from(u8::from(row.same_best))),
        top5: mean(|row| row.top5),
        flips: mean(|row| f64::from(u8::from(row.flipped))),
        mean_delta_p: mean(Compared::delta_p),
        rms_delta_p: mean(|row| row.delta_p().powi(2)).sqrt(),
        perplexity_reference: mean(|row| row.nats[0]).exp(),
        perplexity: mean(|row| row.nats[1]).exp(),
        ln_perplexity_ratio: over_chunks(|row| row.nats[1] - row.nats[0])?,
        tokens,
        chunks: all.len(),
        context: chunks.context(),
        complete: all.len() == chunks.len(),
    })
}
