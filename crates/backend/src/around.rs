use crate::{
    ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, KvBlock, KvShape, OpOf, Role,
    Routing, Stage, add_norm,
};
use trine_tensor::View;

/// A backend around another that hands every operation to a function, which may time or log it, look at its operands and results, or
/// change them. The choice of experts, [`Backend::route`], is no operation. Weights, activations and caches are those of the inner backend.
///
/// ```
/// use trine_backend::{Around, Backend, Cpu, CpuOptions, Op, Ops};
///
/// let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
/// let mut log = Vec::new();
/// let mut backend = Around::new(cpu, |cpu: &mut Cpu, op| {
///     log.push(op.name());
///     cpu.run(op)
/// });
/// let x = backend.to_device(&[1.0, 2.0], 2);
/// let y = backend.scale(&x, 3.0);
/// let sum = backend.add(&x, &y);
/// let mut values = Vec::new();
/// backend.to_host(&sum, &mut values)?;
/// assert_eq!(values, [4.0, 8.0]);
/// drop(backend);
/// assert_eq!(log, ["scale", "add"]);
/// # Ok::<(), trine_backend::Error>(())
/// ```
pub struct Around<B, F> {
    inner: B,
    each: F,
}

impl<B: Backend, F: FnMut(&mut B, OpOf<B>) -> B::Act> Around<B, F> {
    /// Calls `each` instead of every [`Backend::run`] of `inner`. It usually ends with `inner.run(op)`.
    pub fn new(inner: B, each: F) -> Around<B, F> {
        Around { inner, each }
    }
}

impl<B: Backend, F: FnMut(&mut B, OpOf<B>) -> B::Act> Backend for Around<B, F> {
    type Weight = B::Weight;
    type Act = B::Act;
    type Routes = B::Routes;
    type Pass = B::Pass;

    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn upload(&mut self, view: View, role: Role) -> Result<B::Weight, Error> {
        self.inner.upload(view, role)
    }

    fn to_device(&mut self, values: &[f32], columns: usize) -> B::Act {
        self.inner.to_device(values, columns)
    }

    fn to_host(&mut self, x: &B::Act, out: &mut Vec<f32>) -> Result<(), Error> {
        self.inner.to_host(x, out)
    }

    fn columns(&self, x: &B::Act) -> usize {
        self.inner.columns(x)
    }

    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        self.inner.create_cache(shape)
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.inner.release_cache(cache);
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
        self.inner.enter(stage);
    }

    fn begin(&mut self, cache: CacheId, batch: &Batch) -> B::Pass {
        self.inner.begin(cache, batch)
    }

    fn finish(&mut self, pass: B::Pass) -> Result<(), Error> {
        self.inner.finish(pass)
    }

    fn run(&mut self, op: OpOf<Self>) -> B::Act {
        (self.each)(&mut self.inner, op)
    }

    fn route(&mut self, scores: &B::Act, bias: Option<&B::Weight>, routing: &Routing) -> B::Routes {
        self.inner.route(scores, bias, routing)
    }

    fn chosen_experts(&mut self, routes: &Self::Routes, out: &mut Vec<u32>) -> Result<(), Error> {
        self.inner.chosen_experts(routes, out)
    }

    /// As two operations, so that the function sees both.
    fn add_norm(&mut self, gain: &B::Weight, a: &B::Act, b: &B::Act, eps: f32) -> (B::Act, B::Act) {
        add_norm(self, gain, a, b, eps)
    }
}
