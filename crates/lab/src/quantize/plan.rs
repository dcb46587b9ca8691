//! Which format each tensor gets.

use super::mix::{Mix, Mixer, Shape, layer_of};
use super::{Error, QuantizeReport, Rule};
use crate::imatrix::Imatrix;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use trine_model::GgufModel;
use trine_tensor::format::{F16, F32, IQ4_NL, Q1_0, Q4_0, Q5_0, Q5_1, Q8_0};
use trine_tensor::receipt::without_receipt;
use trine_tensor::{FileFormat, Format, Metadata, TensorInfo};

/// What matrices become.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// One format for all of them. A ternary one is for those inside layers.
    Format(&'static Format),
    /// A mixture of formats.
    Mix(&'static Mix),
}

impl Target {
    /// The name of the format or mixture.
    pub fn name(&self) -> &'static str {
        match self {
            Target::Format(format) => format.name,
            Target::Mix(mix) => mix.name,
        }
    }

    /// The format of most matrices.
    pub fn format(&self) -> &'static Format {
        match self {
            Target::Format(format) => format,
            Target::Mix(mix) => mix.format,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// What matrices become; `None` keeps the formats of the input.
    pub target: Option<Target>,
    /// Exceptions, of which the first that a tensor matches counts.
    pub rules: Vec<Rule>,
    /// The formats of tensors by their names, before all others.
    pub formats: BTreeMap<String, &'static Format>,
    /// The format of the embedding of tokens, and of the output head, which precede the rules.
    pub embedding: Option<&'static Format>,
    pub output: Option<&'static Format>,
    /// How much each column matters.
    pub imatrix: Option<Arc<Imatrix>>,
    /// Make matrices ternary for ternary formats that are not ternary yet, whatever that does to the model.
    pub ternarize: bool,
}

/// Why a tensor gets its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It stays as it is: a vector, what is no matrix of a linear layer, for a ternary format the embedding and head, or a matrix that has its
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
    /// The format asked for; that which it has where none is.
    pub wanted: &'static Format,
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
    /// Bytes of tensors in a file at most; `None` for one file.
    pub shard_size: Option<u64>,
    /// Whether old files are replaced, also those that appear while the new ones are written.
    pub replace: bool,
    /// How much each column matters.
    pub imatrix: Option<Arc<Imatrix>>,
    /// What is lost of the input, and what the importance matrix says little about.
    pub warnings: Vec<String>,
    /// Make matrices ternary for ternary formats.
    pub ternarize: bool,
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
    (&["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"], &IQ4_NL),
    (&["Q2_K", "Q3_K"], &Q4_0),
    (&["Q4_K"], &Q5_0),
    (&["Q5_K"], &Q5_1),
    (&["Q6_K"], &Q8_0),
];

/// The version of the formats of blocks, `GGML_QNT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

/// Decides the format of each tensor of `model`.
///
/// # Errors
/// When no tensor can be held in the format asked for, a rule matches no tensor, or the importance matrix is that of another model.
pub fn plan(model: &GgufModel, recipe: &Recipe) -> Result<Plan, Error> {
    let folder = model.file().format() == FileFormat::Safetensors;
    let infos = model.tensors();
    let mut warnings = model.warnings().to_vec();
    if let Some(imatrix) = &recipe.imatrix {
        warnings.extend(imatrix.check(infos.iter())?);
    }
    if let Some(rule) = recipe.rules.iter().find(|rule| !infos.iter().any(|info| rule.matches(&info.name))) {
        return Err(Error::NoMatch { rule: rule.to_string() });
    }
    let tied = !infos.iter().any(|info| info.name == "output.weight");
    let mut mixer = match recipe.target {
        Some(Target::Mix(mix)) => Some(Mixer::new(mix, shape(model, tied, recipe.imatrix.is_some()), infos.iter())),
        _ => None,
    };
    // Mixtures count matrices in the order of layers, whatever that of the file.
    let mut order: Vec<usize> = (0..infos.len()).collect();
    order.sort_by(|&a, &b| by_layer(&infos[a].name, &infos[b].name));
    let mut choices: Vec<(&'static Format, &'static Format, Choice)> = vec![(&F32, &F32, Choice::Kept); infos.len()];
    for i in order {
        choices[i] = choose(&infos[i], folder, tied, recipe, mixer.as_mut());
    }
    let mut tensors = Vec::new();
    for (tensor, (wanted, format, choice)) in infos.iter().zip(choices) {
        let info = TensorInfo { format, ..tensor.clone() };
        let (bytes_before, bytes_after) = (tensor.size()?, info.size()?);
        tensors.push(PlannedTensor { info, from: tensor.format, wanted, bytes_before, bytes_after, choice });
    }
    let count = |choice: Choice| tensors.iter().filter(|tensor| tensor.choice == choice).count();
    if let Some(Target::Format(format)) = recipe.target
        && count(Choice::Rewritten) + count(Choice::Replaced) == 0
        && count(Choice::Unfit) > 0
    {
        let path = model.file().path().display().to_string();
        return Err(Error::Nothing { path, format: format.name, block: format.block });
    }
    let mut metadata = without_receipt(model.metadata());
    let file_type = match recipe.target {
        Some(Target::Mix(mix)) => Some(mix.file_type),
        _ => most(&tensors).and_then(Format::file_type),
    };
    match file_type {
        Some(number) => metadata.insert("general.file_type", number),
        None => metadata.remove("general.file_type"),
    };
    if tensors.iter().any(|tensor| tensor.info.format.block > 1)
        && metadata.get("general.quantization_version").is_none()
    {
        metadata.insert("general.quantization_version", QUANTIZATION_VERSION);
    }
    let imatrix = recipe.imatrix.clone();
    Ok(Plan { metadata, tensors, shard_size: None, replace: true, imatrix, warnings, ternarize: recipe.ternarize })
}

