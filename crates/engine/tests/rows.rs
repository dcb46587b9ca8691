//! Proposals, custom filters and pauses: what is answered depends on none of them but the filters.

mod golden;

use golden::{folder, open, prompts};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use trine_engine::sample::{Candidates, Filter, History};
use trine_engine::{Engine, EngineOptions, Error, EventKind, FinishReason, Request, Sampling, SeqId};

fn engine() -> Engine {
    open(&folder("llama"), 1, &EngineOptions::default()).unwrap()
}

fn sampling(preset: &str) -> Sampling {
    let preset = Sampling::preset(preset).unwrap();
    Sampling { max_tokens: Some(24), ignore_eos: true, seed: Some(3), logprobs: Some(3), ..preset }
}

/// The tokens of a request and the bits of their log probabilities, where `propose` says what to propose after so many tokens; and the number
/// of steps.
fn answer(request: Request, propose: impl Fn(usize) -> Vec<u32>) -> (Vec<(u32, u64)>, usize) {
    let mut engine = engine();
    let id = engine.submit(request).unwrap();
    let (mut said, mut steps) = (Vec::new(), 0);
    while !engine.is_idle() {
        engine.propose(id, &propose(said.len())).unwrap();
        engine.step(&mut |event| {
            if let EventKind::Token { id, logprob, .. } = event.kind {
                said.push((id, logprob.unwrap().to_bits()));
            }
            ControlFlow::Continue(())
        });
        steps += 1;
    }
    assert_eq!(engine.load().used_blocks, 0);
    (said, steps)
}

#[test]
fn a_prompt_that_is_scored_may_fill_the_context() {
    let (prompt, _) = prompts("llama").remove(0);
    let context = prompt.len();
    let options = EngineOptions { context: Some(context), ..EngineOptions::default() };
    let mut engine = open(&folder("llama"), 1, &options).unwrap();
    let ask = |more: usize, scores: bool| {
        let sampling = Sampling { max_tokens: Some(more), prompt_logprobs: scores.then_some(0), ..sampling("fast") };
        Request::new(prompt.clone(), sampling)
    };
    for refused in [ask(1, false), ask(2, true)] {
        assert!(matches!(engine.submit(refused), Err(Error::PromptTooLong { .. })));
    }
    // Twice: the second finds the prompt in the cache. There is no room for a proposal.
    for _ in 0..2 {
        let id = engine.submit(ask(1, true)).unwrap();
        let (mut scored, mut said) = (0, 0);
        while !engine.is_idle() {
            engine.propose(id, &prompt).unwrap();
            engine.step(&mut |event| {
                match event.kind {
                    EventKind::Prompt { .. } => scored += 1,
                    EventKind::Token { .. } => said += 1,
                    _ => {}
                }
                ControlFlow::Continue(())
            });
        }
        assert_eq!((scored, said), (context, 1));
    }
}

#[test]
fn proposals_change_the_number_of_steps_and_no_bit_of_an_answer() {
    let (prompt, _) = prompts("llama").remove(0);
    for preset in ["fast", "balanced", "quality"] {
        let request = || Request::new(prompt.clone(), sampling(preset));
        let (expected, steps) = answer(request(), |_| Vec::new());
        let tokens: Vec<u32> = expected.iter().map(|&(id, _)| id).collect();
        assert_eq!(steps, 24);
        let right = |at: usize| tokens[at..].iter().copied().take(5).collect::<Vec<u32>>();
        let (said, fewer) = answer(request(), right);
        assert!(said == expected && fewer == 1 + 23_usize.div_ceil(6), "{preset}: {fewer} steps");
        // Right until the third token, and wrong from the first on.
        let wrong = |from: usize| {
            let tokens = tokens.clone();
            move |at: usize| {
                let mut proposal: Vec<u32> = tokens[at..].iter().copied().take(6).collect();
                proposal.iter_mut().skip(from).for_each(|id| *id = (*id + 1) % 288);
                proposal
            }
        };
        let (said, fewer) = answer(request(), wrong(2));
        assert!(said == expected && fewer < 12, "{preset}: {fewer} steps");
        assert_eq!(answer(request(), wrong(0)), (expected, 24));
    }
}

/// Allows the tokens of one parity after another, and checks that it is told what was accepted.
struct Alternate {
    accepted: Vec<u32>,
    prepared: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Filter for Alternate {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        assert_eq!(self.accepted, history.tokens[history.prompt..]);
        self.log.lock().unwrap().push(history.tokens.len());
        candidates.retain(|id| id % 2 == self.accepted.len() as u32 % 2);
        Ok(())
    }

