//! What both benches of matrix products run: one thread, a matrix that stays in the cache.

use trine_kernels::{ActivationLayout, CpuExecutor, Input, Matrix, QuantizedActivations, Table};
use trine_tensor::{FORMATS, Format, format::Layout};

/// Rows and columns of the matrix.
pub const SIDE: usize = 1024;
/// Rows that are encoded; the matrix repeats them.
const ROWS: usize = 16;

/// Numbers in -1..1 that look random and are the same everywhere.
fn floats(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The formats of weights; the others are numbers that a file may hold beside them.
pub fn formats() -> impl Iterator<Item = &'static Format> {
    let numbers = ["F64", "I8", "I16", "I32", "I64", "U8", "F8_E4M3", "F8_E5M2"];
    FORMATS
        .iter()
        .copied()
        .filter(move |format| matches!(format.layout, Layout::Rows) && !numbers.contains(&format.name))
}

/// A product that can be run again and again.
pub struct Case {
    executor: CpuExecutor,
    format: &'static Format,
    /// The matrix.
    pub bytes: Vec<u8>,
    x: Vec<f32>,
    quantized: Option<QuantizedActivations>,
    out: Vec<f32>,
}

impl Case {
    pub fn new(format: &'static Format, table: &'static Table, tokens: usize) -> Case {
        let some = format.encode(&floats(ROWS * SIDE));
        let (rows, tail) = some.split_at(some.len() - format.tail);
        let bytes = [&rows.repeat(SIDE / ROWS), tail].concat();
        let x = floats(tokens * SIDE);
        let mut executor = CpuExecutor::new(table, 1).expect("one thread needs no other");
        let layout = executor.activation_layout(format);
        let quantized = (layout != ActivationLayout::F32).then(|| {
            let mut quantized = QuantizedActivations::default();
            executor.quantize(&x, SIDE, layout, &mut quantized);
            quantized
        });
        Case { executor, format, bytes, x, quantized, out: vec![0.0; tokens * SIDE] }
    }

    /// Runs it once.
    pub fn run(&mut self) -> &[f32] {
        let matrix = Matrix::new(self.format, SIDE, SIDE, &self.bytes);
        let input = self.quantized.as_ref().map_or(Input::F32(&self.x), Input::Quantized);
        self.executor.product(matrix, input, &mut self.out);
        &self.out
    }

    /// The same product as plain Rust does it at its best: each row is decoded to floats once, and multiplied in lanes that the compiler can
    /// make vectors of, for the CPU that the program is compiled for.
    #[allow(dead_code, reason = "one benchmark compares with it")]
    pub fn run_plain(&mut self) -> &[f32] {
        let Case { format, bytes, x, out, .. } = self;
        let (rows, tail) = bytes.split_at(bytes.len() - format.tail);
        let mut row = vec![0.0; SIDE];
        for (i, bytes) in rows.chunks_exact(rows.len() / SIDE).enumerate() {
            (format.decode)(bytes, tail, &mut row);
            for (token, x) in x.chunks_exact(SIDE).enumerate() {
                out[token * SIDE + i] = dot(&row, x);
            }
        }
        out
    }
}

#[allow(dead_code, reason = "one benchmark compares with it")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}
