//! Translates the `config.json` of a Hugging Face folder to GGUF keys.

mod check;
mod rope;

pub(crate) use check::assumptions;

use crate::config::{config, number};
use crate::keys::Keys;
use crate::keys::names::{COUNTS, FLAGS, NUMBERS};
use crate::{Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use trine_tensor::{File, Metadata};

/// The keys of a Hugging Face folder.
///
/// # Errors
/// When `config.json` is missing, or has settings that are unknown or unsupported.
pub(crate) fn keys(file: &File) -> Result<Keys<'_>> {
    let missing = || Error::NoConfig { path: file.files()[0].with_file_name("config.json") };
    let config = config(file).ok_or_else(missing)?;
    let mut keys = plain(config.clone())?;
    derived(&mut keys, &config)?;
    rope::translate(&mut keys, &config)?;
    check::check(&config, file)?;
    Ok(keys)
}

/// Keys that differ in their names alone.
fn plain(config: Cow<Value>) -> Result<Keys> {
    let missing = || Error::MissingKey { key: "model_type".into(), expected: "the name of an architecture" };
    let name = config["model_type"].as_str().ok_or_else(missing)?;
    let bidirectional = if config["use_bidirectional_attention"] == true { "_bidirectional" } else { "" };
    let (arch, activation) = check::arch(&format!("{name}{bidirectional}"), &config)?;
    let prefix = arch.name().to_owned();
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", prefix.as_str());
    for (hf, gguf) in COUNTS {
        if let Some(value) = config.get(hf).filter(|value| !value.is_null()) {
            let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
            let number = number.ok_or_else(|| Error::bad(*hf, "a count below 2^32", value))?;
            metadata.insert(format!("{prefix}.{gguf}"), number);
        }
    }
    for (hf, gguf) in NUMBERS {
        match number(&config, hf)? {
            Some(value) => _ = metadata.insert(format!("{prefix}.{gguf}"), value as f32),
            // Null turns softcapping off; the default of the key would turn it on.
            None if hf.ends_with("softcapping") && config.get(hf).is_some() => {
                metadata.insert(format!("{prefix}.{gguf}"), 0f32);
            }
            None => {}
        }
    }
    for (hf, gguf) in FLAGS {
        if let Some(value) = config.get(hf).filter(|value| !value.is_null()) {
            let flag = value.as_bool().ok_or_else(|| Error::bad(*hf, "true or false", value))?;
            metadata.insert(format!("{prefix}.{gguf}"), flag);
        }
    }
    Ok(Keys { arch, metadata: Cow::Owned(metadata), config: Some(config), activation, prefix })
}

/// Keys whose values GGUF defines otherwise.
fn derived(keys: &mut Keys, config: &Value) -> Result<()> {
    let count = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    if config["use_sliding_window"] != false
        && let Some(window) = count("sliding_window")
    {
        keys.insert("attention.sliding_window", window);
    }
    if let (Some(nope), Some(rope)) = (count("qk_nope_head_dim"), count("qk_rope_head_dim")) {
        keys.insert("attention.key_length_mla", nope.saturating_add(rope));
    }
    if let (Some(hidden_size), None) = (count("n_embd"), count("n_inner")) {
        keys.insert("feed_forward_length", hidden_size.saturating_mul(4));
    }
    match config["scoring_func"].as_str() {
        Some("softmax") => keys.insert("expert_gating_func", 1u32),
        Some("sigmoid") => keys.insert("expert_gating_func", 2u32),
        Some(other) => return Err(Error::bad("scoring_func", "softmax or sigmoid", other)),
        None if config["model_type"] == "deepseek_v3" => keys.insert("expert_gating_func", 2u32),
        None => {}
    }
    if let Some(limit) = number(config, "swiglu_limit")?.filter(|&limit| limit != 7.0) {
        return Err(Error::bad("swiglu_limit", "7, or none", limit));
    }
    if config["model_type"] != "deepseek_v3" && config["topk_method"] != "group_limited_greedy" {
        let key = keys.name("expert_group_count");
        keys.metadata.to_mut().remove(&key);
    }
    if let Some(scalar) = number(config, "query_pre_attn_scalar")? {
        keys.insert("attention.scale", scalar.powf(-0.5) as f32);
    }
    Ok(())
}
