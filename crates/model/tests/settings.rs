//! The small files beside a tokenizer: what they add to it, and which tokens end an answer.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use trine_model::{
    GENERATION_CONFIG, GGUF_SAMPLING, GGUF_TOKENIZER, GenerationConfig, Language, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG,
};
use trine_tensor::Metadata;
use trine_text::{EncodeOptions, Message, Template, Templates};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

/// A folder with a tokenizer of golden/tokenizers, unless it is empty, and other files.
fn folder(tokenizer: &str, files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    if let Some(extension) = tokenizer.rsplit('.').next().filter(|extension| !extension.is_empty()) {
        let name = folder.path().join(format!("tokenizer.{extension}"));
        std::fs::copy(golden("tokenizers").join(tokenizer), name).unwrap();
    }
    for (name, content) in files {
        let (path, text) =
            (folder.path().join(name), content.as_str().map_or_else(|| content.to_string(), str::to_owned));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn every_folder_gives_the_tokens_of_transformers() {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(golden("tokenizers/settings.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for row in &rows {
        let name = row["tokenizer"].as_str().unwrap_or_default();
        let files: Vec<_> = row["files"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let folder = folder(name, &files);
        let tokenizer = Language::open(folder.path()).unwrap_or_else(|error| panic!("{error}")).tokenizer;
        for text in row["texts"].as_array().unwrap() {
            let expected: Vec<u32> = serde_json::from_value(text[1].clone()).unwrap();
            let text = text[0].as_str().unwrap();
            let found = tokenizer.encode(text, EncodeOptions { parse_special: true, add_special: false });
            // Elsewhere SentencePiece's own rule holds: a space in front of every text, also of one that begins with a space.
            let spaced = text.starts_with(' ') || text.contains("> ");
            let spaced = spaced && row["files"]["tokenizer_config.json"]["legacy"] == true;
            if found != expected && !spaced {
                wrong.push(format!("{name} {}: {text:?}\n  expected {expected:?}\n  found    {found:?}", row["files"]));
            }
        }
        if let Some(around) = row["around"].as_array() {
            let options = EncodeOptions { parse_special: false, add_special: true };
            let expected: Vec<u32> = around.iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(tokenizer.encode("", options), expected, "{}", row["files"]["tokenizer_config.json"]);
        }
        for id in row["special"].as_array().unwrap() {
            let id = id.as_u64().unwrap() as u32;
            if !tokenizer.is_control(id) && tokenizer.name(id) != Some("<unk>") {
                wrong.push(format!("{name} {}: token {id} is no control token", row["files"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whatever class of transformers the folder is of.
#[test]
fn the_split_is_that_of_the_tokenizer_json() {
    type Texts = Vec<(String, Vec<u32>)>;
    let rows = std::fs::read(golden("tokenizers/splits.json")).unwrap();
    let rows: Vec<(Value, Texts)> = serde_json::from_slice(&rows).unwrap();
    assert!(rows.len() >= 6);
    let own: Value = serde_json::from_slice(&std::fs::read(golden("models/qwen2/tokenizer.json")).unwrap()).unwrap();
    for (parts, texts) in rows {
        let mut json = own.clone();
        for (key, value) in parts.as_object().unwrap() {
            json[key] = value.clone();
        }
        for class in ["Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast"] {
            let files = [
                ("tokenizer.json", json.clone()),
                ("tokenizer_config.json", json!({ "tokenizer_class": class })),
                ("config.json", json!({"model_type": "qwen2"})),
            ];
            let tokenizer = Language::open(folder("", &files).path()).unwrap().tokenizer;
            for (text, expected) in &texts {
                assert_eq!(tokenizer.encode(text, EncodeOptions::default()), *expected, "{class} {parts}: {text:?}");
            }
        }
    }
}

#[test]
fn chat_templates_are_those_of_transformers_or_else_of_the_processor() {
    let file = std::fs::read(golden("tokenizers/chat_templates.json")).unwrap();
    type Prompt = Option<String>;
    type Files = serde_json::Map<String, Value>;
    let mut rows: Vec<(Files, Prompt, Prompt, Prompt, Prompt)> = serde_json::from_slice(&file).unwrap();
    assert!(rows.len() >= 22);
    // `AutoProcessor` prefers the first of these, and `AutoTokenizer` reads neither.
    let (processor, older) = ("processor_config.json", "chat_template.json");
    let of = |name: &str, template: &str| (name.to_owned(), json!({ "chat_template": template }));
    for (files, expected) in [
        (vec![of(processor, "processor")], "processor"),
        (vec![of(older, "older")], "older"),
        (vec![of(processor, "processor"), of(older, "older")], "processor"),
        (vec![of(processor, "processor"), of("tokenizer_config.json", "own")], "own"),
    ] {
        let expected = Some(expected.to_owned());
        rows.push((files.into_iter().collect(), expected.clone(), expected.clone(), expected, None));
    }
    let tools = json!([{"type": "function", "function": {"name": "now"}}]);
    for (files, plain, none, one, named) in rows {
        let list: Vec<_> = files.iter().map(|(name, content)| (&**name, content.clone())).collect();
        let folder = folder("spm-bpe.model", &list);
        let language = Language::open(folder.path()).unwrap();
        assert_eq!(language.warnings, [""; 0], "{files:?}");
        // transformers drops this one.
        let own = files.get("tokenizer_config.json").and_then(|config| config["chat_template"].as_str());
        let own = |expected: Prompt| expected.or(own.map(str::to_owned));
        let templates = language.tokenizer.templates();
        let render = |templates: &Templates, tools: Option<&Value>| {
            let template = Template::of(templates, "", "")?;
            template.render(&[Message::new("user", "Hi")], tools, true, &Default::default())
        };
        let check = |templates: &Templates| {
            for (tools, expected) in
                [(None, own(plain.clone())), (Some(&json!([])), own(none.clone())), (Some(&tools), own(one.clone()))]
            {
                let found = render(templates, tools);
                let names: Vec<&str> = templates.names().collect();
                if let Err(error) = &found {
                    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                    let expected = format!("chat template: expected one named `default`, found {names}");
                    assert_eq!(error.to_string(), expected, "{files:?}");
                }
                assert_eq!(found.ok(), expected, "{files:?}: {tools:?}");
            }
            if let Some(expected) = &named {
                assert_eq!(
                    render(&templates.get("rag").unwrap().into(), Some(&tools)).unwrap(),
                    *expected,
                    "{files:?}"
                );
            }
        };
        check(templates);
        // A GGUF file keeps them all; llama.cpp takes `tool_use` where there is no default.
        let written = Language::metadata(folder.path()).unwrap();
        let read = Language::of_metadata(&written).unwrap();
        if templates.get("default").is_some() || templates.get("tool_use").is_none() {
            assert_eq!(read.tokenizer.templates(), templates);
        } else {
            assert_eq!(read.tokenizer.templates().get("default"), templates.get("tool_use"));
        }
        assert_eq!(read.warnings.iter().filter(|warning| warning.contains("template")).count(), 0);
    }
}

#[test]
fn chat_templates_of_gguf_have_the_keys_of_its_converter() {
    let file = std::fs::read(golden("tokenizers/gguf_templates.json")).unwrap();
    let rows: Vec<(Value, serde_json::Map<String, Value>)> = serde_json::from_slice(&file).unwrap();
    for (templates, expected) in rows {
        let folder = folder("spm-bpe.model", &[("tokenizer_config.json", json!({ "chat_template": templates }))]);
        let metadata = Language::metadata(folder.path()).unwrap();
        let keys = metadata.iter().filter(|(key, _)| key.contains("chat_template"));
        let keys: serde_json::Map<String, Value> = keys
            .map(|(key, _)| match metadata.strs(key) {
                Ok(Some(list)) => (key.to_owned(), list.iter().collect()),
                _ => (key.to_owned(), metadata.str(key).unwrap().into()),
            })
            .collect();
        assert_eq!(keys, expected);
    }
}

#[test]
fn malformed_chat_templates_are_a_warning_that_names_the_file() {
    for (file, content, expected) in [
        ("tokenizer_config.json", json!({"chat_template": 5}), "chat_template: expected a template, or"),
        (
            "tokenizer_config.json",
            json!({"chat_template": [{"name": "default"}]}),
            "chat_template[0].template: expected",
        ),
        (
            "tokenizer_config.json",
            json!({"chat_template": {"rag": []}}),
            "chat_template.rag: expected a template, found []",
        ),
        ("processor_config.json", json!("{"), "EOF while parsing"),
        ("chat_template.json", json!({"chat_template": true}), "chat_template: expected a template, or"),
    ] {
        let language = Language::open(folder("byte-level.json", &[(file, content)]).path()).unwrap();
        let [warning] = &language.warnings[..] else { panic!("{file}: {:?}", language.warnings) };
        assert!(warning.starts_with(&format!("{file}: ")) && warning.contains(expected), "{warning}");
        assert!(language.tokenizer.templates().is_empty());
    }
    let jinja = folder("spm-bpe.model", &[]);
    std::fs::write(jinja.path().join("chat_template.jinja"), b"{{ m\xff }}").unwrap();
    let path = jinja.path().join("chat_template.jinja").display().to_string();
    let problem = format!("chat template: {path}: expected UTF-8 text, found an invalid byte at position 4");
    // Only what needs the template fails.
    let language = Language::open(jinja.path()).unwrap();
    let templates = language.tokenizer.templates();
    assert!(!templates.is_empty() && templates.get("default").is_none());
    assert_eq!(Template::of(templates, "", "").unwrap_err().to_string(), problem);
    let written = Language::metadata(jinja.path()).unwrap_err().to_string();
    assert!(written.contains(&problem), "{written}");
    let many: Vec<_> = (0..65).map(|i| (format!("additional_chat_templates/t{i}.jinja"), json!("t"))).collect();
    let many: Vec<_> = many.iter().map(|(name, content)| (&**name, content.clone())).collect();
    let error = Language::open(folder("byte-level.json", &many).path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("additional_chat_templates") && error.contains("at most 64"), "{error}");
}

#[test]
fn eos_of_the_generation_config_ends_an_answer_or_else_that_of_the_configuration() {
    let eog = |files: &[(&str, Value)]| -> Vec<u32> {
        let tokenizer = Language::open(folder("byte-level.json", files).path()).unwrap().tokenizer;
        tokenizer.eog_tokens().collect()
    };
    let (config, generation) = ("config.json", "generation_config.json");
    for (files, expected) in [
        (vec![], vec![]),
        (vec![(config, json!({"eos_token_id": 7}))], vec![7]),
        (vec![(config, json!({"eos_token_id": [7, 999]}))], vec![7, 999]),
        (vec![(config, json!({"eos_token_id": null}))], vec![]),
        (vec![(config, json!({"eos_token_id": -1}))], vec![]),
        (vec![(config, json!({"text_config": {"eos_token_id": 8}}))], vec![8]),
        (vec![(config, json!({"eos_token_id": 7})), (generation, json!({"eos_token_id": [8, 9]}))], vec![8, 9]),
        (vec![(config, json!({"eos_token_id": 7})), (generation, json!({"temperature": 0.5}))], vec![7]),
        (vec![(config, json!({"eos_token_id": 7})), (generation, json!({"eos_token_id": null}))], vec![]),
        (vec![(config, json!({"eos_token_id": 7})), (generation, json!({"eos_token_id": -1}))], vec![]),
        (
            vec![("tokenizer_config.json", json!({"eos_token": "a"})), (generation, json!({"eos_token_id": 9}))],
            vec![9, 65],
        ),
    ] {
        assert_eq!(eog(&files), expected, "{files:?}");
    }
    for wrong in [json!("2"), json!([2, "3"]), json!(1.5), json!(1u64 << 40)] {
        let folder = folder("byte-level.json", &[(generation, json!({"eos_token_id": wrong}))]);
        let error = Language::open(folder.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("generation_config.json: key `eos_token_id`: expected a token id"), "{error}");
    }
    // Nothing reads these, but a file that has them is not what it says.
    for (file, key) in [(generation, "bos_token_id"), (config, "pad_token_id"), (config, "bos_token_id")] {
        for (value, right) in
            [(json!("2"), false), (json!([2]), false), (json!(1.5), false), (json!(-1), true), (json!(null), true)]
        {
            let folder = folder("byte-level.json", &[(file, json!({key: value})), ("other.json", json!({}))]);
            let read = Language::open(folder.path()).map(drop);
            let expected = format!("{file}: key `{key}`: expected a token id");
            assert!(
                if right { read.is_ok() } else { read.unwrap_err().to_string().contains(&expected) },
                "{key} {value}"
            );
        }
    }
}

#[test]
fn a_copy_in_gguf_ends_at_the_same_tokens() {
    for (ids, expected) in [(json!(7), vec![7]), (json!([7, 8, 9]), vec![7, 8, 9])] {
        let folder = folder("spm-bpe.model", &[("generation_config.json", json!({"eos_token_id": ids}))]);
        let metadata = Language::metadata(folder.path()).unwrap();
        let tokenizer = Language::of_metadata(&metadata).unwrap().tokenizer;
        assert!(expected.iter().all(|&id| tokenizer.is_eog(id)), "{ids}");
    }
    let many =
        folder("spm-bpe.model", &[("generation_config.json", json!({"eos_token_id": [10, 11, 12, 13, 14, 15, 16]}))]);
    let error = Language::metadata(many.path()).unwrap_err().to_string();
    assert!(error.contains("no more tokens than"), "{error}");
}

#[test]
fn a_copy_in_gguf_samples_as_the_folder_does() {
    let of = |config: Value| {
        let folder = folder("spm-bpe.model", &[("generation_config.json", config)]);
        let copy = Language::of_metadata(&Language::metadata(folder.path()).unwrap()).unwrap();
        (Language::open(folder.path()).unwrap().generation, copy.generation)
    };
    let all = json!({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1});
    let (own, copy) = of(all);
    assert_eq!((own.source, copy.source), ("generation_config.json", "general.sampling"));
    assert_eq!(copy, GenerationConfig { source: copy.source, ..own });
    for (config, temperature) in [
        (json!({"do_sample": false, "temperature": 0.6}), Some(0.0)),
        (json!({"do_sample": true}), Some(1.0)),
        (json!({"eos_token_id": 2}), None),
    ] {
        assert_eq!(of(config.clone()).1.temperature, temperature, "{config}");
    }
    let changed = |mirostat: i32| {
        gguf(|metadata| {
            metadata.insert("general.sampling.penalty_last_n", 64i32);
            metadata.insert("general.sampling.xtc_probability", 0.3f32);
            metadata.insert("general.sampling.xtc_threshold", 0.2f32);
            metadata.insert("general.sampling.mirostat_tau", 3f32);
            metadata.insert("general.sampling.mirostat_eta", 0.2f32);
            metadata.insert("general.sampling.mirostat", mirostat);
            metadata.insert("general.sampling.new", 2i32);
        })
    };
    let GenerationConfig {
        repeat_last_n, xtc_probability, xtc_threshold, mirostat, mirostat_tau, mirostat_eta, ..
    } = Language::of_metadata(&changed(2)).unwrap().generation;
    assert_eq!((repeat_last_n, mirostat), (Some(64), Some(2)));
    assert_eq!([xtc_probability, xtc_threshold], [Some(0.3), Some(0.2)]);
    assert_eq!([mirostat_tau, mirostat_eta], [Some(3.0), Some(0.2)]);
    let language = Language::of_metadata(&changed(1)).unwrap();
    assert_eq!(language.generation.mirostat, None);
    let expected = [
        "GGUF: `general.sampling.mirostat` = 1 is not applied",
        "GGUF: the key `general.sampling.new` is not known, and not applied",
    ];
    assert_eq!(language.warnings, expected);
}

#[test]
fn tokens_that_are_never_generated_are_read() {
    let of = |value: Value| {
        let files = [("generation_config.json", value), ("config.json", json!({}))];
        Language::open(folder("byte-level.json", &files).path()).map(|language| language.generation)
    };
    let config = json!({"eos_token_id": [2, 4], "bad_words_ids": [[5, 7], [2], [9]], "suppress_tokens": [2, 3, -1], "min_new_tokens": 6});
    let generation = of(config).unwrap();
    assert_eq!(generation.bad_words_ids, [vec![5, 7], vec![9], vec![2], vec![3]]);
    assert_eq!((generation.min_new_tokens, &generation.warnings), (Some(6), &vec![]));
    let mut small = generation;
    small.keep_below(3);
    assert_eq!(small.bad_words_ids, [vec![5, 7], vec![2]]);
    for (key, value) in [
        ("bad_words_ids", json!(7)),
        ("bad_words_ids", json!([7])),
        ("bad_words_ids", json!([[]])),
        ("bad_words_ids", json!([[-1]])),
        ("suppress_tokens", json!("all")),
        ("suppress_tokens", json!(["a"])),
        ("min_new_tokens", json!(-1)),
    ] {
        let error = of(json!({key: value})).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("expected"), "{error}");
    }
}

#[test]
fn a_limit_on_the_whole_length_is_reported_if_it_is_below_the_context() {
    let warned = |generation: Value, config: Value| {
        let files = [("generation_config.json", generation), ("config.json", config)];
        Language::open(folder("byte-level.json", &files).path())
            .unwrap()
            .warnings
            .join("")
            .contains("`max_length` = 20 ")
    };
    let context = |n: u32| json!({"max_position_embeddings": n, "eos_token_id": 7});
    assert!(warned(json!({"max_length": 20}), context(64)));
    assert!(warned(json!({"max_length": 20, "eos_token_id": 7}), json!({"text_config": {"n_positions": 64}})));
    assert!(!warned(json!({"max_length": 20}), context(20)));
    assert!(!warned(json!({"max_length": 20, "max_new_tokens": 5}), context(64)));
}

#[test]
fn the_models_own_settings_precede_those_beside_another_tokenizer() {
    let files = [("generation_config.json", json!({"temperature": 0.5, "eos_token_id": 7, "num_beams": 2}))];
    let tokenizer = folder("byte-level.json", &files);
    let model = |temperature: Option<f32>| {
        let path = tokenizer.path().join("model.gguf");
        let metadata = gguf(|metadata| {
            temperature.map(|value| metadata.insert("general.sampling.temp", value));
        });
        trine_tensor::gguf::write(&path, &metadata, &[]).unwrap();
        Language::for_model(&trine_tensor::File::open(&path).unwrap(), tokenizer.path()).unwrap()
    };
    let (without, with) = (model(None), model(Some(0.25)));
    assert_eq!((without.generation.temperature, with.generation.temperature), (Some(0.5), Some(0.25)));
    assert!(without.tokenizer.is_eog(7) && with.tokenizer.is_eog(7));
    assert_eq!([without, with].map(|language| language.warnings.len()), [1, 0]);
}

/// Every key that transformers writes to these files or reads from them, and every one of GGUF's tokenizers, has a rule.
#[test]
fn every_key_of_transformers_and_gguf_is_known() {
    let keys: Value = serde_json::from_slice(&std::fs::read(golden("tokenizers/keys.json")).unwrap()).unwrap();
    for table in [&GENERATION_CONFIG, &TOKENIZER_CONFIG, &GGUF_TOKENIZER] {
        let names = keys[table.file].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
        let object = names.map(|key| (key, json!("x"))).collect();
        let unknown: Vec<_> =
            table.check(&object).into_iter().filter(|warning| warning.contains("not known")).collect();
        assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    }
    let gguf: Value = serde_json::from_slice(&std::fs::read(golden("gguf_keys.json")).unwrap()).unwrap();
    let names = gguf["other"].as_array().unwrap().iter().map(|key| key.as_str().unwrap());
    let sampling: Vec<_> = names.filter(|key| key.starts_with("general.sampling.")).collect();
    let object = sampling.iter().map(|key| (key.to_string(), json!("x"))).collect();
    assert!(sampling.len() > 10 && !GGUF_SAMPLING.check(&object).join("").contains("not known"));
    let tables = [&GENERATION_CONFIG, &TOKENIZER_CONFIG, &GGUF_TOKENIZER, &GGUF_SAMPLING, &SPECIAL_TOKENS_MAP];
    for table in tables {
        let ignored = table.ignored.iter().flat_map(|row| row.keys);
        let mut all: Vec<_> =
            table.read.iter().chain(ignored).chain(table.neutral.iter().map(|(key, _)| key)).collect();
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len, "{}: a key has two rules", table.file);
    }
}

#[test]
fn a_key_that_is_not_applied_is_a_warning_that_names_it() {
    let warnings = |file: &str, content: Value| -> Vec<String> {
        let folder = folder("byte-level.json", &[(file, content)]);
        Language::open(folder.path()).unwrap().warnings
    };
    let defaults = json!({
        "num_beams": 1, "no_repeat_ngram_size": 0, "suppress_tokens": [], "guidance_scale": null, "min_length": 0, "use_cache": true,
        "temperature": 0.5, "eos_token_id": [1], "transformers_version": "5.24.0",
    });
    assert_eq!(warnings("generation_config.json", defaults), [""; 0]);
    for (key, value) in [
        ("num_beams", json!(4)),
        ("begin_suppress_tokens", json!([1, 2])),
        ("forced_eos_token_id", json!(7)),
        ("top_h", json!(0.4)),
    ] {
        let found = warnings("generation_config.json", json!({key: value}));
        assert_eq!(found, [format!("generation_config.json: `{key}` = {value} is not applied")]);
    }
    for file in ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"] {
        let found = warnings(file, json!({"new_setting": 1}));
        assert_eq!(found, [format!("{file}: the key `new_setting` is not known, and not applied")]);
    }
    let found = warnings("tokenizer_config.json", json!({"split_special_tokens": true, "image_token": "<s>"}));
    assert_eq!(found, ["tokenizer_config.json: `split_special_tokens` = true is not applied"]);
}

/// The metadata of the golden llama with another value for some keys.
fn gguf(change: impl FnOnce(&mut Metadata)) -> Metadata {
    let file = trine_model::open_file(golden("models/llama/model.gguf"), &Default::default()).unwrap();
    let mut metadata = file.metadata().clone();
    change(&mut metadata);
    metadata
}

#[test]
fn gguf_files_of_other_programs_are_read() {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = "Hi there,  2023's words";
    let plain = Language::of_metadata(&gguf(|_| ())).unwrap();
    let expected = plain.tokenizer.encode(text, EncodeOptions::default());
    assert_eq!(plain.warnings, [""; 0]);
    for name in
        ["seperator_token_id", "padding_token_id", "unknown_token_id", "mask_token_id", "eot_token_id", "eom_token_id"]
    {
        let language = Language::of_metadata(&gguf(|metadata| _ = metadata.insert(key(name), u32::MAX))).unwrap();
        assert_eq!(language.tokenizer.encode(text, EncodeOptions::default()), expected, "{name}");
        assert!(language.tokenizer.eog_tokens().eq(plain.tokenizer.eog_tokens()), "{name}");
    }
    for name in ["eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"] {
        let language = Language::of_metadata(&gguf(|metadata| _ = metadata.insert(key(name), 7u32))).unwrap();
        assert!(language.tokenizer.is_eog(7), "{name}");
    }
    let language = Language::of_metadata(&gguf(|metadata| {
        metadata.insert(key("fim_pre_token_id"), 7u32);
        metadata.insert(key("suppress_tokens"), vec![7i32]);
        metadata.insert(key("new"), true);
    }));
    assert_eq!(
        language.unwrap().warnings,
        [
            "GGUF: `tokenizer.ggml.suppress_tokens` = true is not applied",
            "GGUF: the key `tokenizer.ggml.new` is not known, and not applied"
        ]
    );
}

#[test]
fn scores_may_be_integers() {
    let folder = folder("spm-bpe.model", &[]);
    let metadata = Language::metadata(folder.path()).unwrap();
    let scores = metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap();
    assert!(scores.iter().all(|score| score.fract() == 0.0), "BPE of SentencePiece has ranks");
    let integers: Vec<i32> = scores.iter().map(|&score| score as i32).collect();
    let mut changed = metadata.clone();
    changed.insert("tokenizer.ggml.scores", integers);
    let encode = |metadata: &Metadata| {
        Language::of_metadata(metadata).unwrap().tokenizer.encode("the cat sat", EncodeOptions::default())
    };
    assert_eq!(encode(&changed), encode(&metadata));
}

#[test]
fn the_architectures_of_gpt_2_need_no_name_of_their_split() {
    for (arch, warned) in [("gpt2", false), ("gptneox", false), ("llama", true)] {
        let language = Language::of_metadata(&gguf(|metadata| {
            metadata.insert("general.architecture", arch);
            metadata.remove("tokenizer.ggml.pre");
        }));
        let warnings = language.unwrap().warnings;
        assert_eq!(
            warnings.iter().any(|warning| warning.contains("tokenizer.ggml.pre")),
            warned,
            "{arch}: {warnings:?}"
        );
    }
}
