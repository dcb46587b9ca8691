//! What a format of one bit, or a ternary one, does to weights that were not trained for it: told before it is done.

use super::{Error, Plan};
use crate::divergence::{Chunks, Divergence, DivergenceOptions, Reference, compare};
use crate::imatrix::stored_name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use trine_model::{DeviceOptions, GgufModel, ModelOptions, Rewrite, load};
use trine_tensor::format::{F32, I2_S};
use trine_tensor::{Format, View};

/// A matrix that is this near to its ternary weights is ternary: half precision rounds its scale.
const SAME: f64 = 1.0 - 1e-6;

/// What becomes of a matrix that is not what its format holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damage {
    pub tensor: String,
    /// The format that it would get.
    #[serde(skip)]
    pub format: &'static Format,
    /// Cosine of the angle between the weights and the nearest that the format holds.
    pub cosine: f64,
    /// The root mean square of what the weights change by, as a share of their own.
    pub error: f64,
}

/// The ternary weights of a matrix, and the cosine of the angle between both: those of BitNet b1.58, `round(w / mean|w|)`, with the scale
/// that is nearest to the weights.
///
/// # Errors
/// When a weight is not finite.
pub fn ternarized(view: &View) -> Result<(View, f64)> {
    let mut weights = view.decode();
    let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
    if !sum.is_finite() {
        let found = weights.iter().copied().find(|w| !w.is_finite()).unwrap_or(f32::NAN);
        return Err(Error::NotFinite { tensor: view.name.clone(), found });
    }
    let half = 0.5 * sum / weights.len().max(1) as f64;
    let kept = weights.iter().map(|w| f64::from(w.abs())).filter(|&w| w >= half && w > 0.0);
    let (count, kept) = kept.fold((0u64, 0.0), |(count, sum), w| (count + 1, sum + w));
    let squares: f64 = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
    let scale = if count > 0 { kept / count as f64 } else { 0.0 };
    // The product with the ternary weights is `scale * kept`, the squares of those `scale * scale * count`.
    let cosine = if squares > 0.0 { kept / (count as f64 * squares).sqrt() } else { 1.0 };
    let scale = scale as f32;
    weights.iter_mut().for_each(|w| *w = if f64::from(w.abs()) >= half { scale.copysign(*w) } else { 0.0 });
    let format: &'static Format = if view.cols().is_multiple_of(I2_S.block) { &I2_S } else { &F32 };
    Ok((View::new(&*view.name, format, view.shape.clone(), format.encode(&weights))?, cosine))
}

/// What becomes of a matrix in a format of few bits, and the cosine of the angle between both.
fn nearest(view: &View, format: &'static Format) -> Result<(View, f64)> {
    if format.encodes_trits() {
        return ternarized(view);
    }
    let weights = view.decode();
    if let Some(&found) = weights.iter().find(|w| !w.is_finite()) {
        return Err(Error::NotFinite { tensor: view.name.clone(), found });
    }
    let made = View::new(&*view.name, format, view.shape.clone(), format.encode(&weights))?;
    let sum = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let after = made.decode();
    let squares = sum(&weights, &weights) * sum(&after, &after);
    let cosine = if squares > 0.0 { sum(&weights, &after) / squares.sqrt() } else { 1.0 };
    Ok((made, cosine))
}

/// Whether the weights of a matrix are zero or one magnitude, with either sign.
pub(super) fn is_ternary(view: &View) -> bool {
    let weights = view.decode();
    let scale = weights.iter().map(|weight| weight.abs()).find(|&weight| weight > 0.0);
    scale.is_some_and(|scale| scale.is_finite() && weights.iter().all(|weight| weight.abs() == scale || *weight == 0.0))
}

type Result<T> = std::result::Result<T, Error>;

/// The matrices to which `plan` gives a ternary format or one of one bit, and that are not what it holds: what they would lose. `progress` gets how many bytes of the input's tensors
/// are read, and may break off.
///
/// # Errors
/// When a tensor cannot be read, a weight is not finite, or `progress` breaks off.
pub fn damage(model: &GgufModel, plan: &Plan, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Vec<Damage>> {
    let (mut found, mut done) = (Vec::new(), 0);
    for (i, tensor) in plan.tensors.iter().enumerate() {
        if progress(done).is_break() {
            return Err(Error::Cancelled);
        }
        if tensor.may_be_destroyed() {
            let format = tensor.info.format;
            let (_, cosine) = nearest(&model.read(i)?, format)?;
            if cosine < SAME {
                let error = (1.0 - cosine * cosine).max(0.0).sqrt();
                found.push(Damage { tensor: tensor.info.name.clone(), format, cosine, error });
            }
            model.release();
        }
        done += tensor.bytes_before;
    }
    Ok(found)
}

/// Runs a text through the model, and through the model with those matrices in their formats: what the damage does to predictions.
///
/// # Errors
/// When the model cannot be run.
pub fn predict(
    model: &GgufModel,
    damage: &[Damage],
    device: &DeviceOptions,
    chunks: &Chunks,
    options: &DivergenceOptions,
) -> Result<Divergence> {
    let formats: BTreeMap<String, &'static Format> =
        damage.iter().map(|damage| (damage.tensor.clone(), damage.format)).collect();
    let rewrite = Rewrite::new(move |view: View| {
        let name = stored_name(|name| formats.contains_key(name), view.name.clone());
        let Some(format) = formats.get(&name) else { return Ok(view) };
        nearest(&view, format).map(|(view, _)| view).map_err(|error| trine_tensor::Error::Malformed {
            place: format!("tensor `{}`", view.name),
            expected: "finite weights".to_owned(),
            found: error.to_string(),
        })
    });
    let loaded = |rewrite: Option<Rewrite>| {
        let options = ModelOptions { gguf_names: true, rewrite, ..ModelOptions::default() };
        load(model.file(), device, options, &mut |_| ControlFlow::Continue(()))
    };
    let (mut before, mut after) = (loaded(None)?, loaded(Some(rewrite))?);
    let mut go_on = |_, _| ControlFlow::Continue(());
    Ok(compare(Reference::Runner(&mut *before), &mut *after, chunks, options, &mut go_on)?)
}
