//! An engine on its own thread, used by several threads and by tasks.

mod golden;

use golden::{folder, open, prompts};
use std::time::{Duration, Instant};
use trine_engine::sample::{Candidates, Filter, History};
use trine_engine::{EngineOptions, Error, FinishReason, Handle, Load, Request, Sampling, Update};

fn handle(max_sequences: usize) -> Handle {
    let options = EngineOptions { max_sequences, prefill_chunk: 8, ..EngineOptions::default() };
    Handle::spawn(move || open(&folder("llama"), 1, &options)).unwrap()
}

fn request(max_tokens: usize) -> Request {
    let (prompt, _) = prompts("llama").remove(0);
    Request::new(prompt, Sampling { max_tokens: Some(max_tokens), ignore_eos: true, ..Sampling::greedy() })
}

/// Waits until the engine is as busy as `wanted` says.
fn wait(handle: &Handle, wanted: impl Fn(Load) -> bool) {
    let start = Instant::now();
    while !wanted(handle.load().unwrap()) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", handle.load());
        std::thread::yield_now();
    }
}

#[test]
fn threads_and_tasks_get_the_answers_of_a_lone_request() {
    let handle = handle(3);
    let expected = handle.submit(request(40)).unwrap().answer().unwrap();
    assert_eq!(expected.tokens.len(), 40);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let handle = handle.clone();
            std::thread::spawn(move || handle.submit(request(40))?.answer())
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let handle = handle.clone();
            runtime.spawn(async move {
                let (mut generation, mut tokens) = (handle.submit_async(request(40)).await.unwrap(), Vec::new());
                while let Some(Update::Token(token)) = generation.next_async().await {
                    tokens.push(token.id);
                }
                tokens
            })
        })
        .collect();
    for thread in threads {
        let answer = thread.join().unwrap().unwrap();
        assert_eq!((answer.tokens, answer.text), (expected.tokens.clone(), expected.text.clone()));
    }
    for task in tasks {
        assert_eq!(runtime.block_on(task).unwrap(), expected.tokens);
    }
    wait(&handle, |load| load.running == 0 && load.used_blocks == 0);
}

#[test]
fn text_gets_the_tokens_of_a_prompt_and_what_is_refused_says_why() {
    let handle = handle(1);
    let answer = handle.submit(Request::new("a text", Sampling { max_tokens: Some(2), ..Sampling::greedy() })).unwrap();
    assert_eq!(answer.answer().unwrap().tokens.len(), 2);
    let error = handle.submit(Request::new(vec![1 << 20], Sampling::greedy())).err().unwrap();
    assert!(matches!(error, Error::BeyondVocabulary { .. }), "{error}");
}

#[test]
fn a_full_channel_pauses_its_own_sequence_alone() {
    // The paused sequence does not keep the only place.
    let handle = handle(1);
    let mut slow = handle.submit(request(80)).unwrap();
    let expected = handle.submit(request(80)).unwrap().answer().unwrap();
    assert_eq!(expected.tokens.len(), 80);
    // The slow one is paused in the engine with a part of its answer, which nobody has taken; it may have given its blocks away.
    wait(&handle, |load| load.running + load.waiting == 1);
    let mut tokens = Vec::new();
    let end = loop {
        match slow.recv().unwrap() {
            Update::Token(token) => tokens.push(token.id),
            Update::Finished { reason, usage } => break (format!("{reason:?}"), usage.completion_tokens),
        }
    };
    assert_eq!((tokens, end), (expected.tokens, ("MaxTokens".to_owned(), 80)));
    assert!(slow.recv().is_none());
}

#[test]
fn dropping_or_cancelling_a_generation_frees_it_wherever_it_is() {
    let handle = handle(1);
    let running = handle.submit(request(80)).unwrap();
    let waiting = handle.submit(request(80)).unwrap();
    let mut cancelled = handle.submit(request(80)).unwrap();
    handle.cancel(cancelled.id());
    // It runs if those before it rest because their channels are full.
    let end = cancelled.by_ref().last().unwrap();
    assert!(matches!(end, Update::Finished { reason: FinishReason::Cancelled, .. }), "{end:?}");
    assert!(cancelled.recv().is_none());
    drop(waiting);
    drop(running);
    wait(&handle, |load| load.running + load.waiting + load.used_blocks == 0);
    // One that rests because its channel is full.
    let full = handle.submit(request(80)).unwrap();
    wait(&handle, |load| load.running == 1);
    std::thread::sleep(Duration::from_millis(50));
    drop(full);
    wait(&handle, |load| load.running + load.used_blocks == 0);
}

#[test]
fn shutting_down_ends_everything_and_dropping_all_handles_ends_the_thread() {
    let handle = handle(1);
    let mut running = handle.submit(request(80)).unwrap();
    let waiting = handle.submit(request(80)).unwrap();
    assert!(matches!(running.recv(), Some(Update::Token(_))));
    handle.shutdown();
    assert!(matches!(running.last(), Some(Update::Finished { .. })));
    assert!(matches!(waiting.last(), Some(Update::Finished { reason: FinishReason::Cancelled, .. })));
    assert!(matches!(handle.submit(request(1)).err(), Some(Error::ShutDown)));
    assert!(matches!(handle.load(), Err(Error::ShutDown)));
    handle.shutdown();

    let refused =
        Handle::spawn(|| open(&folder("llama"), 1, &EngineOptions { max_sequences: 0, ..Default::default() }));
    assert!(matches!(refused.err(), Some(Error::Zero { .. })));
}

struct Panic;

impl Filter for Panic {
    fn apply(&mut self, _: &mut Candidates, _: History) -> Result<(), Error> {
        panic!("a bug of this filter");
    }
}

#[test]
fn a_panic_on_the_thread_is_told_from_a_shutdown() {
    let handle = handle(2);
    let beside = handle.submit(request(80)).unwrap();
    let broken = handle.submit(Request { filters: vec![Box::new(Panic)], ..request(1) }).unwrap();
    assert!(matches!(broken.answer(), Err(Error::Panicked)));
    assert!(matches!(beside.answer(), Err(Error::Panicked)));
    assert!(matches!(handle.submit(request(1)).err(), Some(Error::Panicked)));
    let unmade = Handle::spawn(|| -> Result<trine_engine::Engine, Error> { panic!("a bug of the caller") });
    assert!(matches!(unmade.err(), Some(Error::Panicked)));
}
