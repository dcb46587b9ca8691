//! A device that watches another one: what every operation took, what it moved, and where a token's time went.

mod histogram;
mod meter;
mod record;
mod recorder;
mod report;
mod trace;
mod work;

pub use histogram::Histogram;
pub use recorder::{Guard, Recorder, RecorderOptions};
pub use report::{DECODE, MemoryUse, Operation, PREFILL, Part, ProfileReport, TensorMemory, Time};
pub use trine_kernels::{Timeline, WorkSpan};
pub use work::{OpWork, PassSize, RoutesSize, WeightSize};

use crate::{
    ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, KvBlock, KvShape, OpOf, Role,
    Routing, Stage,
};
use meter::ActivationMeter;
use std::collections::HashMap;
use std::sync::Arc;
use trine_kernels::Span;
use trine_tensor::View;
use work::floats;

/// Runs everything on `B`, to the same bits, and tells a [`Recorder`] about it.
///
/// Bytes are those that an operation must move at least: its weights, its activations as float32 in and out, and of the KV cache every
/// position of each sequence once. Operations are the multiplications and additions of its definition, where a function such as an
/// exponential counts as one.
pub struct Profile<B> {
    inner: B,
    recorder: Recorder,
    activations: Arc<ActivationMeter>,
    /// Bytes of each KV cache, and those of one position of one layer.
    caches: HashMap<CacheId, (usize, usize)>,
}

/// A weight of a [`Profile`].
pub struct Weight<W> {
    inner: W,
    size: WeightSize,
}

/// Activations of a [`Profile`], `[rows, cols]`.
pub struct Act<A> {
    inner: A,
    rows: usize,
    cols: usize,
    /// Lets them count as long as they live.
    _held: Held,
}

impl<A> Act<A> {
    fn len(&self) -> usize {
        self.rows * self.cols
    }

    fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }
}

/// Bytes that are in use until this is dropped.
struct Held {
    bytes: usize,
    meter: Arc<ActivationMeter>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.give(self.bytes);
    }
}

impl<B: Backend> Profile<B> {
    /// Watches `inner`. Weights are noted as they are uploaded; operations count while the recorder runs.
    pub fn new(inner: B, recorder: Recorder) -> Profile<B> {
        let activations = recorder.meter();
        Profile { inner, recorder, activations, caches: HashMap::new() }
    }

    fn act(&self, inner: B::Act, rows: usize, cols: usize) -> Act<B::Act> {
        let bytes = floats(rows * cols);
        self.activations.take(bytes);
        Act { inner, rows, cols, _held: Held { bytes, meter: self.activations.clone() } }
    }

    fn time<T>(&mut self, work: OpWork, body: impl FnOnce(&mut B) -> T) -> T {
        let _operation = self.recorder.operation(work);
        body(&mut self.inner)
    }
}

/// A forward pass of a [`Profile`].
pub struct Pass<P> {
    inner: P,
    tokens: usize,
    outputs: usize,
    spans: Vec<Span>,
    position: usize,
}

impl<P> Pass<P> {
    fn size(&self) -> PassSize<'_> {
        let Pass { tokens, outputs, ref spans, position, .. } = *self;
        PassSize { tokens, outputs, spans, position }
    }
}

/// Experts of a [`Profile`].
pub struct Routes<R> {
    inner: R,
    size: RoutesSize,
}

impl<B: Backend> Backend for Profile<B> {
    type Weight = Weight<B::Weight>;
    type Act = Act<B::Act>;
    type Routes = Routes<B::Routes>;
    type Pass = Pass<B::Pass>;

    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn upload(&mut self, view: View, role: Role) -> Result<Self::Weight, Error> {
        let (rows, cols, bytes) = (view.rows(), view.cols(), view.bytes.len());
        let tensor =
            TensorMemory { name: view.name.clone(), format: view.format.name, shape: view.shape.clone(), bytes };
        let inner = self.inner.upload(view, role)?;
        Ok(Weight { inner, size: WeightSize { tensor: self.recorder.add(tensor), rows, cols, bytes } })
    }

