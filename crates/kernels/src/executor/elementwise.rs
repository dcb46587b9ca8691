//! Norms, activation functions, RoPE and other operations on rows.

use super::CpuExecutor;
use crate::elementwise::Activation;
use crate::rope::{RopeLayout, rotate};

impl CpuExecutor {
    /// Root-mean-square norm of each row of `x`, `[rows, gain.len()]`.
    pub fn rms_norm(&mut self, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        let (width, table) = (gain.len(), self.table);
        self.rows(out, width, 8 * width, &|i, out, _| (table.rms_norm)(&x[i * width..][..width], gain, eps, out));
    }

    /// `out = a + b`, rows of `width`; a shorter `b` repeats.
    pub fn add(&mut self, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
        let (rows, table) = (b.len() / width, self.table);
        self.rows(out, width, width, &|i, out, _| {
            (table.add)(&a[i * width..][..width], &b[i % rows * width..][..width], out);
        });
    }

    /// Layer norm of each row of `width` in `x`. `gain` and `bias` are one or several rows, which repeat.
    ///
    /// # Panics
    /// When the lengths of `gain` and `bias` differ or are no multiple of `width`.
    pub fn layer_norm(
        &mut self,
        x: &[f32],
        width: usize,
        gain: &[f32],
        bias: Option<&[f32]>,
        eps: f32,
        out: &mut [f32],
    ) {
        let (parts, table) = (gain.len() / width, self.table);
        assert!(gain.len() == parts * width && bias.is_none_or(|bias| bias.len() == gain.len()));
        self.rows(out, width, 8 * width, &|i, out, _| {
            let part = i % parts * width..(i % parts + 1) * width;
            let bias = bias.map(|bias| &bias[part.clone()]);
            (table.layer_norm)(&x[i * width..][..width], &gain[part.clone()], bias, eps, out);
        });
    }

    /// `out = kind(gate) * up`, or `kind(gate)` without `up`; rows of `width`.
    pub fn gated_activation(
        &mut self,
        kind: Activation,
        gate: &[f32],
        up: Option<&[f32]>,
        width: usize,
        out: &mut [f32],
    ) {
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| {
            (table.gated_activation)(kind, &gate[i * width..][..width], up.map(|up| &up[i * width..][..width]), out);
        });
    }

    /// `out = factor * x`, rows of `width`.
    pub fn scale(&mut self, x: &[f32], factor: f32, width: usize, out: &mut [f32]) {
        let table = self.table;
        self.rows(out, width, width, &|i, out, _| (table.scale)(&x[i * width..][..width], factor, out));
    }

    /// `out = cap * tanh(x / cap)`, rows of `width`.
    pub fn softcap(&mut self, x: &[f32], cap: f32, width: usize, out: &mut [f32]) {
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| (table.softcap)(&x[i * width..][..width], cap, out));
    }

    /// Rotates the heads of `x`, rows of `width`. `rope_cache` has for each row the cosines of all
    /// pairs, then the sines.
    pub fn rope(
        &mut self,
        x: &[f32],
        width: usize,
        head_dim: usize,
        rope_cache: &[f32],
        layout: RopeLayout,
        out: &mut [f32],
    ) {
        let each = rope_cache.len() * width / x.len().max(1);
        self.rows(out, width, 4 * width, &|row, out, _| {
            let (cos, sin) = rope_cache[row * each..][..each].split_at(each / 2);
            out.copy_from_slice(&x[row * width..][..width]);
            rotate(out, head_dim, cos, sin, layout);
        });
    }
}
