//! Integers of 8 bits with a scale per matrix, row or group of inputs, as compressed-tensors stores them (W8A8).

use super::check::{dtype, matrix, scales, shape};
use super::grouped::{GroupQuantized, range};
use crate::file_tensors::FileTensors;
use crate::{Error, Result};
use trine_tensor::View;
use trine_tensor::format::I8;

/// A matrix of integers, its scales, and its zero points, if there are any.
///
/// # Errors
/// When the scales are missing, or tensors do not fit each other.
pub fn open(tensors: &FileTensors, weight: View, group_size: Option<usize>) -> Result<GroupQuantized> {
    let [rows, cols] = matrix(&weight)?;
    let scale = tensors.view(&format!("{}_scale", weight.name))?;
    let across = match scale.shape[..] {
        [_, across] => across,
        _ => 1,
    };
    let size = group_size.unwrap_or(cols);
    if across != cols.div_ceil(size) {
        let (expected, found) = (vec![rows, cols.div_ceil(size)], scale.shape.clone());
        return Err(Error::Shape { tensor: scale.name, expected, found });
    }
    let whole = matches!(scale.shape[..], [] | [1] | [1, 1]);
    if !whole {
        shape(&scale, &[rows, across][..scale.shape.len().clamp(1, 2)])?;
    }
    let zero = format!("{}_zero_point", weight.name);
    let zeros = match tensors.contains(&zero) {
        false => vec![0; if whole { 1 } else { rows * across }],
        true => {
            let view = tensors.view(&zero)?;
            dtype(&view, "I8", &[&I8])?;
            shape(&view, &scale.shape)?;
            view.bytes.iter().map(|&byte| i16::from(byte as i8)).collect()
        }
    };
    // In the file by rows, here by groups.
    let place = move |row: usize, group: usize| if whole { 0 } else { row * across + group };
    let all = scales(&scale)?;
    let scales = (0..across).flat_map(|group| (0..rows).map(move |row| (row, group)));
    let scales = scales.map(|(row, group)| all[place(row, group)]).collect();
    let range = match zeros.iter().all(|&zero| zero == 0) {
        true => [-128, 127],
        false => range(&zeros, 8).map(|end| end - 128),
    };
    let (name, bytes) = (weight.name, weight.bytes);
    let code = Box::new(move |row: usize, col: usize, group: usize| {
        i16::from(bytes[row * cols + col] as i8) - zeros[place(row, group)]
    });
    let groups = (0..cols).map(|col| col / size).collect();
    Ok(GroupQuantized { name, rows, groups, scales, range, code })
}
