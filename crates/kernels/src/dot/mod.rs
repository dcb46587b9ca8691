//! Matrix products, one file per family of formats: `out[token][row] = w[row] · x[token]`.
//!
//! The canonical order, which every instruction set and every tile follows, so that a product
//! never depends on its neighbours:
//! - float weights: 16 running sums, lane `i` taking columns `i, i + 16, ...` by fused multiply-add, added in one tree;
//! - float weights and activations rounded to bfloat16, tiny ones to zero: 16 running sums, lane `i` taking pairs of columns `i, i + 16, ...`
//!   by two fused multiply-adds, that of the odd column first, added in the same tree;
//! - block formats: integer sums, exact, over each group of 32 columns (or over both halves of it, which have a further scale each and are
//!   added); times the product of both scales, and then the minimum's part (or that of both halves), they are added by fused
//!   multiply-add to 8 running sums, number `i` taking groups `i, i + 8, ...`, added in the same tree;
//! - ternary formats: integer sums, exact, over each run of blocks with one scale; scaled and added by fused multiply-add.

pub(crate) mod bf16;
pub(crate) mod block;
pub(crate) mod float;
pub(crate) mod grid;
pub(crate) mod interleave;
pub(crate) mod product;
mod rows;
pub(crate) mod ternary;
pub(crate) mod unpack;

use crate::matrix::Rows;
use crate::simd::Simd;

/// Bytes between the rows being multiplied and those being prefetched, beyond the next rows: what
/// memory delivers in one latency.
const AHEAD: usize = 2048;

/// Prefetches the first `count` rows of a task and [`AHEAD`] bytes more; from there on, each row prefetches a later one.
#[inline(always)]
fn prefetch_rows<S: Simd>(simd: S, w: &Rows, count: usize) {
    let bytes = (count * w.stride + AHEAD).min(w.bytes.len());
    for line in w.bytes[..bytes].chunks(64) {
        simd.prefetch_l2(line.as_ptr());
    }
}
