//! From float32 master weights to the bytes of effective weights, by all threads.

use super::Rounding;
use std::sync::{Mutex, PoisonError};
use trine_backend::Role;
use trine_kernels::CpuExecutor;
use trine_tensor::Format;
use trine_tensor::format::{F32, I2_S};

/// The format and role of effective weights in rows of `cols`. Inputs of a weight that is not quantized are not either.
pub(super) fn effective(rounding: Rounding, role: Role, cols: usize) -> (&'static Format, Role) {
    let float = if role == Role::BitLinear { Role::Linear } else { role };
    match rounding {
        Rounding::Float(format) => (format, float),
        Rounding::Ternary if cols.is_multiple_of(I2_S.block) => (&I2_S, role),
        Rounding::Ternary => (&F32, role),
        Rounding::Blend(_) => (&F32, float),
    }
}

/// Scales a matrix that is ternary, `s` times {-1, 0, 1}, so that [`Rounding::Ternary`] gives `s` again: its scale is the mean of `|w|`, which counts
/// zeros. Other matrices stay as they are.
pub(super) fn masters_of_ternary(weights: &mut [f32]) {
    let Some(s) = weights.iter().map(|w| w.abs()).find(|&w| w > 0.0) else { return };
    if weights.iter().all(|&w| w == 0.0 || w.abs() == s) {
        let others = weights.iter().filter(|&&w| w != 0.0).count();
        let factor = weights.len() as f64 / others as f64;
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
}

/// Weights of a task.
const PIECE: usize = 1 << 14;

/// The bytes of weights in a float format.
pub(super) fn encode(executor: &mut CpuExecutor, format: &Format, weights: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; weights.len() * format.bytes];
    each_piece(executor, weights, &mut bytes, PIECE, PIECE * format.bytes, &|weights, out| {
        (format.encode)(weights, None, out)
    });
    bytes
}

/// Calls `body` on all threads with each `piece` of the weights and the `made` elements of `out` that belong to it.
fn each_piece<T: Send>(
    executor: &mut CpuExecutor,
    weights: &[f32],
    out: &mut [T],
    piece: usize,
    made: usize,
    body: &(dyn Fn(&[f32], &mut [T]) + Sync),
) {
    let pieces: Vec<_> = weights.chunks(piece).zip(out.chunks_mut(made)).map(Mutex::new).collect();
    executor.pool().run(pieces.len(), &|i, _| {
        let (weights, out) = &mut *pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
        body(weights, out);
    });
}

/// The scale of a ternary matrix: the mean of `|w|` in half precision.
fn scale(executor: &mut CpuExecutor, weights: &[f32]) -> f32 {
    let mut sums = vec![0f64; weights.len().div_ceil(PIECE)];
    each_piece(executor, weights, &mut sums, PIECE, 1, &|weights, sum| {
        sum[0] = weights.chunks(64).map(|part| f64::from(part.iter().map(|w| w.abs()).sum::<f32>())).sum();
    });
    let mean = (sums.iter().sum::<f64>() / weights.len() as f64) as f32;
    half::f16::from_f32(mean.clamp(1e-5, half::f16::MAX.to_f32())).to_f32()
}

/// The nearest of -1, 0 and 1 to `w * inverse`; ties round to even, which is 0.
fn trit(w: f32, inverse: f32) -> f32 {
    let x = w * inverse;
    f32::from(x > 0.5) - f32::from(x < -0.5)
}

/// The bytes of a ternary matrix as float32, for rows that [`I2_S`] cannot hold.
pub(super) fn ternary(executor: &mut CpuExecutor, weights: &[f32]) -> Vec<u8> {
    let scale = scale(executor, weights);
    let rounded: Vec<f32> = weights.iter().map(|&w| trit(w, 1.0 / scale) * scale).collect();
    encode(executor, &F32, &rounded)
}

/// The bytes of [`Rounding::Blend`](super::Rounding::Blend) as float32.
pub(super) fn blend(executor: &mut CpuExecutor, weights: &[f32], share: f32) -> Vec<u8> {
    let scale = scale(executor, weights);
    let blend = |w: f32| w + share * (trit(w, 1.0 / scale) * scale - w);
    let rounded: Vec<f32> = weights.iter().map(|&w| blend(w)).collect();
    encode(executor, &F32, &rounded)
}

/// The bytes of a ternary matrix in the format [`I2_S`].
pub(super) fn i2_s(executor: &mut CpuExecutor, weights: &[f32]) -> Vec<u8> {
    let scale = scale(executor, weights);
    let inverse = 1.0 / scale;
    let mut bytes = vec![0; weights.len() / I2_S.block * I2_S.bytes + I2_S.tail];
    let (codes, tail) = bytes.split_at_mut(weights.len() / I2_S.block * I2_S.bytes);
    let made = PIECE / I2_S.block * I2_S.bytes;
    each_piece(executor, weights, codes, PIECE, made, &|weights, codes| {
        for (block, codes) in weights.chunks_exact(I2_S.block).zip(codes.chunks_exact_mut(I2_S.bytes)) {
            let (groups, _) = block.as_chunks::<32>();
            for (i, code) in codes.iter_mut().enumerate() {
                let trit = |group: usize| (trit(groups[group][i], inverse) as i8 + 1) as u8;
                *code = trit(0) << 6 | trit(1) << 4 | trit(2) << 2 | trit(3);
            }
        }
    });
    tail[..4].copy_from_slice(&scale.to_le_bytes());
    bytes
}
