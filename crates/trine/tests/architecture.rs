//! ARCHITECTURE.md and what the crates import say the same.

use std::path::{Path, PathBuf};

/// Crates by layer: a crate may use those of lower layers, and its own layer only where written.
const LAYERS: &[(&str, u32)] = &[
    ("tensor", 0),
    ("text", 0),
    ("hub", 0),
    ("kernels", 1),
    ("backend", 1),
    ("model", 2),
    ("engine", 3),
    ("train", 3),
    ("grammar", 4),
    ("lab", 4),
    ("trine", 5),
    ("api", 5),
    ("server", 6),
    ("cli", 7),
];
const NEIGHBOURS: &[(&str, &str)] = &[("backend", "kernels")];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a crate's `[dependencies]` name of ours.
fn uses(name: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(crates().join(name).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or_default();
    let ours = |line: &str| {
        let package = line.split(['.', ' ', '=']).next()?;
        if package == "trine" { Some(package.to_owned()) } else { package.strip_prefix("trine-").map(str::to_owned) }
    };
    section.lines().filter_map(ours).collect()
}

#[test]
fn dependencies_point_down() {
    let layer =
        |name: &str| LAYERS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} has no layer")).1;
    let mut edges = 0;
    for entry in std::fs::read_dir(crates()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        for used in uses(&name) {
            let beside = NEIGHBOURS.contains(&(&name, &used));
            assert!(beside || layer(&used) < layer(&name), "{name} must not use {used}");
            edges += 1;
        }
    }
    assert!(edges > LAYERS.len(), "the manifests were not understood");
}

/// The Rust sources under a folder of `crates/`, with their paths.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![crates().join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    assert!(!sources.is_empty(), "{folder}");
    sources
}

#[test]
fn nothing_above_the_model_is_generic_over_a_backend() {
    for folder in ["engine/src", "lab/src", "trine/src", "cli/src"] {
        for (path, text) in sources(folder) {
            assert!(!text.contains("B: Backend"), "{}", path.display());
        }
    }
}

#[test]
fn devices_are_named_in_one_place_and_in_training() {
    for folder in ["model/src", "engine/src", "lab/src", "trine/src", "cli/src"] {
        for (path, text) in sources(folder) {
            let is_registry = path.ends_with("model/src/device.rs");
            assert!(is_registry || !text.contains("Cpu::") && !text.contains("<Cpu>"), "{}", path.display());
        }
    }
}

#[test]
fn the_decoder_names_no_cache_block_and_no_number_format() {
    for (path, text) in sources("model/src") {
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["attention.rs", "decoder.rs", "feed_forward.rs", "loader.rs"].contains(&name) {
            assert!(!text.contains("F32") && !text.contains("BLOCK_LEN"), "{name}");
        }
    }
}

/// Tokens come from arithmetic: nothing on their way pretends to compute, or waits for a time. The server waits for clients and timers alone.
#[test]
fn nothing_on_the_way_of_a_token_sleeps_or_is_simulated() {
    const TIMERS: [&str; 4] = ["generate.rs", "listen.rs", "patience.rs", "self_test.rs"];
    for folder in ["kernels", "backend", "model", "engine", "grammar", "tensor", "text", "trine", "api", "server"] {
        for (path, text) in sources(&format!("{folder}/src")) {
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let is_timer = folder == "server" && TIMERS.iter().any(|name| path.ends_with(name));
            let sleeps = code.contains("thread::sleep") || !is_timer && code.contains("sleep(");
            assert!(!sleeps && !code.contains("simulate"), "{}", path.display());
        }
    }
}
