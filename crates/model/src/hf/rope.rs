//! Rotary positions, which transformers writes in two ways: flat with `rope_scaling`, or all in `rope_parameters`.

use crate::config::Config;
use crate::keys::Keys;
use crate::keys::names::is_known;
use crate::{Error, Result};

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
pub(super) fn translate(keys: &mut Keys, config: &Config) -> Result<()> {
    let section = config.rope_section();
    let all = format!("{section}.full_attention");
    // Layers with a sliding window may have a base of their own.
    let (scaling, windowed) = if config.peek(&all).is_some() {
        (&*all, Some(format!("{section}.sliding_attention.rope_theta")))
    } else {
        (section, None)
    };
    let within = |key: &str| format!("{scaling}.{key}");
    let head_dim = match keys.count("attention.key_length", 1..=1 << 16)? {
        Some(head_dim) => head_dim,
        None => {
            let hidden_size = keys.required("embedding_length", 1..=1 << 24)?;
            hidden_size / keys.required("attention.head_count", 1..=1 << 16)?
        }
    };
    // The first of several keys that is there.
    let first = |paths: &[&str]| -> Result<Option<(String, f64)>> {
        let mut found = paths.iter().map(|path| Ok(config.number(path)?.map(|number| ((*path).to_owned(), number))));
        found.find_map(Result::transpose).transpose()
    };
    let base = within("rope_theta");
    let bases = [&*base, "rope_theta", "rotary_emb_base", "global_rope_theta", "default_theta"];
    if let Some((path, base)) = first(&bases)? {
        keys.translate(path, "rope.freq_base", base as f32)?;
    }
    if let Some(path) = windowed
        && let Some(base) = config.number(&path)?
    {
        keys.translate(path, "rope.freq_base_swa", base as f32)?;
    }
    for (hf, gguf) in SCALING {
        if let Some(value) = config.number(&within(hf))? {
            keys.translate(within(hf), gguf, value as f32)?;
        }
    }
    if let Some(truncate) = config.flag(&within("truncate"))? {
        keys.translate(within("truncate"), "rope.scaling.truncate", truncate)?;
    }
    // YaRN as DeepSeek parameterises it (arXiv:2405.04434, section 3.1.4).
    if let Some(all) = config.number(&within("mscale_all_dim"))?.filter(|&all| all != 0.0) {
        let factor = config.number(&within("factor"))?.unwrap_or(1.0).max(1.0);
        let magnitude = |mscale: f64| 0.1 * mscale * libm::log(factor) + 1.0;
        keys.translate(within("mscale_all_dim"), "rope.scaling.yarn_log_multiplier", (0.1 * all) as f32)?;
        if config.number(&within("attention_factor"))?.is_none() {
            let own = config.number(&within("mscale"))?.filter(|&own| own != 0.0);
            let magnitude = own.map_or(magnitude(1.0), |own| magnitude(own) / magnitude(all));
            keys.translate(within("mscale"), "rope.scaling.magnitude", magnitude as f32)?;
        }
    }
    let fraction = within("partial_rotary_factor");
    let fractions = [&*fraction, "partial_rotary_factor", "rotary_pct", "rotary_emb_fraction"];
    let model_type = config.text("model_type")?.unwrap_or_default();
    let known = |(path, _): &(String, f64)| {
        !path.ends_with("partial_rotary_factor") || is_known(model_type, "partial_rotary_factor")
    };
    if let Some((path, fraction)) = first(&fractions)?.filter(known) {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::bad(path, "a number above 0, up to 1", fraction));
        }
        keys.translate(path, "rope.dimension_count", (head_dim as f64 * fraction) as u32)?;
    }
    let original = within("original_max_position_embeddings");
    for path in [&*original, "original_max_position_embeddings"] {
        if let Some(original) = config.count(path)? {
            keys.translate(path, "rope.scaling.original_context_length", original)?;
            break;
        }
    }
    let path = within("rope_type");
    let (path, rope_type) = match config.text(&path)? {
        Some(rope_type) => (path, Some(rope_type)),
        None => (within("type"), config.text(&within("type"))?),
    };
    let rope_type = match rope_type.unwrap_or("default") {
        "default" => "none",
        "su" => "longrope",
        other => other,
    };
    keys.translate(path, "rope.scaling.type", rope_type)?;
    if let Some(scale) = config.number(&within("llama_4_scaling_beta"))? {
        keys.translate(within("llama_4_scaling_beta"), "attention.temperature_scale", scale as f32)?;
    }
    Ok(())
}
