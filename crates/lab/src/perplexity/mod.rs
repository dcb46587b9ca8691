//! Perplexity: how well a model predicts a text.

mod ratio;
mod text;
mod windows;

pub use ratio::Estimate;
pub use text::Text;
pub use windows::Windows;

use serde::Serialize;
use std::cmp::Ordering;
use std::f64::consts::LN_2;
use std::ops::{ControlFlow, Range};
use text::ScoredToken;
use trine_backend::CacheType;
use trine_model::Runner;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, argmax, score};
use windows::{Window, windows};

/// Why a text cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off before anything was known.
    #[error("cancelled")]
    Cancelled,
    /// The forward pass failed, or there is no room for the cache.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// A logit is not finite.
    #[error(transparent)]
    Engine(#[from] trine_engine::Error),
    /// The tokenizer changes the text or leaves something out. `document` counts from 1, `at` are bytes before the place.
    #[error(
        "document {document}: the model's tokens cannot spell `{text}` at byte {at}: its bits per byte would be those of another text"
    )]
    Spelling { document: usize, at: usize, text: String },
    /// A context or stride, `what`, that the model cannot have.
    #[error("a {what} of {found} tokens: expected {}", range(*least, *most))]
    Window { what: &'static str, found: usize, least: usize, most: usize },
    /// The text has too few tokens to predict any.
    #[error("nothing can be scored in a text of {tokens} tokens with a context of {context}: it is too short")]
    NothingToScore { tokens: usize, context: usize },
}

/// What a number may be. The context that was asked for may be the most, and less than the least.
fn range(least: usize, most: usize) -> String {
    match least.cmp(&most) {
        Ordering::Less => format!("{least} to {most}"),
        Ordering::Equal => least.to_string(),
        Ordering::Greater => format!("{least} or more"),
    }
}

/// Options of a measurement.
#[derive(Clone, Debug)]
pub struct PerplexityOptions {
    /// How documents are cut.
    pub windows: Windows,
    /// Maximum tokens per forward pass, of several windows. It changes the speed, never the result.
    pub batch: usize,
    /// Threads that turn logits into probabilities.
    pub threads: usize,
    /// What the cache keeps keys and values as.
    pub cache_type: CacheType,
}

/// What was summed up over scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sums {
    /// Surprise: `-ln p` of each token.
    pub nats: f64,
    /// Tokens, ends of documents included.
    pub tokens: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// Characters that begin in them.
    pub characters: u64,
}

impl Sums {
    fn add(&mut self, token: &ScoredToken, nats: f64) {
        self.nats += nats;
        self.tokens += 1;
        self.bytes += u64::from(token.bytes);
        self.characters += u64::from(token.characters);
    }
}

/// How far a measurement is.
#[derive(Clone, Copy, Debug)]
pub struct PerplexityProgress {
    pub sums: Sums,
    /// Tokens to score in all.
    pub total: u64,
}

/// What intervals take as independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Documents,
    /// The windows of the only document. Neighbours are about the same things, so that the truth may lie outside more often than it should.
    Windows,
}

/// How well a model predicts a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// `e` to the nats per token.
    pub perplexity: Estimate,
    /// `-ln p` of a token, the mean.
    pub nats_per_token: Estimate,
    /// Bits to write a byte of the text with; `None` for tokens without text.
    pub bits_per_byte: Option<Estimate>,
    /// Bits to write a character with.
    pub bits_per_character: Option<Estimate>,
    /// What these are ratios of.
    pub sums: Sums,
    /// Documents with scored tokens.
    pub documents: usize,
    /// Windows with scored tokens.
    pub windows: usize,
    /// What the intervals are over.
    pub unit: Unit,
    /// Whether all of the text was scored that the windows cover.
    pub complete: bool,
}

/// Measures how well a model predicts a text. `progress` may break off: the result is then that of the tokens so far.
///
/// Each token's surprise is the negative logarithm of what the softmax of the logits gives it, in float64. The same text gives the same
/// result, to the bit, for every batch and every number of threads.
///
/// # Errors
/// When the context or stride makes no sense, nothing can be scored, there is no room for the cache, a logit is not finite, or `progress`
/// breaks off before anything is known.
pub fn perplexity(
    runner: &mut dyn Runner,
    text: &Text,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(PerplexityProgress) -> ControlFlow<()>,
) -> Result<Perplexity, Error> {
    check(options.windows, runner.spec().context_length, text.has_bos())?;
    let cut = |(i, tokens): (usize, &Vec<ScoredToken>)| windows(options.windows, i, tokens.len(), text.has_bos());
    let all: Vec<Window> = text.documents.iter().enumerate().flat_map(cut).collect();
    let total = all.iter().map(|window| window.scored.len() as u64).sum();
    if total == 0 {
        return Err(Error::NothingToScore { tokens: text.tokens(), context: options.windows.context() });
    }
    let unit = if text.documents.len() > 1 { Unit::Documents } else { Unit::Windows };
    let mut units = vec![Sums::default(); if unit == Unit::Documents { text.documents.len() } else { all.len() }];
    let (mut sums, mut seen) = (Sums::default(), 0);
    let mut run = |i: usize, scored: Range<usize>, nats: &[f64]| {
        let document = all[i].document;
        let unit = &mut units[if unit == Unit::Documents { document } else { i }];
        for (token, &nats) in text.documents[document][scored].iter().zip(nats) {
            unit.add(token, nats);
            sums.add(token, nats);
        }
        seen = i + 1;
        progress(PerplexityProgress { sums, total })
    };
    match run_windows(runner, text, &all, options, &mut run) {
        Err(Error::Model(trine_model::Error::Stopped)) => {}
        result => result?,
    }
    units.retain(|unit| unit.tokens > 0);
    if units.is_empty() {
        return Err(Error::Cancelled);
    }
    let ratio = |of: fn(&Sums) -> u64| {
        Estimate::ratio(units.iter().map(|unit| (unit.nats, of(unit) as f64))).map(Estimate::not_negative)
    };
    let bits = |estimate: Estimate| estimate.map(|nats| nats / LN_2);
    let nats_per_token = ratio(|sums| sums.tokens).expect("tokens were scored");
    let documents = all[..seen].chunk_by(|a, b| a.document == b.document).count();
    Ok(Perplexity {
        perplexity: nats_per_token.map(f64::exp),
        nats_per_token,
        bits_per_byte: ratio(|sums| sums.bytes).map(bits),
        bits_per_character: ratio(|sums| sums.characters).map(bits),
        sums,
        documents,
        windows: seen,
        unit,
        complete: sums.tokens == total,
    })
}

