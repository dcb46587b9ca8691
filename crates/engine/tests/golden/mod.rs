//! Golden models for the tests of the engine.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trine_backend::{Backend, Cpu, CpuOptions};
use trine_engine::{Engine, EngineOptions, Error};
use trine_model::{Language, ModelOptions, OnDevice};
use trine_tensor::File;

/// Where a golden model is.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)
}

/// An engine around the model in a folder.
pub fn open(folder: &Path, threads: usize, options: &EngineOptions) -> Result<Engine, Error> {
    open_on(folder, Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).unwrap(), options)
}

/// The same on any backend.
pub fn open_on<B>(folder: &Path, backend: B, options: &EngineOptions) -> Result<Engine, Error>
where
    B: Backend + Send + 'static,
    B::Weight: Send,
{
    let file = File::open(folder).unwrap();
    let runner = OnDevice::load(backend, &file, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    Engine::new(Box::new(runner), Arc::new(Language::of(&file).unwrap().tokenizer), options)
}

/// The prompts of a golden model, and the 16 tokens that greedily follow each.
pub fn prompts(name: &str) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bytes = std::fs::read(folder(name).join("golden.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let ids = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
    json["prompts"].as_array().unwrap().iter().map(|prompt| (ids(&prompt["ids"]), ids(&prompt["greedy"]))).collect()
}
