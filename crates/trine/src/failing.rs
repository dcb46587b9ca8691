//! A runner that fails when a test says so.

use crate::{Decoder, Options};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use trine_backend::{ActivationPrecision, Batch, CacheId, CacheType, DeviceInfo, KvBlock, KvBlocks, KvShape, Stage};
use trine_model::runner::{Output, Want};
use trine_model::{Error, Runner, RunnerMemory, Spec};

/// Which call fails, counted from 1; 0 for none.
#[derive(Default)]
pub struct Faults {
    pub forward: AtomicUsize,
    pub read_block: AtomicUsize,
}

pub struct Failing {
    pub inner: Box<dyn Runner>,
    pub faults: Arc<Faults>,
}

/// A golden model that fails as the faults say.
pub fn decoder(golden: &str) -> (Decoder, Arc<Faults>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(golden);
    let mut options = Options::default();
    options.device.cpu.threads = 1;
    let decoder = options.load(folder, &mut |_| ControlFlow::Continue(())).unwrap();
    let (placement, cache_type, faults) = (decoder.placement.clone(), decoder.cache_type, Arc::<Faults>::default());
    let (inner, language) = decoder.into_parts();
    let runner = Box::new(Failing { inner, faults: faults.clone() });
    (Decoder::new(runner, language, placement, cache_type), faults)
}

fn count_down(fault: &AtomicUsize) -> Result<(), Error> {
    let fails = fault.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)) == Ok(1);
    if fails { Err(Error::UnknownAdapter { adapter: 1 }) } else { Ok(()) }
}

#[rustfmt::skip]
impl Runner for Failing {
    fn forward(&mut self, cache: CacheId, batch: &Batch, want: Want, output: &mut Output) -> Result<(), Error> {
        count_down(&self.faults.forward)?;
        self.inner.forward(cache, batch, want, output)
    }
    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error> {
        count_down(&self.faults.read_block)?;
        self.inner.read_block(cache, block, out)
    }
    fn spec(&self) -> &Spec { self.inner.spec() }
    fn device(&self) -> &DeviceInfo { self.inner.device() }
    fn limit_context(&mut self, context_length: usize) { self.inner.limit_context(context_length) }
    fn has_adapter(&self, adapter: u32) -> bool { self.inner.has_adapter(adapter) }
    fn set_activation_precision(&mut self, precision: ActivationPrecision) { self.inner.set_activation_precision(precision) }
    fn kv_shape(&self, blocks: KvBlocks, cache_type: CacheType) -> KvShape { self.inner.kv_shape(blocks, cache_type) }
    fn create_cache(&mut self, blocks: KvBlocks, cache_type: CacheType) -> Result<CacheId, Error> { self.inner.create_cache(blocks, cache_type) }
    fn release_cache(&mut self, cache: CacheId) { self.inner.release_cache(cache) }
    fn trim(&mut self) { self.inner.trim() }
    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) { self.inner.copy_block(cache, from, to) }
    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) { self.inner.write_block(cache, block, bytes) }
    fn enter(&mut self, stage: Stage) { self.inner.enter(stage) }
    fn memory(&self) -> RunnerMemory { self.inner.memory() }
}
