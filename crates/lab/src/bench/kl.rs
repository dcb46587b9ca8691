//! What the speed of quantized activations and the size of a KV cache cost.

use super::{Error, Kind, Test};
use crate::divergence::divergence;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use trine_backend::{ActivationPrecision, CacheType};
use trine_model::Runner;
use trine_model::runner::{Output, Sequences, Want, argmax};

/// Tokens that run together: their logits are held twice.
const CHUNK: usize = 64;

/// What the numbers of a forward pass are rounded to.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    pub activations: ActivationPrecision,
    /// What keys and values are kept as.
    pub cache_type: CacheType,
}

/// How far the next-token distributions that a model gives with one rounding are from those that the same weights give with another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kl {
    /// Kullback-Leibler divergence, nats per token: `Σ p (ln p - ln q)`, where `p` is the distribution of the other rounding.
    pub mean: f64,
    /// Standard error of the mean over the tokens; unknown for one token.
    pub error: Option<f64>,
    /// Share of tokens after which both have the same most likely next token.
    pub same_best: f64,
    /// Tokens after which the distributions were compared.
    pub tokens: usize,
}

/// Compares two roundings, the second with the first, after each of `ids`, at least one token of a text, with the weights as they are on the
/// device, which has quantized activations afterwards. `progress` gets how many of how many tokens are done, and may break off.
///
/// # Errors
/// When the text is longer than the model's context, there is no room for the caches, or `progress` breaks off.
pub fn kl(
    runner: &mut dyn Runner,
    ids: &[u32],
    roundings: [Rounding; 2],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Kl, Error> {
    let context = runner.spec().context_length;
    if ids.len() > context {
        let test = Test { kind: Kind::Prefill, tokens: ids.len(), sequences: 1, depth: 0 };
        return Err(Error::Context { test, context });
    }
    // Each has a cache of its own, which is freed even where there is no room for the second.
    let mut passes = Vec::with_capacity(roundings.len());
    let compared = roundings
        .into_iter()
        .try_for_each(|rounding| {
            let mut sequences = Sequences::new(runner, Sequences::blocks_of(ids.len()), rounding.cache_type)?;
            let sequence = sequences.add(ids.len());
            passes.push(Pass { activations: rounding.activations, sequences, sequence, output: Output::default() });
            Ok(())
        })
        .and_then(|()| compare(runner, &mut passes, ids, progress));
    runner.set_activation_precision(ActivationPrecision::Quantized);
    passes.into_iter().for_each(|pass| pass.sequences.release(runner));
    let (divergences, same) = compared?;
    let n = ids.len() as f64;
    let mean = divergences.iter().sum::<f64>() / n;
    let squares: f64 = divergences.iter().map(|kl| (kl - mean).powi(2)).sum();
    let error = (ids.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    Ok(Kl { mean, error, same_best: same as f64 / n, tokens: ids.len() })
}

/// A text on its way through the model.
struct Pass {
    activations: ActivationPrecision,
    sequences: Sequences,
    sequence: usize,
    output: Output,
}

/// The divergence of the second pass from the first after each token, and how often both have the same most likely next token.
fn compare(
    runner: &mut dyn Runner,
    passes: &mut [Pass],
    ids: &[u32],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(Vec<f64>, usize), Error> {
    let vocab = runner.spec().vocab_size;
    let (mut divergences, mut same) = (Vec::with_capacity(ids.len()), 0);
    for chunk in ids.chunks(CHUNK) {
        if progress(divergences.len(), ids.len()).is_break() {
            return Err(Error::Cancelled);
        }
        for Pass { activations, sequences, sequence, output } in &mut *passes {
            runner.set_activation_precision(*activations);
            sequences.push(*sequence, chunk, chunk.len());
            sequences.run(runner, Want::Logits, output)?;
        }
        let [first, second] = [0, 1].map(|i| passes[i].output.values.chunks(vocab));
        for (p, q) in first.zip(second) {
            divergences.push(divergence(p, q));
            same += usize::from(argmax(p) == argmax(q));
        }
    }
    Ok((divergences, same))
}

/// A text to compare over, for models of any kind.
pub const TEXT: &str = "\
Once upon a time there was a small boat named Pip. Pip lived in a quiet harbour with her friend Tom, an old man with a long white beard. \
Every morning they went out to sea to catch fish. One day the sky turned dark and the wind began to blow. \"Oh no,\" said Tom, \"we must \
go home now!\" But the waves were too big, and Pip could not see the lighthouse. She was scared. Then a little bird sat down on her mast. \
\"Follow me,\" said the bird, \"I know the way.\" Pip turned around and followed the bird through the rain. At last they saw a bright light. \
It was the harbour! Tom was so happy that he gave the bird a big piece of bread. \"Thank you, little bird,\" he said. \"You saved us.\" The \
bird ate the bread and sang a song. From that day on the three of them were best friends, and when the wind was strong they stayed at home \
and told each other stories by the fire. In the winter the harbour was covered with ice, and nobody could go to sea. Tom painted Pip blue \
and red, and the bird brought news from the town: who was sick, who had a new baby, and what the baker had in his window. When spring came \
the ice was gone. Pip felt the warm sun on her deck and wanted to go out again. \"Are you ready?\" asked Tom. The bird flew up and looked \
around. The sea was calm. \"Let's go!\" she said.";
