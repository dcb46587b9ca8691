//! The keys of `quantization_config`, for each method: which are read, which change nothing, and which must have their neutral value.

use crate::Result;
use crate::keys::files::FileKeys;
use crate::keys::ignored::IgnoredKeys;
use serde_json::{Map, Value};

const FILE: &str = "quantization_config";

/// Warnings about keys that are unknown.
///
/// # Errors
/// When a key says what is not done here.
pub(super) fn check(method: &str, config: &Map<String, Value>) -> Result<Vec<String>> {
    let Some((_, table)) = METHODS.iter().find(|(name, _)| *name == method) else { return Ok(Vec::new()) };
    let mut warnings = table.strict(config)?;
    for group in config.get("config_groups").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        if let Some(group) = group.as_object() {
            warnings.extend(GROUP.strict(group)?);
            let weights = group.get("weights").and_then(Value::as_object);
            let of = |weights: &Map<String, Value>| {
                if weights.get("type").is_some_and(|name| name == "int") { &INT_WEIGHTS } else { &WEIGHTS }
            };
            warnings.extend(weights.map_or(Ok(Vec::new()), |weights| of(weights).strict(weights))?);
        }
    }
    Ok(warnings)
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

const BY_DTYPE: IgnoredKeys = IgnoredKeys {
    keys: &["modules_to_not_convert", "ignored_layers", "ignore", "modules_to_convert", "lm_head", "targets"],
    reason: "the tensors of a layer are packed or not, which tells",
};

/// Kernels by name; of AWQ, `llm-awq` means another layout.
const BACKEND: IgnoredKeys = IgnoredKeys {
    keys: &["backend"],
    reason: "transformers and GPTQModel choose a kernel by it, for the same tensors",
};

const LOADING: IgnoredKeys = IgnoredKeys {
    keys: &[
        "use_exllama",
        "disable_exllama",
        "exllama_config",
        "use_cuda_fp16",
        "do_fuse",
        "fuse_max_seq_len",
        "modules_to_fuse",
        "max_input_length",
        "model_seqlen",
        "dequantize",
        "run_compressed",
        "use_optimized_inference",
        "_load_in_4bit",
        "_load_in_8bit",
    ],
    reason: "transformers loads the weights by other kernels, or unpacks them",
};

const QUANTIZER: IgnoredKeys = IgnoredKeys {
    keys: &[
        "sym",
        "desc_act",
        "act_group_aware",
        "static_groups",
        "true_sequential",
        "damp_percent",
        "damp_auto_increment",
        "mse",
        "dataset",
        "tokenizer",
        "batch_size",
        "pad_token_id",
        "cache_block_outputs",
        "block_name_to_quantize",
        "module_name_preceding_first_block",
        "modules_in_block_to_quantize",
        "model_name_or_path",
        "model_file_base_name",
        "quantizer",
        "method",
        "meta",
        "zero_point",
    ],
    reason: "they tell how the codes, scales and zero points were found, which the file has",
};

/// The tables by `quant_method`.
pub(crate) static METHODS: &[(&str, FileKeys)] = &[
    (
        "bitnet",
        FileKeys {
            file: FILE,
            read: &[
                "quant_method",
                "linear_class",
                "quantization_mode",
                "modules_to_not_convert",
                "use_rms_norm",
                "rms_norm_eps",
            ],
            ignored: &[LOADING],
            neutral: &[],
        },
    ),
    (
        "gptq",
        FileKeys {
            file: FILE,
            read: &[
                "quant_method",
                "bits",
                "w_bit",
                "group_size",
                "q_group_size",
                "checkpoint_format",
                "format",
                "is_marlin_format",
                "dynamic",
            ],
            ignored: &[
                QUANTIZER,
                LOADING,
                BACKEND,
                BY_DTYPE,
                IgnoredKeys {
                    keys: &["version"],
                    reason: "transformers' `GPTQConfig` has the layout in `format` or `checkpoint_format`",
                },
            ],
            neutral: &[("pack_dtype", |value| value == "int32"), ("adapter", is_empty), ("rotation", |_| false)],
        },
    ),
    (
        "awq",
        FileKeys {
            file: FILE,
            read: &[
                "quant_method",
                "bits",
                "w_bit",
                "group_size",
                "q_group_size",
                "checkpoint_format",
                "format",
                "version",
            ],
            ignored: &[QUANTIZER, LOADING, BY_DTYPE],
            neutral: &[
                ("pack_dtype", |value| value == "int32"),
                ("dynamic", is_empty),
                ("backend", |value| value.is_string() && value != "llm-awq"),
            ],
        },
    ),
    (
        "fp8",
        FileKeys {
            file: FILE,
            read: &["quant_method", "weight_block_size"],
            ignored: &[
                LOADING,
                BY_DTYPE,
                IgnoredKeys {
                    keys: &["activation_scheme"],
                    reason: "activations are not rounded to 8-bit floats here",
                },
                IgnoredKeys {
                    keys: &["fmt", "scale_fmt"],
                    reason: "weights and scales have the type of their tensors",
                },
            ],
            neutral: &[("expert_dtype", |value| value == "fp8")],
        },
    ),
    (
        "compressed-tensors",
        FileKeys {
            file: FILE,
            read: &["quant_method", "format", "config_groups"],
            ignored: &[
                LOADING,
                BY_DTYPE,
                IgnoredKeys {
                    keys: &["quantization_status", "global_compression_ratio", "version"],
                    reason: "they tell how far the quantizer came, and with what result",
                },
                IgnoredKeys { keys: &["kv_cache_scheme"], reason: "--cache-type chooses the format of the KV cache" },
            ],
            neutral: &[
                ("sparsity_config", |value| is_empty(value) || value["format"] == "dense"),
                ("moe_sparsity_config", is_empty),
                ("transform_config", is_empty),
            ],
        },
    ),
    ("mxfp4", FileKeys { file: FILE, read: &["quant_method"], ignored: &[LOADING, BY_DTYPE], neutral: &[] }),
];

