//! Checkpoints of other quantizers, unpacked when they are loaded.
//!
//! GPTQ as AutoGPTQ and GPTQModel store it, AWQ as AutoAWQ's `gemm` does, FP8 as DeepSeek, Qwen and compressed-tensors do, and BitNet as
//! transformers' `integrations/bitnet.py` does. FP8 models are defined with activations that are rounded to 8 bits too, where the hardware
//! multiplies such numbers; here only the weights are rounded, which is nearer to the model that was quantized. For the same reason, activations of
//! models of 8-bit integers (W8A8) have a scale per 32 columns, as those of all models, and not one per token or per matrix.

mod awq;
mod bitnet;
mod check;
mod fp8;
mod gptq;
mod grouped;
mod int8;
mod keys;
mod layers;

use crate::file_tensors::FileTensors;
use crate::{Error, Result, Sizes};
use fp8::Fp8;
use grouped::GroupQuantized;
use layers::{DynamicLayers, GroupSettings, KeptLayers};
use serde_json::Value;
use trine_tensor::format::I8;
use trine_tensor::{File, TensorInfo, View};

pub(crate) use bitnet::{absmean, ternary, ternary_format, unpack_trits};
pub(crate) use fp8::is_fp8;
use fp8::is_unused_scale;
pub(crate) use keys::METHODS;

/// `quantization_config.quant_method` of a Hugging Face folder: how it stores the weights of linear layers.
#[derive(Clone, Debug, PartialEq)]
pub enum QuantMethod {
    /// As plain tensors; every GGUF file.
    None,
    /// Ternary weights, and inputs that are rounded to 8 bits.
    BitNet(BitNet),
    /// Integers with scales and zero points of groups of inputs (arXiv:2210.17323).
    Gptq {
        bits: usize,
        /// Inputs per group; `None` for one group of all inputs.
        group_size: Option<usize>,
        /// Zero points are stored minus one, as in `checkpoint_format` `gptq`; `gptq_v2` stores them as they are.
        minus_one: bool,
        /// Layers with other settings.
        dynamic: DynamicLayers,
    },
    /// 4-bit integers with scales and zero points of groups of inputs (arXiv:2306.00978).
    Awq {
        /// Inputs per group; `None` for one group of all inputs.
        group_size: Option<usize>,
    },
    /// 8-bit floats with scales.
    Fp8 {
        /// Rows and columns per scale; `None` for a scale per row or per matrix.
        block_size: Option<[usize; 2]>,
    },
    /// 8-bit integers with scales, and perhaps zero points: the `int-quantized` of compressed-tensors.
    Int8 {
        /// Inputs per group; `None` for a scale per row or per matrix.
        group_size: Option<usize>,
    },
}

/// BitNet's linear layers, as `integrations/bitnet.py` of transformers computes them.
#[derive(Clone, Debug, PartialEq)]
pub struct BitNet {
    pub weights: BitNetWeights,
    /// Layers that are plain linear ones.
    kept: KeptLayers,
    /// Epsilon of the RMSNorm on the inputs of each of these layers, if there is one.
    pub(crate) norm_eps: Option<f32>,
}

/// How BitNet's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitNetWeights {
    /// In floats, which are rounded to ternary weights when loaded: `autobitlinear`, `online` (arXiv:2402.17764).
    Rounded,
    /// Four to a byte, multiplied by `weight_scale`, or else floats: `autobitlinear`, `offline`.
    Scaled,
    /// Four to a byte, divided by `weight_scale`: `bitlinear`.
    Divided,
}

impl BitNet {
    /// Whether a layer, by its name in the file, is one of BitNet's.
    pub(crate) fn converts(&self, layer: &str) -> bool {
        !self.kept.contains(layer)
    }

    /// The head that is made of the embedding, if a model of these sizes has such a one.
    pub fn made_head(&self, sizes: &Sizes) -> Option<TensorInfo> {
        let made = sizes.tied && self.weights == BitNetWeights::Rounded && self.converts("lm_head");
        let (format, shape) = (ternary_format(sizes.hidden_size), vec![sizes.vocab_size, sizes.hidden_size]);
        made.then(|| TensorInfo { name: "lm_head.weight".to_owned(), format, shape })
    }

