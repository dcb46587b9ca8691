//! The tokenizer and chat template that come with a model.

use crate::{Error, Result, Spec, open_file};
use std::path::{Path, PathBuf};
use trine_tensor::{Array, File, FileFormat, Metadata, OpenOptions, Strings, Value};
use trine_text::{Normalization, OwnedVocab, Tokenizer, Vocab};

/// Maximum size of a tokenizer.json in bytes.
const MAX_TEXT: u64 = 256 << 20;

/// The tokenizer and chat template of a model.
pub struct Language {
    pub tokenizer: Tokenizer,
    /// Jinja source of the chat template.
    pub template: Option<String>,
    /// Assumptions that were made, with reasons.
    pub warnings: Vec<String>,
}

impl Language {
    /// Reads the metadata of GGUF, or the `tokenizer.json`, `tokenizer.model` or GGUF file beside safetensors.
    ///
    /// # Errors
    /// When there is no tokenizer, or it is malformed.
    pub fn of(file: &File) -> Result<Language> {
        let located = |error: Error| error.at(file.path());
        match file.format() {
            FileFormat::Gguf { .. } => Language::of_metadata(file.metadata()).map_err(located),
            FileFormat::Safetensors => {
                let beside = beside(file)?;
                let mut language = Language::open(&beside)?;
                if !has_name(&beside, JSON) {
                    language
                        .warnings
                        .push(format!("there is no tokenizer.json: took the tokenizer of {}", beside.display()));
                }
                Ok(language)
            }
        }
    }

    /// Reads a `tokenizer.json`, a `tokenizer.model` (SentencePiece or tiktoken), a GGUF file, or a folder with one of them.
    ///
    /// # Errors
    /// When it cannot be read or is none of these.
    pub fn open(path: &Path) -> Result<Language> {
        if path.is_dir()
            && let Some(path) = within(path)
        {
            return Language::open(&path);
        }
        let (json, model) = (has_name(path, JSON), has_name(path, MODEL));
        if !json && !model {
            return Language::of(&open(path)?);
        }
        let Files { tokenizer, config, template } = Files::read(path)?;
        let read = if json { Tokenizer::from_json } else { Tokenizer::from_model };
        let tokenizer = read(&tokenizer, config.as_deref()).map_err(|error| Error::from(error).at(path))?;
        let template = template.or_else(|| tokenizer.chat_template().map(str::to_owned));
        Ok(Language { warnings: tokenizer.warnings().to_vec(), tokenizer, template })
    }

    /// The keys `tokenizer.*` of a GGUF file with the tokenizer and template at `path`, as [`Language::open`] takes it. A `tokenizer.json`
    /// that is not plain byte-level BPE must have its `tokenizer.model` beside it, which is read instead.
    ///
    /// # Errors
    /// As [`Language::open`], and when GGUF cannot represent the tokenizer.
    pub fn metadata(path: &Path) -> Result<Metadata> {
        if path.is_dir()
            && let Some(path) = within(path)
        {
            return Language::metadata(&path);
        }
        let json = has_name(path, JSON);
        if json || has_name(path, MODEL) {
            let Files { tokenizer, config, template } = Files::read(path)?;
            let read = if json { OwnedVocab::from_json } else { OwnedVocab::from_model };
            let vocab = read(&tokenizer, config.as_deref()).and_then(OwnedVocab::for_gguf);
            let model = path.with_file_name("tokenizer.model");
            if json && vocab.is_err() && model.exists() {
                return Language::metadata(&model);
            }
            let vocab = vocab.map_err(|error| Error::from(error).at(path))?;
            let mut metadata = vocab_metadata(&vocab.vocab());
            let template = template.or_else(|| vocab.chat_template().map(str::to_owned));
            template.map(|template| metadata.insert("tokenizer.chat_template", template));
            return Ok(metadata);
        }
        let file = open(path)?;
        if file.format() == FileFormat::Safetensors {
            return Language::metadata(&beside(&file)?);
        }
        Language::of(&file)?;
        let mut metadata = Metadata::new();
        for (key, value) in file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
            metadata.insert(key, value.clone());
        }
        Ok(metadata)
    }

    /// Reads the keys `tokenizer.*` of a GGUF file.
    ///
    /// # Errors
    /// As [`Language::of`].
    pub fn of_metadata(metadata: &Metadata) -> Result<Language> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let expected = "key `tokenizer.ggml.model` in the file, or a tokenizer named with --tokenizer";
        let model = metadata.str(&key("model"))?.ok_or(Error::NoTokenizer { expected })?;
        let strings =
            |name: &str| Ok::<_, Error>(metadata.strs(&key(name))?.into_iter().flat_map(Strings::iter).collect());
        let id = |name: &str| metadata.u32(&key(name));
        let flag = |name: &str| metadata.bool(&key(name));
        if matches!(model, "gpt2" | "gemma4") && metadata.get(&key("merges")).is_none() {
            return Err(Error::MissingKey { key: key("merges"), expected: "the merges of a byte-level BPE" });
        }
        let vocab = Vocab {
            model,
            pre: metadata.str(&key("pre"))?,
            tokens: strings("tokens")?,
            scores: metadata.f32s(&key("scores"))?.unwrap_or_default(),
            token_types: metadata.i32s(&key("token_type"))?.unwrap_or_default(),
            merges: strings("merges")?,
            bos: id("bos_token_id")?.or(id("cls_token_id")?),
            eos: id("eos_token_id")?,
            eot: id("eot_token_id")?,
            sep: id("seperator_token_id")?.or(id("separator_token_id")?),
            mask: id("mask_token_id")?,
            unk: id("unknown_token_id")?,
            pad: id("padding_token_id")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            lowercase: flag("normalizer.lowercase")?,
            strip_accents: flag("normalizer.strip_accents")?,
            normalization: if model == "t5" { normalization(metadata)? } else { Normalization::default() },
        };
        let tokenizer = Tokenizer::new(vocab)?;
        let template = metadata.str("tokenizer.chat_template")?.map(str::to_owned);
        Ok(Language { warnings: tokenizer.warnings().to_vec(), tokenizer, template })
    }

    /// Checks that the model has an embedding for every token.
    ///
    /// # Errors
    /// When it has fewer.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let tokens = self.tokenizer.len();
        if tokens > spec.vocab_size { Err(Error::Vocabulary { tokens, rows: spec.vocab_size }) } else { Ok(()) }
    }
}

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const EXTRA_SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";

