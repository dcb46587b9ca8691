//! The tokenizer, chat templates and generation settings that come with a model.

use crate::arch::ARCHS;
use crate::keys::generation::SAMPLING;
use crate::keys::tokenizer::check_tokenizer;
use crate::templates::{self, FolderTemplates};
use crate::{
    Error, FileKeys, GENERATION_CONFIG, GenerationConfig, Result, SPECIAL_TOKENS_MAP, Spec, TOKENIZER_CONFIG, open_file,
};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use trine_tensor::{Array, File, FileFormat, Metadata, OpenOptions, Strings, Value};
use trine_text::{EncodeOptions, Normalization, OwnedVocab, Tokenizer, TokenizerJson, Vocab, complete_config};

/// Maximum size of a tokenizer.json in bytes.
const MAX_TEXT: u64 = 256 << 20;

/// The tokenizer of a model, and what comes with it.
pub struct Language {
    /// With the chat templates.
    pub tokenizer: Tokenizer,
    /// What the folder says about sampling.
    pub generation: GenerationConfig,
    /// Assumptions that were made, with reasons.
    pub warnings: Vec<String>,
}

impl Language {
    /// Reads the metadata of GGUF, or the `tokenizer.json`, `tokenizer.model`, `vocab.json` with `merges.txt`, `vocab.txt` or GGUF file beside
    /// safetensors.
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
                if !is_json(&beside) {
                    language
                        .warnings
                        .push(format!("there is no tokenizer.json: took the tokenizer of {}", beside.display()));
                }
                Ok(language)
            }
        }
    }

    /// Reads a `tokenizer.json`, a `tokenizer.model` (SentencePiece or tiktoken), a `vocab.json` with `merges.txt`, a `vocab.txt`, a GGUF file,
    /// or a folder with one of them, and the small files beside them.
    ///
    /// # Errors
    /// When it cannot be read or is none of these.
    pub fn open(path: &Path) -> Result<Language> {
        if path.is_dir()
            && let Some(path) = within(path)
        {
            return Language::open(&path);
        }
        let (json, model) = (is_json(path), has_name(path, MODEL));
        if !json && !model {
            return Language::of(&open(path)?);
        }
        let Files { tokenizer, config, templates, generation, mut warnings } = Files::read(path)?;
        let read = if json { Tokenizer::from_json } else { Tokenizer::from_model };
        let mut tokenizer = read(&tokenizer, config.as_deref()).map_err(|error| located(error, path))?;
        tokenizer.end_at(generation.eos.iter().copied());
        tokenizer.set_templates(templates.with(tokenizer.templates()));
        warnings.extend_from_slice(tokenizer.warnings());
        Ok(Language { tokenizer, generation, warnings })
    }

    /// The tokenizer and templates at `path`, as [`Language::open`] takes it, for the model of `file`, whose own settings for generation
    /// precede those beside the tokenizer.
    ///
    /// # Errors
    /// As [`Language::open`], and when a file beside the model is malformed.
    pub fn for_model(file: &File, path: &Path) -> Result<Language> {
        let mut language = Language::open(path)?;
        let own = GenerationConfig::of(file)?;
        if own.says_something() {
            language.warnings.retain(|warning| !language.generation.warnings.contains(warning));
            language.warnings.extend_from_slice(&own.warnings);
            language.tokenizer.end_at(own.eos.iter().copied());
            language.generation = own;
        }
        Ok(language)
    }

    /// The keys `tokenizer.*` and `general.sampling.*` of a GGUF file with the tokenizer and templates at `path`, as [`Language::open`] takes
    /// it. A `tokenizer.json` that GGUF cannot hold must have its `tokenizer.model` beside it, which is read instead.
    ///
    /// # Errors
    /// As [`Language::open`], and when GGUF cannot represent the tokenizer.
    pub fn metadata(path: &Path) -> Result<Metadata> {
        if path.is_dir()
            && let Some(path) = within(path)
        {
            return Language::metadata(&path);
        }
        let json = is_json(path);
        if json || has_name(path, MODEL) {
            let Files { tokenizer, config, templates, generation, .. } = Files::read(path)?;
            let read = if json { OwnedVocab::from_json } else { OwnedVocab::from_model };
            let vocab = read(&tokenizer, config.as_deref()).and_then(OwnedVocab::for_gguf);
            let model = path.with_file_name("tokenizer.model");
            if json && vocab.is_err() && model.exists() {
                return Language::metadata(&model);
            }
            let vocab = vocab.map_err(|error| located(error, path))?;
            let mut vocabulary = vocab.vocab();
            add_eos(&mut vocabulary, &generation.eos)?;
            let mut metadata = vocab_metadata(&vocabulary);
            templates::insert(&mut metadata, &templates.with(vocab.templates()))?;
            generation.metadata().iter().for_each(|(key, value)| _ = metadata.insert(key, value.clone()));
            return Ok(metadata);
        }
        let file = open(path)?;
        if file.format() == FileFormat::Safetensors {
            return Language::metadata(&beside(&file)?);
        }
        Language::of(&file)?;
        let mut metadata = Metadata::new();
        for (key, value) in
            file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.") || key.starts_with(SAMPLING))
        {
            metadata.insert(key, value.clone());
        }
        Ok(metadata)
    }

    /// Reads the keys `tokenizer.*` of a GGUF file.
    ///
    /// # Errors
    /// As [`Language::of`].
    pub fn of_metadata(metadata: &Metadata) -> Result<Language> {
        let mut tokenizer = Tokenizer::new(vocab_of(metadata)?)?;
        tokenizer.set_templates(templates::of_metadata(metadata)?);
        let generation = GenerationConfig::of_metadata(metadata)?;
        let warnings = [&check_tokenizer(metadata)[..], tokenizer.warnings(), &generation.warnings[..]].concat();
        Ok(Language { tokenizer, generation, warnings })
    }

    /// The small files of a Hugging Face folder, by their names, that say what the keys `tokenizer.*` and `general.sampling.*` of GGUF say.
    ///
    /// # Errors
    /// When there is no tokenizer, or none that `tokenizer.json` can hold.
    pub fn folder_files(metadata: &Metadata) -> Result<Vec<(String, String)>> {
        let vocab = vocab_of(metadata)?;
        let TokenizerJson { tokenizer, mut config } = TokenizerJson::of_vocab(&vocab)?;
        let arch = metadata.str("general.architecture")?.unwrap_or_default();
        let length = metadata.u32(&format!("{arch}.context_length"))?;
        // transformers cuts texts for an encoder where its tokenizer says so.
        if let Some(length) = length.filter(|_| ARCHS.iter().any(|known| known.encoder && known.gguf.contains(&arch))) {
            let mut object: Map<String, Json> = serde_json::from_str(&config).expect("an object was written");
            object.insert("model_max_length".to_owned(), length.into());
            config = Json::from(object).to_string();
        }
        let mut files = vec![("tokenizer.json".to_owned(), tokenizer), (TOKENIZER_CONFIG.file.to_owned(), config)];
        let templates = templates::of_metadata(metadata)?;
        for name in templates.names() {
            let source = templates.source(name).map_err(trine_text::Error::Template)?;
            let file = match name {
                "default" => templates::DEFAULT.to_owned(),
                other => format!("{}/{other}.jinja", templates::OTHERS),
            };
            files.push((file, source.to_owned()));
        }
        let tokenizer = Tokenizer::new(vocab)?;
        let mut generation = GenerationConfig::of_metadata(metadata)?;
        generation.eos = tokenizer.eog_tokens().collect();
        files.push((GENERATION_CONFIG.file.to_owned(), generation.json(tokenizer.bos()).to_string()));
        Ok(files)
    }

    /// Checks that the model has an embedding for every token of a text. Control tokens may lack one, as a padding token that a
    /// configuration adds: the engine refuses prompts with them.
    ///
    /// # Errors
    /// When it has fewer.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let (tokenizer, rows) = (&self.tokenizer, spec.vocab_size);
        let around = tokenizer.encode("", EncodeOptions { add_special: true, parse_special: false });
        let mut beyond = rows as u32..tokenizer.len() as u32;
        if beyond.any(|id| !tokenizer.is_control(id) || around.contains(&id)) {
            return Err(Error::Vocabulary { tokens: tokenizer.len(), rows });
        }
        Ok(())
    }
}

