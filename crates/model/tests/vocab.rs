//! A language goes from one file to another and stays what it is.

use std::path::Path;
use trine_model::Language;
use trine_tensor::gguf;
use trine_text::{BpeOptions, Encode, Error};

const TEXT: &str = "The miller counted <|endoftext|> sacks,\n\n and the Müller's 123 🦙 too.";

/// Copies the language of `path` to a GGUF file and compares.
fn check(path: &Path, folder: &Path) {
    let metadata = Language::metadata(path).unwrap();
    assert!(metadata.iter().all(|(key, _)| key.starts_with("tokenizer.")));
    let copy = folder.join("copy.gguf");
    gguf::write(&copy, &metadata, &[]).unwrap();
    assert_eq!(Language::metadata(&copy).unwrap(), metadata);
    let (old, new) = (Language::open(path).unwrap(), Language::open(&copy).unwrap());
    assert_eq!(old.template, new.template);
    let (old, new) = (old.tokenizer, new.tokenizer);
    assert_eq!((old.len(), old.bos(), old.eos()), (new.len(), new.bos(), new.eos()));
    for options in [(false, false), (false, true), (true, false), (true, true)] {
        let options = Encode { special: options.0, bos_eos: options.1 };
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
    assert_eq!(Language::open(folder.path()).unwrap().template.as_deref(), Some("{{ messages }}"));
    check(folder.path(), folder.path());

    write("tokenizer.json", &json.tokenizer.replace(r#""normalizer": null"#, r#""normalizer": {"type": "Lowercase"}"#));
    let error = Language::metadata(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: expected plain byte-level BPE"), "{error}");
}
