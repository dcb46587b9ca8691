//! What is answered does not depend on what else the engine does, and every answer ends as it should.

mod golden;

use golden::{folder, open, prompts};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use trine_engine::sample::{Candidates, Filter, History, Logprob};
use trine_engine::{
    Answer, BLOCK_LEN, Engine, EngineOptions, Error, EventKind, FinishReason, PrefixCache, Request, Sampling,
    Scheduling, SeqId, Usage,
};

/// A prompt and how to sample: what requests are made of.
type Ask = (Vec<u32>, Sampling);

/// An engine around a golden model.
fn engine(name: &str, options: &EngineOptions) -> Engine {
    open(&folder(name), 2, options).unwrap_or_else(|error| panic!("{error}"))
}

/// What a sequence said: tokens, the bits of their log probabilities and of the best five's, text, usage.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    tokens: Vec<u32>,
    logprobs: Vec<u64>,
    text: String,
    end: Option<(String, Usage)>,
}

/// Runs all requests together, and counts how often a sequence was sent back to wait.
fn run(engine: &mut Engine, requests: &[Ask]) -> (Vec<Said>, usize) {
    let submit = |(prompt, sampling): &Ask| engine.submit(Request::new(prompt.clone(), sampling.clone())).unwrap();
    let ids: Vec<SeqId> = requests.iter().map(submit).collect();
    let mut said: BTreeMap<SeqId, Said> = BTreeMap::new();
    let mut preempted = 0;
    while !engine.is_idle() {
        let waiting = engine.load().waiting;
        engine.step(&mut |event| {
            let said = said.entry(event.sequence).or_default();
            assert!(said.end.is_none(), "nothing follows the end");
            match event.kind {
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                EventKind::Token { id, text, logprob, top } => {
                    said.tokens.push(id);
                    said.text.push_str(text);
                    said.logprobs.extend(logprob.iter().chain(top.iter().map(|t| &t.logprob)).map(|l| l.to_bits()));
                }
                EventKind::Finished { finish_reason, usage, .. } => {
                    said.end = Some((format!("{finish_reason:?}"), usage))
                }
            }
            ControlFlow::Continue(())
        });
        preempted += usize::from(engine.load().waiting > waiting);
    }
    assert_eq!(engine.load().used_blocks, 0);
    (ids.iter().map(|id| said.remove(id).unwrap()).collect(), preempted)
}

/// An engine may move to a thread of its own.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Engine>();
};

/// Answers one request alone.
fn try_generate(engine: &mut Engine, prompt: &[u32], sampling: Sampling) -> Result<Answer, Error> {
    engine.submit(Request::new(prompt.to_vec(), sampling))?;
    let (mut text, mut tokens, mut end) = (String::new(), Vec::new(), None);
    while !engine.is_idle() {
        engine.step(&mut |event| {
            match event.kind {
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                EventKind::Token { id, text: more, .. } => {
                    tokens.push(id);
                    text.push_str(more);
                }
                EventKind::Finished { finish_reason, usage, timing, .. } => end = Some((finish_reason, usage, timing)),
            }
            ControlFlow::Continue(())
        });
    }
    match end.unwrap() {
        (FinishReason::Failed(error), ..) => Err(error),
        (finish_reason, usage, timing) => Ok(Answer { text, tokens, finish_reason, usage, timing }),
    }
}

fn generate(engine: &mut Engine, prompt: &[u32], sampling: Sampling) -> Answer {
    try_generate(engine, prompt, sampling).unwrap()
}

