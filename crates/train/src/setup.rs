//! What a run begins with: a model file, its language, documents as tokens, and a device.

use crate::config::{Config, Precision, Weights};
use crate::data::{self, Corpus, Packing};
use crate::export::Formats;
use crate::{Error, Progress, Result, init};
use std::ops::ControlFlow;
use trine_backend::{Cpu, CpuOptions, Role};
use trine_model::{Language, Sizes, Spec, open_file};
use trine_tensor::format::{BF16, F16, F32, I2_S, TQ2_0, by_name};
use trine_tensor::{File, Format, Metadata, OpenOptions};

/// All of it.
pub struct Setup {
    /// The model with which training begins.
    pub file: File,
    /// What the file of the trained model says.
    pub metadata: Metadata,
    /// Sequences to learn from.
    pub train: Packing,
    /// Sequences to be tried on.
    pub validation: Packing,
    /// What the trained model is written as.
    pub formats: Formats,
    /// Where it runs.
    pub device: Cpu,
    /// The hash of the tokenizer.
    pub language: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Reads and makes what a run needs.
///
/// # Errors
/// When the configuration makes no sense, or a file cannot be read or written; [`Error::Cancelled`] when `progress` says so.
pub fn prepare(config: &Config, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Setup> {
    let folder = &config.output.folder;
    let language = language(config)?;
    let tokenizer = Language::of_metadata(&language)?.tokenizer;
    let cache = config.data.cache.clone().unwrap_or_else(|| folder.join("cache"));
    let threads = config.train.threads.unwrap_or_else(|| CpuOptions::default().threads);
    let corpus = Corpus::open(&config.data, &tokenizer, &language, &cache, threads, &mut |done, total| {
        progress(Progress { what: "reading texts", done, total })
    })?;
    let file = model(config, &language, tokenizer.len(), progress)?;
    let sequence = config.train.sequence;
    let train = Packing::shuffled(corpus.train, sequence, config.train.seed)?;
    let validation = Packing::in_order(corpus.validation, sequence)?;
    let spec = Spec::of(&file)?;
    let formats = formats(config, &spec)?;
    let mut warnings = Vec::new();
    if config.quantization.weights == Weights::Ternary && config.output.format.is_none() && !formats.inner.ternary {
        let (block, format) = (I2_S.block, formats.inner);
        warnings.push(format!(
            "rows of ternary weights are no multiples of {block} here, and no ternary format holds them: the model will be written as {format}"
        ));
    }
    if validation.rows() == 0 && config.data.validation > 0.0 {
        warnings.push("no document was kept for validation: there are too few".into());
    }
    let mut metadata = file.metadata().clone();
    for (key, value) in language.iter() {
        metadata.insert(key, value.clone());
    }
    match formats.inner.file_type() {
        Some(number) => metadata.insert("general.file_type", number),
        None => metadata.remove("general.file_type"),
    };
    let device = Cpu::new(CpuOptions { threads, huge_pages: true, ..CpuOptions::default() })?;
    let language = data::language(&language);
    Ok(Setup { file, metadata, train, validation, formats, device, language, warnings })
}

/// The model with which training begins: one that is there, or a new one.
fn model(
    config: &Config,
    language: &Metadata,
    tokens: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<File> {
    if let Some(path) = &config.model.from {
        let file = open_file(path, &OpenOptions::default())?;
        let own = Language::of(&file).map_or(Spec::of(&file)?.vocab, |own| own.tokenizer.len());
        if own != tokens {
            return Err(Error::Config {
                key: "model.tokenizer".into(),
                expected: format!("the {own} tokens of `model.from`"),
                found: format!("{tokens}"),
            });
        }
        return Ok(file);
    }
    let folder = &config.output.folder;
    let path = tempfile::NamedTempFile::with_suffix_in(".gguf", folder).map_err(Error::io(folder))?.into_temp_path();
    let sizes = init::sizes(&config.model, tokens, config.train.sequence)?;
    init::write(&path, &sizes, language, config.train.seed, &mut |done, total| {
        progress(Progress { what: "making weights", done, total })
    })?;
    Ok(File::open(&path)?)
}

/// The keys of the tokenizer.
fn language(config: &Config) -> Result<Metadata> {
    let source = config.model.tokenizer.as_ref().or(config.model.from.as_ref());
    let missing = || Error::Config {
        key: "model.tokenizer".into(),
        expected: "a tokenizer, or a model in `model.from`".into(),
        found: "neither".into(),
    };
    Ok(Language::metadata(source.ok_or_else(missing)?)?)
}

/// The formats that were asked for, or those that hold what was trained.
fn formats(config: &Config, spec: &Spec) -> Result<Formats> {
    let named = |key: &str, name: &Option<String>| match name {
        None => Ok(None),
        Some(name) => by_name(name).map(Some).ok_or_else(|| Error::Config {
            key: key.into(),
            expected: "a format that files hold".into(),
            found: name.clone(),
        }),
    };
    let float: &'static Format = match config.train.precision {
        Precision::F32 => &F32,
        Precision::Bf16 => &BF16,
        Precision::F16 => &F16,
    };
    let columns = [spec.width, spec.heads * spec.head_dim, spec.feed_forward];
    let fits = |format: &Format| columns.iter().all(|cols| cols.is_multiple_of(format.block));
    let (inner, outer): (&'static Format, &'static Format) = match config.quantization.weights {
        Weights::None => (float, float),
        Weights::Ternary => ([&TQ2_0, &I2_S].into_iter().find(|format| fits(format)).unwrap_or(&F32), &F16),
    };
    Ok(Formats {
        inner: named("output.format", &config.output.format)?.unwrap_or(inner),
        outer: named("output.embedding_format", &config.output.embedding_format)?.unwrap_or(outer),
    })
}

/// What a run takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Weights.
    pub parameters: u64,
    /// Bytes, by what they are for.
    pub memory: PlanMemory,
    /// Floating-point operations of matrix products for each token, forward and back.
    pub flops_per_token: f64,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Tokens of all steps.
    pub tokens: u64,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanMemory {
    /// Master weights, and what the forward pass sees of them.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Means of gradients and, where the optimiser has them, of their squares.
    pub optimizer: u64,
    /// What the way back needs of the way forward, and what is at work.
    pub activations: u64,
    /// Together.
    pub total: u64,
}

/// What a run would take, without beginning it.
///
/// # Errors
/// When the configuration makes no sense, or the tokenizer or a model cannot be read.
pub fn plan(config: &Config) -> Result<Plan> {
    config.check()?;
    let (steps, batch, sequence) = (config.train.steps, config.train.batch, config.train.sequence);
    let sizes = match &config.model.from {
        Some(path) => {
            let file = open_file(path, &OpenOptions::default())?;
            let spec = Spec::of(&file)?;
            Sizes {
                arch: spec.arch,
                layers: spec.layers,
                width: spec.width,
                heads: spec.heads,
                kv_heads: spec.kv_heads,
                head_dim: spec.head_dim,
                feed_forward: spec.feed_forward,
                vocab: spec.vocab,
                context: spec.context,
                rope_base: 0.0,
                eps: spec.eps,
                tied: !file.contains("output.weight"),
            }
        }
        None => init::sizes(&config.model, Language::of_metadata(&language(config)?)?.tokenizer.len(), sequence)?,
    };
    let ternary = config.quantization.weights == Weights::Ternary;
    let (mut parameters, mut seen, mut products, mut moments) = (0u64, 0, 0, 0);
    for (_, role, shape) in sizes.tensors() {
        let len = shape.iter().product::<usize>() as u64;
        parameters += len;
        let inner = matches!(role, Role::Linear | Role::BitLinear);
        seen += if ternary && inner { len / 4 } else { 4 * len };
        moments += config.optimizer.name.moments(inner) as u64 * len;
        let lookup = role == Role::Embedding && !sizes.tied;
        products += if shape.len() == 2 && !lookup { len } else { 0 };
    }
    let (q, kv) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
    let sub_norms = usize::from(sizes.arch.sub_norms);
    // Inputs of norms and matrices, of the gate, and of attention, and what it gave.
    let layer = 4 * sizes.width + (2 + sub_norms) * q + 2 * kv + (3 + sub_norms) * sizes.feed_forward;
    let layers = match config.train.grad_checkpoint {
        true => layer + sizes.layers * sizes.width,
        false => layer * sizes.layers,
    };
    // The layer at work on the way back, and logits with their gradient.
    let each = layers + layer + 2 * sizes.vocab;
    let portion = config.train.micro_batch.unwrap_or(batch) * sequence;
    let (weights, gradients, optimizer) = (4 * parameters + seen, 4 * parameters, 4 * moments);
    // Keys and values of the layer at work, with room for blocks that are not full.
    let cache = 2 * kv * 5 / 4;
    let activations = 4 * ((each + cache) * portion) as u64;
    let attention = 4.0 * (sequence as f64 + 1.0) / 2.0 * (sizes.layers * q) as f64;
    Ok(Plan {
        parameters,
        memory: PlanMemory {
            weights,
            gradients,
            optimizer,
            activations,
            total: weights + gradients + optimizer + activations,
        },
        flops_per_token: 3.0 * (2.0 * products as f64 + attention),
        steps,
        tokens: steps * (batch * sequence) as u64,
    })
}
