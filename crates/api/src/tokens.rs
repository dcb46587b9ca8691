//! llama-server's `/tokenize` and `/detokenize`, and vLLM's, with `/tokenizer_info`: lm-evaluation-harness asks for these.

use crate::openai::{Shared, rendered};
use crate::{Fields, Problem, Served};
use serde::Serialize;
use serde_json::{Value, json};
use trine_engine::{Error, Prompt};
use trine_text::EncodeOptions;

/// Tokens that a text may have: with their pieces, an answer takes some 40 bytes for each.
const MAX_TOKENS: usize = 1 << 20;

/// What `/tokenize` answers.
#[derive(Debug, Serialize)]
pub struct Tokenized {
    tokens: Tokens,
    count: usize,
    max_model_len: usize,
    /// The names of the tokens in the vocabulary, as vLLM tells them.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
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

/// The tokens of a text, or of the prompt of a chat. Names of control tokens are these tokens, unless `parse_special` is false.
///
/// # Errors
/// With the field that is wrong or not known, and when there are too many.
pub fn tokenize(mut fields: Fields, served: &Shared) -> Result<Tokenized, Problem> {
    fields.take("model");
    let with_pieces = fields.boolean("with_pieces")?.unwrap_or_default();
    let with_names = fields.boolean("return_token_strs")?.unwrap_or_default();
    let (ids, field) = match fields.has("messages") {
        true => (of_chat(fields, served)?, "messages"),
        false => of_text(fields, served)?,
    };
    let count = ids.len();
    if count > MAX_TOKENS {
        let expected = format_args!("expected a text of at most {MAX_TOKENS} tokens, found {count}");
        return Err(Problem::field(field, expected));
    }
    let piece = |id: u32| Piece { id, piece: served.tokenizer.token_text(id) };
    let name = |id: &u32| served.tokenizer.name(*id).unwrap_or_default().to_owned();
    let token_strs = with_names.then(|| ids.iter().map(name).collect());
    let tokens = if with_pieces { Tokens::Pieces(ids.into_iter().map(piece).collect()) } else { Tokens::Ids(ids) };
    Ok(Tokenized { tokens, count, max_model_len: served.context, token_strs })
}

/// The tokens of a chat's prompt.
fn of_chat(mut fields: Fields, served: &Shared) -> Result<Vec<u32>, Problem> {
    fields.only("add_special_tokens", &json!(false), "the template writes them")?;
    Ok(Prompt::Chat(rendered(fields, served)?).into_tokens(&served.tokenizer))
}

/// The tokens of a text, and the field that has it.
fn of_text(mut fields: Fields, served: &Shared) -> Result<(Vec<u32>, &'static str), Problem> {
    // In vLLM's words, tokens such as BOS are added unless the request says otherwise.
    let vllm = fields.has("prompt");
    fields.rename("prompt", "content")?;
    fields.rename("add_special_tokens", "add_special")?;
    let own_names = fields.own_names().to_owned();
    let own = |problem: Problem| problem.named(&own_names);
    let text = fields.string("content").map_err(own)?;
    let text = text.ok_or_else(|| Problem::field("content", "expected a string, or messages in its place"))?;
    let parse_special = fields.boolean("parse_special")?.unwrap_or(true);
    let add_special = fields.boolean("add_special").map_err(own)?.unwrap_or(vllm);
    let field = fields.own_name("content");
    fields.finish()?;
    Ok((served.tokenizer.encode(&text, EncodeOptions { parse_special, add_special }), field))
}

/// The text of tokens.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn detokenize(mut fields: Fields, served: &Shared) -> Result<Value, Problem> {
    fields.take("model");
    let wrong = || Problem::field("tokens", "expected a list of token ids");
    let tokens = fields.list("tokens")?.ok_or_else(wrong)?;
    fields.finish()?;
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = tokens.iter().map(id).collect();
    let ids = ids.ok_or_else(wrong)?;
    let vocab = served.tokenizer.len();
    if let Some(at) = ids.iter().position(|&id| id as usize >= vocab) {
        let error = Error::BeyondVocabulary { place: format!("tokens[{at}]"), id: ids[at], vocab };
        return Err(Problem { param: Some("tokens".to_owned()), ..error.into() });
    }
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
