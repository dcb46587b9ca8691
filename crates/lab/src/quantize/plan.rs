//! Which format each tensor gets.

use super::{Error, QuantizeReport};
use trine_model::GgufModel;
use trine_tensor::format::{F32, IQ4_NL, Q5_0, Q5_1, Q8_0};
use trine_tensor::{FileFormat, Format, Metadata, TensorInfo};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// The format of matrices; `None` keeps that of the input.
    pub format: Option<&'static Format>,
}

/// Why a tensor gets its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It stays as it is: a vector, what is no matrix of a linear layer, for a ternary format the embedding and head, or a matrix that has the
    /// format already.
    Kept,
    /// It gets the format that was asked for.
    Rewritten,
    /// It gets a format of shorter blocks, because its rows are not whole blocks of the one asked for.
    Replaced,
    /// It stays as it is, because its rows are not whole blocks of any of both.
    Unfit,
}

/// A tensor, and the format that it gets.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// As it will be written.
    pub info: TensorInfo,
    /// The format that it is read in.
    pub from: &'static Format,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub choice: Choice,
}

/// What will be written.
#[derive(Clone, Debug)]
pub struct Plan {
    pub metadata: Metadata,
    /// In the order of [`GgufModel::tensors`].
    pub tensors: Vec<PlannedTensor>,
}

/// Tensors of several rows that are not multiplied by, or by which a layer chooses its experts, as they end in GGUF.
const KEPT: [&str; 6] = [
    ".bias",
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "position_embd.weight",
    "token_types.weight",
];

/// What takes the place of a format in rows that are not whole blocks of 256: blocks of 32 with as many bits or a few more, as llama.cpp
/// chooses them.
static REPLACEMENTS: &[(&[&str], &Format)] = &[
    (&["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "Q2_K", "Q3_K"], &IQ4_NL),
    (&["Q4_K"], &Q5_0),
    (&["Q5_K"], &Q5_1),
    (&["Q6_K"], &Q8_0),
];

/// The version of the formats of blocks, `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// Decides the format of each tensor of `model`.
///
/// # Errors
/// When no tensor can be held in the format asked for.
pub fn plan(model: &GgufModel, recipe: &Recipe) -> Result<Plan, Error> {
    let folder = model.file().format() == FileFormat::Safetensors;
    let mut tensors = Vec::new();
    for tensor in model.tensors() {
        let (format, choice) = choose(tensor, folder, recipe);
        let info = TensorInfo { format, ..tensor.clone() };
        let (bytes_before, bytes_after) = (tensor.size()?, info.size()?);
        tensors.push(PlannedTensor { info, from: tensor.format, bytes_before, bytes_after, choice });
    }
    let count = |choice: Choice| tensors.iter().filter(|tensor| tensor.choice == choice).count();
    if let Some(format) = recipe.format
        && count(Choice::Rewritten) + count(Choice::Replaced) == 0
        && count(Choice::Unfit) > 0
    {
        let path = model.file().path().display().to_string();
        return Err(Error::Nothing { path, format: format.name, block: format.block });
    }
    let mut metadata = model.metadata().clone();
    match most(&tensors).and_then(Format::file_type) {
        Some(number) => metadata.insert("general.file_type", number),
        None => metadata.remove("general.file_type"),
    };
    if tensors.iter().any(|tensor| tensor.info.format.block > 1)
        && metadata.get("general.quantization_version").is_none()
    {
        metadata.insert("general.quantization_version", QUANTIZATION_VERSION);
    }
    Ok(Plan { metadata, tensors })
}

/// The format of one tensor. Vectors and the like of folders become float32, as all programs that read GGUF expect.
fn choose(tensor: &TensorInfo, folder: bool, recipe: &Recipe) -> (&'static Format, Choice) {
    let rows: usize = tensor.shape.split_last().map_or(1, |(_, rest)| rest.iter().product());
    if rows == 1 || KEPT.iter().any(|end| tensor.name.ends_with(end)) {
        return (if folder { &F32 } else { tensor.format }, Choice::Kept);
    }
    let Some(format) = recipe.format else { return (tensor.format, Choice::Kept) };
    let layer = tensor.name.starts_with("blk.");
    if tensor.format == format || (format.encodes_trits() && !layer) {
        return (tensor.format, Choice::Kept);
    }
    match fitting(format, tensor) {
        Some(fitting) if fitting == format => (fitting, Choice::Rewritten),
        Some(fitting) => (fitting, Choice::Replaced),
        None => (tensor.format, Choice::Unfit),
    }
}

/// The format that a matrix gets when `format` is asked for.
fn fitting(format: &'static Format, tensor: &TensorInfo) -> Option<&'static Format> {
    let other = REPLACEMENTS.iter().find(|(names, _)| names.contains(&format.name)).map(|&(_, other)| other);
    [Some(format), other].into_iter().flatten().find(|format| TensorInfo { format, ..tensor.clone() }.size().is_ok())
}

/// The format that holds most weights of matrices.
fn most(tensors: &[PlannedTensor]) -> Option<&'static Format> {
    let mut weights: Vec<(&'static Format, usize)> = Vec::new();
    for info in tensors.iter().map(|tensor| &tensor.info).filter(|info| info.shape.len() > 1) {
        let len = info.shape.iter().product::<usize>();
        match weights.iter_mut().find(|(format, _)| *format == info.format) {
            Some((_, sum)) => *sum += len,
            None => weights.push((info.format, len)),
        }
    }
    weights.into_iter().max_by_key(|(_, sum)| *sum).map(|(format, _)| format)
}

impl Plan {
    /// The bytes of all tensors as they are read.
    pub fn bytes_before(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes_before).sum()
    }

    /// The bytes of all tensors as they will be written.
    pub fn bytes_after(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes_after).sum()
    }

    /// What becomes of the tensors.
    pub fn report(&self) -> QuantizeReport {
        let mut report = QuantizeReport::default();
        for PlannedTensor { info, bytes_before, bytes_after, choice, .. } in &self.tensors {
            match choice {
                Choice::Kept => report.kept += 1,
                Choice::Rewritten => report.rewritten += 1,
                Choice::Replaced => report.replaced.push(info.name.clone()),
                Choice::Unfit => report.unfit.push(info.name.clone()),
            }
            report.bytes_before += bytes_before;
            report.bytes_after += bytes_after;
            *report.formats.entry(info.format.name).or_default() += 1;
        }
        report
    }
}
