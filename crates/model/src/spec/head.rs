//! The embedding and the output head.

use crate::file_tensors::find;
use crate::file_weights::FileWeights;
use crate::keys::Keys;
use crate::{Arch, Error, QuantMethod, Result};
use trine_tensor::{File, FileFormat};

/// Rows of the embedding.
///
/// # Errors
/// When it is missing, or a key has another number.
pub(super) fn vocab_size(file: &File, keys: &Keys) -> Result<usize> {
    let name = match file.format() {
        FileFormat::Gguf { .. } => "token_embd.weight".to_owned(),
        FileFormat::Safetensors => keys.arch.hf_name("token_embd.weight").expect("every architecture embeds tokens"),
    };
    let embedding = file.view(&find(file, &name).unwrap_or(name))?;
    if let Some(found) = keys.count("vocab_size", 0..=u32::MAX)?.filter(|&found| found != embedding.rows()) {
        let expected = format!("the {} rows of the embedding", embedding.rows());
        return Err(Error::bad(keys.file_key("vocab_size"), expected, found));
    }
    Ok(embedding.rows())
}

/// Whether the embedding is the output head as well. In GGUF files it is if there is no other; for Hugging Face folders,
/// `tie_word_embeddings` says it, or else the file.
///
/// # Errors
/// When one of the two cannot be read, or the key is no boolean.
pub(super) fn is_tied(
    file: &File,
    keys: &Keys,
    quant_method: &QuantMethod,
    warnings: &mut Vec<String>,
) -> Result<bool> {
    let Some(config) = &keys.config else { return Ok(!file.contains("output.weight")) };
    let own_head = has_own_head(file, keys.arch)?;
    let tied = config.flag("tie_word_embeddings")?;
    if own_head && tied == Some(true) && config.has("tie_word_embeddings") {
        warnings.push(
            "config.json says tie_word_embeddings, but lm_head.weight is another matrix than the embedding: it is the head"
                .to_owned(),
        );
    }
    Ok(match tied {
        Some(tied) => tied && !own_head,
        None if keys.arch.scaled_embedding => !own_head,
        None => {
            let name = keys.arch.hf_name("output.weight").expect("every architecture has a name for it");
            !FileWeights::new(file, quant_method.clone()).contains(&name)
        }
    })
}

/// Whether a folder has another matrix for the head than for the embedding. Tied models may be saved with both.
fn has_own_head(file: &File, arch: &Arch) -> Result<bool> {
    let [head, embedding] = ["output.weight", "token_embd.weight"]
        .map(|name| find(file, &arch.hf_name(name)?).map(|name| file.view(&name)));
    match (head, embedding) {
        (Some(head), Some(embedding)) => {
            let (head, embedding) = (head?, embedding?);
            Ok(head.format != embedding.format || head.bytes[..] != embedding.bytes[..])
        }
        _ => Ok(false),
    }
}
