//! Hugging Face's `tokenizer.json` and `tokenizer_config.json`.

use crate::bpe::Bpe;
use crate::byte_level;
use crate::charsmap::Charsmap;
use crate::normalize::SPACE;
use crate::spm::Spm;
use crate::tokenizer::{Model, ends};
use crate::tokens::Tokens;
use crate::vocab::byte;
use crate::{Error, Kind, Result, Tokenizer, config, growth, wordpiece};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::ModelWrapper;
use tokenizers::{AddedVocabulary, Encoding, OffsetType, PreTokenizer, Token};

const TOKENIZER: &str = "tokenizer.json";

impl Tokenizer {
    /// Reads a `tokenizer.json`, and what its `tokenizer_config.json` adds: BOS, EOS, whether they are added, and the
    /// chat template. A template in a file of its own (`chat_template.jinja`) is the caller's to read.
    ///
    /// What the model of a `tokenizer.json` cannot spell is left out of the tokens.
    pub fn from_json(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Tokenizer> {
        // The library panics on some damaged files, before anything is made of them.
        std::panic::catch_unwind(|| read(tokenizer_json, tokenizer_config)).unwrap_or_else(|_| {
            let problem = "expected a tokenizer, found what the library cannot read".to_owned();
            Err(Error::Json { file: TOKENIZER, problem })
        })
    }
}

/// Words, spaces, digits, marks and scripts: what makes the library panic on a text at all does so on this one.
const PROBE: &str = "Hello  world's 123\n\t naïve ☃ 你好 🦙 ▁a";

fn read(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Tokenizer> {
    let unreadable = |error: String| Error::Json { file: TOKENIZER, problem: error };
    growth::check(tokenizer_json).map_err(unreadable)?;
    let parts: Parts = serde_json::from_slice(tokenizer_json).map_err(|error| unreadable(error.to_string()))?;
    parts.check_rules()?;
    let inner = tokenizers::Tokenizer::from_bytes(tokenizer_json).map_err(|error| unreadable(error.to_string()))?;
    parts.check_unknown(&inner)?;
    let dropout = match inner.get_model() {
        ModelWrapper::BPE(model) => model.dropout.filter(|&dropout| dropout != 0.0),
        _ => None,
    };
    if let Some(dropout) = dropout {
        let problem = format!("model.dropout: expected 0 or none, found {dropout}, which makes tokens random");
        return Err(Error::Json { file: TOKENIZER, problem });
    }
    let config = config::parse(tokenizer_config)?;

    let decoding = Decoding::of(&parts.decoder)?;
    let (names, mut kinds) = tokens(&inner, &decoding, tokenizer_json.len())?;
    let special = |key| config::special_token(&config, key, |name| inner.token_to_id(name));
    let (mut prefix, mut suffix) = around(&inner)?;
    // What goes in front of every text begins it, whether it has a name or not.
    let only = if let [one] = prefix[..] { Some(one) } else { None };
    let (bos, eos) = (special("bos_token")?.or(only), special("eos_token")?);
    let mut warnings = Vec::new();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ends = ends(&names, &mut kinds, [eos, None, bos], &mut warnings);
    match (config["add_bos_token"].as_bool(), bos) {
        (Some(true), Some(bos)) if !prefix.contains(&bos) => prefix.insert(0, bos),
        (Some(false), Some(bos)) => prefix.retain(|&id| id != bos),
        _ => {}
    }
    match (config["add_eos_token"].as_bool(), eos) {
        (Some(true), Some(eos)) if !suffix.contains(&eos) => suffix.push(eos),
        (Some(false), Some(eos)) => suffix.retain(|&id| id != eos),
        _ => {}
    }
    let tokens = Tokens::new(&names, kinds, decoding.piece);
    let library = |inner| {
        let hub = Hub::new(inner, decoding.space_prefix);
        hub.encode(&tokens, PROBE, true, &mut Vec::new());
        Box::new(hub)
    };
    let ours = if decoding.space_prefix { None } else { byte_level::encoder(&inner, tokenizer_json, &names, &tokens) };
    Ok(Tokenizer {
        model: ours.unwrap_or_else(|| library(inner)),
        tokens,
        bos,
        eos,
        ends,
        prefix,
        suffix,
        chat_template: config::chat_template(&config)?,
        warnings,
    })
}

/// A `tokenizer.json`, run by the library that defines it.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: tokenizers::Tokenizer,
    /// The added tokens, but for the special ones, which are text to it.
    without_special: AddedVocabulary,
    space_prefix: bool,
}

impl Hub {
    pub fn new(inner: tokenizers::Tokenizer, space_prefix: bool) -> Hub {
        let mut without_special = inner.get_added_vocabulary().clone();
        without_special.set_encode_special_tokens(true);
        Hub { inner, without_special, space_prefix }
    }
}

impl Model for Hub {
    fn encode(&self, _: &Tokens, text: &str, special: bool, ids: &mut Vec<u32>) {
        let added = if special { self.inner.get_added_vocabulary() } else { &self.without_special };
        let mut pieces = added.extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(splitter) = self.inner.get_pre_tokenizer() {
            // A splitter that fails leaves the text in the pieces that it has made so far.
            let _ = splitter.pre_tokenize(&mut pieces);
        }
        let model = self.inner.get_model();
        let spelled = pieces.tokenize(|piece| Ok(tokenizers::Model::tokenize(model, piece.get()).unwrap_or_default()));
        let encoding = spelled.and_then(|()| pieces.into_encoding(None, 0, OffsetType::None));
        ids.extend(encoding.iter().flat_map(Encoding::get_ids));
    }

    fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}

/// The parts of a `tokenizer.json` that the library reads but does not show.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
    model: Unknown,
}

/// What a model says about characters that are not in its vocabulary.
#[derive(Deserialize)]
struct Unknown {
    #[serde(default)]
    unk_id: Option<u32>,
    #[serde(default)]
    unk_token: Option<String>,
}

impl Parts {
    /// Refuses damaged rules, with which the library would panic.
    fn check_rules(&self) -> Result<()> {
        let wrong = |problem| Error::Json { file: TOKENIZER, problem };
        charsmaps(&self.normalizer).map_err(|problem| wrong(format!("normalizer.precompiled_charsmap: {problem}")))
    }

    /// Refuses a model with which the library would leave out whole words.
    fn check_unknown(&self, inner: &tokenizers::Tokenizer) -> Result<()> {
        let missing = |field: &str| {
            let problem = format!("model.{field}: expected a token of the vocabulary, found none");
            Err(Error::Json { file: TOKENIZER, problem })
        };
        let has_unk = self.model.unk_token.as_deref().is_some_and(|name| inner.token_to_id(name).is_some());
        match inner.get_model() {
            ModelWrapper::Unigram(_) if self.model.unk_id.is_none() => missing("unk_id"),
            ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) if !has_unk => missing("unk_token"),
            _ => Ok(()),
        }
    }
}

/// Checks the rules of SentencePiece in a normaliser, or in those it is made of.
fn charsmaps(normalizer: &Value) -> std::result::Result<(), String> {
    if let Some(rules) = normalizer["precompiled_charsmap"].as_str() {
        let rules = STANDARD.decode(rules).map_err(|error| error.to_string())?;
        Charsmap::parse(&rules)?;
    }
    normalizer["normalizers"].as_array().into_iter().flatten().try_for_each(charsmaps)
}

/// What the decoder of a `tokenizer.json` does to each token, so that tokens have bytes of their own.
struct Decoding {
    piece: fn(&str, Kind, &mut Vec<u8>),
    byte_fallback: bool,
    space_prefix: bool,
}

impl Decoding {
    fn of(decoder: &Value) -> Result<Decoding> {
        let mut decoding = Decoding { piece: Spm::piece, byte_fallback: false, space_prefix: false };
        let steps = if decoder["type"] == "Sequence" { &decoder["decoders"] } else { decoder };
        let steps = steps.as_array().map_or(std::slice::from_ref(steps), Vec::as_slice);
        for step in steps {
            match step["type"].as_str() {
                Some("ByteLevel") => decoding.piece = Bpe::piece,
                Some("ByteFallback") => decoding.byte_fallback = true,
                Some("Fuse") => {}
                Some("Replace") if step["pattern"]["String"] == SPACE && step["content"] == " " => {}
                Some("Strip") if step["content"] == " " && step["start"] == 1 && step["stop"] == 0 => {
                    decoding.space_prefix = true;
                }
                Some("Metaspace") if step["replacement"] == SPACE => {
                    let old = step["add_prefix_space"] == true;
                    decoding.space_prefix = step["prepend_scheme"].as_str().map_or(old, |scheme| scheme != "never");
                }
                Some("WordPiece") if step["prefix"] == "##" => {
                    decoding.piece = if step["cleanup"] == true { wordpiece::clean } else { wordpiece::plain };
                    decoding.space_prefix = true;
                }
                _ => {
                    return Err(Error::Json {
                        file: TOKENIZER,
                        problem: format!(
                            "decoder: expected ByteLevel, Metaspace, WordPiece, or a Sequence as SentencePiece has, found {step}"
                        ),
                    });
                }
            }
        }
        Ok(decoding)
    }
}

/// The names and kinds of all tokens; ids that are not used have an empty name. `bytes` is the size of the file.
fn tokens(inner: &tokenizers::Tokenizer, decoding: &Decoding, bytes: usize) -> Result<(Vec<String>, Vec<Kind>)> {
    let wrong = |problem| Error::Json { file: TOKENIZER, problem };
    let vocab = inner.get_vocab(true);
    let last = vocab.values().max().copied().ok_or_else(|| wrong("the vocabulary is empty".to_owned()))?;
    if last as usize >= bytes {
        return Err(wrong(format!("expected ids below {bytes}, the bytes of the file, found {last}")));
    }
    let len = last as usize + 1;
    let (mut names, mut kinds) = (vec![String::new(); len], vec![Kind::Unused; len]);
    let added = inner.get_added_vocabulary().get_added_tokens_decoder();
    for (name, id) in vocab {
        kinds[id as usize] = match added.get(&id) {
            Some(token) if token.special => Kind::Control,
            Some(_) => Kind::UserDefined,
            None if decoding.byte_fallback && byte(&name).is_some() => Kind::Byte,
            None => Kind::Normal,
        };
        names[id as usize] = name;
    }
    Ok((names, kinds))
}

/// What the post-processor puts before and behind a text.
fn around(inner: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let text = Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0);
    let Some(processor) = inner.get_post_processor() else { return Ok((Vec::new(), Vec::new())) };
    let whole = tokenizers::PostProcessor::process(processor, text, None, true)
        .map_err(|error| Error::Json { file: TOKENIZER, problem: format!("post_processor: {error}") })?;
    let at = whole.get_special_tokens_mask().iter().position(|&mask| mask == 0).unwrap_or(0);
    let ids = whole.get_ids();
    Ok((ids[..at].to_vec(), ids.get(at + 1..).unwrap_or_default().to_vec()))
}
