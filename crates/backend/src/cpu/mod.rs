//! The CPU as a device: weights stay where the file is mapped or move to huge pages, activations are recycled buffers.

mod act;
mod cache;
mod ops;
mod plan;
mod plan_log;
mod weight;

pub use act::Act;
pub use plan::{CpuPlan, PlannedAct, PlannedWeight, WeightBytes};
pub use plan_log::{PlanLog, PlannedTensor, PlannedValue, Residency};
pub use weight::Weight;

use act::{Buffers, Store, lock};
use cache::Caches;

use crate::{ActivationPrecision, Batch, CacheId, Error, KvShape};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use trine_kernels::cpus::{Affinity, Topology};
use trine_kernels::numa::Numa;
use trine_kernels::{ActivationLayout, CpuExecutor, Pool, Table, Timeline};
use trine_tensor::memory::Arena;

/// Whether to spend memory and load time for faster inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Whoever loads the model decides by the memory there is; a [`Cpu`] of its own takes it for off.
    #[default]
    Auto,
    On,
    Off,
}

impl When {
    /// The names that can be parsed.
    pub const NAMES: [&str; 3] = ["auto", "on", "off"];

    fn is_on(self) -> bool {
        self == When::On
    }
}

impl From<bool> for When {
    fn from(on: bool) -> When {
        if on { When::On } else { When::Off }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        match text {
            "auto" => Ok(When::Auto),
            "on" => Ok(When::On),
            "off" => Ok(When::Off),
            _ => Err(format!("expected {}, found `{text}`", When::NAMES.join(", "))),
        }
    }
}

/// How to run on a CPU.
#[derive(Clone)]
pub struct CpuOptions {
    /// Threads, at least one.
    pub threads: usize,
    /// Threads for batches of more than one token; as many as `threads` without a number.
    pub threads_batch: Option<usize>,
    /// The instruction set: by default the best that this CPU has.
    pub table: &'static Table,
    /// The precision of the inputs of linear layers.
    pub activations: ActivationPrecision,
    /// Which CPUs the threads are bound to, the calling one included.
    pub affinity: Affinity,
    /// The NUMA policy of memory.
    pub numa: Numa,
    /// Copy weights of a mapped file to huge pages, and ask for such pages for activations: faster where memory has more bandwidth than 4 KiB
    /// pages let through, but other programs no longer share the weights. Not for the KV cache, of which a short sequence touches a little of
    /// many pages.
    pub huge_pages: When,
    /// Reuse the memory of activations only for those that fill at least half of it. Training, which keeps what every layer computes, needs less
    /// memory then. In inference, where batches differ in size, the buffers of the largest serve the smaller ones.
    pub tight_buffers: bool,
    /// Copy weights of block formats, such as Q4_K, to the order in which products load them: up to twice as fast for one token at a time.
    pub repack: When,
    /// Bring mapped weights into memory as they are uploaded, with all threads, and check them. Without it, what stays in a mapped file is
    /// neither read nor checked before it is used.
    pub prefault: bool,
    /// Keep weights from being swapped out or dropped.
    pub lock: bool,
}

impl Default for CpuOptions {
    /// A thread for each physical core that this process may use, and the best instruction set.
    fn default() -> Self {
        CpuOptions {
            threads: Topology::read().threads(),
            threads_batch: None,
            table: trine_kernels::tables().next().expect("the scalar table is always there"),
            activations: ActivationPrecision::Quantized,
            affinity: Affinity::None,
            numa: Numa::Off,
            huge_pages: When::Off,
            tight_buffers: false,
            repack: When::Off,
            prefault: true,
            lock: false,
        }
    }
}

/// What a forward pass on a [`Cpu`] runs, and the cache that holds its sequences.
pub struct Pass {
    cache: CacheId,
    shape: KvShape,
    batch: Batch,
}

impl Pass {
    /// The shape of the cache.
    pub fn cache_shape(&self) -> &KvShape {
        &self.shape
    }

