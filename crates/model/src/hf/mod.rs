//! Translates the `config.json` of a Hugging Face folder to GGUF keys.

mod check;
mod defaults;
mod rope;

pub use check::SETTINGS;
pub(crate) use check::{PARTS, assumptions};
pub(crate) use defaults::{Class, explain};
pub(crate) use rope::{BASES, FRACTIONS, LOCAL_BASES};

use crate::config::Config;
use crate::keys::Keys;
use crate::keys::names::{COUNTS, FLAGS, NUMBERS, is_known};
use crate::{Error, Result};
use trine_tensor::File;

/// The keys of a Hugging Face folder.
///
/// # Errors
/// When `config.json` is missing, or has settings that are unknown or unsupported.
pub(crate) fn keys(file: &File) -> Result<Keys<'_>> {
    let missing = || Error::NoConfig { path: file.files()[0].with_file_name("config.json") };
    let config = Config::of(file).ok_or_else(missing)?;
    let (arch, activation) = check::arch(&config)?;
    let mut keys = Keys::of_config(arch, activation, config.clone());
    plain(&mut keys, &config)?;
    derived(&mut keys, &config)?;
    rope::translate(&mut keys, &config)?;
    check::check(&config, file, arch)?;
    Ok(keys)
}

/// Keys that differ in their names alone.
fn plain(keys: &mut Keys, config: &Config) -> Result<()> {
    let model_type = config.text("model_type")?.unwrap_or_default();
    fn of<'a>(
        table: &'a [(&'a str, &'static str)],
        model_type: &str,
    ) -> impl Iterator<Item = &'a (&'a str, &'static str)> {
        table.iter().filter(move |(hf, _)| is_known(model_type, hf))
    }
    // Classes without this key have as many heads of keys as of queries.
    let is_read = |hf: &str| hf != "num_key_value_heads" || config.is_of_class(hf);
    for (hf, gguf) in of(COUNTS, model_type).filter(|(hf, _)| is_read(hf)) {
        if let Some(value) = config.count(hf)? {
            keys.translate(*hf, gguf, value)?;
        }
    }
    for (hf, gguf) in of(NUMBERS, model_type) {
        match config.number(hf)? {
            Some(value) => keys.translate(*hf, gguf, value as f32)?,
            // Null turns softcapping off; the default of the key would turn it on.
            None if hf.ends_with("softcapping") && config.peek(hf).is_some() => keys.translate(*hf, gguf, 0f32)?,
            None => {}
        }
    }
    for (hf, gguf) in of(FLAGS, model_type) {
        if let Some(value) = config.flag(hf)? {
            keys.translate(*hf, gguf, value)?;
        }
    }
    Ok(())
}

/// Keys whose values GGUF defines otherwise.
fn derived(keys: &mut Keys, config: &Config) -> Result<()> {
    let off = config.is_of_class("use_sliding_window") && config.flag("use_sliding_window")? == Some(false);
    if config.is_of_class("sliding_window")
        && let Some(window) = config.count("sliding_window")?
        && !off
    {
        keys.translate("sliding_window", "attention.sliding_window", window)?;
    }
    if let (Some(nope), Some(rope)) = (config.count("qk_nope_head_dim")?, config.count("qk_rope_head_dim")?) {
        keys.translate("qk_nope_head_dim", "attention.key_length_mla", nope.saturating_add(rope))?;
    }
    if let (Some(hidden_size), None) = (config.count("n_embd")?, config.count("n_inner")?) {
        keys.translate("n_inner", "feed_forward_length", hidden_size.saturating_mul(4))?;
    }
    let is_v3 = config.text("model_type")? == Some("deepseek_v3");
    let gating = match config.text("scoring_func")? {
        Some("softmax") => Some(1u32),
        Some("sigmoid") => Some(2),
        Some(other) => return Err(Error::bad("scoring_func", "softmax or sigmoid", other)),
        None => is_v3.then_some(2),
    };
    if let Some(gating) = gating {
        keys.translate("scoring_func", "expert_gating_func", gating)?;
    }
    if let Some(limit) = config.number("swiglu_limit")?.filter(|&limit| limit != 7.0) {
        return Err(Error::bad("swiglu_limit", "7, or none", limit));
    }
    if !is_v3 && config.text("topk_method")? != Some("group_limited_greedy") {
        keys.remove("expert_group_count");
    }
    if let Some(scalar) = config.number("query_pre_attn_scalar")? {
        keys.translate("query_pre_attn_scalar", "attention.scale", scalar.powf(-0.5) as f32)?;
    }
    Ok(())
}