fn greedy(change: impl Fn(&mut Sampling)) -> Sampling {
    let mut sampling = Sampling { ignore_eos: true, ..Sampling::greedy() };
    change(&mut sampling);
    sampling
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    for name in ["llama", "llama3-rope", "qwen2", "qwen3", "bitnet", "bitnet-b1.58"] {
        let mut engine = engine(name, &EngineOptions::default());
        for (prompt, expected) in prompts(name) {
            let answer = generate(&mut engine, &prompt, greedy(|s| s.max_tokens = Some(expected.len())));
            assert_eq!(answer.tokens, expected, "{name}");
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_neighbours_chunks_cache_or_preemption() {
    for name in ["llama", "bitnet-b1.58"] {
        let prompts = prompts(name);
        let requests: Vec<Ask> = [(0, 41), (0, 33), (1, 27), (0, 32), (1, 1), (0, 16), (0, 41), (1, 17)]
            .into_iter()
            .enumerate()
            .map(|(i, (which, len))| {
                let preset = ["fast", "balanced", "quality"][i % 3];
                let sampling = Sampling {
                    seed: Some(i as u64),
                    logprobs: Some(5),
                    max_tokens: Some(40 + i),
                    ..Sampling::preset(preset).unwrap()
                };
                (prompts[which].0[..len].to_vec(), sampling)
            })
            .collect();
        let context = Some(96);
        let alone: Vec<Said> = (requests.iter())
            .map(|request| {
                let options = EngineOptions { context, ..EngineOptions::default() };
                run(&mut engine(name, &options), std::slice::from_ref(request)).0.remove(0)
            })
            .collect();
        let block = engine(name, &EngineOptions::default());
        let spec = block.spec();
        let block = spec.n_layers * spec.n_kv_heads * spec.head_dim * BLOCK_LEN * 8;
        let mut preempted = 0;
        for prefill_chunk in [1, 7, 16, 512] {
            for max_sequences in [1, 3, 8] {
                for blocks in [6, 11, 48] {
                    let cache_bytes = Some(blocks * block);
                    let sizes =
                        EngineOptions { context, max_sequences, prefill_chunk, cache_bytes, ..Default::default() };
                    let options = EngineOptions { seed: 9, ..sizes };
                    let mut engine = engine(name, &options);
                    for round in 0..2 {
                        let (said, times) = run(&mut engine, &requests);
                        preempted += times;
                        for (said, alone) in said.iter().zip(&alone) {
                            let (reason, usage) = said.end.as_ref().unwrap();
                            let (alone_reason, alone_usage) = alone.end.as_ref().unwrap();
                            let usage = Usage { cached_tokens: 0, ..*usage };
                            assert_eq!((reason, usage), (alone_reason, *alone_usage));
                            let differs = || format!("{name} round {round} {options:?}");
                            assert_eq!((&said.tokens, &said.text), (&alone.tokens, &alone.text), "{}", differs());
                            assert!(said.logprobs == alone.logprobs, "{}", differs());
                        }
                    }
                }
            }
        }
        assert!(preempted > 20, "small caches should make sequences wait, found {preempted} times");
    }
}

#[test]
fn sequences_with_a_long_beginning_in_common_have_the_bits_of_each_alone() {
    let options = EngineOptions { context: Some(1024), max_sequences: 8, ..EngineOptions::default() };
    let ids: Vec<u32> = prompts("gpt-oss")[0].0.iter().copied().cycle().take(800).collect();
    let requests: Vec<Ask> = [540, 545, 800, 300, 541, 700, 20, 560]
        .map(|tokens| (ids[..tokens].to_vec(), greedy(|s| (s.max_tokens, s.logprobs) = (Some(12), Some(3)))))
        .into();
    let alone: Vec<Said> = (requests.iter())
        .map(|request| run(&mut engine("gpt-oss", &options), std::slice::from_ref(request)).0.remove(0))
        .collect();
    let mut engine = engine("gpt-oss", &options);
    let mut cached = Vec::new();
    for _ in 0..2 {
        let (said, _) = run(&mut engine, &requests);
        cached = said.iter().map(|said| said.end.as_ref().unwrap().1.cached_tokens).collect();
        for (i, (said, alone)) in said.iter().zip(&alone).enumerate() {
            assert!((&said.tokens, &said.logprobs) == (&alone.tokens, &alone.logprobs), "answer {i}");
        }
    }
    assert!(cached.iter().filter(|&&cached| cached >= 512).count() >= 5, "{cached:?}");
}

#[test]
fn full_blocks_of_earlier_prompts_and_answers_are_found_again() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine("llama", &EngineOptions::default());
    let first = generate(&mut engine, &prompt, greedy(|s| s.max_tokens = Some(20)));
    assert_eq!(first.usage, Usage { prompt_tokens: 41, cached_tokens: 0, completion_tokens: 20 });
    let again = generate(&mut engine, &prompt, greedy(|s| s.max_tokens = Some(20)));
    assert_eq!(again.usage, Usage { prompt_tokens: 41, cached_tokens: 32, completion_tokens: 20 });
    assert_eq!(again.tokens, first.tokens);
    // The next turn of a chat; the last token of the answer was never run.
    let turn = [&prompt[..], &first.tokens, &[7, 8, 9]].concat();
    let cached = |prompt: &[u32], engine: &mut Engine| {
        generate(engine, prompt, greedy(|s| s.max_tokens = Some(1))).usage.cached_tokens
    };
    assert_eq!(cached(&turn, &mut engine), 48);
    // The last token always runs, also where all blocks are known.
    assert_eq!(cached(&prompt[..32], &mut engine), 16);
    assert_eq!(cached(&prompt[..33], &mut engine), 32);
    let mut other = prompt.clone();
    other[20] += 1;
    assert_eq!(cached(&other, &mut engine), 16);
}

#[test]
fn what_cannot_be_answered_is_refused_with_the_numbers() {
    let mut engine = engine("llama", &EngineOptions { context: Some(50), ..EngineOptions::default() });
    let mut refuse = |prompt: Vec<u32>, sampling: Sampling| {
        let error = engine.submit(Request::new(prompt, sampling)).unwrap_err().to_string();
        assert!(engine.is_idle());
        error
    };
    assert_eq!(refuse(vec![], greedy(|_| ())), "the prompt is empty: expected at least one token");
    assert_eq!(
        refuse(vec![3; 50], greedy(|_| ())),
        "the prompt of 50 tokens and at least one more do not fit into the context of 50 tokens"
    );
    assert_eq!(refuse(vec![3, 288], greedy(|_| ())), "prompt[1]: token 288 is not one of the model's 288");
    let biased = greedy(|s| s.logit_bias = [(300, 1.0)].into());
    assert_eq!(refuse(vec![3], biased), "logit_bias: token 300 is not one of the model's 288");
    assert_eq!(refuse(vec![3], greedy(|s| s.top_p = 7.0)), "top_p = 7: expected a number from 0 to 1");

    let refused = |options: EngineOptions| open(&folder("llama"), 2, &options).err().unwrap();
    let base = EngineOptions::default;
    assert!(matches!(
        refused(EngineOptions { context: Some(129), ..base() }),
        Error::Context { asked: 129, most: 128 }
    ));
    assert!(matches!(refused(EngineOptions { context: Some(0), ..base() }), Error::Context { asked: 0, .. }));
    assert!(matches!(refused(EngineOptions { max_sequences: 0, ..base() }), Error::Zero { field: "max_sequences" }));
    assert!(matches!(refused(EngineOptions { prefill_chunk: 0, ..base() }), Error::Zero { .. }));
    let few = refused(EngineOptions { max_batch_tokens: Some(3), max_sequences: 4, ..base() });
    assert_eq!(few.to_string(), "max_batch_tokens = 3: expected at least 4, a token for each sequence");
    assert!(matches!(refused(EngineOptions { max_sequences: usize::MAX, ..base() }), Error::CacheTooLarge { .. }));
    let small = EngineOptions { cache_bytes: Some(65535), ..base() };
    assert!(matches!(refused(small), Error::CacheTooSmall { bytes: 65535, needed: 65536 }));
    open(&folder("llama"), 2, &EngineOptions { cache_bytes: Some(65536), ..base() }).unwrap();
}

#[test]
fn an_answer_ends_at_its_length_the_context_or_the_models_end() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine("llama", &EngineOptions { context: Some(50), ..EngineOptions::default() });
    for (max_tokens, expected) in [(Some(1), 1), (Some(8), 8), (Some(9), 9), (Some(usize::MAX), 9), (None, 9)] {
        let answer = generate(&mut engine, &prompt, greedy(|s| s.max_tokens = max_tokens));
        match max_tokens {
            Some(1..=9) => assert!(matches!(answer.finish_reason, FinishReason::MaxTokens)),
            _ => assert!(matches!(answer.finish_reason, FinishReason::ContextFull)),
        }
        assert_eq!((answer.tokens.len(), answer.usage.completion_tokens), (expected, expected));
    }
    // EOS is made certain.
    let eos = |s: &mut Sampling| s.logit_bias = [(1, 100.0)].into();
    let answer = generate(&mut engine, &prompt, Sampling { ignore_eos: false, ..greedy(eos) });
    assert!(matches!(answer.finish_reason, FinishReason::EndToken));
    assert_eq!((&answer.tokens[..], &*answer.text), (&[1][..], ""));
    let answer = generate(&mut engine, &prompt, greedy(eos));
    assert!(matches!(answer.finish_reason, FinishReason::ContextFull));
    assert_eq!((&answer.tokens[..], &*answer.text), (&[1; 9][..], ""));
    // The names of control tokens are text where they are not skipped, but not that of the token that ends the answer.
    let name = engine.tokenizer().name(1).unwrap().to_owned();
    let named = Sampling { skip_special_tokens: false, ..greedy(eos) };
    assert_eq!(generate(&mut engine, &prompt, named.clone()).text, name.repeat(9));
    let answer = generate(&mut engine, &prompt, Sampling { ignore_eos: false, ..named });
    assert_eq!((&answer.tokens[..], &*answer.text), (&[1][..], ""));
}

#[test]
fn an_answer_ends_at_a_stop_token_and_not_before_it_has_min_tokens() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine("llama", &EngineOptions::default());
    let whole = generate(&mut engine, &prompt, greedy(|s| s.max_tokens = Some(20)));
    let at = (1..20).find(|&at| !whole.tokens[..at].contains(&whole.tokens[at])).unwrap();
    let end = whole.tokens[at];
    let mut with = |change: &dyn Fn(&mut Sampling)| {
        let sampling = greedy(|s| (s.max_tokens, s.stop_token_ids) = (Some(20), vec![end]));
        generate(&mut engine, &prompt, {
            let mut sampling = sampling;
            change(&mut sampling);
            sampling
        })
    };
    let answer = with(&|_| ());
    assert!(matches!(answer.finish_reason, FinishReason::StopToken));
    assert_eq!(answer.finish_reason.name(), "stop");
    assert_eq!((&answer.tokens[..], &answer.text), (&whole.tokens[..=at], &decode(&whole.tokens[..at], "llama")));
    // It may come as the token after those.
    assert_eq!(with(&|s| s.min_tokens = at).tokens, answer.tokens);
    let longer = with(&|s| s.min_tokens = at + 3).tokens;
    assert!(longer.len() > at + 3 && !longer[..at + 3].contains(&end) && longer[..at] == whole.tokens[..at]);
    // Of a certain end token and of stop strings, the first that may is the end.
    let stop = whole.text[..1].to_owned();
    for least in 1..5 {
        let sampling = greedy(|s| (s.max_tokens, s.min_tokens) = (Some(20), least));
        let eos = Sampling { ignore_eos: false, logit_bias: [(1, 100.0)].into(), ..sampling.clone() };
        assert_eq!(generate(&mut engine, &prompt, eos).tokens.len(), least + 1);
        let answer = generate(&mut engine, &prompt, Sampling { stop: vec![stop.clone()], ..sampling });
        assert!(answer.tokens.len() > least && whole.tokens.starts_with(&answer.tokens));
        assert!(answer.text.starts_with(&decode(&whole.tokens[..least], "llama")));
    }
    let beyond = Sampling { stop_token_ids: vec![u32::MAX], ..Sampling::default() };
    let error = engine.submit(Request::new(prompt, beyond)).unwrap_err().to_string();
    assert!(error.starts_with("stop_token_ids: token 4294967295 is not one of"), "{error}");
}

