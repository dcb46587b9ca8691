//! What a GGUF file of a model says beside its weights: keys, and the divisors of rotations, which GGUF stores as tensors.

use crate::hf;
use crate::keys::Keys;
use crate::{Error, Result, Spec};
use std::ops::Range;
use trine_backend::RopeLayout;
use trine_tensor::format::F32;
use trine_tensor::{Array, File, FileFormat, Metadata, View};

/// The linear layers of BitNet.
pub(crate) const BIT_LINEAR: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// The keys of a model and its tensors that are no weights, as a GGUF file has them. Those of a GGUF file are its own, without the keys of
/// its tokenizer in a folder.
///
/// # Errors
/// When GGUF has no key for something that a folder says.
pub fn as_gguf(file: &File, spec: &Spec) -> Result<(Metadata, Vec<View>)> {
    if matches!(file.format(), FileFormat::Gguf { .. }) {
        let mut metadata = file.metadata().clone();
        for key in ["split.no", "split.count", "split.tensors.count"] {
            metadata.remove(key);
        }
        return Ok((metadata, file.tensors().filter(|view| view.name.starts_with("rope_f")).cloned().collect()));
    }
    let mut keys = hf::keys(file)?;
    check(&keys, spec)?;
    for (key, value) in spec.sizes.metadata().iter() {
        keys.metadata.to_mut().insert(key, value.clone());
    }
    match spec.ropes.first() {
        Some(rope) => keys.insert("rope.dimension_count", 2 * rope.frequencies.len() as u32),
        None => ["rope.dimension_count", "rope.freq_base", "rope.scaling.type"].iter().for_each(|key| keys.remove(key)),
    }
    if let Some(mla) = spec.mla {
        // Attention reads the compressed vectors.
        keys.insert("attention.value_length", mla.kv_lora_rank as u32);
    }
    if let Some(experts) = &spec.experts {
        keys.insert("expert_feed_forward_length", experts.intermediate_size as u32);
    }
    if !spec.causal {
        keys.insert("attention.causal", false);
    }
    windows(&mut keys, spec);
    let tensors = rotations(&mut keys, spec)?;
    Ok((keys.metadata.into_owned(), tensors))
}

/// Whether the elements of heads of this file are in halves where those of a GGUF file alternate.
pub fn is_in_halves(file: &File, spec: &Spec) -> bool {
    let folder = matches!(file.format(), FileFormat::Safetensors);
    let halves = spec.ropes.first().is_some_and(|rope| rope.pairs == RopeLayout::Halves);
    folder && spec.arch.pairs == RopeLayout::Adjacent && halves
}

/// Orders the rows of queries and keys so that the two elements that rope rotates together are neighbours, as [`is_in_halves`] asks for. A row
/// has `len` elements of `rows`.
pub fn interleave<T: Copy>(name: &str, rows: &mut [T], len: usize, spec: &Spec) {
    reorder(name, rows, len, spec, |i, half| i % 2 * half + i / 2);
}

/// The inverse of [`interleave`].
pub(crate) fn deinterleave<T: Copy>(name: &str, rows: &mut [T], len: usize, spec: &Spec) {
    reorder(name, rows, len, spec, |i, half| i % half * 2 + i / half);
}

/// Puts row `from(i, half)` of the rotated rows of each head, which have two halves, at `i`.
fn reorder<T: Copy>(name: &str, rows: &mut [T], len: usize, spec: &Spec, from: impl Fn(usize, usize) -> usize) {
    let Some((head_dim, rotated)) = rotated(name, spec) else { return };
    let half = rotated.len() / 2;
    for head in rows.chunks_exact_mut(head_dim * len) {
        let head = &mut head[rotated.start * len..rotated.end * len];
        let old = head.to_vec();
        for (i, row) in head.chunks_exact_mut(len).enumerate() {
            row.copy_from_slice(&old[from(i, half) * len..][..len]);
        }
    }
}

/// Of a tensor that makes or scales the elements that rope rotates, the rows of a head, and those that are rotated.
pub(crate) fn rotated(name: &str, spec: &Spec) -> Option<(usize, Range<usize>)> {
    let rope_dim = 2 * spec.ropes.first()?.frequencies.len();
    match (name.rsplit('.').nth(1)?, spec.mla) {
        ("attn_q" | "attn_k" | "attn_q_norm" | "attn_k_norm", None) => Some((spec.head_dim, 0..rope_dim)),
        // Positions come after what has none.
        ("attn_q" | "attn_q_b", Some(mla)) => {
            Some((mla.qk_nope_head_dim + rope_dim, mla.qk_nope_head_dim..mla.qk_nope_head_dim + rope_dim))
        }
        ("attn_kv_a_mqa", Some(mla)) => {
            Some((mla.kv_lora_rank + rope_dim, mla.kv_lora_rank..mla.kv_lora_rank + rope_dim))
        }
        _ => None,
    }
}

