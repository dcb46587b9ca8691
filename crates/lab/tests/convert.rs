//! A folder that became a GGUF file is the same model.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{Batch, CacheType};
use trine_lab::diff::diff;
use trine_lab::quantize::{Recipe, Target, plan, write, write_folder};
use trine_model::runner::{Output, Want};
use trine_model::{DeviceOptions, GgufModel, HfModel, Language, ModelOptions, PoolingHead, Spec, is_in_halves, load};
use trine_tensor::format::{F32, Q4_0};
use trine_tensor::{File, Value, View, gguf, llama2c};
use trine_text::EncodeOptions;

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 60, "golden models are missing");
    paths
}

/// Encoders and embedding models.
fn encoders() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "golden encoders are missing");
    paths
}

/// Logits of a few tokens, as bits; hidden states of a model that has none.
fn logits(file: &File) -> Vec<u32> {
    let mut runner = load(file, &DeviceOptions::default(), ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"));
    runner.limit_context(64);
    let cache = runner.create_cache(2.into(), CacheType::F32).unwrap();
    let tokens: Vec<u32> = (0..29).map(|i| i * 7 % 256).collect();
    let (mut batch, mut output) = (Batch::new(), Output::default());
    batch.push(&tokens, 0, &[1, 0], tokens.len());
    let want = if runner.spec().arch.encoder { Want::Hidden } else { Want::Logits };
    runner.forward(cache, &batch, want, &mut output).unwrap();
    output.values.iter().map(|x| x.to_bits()).collect()
}

fn converted(input: &File, output: &Path, recipe: &Recipe) -> File {
    let model = GgufModel::open(input, None).unwrap_or_else(|error| panic!("{error}"));
    let plan = plan(&model, recipe).unwrap_or_else(|error| panic!("{error}"));
    write(&model, &plan, output, None, None, &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"));
    File::open(output).unwrap()
}

/// Models whose layers are of several kinds.
const INEXPRESSIBLE: [&str; 2] = ["bitnet-kept", "llama-bitlinear-rms"];

#[test]
fn a_folder_becomes_a_file_with_the_same_logits() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for path in goldens() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let input = File::open(&path).unwrap();
        if INEXPRESSIBLE.contains(&&*name) {
            let error = GgufModel::open(&input, None).err().unwrap().to_string();
            assert!(error.contains("as GGUF has no keys for others"), "{error}");
            continue;
        }
        let result = std::panic::catch_unwind(|| {
            let output = converted(&input, &folder.path().join(format!("{name}.gguf")), &Recipe::default());
            let (a, b) = (logits(&input), logits(&output));
            let spec = Spec::of(&input).unwrap();
            // Another order of the elements of heads is another order of sums, and divisors of rotations are rounded to float32.
            let reordered = is_in_halves(&input, &spec) || output.names().any(|name| name.starts_with("rope_f"));
            let pairs = a.iter().zip(&b).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(if reordered { worst < 5e-5 } else { a == b }, "logits differ by {worst}");
            assert_eq!(a.len(), b.len());
        });
        if let Err(error) = result {
            let text = error.downcast_ref::<String>().cloned().unwrap_or_default();
            failures.push(format!("{name}: {text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn an_embedding_model_embeds_as_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let embedding = |file: &File| {
        let options = ModelOptions { headless: true, ..ModelOptions::default() };
        let mut runner = load(file, &DeviceOptions::default(), options, &mut |_| ControlFlow::Continue(())).unwrap();
        let head = PoolingHead::of(runner.spec(), file).unwrap();
        assert!(head.warnings().is_empty(), "{:?}", head.warnings());
        let tokens: Vec<u32> = (0..29).map(|i| i * 7 % 250).collect();
        head.embed(&mut *runner, &[tokens], 0, 512).unwrap().concat()
    };
    for path in encoders() {
        let input = File::open(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let model = GgufModel::open(&input, None).unwrap();
        let left_out = model.warnings().iter().any(|warning| warning.starts_with("pooler.dense."));
        assert_eq!(left_out, name == "bert", "{name}: {:?}", model.warnings());
        let output = converted(&input, &folder.path().join(format!("{name}.gguf")), &Recipe::default());
        assert_eq!(embedding(&input), embedding(&output), "{name}");
        assert!(Spec::of(&output).unwrap().warnings.is_empty(), "{name}: {:?}", Spec::of(&output).unwrap().warnings);
    }
    // Folders again: nomic-bert is no class of transformers.
    for path in encoders().into_iter().filter(|path| !path.ends_with("nomic-bert")) {
        let name = path.file_name().unwrap().to_string_lossy();
        let file = File::open(folder.path().join(format!("{name}.gguf"))).unwrap();
        let model = GgufModel::open(&file, None).unwrap();
        let hf = HfModel::of(&model, Some(&F32)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = folder.path().join(format!("{name}-folder"));
        write_folder(&model, &hf, &output, 50_000, None, &mut |_| ControlFlow::Continue(()))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = File::open(&output).unwrap();
        assert_eq!(embedding(&file), embedding(&again), "{name}");
        let config = std::fs::read(output.join("tokenizer_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let length = model.spec().arch.encoder.then_some(model.spec().context_length);
        assert_eq!(config["model_max_length"], serde_json::json!(length), "{name}");
        let text = "Once upon a time, 123 dogs; isn't it?";
        let options = EncodeOptions { add_special: true, parse_special: false };
        let tokens = |file: &File| Language::of(file).unwrap().tokenizer.encode(text, options);
        assert_eq!(tokens(&file), tokens(&again), "{name}");
    }
    // What GGUF has no key for is said.
    let path = folder.path().join("bert");
    std::fs::create_dir(&path).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "modules.json"] {
        std::fs::copy(encoders()[0].join(name), path.join(name)).unwrap();
    }
    std::fs::create_dir(path.join("1_Pooling")).unwrap();
    std::fs::copy(encoders()[0].join("1_Pooling/config.json"), path.join("1_Pooling/config.json")).unwrap();
    std::fs::write(
        path.join("config_sentence_transformers.json"),
        r#"{"prompts": {"query": "q: "}, "truncate_dim": 8}"#,
    )
    .unwrap();
    let input = File::open(&path).unwrap();
    let warnings = GgufModel::open(&input, None).unwrap().warnings().join("\n");
    assert!(warnings.contains("truncate_dim, prompts"), "{warnings}");
}

/// GGUF has no key for it: the rows of queries and keys are put in another order.
#[test]
fn latent_attention_that_rotates_halves_is_the_same_in_gguf() {
    let folder = tempfile::tempdir().unwrap();
    // With compressed queries, and without.
    for name in ["deepseek3", "deepseek2-lite"] {
        let (path, halves) =
            (goldens().into_iter().find(|path| path.ends_with(name)).unwrap(), folder.path().join(name));
        std::fs::create_dir(&halves).unwrap();
        for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(path.join(file), halves.join(file)).unwrap();
        }
        let config = std::fs::read_to_string(path.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["rope_interleave"] = false.into();
        std::fs::write(halves.join("config.json"), config.to_string()).unwrap();
        let input = File::open(&halves).unwrap();
        let file = converted(&input, &folder.path().join(format!("{name}.gguf")), &Recipe::default());
        let model = GgufModel::open(&file, None).unwrap();
        let hf = HfModel::of(&model, Some(&F32)).unwrap();
        let output = folder.path().join(format!("{name}-again"));
        write_folder(&model, &hf, &output, 50_000, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let expected = logits(&input);
        let neighbours = logits(&File::open(&path).unwrap());
        let distance = |a: &[u32], b: &[u32]| {
            let pairs = a.iter().zip(b).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
            pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
        };
        assert!(distance(&expected, &neighbours) > 0.01, "{name}");
        // Another order of the elements of heads is another order of sums.
        for found in [&file, &File::open(&output).unwrap()] {
            let worst = distance(&logits(found), &expected);
            assert!(worst < 5e-5, "{name}, {}: logits differ by {worst}", found.path().display());
        }
    }
}

/// The biases of compressed queries and keys, which the configuration has to announce.
#[test]
fn biases_of_latent_attention_are_announced_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let golden = goldens().into_iter().find(|path| path.ends_with("deepseek3")).unwrap();
    let plain = converted(&File::open(&golden).unwrap(), &folder.path().join("plain.gguf"), &Recipe::default());
    let mut views: Vec<View> = plain.tensors().cloned().collect();
    for part in ["attn_q_a", "attn_kv_a_mqa"] {
        let matrices = plain.tensors().filter(|view| view.name.ends_with(&format!(".{part}.weight")));
        views.extend(matrices.map(|view| {
            let values: Vec<f32> = (0..view.rows()).map(|i| i as f32 / 16.0 - 1.0).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            View::new(view.name.replace(".weight", ".bias"), &F32, vec![view.rows()], bytes).unwrap()
        }));
    }
    let path = folder.path().join("biased.gguf");
    gguf::write(&path, plain.metadata(), &views).unwrap();
    let file = File::open(&path).unwrap();
    assert_ne!(logits(&file), logits(&plain));
    let model = GgufModel::open(&file, None).unwrap();
    let output = folder.path().join("again");
    let hf = HfModel::of(&model, Some(&F32)).unwrap();
    write_folder(&model, &hf, &output, 50_000, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let config = std::fs::read_to_string(output.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["attention_bias"], true, "{config}");
    assert_eq!(logits(&File::open(&output).unwrap()), logits(&file));
}

/// Keys that the reference converter (golden/convert.py) writes otherwise, and why that is no difference.
const OTHERWISE: [&str; 5] = [
    // The format of most weights, which are not those of the reference.
    "general.file_type",
    "general.quantization_version",
    // A factor of 1.
    "bitnet.rope.scaling.type",
    "bitnet.rope.scaling.factor",
    // One group of all experts.
    "deepseek2.expert_group_count",
];

/// The same, of encoders.
const OTHERWISE_OF_ENCODERS: [&str; 9] = [
    // WordPiece has one way to split words, and its texts lie between the tokens that `bos_token_id` and `seperator_token_id` name.
    "tokenizer.ggml.pre",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_sep_token",
    // As `n_positions` says.
    "nomic-bert.context_length",
    // Said twice, or what the architecture means, or each layer by itself.
    "modern-bert.attention.layer_norm_rms_epsilon",
    "modern-bert.hidden_act",
    "modern-bert.attention.sliding_window_pattern",
];

fn number(value: &Value) -> Option<f64> {
    Some(match *value {
        Value::U32(x) => x.into(),
        Value::I32(x) => x.into(),
        Value::U64(x) => x as f64,
        Value::F32(x) => x.into(),
        _ => return None,
    })
}

#[test]
fn a_folder_becomes_the_file_of_the_reference_converter() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    let all = goldens().into_iter().chain(encoders());
    for path in all.filter(|path| path.join("model.gguf").exists()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = File::open(path.join("model.gguf")).unwrap();
        let output = folder.path().join(format!("{name}.gguf"));
        let input = File::open(&path).unwrap();
        let Ok(found) = std::panic::catch_unwind(|| converted(&input, &output, &Recipe::default())) else {
            failures.push(format!("{name}: not converted"));
            continue;
        };
        let otherwise =
            |key: &str| OTHERWISE.contains(&key) || encoders().contains(&path) && OTHERWISE_OF_ENCODERS.contains(&key);
        for (key, value) in expected.metadata().iter().filter(|(key, _)| !otherwise(key)) {
            let same = match (found.metadata().get(key), number(value)) {
                // No window.
                (None, Some(0.0)) => key.ends_with("sliding_window"),
                (Some(found), Some(expected)) => {
                    number(found).is_some_and(|x| (x - expected).abs() <= 1e-6 * expected.abs())
                }
                (found, _) => found == Some(value),
            };
            if !same {
                let short = |value: &Value| format!("{value:?}").chars().take(200).collect::<String>();
                failures.push(format!(
                    "{name}: {key}: {} for {}",
                    found.metadata().get(key).map_or("nothing".into(), short),
                    short(value)
                ));
            }
        }
        let mut names: Vec<&str> = expected.names().collect();
        let mut others: Vec<&str> = found.names().collect();
        names.sort();
        others.sort();
        if names != others {
            failures.push(format!("{name}: {others:?} for {names:?}"));
            continue;
        }
        for view in expected.tensors() {
            let other = found.view(&view.name).unwrap();
            let near = |(a, b): (&f32, &f32)| a == b || view.name.starts_with("rope_f") && (a / b - 1.0).abs() < 1e-6;
            if other.shape != view.shape || !other.decode().iter().zip(&view.decode()).all(near) {
                failures.push(format!("{name}: {} {:?} for {:?}", view.name, other.shape, view.shape));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_model_is_split_and_merged_and_no_shard_of_another_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["llama", "bitnet-b1.58", "gpt-oss-mxfp4"] {
        let source =
            File::open(goldens().into_iter().find(|path| path.ends_with(name)).unwrap().join("model.gguf")).unwrap();
        let whole = converted(&source, &at(&format!("{name}.gguf")), &Recipe::default());
        let model = GgufModel::open(&whole, None).unwrap();
        let mut parts = plan(&model, &Recipe::default()).unwrap();
        parts.shard_size = Some(30_000);
        let paths =
            write(&model, &parts, &at(&format!("{name}-parts.gguf")), None, None, &mut |_| ControlFlow::Continue(()))
                .unwrap();
        assert!(
            paths.len() > 2 && paths[1].ends_with(format!("{name}-parts-00002-of-{:05}.gguf", paths.len())),
            "{paths:?}"
        );
        let split = File::open(&paths[1]).unwrap();
        assert_eq!(logits(&split), logits(&whole), "{name}");
        let merged = converted(&split, &at(&format!("{name}-merged.gguf")), &Recipe::default());
        assert_eq!(std::fs::read(merged.path()).unwrap(), std::fs::read(whole.path()).unwrap(), "{name}");

        // The same tensors of another model, with other weights.
        let mut views: Vec<View> = whole.tensors().cloned().collect();
        let norm = views.iter_mut().find(|view| view.name == "output_norm.weight").unwrap();
        *norm = View::new(&*norm.name, &F32, norm.shape.clone(), F32.encode(&vec![0.5; norm.cols()])).unwrap();
        gguf::write(at("other.gguf"), whole.metadata(), &views).unwrap();
        let other = File::open(at("other.gguf")).unwrap();
        let model = GgufModel::open(&other, None).unwrap();
        let paths =
            write(&model, &parts, &at("other-parts.gguf"), None, None, &mut |_| ControlFlow::Continue(())).unwrap();
        std::fs::copy(&paths[1], split.files()[1].clone()).unwrap();
        let error = File::open(&split.files()[0]).unwrap_err().to_string();
        assert!(error.contains("one of the same model and run as the first"), "{error}");
    }
}

#[test]
fn a_difference_has_a_name_and_a_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = goldens().into_iter().find(|path| path.ends_with("llama")).unwrap();
    let (input, other) = (File::open(&path).unwrap(), File::open(path.join("model.gguf")).unwrap());
    let compare = |a: &File, b: &File| {
        let (a, b) = (GgufModel::open(a, None).unwrap(), GgufModel::open(b, None).unwrap());
        diff(&a, &b, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    // A folder and its file have the same weights.
    let same = compare(&input, &other);
    assert!(same.tensors.len() == 21 && same.only_first.is_empty() && same.only_second.is_empty(), "{same:?}");
    assert!(same.tensors.iter().all(|tensor| tensor.distance.unwrap().max_abs == 0.0), "{same:?}");
    // What Trine makes of a folder is the same model, and says in what formats it is.
    let made = converted(&input, &folder.path().join("made.gguf"), &Recipe::default());
    let same = compare(&input, &made);
    assert!(same.is_same() && same.descriptions.iter().any(|diff| diff.key == "general.file_type"), "{same:?}");
    assert!(compare(&other, &other).descriptions.is_empty());
    // How it samples is of the model, how it is called is not.
    let another = Value::from("another");
    for (key, value, counts) in [
        ("general.name", another.clone(), false),
        ("general.sampling.temp", Value::from(0.5f32), true),
        ("tokenizer.chat_template", another, true),
    ] {
        let mut metadata = made.metadata().clone();
        metadata.insert(key, value);
        let views: Vec<View> = made.tensors().cloned().collect();
        gguf::write(folder.path().join("edited.gguf"), &metadata, &views).unwrap();
        let found = compare(&made, &File::open(folder.path().join("edited.gguf")).unwrap());
        let which = if counts { &found.keys } else { &found.descriptions };
        assert!(found.is_same() != counts && which.len() == 1 && which[0].key == key, "{key}: {found:?}");
    }
    let recipe = Recipe { target: Some(Target::Format(&Q4_0)), ..Recipe::default() };
    let coarse = converted(&other, &folder.path().join("q4_0.gguf"), &recipe);
    let found = compare(&other, &coarse);
    let down = found.tensors.iter().find(|tensor| tensor.name == "blk.0.ffn_down.weight").unwrap();
    let (a, b) = (other.view(&down.name).unwrap().decode(), coarse.view(&down.name).unwrap().decode());
    let expected = a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let distance = down.distance.unwrap();
    assert_eq!(distance.max_abs, expected);
    assert!((0.03..0.2).contains(&distance.relative) && (0.98..0.9999).contains(&distance.cosine), "{distance:?}");
    let keys: Vec<&str> = found.descriptions.iter().map(|key| &*key.key).collect();
    assert_eq!(keys, ["general.file_type"]);
    assert_eq!(found.descriptions[0].first.as_deref(), Some("1"));
    assert!(found.keys.is_empty() && !found.is_same());
}

#[test]
fn a_folder_that_became_a_file_becomes_a_folder_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for path in goldens() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let input = File::open(&path).unwrap();
        if INEXPRESSIBLE.contains(&&*name) {
            continue;
        }
        let result = std::panic::catch_unwind(|| {
            let file = converted(&input, &folder.path().join(format!("{name}.gguf")), &Recipe::default());
            let model = GgufModel::open(&file, None).unwrap();
            let hf = HfModel::of(&model, Some(&F32)).unwrap_or_else(|error| panic!("{error}"));
            let output = folder.path().join(&name);
            write_folder(&model, &hf, &output, 50_000, None, &mut |_| ControlFlow::Continue(()))
                .unwrap_or_else(|error| panic!("{error}"));
            let again = File::open(&output).unwrap();
            let weights =
                diff(&model, &GgufModel::open(&again, None).unwrap(), &mut |_| ControlFlow::Continue(())).unwrap();
            assert!(weights.only_first.is_empty() && weights.only_second.is_empty(), "{weights:?}");
            for tensor in weights.tensors.iter().filter(|tensor| !tensor.name.starts_with("rope_f")) {
                assert_eq!(tensor.distance.unwrap().max_abs, 0.0, "{}", tensor.name);
            }
            // Inputs of what was packed are not rounded any more.
            if model.tensors().iter().all(|info| info.format.block == 1 || info.format.ternary) {
                let (a, b) = (logits(&input), logits(&again));
                let pairs = a.iter().zip(&b).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                let divisors = file.names().any(|name| name.starts_with("rope_f"));
                assert!(if divisors { worst < 5e-5 } else { a == b }, "logits differ by {worst}");
            }
            let text = "Once upon a time, 123 dogs; isn't it?";
            let tokens = |file: &File| Language::of(file).unwrap().tokenizer.encode(text, Default::default());
            assert_eq!(tokens(&input), tokens(&again));
        });
        if let Err(error) = result {
            let text = error.downcast_ref::<String>().cloned().unwrap_or_default();
            failures.push(format!("{name}: {text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_file_of_llama2c_is_the_model_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let golden = goldens().into_iter().find(|path| path.ends_with("llama")).unwrap();
    let source = File::open(golden.join("model.gguf")).unwrap();
    let of = |name: &str| F32.encode(&source.view(name).unwrap().decode());
    for tied in [false, true] {
        let (dim, layers, heads, kv_heads, context) = (64, 2, 4, 2, 128);
        let vocab = if tied { 288 } else { -288 };
        let mut bytes: Vec<u8> =
            [dim, 96, layers, heads, kv_heads, vocab, context].iter().flat_map(|n: &i32| n.to_le_bytes()).collect();
        bytes.extend(of("token_embd.weight"));
        for part in
            ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_down", "ffn_up"]
        {
            (0..layers).for_each(|i| bytes.extend(of(&format!("blk.{i}.{part}.weight"))));
        }
        bytes.extend(of("output_norm.weight"));
        bytes.extend(vec![0; (4 * context * dim / heads) as usize]);
        if !tied {
            bytes.extend(of("output.weight"));
        }
        let path = folder.path().join("model.bin");
        std::fs::write(&path, &bytes).unwrap();
        let input = llama2c::open(&path).unwrap();
        let model = GgufModel::open(&input, Some(&golden)).unwrap();
        let plan = plan(&model, &Recipe::default()).unwrap();
        let output = folder.path().join("out.gguf");
        write(&model, &plan, &output, None, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let output = File::open(&output).unwrap();
        assert_eq!(output.contains("output.weight"), !tied);
        if !tied {
            assert_eq!(logits(&output), logits(&source));
        }
        for cut in [0, 20, 28, 4000, bytes.len() - 1, bytes.len() + 1] {
            let mut other = bytes.clone();
            other.resize(cut, 0);
            std::fs::write(&path, other).unwrap();
            assert!(llama2c::open(&path).is_err(), "{cut} bytes");
        }
    }
}