/// The log probabilities of a prompt's tokens by definition: what is sampled after each beginning of it.
fn prompt_logprobs(prompt: &[u32]) -> Vec<(u32, Option<f64>, Vec<Logprob>)> {
    let mut engine = engine("llama", &EngineOptions::default());
    let mut all = vec![(prompt[0], None, Vec::new())];
    for len in 1..prompt.len() {
        let sampling = greedy(|s| (s.max_tokens, s.logprobs) = (Some(1), Some(20)));
        let exact = greedy(|s| (s.max_tokens, s.logprobs) = (Some(1), Some(2)));
        let forced = Sampling { logit_bias: [(prompt[len], 100.0)].into(), ..sampling };
        let (mut logprob, mut top) = (None, Vec::new());
        for (sampling, ours) in [(forced, true), (exact, false)] {
            engine.submit(Request::new(prompt[..len].to_vec(), sampling)).unwrap();
            while !engine.is_idle() {
                engine.step(&mut |event| {
                    if let EventKind::Token { id, logprob: Some(found), top: best, .. } = event.kind {
                        match ours {
                            true => (assert_eq!(id, prompt[len]), logprob = Some(found)).0,
                            false => top = best.to_vec(),
                        }
                    }
                    ControlFlow::Continue(())
                });
            }
        }
        all.push((prompt[len], logprob, top));
    }
    all
}

