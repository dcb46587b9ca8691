//! The memory that a model takes on the CPU, found by running it without numbers.

use super::ops::layout_of;
use super::plan_log::{PlanLog, PlannedTensor, PlannedValue, Residency};
use super::weight::placement;
use super::{Buffers, CpuOptions};
use crate::{
    ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, KvBlock, KvShape, Op, OpOf, Role,
    Routing, Stage, add_norm,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use trine_kernels::{ActivationLayout, CpuExecutor, QuantizedActivations, attention_bytes};
use trine_tensor::format::I2_S;
use trine_tensor::memory::ArenaSize;
use trine_tensor::{Format, View};

/// Bytes of the weights, by where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// In pages of mapped files.
    pub mapped: u64,
    /// In memory that they came in: of a file that was read, or of what was unpacked.
    pub held: u64,
    /// In memory that they are copied to.
    pub copied: u64,
    /// Of these, those whose rows are interleaved.
    pub repacked: u64,
}

/// A [`Backend`] that has the sizes of weights, activations and buffers that the [`Cpu`](super::Cpu) would have, and nothing in them. Weights are
/// not read.
pub struct CpuPlan {
    executor: CpuExecutor,
    options: CpuOptions,
    threads: usize,
    weights: WeightBytes,
    /// Where mapped weights begin: a tied pair shares its pages.
    mapped: HashSet<usize>,
    arena: ArenaSize,
    store: Rc<RefCell<Store>>,
    caches: Vec<KvShape>,
    /// The most that kernels of each kind need, by all threads together.
    kernels: BTreeMap<&'static str, usize>,
}

/// A weight of a [`CpuPlan`].
pub struct PlannedWeight {
    format: &'static Format,
    rows: usize,
    cols: usize,
    role: Role,
}

impl PlannedWeight {
    pub fn format(&self) -> &'static Format {
        self.format
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// Activations of a [`CpuPlan`].
pub struct PlannedAct {
    rows: usize,
    cols: usize,
    buffer: Size,
    derived: RefCell<Derived>,
    store: Rc<RefCell<Store>>,
}

impl PlannedAct {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }
}

#[derive(Default)]
struct Derived {
    bytes: Vec<(ActivationLayout, [usize; 2])>,
    rounded: Option<Size>,
}

/// Elements of a buffer, and how many it has room for.
#[derive(Clone, Copy)]
struct Size {
    len: usize,
    capacity: usize,
    /// Its number.
    id: usize,
}

impl Buffers for Size {
    fn len(&self) -> usize {
        self.len
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
}

#[derive(Default)]
struct Store {
    tight: bool,
    floats: Vec<Size>,
    /// Bytes of the buffers of [`QuantizedActivations`].
    bytes: Vec<[usize; 2]>,
    allocated: usize,
    /// How many buffers of floats there are.
    count: usize,
    /// Bytes of the values that are in use.
    in_use: usize,
    /// What is planned now.
    pass: usize,
    stage: Option<Stage>,
    op: &'static str,
    log: Option<PlanLog>,
}

impl Store {
    fn floats(&mut self, len: usize) -> Size {
        let found = super::act::choose(&self.floats, len, self.tight).map(|i| self.floats.swap_remove(i));
        let mut buffer = found.unwrap_or_else(|| {
            self.count += 1;
            Size { len: 0, capacity: 0, id: self.count - 1 }
        });
        if buffer.capacity < len {
            self.allocated += (len - buffer.capacity) * size_of::<f32>();
            buffer.capacity = len;
        }
        self.in_use += len * size_of::<f32>();
        Size { len, ..buffer }
    }

    fn give_back(&mut self, buffer: Size) {
        self.in_use -= buffer.len * size_of::<f32>();
        self.floats.push(buffer);
    }

    /// A buffer for a value of this shape.
    fn value(&mut self, rows: usize, cols: usize) -> Size {
        let before = self.allocated;
        let buffer = self.floats(rows * cols);
        let &mut Store { allocated, in_use, pass, stage, op, .. } = self;
        if let (Some(log), Some(stage)) = (&mut self.log, stage) {
            let (buffer, allocated) = (buffer.id, allocated - before);
            log.values.push(PlannedValue { pass, stage, op, rows, cols, buffer, allocated, in_use });
            log.buffers += allocated;
        }
        buffer
    }

