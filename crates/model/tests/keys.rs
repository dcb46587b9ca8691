//! Whatever a key of `config.json` changes in transformers changes here as well, or is refused (golden/keys.py).

use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{ActivationPrecision, BLOCK_LEN, Backend, Batch, Cpu, CpuOptions};
use trine_model::runner::{Output, Want};
use trine_model::{ModelOptions, OnDevice, Runner, Spec};
use trine_tensor::{File, Metadata, format::F32, gguf};

/// Every ninth logit is in the golden file.
const STEP: usize = 9;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

/// Where Trine follows llama.cpp and the code that came with the models, and transformers does not: `(model, key, part of its value, why)`.
static OTHERWISE: &[(&str, &str, &str, &str)] = &[
    ("deepseek2", "norm_topk_prob", "", "transformers never normalizes in DeepSeek V2"),
    ("deepseek", "scoring_func", "", "transformers has softmax in V2 and sigmoid in V3, whatever the key says"),
    ("phi-window", "layer_types", "", "transformers gives all layers of Phi 3 the window"),
    (
        "gemma3",
        "rope_scaling",
        "\"type\"",
        "transformers reads `type`, the old name, only where layers share a rotation",
    ),
];

/// A golden folder with another `config.json`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(name: &str) -> Folder {
        let (place, folder) = (golden().join("models").join(name), tempfile::tempdir().unwrap());
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            if name.to_string_lossy().contains("safetensors") {
                std::fs::copy(&path, folder.path().join(name)).unwrap();
            }
        }
        Folder(folder)
    }

    fn open(&self, config: &Value) -> File {
        std::fs::write(self.0.path().join("config.json"), config.to_string()).unwrap();
        File::open(self.0.path()).unwrap()
    }
}

/// What a model is, without remarks.
fn described(mut spec: Spec) -> String {
    spec.warnings.clear();
    spec.notes.clear();
    format!("{spec:?}")
}

