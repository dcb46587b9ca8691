//! Text to tokens and back, in bytes of text per second: the small golden tokenizer, and the real vocabularies of the shared data where that is.

#[path = "../tests/common/mod.rs"]
mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use trine_text::Tokenizer;

/// Bytes of text, about.
const LEN: usize = 1 << 18;

/// Words of syllables, short ones more often, with the punctuation, numbers and letters beyond ASCII that text has.
fn text() -> String {
    const SYLLABLES: [&str; 24] = [
        "the", "a", "in", "er", "on", "re", "at", "ing", "st", "en", "al", "or", "to", "is", "con", "ver", "ment",
        "li", "ty", "com", "pro", "é", "ß", "ю",
    ];
    let mut state = 1u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let mut text = String::new();
    while text.len() < LEN {
        for _ in 0..=below(4).min(below(4)) {
            text.push_str(SYLLABLES[below(24).min(below(24)) as usize]);
        }
        match below(40) {
            0 => text.push_str(". "),
            1 => text.push_str(",\n"),
            2 => text.push_str(&format!(" {} ", below(100_000))),
            3 => text.push_str(" 日本 "),
            _ => text.push(' '),
        }
    }
    text
}

fn tokenizers(criterion: &mut Criterion) {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models/llama/tokenizer.json");
    let golden = std::fs::read(golden).expect("a golden tokenizer");
    let golden = ("golden", Tokenizer::from_json(&golden, None).expect("a golden tokenizer"));
    let text = text();
    for (name, tokenizer) in [golden].into_iter().chain(common::algorithms()).chain(common::tokenizers()) {
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(10);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("encode", |bencher| bencher.iter(|| tokenizer.encode(black_box(&text), common::PLAIN)));
        let ids = tokenizer.encode(&text, common::PLAIN);
        group.bench_function("decode", |bencher| bencher.iter(|| tokenizer.decode(black_box(&ids))));
    }
}

criterion_group!(benches, tokenizers);
criterion_main!(benches);
