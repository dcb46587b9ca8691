//! Hugging Face's `tokenizer.json` and `tokenizer_config.json`, and the files of slow tokenizers.

pub(crate) mod added;
pub(super) mod bpe;
pub(super) mod config;
mod expansion;
mod overrides;
mod scores;
mod slow;
pub(super) mod to_gguf;
mod write;

use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::charsmap::Charsmap;
use crate::tokenizer::encoder::Encoder;
use crate::tokenizer::eog::eog_tokens;
use crate::tokenizer::hf::HfEncoder;
use crate::tokenizer::normalizer::SPACE;
use crate::tokenizer::special::Parse;
use crate::tokenizer::spm::Spm;
use crate::tokenizer::token_table::TokenTable;
use crate::tokenizer::vocab::byte;
use crate::tokenizer::wordpiece;
use crate::{Error, Result, TokenType, Tokenizer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use std::sync::OnceLock;
use tokenizers::ModelWrapper;
use tokenizers::{Encoding, Token};

const TOKENIZER: &str = "tokenizer.json";

impl Tokenizer {
    /// Reads a `tokenizer.json`, and from its `tokenizer_config.json` added tokens, BOS, EOS, whether they are added, and the chat
    /// templates. It does not read those of a separate `chat_template.jinja`. [`crate::complete_config`] reads older files.
    ///
    /// Text that the vocabulary cannot represent is left out when encoding.
    ///
    /// # Errors
    /// When a file is malformed, or has a feature that is not implemented.
    pub fn from_json(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Tokenizer> {
        // The tokenizers crate panics on some malformed files.
        std::panic::catch_unwind(|| read(tokenizer_json, tokenizer_config))
            .unwrap_or_else(|_| Err(wrong("expected a tokenizer, found a file that makes the tokenizers crate panic")))
    }
}

/// Words, spaces, digits, marks and scripts. A tokenizer that makes the tokenizers crate panic is expected to do so on this text.
const PROBE: &str = "Hello  world's 123\n\t naïve ☃ 你好 🦙 ▁a";

fn wrong(problem: impl Into<String>) -> Error {
    Error::vocabulary(TOKENIZER, problem)
}

/// A `tokenizer.json` with the added tokens of its configuration.
pub(super) fn parse(
    tokenizer_json: &[u8],
    config: &Value,
    warnings: &mut Vec<String>,
) -> Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer_json).map_err(|error| wrong(error.to_string()))?;
    overrides::apply(&mut inner, config, warnings)?;
    added::add(&mut inner, config, warnings)?;
    Ok(inner)
}

fn read(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Tokenizer> {
    expansion::check(tokenizer_json).map_err(wrong)?;
    let parts: RawTokenizer = serde_json::from_slice(tokenizer_json).map_err(|error| wrong(error.to_string()))?;
    parts.check_rules()?;
    let (config, mut warnings) = (config::parse(tokenizer_config)?, Vec::new());
    let inner = parse(tokenizer_json, &config, &mut warnings)?;
    parts.check_unknown(&inner)?;
    let dropout = match inner.get_model() {
        ModelWrapper::BPE(model) => model.dropout.filter(|&dropout| dropout != 0.0),
        _ => None,
    };
    if let Some(dropout) = dropout {
        return Err(wrong(format!("model.dropout: expected 0 or none, found {dropout}, which makes encoding random")));
    }

    let decoding = Decoding::of(&parts.decoder)?;
    let size = tokenizer_json.len() + tokenizer_config.map_or(0, <[u8]>::len);
    let (names, mut token_types) = tokens(&inner, &decoding, size)?;
    let special = |key| config::special_token(&config, key, |name| inner.token_to_id(name));
    let (mut prefix, mut suffix) = around(&inner)?;
    // A single token before every text is BOS, even if the configuration does not name it.
    let only = if let [one] = prefix[..] { Some(one) } else { None };
    let (bos, eos) = (special("bos_token")?.or(only), special("eos_token")?);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let eog = eog_tokens(&names, &mut token_types, [eos, bos].into_iter().flatten(), &mut warnings);
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
    let tokens = TokenTable::new(&names, token_types, decoding.piece);
    let fallback = |inner| {
        let encoder = HfEncoder::new(inner, decoding.space_prefix);
        encoder.encode(&tokens, PROBE, Parse { control: true, breaks: &[] }, &mut Vec::new());
        Box::new(encoder)
    };
    let bpe = if decoding.space_prefix { None } else { bpe::encoder(&inner, tokenizer_json, &names, &tokens) };
    Ok(Tokenizer {
        encoder: bpe.unwrap_or_else(|| fallback(inner)),
        tokens,
        bos,
        eos,
        eog,
        prefix,
        suffix,
        templates: config::templates(&config, &mut warnings),
        warnings,
        markers: OnceLock::new(),
    })
}

/// The parts of a `tokenizer.json` to which the tokenizers crate gives no access.
#[derive(Deserialize)]
struct RawTokenizer {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
    model: UnknownToken,
}

/// The token of a model for characters that are not in its vocabulary.
#[derive(Deserialize)]
struct UnknownToken {
    #[serde(default)]
    unk_id: Option<u32>,
    #[serde(default)]
    unk_token: Option<String>,
}

impl RawTokenizer {
    /// Refuses malformed normalization rules, on which the tokenizers crate would panic.
    fn check_rules(&self) -> Result<()> {
        charsmaps(&self.normalizer).map_err(|problem| wrong(format!("normalizer.precompiled_charsmap: {problem}")))
    }

    /// Refuses a model for which the tokenizers crate would drop whole words.
    fn check_unknown(&self, inner: &tokenizers::Tokenizer) -> Result<()> {
        let missing =
            |field: &str| Err(wrong(format!("model.{field}: expected a token of the vocabulary, found none")));
        let has_unk = self.model.unk_token.as_deref().is_some_and(|name| inner.token_to_id(name).is_some());
        match inner.get_model() {
            ModelWrapper::Unigram(_) if self.model.unk_id.is_none() => missing("unk_id"),
            ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) if !has_unk => missing("unk_token"),
            _ => Ok(()),
        }
    }
}

