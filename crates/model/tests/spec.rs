//! What configurations say that no golden model has.

use serde_json::{Value, json};
use std::path::Path;
use trine_backend::Activation;
use trine_model::{Result, Spec};
use trine_tensor::File;

/// The specification of a golden folder after a change of its configuration.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Result<Spec> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name);
    let mut config = File::open(&golden).unwrap().config().unwrap().clone();
    change(&mut config);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Spec::of(&File::open(folder.path()).unwrap())
}

fn windows(spec: &Spec) -> Vec<Option<usize>> {
    spec.layer_kinds.iter().map(|kind| kind.window).collect()
}

#[test]
fn windows_begin_at_the_layer_that_is_named() {
    let qwen2 = |on: bool, first: usize| {
        let spec = changed("qwen2", |config| {
            config["use_sliding_window"] = on.into();
            config["sliding_window"] = 9.into();
            config["max_window_layers"] = first.into();
            config.as_object_mut().unwrap().remove("layer_types");
        });
        windows(&spec.unwrap())
    };
    assert_eq!(qwen2(false, 0), [None, None]);
    assert_eq!(qwen2(true, 0), [Some(9), Some(9)]);
    assert_eq!(qwen2(true, 1), [None, Some(9)]);
    let gemma2 = |types: Value| windows(&changed("gemma2", |config| config["layer_types"] = types).unwrap());
    assert_eq!(gemma2(Value::Null), [Some(16), None, Some(16)]);
    let all = json!(["full_attention", "sliding_attention", "full_attention"]);
    assert_eq!(gemma2(all), [None, Some(16), None]);
}

/// What is refused says the key of `config.json`, what would do, and what is there.
#[test]
fn arithmetic_that_is_not_ours_is_refused_in_the_words_of_the_folder() {
    let cases: &[(&str, &str, Value, &[&str])] = &[
        ("gpt-oss", "swiglu_limit", json!(5.0), &["swiglu_limit", "5"]),
        ("deepseek3", "scoring_func", json!("relu"), &["scoring_func", "relu"]),
        ("deepseek3", "n_group", json!(3), &["n_group", "3"]),
        ("mixtral", "num_experts_per_tok", json!(5), &["num_experts_per_tok", "5"]),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true), &["scale_attn_by_inverse_layer_idx", "false"]),
        ("gpt2", "scale_attn_weights", json!(false), &["scale_attn_weights", "true"]),
        ("gpt2", "activation_function", json!("relu"), &["activation_function", "gelu_new", "relu"]),
        ("gemma3", "hidden_activation", json!("relu6"), &["hidden_activation", "relu6"]),
        ("qwen3moe", "decoder_sparse_step", json!(2), &["decoder_sparse_step", "every layer has experts"]),
        ("qwen3moe", "mlp_only_layers", json!([0]), &["mlp_only_layers", "[0]"]),
        ("llama", "attention_bias", json!(true), &["attention_bias", "no tensor is a bias"]),
        ("llama", "layer_types", json!(["chunked_attention", "full_attention"]), &["layer_types", "sliding_attention"]),
        ("llama", "rms_norm_eps", Value::Null, &["`rms_norm_eps` is missing"]),
        ("llama", "max_position_embeddings", Value::Null, &["`max_position_embeddings` is missing"]),
        ("llama", "num_key_value_heads", json!(3), &["`num_key_value_heads`", "divisor of 4 heads", "3"]),
        ("llama", "model_type", json!("frobnicate"), &["`frobnicate` is not known", "qwen3_moe"]),
        (
            "llama",
            "rope_parameters",
            json!({"rope_type": "dynamic", "factor": 2.0}),
            &["rope_parameters.rope_type", "dynamic"],
        ),
        ("llama", "rope_parameters", json!({"rope_type": "yarn"}), &["rope_parameters.factor", "missing"]),
    ];
    let encoders: &[(&str, &str, Value, &[&str])] = &[
        ("../encoders/nomic-bert", "causal", json!(true), &["`causal`", "false"]),
        ("../encoders/nomic-bert", "prenorm", json!(true), &["`prenorm`", "false"]),
        ("../encoders/nomic-bert", "rotary_scaling_factor", json!(2), &["`rotary_scaling_factor`", "none"]),
        ("../encoders/nomic-bert", "rotary_emb_scale_base", json!(512), &["`rotary_emb_scale_base`", "none"]),
        ("../encoders/nomic-bert", "moe_every_n_layers", json!(2), &["`moe_every_n_layers`", "0, or none"]),
        ("../encoders/nomic-bert", "qkv_proj_bias", json!(true), &["`qkv_proj_bias`", "no tensor `*.attn.Wqkv.bias`"]),
        ("../encoders/nomic-bert", "mlp_fc2_bias", json!(true), &["`mlp_fc2_bias`", "no tensor `*.mlp.fc2.bias`"]),
    ];
    for (name, key, value, says) in cases.iter().chain(encoders) {
        let error = changed(name, |config| config[*key] = value.clone()).expect_err(key).to_string();
        assert!(says.iter().all(|says| error.contains(says)), "{key}: expected {says:?} in: {error}");
    }
    // Published configurations have these, and other architectures have none of them.
    let warnings = |name: &str, key: &str| {
        let spec = changed(name, |config| config[key] = false.into()).unwrap();
        spec.warnings.into_iter().filter(|warning| warning.contains("is not known")).collect::<Vec<_>>()
    };
    assert_eq!(warnings("../encoders/nomic-bert", "use_rms_norm"), [""; 0]);
    let plain = changed("../encoders/nomic-bert", |config| config["moe_every_n_layers"] = 0.into()).unwrap();
    assert_eq!(plain.warnings, [""; 0]);
    assert_eq!(warnings("../encoders/modernbert", "norm_bias"), [""; 0]);
    assert!(warnings("llama", "prenorm").join("").contains("`prenorm`"));
}