    fn accept(&mut self, token: u32) {
        self.accepted.push(token);
    }

    fn rollback(&mut self, n: usize) {
        self.accepted.truncate(self.accepted.len() - n);
    }

    fn prepares(&self) -> bool {
        true
    }

    fn prepare(&mut self, history: History) {
        assert_eq!(self.accepted, history.tokens[history.prompt..]);
        self.prepared.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_filter_with_state_sees_every_accepted_token_and_prepares_for_each_row() {
    let (prompt, _) = prompts("llama").remove(0);
    let (prepared, log) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let request = || {
        let filter = Alternate { accepted: Vec::new(), prepared: prepared.clone(), log: Arc::clone(&log) };
        Request { filters: vec![Box::new(filter)], ..Request::new(prompt.clone(), sampling("balanced")) }
    };
    let (said, _) = answer(request(), |_| Vec::new());
    assert!(said.iter().enumerate().all(|(i, (id, _))| *id as usize % 2 == i % 2));
    assert_eq!(prepared.swap(0, Relaxed), 24);
    let first = std::mem::take(&mut *log.lock().unwrap());
    let tokens: Vec<u32> = said.iter().map(|&(id, _)| id).collect();
    let (again, steps) = answer(request(), |at| tokens[at..].iter().copied().take(3).collect());
    assert!(again == said && steps < 10);
    assert_eq!(prepared.load(Relaxed), 24);
    assert_eq!(*log.lock().unwrap(), first, "each position is filtered once");
}

#[test]
fn preparing_beside_the_pass_changes_nothing() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut answers = Vec::new();
    for beside in [false, true] {
        let mut engine = engine();
        if beside {
            engine.prepare_beside().unwrap();
        }
        let filter = Alternate { accepted: Vec::new(), prepared: Arc::default(), log: Arc::default() };
        let request = Request { filters: vec![Box::new(filter)], ..Request::new(prompt.clone(), sampling("quality")) };
        engine.submit(request).unwrap();
        let mut said = Vec::new();
        while !engine.is_idle() {
            engine.step(&mut |event| {
                if let EventKind::Token { id, .. } = event.kind {
                    said.push(id);
                }
                ControlFlow::Continue(())
            });
        }
        answers.push(said);
    }
    assert!(answers[0].len() == 24 && answers[0] == answers[1]);
}

/// Leaves nothing, or fails.
struct Nothing(bool);

impl Filter for Nothing {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        candidates.retain(|_| false);
        if self.0 { Err(Error::Filter("the grammar has no such rule".to_owned())) } else { Ok(()) }
    }
}

#[test]
fn a_filter_that_leaves_nothing_or_fails_ends_its_request_and_no_other() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine();
    let plain = engine.submit(Request::new(prompt.clone(), sampling("fast"))).unwrap();
    let with = |fails| Request {
        filters: vec![Box::new(Nothing(fails)) as Box<dyn Filter>],
        ..Request::new(prompt.clone(), sampling("fast"))
    };
    let [empty, fails] = [false, true].map(|fails| engine.submit(with(fails)).unwrap());
    let mut ends: Vec<(SeqId, String)> = Vec::new();
    while !engine.is_idle() {
        engine.step(&mut |event| {
            match event.kind {
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                EventKind::Finished { finish_reason: FinishReason::Failed(error), .. } => {
                    ends.push((event.sequence, error.to_string()))
                }
                EventKind::Finished { finish_reason, .. } => ends.push((event.sequence, format!("{finish_reason:?}"))),
                EventKind::Token { .. } => {}
            }
            ControlFlow::Continue(())
        });
    }
    let expected = [
        (empty, "no token is allowed at position 41: the filters of the request left none"),
        (fails, "the grammar has no such rule"),
        (plain, "MaxTokens"),
    ];
    assert_eq!(ends, expected.map(|(id, end)| (id, end.to_owned())));
}

