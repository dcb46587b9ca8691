//! Frequencies of rotary positions under every known scaling.

use crate::keys::Keys;
use crate::{Error, Result};
use std::f64::consts::PI;
use trine_backend::{Rope, RopeLayout, Temperature};
use trine_tensor::{File, FileFormat};

/// The rotations of a model.
pub(super) struct Ropes {
    /// `rope.freq_base`; 0 where positions are learned.
    pub base: f32,
    /// Of all layers, or of global ones and of those with a window; empty where positions are learned.
    pub all: Vec<Rope>,
    /// `(length, rotations)` for contexts up to a length (LongRoPE, arXiv:2402.13753).
    pub short: Option<(usize, Vec<Rope>)>,
    /// Of queries, where it differs from that of keys.
    pub queries: Option<Rope>,
    /// Factor on attention scores, beside the usual one.
    pub score_scale: f32,
}

/// The rotations of a model with heads of `head_dim` elements.
///
/// # Errors
/// When a key is missing, of the wrong type or out of range.
pub(super) fn ropes(keys: &Keys, file: &File, head_dim: usize) -> Result<Ropes> {
    if keys.arch.learned_positions {
        return Ok(Ropes { base: 0.0, all: Vec::new(), short: None, queries: None, score_scale: 1.0 });
    }
    let own = keys.count("rope.dimension_count", 2..=1 << 16)?;
    let rope_dim = own.unwrap_or(head_dim);
    if rope_dim > head_dim || rope_dim % 2 != 0 {
        // A key that is not there is not wrong.
        let key = if own.is_some() { "rope.dimension_count" } else { "attention.key_length" };
        return Err(Error::bad(keys.file_key(key), format!("an even number up to {head_dim}"), rope_dim));
    }
    keys.check_same(&["rope.dimension_count_swa"], rope_dim)?;
    let gguf = matches!(file.format(), FileFormat::Gguf { .. });
    let of_mla = keys.config.as_ref().filter(|_| keys.arch.mla);
    let pairs: RopeLayout = match of_mla.map_or(Ok(None), |config| config.flag("rope_interleave"))? {
        _ if gguf => keys.arch.pairs,
        Some(false) => RopeLayout::Halves,
        _ => keys.arch.hf_pairs,
    };
    let rope =
        |frequencies, magnitude| check(keys, Rope { frequencies, magnitude, temperature: None, pairs, head_dim });
    let base = keys.float("rope.freq_base", 1.0)?.unwrap_or(10000.0);
    let ScaledRope { frequencies, magnitude, score_scale } = scaled(keys, base as f64, powers(base, rope_dim))?;
    let divided = |list: Option<Vec<f32>>, name: &str| match list {
        None => Ok(frequencies.clone()),
        Some(list) if list.len() == frequencies.len() => {
            Ok(frequencies.iter().zip(list).map(|(frequency, divisor)| frequency / divisor as f64).collect())
        }
        Some(list) => {
            let (expected, found) = (vec![frequencies.len()], vec![list.len()]);
            Err(Error::Shape { tensor: name.to_owned(), expected, found })
        }
    };
    let tensor =
        |name: &str| if file.contains(name) { Ok(Some(file.view(name)?.decode())) } else { Ok::<_, Error>(None) };
    // GGUF files store the divisors of Llama 3.1 and of longrope as tensors.
    let list = |key: &str| {
        let config = keys.config.as_ref().filter(|_| matches!(keys.text("rope.scaling.type"), Ok(Some("longrope"))))?;
        let list = config.get(&format!("{}.{key}", config.rope_section()))?.as_array()?;
        Some(list.iter().map(|x| x.as_f64().unwrap_or(f64::NAN) as f32).collect::<Vec<f32>>())
    };
    let of = |name: &str, key: &str| Ok::<_, Error>(if gguf { tensor(name)? } else { list(key) });
    let long = of("rope_factors_long.weight", "long_factor")?;
    let short = of("rope_factors_short.weight", "short_factor")?;
    if gguf && long.is_none() && keys.text("rope.scaling.type")? == Some("longrope") {
        let expected = "another type, since there is no tensor rope_factors_long.weight";
        return Err(Error::bad(keys.file_key("rope.scaling.type"), expected, "longrope"));
    }
    let mut all = match long {
        Some(long) => vec![rope(divided(Some(long), "rope_factors_long.weight")?, magnitude)?],
        None => vec![rope(divided(tensor("rope_freqs.weight")?, "rope_freqs.weight")?, magnitude)?],
    };
    let original = keys.count("rope.scaling.original_context_length", 1..=1 << 30)?;
    let original_or_all = if gguf { Some(original.map_or_else(|| context_length(keys), Ok)?) } else { original };
    let short = match (short, original_or_all) {
        (Some(short), Some(original)) => {
            Some((original, vec![rope(divided(Some(short), "rope_factors_short.weight")?, magnitude)?]))
        }
        _ => None,
    };
    // Layers with a window may have another base, unscaled.
    if let Some(base) = keys.float("rope.freq_base_swa", 1.0)? {
        let magnitude = keys.float("rope.scaling.attn_factor", 0.0)?.unwrap_or(1.0);
        all.push(rope(powers(base, rope_dim), magnitude.into())?);
    }
    let queries = match keys.float("attention.temperature_scale", 0.0)?.filter(|&scale| scale != 0.0) {
        None => None,
        // The temperature is part of the rotation, so that it would miss elements without rope.
        Some(_) if rope_dim < head_dim => {
            let expected = format!("{head_dim}, as there is an attention temperature");
            return Err(Error::bad(keys.file_key("rope.dimension_count"), expected, rope_dim));
        }
        Some(scale) => {
            let length = original.map_or_else(|| context_length(keys), Ok)?;
            Some(Rope { temperature: Some(Temperature { scale: scale.into(), length }), ..all[0].clone() })
        }
    };
    Ok(Ropes { base, all, short, queries, score_scale })
}

