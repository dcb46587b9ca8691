//! What a ternary format does to weights that are not ternary: told before it is done.

use super::{Error, Plan};
use crate::divergence::{Chunks, Divergence, DivergenceOptions, Reference, compare};
use crate::imatrix::stored_name;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use trine_model::{DeviceOptions, GgufModel, ModelOptions, Rewrite, load};
use trine_tensor::format::{F32, I2_S};
use trine_tensor::{Format, View};

/// A matrix that is this near to its ternary weights is ternary: half precision rounds its scale.
const SAME: f64 = 1.0 - 1e-6;

/// What becomes of a matrix that is not ternary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damage {
    pub tensor: String,
    /// Cosine of the angle between the weights and the nearest ternary ones.
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

type Result<T> = std::result::Result<T, Error>;

/// The matrices that `plan` would make ternary and that are not: what they would lose. `progress` gets how many bytes of the input's tensors
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
        if tensor.becomes_ternary() {
            let (_, cosine) = ternarized(&model.read(i)?)?;
            if cosine < SAME {
                let error = (1.0 - cosine * cosine).max(0.0).sqrt();
                found.push(Damage { tensor: tensor.info.name.clone(), cosine, error });
            }
            model.release();
        }
        done += tensor.bytes_before;
    }
    Ok(found)
}

/// Runs a text through the model, and through the model with those matrices ternary: what the damage does to predictions.
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
    let names: BTreeSet<String> = damage.iter().map(|damage| damage.tensor.clone()).collect();
    let rewrite = Rewrite::new(move |view: View| {
        if !names.contains(&stored_name(|name| names.contains(name), view.name.clone())) {
            return Ok(view);
        }
        ternarized(&view).map(|(view, _)| view).map_err(|error| trine_tensor::Error::Malformed {
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