#[test]
fn tokens_of_the_prompt_are_reported_with_the_bits_of_any_chunks_and_cache() {
    let (prompt, _) = prompts("llama").remove(0);
    let prompt = [&prompt[..], &prompt[..], &prompt[..]].concat()[..45].to_vec();
    let expected = prompt_logprobs(&prompt);
    let answer = greedy(|s| s.max_tokens = Some(4));
    for (prefill_chunk, max_sequences) in [(512, 4), (7, 4), (16, 1), (1, 4)] {
        let options = EngineOptions { prefill_chunk, max_sequences, ..EngineOptions::default() };
        let mut engine = engine("llama", &options);
        // The second finds the prompt in the cache; the third is computed beside another.
        let plain = generate(&mut engine, &prompt, answer.clone());
        let ask = Sampling { prompt_logprobs: Some(2), ..answer.clone() };
        for together in [1, 1, 3] {
            let ids: Vec<_> =
                (0..together).map(|_| engine.submit(Request::new(prompt.clone(), ask.clone())).unwrap()).collect();
            let mut found = vec![(Vec::new(), Vec::new()); together];
            while !engine.is_idle() {
                engine.step(&mut |event| {
                    let (prompt, tokens) = &mut found[ids.iter().position(|id| *id == event.sequence).unwrap()];
                    match event.kind {
                        EventKind::Progress(_) => {}
                        EventKind::Prompt { id, logprob, top } => prompt.push((id, logprob, top.to_vec())),
                        EventKind::Token { id, .. } => tokens.push(id),
                        EventKind::Finished { .. } => {}
                    }
                    ControlFlow::Continue(())
                });
            }
            for (reported, tokens) in found {
                assert_eq!(reported, expected, "chunks of {prefill_chunk}");
                assert_eq!(tokens, plain.tokens);
            }
        }
    }
    // Cancelled on the way, beside another whose rows follow.
    let mut engine = engine("llama", &EngineOptions::default());
    let ask = Sampling { prompt_logprobs: Some(0), ..answer.clone() };
    let cancelled = engine.submit(Request::new(prompt[..9].to_vec(), ask)).unwrap();
    engine.submit(Request::new(prompt.clone(), answer.clone())).unwrap();
    let mut tokens = Vec::new();
    while !engine.is_idle() {
        engine.step(&mut |event| match event.kind {
            EventKind::Progress(_) | EventKind::Prompt { .. } => ControlFlow::Break(()),
            EventKind::Token { id, .. } => {
                assert_ne!(event.sequence, cancelled);
                tokens.push(id);
                ControlFlow::Continue(())
            }
            EventKind::Finished { .. } => ControlFlow::Continue(()),
        });
    }
    assert_eq!(tokens.len(), 4);
}

