//! Mixture of experts: routing, and the sum of the experts' outputs.

use super::CpuExecutor;
use super::scratch::{grow, lock, reserve};
use crate::experts::{RouteScratch, Routes, Routing, route_token};

impl CpuExecutor {
    /// Chooses the experts of each token by the router's `scores`, `[tokens, n_experts]`. `bias` is added for the
    /// choice alone. Of equal scores, the first expert wins.
    ///
    /// # Panics
    /// When `bias` is not `[n_experts]`, or `routing.top_k` exceeds `n_experts`.
    pub fn route(&mut self, scores: &[f32], n_experts: usize, bias: Option<&[f32]>, routing: &Routing) -> Routes {
        let top_k = routing.top_k;
        assert!(top_k <= n_experts && bias.is_none_or(|bias| bias.len() == n_experts));
        let n_groups = routing.groups.map_or(0, |groups| groups.n_groups);
        reserve(&mut self.scratch, |scratch| &mut scratch.floats, 2 * n_experts + n_groups, 0.0);
        let scratch = &mut *lock(&self.scratch[0]);
        grow(&mut scratch.indices, n_experts, 0);
        let tokens = scores.len() / n_experts;
        let mut routes = Routes { top_k, experts: vec![0; tokens * top_k], weights: vec![0.0; tokens * top_k] };
        for (i, scores_of) in scores.chunks_exact(n_experts).enumerate() {
            let (weights, rest) = scratch.floats.split_at_mut(n_experts);
            let (scores, rest) = rest.split_at_mut(n_experts);
            let (groups, order) = (&mut rest[..n_groups], &mut scratch.indices[..n_experts]);
            let chosen = i * top_k..(i + 1) * top_k;
            route_token(
                scores_of,
                bias,
                routing,
                RouteScratch { weights, scores, groups, order },
                &mut routes.experts[chosen.clone()],
                &mut routes.weights[chosen],
            );
        }
        routes
    }

    /// `out[i] = Σ weights[i][j] * x[i][j]` in order of `j`, rows of `width`; `x` has `weights.len()` rows.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn combine_experts(&mut self, x: &[f32], weights: &[f32], width: usize, out: &mut [f32]) {
        let (each, table) = (x.len() / out.len().max(1), self.table);
        assert!(weights.len() * width == x.len() && x.len() == each * out.len());
        self.rows(out, width, each * width, &|i, out, _| {
            out.fill(0.0);
            for j in i * each..(i + 1) * each {
                (table.add_weighted)(&x[j * width..][..width], weights[j], out);
            }
        });
    }
}
