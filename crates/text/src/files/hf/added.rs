//! Tokens that `tokenizer_config.json` adds to a vocabulary, and the files in which older versions of transformers wrote them.

use super::config::{parse, parse_file, wrong};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

/// Completes a `tokenizer_config.json` by the `special_tokens_map.json` and `added_tokens.json` of its folder. As in transformers, they count
/// only where it has no `added_tokens_decoder`, and the first overrides its special tokens.
///
/// # Errors
/// When a file is malformed.
pub fn complete_config(
    config: Option<&[u8]>,
    special_tokens_map: Option<&[u8]>,
    added_tokens: Option<&[u8]>,
) -> Result<Option<Vec<u8>>> {
    let mut whole = match parse(config)? {
        Value::Object(whole) => whole,
        Value::Null => Map::new(),
        found => return Err(wrong(format!("expected an object, found {found}"))),
    };
    let older = special_tokens_map.is_some() || added_tokens.is_some();
    if !older || whole.contains_key("added_tokens_decoder") {
        return Ok(config.map(<[u8]>::to_vec));
    }
    whole.extend(object("special_tokens_map.json", special_tokens_map)?);
    let special: Vec<String> = special_tokens(&whole.clone().into())?.into_iter().map(|token| token.content).collect();
    let mut decoder = Map::new();
    for (name, id) in object("added_tokens.json", added_tokens)? {
        let is_id = id.as_u64().is_some();
        if !is_id {
            return Err(Error::vocabulary("added_tokens.json", format!("`{name}`: expected an id, found {id}")));
        }
        let special = special.contains(&name);
        decoder.insert(id.to_string(), json!({"content": name, "special": special}));
    }
    whole.insert("added_tokens_decoder".to_owned(), decoder.into());
    Ok(Some(Value::from(whole).to_string().into_bytes()))
}

fn object(name: &str, file: Option<&[u8]>) -> Result<Map<String, Value>> {
    match parse_file(name, file)? {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        found => Err(Error::vocabulary(name, format!("expected an object, found {found}"))),
    }
}

/// The tokens of `added_tokens_decoder` with their ids, in ascending order.
pub(crate) fn listed_tokens(config: &Value) -> Result<Vec<(usize, AddedToken)>> {
    let mut tokens = Vec::new();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let problem = |what: &str| wrong(format!("added_tokens_decoder.{id}: {what}, found {token}"));
        let number = id.parse().map_err(|_| problem("expected an id as its name"))?;
        let token = added_token(token, token["special"] == true).ok_or_else(|| problem("expected content"))?;
        tokens.push((number, token));
    }
    tokens.sort_unstable_by_key(|&(id, _)| id);
    Ok(tokens)
}

/// Special tokens that every tokenizer of transformers may have, in the order in which it adds them.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The special tokens that the configuration names: `bos_token` and all other `*_token`, then `extra_special_tokens`, which older versions
/// call `additional_special_tokens`.
pub(crate) fn special_tokens(config: &Value) -> Result<Vec<AddedToken>> {
    let others = config.as_object().into_iter().flatten();
    let others = others.filter(|(key, _)| key.ends_with("_token") && !NAMED.contains(&key.as_str()));
    let named = NAMED.iter().map(|key| &config[*key]).chain(others.map(|(_, value)| value));
    let mut tokens: Vec<AddedToken> = named.filter_map(|value| added_token(value, true)).collect();
    let specific = config["model_specific_special_tokens"].as_object().into_iter().flatten();
    tokens.extend(specific.filter_map(|(_, value)| added_token(value, true)));
    let full = |key: &str| match &config[key] {
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    };
    let key = if full("extra_special_tokens") { "extra_special_tokens" } else { "additional_special_tokens" };
    let values: Vec<&Value> = match &config[key] {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    };
    for value in values {
        let problem = || wrong(format!("{key}: expected tokens, found {value}"));
        tokens.push(added_token(value, true).ok_or_else(problem)?);
    }
    Ok(tokens)
}

/// A token, which is a string or an object with `content`.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let name = value.as_str().or_else(|| value["content"].as_str())?;
    let flag = |key: &str| value[key].as_bool();
    Some(AddedToken {
        content: name.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

/// Adds the tokens of the configuration to a tokenizer, as transformers does: those that it lacks get the next ids, and those that it has the
/// flags of the configuration.
pub(crate) fn add(tokenizer: &mut tokenizers::Tokenizer, config: &Value, warnings: &mut Vec<String>) -> Result<()> {
    let (listed, special) = (listed_tokens(config)?, special_tokens(config)?);
    let mut tokens: Vec<AddedToken> = listed.iter().map(|(_, token)| token.clone()).collect();
    for token in tokens.iter_mut().filter(|token| special.iter().any(|other| other.content == token.content)) {
        token.special = true;
    }
    let there = tokenizer.get_added_vocabulary().get_vocab();
    let new = |token: &AddedToken, tokens: &[AddedToken]| {
        !there.contains_key(&token.content) && tokens.iter().all(|other| other.content != token.content)
    };
    for token in special {
        if new(&token, &tokens) {
            tokens.push(token);
        }
    }
    tokenizer.add_tokens(tokens).map_err(|error| wrong(error.to_string()))?;
    for (id, token) in listed {
        let found = tokenizer.token_to_id(&token.content).filter(|&found| found as usize != id);
        if let Some(found) = found {
            warnings.push(format!(
                "tokenizer_config.json: added_tokens_decoder: `{}` is token {found} here, as in transformers, and not {id}",
                token.content
            ));
        }
    }
    Ok(())
}