/// Whether a model of this context can be run so.
fn check(windows: Windows, most: usize, bos: bool) -> Result<(), Error> {
    let context = windows.context();
    let least = match windows {
        Windows::Sliding { .. } => 1 + usize::from(bos),
        Windows::SecondHalf { .. } => 3,
    };
    if !(least..=most).contains(&context) {
        return Err(Error::Window { what: "context", found: context, least, most });
    }
    match windows {
        Windows::Sliding { stride, .. } => {
            let most = Windows::longest_stride(context, bos);
            if (1..=most).contains(&stride) {
                return Ok(());
            }
            Err(Error::Window { what: "stride", found: stride, least: 1, most })
        }
        Windows::SecondHalf { .. } => Ok(()),
    }
}

/// Takes which tokens of a window's document have which surprise.
type Done<'a> = dyn FnMut(usize, Range<usize>, &[f64]) -> ControlFlow<()> + 'a;

/// Runs all windows in order, several at a time, until `done` breaks off. A window may come in several parts.
fn run_windows(
    runner: &mut dyn Runner,
    text: &Text,
    windows: &[Window],
    options: &PerplexityOptions,
    done: &mut Done,
) -> Result<(), Error> {
    let input = |&Window { document, start, ref scored }: &Window| {
        let tokens = &text.documents[document][start..scored.end - 1];
        let ids = text.bos.into_iter().chain(tokens.iter().map(|token| token.id)).collect();
        ScoreInput { ids, outputs: scored.len() }
    };
    let inputs: Vec<ScoreInput> = windows.iter().map(input).collect();
    let vocab = runner.spec().vocab_size;
    let scoring = ScoreOptions { batch: options.batch, cache_type: options.cache_type, want: Want::Logits };
    score(runner, &inputs, &scoring, &mut |parts, output| {
        let places = parts.iter().map(|part| {
            let Window { document, ref scored, .. } = windows[part.input];
            (part.input, document, scored.start + part.outputs.start..scored.start + part.outputs.end)
        });
        let target = |(_, document, scored): (usize, usize, Range<usize>)| {
            scored.map(move |at| (at, text.targets(&text.documents[document][at])))
        };
        let targets: Vec<Target> = places.clone().flat_map(target).collect();
        let nats = surprises(&output.values, vocab, &targets, options.threads.max(1))?;
        let mut rest = &nats[..];
        for (i, _, scored) in places {
            let nats = rest.split_off(..scored.len()).expect("a row for each");
            if done(i, scored, nats).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// A position in a document, for messages, and the tokens of which one stands there.
type Target<'a> = (usize, &'a [u32]);

/// `-ln p` of a target for each row of `logits`, `[targets, vocab]`.
fn surprises(logits: &[f32], vocab: usize, targets: &[Target], threads: usize) -> Result<Vec<f64>, Error> {
    let surprise = |row: &[f32], &(position, targets): &Target| {
        let not_finite = |id: u32| trine_engine::Error::NotFinite { id, position, value: row[id as usize] };
        let most = f64::from(row[argmax(row).map_err(not_finite)? as usize]);
        let weight = |logit: f32| libm::exp(f64::from(logit) - most);
        let total: f64 = row.iter().map(|&logit| weight(logit)).sum();
        Ok(libm::log(total)
            - match *targets {
                [target] => f64::from(row[target as usize]) - most,
                _ => libm::log(targets.iter().map(|&target| weight(row[target as usize])).sum()),
            })
    };
    let each = targets.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<f64>, Error>> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (rows, targets) in logits.chunks(each * vocab).zip(targets.chunks(each)) {
            let all = move || rows.chunks(vocab).zip(targets).map(|(row, target)| surprise(row, target)).collect();
            running.push(scope.spawn(all));
        }
        running.into_iter().map(|part| part.join().expect("it does not panic")).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}