    fn bytes(&mut self, needed: [usize; 2]) -> [usize; 2] {
        let mut buffer = self.bytes.pop().unwrap_or_default();
        for (have, needed) in buffer.iter_mut().zip(needed) {
            if *have < needed {
                // As a `Vec` grows.
                let grown = needed.max(2 * *have);
                self.allocated += grown - *have;
                *have = grown;
            }
        }
        buffer
    }
}

impl Drop for PlannedAct {
    fn drop(&mut self) {
        let (derived, mut store) = (self.derived.take(), self.store.borrow_mut());
        store.give_back(self.buffer);
        derived.rounded.into_iter().for_each(|rounded| store.give_back(rounded));
        store.bytes.extend(derived.bytes.into_iter().map(|(_, bytes)| bytes));
    }
}

impl CpuPlan {
    /// Nothing is planned yet.
    ///
    /// # Errors
    /// None that a [`Cpu`](super::Cpu) of one thread does not have.
    pub fn new(options: &CpuOptions) -> Result<CpuPlan, Error> {
        Ok(CpuPlan {
            executor: CpuExecutor::new(options.table, 1).map_err(Error::Threads)?,
            threads: options.threads.max(options.threads_batch.unwrap_or(1)).max(1),
            weights: WeightBytes::default(),
            mapped: HashSet::new(),
            arena: ArenaSize::new(options.huge_pages.is_on()),
            store: Rc::new(RefCell::new(Store { tight: options.tight_buffers, ..Store::default() })),
            caches: Vec::new(),
            kernels: BTreeMap::new(),
            options: options.clone(),
        })
    }

    /// Notes each weight and value from now on.
    pub fn with_log(self) -> CpuPlan {
        self.store.borrow_mut().log = Some(PlanLog::default());
        self
    }

    /// What was noted.
    pub fn take_log(&mut self) -> PlanLog {
        let mut log = self.store.borrow_mut().log.take().unwrap_or_default();
        log.others = self.activations() as usize - log.buffers;
        log
    }

    /// The bytes of all weights that were uploaded.
    pub fn weights(&self) -> WeightBytes {
        WeightBytes { copied: self.weights.copied + self.arena.bytes() as u64, ..self.weights }
    }

    /// The bytes of activations and of what kernels need, after all passes so far.
    pub fn activations(&self) -> u64 {
        (self.store.borrow().allocated + self.kernels.values().sum::<usize>()) as u64
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Notes the bytes that a kernel needs beside its operands. Kernels of one `kind` share them, one after the other.
    pub fn note_kernel(&mut self, kind: &'static str, bytes: usize) {
        let most = self.kernels.entry(kind).or_default();
        *most = bytes.max(*most);
    }

    /// A weight in memory that it comes in.
    pub fn hold(&mut self, format: &'static Format, role: Role, rows: usize, cols: usize) -> PlannedWeight {
        self.weights.held += format.size(rows as u64, cols as u64).unwrap_or(u64::MAX / 2);
        PlannedWeight { format, rows, cols, role }
    }

    /// Activations of this shape.
    pub fn act(&self, rows: usize, cols: usize) -> PlannedAct {
        let buffer = self.store.borrow_mut().value(rows, cols);
        PlannedAct { rows, cols, buffer, derived: RefCell::default(), store: self.store.clone() }
    }

    /// Activations of the shape of `x`.
    pub fn like(&self, x: &PlannedAct) -> PlannedAct {
        self.act(x.rows, x.cols)
    }

    /// What [`Cpu::decoded`](super::Cpu::decoded) takes.
    pub fn decoded(&self, w: &PlannedWeight) -> PlannedAct {
        self.act(w.rows, w.cols)
    }

    /// What [`Cpu::rounded`](super::Cpu::rounded) takes.
    pub fn rounded(&self, x: &PlannedAct) -> PlannedAct {
        self.derive(x, ActivationLayout::PerToken);
        self.like(x)
    }

    fn derive(&self, x: &PlannedAct, layout: ActivationLayout) {
        let mut derived = x.derived.borrow_mut();
        if derived.bytes.iter().all(|(have, _)| *have != layout) {
            let needed = QuantizedActivations::bytes_for(x.rows, x.cols, layout);
            derived.bytes.push((layout, self.store.borrow_mut().bytes(needed)));
        }
    }

    /// A product with `rows` rows of `w`.
    fn product(&mut self, w: &PlannedWeight, rows: usize, x: &PlannedAct) -> PlannedAct {
        let out = self.act(x.rows, rows);
        if x.rows == 0 {
            return out;
        }
        let layout = layout_of(&self.executor, w.format, w.role, self.options.activations);
        self.note_kernel("product", self.threads * self.executor.product_bytes(w.format, w.cols));
        if layout != ActivationLayout::F32 {
            self.derive(x, layout);
        } else if w.role == Role::BitLinear {
            self.derive(x, ActivationLayout::PerToken);
            let mut derived = x.derived.borrow_mut();
            if derived.rounded.is_none() {
                derived.rounded = Some(self.store.borrow_mut().floats(x.rows * x.cols));
            }
        }
        out
    }

    /// Products with parts of `w`, one after the other; the largest has so many tokens.
    fn parts(&mut self, w: &PlannedWeight, parts: usize, tokens: usize, cols: usize) {
        for _ in 0..parts.min(2) {
            let x = self.act(tokens, cols);
            self.product(w, w.rows / parts, &x);
        }
    }
}

impl Backend for CpuPlan {
    type Weight = PlannedWeight;
    type Act = PlannedAct;
    /// Experts of all tokens, and of each.
    type Routes = [usize; 2];
    /// The cache and the batch.
    type Pass = (KvShape, Batch);

