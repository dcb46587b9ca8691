//! Single operations of a decoder, by each instruction set and in plain Rust.
//!
//! Plain Rust is written for speed: rows are decoded to floats once, sums have sixteen lanes of which the compiler can make vectors, and it
//! may add in any order. The instruction set `scalar` is slower: it has the bits of the others, for which it calls a function for each fused
//! multiplication and addition.

use std::io;
use trine_kernels::{
    Activation, ActivationLayout, CpuExecutor, Factors, Input, Matrix, QuantizedActivations, Strided, Table,
};
use trine_tensor::{FORMATS, Format, format::Layout, format::by_name};

/// Names of operations that are no products with a format.
pub const OPS: [&str; 5] = ["gemm", "softmax", "rms_norm", "layer_norm", "silu"];
/// Rows of a matrix that are encoded; it repeats them.
const ENCODED: usize = 16;
/// Epsilon of the norms.
const EPS: f32 = 1e-5;

/// An operation with its operands, which can run again and again.
pub struct OpCase {
    /// One of [`OPS`], or a format in lower case.
    pub name: String,
    /// Such as `64 x 4096 x 4096`.
    pub shape: String,
    /// Multiplications and additions of one run, or numbers that come out of it.
    pub work: f64,
    op: Operation,
    x: Vec<f32>,
    out: Vec<f32>,
    executors: Vec<CpuExecutor>,
}

enum Operation {
    /// `x`, `[tokens, side]`, times this matrix of floats, `[side, side]`, transposed.
    Gemm {
        weights: Vec<f32>,
        side: usize,
    },
    /// `x` times an encoded matrix, with `x` as each executor wants it.
    Product {
        format: &'static Format,
        bytes: Vec<u8>,
        side: usize,
        quantized: Vec<Option<QuantizedActivations>>,
    },
    Softmax {
        numerators: Vec<f32>,
    },
    RmsNorm {
        gain: Vec<f32>,
    },
    LayerNorm {
        gain: Vec<f32>,
    },
    Silu,
}

/// How large the operations are.
#[derive(Clone, Copy, Debug)]
pub struct OpSizes {
    /// Rows and columns of matrices, a multiple of 256; width of what is normed.
    pub side: usize,
    /// Rows of the other factor of `gemm`.
    pub gemm_rows: usize,
    /// Tokens of products.
    pub tokens: usize,
    /// Numbers of what is no product, a multiple of `side`.
    pub numbers: usize,
}

/// Formats that rows of weights are multiplied in.
pub fn op_formats() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| matches!(format.layout, Layout::Rows) && format.stores_models())
}