/// A group of compressed-tensors.
static GROUP: FileKeys = FileKeys {
    file: "quantization_config.config_groups",
    read: &["weights"],
    ignored: &[
        BY_DTYPE,
        IgnoredKeys {
            keys: &["input_activations", "output_activations"],
            reason: "activations are rounded as `--activations` says, with scales of their own",
        },
    ],
    neutral: &[("format", |value| value == "float-quantized" || value == "int-quantized")],
};

/// The weights of a group.
const WEIGHTS: FileKeys = FileKeys {
    file: "quantization_config.config_groups.weights",
    read: &["num_bits", "type", "block_structure"],
    ignored: &[IgnoredKeys {
        keys: &["observer", "observer_kwargs", "scale_dtype", "zp_dtype", "strategy"],
        reason: "the scales are in the file, and their shape tells what each is for",
    }],
    neutral: &[
        ("symmetric", |value| value == true),
        ("dynamic", |value| value == false),
        // -1 is a group of all inputs.
        ("group_size", |value| value == -1),
        ("actorder", |_| false),
    ],
};

/// The weights of a group of integers.
static INT_WEIGHTS: FileKeys = FileKeys {
    read: &["num_bits", "type", "group_size"],
    ignored: &[IgnoredKeys {
        keys: &["observer", "observer_kwargs", "scale_dtype", "zp_dtype", "strategy", "symmetric"],
        reason: "scales and zero points are in the file, and their shape tells what each is for",
    }],
    neutral: &[
        ("dynamic", |value| value == false),
        ("block_structure", |_| false),
        // Columns in another order.
        ("actorder", |_| false),
    ],
    ..WEIGHTS
};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(method: &str, key: &str, value: Value) -> Result<Vec<String>> {
        check(method, json!({ key: value }).as_object().unwrap())
    }

    /// The keys that the classes of transformers and compressed-tensors take (golden/quant_keys.py).
    #[test]
    fn every_key_of_transformers_is_in_a_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/quant_keys.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let methods = METHODS.iter().map(|(method, table)| (*method, table));
        for (class, table) in methods.chain([
            ("QuantizationScheme", &GROUP),
            ("QuantizationArgs", &WEIGHTS),
            ("QuantizationArgs", &INT_WEIGHTS),
        ]) {
            let keys = golden[class].as_array().unwrap();
            assert!(!keys.is_empty());
            for key in keys.iter().map(|key| key.as_str().unwrap()) {
                let found = table.strict(json!({ key: "an unusual value" }).as_object().unwrap());
                assert!(found.is_err() || found.is_ok_and(|warnings| warnings.is_empty()), "{class}: {key}");
            }
        }
    }

    #[test]
    fn what_is_not_done_is_refused_and_what_is_not_known_is_reported() {
        for (method, table) in METHODS {
            for (key, neutral) in table.neutral {
                assert!(!neutral(&json!(7)) && of(method, key, json!(7)).is_err(), "{method}: {key}");
                assert!(of(method, key, json!(null)).unwrap().is_empty(), "{method}: {key}");
            }
            let warnings = of(method, "unheard", json!(1)).unwrap();
            assert_eq!(warnings, ["quantization_config: the key `unheard` is not known, and not applied"], "{method}");
        }
        let group =
            |weights: Value| of("compressed-tensors", "config_groups", json!({"group_0": {"weights": weights}}));
        assert!(group(json!({"num_bits": 8, "symmetric": true, "strategy": "channel"})).unwrap().is_empty());
        assert!(group(json!({"symmetric": false})).is_err());
        assert!(group(json!({"symmetric": false, "type": "int", "group_size": 128})).unwrap().is_empty());
        assert!(group(json!({"actorder": "group", "type": "int"})).is_err());
        assert_eq!(group(json!({"shine": 1})).unwrap().len(), 1);
    }
}