/// Layers in order, before them what is in none.
fn by_layer(a: &str, b: &str) -> Ordering {
    layer_of(a).cmp(&layer_of(b)).then_with(|| a.cmp(b))
}

/// What mixtures look at.
fn shape(model: &GgufModel, tied: bool, imatrix: bool) -> Shape {
    let spec = model.spec();
    let seventy = match spec.arch.name() {
        "llama" => spec.n_heads != spec.n_kv_heads,
        "qwen2" | "olmo" => true,
        _ => false,
    };
    Shape {
        layers: spec.n_layers,
        groups: spec.n_heads / spec.n_kv_heads.max(1),
        experts: spec.experts.as_ref().map_or(0, |experts| experts.n_experts),
        seventy_billion: seventy && spec.n_layers == 80,
        tied,
        imatrix,
    }
}

fn is_matrix(tensor: &TensorInfo) -> bool {
    let rows: usize = tensor.shape.split_last().map_or(1, |(_, rest)| rest.iter().product());
    rows > 1 && !KEPT.iter().any(|end| tensor.name.ends_with(end))
}

/// The format asked for one tensor, and that which it gets. Vectors and the like of folders become float32, as all programs that read GGUF expect.
fn choose(
    tensor: &TensorInfo,
    folder: bool,
    tied: bool,
    recipe: &Recipe,
    mixer: Option<&mut Mixer>,
) -> (&'static Format, &'static Format, Choice) {
    let kept = (tensor.format, tensor.format, Choice::Kept);
    if !is_matrix(tensor) {
        return if folder { (&F32, &F32, Choice::Kept) } else { kept };
    }
    // A mixture counts every matrix, whatever becomes of it.
    let mixed = mixer.map(|mixer| mixer.choose(tensor));
    let named = match tensor.name.as_str() {
        "token_embd.weight" if tied => recipe.embedding.or(recipe.output),
        "token_embd.weight" => recipe.embedding,
        "output.weight" => recipe.output,
        _ => None,
    };
    let named = recipe.formats.get(&tensor.name).copied().or(named);
    let ruled = || recipe.rules.iter().find(|rule| rule.matches(&tensor.name)).map(|rule| rule.format);
    let named = named.or_else(ruled);
    let layer = tensor.name.starts_with("blk.");
    let format = match (named, mixed, recipe.target) {
        (Some(format), ..) | (None, Some(format), _) => format,
        (None, None, Some(Target::Format(format))) if layer || !format.encodes_trits() => format,
        _ => return kept,
    };
    if tensor.format == format {
        return kept;
    }
    let (found, choice) = match fitting(format, tensor) {
        Some(fitting) if fitting == format => (fitting, Choice::Rewritten),
        Some(fitting) => (fitting, Choice::Replaced),
        // llama.cpp has no other format for such rows.
        None if mixed.is_some() => (&F16, Choice::Replaced),
        None => (tensor.format, Choice::Unfit),
    };
    (format, found, choice)
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

impl PlannedTensor {
    /// Whether it is multiplied by, so that formats of few bits are for it.
    pub fn is_matrix(&self) -> bool {
        is_matrix(&self.info)
    }

    /// Whether it is encoded in a format for which the importance of columns counts.
    pub fn uses_importance(&self) -> bool {
        matches!(self.choice, Choice::Rewritten | Choice::Replaced) && self.info.format.uses_importance()
    }

    /// Whether it gets a format of so few bits that weights which were not trained for it are destroyed: a ternary one, or one of one bit.
    pub fn may_be_destroyed(&self) -> bool {
        self.becomes_ternary() || self.info.format == &Q1_0 && self.from != &Q1_0
    }

    /// Whether it gets a ternary format, and may be more than that now.
    pub fn becomes_ternary(&self) -> bool {
        self.info.format.encodes_trits() && !self.from.ternary
    }
}

impl Plan {
    /// The tensors as they will be written.
    pub(super) fn entries(&self) -> Vec<TensorInfo> {
        self.tensors.iter().map(|tensor| tensor.info.clone()).collect()
    }

    /// Matrices in formats of so few bits that they are hardly usable without an importance matrix, if there is none; embeddings and heads need
    /// none.
    pub fn without_importance(&self) -> Vec<&str> {
        const NEEDY: [&str; 6] = ["IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"];
        let needy = |tensor: &&PlannedTensor| {
            let info = &tensor.info;
            tensor.uses_importance() && info.name.starts_with("blk.") && NEEDY.contains(&info.format.name)
        };
        if self.imatrix.is_some() {
            return Vec::new();
        }
        self.tensors.iter().filter(needy).map(|tensor| tensor.info.name.as_str()).collect()
    }

    /// Matrices of layers that get a format for which the importance of columns counts, and that the importance matrix has no entry for. Without
    /// an importance matrix, none.
    pub fn unmeasured(&self) -> Vec<&str> {
        let Some(imatrix) = &self.imatrix else { return Vec::new() };
        let lacks = |tensor: &&PlannedTensor| {
            let name = &tensor.info.name;
            tensor.uses_importance() && name.starts_with("blk.") && !imatrix.entries.contains_key(name)
        };
        self.tensors.iter().filter(lacks).map(|tensor| tensor.info.name.as_str()).collect()
    }

    /// Bits of a weight, the mean over all tensors as they will be written.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: usize = self.tensors.iter().map(|tensor| tensor.info.shape.iter().product::<usize>()).sum();
        8.0 * self.bytes_after() as f64 / weights.max(1) as f64
    }

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
