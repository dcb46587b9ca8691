//! Muon: momentum whose matrix is made orthogonal (arXiv:2502.16982). Updates are as large as AdamW's, so that learning rates carry over.

use super::{Hyperparameters, Rule};
use trine_kernels::{CpuExecutor, Factors, Strided};

pub static RULE: Rule = Rule { states: &["m"], scratch, update };

/// The update and the next iterate of its shape, and two products of the shorter side.
fn scratch([rows, cols]: [usize; 2]) -> usize {
    2 * size_of::<f32>() * (rows * cols + rows.min(cols).pow(2))
}

/// Coefficients of the quintic iteration that brings singular values near 1.
const QUINTIC: [f32; 3] = [3.4445, -4.775, 2.0315];
const ITERATIONS: usize = 5;

fn update(
    executor: &mut CpuExecutor,
    hyper: &Hyperparameters,
    cols: usize,
    w: &mut [f32],
    grad: &[f32],
    states: &mut [&mut [f32]],
) {
    let [m] = states else { unreachable!("a slice for each state") };
    let (momentum, factor) = (hyper.beta1 as f32, hyper.grad_factor);
    // Nesterov momentum looks one step ahead.
    let mut x: Vec<f32> = m
        .iter_mut()
        .zip(grad)
        .map(|(m, g)| {
            *m = momentum * *m + factor * g;
            momentum * *m + factor * g
        })
        .collect();
    let rows = w.len() / cols;
    orthogonalize(executor, &mut x, [rows, cols]);
    let rate = (hyper.learning_rate * 0.2 * (rows.max(cols) as f64).sqrt()) as f32;
    let keep = (1.0 - hyper.learning_rate * hyper.weight_decay) as f32;
    w.iter_mut().zip(&x).for_each(|(w, x)| *w = *w * keep - rate * x);
}

/// Replaces `x`, `[rows, cols]`, by the nearest matrix whose singular values are all about 1 (Newton-Schulz). The iteration is stable in bfloat16.
fn orthogonalize(executor: &mut CpuExecutor, x: &mut [f32], [rows, cols]: [usize; 2]) {
    let (wide, short, long) = (rows <= cols, rows.min(cols), rows.max(cols));
    let norm = executor.sum_of_squares(x).sqrt() as f32;
    x.iter_mut().for_each(|x| *x /= norm + 1e-7);
    let (mut gram, mut power, mut next) = (vec![0.0; short * short], vec![0.0; short * short], vec![0.0; x.len()]);
    let [a, b, c] = QUINTIC;
    let mut product = |shape: [usize; 3], left: Strided<'_>, right: Strided<'_>, out: &mut [f32]| {
        executor.gemm(shape, left, right, false, Factors::Bf16, out);
    };
    for _ in 0..ITERATIONS {
        let matrix = Strided::row_major(x, cols);
        let (left, right) = if wide { (matrix, matrix.transposed()) } else { (matrix.transposed(), matrix) };
        product([short, short, long], left, right, &mut gram);
        product([short; 3], Strided::row_major(&gram, short), Strided::row_major(&gram, short), &mut power);
        power.iter_mut().zip(&gram).for_each(|(power, gram)| *power = b * gram + c * *power);
        let (left, right) = if wide { (&power[..], &*x) } else { (&*x, &power[..]) };
        let inner = if wide { [short, cols] } else { [cols, short] };
        product(
            [rows, cols, short],
            Strided::row_major(left, inner[0]),
            Strided::row_major(right, inner[1]),
            &mut next,
        );
        x.iter_mut().zip(&next).for_each(|(x, next)| *x = a * *x + next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use trine_kernels::tables;

    #[test]
    fn singular_values_become_about_one() {
        let mut executor = CpuExecutor::new(tables().next().unwrap(), 2).unwrap();
        let mut rng = Rng::with_seed(5);
        for [rows, cols] in [[48, 48], [32, 80], [80, 32], [1, 9]] {
            let mut x: Vec<f32> = (0..rows * cols).map(|_| rng.f32() - 0.5).collect();
            orthogonalize(&mut executor, &mut x, [rows, cols]);
            let short = rows.min(cols);
            // The length of the image of a random vector of the shorter side.
            for _ in 0..20 {
                let v: Vec<f32> = (0..short).map(|_| rng.f32() - 0.5).collect();
                let image = (0..rows.max(cols)).map(|j| {
                    let at = |i: usize| if rows <= cols { i * cols + j } else { j * cols + i };
                    (0..short).map(|i| v[i] * x[at(i)]).sum::<f32>()
                });
                let length = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>().sqrt();
                let stretch = length(&mut image.into_iter()) / length(&mut v.iter().copied());
                assert!((0.6..1.3).contains(&stretch), "{rows} x {cols}: {stretch}");
            }
        }
    }
}
