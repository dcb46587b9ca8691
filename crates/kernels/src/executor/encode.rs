//! Weights to the bytes of a format and back, and to integers, a piece for each thread at a time.

use super::disjoint::Disjoint;
use super::scratch::{grow, lock};
use super::{CpuExecutor, MIN_PARALLEL_WORK};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use trine_tensor::format::{Layout, Loss};
use trine_tensor::{Format, IntegerScheme, Quantized};

/// Weights of a piece of work.
const PIECE: usize = 1 << 15;

impl CpuExecutor {
    /// The bits of the largest magnitude among some weights: those of an infinity or more, if one is not finite.
    pub fn largest(&mut self, weights: &[f32]) -> u32 {
        let largest = AtomicU32::new(0);
        self.pool.run(weights.len().div_ceil(PIECE), &|i, _| {
            let piece = &weights[i * PIECE..weights.len().min((i + 1) * PIECE)];
            largest.fetch_max(piece.iter().fold(0, |most, w| most.max(w.abs().to_bits())), Relaxed);
        });
        largest.into_inner()
    }

    /// Encodes weights `[rows, cols]` in a format that is stored by rows, and decodes them again: returns what was lost. `importance` is that of
    /// the columns, `[parts, cols]`, the same for all rows of a part.
    ///
    /// # Panics
    /// When the format has a [`MatrixLayout`](trine_tensor::format::MatrixLayout), or a slice does not have the length that it says.
    pub fn encode(
        &mut self,
        format: &'static Format,
        cols: usize,
        weights: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Loss {
        let stride = format.row_bytes(cols).expect("whole blocks");
        let rows = weights.len() / cols;
        assert!(
            format.matrix_layout().is_none()
                && (rows * cols, rows * stride + format.tail) == (weights.len(), out.len())
        );
        // What is stored once per tensor depends on all its weights, and ignores the importance of columns.
        let importance = importance.filter(|_| format.tail == 0);
        let parts = importance.map_or(1, |importance| importance.len() / cols);
        assert!(importance.is_none_or(|all| all.len() == parts * cols) && rows.is_multiple_of(parts));
        // The scale of a row depends on the whole row, and so does where its columns are.
        let is_headed = matches!(format.layout, Layout::Headed(_));
        let by_rows = is_headed || importance.is_some();
        let (unit, unit_bytes) = if by_rows { (cols, stride) } else { (format.block, format.bytes) };
        let units = weights.len() / unit / parts;
        let each = match format.layout {
            _ if format.tail > 0 => 1,
            Layout::Headed(_) => units,
            _ => (weights.len() / parts).div_ceil(PIECE).min(units),
        };
        let pieces = parts * each;
        let mut losses = std::mem::take(&mut self.losses);
        losses.clear();
        losses.resize(pieces, Loss::default());
        let (bytes, loss_of) = (Disjoint::of(out), Disjoint::of(&mut losses));
        let (table, scratch, tail) = (self.table, &self.scratch, format.tail);
        self.pool.run(pieces, &|piece, thread| {
            let (part, within) = (piece / each, piece % each);
            let some = part * units + within * units / each..part * units + (within + 1) * units / each;
            let importance = importance.map(|all| &all[part * cols..][..cols]);
            let weights = &weights[some.start * unit..some.end * unit];
            // SAFETY: the bytes of these blocks, and a tail that is there only if this is the only piece, belong to this task alone.
            let out = unsafe { bytes.slice(some.start * unit_bytes, some.len() * unit_bytes + tail) };
            table.encode(format, weights, importance, out);
            let again = &mut lock(&scratch[thread]).decoded;
            grow(again, weights.len(), 0.0);
            let (body, tail) = out.split_at(some.len() * unit_bytes);
            (format.decode)(body, tail, &mut again[..weights.len()]);
            let mut loss = Loss::default();
            loss.add(weights, &again[..weights.len()]);
            // SAFETY: this task alone has this piece.
            unsafe { *loss_of.at(piece) = loss };
        });
        let mut all = Loss::default();
        losses.iter().for_each(|&loss| all.merge(loss));
        self.losses = losses;
        all
    }

    /// Decodes what [`CpuExecutor::encode`] wrote.
    ///
    /// # Panics
    /// As there.
    pub fn decode(&mut self, format: &'static Format, cols: usize, bytes: &[u8], out: &mut [f32]) {
        let stride = format.row_bytes(cols).expect("whole blocks");
        let rows = out.len() / cols.max(1);
        assert!(
            format.matrix_layout().is_none() && (rows * cols, rows * stride + format.tail) == (out.len(), bytes.len())
        );
        if out.is_empty() {
            return;
        }
        let (bytes, tail) = bytes.split_at(rows * stride);
        self.rows(out, cols, cols, &|i, out, _| (format.decode)(&bytes[i * stride..][..stride], tail, out));
    }

    /// Makes integers of weights, each `group` of which share a scale.
    ///
    /// # Panics
    /// When the weights are not whole groups.
    pub fn integers(&mut self, scheme: IntegerScheme, group: usize, weights: &[f32], out: &mut Quantized) {
        let groups = weights.len() / group.max(1);
        assert_eq!(groups * group, weights.len(), "whole groups");
        out.group = group;
        out.codes.resize(weights.len(), 0);
        out.scales.resize(groups, 0.0);
        out.zero_points.resize(if scheme == IntegerScheme::ZeroPoint { groups } else { 0 }, 0);
        let pieces = if weights.len() < MIN_PARALLEL_WORK { 1 } else { groups.min(weights.len().div_ceil(PIECE)) };
        let (codes, scales) = (Disjoint::of(&mut out.codes), Disjoint::of(&mut out.scales));
        let (zero_points, table) = (Disjoint::of(&mut out.zero_points), self.table);
        self.pool.run(pieces, &|piece, _| {
            for i in piece * groups / pieces..(piece + 1) * groups / pieces {
                // SAFETY: the codes of this group, which belongs to this task alone.
                let codes = unsafe { codes.row(i, group) };
                let (scale, zero) = (table.integers)(scheme, &weights[i * group..][..group], codes);
                // SAFETY: as above; there are zero points for this scheme alone.
                unsafe {
                    *scales.at(i) = scale;
                    if scheme == IntegerScheme::ZeroPoint {
                        *zero_points.at(i) = zero;
                    }
                }
            }
        });
    }
}