/// Checks the rules of SentencePiece in a normalizer, or in those it is made of.
fn charsmaps(normalizer: &Value) -> std::result::Result<(), String> {
    if let Some(rules) = normalizer["precompiled_charsmap"].as_str() {
        let rules = STANDARD.decode(rules).map_err(|error| error.to_string())?;
        Charsmap::parse(&rules)?;
    }
    normalizer["normalizers"].as_array().into_iter().flatten().try_for_each(charsmaps)
}

/// What the decoder of a `tokenizer.json` does to each token, so that tokens have bytes of their own.
struct Decoding {
    piece: fn(&str, TokenType, &mut Vec<u8>),
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
                    return Err(wrong(format!(
                        "decoder: expected ByteLevel, Metaspace, WordPiece, or a Sequence as of SentencePiece, found {step}"
                    )));
                }
            }
        }
        Ok(decoding)
    }
}

/// The names and types of all tokens. Unused ids have an empty name. `bytes` is the size of the files.
fn tokens(inner: &tokenizers::Tokenizer, decoding: &Decoding, bytes: usize) -> Result<(Vec<String>, Vec<TokenType>)> {
    let vocab = inner.get_vocab(true);
    let last = vocab.values().max().copied().ok_or_else(|| wrong("model.vocab: expected tokens, found none"))?;
    if last as usize >= bytes {
        return Err(wrong(format!("model.vocab: expected ids below {bytes}, the size of the files, found {last}")));
    }
    let len = last as usize + 1;
    let (mut names, mut token_types) = (vec![String::new(); len], vec![TokenType::Unused; len]);
    let added = inner.get_added_vocabulary().get_added_tokens_decoder();
    for (name, id) in vocab {
        token_types[id as usize] = match added.get(&id) {
            Some(token) if token.special => TokenType::Control,
            Some(_) => TokenType::UserDefined,
            None if decoding.byte_fallback && byte(&name).is_some() => TokenType::Byte,
            None => TokenType::Normal,
        };
        names[id as usize] = name;
    }
    Ok((names, token_types))
}

/// The tokens that the post-processor adds before and after a text.
fn around(inner: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    // The mask of special tokens does not tell: in a Sequence, those of the first processor are text to the second.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let Some(processor) = inner.get_post_processor() else { return Ok((Vec::new(), Vec::new())) };
    let whole = tokenizers::PostProcessor::process(processor, text, None, true)
        .map_err(|error| wrong(format!("post_processor: {error}")))?;
    match whole.get_ids().split(|&id| id == TEXT).collect::<Vec<_>>()[..] {
        [prefix, suffix] => Ok((prefix.to_vec(), suffix.to_vec())),
        ref parts => Err(wrong(format!("post_processor: expected the text once, found it {} times", parts.len() - 1))),
    }
}
