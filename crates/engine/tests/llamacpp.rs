//! Filters leave what llama.cpp's samplers leave (`golden/samplers.py`).

mod tokenizer;

use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;
use trine_engine::Sampling;
use trine_engine::sample::{Candidates, FILTERS, Filter, History};

use tokenizer::TOKENIZER;

#[derive(Deserialize)]
struct Golden {
    chains: Vec<Case>,
    dry: Vec<Dry>,
    mirostat: Vec<Mirostat>,
    defaults: Map<String, Value>,
    order: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    options: Sampling,
    logits: Vec<f32>,
    tokens: Vec<u32>,
    probabilities: Vec<(u32, f64)>,
}

#[derive(Deserialize)]
struct Dry {
    options: Sampling,
    tokens: Vec<u32>,
    zeros: usize,
    logits: Vec<(u32, f64)>,
}

#[derive(Deserialize)]
struct Mirostat {
    options: Sampling,
    draws: Vec<Draw>,
}

#[derive(Deserialize)]
struct Draw {
    logits: Vec<f32>,
    kept: Vec<u32>,
    drawn: u32,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/samplers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The filters of a request.
fn filters(sampling: &Sampling) -> Vec<Box<dyn Filter>> {
    sampling.check().unwrap();
    FILTERS.iter().filter_map(|row| (row.build)(sampling, &TOKENIZER)).collect()
}

/// What they leave of logits after these tokens: logits by id.
fn left(filters: &mut [Box<dyn Filter>], logits: &[f32], tokens: &[u32]) -> Vec<(u32, f64)> {
    let mut candidates = Candidates::default();
    candidates.fill(logits);
    filters.iter_mut().for_each(|filter| filter.apply(&mut candidates, History { tokens, prompt: 0 }).unwrap());
    let mut left: Vec<_> = candidates.items().iter().map(|item| (item.id, item.logit)).collect();
    left.sort_by_key(|(id, _)| *id);
    left
}

fn ids<T>(items: &[(u32, T)]) -> Vec<u32> {
    items.iter().map(|(id, _)| *id).collect()
}

#[test]
fn chains_leave_the_distributions_of_llamacpp() {
    for Case { options, logits, tokens, probabilities } in golden().chains {
        let found = left(&mut filters(&options), &logits, &tokens);
        assert_eq!(ids(&found), ids(&probabilities), "{options:?}");
        let most = found.iter().fold(f64::NEG_INFINITY, |most, (_, logit)| most.max(*logit));
        let total: f64 = found.iter().map(|(_, logit)| (logit - most).exp()).sum();
        for ((_, logit), (id, p)) in found.iter().zip(probabilities) {
            let found = (logit - most).exp() / total;
            assert!((found - p).abs() < 1e-5 * p.max(1e-3), "{options:?}: token {id} has {found}, expected {p}");
        }
    }
}

#[test]
fn dry_penalizes_as_llamacpp() {
    for Dry { options, tokens, zeros, logits } in golden().dry {
        let found = left(&mut filters(&options), &vec![0.0; zeros], &tokens);
        let found: Vec<_> = found.into_iter().filter(|(_, logit)| *logit != 0.0).collect();
        assert_eq!(ids(&found), ids(&logits), "{options:?} {tokens:?}");
        for ((_, found), (id, logit)) in found.iter().zip(&logits) {
            assert!(
                (found - logit).abs() < 1e-5 * logit.abs(),
                "{options:?}: token {id} has {found}, expected {logit}"
            );
        }
    }
}

#[test]
fn mirostat_keeps_what_llamacpp_keeps_after_each_draw() {
    for Mirostat { options, draws } in golden().mirostat {
        let mut filters = filters(&options);
        for (i, Draw { logits, kept, drawn }) in draws.iter().enumerate() {
            assert_eq!(ids(&left(&mut filters, logits, &[])), *kept, "{options:?}, draw {i}");
            filters.iter_mut().for_each(|filter| filter.accept(*drawn));
        }
    }
}

#[test]
fn order_and_defaults_are_those_of_llamacpp() {
    let golden = golden();
    let names = golden.order.iter().flat_map(|name| match name.as_str() {
        "penalties" => &["repetition", "occurrence"][..],
        "typ_p" => &["typical"],
        _ => std::slice::from_ref(FILTERS.iter().map(|row| &row.name).find(|known| *known == name).unwrap()),
    });
    let others = ["thinking_budget", "min_tokens", "bad_words", "logit_bias", "mirostat"];
    let known = FILTERS.iter().map(|row| row.name).filter(|name| !others.contains(name));
    assert_eq!(known.collect::<Vec<_>>(), names.copied().collect::<Vec<_>>());
    let own = serde_json::to_value(Sampling::default()).unwrap();
    for (name, value) in golden.defaults {
        assert_eq!(own[&name].as_f64(), value.as_f64(), "{name}");
    }
}
