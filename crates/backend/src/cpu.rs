//! The CPU as a device: weights stay where the file is mapped, activations are recycled buffers.

use crate::{Backend, Batch, Error, Gate, KvShape, Role, Rope};
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use trine_kernels::{Attention, Form, Input, KV_FORMATS, Lines, Machine, Matrix, Quantized, Table};
use trine_tensor::{View, format::F32};

/// Columns that the exact integer sums of ternary products allow: `3 * 127 * 2^22 < 2^31`.
const WIDEST: usize = 1 << 22;

/// How to run on a CPU.
#[derive(Clone, Copy)]
pub struct CpuOptions {
    /// Threads, at least one.
    pub threads: usize,
    /// The instruction set.
    pub table: &'static Table,
}

impl Default for CpuOptions {
    /// All cores that this process may use, and the best instruction set.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        CpuOptions { threads, table: trine_kernels::tables().next().expect("the scalar table is always there") }
    }
}

/// A CPU with a KV cache.
pub struct Cpu {
    machine: Machine,
    /// Keys and values of each layer.
    cache: Vec<Lines>,
    shape: KvShape,
    store: Arc<Mutex<Store>>,
}

/// A weight of the [`Cpu`].
pub struct Weight {
    view: View,
    role: Role,
    /// Decoded, for roles that are one row.
    row: Vec<f32>,
}

impl Weight {
    fn matrix(&self) -> Matrix<'_> {
        Matrix { format: self.view.format, rows: self.view.rows(), cols: self.view.cols(), bytes: &self.view.bytes }
    }
}

/// Activations of the [`Cpu`], `[rows, cols]`. Their memory goes back to the device when they are dropped.
pub struct Act {
    data: Vec<f32>,
    cols: usize,
    /// Other forms of the same numbers, made when a product first asks for them and shared by all that follow.
    derived: RefCell<Derived>,
    store: Arc<Mutex<Store>>,
}

#[derive(Default)]
struct Derived {
    bytes: Vec<(Form, Quantized)>,
    /// What the bytes of [`Form::Tokens`] stand for.
    rounded: Option<Vec<f32>>,
}

/// Buffers that nobody uses now.
#[derive(Default)]
struct Store {
    floats: Vec<Vec<f32>>,
    bytes: Vec<Quantized>,
    derived: Vec<Derived>,
}

impl Store {
    /// A buffer of this length, of any content: the smallest that is large enough, or the largest, grown.
    fn floats(&mut self, len: usize) -> Vec<f32> {
        let fits = |(_, buffer): &(usize, &Vec<f32>)| buffer.capacity() >= len;
        let buffers = || self.floats.iter().enumerate();
        let found = buffers().filter(fits).min_by_key(|(_, buffer)| buffer.capacity());
        let found = found.or_else(|| buffers().max_by_key(|(_, buffer)| buffer.capacity())).map(|(i, _)| i);
        let mut buffer = found.map_or_else(Vec::new, |i| self.floats.swap_remove(i));
        buffer.resize(len, 0.0);
        buffer
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        let mut derived = std::mem::take(self.derived.get_mut());
        let mut store = lock(&self.store);
        store.floats.push(std::mem::take(&mut self.data));
        store.floats.extend(derived.rounded.take());
        store.bytes.extend(derived.bytes.drain(..).map(|(_, bytes)| bytes));
        store.derived.push(derived);
    }
}

fn lock(store: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Cpu {
    /// # Errors
    /// When the system gives no threads.
    pub fn new(options: CpuOptions) -> Result<Cpu, Error> {
        let machine = Machine::new(options.table, options.threads).map_err(Error::Threads)?;
        let shape = KvShape { layers: 0, heads: 0, head_dim: 0, blocks: 0, block_len: 16, format: &F32 };
        Ok(Cpu { machine, cache: Vec::new(), shape, store: Arc::default() })
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.machine.threads()
    }

    /// The instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.machine.table.name
    }

    fn act(&self, rows: usize, cols: usize) -> Act {
        let mut store = lock(&self.store);
        let data = store.floats(rows * cols);
        let derived = RefCell::new(store.derived.pop().unwrap_or_default());
        Act { data, cols, derived, store: self.store.clone() }
    }

    /// Makes sure that `x` has its bytes in this form.
    fn derive(&mut self, x: &Act, form: Form) {
        let mut derived = x.derived.borrow_mut();
        if !derived.bytes.iter().any(|(have, _)| *have == form) {
            let mut bytes = lock(&self.store).bytes.pop().unwrap_or_default();
            self.machine.quantize(&x.data, x.cols, form, &mut bytes);
            derived.bytes.push((form, bytes));
        }
    }

    /// Makes sure that `x` has the numbers that its bytes, with one scale per token, stand for.
    fn round(&mut self, x: &Act) {
        self.derive(x, Form::Tokens);
        let mut derived = x.derived.borrow_mut();
        if derived.rounded.is_none() {
            let mut rounded = lock(&self.store).floats(x.data.len());
            let bytes = derived.bytes.iter().find(|(form, _)| *form == Form::Tokens);
            bytes.expect("just derived").1.dequantize(&mut rounded);
            derived.rounded = Some(rounded);
        }
    }
}

impl Backend for Cpu {
    type Weight = Weight;
    type Act = Act;

