//! llama-server's `/tokenize` and `/detokenize`.

use crate::{Fields, Problem, Served};
use serde::Serialize;
use serde_json::{Value, json};
use trine_text::EncodeOptions;

/// Tokens that a text may have: with their pieces, an answer takes some 40 bytes for each.
const MAX_TOKENS: usize = 1 << 20;

/// What `/tokenize` answers.
#[derive(Debug, Serialize)]
pub struct Tokenized {
    tokens: Tokens,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Tokens {
    Ids(Vec<u32>),
    Pieces(Vec<Piece>),
}

#[derive(Debug, Serialize)]
struct Piece {
    id: u32,
    piece: String,
}

/// The tokens of a text. Names of control tokens are these tokens, unless `parse_special` is false.
///
/// # Errors
/// With the field that is wrong or not known, and when there are too many.
pub fn tokenize(mut fields: Fields, served: &std::sync::Arc<Served>) -> Result<Tokenized, Problem> {
    fields.take("model");
    let text = fields.string("content")?.ok_or_else(|| Problem::field("content", "expected a string"))?;
    let parse_special = fields.boolean("parse_special")?.unwrap_or(true);
    let add_special = fields.boolean("add_special")?.unwrap_or_default();
    let with_pieces = fields.boolean("with_pieces")?.unwrap_or_default();
    fields.finish()?;
    let ids = served.tokenizer.encode(&text, EncodeOptions { parse_special, add_special });
    if ids.len() > MAX_TOKENS {
        let expected = format_args!("expected a text of at most {MAX_TOKENS} tokens, found {}", ids.len());
        return Err(Problem::field("content", expected));
    }
    let piece = |id: u32| Piece { id, piece: served.tokenizer.decode_with_special(&[id]) };
    let tokens = if with_pieces { Tokens::Pieces(ids.into_iter().map(piece).collect()) } else { Tokens::Ids(ids) };
    Ok(Tokenized { tokens })
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
