//! Every architecture that trains, from every kind of file: trained, exported, opened, and compared.

use serde_json::json;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use trine_backend::{ActivationPrecision, CacheType, CpuOptions};
use trine_model::runner::{Output, Sequences, Want};
use trine_model::{ARCHS, DeviceOptions, ModelOptions, Spec, load, open_file};
use trine_tensor::OpenOptions;
use trine_tensor::format::I2_S;
use trine_train::{Config, Error, Trainer, unsupported_operation};

/// Logits after each of some tokens.
fn logits(path: &Path, ids: &[u32], activations: ActivationPrecision) -> Vec<f32> {
    let file = open_file(path, &OpenOptions::default()).unwrap();
    let cpu = CpuOptions { threads: 1, activations, ..CpuOptions::default() };
    let device = DeviceOptions { cpu, ..DeviceOptions::default() };
    let mut runner = load(&file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"));
    let mut sequences = Sequences::new(&mut *runner, 2, CacheType::F32).unwrap();
    let (sequence, mut output) = (sequences.add(ids.len()), Output::default());
    sequences.push(sequence, ids, ids.len());
    sequences.run(&mut *runner, Want::Logits, &mut output).unwrap();
    output.values
}

/// The largest difference, as a share of the largest.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}

fn new(config: &Config, resume: bool) -> Result<Trainer, Error> {
    Trainer::new(config, resume, &mut |_| ControlFlow::Continue(()))
}

/// Trains a model in a folder. Returns what was exported, and the logits after some tokens.
fn check(source: &Path, weights: &str, folder: &Path) -> Result<(PathBuf, Vec<f32>), Error> {
    let text = folder.join("text.txt");
    std::fs::write(&text, "The miller counted pear trees, and then he counted them again. ".repeat(8)).unwrap();
    let config = |steps: u64| -> Config {
        serde_json::from_value(json!({
            "model": {"from": source},
            "data": {"files": [text], "validation": 0.0},
            "train": {"steps": steps, "batch": 1, "sequence": 16, "threads": 1},
            "quantization": {"weights": weights},
            "schedule": {"warmup": 0},
            "output": {"folder": folder.join("run"), "embedding_format": "f32"},
        }))
        .unwrap()
    };
    let what = format!("{} {weights}", source.display());
    let ids = ids();
    let exported = folder.join("first.gguf");
    {
        let mut trainer = new(&config(1), false)?;
        trainer.export(&exported)?;
        if weights == "none" {
            // Nothing is trained yet: it is the same model.
            let of = |path: &Path| logits(path, &ids, ActivationPrecision::F32);
            let difference = difference(&of(&exported), &of(source));
            assert!(difference < 1e-3, "{what}: {difference} before training");
        }
        trainer.run(&mut |_| ControlFlow::Continue(()))?;
    }
    let mut trainer = new(&config(2), true)?;
    let model = trainer.run(&mut |_| ControlFlow::Continue(()))?.model;
    let expected = trainer.logits(&ids)?;
    let difference = difference(&logits(&model, &ids, ActivationPrecision::Quantized), &expected);
    assert!(difference < 1e-5, "{what}: {difference} after training");
    Ok((model, expected))
}

fn ids() -> Vec<u32> {
    (0..15).map(|i| (i * 37 + 2) % 200).collect()
}

/// Prints for each file the logits of llama.cpp after some tokens, or why it does not open it. Exits with 77 where there is no llama.cpp.
const LLAMA_CPP: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    import llamacpp
except ImportError:
    sys.exit(77)
for path, context in zip(sys.argv[3::2], sys.argv[4::2]):
    try:
        print(json.dumps(llamacpp.Model(path, n_ctx=int(context)).decode(json.loads(sys.argv[2])).ravel().tolist()))
    except RuntimeError as error:
        print(json.dumps(str(error)))
";

/// Opens exported models in llama.cpp, and compares its logits with ours.
fn check_in_llama_cpp(models: &[(PathBuf, Vec<f32>)]) {
    let python = std::env::var("TRINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let mut command = Command::new(&python);
    command.args(["-c", LLAMA_CPP]).arg(golden).arg(json!(ids()).to_string());
    for (path, _) in models {
        // The rope factors of phi3 depend on the context.
        let context = Spec::of(&open_file(path, &OpenOptions::default()).unwrap()).unwrap().context_length;
        command.arg(path).arg(context.min(4096).to_string());
    }
    let Some(ran) = command.output().ok().filter(|ran| ran.status.code() != Some(77)) else {
        eprintln!("skipped: {python} has no package xllamacpp of the version in golden/llamacpp.py");
        return;
    };
    let (out, mut opened) = (String::from_utf8(ran.stdout).unwrap(), BTreeSet::new());
    assert!(ran.status.success() && out.lines().count() == models.len(), "{}", String::from_utf8_lossy(&ran.stderr));
    for ((path, expected), line) in models.iter().zip(out.lines()) {
        let file = open_file(path, &OpenOptions::default()).unwrap();
        let arch = file.metadata().str("general.architecture").unwrap().unwrap().to_owned();
        // What other programs know and llama.cpp does not.
        if arch == "bitnet-b1.58" || file.tensors().any(|view| view.format == &I2_S) {
            assert!(line.starts_with('"'), "{}: llama.cpp opens it", path.display());
            continue;
        }
        let found: Vec<f32> = serde_json::from_str(line).unwrap_or_else(|_| panic!("{}: {line}", path.display()));
        let difference = difference(&found, expected);
        println!("{}, {arch}: {difference:.1e}", path.display());
        // It rounds the inputs of ternary weights in blocks, and those of float weights not at all.
        let ternary = path.components().any(|part| part.as_os_str() == "ternary");
        assert!(difference < if ternary { 0.1 } else { 2e-3 }, "{}, {arch}: {difference}", path.display());
        opened.insert(arch);
    }
    let expected = ["bitnet", "granite", "llama", "mistral3", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"];
    assert_eq!(opened.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_trained_from_any_kind_of_file_can_be_opened_and_is_the_same_model() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let exported = tempfile::tempdir().unwrap();
    let (mut archs, mut trained) = (BTreeSet::new(), Vec::new());
    for source in folders.iter().flat_map(|folder| [folder.clone(), folder.join("model.gguf")]) {
        let Some(spec) =
            source.exists().then(|| Spec::of(&open_file(&source, &OpenOptions::default()).unwrap()).unwrap())
        else {
            continue;
        };
        if unsupported_operation(&spec).is_some() {
            continue;
        }
        archs.insert(spec.arch.name());
        for weights in ["none", "ternary"] {
            let folder = exported.path().join(trained.len().to_string()).join(weights);
            std::fs::create_dir_all(&folder).unwrap();
            match check(&source, weights, &folder) {
                Ok(model) => trained.push(model),
                // Where inputs are rounded, weights are, too.
                Err(Error::Config { key, .. }) if spec.bit_linear && weights == "none" => {
                    assert_eq!(key, "quantization.weights", "{}", source.display());
                }
                // GGUF has no key that makes some layers plain, or gives them norms.
                Err(Error::Model(error))
                    if ["kept", "rms"].iter().any(|end| source.display().to_string().ends_with(end)) =>
                {
                    assert!(error.to_string().contains("modules_to_not_convert"), "{error}");
                }
                Err(error) => panic!("{} {weights}: {error}", source.display()),
            }
        }
    }
    let found: Vec<&str> = archs.into_iter().collect();
    let expected =
        ["bitnet", "bitnet-b1.58", "granite", "llama", "mistral3", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"];
    assert_eq!(found, expected, "of {}", ARCHS.len());
    check_in_llama_cpp(&trained);
}
