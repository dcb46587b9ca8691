//! llama-server's `/tokenize` and `/detokenize`.

use crate::{Fields, Problem, Served};
use serde_json::{Value, json};
use trine_text::EncodeOptions;

/// The tokens of a text. Names of control tokens are these tokens, unless `parse_special` is false.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn tokenize(mut fields: Fields, served: &std::sync::Arc<Served>) -> Result<Value, Problem> {
    fields.take("model");
    let text = fields.string("content")?.ok_or_else(|| Problem::field("content", "expected a string"))?;
    let parse_special = fields.boolean("parse_special")?.unwrap_or(true);
    let add_special = fields.boolean("add_special")?.unwrap_or_default();
    let with_pieces = fields.boolean("with_pieces")?.unwrap_or_default();
    fields.finish()?;
    let ids = served.tokenizer.encode(&text, EncodeOptions { parse_special, add_special });
    let piece = |id: u32| json!({"id": id, "piece": served.tokenizer.token_text(id)});
    let tokens = if with_pieces { ids.into_iter().map(piece).collect() } else { json!(ids) };
    Ok(json!({"tokens": tokens}))
}

/// The text of tokens.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn detokenize(mut fields: Fields, served: &std::sync::Arc<Served>) -> Result<Value, Problem> {
    fields.take("model");
    let tokens = fields.list("tokens")?.unwrap_or_default();
    fields.finish()?;
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = tokens.iter().map(id).collect();
    let ids = ids.ok_or_else(|| Problem::field("tokens", "expected a list of token ids"))?;
    Ok(json!({"content": served.tokenizer.decode_with_special(&ids)}))
}
