//! The way back on a CPU.

use super::{AdamW, Adjoint, Muon, Rounding, muon};
use std::sync::{Mutex, PoisonError};
use trine_backend::{Act, Activation, Backend, Batch, Cpu, Error, Role, Rope, Weight};
use trine_kernels::{AttentionBackward, AttentionOptions, CpuExecutor, Factors, Strided};
use trine_tensor::format::{F32, I2_S};
use trine_tensor::{Format, View};

/// A matrix as it lies, `[rows, cols]`.
pub(super) fn plain(data: &[f32], cols: usize) -> Strided<'_> {
    Strided { data, row: cols, col: 1 }
}

/// The same, turned.
pub(super) fn turned(data: &[f32], cols: usize) -> Strided<'_> {
    Strided { data, row: 1, col: cols }
}

impl Adjoint for Cpu {
    fn write(&mut self, values: &[f32], cols: usize) -> Act {
        let mut x = self.act(values.len() / cols, cols);
        x.data_mut().copy_from_slice(values);
        x
    }

    fn copy(&mut self, x: &Act) -> Act {
        self.write(x.data(), x.cols())
    }

    fn accumulate(&mut self, sum: &mut Act, x: &Act) {
        let (x, cols) = (x.data(), x.cols());
        self.executor().fill(sum.data_mut(), cols, cols, &|i, sum| {
            sum.iter_mut().zip(&x[i * cols..]).for_each(|(sum, x)| *sum += x);
        });
    }

    fn clear(&mut self, x: &mut Act) {
        x.data_mut().fill(0.0);
    }

    fn sum_of_squares(&mut self, x: &Act) -> f64 {
        self.executor().sum_of_squares(x.data())
    }

    fn settle(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
        master: &Act,
        rounding: Rounding,
    ) -> Result<Weight, Error> {
        let cols = shape.last().copied().unwrap_or(1);
        let (format, role, bytes): (&'static Format, _, _) = match rounding {
            Rounding::Float(format) => (format, float(role), encode(self.executor(), format, master.data())),
            Rounding::Ternary if cols.is_multiple_of(I2_S.block) => (&I2_S, role, i2_s(self.executor(), master.data())),
            Rounding::Ternary => {
                let scale = scale(self.executor(), master.data());
                let rounded: Vec<f32> = master.data().iter().map(|&w| trit(w, 1.0 / scale) * scale).collect();
                (&F32, role, encode(self.executor(), &F32, &rounded))
            }
            Rounding::Towards(share) => {
                let scale = scale(self.executor(), master.data());
                let towards = |w: f32| w + share * (trit(w, 1.0 / scale) * scale - w);
                let rounded: Vec<f32> = master.data().iter().map(|&w| towards(w)).collect();
                (&F32, float(role), encode(self.executor(), &F32, &rounded))
            }
        };
        let view = View::new(name, format, shape.to_vec(), bytes).expect("as many bytes as the format says");
        self.upload(view, role)
    }

    fn embed_back(&mut self, tokens: &[u32], dy: &Act, dtable: &mut Act) {
        self.executor().scatter_rows(tokens, dy.data(), dy.cols(), dtable.data_mut());
    }

    fn linear_back(&mut self, w: &Weight, x: &Act, dy: &Act, factors: Factors, dw: &mut Act, dx: Option<Act>) -> Act {
        let view = w.view();
        let (tokens, rows, cols) = (x.data().len() / x.cols(), view.rows(), view.cols());
        let rounded = (w.role() == Role::BitLinear || view.format.ternary).then(|| self.rounded(x));
        let x = rounded.as_ref().unwrap_or(x);
        let (back, input) = (turned(dy.data(), rows), plain(x.data(), cols));
        self.executor().gemm([rows, cols, tokens], back, input, true, factors, dw.data_mut());
        let decoded;
        let weights = match bytemuck::try_cast_slice(&view.bytes) {
            Ok(weights) if view.format == &F32 => weights,
            _ => {
                decoded = self.decoded(w);
                decoded.data()
            }
        };
        let add = dx.is_some();
        let mut dx = dx.unwrap_or_else(|| self.act(tokens, cols));
        let (back, weights) = (plain(dy.data(), rows), plain(weights, cols));
        self.executor().gemm([tokens, cols, rows], back, weights, add, factors, dx.data_mut());
        dx
    }

    fn bias_back(&mut self, dy: &Act, db: &mut Act) {
        for dy in dy.data().chunks_exact(dy.cols()) {
            db.data_mut().iter_mut().zip(dy).for_each(|(db, dy)| *db += dy);
        }
    }

    fn rms_norm_back(&mut self, gain: &Weight, x: &Act, eps: f32, dy: &Act, dgain: &mut Act) -> Act {
        let mut dx = self.act(x.data().len() / x.cols(), x.cols());
        self.executor().rms_norm_back(x.data(), gain.row(), eps, dy.data(), dx.data_mut(), dgain.data_mut());
        dx
    }

    fn gate_back(&mut self, kind: Activation, gate: &Act, up: &Act, dy: &Act) -> [Act; 2] {
        let rows = gate.data().len() / gate.cols();
        let mut parts = [0; 2].map(|_| self.act(rows, gate.cols()));
        let [dgate, dup] = &mut parts;
        self.executor().gated_activation_back(
            kind,
            gate.data(),
            up.data(),
            dy.data(),
            dgate.data_mut(),
            dup.data_mut(),
        );
        parts
    }

