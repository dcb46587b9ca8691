//! A custom runner in an engine: `cargo run --release --example runner -- "Once upon a time"`, with a model after it, if any.
//!
//! An engine asks a [`Runner`] for logits and does not care how they come about. This one halves those of another runner; a runner that
//! computes them itself fills [`Output::values`], and calls [`Output::take_top`] for [`Want::Top`].

use std::ops::ControlFlow;
use trine::backend::{ActivationPrecision, Batch, CacheId, CacheType, DeviceInfo, KvBlock, KvBlocks, KvShape, Stage};
use trine::model::runner::{Output, Want};
use trine::model::{Error, ModelOptions, Runner, RunnerMemory, Spec, load};
use trine::prelude::*;

struct Halved(Box<dyn Runner>);

#[rustfmt::skip]
impl Runner for Halved {
    fn forward(&mut self, cache: CacheId, batch: &Batch, want: Want, output: &mut Output) -> Result<(), Error> {
        if matches!(want, Want::Hidden) {
            return self.0.forward(cache, batch, want, output);
        }
        want.check(batch.outputs().len(), self.spec().vocab_size)?;
        self.0.forward(cache, batch, Want::Logits, output)?;
        output.values.iter_mut().for_each(|logit| *logit /= 2.0);
        if let Want::Top { k, edits } = want {
            output.take_top(self.spec().vocab_size, k, edits).expect("half of a finite number");
        }
        Ok(())
    }
    fn spec(&self) -> &Spec { self.0.spec() }
    fn device(&self) -> &DeviceInfo { self.0.device() }
    fn limit_context(&mut self, context_length: usize) { self.0.limit_context(context_length) }
    fn has_adapter(&self, adapter: u32) -> bool { self.0.has_adapter(adapter) }
    fn set_activation_precision(&mut self, precision: ActivationPrecision) { self.0.set_activation_precision(precision) }
    fn kv_shape(&self, blocks: KvBlocks, cache_type: CacheType) -> KvShape { self.0.kv_shape(blocks, cache_type) }
    fn create_cache(&mut self, blocks: KvBlocks, cache_type: CacheType) -> Result<CacheId, Error> { self.0.create_cache(blocks, cache_type) }
    fn release_cache(&mut self, cache: CacheId) { self.0.release_cache(cache) }
    fn trim(&mut self) { self.0.trim() }
    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) { self.0.copy_block(cache, from, to) }
    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error> { self.0.read_block(cache, block, out) }
    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) { self.0.write_block(cache, block, bytes) }
    fn enter(&mut self, stage: Stage) { self.0.enter(stage) }
    fn memory(&self) -> RunnerMemory { self.0.memory() }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().ok_or("expected a prompt")?;
    let mut llm = Options::default().open_on(args.next().unwrap_or(EMBEDDED.into()), |file, device| {
        Ok(Box::new(Halved(load(file, device, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?)))
    })?;
    // Half of the logits have the same order: a sampled answer would wander, this one is that of the model.
    let sampling = Sampling { max_tokens: Some(64), ..Sampling::greedy() };
    println!("{prompt}{}", llm.generate(&prompt, &sampling)?.text);
    Ok(())
}
