//! The backward pass on a CPU.

use super::quantize::{blend, effective, encode, i2_s, masters_of_ternary, ternary};
use super::{Adjoint, Rounding};
use crate::optimizer::{Hyperparameters, Rule};
use trine_backend::cpu::{Act, Pass, Weight};
use trine_backend::{Activation, Backend, Cpu, Error, Role, Rope};
use trine_kernels::{AttentionBackward, AttentionOptions, Factors, Strided};
use trine_tensor::format::{F32, I2_S};
use trine_tensor::{Format, View};

impl Adjoint for Cpu {
    fn shape(&self, x: &Act) -> [usize; 2] {
        [x.rows(), x.cols()]
    }

    fn format(&self, w: &Weight) -> &'static Format {
        w.view().format
    }

    fn copy(&mut self, x: &Act) -> Act {
        self.to_device(x.data(), x.cols())
    }

    fn zeros_like(&mut self, x: &Act) -> Act {
        let mut zeros = self.act(x.data().len() / x.cols(), x.cols());
        self.clear(&mut zeros);
        zeros
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

    fn master(&mut self, view: &View, rounding: Rounding) -> Act {
        let mut values = view.decode();
        if rounding == Rounding::Ternary {
            masters_of_ternary(&mut values);
        }
        self.to_device(&values, view.cols())
    }

    fn quantize(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
        master: &Act,
        rounding: Rounding,
    ) -> Result<Weight, Error> {
        let (cols, weights) = (shape.last().copied().unwrap_or(1), master.data());
        let executor = self.executor();
        let (format, role) = effective(rounding, role, cols);
        let bytes = match rounding {
            Rounding::Float(format) => encode(executor, format, weights),
            Rounding::Ternary if format == &I2_S => i2_s(executor, weights),
            Rounding::Ternary => ternary(executor, weights),
            Rounding::Blend(share) => blend(executor, weights, share),
        };
        let view = View::new(name, format, shape.to_vec(), bytes).expect("as many bytes as the format has");
        self.upload(view, role)
    }

    fn dequantize(&mut self, w: &Weight) -> Vec<f32> {
        match w.role() {
            Role::Norm | Role::Bias => w.row().to_vec(),
            _ => self.decoded(w).data().to_vec(),
        }
    }

    fn update(&mut self, rule: &Rule, hyper: &Hyperparameters, w: &mut Act, grad: &Act, states: &mut [Act]) {
        let cols = w.cols();
        let mut states: Vec<&mut [f32]> = states.iter_mut().map(Act::data_mut).collect();
        (rule.update)(self.executor(), hyper, cols, w.data_mut(), grad.data(), &mut states);
    }

    fn embed_backward(&mut self, tokens: &[u32], dy: &Act, dtable: &mut Act) {
        self.executor().scatter_rows(tokens, dy.data(), dy.cols(), dtable.data_mut());
    }

    fn linear_backward_weight(&mut self, w: &Weight, x: &Act, dy: &Act, factors: Factors, dw: &mut Act) {
        let view = w.view();
        let (tokens, rows, cols) = (x.data().len() / x.cols(), view.rows(), view.cols());
        let rounded = (w.role() == Role::BitLinear || view.format.ternary).then(|| self.rounded(x));
        let x = rounded.as_ref().unwrap_or(x);
        let (dy, x) = (Strided::row_major(dy.data(), rows).transposed(), Strided::row_major(x.data(), cols));
        self.executor().gemm([rows, cols, tokens], dy, x, true, factors, dw.data_mut());
    }

    fn linear_backward_input(&mut self, w: &Weight, dy: &Act, factors: Factors, dx: Option<Act>) -> Act {
        let view = w.view();
        let (tokens, rows, cols) = (dy.data().len() / dy.cols(), view.rows(), view.cols());
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
        let (dy, weights) = (Strided::row_major(dy.data(), rows), Strided::row_major(weights, cols));
        self.executor().gemm([tokens, cols, rows], dy, weights, add, factors, dx.data_mut());
        dx
    }

    fn bias_backward(&mut self, dy: &Act, db: &mut Act) {
        let db = db.data_mut();
        for dy in dy.data().chunks_exact(dy.cols()) {
            db.iter_mut().zip(dy).for_each(|(db, dy)| *db += dy);
        }
    }

    fn rms_norm_backward(&mut self, gain: &Weight, x: &Act, eps: f32, dy: &Act, dgain: Option<&mut Act>) -> Act {
        let mut dx = self.act(x.data().len() / x.cols(), x.cols());
        let mut unused = Vec::new();
        let dgain = match dgain {
            Some(dgain) => dgain.data_mut(),
            None => {
                unused.resize(gain.row().len(), 0.0);
                &mut unused
            }
        };
        self.executor().rms_norm_back(x.data(), gain.row(), eps, dy.data(), dx.data_mut(), dgain);
        dx
    }

    fn gated_activation_backward(&mut self, kind: Activation, gate: &Act, up: &Act, dy: &Act) -> [Act; 2] {
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

    fn rope_cache_backward(&mut self, rope: &Rope, rope_cache: &Act) -> Act {
        let mut inverse = self.copy(rope_cache);
        let pairs = rope.frequencies.len();
        for row in inverse.data_mut().chunks_exact_mut(2 * pairs) {
            row[pairs..].iter_mut().for_each(|sin| *sin = -*sin);
        }
        inverse
    }

    fn attention_backward(
        &mut self,
        qkv: [&Act; 3],
        out: &Act,
        dy: &Act,
        options: &AttentionOptions,
        pass: &Pass,
    ) -> [Act; 3] {
        let mut parts = qkv.map(|x| self.act(x.data().len() / x.cols(), x.cols()));
        let [q, k, v] = qkv.map(Act::data);
        let head_dim = pass.cache_shape().head_dim;
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
            options: *options,
            spans: pass.batch().spans(),
        };
        self.executor().attention_back(&job, dq.data_mut(), dk.data_mut(), dv.data_mut());
        parts
    }

    fn gather_rows(&mut self, x: &Act, rows: &[u32]) -> Act {
        self.rows(x, rows.iter().map(|&row| row as usize), 0..x.cols())
    }

    fn gather_rows_backward(&mut self, rows: &[u32], total: usize, dy: &Act) -> Act {
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

    fn kl_divergence(
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
}
