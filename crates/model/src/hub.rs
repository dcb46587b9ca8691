//! What a Hugging Face folder's `config.json` may ask for that nothing computes here, and what it says that its tensors do not.

use crate::keys::Keys;
use crate::{Arch, Error, Result};
use serde_json::Value;
use trine_backend::Activation;
use trine_tensor::File;

/// Settings that change what is computed: the values that change nothing, in words, and how to know them.
type Setting = (&'static str, &'static str, fn(&Value) -> bool);

static SETTINGS: &[Setting] = &[
    ("scale_attn_by_inverse_layer_idx", "false, or none", |value| value == false),
    ("scale_attn_weights", "true, or none", |value| value == true),
    ("decoder_sparse_step", "1, or none: every layer has experts", |value| value == 1),
    ("mlp_only_layers", "an empty list: every layer has experts", |value| value.as_array().is_some_and(Vec::is_empty)),
    ("moe_layer_freq", "1, or none: every layer has experts", |value| value == 1),
    ("clip_qkv", "none", |_| false),
    ("alibi", "false, or none", |value| value == false),
    ("is_decoder", "false, or none", |value| value == false),
    ("position_embedding_type", "no relative positions", |value| {
        value.as_str().is_some_and(|kind| !kind.starts_with("relative"))
    }),
    ("layer_types", "a list of full_attention and sliding_attention", |value| {
        let known = |kind: &Value| matches!(kind.as_str(), Some("full_attention" | "sliding_attention"));
        value.as_array().is_some_and(|types| types.iter().all(known))
    }),
];

/// Settings that say that there are biases.
static BIASES: [&str; 5] = ["attention_bias", "qkv_bias", "use_qkv_bias", "mlp_bias", "use_bias"];

/// Makes sure that nothing here would be computed otherwise than `config` says, and that what it says is there.
///
/// # Errors
/// When something would be, or is not.
pub(crate) fn check(config: &Value, file: &File) -> Result<()> {
    let said = |key: &str| config.get(key).filter(|value| !value.is_null());
    for (key, expected, neutral) in SETTINGS {
        if let Some(value) = said(key).filter(|value| !neutral(value)) {
            return Err(Error::bad(*key, *expected, value));
        }
    }
    if let Some(key) = BIASES.iter().find(|key| said(key).is_some_and(|value| value == true))
        && !file.names().any(|name| name.ends_with("bias"))
    {
        return Err(Error::bad(*key, "false, since no tensor is a bias", true));
    }
    Ok(())
}

/// The architecture of a folder, and its activation.
///
/// # Errors
/// When there is none of this name, or no such activation.
pub(crate) fn arch(model_type: &str, config: &Value) -> Result<(&'static Arch, Activation)> {
    let unknown = || Error::UnknownArch { found: model_type.into(), known: Arch::hub_names() };
    let first = Arch::of_hub(model_type).next().ok_or_else(unknown)?;
    let mut named = ["hidden_activation", "hidden_act", "activation_function"].iter();
    let Some((key, name)) = named.find_map(|key| Some((*key, config.get(key)?.as_str()?))) else {
        return Ok((first, first.activation));
    };
    let gate = first.activation_of_hf(name).ok_or_else(|| Error::bad(key, Arch::activation_names(), name))?;
    Ok((Arch::of_hub(model_type).find(|arch| arch.activation == gate).unwrap_or(first), gate))
}

/// What is assumed of a folder that does not say it, and why.
pub(crate) fn assumptions(config: &Value, arch: &Arch) -> Vec<String> {
    let mut assumed = Vec::new();
    if arch.bit_linear && config.get("quantization_config").is_none_or(Value::is_null) {
        assumed.push(
            "config.json has no quantization_config: the weights are taken as they are, and inputs of linear layers are rounded to 8 \
             bits as in BitNet b1.58; transformers would compute with floats"
                .to_owned(),
        );
    }
    assumed
}

/// What `config.json` calls what GGUF calls `key`, for messages.
pub(crate) fn name(config: &Value, key: &str) -> String {
    let scaling = if config.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let of_rope = match key.strip_prefix("rope.scaling.") {
        Some("type") => Some(format!("{scaling}.rope_type")),
        Some("original_context_length") => Some("original_max_position_embeddings".to_owned()),
        Some("yarn_log_multiplier") => Some(format!("{scaling}.mscale_all_dim")),
        Some(other) => Some(format!("{scaling}.{}", other.strip_prefix("yarn_").unwrap_or(other))),
        None => None,
    };
    let other = || match key {
        "rope.freq_base" => "rope_theta",
        "rope.dimension_count" => "partial_rotary_factor",
        "attention.sliding_window" => "sliding_window",
        "attention.key_length_mla" => "qk_nope_head_dim",
        "attention.scale" => "query_pre_attn_scalar",
        other => other,
    };
    let names = || Keys::hub_names(key);
    let there = names().find(|name| config.get(name).is_some());
    of_rope.unwrap_or_else(|| there.or_else(|| names().next()).unwrap_or_else(other).to_owned())
}
