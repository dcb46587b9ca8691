//! What a file holds and the decoder would ignore is refused, and named.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{Cpu, CpuOptions};
use trine_model::{Language, Model, ModelOptions};
use trine_tensor::format::{F32, U8};
use trine_tensor::{File, Metadata, Value, View, gguf, safetensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)
}

/// What loading says; empty when it loads.
fn load(path: &Path) -> String {
    let mut be = Cpu::new(CpuOptions { threads: 1, ..Default::default() }).unwrap();
    let mut load = || {
        let file = File::open(path)?;
        Language::of(&file)?;
        Model::load(&mut be, &file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
        Ok::<_, trine_model::Error>(())
    };
    let Some(error) = load().err().map(|error| error.at(path).to_string()) else { return String::new() };
    let name = path.display().to_string();
    assert_eq!(error.matches(&format!("{name}: ")).count(), 1, "{error}");
    error
}

/// What loading says of a golden GGUF file after a change.
fn changed(name: &str, change: impl FnOnce(&mut Metadata, &mut Vec<View>)) -> String {
    let file = File::open(golden(name).join("model.gguf")).unwrap();
    let (mut metadata, mut tensors) = (file.metadata().clone(), file.tensors().cloned().collect());
    change(&mut metadata, &mut tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.gguf");
    gguf::write(&path, &metadata, &tensors).unwrap();
    load(&path)
}

/// What loading says of a golden folder after a change of its configuration and tensors.
fn changed_folder(name: &str, change: impl FnOnce(&mut serde_json::Value, &mut Vec<View>)) -> String {
    let (file, folder) = (File::open(golden(name)).unwrap(), tempfile::tempdir().unwrap());
    let (mut config, mut tensors) = (file.config().unwrap().clone(), file.tensors().cloned().collect());
    change(&mut config, &mut tensors);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    safetensors::write(folder.path().join("model.safetensors"), &tensors).unwrap();
    load(folder.path())
}

fn names(message: &str, what: &[&str]) {
    assert!(what.iter().all(|what| message.contains(what)), "expected {what:?} in: {message}");
}

#[test]
fn what_is_unchanged_loads() {
    assert_eq!(changed("llama", |_, _| ()), "");
    assert_eq!(changed_folder("bitnet-b1.58", |_, _| ()), "");
    assert_eq!(changed_folder("bitnet-online", |_, _| ()), "");
}

#[test]
fn the_head_of_gpt_neox_has_either_of_its_names() {
    let message = changed_folder("gptneox", |_, tensors| {
        let head = tensors.iter_mut().find(|view| view.name == "embed_out.weight").unwrap();
        *head = View::new("lm_head.weight".to_owned(), head.format, head.shape.clone(), head.bytes.clone()).unwrap();
    });
    assert_eq!(message, "");
    let headless = changed_folder("gptneox", |_, tensors| tensors.retain(|view| view.name != "embed_out.weight"));
    names(&headless, &["no tensor \"embed_out.weight\"", "may also be called \"lm_head.weight\""]);
}

#[test]
fn the_tensors_of_gpt_neox_need_no_prefix() {
    let message = changed_folder("gptneox", |_, tensors| {
        for view in tensors {
            let name = view.name.trim_start_matches("gpt_neox.").to_owned();
            *view = View::new(name, view.format, view.shape.clone(), view.bytes.clone()).unwrap();
        }
    });
    assert_eq!(message, "");
}

#[test]
fn layers_and_tensors_beyond_the_model_are_named() {
    names(&changed("llama", |keys, _| drop(keys.insert("llama.block_count", 1u32))), &["blk.1.", "1 layers"]);
    let extra = View::new("blk.0.foo.weight", &F32, vec![4], F32.encode(&[0.0; 4])).unwrap();
    names(&changed("qwen2", |_, tensors| tensors.push(extra)), &["blk.0.foo.weight", "ignored"]);
    names(&changed_folder("llama", |config, _| config["num_hidden_layers"] = 1.into()), &["model.layers.1."]);
}

#[test]
fn a_bias_that_one_layer_lacks_is_named() {
    for layer in [0, 1] {
        let name = format!("blk.{layer}.attn_k.bias");
        let error = changed("qwen2", |_, tensors| tensors.retain(|view| view.name != name));
        names(&error, &[&name]);
    }
}

#[test]
fn rows_beyond_queries_keys_and_values_are_named() {
    let message = changed("phi-window", |_, tensors| {
        let fused = tensors.iter_mut().find(|view| view.name == "blk.1.attn_qkv.weight").unwrap();
        let (rows, cols) = (fused.rows() + 1, fused.cols());
        *fused = View::new(fused.name.clone(), &F32, vec![rows, cols], F32.encode(&vec![0.1; rows * cols])).unwrap();
    });
    names(&message, &["blk.1.attn_qkv.weight", "expected shape [64, 32]", "[65, 32]"]);
}

#[test]
fn keys_of_other_arithmetic_are_named() {
    let with = |key: &'static str, value: Value| changed("llama", move |keys, _| drop(keys.insert(key, value)));
    names(&with("llama.expert_count", Value::U32(8)), &["llama.expert_used_count"]);
    names(&with("llama.final_logit_softcapping", Value::F32(30.0)), &["final_logit_softcapping", "30"]);
    names(&with("llama.attention.causal", Value::Bool(false)), &["attention.causal"]);
    names(&with("llama.vocab_size", Value::U32(77)), &["vocab_size", "288", "77"]);
    let scaled = changed("llama-yarn", |keys, _| drop(keys.insert("llama.rope.scaling.yarn_beta_fast", 0f32)));
    names(&scaled, &["llama.rope", "finite rotations"]);
    assert_eq!(with("llama.logit_scale", Value::F32(1.0)), "");
    names(&changed_folder("llama", |config, _| config["hidden_act"] = "relu".into()), &["hidden_act", "relu"]);
    names(&changed_folder("qwen2", |config, _| config["tie_word_embeddings"] = false.into()), &["lm_head.weight"]);
    names(&changed("llama", |keys, _| drop(keys.remove("tokenizer.ggml.merges"))), &["tokenizer.ggml.merges"]);
}

/// transformers ignores biases that ModernBERT's keys do not announce.
#[test]
fn biases_that_are_not_announced_are_named() {
    for (key, tensor) in [
        ("attention_bias", "layers.0.attn.Wqkv.bias"),
        ("attention_bias", "layers.1.attn.Wo.bias"),
        ("mlp_bias", "layers.0.mlp.Wo.bias"),
        ("norm_bias", "embeddings.norm.bias"),
    ] {
        for is_there in [true, false] {
            let refused = changed_folder("../encoders/modernbert", |config, tensors| {
                tensors.push(View::new(tensor, &F32, vec![32], F32.encode(&[0.1; 32])).unwrap());
                if !is_there {
                    config.as_object_mut().unwrap().remove(key);
                }
            });
            names(&refused, &[key, tensor]);
        }
    }
}

/// transformers would compute with zeros.
#[test]
fn a_bias_that_is_announced_and_not_there_is_named() {
    let modernbert = "../encoders/modernbert";
    let (nomic, attention) = ("../encoders/nomic-bert", &["attn.Wqkv.weight", "attn.out_proj.weight"]);
    for (model, key, ends, lacking) in [
        (modernbert, "norm_bias", &["norm.weight"][..], "layers.1.attn_norm.bias"),
        (modernbert, "norm_bias", &["norm.weight"], "embeddings.norm.bias"),
        (modernbert, "norm_bias", &["norm.weight"], "final_norm.bias"),
        (modernbert, "attention_bias", &["attn.Wqkv.weight", "attn.Wo.weight"], "layers.3.attn.Wqkv.bias"),
        (modernbert, "mlp_bias", &["mlp.Wi.weight", "mlp.Wo.weight"], "layers.2.mlp.Wi.bias"),
        (nomic, "qkv_proj_bias", attention, "encoder.layers.1.attn.Wqkv.bias"),
        (nomic, "qkv_proj_bias", attention, "encoder.layers.0.attn.out_proj.bias"),
    ] {
        let with = |lacking: &str| {
            changed_folder(model, |config, tensors| {
                config[key] = true.into();
                let weights = tensors.iter().filter(|view| ends.iter().any(|end| view.name.ends_with(end)));
                let biases = weights.map(|view| {
                    let name = view.name.replace("weight", "bias");
                    View::new(name, &F32, vec![view.shape[0]], F32.encode(&vec![0.1; view.shape[0]])).unwrap()
                });
                let biases: Vec<View> = biases.filter(|view| view.name != lacking).collect();
                tensors.extend(biases);
            })
        };
        assert_eq!(with(""), "", "{key}");
        names(&with(lacking), &[key, &format!("`{lacking}`")]);
    }
}

/// ggml drops last dimensions of 1, and takes one number for all layers or one for each.
#[test]
fn shapes_and_numbers_may_be_written_as_ggml_takes_them() {
    let ones = |_: &mut Metadata, tensors: &mut Vec<View>| {
        for view in tensors.iter_mut().filter(|view| view.shape.len() < 3) {
            view.shape.insert(0, 1);
        }
    };
    assert_eq!(changed("llama", ones), "");
    assert_eq!(changed("qwen2moe", ones), "");
    let heads = |list: &'static [i32]| {
        changed("llama", |keys, _| drop(keys.insert("llama.attention.head_count", list.to_vec())))
    };
    assert_eq!(heads(&[4, 4]), "");
    names(&heads(&[4, 2]), &["head_count", "the same number in every layer", "4 in layer 0 and 2 in layer 1"]);
    names(&heads(&[-4, -4]), &["head_count", "counts", "-4"]);
    let multiple = "a multiple of llama.attention.head_count_kv, which is 2";
    names(&heads(&[7, 7]), &["`llama.attention.head_count`", multiple, "found 7"]);
    let raw = |keys: &mut Metadata, _: &mut Vec<View>| {
        keys.insert("general.description", Value::Bytes(vec![0xff]));
    };
    assert_eq!(changed("llama", raw), "");
    names(&changed("llama", |keys, _| drop(keys.insert("general.type", "adapter"))), &["general.type", "adapter"]);
    let factor = changed("llama-yarn", |keys, _| drop(keys.insert("llama.rope.scaling.factor", 0f32)));
    names(&factor, &["`llama.rope.scaling.factor`: expected a number above 0, found 0"]);
}

#[test]
fn ternary_weights_that_are_no_numbers_are_named() {
    for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        let message = changed_folder("bitnet-b1.58", |_, tensors| {
            let scale = tensors.iter_mut().find(|view| view.name.ends_with("k_proj.weight_scale")).unwrap();
            scale.bytes = scale.format.encode(&[bad]).into();
        });
        names(&message, &["k_proj.weight_scale", "above zero"]);
    }
    let message = changed_folder("bitnet-online", |_, tensors| {
        let weight = tensors.iter_mut().find(|view| view.name.ends_with("up_proj.weight")).unwrap();
        let mut weights = weight.decode();
        weights[17] = f32::NAN;
        weight.bytes = weight.format.encode(&weights).into();
    });
    names(&message, &["up_proj.weight", "finite"]);
    let message = changed_folder("llama", |_, tensors| {
        let norm = tensors.iter_mut().find(|view| view.name.ends_with("0.input_layernorm.weight")).unwrap();
        *norm = View::new(norm.name.clone(), &U8, norm.shape.clone(), vec![1; norm.cols()]).unwrap();
    });
    names(&message, &["input_layernorm.weight", "U8", "F32, F16 or BF16"]);
}

