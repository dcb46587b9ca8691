//! Folders of sentence-transformers give its embeddings, whatever their small files say (golden/sentences.py).

use serde_json::Value;
use std::path::{Path, PathBuf};
use trine::{Embedder, Error};
use trine_tensor::format::F32;
use trine_tensor::{View, safetensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn floats(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// A copy of the golden encoder `bert` with some files in place of its own; a list is a tensor. Those of the model are where `modules.json`
/// says that they are.
fn bert(files: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "modules.json",
        "1_Pooling/config.json",
    ] {
        let place =
            files["modules.json"][0]["path"].as_str().filter(|_| !name.contains("modules") && !name.contains('/'));
        let place = folder
            .path()
            .join(place.filter(|place| !place.contains("..") && !place.starts_with('/')).unwrap_or_default());
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(golden("encoders/bert").join(name), place.join(name)).unwrap();
    }
    for (name, content) in files.as_object().unwrap() {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with(".json") {
            std::fs::write(&path, content.to_string()).unwrap();
            continue;
        }
        let tensor = |(name, tensor): (&String, &Value)| {
            let shape = tensor[0].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            View::new(name, &F32, shape, F32.encode(&floats(&tensor[1]))).unwrap()
        };
        safetensors::write(&path, &content.as_object().unwrap().iter().map(tensor).collect::<Vec<_>>()).unwrap();
    }
    folder
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let golden = json(&golden("sentences.json"));
    let text = golden["text"].as_str().unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let (name, folder) = (&case["name"], bert(&case["files"]));
        let mut embedder = Embedder::open(folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(prompt) = case["prompt"].as_str() {
            embedder.choose_prompt(Some(prompt)).unwrap();
        }
        let (found, expected) = (embedder.embed(text).unwrap(), floats(&case["embedding"]));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {worst:.1e}");
        assert!(found.len() == expected.len() && worst < 1e-5, "{name}: {worst}, {found:?}");
        assert_eq!(embedder.warnings(), &[] as &[String], "{name}");
    }
}

#[test]
fn prompts_are_chosen_by_their_names() {
    let config = serde_json::json!({"prompts": {"query": "q: ", "none": null}, "default_prompt_name": "query"});
    let folder = bert(&serde_json::json!({"config_sentence_transformers.json": config}));
    let mut embedder = Embedder::open(folder.path()).unwrap();
    assert_eq!(embedder.prompt(), "q: ");
    let with = embedder.embed("one").unwrap();
    embedder.choose_prompt(None).unwrap();
    assert_eq!(embedder.embed("q: one").unwrap(), with);
    embedder.choose_prompt(Some("none")).unwrap();
    assert_eq!(embedder.prompt(), "");
    let error = embedder.choose_prompt(Some("passage")).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownPrompt { .. }) && error.to_string().contains("[\"query\", \"none\"]"),
        "{error}"
    );
}

#[test]
fn what_is_not_done_is_refused_and_what_is_not_known_is_reported() {
    let refused = |files: Value, what: &[&str]| {
        let error = Embedder::open(bert(&files).path()).err().map_or(String::new(), |error| error.to_string());
        assert!(what.iter().all(|what| error.contains(what)), "{what:?}: {error}");
    };
    let module = |kind: &str| serde_json::json!({"modules.json": [{"path": "", "type": kind}]});
    for kind in ["sentence_transformers.models.CNN", "custom_st.Transformer", "Pooling"] {
        refused(module(kind), &["modules.json", kind]);
    }
    for path in ["../bert", "/bert", "a/../../b", "C:\\bert"] {
        for i in 0..2 {
            let mut files = serde_json::json!({"modules.json": [
                {"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "", "type": "sentence_transformers.models.Pooling"},
            ]});
            files["modules.json"][i]["path"] = path.into();
            refused(files, &["modules.json", "a folder within", &format!("{path:?}")]);
        }
    }
    for (file, key, value) in [
        ("1_Pooling/config.json", "pooling_mode", serde_json::json!("max")),
        ("1_Pooling/config.json", "pooling_mode", serde_json::json!(["mean", "cls"])),
        ("config_sentence_transformers.json", "default_prompt_name", "absent".into()),
        ("config_sentence_transformers.json", "model_type", "SparseEncoder".into()),
        ("config_sentence_transformers.json", "truncate_dim", 0.into()),
        ("sentence_bert_config.json", "max_seq_length", "many".into()),
        ("sentence_bert_config.json", "transformer_task", "fill-mask".into()),
        ("sentence_bert_config.json", "query_length", 32.into()),
    ] {
        refused(serde_json::json!({ file: { key: value } }), &[key]);
    }
    let unknown = serde_json::json!({"sentence_bert_config.json": {"max_seq_length": 8, "shine": 1}});
    let embedder = Embedder::open(bert(&unknown).path()).unwrap();
    assert_eq!(embedder.warnings(), ["sentence_bert_config.json: the key `shine` is not known, and not applied"]);
    let (ids, cut) = embedder.encode(&"one ".repeat(20));
    assert_eq!((ids.len(), cut > 0), (8, true));
}

/// As the files of BERT are named that were converted from TensorFlow.
#[test]
fn norms_may_have_their_old_names() {
    let folder = bert(&serde_json::json!({}));
    let embed = || Embedder::open(folder.path()).unwrap().embed("The cat sleeps.").unwrap();
    let expected = embed();
    let path = folder.path().join("model.safetensors");
    let renamed = |view: &View| {
        let name = view.name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        View::new(name, view.format, view.shape.clone(), view.bytes.clone()).unwrap()
    };
    let tensors: Vec<View> = trine_tensor::File::open(&path).unwrap().tensors().map(renamed).collect();
    assert!(tensors.iter().any(|view| view.name.ends_with(".gamma")));
    let written = folder.path().join("renamed.safetensors");
    safetensors::write(&written, &tensors).unwrap();
    std::fs::rename(written, &path).unwrap();
    assert_eq!(embed(), expected);
}

/// Folders that people's tools write (golden/cases.py). Skipped where they are absent.
#[test]
fn folders_of_other_tools_give_their_embeddings() {
    let root = std::env::var_os("TRINE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let cases = root.join("cases");
    if !cases.exists() {
        eprintln!("skipped: {} is absent", cases.display());
        return;
    }
    let golden = json(&golden("cases.json"));
    for name in ["st62", "e_gamma", "e_prompt"] {
        let mut embedder = Embedder::open(cases.join(name)).unwrap_or_else(|error| panic!("{error}"));
        let found = embedder.embed(golden[name]["text"].as_str().unwrap()).unwrap();
        let worst =
            found.iter().zip(floats(&golden[name]["embedding"])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == 64 && worst < 1e-5, "{name}: {worst}");
    }
}
