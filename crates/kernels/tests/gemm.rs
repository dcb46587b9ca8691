//! Dense products agree with double precision, and all instruction sets and numbers of threads give the same bits.

mod common;

use common::{Random, bits, executors};
use half::{bf16, f16};
use trine_kernels::{CpuExecutor, Factors, Strided};

/// What a factor is rounded to.
fn rounded(x: f32, factors: Factors) -> f32 {
    match factors {
        Factors::F32 => x,
        Factors::Bf16 if bf16::from_f32(x).to_f32().abs() < 2f32.powi(-56) => 0.0,
        Factors::Bf16 => bf16::from_f32(x).to_f32(),
        Factors::F16 => f16::from_f32(x).to_f32(),
    }
}

/// Strides of a matrix: row-major, column-major, and neither.
fn layouts([rows, cols]: [usize; 2]) -> [[usize; 2]; 4] {
    [[cols, 1], [1, rows], [cols + 5, 1], [2 * cols + 1, 2]]
}

#[test]
fn products_agree_with_double_precision_and_all_machines_agree_in_every_bit() {
    let mut random = Random(11);
    let mut executors = executors();
    let shapes = [
        [1, 1, 1],
        [3, 5, 0],
        [7, 33, 17],
        [8, 32, 16],
        [16, 64, 24],
        [65, 70, 33],
        [9, 31, 257],
        [2, 3, 600],
        [70, 290, 40],
    ];
    for (i, shape) in shapes.into_iter().enumerate() {
        let [m, n, k] = shape;
        for (j, factors) in [Factors::F32, Factors::Bf16, Factors::F16].into_iter().enumerate() {
            for layout in 0..4 {
                let (a_strides, b_strides) = (layouts([m, k])[layout], layouts([k, n])[(layout + i + j) % 4]);
                let mut data =
                    |[row, col]: [usize; 2], rows: usize, cols: usize| random.floats(rows * row + cols * col + 1);
                let (a_data, b_data) = (data(a_strides, m, k), data(b_strides, k, n));
                let a = Strided { data: &a_data, row: a_strides[0], col: a_strides[1] };
                let b = Strided { data: &b_data, row: b_strides[0], col: b_strides[1] };
                let before = random.floats(m * n);
                let add = layout % 2 == 1;
                let run = |executor: &mut CpuExecutor| {
                    let mut out = if add { before.clone() } else { vec![f32::NAN; m * n] };
                    executor.gemm(shape, a, b, add, factors, &mut out);
                    out
                };
                let exact: Vec<(f64, f64)> = (0..m * n)
                    .map(|at| {
                        let term = |l: usize| {
                            let a = rounded(a.data[at / n * a.row + l * a.col], factors) as f64;
                            a * rounded(b.data[l * b.row + at % n * b.col], factors) as f64
                        };
                        let sum: f64 = (0..k).map(term).sum();
                        let size = (0..k).map(|l| term(l).powi(2)).sum::<f64>().sqrt();
                        (if add { sum + before[at] as f64 } else { sum }, size)
                    })
                    .collect();
                let reference = run(&mut executors[0]);
                for executor in &mut executors {
                    let (name, threads) = (executor.table.name, executor.threads());
                    let place = format!("{shape:?} {factors:?} layout {layout}, {name}, {threads} threads");
                    let out = run(executor);
                    assert!(bits(&out) == bits(&reference), "{place}");
                    for (out, (exact, size)) in out.into_iter().zip(&exact) {
                        assert!((out as f64 - exact).abs() <= 4e-6 * (1.0 + size), "{place}: {out} for {exact}");
                    }
                }
            }
        }
    }
}

#[test]
fn factors_are_rounded_to_the_nearest() {
    // All of half precision, what lies between, ties, and what is beyond.
    let mut x: Vec<f32> = (0..=u16::MAX)
        .map(|bits| f16::from_bits(bits).to_f32())
        .flat_map(|x| [x, x * (1.0 + 1.0 / 4096.0), x * (1.0 + 1.0 / 2048.0), x * (1.0 + 1.0 / 512.0)])
        .collect();
    x.extend([65519.9, 65520.0, -65520.0, 1e9, 3e-8, 2.9e-8, f32::INFINITY, f32::NAN, -0.0, 1e-40]);
    for mut executor in executors() {
        for factors in [Factors::Bf16, Factors::F16] {
            let mut out = vec![0.0; x.len()];
            let (a, b) = (Strided { data: &x, row: 1, col: 1 }, Strided { data: &[1.0], row: 1, col: 1 });
            executor.gemm([x.len(), 1, 1], a, b, false, factors, &mut out);
            for (x, out) in x.iter().zip(out) {
                let exact = rounded(*x, factors);
                assert!(out == exact || out.is_nan() && exact.is_nan(), "{x} {factors:?}: {out} for {exact}");
            }
        }
    }
}