#[test]
fn layers_of_bitnet_have_weights_of_their_kind() {
    let message = changed_folder("llama-bitlinear", |_, tensors| {
        let view = tensors.iter_mut().find(|view| view.name.ends_with("q_proj.weight")).unwrap();
        *view = View::new(&view.name, &F32, vec![128, 128], F32.encode(&[0.5; 128 * 128])).unwrap();
    });
    names(&message, &["q_proj.weight", "modules_to_not_convert does not name the layer", "F32"]);
    let of = |name: &str, key: &'static str, value: serde_json::Value| {
        changed_folder(name, |config, _| config["quantization_config"][key] = value)
    };
    names(&of("llama-bitlinear", "modules_to_not_convert", serde_json::json!([])), &["lm_head", "the embedding is"]);
    names(&of("bitnet-online", "linear_class", "other".into()), &["linear_class", "other, online"]);
    names(&of("bitnet-online", "modules_to_not_convert", "q_proj".into()), &["modules_to_not_convert", "a list"]);
    names(&of("llama-bitlinear-rms", "rms_norm_eps", "x".into()), &["rms_norm_eps", "a number"]);
    names(&of("bitnet-online", "quant_method", "hqq".into()), &["quant_method", "gptq, awq", "hqq"]);
    // Floats as they are, beside the packed weights of other layers.
    let message = changed_folder("bitnet-b1.58", |_, tensors| {
        tensors.retain(|view| !view.name.ends_with("0.self_attn.q_proj.weight_scale"));
        let view = tensors.iter_mut().find(|view| view.name.ends_with("q_proj.weight")).unwrap();
        *view = View::new(&view.name, &F32, vec![128, 128], F32.encode(&[0.5; 128 * 128])).unwrap();
    });
    assert_eq!(message, "");
}

