//! Picking a token among 128,256.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use trine_engine::Sampling;
use trine_engine::sample::{Chain, History};

/// Llama 3's.
const VOCAB: usize = 128_256;

/// Logits as models have them: near a normal distribution, a few far above the others.
fn logits() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut logits: Vec<f32> = (0..VOCAB).map(|_| 4.0 * (0..4).map(|_| uniform()).sum::<f32>()).collect();
    (0..50).for_each(|i| logits[i * 2_477] = 14.0 - i as f32 * 0.2);
    logits
}

fn sampling(criterion: &mut Criterion) {
    let logits = logits();
    let history: Vec<u32> = (0..1024).map(|i| i * 97 % VOCAB as u32).collect();
    let all = Sampling {
        temperature: 0.8,
        top_k: 100,
        top_p: 0.95,
        min_p: 0.02,
        typical_p: 0.98,
        repetition_penalty: 1.1,
        frequency_penalty: 0.1,
        presence_penalty: 0.1,
        ..Sampling::default()
    };
    let usual = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Sampling::default() };
    let cases = [
        ("argmax", Sampling::greedy()),
        ("temperature", Sampling::default()),
        ("top-k 40", Sampling { top_k: 40, ..Sampling::default() }),
        ("top-p 0.95", Sampling { top_p: 0.95, ..Sampling::default() }),
        ("min-p 0.05", Sampling { min_p: 0.05, ..Sampling::default() }),
        ("typical 0.95", Sampling { typical_p: 0.95, ..Sampling::default() }),
        ("top-k 40, top-p 0.95, min-p 0.05, temperature 0.8", usual),
        ("all filters", all.clone()),
        ("all filters, 20 logprobs", Sampling { logprobs: Some(20), ..all }),
    ];
    let file = trine_model::open_file(trine_model::EMBEDDED, &Default::default()).expect("a model in the program");
    let tokenizer = Arc::new(trine_model::Language::of(&file).expect("with a tokenizer").tokenizer);
    let mut group = criterion.benchmark_group("128256 tokens");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for (name, sampling) in cases {
        let mut chain = Chain::new(&sampling, Vec::new(), &tokenizer, 1).expect("options in their ranges");
        let history = History { tokens: &history, prompt: 512 };
        group.bench_function(name, |bencher| {
            bencher.iter(|| chain.sample(black_box(&logits), history).expect("finite logits").id)
        });
    }
    group.finish();
}

criterion_group!(benches, sampling);
criterion_main!(benches);