/// The keys `tokenizer.ggml.*` of a GGUF file as a vocabulary.
fn vocab_of(metadata: &Metadata) -> Result<Vocab<'_>> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let expected = "key `tokenizer.ggml.model` in the file, or a tokenizer named with --tokenizer";
    let model = metadata.str(&key("model"))?.ok_or(Error::NoTokenizer { expected })?;
    let strings = |name: &str| Ok::<_, Error>(metadata.strs(&key(name))?.into_iter().flat_map(Strings::iter).collect());
    let id = |name: &str| special_id(metadata, &key(name));
    let flag = |name: &str| metadata.bool(&key(name));
    if matches!(model, "gpt2" | "gemma4") && metadata.get(&key("merges")).is_none() {
        return Err(Error::MissingKey { key: key("merges"), expected: "the merges of a byte-level BPE" });
    }
    Ok(Vocab {
        model,
        pre: metadata.str(&key("pre"))?.filter(|pre| !pre.is_empty()).or_else(|| only_pre_tokenizer(metadata)),
        tokens: strings("tokens")?,
        scores: scores(metadata, &key("scores"))?,
        token_types: metadata.i32s(&key("token_type"))?.unwrap_or_default(),
        merges: strings("merges")?,
        bos: id("bos_token_id")?.or(id("cls_token_id")?),
        eos: id("eos_token_id")?,
        eot: id("eot_token_id")?,
        eog: EOG_IDS.iter().filter_map(|name| id(name).transpose()).collect::<Result<_>>()?,
        sep: id("seperator_token_id")?.or(id("separator_token_id")?),
        mask: id("mask_token_id")?,
        unk: id("unknown_token_id")?,
        pad: id("padding_token_id")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        lowercase: flag("normalizer.lowercase")?,
        strip_accents: flag("normalizer.strip_accents")?,
        normalization: Normalization {
            prefix_once: metadata.bool(PREFIX_ONCE)?.unwrap_or(false),
            metaspace: metadata.bool(METASPACE)?.unwrap_or(false),
            ..if model == "t5" { normalization(metadata)? } else { Normalization::default() }
        },
    })
}