    fn info(&self) -> DeviceInfo {
        DeviceInfo { name: "plan", isa: self.options.table.name, ..DeviceInfo::default() }
    }

    fn upload(&mut self, view: View, role: Role) -> Result<PlannedWeight, Error> {
        let (rows, cols, len) = (view.rows(), view.cols(), view.bytes.len());
        let mut weight = PlannedWeight { format: view.format, rows, cols, role };
        let ternary = || role == Role::BitLinear && view.format.name.starts_with("Q2_0") && cols % I2_S.block == 0;
        let (bytes, residency) = if matches!(role, Role::Norm | Role::Bias) {
            let bytes = (size_of::<f32>() * rows * cols) as u64;
            self.weights.copied += bytes;
            (bytes, Residency::Copied)
        } else if let Some(format) = view.rows_format() {
            weight.format = format;
            let bytes = format.size(rows as u64, cols as u64).unwrap_or(0);
            self.arena.take(bytes as usize);
            (bytes, Residency::Copied)
        } else if ternary() {
            weight.format = &I2_S;
            let bytes = I2_S.size(rows as u64, cols as u64).unwrap_or(0);
            self.weights.copied += bytes;
            (bytes, Residency::Copied)
        } else {
            let (copy, repack) = placement(&self.options, &self.executor, &view);
            self.weights.repacked += if repack { len as u64 } else { 0 };
            let residency = match copy {
                true if repack => Residency::Repacked,
                true => Residency::Copied,
                false if view.is_mapped() && !self.mapped.insert(view.bytes.as_ptr() as usize) => Residency::Shared,
                false if view.is_mapped() => Residency::Mapped,
                false => Residency::Held,
            };
            match residency {
                Residency::Mapped => self.weights.mapped += len as u64,
                Residency::Held => self.weights.held += len as u64,
                Residency::Shared => {}
                Residency::Copied | Residency::Repacked => self.arena.take(len),
            }
            (if residency == Residency::Shared { 0 } else { len as u64 }, residency)
        };
        if let Some(log) = &mut self.store.borrow_mut().log {
            let (format, stored) = (weight.format.name, len as u64);
            log.weights.push(PlannedTensor { name: view.name, format, role, stored, bytes, residency });
        }
        Ok(weight)
    }

    fn to_device(&mut self, values: &[f32], columns: usize) -> PlannedAct {
        self.act(values.len() / columns.max(1), columns)
    }

    fn to_host(&mut self, x: &PlannedAct, out: &mut Vec<f32>) -> Result<(), Error> {
        out.clear();
        out.resize(x.rows * x.cols, 0.0);
        Ok(())
    }

    fn columns(&self, x: &PlannedAct) -> usize {
        x.cols
    }

    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        self.caches.push(shape);
        Ok(CacheId(self.caches.len() as u32 - 1))
    }

    fn release_cache(&mut self, _: CacheId) {}

    fn trim(&mut self) {}

    fn copy_block(&mut self, _: CacheId, _: KvBlock, _: KvBlock) {}

