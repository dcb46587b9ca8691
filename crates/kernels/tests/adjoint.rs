//! The ways back agree with finite differences of the definitions in double precision, the optimizer with its definition, and all
//! instruction sets and numbers of threads give the same bits.

mod common;

use common::{Random, bits, executors};
use trine_kernels::{Activation, AdamW, CpuExecutor};

const WIDTHS: [usize; 4] = [1, 16, 33, 256];
/// More than are added up at once.
const ROWS: usize = 37;

/// The derivative of a sum of functions of rows by one number.
fn slope(x: &[f64], i: usize, f: &dyn Fn(&[f64]) -> f64) -> f64 {
    let moved = |by: f64| {
        let mut x = x.to_vec();
        x[i] += by;
        f(&x)
    };
    let step = 1e-4;
    // To the fourth order.
    (8.0 * (moved(step) - moved(-step)) - (moved(2.0 * step) - moved(-2.0 * step))) / (12.0 * step)
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x as f64).collect()
}

/// What all executors agree on in every bit.
fn agreed(what: &str, run: &dyn Fn(&mut CpuExecutor) -> Vec<f32>) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for mut executor in executors() {
        let out = run(&mut executor);
        let first = first.get_or_insert_with(|| out.clone());
        assert!(bits(first) == bits(&out), "{what}: {}, {} threads", executor.table.name, executor.threads());
    }
    first.unwrap()
}

fn close(what: &str, found: f32, exact: f64, tolerance: f64) {
    assert!((found as f64 - exact).abs() <= tolerance * (1.0 + exact.abs()), "{what}: {found} for {exact}");
}

#[test]
fn norms_and_gates_lead_back() {
    let mut random = Random(21);
    for width in WIDTHS {
        let (x, dy, up) = (random.floats(ROWS * width), random.floats(ROWS * width), random.floats(ROWS * width));
        let x: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
        let (gain, before) = (random.floats(width), random.floats(width));
        let of = |x: &[f32], row: usize| wide(&x[row * width..][..width]);
        let eps = 1e-2;
        let out = agreed("norm", &|executor| {
            let (mut dx, mut dgain) = (vec![f32::NAN; ROWS * width], before.clone());
            executor.rms_norm_back(&x, &gain, eps, &dy, &mut dx, &mut dgain);
            [dx, dgain].concat()
        });
        let norm = |x: &[f64], gain: &[f64], dy: &[f64]| {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let all = x.iter().zip(gain).zip(dy).map(|((x, gain), dy)| x * gain * dy);
            all.sum::<f64>() / (mean + eps as f64).sqrt()
        };
        for i in 0..ROWS * width {
            let (row, col) = (i / width, i % width);
            let exact = slope(&of(&x, row), col, &|x| norm(x, &wide(&gain), &of(&dy, row)));
            close(&format!("norm {width}"), out[i], exact, 2e-6);
        }
        for col in 0..width {
            let all = |gain: &[f64]| (0..ROWS).map(|row| norm(&of(&x, row), gain, &of(&dy, row))).sum();
            let exact = before[col] as f64 + slope(&wide(&gain), col, &all);
            close(&format!("gain {width}"), out[ROWS * width + col], exact, 4e-6);
        }
        for kind in [Activation::Silu, Activation::Relu2] {
            let out = agreed("gate", &|executor| {
                let [mut dgate, mut dup] = [(); 2].map(|()| vec![f32::NAN; ROWS * width]);
                executor.gated_activation_back(kind, &x, &up, &dy, &mut dgate, &mut dup);
                [dgate, dup].concat()
            });
            for i in 0..ROWS * width {
                let f = |x: &[f64]| match kind {
                    Activation::Silu => x[0] / (1.0 + (-x[0]).exp()) * x[1] * dy[i] as f64,
                    Activation::Relu2 => x[0].max(0.0).powi(2) * x[1] * dy[i] as f64,
                    _ => unreachable!("not among those"),
                };
                let at = [x[i] as f64, up[i] as f64];
                for (j, name) in ["gate", "up"].into_iter().enumerate() {
                    close(&format!("{kind:?} {name}"), out[j * ROWS * width + i], slope(&at, j, &f), 1e-5);
                }
            }
        }
    }
}

/// Logarithms of a softmax.
fn log_softmax(x: &[f64], temperature: f64) -> Vec<f64> {
    let total: f64 = x.iter().map(|x| (x / temperature).exp()).sum();
    x.iter().map(|x| x / temperature - total.ln()).collect()
}

#[test]
fn losses_are_their_definitions_and_lead_back() {
    let mut random = Random(22);
    let (scale, temperature) = (0.5f32, 2.5f32);
    for vocab in [1, 16, 33, 256, 2500] {
        let rows = if vocab > 1000 { 2 } else { 5 };
        let mut logits = || -> Vec<f32> { random.floats(rows * vocab).iter().map(|x| 9.0 * x + 3.0).collect() };
        let (x, teacher) = (logits(), logits());
        let targets: Vec<u32> = (0..rows).map(|i| if i == 1 { u32::MAX } else { (7 * i % vocab) as u32 }).collect();
        let entropy = agreed("cross-entropy", &|executor| {
            let (mut grad, mut losses) = (vec![f32::NAN; rows * vocab], vec![f32::NAN; rows]);
            executor.cross_entropy(&x, &targets, scale, &mut grad, &mut losses);
            [grad, losses].concat()
        });
        // Added to what the other loss gave.
        let both = agreed("divergence", &|executor| {
            let (mut grad, mut losses) = (entropy[..rows * vocab].to_vec(), vec![f32::NAN; rows]);
            executor.divergence(&x, &teacher, vocab, temperature, scale, &mut grad, &mut losses);
            [grad, losses].concat()
        });
        for row in 0..rows {
            let of = |x: &[f32]| wide(&x[row * vocab..][..vocab]);
            let f = |x: &[f64]| match targets[row] {
                u32::MAX => 0.0,
                target => -log_softmax(x, 1.0)[target as usize],
            };
            let p = log_softmax(&of(&teacher), temperature as f64);
            let far = |x: &[f64]| -> f64 {
                p.iter().zip(log_softmax(x, temperature as f64)).map(|(p, q)| p.exp() * (p - q)).sum()
            };
            close("cross-entropy", entropy[rows * vocab + row], f(&of(&x)), 2e-6);
            close("divergence", both[rows * vocab + row], far(&of(&x)), 4e-6);
            for i in (0..vocab).step_by(if vocab > 1000 { 97 } else { 1 }) {
                let at = row * vocab + i;
                let exact = scale as f64 * slope(&of(&x), i, &f);
                close("its derivative", entropy[at], exact, 1e-6);
                let more = (scale * temperature * temperature) as f64 * slope(&of(&x), i, &far);
                close("derivative of both", both[at], exact + more, 4e-6);
            }
        }
    }
}