/// The normalization of SentencePiece's Unigram.
fn normalization(metadata: &Metadata) -> Result<Normalization<'static>> {
    // The rules are bytes; older converters wrote them signed.
    let byte = |&x: &i32| u8::try_from(x).ok().or_else(|| Some(i8::try_from(x).ok()? as u8));
    let wrong = || trine_text::Error::vocabulary("precompiled_charsmap", "expected bytes, found larger numbers");
    let rules = metadata.i32s(CHARSMAP)?.unwrap_or_default();
    let charsmap: Option<Vec<u8>> = rules.iter().map(byte).collect();
    Ok(Normalization {
        charsmap: charsmap.ok_or_else(wrong)?.into(),
        remove_extra_whitespaces: metadata.bool(EXTRA_SPACES)?.unwrap_or(false),
        whole: false,
    })
}

/// The keys `tokenizer.ggml.*` of a vocabulary.
pub fn vocab_metadata(vocab: &Vocab) -> Metadata {
    let mut metadata = Metadata::new();
    let mut put = |name: &str, value: Option<Value>| {
        value.map(|value| metadata.insert(format!("tokenizer.ggml.{name}"), value));
    };
    fn some<T>(list: &[T], value: impl FnOnce() -> Value) -> Option<Value> {
        (!list.is_empty()).then(value)
    }
    put("model", Some(vocab.model.into()));
    put("pre", vocab.pre.map(Value::from));
    put("tokens", Some(Strings::from_iter(&vocab.tokens).into()));
    put("scores", some(&vocab.scores, || vocab.scores.to_vec().into()));
    put("token_type", some(&vocab.token_types, || vocab.token_types.to_vec().into()));
    put("merges", (vocab.model == "gpt2").then(|| Strings::from_iter(&vocab.merges).into()));
    put("bos_token_id", vocab.bos.map(Value::from));
    put("eos_token_id", vocab.eos.map(Value::from));
    put("eot_token_id", vocab.eot.map(Value::from));
    put("seperator_token_id", vocab.sep.map(Value::from));
    put("mask_token_id", vocab.mask.map(Value::from));
    put("unknown_token_id", vocab.unk.map(Value::from));
    put("padding_token_id", vocab.pad.map(Value::from));
    put("add_bos_token", vocab.add_bos.map(Value::from));
    put("add_eos_token", vocab.add_eos.map(Value::from));
    put("add_space_prefix", vocab.add_space_prefix.map(Value::from));
    put("normalizer.lowercase", vocab.lowercase.map(Value::from));
    put("normalizer.strip_accents", vocab.strip_accents.map(Value::from));
    if vocab.model == "t5" {
        let Normalization { charsmap, remove_extra_whitespaces, .. } = &vocab.normalization;
        metadata.insert(EXTRA_SPACES, *remove_extra_whitespaces);
        if !charsmap.is_empty() {
            metadata.insert(CHARSMAP, Array::U8(charsmap.to_vec()));
        }
    }
    metadata
}

/// A `tokenizer.json` or `tokenizer.model`, and the files beside it.
struct Files {
    tokenizer: Vec<u8>,
    config: Option<Vec<u8>>,
    /// `chat_template.jinja`.
    template: Option<String>,
}

impl Files {
    fn read(path: &Path) -> Result<Files> {
        let read = |path: &Path| trine_tensor::read_small(path, MAX_TEXT);
        let beside = |name: &str| {
            let path = path.with_file_name(name);
            if path.exists() { read(&path).map(Some) } else { Ok(None) }
        };
        let template = beside("chat_template.jinja")?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Files { tokenizer: read(path)?, config: beside("tokenizer_config.json")?, template })
    }
}

fn open(path: &Path) -> Result<File> {
    Ok(open_file(path, &OpenOptions::default())?)
}

/// Extensions of `tokenizer.json`.
const JSON: &[&str] = &["json"];
/// Extensions of `tokenizer.model`.
const MODEL: &[&str] = &["model", "tiktoken"];

fn has_name(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending))
}

/// The tokenizer file of a folder.
fn within(folder: &Path) -> Option<PathBuf> {
    let files = ["tokenizer.json", "tokenizer.model"].map(|name| folder.join(name));
    files.into_iter().find(|path| path.exists())
}

/// The tokenizer file in the folder of a model, or else a GGUF file there.
fn beside(file: &File) -> Result<PathBuf> {
    let folder = folder(file.path());
    let expected = "tokenizer.json or tokenizer.model beside the model, or a tokenizer named with --tokenizer";
    let none = || Error::NoTokenizer { expected }.at(file.path());
    within(&folder).or_else(|| sibling(&folder)).ok_or_else(none)
}

/// The folder of a model.
fn folder(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().map(Path::to_owned).unwrap_or_default() }
}

/// The first GGUF file by name that has a tokenizer.
fn sibling(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let is_gguf = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "gguf");
    let has_tokenizer =
        |path: &&PathBuf| open(path).is_ok_and(|file| file.metadata().get("tokenizer.ggml.model").is_some());
    files.iter().filter(is_gguf).find(has_tokenizer).cloned()
}
