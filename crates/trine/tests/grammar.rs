//! Answers of the embedded model that keep to a grammar.

use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use trine::engine::sample::{Chain, History};
use trine::engine::{EngineOptions, EventKind};
use trine::grammar::{Grammar, Limits, Vocabulary};
use trine::prelude::*;

const PROMPT: &str = "Once upon a time";

fn request(prompt: &str, grammar: &Grammar, sampling: &Sampling) -> Request {
    Request { filters: vec![grammar.filter()], ..Request::new(prompt, sampling.clone()) }
}

/// The schemas, seeds and texts of `golden/schemas.json`, whose texts PyPI `jsonschema` validated.
fn golden() -> Vec<(String, u64, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/schemas.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let row = |row: &Value| {
        let text = row["text"].as_str().unwrap().to_owned();
        (row["schema"].to_string(), row["seed"].as_u64().unwrap(), text)
    };
    golden.as_array().unwrap().iter().map(row).collect()
}

fn sampling(seed: u64) -> Sampling {
    Sampling { seed: Some(seed), max_tokens: Some(400), ..Sampling::preset("balanced").unwrap() }
}

#[test]
fn answers_are_those_that_were_validated_with_any_neighbours_and_threads() {
    let golden = golden();
    assert!(golden.len() > 20);
    for (threads, max_sequences) in [(1, 1), (2, 5)] {
        let mut options = Options::default();
        options.device.cpu.threads = threads;
        options.engine = EngineOptions { max_sequences, ..options.engine };
        let llm = Options::open(&options, EMBEDDED).unwrap();
        let grammars: Vec<Grammar> =
            golden.iter().map(|(schema, ..)| llm.grammar(&Constraint::JsonSchema(schema.clone())).unwrap()).collect();
        let (mut engine, _) = llm.into_parts();
        let mut texts = BTreeMap::new();
        for (grammar, (_, seed, expected)) in grammars.iter().zip(&golden) {
            let id = engine.submit(request(PROMPT, grammar, &sampling(*seed))).unwrap();
            texts.insert(id, (String::new(), expected));
        }
        while !engine.is_idle() {
            // Half of them get proposals, mostly wrong ones.
            if max_sequences > 1 {
                for (i, &id) in texts.keys().enumerate().filter(|(i, _)| i % 2 == 0) {
                    engine.propose(id, &[i as u32 % 300 + 5, 10, 20]).unwrap();
                }
            }
            engine.step(&mut |event| {
                match event.kind {
                    EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                    EventKind::Token { text, .. } => texts.get_mut(&event.sequence).unwrap().0.push_str(text),
                    EventKind::Finished { finish_reason, .. } => {
                        assert!(matches!(finish_reason, FinishReason::EndToken), "{finish_reason:?}")
                    }
                }
                ControlFlow::Continue(())
            });
        }
        for (text, expected) in texts.values() {
            assert_eq!(text, *expected, "{threads} threads, {max_sequences} sequences");
        }
    }
}

#[test]
fn the_distribution_is_the_models_renormalized() {
    const DRAWS: usize = 20_000;
    let llm = Llm::embedded().unwrap();
    let grammar =
        llm.grammar(&Constraint::Regex(" (the|a|an|one|there|little|Lily|Tom|in|was)[a-z ]*\\.".to_owned())).unwrap();
    let ids = llm.tokens(PROMPT);
    let rows = Decoder::open(EMBEDDED).unwrap().logits(&ids).unwrap();
    let logits = &rows[rows.len() - rows.len() / ids.len()..];
    // What is allowed is what may begin such a text.
    let starts = [" the", " a", " an", " one", " there", " little", " Lily", " Tom", " in", " was"];
    let allowed = |id: &u32| {
        let piece = llm.tokenizer().piece(*id).unwrap_or_default();
        let continues = |start: &&str| {
            let more = piece.strip_prefix(start.as_bytes());
            more.is_some_and(|more| more.iter().all(|b| b.is_ascii_lowercase() || *b == b' '))
                || start.as_bytes().starts_with(piece)
        };
        !piece.is_empty() && !llm.tokenizer().is_control(*id) && starts.iter().any(continues)
    };
    let ids: Vec<u32> = (0..llm.tokenizer().len() as u32).filter(allowed).collect();
    let weight = |id: u32| f64::from(logits[id as usize]).exp();
    let total: f64 = ids.iter().map(|&id| weight(id)).sum();
    let (engine, _) = llm.into_parts();
    let sampling = Sampling { temperature: 1.0, seed: Some(3), ..Sampling::default() };
    let mut chain = Chain::new(&sampling, vec![grammar.filter()], engine.tokenizer(), 0).unwrap();
    let (mut counts, tokens): (BTreeMap<u32, u64>, Vec<u32>) = (BTreeMap::new(), vec![0; DRAWS]);
    for position in 0..DRAWS {
        let history = History { tokens: &tokens[..position], prompt: position };
        *counts.entry(chain.sample(logits, history).unwrap().id).or_default() += 1;
    }
    assert!(counts.keys().all(|id| ids.contains(id)));
    // Tokens of which fewer than five are expected count as one.
    let (mut chi2, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for &id in &ids {
        let expected = weight(id) / total * DRAWS as f64;
        let found = counts.get(&id).map_or(0.0, |&n| n as f64);
        if expected < 5.0 {
            rare = (rare.0 + expected, rare.1 + found);
        } else {
            chi2 += (found - expected).powi(2) / expected;
            cells += 1;
        }
    }
    if rare.0 > 0.0 {
        chi2 += (rare.1 - rare.0).powi(2) / rare.0;
        cells += 1;
    }
    // The 99.9 % quantile, by Wilson and Hilferty.
    let df = f64::from(cells - 1);
    let most = df * (1.0 - 2.0 / (9.0 * df) + 3.09 * (2.0 / (9.0 * df)).sqrt()).powi(3);
    assert!(cells > 5 && chi2 < most, "{counts:?}: chi2 {chi2} of {df} degrees of freedom, expected below {most}");
}

#[test]
fn without_a_mask_the_request_ends_with_an_error() {
    let mut llm = Llm::embedded().unwrap();
    let vocabulary = Vocabulary::new(llm.tokenizer()).unwrap();
    let constraint = Constraint::Lark("start: word (\" \" word)*\nword: \"a\" | \"b\" word\n".to_owned());
    let limits = Limits { mask_items: 10, ..Limits::default() };
    let grammar = Grammar::with_limits(&vocabulary, &constraint, &limits).unwrap();
    let error = llm.submit(request(PROMPT, &grammar, &sampling(1))).unwrap().answer().unwrap_err();
    assert!(error.to_string().contains("mask_items"), "{error}");
    // Others go on.
    assert!(llm.generate(PROMPT, &Sampling { max_tokens: Some(4), ..Sampling::greedy() }).is_ok());
}
