//! Whatever a key of `config.json` changes in transformers, or a key of GGUF in llama.cpp, changes here as well, or is refused (golden/keys.py,
//! golden/gguf_keys.py).

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{ActivationPrecision, BLOCK_LEN, Backend, Batch, CacheType, Cpu, CpuOptions};
use trine_model::runner::{Output, Want};
use trine_model::{ARCHITECTURE_KEYS, ArchitectureKeys, ModelOptions, OnDevice, Runner, Spec, file_keys};
use trine_tensor::{File, Metadata, gguf};

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

/// A golden model, or `encoders/NAME`.
fn place(name: &str) -> PathBuf {
    golden().join(if name.contains('/') { "" } else { "models" }).join(name)
}

/// A golden folder with another `config.json`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(name: &str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(place(name)).unwrap() {
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

/// Every ninth logit of the last token; of encoders, every ninth number of its state, after the dense layers of a GGUF file, through which
/// llama.cpp passes it.
fn logits(file: &File, ids: &[u32], encoder: bool) -> trine_model::Result<Vec<f64>> {
    let mut cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
    if file.tensors().any(|tensor| [".qweight", "_blocks"].iter().any(|end| tensor.name.ends_with(end))) {
        cpu.set_activation_precision(ActivationPrecision::F32);
    }
    let options = ModelOptions { headless: encoder, ..ModelOptions::default() };
    let mut runner = OnDevice::load(cpu, file, options, &mut |_| ControlFlow::Continue(()))?;
    runner.limit_context(128);
    let blocks: Vec<u32> = (0..ids.len().div_ceil(BLOCK_LEN) as u32).collect();
    let cache = runner.create_cache(blocks.len().into(), CacheType::F32)?;
    let (mut batch, mut output) = (Batch::new(), Output::default());
    batch.push(ids, 0, &blocks, 1);
    runner.forward(cache, &batch, if encoder { Want::Hidden } else { Want::Logits }, &mut output)?;
    let mut values = output.values;
    for name in ["dense_2.weight", "dense_3.weight"] {
        let Ok(dense) = file.view(name) else { continue };
        let row = |row: &[f32]| row.iter().zip(&values).map(|(w, x)| w * x).sum();
        values = dense.decode().chunks(dense.cols()).map(row).collect();
    }
    Ok(values.iter().step_by(STEP).map(|&x| x.into()).collect())
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

fn ids(model: &Value) -> Vec<u32> {
    model["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// A golden model, and what another program makes of changes to its keys.
struct Golden {
    encoder: bool,
    ids: Vec<u32>,
    /// The other program's numbers for the unchanged model.
    same: Vec<f64>,
    /// What the unchanged model is.
    base: String,
    tolerance: f64,
}

impl Golden {
    /// What is wrong with one change of keys, which gives `expected`: numbers, `same`, or `error`; `None` if nothing is.
    fn problem(&self, file: &File, expected: &Value) -> Option<String> {
        let spec = match Spec::of(file) {
            Ok(spec) => spec,
            Err(_) => return None,
        };
        let expected = match expected.as_str() {
            Some("same") if described(spec) == self.base => return None,
            Some("same") => self.same.clone(),
            // The other program does not load the model.
            Some(_) => return None,
            None => numbers(expected),
        };
        match logits(file, &self.ids, self.encoder) {
            Err(_) => None,
            Ok(found) => {
                let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).max_by(f64::total_cmp).unwrap();
                let like_base = found.iter().zip(&self.same).all(|(a, b)| (a - b).abs() < self.tolerance);
                let ignored = if like_base { "ignored" } else { "computed otherwise" };
                (worst.is_nan() || worst > self.tolerance).then(|| format!("{ignored}: logits differ by {worst:.1e}"))
            }
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
        let config = File::open(place(name)).unwrap().config().unwrap().clone();
        let encoder = name.starts_with("encoders");
        let (ids, same) = (ids(model), numbers(&model["base"]));
        // Rounded activations magnify what sums in another order differ by.
        let tolerance = if name.contains("bit") { 0.1 } else { 1e-3 };
        let unchanged = logits(&folder.open(&config), &ids, encoder).unwrap();
        if unchanged.iter().zip(&same).any(|(a, b)| (a - b).abs() > tolerance) {
            // transformers computes with rounded activations (golden/models.py).
            assert!(name.starts_with("llama-fp8"), "{name} is computed otherwise");
            continue;
        }
        let base = described(Spec::of(&folder.open(&config)).unwrap());
        let golden = Golden { encoder, ids, same, base, tolerance };
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
            if let Some(problem) = golden.problem(&folder.open(&changed), &case[2]) {
                problems.push(format!("{name}: {path} = {value}: {problem}"));
            }
        }
    }
    assert!(cases.len() >= 40, "golden/keys.json has {} models", cases.len());
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Where Trine does not follow transformers when keys are absent: `(model, part of the keys that are removed or changed, why)`.
static ABSENT_OTHERWISE: &[(&str, &str, &str)] = &[
    ("", "[\"quantization_config\"]", "the shapes of packed weights tell that it is missing"),
    ("qwen3moe", "[\"num_local_experts\"]", "the class has it as num_experts, which is named"),
    ("encoders/modernbert", "\"sliding_window\"", "no folder has it, and that it is not applied is a warning"),
    ("gemma3", "\"type\":\"linear\"", "transformers reads `type`, the old name, only where layers share a rotation"),
];

#[test]
fn every_absent_key_is_as_in_transformers_or_refused_by_name() {
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&std::fs::read(golden().join("absent_keys.json")).unwrap()).unwrap();
    let (mut problems, mut n) = (Vec::new(), 0);
    // transformers computes `llama-fp8` with rounded activations (golden/models.py).
    for (name, model) in cases.iter().filter(|(name, _)| !name.starts_with("llama-fp8")) {
        let folder = Folder::of(name);
        let config = File::open(place(name)).unwrap().config().unwrap().clone();
        let golden = Golden {
            encoder: name.starts_with("encoders"),
            ids: ids(model),
            same: numbers(&model["base"]),
            base: described(Spec::of(&folder.open(&config)).unwrap()),
            tolerance: if name.contains("bit") { 0.1 } else { 1e-3 },
        };
        for case in model["cases"].as_array().unwrap() {
            let removed: Vec<&str> = case[0].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            let changes = case[1].as_object().unwrap();
            let title = format!("{removed:?} {}", case[1]);
            if ABSENT_OTHERWISE.iter().any(|(model, part, _)| name.starts_with(model) && title.contains(part)) {
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
            let loaded = Spec::of(&file).and_then(|_| logits(&file, &golden.ids, golden.encoder));
            let problem = match loaded.map_err(|error| error.to_string()) {
                Ok(_) => golden.problem(&file, &case[2]),
                Err(error) => (!parts.iter().any(|part| error.contains(part))).then_some(error),
            };
            problems.extend(problem.map(|problem| format!("{name}: without {title}: {problem}")));
        }
    }
    assert!(n >= 1700, "golden/absent_keys.json has {n} cases");
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The bytes of a GGUF key; `types` are numbers of value types by the names in golden/gguf_keys.json.
fn encoded(name: &str, kind: &str, value: &Value) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let (array, element) = (kind.starts_with('['), kind.trim_matches(['[', ']']));
    type Encode<'a> = &'a dyn Fn(&Value) -> Vec<u8>;
    let (number, encode): (u32, Encode) = match element {
        "u32" => (4, &|value| (value.as_u64().unwrap() as u32).to_le_bytes().into()),
        "i32" => (5, &|value| (value.as_i64().unwrap() as i32).to_le_bytes().into()),
        "f32" => (6, &|value| (value.as_f64().unwrap() as f32).to_le_bytes().into()),
        "bool" => (7, &|value| vec![value.as_bool().unwrap().into()]),
        "str" => (8, &|value| string(value.as_str().unwrap())),
        other => panic!("{other}"),
    };
    let mut out = string(name);
    if array {
        let elements = value.as_array().unwrap();
        out.extend([9u32.to_le_bytes(), number.to_le_bytes()].concat());
        out.extend((elements.len() as u64).to_le_bytes());
        out.extend(elements.iter().flat_map(encode));
    } else {
        out.extend(number.to_le_bytes());
        out.extend(encode(value));
    }
    out
}

/// A GGUF file with other keys of its architecture, `[key, type, value]`: old ones get a name that nobody reads, new ones are put in front.
fn changed(file: &[u8], arch: &str, keys: &[Value]) -> File {
    let (mut file, mut new, mut n) = (file.to_vec(), Vec::new(), 0);
    for key in keys {
        let name = format!("{arch}.{}", key[0].as_str().unwrap());
        let old = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
        if let Some(at) = file.windows(old.len()).position(|bytes| bytes == old) {
            file[at + 8] = b'_';
        }
        if let Some(kind) = key[1].as_str() {
            new.extend(encoded(&name, kind, &key[2]));
            n += 1;
        }
    }
    // The tensors stay aligned.
    let padding = (2 * 32 - (new.len() + encoded("p", "str", &"".into()).len()) % 32) % 32;
    new.extend(encoded("p", "str", &" ".repeat(padding).into()));
    let keys = u64::from_le_bytes(file[16..24].try_into().unwrap()) + n + 1;
    file[16..24].copy_from_slice(&keys.to_le_bytes());
    file.splice(24..24, new);
    File::from_bytes("changed.gguf", file).unwrap()
}

/// Where llama.cpp computes otherwise, and why that is not followed: `(model, key, part of its value, why)`.
static NOT_AS_LLAMA_CPP: &[(&str, &str, &str, &str)] = &[
    (
        "",
        "attention.sliding_window",
        "",
        "llama.cpp reads it in few architectures; folders of others have windows, too",
    ),
    ("moe", "expert_weights_norm", "", "llama.cpp has what most models of the architecture do; folders have the key"),
    (
        "",
        "rope.scaling.yarn_log_multiplier",
        "",
        "llama.cpp reads it in DeepSeek and Mistral 3; folders of others have it",
    ),
    ("", "rope.scaling.yarn_beta_fast", "", "llama.cpp reads it in Mistral 3 alone; folders of others have it"),
    ("", "rope.scaling.yarn_beta_slow", "", "llama.cpp reads it in Mistral 3 alone; folders of others have it"),
    ("", "rope.freq_base", "null", "where it is missing, the architecture's own is taken, not 10000"),
    ("", "rope.scaling.type", "\"none\"", "llama.cpp scales the rotations of windows all the same"),
    ("gemma", "attention.scale", "", "llama.cpp knows it by the size of the model; folders have a key"),
    ("gemma2", "final_logit_softcapping", "0.0", "0 is no cap, and llama.cpp divides by it"),
    (
        "phi-longrope",
        "context_length",
        "",
        "Trine takes the factors for the context of the file, llama.cpp those for the one asked for",
    ),
    ("phi-longrope", "rope.scaling.original_context_length", "null", "the same, as it is the context then"),
    (
        "deepseek2",
        "rope.scaling.original_context_length",
        "",
        "llama.cpp ranks the groups of V2, too, by their two best experts, so that a token may get others",
    ),
    ("gpt-oss", "rope.scaling.factor", "0.5", NEAR_TWO_EXPERTS),
    ("gpt-oss", "rope.scale_linear", "0.5", NEAR_TWO_EXPERTS),
];

const NEAR_TWO_EXPERTS: &str = "a token is so near to two experts that llama.cpp, which rounds to float16, takes another than with float32 weights";

/// Golden files of which llama.cpp computes nothing, and why.
static NOT_SWEPT: &[(&str, &str)] = &[
    ("models/bitnet-b1.58", "neither llama.cpp nor PyPI gguf knows I2_S"),
    ("models/llama-bitlinear", "neither llama.cpp nor PyPI gguf knows I2_S"),
    ("models/command-r-plus", "llama.cpp expects norms of queries and keys from 64 layers on only"),
    ("models/deepseek2-lite", "llama.cpp knows models without q_lora_rank by their 27 layers"),
];

/// By how much llama.cpp's numbers may differ from Trine's, which are those of transformers: it rounds what it multiplies with weights that are
/// no float32.
static APART: &[(&str, f64)] = &[
    // To 8-bit integers, by another rule; and experts magnify it.
    ("models/gpt-oss-mxfp4", 0.15),
    // Experts with large weights.
    ("models/gpt-oss", 0.05),
    ("", 0.02),
];

#[test]
fn every_key_of_gguf_is_computed_as_in_llama_cpp_or_refused() {
    let golden_keys: Value = serde_json::from_slice(&std::fs::read(golden().join("gguf_keys.json")).unwrap()).unwrap();
    let mut problems = Vec::new();
    let models = golden_keys["models"].as_object().unwrap();
    for (name, model) in models {
        let raw = std::fs::read(golden().join(name).join("model.gguf")).unwrap();
        let file = changed(&raw, "", &[]);
        let arch = file.metadata().str("general.architecture").unwrap().unwrap();
        let given = model["given"].as_array().cloned().unwrap_or_default();
        let changed = |keys: &[Value]| {
            let is_changed = |key: &&Value| keys.iter().all(|changed| changed[0] != key[0]);
            changed(&raw, arch, &given.iter().filter(is_changed).chain(keys).cloned().collect::<Vec<_>>())
        };
        let file = changed(&[]);
        let spec = Spec::of(&file).unwrap();
        let read = Spec::keys(&file).unwrap();
        let (encoder, same) = (name.starts_with("encoders"), numbers(&model["base"]));
        let mut golden = Golden { encoder, ids: ids(model), same, base: described(spec), tolerance: 0.0 };
        let ours = logits(&file, &golden.ids, encoder).unwrap();
        let apart = ours.iter().zip(&golden.same).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}: {apart:.1e} apart from llama.cpp");
        let most = APART.iter().find(|(model, _)| name.contains(model)).unwrap().1;
        assert!(apart < most, "{name}: {apart:.1e} apart from llama.cpp, expected less than {most}");
        golden.tolerance = 1e-3 + 5.0 * apart;
        let mut report = |keys: &[Value], problem: String| {
            let text = Value::from(keys).to_string();
            let is_it = |(model, key, part, _): &&(&str, &str, &str, &str)| {
                name.contains(model) && keys.iter().any(|found| found[0] == *key) && text.contains(part)
            };
            if !NOT_AS_LLAMA_CPP.iter().any(|row| is_it(&row)) {
                problems.push(format!("{name}: {text}: {problem}"));
            }
        };
        for case in model["cases"].as_array().unwrap() {
            let keys = case[0].as_array().unwrap();
            if let Some(problem) = golden.problem(&changed(keys), &case[1]) {
                report(keys, problem);
            }
        }
        // What llama.cpp does not read: refused, or else without effect, and reported unless it is known to have none.
        let unread = model["same"].as_array().unwrap().iter().map(|key| key.as_str().unwrap());
        let (neutral, others): (Vec<&str>, Vec<&str>) =
            unread.partition(|key| ARCHITECTURE_KEYS.neutral.iter().any(|(name, _)| name == key));
        for value in golden_keys["values"].as_array().unwrap() {
            let row = |key: &&str| json!([key, value[0], value[1]]);
            for key in &neutral {
                let row = [row(key)];
                if let Some(problem) = golden.problem(&changed(&row), &"same".into()) {
                    report(&row, problem);
                }
            }
            let all: Vec<Value> = others.iter().map(row).collect();
            let spec = Spec::of(&changed(&all)).ok().filter(|spec| described(spec.clone()) == golden.base);
            for row in &all {
                let key = row[0].as_str().unwrap();
                if spec.is_none()
                    && let Some(problem) = golden.problem(&changed(std::slice::from_ref(row)), &"same".into())
                {
                    report(std::slice::from_ref(row), problem);
                }
                let name = format!("`{arch}.{key}`");
                let said =
                    spec.as_ref().is_some_and(|spec| spec.warnings.iter().any(|warning| warning.contains(&name)));
                let known = ARCHITECTURE_KEYS.ignores(key) || read.contains(key);
                if spec.is_some() && said == known {
                    report(std::slice::from_ref(row), if said { "reported" } else { "not reported" }.to_owned());
                }
            }
        }
    }
    let mut missing = BTreeSet::new();
    for kind in ["models", "encoders"] {
        for entry in std::fs::read_dir(golden().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{kind}/{}", path.file_name().unwrap().display());
            if path.join("model.gguf").exists() && !models.contains_key(&name) {
                missing.insert(name);
            }
        }
    }
    assert_eq!(missing, NOT_SWEPT.iter().map(|(name, _)| (*name).to_owned()).collect());
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_key_of_gguf_has_a_rule() {
    let golden_keys: Value = serde_json::from_slice(&std::fs::read(golden().join("gguf_keys.json")).unwrap()).unwrap();
    let listed: Vec<&str> =
        golden_keys["architecture"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    let mut rules = BTreeSet::new();
    for name in golden_keys["models"].as_object().unwrap().keys() {
        rules.extend(Spec::keys(&File::open(golden().join(name).join("model.gguf")).unwrap()).unwrap());
    }
    let ArchitectureKeys { ignored, neutral, foreign } = &ARCHITECTURE_KEYS;
    let foreign: Vec<&str> = foreign.iter().flat_map(|row| row.keys).copied().collect();
    let read: Vec<_> = foreign.iter().filter(|key| rules.contains(**key)).collect();
    assert!(read.is_empty(), "read, and yet of other architectures alone: {read:?}");
    let tables = ignored.iter().flat_map(|row| row.keys).chain(neutral.iter().map(|(key, _)| key)).chain(&foreign);
    rules.extend(tables.map(|key| key.to_string()));
    let unknown: Vec<_> = listed.iter().filter(|key| !rules.contains(**key)).collect();
    assert!(unknown.is_empty(), "keys without a rule: {unknown:?}");
}

/// Programs that transformers unpacks weights with need not be there for golden/keys.py: here the tensors are, and the keys are not read.
#[test]
fn keys_of_quantization_that_change_nothing_are_not_read() {
    let (mut problems, mut methods) = (Vec::new(), BTreeSet::new());
    for entry in std::fs::read_dir(golden().join("models")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let config = File::open(place(&name)).unwrap().config().unwrap().clone();
        let Some(method) = config["quantization_config"]["quant_method"].as_str().map(str::to_owned) else { continue };
        let title = format!("quantization_config of {method}");
        let (_, table) = file_keys().into_iter().find(|(found, _)| *found == title).unwrap();
        let folder = Folder::of(&name);
        let base = described(Spec::of(&folder.open(&config)).unwrap());
        for key in table.ignored.iter().flat_map(|row| row.keys) {
            for value in [json!(7), json!(true), json!("x"), json!(["x"])] {
                let mut changed = config.clone();
                changed["quantization_config"][key] = value.clone();
                match Spec::of(&folder.open(&changed)) {
                    Ok(spec) if described(spec.clone()) == base => {}
                    Ok(_) => problems.push(format!("{name}: {key} = {value} is read")),
                    Err(error) => problems.push(format!("{name}: {key} = {value}: {error}")),
                }
            }
        }
        methods.insert(method);
    }
    assert!(methods.len() >= 4, "{methods:?}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Keys of quantization that are read, and yet may say anything: `(method, key, why)`.
static SAID_TWICE: &[(&str, &str, &str)] = &[
    ("gptq", "w_bit", "`bits` precedes it"),
    ("gptq", "q_group_size", "`group_size` precedes it"),
    ("gptq", "format", "`checkpoint_format` precedes it"),
    ("awq", "w_bit", "`bits` precedes it"),
    ("awq", "q_group_size", "`group_size` precedes it"),
    ("awq", "format", "`version` precedes it"),
    ("bitnet", "rms_norm_eps", "only with `use_rms_norm`"),
    ("bitnet", "quantization_mode", "only with `autobitlinear`"),
];

#[test]
fn no_key_of_quantization_that_is_read_is_ignored() {
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(golden().join("models")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let config = File::open(place(&name)).unwrap().config().unwrap().clone();
        let Some(method) = config["quantization_config"]["quant_method"].as_str().map(str::to_owned) else { continue };
        let title = format!("quantization_config of {method}");
        let (_, table) = file_keys().into_iter().find(|(found, _)| *found == title).unwrap();
        let folder = Folder::of(&name);
        let base = described(Spec::of(&folder.open(&config)).unwrap());
        for key in table.read {
            if SAID_TWICE.iter().any(|(of, known, _)| *of == method && known == key) {
                continue;
            }
            for value in [json!(7), json!("x"), json!(["x"])] {
                let mut changed = config.clone();
                changed["quantization_config"][key] = value.clone();
                if Spec::of(&folder.open(&changed)).is_ok_and(|spec| described(spec) == base) {
                    problems.push(format!("{name}: {key} = {value} is ignored"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
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
