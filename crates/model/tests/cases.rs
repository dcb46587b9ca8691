//! Folders that people's tools write give what transformers and sentence-transformers give (golden/cases.py). Skipped where they are absent.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{ActivationPrecision, Backend, CacheType, Cpu, CpuOptions};
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{Error, ModelOptions, OnDevice, Spec};
use trine_tensor::File;

/// The folder of cases, absent on most machines: then says that the test was skipped.
fn cases() -> Option<PathBuf> {
    let root = std::env::var_os("TRINE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = root.join("cases");
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is absent", path.display());
    None
}

fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(path: &Path, precision: ActivationPrecision) -> Result<OnDevice<Cpu>, Error> {
    let mut cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }).unwrap();
    cpu.set_activation_precision(precision);
    OnDevice::load(cpu, &File::open(path)?, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
}

#[test]
fn logits_are_those_of_transformers() {
    let Some(cases) = cases() else { return };
    let golden = golden();
    let ids: Vec<u32> = golden["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    for name in ["bn_not", "bn_llama_rms", "savemodel-tied"] {
        let mut runner =
            load(&cases.join(name), ActivationPrecision::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let options = ScoreOptions { batch: 64, cache_type: CacheType::F32, want: Want::Logits };
        let (input, mut found) = (ScoreInput { ids: ids.clone(), outputs: 1 }, Vec::new());
        score::<Error>(&mut runner, &[input], &options, &mut |_, output| {
            found.extend_from_slice(&output.values);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        let expected = golden[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32);
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {worst:.1e}");
        // An activation of 8 bits may round the other way.
        assert!(found.len() == 600 && worst < 0.1, "{name}: {worst}");
    }
}

#[test]
fn packed_folders_load_or_name_what_contradicts() {
    let Some(cases) = cases() else { return };
    let said =
        |name: &str| load(&cases.join(name), ActivationPrecision::F32).err().map_or(String::new(), |e| e.to_string());
    assert_eq!(said("min_dyn"), "");
    assert_eq!(said("min_kv"), "");
    let message = said("min_wronggroup");
    assert!(message.contains("`quantization_config.group_size`") && message.contains("found 128"), "{message}");
    let notes = Spec::of(&File::open(cases.join("min_kv")).unwrap()).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("k_scale") && note.contains("KV cache")), "{notes:?}");
}
