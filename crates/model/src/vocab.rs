//! The tokenizer and chat template that come with a model.

use crate::{Error, Result, Spec, open_file};
use std::path::{Path, PathBuf};
use trine_tensor::{File, Kind, Metadata, OpenOptions, Strings, Value};
use trine_text::{OwnedVocab, Tokenizer, Vocab};

/// Larger than any tokenizer.json.
const MAX_TEXT: u64 = 256 << 20;

/// What turns text into a model's tokens.
pub struct Language {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The source of its chat template, when it has one.
    pub template: Option<String>,
    /// What was assumed, and why.
    pub warnings: Vec<String>,
}

impl Language {
    /// The language of a model: in the metadata of GGUF, in `tokenizer.json` beside safetensors, or else in a GGUF file beside them.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn of(file: &File) -> Result<Language> {
        let located = |error: Error| error.at(file.path());
        match file.kind() {
            Kind::Gguf { .. } => Language::of_metadata(file.metadata()).map_err(located),
            Kind::Safetensors => {
                let beside = beside(file)?;
                let mut language = Language::open(&beside)?;
                if !is_json(&beside) {
                    language
                        .warnings
                        .push(format!("there is no tokenizer.json: took the tokenizer of {}", beside.display()));
                }
                Ok(language)
            }
        }
    }

    /// The language in a file of its own: a `tokenizer.json`, a GGUF file, or a folder with one of them.
    ///
    /// # Errors
    /// When it cannot be read or is neither.
    pub fn open(path: &Path) -> Result<Language> {
        if path.is_dir() {
            let json = path.join("tokenizer.json");
            return if json.exists() { Language::open(&json) } else { Language::of(&open(path)?) };
        }
        if !is_json(path) {
            return Language::of(&open(path)?);
        }
        let located = |error: trine_text::Error| Error::from(error).at(path);
        let Json { tokenizer, config, template } = Json::read(path)?;
        let tokenizer = Tokenizer::from_json(&tokenizer, config.as_deref()).map_err(located)?;
        let template = template.or_else(|| tokenizer.chat_template().map(str::to_owned));
        Ok(Language { warnings: tokenizer.warnings().to_vec(), tokenizer, template })
    }

    /// The keys `tokenizer.*` that give a GGUF file the language of `path`, which is what [`Language::open`] takes. Of a `tokenizer.json`,
    /// that must be plain byte-level BPE.
    ///
    /// # Errors
    /// As there, and when GGUF cannot say it.
    pub fn metadata(path: &Path) -> Result<Metadata> {
        if path.is_dir() && path.join("tokenizer.json").exists() {
            return Language::metadata(&path.join("tokenizer.json"));
        }
        if is_json(path) {
            let Json { tokenizer, config, template } = Json::read(path)?;
            let vocab = OwnedVocab::from_json(&tokenizer, config.as_deref()).map_err(|e| Error::from(e).at(path))?;
            let mut metadata = vocab_metadata(&vocab.vocab());
            let template = template.or_else(|| vocab.chat_template().map(str::to_owned));
            template.map(|template| metadata.insert("tokenizer.chat_template", template));
            return Ok(metadata);
        }
        let file = open(path)?;
        if file.kind() == Kind::Safetensors {
            return Language::metadata(&beside(&file)?);
        }
        Language::of(&file)?;
        let mut metadata = Metadata::new();
        for (key, value) in file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
            metadata.insert(key, value.clone());
        }
        Ok(metadata)
    }

    /// The language that the keys `tokenizer.*` of a GGUF file say.
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
        if model == "gpt2" && metadata.get(&key("merges")).is_none() {
            return Err(Error::MissingKey { key: key("merges"), expected: "the merges of a byte-level BPE" });
        }
        let vocab = Vocab {
            model,
            pre: metadata.str(&key("pre"))?,
            tokens: strings("tokens")?,
            scores: metadata.f32s(&key("scores"))?.unwrap_or_default(),
            types: metadata.i32s(&key("token_type"))?.unwrap_or_default(),
            merges: strings("merges")?,
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            eot: id("eot_token_id")?,
            unk: id("unknown_token_id")?,
            pad: id("padding_token_id")?,
            add_bos: metadata.bool(&key("add_bos_token"))?,
            add_eos: metadata.bool(&key("add_eos_token"))?,
            add_space_prefix: metadata.bool(&key("add_space_prefix"))?,
        };
        let tokenizer = Tokenizer::new(vocab)?;
        let template = metadata.str("tokenizer.chat_template")?.map(str::to_owned);
        Ok(Language { warnings: tokenizer.warnings().to_vec(), tokenizer, template })
    }

    /// Makes sure that the model has an embedding for every token.
    ///
    /// # Errors
    /// When it has not.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let tokens = self.tokenizer.len();
        if tokens > spec.vocab { Err(Error::Vocabulary { tokens, rows: spec.vocab }) } else { Ok(()) }
    }
}

/// The keys `tokenizer.ggml.*` that say what `vocab` says.
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
    put("token_type", some(&vocab.types, || vocab.types.to_vec().into()));
    put("merges", (vocab.model == "gpt2").then(|| Strings::from_iter(&vocab.merges).into()));
    put("bos_token_id", vocab.bos.map(Value::from));
    put("eos_token_id", vocab.eos.map(Value::from));
    put("eot_token_id", vocab.eot.map(Value::from));
    put("unknown_token_id", vocab.unk.map(Value::from));
    put("padding_token_id", vocab.pad.map(Value::from));
    put("add_bos_token", vocab.add_bos.map(Value::from));
    put("add_eos_token", vocab.add_eos.map(Value::from));
    put("add_space_prefix", vocab.add_space_prefix.map(Value::from));
    metadata
}

/// A `tokenizer.json` and what lies beside it.
struct Json {
    tokenizer: Vec<u8>,
    config: Option<Vec<u8>>,
    /// `chat_template.jinja`.
    template: Option<String>,
}

impl Json {
    fn read(path: &Path) -> Result<Json> {
        let read = |path: &Path| trine_tensor::read_small(path, MAX_TEXT);
        let beside = |name: &str| {
            let path = path.with_file_name(name);
            if path.exists() { read(&path).map(Some) } else { Ok(None) }
        };
        let template = beside("chat_template.jinja")?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Json { tokenizer: read(path)?, config: beside("tokenizer_config.json")?, template })
    }
}

/// A model, for its language alone.
fn open(path: &Path) -> Result<File> {
    Ok(open_file(path, &OpenOptions::default())?)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// The tokenizer of a model that has none inside: `tokenizer.json` in its folder, or else a GGUF file.
fn beside(file: &File) -> Result<PathBuf> {
    let folder = folder(file.path());
    let json = folder.join("tokenizer.json");
    let expected = "tokenizer.json beside the model, or a tokenizer named with --tokenizer";
    let sibling = || sibling(&folder).ok_or_else(|| Error::NoTokenizer { expected }.at(file.path()));
    if json.exists() { Ok(json) } else { sibling() }
}

/// The folder that a model's other files are in.
fn folder(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().map(Path::to_owned).unwrap_or_default() }
}

/// A GGUF file with a tokenizer, the first by name.
fn sibling(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let is_gguf = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "gguf");
    let speaks = |path: &&PathBuf| open(path).is_ok_and(|file| file.metadata().get("tokenizer.ggml.model").is_some());
    files.iter().filter(is_gguf).find(speaks).cloned()
}
