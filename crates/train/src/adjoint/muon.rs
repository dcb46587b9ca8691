//! Muon: momentum whose matrix is made orthogonal (arXiv:2502.16982).

use super::Muon;
use super::cpu::{plain, turned};
use trine_kernels::{Factors, Machine};

/// The quintic whose iterates bring singular values near 1.
const QUINTIC: [f32; 3] = [3.4445, -4.775, 2.0315];
/// How often.
const ROUNDS: usize = 5;

/// Room for the work on one matrix.
#[derive(Default)]
struct Room {
    x: Vec<f32>,
    gram: Vec<f32>,
    power: Vec<f32>,
    next: Vec<f32>,
}

/// Changes `w`, `[rows, cols]`, by its gradient `g` and the momentum `m`.
pub(super) fn step(machine: &mut Machine, muon: &Muon, w: &mut [f32], g: &[f32], m: &mut [f32], cols: usize) {
    let rows = w.len() / cols;
    let (short, long) = (rows.min(cols), rows.max(cols));
    let momentum = muon.momentum as f32;
    for (m, g) in m.iter_mut().zip(g) {
        *m = momentum * *m + muon.factor * g;
    }
    let mut room = Room {
        x: vec![0.0; w.len()],
        gram: vec![0.0; short * short],
        power: vec![0.0; short * short],
        next: vec![0.0; w.len()],
    };
    // Nesterov's: one step ahead. The matrix lies with its shorter side down.
    for (i, (m, g)) in m.iter().zip(g).enumerate() {
        let at = if rows <= cols { i } else { i % cols * rows + i / cols };
        room.x[at] = momentum * m + muon.factor * g;
    }
    orthogonalize(machine, &mut room, [short, long]);
    let rate = (muon.rate * 0.2 * (long as f64).sqrt()) as f32;
    let keep = (1.0 - muon.rate * muon.decay) as f32;
    for (i, w) in w.iter_mut().enumerate() {
        let at = if rows <= cols { i } else { i % cols * rows + i / cols };
        *w = *w * keep - rate * room.x[at];
    }
}

/// The nearest matrix to `room.x`, `[short, long]`, all of whose singular values are about 1.
fn orthogonalize(machine: &mut Machine, room: &mut Room, [short, long]: [usize; 2]) {
    let Room { x, gram, power, next } = room;
    let norm = machine.sum_of_squares(x).sqrt() as f32;
    x.iter_mut().for_each(|x| *x /= norm + 1e-7);
    let [a, b, c] = QUINTIC;
    for _ in 0..ROUNDS {
        machine.gemm([short, short, long], plain(x, long), turned(x, long), false, Factors::F32, gram);
        machine.gemm([short, short, short], plain(gram, short), plain(gram, short), false, Factors::F32, power);
        power.iter_mut().zip(&*gram).for_each(|(power, gram)| *power = b * gram + c * *power);
        machine.gemm([short, long, short], plain(power, short), plain(x, long), false, Factors::F32, next);
        x.iter_mut().zip(&*next).for_each(|(x, next)| *x = a * *x + next);
    }
}
