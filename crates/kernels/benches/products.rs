//! Matrix products of every format on every instruction set of this CPU: one thread, a matrix in cache.
//!
//! Bytes are those of the matrix, elements its weights times the tokens.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use trine_kernels::{ActivationLayout, CpuExecutor, Input, Matrix, QuantizedActivations, Table, tables};
use trine_tensor::{FORMATS, Format, format::Layout};

/// Rows and columns of the matrix.
const SIDE: usize = 1024;
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
fn formats() -> impl Iterator<Item = &'static Format> {
    let numbers = ["F64", "I8", "I16", "I32", "I64", "U8", "F8_E4M3", "F8_E5M2"];
    FORMATS
        .iter()
        .copied()
        .filter(move |format| matches!(format.layout, Layout::Rows) && !numbers.contains(&format.name))
}

/// A product that can be run again and again.
struct Case {
    executor: CpuExecutor,
    format: &'static Format,
    /// The matrix.
    bytes: Vec<u8>,
    x: Vec<f32>,
    quantized: Option<QuantizedActivations>,
    out: Vec<f32>,
}

impl Case {
    fn new(format: &'static Format, table: &'static Table, tokens: usize) -> Case {
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
    fn run(&mut self) -> &[f32] {
        let matrix = Matrix::new(self.format, SIDE, SIDE, &self.bytes);
        let input = self.quantized.as_ref().map_or(Input::F32(&self.x), Input::Quantized);
        self.executor.product(matrix, input, &mut self.out);
        &self.out
    }
}

fn products(criterion: &mut Criterion) {
    for format in formats() {
        let mut group = criterion.benchmark_group(format.name);
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
        for tokens in [1, 16] {
            for table in tables() {
                let mut case = Case::new(format, table, tokens);
                let (elements, bytes) = ((tokens * SIDE * SIDE) as u64, case.bytes.len() as u64);
                group.throughput(Throughput::ElementsAndBytes { elements, bytes });
                let id = BenchmarkId::new(table.name, format_args!("{tokens} tokens"));
                group.bench_function(id, |bencher| bencher.iter(|| black_box(case.run().len())));
            }
        }
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
