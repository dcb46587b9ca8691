//! `/v1/embeddings`.

use crate::ask::prompts;
use crate::fields::shown;
use crate::{Fields, Problem};
use base64::Engine;
use serde_json::{Value, json};
use trine_engine::Prompt;

/// What a body asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingAsk {
    pub inputs: Vec<Prompt>,
    /// As base64 of little-endian `f32`, not as lists of numbers.
    pub base64: bool,
}

/// Reads a body. `width` is the number of dimensions that the model gives.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn embedding(mut fields: Fields, width: usize) -> Result<EmbeddingAsk, Problem> {
    super::common(&mut fields)?;
    let wrong = || Problem::field("input", "expected a string, a list of token ids, or a list of either");
    let inputs = prompts(fields.take("input").unwrap_or_default()).ok_or_else(wrong)?;
    let base64 = match fields.take("encoding_format") {
        None => false,
        Some(format) if format == "float" => false,
        Some(format) if format == "base64" => true,
        Some(found) => {
            let problem = format!("expected float or base64, found {}", shown(&found));
            return Err(Problem::field("encoding_format", problem));
        }
    };
    if let Some(found) = fields.take("dimensions").filter(|found| *found != json!(width)) {
        let problem = format!("expected {width}, which the model gives, found {}", shown(&found));
        return Err(Problem::field("dimensions", problem));
    }
    fields.finish()?;
    if inputs.is_empty() {
        return Err(wrong());
    }
    Ok(EmbeddingAsk { inputs, base64 })
}

/// The body of embeddings, of texts that have so many tokens together.
pub fn embeddings(model: &str, embeddings: &[Vec<f32>], base64: bool, tokens: usize) -> Value {
    let one = |(index, embedding): (usize, &Vec<f32>)| {
        let embedding = if base64 {
            let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
            Value::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        } else {
            json!(embedding)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    json!({
        "object": "list",
        "data": embeddings.iter().enumerate().map(one).collect::<Vec<_>>(),
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}
