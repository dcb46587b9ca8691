//! Matrices of integers with scales.

use super::check::{dtype, floats};
use crate::Result;
use trine_tensor::format::{F16, F32, I32, Q4_0, Q8_0};
use trine_tensor::{Format, TensorInfo, View};

/// The 32-bit words of a tensor, row-major.
pub struct U32Words(View);

impl U32Words {
    pub fn of(view: View) -> Result<U32Words> {
        dtype(&view, "I32", &[&I32])?;
        Ok(U32Words(view))
    }

    pub fn at(&self, i: usize) -> u32 {
        u32::from_le_bytes(self.0.bytes.as_chunks().0[i])
    }

    pub fn all(&self) -> Vec<u32> {
        self.0.bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
    }
}

/// A matrix of integers, each times the scale of its row and of the group of its column.
pub struct GroupQuantized {
    pub name: String,
    pub rows: usize,
    /// The group of each column.
    pub groups: Vec<usize>,
    /// `[groups, rows]`
    pub scales: Vec<f32>,
    /// The least and the largest possible integer.
    pub range: [i16; 2],
    /// The integer at `(row, column, group of the column)`.
    pub code: Box<dyn Fn(usize, usize, usize) -> i16>,
}

/// The least and largest value of a code of `bits` bits minus one of these zero points.
pub fn range(zeros: &[i16], bits: usize) -> [i16; 2] {
    let (least, most) = (zeros.iter().min().copied().unwrap_or(0), zeros.iter().max().copied().unwrap_or(0));
    [-most, (1 << bits) - 1 - least]
}

impl GroupQuantized {
    /// Shape, and the smallest format that holds every weight exactly, whatever the codes are.
    pub fn entry(&self) -> TensorInfo {
        let blocks = self.groups.len().is_multiple_of(32)
            && self.groups.chunks(32).all(|block| block.iter().all(|group| *group == block[0]))
            && exact(&F16, &self.scales);
        let within = |low: i16, high: i16| blocks && low <= self.range[0] && self.range[1] <= high;
        let format = if within(-8, 7) {
            &Q4_0
        } else if within(-128, 127) {
            &Q8_0
        } else {
            &F32
        };
        TensorInfo { name: self.name.clone(), format, shape: vec![self.rows, self.groups.len()] }
    }

    /// The unpacked matrix.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn view(&self) -> Result<View> {
        let (entry, codes) = (self.entry(), self.codes());
        if entry.format != &F32 {
            return Ok(View::new(&self.name, entry.format, entry.shape, self.blocks(entry.format, &codes))?);
        }
        let groups = self.groups.iter().cycle().zip(0..);
        let weight = |(&code, (group, i)): (&i16, (&usize, usize))| {
            f32::from(code) * self.scales[group * self.rows + i / self.groups.len()]
        };
        floats(&entry, &codes.iter().zip(groups).map(weight).collect::<Vec<_>>())
    }

    /// `[rows, cols]`, read 16 rows at a time, which share words and cache lines.
    fn codes(&self) -> Vec<i16> {
        let cols = self.groups.len();
        let mut codes = vec![0; self.rows * cols];
        for (i, some) in codes.chunks_mut(16 * cols).enumerate() {
            for (col, &group) in self.groups.iter().enumerate() {
                for (j, out) in some[col..].iter_mut().step_by(cols).enumerate() {
                    *out = (self.code)(16 * i + j, col, group);
                }
            }
        }
        codes
    }

    /// Blocks of 32 with an F16 scale and 4 or 8 bits per weight.
    fn blocks(&self, format: &'static Format, codes: &[i16]) -> Vec<u8> {
        let cols = self.groups.len();
        let mut bytes = Vec::with_capacity(codes.len() / 32 * format.bytes);
        for (i, block) in codes.chunks_exact(32).enumerate() {
            let scale = self.scales[self.groups[i * 32 % cols] * self.rows + i * 32 / cols];
            bytes.extend(F16.encode(&[scale]));
            match format == &Q4_0 {
                true => bytes.extend((0..16).map(|j| (block[j] + 8) as u8 | ((block[16 + j] + 8) as u8) << 4)),
                false => bytes.extend(block.iter().map(|&code| code as u8)),
            }
        }
        bytes
    }
}

/// Whether a float format represents these exactly.
fn exact(format: &'static Format, weights: &[f32]) -> bool {
    let mut again = [0.0; 1024];
    weights.chunks(1024).all(|some| {
        let again = &mut again[..some.len()];
        (format.decode)(&format.encode(some), &[], again);
        some == again
    })
}