#[test]
fn several_answers_are_those_of_as_many_requests_and_share_their_prompt() {
    let (prompt, _) = prompts("llama").remove(0);
    let prompt = [&prompt[..], &prompt[..], &prompt[..]].concat()[..BLOCK_LEN * 2 + 5].to_vec();
    let sampling = Sampling { max_tokens: Some(9), seed: Some(u64::MAX), ..Sampling::default() };
    for (max_sequences, prefill_chunk) in [(4, 512), (4, 7), (2, 512), (1, 3)] {
        let options = EngineOptions { max_sequences, prefill_chunk, ..EngineOptions::default() };
        let mut alone = engine("llama", &options);
        let expected: Vec<_> = (0..3)
            .map(|i| {
                generate(&mut alone, &prompt, Sampling { seed: Some(u64::MAX.wrapping_add(i)), ..sampling.clone() })
                    .tokens
            })
            .collect();
        let mut engine = engine("llama", &options);
        let all = Sampling { n: 2, best_of: Some(3), prompt_logprobs: Some(0), ..sampling.clone() };
        let ids = engine.submit_all(Request::new(prompt.clone(), all.clone())).unwrap();
        let (mut found, mut reported) = (vec![(Vec::new(), 0.0, Usage::default()); 3], 0);
        while !engine.is_idle() {
            engine.step(&mut |event| {
                assert_eq!(ids[event.index], event.sequence);
                let (tokens, total, end) = &mut found[event.index];
                match event.kind {
                    EventKind::Progress(_) => {}
                    EventKind::Prompt { .. } => reported += usize::from(event.index == 0),
                    EventKind::Token { id, logprob, .. } => {
                        tokens.push(id);
                        *total += logprob.unwrap();
                    }
                    EventKind::Finished { usage, .. } => *end = usage,
                }
                ControlFlow::Continue(())
            });
        }
        assert_eq!(reported, prompt.len());
        assert_eq!(found.iter().map(|(tokens, ..)| tokens.clone()).collect::<Vec<_>>(), expected);
        let cached: Vec<_> = found.iter().map(|(.., usage)| usage.cached_tokens).collect();
        assert_eq!(cached, [0, 2 * BLOCK_LEN, 2 * BLOCK_LEN], "{max_sequences} sequences");
        let error = engine.submit(Request::new(prompt.clone(), all.clone())).unwrap_err().to_string();
        assert!(error.starts_with("n = 2: expected 1 where one answer is expected"), "{error}");
        let filters: Vec<Box<dyn Filter>> = vec![Box::new(Fails(1))];
        let error =
            engine.submit_all(Request { filters, ..Request::new(prompt.clone(), all) }).unwrap_err().to_string();
        assert!(error.starts_with("best_of = 3: expected 1 with the filter"), "{error}");
    }
    // The first goes while it reads the prompt: the others go on.
    let mut engine = engine("llama", &EngineOptions { prefill_chunk: 3, ..EngineOptions::default() });
    let ids = engine.submit_all(Request::new(prompt.clone(), Sampling { n: 3, ..sampling.clone() })).unwrap();
    engine.step(&mut |_| ControlFlow::Continue(()));
    engine.cancel(ids[0]).unwrap();
    let mut ends = 0;
    while !engine.is_idle() {
        engine.step(&mut |event| {
            ends += usize::from(matches!(event.kind, EventKind::Finished { .. }));
            ControlFlow::Continue(())
        });
    }
    assert_eq!(ends, 2);
}