/// Checks that the architecture implies what GGUF has no key for.
fn check(keys: &Keys, spec: &Spec) -> Result<()> {
    let arch = spec.arch;
    if spec.activation != arch.activation {
        let expected = format!("{:?}, as GGUF files of {} have it", arch.activation, arch.name());
        return Err(Error::bad("hidden_act", expected, format!("{:?}", spec.activation)));
    }
    if let Some(bitnet) = spec.quant_method.bitnet() {
        let layers = (0..spec.n_layers).flat_map(|i| BIT_LINEAR.iter().map(move |part| format!("blk.{i}.{part}.")));
        let own = |name: &str| arch.hf_name(name).is_some_and(|name| bitnet.converts(name.trim_end_matches('.')));
        if bitnet.norm_eps.is_some() || own("output.") || !layers.into_iter().all(|layer| own(&layer)) {
            let expected = "linear layers of one kind without norms, as GGUF has no keys for others";
            return Err(Error::bad("quantization_config", expected, "modules_to_not_convert or use_rms_norm"));
        }
    }
    if let Some(mla) = spec.mla.filter(|mla| mla.norm_eps != spec.eps) {
        let expected = format!("{}, as the norms of compressed vectors have", mla.norm_eps);
        return Err(Error::bad("rms_norm_eps", expected, spec.eps));
    }
    let every = |n: usize, layer: usize| n > 0 && (layer + 1).is_multiple_of(n);
    let windowed = |layer: usize| spec.layer_kinds[layer].window.is_some();
    if arch.learned_positions {
        return Ok(());
    }
    let rotary = |layer: usize| !every(arch.nope_every, layer) && (windowed(layer) || !arch.global_nope);
    if let Some(layer) = (0..spec.n_layers).find(|&layer| rotary(layer) != spec.layer_kinds[layer].rope.is_some()) {
        let expected = format!("rope in the layers in which GGUF files of {} have it", arch.name());
        return Err(Error::bad(keys.file_key("no_rope_layers"), expected, format!("another choice in layer {layer}")));
    }
    Ok(())
}

/// Which layers have a sliding window.
fn windows(keys: &mut Keys, spec: &Spec) {
    let of = |key: &str| keys.name(key);
    let [window, pattern] = ["attention.sliding_window", "attention.sliding_window_pattern"].map(of);
    let metadata = keys.metadata.to_mut();
    let windowed: Vec<bool> = spec.layer_kinds.iter().map(|kind| kind.window.is_some()).collect();
    if !windowed.contains(&true) {
        metadata.remove(&window);
        metadata.remove(&pattern);
    } else if windowed.contains(&false) {
        metadata.insert(pattern, Array::Bool(windowed));
    }
}

/// Rewrites the scaling of rotations, and gives the divisors that are tensors.
fn rotations(keys: &mut Keys, spec: &Spec) -> Result<Vec<View>> {
    let scaling = keys.metadata.str(&keys.name("rope.scaling.type"))?.unwrap_or("none").to_owned();
    let Some(rope) = spec.ropes.first() else { return Ok(Vec::new()) };
    let (magnitude, length) = (rope.magnitude, 2 * rope.frequencies.len());
    let remove = |keys: &mut Keys, names: &[&str]| {
        for name in names {
            let key = keys.name(&format!("rope.scaling.{name}"));
            keys.metadata.to_mut().remove(&key);
        }
    };
    let plain = |i: usize| libm::pow(f64::from(spec.rope_base), -((2 * i) as f64) / length as f64);
    let divisors = |name: &str, frequencies: &[f64]| {
        let divisors: Vec<f32> =
            frequencies.iter().enumerate().map(|(i, frequency)| (plain(i) / frequency) as f32).collect();
        View::new(name, &F32, vec![divisors.len()], F32.encode(&divisors))
    };
    let long = &rope.frequencies;
    Ok(match &scaling[..] {
        "llama3" => {
            remove(keys, &["type", "factor", "low_freq_factor", "high_freq_factor"]);
            vec![divisors("rope_freqs.weight", long)?]
        }
        "longrope" => {
            remove(keys, &["type", "factor", "magnitude"]);
            keys.insert("rope.scaling.attn_factor", magnitude as f32);
            match &spec.short_ropes {
                Some((_, short)) => vec![
                    divisors("rope_factors_long.weight", long)?,
                    divisors("rope_factors_short.weight", &short[0].frequencies)?,
                ],
                // The context is short, and these are the rotations for it.
                None => vec![divisors("rope_freqs.weight", long)?],
            }
        }
        "yarn" => {
            // GGUF multiplies the usual magnitude.
            let factor = keys.float("rope.scaling.factor", 0.0)?.map_or(1.0, f64::from);
            let of = |multiplier: f64| if factor > 1.0 { 1.0 + 0.1 * multiplier * libm::log(factor) } else { 1.0 };
            let multiplier = keys.float("rope.scaling.yarn_log_multiplier", 0.0)?.map_or(0.0, f64::from);
            remove(keys, &["magnitude"]);
            let usual = match (spec.arch.mla, multiplier > 0.0) {
                (true, true) => 1.0,
                (false, true) => {
                    // Other architectures than DeepSeek have it without the factor of the logarithm.
                    keys.insert("rope.scaling.yarn_log_multiplier", (10.0 * multiplier) as f32);
                    of(1.0) / of(10.0 * multiplier)
                }
                _ => of(1.0),
            };
            match (magnitude / usual) as f32 {
                1.0 => {}
                other if spec.arch.mla => {
                    return Err(Error::bad(keys.file_key("rope.scaling.magnitude"), "that of mscale_all_dim", other));
                }
                other => keys.insert("rope.scaling.attn_factor", other),
            }
            Vec::new()
        }
        _ => Vec::new(),
    })
}
