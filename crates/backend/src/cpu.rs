//! The CPU as a device: weights stay where the file is mapped or move to huge pages, activations are recycled buffers.

mod act;

pub use act::Act;

use act::{Store, lock};

use crate::{Activation, ActivationPrecision, AttentionOptions, Backend, Batch, Error, KvShape, Role, Rope, Routing};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use trine_kernels::cpus::{Affinity, Topology};
use trine_kernels::numa::Numa;
use trine_kernels::{
    ActivationLayout, Attention, CacheLines, CpuExecutor, Input, KV_FORMATS, Matrix, PANEL, Pool, Routes, Table,
    interleave,
};
use trine_tensor::memory::{self, Arena};
use trine_tensor::{Format, View, format::F32};

/// Columns that the exact integer sums of ternary products allow: `3 * 127 * 2^22 < 2^31`.
const WIDEST: usize = 1 << 22;

/// How to run on a CPU.
#[derive(Clone)]
pub struct CpuOptions {
    /// Threads, at least one.
    pub threads: usize,
    /// Threads for batches of more than one token; as many as `threads` without a number.
    pub threads_batch: Option<usize>,
    /// The instruction set.
    pub table: &'static Table,
    /// What linear layers take at first.
    pub activations: ActivationPrecision,
    /// Which CPUs the threads are bound to, the calling one included.
    pub affinity: Affinity,
    /// Where memory lies when there are several nodes.
    pub numa: Numa,
    /// Copy weights of a mapped file to huge pages of our own, and ask for such pages for activations. Not for the KV cache, of which a short
    /// sequence touches a little of many pages.
    pub huge_pages: bool,
    /// Copy weights of a mapped file to the order in which products load them, where the kernels of their format have one.
    pub repack: bool,
    /// Bring mapped weights into memory as they are uploaded, with all threads.
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
            huge_pages: false,
            repack: false,
            prefault: true,
            lock: false,
        }
    }
}

/// A CPU with a KV cache.
pub struct Cpu {
    executor: CpuExecutor,
    /// Keys and values of each layer.
    cache: Vec<CacheLines>,
    shape: KvShape,
    store: Arc<Mutex<Store>>,
    /// Room for copied weights.
    arena: Arena,
    options: CpuOptions,
    /// CPUs of each thread, when they are bound.
    bound: Vec<usize>,
    /// Nodes that memory is placed on, when that is not left to the system.
    nodes: Vec<usize>,
}

/// A weight of the [`Cpu`].
pub struct Weight {
    view: View,
    role: Role,
    /// Whether its rows are interleaved, and the view's bytes not what its format says.
    interleaved: bool,
    /// Decoded, for roles that are one row.
    row: Vec<f32>,
}

impl Weight {
    /// Its tensor, as it lies on the device.
    ///
    /// # Panics
    /// When its rows are interleaved, so that the bytes are not what the format says.
    pub fn view(&self) -> &View {
        assert!(!self.interleaved, "tensor `{}` is repacked", self.view.name);
        &self.view
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The numbers of a weight that is one row.
    pub fn row(&self) -> &[f32] {
        &self.row
    }

    fn matrix(&self) -> Matrix<'_> {
        let Weight { view, interleaved, .. } = self;
        let (rows, cols) = (view.rows(), view.cols());
        Matrix { interleaved: *interleaved, ..Matrix::new(view.format, rows, cols, &view.bytes) }
    }
}

