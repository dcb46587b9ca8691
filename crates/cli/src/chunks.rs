//! Texts cut into chunks, over which predictions are compared.

use crate::exit::UsageError;
use crate::load::LoadArgs;
use anyhow::Result;
use std::path::Path;
use trine::Decoder;
use trine_lab::divergence::{Chunks, LEAST_CONTEXT};

/// Tokens of a chunk, as in llama.cpp.
const CONTEXT: usize = 512;

/// The documents as the models read them, of which the first is the reference: both must have the same tokens.
pub fn chunks(
    load: &LoadArgs,
    [(reference, first), (model, second)]: [(&Path, &Decoder); 2],
    documents: &[String],
    most: usize,
) -> Result<Chunks> {
    let chunks = cut(load, first, documents, most)?;
    if Chunks::new(second.tokenizer(), documents, chunks.context(), most).ok().as_ref() != Some(&chunks) {
        let message = format!("{}: its tokens of the text are not those of {}", model.display(), reference.display());
        return Err(UsageError { message, hint: "compare files of one model" }.into());
    }
    Ok(chunks)
}

/// The documents as a model reads them.
pub fn cut(load: &LoadArgs, decoder: &Decoder, documents: &[String], most: usize) -> Result<Chunks> {
    let Some(context) = load.context else {
        let context = CONTEXT.min(decoder.spec().context_length);
        return Ok(Chunks::fitting(decoder.tokenizer(), documents, context, most)?);
    };
    if (context as usize) < LEAST_CONTEXT {
        let message = format!(
            "--context {context}: expected at least {LEAST_CONTEXT} tokens, of whose second half one is predicted"
        );
        return Err(UsageError { message, hint: "omit it, or raise it" }.into());
    }
    Ok(Chunks::new(decoder.tokenizer(), documents, context as usize, most)?)
}