    fn of(config: &Value) -> Result<BitNet> {
        // What is no string is an unknown name.
        let text = |key: &str, default: &'static str| match config.get(key) {
            None | Some(Value::Null) => default,
            Some(value) => value.as_str().unwrap_or("another"),
        };
        let weights = match (text("linear_class", "bitlinear"), text("quantization_mode", "offline")) {
            ("autobitlinear", "online") => BitNetWeights::Rounded,
            ("autobitlinear", "offline") => BitNetWeights::Scaled,
            ("bitlinear", _) => BitNetWeights::Divided,
            (class, mode) => {
                let expected = "bitlinear or autobitlinear, online or offline";
                return Err(Error::bad("quantization_config.linear_class", expected, format!("{class}, {mode}")));
            }
        };
        let kept = KeptLayers::of("quantization_config.modules_to_not_convert", config.get("modules_to_not_convert"))?;
        let normed = flag(config, "use_rms_norm")?;
        let eps = config.get("rms_norm_eps").filter(|eps| !eps.is_null());
        let bad = |eps: &Value| Error::bad("quantization_config.rms_norm_eps", "a number of at least 0", eps);
        let eps = eps.map_or(Ok(1e-6), |eps| eps.as_f64().filter(|eps| *eps >= 0.0).ok_or_else(|| bad(eps)))?;
        Ok(BitNet { weights, kept, norm_eps: normed.then_some(eps as f32) })
    }
}

impl QuantMethod {
    /// The method that `config.json` names.
    ///
    /// # Errors
    /// When it is unknown, or a version that is.
    pub(crate) fn of(config: &Value) -> Result<QuantMethod> {
        let config = match config.get("quantization_config") {
            None | Some(Value::Null) => return Ok(QuantMethod::None),
            Some(config) => config,
        };
        let text = |key: &str, default: &'static str| config.get(key).and_then(Value::as_str).unwrap_or(default);
        // MXFP4 blocks are a tensor format like any other.
        if text("quant_method", "") == "mxfp4" {
            return Ok(QuantMethod::None);
        }
        if let Some(method) = group_or_block(config)? {
            return Ok(method);
        }
        match text("quant_method", "") {
            "bitnet" => BitNet::of(config).map(QuantMethod::BitNet),
            other => {
                let expected = "gptq, awq, fp8, compressed-tensors, mxfp4 or bitnet";
                Err(Error::bad("quantization_config.quant_method", expected, other))
            }
        }
    }

    /// Warnings about keys of `quantization_config` that are unknown.
    ///
    /// # Errors
    /// When one says what is not done here.
    pub(crate) fn warnings(config: &Value) -> Result<Vec<String>> {
        let Some(config) = config.get("quantization_config").and_then(Value::as_object) else { return Ok(Vec::new()) };
        keys::check(config.get("quant_method").and_then(Value::as_str).unwrap_or_default(), config)
    }

    /// BitNet's settings, if linear layers round their inputs to 8 bits.
    pub fn bitnet(&self) -> Option<&BitNet> {
        if let QuantMethod::BitNet(bitnet) = self { Some(bitnet) } else { None }
    }

    /// What a file has for this method that is not used here.
    pub(crate) fn note(&self, file: &File) -> Option<String> {
        let unused = file.names().find(|name| self.ignores(name))?;
        Some(match self {
            QuantMethod::Int8 { .. } => format!(
                "scales such as {unused} belong to activations that were calibrated: they are not used, as activations have scales of their own here"
            ),
            _ => format!(
                "scales such as {unused} belong to activations, or to a KV cache, of 8-bit floats, which Trine does not have: they are not used"
            ),
        })
    }

