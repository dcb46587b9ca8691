//! Weights by their GGUF names, from whatever file they are in.

use crate::{Error, Packing, Result, Spec};
use trine_tensor::format::{F32, I2_S, U8};
use trine_tensor::{File, Format, Kind, View};

/// The tensors of a model under GGUF names. Nothing is copied, except for ternary weights that Hugging Face packs.
pub struct Weights<'a> {
    file: &'a File,
    spec: &'a Spec,
}

impl<'a> Weights<'a> {
    /// The weights of `file`, whose specification is `spec`.
    pub fn new(file: &'a File, spec: &'a Spec) -> Weights<'a> {
        Weights { file, spec }
    }

    /// The name in the file of a tensor with this GGUF name.
    fn name(&self, gguf: &str) -> Option<String> {
        match self.file.kind() {
            Kind::Gguf { .. } => Some(gguf.to_owned()),
            Kind::Safetensors => self.spec.arch.hub_name(gguf),
        }
    }

    /// Whether there is such a tensor.
    pub fn contains(&self, gguf: &str) -> bool {
        self.name(gguf).is_some_and(|name| self.file.contains(&name))
    }

    /// A vector or matrix of this shape.
    ///
    /// # Errors
    /// When it is not there or has another shape.
    pub fn get(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        let view = self.file.view(&self.name(gguf).unwrap_or_else(|| gguf.to_owned()))?;
        if view.shape != shape {
            return Err(Error::Shape { tensor: view.name, expected: shape.to_vec(), found: view.shape });
        }
        Ok(view)
    }

    /// The matrix of a linear layer, `[rows, cols]`, unpacked when it is packed.
    ///
    /// # Errors
    /// As [`Weights::get`], and when packed weights are not ternary.
    pub fn linear(&self, gguf: &str, rows: usize, cols: usize) -> Result<View> {
        let name = self.name(gguf).unwrap_or_else(|| gguf.to_owned());
        let view = self.file.view(&name)?;
        match self.spec.packing {
            Packing::Online => {
                let view = self.get(gguf, &[rows, cols])?;
                ternary(&view.name, rows, cols, round_by_mean(view.decode()))
            }
            Packing::Times | Packing::Over if view.format == &U8 => {
                let packed = self.get(gguf, &[rows / 4, cols])?;
                if !rows.is_multiple_of(4) {
                    return Err(Error::Shape {
                        tensor: name,
                        expected: vec![rows.next_multiple_of(4), cols],
                        found: vec![rows, cols],
                    });
                }
                let scale = self.get(&format!("{gguf}_scale"), &[1])?.decode()[0];
                let scale = if self.spec.packing == Packing::Over { 1.0 / scale } else { scale };
                ternary(&name, rows, cols, unpack(&packed, scale)?)
            }
            _ => self.get(gguf, &[rows, cols]),
        }
    }
}

/// Trits that are packed four in a byte: the byte at `[i, col]` holds rows `i`, `i + n`, `i + 2n`, `i + 3n` of `4n`, low bits first.
fn unpack(packed: &View, scale: f32) -> Result<Vec<f32>> {
    let mut weights = Vec::with_capacity(4 * packed.bytes.len());
    for quarter in 0..4 {
        for byte in packed.bytes.iter() {
            weights.push(match byte >> (2 * quarter) & 3 {
                0 => -scale,
                1 => 0.0,
                2 => scale,
                _ => return Err(Error::NotTernary { tensor: packed.name.clone() }),
            });
        }
    }
    Ok(weights)
}

/// The trits nearest to `w / mean|w|`, times the mean: what `autobitlinear` computes when it is online.
fn round_by_mean(mut weights: Vec<f32>) -> Vec<f32> {
    let mean = weights.iter().map(|w| w.abs() as f64).sum::<f64>() / weights.len() as f64;
    let scale = 1.0 / mean.max(1e-5) as f32;
    for w in &mut weights {
        *w = (*w * scale).round_ties_even().clamp(-1.0, 1.0) / scale;
    }
    weights
}

/// Ternary weights as I2_S, or as floats where their rows are not whole blocks of it.
fn ternary(name: &str, rows: usize, cols: usize, weights: Vec<f32>) -> Result<View> {
    let format: &'static Format = if cols.is_multiple_of(I2_S.block) { &I2_S } else { &F32 };
    Ok(View::new(name, format, vec![rows, cols], format.encode(&weights))?)
}
