//! Every format's encoder over 16 MiB of floats with every instruction set of this CPU, one thread.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use trine_kernels::tables;
use trine_tensor::format::Layout;
use trine_tensor::{FORMATS, Format};

/// Weights: 16 MiB as float32.
const WEIGHTS: usize = 4 << 20;

/// Sums of uniform numbers, near a normal distribution, the same everywhere.
fn weights() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..WEIGHTS).map(|_| 0.05 * (0..4).map(|_| uniform()).sum::<f32>()).collect()
}

fn quantizers(criterion: &mut Criterion) {
    let weights = weights();
    let rows = |format: &&&Format| format.id.is_some() && format.weights && matches!(format.layout, Layout::Rows);
    for table in tables() {
        let mut group = criterion.benchmark_group(format!("encode/{}", table.name));
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2)).sample_size(10);
        group.throughput(Throughput::Elements(WEIGHTS as u64));
        for format in FORMATS.iter().filter(rows) {
            let mut out = vec![0; WEIGHTS / format.block * format.bytes + format.tail];
            group.bench_function(format.name, |bencher| {
                bencher.iter(|| table.encode(format, black_box(&weights), None, &mut out));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, quantizers);
criterion_main!(benches);