/// Every ninth logit of the last token.
fn logits(file: &File, ids: &[u32]) -> trine_model::Result<Vec<f64>> {
    let mut cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
    if file.tensors().any(|tensor| [".qweight", "_blocks"].iter().any(|end| tensor.name.ends_with(end))) {
        cpu.set_activation_precision(ActivationPrecision::F32);
    }
    let mut runner = OnDevice::load(cpu, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
    runner.limit_context(128);
    let blocks: Vec<u32> = (0..ids.len().div_ceil(BLOCK_LEN) as u32).collect();
    let cache = runner.create_cache(blocks.len(), &F32)?;
    let (mut batch, mut output) = (Batch::new(), Output::default());
    batch.push(ids, 0, &blocks, 1);
    runner.forward(cache, &batch, Want::Logits, &mut output)?;
    Ok(output.values.iter().step_by(STEP).map(|&x| x.into()).collect())
}

fn put(config: &mut Value, path: &str, value: Value) {
    let (parents, last) = path.rsplit_once('.').map_or(("", path), |(parents, last)| (parents, last));
    let place = parents.split('.').filter(|key| !key.is_empty()).fold(config, |value, key| &mut value[key]);
    place[last] = value;
}

fn remove(config: &mut Value, path: &str) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let place = parents.split('.').filter(|key| !key.is_empty()).try_fold(config, |value, key| value.get_mut(key));
    if let Some(place) = place.and_then(Value::as_object_mut) {
        place.remove(last);
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// What is wrong with one change of a configuration; `None` if nothing is.
fn problem(
    folder: &Folder,
    changed: &Value,
    base: &str,
    ids: &[u32],
    same: &[f64],
    expected: &Value,
    tolerance: f64,
) -> Option<String> {
    let file = folder.open(changed);
    let spec = match Spec::of(&file) {
        Ok(spec) => spec,
        Err(_) => return None,
    };
    let expected = match expected.as_str() {
        Some("same") if described(spec) == base => return None,
        Some("same") => same.to_vec(),
        // transformers does not load the folder.
        Some(_) => return None,
        None => numbers(expected),
    };
    match logits(&file, ids) {
        Err(_) => None,
        Ok(found) => {
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).max_by(f64::total_cmp).unwrap();
            let like_base = found.iter().zip(same).all(|(a, b)| (a - b).abs() < 1e-3);
            let ignored = if like_base { "ignored" } else { "computed otherwise" };
            (worst.is_nan() || worst > tolerance).then(|| format!("{ignored}: logits differ by {worst:.1e}"))
        }
    }
}

#[test]
fn every_key_is_computed_as_in_transformers_or_refused() {
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&std::fs::read(golden().join("keys.json")).unwrap()).unwrap();
    let mut problems = Vec::new();
    for (name, model) in &cases {
        let folder = Folder::of(name);
        let config = File::open(golden().join("models").join(name)).unwrap().config().unwrap().clone();
        let ids: Vec<u32> = model["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let same = numbers(&model["base"]);
        // Rounded activations magnify what sums in another order differ by.
        let tolerance = if name.contains("bit") { 0.1 } else { 1e-3 };
        let unchanged = logits(&folder.open(&config), &ids).unwrap();
        if unchanged.iter().zip(&same).any(|(a, b)| (a - b).abs() > tolerance) {
            // transformers computes with rounded activations (golden/models.py).
            assert!(name.starts_with("llama-fp8"), "{name} is computed otherwise");
            continue;
        }
        let base = described(Spec::of(&folder.open(&config)).unwrap());
        for case in model["cases"].as_array().unwrap() {
            let (path, value) = (case[0].as_str().unwrap(), &case[1]);
            let text = value.to_string();
            let is_it = |(model, key, part, _): &&(&str, &str, &str, &str)| {
                name.starts_with(model) && *key == path && text.contains(part)
            };
            if OTHERWISE.iter().any(|row| is_it(&row)) {
                continue;
            }
            let mut changed = config.clone();
            put(&mut changed, path, value.clone());
            if path == "rope_scaling" {
                changed.as_object_mut().unwrap().remove("rope_parameters");
            }
            if let Some(problem) = problem(&folder, &changed, &base, &ids, &same, &case[2], tolerance) {
                problems.push(format!("{name}: {path} = {value}: {problem}"));
            }
        }
    }
    assert!(cases.len() >= 40, "golden/keys.json has {} models", cases.len());
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Where Trine does not follow transformers when keys are absent: `(model, part of the keys that are removed or changed, why)`.
static ABSENT_OTHERWISE: &[(&str, &str, &str)] = &[];

#[test]
fn every_absent_key_is_as_in_transformers_or_refused_by_name() {
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&std::fs::read(golden().join("absent_keys.json")).unwrap()).unwrap();
    let (mut problems, mut n) = (Vec::new(), 0);
    for (name, model) in &cases {
        let folder = Folder::of(name);
        let config = File::open(golden().join("models").join(name)).unwrap().config().unwrap().clone();
        let ids: Vec<u32> = model["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let same = numbers(&model["base"]);
        if name.starts_with("llama-fp8") {
            // transformers computes with rounded activations (golden/models.py).
            continue;
        }
        let tolerance = if name.contains("bit") { 0.1 } else { 1e-3 };
        let base = described(Spec::of(&folder.open(&config)).unwrap());
        for case in model["cases"].as_array().unwrap() {
            let removed: Vec<&str> = case[0].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            let changes = case[1].as_object().unwrap();
            let title = format!("{removed:?} {}", case[1]);
            if ABSENT_OTHERWISE.iter().any(|(model, part, _)| name == model && title.contains(part)) {
                continue;
            }
            let mut changed = config.clone();
            for path in &removed {
                remove(&mut changed, path);
            }
            for (path, value) in changes {
                put(&mut changed, path, value.clone());
            }
            n += 1;
            let paths = removed.iter().copied().chain(changes.keys().map(String::as_str));
            let parts: Vec<&str> = paths.flat_map(|path| path.split('.')).collect();
            let file = folder.open(&changed);
            let refused = Spec::of(&file).map(|_| ()).and_then(|()| logits(&file, &ids).map(|_| ()));
            let problem = match refused {
                Err(error) if parts.iter().any(|part| error.to_string().contains(part)) => None,
                Err(error) if case[2] != "error" => Some(error.to_string()),
                Err(error) => Some(format!("the refusal names no key: {error}")),
                Ok(()) => problem(&folder, &changed, &base, &ids, &same, &case[2], tolerance),
            };
            problems.extend(problem.map(|problem| format!("{name}: without {title}: {problem}")));
        }
    }
    assert!(n >= 1500, "golden/absent_keys.json has {n} cases");
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_key_of_the_golden_models_is_known() {
    let mut unknown = Vec::new();
    for entry in std::fs::read_dir(golden().join("models")).unwrap() {
        let folder = entry.unwrap().path();
        for path in [folder.clone(), folder.join("model.gguf")].into_iter().filter(|path| path.exists()) {
            let spec = Spec::of(&File::open(&path).unwrap()).unwrap();
            let names = spec.warnings.iter().filter(|warning| warning.contains("is not known"));
            unknown.extend(names.map(|warning| format!("{}: {warning}", path.display())));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    let folder = Folder::of("llama");
    let mut config = File::open(golden().join("models/llama")).unwrap().config().unwrap().clone();
    config["frobnication"] = 2.into();
    config["rope_parameters"]["wavelength"] = 3.into();
    let warnings = Spec::of(&folder.open(&config)).unwrap().warnings.join("\n");
    assert!(["`frobnication`", "`rope_parameters.wavelength`"].iter().all(|key| warnings.contains(key)), "{warnings}");
    let gguf = |change: fn(&mut Metadata)| {
        let file = File::open(golden().join("models/llama/model.gguf")).unwrap();
        let (mut metadata, tensors) = (file.metadata().clone(), file.tensors().cloned().collect::<Vec<_>>());
        change(&mut metadata);
        let path = folder.0.path().join("changed.gguf");
        gguf::write(&path, &metadata, &tensors).unwrap();
        Spec::of(&File::open(&path).unwrap()).unwrap().warnings.join("\n")
    };
    let warnings = gguf(|keys| drop(keys.insert("llama.use_parallel_residual", true)));
    assert!(warnings.contains("`llama.use_parallel_residual`"), "{warnings}");
}