    fn upload(&mut self, view: View, role: Role) -> Result<Weight, Error> {
        let unfit = |reason| Error::Unfit { tensor: view.name.clone(), format: view.format.name, role, reason };
        let mut row = Vec::new();
        if view.format.id.is_none() {
            return Err(unfit("it is raw data, not weights"));
        }
        match role {
            Role::Norm | Role::Bias => {
                if view.rows() != 1 {
                    return Err(unfit("it has more than one row"));
                }
                row = view.decode();
            }
            Role::Embedding | Role::Head | Role::Linear | Role::BitLinear => {
                if view.cols() > WIDEST {
                    return Err(Error::TooWide { found: view.cols(), tensor: view.name, most: WIDEST });
                }
            }
        }
        Ok(Weight { view, role, row })
    }

    fn reserve_kv(&mut self, shape: KvShape) -> Result<(), Error> {
        if !KV_FORMATS.contains(&shape.format) {
            return Err(Error::CacheType { found: shape.format.name });
        }
        let no_room = || Error::NoRoom {
            bytes: [shape.heads, shape.head_dim, shape.blocks, shape.block_len, 2 * shape.format.bytes]
                .into_iter()
                .fold(shape.layers as u128, |bytes, n| bytes.saturating_mul(n as u128))
                / shape.format.block as u128,
        };
        self.cache = Vec::new();
        let bytes = shape.bytes().filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(no_room)?;
        // The system is asked for all of it at once first, since a refusal of the parts would end the program. Memory that is asked for as
        // zeros takes room only where it is used.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| no_room())?;
        self.cache.extend((0..shape.layers).map(|_| Lines::zeroed(bytes / shape.layers)));
        self.shape = shape;
        Ok(())
    }

    fn read(&mut self, x: &Act, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(&x.data);
    }

    fn embed(&mut self, table: &Weight, tokens: &[u32]) -> Act {
        let mut out = self.act(tokens.len(), table.view.cols());
        self.machine.gather(table.matrix(), tokens, &mut out.data);
        out
    }

    fn linear(&mut self, w: &Weight, x: &Act) -> Act {
        let matrix = w.matrix();
        let mut out = self.act(x.data.len() / x.cols, matrix.rows);
        // The head of a batch of which no logits are wanted.
        if x.data.is_empty() {
            return out;
        }
        let form = match (self.machine.form(matrix.format), w.role) {
            (Form::Blocks, Role::BitLinear) => Form::Spread,
            (form, _) => form,
        };
        if form != Form::Floats {
            self.derive(x, form);
        } else if w.role == Role::BitLinear {
            self.round(x);
        }
        let derived = x.derived.borrow();
        let input = match form {
            Form::Floats => Input::Floats(if w.role == Role::BitLinear {
                derived.rounded.as_ref().expect("rounded")
            } else {
                &x.data
            }),
            _ => Input::Bytes(&derived.bytes.iter().find(|(have, _)| *have == form).expect("derived").1),
        };
        self.machine.product(matrix, input, &mut out.data);
        drop(derived);
        out
    }

    fn bias(&mut self, b: &Weight, x: &Act) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.machine.add(&x.data, &b.row, x.cols, &mut out.data);
        out
    }

    fn rms_norm(&mut self, gain: &Weight, x: &Act, eps: f32) -> Act {
        let mut out = self.act(x.data.len() / x.cols, x.cols);
        self.machine.rms_norm(&x.data, &gain.row, eps, &mut out.data);
        out
    }

    fn add(&mut self, a: &Act, b: &Act) -> Act {
        let mut out = self.act(a.data.len() / a.cols, a.cols);
        self.machine.add(&a.data, &b.data, a.cols, &mut out.data);
        out
    }

    fn gate(&mut self, kind: Gate, gate: &Act, up: &Act) -> Act {
        let mut out = self.act(gate.data.len() / gate.cols, gate.cols);
        self.machine.gate(kind, &gate.data, &up.data, gate.cols, &mut out.data);
        out
    }

    fn angles(&mut self, rope: &Rope, batch: &Batch) -> Act {
        let pairs = rope.frequencies.len();
        let mut out = self.act(batch.tokens().len(), 2 * pairs);
        // A sine and a cosine in double precision are some forty multiplications.
        self.machine.fill(&mut out.data, 2 * pairs, 80 * pairs, &|row, out| {
            let (cosines, sines) = out.split_at_mut(pairs);
            for ((cos, sin), angle) in cosines.iter_mut().zip(sines).zip(rope.angles(batch.position(row))) {
                [*cos, *sin] = angle;
            }
        });
        out
    }

    fn rope(&mut self, rope: &Rope, angles: &Act, mut x: Act) -> Act {
        let width = x.cols;
        self.machine.rope(&mut x.data, width, rope.head_dim, &angles.data, rope.pairs);
        // Its other forms are of the numbers before.
        x.derived.get_mut().bytes.clear();
        x.derived.get_mut().rounded = None;
        x
    }

    fn attention(&mut self, layer: usize, q: &Act, k: &Act, v: &Act, scale: f32, batch: &Batch) -> Act {
        let (layout, spans, blocks) = (self.shape.layout(), batch.spans(), batch.blocks());
        let mut out = self.act(batch.tokens().len(), q.cols);
        let cache = &mut self.cache[layer];
        self.machine.store(&k.data, &v.data, layout, spans, blocks, cache);
        let heads = q.cols / layout.head_dim;
        let job = Attention { q: &q.data, heads, layout, cache, scale, spans, blocks };
        self.machine.attention(&job, &mut out.data);
        out
    }

    fn select(&mut self, x: &Act, rows: &[u32]) -> Act {
        let mut out = self.act(rows.len(), x.cols);
        for (out, &row) in out.data.chunks_exact_mut(x.cols).zip(rows) {
            out.copy_from_slice(&x.data[row as usize * x.cols..][..x.cols]);
        }
        out
    }
}