/// What a file does not say is said of its default, what it says twice of the one that counts.
#[test]
fn keys_that_are_missing_and_those_that_do_not_count_are_named() {
    let warnings = |name: &str, change: fn(&mut Value)| changed(name, change).unwrap().warnings.join("; ");
    let twice = warnings("llama", |config| {
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 20000.0});
        config["rope_theta"] = json!(30000.0);
    });
    assert!(
        twice.contains("`rope_theta` = 30000 is not applied: `rope_parameters.rope_theta` = 20000 counts"),
        "{twice}"
    );
    assert_eq!(warnings("qwen2moe", |config| config["sliding_window"] = 0.into()), "");
    assert_eq!(warnings("gpt2", |config| config["add_cross_attention"] = false.into()), "");
    let windows =
        |kind: &str| json!({"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": kind}});
    let gemma3 = |kind: &str| {
        changed("gemma3", |config| {
            config.as_object_mut().unwrap().remove("rope_scaling");
            config["_sliding_window_pattern"] = 6.into();
            config["rope_parameters"] = windows(kind);
        })
    };
    assert_eq!(gemma3("default").unwrap().warnings, [""; 0]);
    let errors = [
        (gemma3("linear"), "`rope_parameters.sliding_attention.rope_type`"),
        (
            changed("gemma2", |config| config["use_bidirectional_attention"] = true.into()),
            "`use_bidirectional_attention`",
        ),
        (changed("llama", |config| config["head_dim"] = 3.into()), "`head_dim`"),
        (changed("smollm3", |config| config["no_rope_layers"] = json!([1])), "`no_rope_layers`"),
    ];
    for (spec, says) in errors {
        let error = spec.expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/qwen2");
    let mut config = File::open(&golden).unwrap().config().unwrap().clone();
    config.as_object_mut().unwrap().remove("tie_word_embeddings");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let tied = Spec::of(&File::open(folder.path()).unwrap()).unwrap().tied;
    assert!(!tied, "qwen2 has a head of its own by default");
}

#[test]
fn activations_are_those_that_the_folder_names() {
    let gate = |name: &str, key: &str, act: &str| changed(name, |config| config[key] = act.into()).unwrap().activation;
    assert_eq!(gate("llama", "hidden_act", "swish"), Activation::Silu);
    assert_eq!(gate("llama", "hidden_act", "gelu"), Activation::Gelu);
    assert_eq!(gate("gptneox", "hidden_act", "gelu_fast"), Activation::GeluTanh);
    assert_eq!(gate("gpt2", "activation_function", "gelu"), Activation::Gelu);
    // What the first Gemma calls so has always been the approximation.
    assert_eq!(gate("gemma", "hidden_act", "gelu"), Activation::GeluTanh);
    assert_eq!(gate("gemma3", "hidden_activation", "silu"), Activation::Silu);
    assert_eq!(gate("bitnet", "hidden_act", "relu2"), Activation::Relu2);
}

#[test]
fn a_cap_that_is_none_is_none() {
    let spec = changed("gemma2", |config| {
        config["attn_logit_softcapping"] = Value::Null;
        config["final_logit_softcapping"] = Value::Null;
    });
    let spec = spec.unwrap();
    assert_eq!((spec.attention_softcap, spec.logit_softcap), (None, None));
}

#[test]
fn what_is_assumed_is_said() {
    let warnings = |name: &str, change: fn(&mut Value)| changed(name, change).unwrap().warnings.join("; ");
    assert_eq!(warnings("qwen2", |_| ()), "");
    assert!(warnings("llama", |config| config["model_type"] = "qwen2".into()).contains("no tensor is a bias"));
    let unsaid = warnings("bitnet-online", |config| config["quantization_config"] = Value::Null);
    assert!(unsaid.contains("quantization_config"), "{unsaid}");
    // A head of its own beside the embedding, though the folder says that both are one.
    let tied = warnings("llama", |config| config["tie_word_embeddings"] = true.into());
    assert!(tied.contains("lm_head.weight"), "{tied}");
}
