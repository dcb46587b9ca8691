//! A sampler of one's own: `cargo run --release --example sampler -- "Once upon a time"`, with a model of one's own behind it, if any.
//!
//! A [`Filter`] changes what may be picked. This one forbids to repeat three tokens in a row. As a row of `FILTERS` in the engine it
//! would have a flag and a field of requests; here it runs by hand, over the bare model.

use trine::engine::sample::{Candidates, Filter, History};
use trine::prelude::*;

/// Tokens in a row that may be there once.
const RUN: usize = 3;

struct NoRepetition;

impl Filter for NoRepetition {
    fn apply(&self, candidates: &mut Candidates, history: History) {
        let last = &history.tokens[history.tokens.len().saturating_sub(RUN - 1)..];
        for run in history.tokens.windows(RUN) {
            if run.starts_with(last) {
                candidates.add(run[RUN - 1], -1e9);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().ok_or("expected a prompt")?;
    let mut decoder = Decoder::open(args.next().unwrap_or(EMBEDDED.into()))?;
    let mut tokens = decoder.tokens(&prompt);
    let (prompt, mut candidates) = (tokens.len(), Candidates::default());
    for _ in 0..64 {
        let logits = decoder.logits(&tokens)?;
        candidates.fill(&logits[logits.len() - decoder.spec().vocab_size..]);
        NoRepetition.apply(&mut candidates, History { tokens: &tokens, prompt });
        let id = candidates.best().id;
        if decoder.tokenizer().is_eog(id) {
            break;
        }
        tokens.push(id);
    }
    println!("{}", decoder.tokenizer().decode(&tokens));
    Ok(())
}
