//! What one model is: the numbers that the decoder needs.

use crate::keys::Keys;
use crate::{Arch, Error, Result};
use std::f64::consts::PI;
use trine_backend::{Pairs, Rope};
use trine_tensor::{File, Kind};

/// One model of an architecture.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What it has in common with others.
    pub arch: &'static Arch,
    /// Layers.
    pub layers: usize,
    /// Numbers of a token between layers.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Positions it was trained for.
    pub context: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// Rotary positions.
    pub rope: Rope,
    /// Linear layers round their inputs to 8 bits with one scale per token, as BitNet b1.58 does.
    pub bit_linear: bool,
    /// How the weights of linear layers are written at Hugging Face.
    pub packing: Packing,
}

/// How Hugging Face folders hold ternary weights (transformers, `integrations/bitnet.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are; all GGUF files.
    Plain,
    /// Float weights, made ternary by their mean when loaded: `autobitlinear`, `online`.
    Online,
    /// Packed trits times `weight_scale`: `autobitlinear`, `offline`.
    Times,
    /// Packed trits divided by `weight_scale`: `bitlinear`.
    Over,
}

impl Spec {
    /// Reads and checks the specification of a model file.
    pub fn of(file: &File) -> Result<Spec> {
        let keys = Keys::of(file)?;
        let arch = keys.arch;
        let many = 1..=1 << 24;
        let heads = keys.needed("attention.head_count", 1..=1 << 16)?;
        let kv_heads = keys.count("attention.head_count_kv", 1..=1 << 16)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(Error::bad(
                keys.name("attention.head_count_kv"),
                format!("a divisor of {heads} heads"),
                kv_heads,
            ));
        }
        let width = keys.needed("embedding_length", many.clone())?;
        let head_dim = match keys.count("attention.key_length", 1..=1 << 16)? {
            Some(head_dim) => head_dim,
            None if width % heads == 0 => width / heads,
            None => {
                return Err(Error::bad(
                    keys.name("attention.head_count"),
                    format!("a divisor of width {width}"),
                    heads,
                ));
            }
        };
        if let Some(value) = keys.count("attention.value_length", 1..=1 << 16)?.filter(|&value| value != head_dim) {
            return Err(Error::bad(keys.name("attention.value_length"), head_dim.to_string(), value));
        }
        let vocab = file.view(&if let Kind::Gguf { .. } = file.kind() {
            "token_embd.weight".to_owned()
        } else {
            arch.hub_name("token_embd.weight").expect("every architecture embeds tokens")
        })?;
        keys.check_neutral()?;
        if let Some(found) = keys.count("vocab_size", 0..=u32::MAX)?.filter(|&found| found != vocab.rows()) {
            return Err(Error::bad(
                keys.name("vocab_size"),
                format!("the {} rows of the embedding", vocab.rows()),
                found,
            ));
        }
        let eps = keys.float("attention.layer_norm_rms_epsilon", 0.0)?;
        let missing = || Error::MissingKey { key: keys.name("attention.layer_norm_rms_epsilon"), expected: "a number" };
        let (bit_linear, packing) = packing(file)?;
        Ok(Spec {
            arch,
            layers: keys.needed("block_count", 1..=1 << 16)?,
            width,
            heads,
            kv_heads,
            head_dim,
            feed_forward: keys.needed("feed_forward_length", many)?,
            vocab: vocab.rows(),
            context: keys.context()?,
            eps: eps.ok_or_else(missing)?,
            rope: rope(&keys, file, head_dim)?,
            bit_linear: bit_linear || arch.bit_linear,
            packing,
        })
    }
}

/// Whether a Hugging Face folder says that it is ternary, and how it is packed.
fn packing(file: &File) -> Result<(bool, Packing)> {
    let config = file.config().and_then(|config| config.get("quantization_config")).filter(|config| !config.is_null());
    let Some(config) = config.filter(|_| file.kind() == Kind::Safetensors) else { return Ok((false, Packing::Plain)) };
    let text =
        |key: &str, default: &str| config.get(key).and_then(|value| value.as_str()).unwrap_or(default).to_owned();
    match (&*text("quant_method", ""), &*text("linear_class", "bitlinear"), &*text("quantization_mode", "offline")) {
        ("bitnet", "autobitlinear", "online") => Ok((true, Packing::Online)),
        ("bitnet", "autobitlinear", "offline") => Ok((true, Packing::Times)),
        ("bitnet", "bitlinear", "offline") => Ok((true, Packing::Over)),
        _ => Err(Error::bad("quantization_config", "none, or quant_method bitnet with a known linear_class", config)),
    }
}

