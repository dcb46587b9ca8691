//! Heads of attention.

use crate::keys::Keys;
use crate::{Arch, Error, Result};

/// Multi-head latent attention (arXiv:2405.04434), with the up-projections of keys and values absorbed into queries and outputs.
#[derive(Clone, Copy, Debug)]
pub struct Mla {
    /// Rank of the compressed queries, if they are.
    pub q_lora_rank: Option<usize>,
    /// Rank of the compressed keys and values.
    pub kv_lora_rank: usize,
    /// Elements of a query head without rope.
    pub qk_nope_head_dim: usize,
    /// Elements of a query head, and of the key that all heads share, with rope.
    pub qk_rope_head_dim: usize,
    /// Elements of a value head.
    pub v_head_dim: usize,
    /// Added to the variance in the norms of compressed vectors: 1e-6 in transformers, whatever the key says; that of all norms in GGUF files.
    pub norm_eps: f32,
}

impl Mla {
    /// # Errors
    /// When a key is missing, of the wrong type or out of range.
    pub(super) fn of(keys: &Keys, eps: f32) -> Result<Mla> {
        let size = 1..=1 << 16;
        let qk_rope_head_dim = keys.required("rope.dimension_count", size.clone())?;
        // Older GGUF files cache every head, and have the keys without `_mla` alone.
        let of = |key: &str| match keys.count(&format!("{key}_mla"), size.clone())? {
            Some(length) => Ok(length),
            None => keys.required(key, size.clone()),
        };
        let key = of("attention.key_length")?;
        if key <= qk_rope_head_dim {
            return Err(Error::bad(
                keys.file_key("attention.key_length_mla"),
                format!("more than {qk_rope_head_dim}"),
                key,
            ));
        }
        Ok(Mla {
            q_lora_rank: keys.count("attention.q_lora_rank", 0..=1 << 16)?.filter(|&rank| rank > 0),
            kv_lora_rank: keys.required("attention.kv_lora_rank", size.clone())?,
            qk_nope_head_dim: key - qk_rope_head_dim,
            qk_rope_head_dim,
            v_head_dim: of("attention.value_length")?,
            norm_eps: if keys.config.is_some() { 1e-6 } else { eps },
        })
    }
}

/// Elements of a query head.
///
/// # Errors
/// When the heads do not divide the hidden size, or values have another size.
pub(super) fn head_dim(keys: &Keys, hidden_size: usize, heads: usize, mla: Option<Mla>) -> Result<usize> {
    if let Some(mla) = mla {
        return Ok(mla.qk_nope_head_dim + mla.qk_rope_head_dim);
    }
    let head_dim = match keys.count("attention.key_length", 1..=1 << 16)? {
        Some(head_dim) => head_dim,
        None if hidden_size / heads > 1 << 16 => {
            let expected = format!("heads of at most 65536 elements of {hidden_size}");
            return Err(Error::bad(keys.file_key("attention.head_count"), expected, heads));
        }
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let expected = format!("a divisor of hidden size {hidden_size}");
            return Err(Error::bad(keys.file_key("attention.head_count"), expected, heads));
        }
    };
    match keys.count("attention.value_length", 1..=1 << 16)?.filter(|&value| value != head_dim) {
        Some(value) => Err(Error::bad(keys.file_key("attention.value_length"), head_dim.to_string(), value)),
        None => Ok(head_dim),
    }
}

/// The number whose root divides scores.
pub(super) fn query_scalar(arch: &Arch, layers: usize, hidden_of_head: usize, head_dim: usize) -> usize {
    if arch.hidden_query_scalar.contains(&layers) { hidden_of_head } else { head_dim }
}