impl Cpu {
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
            Affinity::None | Affinity::Auto if allowed.is_empty() => return Err(Error::NoAffinity),
            Affinity::None | Affinity::Auto => cpus = allowed,
            Affinity::List(list) => match list.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(&cpu) => return Err(Error::Affinity { cpu, allowed }),
                None => cpus = list.clone(),
            },
        }
        let threads = options.threads.max(options.threads_batch.unwrap_or(1)).max(1);
        let pool = Pool::bound(threads, &cpus).map_err(Error::Threads)?;
        let shape = KvShape { n_layers: 0, n_kv_heads: 0, head_dim: 0, blocks: 0, block_len: 16, format: &F32 };
        Ok(Cpu {
            executor: CpuExecutor::with_pool(options.table, pool),
            cache: Vec::new(),
            shape,
            store: Arc::new(Mutex::new(Store { huge_pages: options.huge_pages, ..Store::default() })),
            arena: Arena::new(options.huge_pages),
            bound: (0..threads).zip(cpus.into_iter().cycle()).map(|(_, cpu)| cpu).collect(),
            nodes: nodes.into_iter().map(|node| node.id).collect(),
            options,
        })
    }

    /// How it runs.
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

    /// The instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.executor.table.name
    }

    /// Kernels and threads.
    pub fn executor(&mut self) -> &mut CpuExecutor {
        &mut self.executor
    }

    /// The shape of the KV cache.
    pub fn kv_shape(&self) -> KvShape {
        self.shape
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

    /// The numbers that the bytes of `x`, with one scale per token, stand for: what [`Role::BitLinear`] multiplies by.
    pub fn rounded(&mut self, x: &Act) -> Act {
        self.derive(x, ActivationLayout::PerToken);
        let mut out = self.act(x.data.len() / x.cols, x.cols);
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

impl Cpu {
    /// `x · wᵀ`.
    fn product(&mut self, matrix: Matrix, role: Role, x: &Act) -> Act {
        let mut out = self.act(x.data.len() / x.cols, matrix.rows);
        // The head of a batch of which no logits are wanted.
        if x.data.is_empty() {
            return out;
        }
        let form = match (self.executor.activation_layout(matrix.format), role) {
            (ActivationLayout::PerBlock, Role::BitLinear) => ActivationLayout::PerTokenSpread,
            (form, Role::BitLinear) => form,
            _ if self.options.activations == ActivationPrecision::F32 => ActivationLayout::F32,
            (form, _) => form,
        };
        if form != ActivationLayout::F32 {
            self.derive(x, form);
        } else if role == Role::BitLinear {
            self.round(x);
        }
        let derived = x.derived.borrow();
        let input = match form {
            ActivationLayout::F32 if role == Role::BitLinear => Input::F32(derived.rounded.as_ref().expect("rounded")),
            ActivationLayout::F32 => Input::F32(&x.data),
            _ => Input::Quantized(&derived.bytes.iter().find(|(have, _)| *have == form).expect("derived").1),
        };
        self.executor.product(matrix, input, &mut out.data);
        drop(derived);
        out
    }

    /// Some rows of `x`, or of as many columns from `first` on.
    fn rows(&self, x: &Act, rows: impl ExactSizeIterator<Item = usize>, columns: Range<usize>) -> Act {
        let mut out = self.act(rows.len(), columns.len());
        for (out, row) in out.data.chunks_exact_mut(columns.len()).zip(rows) {
            out.copy_from_slice(&x.data[row * x.cols..][columns.clone()]);
        }
        out
    }
}

/// Bytes of a weight that one thread reads at once.
const PIECE: usize = 1 << 20;

impl Cpu {
    /// Brings the bytes of a matrix to where the options want them, and says whether its rows are interleaved now.
    fn settle(&mut self, view: View) -> Result<(View, bool), Error> {
        // Parts of a matrix, one for each head or expert, are multiplied alone.
        let panels = view.shape.len() < 3 || view.shape[view.shape.len() - 2].is_multiple_of(PANEL);
        let repack = self.options.repack && view.is_mapped() && panels && self.executor.interleaves(view.format);
        let copy = repack || self.options.huge_pages && view.is_mapped();
        let view = if copy { self.copy(view, repack)? } else { view };
        if !repack {
            self.check(&view)?;
        }
        if self.options.prefault {
            self.executor.pool().run_ranges(view.bytes.len(), PIECE, &|range, _| view.prefault(range));
        }
        if self.options.lock {
            let refused = |source| Error::Lock { bytes: view.bytes.len(), limit: memory::lock_limit(), source };
            memory::lock(&view.bytes).map_err(refused)?;
        }
        Ok((view, repack))
    }

    /// A matrix in an order of its own as what products take, in memory of our own.
    fn repack(&mut self, view: &View, format: &'static Format) -> Result<View, Error> {
        let stride = format.row_bytes(view.cols()).expect("whole blocks");
        let len = stride * view.rows() + format.tail;
        let mut copy = self.arena.take(len).map_err(|_| Error::NoMemory { bytes: len })?;
        let (rows, tail) = copy.split_at_mut(stride * view.rows());
        tail.copy_from_slice(&view.repacked_tail());
        let rows: Vec<Mutex<&mut [u8]>> = rows.chunks_mut(stride).map(Mutex::new).collect();
        self.executor.pool().run(rows.len(), &|i, _| view.repack_row(i, &mut lock(&rows[i])));
        drop(rows);
        Ok(View::new(view.name.clone(), format, view.shape.clone(), copy.freeze()).expect("as many weights"))
    }

    /// Refuses encoded weights that are no finite numbers, and ternary ones that are not ternary.
    fn check(&mut self, view: &View) -> Result<(), Error> {
        let (stride, failure) = ((view.bytes.len() - view.format.tail) / view.rows(), Mutex::new(None));
        self.executor.pool().run_ranges(view.rows(), (PIECE / stride.max(1)).max(1), &|rows, _| {
            let bytes = &view.bytes[rows.start * stride..rows.end * stride];
            view.check_rows(rows.start, bytes).unwrap_or_else(|error| *lock(&failure) = Some(error));
        });
        let failure = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.map_or(Ok(()), |source| Err(Error::Damaged(Box::new(source))))
    }

    /// The same matrix in memory of our own, read in parallel; with its rows interleaved, if wanted.
    fn copy(&mut self, view: View, interleaved: bool) -> Result<View, Error> {
        let len = view.bytes.len();
        let mut copy = self.arena.take(len).map_err(|_| Error::NoMemory { bytes: len })?;
        let panel = PANEL * (len / view.rows().max(1));
        let piece = if interleaved { (PIECE / panel.max(1)).max(1) * panel } else { PIECE };
        let pieces: Vec<Mutex<&mut [u8]>> = copy.chunks_mut(piece).map(Mutex::new).collect();
        let rooms: Vec<Mutex<Vec<u8>>> = (0..self.executor.threads()).map(|_| Mutex::default()).collect();
        let failure = Mutex::new(None);
        self.executor.pool().run(pieces.len(), &|i, thread| {
            let out = &mut **lock(&pieces[i]);
            let copied = if interleaved {
                let mut room = lock(&rooms[thread]);
                room.resize(out.len(), 0);
                let read = view.copy_to(i * piece, &mut room);
                read.and_then(|()| view.check_rows(i * (piece / panel) * PANEL, &room)).map(|()| {
                    for (rows, out) in room.chunks(panel).zip(out.chunks_mut(panel)) {
                        if rows.len() == panel {
                            interleave(view.format, rows, out);
                        } else {
                            out.copy_from_slice(rows);
                        }
                    }
                })
            } else {
                view.copy_to(i * piece, out)
            };
            copied.unwrap_or_else(|error| *lock(&failure) = Some(error));
        });
        if let Some(source) = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            return Err(match source {
                trine_tensor::Error::Io(_) => Error::Read { tensor: view.name, source: Box::new(source) },
                damaged => Error::Damaged(Box::new(damaged)),
            });
        }
        drop(pieces);
        Ok(View::new(view.name, view.format, view.shape, copy.freeze()).expect("as it was"))
    }
}

impl Backend for Cpu {
    type Weight = Weight;
    type Act = Act;
    type Routes = Routes;

    fn upload(&mut self, mut view: View, role: Role) -> Result<Weight, Error> {
        let unfit = |reason| Error::Unfit { tensor: view.name.clone(), format: view.format.name, role, reason };
        let (mut row, mut interleaved) = (Vec::new(), false);
        if view.format.id.is_none() {
            return Err(unfit("it is raw data, not weights"));
        }
        match role {
            Role::Norm | Role::Bias => row = view.decode(),
            Role::Embedding | Role::Head | Role::Linear | Role::BitLinear => {
                if view.cols() > WIDEST {
                    return Err(Error::TooWide { found: view.cols(), tensor: view.name, most: WIDEST });
                }
                if let Some(format) = view.rows_format() {
                    view = self.repack(&view, format)?;
                } else if role == Role::BitLinear && view.format.name.starts_with("Q2_0") {
                    // Exact integer sums over whole rows, as all ternary formats have them.
                    view = view.as_i2_s().unwrap_or(view);
                }
                (view, interleaved) = self.settle(view)?;
            }
        }
        Ok(Weight { view, role, interleaved, row })
    }

    fn reserve_kv(&mut self, shape: KvShape) -> Result<(), Error> {
        if !KV_FORMATS.contains(&shape.format) {
            return Err(Error::CacheType { found: shape.format.name });
        }
        let no_room = || Error::NoRoom {
            bytes: [shape.n_kv_heads, shape.head_dim, shape.blocks, shape.block_len, 2 * shape.format.bytes]
                .into_iter()
                .fold(shape.n_layers as u128, |bytes, n| bytes.saturating_mul(n as u128))
                / shape.format.block as u128,
        };
        self.cache = Vec::new();
        let bytes = shape.bytes().filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(no_room)?;
        // The system is asked for all of it at once first, since a refusal of the parts would end the program. Memory that is asked for as
        // zeros takes room only where it is used.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| no_room())?;
        self.cache.extend((0..shape.n_layers).map(|_| CacheLines::zeroed(bytes / shape.n_layers)));
        self.shape = shape;
        Ok(())
    }

    fn set_activation_precision(&mut self, activations: ActivationPrecision) {
        self.options.activations = activations;
    }

    fn to_host(&mut self, x: &Act, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(&x.data);
    }

    fn embed(&mut self, table: &Weight, tokens: &[u32]) -> Act {
        // A forward pass begins here.
        let [one, batch] = self.threads();
        self.executor.pool().limit(if tokens.len() > 1 { batch } else { one });
        let mut out = self.act(tokens.len(), table.view.cols());
        self.executor.gather(table.matrix(), tokens, &mut out.data);
        out
    }

    fn linear(&mut self, w: &Weight, x: &Act) -> Act {
        self.product(w.matrix(), w.role, x)
    }

    fn bias(&mut self, b: &Weight, x: &Act) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.executor.add(&x.data, &b.row, x.cols, &mut out.data);
        out
    }

    fn rms_norm(&mut self, gain: &Weight, x: &Act, eps: f32) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.executor.rms_norm(&x.data, &gain.row, eps, &mut out.data);
        out
    }

    fn layer_norm(&mut self, gain: &Weight, bias: Option<&Weight>, x: &Act, width: usize, eps: f32) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.executor.layer_norm(&x.data, width, &gain.row, bias.map(|bias| &bias.row[..]), eps, &mut out.data);
        out
    }

    fn scale(&mut self, x: &Act, factor: f32) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.executor.scale(&x.data, factor, x.cols, &mut out.data);
        out
    }

    fn softcap(&mut self, x: &Act, cap: f32) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.executor.softcap(&x.data, cap, x.cols, &mut out.data);
        out
    }

    fn slice_columns(&mut self, x: &Act, width: usize, range: Range<usize>) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols / width * range.len());
        for (out, x) in out.data.chunks_exact_mut(range.len()).zip(x.data.chunks_exact(width)) {
            out.copy_from_slice(&x[range.clone()]);
        }
        out
    }

    fn concat(&mut self, a: &Act, width: usize, b: &Act, width_b: usize) -> Act {
        let (runs, both) = (a.cols / width, width + width_b);
        let shared = b.cols == width_b;
        let mut out = self.act(a.data.len() / a.cols, runs * both);
        for (i, (out, a)) in out.data.chunks_exact_mut(both).zip(a.data.chunks_exact(width)).enumerate() {
            let (head, tail) = out.split_at_mut(width);
            head.copy_from_slice(a);
            tail.copy_from_slice(&b.data[if shared { i / runs } else { i } * width_b..][..width_b]);
        }
        out
    }

    fn linear_per_head(&mut self, w: &Weight, x: &Act, heads: usize) -> Act {
        let (matrix, tokens) = (w.matrix(), x.data.len() / x.cols);
        let rows = matrix.rows / heads;
        let mut out = self.act(tokens, matrix.rows);
        for head in 0..heads {
            let x = self.rows(x, 0..tokens, head * matrix.cols..(head + 1) * matrix.cols);
            let part = self.product(matrix.part(head * rows..(head + 1) * rows), w.role, &x);
            for (out, part) in out.data.chunks_exact_mut(matrix.rows).zip(part.data.chunks_exact(rows)) {
                out[head * rows..][..rows].copy_from_slice(part);
            }
        }
        out
    }

    fn route(&mut self, scores: &Act, bias: Option<&Weight>, routing: &Routing) -> Routes {
        self.executor.route(&scores.data, scores.cols, bias.map(|bias| &bias.row[..]), routing)
    }

    fn experts(&mut self, w: &Weight, x: &Act, routes: &Routes, experts: usize) -> Act {
        let (matrix, all) = (w.matrix(), routes.experts.len());
        let rows = matrix.rows / experts;
        // A row for each token, or for each expert of it.
        let each = all / (x.data.len() / x.cols).max(1);
        let mut out = self.act(all, rows);
        for expert in 0..experts {
            let mine = |&i: &usize| routes.experts[i] == expert as u32;
            let mine: Vec<usize> = (0..all).filter(mine).collect();
            if mine.is_empty() {
                continue;
            }
            let x = self.rows(x, mine.iter().map(|i| i / each), 0..x.cols);
            let y = self.product(matrix.part(expert * rows..(expert + 1) * rows), w.role, &x);
            for (&i, y) in mine.iter().zip(y.data.chunks_exact(rows)) {
                out.data[i * rows..][..rows].copy_from_slice(y);
            }
        }
        out
    }

    fn experts_bias(&mut self, b: &Weight, x: &Act, routes: &Routes) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        let bias = |expert: u32| &b.row[expert as usize * x.cols..][..x.cols];
        for (i, &expert) in routes.experts.iter().enumerate() {
            let row = i * x.cols..(i + 1) * x.cols;
            self.executor.add(&x.data[row.clone()], bias(expert), x.cols, &mut out.data[row]);
        }
        out
    }

    fn combine_experts(&mut self, x: &Act, routes: &Routes) -> Act {
        let mut out = self.act(routes.experts.len() / routes.top_k, x.cols);
        self.executor.combine_experts(&x.data, &routes.weights, x.cols, &mut out.data);
        out
    }

    fn add(&mut self, a: &Act, b: &Act) -> Act {
        let mut out = self.act(a.data.len() / a.cols, a.cols);
        self.executor.add(&a.data, &b.data, a.cols, &mut out.data);
        out
    }

    fn gated_activation(&mut self, kind: Activation, gate: &Act, up: Option<&Act>) -> Act {
        let mut out = self.act(gate.data.len() / gate.cols, gate.cols);
        self.executor.gated_activation(kind, &gate.data, up.map(|up| &up.data[..]), gate.cols, &mut out.data);
        out
    }

    fn rope_cache(&mut self, rope: &Rope, batch: &Batch) -> Act {
        let pairs = rope.frequencies.len();
        let mut out = self.act(batch.tokens().len(), 2 * pairs);
        // A sine and a cosine in double precision are some forty multiplications.
        self.executor.fill(&mut out.data, 2 * pairs, 80 * pairs, &|row, out| {
            let (cosines, sines) = out.split_at_mut(pairs);
            for ((cos, sin), angle) in cosines.iter_mut().zip(sines).zip(rope.angles(batch.position(row))) {
                [*cos, *sin] = angle;
            }
        });
        out
    }

    fn rope(&mut self, rope: &Rope, angles: &Act, mut x: Act) -> Act {
        let width = x.cols;
        self.executor.rope(x.data_mut(), width, rope.head_dim, &angles.data, rope.pairs);
        x
    }

    fn attention(
        &mut self,
        layer: usize,
        q: &Act,
        k: &Act,
        v: &Act,
        attend: &AttentionOptions,
        sinks: Option<&Weight>,
        batch: &Batch,
    ) -> Act {
        let (layout, spans, blocks) = (self.shape.layout(), batch.spans(), batch.blocks());
        let mut out = self.act(batch.tokens().len(), q.cols);
        let cache = &mut self.cache[layer];
        self.executor.store(&k.data, &v.data, layout, spans, blocks, cache);
        let n_heads = q.cols / layout.head_dim;
        let sinks = sinks.map_or(&[][..], |sinks| &sinks.row);
        let job = Attention { q: &q.data, n_heads, layout, cache, options: *attend, sinks, spans, blocks };
        self.executor.attention(&job, &mut out.data);
        out
    }

    fn gather_rows(&mut self, x: &Act, rows: &[u32]) -> Act {
        self.rows(x, rows.iter().map(|&row| row as usize), 0..x.cols)
    }
}
