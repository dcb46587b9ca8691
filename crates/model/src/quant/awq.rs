//! AWQ: eight 4-bit codes of neighbouring outputs per word.

use super::check::{matrix, scales, shape};
use super::grouped::{GroupQuantized, U32Words, range};
use crate::Result;
use crate::file_tensors::FileTensors;

/// Position of each output among the eight codes of a word.
const ORDER: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The matrix `[outputs, inputs]` of a layer: `scale * (code - zero)`.
///
/// # Errors
/// When a tensor is missing or does not fit the others.
pub fn open(tensors: &FileTensors, layer: &str, group_size: Option<usize>) -> Result<GroupQuantized> {
    let part = |part: &str| tensors.view(&format!("{layer}.{part}"));
    let (packed, scale, zero) = (part("qweight")?, part("scales")?, part("qzeros")?);
    let [cols, stride] = matrix(&packed)?;
    let rows = 8 * stride;
    let count = group_size.map_or(1, |size| cols.div_ceil(size));
    shape(&scale, &[count, rows])?;
    shape(&zero, &[count, stride])?;
    let groups: Vec<usize> = (0..cols).map(|col| group_size.map_or(0, |size| col / size)).collect();
    let code = |word: u32, row: usize| (word >> (4 * ORDER[row % 8]) & 15) as i16;
    let (packed, zeros) = (U32Words::of(packed)?, U32Words::of(zero)?.all());
    let zeros: Vec<i16> = (0..count * rows).map(|i| code(zeros[i / rows * stride + i % rows / 8], i % rows)).collect();
    let range = range(&zeros, 4);
    let code =
        Box::new(move |row, col, group| code(packed.at(col * stride + row / 8), row) - zeros[group * rows + row]);
    Ok(GroupQuantized { name: format!("{layer}.weight"), rows, groups, scales: scales(&scale)?, range, code })
}
