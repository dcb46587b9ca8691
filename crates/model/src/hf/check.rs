//! Settings of `config.json` that nothing computes here, and settings that its tensors contradict.

use crate::config::Config;
use crate::file_tensors::is_weight;
use crate::keys::names::{is_known, is_of_one};
use crate::{Arch, Error, Result};
use serde_json::Value;
use trine_backend::Activation;
use trine_tensor::File;

/// A key that changes what is computed, the supported values in words, and whether a value is one of them.
pub type Setting = (&'static str, &'static str, fn(&Value) -> bool);

/// Keys of `config.json` that must have a value that changes nothing.
pub static SETTINGS: &[Setting] = &[
    ("scale_attn_by_inverse_layer_idx", "false, or none", |value| value == false),
    ("scale_attn_weights", "true, or none", |value| value == true),
    ("decoder_sparse_step", "1, or none: every layer has experts", |value| value == 1),
    ("mlp_only_layers", "an empty list: every layer has experts", |value| value.as_array().is_some_and(Vec::is_empty)),
    ("moe_layer_freq", "1, or none: every layer has experts", |value| value == 1),
    ("clip_qkv", "none", |_| false),
    ("alibi", "false, or none", |value| value == false),
    ("is_decoder", "false, or none", |value| value == false),
    ("is_causal", "true, or none", |value| value == true),
    ("add_cross_attention", "false, or none", |value| value == false),
    ("causal", "false, or none", |value| value == false),
    ("prenorm", "false, or none", |value| value == false),
    ("parallel_block", "false, or none", |value| value == false),
    ("rotary_emb_interleaved", "false, or none", |value| value == false),
    ("rotary_scaling_factor", "none", |_| false),
    ("rotary_emb_scale_base", "none", |_| false),
    ("moe_every_n_layers", "0, or none: no layer has experts", |value| value.as_i64().is_some_and(|n| n <= 0)),
    ("use_rms_norm", "false, or none", |value| value == false),
    ("swiglu_alpha", "1.702, or none", |value| value == 1.702),
    ("position_embedding_type", "no relative positions", |value| {
        value.as_str().is_some_and(|kind| !kind.starts_with("relative"))
    }),
    ("layer_types", "a list of full_attention and sliding_attention", |value| {
        let known = |kind: &Value| matches!(kind.as_str(), Some("full_attention" | "sliding_attention"));
        value.as_array().is_some_and(|types| types.iter().all(known))
    }),
];

/// Keys that say whether there are tensors, and parts of the names of these.
pub(crate) static PARTS: &[(&str, &[&str])] = &[
    (
        "attention_bias",
        &[
            "self_attn.q_proj.bias",
            "self_attn.q_a_proj.bias",
            "self_attn.kv_a_proj_with_mqa.bias",
            "attention.query_key_value.bias",
            "attn.Wqkv.bias",
            "attn.Wo.bias",
        ],
    ),
    ("qkv_bias", &["self_attn.q_proj.bias"]),
    ("use_qkv_bias", &["self_attn.q_proj.bias"]),
    ("mlp_bias", &["mlp.up_proj.bias", "mlp.Wi.bias", "mlp.Wo.bias"]),
    ("norm_bias", &["norm.bias"]),
    ("qkv_proj_bias", &["attn.Wqkv.bias", "attn.out_proj.bias"]),
    ("mlp_fc1_bias", &["mlp.fc1.bias", "mlp.fc11.bias", "mlp.fc12.bias"]),
    ("mlp_fc2_bias", &["mlp.fc2.bias"]),
    ("use_bias", &["self_attn.q_proj.bias", "mlp.c_fc.bias"]),
    ("use_qk_norm", &["self_attn.q_norm"]),
    ("qk_layernorm", &["self_attn.q_layernorm"]),
];