/// What loading says of a golden folder when one tensor, by the end of its name, has been exchanged.
fn exchanged(name: &str, end: &str, change: impl FnOnce(&View) -> View) -> String {
    changed_folder(name, |_, tensors| {
        let view = tensors.iter_mut().find(|view| view.name.ends_with(end)).unwrap();
        *view = change(view);
    })
}

#[test]
fn damaged_packed_weights_are_named() {
    let of = |view: &View, format, shape: &[usize]| {
        let format = trine_tensor::format::by_name(format).unwrap();
        let bytes = vec![0; shape.iter().product::<usize>() * format.bytes];
        View::new(&view.name, format, shape.to_vec(), bytes).unwrap()
    };
    let filled = |view: &View, number: f32| {
        let bytes = view.format.encode(&vec![number; view.rows() * view.cols()]);
        View::new(&view.name, view.format, view.shape.clone(), bytes).unwrap()
    };
    let act_order = "llama-gptq-act-order";
    for (name, end, change, said) in [
        (
            "llama-gptq",
            "k_proj.qweight",
            &(|view: &View| of(view, "I32", &[7, 32])) as &dyn Fn(&View) -> View,
            "expected shape [56], found [64]",
        ),
        ("llama-gptq", "k_proj.qweight", &|view| of(view, "F32", &[8, 32]), "expected I32, found F32"),
        ("llama-gptq-3bit", "k_proj.qweight", &|view| of(view, "I32", &[7, 32]), "[9, 32]"),
        ("llama-gptq", "k_proj.qzeros", &|view| of(view, "I32", &[2, 3]), "expected shape [2, 4], found [2, 3]"),
        ("llama-gptq", "k_proj.scales", &|view| of(view, "F16", &[1, 32]), "groups that have scales, found 1"),
        ("llama-gptq", "k_proj.scales", &|view| of(view, "F16", &[4, 32]), "are the 4 groups of tensor"),
        ("llama-gptq", "k_proj.scales", &|view| filled(view, f32::NAN), "finite scales"),
        (act_order, "k_proj.g_idx", &|view| filled(view, 2.0), "groups that have scales, found 2"),
        (act_order, "k_proj.g_idx", &|view| filled(view, -1.0), "groups that have scales, found -1"),
        (act_order, "k_proj.g_idx", &|view| of(view, "I32", &[63]), "expected shape [64], found [63]"),
        ("llama-awq", "k_proj.qzeros", &|view| of(view, "I32", &[2, 5]), "expected shape [2, 4], found [2, 5]"),
        ("llama-awq", "k_proj.scales", &|view| filled(view, f32::INFINITY), "finite scales"),
        (
            "llama-fp8",
            "k_proj.weight_scale_inv",
            &|view| of(view, "F32", &[2, 2]),
            "expected shape [1, 2], found [2, 2]",
        ),
        ("llama-fp8", "k_proj.weight_scale_inv", &|view| filled(view, f32::NAN), "finite scales"),
        ("llama-fp8", "k_proj.weight_scale_inv", &|view| filled(view, 3e38), "finite weights"),
        (
            "llama-fp8",
            "k_proj.weight",
            &|view| View::new(&view.name, view.format, view.shape.clone(), vec![0x7f; 32 * 64]).unwrap(),
            "finite weights",
        ),
        ("llama-fp8-channel", "k_proj.weight_scale", &|view| of(view, "BF16", &[32]), ""),
        ("llama-fp8-channel", "k_proj.weight_scale", &|view| of(view, "BF16", &[1, 32]), "expected shape [32, 1]"),
    ] {
        let message = exchanged(name, end, change);
        names(&message, &[said]);
        assert!(message.is_empty() == said.is_empty() && (said.is_empty() || message.contains("k_proj")), "{message}");
    }
    for part in ["qzeros", "scales"] {
        let end = format!("k_proj.{part}");
        let message = changed_folder("llama-gptq", |_, tensors| tensors.retain(|view| !view.name.ends_with(&end)));
        names(&message, &[&end]);
    }
    for (name, key, value) in [
        ("llama-gptq", "bits", serde_json::json!(5)),
        ("llama-gptq", "group_size", 0.into()),
        ("llama-gptq", "checkpoint_format", "marlin".into()),
        ("llama-awq", "bits", 8.into()),
        ("llama-awq", "version", "gemv".into()),
        ("llama-fp8", "weight_block_size", serde_json::json!([0, 128])),
        ("llama-fp8-channel", "format", "pack-quantized".into()),
    ] {
        let message = changed_folder(name, |config, _| {
            config["quantization_config"][key] = value;
        });
        names(
            &message,
            &["quantization_config", if key.contains("format") || key == "version" { "format" } else { key }],
        );
    }
    for (rule, said) in [
        (serde_json::json!({".*k_proj": {"group_size": 64}}), "k_proj.scales`, found 64"),
        (serde_json::json!({".*k_proj": {"bits": 5}}), "2, 3, 4 or 8"),
        (serde_json::json!({".*k_proj": {"format": "gptq_v2"}}), "dynamic"),
        (serde_json::json!({"(?<=k)_proj": {}}), "look-around"),
        (serde_json::json!({"-:.*k_proj": {}, ".*k_proj": {"bits": 5, "sym": true}}), "2, 3, 4 or 8"),
        (serde_json::json!({".*q_proj": {"group_size": 32, "desc_act": false}}), ""),
    ] {
        let message = changed_folder("llama-gptq", |config, _| config["quantization_config"]["dynamic"] = rule);
        assert!(message.contains(said) && message.is_empty() == said.is_empty(), "{said}: {message}");
    }
    // Bits of another quantizer's: the shape tells.
    let message = changed_folder("llama-gptq", |config, _| config["quantization_config"]["bits"] = 8.into());
    names(&message, &["q_proj.g_idx", "expected shape [32], found [64]"]);
}

