//! What a run starts with: a model file, its tokenizer, tokenized documents, and a device.

use crate::config::{Config, WeightQuantization};
use crate::data::{self, Corpus, PackedDataset, Unspelled};
use crate::export::{FileLayout, Formats};
use crate::{Error, Result, SetupProgress, init, unsupported_operation};
use std::ops::ControlFlow;
use trine_backend::{Cpu, CpuOptions};
use trine_model::{Language, Spec, as_gguf, is_in_halves, open_file};
use trine_tensor::format::{F16, F32, I2_S, TQ2_0, by_name};
use trine_tensor::{File, Format, Metadata, OpenOptions, Replacement};

pub struct Setup {
    pub file: File,
    /// Of the trained model's file.
    pub layout: FileLayout,
    pub train: PackedDataset,
    pub validation: PackedDataset,
    /// Of the trained model's file.
    pub formats: Formats,
    pub device: Cpu,
    /// A hash of the tokenizer.
    pub language: String,
    /// A hash of the texts and of how they become tokens.
    pub data: String,
    /// Whether the vocabulary spells all of the texts.
    pub spells_all: bool,
    pub warnings: Vec<String>,
}

/// The largest share of a text that a vocabulary may lack: a stray symbol, not a script.
const MOST_UNSPELLED: f64 = 0.01;

