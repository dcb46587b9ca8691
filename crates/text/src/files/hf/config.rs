//! Hugging Face's `tokenizer_config.json`.

use crate::files::vocab::OwnedVocab;
use crate::{Error, Result, TokenType};
use serde_json::Value;

const CONFIG: &str = "tokenizer_config.json";

/// Maximum number of ids that added tokens may leave unused.
const MAX_UNUSED: usize = 1 << 16;

/// Parses the file, or returns `null` if there is none.
pub(crate) fn parse(config: Option<&[u8]>) -> Result<Value> {
    let config = config.map_or(Ok(Value::Null), serde_json::from_slice);
    config.map_err(|error| wrong(error.to_string()))
}

fn wrong(problem: String) -> Error {
    Error::vocabulary(CONFIG, problem)
}

/// The id of a special token, which is a string or an object with `content`.
pub(crate) fn special_token(config: &Value, key: &str, id: impl Fn(&str) -> Option<u32>) -> Result<Option<u32>> {
    let value = &config[key];
    let Some(name) = value.as_str().or_else(|| value["content"].as_str()) else { return Ok(None) };
    let problem = || wrong(format!("{key}: expected a token of the vocabulary, found `{name}`"));
    id(name).map(Some).ok_or_else(problem)
}

/// The chat template: a string, or in a list of templates the one named `default`.
pub(crate) fn chat_template(config: &Value) -> Result<Option<String>> {
    let problem = |found: &str| {
        wrong(format!("chat_template: expected a string or a list with one named `default`, found {found}"))
    };
    match &config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(source) => Ok(Some(source.clone())),
        Value::Array(list) => {
            let named = |template: &&Value| template["name"] == "default" || list.len() == 1;
            let source = list.iter().find(named).and_then(|template| template["template"].as_str());
            source.map(|source| Some(source.to_owned())).ok_or_else(|| problem("a list without it"))
        }
        _ => Err(problem("another type")),
    }
}

/// Applies the configuration to a vocabulary: added tokens, BOS, EOS, whether they are added to texts, and the chat template.
pub(crate) fn apply(config: &Value, vocab: &mut OwnedVocab) -> Result<()> {
    let mut added = Vec::new();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let problem = |what: &str| wrong(format!("added_tokens_decoder.{id}: {what}, found {token}"));
        let id: usize = id.parse().map_err(|_| problem("expected an id as its name"))?;
        let name = token["content"].as_str().ok_or_else(|| problem("expected content"))?;
        if id > vocab.tokens.len() + MAX_UNUSED {
            return Err(problem(&format!("expected an id at most {MAX_UNUSED} beyond the vocabulary")));
        }
        if ["lstrip", "rstrip", "single_word"].iter().any(|flag| token[*flag] == true) {
            return Err(problem("expected a token without lstrip, rstrip and single_word"));
        }
        if vocab.tokens.get(id).is_some_and(|there| there != name) {
            return Err(problem(&format!("expected `{}`", vocab.tokens[id])));
        }
        added.push((id, name, if token["special"] == true { TokenType::Control } else { TokenType::UserDefined }));
    }
    added.sort_unstable_by_key(|&(id, ..)| id);
    let (mut scores, mut types) =
        (std::mem::take(&mut vocab.rest.scores).into_owned(), std::mem::take(&mut vocab.rest.token_types).into_owned());
    for (id, name, kind) in added {
        if id < vocab.tokens.len() {
            // The unknown token keeps its type.
            if kind == TokenType::Control && types[id] == TokenType::Normal.number() {
                types[id] = kind.number();
            }
            continue;
        }
        while vocab.tokens.len() <= id {
            let here = vocab.tokens.len();
            let (name, kind) =
                if here == id { (name.to_owned(), kind) } else { (format!("[PAD{here}]"), TokenType::Unused) };
            vocab.tokens.push(name);
            types.push(kind.number());
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
    vocab.chat_template = chat_template(config)?;
    Ok(())
}
