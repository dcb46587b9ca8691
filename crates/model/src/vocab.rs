//! The tokenizer and chat template that come with a model.

use crate::{Error, Result, Spec};
use std::path::{Path, PathBuf};
use trine_tensor::{File, Kind, Metadata, Strings};
use trine_text::{Tokenizer, Vocab};

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
                let folder = folder(file.path());
                if folder.join("tokenizer.json").exists() {
                    return Language::open(&folder.join("tokenizer.json"));
                }
                let expected = "tokenizer.json beside the model, or a tokenizer named with --tokenizer";
                let beside = sibling(&folder).ok_or_else(|| located(Error::NoTokenizer { expected }))?;
                let mut language = Language::open(&beside)?;
                language
                    .warnings
                    .push(format!("there is no tokenizer.json: took the tokenizer of {}", beside.display()));
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
            return if json.exists() { Language::open(&json) } else { Language::of(&File::open(path)?) };
        }
        if path.extension().is_none_or(|extension| extension != "json") {
            return Language::of(&File::open(path)?);
        }
        let beside = |name: &str| path.with_file_name(name);
        let read = |path: &Path| Ok::<_, Error>(trine_tensor::read_small(path, MAX_TEXT)?);
        let optional = |path: PathBuf| if path.exists() { read(&path).map(Some) } else { Ok(None) };
        let config = optional(beside("tokenizer_config.json"))?;
        let located = |error: trine_text::Error| Error::from(error).at(path);
        let tokenizer = Tokenizer::from_json(&read(path)?, config.as_deref()).map_err(located)?;
        let template =
            optional(beside("chat_template.jinja"))?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let template = template.or_else(|| tokenizer.chat_template().map(str::to_owned));
        Ok(Language { warnings: tokenizer.warnings().to_vec(), tokenizer, template })
    }

    fn of_metadata(metadata: &Metadata) -> Result<Language> {
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
    let speaks =
        |path: &&PathBuf| File::open(path).is_ok_and(|file| file.metadata().get("tokenizer.ggml.model").is_some());
    files.iter().filter(is_gguf).find(speaks).cloned()
}
