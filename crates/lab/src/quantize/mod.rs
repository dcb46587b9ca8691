//! The same model as a GGUF file, in other formats: [`plan`] says which format each tensor gets, [`write`](fn@write) writes the file.

mod encode;
mod folder;
pub mod guard;
mod json;
mod mix;
mod plan;
mod profile;
mod rule;
pub mod search;
mod write;

pub use folder::{check_folder, write_folder};
pub use mix::{MIXES, Mix};
pub use plan::{Choice, Plan, PlannedTensor, Recipe, Target, plan};
pub use profile::{ConversionProfile, TensorTime};
pub use rule::Rule;
pub(crate) use write::rehearse;
pub use write::{check_output, write};

use crate::receipt::Provenance;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use trine_model::{GgufModel, Rewrite};
use trine_tensor::format::Q1_0;
use trine_tensor::{FORMATS, File, Format};

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// A file cannot be read or written, or the format cannot hold the weights.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The input is no model that can be run.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The output is the input.
    #[error("{path}: the new file must have another name than the old one")]
    SameFile { path: String },
    /// The name of the output is that of another kind of file.
    #[error("{path}: expected a name that ends with .gguf, found one that ends with .{extension}")]
    Extension { path: String, extension: String },
    /// There is something where the new folder would be.
    #[error("{path}: expected no folder, or an empty one, found another")]
    Occupied { path: String },
    /// A folder has no way to say what the model is.
    #[error("no folder of transformers is this {arch}: {what} would differ")]
    Inexpressible { arch: &'static str, what: String },
    /// The format is not for weights, or no file can hold it.
    #[error("expected a format for weights in a GGUF file, one of {}, found {format}", names())]
    NotStorable { format: &'static str },
    /// No matrix has rows of whole blocks of the format; `block` is in weights.
    #[error("no tensor of {path} can be held in {format}: its rows must be multiples of {block} weights")]
    Nothing { path: String, format: &'static str, block: usize },
    /// A rule is for no tensor.
    #[error("no tensor matches {rule}")]
    NoMatch { rule: String },
    /// A rule cannot be read.
    #[error("expected {expected}, found `{found}`")]
    Rule { expected: String, found: String },
    /// Weights that were not trained for a format of so few bits would be destroyed.
    #[error(
        "tensor `{tensor}`: {format} holds {}, and the nearest have a cosine of {cosine:.3} with these",
        kind(format)
    )]
    Dense { tensor: String, format: &'static str, cosine: f64 },
    /// No mixture is as small as asked for. Bytes of tensors.
    #[error("the tensors take at least {least} bytes in the smallest formats, more than the {asked} asked for")]
    TooSmall { least: u64, asked: u64 },
    /// The divergence cannot be measured.
    #[error(transparent)]
    Divergence(#[from] crate::divergence::Error),
    /// The importance matrix is that of another model.
    #[error(transparent)]
    Imatrix(#[from] crate::imatrix::Error),
    /// A weight, the first such, is NaN or infinite.
    #[error("tensor `{tensor}`: expected finite weights, found {found}")]
    NotFinite { tensor: String, found: f32 },
    /// A format of few bits loses weights for which the importance matrix has zeros. `weight` would become `encoded`.
    #[error(
        "tensor `{tensor}`: the importance matrix has columns of zeros, whose weights {format} would lose: {weight:e} would become {encoded:e}"
    )]
    Unimportant { tensor: String, format: &'static str, weight: f32, encoded: f32 },
    /// A ternary format would destroy the weights. `worst` is the one furthest from what the format can hold, `nearest` what it would become.
    #[error(
        "tensor `{tensor}`: {format} holds ternary weights, found others: {worst} where {nearest} is the nearest it can hold"
    )]
    NotTernary { tensor: String, format: &'static str, worst: f32, nearest: f32 },
}

/// The weights that a format holds.
fn kind(format: &str) -> &'static str {
    if format == Q1_0.name { "weights of one bit" } else { "ternary weights" }
}

/// The names of the formats that [`quantize`] writes.
pub fn names() -> String {
    FORMATS.iter().filter(|format| format.stores_models()).map(|format| format.name).collect::<Vec<_>>().join(", ")
}

/// What became of the tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantizeReport {
    /// In the new format now.
    pub rewritten: usize,
    /// As they were: vectors, what is no matrix of a linear layer, for a ternary format the embedding and head, and matrices that already had
    /// the format.
    pub kept: usize,
    /// In a format of shorter blocks, because their rows are not whole blocks of the one asked for.
    pub replaced: Vec<String>,
    /// As they were, because their rows are not whole blocks of any of both.
    pub unfit: Vec<String>,
    /// The number of tensors in each format, all tensors of the new file.
    pub formats: BTreeMap<&'static str, usize>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// Writes the model `input`, a GGUF file or a folder, to the GGUF file `output` with its matrices in `format`; vectors stay as they are, and so
/// do the embedding and the head when the format is ternary. Where rows are not whole blocks of 256, a format of 32 that is near takes its
/// place. `progress` gets how many bytes of the input's tensors are done, and may break off.
///
/// The input must be a model that can be run, and each tensor is checked after it was encoded. The file gets a receipt.
///
/// # Errors
/// When a file cannot be read or written, the input cannot be run, or the format cannot hold the weights; then `output` stays as it was.
pub fn quantize(
    input: &File,
    output: &Path,
    format: &'static Format,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<QuantizeReport, Error> {
    check_output(input, output)?;
    if !format.stores_models() {
        return Err(Error::NotStorable { format: format.name });
    }
    let model = GgufModel::open(input, None)?;
    let recipe = Recipe { target: Some(Target::Format(format)), ..Recipe::default() };
    let plan = plan(&model, &recipe)?;
    let provenance = Provenance { recipe: &recipe, imatrix: None, tokenizer: None, sign: None };
    write(&model, &plan, output, Some(&provenance), None, progress)?;
    Ok(plan.report())
}

/// What a loader does to the weights of `file` so that they are in the formats of `recipe`, without writing a file.
///
/// # Errors
/// As [`plan`], and when a ternary format would destroy the weights.
pub fn quantize_on_load(file: &File, recipe: &Recipe) -> Result<Rewrite, Error> {
    let model = GgufModel::open(file, None)?;
    let plan = plan(&model, recipe)?;
    if plan.tensors.iter().any(PlannedTensor::may_be_destroyed)
        && let [damage, ..] = &guard::damage(&model, &plan, &mut |_| ControlFlow::Continue(()))?[..]
    {
        let (tensor, format) = (damage.tensor.clone(), damage.format.name);
        return Err(Error::Dense { tensor, format, cosine: damage.cosine });
    }
    let rewritten = |tensor: &&PlannedTensor| matches!(tensor.choice, Choice::Rewritten | Choice::Replaced);
    let formats = plan.tensors.iter().filter(rewritten).map(|tensor| (tensor.info.name.clone(), tensor.info.format));
    search::rewriting(formats.collect(), recipe)
}
