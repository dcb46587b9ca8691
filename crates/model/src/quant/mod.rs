//! Checkpoints of other quantizers, unpacked when they are loaded.
//!
//! GPTQ as AutoGPTQ and GPTQModel store it, AWQ as AutoAWQ's `gemm` does, FP8 as DeepSeek, Qwen and compressed-tensors do, and BitNet as
//! transformers' `integrations/bitnet.py` does. FP8 models are defined with activations that are rounded to 8 bits too, where the hardware
//! multiplies such numbers; here only the weights are rounded, which is nearer to the model that was quantized.

mod awq;
mod bitnet;
mod check;
mod fp8;
mod gptq;
mod grouped;

use crate::file_tensors::FileTensors;
use crate::{Error, Result};
use fp8::Fp8;
use grouped::GroupQuantized;
use serde_json::Value;
use trine_tensor::{TensorInfo, View};

pub(crate) use bitnet::{absmean, ternary, ternary_format, unpack_trits};
pub(crate) use fp8::is_fp8;

/// `quantization_config.quant_method` of a Hugging Face folder: how it stores the weights of linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantMethod {
    /// As plain tensors; every GGUF file.
    None,
    /// Float weights that are rounded to ternary ones when loaded: `autobitlinear`, `online` (arXiv:2402.17764).
    BitNetOnline,
    /// Four ternary weights per byte, `offline`.
    BitNet {
        /// Weights are divided by `weight_scale` (`bitlinear`) instead of multiplied (`autobitlinear`).
        inverse_scale: bool,
    },
    /// Integers with scales and zero points of groups of inputs (arXiv:2210.17323).
    Gptq {
        bits: usize,
        /// Inputs per group; `None` for one group of all inputs.
        group_size: Option<usize>,
        /// Zero points are stored minus one, as in `checkpoint_format` `gptq`; `gptq_v2` stores them as they are.
        minus_one: bool,
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
        match (text("quant_method", ""), text("linear_class", "bitlinear"), text("quantization_mode", "offline")) {
            ("bitnet", "autobitlinear", "online") => Ok(QuantMethod::BitNetOnline),
            ("bitnet", "autobitlinear", "offline") => Ok(QuantMethod::BitNet { inverse_scale: false }),
            ("bitnet", "bitlinear", "offline") => Ok(QuantMethod::BitNet { inverse_scale: true }),
            _ => Err(Error::bad(
                "quantization_config",
                "none, or quant_method gptq, awq, fp8, compressed-tensors, or bitnet with a known linear_class",
                config,
            )),
        }
    }

    /// Whether linear layers round their inputs to 8 bits.
    pub(crate) fn is_bitnet(self) -> bool {
        matches!(self, QuantMethod::BitNetOnline | QuantMethod::BitNet { .. })
    }

    /// The matrix `name`, if this method packs it so that it can be unpacked without knowing the model.
    ///
    /// # Errors
    /// When one of its tensors is missing or does not fit the others.
    pub(crate) fn packed(self, tensors: &FileTensors, name: &str) -> Result<Option<Packed>> {
        let layer = || name.strip_suffix(".weight").filter(|_| !tensors.contains(name));
        match self {
            QuantMethod::Gptq { bits, group_size, minus_one } => layer()
                .map(|layer| gptq::open(tensors, layer, bits, group_size, minus_one).map(Packed::Grouped))
                .transpose(),
            QuantMethod::Awq { group_size } => {
                layer().map(|layer| awq::open(tensors, layer, group_size).map(Packed::Grouped)).transpose()
            }
            QuantMethod::Fp8 { block_size } => match tensors.view(name)? {
                view if is_fp8(&view) => Fp8::open(tensors, view, block_size).map(Packed::Fp8).map(Some),
                _ => Ok(None),
            },
            QuantMethod::None | QuantMethod::BitNetOnline | QuantMethod::BitNet { .. } => Ok(None),
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

/// The method of a `quantization_config`, if it is GPTQ, AWQ or FP8.
fn group_or_block(config: &Value) -> Result<Option<QuantMethod>> {
    let found = |keys: &[&str]| keys.iter().find_map(|key| config.get(key).filter(|value| !value.is_null())).cloned();
    let text = |keys: &[&str], default: &str| match found(keys) {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_lowercase),
        None => default.to_owned(),
    };
    let bad =
        |key: &str, expected: &str, found: Value| Error::bad(format!("quantization_config.{key}"), expected, found);
    let number = |keys: &[&str]| found(keys).unwrap_or(Value::Null);
    let group = || match number(&["group_size", "q_group_size"]) {
        value if value.as_i64() == Some(-1) => Ok(None),
        value => match value.as_u64().filter(|size| (1..=1 << 24).contains(size)) {
            Some(size) => Ok(Some(size as usize)),
            None => Err(bad("group_size", "-1, or inputs per group", value)),
        },
    };
    let bits = number(&["bits", "w_bit"]);
    let format = text(&["checkpoint_format", "format", "version"], "");
    match (&*text(&["quant_method"], ""), &*format) {
        ("gptq", "" | "gptq" | "gptq_v2") if number(&["is_marlin_format"]).as_bool() != Some(true) => {
            match bits.as_u64() {
                Some(bits @ (2 | 3 | 4 | 8)) => Ok(Some(QuantMethod::Gptq {
                    bits: bits as usize,
                    group_size: group()?,
                    minus_one: format != "gptq_v2",
                })),
                _ => Err(bad("bits", "2, 3, 4 or 8", bits)),
            }
        }
        ("awq", "" | "gemm") if bits.as_u64() == Some(4) => Ok(Some(QuantMethod::Awq { group_size: group()? })),
        ("awq", "" | "gemm") => Err(bad("bits", "4", bits)),
        ("fp8", _) => Ok(Some(QuantMethod::Fp8 { block_size: block(&number(&["weight_block_size"]))? })),
        ("compressed-tensors", "float-quantized") => {
            let groups = config.get("config_groups").and_then(Value::as_object).into_iter().flatten();
            let mut blocks = groups.map(|(_, group)| {
                let weights = &group["weights"];
                match (weights["type"].as_str(), weights["num_bits"].as_u64()) {
                    (Some("float"), Some(8)) => block(&weights["block_structure"]),
                    _ => Err(bad("config_groups", "weights of 8-bit floats", weights.clone())),
                }
            });
            let first = blocks.next().transpose()?.flatten();
            for block in blocks {
                if block? != first {
                    return Err(bad("config_groups", "blocks of one size", config["config_groups"].clone()));
                }
            }
            Ok(Some(QuantMethod::Fp8 { block_size: first }))
        }
        ("gptq" | "awq" | "compressed-tensors", _) => {
            let expected = "gptq or gptq_v2 of gptq, gemm of awq, or float-quantized of compressed-tensors";
            Err(bad("format", expected, format.into()))
        }
        _ => Ok(None),
    }
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
