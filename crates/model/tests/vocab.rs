//! A language goes from one file to another and stays what it is.

use std::path::Path;
use trine_model::Language;
use trine_tensor::gguf;
use trine_text::{BpeOptions, EncodeOptions, Error};

const TEXT: &str = "The miller counted <|endoftext|> sacks,\n\n and the Müller's 123 🦙 too.";

/// Copies the language of `path` to a GGUF file and compares.
fn check(path: &Path, folder: &Path) {
    let metadata = Language::metadata(path).unwrap();
    assert!(metadata.iter().all(|(key, _)| key.starts_with("tokenizer.")));
    let copy = folder.join("copy.gguf");
    gguf::write(&copy, &metadata, &[]).unwrap();
    assert_eq!(Language::metadata(&copy).unwrap(), metadata);
    let (old, new) = (Language::open(path).unwrap(), Language::open(&copy).unwrap());
    assert_eq!(old.tokenizer.templates(), new.tokenizer.templates());
    let (old, new) = (old.tokenizer, new.tokenizer);
    assert_eq!(old.len(), new.len());
    // A `tokenizer.json` of BERT has tokens around a text and calls none of them BOS or EOS; GGUF does.
    assert!(old.bos().is_none_or(|id| new.bos() == Some(id)) && old.eos().is_none_or(|id| new.eos() == Some(id)));
    for options in [(false, false), (false, true), (true, false), (true, true)] {
        let options = EncodeOptions { parse_special: options.0, add_special: options.1 };
        assert_eq!(old.encode(TEXT, options), new.encode(TEXT, options), "{}", path.display());
    }
}

