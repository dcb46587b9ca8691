//! A model that is served, without an engine.
#![allow(dead_code, reason = "each test uses some of it")]

use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use trine_api::openai::Shared;
use trine_api::{Fields, PLAIN_TEMPLATE, Problem, Served};
use trine_engine::Sampling;
use trine_model::{EMBEDDED, Language, open_file};
use trine_text::{Template, Tokenizer};

/// The tokenizer of a model of `golden/models`, or of the one in the program.
pub fn tokenizer(golden: Option<&str>) -> Tokenizer {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models");
    let path = golden.map_or_else(|| PathBuf::from(EMBEDDED), |name| PathBuf::from(root).join(name));
    Language::of(&open_file(&path, &Default::default()).unwrap()).unwrap().tokenizer
}

pub fn served_with(tokenizer: Tokenizer, template: &str) -> Shared {
    let template = Template::new(template, "<s>", "</s>").map_err(|error| error.to_string());
    Arc::new(Served::new("stories", Arc::new(tokenizer), template, Sampling::default(), 1 << 20))
}

/// The model in the program, with a template.
pub fn served(template: &str) -> Shared {
    served_with(tokenizer(None), template)
}

pub fn plain() -> Shared {
    served(PLAIN_TEMPLATE)
}

pub fn fields(body: &Value) -> Fields {
    Fields::new(body.clone()).unwrap()
}

/// The message of a problem.
pub fn message<T>(result: Result<T, Problem>) -> String {
    result.err().map_or_else(String::new, |problem| problem.message)
}

/// The shared templates of models: name and source.
pub fn templates() -> Vec<(String, String)> {
    let root = std::env::var_os("TRINE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let Ok(folder) = std::fs::read_dir(root.join("data/templates/jinja")) else {
        eprintln!("skipped: no shared templates");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// A body with more fields; those of an object in it are added to it.
pub fn with(body: &Value, more: &Value) -> Value {
    let mut body = body.clone();
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}
