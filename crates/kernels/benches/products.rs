//! Matrix products of every format on every instruction set of this CPU: one thread, a matrix in cache.
//!
//! Bytes are those of the matrix, elements its weights times the tokens.

mod cases;

use cases::{Case, SIDE, formats};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use trine_kernels::tables;

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
