//! Layers with a window keep what is in it, and every answer has the bits of a cache that keeps everything.

mod golden;

use golden::{folder, open, prompts};
use std::collections::HashMap;
use std::ops::ControlFlow;
use trine_backend::CacheType;
use trine_engine::{BLOCK_LEN, DiskCacheOptions, Engine, EngineOptions, EventKind, Request, Sampling, SeqId, Usage};
use trine_model::Workload;

/// Golden models with a window of 16 tokens, in some layers or in all.
const MODELS: [&str; 7] = ["gemma2", "gemma3", "cohere2", "gpt-oss", "ministral", "mistral", "phi-window"];

const CONTEXT: usize = 128;

/// Small chunks, so that windows are much less than the context.
fn options() -> EngineOptions {
    EngineOptions { context: Some(CONTEXT), max_sequences: 3, prefill_chunk: 16, ..EngineOptions::default() }
}

/// A chunk of a whole context leaves nothing before a window.
fn whole() -> EngineOptions {
    EngineOptions { max_sequences: 1, prefill_chunk: CONTEXT, ..options() }
}

fn request(name: &str, tokens: usize, answer: usize) -> Request {
    let ids = prompts(name)[0].0.iter().copied().cycle().take(tokens).collect::<Vec<_>>();
    let sampling = Sampling { max_tokens: Some(answer), ignore_eos: true, logprobs: Some(0), ..Sampling::greedy() };
    Request::new(ids, sampling)
}

/// The tokens of each answer with the bits of their log probabilities, and what it took.
fn run(engine: &mut Engine, requests: Vec<Request>) -> Vec<(Vec<(u32, u64)>, Usage)> {
    let ids: Vec<SeqId> = requests.into_iter().map(|request| engine.submit(request).unwrap()).collect();
    let mut answers: HashMap<SeqId, (Vec<(u32, u64)>, Usage)> = HashMap::new();
    while !engine.is_idle() {
        engine.step(&mut |event| {
            let (tokens, took) = answers.entry(event.sequence).or_default();
            match event.kind {
                EventKind::Token { id, logprob, .. } => tokens.push((id, logprob.unwrap().to_bits())),
                EventKind::Finished { usage, .. } => *took = usage,
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
            }
            ControlFlow::Continue(())
        });
    }
    ids.iter().map(|id| answers.remove(id).unwrap()).collect()
}

/// Prompts of one beginning, up to several windows long.
fn requests(name: &str) -> Vec<Request> {
    [(100, 20), (5, 100), (70, 40), (33, 60), (100, 28), (17, 3), (64, 64)]
        .map(|(tokens, answer)| request(name, tokens, answer))
        .into()
}

#[test]
fn answers_do_not_depend_on_what_is_before_the_window() {
    for name in MODELS {
        let mut all = open(&folder(name), 1, &whole()).unwrap();
        let expected: Vec<_> =
            requests(name).into_iter().map(|request| run(&mut all, vec![request])[0].0.clone()).collect();
        let work = Workload { context: CONTEXT, sequences: 1, batch: 16, cache_type: CacheType::F32, headless: false };
        let mut bytes = Vec::new();
        // Room for all, and for hardly more than one.
        for more in [None, Some(0), Some(4)] {
            let cache_bytes = more.map(|more| {
                let mut blocks = work.sequence_blocks(all.spec());
                assert!(blocks.window < blocks.full, "{name}");
                blocks.full += more;
                blocks.window += more;
                all.runner().kv_shape(blocks, CacheType::F32).bytes().unwrap()
            });
            let mut engine = open(&folder(name), 1, &EngineOptions { cache_bytes, ..options() }).unwrap();
            let found = run(&mut engine, requests(name));
            for (i, ((found, _), expected)) in found.iter().zip(&expected).enumerate() {
                assert!(found == expected, "{name}, {more:?}: answer {i}");
            }
            assert_eq!(engine.load().used_blocks, 0);
            bytes.push(engine.runner().memory().kv_caches);
        }
        let uniform = all.runner().memory().kv_caches * 3;
        assert!(bytes[0] < uniform && bytes[1] < bytes[2] && bytes[2] < bytes[0], "{name}: {bytes:?} of {uniform}");
    }
}

#[test]
fn a_beginning_is_found_as_long_as_its_last_window_is_there() {
    for name in MODELS {
        let mut engine = open(&folder(name), 1, &options()).unwrap();
        let cached =
            |engine: &mut Engine, tokens, answer| run(engine, vec![request(name, tokens, answer)])[0].1.cached_tokens;
        assert_eq!(cached(&mut engine, 64, 1), 0, "{name}");
        assert_eq!(cached(&mut engine, 96, 20), 64, "{name}");
        assert_eq!(cached(&mut engine, 64, 1), 48, "{name}: all but the block of the last token");
        // Other texts take its blocks.
        for start in 0..3 {
            let tokens: Vec<u32> = (0..100).map(|i| 3 + start + i % 7).collect();
            run(&mut engine, vec![Request { ..Request::new(tokens, request(name, 1, 20).sampling) }]);
        }
        assert_eq!(cached(&mut engine, 64, 1), 0, "{name}");
    }
}

#[test]
fn a_long_answer_takes_its_own_blocks_and_not_those_of_a_beginning() {
    let options = EngineOptions { context: Some(1024), max_sequences: 1, ..options() };
    let mut engine = open(&folder("gpt-oss"), 1, &options).unwrap();
    let mut cached = |answer| run(&mut engine, vec![request("gpt-oss", 50, answer)])[0].1.cached_tokens;
    assert_eq!([cached(500), cached(500), cached(1)], [0, 48, 48]);
}

#[test]
fn windows_are_read_from_the_disk() {
    for name in MODELS {
        let cache = tempfile::tempdir().unwrap();
        let disk_cache = Some(DiskCacheOptions::new(cache.path(), [7; 32]));
        let options = EngineOptions { disk_cache, ..options() };
        let once = || {
            let mut engine = open(&folder(name), 1, &options).unwrap();
            let found = run(&mut engine, vec![request(name, 100, 20)]).remove(0);
            (found, engine.load().prefix_cache.loaded, engine.close_disk_cache())
        };
        let ((expected, _), ..) = once();
        let ((found, usage), loaded, problem) = once();
        assert_eq!((usage.cached_tokens, loaded, problem), (96, 96, None), "{name}");
        assert!(found == expected && 96 % BLOCK_LEN == 0, "{name}");
    }
}
