//! A benchmark of one's own: `cargo run --release --example benchmark`, with the path of a model after it, if any.
//!
//! A [`Subject`] is what `measure` runs and times in turn with others: here, sampling from the whole vocabulary beside greedy decoding. It
//! keeps a metric of its own, the time until the first token.

use std::ops::ControlFlow;
use std::time::Instant;
use trine::prelude::*;
use trine_lab::bench::{self, Kind, Limits, Outcome, Run, Samples, Subject, Test, Versus, measure, median_interval};

/// A model, how it chooses tokens, and the metric.
struct Generation {
    name: &'static str,
    llm: Llm,
    sampling: Sampling,
    first_token: Vec<f64>,
}

impl Subject for Generation {
    fn run(&mut self, test: Test) -> Result<Run, bench::Error> {
        let failed = |error: Error| bench::Error::Peer { peer: self.name.to_owned(), problem: error.to_string() };
        let sampling = Sampling { max_tokens: Some(test.tokens), ignore_eos: true, ..self.sampling.clone() };
        let start = Instant::now();
        let mut times = Vec::new();
        for token in self.llm.stream("Once upon a time", &sampling).map_err(failed)? {
            token.map_err(failed)?;
            times.push(start.elapsed().as_secs_f64());
        }
        self.first_token.extend(times.first());
        let passes = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Ok(Run { seconds: start.elapsed().as_secs_f64(), passes, counts: None })
    }

    fn can(&self, test: Test) -> bool {
        test.kind == Kind::Decode && test.sequences == 1
    }

    fn is_here(&self) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).filter(|path| !path.starts_with('-')).unwrap_or(EMBEDDED.into());
    let generation = |name, sampling| -> Result<Generation, Error> {
        Ok(Generation { name, llm: Llm::open(&path)?, sampling, first_token: Vec::new() })
    };
    let sampled = Sampling { temperature: 1.0, ..Sampling::greedy() };
    let (mut greedy, mut sampled) = (generation("greedy", Sampling::greedy())?, generation("sampled", sampled)?);
    let test = Test { kind: Kind::Decode, tokens: 32, sequences: 1, depth: 0 };
    let mut go_on = |_, _| ControlFlow::Continue(());
    let samples: Vec<Samples> =
        measure(&mut [&mut greedy, &mut sampled], &[test], 6, &mut || None, &mut go_on)?.concat();

    for (subject, samples) in [&greedy, &sampled].into_iter().zip(&samples) {
        let speed = Outcome::of(test, samples.clone(), None, &Limits::default()).ok_or("expected runs")?;
        let wait = median_interval(&subject.first_token).ok_or("expected tokens")?;
        let (median, low, high) = (speed.tokens_per_second, speed.low, speed.high);
        println!("{:8} {median:.0} tokens/s [{low:.0} to {high:.0}]", subject.name);
        println!("{:8} {:.2} ms to the first token", "", 1e3 * wait.median);
    }
    let versus = Versus::of(test, &samples[0], &samples[1], bench::FOREIGN).ok_or("expected runs")?;
    match versus.ratio.zip(versus.p) {
        Some((ratio, p)) => println!("greedy is {ratio:.2} times as fast (p = {p:.3})"),
        None => println!("the machine is too busy to tell which is faster"),
    }
    Ok(())
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
