//! A filter that takes long to prepare: others do not wait for it, and no token depends on when it is ready.

mod golden;

use golden::{folder, open, prompts};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use trine_engine::sample::{Candidates, Filter, History};
use trine_engine::{BLOCK_LEN, Engine, EngineOptions, Error, EventKind, FinishReason, Request, Sampling, SeqId};

/// Allows the tokens of one parity after another. Prepares for the second token only when it may.
struct Slow {
    prepared: usize,
    go: Receiver<()>,
}

impl Filter for Slow {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        assert!(self.prepared > 0);
        candidates.retain(|id| id as usize % 2 == (history.tokens.len() - history.prompt) % 2);
        Ok(())
    }

    fn prepares(&self) -> bool {
        true
    }

    fn prepare(&mut self, _: History) {
        self.prepared += 1;
        if self.prepared == 2 {
            // An engine that waits for it fails here, and does not hang.
            self.go.recv_timeout(Duration::from_secs(20)).expect("the other request goes on");
        }
    }
}

fn engine(blocks: usize) -> Engine {
    let spec = open(&folder("llama"), 1, &EngineOptions::default()).unwrap().spec().clone();
    let block = spec.n_layers * spec.n_kv_heads * spec.head_dim * BLOCK_LEN * 8;
    let options = EngineOptions { context: Some(96), cache_bytes: Some(blocks * block), ..EngineOptions::default() };
    open(&folder("llama"), 1, &options).unwrap()
}

fn sampling() -> Sampling {
    let preset = Sampling::preset("quality").unwrap();
    Sampling { max_tokens: Some(40), ignore_eos: true, seed: Some(3), ..preset }
}

/// A plain request, and one whose filter waits until it is let go.
fn requests() -> (Request, Request, Sender<()>) {
    let (sender, go) = channel();
    let [plain, slow] = [0, 1].map(|i| Request::new(prompts("llama").remove(i).0[..27].to_vec(), sampling()));
    let slow = Request { filters: vec![Box::new(Slow { prepared: 0, go })], ..slow };
    (plain, slow, sender)
}

#[test]
fn others_go_on_beside_a_filter_that_prepares_and_all_tokens_are_the_same() {
    let (plain, slow, go) = requests();
    go.send(()).unwrap();
    let mut expected = Vec::new();
    for request in [plain, slow] {
        let mut engine = engine(16);
        engine.submit(request).unwrap();
        let mut said = Vec::new();
        while !engine.is_idle() {
            engine.step(&mut |event| {
                said.extend(if let EventKind::Token { id, .. } = event.kind { Some(id) } else { None });
                ControlFlow::Continue(())
            });
        }
        assert_eq!(said.len(), 40);
        expected.push(said);
    }
    // Room for both; and so little that the one that waits for its filter gives its blocks away.
    for (blocks, preempts) in [(16, false), (6, true)] {
        for proposes in [false, true] {
            let mut engine = engine(blocks);
            engine.prepare_beside().unwrap();
            let (plain, slow, go) = requests();
            let [plain, slow] = [plain, slow].map(|request| engine.submit(request).unwrap());
            let mut said = BTreeMap::<SeqId, Vec<u32>>::from([(plain, Vec::new()), (slow, Vec::new())]);
            let mut before = None;
            while !engine.is_idle() {
                if proposes {
                    // Right, then wrong.
                    let at = said[&slow].len();
                    let proposal: Vec<u32> = expected[1][at..].iter().copied().take(2).chain([7]).collect();
                    engine.propose(slow, &proposal).unwrap();
                }
                let mut ended = false;
                engine.step(&mut |event| {
                    match event.kind {
                        EventKind::Token { id, .. } => said.get_mut(&event.sequence).unwrap().push(id),
                        EventKind::Finished { finish_reason, .. } => {
                            assert!(matches!(finish_reason, FinishReason::MaxTokens), "{finish_reason:?}");
                            ended |= event.sequence == plain;
                        }
                        _ => {}
                    }
                    ControlFlow::Continue(())
                });
                if ended {
                    before = Some(said[&slow].len());
                    go.send(()).unwrap();
                }
            }
            assert!(before.unwrap() <= 1, "{before:?} tokens before it could");
            assert_eq!(said[&plain], expected[0], "{blocks} blocks, {proposes}");
            assert_eq!(said[&slow], expected[1], "{blocks} blocks, {proposes}");
            assert_eq!(engine.load().preemptions > 0, preempts);
            assert_eq!(engine.load().used_blocks, 0);
        }
    }
}

#[test]
fn a_sequence_that_waits_for_its_filter_can_be_paused_and_cancelled() {
    let mut engine = engine(16);
    engine.prepare_beside().unwrap();
    let (_, slow, go) = requests();
    let slow = engine.submit(slow).unwrap();
    let mut said = 0;
    let mut steps = |engine: &mut Engine, n: usize| {
        for _ in 0..n {
            engine.step(&mut |event| {
                said += usize::from(matches!(event.kind, EventKind::Token { .. }));
                ControlFlow::Continue(())
            });
        }
        said
    };
    assert!(steps(&mut engine, 50) <= 1);
    assert!(engine.pause(slow, true) && engine.is_idle());
    go.send(()).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(steps(&mut engine, 3) <= 1);
    assert!(engine.pause(slow, false));
    while steps(&mut engine, 1) < 5 {}
    assert!(engine.cancel(slow).is_some() && engine.is_idle());

    let (_, slow, _go) = requests();
    let slow = engine.submit(slow).unwrap();
    steps(&mut engine, 50);
    assert!(engine.cancel(slow).is_some() && engine.is_idle());
    assert_eq!(engine.load().used_blocks, 0);
}