    /// Whether a tensor is a scale of activations, or of a KV cache, that nothing uses.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        matches!(self, QuantMethod::Fp8 { .. } | QuantMethod::Int8 { .. }) && is_unused_scale(name)
    }

    /// The matrix `name`, if this method packs it so that it can be unpacked without knowing the model.
    ///
    /// # Errors
    /// When one of its tensors is missing or does not fit the others.
    pub(crate) fn packed(&self, tensors: &FileTensors, name: &str) -> Result<Option<Packed>> {
        let layer = || name.strip_suffix(".weight").filter(|_| !tensors.contains(name));
        match *self {
            QuantMethod::Gptq { bits, group_size, minus_one, ref dynamic } => {
                let Some(layer) = layer() else { return Ok(None) };
                let own = dynamic.get(layer);
                let (bits, group_size) = (own.bits.unwrap_or(bits), own.group_size.unwrap_or(group_size));
                gptq::open(tensors, layer, bits, group_size, minus_one).map(Packed::Grouped).map(Some)
            }
            QuantMethod::Awq { group_size } => {
                layer().map(|layer| awq::open(tensors, layer, group_size).map(Packed::Grouped)).transpose()
            }
            QuantMethod::Fp8 { block_size } => match tensors.view(name)? {
                view if is_fp8(&view) => Fp8::open(tensors, view, block_size).map(Packed::Fp8).map(Some),
                _ => Ok(None),
            },
            QuantMethod::Int8 { group_size } => match tensors.view(name)? {
                view if view.format == &I8 => int8::open(tensors, view, group_size).map(Packed::Grouped).map(Some),
                _ => Ok(None),
            },
            QuantMethod::None | QuantMethod::BitNet(_) => Ok(None),
        }
    }
}

/// A matrix that is several tensors in the file.
pub(crate) enum Packed {
    Grouped(GroupQuantized),
    Fp8(Fp8),
}

impl Packed {
    /// Shape and format of the unpacked matrix; depends on scales and zero points, not on the weights.
    pub fn entry(&self) -> TensorInfo {
        match self {
            Packed::Grouped(codes) => codes.entry(),
            Packed::Fp8(matrix) => matrix.entry(),
        }
    }

    /// The unpacked matrix.
    ///
    /// # Errors
    /// When a weight is not finite.
    pub fn view(&self) -> Result<View> {
        match self {
            Packed::Grouped(codes) => codes.view(),
            Packed::Fp8(matrix) => matrix.view(),
        }
    }
}

/// The method of a `quantization_config`, if it is GPTQ, AWQ, FP8 or of 8-bit integers.
fn group_or_block(config: &Value) -> Result<Option<QuantMethod>> {
    let found = |keys: &[&str]| keys.iter().find_map(|key| config.get(key).filter(|value| !value.is_null())).cloned();
    let text = |keys: &[&str], default: &str| match found(keys) {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_lowercase),
        None => default.to_owned(),
    };
    let bad =
        |key: &str, expected: &str, found: Value| Error::bad(format!("quantization_config.{key}"), expected, found);
    let number = |keys: &[&str]| found(keys).unwrap_or(Value::Null);
    let group = || group_size(&number(&["group_size", "q_group_size"]));
    let bits = number(&["bits", "w_bit"]);
    let method = text(&["quant_method"], "");
    // Of several names of the layout, the first in the order of transformers' classes; `version` of GPTQ is none.
    let format = match &*method {
        "awq" => text(&["checkpoint_format", "version", "format"], ""),
        _ => text(&["checkpoint_format", "format"], ""),
    };
    match (&*method, &*format) {
        ("gptq", "" | "gptq" | "gptq_v2") if !flag(config, "is_marlin_format")? => Ok(Some(QuantMethod::Gptq {
            bits: gptq_bits(&bits)?,
            group_size: group()?,
            minus_one: format != "gptq_v2",
            dynamic: DynamicLayers::of("quantization_config.dynamic", config.get("dynamic"), own_settings)?,
        })),
        ("awq", "" | "gemm") if bits.as_u64() == Some(4) => Ok(Some(QuantMethod::Awq { group_size: group()? })),
        ("awq", "" | "gemm") => Err(bad("bits", "4", bits)),
        ("fp8", _) => Ok(Some(QuantMethod::Fp8 { block_size: block(&number(&["weight_block_size"]))? })),
        ("compressed-tensors", "float-quantized") => {
            let of = |weights: &Value| match (weights["type"].as_str(), weights["num_bits"].as_u64()) {
                (Some("float"), Some(8)) => block(&weights["block_structure"]),
                _ => Err(bad("config_groups", "weights of 8-bit floats", weights.clone())),
            };
            Ok(Some(QuantMethod::Fp8 { block_size: alike(config, of)? }))
        }
        ("compressed-tensors", "int-quantized") => {
            let of = |weights: &Value| match (weights["type"].as_str(), weights["num_bits"].as_u64()) {
                (Some("int"), Some(8)) if weights["group_size"].is_null() => Ok(None),
                (Some("int"), Some(8)) => group_size(&weights["group_size"]),
                _ => Err(bad("config_groups", "weights of 8-bit integers", weights.clone())),
            };
            Ok(Some(QuantMethod::Int8 { group_size: alike(config, of)? }))
        }
        ("gptq" | "awq" | "compressed-tensors", _) => {
            let expected =
                "gptq or gptq_v2 of gptq, gemm of awq, or float-quantized or int-quantized of compressed-tensors";
            Err(bad("format", expected, format.into()))
        }
        _ => Ok(None),
    }
}

