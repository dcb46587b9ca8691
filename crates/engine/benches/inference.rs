//! The embedded model as an engine runs it: how long one answer takes, and a hundred that were asked at once. Elements are tokens of answers, of which
//! each takes one pass; in a ternary layer, each pass multiplies by seven matrices.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::ops::ControlFlow;
use std::time::Duration;
use trine_engine::{Engine, EngineOptions, EventKind, Request, Sampling};
use trine_model::{DeviceOptions, EMBEDDED, Language, ModelOptions, load, open_file};

/// Tokens of an answer.
const TOKENS: usize = 32;

fn engine(sequences: usize) -> Engine {
    let file = open_file(EMBEDDED, &Default::default()).expect("a part of the program");
    let tokenizer = Language::of(&file).expect("its tokenizer").tokenizer;
    let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut |_| ControlFlow::Continue(()));
    let options = EngineOptions { max_sequences: sequences, context: Some(64), ..EngineOptions::default() };
    Engine::new(runner.expect("a CPU"), tokenizer.into(), &options).expect("room for it")
}

/// Answers so many requests at once; how many tokens they got.
fn answer(engine: &mut Engine, requests: usize) -> usize {
    let sampling = Sampling { max_tokens: Some(TOKENS), ignore_eos: true, ..Sampling::greedy() };
    for _ in 0..requests {
        engine.submit(Request::new("Once upon a time", sampling.clone())).expect("a request like any other");
    }
    let mut tokens = 0;
    while !engine.is_idle() {
        engine.step(&mut |event| {
            tokens += usize::from(matches!(event.kind, EventKind::Token { .. }));
            ControlFlow::Continue(())
        });
    }
    tokens
}

fn inference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inference_performance");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, requests, at_once) in [("latency", 1, 1), ("100_requests", 100, 16), ("100_requests", 100, 100)] {
        let mut engine = engine(at_once);
        group.throughput(Throughput::Elements((requests * TOKENS) as u64));
        group.bench_function(BenchmarkId::new(name, format!("{at_once} at once")), |bencher| {
            bencher.iter(|| assert_eq!(answer(&mut engine, requests), requests * TOKENS));
        });
    }
}

criterion_group!(benches, inference);
criterion_main!(benches);