#[test]
fn text_before_a_stop_string_is_given_and_what_is_held_back_comes_with_the_end() {
    // Of these answers, the first two end by length and the third by EOS.
    for (name, which) in [("llama", 0), ("qwen2", 0), ("llama3-rope", END.1)] {
        let (prompt, _) = prompts(name).remove(which);
        let mut engine = engine(name, &EngineOptions::default());
        let mut with = |stop: &[String]| {
            let sampling = Sampling { ignore_eos: false, ..greedy(|s| s.max_tokens = Some(40)) };
            generate(&mut engine, &prompt, Sampling { stop: stop.to_vec(), ..sampling })
        };
        let whole = with(&[]);
        assert_eq!(matches!(whole.finish_reason, FinishReason::EndToken), name == END.0);
        let text = &whole.text;
        assert_eq!(*text, decode(&whole.tokens, name));
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for window in places.windows(4) {
            let stop = text[window[0]..window[3]].to_owned();
            let answer = with(std::slice::from_ref(&stop));
            assert_eq!(answer.text, text[..text.find(&stop).unwrap()], "stop {stop:?}");
            assert!(matches!(answer.finish_reason, FinishReason::StopString));
            assert!(whole.tokens.starts_with(&answer.tokens));
        }
        // The answer ends while a stop string has only begun.
        let tail = &text[places[places.len().saturating_sub(3)]..];
        let answer = with(&[format!("{tail}never")]);
        assert_eq!((&answer.text, &answer.tokens), (text, &whole.tokens));
    }
}

/// Fails before the token with this number of the answer.
struct Fails(usize);

impl Filter for Fails {
    fn apply(&mut self, _: &mut Candidates, history: History) -> Result<(), Error> {
        let fails = history.tokens.len() - history.prompt == self.0;
        if fails { Err(Error::Filter("no more".to_owned())) } else { Ok(()) }
    }
}

