use super::{Output, Runner, RunnerMemory, Want};
use crate::{Error, Model, ModelOptions, Result, Spec};
use std::collections::HashMap;
use std::ops::ControlFlow;
use trine_backend::{
    ActivationPrecision, Backend, Batch, CacheId, CacheType, DeviceInfo, KvBlock, KvBlocks, KvShape, Stage,
};
use trine_tensor::File;

/// A model on a backend: the one implementation of [`Runner`] for devices.
pub struct OnDevice<B: Backend> {
    model: Model<B>,
    backend: B,
    info: DeviceInfo,
    /// Bytes of each cache.
    caches: HashMap<CacheId, u64>,
}

impl<B: Backend> OnDevice<B> {
    /// Loads the model of `file`. `progress` is told the bytes of weights that are loaded, and may break off.
    ///
    /// # Errors
    /// When the file's keys and tensors are not those of a model that we know, the device refuses a weight, or `progress` breaks off.
    pub fn load(
        mut backend: B,
        file: &File,
        options: ModelOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<OnDevice<B>> {
        let model = Model::load(&mut backend, file, options, progress)?;
        Ok(OnDevice { model, info: backend.info(), backend, caches: HashMap::new() })
    }
}

impl<B> Runner for OnDevice<B>
where
    B: Backend + Send,
    B::Weight: Send,
{
    fn spec(&self) -> &Spec {
        self.model.spec()
    }

    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn limit_context(&mut self, context_length: usize) {
        self.model.limit_context(context_length);
    }

    fn has_adapter(&self, adapter: u32) -> bool {
        adapter == 0
    }

    fn set_activation_precision(&mut self, precision: ActivationPrecision) {
        self.backend.set_activation_precision(precision);
    }

    fn kv_shape(&self, blocks: KvBlocks, cache_type: CacheType) -> KvShape {
        self.model.spec().kv_shape(blocks, cache_type)
    }

    fn create_cache(&mut self, blocks: KvBlocks, cache_type: CacheType) -> Result<CacheId> {
        let shape = self.model.spec().kv_shape(blocks, cache_type);
        let bytes = shape.bytes().map_or(u64::MAX, |bytes| bytes as u64);
        let cache = self.backend.create_cache(shape)?;
        self.caches.insert(cache, bytes);
        Ok(cache)
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.backend.release_cache(cache);
        self.caches.remove(&cache);
    }

    fn trim(&mut self) {
        self.backend.trim();
    }

    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) {
        self.backend.copy_block(cache, from, to);
    }

    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<()> {
        Ok(self.backend.read_block(cache, block, out)?)
    }

    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) {
        self.backend.write_block(cache, block, bytes);
    }

    fn forward(&mut self, cache: CacheId, batch: &Batch, want: Want, output: &mut Output) -> Result<()> {
        output.clear();
        if let Some(span) = batch.spans().iter().find(|span| !self.has_adapter(span.adapter)) {
            return Err(Error::UnknownAdapter { adapter: span.adapter });
        }
        let OnDevice { model, backend, .. } = self;
        want.check(batch.outputs().len(), model.spec().vocab_size)?;
        let values = match want {
            Want::Layers => {
                let mut states = Vec::new();
                for layer in model.layer_states(backend, cache, batch)? {
                    backend.to_host(&layer, &mut states)?;
                    output.values.extend_from_slice(&states);
                }
                return Ok(());
            }
            Want::Hidden => model.hidden_states(backend, cache, batch)?,
            Want::Logits | Want::Top { .. } => model.forward(backend, cache, batch)?,
        };
        backend.to_host(&values, &mut output.values)?;
        if let Want::Top { k, edits } = want {
            let found = output.take_top(model.spec().vocab_size, k, edits);
            let arch = model.spec().arch.name();
            found.map_err(|at| Error::NotFinite { found: at.logit, token: at.id as usize, arch })?;
        }
        Ok(())
    }

    fn enter(&mut self, stage: Stage) {
        self.backend.enter(stage);
    }

    fn memory(&self) -> RunnerMemory {
        RunnerMemory {
            device: self.backend.memory(),
            kv_caches: self.caches.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        }
    }
}
