//! What a run begins with: a model file, its language, documents as tokens, and a device.

use crate::config::{Config, Precision, Weights};
use crate::data::{self, Corpus, Packing};
use crate::export::Formats;
use crate::{Error, Progress, Result, init};
use std::ops::ControlFlow;
use trine_backend::{Activation, Cpu, CpuOptions};
use trine_model::{Language, NormKind, Sizes, Spec, open_file};
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
    if let Some(parent) = config.output.model.as_ref().and_then(|model| model.parent()) {
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
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
    if let Some(what) = no_way_back(&spec) {
        return Err(Error::Config {
            key: "model.from".into(),
            expected: format!("a model without {what}: gradients through them are not written"),
            found: format!("architecture `{}`", spec.arch.gguf[0]),
        });
    }
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
    let device = Cpu::new(CpuOptions { threads, huge_pages: true.into(), ..CpuOptions::default() })?;
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
        let own = Language::of(&file).map_or(Spec::of(&file)?.vocab_size, |own| own.tokenizer.len());
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

/// What a model computes that gradients do not go back through.
fn no_way_back(spec: &Spec) -> Option<&'static str> {
    let &Spec { sizes: Sizes { arch, .. }, activation, causal, logit_softcap, ref experts, mla, .. } = spec;
    [
        (arch.norm == NormKind::Layer, "layer norms"),
        (!matches!(activation, Activation::Silu | Activation::Relu2), "activations other than silu and relu2"),
        (!arch.gated, "feed-forward layers without a gate"),
        (arch.sinks, "attention sinks"),
        (!causal, "attention that sees ahead"),
        (logit_softcap.is_some(), "capped logits"),
        (experts.is_some(), "experts"),
        (mla.is_some(), "latent attention"),
    ]
    .into_iter()
    .find_map(|(there, what)| there.then_some(what))
}

/// The keys of the tokenizer.
pub(crate) fn language(config: &Config) -> Result<Metadata> {
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
    let columns = [spec.hidden_size, spec.n_heads * spec.head_dim, spec.intermediate_size];
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