#[test]
fn text_that_is_held_back_comes_with_a_failure_and_a_cancellation() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine("llama", &EngineOptions::default());
    for n in 1..12 {
        let whole = generate(&mut engine, &prompt, greedy(|s| s.max_tokens = Some(n)));
        for stop in [vec![], vec![format!("{}never", whole.text)]] {
            for (end, fails, breaks) in [("", None, None), ("Failed", Some(n), None), ("Cancelled", None, Some(n))] {
                let sampling = greedy(|s| s.stop.clone_from(&stop));
                let filters = fails.map(|n| Box::new(Fails(n)) as Box<dyn Filter>).into_iter().collect();
                let id = engine.submit(Request { filters, ..Request::new(prompt.clone(), sampling) }).unwrap();
                let (mut text, mut tokens, mut ended) = (String::new(), 0, String::new());
                while !engine.is_idle() && (tokens < n || fails.is_some()) {
                    engine.step(&mut |event| {
                        match event.kind {
                            EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                            EventKind::Token { text: more, .. } => {
                                text.push_str(more);
                                tokens += 1;
                            }
                            EventKind::Finished { text: rest, finish_reason, usage, .. } => {
                                assert_eq!(usage.completion_tokens, n);
                                text.push_str(rest);
                                ended = format!("{finish_reason:?}");
                            }
                        }
                        if breaks == Some(tokens) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                }
                if let Some((rest, ..)) = engine.cancel(id) {
                    text.push_str(&rest);
                }
                assert!(tokens == n && ended.starts_with(end), "{tokens} tokens, {ended}");
                assert_eq!(text, whole.text, "{n} tokens, stop {stop:?}, {end}");
            }
        }
    }
}

/// A golden model with a prompt that it ends by itself.
const END: (&str, usize) = ("llama3-rope", 1);

/// The text of tokens behind a prompt.
fn decode(tokens: &[u32], name: &str) -> String {
    let engine = engine(name, &EngineOptions::default());
    let mut stream = trine_text::DecodeStream::after_prompt(engine.tokenizer());
    let mut text: String = tokens.iter().map(|&id| stream.push(engine.tokenizer(), id).to_owned()).collect();
    text.push_str(stream.finish());
    text
}

#[test]
fn cancelled_sequences_leave_at_once_and_the_others_do_not_notice() {
    let prompts = prompts("llama");
    let request = |which: usize| -> Ask { (prompts[which].0.clone(), greedy(|s| s.max_tokens = Some(30))) };
    let options = EngineOptions { max_sequences: 3, ..EngineOptions::default() };
    let mut engine = engine("llama", &options);
    let expected = run(&mut engine, &[request(1)]).0.remove(0);
    let [broken, kept, dropped, waiting] = [0, 1, 0, 0].map(|which| {
        let (prompt, sampling) = request(which);
        engine.submit(Request::new(prompt, sampling)).unwrap()
    });
    let mut tokens: BTreeMap<SeqId, Vec<u32>> = BTreeMap::new();
    let mut ended = BTreeMap::new();
    for step in 0.. {
        if engine.is_idle() {
            break;
        }
        engine.step(&mut |event| match event.kind {
            EventKind::Progress(_) | EventKind::Prompt { .. } => ControlFlow::Continue(()),
            EventKind::Token { id, .. } => {
                let tokens = tokens.entry(event.sequence).or_default();
                tokens.push(id);
                if event.sequence == broken && tokens.len() == 5 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }
            EventKind::Finished { finish_reason, usage, .. } => {
                ended.insert(event.sequence, (format!("{finish_reason:?}"), usage.completion_tokens));
                ControlFlow::Continue(())
            }
        });
        if step == 2 {
            let (rest, usage, timing) = engine.cancel(waiting).unwrap();
            assert_eq!((rest, usage), (String::new(), Usage { prompt_tokens: 41, ..Usage::default() }));
            assert_eq!((timing.started, timing.first_token), (None, None));
            assert_eq!(engine.cancel(dropped).unwrap().1.completion_tokens, tokens[&dropped].len());
            assert_eq!((engine.cancel(dropped), engine.load().waiting, engine.load().running), (None, 0, 2));
        }
    }
    assert_eq!(tokens[&kept], expected.tokens);
    assert_eq!(ended, [(broken, ("Cancelled".to_owned(), 5)), (kept, ("MaxTokens".to_owned(), 30))].into());
    assert_eq!(engine.load().used_blocks, 0);
}

#[test]
fn probes_take_no_place_of_others_and_count_nowhere() {
    let options = EngineOptions { max_sequences: 1, max_queued: Some(1), ..EngineOptions::default() };
    let mut engine = engine("llama", &options);
    let (prompt, _) = prompts("llama").remove(0);
    let request = |probe| {
        let scheduling = Scheduling { probe, ..Scheduling::default() };
        let sampling = Sampling { max_tokens: Some(2), ..Sampling::greedy() };
        Request { scheduling, ..Request::new(prompt.clone(), sampling) }
    };
    for _ in 0..3 {
        engine.submit(request(true)).unwrap();
    }
    for _ in 0..2 {
        engine.submit(request(false)).unwrap();
    }
    assert!(matches!(engine.submit(request(false)), Err(Error::QueueFull { queued: 2, .. })));
    engine.submit(request(true)).unwrap();
    assert_eq!((engine.load().running, engine.load().waiting), (0, 2));
    let (mut ended, mut seen) = (0, 0);
    while !engine.is_idle() {
        engine.step(&mut |event| {
            ended += usize::from(matches!(event.kind, EventKind::Finished { .. }));
            ControlFlow::Continue(())
        });
        seen = seen.max(engine.load().running + engine.load().waiting);
    }
    assert_eq!((ended, seen), (6, 2));
    assert_eq!(engine.load().prefix_cache.queries, 2 * prompt.len() as u64);
}

#[test]
fn an_engine_knows_no_sequence_of_another() {
    let (prompt, _) = prompts("llama").remove(0);
    let [mut engine, mut other] = [(); 2].map(|()| engine("llama", &EngineOptions::default()));
    let [id, foreign] = [&mut engine, &mut other].map(|engine| {
        let id = engine.submit(Request::new(prompt.clone(), greedy(|_| ()))).unwrap();
        engine.step(&mut |_| ControlFlow::Continue(()));
        id
    });
    assert!(!engine.pause(foreign, true) && !engine.propose(foreign, &[1]).unwrap());
    assert_eq!((engine.prompt_progress(foreign), engine.cancel(foreign)), (None, None));
    assert!(engine.propose(id, &[1]).unwrap() && engine.cancel(id).is_some());
}

#[test]
fn a_model_that_computes_no_numbers_fails_and_says_so() {
    let from = folder("llama");
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    let path = to.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let [from, to_byte] = [0, 1].map(|i| header["model.norm.weight"]["data_offsets"][i].as_u64().unwrap() as usize);
    bytes[start + from..start + to_byte].fill(0xFF);
    std::fs::write(&path, bytes).unwrap();

    let mut engine = open(to.path(), 2, &EngineOptions::default()).unwrap();
    let error = try_generate(&mut engine, &[0, 5, 6], Sampling::default()).unwrap_err();
    assert!(matches!(error, Error::NotFinite { id: 0, position: 3, .. }), "{error}");
    assert!(engine.is_idle() && engine.load().used_blocks == 0);
}

#[test]
fn domains_share_no_keys_and_what_is_cleared_is_computed_again() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine("llama", &EngineOptions::default());
    let cached = |engine: &mut Engine, cache: &PrefixCache| {
        let sampling = greedy(|s| s.max_tokens = Some(4));
        let request = Request { prefix_cache: cache.clone(), ..Request::new(prompt.clone(), sampling) };
        engine.submit(request).unwrap();
        let (mut tokens, mut found) = (Vec::new(), None);
        while !engine.is_idle() {
            engine.step(&mut |event| {
                match event.kind {
                    EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                    EventKind::Token { id, .. } => tokens.push(id),
                    EventKind::Finished { usage, .. } => found = Some(usage.cached_tokens),
                }
                ControlFlow::Continue(())
            });
        }
        (tokens, found.unwrap())
    };
    let [none, a, b, off] =
        [PrefixCache::default(), PrefixCache::Domain("a".into()), PrefixCache::Domain("b".into()), PrefixCache::Off];
    let hit = (prompt.len() - 1) / BLOCK_LEN * BLOCK_LEN;
    let expected = cached(&mut engine, &none).0;
    for (cache, found) in [(&none, hit), (&a, 0), (&b, 0), (&a, hit), (&off, 0), (&off, 0), (&b, hit), (&none, hit)] {
        assert_eq!(cached(&mut engine, cache), (expected.clone(), found), "{cache:?}");
    }
    let stats = engine.load().prefix_cache;
    assert_eq!((stats.queries, stats.hits), (9 * prompt.len() as u64, 4 * hit as u64));
    engine.clear_prefix_cache();
    for (cache, found) in [(&a, 0), (&a, hit), (&none, 0)] {
        assert_eq!(cached(&mut engine, cache), (expected.clone(), found), "{cache:?}");
    }
}
