//! Weights by their GGUF names, from whatever file they are in.

use crate::{Error, Packing, Result, Spec};
use std::cell::RefCell;
use std::collections::HashSet;
use trine_tensor::format::{F32, I2_S, U8};
use trine_tensor::{File, Format, Kind, View};

/// The tensors of a model under GGUF names. Nothing is copied, except for ternary weights that Hugging Face packs.
pub struct Weights<'a> {
    file: &'a File,
    spec: &'a Spec,
    /// Names that were asked for.
    taken: RefCell<HashSet<String>>,
}

impl<'a> Weights<'a> {
    /// The weights of `file`, whose specification is `spec`.
    pub fn new(file: &'a File, spec: &'a Spec) -> Weights<'a> {
        Weights { file, spec, taken: RefCell::default() }
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

    fn view(&self, gguf: &str) -> Result<View> {
        let view = self.file.view(&self.name(gguf).unwrap_or_else(|| gguf.to_owned()))?;
        self.taken.borrow_mut().insert(view.name.clone());
        Ok(view)
    }

    /// Whether the output head is a matrix of its own. GGUF files have it then; Hugging Face's configuration says so, or else the file.
    pub fn has_head(&self) -> bool {
        let tied = self.file.config().and_then(|config| config.get("tie_word_embeddings")?.as_bool());
        match (self.file.kind(), tied) {
            (Kind::Safetensors, Some(tied)) => !tied,
            _ => self.contains("output.weight"),
        }
    }

    /// Makes sure that every tensor was asked for, but those that are made from the keys anyway and a head that the model does not use.
    ///
    /// # Errors
    /// When one was not.
    pub fn check_all_taken(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let harmless = |name: &str| {
            name == "rope_freqs.weight" || name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight"
        };
        match self.file.names().find(|name| !taken.contains(*name) && !harmless(name)) {
            Some(name) => {
                let (arch, layers) = (self.spec.arch.gguf[0], self.spec.layers);
                Err(Error::Unused { tensor: name.to_owned(), arch, layers })
            }
            None => Ok(()),
        }
    }

    /// A vector or matrix of this shape.
    ///
    /// # Errors
    /// When it is not there or has another shape.
    pub fn get(&self, gguf: &str, shape: &[usize]) -> Result<View> {
        let view = self.view(gguf)?;
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
        let view = self.view(gguf)?;
        let name = view.name.clone();
        match self.spec.packing {
            Packing::Online => {
                let view = self.get(gguf, &[rows, cols])?;
                ternary(&view.name, rows, cols, round_by_mean(&view.name, view.decode())?)
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
                if !(scale.is_finite() && scale > 0.0) {
                    let expected = "a finite scale above zero";
                    return Err(Error::BadWeight { tensor: format!("{name}_scale"), expected, found: scale });
                }
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
fn round_by_mean(name: &str, mut weights: Vec<f32>) -> Result<Vec<f32>> {
    let mean = weights.iter().map(|w| w.abs() as f64).sum::<f64>() / weights.len() as f64;
    if !mean.is_finite() {
        return Err(Error::BadWeight { tensor: name.to_owned(), expected: "finite weights", found: mean as f32 });
    }
    let scale = 1.0 / mean.max(1e-5) as f32;
    for w in &mut weights {
        *w = (*w * scale).round_ties_even().clamp(-1.0, 1.0) / scale;
    }
    Ok(weights)
}

/// Ternary weights as I2_S, or as floats where their rows are not whole blocks of it.
fn ternary(name: &str, rows: usize, cols: usize, weights: Vec<f32>) -> Result<View> {
    let format: &'static Format = if cols.is_multiple_of(I2_S.block) { &I2_S } else { &F32 };
    Ok(View::new(name, format, vec![rows, cols], format.encode(&weights))?)
}
