//! A device that watches the inputs of products: how large those of each column are, as importance matrices have it.

use crate::{
    ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, KvBlock, KvShape, Op, OpOf, Role,
    Routing, Stage,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use trine_tensor::View;

/// The inputs that a matrix was multiplied with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Sums of squares of the inputs of each column, `[parts, cols]`: the parts are experts, or heads that have an input each; else there is one.
    pub squares: Vec<f64>,
    /// How many inputs each part had, but for heads, which have as many.
    pub counts: Vec<u64>,
    /// The first inputs, `[n, cols]`: as many as [`Observer::keeping`] says, none of parts.
    pub inputs: Vec<f32>,
}

/// What [`Observe`] saw, by the names of the matrices. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    seen: Arc<Mutex<BTreeMap<String, Observed>>>,
    keep: usize,
}

impl Observer {
    /// Keeps this many inputs of each matrix, too.
    pub fn keeping(keep: usize) -> Observer {
        Observer { keep, ..Observer::default() }
    }

    /// Takes what was seen; afterwards nothing was.
    pub fn take(&self) -> BTreeMap<String, Observed> {
        std::mem::take(&mut *self.seen())
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Observed>> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds rows of inputs; `part` says which part each belongs to.
    fn add(&self, name: &str, parts: usize, counted: usize, rows: &[f32], cols: usize, part: impl Fn(usize) -> usize) {
        let mut seen = self.seen();
        if !seen.contains_key(name) {
            let (squares, counts) = (vec![0.0; parts * cols], vec![0; counted]);
            seen.insert(name.to_owned(), Observed { squares, counts, inputs: Vec::new() });
        }
        let Observed { squares, counts, inputs } = seen.get_mut(name).expect("it was inserted");
        if parts == 1 {
            let room = (self.keep * cols).saturating_sub(inputs.len());
            inputs.extend_from_slice(&rows[..rows.len().min(room)]);
        }
        for (i, row) in rows.chunks_exact(cols).enumerate() {
            let part = part(i);
            for (sum, &x) in squares[part * cols..].iter_mut().zip(row) {
                *sum += f64::from(x) * f64::from(x);
            }
            // Heads have as many inputs as each other.
            if counted == parts {
                counts[part] += 1;
            } else if part == 0 {
                counts[0] += 1;
            }
        }
    }
}

/// Runs everything on `B`, to the same bits, and tells an [`Observer`] what matrices were multiplied with.
///
/// ```
/// use trine_backend::{Backend, Cpu, CpuOptions, Observe, Observer, Ops, Role};
/// use trine_tensor::{View, format::F32};
///
/// let observer = Observer::default();
/// let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
/// let mut device = Observe::new(cpu, observer.clone());
/// let w = View::new("w", &F32, vec![1, 2], F32.encode(&[1.0, 1.0])).unwrap();
/// let w = device.upload(w, Role::Linear)?;
/// let x = device.to_device(&[1.0, 2.0, 3.0, 4.0], 2);
/// device.linear(&w, &x);
///
/// let seen = observer.take();
/// assert_eq!(seen["w"].squares, [10.0, 20.0]);
/// assert_eq!(seen["w"].counts, [2]);
/// # Ok::<(), trine_backend::Error>(())
/// ```
pub struct Observe<B> {
    inner: B,
    observer: Observer,
    /// Inputs on the host.
    host: Vec<f32>,
    /// The names of the weights, by which those that were uploaded in several parts are told from others.
    names: HashSet<String>,
    /// Why inputs could not be had, until the pass ends.
    failed: Option<Error>,
}

/// A weight of an [`Observe`].
pub struct ObservedWeight<W> {
    inner: W,
    /// `None` for further parts of a matrix, which have the inputs of the first.
    name: Option<String>,
}

impl<B: Backend> Observe<B> {
    /// Watches `inner`.
    pub fn new(inner: B, observer: Observer) -> Observe<B> {
        Observe { inner, observer, host: Vec::new(), names: HashSet::new(), failed: None }
    }

    /// The inputs of an operation, if it is a product.
    fn watch(&mut self, op: &OpOf<Self>) -> Result<(), Error> {
        let (w, x) = match *op {
            Op::Linear { w, x } | Op::LinearPerHead { w, x, .. } | Op::Experts { w, x, .. } => (w, x),
            _ => return Ok(()),
        };
        let Some(name) = &w.name else { return Ok(()) };
        self.host.clear();
        self.inner.to_host(x, &mut self.host)?;
        let (width, observer, rows) = (self.inner.columns(x), &self.observer, &self.host[..]);
        match *op {
            Op::LinearPerHead { heads, .. } => observer.add(name, heads, 1, rows, width / heads, |i| i % heads),
            Op::Experts { routes, n_experts, .. } => {
                let mut experts = Vec::new();
                self.inner.chosen_experts(routes, &mut experts)?;
                // The inputs are those of tokens, or those of their experts.
                let used = experts.len() / (rows.len() / width).max(1);
                let all: Vec<f32> = rows.chunks_exact(width).flat_map(|row| row.repeat(used)).collect();
                observer.add(name, n_experts, n_experts, &all, width, |i| experts[i] as usize);
            }
            _ => observer.add(name, 1, 1, rows, width, |_| 0),
        }
        Ok(())
    }
}

impl<B: Backend> Backend for Observe<B> {
    type Weight = ObservedWeight<B::Weight>;
    type Act = B::Act;
    type Routes = B::Routes;
    type Pass = B::Pass;

    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn upload(&mut self, view: View, role: Role) -> Result<Self::Weight, Error> {
        let name = self.names.insert(view.name.clone()).then(|| view.name.clone());
        Ok(ObservedWeight { inner: self.inner.upload(view, role)?, name })
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
        self.inner.finish(pass)?;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn run(&mut self, op: OpOf<Self>) -> B::Act {
        if let Err(error) = self.watch(&op) {
            self.failed.get_or_insert(error);
        }
        self.inner.run(op.map(|w| &w.inner, |a| a, |r| r, |p| p))
    }

    fn route(&mut self, scores: &B::Act, bias: Option<&Self::Weight>, routing: &Routing) -> B::Routes {
        self.inner.route(scores, bias.map(|bias| &bias.inner), routing)
    }

    fn chosen_experts(&mut self, routes: &B::Routes, out: &mut Vec<u32>) -> Result<(), Error> {
        self.inner.chosen_experts(routes, out)
    }

    fn add_norm(&mut self, gain: &Self::Weight, a: &B::Act, b: &B::Act, eps: f32) -> (B::Act, B::Act) {
        self.inner.add_norm(&gain.inner, a, b, eps)
    }
}
