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

/// Names of what `rope_parameters` has as `rope_theta`, of which each model has one.
pub(crate) static BASES: [&str; 3] = ["rope_theta", "rotary_emb_base", "global_rope_theta"];
pub(crate) static LOCAL_BASES: [&str; 2] = ["rope_local_base_freq", "local_rope_theta"];
pub(crate) static FRACTIONS: [&str; 3] = ["partial_rotary_factor", "rotary_pct", "rotary_emb_fraction"];

/// The number at `path`, or else at the first of the names that the model has; where the file has both, it is a remark that one counts.
///
/// # Errors
/// When it is no number.
fn first(keys: &mut Keys, config: &Config, path: &str, names: &[&str]) -> Result<Option<(String, f64)>> {
    let paths = std::iter::once(path).chain(names.iter().copied().filter(|name| config.is_of_class(name)));
    let mut found: Option<(String, f64)> = None;
    for path in paths {
        match (&found, config.number(path)?) {
            (None, Some(number)) => found = Some((path.to_owned(), number)),
            (Some((first, number)), Some(other)) if config.has(path) && other != *number => {
                keys.remarks
                    .push(format!("config.json: `{path}` = {other} is not applied: `{first}` = {number} counts"));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// # Errors
/// When a value is of the wrong type or out of range.
pub(super) fn translate(keys: &mut Keys, config: &Config) -> Result<()> {
    for section in ["rope_scaling", "rope_parameters"] {
        if let Some(found) = config.peek(section).filter(|found| !found.is_null() && !found.is_object()) {
            return Err(Error::bad(section, "an object", found));
        }
    }
    let section = config.rope_section();
    let all = format!("{section}.full_attention");
    let scaling = if config.peek(&all).is_some() { &*all } else { section };
    let within = |key: &str| format!("{scaling}.{key}");
    let of_kinds = LOCAL_BASES.iter().any(|base| config.is_of_class(base));
    if of_kinds && scaling == "rope_parameters" {
        for path in ["rope_parameters.rope_type", "rope_parameters.type"] {
            if let Some(found) = config.text(path)?.filter(|&found| found != "default") {
                let expected = "full_attention and sliding_attention, each with a rope_type";
                return Err(Error::bad("rope_parameters", expected, format!("one rope_type, {found}")));
            }
        }
    }
    let head_dim = match keys.count("attention.key_length", 1..=1 << 16)? {
        Some(head_dim) => head_dim,
        None => {
            let hidden_size = keys.required("embedding_length", 1..=1 << 24)?;
            hidden_size / keys.required("attention.head_count", 1..=1 << 16)?
        }
    };
    if let Some((path, base)) = first(keys, config, &within("rope_theta"), &BASES)? {
        keys.translate(path, "rope.freq_base", base as f32)?;
    }
    // Layers with a sliding window may have a base of their own, and no scaling.
    let windowed = "rope_parameters.sliding_attention";
    if let Some((path, base)) = first(keys, config, &format!("{windowed}.rope_theta"), &LOCAL_BASES)? {
        keys.translate(path, "rope.freq_base_swa", base as f32)?;
    }
    let scaling_of_windows = format!("{windowed}.rope_type");
    if let Some(found) = config.text(&scaling_of_windows)?.filter(|&found| found != "default") {
        return Err(Error::bad(scaling_of_windows, "default, or none", found));
    }
    for (hf, gguf) in SCALING {
        if let Some(value) = config.number(&within(hf))? {
            keys.translate(within(hf), gguf, value as f32)?;
        }
    }
    // Only YaRN has bounds to cut off.
    let yarn = ["rope_type", "type"].iter().any(|key| config.text(&within(key)).is_ok_and(|kind| kind == Some("yarn")));
    let truncate = config.flag(&within("truncate"))?;
    if let Some(truncate) = truncate.or(yarn.then_some(true)) {
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
    let model_type = config.text("model_type")?.unwrap_or_default();
    let known = |(path, _): &(String, f64)| {
        !path.ends_with("partial_rotary_factor") || is_known(model_type, "partial_rotary_factor")
    };
    if let Some((path, fraction)) = first(keys, config, &fraction, &FRACTIONS)?.filter(known) {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::bad(path, "a number above 0, up to 1", fraction));
        }
        keys.translate(path, "rope.dimension_count", (head_dim as f64 * fraction) as u32)?;
    }
    let original = within("original_max_position_embeddings");
    let originals = ["original_max_position_embeddings", &original];
    // As in transformers, the key beside the section counts, but not where there is one for each kind of layer.
    for path in &originals[usize::from(of_kinds)..] {
        if let Some(original) = config.count(path)? {
            keys.translate(*path, "rope.scaling.original_context_length", original)?;
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
