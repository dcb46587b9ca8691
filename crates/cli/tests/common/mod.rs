//! Running the program, and models that are made for a test.
#![allow(dead_code, reason = "each test binary takes what it needs")]

pub mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use trine_tensor::format::F32;
use trine_tensor::{File, Metadata, View, gguf};

/// What a run of the program gave.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The JSON on the last line.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.out.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{}", self.err))
    }
}

/// The program, untouched by the variables and the configuration of who runs the tests.
pub fn trine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    let of_others = |name: &str| ["TRINE_", "HF_", "HUGGINGFACE_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_others(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.env_remove("RAYON_NUM_THREADS").env_remove("RUST_LOG");
    let none = concat!(env!("CARGO_TARGET_TMPDIR"), "/none");
    command.env("XDG_CONFIG_HOME", none).env("XDG_DATA_HOME", none).env("HF_HOME", none);
    command
}

/// Runs a command with some standard input. Nothing may panic, and nothing is coloured when it does not go to a terminal.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The program need not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{}", ran.err);
    ran
}

/// Runs the program with these arguments.
pub fn trine_with(args: &[&str]) -> Ran {
    run(trine().args(args), "")
}

/// `trine train` with this configuration.
pub fn train(folder: &Path, config: &str, more: &[&str]) -> Ran {
    let path = folder.join("config.toml");
    std::fs::write(&path, config).unwrap();
    run(trine().current_dir(folder).args(["train", "config.toml"]).args(more), "")
}

/// A golden model's folder.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)
}

/// The golden llama as one file.
pub fn llama() -> String {
    golden("llama").join("model.gguf").display().to_string()
}

/// The golden llama, changed: written to `name` in the folder.
pub fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Metadata, &mut Vec<View>)) -> String {
    let file = File::open(llama()).unwrap();
    let (mut metadata, mut tensors) = (file.metadata().clone(), file.tensors().cloned().collect());
    change(&mut metadata, &mut tensors);
    let path = folder.join(name);
    gguf::write(&path, &metadata, &tensors).unwrap();
    path.display().to_string()
}

/// The golden llama with a context that takes minutes to fill.
pub fn long(folder: &Path) -> String {
    changed(folder, "long.gguf", |metadata, _| drop(metadata.insert("llama.context_length", 200_000u32)))
}

/// Puts NaN into the last norm.
pub fn spoil(tensors: &mut [View]) {
    let norm = tensors.iter_mut().find(|view| view.name == "output_norm.weight").unwrap();
    *norm =
        View::new("output_norm.weight", &F32, norm.shape.clone(), F32.encode(&vec![f32::NAN; norm.cols()])).unwrap();
}

/// Where shared data is, unless it is not there, which is said.
pub fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("TRINE_SHARED").map_or_else(beside, PathBuf::from).join("data");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
    }
    path.exists().then_some(path)
}