    fn to_device(&mut self, values: &[f32], columns: usize) -> Self::Act {
        let work = OpWork::new("to_device", Part::Other, 2 * values.len(), 0);
        let out = self.time(work, |be| be.to_device(values, columns));
        self.act(out, values.len() / columns.max(1), columns)
    }

    fn to_host(&mut self, x: &Self::Act, out: &mut Vec<f32>) -> Result<(), Error> {
        let work = OpWork::new("to_host", Part::Other, 2 * x.len(), 0);
        let result = self.time(work, |be| be.to_host(&x.inner, out));
        self.recorder.end_pass();
        result
    }

    fn columns(&self, x: &Self::Act) -> usize {
        x.cols
    }

    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        let bytes = shape.bytes().unwrap_or(usize::MAX);
        let block = KvShape { n_layers: 1, blocks: 1.into(), ..shape.clone() };
        let position = block.bytes().unwrap_or(usize::MAX) / shape.block_len;
        let cache = self.inner.create_cache(shape)?;
        self.caches.insert(cache, (bytes, position));
        self.recorder.set_kv(self.caches.values().map(|(bytes, _)| bytes).sum());
        Ok(cache)
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.inner.release_cache(cache);
        self.caches.remove(&cache);
    }

    fn trim(&mut self) {
        self.inner.trim();
    }

    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) {
        self.inner.copy_block(cache, from, to);
    }

    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error> {
        self.inner.read_block(cache, block, out)
    }

    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) {
        self.inner.write_block(cache, block, bytes);
    }

    fn memory(&self) -> Option<DeviceMemory> {
        self.inner.memory()
    }

    fn set_activation_precision(&mut self, precision: ActivationPrecision) {
        self.inner.set_activation_precision(precision);
    }

    fn enter(&mut self, stage: Stage) {
        self.recorder.enter(stage);
        self.inner.enter(stage);
    }

    fn begin(&mut self, cache: CacheId, batch: &Batch) -> Self::Pass {
        let (tokens, outputs) = (batch.tokens().len(), batch.outputs().len());
        self.recorder.begin_pass(tokens, outputs, batch.spans().len());
        let position = self.caches.get(&cache).map_or(0, |(_, position)| *position);
        let inner = self.inner.begin(cache, batch);
        Pass { inner, tokens, outputs, spans: batch.spans().to_vec(), position }
    }

    fn finish(&mut self, pass: Self::Pass) -> Result<(), Error> {
        self.inner.finish(pass.inner)
    }

    fn run(&mut self, op: OpOf<Self>) -> Self::Act {
        let (work, [rows, cols]) = OpWork::of(&op, |w| w.size, |a| a.shape(), |r| r.size, Pass::size);
        let out = self.time(work, |be| be.run(op.map(|w| &w.inner, |a| &a.inner, |r| &r.inner, |p| &p.inner)));
        self.act(out, rows, cols)
    }

    fn route(&mut self, scores: &Self::Act, bias: Option<&Self::Weight>, routing: &Routing) -> Self::Routes {
        let work = OpWork::new("route", Part::Other, scores.len() + 2 * scores.rows * routing.top_k, 3 * scores.len());
        let bias = bias.map(|bias| &bias.inner);
        let inner = self.time(work, |be| be.route(&scores.inner, bias, routing));
        Routes { inner, size: RoutesSize { top_k: routing.top_k, all: scores.rows * routing.top_k } }
    }

    fn chosen_experts(&mut self, routes: &Self::Routes, out: &mut Vec<u32>) -> Result<(), Error> {
        self.inner.chosen_experts(&routes.inner, out)
    }

    fn add_norm(&mut self, gain: &Self::Weight, a: &Self::Act, b: &Self::Act, eps: f32) -> (Self::Act, Self::Act) {
        let work = OpWork::new("add_norm", Part::Norms, 4 * a.len(), 5 * a.len());
        let work = work.with(gain.size, a.rows);
        let (sum, normed) = self.time(work, |be| be.add_norm(&gain.inner, &a.inner, &b.inner, eps));
        (self.act(sum, a.rows, a.cols), self.act(normed, a.rows, a.cols))
    }
}