    fn rope_back(&mut self, rope: &Rope, angles: &Act, mut dy: Act) -> Act {
        // The other way round: by the same angles, negative.
        let mut back = self.copy(angles);
        let pairs = rope.frequencies.len();
        for row in back.data_mut().chunks_exact_mut(2 * pairs) {
            row[pairs..].iter_mut().for_each(|sin| *sin = -*sin);
        }
        let width = dy.cols();
        self.executor().rope(dy.data_mut(), width, rope.head_dim, back.data(), rope.pairs);
        dy
    }

    fn attention_back(
        &mut self,
        qkv: [&Act; 3],
        out: &Act,
        dy: &Act,
        attend: &AttentionOptions,
        batch: &Batch,
    ) -> [Act; 3] {
        let mut parts = qkv.map(|x| self.act(x.data().len() / x.cols(), x.cols()));
        let [q, k, v] = qkv.map(Act::data);
        let head_dim = self.kv_shape().head_dim;
        let [dq, dk, dv] = &mut parts;
        let job = AttentionBackward {
            q,
            k,
            v,
            out: out.data(),
            dout: dy.data(),
            n_heads: qkv[0].cols() / head_dim,
            n_kv_heads: qkv[1].cols() / head_dim,
            head_dim,
            options: *attend,
            spans: batch.spans(),
        };
        self.executor().attention_back(&job, dq.data_mut(), dk.data_mut(), dv.data_mut());
        parts
    }

    fn select_back(&mut self, rows: &[u32], total: usize, dy: &Act) -> Act {
        let mut dx = self.act(total, dy.cols());
        dx.data_mut().fill(0.0);
        self.executor().scatter_rows(rows, dy.data(), dy.cols(), dx.data_mut());
        dx
    }

    fn cross_entropy(&mut self, logits: &Act, targets: &[u32], scale: f32, losses: &mut Vec<f32>) -> Act {
        let mut dlogits = self.act(targets.len(), logits.cols());
        let first = losses.len();
        losses.resize(first + targets.len(), 0.0);
        self.executor().cross_entropy(logits.data(), targets, scale, dlogits.data_mut(), &mut losses[first..]);
        dlogits
    }

    fn divergence(
        &mut self,
        logits: &Act,
        teacher: &Act,
        temperature: f32,
        scale: f32,
        dlogits: &mut Act,
        losses: &mut Vec<f32>,
    ) {
        let (first, vocab) = (losses.len(), logits.cols());
        losses.resize(first + logits.data().len() / vocab, 0.0);
        let losses = &mut losses[first..];
        let (logits, teacher) = (logits.data(), teacher.data());
        self.executor().divergence(logits, teacher, vocab, temperature, scale, dlogits.data_mut(), losses);
    }

    fn adamw(&mut self, step: &AdamW, w: &mut Act, g: &Act, m: &mut Act, v: &mut Act) {
        self.executor().adamw(step, w.data_mut(), g.data(), m.data_mut(), v.data_mut());
    }

    fn muon(&mut self, step: &Muon, w: &mut Act, g: &Act, m: &mut Act) {
        let cols = w.cols();
        muon::step(self.executor(), step, w.data_mut(), g.data(), m.data_mut(), cols);
    }

    fn seen(&mut self, w: &Weight) -> Vec<f32> {
        match w.role() {
            Role::Norm | Role::Bias => w.row().to_vec(),
            _ => self.decoded(w).data().to_vec(),
        }
    }
}

/// A role whose inputs are not rounded, either.
fn float(role: Role) -> Role {
    if role == Role::BitLinear { Role::Linear } else { role }
}

/// Weights that a task rounds.
const PIECE: usize = 1 << 14;

/// Bytes of a matrix in a float format, written by all threads.
fn encode(executor: &mut CpuExecutor, format: &Format, weights: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; weights.len() * format.bytes];
    each_piece(executor, weights, &mut bytes, PIECE, PIECE * format.bytes, &|weights, out| {
        (format.encode)(weights, out)
    });
    bytes
}

/// Calls `body` with each piece of the weights and of what is made of them.
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

/// The scale of a ternary matrix: the mean of `|w|`, as half precision keeps it.
fn scale(executor: &mut CpuExecutor, weights: &[f32]) -> f32 {
    let mut sums = vec![0f64; weights.len().div_ceil(PIECE)];
    each_piece(executor, weights, &mut sums, PIECE, 1, &|weights, sum| {
        sum[0] = weights.chunks(64).map(|part| f64::from(part.iter().map(|w| w.abs()).sum::<f32>())).sum();
    });
    let mean = (sums.iter().sum::<f64>() / weights.len() as f64) as f32;
    half::f16::from_f32(mean.clamp(1e-5, half::f16::MAX.to_f32())).to_f32()
}

/// The nearest of -1, 0 and 1, ties to 0, as rounding to even has it.
fn trit(w: f32, inverse: f32) -> f32 {
    let x = w * inverse;
    f32::from(x > 0.5) - f32::from(x < -0.5)
}

/// The bytes of the ternary form of a matrix, as [`I2_S`] defines them.
fn i2_s(executor: &mut CpuExecutor, weights: &[f32]) -> Vec<u8> {
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