/// What the weights of all `config_groups` of compressed-tensors say, which must be the same.
fn alike<T: PartialEq>(config: &Value, of: impl Fn(&Value) -> Result<T>) -> Result<T> {
    let groups = &config["config_groups"];
    let bad = |expected: &str| Error::bad("quantization_config.config_groups", expected, groups);
    let mut all = groups.as_object().into_iter().flat_map(|groups| groups.values()).map(|group| of(&group["weights"]));
    let first = all.next().ok_or_else(|| bad("groups of layers"))??;
    for other in all {
        if other? != first {
            return Err(bad("blocks of one size"));
        }
    }
    Ok(first)
}

/// A flag that need not be there.
fn flag(config: &Value, key: &str) -> Result<bool> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(Error::bad(format!("quantization_config.{key}"), "true or false", other)),
    }
}

fn gptq_bits(value: &Value) -> Result<usize> {
    match value.as_u64() {
        Some(bits @ (2 | 3 | 4 | 8)) => Ok(bits as usize),
        _ => Err(Error::bad("quantization_config.bits", "2, 3, 4 or 8", value)),
    }
}

/// Inputs per group; `None` for one group of all.
fn group_size(value: &Value) -> Result<Option<usize>> {
    match (value.as_i64(), value.as_u64().filter(|size| (1..=1 << 24).contains(size))) {
        (Some(-1), _) => Ok(None),
        (_, Some(size)) => Ok(Some(size as usize)),
        _ => Err(Error::bad("quantization_config.group_size", "-1, or inputs per group", value)),
    }
}

/// What a rule of GPTQModel's `dynamic` says of its layers.
fn own_settings(rule: &Value) -> Result<GroupSettings> {
    let bad = |found: &dyn std::fmt::Display| {
        let expected = "rules with bits, group_size, and how the layer was quantized";
        Error::bad("quantization_config.dynamic", expected, found)
    };
    let mut own = GroupSettings::default();
    for (key, value) in rule.as_object().ok_or_else(|| bad(rule))? {
        match key.as_str() {
            "bits" => own.bits = Some(gptq_bits(value)?),
            "group_size" => own.group_size = Some(group_size(value)?),
            // What they lead to is in the tensors of the layer.
            "sym"
            | "desc_act"
            | "act_group_aware"
            | "mse"
            | "damp_percent"
            | "damp_auto_increment"
            | "static_groups" => {}
            other => return Err(bad(&other)),
        }
    }
    Ok(own)
}

/// Rows and columns per scale.
fn block(value: &Value) -> Result<Option<[usize; 2]>> {
    if value.is_null() {
        return Ok(None);
    }
    let sizes: Vec<u64> = value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    match sizes[..] {
        [rows @ 1..=0x100_0000, cols @ 1..=0x100_0000] => Ok(Some([rows as usize, cols as usize])),
        _ => Err(Error::bad("quantization_config.weight_block_size", "rows and columns of a block", value)),
    }
}