/// Frequencies of rotary positions under every scaling we know.
fn rope(keys: &Keys, file: &File, head_dim: usize) -> Result<Rope> {
    let turning = keys.count("rope.dimension_count", 2..=1 << 16)?.unwrap_or(head_dim);
    if turning > head_dim || turning % 2 != 0 {
        return Err(Error::bad(keys.name("rope.dimension_count"), format!("an even number up to {head_dim}"), turning));
    }
    let base = keys.float("rope.freq_base", 1.0)?.unwrap_or(10000.0) as f64;
    let half = turning / 2;
    let mut frequencies: Vec<f64> = (0..half).map(|i| libm::pow(base, -((2 * i) as f64) / turning as f64)).collect();
    let mut magnitude = 1.0;
    let factor = keys.float("rope.scaling.factor", f32::MIN_POSITIVE)?.map_or(1.0, f64::from);
    let number = |key: &str, default: f64| keys.float(key, 0.0).map(|value| value.map_or(default, f64::from));
    let original = || {
        let original = keys.count("rope.scaling.original_context_length", 1..=1 << 30)?;
        original.map_or_else(|| keys.needed("context_length", 1..=1 << 30), Ok).map(|n| n as f64)
    };
    let kind_key = keys.name("rope.scaling.type");
    match keys.metadata.str(&kind_key)?.unwrap_or(if factor == 1.0 { "none" } else { "linear" }) {
        "none" => {}
        "linear" => frequencies.iter_mut().for_each(|frequency| *frequency /= factor),
        // Llama 3.1: slow pairs stretch, fast ones stay, those between blend.
        "llama3" => {
            let (low, high) =
                (number("rope.scaling.low_freq_factor", 1.0)?, number("rope.scaling.high_freq_factor", 4.0)?);
            if low >= high {
                return Err(Error::bad(keys.name("rope.scaling.high_freq_factor"), format!("more than {low}"), high));
            }
            let original = original()?;
            for frequency in &mut frequencies {
                let turns = original * *frequency / (2.0 * PI);
                let blend = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                *frequency *= (1.0 - blend) / factor + blend;
            }
        }
        // arXiv:2309.00071.
        "yarn" => {
            let original = original()?;
            let pair = |turns: f64| turning as f64 * libm::log(original / (turns * 2.0 * PI)) / (2.0 * libm::log(base));
            let first = pair(number("rope.scaling.yarn_beta_fast", 32.0)?).floor().max(0.0);
            let last = pair(number("rope.scaling.yarn_beta_slow", 1.0)?).ceil().min(turning as f64 - 1.0);
            let last = if last == first { first + 0.001 } else { last };
            for (i, frequency) in frequencies.iter_mut().enumerate() {
                let stretch = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                *frequency *= stretch / factor + 1.0 - stretch;
            }
            let usual = if factor > 1.0 { 1.0 + 0.1 * libm::log(factor) } else { 1.0 };
            // GGUF multiplies the usual magnitude, Hugging Face replaces it.
            magnitude = number("rope.scaling.magnitude", number("rope.scaling.attn_factor", 1.0)? * usual)?;
        }
        other => return Err(Error::bad(kind_key, "none, linear, llama3 or yarn", other)),
    }
    // GGUF files of Llama 3.1 hold the divisors themselves.
    if file.contains("rope_freqs.weight") {
        let divisors = file.view("rope_freqs.weight")?;
        if divisors.shape != [half] {
            return Err(Error::Shape { tensor: divisors.name, expected: vec![half], found: divisors.shape });
        }
        for (frequency, divisor) in frequencies.iter_mut().zip(divisors.decode()) {
            *frequency /= divisor as f64;
        }
    }
    if !magnitude.is_finite() || magnitude <= 0.0 || frequencies.iter().any(|frequency| !frequency.is_finite()) {
        let expected = "a scaling whose parameters give finite rotations";
        return Err(Error::bad(
            keys.name("rope"),
            expected,
            format!("magnitude {magnitude}, frequencies {frequencies:?}"),
        ));
    }
    let pairs = if let Kind::Gguf { .. } = file.kind() { keys.arch.pairs } else { Pairs::Halves };
    Ok(Rope { frequencies, magnitude, pairs, head_dim })
}