    fn read_block(&mut self, _: CacheId, _: KvBlock, _: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    fn write_block(&mut self, _: CacheId, _: KvBlock, _: &[u8]) {}

    fn memory(&self) -> Option<DeviceMemory> {
        let WeightBytes { mapped, held, copied, .. } = self.weights();
        Some(DeviceMemory { weights: mapped + held + copied, activations: self.activations() })
    }

    fn set_activation_precision(&mut self, precision: ActivationPrecision) {
        self.options.activations = precision;
    }

    fn enter(&mut self, stage: Stage) {
        self.store.borrow_mut().stage = Some(stage);
    }

    fn begin(&mut self, cache: CacheId, batch: &Batch) -> (KvShape, Batch) {
        self.store.borrow_mut().stage = Some(Stage::Step);
        (self.caches[cache.0 as usize].clone(), batch.clone())
    }

    fn finish(&mut self, _: (KvShape, Batch)) -> Result<(), Error> {
        self.store.borrow_mut().pass += 1;
        Ok(())
    }

    fn run(&mut self, op: OpOf<Self>) -> PlannedAct {
        self.store.borrow_mut().op = op.name();
        match op {
            Op::Embed { table, pass, .. } => self.act(pass.1.tokens().len(), table.cols),
            Op::Linear { w, x } => self.product(w, w.rows, x),
            Op::LinearPerHead { w, x, heads } => {
                let out = self.act(x.rows, w.rows);
                self.parts(w, heads, x.rows, w.cols);
                out
            }
            Op::Bias { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::Scale { x, .. }
            | Op::Softcap { x, .. }
            | Op::ExpertsBias { x, .. }
            | Op::Rope { x, .. } => self.like(x),
            Op::Add { a, .. } => self.like(a),
            Op::GatedActivation { gate, .. } => self.like(gate),
            Op::SliceColumns { x, width, range } => self.act(x.rows, x.cols / width * range.len()),
            Op::Concat { a, width, width_b, .. } => self.act(a.rows, a.cols / width * (width + width_b)),
            Op::Experts { w, x, routes: &[all, top_k], n_experts } => {
                let out = self.act(all, w.rows / n_experts);
                // All tokens may choose the same expert, each once.
                self.parts(w, n_experts, all / top_k.max(1), x.cols);
                out
            }
            Op::CombineExperts { x, routes: &[all, top_k] } => self.act(all / top_k.max(1), x.cols),
            Op::RopeCache { rope, pass } => self.act(pass.1.tokens().len(), 2 * rope.frequencies.len()),
            Op::Attention { layer, q, options, pass: (shape, batch), .. } => {
                let n_heads = q.cols / shape.head_dim;
                let (layout, spans, blocks) = (shape.layout(layer), batch.spans(), batch.blocks());
                let needed = attention_bytes(layout, n_heads, options, spans, blocks, self.threads);
                self.note_kernel("attention", needed);
                self.act(batch.tokens().len(), q.cols)
            }
            Op::GatherOutputs { x, pass } => self.act(pass.1.outputs().len(), x.cols),
        }
    }

    fn route(&mut self, scores: &PlannedAct, _: Option<&PlannedWeight>, routing: &Routing) -> [usize; 2] {
        [scores.rows * routing.top_k, routing.top_k]
    }

    fn chosen_experts(&mut self, &[all, _]: &[usize; 2], out: &mut Vec<u32>) -> Result<(), Error> {
        out.resize(out.len() + all, 0);
        Ok(())
    }

    fn add_norm(&mut self, gain: &PlannedWeight, a: &PlannedAct, b: &PlannedAct, eps: f32) -> (PlannedAct, PlannedAct) {
        add_norm(self, gain, a, b, eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_tensor::File;

    #[test]
    fn the_pages_of_a_tied_pair_count_once_and_its_copies_twice() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models/llama/model.gguf");
        let view = File::open(path).unwrap().view("token_embd.weight").unwrap();
        let bytes = view.bytes.len() as u64;
        for (huge_pages, copies) in [(false, 0), (true, 2)] {
            let options = CpuOptions { huge_pages: huge_pages.into(), ..CpuOptions::default() };
            let mut plan = CpuPlan::new(&options).unwrap();
            for role in [Role::Embedding, Role::Head] {
                plan.upload(view.clone(), role).unwrap();
            }
            let WeightBytes { mapped, copied, .. } = plan.weights();
            assert_eq!(mapped, if copies == 0 { bytes } else { 0 });
            assert!(copied >= copies * bytes);
        }
    }
}