impl OpCase {
    /// The operation of this name, for these instruction sets with as many threads. `None` if there is none.
    ///
    /// # Errors
    /// When the system cannot start the threads.
    pub fn new(name: &str, sizes: OpSizes, tables: &[&'static Table], threads: usize) -> io::Result<Option<OpCase>> {
        let OpSizes { side, gemm_rows, tokens, numbers } = sizes;
        let executors = tables.iter().map(|table| CpuExecutor::new(table, threads));
        let mut executors: Vec<CpuExecutor> = executors.collect::<Result<_, _>>()?;
        let format = by_name(name).filter(|format| op_formats().any(|known| known.name == format.name));
        let rows = numbers / side;
        let (op, x, out, shape, work) = match (name, format) {
            ("gemm", _) => {
                let op = Operation::Gemm { weights: floats(side * side), side };
                let work = 2 * gemm_rows * side * side;
                (op, floats(gemm_rows * side), gemm_rows * side, format!("{gemm_rows} x {side} x {side}"), work)
            }
            ("softmax", _) => {
                let op = Operation::Softmax { numerators: vec![0.0; numbers] };
                (op, floats(numbers), numbers, numbers.to_string(), numbers)
            }
            ("rms_norm", _) => (
                Operation::RmsNorm { gain: floats(side) },
                floats(numbers),
                numbers,
                format!("{rows} x {side}"),
                numbers,
            ),
            ("layer_norm", _) => {
                let op = Operation::LayerNorm { gain: floats(side) };
                (op, floats(numbers), numbers, format!("{rows} x {side}"), numbers)
            }
            ("silu", _) => (Operation::Silu, floats(numbers), numbers, format!("{rows} x {side}"), numbers),
            (_, Some(format)) => {
                let some = format.encode(&floats(ENCODED * side));
                let (encoded, tail) = some.split_at(some.len() - format.tail);
                let bytes = [&encoded.repeat(side / ENCODED), tail].concat();
                let x = floats(tokens * side);
                let quantized = |executor: &mut CpuExecutor| {
                    let layout = executor.activation_layout(format);
                    (layout != ActivationLayout::F32).then(|| {
                        let mut quantized = QuantizedActivations::default();
                        executor.quantize(&x, side, layout, &mut quantized);
                        quantized
                    })
                };
                let quantized = executors.iter_mut().map(quantized).collect();
                let work = 2 * tokens * side * side;
                let op = Operation::Product { format, bytes, side, quantized };
                (op, x, tokens * side, format!("{tokens} x {side} x {side}"), work)
            }
            _ => return Ok(None),
        };
        let (name, work) = (name.to_ascii_lowercase(), work as f64);
        Ok(Some(OpCase { name, shape, work, op, x, out: vec![0.0; out], executors }))
    }

    /// Runs it once with the instruction set of this index.
    pub fn run(&mut self, table: usize) -> &[f32] {
        let OpCase { op, x, out, executors, .. } = self;
        let executor = &mut executors[table];
        match op {
            Operation::Gemm { weights, side } => {
                let shape = [x.len() / *side, *side, *side];
                let (a, b) = (Strided::row_major(x, *side), Strided { data: weights, row: 1, col: *side });
                executor.gemm(shape, a, b, false, Factors::F32, out);
            }
            Operation::Product { format, bytes, side, quantized } => {
                let input = quantized[table].as_ref().map_or(Input::F32(x), Input::Quantized);
                executor.product(Matrix::new(format, *side, *side, bytes), input, out);
            }
            Operation::Softmax { numerators } => {
                let width = numerators.len();
                executor.softmax_numerators(x, width, 1.0, numerators);
                executor.scale(numerators, 1.0 / sum(numerators), width, out);
            }
            Operation::RmsNorm { gain } => executor.rms_norm(x, gain, EPS, out),
            Operation::LayerNorm { gain } => executor.layer_norm(x, gain.len(), gain, None, EPS, out),
            Operation::Silu => executor.gated_activation(Activation::Silu, x, None, x.len(), out),
        }
        out
    }

    /// Runs it once in plain Rust, on one thread.
    pub fn run_plain(&mut self) -> &[f32] {
        let OpCase { op, x, out, .. } = self;
        match op {
            Operation::Gemm { weights, side } => {
                for (i, row) in weights.chunks_exact(*side).enumerate() {
                    multiply(row, i, x, out);
                }
            }
            Operation::Product { format, bytes, side, .. } => {
                let (rows, tail) = bytes.split_at(bytes.len() - format.tail);
                let mut row = vec![0.0; *side];
                for (i, bytes) in rows.chunks_exact(rows.len() / *side).enumerate() {
                    (format.decode)(bytes, tail, &mut row);
                    multiply(&row, i, x, out);
                }
            }
            Operation::Softmax { .. } => {
                let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                out.iter_mut().zip(&*x).for_each(|(out, x)| *out = (x - max).exp());
                let factor = 1.0 / sum(out);
                out.iter_mut().for_each(|out| *out *= factor);
            }
            Operation::RmsNorm { gain } => {
                let width = gain.len();
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let factor = 1.0 / (dot(x, x) / width as f32 + EPS).sqrt();
                    out.iter_mut().zip(x).zip(&*gain).for_each(|((out, x), gain)| *out = x * factor * gain);
                }
            }
            Operation::LayerNorm { gain } => {
                let width = gain.len();
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let mean = sum(x) / width as f32;
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = x - mean);
                    let factor = 1.0 / (dot(out, out) / width as f32 + EPS).sqrt();
                    out.iter_mut().zip(&*gain).for_each(|(out, gain)| *out *= factor * gain);
                }
            }
            Operation::Silu => out.iter_mut().zip(&*x).for_each(|(out, x)| *out = x / (1.0 + (-x).exp())),
        }
        out
    }
}

/// Numbers in -1..1 that look random and are always the same.
fn floats(n: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..n).map(|_| 2.0 * random.f32() - 1.0).collect()
}

/// Column `i` of a product: this row with each of `x`.
fn multiply(row: &[f32], i: usize, x: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(row.len()).zip(out.chunks_exact_mut(row.len())) {
        out[i] = dot(row, x);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn sum(x: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for x in x.as_chunks::<16>().0 {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum()
}