#[test]
fn a_paused_sequence_rests_and_goes_on_with_the_same_tokens() {
    let (prompt, _) = prompts("llama").remove(0);
    let (expected, _) = answer(Request::new(prompt.clone(), sampling("quality")), |_| Vec::new());
    // Room for both, and for one of them alone: the paused one gives its blocks away.
    for blocks in [16, 6] {
        let spec = engine().spec().clone();
        let block = spec.n_layers * spec.n_kv_heads * spec.head_dim * trine_engine::BLOCK_LEN * 8;
        let options =
            EngineOptions { context: Some(96), cache_bytes: Some(blocks * block), ..EngineOptions::default() };
        let mut engine = open(&folder("llama"), 1, &options).unwrap();
        let [paused, other] = [0, 1].map(|_| engine.submit(Request::new(prompt.clone(), sampling("quality"))).unwrap());
        let mut said: [Vec<u32>; 2] = Default::default();
        for step in 0.. {
            if step == 5 {
                assert!(engine.pause(paused, true));
            }
            if engine.is_idle() {
                if !engine.pause(paused, false) {
                    break;
                }
                assert_eq!(said.each_ref().map(Vec::len), [5, 24], "{blocks} blocks");
            }
            engine.step(&mut |event| {
                if let EventKind::Token { id, .. } = event.kind {
                    said[usize::from(event.sequence == other)].push(id);
                }
                ControlFlow::Continue(())
            });
        }
        let expected: Vec<u32> = expected.iter().map(|&(id, _)| id).collect();
        assert!(said[0] == expected && said[1] == expected, "{blocks} blocks");
    }
}

#[test]
fn an_adapter_that_is_not_loaded_is_refused() {
    let request = Request { adapter: 7, ..Request::new(vec![1, 2], sampling("fast")) };
    let error = engine().submit(request).unwrap_err().to_string();
    assert_eq!(error, "adapter 7: expected one that is loaded, found none of this number");
}

/// One place and a small cache: paused sequences have neither for themselves.
#[test]
fn paused_sequences_leave_their_places_and_blocks_to_others() {
    let (prompt, _) = prompts("llama").remove(0);
    let (expected, _) = answer(Request::new(prompt.clone(), sampling("quality")), |_| Vec::new());
    let expected: Vec<u32> = expected.iter().map(|&(id, _)| id).collect();
    let spec = engine().spec().clone();
    let block = spec.n_layers * spec.n_kv_heads * spec.head_dim * trine_engine::BLOCK_LEN * 8;
    let cache_bytes = Some(6 * block);
    let options = EngineOptions { context: Some(96), cache_bytes, max_sequences: 1, ..EngineOptions::default() };
    let mut engine = open(&folder("llama"), 1, &options).unwrap();
    let ids: Vec<SeqId> =
        (0..3).map(|_| engine.submit(Request::new(prompt.clone(), sampling("quality"))).unwrap()).collect();
    let mut said: Vec<Vec<u32>> = vec![Vec::new(); 3];
    let mut run = |engine: &mut Engine, steps: usize| {
        for _ in 0..steps {
            engine.step(&mut |event| {
                if let EventKind::Token { id, .. } = event.kind {
                    said[ids.iter().position(|id| *id == event.sequence).unwrap()].push(id);
                }
                ControlFlow::Continue(())
            });
        }
        said.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(run(&mut engine, 3), [3, 0, 0]);
    engine.pause(ids[0], true);
    assert_eq!(run(&mut engine, 3), [3, 3, 0]);
    engine.pause(ids[1], true);
    assert_eq!(run(&mut engine, 3), [3, 3, 3]);
    engine.pause(ids[2], true);
    assert!(engine.is_idle());
    ids.iter().for_each(|&id| assert!(engine.pause(id, false)));
    assert_eq!(run(&mut engine, 100), [24, 24, 24]);
    assert!(said.iter().all(|said| *said == expected) && engine.load().used_blocks == 0);
}

/// Leaves no token, and then does all that a filter can do with candidates.
struct Emptied;

impl Filter for Emptied {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        candidates.retain(|_| false);
        assert_eq!(candidates.best(), None);
        candidates.divide(2.0);
        candidates.keep_from(0.0, 3);
        candidates.truncate(3);
        candidates.skip(3);
        candidates.sort(3);
        candidates.sort_by_key(0..3, |item| item.logit);
        candidates.keep_until(
            0.5,
            3,
            |item| item.logit,
            |candidates, range| candidates.sort_by_key(range, |i| i.logit),
        );
        candidates.add(1, 1.0);
        candidates.adjust(history.tokens, |logit, _| logit + 1.0);
        candidates.softmax().entropy(candidates);
        Ok(())
    }
}

#[test]
fn a_filter_may_do_anything_with_no_candidates() {
    let (prompt, _) = prompts("llama").remove(0);
    let mut engine = engine();
    engine.submit(Request { filters: vec![Box::new(Emptied)], ..Request::new(prompt, sampling("quality")) }).unwrap();
    let mut ends = 0;
    engine.step(&mut |event| {
        if let EventKind::Finished { finish_reason, .. } = event.kind {
            assert!(matches!(finish_reason, FinishReason::Failed(Error::NoCandidates { .. })), "{finish_reason:?}");
            ends += 1;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(ends, 1);
}
