//! An engine on its own thread, used by several threads and by tasks.

mod golden;

use futures_util::StreamExt;
use futures_util::future::join3;
use golden::{folder, open, prompts};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use trine_engine::sample::{Candidates, Filter, History};
use trine_engine::{EngineOptions, Error, FinishReason, Generation, Handle, Load, Request, Sampling, Update};

fn handle(max_sequences: usize) -> Handle {
    let options = EngineOptions { max_sequences, prefill_chunk: 8, ..EngineOptions::default() };
    Handle::spawn(move || open(&folder("llama"), 1, &options)).unwrap()
}

fn request(max_tokens: usize) -> Request {
    let (prompt, _) = prompts("llama").remove(0);
    Request::new(prompt, Sampling { max_tokens: Some(max_tokens), ignore_eos: true, ..Sampling::greedy() })
}

/// A request with a filter of its own.
fn filtered(filter: impl Filter + 'static, request: Request) -> Request {
    Request { filters: vec![Box::new(filter)], ..request }
}

/// Runs a task on this thread.
fn block_on<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(task)
}

/// A filter that stops the engine's thread before a token of the answer, until the test lets it go on.
struct Gate {
    at: usize,
    reached: Sender<()>,
    open: Receiver<()>,
}

impl Gate {
    fn new(at: usize) -> (Gate, Receiver<()>, Sender<()>) {
        let ((reached, waits), (opens, open)) = (channel(), channel());
        (Gate { at, reached, open }, waits, opens)
    }
}