/// Keys of tokens that end generation, beside `eos_token_id` and `eot_token_id`.
static EOG_IDS: [&str; 4] = ["eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"];

/// A key of Trine: GGUF has none for `"legacy": false`.
const PREFIX_ONCE: &str = "tokenizer.trine.space_prefix_once";
/// A key of Trine: GGUF has the spaces of SentencePiece alone.
const METASPACE: &str = "tokenizer.trine.metaspace";
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
        ..Normalization::default()
    })
}

/// The id of a special token. 4294967295, which is -1, means none, as ggml's own conversions of llama2.c write it.
fn special_id(metadata: &Metadata, key: &str) -> Result<Option<u32>> {
    Ok(metadata.u32(key)?.filter(|&id| id != u32::MAX))
}

/// The scores of SentencePiece, which some converters write as integers.
fn scores<'a>(metadata: &'a Metadata, key: &str) -> Result<Cow<'a, [f32]>> {
    match metadata.get(key) {
        Some(Value::Array(Array::I32(scores))) => Ok(scores.iter().map(|&score| score as f32).collect()),
        _ => Ok(metadata.f32s(key)?.unwrap_or_default()),
    }
}

/// The pre-tokenizer of a file that names none, if all models of its architecture have the same.
fn only_pre_tokenizer(metadata: &Metadata) -> Option<&'static str> {
    let arch = metadata.str("general.architecture").ok()??;
    ["gpt2", "gptneox"].contains(&arch).then_some("gpt-2")
}