/// Checks that every setting is supported and that the tensors fit it.
///
/// # Errors
/// When one is not, or they do not.
pub(super) fn check(config: &Config, file: &File, arch: &Arch) -> Result<()> {
    // An encoder is not causal, whatever its configuration says.
    let applies = |key: &str| !(arch.encoder && key == "is_causal");
    let model_type = config.text("model_type")?.unwrap_or_default();
    for (key, expected, supported) in SETTINGS.iter().filter(|(key, ..)| is_known(model_type, key)) {
        if let Some(value) = config.get(key).filter(|value| applies(key) && !supported(value)) {
            return Err(Error::bad(*key, *expected, value));
        }
    }
    for (key, parts) in PARTS.iter().filter(|(key, _)| is_known(model_type, key)) {
        let mut tensors = file.names().filter(|name| is_weight(file, name));
        let tensor = tensors.find(|name| parts.iter().any(|part| name.contains(part)));
        let bias = key.ends_with("bias");
        // ModernBERT has no biases unless it says so; in others, old folders with biases do not have the keys.
        let default = (model_type == "modernbert").then_some(false);
        let said = config.flag(key)?.or(default);
        let is_exact = model_type == "modernbert" || is_of_one(key);
        if is_exact
            && said == Some(true)
            && let Some(name) = lacking(file, parts)
        {
            return Err(Error::bad(*key, format!("false, since there is no tensor `{name}`"), true));
        }
        match (said, tensor) {
            (Some(false), Some(name)) => {
                return Err(Error::bad(*key, format!("true, since there is a tensor `{name}`"), false));
            }
            // Names of biases differ between architectures.
            (Some(true), None) if !bias || !file.names().any(|name| name.ends_with("bias")) => {
                let kind = if bias { "bias" } else { "norm of queries" };
                return Err(Error::bad(*key, format!("false, since no tensor is a {kind}"), true));
            }
            _ => {}
        }
    }
    if config.text("model_type")? == Some("stablelm")
        && config.flag("use_parallel_residual")? == Some(true)
        && let Some(name) = file.names().find(|name| name.contains("post_attention_layernorm"))
    {
        return Err(Error::bad("use_parallel_residual", format!("false, since there is a tensor `{name}`"), true));
    }
    Ok(())
}

/// A bias with one of these ends that a weight of the same name lacks.
fn lacking(file: &File, ends: &[&str]) -> Option<String> {
    let weights = ends.iter().filter_map(|end| Some(format!("{}weight", end.strip_suffix("bias")?)));
    let weights: Vec<String> = weights.collect();
    let of_one = file.names().filter(|name| weights.iter().any(|end| name.ends_with(end.as_str())));
    let mut biases = of_one.filter_map(|name| Some(format!("{}bias", name.strip_suffix("weight")?)));
    biases.find(|bias| file.view(bias).is_err())
}

/// The architecture of a folder, and its activation.
///
/// # Errors
/// When either is unknown.
pub(super) fn arch(config: &Config) -> Result<(&'static Arch, Activation)> {
    let missing = || Error::MissingKey { key: "model_type".into(), expected: "the name of an architecture" };
    let name = config.text("model_type")?.ok_or_else(missing)?;
    let unknown = || Error::UnknownArch { found: name.to_owned(), known: Arch::hf_list() };
    let causal = Arch::of_hf(name).next().ok_or_else(unknown)?;
    const BIDIRECTIONAL: &str = "use_bidirectional_attention";
    let (model_type, first) = match config.flag(BIDIRECTIONAL)? {
        Some(true) => {
            let model_type = format!("{name}_bidirectional");
            let refused = || Error::bad(BIDIRECTIONAL, format!("false, or none, in {name}"), true);
            let first = Arch::of_hf(&model_type).next().ok_or_else(refused)?;
            (model_type, first)
        }
        _ => (name.to_owned(), causal),
    };
    // Gemma 1 had the key of its successors for a time, which transformers does not read any more.
    let keys: &[&str] = match name {
        "gemma" => &["hidden_act", "hidden_activation"],
        _ => &["hidden_activation", "hidden_act", "activation_function"],
    };
    let mut named = None;
    for key in keys {
        named = named.or(config.text(key)?.map(|name| (*key, name)));
    }
    let Some((key, name)) = named else { return Ok((first, first.activation)) };
    let activation = first.activation_of_hf(name).ok_or_else(|| Error::bad(key, Arch::activation_list(), name))?;
    Ok((Arch::of_hf(&model_type).find(|arch| arch.activation == activation).unwrap_or(first), activation))
}

/// Warnings about settings that a folder leaves open.
pub(crate) fn assumptions(config: &Config, arch: &Arch) -> Vec<String> {
    let mut assumed = Vec::new();
    if arch.bit_linear && config.get("quantization_config").is_none() {
        assumed.push(
            "config.json has no quantization_config: the weights are taken as they are, and inputs of linear layers are rounded to 8 \
             bits as in BitNet b1.58; transformers would compute with floats"
                .to_owned(),
        );
    }
    assumed
}
