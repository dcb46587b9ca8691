//! llama-server's `/tokenize` and `/detokenize`, and vLLM's, with `/tokenizer_info`: lm-evaluation-harness asks for these.

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
    count: usize,
    max_model_len: usize,
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
    // In vLLM's words, tokens such as BOS are added unless the request says otherwise.
    let vllm = fields.has("prompt");
    fields.rename("prompt", "content")?;
    fields.rename("add_special_tokens", "add_special")?;
    let text = fields.string("content")?.ok_or_else(|| Problem::field("content", "expected a string"))?;
    let parse_special = fields.boolean("parse_special")?.unwrap_or(true);
    let add_special = fields.boolean("add_special")?.unwrap_or(vllm);
    let with_pieces = fields.boolean("with_pieces")?.unwrap_or_default();
    fields.finish()?;
    let ids = served.tokenizer.encode(&text, EncodeOptions { parse_special, add_special });
    let count = ids.len();
    if count > MAX_TOKENS {
        let expected = format_args!("expected a text of at most {MAX_TOKENS} tokens, found {count}");
        return Err(Problem::field("content", expected));
    }
    let piece = |id: u32| Piece { id, piece: served.tokenizer.token_text(id) };
    let tokens = if with_pieces { Tokens::Pieces(ids.into_iter().map(piece).collect()) } else { Tokens::Ids(ids) };
    Ok(Tokenized { tokens, count, max_model_len: served.context })
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
    let text = served.tokenizer.decode_with_special(&ids);
    Ok(json!({"content": text, "prompt": text}))
}

/// The names of the tokens that begin and end texts, and the chat template.
pub fn tokenizer_info(served: &Served) -> Value {
    let name = |id: Option<u32>| id.and_then(|id| served.tokenizer.name(id));
    let template = served.template.as_ref().ok().and_then(|template| template.source(false).ok());
    json!({
        "bos_token": name(served.tokenizer.bos()),
        "eos_token": name(served.tokenizer.eos()),
        "chat_template": template,
    })
}
