//! Hugging Face's `tokenizer_config.json`: parsing it, and applying it to a vocabulary of SentencePiece or tiktoken.

use super::added::{listed_tokens, special_tokens};
use crate::files::vocab::OwnedVocab;
use crate::{Error, Result, Templates, TokenType};
use serde_json::Value;

const CONFIG: &str = "tokenizer_config.json";

/// Maximum number of ids that added tokens may leave unused.
const MAX_UNUSED: usize = 1 << 16;

/// Parses the file, or returns `null` if there is none.
pub(crate) fn parse(config: Option<&[u8]>) -> Result<Value> {
    parse_file(CONFIG, config)
}

/// Parses the file of this name, or returns `null` if there is none.
pub(crate) fn parse_file(name: &str, file: Option<&[u8]>) -> Result<Value> {
    let parsed = file.map_or(Ok(Value::Null), serde_json::from_slice);
    parsed.map_err(|error| Error::vocabulary(name, error.to_string()))
}

pub(crate) fn wrong(problem: String) -> Error {
    Error::vocabulary(CONFIG, problem)
}

/// The id of a special token, which is a string or an object with `content`.
pub(crate) fn special_token(config: &Value, key: &str, id: impl Fn(&str) -> Option<u32>) -> Result<Option<u32>> {
    let value = &config[key];
    let Some(name) = value.as_str().or_else(|| value["content"].as_str()) else { return Ok(None) };
    let problem = || wrong(format!("{key}: expected a token of the vocabulary, found `{name}`"));
    id(name).map(Some).ok_or_else(problem)
}

/// The chat templates. Malformed ones are a warning: only chats need them.
pub(crate) fn templates(config: &Value, warnings: &mut Vec<String>) -> Templates {
    let found = Templates::from_json(&config["chat_template"]);
    found.unwrap_or_else(|problem| {
        warnings.push(format!("{CONFIG}: {problem}: chats have no template"));
        Templates::default()
    })
}

/// Applies the configuration to a vocabulary: added tokens, BOS, EOS, whether they are added to texts, and the chat templates.
pub(crate) fn apply(config: &Value, vocab: &mut OwnedVocab) -> Result<()> {
    let (listed, special) = (listed_tokens(config)?, special_tokens(config)?);
    let (mut scores, mut types) =
        (std::mem::take(&mut vocab.rest.scores).into_owned(), std::mem::take(&mut vocab.rest.token_types).into_owned());
    let named = |name: &str| special.iter().any(|token| token.content == name);
    for (id, token) in listed {
        let problem = |what: &str| wrong(format!("added_tokens_decoder.{id}: {what}, found `{}`", token.content));
        if id > vocab.tokens.len() + MAX_UNUSED {
            return Err(problem(&format!("expected an id at most {MAX_UNUSED} beyond the vocabulary")));
        }
        if token.lstrip || token.rstrip || token.single_word {
            return Err(problem("expected a token without lstrip, rstrip and single_word"));
        }
        if vocab.tokens.get(id).is_some_and(|there| *there != token.content) {
            return Err(problem(&format!("expected `{}`", vocab.tokens[id])));
        }
        let kind = if token.special || named(&token.content) { TokenType::Control } else { TokenType::UserDefined };
        if id < vocab.tokens.len() {
            // The unknown token keeps its type.
            if kind == TokenType::Control && types[id] == TokenType::Normal.number() {
                types[id] = kind.number();
            }
            continue;
        }
        for unused in vocab.tokens.len()..id {
            vocab.tokens.push(format!("[PAD{unused}]"));
        }
        vocab.tokens.push(token.content);
        types.resize(id, TokenType::Unused.number());
        types.push(kind.number());
    }
    for token in special {
        if token.lstrip || token.rstrip || token.single_word {
            vocab.warnings.push(format!(
                "tokenizer_config.json: `{}` is matched without its lstrip, rstrip and single_word",
                token.content
            ));
        }
        match vocab.tokens.iter().position(|name| *name == token.content) {
            Some(id) if types[id] == TokenType::Normal.number() => types[id] = TokenType::Control.number(),
            Some(_) => {}
            None => {
                vocab.tokens.push(token.content);
                types.push(TokenType::Control.number());
            }
        }
    }
    if !scores.is_empty() {
        scores.resize(vocab.tokens.len(), 0.0);
    }
    (vocab.rest.scores, vocab.rest.token_types) = (scores.into(), types.into());
    let id = |name: &str| vocab.tokens.iter().position(|token| token == name).map(|id| id as u32);
    let (bos, eos) = (special_token(config, "bos_token", id)?, special_token(config, "eos_token", id)?);
    let rest = &mut vocab.rest;
    (rest.bos, rest.eos) = (bos.or(rest.bos), eos.or(rest.eos));
    rest.add_bos = config["add_bos_token"].as_bool().or(rest.add_bos);
    rest.add_eos = config["add_eos_token"].as_bool().or(rest.add_eos);
    rest.add_space_prefix = config["add_prefix_space"].as_bool().or(rest.add_space_prefix);
    rest.normalization.prefix_once = config["legacy"] == false;
    vocab.templates = templates(config, &mut vocab.warnings);
    Ok(())
}
