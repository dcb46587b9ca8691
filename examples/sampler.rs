//! A custom filter: `cargo run --release --example sampler -- "Once upon a time"`, with the path of a model after it, if any.
//!
//! A [`Filter`] changes what may be sampled. This one forbids repeating any run of three tokens, as `no_repeat_ngram_size=3` does in
//! transformers. As a row of `FILTERS` in the engine it would have a flag; here it goes with a request.

use trine::engine::Error;
use trine::engine::sample::{Candidates, Filter, History};
use trine::prelude::*;

/// Tokens in a row that may occur once.
const RUN: usize = 3;

struct NoRepetition;

impl Filter for NoRepetition {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        let last = &history.tokens[history.tokens.len().saturating_sub(RUN - 1)..];
        for run in history.tokens.windows(RUN) {
            if run.starts_with(last) {
                candidates.add(run[RUN - 1], -1e9);
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().ok_or("expected a prompt")?;
    let mut llm = Llm::open(args.next().unwrap_or(EMBEDDED.into()))?;
    let sampling = Sampling { max_tokens: Some(64), ..Sampling::greedy() };
    let request = Request { filters: vec![Box::new(NoRepetition)], ..Request::new(prompt.clone(), sampling) };
    println!("{prompt}{}", llm.submit(request)?.answer()?.text);
    Ok(())
}
