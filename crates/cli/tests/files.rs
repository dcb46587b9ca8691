//! `trine info` and `trine tokenize`.

mod common;

use common::{golden, llama, run, trine, trine_with};
use serde_json::Value;

fn goldens() -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(path: std::path::PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Weights of a model by hand, from its config.json, where it is built like Llama.
fn parameters(config: &Value) -> Option<u64> {
    if !["llama", "mistral", "qwen2", "qwen3", "bitnet"].contains(&config["model_type"].as_str()?) {
        return None;
    }
    let n = |key: &str| config[key].as_u64().unwrap();
    let (width, inner, heads, kv) =
        (n("hidden_size"), n("intermediate_size"), n("num_attention_heads"), n("num_key_value_heads"));
    let head = config["head_dim"].as_u64().unwrap_or(width / heads);
    let (q, kv) = (heads * head, kv * head);
    let model = config["model_type"].as_str().unwrap();
    let extra = match model {
        "qwen2" => q + 2 * kv,
        "qwen3" => 2 * head,
        "bitnet" => width + inner,
        _ => 0,
    };
    // A norm on the inputs of each linear layer.
    let normed = config["quantization_config"]["use_rms_norm"] == true;
    let extra = extra + if normed { 5 * width + q + inner } else { 0 };
    let layer = width * (2 * q + 2 * kv + 3 * inner) + 2 * width + extra;
    let embeddings = if config["tie_word_embeddings"] == true { 1 } else { 2 };
    Some(embeddings * n("vocab_size") * width + n("num_hidden_layers") * layer + width)
}

#[test]
fn info_shows_what_becomes_of_texts() {
    for (name, pooling, size) in [("bert", "first", 32), ("nomic-bert", "mean", 32), ("qwen3-embedding", "last", 32)] {
        let model = golden("../encoders").join(name).display().to_string();
        let ran = trine_with(&["info", &model, "--json"]);
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        let found = &json["embeddings"];
        assert_eq!((&found["pooling"], &found["size"]), (&pooling.into(), &size.into()), "{name}");
        assert!(!json["warnings"].to_string().contains("chats continue plain text"), "{name}");
        assert!(trine_with(&["info", &model]).out.contains("numbers, pooling "), "{name}");
    }
}

#[test]
fn info_counts_the_parameters_of_every_golden_model() {
    for name in goldens() {
        let whole = read(golden(&name).join("config.json"));
        // Of a model that sees, the part for text.
        let config = whole.get("text_config").unwrap_or(&whole).clone();
        let mut counted = parameters(&config);
        for model in [golden(&name), golden(&name).join("model.gguf")].iter().filter(|path| path.exists()) {
            let model = model.display().to_string();
            let ran = trine_with(&["info", &model, "--json", "--huge-pages", "off", "--repack", "off"]);
            let json: Value = serde_json::from_str(&ran.out).unwrap();
            // GGUF has as many as the folder.
            let found = json["parameters"].as_u64().unwrap();
            assert_eq!(found, *counted.get_or_insert(found), "{model}");
            assert_eq!((&json["supported"], &json["chat_template"]), (&true.into(), &false.into()), "{model}");
            assert_eq!(json["tokenizer"]["tokens"], config["vocab_size"]);
            // Published configurations may leave out what is usual.
            if let Some(context) = config.get("max_position_embeddings").or(config.get("n_positions")) {
                assert_eq!(&json["shape"]["context_length"], context, "{model}");
            }
            let bytes: u64 = json["formats"].as_array().unwrap().iter().map(|f| f["bytes"].as_u64().unwrap()).sum();
            // What is packed becomes larger, and norms become F32; tables that follow from the keys are not loaded.
            let loaded = json["memory"]["weights_bytes"].as_u64().unwrap();
            assert!(
                loaded <= bytes / 4 * 5 || !config["quantization_config"].is_null(),
                "{model}: {loaded} of {bytes} bytes"
            );
            assert!(name != "llama" || loaded.abs_diff(bytes) < bytes / 100, "{model}: {loaded} of {bytes} bytes");
            let human = trine_with(&["info", &model, "--tensors", "--metadata", "--context", "64"]);
            assert_eq!(human.code, 0, "{}", human.err);
            assert!(
                human.out.contains("memory, context 64")
                    && ["output_norm", "norm.weight", "ln_f"].iter().any(|name| human.out.contains(name)),
                "{}",
                human.out
            );
        }
    }
}

#[test]
fn the_cache_in_the_memory_plan_is_two_rows_per_token_layer_and_head() {
    let json: Value = serde_json::from_str(&trine_with(&["info", &llama(), "--json", "--context", "96"]).out).unwrap();
    let n = |key: &str| json["shape"][key].as_u64().unwrap();
    assert_eq!(json["memory"]["kv_cache_bytes"], 2 * 4 * 96 * n("n_layers") * n("n_kv_heads") * n("head_dim"));
    let eight = trine_with(&["info", &llama(), "--json", "--context", "96", "--parallel", "8"]).out;
    let eight: Value = serde_json::from_str(&eight).unwrap();
    assert_eq!(eight["memory"]["kv_cache_bytes"], 8 * json["memory"]["kv_cache_bytes"].as_u64().unwrap());
}

#[test]
fn info_shows_files_that_cannot_be_run() {
    let Some(shared) = common::shared() else { return };
    for (file, architecture, tokens) in [("llama-spm", "llama", 32000), ("falcon", "falcon", 65024)] {
        let path = shared.join(format!("tokenizers/ggml-vocab-{file}.gguf")).display().to_string();
        let json: Value = serde_json::from_str(&trine_with(&["info", &path, "--json"]).out).unwrap();
        assert_eq!((&json["architecture"], &json["supported"]), (&architecture.into(), &false.into()));
        assert_eq!((&json["parameters"], &json["tokenizer"]["tokens"]), (&0.into(), &tokens.into()));
        assert_eq!((&json["memory"], &json["bits_per_weight"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn tokenize_gives_the_golden_ids_and_their_text_again() {
    for name in goldens() {
        let model = golden(&name).display().to_string();
        for prompt in read(golden(&name).join("golden.json"))["prompts"].as_array().unwrap() {
            let text = prompt["text"].as_str().unwrap();
            let json = trine_with(&["tokenize", &model, text, "--json"]).json();
            assert_eq!(json["ids"], prompt["ids"], "{model}");
            let ids = trine_with(&["tokenize", &model, text]).out;
            assert_eq!(trine_with(&["tokenize", &model, "--decode", &ids, "--no-special"]).out, format!("{text}\n"));
            assert_eq!(run(trine().args(["tokenize", &model, "--json"]), text).json(), json);
            let count = prompt["ids"].as_array().unwrap().len();
            assert_eq!(trine_with(&["tokenize", &model, text, "--count"]).out, format!("{count}\n"));
            assert_eq!(trine_with(&["tokenize", &model, text, "--pieces"]).out.lines().count(), count);
        }
    }
}

#[test]
fn control_tokens_are_taken_as_such_unless_told_otherwise() {
    let ids = |more: &[&str]| trine_with(&[&["tokenize", &llama(), "<|eos|>"], more].concat()).out;
    assert_eq!(ids(&[]), "0 1\n");
    assert_eq!(ids(&["--no-bos"]), "1\n");
    assert!(ids(&["--no-bos", "--no-special"]).split(' ').count() > 3);
    assert_eq!(trine_with(&["tokenize", &llama(), "--decode", "[0, 1]"]).out, "<|bos|><|eos|>\n");
}

#[test]
fn an_architecture_is_not_called_unsupported_for_want_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let lacking = common::changed(folder.path(), "key.gguf", |metadata, _| {
        metadata.remove("llama.embedding_length");
    });
    let foreign = common::changed(folder.path(), "parrot.gguf", |metadata, _| {
        metadata.insert("general.architecture", "parrot");
    });
    let out = trine_with(&["info", &lacking]).out;
    assert!(out.contains("llama (known, but see the warning)") && out.contains("llama.embedding_length"), "{out}");
    let out = trine_with(&["info", &foreign]).out;
    assert!(out.contains("parrot (not supported)"), "{out}");
}

#[test]
fn the_memory_plan_follows_the_options_of_a_run() {
    let plan = |more: &[&str]| -> Value {
        let model = llama();
        let args = [&["info", &model, "--json", "--context", "96"], more].concat();
        serde_json::from_str::<Value>(&trine_with(&args).out).unwrap()["memory"].clone()
    };
    let cache = |more: &[&str]| plan(more)["kv_cache_bytes"].as_u64().unwrap();
    assert_eq!(cache(&[]), 2 * cache(&["--cache-type", "f16"]));
    let scratch = |more: &[&str]| plan(more)["activations_bytes"].as_u64().unwrap();
    assert!(scratch(&["--batch", "8"]) < scratch(&["--batch", "64"]));
    let memory = plan(&[]);
    let parts = ["weights_bytes", "kv_cache_bytes", "activations_bytes", "sampling_bytes", "program_bytes"];
    let sum: u64 = parts.iter().map(|part| memory[part].as_u64().unwrap()).sum();
    assert_eq!(memory["total_bytes"], sum);
}
