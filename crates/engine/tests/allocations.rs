//! A decoded token allocates nothing, on any thread.

mod golden;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::ops::ControlFlow;
use trine_engine::{EngineOptions, EventKind, Request, Sampling};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The program has no test harness, whose threads the counter would count too.
fn main() {
    let models = [("llama", "fast"), ("bitnet-b1.58", "fast"), ("bitnet-b1.58", "quality"), ("qwen3", "balanced")];
    for (threads, (name, preset)) in [1, 2, 3].into_iter().flat_map(|threads| models.map(|model| (threads, model))) {
        let mut engine = golden::open(&golden::folder(name), threads, &EngineOptions::default()).unwrap();
        let stop = vec!["never \u{10FFFF}".to_owned()];
        let sampling = Sampling { ignore_eos: true, stop, logprobs: Some(5), ..Sampling::preset(preset).unwrap() };
        for (prompt, _) in golden::prompts(name) {
            engine.submit(Request::new(prompt[..27].to_vec(), sampling.clone())).unwrap();
        }
        let mut tokens = 0;
        let mut step = || {
            engine.step(&mut |event| {
                tokens += usize::from(matches!(event.kind, EventKind::Token { .. }));
                ControlFlow::Continue(())
            });
        };
        // Buffers grow with the first tokens.
        (0..20).for_each(|_| step());
        let region = Region::new(GLOBAL);
        (0..50).for_each(|_| step());
        let change = region.change();
        assert_eq!(tokens, 140);
        let counts = (change.allocations, change.reallocations, change.deallocations);
        assert_eq!(counts, (0, 0, 0), "{name}, {preset}, {threads} threads");
    }
}