/// Reads the data and the model, or initializes a new model.
///
/// # Errors
/// When the configuration is invalid, or a file cannot be read or written; [`Error::Cancelled`] when `progress` breaks.
pub fn prepare(config: &Config, progress: &mut dyn FnMut(SetupProgress) -> ControlFlow<()>) -> Result<Setup> {
    let folder = &config.output.folder;
    if let Some(parent) = config.output.model.as_ref().and_then(|model| model.parent()) {
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    Replacement::check(&config.output.model_path())?;
    let language = language(config)?;
    let tokenizer = Language::of_metadata(&language)?.tokenizer;
    let cache = config.data.cache.clone().unwrap_or_else(|| folder.join("cache"));
    let threads = cpu_options(config).threads;
    let mut corpus = Corpus::open(&config.data, &tokenizer, &language, &cache, threads, &mut |done, total| {
        progress(SetupProgress { what: "reading texts", done, total })
    })?;
    let Unspelled { characters, share } = &corpus.unspelled;
    let lacks = format!("{characters:?} ({:.3} % of the text)", 100.0 * share);
    if *share > MOST_UNSPELLED {
        return Err(Error::Config {
            key: "model.tokenizer".into(),
            expected: "a vocabulary that can spell the texts".into(),
            found: format!("one that lacks {lacks}"),
        });
    }
    let spells_all = *share == 0.0;
    let tail = corpus.hold_out_tail(config.data.validation, config.train.sequence, &tokenizer);
    let data = corpus.key.clone();
    let file = model(config, &language, tokenizer.len(), progress)?;
    let sequence = config.train.sequence;
    let train = PackedDataset::shuffled(corpus.train, sequence, config.train.seed)?;
    let validation = PackedDataset::in_order(corpus.validation, sequence)?;
    let spec = Spec::of(&file)?;
    let formats = formats(config, &spec)?;
    let mut warnings = Vec::new();
    if !spells_all {
        warnings.push(format!("the vocabulary lacks {lacks}: there are no bits per byte"));
    }
    if let Some(path) = &config.model.from
        && config.quantization.weights == WeightQuantization::Ternary
        && !spec.bit_linear
        && !file.tensors().any(|view| view.format.ternary)
    {
        warnings.push(format!(
            "{}: the weights are float, and training makes them ternary (quantization.weights = \"none\" keeps them float)",
            path.display()
        ));
    }
    let unfit = columns(&spec).iter().any(|cols| !cols.is_multiple_of(I2_S.block));
    if config.quantization.weights == WeightQuantization::Ternary && config.output.format.is_none() && unfit {
        let block = I2_S.block;
        warnings.push(format!(
            "rows of some weights are not multiples of {block}, as ternary formats need: these will be written as F32"
        ));
    }
    if tail.is_some() || validation.rows() == 0 && config.data.validation > 0.0 {
        let (documents, separator) = (train.tokens().len(), &config.data.separator);
        let instead = tail.map(|tokens| format!(", but the last {tokens} tokens of the text")).unwrap_or_default();
        let ask = match documents {
            1 => format!(": is {separator:?} what separates documents (data.separator)?"),
            _ => String::new(),
        };
        warnings
            .push(format!("no document is held out for validation{instead}, as there are too few ({documents}){ask}"));
    }
    let (mut metadata, tensors) = as_gguf(&file, &spec)?;
    for (key, value) in language.iter() {
        metadata.insert(key, value.clone());
    }
    match formats.inner.file_type() {
        Some(number) => metadata.insert("general.file_type", number),
        None => metadata.remove("general.file_type"),
    };
    let interleave = is_in_halves(&file, &spec).then(|| spec.clone());
    let layout = FileLayout { metadata, tensors, interleave, fused: spec.arch.gguf_fused };
    let device = Cpu::new(cpu_options(config))?;
    let language = data::tokenizer_hash(&language);
    Ok(Setup { file, layout, train, validation, formats, device, language, data, spells_all, warnings })
}

/// How the trained model runs.
pub(crate) fn cpu_options(config: &Config) -> CpuOptions {
    let options = CpuOptions::default();
    let threads = config.train.threads.unwrap_or(options.threads);
    CpuOptions { threads, huge_pages: true.into(), tight_buffers: true, ..options }
}

/// The initial model: `model.from`, or a new one.
fn model(
    config: &Config,
    language: &Metadata,
    tokens: usize,
    progress: &mut dyn FnMut(SetupProgress) -> ControlFlow<()>,
) -> Result<File> {
    if let Some(path) = &config.model.from {
        let file = open_file(path, &OpenOptions::default())?;
        let own = Language::of(&file).map_or(Spec::of(&file)?.vocab_size, |own| own.tokenizer.len());
        if own != tokens {
            return Err(Error::Config {
                key: "model.tokenizer".into(),
                expected: format!("the {own} tokens of `model.from`"),
                found: tokens.to_string(),
            });
        }
        return Ok(file);
    }
    let folder = &config.output.folder;
    // The folder is locked, so that nobody else has this name, and what a killed run left is replaced.
    let path = tempfile::TempPath::try_from_path(folder.join(".initial.gguf")).map_err(Error::io(folder))?;
    let sizes = init::sizes(&config.model, tokens, config.train.sequence)?;
    init::write(&path, &sizes, language, config.train.seed, &mut |done, total| {
        progress(SetupProgress { what: "initializing weights", done, total })
    })?;
    Ok(File::open(&path)?)
}

/// The metadata of the tokenizer.
pub(crate) fn language(config: &Config) -> Result<Metadata> {
    let source = config.model.tokenizer.as_ref().or(config.model.from.as_ref());
    let missing = || Error::Config {
        key: "model.tokenizer".into(),
        expected: "a tokenizer, or a model in `model.from`".into(),
        found: "neither".into(),
    };
    Ok(Language::metadata(source.ok_or_else(missing)?)?)
}

/// The formats in the configuration; by default, those that hold the effective weights exactly, and float16 for the embedding of a ternary model.
///
/// # Errors
/// When a model like this cannot be trained, or not in these formats.
pub(crate) fn formats(config: &Config, spec: &Spec) -> Result<Formats> {
    if let Some(what) = unsupported_operation(spec) {
        return Err(Error::Config {
            key: "model.from".into(),
            expected: format!("a model without {what}, which has no gradient"),
            found: format!("architecture `{}`", spec.arch.name()),
        });
    }
    let named = |key: &str, name: &Option<String>| match name {
        None => Ok(None),
        Some(name) => by_name(name).map(Some).ok_or_else(|| Error::Config {
            key: key.into(),
            expected: "a file format".into(),
            found: name.clone(),
        }),
    };
    let float = config.train.precision.format();
    let columns = columns(spec);
    let fits = |format: &Format| columns.iter().all(|cols| cols.is_multiple_of(format.block));
    // What does not fit is float32, in training and in the file.
    let some_fit = columns.iter().any(|cols| cols.is_multiple_of(I2_S.block));
    let (inner, outer): (&'static Format, &'static Format) = match config.quantization.weights {
        WeightQuantization::None => (float, float),
        WeightQuantization::Ternary if fits(&TQ2_0) => (&TQ2_0, &F16),
        WeightQuantization::Ternary => (if some_fit { &I2_S } else { &F32 }, &F16),
    };
    let named_inner = named("output.format", &config.output.format)?;
    if let Some(format) = named_inner.filter(|format| !fits(format)) {
        let expected = format!("a format for rows of {columns:?} weights");
        let found = format!("{format}, which has blocks of {}", format.block);
        return Err(Error::Config { key: "output.format".into(), expected, found });
    }
    let formats = Formats {
        inner: named_inner.unwrap_or(inner),
        outer: named("output.embedding_format", &config.output.embedding_format)?.unwrap_or(outer),
    };
    if spec.bit_linear && config.quantization.weights == WeightQuantization::None {
        return Err(Error::Config {
            key: "quantization.weights".into(),
            expected: format!("ternary, as linear layers of this {} round their inputs", spec.arch.name()),
            found: "none".into(),
        });
    }
    if spec.bit_linear && !spec.arch.bit_linear && !formats.inner.ternary {
        return Err(Error::Config {
            key: "output.format".into(),
            expected:
                "a ternary format, as inputs of linear layers are rounded in no other GGUF file of this architecture"
                    .into(),
            found: formats.inner.name.to_lowercase(),
        });
    }
    Ok(formats)
}

/// The lengths of rows of the matrices inside layers.
fn columns(spec: &Spec) -> [usize; 3] {
    [spec.hidden_size, spec.n_heads * spec.head_dim, spec.intermediate_size]
}
