//! Rotary positions, which transformers writes in two ways: flat with `rope_scaling`, or all in `rope_parameters`.

use crate::config::number;
use crate::keys::Keys;
use crate::{Error, Result};
use serde_json::Value;

/// Numbers of the scaling and their GGUF keys.
static SCALING: [(&str, &str); 6] = [
    ("factor", "rope.scaling.factor"),
    ("low_freq_factor", "rope.scaling.low_freq_factor"),
    ("high_freq_factor", "rope.scaling.high_freq_factor"),
    ("beta_fast", "rope.scaling.yarn_beta_fast"),
    ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ("attention_factor", "rope.scaling.magnitude"),
];

/// # Errors
/// When a value is of the wrong type or out of range.
pub(super) fn translate(keys: &mut Keys, config: &Value) -> Result<()> {
    let section = |name: &str| config.get(name).filter(|section| section.is_object());
    let scaling = section("rope_parameters").or_else(|| section("rope_scaling")).unwrap_or(&Value::Null);
    // Layers with a sliding window may have a base of their own.
    let windowed = scaling.get("sliding_attention");
    let scaling = scaling.get("full_attention").unwrap_or(scaling);
    let head_dim = match keys.count("attention.key_length", 1..=1 << 16)? {
        Some(head_dim) => head_dim,
        None => {
            let hidden_size = keys.required("embedding_length", 1..=1 << 24)?;
            hidden_size / keys.required("attention.head_count", 1..=1 << 16)?
        }
    };
    let first = |places: &[(&Value, &'static str)]| {
        places.iter().find_map(|(place, key)| number(place, key).transpose()).transpose()
    };
    if let Some(base) = first(&[
        (scaling, "rope_theta"),
        (config, "rope_theta"),
        (config, "rotary_emb_base"),
        (config, "global_rope_theta"),
        (config, "default_theta"),
    ])? {
        keys.insert("rope.freq_base", base as f32);
    }
    if let Some(base) = windowed.map(|windowed| number(windowed, "rope_theta")).transpose()?.flatten() {
        keys.insert("rope.freq_base_swa", base as f32);
    }
    for (hf, gguf) in SCALING {
        if let Some(value) = number(scaling, hf)? {
            keys.insert(gguf, value as f32);
        }
    }
    // YaRN as DeepSeek parameterises it (arXiv:2405.04434, section 3.1.4).
    if let Some(all) = number(scaling, "mscale_all_dim")?.filter(|&all| all != 0.0) {
        let factor = number(scaling, "factor")?.unwrap_or(1.0).max(1.0);
        let magnitude = |mscale: f64| 0.1 * mscale * libm::log(factor) + 1.0;
        keys.insert("rope.scaling.yarn_log_multiplier", (0.1 * all) as f32);
        if number(scaling, "attention_factor")?.is_none() {
            let own = number(scaling, "mscale")?.filter(|&own| own != 0.0);
            let magnitude = own.map_or(magnitude(1.0), |own| magnitude(own) / magnitude(all));
            keys.insert("rope.scaling.magnitude", magnitude as f32);
        }
    }
    let fraction = first(&[
        (scaling, "partial_rotary_factor"),
        (config, "partial_rotary_factor"),
        (config, "rotary_pct"),
        (config, "rotary_emb_fraction"),
    ])?;
    if let Some(fraction) = fraction {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::bad("partial_rotary_factor", "a number above 0, up to 1", fraction));
        }
        keys.insert("rope.dimension_count", (head_dim as f64 * fraction) as u32);
    }
    let original = scaling.get("original_max_position_embeddings");
    let original = original.or_else(|| config.get("original_max_position_embeddings")).and_then(Value::as_u64);
    if let Some(original) = original.and_then(|n| u32::try_from(n).ok()) {
        keys.insert("rope.scaling.original_context_length", original);
    }
    let rope_type = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    keys.insert(
        "rope.scaling.type",
        match rope_type.unwrap_or("default") {
            "default" => "none",
            "su" => "longrope",
            other => other,
        },
    );
    if let Some(scale) = number(scaling, "llama_4_scaling_beta")? {
        keys.insert("attention.temperature_scale", scale as f32);
    }
    Ok(())
}