    /// The tokens, spans and blocks of the pass.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// A CPU with its KV caches.
pub struct Cpu {
    executor: CpuExecutor,
    caches: Caches,
    /// Batches of passes that are finished, to be used again.
    batches: Vec<Batch>,
    store: Arc<Mutex<Store>>,
    /// Room for copied weights.
    arena: Arena,
    /// Bytes of the weights that lie elsewhere, and where mapped ones begin: a tied pair shares its pages.
    weights: u64,
    mapped: HashSet<usize>,
    options: CpuOptions,
    /// CPUs of each thread, when they are bound.
    bound: Vec<usize>,
    /// Nodes that memory is placed on, when that is not left to the system.
    nodes: Vec<usize>,
}

impl Cpu {
    /// Starts the threads. Weights and caches come later.
    ///
    /// # Errors
    /// When the system gives no threads, or does not let them run where the options say.
    pub fn new(options: CpuOptions) -> Result<Cpu, Error> {
        let mut topology = Topology::read();
        let nodes = options.numa.apply(&topology).map_err(Error::Numa)?;
        let mut cpus = Vec::new();
        if options.numa == Numa::Bind && !nodes.is_empty() {
            cpus = nodes.iter().flat_map(|node| node.cpus.iter().copied()).collect();
            topology = topology.within(&cpus);
        }
        let allowed = topology.spread();
        match &options.affinity {
            Affinity::None if cpus.is_empty() => {}
            Affinity::None | Affinity::Auto | Affinity::Compact | Affinity::Scatter if allowed.is_empty() => {
                return Err(Error::NoAffinity);
            }
            Affinity::None | Affinity::Auto => cpus = allowed,
            Affinity::Compact => cpus = topology.compact(),
            Affinity::Scatter => cpus = topology.scatter(),
            Affinity::List(list) => match list.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(&cpu) => return Err(Error::Affinity { cpu, allowed }),
                None => cpus = list.clone(),
            },
        }
        let threads = options.threads.max(options.threads_batch.unwrap_or(1)).max(1);
        let pool = Pool::bound(threads, &cpus).map_err(Error::Threads)?;
        Ok(Cpu {
            executor: CpuExecutor::with_pool(options.table, pool),
            caches: Caches::default(),
            batches: Vec::new(),
            store: Arc::new(Mutex::new(Store {
                huge_pages: options.huge_pages.is_on(),
                tight: options.tight_buffers,
                ..Store::default()
            })),
            arena: Arena::new(options.huge_pages.is_on()),
            weights: 0,
            mapped: HashSet::new(),
            bound: (0..threads).zip(cpus.into_iter().cycle()).map(|(_, cpu)| cpu).collect(),
            nodes: nodes.into_iter().map(|node| node.id).collect(),
            options,
        })
    }

    /// Lets a timeline write down when each thread works.
    pub fn watch(&mut self, timeline: &Timeline) {
        self.executor.pool().watch(timeline);
    }

    pub fn options(&self) -> &CpuOptions {
        &self.options
    }

    /// The CPU of each thread, the caller's first; empty when the system moves them.
    pub fn bound(&self) -> &[usize] {
        &self.bound
    }

    /// Nodes that memory is placed on; empty when that is left to the system.
    pub fn nodes(&self) -> &[usize] {
        &self.nodes
    }

    /// Threads for one token at a time, and for batches of more.
    pub fn threads(&self) -> [usize; 2] {
        let one = self.options.threads.max(1);
        [one, self.options.threads_batch.unwrap_or(one).max(1)]
    }

    /// Chooses [`CpuOptions::tight_buffers`] for what follows.
    pub fn set_tight_buffers(&mut self, on: bool) {
        self.options.tight_buffers = on;
        lock(&self.store).tight = on;
    }

    /// Kernels and threads.
    pub fn executor(&mut self) -> &mut CpuExecutor {
        &mut self.executor
    }

    /// The rows of a matrix as numbers.
    pub fn decoded(&mut self, w: &Weight) -> Act {
        let matrix = w.matrix();
        let rows: Vec<u32> = (0..matrix.rows as u32).collect();
        let mut out = self.act(matrix.rows, matrix.cols);
        self.executor.gather(matrix, &rows, &mut out.data);
        out
    }

    /// Activations of any content.
    pub fn act(&self, rows: usize, cols: usize) -> Act {
        let mut store = lock(&self.store);
        let data = store.floats(rows * cols);
        let derived = RefCell::new(store.derived.pop().unwrap_or_default());
        Act { data, cols, derived, store: self.store.clone() }
    }

    /// Makes sure that `x` has its bytes in this form.
    fn derive(&mut self, x: &Act, form: ActivationLayout) {
        let mut derived = x.derived.borrow_mut();
        if !derived.bytes.iter().any(|(have, _)| *have == form) {
            let mut bytes = lock(&self.store).bytes.pop().unwrap_or_default();
            self.executor.quantize(&x.data, x.cols, form, &mut bytes);
            derived.bytes.push((form, bytes));
        }
    }

    /// The numbers that the bytes of `x`, with one scale per token, stand for: what [`Role::BitLinear`](crate::Role::BitLinear) multiplies by.
    pub fn rounded(&mut self, x: &Act) -> Act {
        self.derive(x, ActivationLayout::PerToken);
        let mut out = self.act(x.rows(), x.cols);
        let derived = x.derived.borrow();
        let bytes = derived.bytes.iter().find(|(form, _)| *form == ActivationLayout::PerToken);
        bytes.expect("just derived").1.dequantize(&mut out.data);
        out
    }

    /// Makes sure that `x` has the numbers that its bytes, with one scale per token, stand for.
    fn round(&mut self, x: &Act) {
        self.derive(x, ActivationLayout::PerToken);
        let mut derived = x.derived.borrow_mut();
        if derived.rounded.is_none() {
            let mut rounded = lock(&self.store).floats(x.data.len());
            let bytes = derived.bytes.iter().find(|(form, _)| *form == ActivationLayout::PerToken);
            bytes.expect("just derived").1.dequantize(&mut rounded);
            derived.rounded = Some(rounded);
        }
    }
}