/// Makes tokens end generation in a GGUF file, which has keys for some beside those of well-known names.
fn add_eos(vocab: &mut Vocab, eos: &[u32]) -> Result<()> {
    for &id in eos {
        let tokenizer = Tokenizer::new(vocab.clone())?;
        if tokenizer.is_eog(id) {
            continue;
        }
        match (vocab.eos, vocab.eot, &vocab.eog[..]) {
            (None, ..) => vocab.eos = Some(id),
            (_, None, _) => vocab.eot = Some(id),
            (.., named) if named.len() < EOG_IDS.len() => vocab.eog.push(id),
            _ => return Err(Error::bad("eos_token_id", "no more tokens than a GGUF file can name", eos.len())),
        }
    }
    Ok(())
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
    for (name, &id) in EOG_IDS.iter().zip(&vocab.eog) {
        put(name, Some(id.into()));
    }
    put("seperator_token_id", vocab.sep.map(Value::from));
    put("mask_token_id", vocab.mask.map(Value::from));
    put("unknown_token_id", vocab.unk.map(Value::from));
    put("padding_token_id", vocab.pad.map(Value::from));
    put("add_bos_token", vocab.add_bos.map(Value::from));
    put("add_eos_token", vocab.add_eos.map(Value::from));
    put("add_space_prefix", vocab.add_space_prefix.map(Value::from));
    put("normalizer.lowercase", vocab.lowercase.map(Value::from));
    put("normalizer.strip_accents", vocab.strip_accents.map(Value::from));
    if vocab.normalization.prefix_once {
        metadata.insert(PREFIX_ONCE, true);
    }
    if vocab.normalization.metaspace {
        metadata.insert(METASPACE, true);
    }
    if vocab.model == "t5" {
        let Normalization { charsmap, remove_extra_whitespaces, .. } = &vocab.normalization;
        metadata.insert(EXTRA_SPACES, *remove_extra_whitespaces);
        if !charsmap.is_empty() {
            metadata.insert(CHARSMAP, Array::U8(charsmap.to_vec()));
        }
    }
    metadata
}

/// The number of a token type that no text has, and a score that no token is chosen for, as in llama.cpp's conversion.
const UNUSED: i32 = 5;
const NORMAL: i32 = 1;
const WORST: f32 = -10_000.0;

/// Gives each of `rows` embeddings a token, as llama.cpp expects: those that lack one an unused one. Returns how many these are.
///
/// # Errors
/// When a key has another type.
pub(crate) fn pad(metadata: &mut Metadata, rows: usize) -> Result<usize> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let tokens = metadata.strs(&key("tokens"))?.into_iter().flat_map(Strings::iter);
    let mut tokens: Vec<String> = tokens.map(str::to_owned).collect();
    let known = tokens.len();
    if known >= rows {
        return Ok(0);
    }
    tokens.extend((known..rows).map(|id| format!("[PAD{id}]")));
    let mut types = metadata.i32s(&key("token_type"))?.unwrap_or_default().into_owned();
    let mut scores = scores(metadata, &key("scores"))?.into_owned();
    types.resize(known, NORMAL);
    types.resize(rows, UNUSED);
    if !scores.is_empty() {
        scores.resize(rows, WORST);
        metadata.insert(key("scores"), scores);
    }
    metadata.insert(key("token_type"), types);
    metadata.insert(key("tokens"), Strings::from_iter(&tokens));
    Ok(rows - known)
}

/// A `tokenizer.json` or `tokenizer.model`, and the files beside it.
struct Files {
    tokenizer: Vec<u8>,
    config: Option<Vec<u8>>,
    templates: FolderTemplates,
    generation: GenerationConfig,
    /// Keys that are not known, or not applied.
    warnings: Vec<String>,
}

