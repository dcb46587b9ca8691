//! A `Quantizer` that has done a tensor does the next without allocating, and without starting a thread.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use trine_backend::CpuOptions;
use trine_model::{DeviceOptions, Quantizer};
use trine_tensor::format::Q8_0;
use trine_tensor::{IntegerScheme, Quantized};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_second_tensor_allocates_nothing() {
    let weights: Vec<f32> = (0..1 << 18).map(|i| (i as f32).sin()).collect();
    let cpu = CpuOptions { threads: 2, ..CpuOptions::default() };
    let mut quantizer = Quantizer::new(&DeviceOptions { cpu, ..DeviceOptions::default() }).unwrap();
    let (mut out, mut integers) = (vec![0; quantizer.size(&Q8_0, 512, weights.len()).unwrap()], Quantized::default());
    let mut all = || {
        quantizer.encode(&Q8_0, 512, &weights, &mut out).unwrap();
        quantizer.quantize(IntegerScheme::AbsMax, 512, &weights, &mut integers).unwrap();
    };
    let allocate = |_| {
        let region = Region::new(ALLOCATOR);
        all();
        let change = region.change();
        (change.allocations, change.reallocations) != (0, 0)
    };
    // Scratch grows when a thread gets its first piece, which the second may not at first.
    let rounds = (0..100).map(allocate).filter(|allocates| *allocates).count();
    assert!((1..=5).contains(&rounds), "{rounds} of 100 rounds allocate");
}
