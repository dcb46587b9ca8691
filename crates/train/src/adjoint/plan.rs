//! The memory of the backward pass on a CPU, without numbers.

use super::quantize::effective;
use super::{Adjoint, Rounding};
use crate::optimizer::{Hyperparameters, Rule};
use trine_backend::cpu::{PlannedAct, PlannedWeight};
use trine_backend::{Activation, CpuPlan, Error, KvShape, Role, Rope};
use trine_kernels::{AttentionOptions, Factors, attention_back_bytes, gemm_bytes, rms_norm_back_bytes};
use trine_tensor::format::F32;
use trine_tensor::{Format, View};

/// What products and sums of all kinds are packed into.
const PACKED: &str = "packed";

impl Adjoint for CpuPlan {
    fn shape(&self, x: &PlannedAct) -> [usize; 2] {
        [x.rows(), x.cols()]
    }

    fn format(&self, w: &PlannedWeight) -> &'static Format {
        w.format()
    }

    fn copy(&mut self, x: &PlannedAct) -> PlannedAct {
        self.like(x)
    }

    fn zeros_like(&mut self, x: &PlannedAct) -> PlannedAct {
        self.like(x)
    }

    fn accumulate(&mut self, _: &mut PlannedAct, _: &PlannedAct) {}

    fn clear(&mut self, _: &mut PlannedAct) {}

    fn sum_of_squares(&mut self, _: &PlannedAct) -> f64 {
        0.0
    }

    fn master(&mut self, view: &View, _: Rounding) -> PlannedAct {
        self.act(view.rows(), view.cols())
    }

    fn quantize(
        &mut self,
        _: &str,
        _: &[usize],
        role: Role,
        master: &PlannedAct,
        rounding: Rounding,
    ) -> Result<PlannedWeight, Error> {
        let (format, role) = effective(rounding, role, master.cols());
        Ok(self.hold(format, role, master.rows(), master.cols()))
    }

    /// No values, and the memory that they would take on the device.
    fn dequantize(&mut self, w: &PlannedWeight) -> Vec<f32> {
        drop(self.decoded(w));
        Vec::new()
    }

    fn update(&mut self, _: &Rule, _: &Hyperparameters, _: &mut PlannedAct, _: &PlannedAct, _: &mut [PlannedAct]) {}

    fn embed_backward(&mut self, _: &[u32], _: &PlannedAct, _: &mut PlannedAct) {}

    fn linear_backward_weight(
        &mut self,
        w: &PlannedWeight,
        x: &PlannedAct,
        _: &PlannedAct,
        _: Factors,
        _: &mut PlannedAct,
    ) {
        if w.role() == Role::BitLinear || w.format().ternary {
            drop(self.rounded(x));
        }
        self.note_kernel(PACKED, gemm_bytes([w.rows(), w.cols(), x.rows()]));
    }

    fn linear_backward_input(
        &mut self,
        w: &PlannedWeight,
        dy: &PlannedAct,
        _: Factors,
        dx: Option<PlannedAct>,
    ) -> PlannedAct {
        let _decoded = (w.format() != &F32).then(|| self.decoded(w));
        self.note_kernel(PACKED, gemm_bytes([dy.rows(), w.cols(), w.rows()]));
        dx.unwrap_or_else(|| self.act(dy.rows(), w.cols()))
    }

    fn bias_backward(&mut self, _: &PlannedAct, _: &mut PlannedAct) {}

    fn rms_norm_backward(
        &mut self,
        _: &PlannedWeight,
        x: &PlannedAct,
        _: f32,
        _: &PlannedAct,
        _: Option<&mut PlannedAct>,
    ) -> PlannedAct {
        self.note_kernel(PACKED, rms_norm_back_bytes(x.rows(), x.cols()));
        self.like(x)
    }

    fn gated_activation_backward(
        &mut self,
        _: Activation,
        gate: &PlannedAct,
        _: &PlannedAct,
        _: &PlannedAct,
    ) -> [PlannedAct; 2] {
        [0; 2].map(|_| self.like(gate))
    }

    fn rope_cache_backward(&mut self, _: &Rope, rope_cache: &PlannedAct) -> PlannedAct {
        self.like(rope_cache)
    }

    fn attention_backward(
        &mut self,
        qkv: [&PlannedAct; 3],
        _: &PlannedAct,
        _: &PlannedAct,
        options: &AttentionOptions,
        (KvShape { head_dim, .. }, batch): &Self::Pass,
    ) -> [PlannedAct; 3] {
        let heads = [qkv[0].cols() / head_dim, qkv[1].cols() / head_dim, *head_dim];
        let needed = attention_back_bytes(heads, *options, batch.spans(), self.threads());
        self.note_kernel("attention_backward", needed);
        qkv.map(|x| self.like(x))
    }

    fn gather_rows(&mut self, x: &PlannedAct, rows: &[u32]) -> PlannedAct {
        self.act(rows.len(), x.cols())
    }

    fn gather_rows_backward(&mut self, _: &[u32], total: usize, dy: &PlannedAct) -> PlannedAct {
        self.act(total, dy.cols())
    }

    fn cross_entropy(&mut self, logits: &PlannedAct, _: &[u32], _: f32, _: &mut Vec<f32>) -> PlannedAct {
        self.like(logits)
    }

    fn kl_divergence(&mut self, _: &PlannedAct, _: &PlannedAct, _: f32, _: f32, _: &mut PlannedAct, _: &mut Vec<f32>) {}
}
