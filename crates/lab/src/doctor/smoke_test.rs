//! Whether the model runs, and predicts plain English better than chance.

use super::{Check, Context, Finding, Severity};
use crate::perplexity::{Error, PerplexityOptions, Text, Windows, perplexity};
use serde::Serialize;
use std::f64::consts::LN_2;
use trine_backend::CacheType;
use trine_model::runner::{Want, probe};
use trine_model::{ModelOptions, Spec, is_for_embeddings, load};
use trine_tensor::File;

pub(super) const SMOKE_TEST: Check = Check { name: "smoke test", about: "a short text, predicted", run };

/// Plain English that no model was trained on, some two hundred tokens.
pub(super) const TEXT: &str = "The old woman lived at the edge of the village, in a small house with a red door. Every morning she went out \
    to feed her hens, and every evening she sat by the window and looked at the hills. One day a boy knocked at the door. He was \
    cold and wet, because it had rained all night. \"Come in,\" she said, \"and sit by the fire.\" She gave him a bowl of soup and \
    a piece of bread, and asked him where he came from. The boy told her that he had lost his way in the forest. He had followed \
    a bird that sang so well that he forgot the time, and when he turned around he could not find the path. The old woman smiled. \
    She knew the bird, she said, because when she was a girl she had followed it too. In the morning the sun was shining. She \
    showed him the way home, and he promised to come back and help her with the garden in the spring.";

/// Most tokens that predict one.
const CONTEXT: usize = 512;
/// Most tokens that the model reads at once: short enough for one who does not want to wait.
const BATCH: usize = 64;

/// How well a model predicts a short English text, beside trivial baselines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SmokeTest {
    pub tokens: u64,
    /// `-ln p` of a token, the mean.
    pub nats_per_token: f64,
    /// Of one who takes all tokens for equally likely.
    pub uniform_nats_per_token: f64,
    /// Bits to write a byte of the text with.
    pub bits_per_byte: f64,
    /// Of one who knows how often each letter is in this text, and nothing else.
    pub letters_bits_per_byte: f64,
}

fn run(context: &mut Context) -> Vec<Finding> {
    // What is already known to be broken explains whatever the text would show.
    if context.worst == Some(Severity::Error) {
        return Vec::new();
    }
    let file = context.file;
    match measure(context, file, None) {
        Ok(None) => Vec::new(),
        Ok(Some(smoke_test)) => {
            context.smoke_test = Some(smoke_test);
            smoke_test.judge().into_iter().collect()
        }
        Err(error) => {
            let remedy = match &error {
                Error::Spelling { .. } => "give the tokenizer of this very model with --tokenizer FILE",
                Error::Engine(_) => "get or convert the file again",
                _ => "convert the model again: its tensors are not those of its architecture",
            };
            vec![Finding::new(Severity::Error, "the model does not run", error.to_string(), remedy)]
        }
    }
}

/// Runs the text on `file`, which is that of the context or the same read otherwise, as what it says it is or as `spec`.
pub(super) fn measure(context: &mut Context, file: &File, spec: Option<Spec>) -> Result<Option<SmokeTest>, Error> {
    let (Some(device), Ok(language)) = (&context.device, &context.language) else { return Ok(None) };
    let patience = &mut context.patience;
    // Encoders and models for embeddings predict no next token.
    let encoder = context.spec.as_ref().is_ok_and(|spec| spec.arch.encoder);
    let predicts = !encoder && !is_for_embeddings(context.file);
    let (headless, want) = if predicts { (false, Want::Logits) } else { (true, Want::Hidden) };
    let options = ModelOptions { spec, headless, ..ModelOptions::default() };
    let mut runner = load(file, device, options, &mut |_| patience.ask())?;
    runner.limit_context(CONTEXT);
    probe(&mut *runner, language.tokenizer.bos().unwrap_or(0), want)?;
    if !predicts {
        return Ok(None);
    }
    let text = Text::new(&language.tokenizer, &[TEXT.to_owned()], false, usize::MAX)?;
    let context = runner.spec().context_length;
    let stride = Windows::longest_stride(context, text.has_bos()).div_ceil(2).max(1);
    let (windows, threads) = (Windows::Sliding { context, stride }, device.cpu.threads);
    let options = PerplexityOptions { windows, batch: BATCH, threads, cache_type: CacheType::F32 };
    let found = perplexity(&mut *runner, &text, &options, &mut |_| patience.ask())?;
    Ok(Some(SmokeTest {
        tokens: found.sums.tokens,
        nats_per_token: found.nats_per_token.value,
        uniform_nats_per_token: libm::log(runner.spec().vocab_size as f64),
        bits_per_byte: found.sums.nats / LN_2 / found.sums.bytes as f64,
        letters_bits_per_byte: letters(),
    }))
}

impl SmokeTest {
    /// What is wrong with a model that predicts like this, if anything.
    pub(super) fn judge(&self) -> Option<Finding> {
        let SmokeTest { tokens, nats_per_token, uniform_nats_per_token, bits_per_byte, letters_bits_per_byte } = self;
        let evidence = format!(
            "over {tokens} tokens of plain English {bits_per_byte:.2} bits per byte ({nats_per_token:.2} nats per token); who knows only how often \
             each letter comes has {letters_bits_per_byte:.2} bits per byte, who takes all tokens for equally likely {uniform_nats_per_token:.2} nats per token"
        );
        let remedy = "if the model is trained, and on English: its weights or its tokenizer are not read as they were written. Compare the \
             checksum, take the file of another publisher, or convert it again";
        if nats_per_token >= uniform_nats_per_token {
            Some(Finding::new(Severity::Error, "the model predicts English worse than chance", evidence, remedy))
        } else if bits_per_byte >= letters_bits_per_byte {
            let title = "the model predicts English no better than the frequency of letters";
            Some(Finding::new(Severity::Warning, title, evidence, remedy))
        } else {
            None
        }
    }
}

/// The entropy of the text's bytes.
fn letters() -> f64 {
    let mut counts = [0u32; 256];
    TEXT.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let shares = counts.iter().filter(|&&n| n > 0).map(|&n| f64::from(n) / TEXT.len() as f64);
    shares.map(|p| -p * libm::log2(p)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_judged_by_who_knows_less() {
        let title = |nats_per_token: f64, bits_per_byte: f64| {
            let smoke_test = SmokeTest {
                tokens: 200,
                nats_per_token,
                uniform_nats_per_token: 7.0,
                bits_per_byte,
                letters_bits_per_byte: letters(),
            };
            smoke_test.judge().map(|finding| (finding.severity, finding.title))
        };
        assert_eq!(title(3.0, 1.5), None);
        let (severity, found) = title(6.9, 4.5).unwrap();
        assert!(severity == Severity::Warning && found.ends_with("no better than the frequency of letters"), "{found}");
        let (severity, found) = title(7.0, 4.5).unwrap();
        assert!(severity == Severity::Error && found.ends_with("worse than chance"), "{found}");
    }
}
