//! What configurations say that no golden model has.

use serde_json::{Value, json};
use std::path::Path;
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
    spec.kinds.iter().map(|kind| kind.window).collect()
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

#[test]
fn arithmetic_that_is_not_ours_is_refused() {
    let error = changed("gpt-oss", |config| config["swiglu_limit"] = json!(5.0)).unwrap_err().to_string();
    assert!(error.contains("swiglu_limit") && error.contains('5'), "{error}");
    let error = changed("deepseek3", |config| config["scoring_func"] = json!("relu")).unwrap_err().to_string();
    assert!(error.contains("scoring_func") && error.contains("relu"), "{error}");
    let error = changed("deepseek3", |config| config["n_group"] = json!(3)).unwrap_err().to_string();
    assert!(error.contains("expert_group_count") && error.contains('3'), "{error}");
    let error = changed("mixtral", |config| config["num_experts_per_tok"] = json!(5)).unwrap_err().to_string();
    assert!(error.contains("expert_used_count") && error.contains('5'), "{error}");
}