impl Filter for Gate {
    fn apply(&mut self, _: &mut Candidates, history: History) -> Result<(), Error> {
        if history.tokens.len() - history.prompt == self.at {
            self.reached.send(()).unwrap();
            self.open.recv().unwrap();
        }
        Ok(())
    }
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
                assert!(generation.next_async().await.is_none() && generation.next().await.is_none());
                let stream = handle.submit_async(request(40)).await.unwrap();
                let streamed = stream.filter_map(async |update| match update {
                    Update::Token(token) => Some(token.id),
                    Update::Progress(_) | Update::Prompt(_) | Update::Finished { .. } => None,
                });
                assert_eq!(streamed.collect::<Vec<_>>().await, tokens);
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
fn how_busy_an_engine_is_waits_for_no_step() {
    let handle = handle(1);
    let (gate, reached, open) = Gate::new(0);
    let running = handle.submit(filtered(gate, request(1))).unwrap();
    reached.recv().unwrap();
    // The thread is in the middle of a step.
    let load = handle.load().unwrap();
    assert_eq!((load.running, load.waiting), (1, 0));
    // What comes meanwhile waits; a probe is nobody's.
    let late = [false, true].map(|probe| {
        let (handle, mut request) = (handle.clone(), request(1));
        request.scheduling.probe = probe;
        std::thread::spawn(move || handle.submit(request).unwrap().answer().unwrap())
    });
    wait(&handle, |load| (load.running, load.waiting) == (1, 1));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(handle.load().unwrap().waiting, 1);
    open.send(()).unwrap();
    running.answer().unwrap();
    late.into_iter().for_each(|thread| _ = thread.join().unwrap());
    handle.ping().unwrap();
    let after = handle.load().unwrap();
    assert_eq!((after.running, after.waiting, after.used_blocks), (0, 0, 0));
    assert!(after.steps > load.steps, "{after:?}");
    // What is asked before a ping is done after it.
    let cancelled = [(); 2].map(|()| handle.submit(request(80)).unwrap());
    drop(cancelled);
    handle.ping().unwrap();
    let after = handle.load().unwrap();
    assert_eq!((after.running, after.waiting, after.used_blocks), (0, 0, 0));
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
            Update::Progress(_) | Update::Prompt(_) => {}
            Update::Token(token) => tokens.push(token.id),
            Update::Finished { finish_reason, usage, .. } => {
                break (format!("{finish_reason:?}"), usage.completion_tokens);
            }
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
    let end = cancelled.iter().last().unwrap();
    assert!(matches!(end, Update::Finished { finish_reason: FinishReason::Cancelled, .. }), "{end:?}");
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
fn text_that_is_held_back_comes_with_the_cancellation() {
    let handle = handle(1);
    let whole = handle.submit(request(6)).unwrap().answer().unwrap().text;
    assert!(!whole.is_empty());
    let (gate, reached, open) = Gate::new(5);
    let mut request = filtered(gate, request(80));
    request.sampling.stop = vec![format!("{whole}never")];
    let generation = handle.submit(request).unwrap();
    reached.recv().unwrap();
    handle.cancel(generation.id());
    open.send(()).unwrap();
    let answer = generation.answer().unwrap();
    assert!(matches!(answer.finish_reason, FinishReason::Cancelled));
    assert_eq!((answer.text, answer.tokens.len()), (whole, 6));
}

#[test]
fn shutting_down_ends_everything_and_dropping_all_handles_ends_the_thread() {
    type Shutdown = fn(&Handle) -> Result<(), Error>;
    let forms: [Shutdown; 2] = [Handle::shutdown, |handle| block_on(handle.shutdown_async())];
    for shutdown in forms {
        let handle = handle(1);
        let mut running = handle.submit(request(80)).unwrap();
        let mut waiting = handle.submit(request(80)).unwrap();
        assert!(matches!(running.recv(), Some(Update::Token(_))));
        block_on(handle.ping_async()).unwrap();
        let load = handle.load().unwrap();
        assert!(load.running + load.waiting >= 1, "{load:?}");
        shutdown(&handle).unwrap();
        assert!(matches!(running.iter().last(), Some(Update::Finished { .. })));
        assert!(matches!(waiting.iter().last(), Some(Update::Finished { finish_reason: FinishReason::Cancelled, .. })));
        assert!(matches!(handle.submit(request(1)).err(), Some(Error::ShutDown)));
        assert!(matches!(handle.load(), Err(Error::ShutDown)));
        assert!(matches!(handle.ping(), Err(Error::ShutDown)));
        assert!(matches!(block_on(handle.ping_async()), Err(Error::ShutDown)));
        shutdown(&handle).unwrap();
    }

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
    let broken = handle.submit(filtered(Panic, request(1))).unwrap();
    assert!(matches!(broken.answer(), Err(Error::Panicked)));
    assert!(matches!(beside.answer(), Err(Error::Panicked)));
    assert!(matches!(handle.submit(request(1)).err(), Some(Error::Panicked)));
    assert!(matches!(handle.shutdown(), Err(Error::Panicked)));
    let unmade = Handle::spawn(|| -> Result<trine_engine::Engine, Error> { panic!("a bug of the caller") });
    assert!(matches!(unmade.err(), Some(Error::Panicked)));
}

/// A filter that sleeps when it is dropped, or panics.
struct Dropped(Option<Duration>);

impl Filter for Dropped {
    fn apply(&mut self, _: &mut Candidates, _: History) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        std::thread::sleep(self.0.expect("a bug of this filter"));
    }
}

#[test]
fn whoever_waits_for_a_command_that_panics_learns_of_it() {
    let handle = handle(2);
    let (gate, reached, open) = Gate::new(0);
    let running = handle.submit(filtered(gate, request(80))).unwrap();
    reached.recv().unwrap();
    // The engine takes both after the gate. Each is refused, which drops its filter; while the second is dropped, the first has its answer.
    let refused = |filter| filtered(filter, Request::new(vec![1 << 20], Sampling::greedy()));
    let first = handle.submit_async(refused(Dropped(None)));
    let second = handle.submit_async(refused(Dropped(Some(Duration::from_millis(100)))));
    let (first, second, ()) = block_on(join3(first, second, async { open.send(()).unwrap() }));
    assert!(matches!((first.err(), second.err()), (Some(Error::Panicked), Some(Error::Panicked))));
    assert!(matches!(running.answer(), Err(Error::Panicked)));
}

/// A filter that uses a handle of its own engine.
struct Inside {
    handle: Handle,
    generations: [Generation; 2],
    errors: Sender<Vec<Option<Error>>>,
}

impl Filter for Inside {
    fn apply(&mut self, _: &mut Candidates, _: History) -> Result<(), Error> {
        let Inside { handle, generations: [first, second], errors } = self;
        let failed = |update| match update {
            Some(Update::Finished { finish_reason: FinishReason::Failed(error), .. }) => Some(error),
            _ => None,
        };
        let found = vec![
            handle.submit(request(1)).err(),
            handle.ping().err(),
            handle.shutdown().err(),
            block_on(handle.submit_async(request(1))).err(),
            block_on(handle.ping_async()).err(),
            block_on(handle.shutdown_async()).err(),
            failed(first.recv()),
            failed(block_on(second.next_async())),
        ];
        errors.send(found).unwrap();
        Ok(())
    }
}

#[test]
fn the_engine_does_not_wait_for_itself() {
    let handle = handle(3);
    let generations = [(); 2].map(|()| handle.submit(request(80)).unwrap());
    let (errors, found) = channel();
    let inside = Inside { handle: handle.clone(), generations, errors };
    assert_eq!(handle.submit(filtered(inside, request(1))).unwrap().answer().unwrap().tokens.len(), 1);
    let found = found.recv().unwrap();
    assert!(found.iter().all(|error| matches!(error, Some(Error::OwnThread))), "{found:?}");
    wait(&handle, |load| load.running + load.waiting == 0);
    handle.shutdown().unwrap();
}
