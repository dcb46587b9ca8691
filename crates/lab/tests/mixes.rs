//! Mixtures give each tensor the format that llama-quantize gives it: `golden/mixes.py` wrote down which.

use serde_json::{Map, Value};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trine_lab::imatrix::{Entry, Imatrix};
use trine_lab::quantize::{Error, MIXES, Mix, Recipe, Rule, Target, plan};
use trine_lab::synthetic::{self, Mixture};
use trine_model::GgufModel;
use trine_tensor::File;
use trine_tensor::format::{F16, Q4_K, Q6_K, Q8_0, by_name};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

fn model(name: &str, folder: &Path) -> File {
    if name != "wide" {
        return File::open(golden().join("models").join(name).join("model.gguf")).unwrap();
    }
    let path = folder.join("wide.gguf");
    if !path.exists() {
        let shape = synthetic::shape("tiny").unwrap();
        let f16 = Mixture::named("f16").unwrap();
        synthetic::write(&path, shape, f16, 1, &mut |_, _| ControlFlow::Continue(())).unwrap();
    }
    File::open(path).unwrap()
}

fn imatrix(file: &File) -> Arc<Imatrix> {
    let entry = |cols: usize| Entry { sums: vec![1.0; cols], counts: vec![1.0] };
    let matrices = file.tensors().filter(|view| view.rows() > 1 && view.name.starts_with("blk."));
    let entries = matrices.map(|view| (view.name.clone(), entry(view.cols()))).collect();
    Arc::new(Imatrix { entries, ..Imatrix::default() })
}

#[test]
fn every_tensor_gets_the_format_of_llama_quantize() {
    let folder = tempfile::tempdir().unwrap();
    let known: Map<String, Value> =
        serde_json::from_slice(&std::fs::read(golden().join("mixes.json")).unwrap()).unwrap();
    let mut tried = 0;
    for (name, kinds) in &known {
        let file = model(name, folder.path());
        let gguf = GgufModel::open(&file, None).unwrap();
        for (kind, mixes) in kinds.as_object().unwrap() {
            for (mix, changed) in mixes.as_object().unwrap() {
                let target = match Mix::by_name(mix) {
                    Some(mix) => Target::Mix(mix),
                    None => Target::Format(by_name(mix).unwrap()),
                };
                let imatrix = (kind == "imatrix").then(|| imatrix(&file));
                let plan = plan(&gguf, &Recipe { target: Some(target), imatrix, ..Recipe::default() }).unwrap();
                for (tensor, before) in plan.tensors.iter().zip(file.tensors()) {
                    let expected = changed[&tensor.info.name].as_str().unwrap_or(before.format.name);
                    assert_eq!(tensor.info.format.name, expected, "{name}, {kind}, {mix}: {}", tensor.info.name);
                }
                assert_eq!(plan.metadata.u32("general.file_type").unwrap(), target_file_type(mix), "{mix}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

fn target_file_type(mix: &str) -> Option<u32> {
    Mix::by_name(mix).map_or(Some(1), |mix| Some(mix.file_type))
}

#[test]
fn rules_precede_the_mixture_and_the_first_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = model("wide", folder.path());
    let gguf = GgufModel::open(&file, None).unwrap();
    let rules = [Rule::of_layers("0=q8_0"), Rule::of_tensors("ffn_(gate|up)=q6_k"), Rule::of_tensors("ffn_up=f16")];
    let rules: Vec<Rule> = rules.into_iter().map(Result::unwrap).collect();
    let recipe = Recipe {
        target: Some(Target::Format(&Q4_K)),
        rules: rules.clone(),
        embedding: Some(&Q8_0),
        output: Some(&F16),
        ..Recipe::default()
    };
    let found = plan(&gguf, &recipe).unwrap();
    let format = |name: &str| found.tensors.iter().find(|tensor| tensor.info.name == name).unwrap().info.format;
    assert_eq!(format("token_embd.weight"), &Q8_0);
    for (name, expected) in
        [("blk.0.ffn_up.weight", &Q8_0), ("blk.1.ffn_up.weight", &Q6_K), ("blk.1.attn_q.weight", &Q4_K)]
    {
        assert_eq!(format(name), expected, "{name}");
    }
    assert_eq!(format("blk.0.attn_norm.weight").name, "F32");
    // Rules alone leave the rest as it is.
    let only = plan(&gguf, &Recipe { rules, ..Recipe::default() }).unwrap();
    assert!(only.tensors.iter().all(|tensor| tensor.info.format == tensor.from || tensor.info.name.contains("blk.")));

    let none = Recipe { rules: vec![Rule::of_tensors("ffn_dwn=q6_k").unwrap()], ..Recipe::default() };
    assert!(matches!(plan(&gguf, &none), Err(Error::NoMatch { rule }) if rule == "ffn_dwn=q6_k"));
    for (text, says) in [
        ("ffn_down", "PATTERN=FORMAT"),
        ("=q6_k", "PATTERN=FORMAT"),
        ("ffn_down=q9", "one of"),
        ("ffn_(=q6_k", "a regular expression"),
    ] {
        let message = Rule::of_tensors(text).unwrap_err().to_string();
        assert!(message.contains(says), "{text}: {message}");
    }
    for text in ["3-1=q8_0", "a=q8_0", "1-=q8_0", "-1=q8_0", "1"] {
        assert!(Rule::of_layers(text).is_err(), "{text}");
    }
    assert!(MIXES.iter().all(|mix| Mix::by_name(&mix.name.to_lowercase()).is_some()));
    assert_eq!(Mix::by_name("q4_k").unwrap().name, "Q4_K_M");
}