/// A key of another type is named, with what was expected and found, unless its value changes nothing here.
#[test]
fn keys_of_wrong_types_are_named() {
    use serde_json::{Value as Json, json};
    const UNREAD: [&str; 10] = [
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "initializer_range",
        "pretraining_tp",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    ];
    let file = File::open(golden("llama")).unwrap();
    let mut config = file.config().unwrap().as_object().unwrap().clone();
    for (key, value) in [
        ("attention_bias", json!(false)),
        ("head_dim", json!(16)),
        ("mlp_bias", json!(false)),
        ("rope_scaling", json!({})),
        ("tie_word_embeddings", json!(false)),
    ] {
        config.entry(key).or_insert(value);
    }
    let read: Vec<(&String, &Json)> = config.iter().filter(|(key, _)| !UNREAD.contains(&key.as_str())).collect();
    assert!(read.len() > 15, "{read:?}");
    let wrong = [json!("x"), json!(7), json!(true), json!([1]), json!({ "a": 1 }), json!(1.5), json!(-1)];
    let same = |a: &Json, b: &Json| std::mem::discriminant(a) == std::mem::discriminant(b);
    for (key, value) in read {
        for other in wrong.iter().filter(|other| value.is_null() && !other.is_object() || !same(value, other)) {
            let refused = changed_folder("llama", |config, _| config[key] = other.clone());
            names(&refused, &[&format!("`{key}`"), "expected", "found"]);
        }
    }
}
