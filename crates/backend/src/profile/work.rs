//! What an operation moves and computes.

use super::report::Part;
use crate::{AttentionOptions, Op};
use trine_kernels::Span;

/// What one operation is, for a [`Recorder`](super::Recorder).
#[derive(Clone, Copy, Debug)]
pub struct OpWork {
    pub name: &'static str,
    pub part: Part,
    /// The number of its weight among the recorder's tensors.
    pub tensor: Option<u32>,
    /// Tokens, where they matter.
    pub rows: usize,
    /// Bytes moved at least.
    pub bytes: usize,
    /// Multiplications and additions.
    pub operations: usize,
}

/// A weight, as far as its operations are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightSize {
    /// Its number among the recorder's tensors, from [`Recorder::add`](super::Recorder::add).
    pub tensor: u32,
    pub rows: usize,
    pub cols: usize,
    pub bytes: usize,
}

/// Experts that were chosen for the tokens of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutesSize {
    /// Experts of each token.
    pub top_k: usize,
    /// Experts of all tokens together.
    pub all: usize,
}

/// A forward pass.
#[derive(Clone, Copy, Debug)]
pub struct PassSize<'a> {
    pub tokens: usize,
    /// Rows whose outputs are wanted.
    pub outputs: usize,
    pub spans: &'a [Span],
    /// Bytes of one position in the KV cache of one layer.
    pub position: usize,
}

pub(super) fn floats(n: usize) -> usize {
    n * size_of::<f32>()
}

impl OpWork {
    /// Work that moves so many numbers of activations, in float32.
    pub fn new(name: &'static str, part: Part, moved: usize, operations: usize) -> OpWork {
        OpWork { name, part, tensor: None, rows: 0, bytes: floats(moved), operations }
    }

    /// With a weight, all bytes of which are read, for so many tokens.
    pub fn with(mut self, weight: WeightSize, rows: usize) -> OpWork {
        (self.tensor, self.rows) = (Some(weight.tensor), rows);
        self.bytes += weight.bytes;
        self
    }

    /// The work of an operation, and the shape of its result. `act` tells rows and columns.
    pub fn of<'a, W, A, R, P>(
        op: &Op<'a, W, A, R, P>,
        weight: impl Fn(&'a W) -> WeightSize,
        act: impl Fn(&'a A) -> [usize; 2],
        routes: impl Fn(&'a R) -> RoutesSize,
        pass: impl Fn(&'a P) -> PassSize<'a>,
    ) -> (OpWork, [usize; 2]) {
        let name = op.name();
        let len = |x: &'a A| act(x).iter().product::<usize>();
        let other = |moved, operations| OpWork::new(name, Part::Other, moved, operations);
        let products = |moved, operations| OpWork::new(name, Part::Products, moved, operations);
        match *op {
            Op::Embed { table, pass: p, .. } => {
                let (rows, table) = (pass(p).tokens, weight(table));
                let read = WeightSize { bytes: rows * (table.bytes / table.rows.max(1)), ..table };
                (other(rows * table.cols, 0).with(read, rows), [rows, table.cols])
            }
            Op::Linear { w, x } => {
                let (w, [rows, _]) = (weight(w), act(x));
                let work = products(rows * (w.cols + w.rows), 2 * rows * w.rows * w.cols);
                (work.with(w, rows), [rows, w.rows])
            }
            Op::LinearPerHead { w, x, .. } => {
                let (w, [rows, cols]) = (weight(w), act(x));
                let work = products(rows * (cols + w.rows), 2 * rows * w.rows * w.cols);
                (work.with(w, rows), [rows, w.rows])
            }
            Op::Bias { b, x } => (other(2 * len(x), len(x)).with(weight(b), act(x)[0]), act(x)),
            Op::RmsNorm { gain, x, .. } => {
                let work = OpWork::new(name, Part::Norms, 2 * len(x), 4 * len(x));
                (work.with(weight(gain), act(x)[0]), act(x))
            }
            Op::LayerNorm { gain, bias, x, .. } => {
                let gain = weight(gain);
                let both = WeightSize { bytes: gain.bytes + bias.map_or(0, |bias| weight(bias).bytes), ..gain };
                (OpWork::new(name, Part::Norms, 2 * len(x), 7 * len(x)).with(both, act(x)[0]), act(x))
            }
            Op::Add { a, .. } => (other(3 * len(a), len(a)), act(a)),
            Op::Scale { x, .. } => (other(2 * len(x), len(x)), act(x)),
            Op::Softcap { x, .. } => (other(2 * len(x), 3 * len(x)), act(x)),
            Op::GatedActivation { gate, up, .. } => {
                (other((2 + usize::from(up.is_some())) * len(gate), 4 * len(gate)), act(gate))
            }
            Op::SliceColumns { x, width, ref range } => {
                let [rows, cols] = act(x);
                let cols = cols / width * range.len();
                (other(2 * rows * cols, 0), [rows, cols])
            }
            Op::Concat { a, width, width_b, .. } => {
                let [rows, cols] = act(a);
                let cols = cols / width * (width + width_b);
                (other(2 * rows * cols, 0), [rows, cols])
            }
            Op::Experts { w, routes: r, n_experts, .. } => {
                // Only the device knows how many experts several tokens share: each is counted as often as it is used, up to all.
                let (w, rows) = (weight(w), routes(r).all);
                let width = w.rows / n_experts;
                let read = WeightSize { bytes: w.bytes / n_experts * rows.min(n_experts), ..w };
                (products(rows * (w.cols + width), 2 * rows * width * w.cols).with(read, rows), [rows, width])
            }
            Op::ExpertsBias { x, .. } => (other(3 * len(x), len(x)), act(x)),
            Op::CombineExperts { x, routes: r } => {
                let [rows, cols] = act(x);
                let rows = rows / routes(r).top_k;
                (other(len(x) + rows * cols, 2 * len(x)), [rows, cols])
            }
            Op::RopeCache { rope, pass: p } => {
                let (rows, cols) = (pass(p).tokens, 2 * rope.frequencies.len());
                (other(rows * cols, 2 * rows * cols), [rows, cols])
            }
            Op::Rope { cache, x, .. } => (other(2 * len(x) + len(cache), 3 * len(x)), act(x)),
            Op::Attention { q, k, v, options, pass: p, .. } => {
                let moved = 2 * len(q) + len(k) + len(v);
                (OpWork::attention(name, moved, act(q), options, pass(p)), act(q))
            }
            Op::GatherOutputs { x, pass: p } => {
                let (rows, [_, cols]) = (pass(p).outputs, act(x));
                (other(2 * rows * cols, 0), [rows, cols])
            }
        }
    }

    /// Attention of queries of a shape: a query, its scores and the values cost two operations each for every position that its token sees.
    fn attention(
        name: &'static str,
        moved: usize,
        [rows, cols]: [usize; 2],
        options: AttentionOptions,
        pass: PassSize,
    ) -> OpWork {
        let (mut seen, mut held) = (0, 0);
        for span in pass.spans {
            let len = span.cached + span.tokens;
            seen += (span.cached..len).map(|position| options.seen(position, len).len()).sum::<usize>();
            held += len - options.seen(span.cached, len).start;
        }
        let mut work = OpWork::new(name, Part::Attention, moved, 4 * cols * seen);
        work.bytes += (rows + held) * pass.position;
        work.rows = rows;
        work
    }
}