impl Files {
    fn read(path: &Path) -> Result<Files> {
        let mut tokenizer = trine_tensor::read_small(path, MAX_TEXT)?;
        let beside = |name: &str| read_beside(path, name);
        let (own, map, added) =
            (beside(TOKENIZER_CONFIG.file)?, beside(SPECIAL_TOKENS_MAP.file)?, beside("added_tokens.json")?);
        let config = complete_config(own.as_deref(), map.as_deref(), added.as_deref());
        let mut config = config.map_err(|error| located(error, path))?;
        let merges = if path.ends_with(VOCAB_JSON) { beside("merges.txt")? } else { None };
        if path.ends_with(VOCAB_TXT) || merges.is_some() {
            let model =
                beside("config.json")?.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
            let model_type = model.as_ref().and_then(|config| config["model_type"].as_str());
            let made = TokenizerJson::from_vocab(&tokenizer, merges.as_deref(), config.as_deref(), model_type);
            let made = made.map_err(|error| located(error, path))?;
            (tokenizer, config) = (made.tokenizer.into_bytes(), Some(made.config.into_bytes()));
        }
        let generation = GenerationConfig::beside(path)?;
        let keys = |table: &FileKeys, file: &Option<Vec<u8>>| {
            let object = file.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
            object.map(|object| table.check(&object)).unwrap_or_default()
        };
        let mut warnings = [keys(&TOKENIZER_CONFIG, &own), keys(&SPECIAL_TOKENS_MAP, &map)].concat();
        warnings.extend_from_slice(&generation.warnings);
        let templates = FolderTemplates::read(path, &mut warnings)?;
        if beside("adapter_config.json")?.is_some() {
            warnings.push("adapter_config.json: adapters are not applied; the model runs without it".to_owned());
        }
        Ok(Files { tokenizer, config, templates, generation, warnings })
    }
}

/// An error of the tokenizer at `path`, or in a file beside it. The name of a file becomes its path.
fn located(error: trine_text::Error, path: &Path) -> Error {
    let trine_text::Error::Vocabulary { place, problem } = error else { return Error::from(error).at(path) };
    let beside = path.with_file_name(&place);
    if !TOKENIZERS.contains(&&*place) && !beside.is_file() {
        return Error::from(trine_text::Error::Vocabulary { place, problem }).at(path);
    }
    // Whatever the tokenizer itself is called.
    let found = if TOKENIZERS.contains(&&*place) { path } else { &beside };
    trine_text::Error::vocabulary(found.display().to_string(), problem).into()
}

/// A small file in the folder of another.
pub(crate) fn read_beside(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    Ok(trine_tensor::read_optional(&path.with_file_name(name), MAX_TEXT)?)
}

fn open(path: &Path) -> Result<File> {
    Ok(open_file(path, &OpenOptions::default())?)
}

/// Extensions of `tokenizer.json`, and of the `vocab.json` of slow tokenizers.
const JSON: &[&str] = &["json"];
/// Files of slow tokenizers, the first with its `merges.txt`.
const VOCAB_JSON: &str = "vocab.json";
const VOCAB_TXT: &str = "vocab.txt";
/// Extensions of `tokenizer.model`.
const MODEL: &[&str] = &["model", "tiktoken"];

fn has_name(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending))
}

/// Whether a file is a `tokenizer.json`, or becomes one.
fn is_json(path: &Path) -> bool {
    has_name(path, JSON) || path.ends_with(VOCAB_TXT)
}

/// The names of tokenizers, the preferred ones first.
const TOKENIZERS: [&str; 4] = ["tokenizer.json", "tokenizer.model", VOCAB_JSON, VOCAB_TXT];

/// The tokenizer file of a folder.
fn within(folder: &Path) -> Option<PathBuf> {
    let files = TOKENIZERS.map(|name| folder.join(name));
    files.into_iter().find(|path| path.exists() && (!path.ends_with(VOCAB_JSON) || merges(path).exists()))
}

/// The `merges.txt` that belongs to a `vocab.json`.
fn merges(path: &Path) -> PathBuf {
    path.with_file_name("merges.txt")
}

/// The tokenizer file in the folder of a model, or else a GGUF file there.
pub(crate) fn beside(file: &File) -> Result<PathBuf> {
    let folder = file.files()[0].parent().unwrap_or(Path::new(""));
    let expected = "tokenizer.json, tokenizer.model, vocab.json with merges.txt, or vocab.txt beside the model, or a tokenizer named with --tokenizer";
    let none = || Error::NoTokenizer { expected }.at(file.path());
    within(folder).or_else(|| sibling(folder)).ok_or_else(none)
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
