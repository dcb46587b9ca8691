//! Checks that the tensors of a packed matrix fit each other.

use crate::{Error, Result};
use trine_tensor::format::{BF16, F16, F32};
use trine_tensor::{Format, TensorInfo, View};

pub fn shape(view: &View, expected: &[usize]) -> Result<()> {
    match view.shape == expected {
        true => Ok(()),
        false => {
            let (tensor, expected, found) = (view.name.clone(), expected.to_vec(), view.shape.clone());
            Err(Error::Shape { tensor, expected, found })
        }
    }
}

pub fn matrix(view: &View) -> Result<[usize; 2]> {
    match view.shape[..] {
        [rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
        _ => Err(Error::Shape { tensor: view.name.clone(), expected: vec![1, 1], found: view.shape.clone() }),
    }
}

pub fn dtype(view: &View, expected: &'static str, known: &[&Format]) -> Result<()> {
    match known.contains(&view.format) {
        true => Ok(()),
        false => Err(Error::Dtype { tensor: view.name.clone(), expected, found: view.format.name }),
    }
}

/// The scales in float32, all finite.
pub fn scales(view: &View) -> Result<Vec<f32>> {
    dtype(view, "F16, BF16 or F32", &[&F16, &BF16, &F32])?;
    let scales = view.decode();
    match scales.iter().find(|scale| !scale.is_finite()) {
        Some(&found) => Err(Error::BadWeight { tensor: view.name.clone(), expected: "finite scales", found }),
        None => Ok(scales),
    }
}

/// A tensor of float weights, all finite.
pub fn floats(entry: &TensorInfo, weights: &[f32]) -> Result<View> {
    if let Some(&found) = weights.iter().find(|w| !w.is_finite()) {
        return Err(Error::BadWeight { tensor: entry.name.clone(), expected: "finite weights", found });
    }
    Ok(View::new(&entry.name, entry.format, entry.shape.clone(), entry.format.encode(weights))?)
}