#[test]
fn the_language_of_every_kind_of_file_can_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    check(&models.join("llama/model.gguf"), folder.path());

    let json = BpeOptions { vocab_size: 300, ..BpeOptions::default() };
    let json = json.train([Ok::<_, Error>(TEXT.repeat(3))].into_iter()).unwrap();
    let config = json.config.replacen('{', r#"{"chat_template": "{{ messages }}","#, 1);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", &json.tokenizer);
    check(&folder.path().join("tokenizer.json"), folder.path());
    write("tokenizer_config.json", &config);
    check(&folder.path().join("tokenizer.json"), folder.path());
    let language = Language::open(folder.path()).unwrap();
    assert_eq!(language.tokenizer.templates().get("default"), Some("{{ messages }}"));
    check(folder.path(), folder.path());

    write("tokenizer.json", &json.tokenizer.replace(r#""normalizer": null"#, r#""normalizer": {"type": "Lowercase"}"#));
    let error = Language::metadata(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: expected BPE, WordPiece or Unigram"), "{error}");
}

#[test]
fn sentencepiece_files_become_gguf_keys_where_gguf_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let model = folder.path().join("tokenizer.model");
    let take = |name: &str| std::fs::copy(golden.join("tokenizers").join(name), &model).map(drop).unwrap();
    for name in ["spm-bpe.model", "spm-unigram.model", "spm-unigram-bytes.model"] {
        take(name);
        check(&model, folder.path());
    }
    let config = r#"{"added_tokens_decoder": {"3": {"content": "<0x00>"}, "1000": {"content": "<|endoftext|>", "special": true}},
        "eos_token": "<|endoftext|>", "add_eos_token": true, "chat_template": "{{ messages }}"}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    take("spm-bpe.model");
    check(folder.path(), folder.path());
    let language = Language::open(&model).unwrap();
    let template = language.tokenizer.templates().get("default");
    assert_eq!((language.tokenizer.eos(), template), (Some(1000), Some("{{ messages }}")));
    let ids = language.tokenizer.encode("a<|endoftext|>", EncodeOptions { parse_special: true, add_special: true });
    assert_eq!(ids[ids.len() - 2..], [1000, 1000]);

    // Beside a model that has no tokenizer inside.
    std::fs::copy(golden.join("models/llama/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    std::fs::remove_file(folder.path().join("copy.gguf")).unwrap();
    let file = trine_model::open_file(folder.path().join("model.safetensors"), &Default::default()).unwrap();
    assert_eq!(Language::of(&file).unwrap().tokenizer.eos(), Some(1000));

    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        config.replace("\"<0x00>\"", "\"x\", \"rstrip\": true"),
    )
    .unwrap();
    let error = Language::open(&model).map(drop).unwrap_err().to_string();
    assert!(error.contains("added_tokens_decoder.3: expected a token without lstrip"), "{error}");
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    let json = folder.path().join("tokenizer.json");
    for name in ["wordpiece.json", "wordpiece-cased.json", "unigram-of-spm.json"] {
        std::fs::copy(golden.join("tokenizers").join(name), &json).unwrap();
        check(&json, folder.path());
    }
    // Another tokenizer.json than GGUF has words for stands back.
    std::fs::copy(golden.join("tokenizers/byte-fallback.json"), folder.path().join("tokenizer.json")).unwrap();
    assert_eq!(Language::metadata(folder.path()).unwrap(), Language::metadata(&model).unwrap());
    take("spm-bpe-rules.model");
    let error = Language::metadata(&model).map(drop).unwrap_err().to_string();
    assert!(error.contains("normalizer_spec"), "{error}");
    Language::open(&model).map(drop).unwrap();
}

#[test]
fn the_languages_of_published_files_can_be_copied() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers");
    if !shared.exists() {
        eprintln!("skipped: no {}", shared.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama2/tokenizer.model", "llama3/tokenizer.model", "test_ja_model.model", "ggml-vocab-bert-bge.gguf"]
    {
        check(&shared.join(name), folder.path());
    }
}

#[test]
fn an_error_of_a_folder_names_the_file_that_it_is_about_once() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders/bert/tokenizer.json");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    for (name, content) in [
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("special_tokens_map.json", "[]"),
        ("added_tokens.json", r#"{"<a>": "first"}"#),
        ("generation_config.json", "[]"),
        ("config.json", "{"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = Language::open(folder.path()).err().map_or(String::new(), |error| error.to_string());
        assert!(error.starts_with(&path.display().to_string()), "{name}: {error}");
        assert_eq!(error.matches(name).count(), 1, "{error}");
        std::fs::remove_file(path).unwrap();
    }
    for name in ["mine.json", "mine.model", "tokenizer.json"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "{").unwrap();
        let error = Language::open(&path).err().map_or(String::new(), |error| error.to_string());
        assert!(error.starts_with(&format!("{}: ", path.display())), "{name}: {error}");
        let rest = &error[path.display().to_string().len()..];
        assert!(!rest.contains(".json") && !rest.contains(".model"), "{error}");
    }
}

/// Texts of golden/tokenizers. U+2581 in a text is a space for SentencePiece, and not for transformers.
fn texts() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers/golden.json");
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let rows = all["wordpiece.json"].as_array().unwrap().iter();
    rows.map(|row| row[0].as_str().unwrap().to_owned()).filter(|text| !text.contains('\u{2581}')).collect()
}

#[test]
fn folders_get_a_tokenizer_json_of_every_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers");
    let names = [
        "wordpiece.json",
        "wordpiece-cased.json",
        "unigram-of-spm.json",
        "spm-unigram.model",
        "spm-unigram-bytes.model",
    ];
    let mut paths: Vec<_> = names.iter().map(|name| golden.join(name)).collect();
    paths.extend(
        ["ggml-vocab-bert-bge.gguf", "ggml-vocab-gpt-2.gguf"]
            .map(|name| shared.join(name))
            .into_iter()
            .filter(|path| path.exists()),
    );
    let texts = texts();
    for path in paths {
        let of_file = Language::metadata(&path).unwrap();
        let gguf = Language::of_metadata(&of_file).unwrap().tokenizer;
        let files = Language::folder_files(&of_file).unwrap();
        for (name, text) in &files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let hf = Language::open(folder.path()).unwrap().tokenizer;
        assert_eq!(hf.len(), gguf.len(), "{}", path.display());
        let mut wrong = Vec::new();
        for text in &texts {
            for add_special in [false, true] {
                let options = EncodeOptions { parse_special: true, add_special };
                let [a, b] = [&gguf, &hf].map(|tokenizer| tokenizer.encode(text, options));
                if a != b || gguf.decode(&a) != hf.decode(&a) {
                    wrong.push(format!("{text:?}: {a:?} {b:?} {:?} {:?}", gguf.decode(&a), hf.decode(&a)));
                }
            }
        }
        assert!(wrong.is_empty(), "{}: {}", path.display(), wrong.join("\n"));
        // And back to the same keys, but for what stands at the default.
        let again = Language::of_metadata(&Language::metadata(folder.path()).unwrap()).unwrap().tokenizer;
        for text in &texts {
            let options = EncodeOptions { parse_special: true, add_special: true };
            assert_eq!(gguf.encode(text, options), again.encode(text, options), "{}: {text:?}", path.display());
        }
    }
}