#[test]
fn softmax_numerators_are_relative_to_the_largest() {
    let (mut random, temperature) = (Random(23), 0.7f32);
    for width in WIDTHS {
        let x: Vec<f32> = random.floats(3 * width).iter().map(|x| 9.0 * x).collect();
        let found = agreed("softmax numerators", &|executor| {
            let mut out = vec![f32::NAN; x.len()];
            executor.softmax_numerators(&x, width, temperature, &mut out);
            out
        });
        for (x, found) in x.chunks(width).zip(found.chunks(width)) {
            let most = x.iter().copied().fold(f32::MIN, f32::max);
            for (&x, &found) in x.iter().zip(found) {
                close("numerator", found, (f64::from(x - most) / f64::from(temperature)).exp(), 2e-6);
            }
        }
    }
}

#[test]
fn a_logit_that_is_not_finite_is_seen_and_a_large_one_is_none() {
    for mut executor in executors() {
        let mut loss = |x: [f32; 3]| {
            let (mut grad, mut losses) = ([0.0; 3], [0.0]);
            executor.cross_entropy(&x, &[1], 1.0, &mut grad, &mut losses);
            (losses[0], grad)
        };
        assert!(loss([1.0, f32::NAN, 2.0]).0.is_nan() && loss([1.0, 0.0, f32::INFINITY]).0.is_nan());
        let (large, grad) = loss([0.0, 3e38, 0.0]);
        assert!(large == 0.0 && grad.iter().all(|grad| grad.abs() < 1e-37));
        assert_eq!(loss([1e5, 0.0, 0.0]).0, 1e5);
    }
}

#[test]
fn adamw_moves_weights_as_defined() {
    let mut random = Random(23);
    let config = AdamW { step: 0, rate: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, decay: 0.1, factor: 0.7 };
    for len in [1, 33, 40_000] {
        let start = random.floats(len);
        let gradients: Vec<Vec<f32>> = (0..3).map(|_| random.floats(len)).collect();
        let out = agreed("adamw", &|executor| {
            let (mut w, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
            for (i, g) in gradients.iter().enumerate() {
                executor.adamw(&AdamW { step: i as u64 + 1, ..config }, &mut w, g, &mut m, &mut v);
            }
            w
        });
        for i in 0..len {
            let [b1, b2] = [config.beta1, config.beta2];
            let (mut w, mut m, mut v) = (start[i] as f64, 0.0, 0.0);
            for (step, g) in gradients.iter().enumerate() {
                let g = g[i] as f64 * config.factor as f64;
                w *= 1.0 - config.rate * config.decay;
                m = b1 * m + (1.0 - b1) * g;
                v = b2 * v + (1.0 - b2) * g * g;
                let [first, second] = [b1, b2].map(|beta| 1.0 - beta.powi(step as i32 + 1));
                w -= config.rate * (m / first) / ((v / second).sqrt() + config.eps);
            }
            close("adamw", out[i], w, 3e-7);
        }
    }
}

#[test]
fn sums_of_squares_and_scattered_rows_are_exact_enough_and_the_same_everywhere() {
    let mut random = Random(24);
    for len in [0, 1, 33, 100_001] {
        let x = random.floats(len);
        let exact: f64 = x.iter().map(|&x| x as f64 * x as f64).sum();
        let mut first = None;
        for mut executor in executors() {
            let sum = executor.sum_of_squares(&x);
            assert!((sum - exact).abs() <= 1e-12 * exact, "{sum} for {exact}");
            assert_eq!(*first.get_or_insert(sum.to_bits()), sum.to_bits(), "{}", executor.table.name);
            let mut large = vec![3e38; len.max(1)];
            assert!(executor.sum_of_squares(&large).is_finite());
            large[len / 2] = f32::NEG_INFINITY;
            assert!(!executor.sum_of_squares(&large).is_finite());
        }
    }
    for width in WIDTHS {
        let rows: Vec<u32> = (0..300).map(|_| random.next() as u32 % 11).collect();
        let (dy, before) = (random.floats(rows.len() * width), random.floats(11 * width));
        let out = agreed("scatter", &|executor| {
            let mut out = before.clone();
            executor.scatter_rows(&rows, &dy, width, &mut out);
            out
        });
        let mut plain = before.clone();
        for (&row, dy) in rows.iter().zip(dy.chunks(width)) {
            plain[row as usize * width..].iter_mut().zip(dy).for_each(|(out, dy)| *out += dy);
        }
        assert_eq!(bits(&out), bits(&plain));
    }
}