/// Positions that the model was trained for.
///
/// # Errors
/// When the key is missing or out of range.
pub(super) fn context_length(keys: &Keys) -> Result<usize> {
    keys.required("context_length", 1..=1 << 30)
}

fn powers(base: f32, rope_dim: usize) -> Vec<f64> {
    (0..rope_dim / 2).map(|i| libm::pow(base as f64, -((2 * i) as f64) / rope_dim as f64)).collect()
}

struct ScaledRope {
    frequencies: Vec<f64>,
    magnitude: f64,
    score_scale: f32,
}

/// Frequencies scaled for longer contexts.
fn scaled(keys: &Keys, base: f64, mut frequencies: Vec<f64>) -> Result<ScaledRope> {
    let rope_dim = 2 * frequencies.len();
    let (mut magnitude, mut score_scale) = (1.0, 1.0);
    let newer = keys.float("rope.scaling.factor", 0.0)?;
    // The name of the key in the first GGUF files.
    let factor = newer.map_or_else(|| keys.float("rope.scale_linear", 0.0), |factor| Ok(Some(factor)))?.map(f64::from);
    if factor == Some(0.0) {
        return Err(Error::bad(keys.file_key("rope.scaling.factor"), "a number above 0", 0));
    }
    let named = keys.text("rope.scaling.type")?;
    if keys.config.is_some() && factor.is_none() && matches!(named, Some("linear" | "llama3" | "yarn")) {
        return Err(Error::MissingKey { key: keys.file_key("rope.scaling.factor"), expected: "a number" });
    }
    let factor = factor.unwrap_or(1.0);
    if keys.arch.mla && keys.config.is_none() {
        // llama.cpp scales scores by them under any scaling.
        let scales = keys.float("rope.scaling.yarn_log_multiplier", 0.0)?.is_some_and(|multiplier| multiplier > 0.0);
        if scales && factor != 1.0 && named != Some("yarn") {
            let expected = "yarn, as there is a key `rope.scaling.yarn_log_multiplier`";
            return Err(Error::bad(keys.file_key("rope.scaling.type"), expected, named.unwrap_or("none")));
        }
        if let Some(found) = keys.float("rope.scaling.attn_factor", 0.0)?.filter(|&found| found != 1.0) {
            return Err(Error::bad(
                keys.file_key("rope.scaling.attn_factor"),
                "1, or none, in this architecture",
                found,
            ));
        }
    }
    // Whether transformers scales the rotations of windows, too, depends on the place of the keys.
    let scaled = named.is_some_and(|named| named != "none");
    if keys.config.is_some() && keys.arch.encoder && scaled {
        let expected = "no scaling, in an encoder";
        return Err(Error::bad(keys.file_key("rope.scaling.type"), expected, named.unwrap_or_default()));
    }
    let number = |key: &str, default: f64| keys.float(key, 0.0).map(|value| value.map_or(default, f64::from));
    let original = || {
        let original = keys.count("rope.scaling.original_context_length", 1..=1 << 30)?;
        original.map_or_else(|| keys.required("context_length", 1..=1 << 30), Ok).map(|n| n as f64)
    };
    let scaling = match named {
        // In GGUF, the divisors of longrope are tensors, and llama.cpp knows nothing else of it.
        Some("longrope") if keys.config.is_none() => "linear",
        Some(named) => named,
        None if factor == 1.0 => "none",
        None => "linear",
    };
    match scaling {
        // Some files have the magnitude of longrope without its type.
        "none" => magnitude = number("rope.scaling.attn_factor", 1.0)?,
        "linear" => {
            frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            magnitude = number("rope.scaling.attn_factor", 1.0)?;
        }
        // Llama 3.1: low frequencies are divided, high ones kept, those between interpolated.
        "llama3" => {
            let (low, high) =
                (number("rope.scaling.low_freq_factor", 1.0)?, number("rope.scaling.high_freq_factor", 4.0)?);
            if low >= high {
                return Err(Error::bad(
                    keys.file_key("rope.scaling.high_freq_factor"),
                    format!("more than {low}"),
                    high,
                ));
            }
            let original = original()?;
            for frequency in &mut frequencies {
                let rotations = original * *frequency / (2.0 * PI);
                let blend = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
                *frequency *= (1.0 - blend) / factor + blend;
            }
        }
        // arXiv:2309.00071.
        "yarn" => {
            let original = original()?;
            let pair = |rotations: f64| {
                rope_dim as f64 * libm::log(original / (rotations * 2.0 * PI)) / (2.0 * libm::log(base))
            };
            let (first, last) =
                (pair(number("rope.scaling.yarn_beta_fast", 32.0)?), pair(number("rope.scaling.yarn_beta_slow", 1.0)?));
            let whole = keys.flag("rope.scaling.truncate")?.unwrap_or(true);
            let (first, last) = if whole { (first.floor(), last.ceil()) } else { (first, last) };
            let (first, last) = (first.max(0.0), last.min(rope_dim as f64 - 1.0));
            let last = match keys.config {
                Some(_) if last != first => last,
                // llama.cpp has it for bounds in the wrong order as well.
                _ => last.max(first + 0.001),
            };
            for (i, frequency) in frequencies.iter_mut().enumerate() {
                let stretch = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                *frequency *= stretch / factor + 1.0 - stretch;
            }
            let usual = if factor > 1.0 { 1.0 + 0.1 * libm::log(factor) } else { 1.0 };
            // GGUF multiplies the usual magnitude, Hugging Face replaces it.
            magnitude = number("rope.scaling.magnitude", number("rope.scaling.attn_factor", 1.0)? * usual)?;
            let multiplier = number("rope.scaling.yarn_log_multiplier", 0.0)?;
            if multiplier > 0.0 && !keys.arch.mla {
                let all = if factor > 1.0 { 1.0 + 0.1 * multiplier * libm::log(factor) } else { 1.0 };
                magnitude = number("rope.scaling.magnitude", number("rope.scaling.attn_factor", 1.0)? * usual / all)?;
            } else if multiplier > 0.0 {
                // DeepSeek scales all scores by it, those of elements without rope included.
                score_scale = (1.0 + multiplier * libm::log(factor)).powi(2) as f32;
                magnitude = number("rope.scaling.magnitude", 1.0)?;
            }
        }
        // arXiv:2402.13753; the divisors are lists.
        "longrope" => {
            let original = original()?;
            let factor = newer.map_or(context_length(keys)? as f64 / original, f64::from);
            let usual = if factor > 1.0 { (1.0 + libm::log(factor) / libm::log(original)).sqrt() } else { 1.0 };
            magnitude = number("rope.scaling.magnitude", usual)?;
        }
        other => {
            return Err(Error::bad(
                keys.file_key("rope.scaling.type"),
                "none, linear, llama3, yarn or longrope",
                other,
            ));
        }
    }
    Ok(ScaledRope { frequencies, magnitude, score_scale })
}

fn check(keys: &Keys, rope: Rope) -> Result<Rope> {
    let Rope { frequencies, magnitude, .. } = &rope;
    if magnitude.is_finite() && *magnitude > 0.0 && frequencies.iter().all(|frequency| frequency.is_finite()) {
        return Ok(rope);
    }
    let expected = "a scaling whose parameters give finite rotations";
    Err(Error::bad(keys.file_key("rope"), expected, format!("magnitude {magnitude}, frequencies {frequencies:?}")))
}
