//! docs/src/support.md: what Trine opens and how far that is from other programs, as it is found out here. `cargo test -p trine-model --test support
//! -- --ignored` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{ActivationPrecision, CpuOptions};
use trine_kernels::{Operand, operand_of};
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{ARCHS, DeviceOptions, Error, ModelOptions, Spec, load};
use trine_tensor::format::F32;
use trine_tensor::{FORMATS, File};
use trine_text::PRE_TOKENIZERS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the definition of a format was compared with, where PyPI gguf does not know it.
const DESCRIBED: [(&str, &str); 13] = [
    ("Q8_1", "PyPI xllamacpp encodes it, byte for byte"),
    ("Q8_K", "PyPI xllamacpp encodes it, byte for byte"),
    ("Q1_0", "an encoder after ggml's source"),
    ("Q2_0", "an encoder after ggml's source"),
    ("Q2_0_128", "an encoder after ggml's source"),
    ("I2_S", "an encoder after bitnet.cpp's source"),
    ("I2_S_ARM", "an encoder by its description"),
    ("I2_S_ROWS", "an encoder after bitnet.cpp's source"),
    ("TL1", "an encoder with the bytes of bitnet.cpp's converter"),
    ("TL2", "an encoder with the bytes of bitnet.cpp's converter"),
    ("IQ1_BN", "an encoder after ik_llama.cpp's source"),
    ("IQ2_BN", "an encoder after ik_llama.cpp's source"),
    ("IQ2_BN_R4", "an encoder by its description"),
];

fn formats(out: &mut String) {
    let golden = File::open(root().join("golden/formats.safetensors")).unwrap();
    writeln!(
        out,
        "| format | GGUF number | bits per weight | `quantize` writes | products | decoding checked against |"
    )
    .unwrap();
    writeln!(out, "|---|---|---|---|---|---|").unwrap();
    for format in FORMATS.iter().filter(|format| format.id.is_some()) {
        let product = match operand_of(format) {
            _ if format.matrix_layout().is_some() => "8-bit activations, repacked when loaded",
            Operand::Bytes => "8-bit activations",
            Operand::Floats => "floats",
            Operand::Decoded => "decoded row by row",
        };
        let checked = match format.name {
            "F32" | "F64" | "I8" | "I16" | "I32" | "I64" => "Rust's own numbers",
            name => match DESCRIBED.iter().find(|(described, _)| *described == name) {
                Some((_, with)) => with,
                None if golden.contains(&format!("{name}.bytes")) => "PyPI gguf, bit for bit",
                None => "nothing yet",
            },
        };
        let writes = if format.stores_models() { "yes" } else { "" };
        let (name, id, bits) = (format.name, format.id.unwrap(), format.bits_per_weight());
        writeln!(out, "| {name} | {id} | {} | {writes} | {product} | {checked} |", (bits * 1e4).round() / 1e4).unwrap();
    }
}

fn tokenizers(out: &mut String) {
    let words = std::fs::read(root().join("golden/words.json")).unwrap();
    let words: BTreeMap<String, Vec<Vec<String>>> = serde_json::from_slice(&words).unwrap();
    writeln!(out, "| pre-tokenizer, and other names of it | texts that Hugging Face `tokenizers` splits alike |")
        .unwrap();
    writeln!(out, "|---|---|").unwrap();
    for pre in PRE_TOKENIZERS {
        let texts = words.get(pre.names[0]).map_or(0, Vec::len);
        writeln!(out, "| {} | {texts} |", pre.names.join(", ")).unwrap();
    }
}

/// The largest difference of a logit, for a file's prompts.
fn difference(path: &Path, golden: &serde_json::Value, expected: &[f32]) -> f32 {
    let file = File::open(path).unwrap();
    let mut cpu = CpuOptions { threads: 2, ..CpuOptions::default() };
    let blocks = |tensor: &trine_tensor::View| {
        let unpacked = [".qweight", "_blocks"].iter().any(|end| tensor.name.ends_with(end));
        tensor.format.block > 1 && !tensor.format.ternary || unpacked
    };
    if file.tensors().any(blocks) {
        cpu.activations = ActivationPrecision::F32;
    }
    let device = DeviceOptions { cpu, ..DeviceOptions::default() };
    let mut runner = load(&file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    runner.limit_context(128);
    let input = |prompt: &serde_json::Value| {
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
        ScoreInput { outputs: ids.len(), ids }
    };
    let inputs: Vec<ScoreInput> = golden["prompts"].as_array().unwrap().iter().map(input).collect();
    let options = ScoreOptions { batch: 512, cache_type: &F32, want: Want::Logits };
    let mut found = Vec::new();
    score::<Error>(&mut *runner, &inputs, &options, &mut |_, output| {
        found.extend_from_slice(&output.values);
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn architectures(out: &mut String) {
    writeln!(out, "| golden model | architecture | safetensors | GGUF | llama.cpp goes on greedily as Trine does |")
        .unwrap();
    writeln!(out, "|---|---|---|---|---|").unwrap();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("golden/models")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let golden = std::fs::read(folder.join("golden.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
        let logits = std::fs::read(folder.join("logits.f32")).unwrap();
        let logits: Vec<f32> = logits.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let arch = Spec::of(&File::open(&folder).unwrap()).unwrap().arch;
        let gguf = folder.join("model.gguf");
        let ours = format!("{:.1e}", difference(&folder, &golden, &logits));
        let theirs = if gguf.exists() { format!("{:.1e}", difference(&gguf, &golden, &logits)) } else { String::new() };
        let agrees = match (golden["llama.cpp"]["greedy"].as_bool(), golden["llama.cpp"]["why"].as_str()) {
            (Some(true), _) => "yes".to_owned(),
            (Some(false), why) => format!("no: {}", why.unwrap_or("unknown")),
            (None, why) => why.unwrap_or_default().to_owned(),
        };
        let name = folder.file_name().unwrap().display();
        writeln!(out, "| {name} | {} | {ours} | {theirs} | {agrees} |", arch.name()).unwrap();
    }
    let all: Vec<_> = ARCHS.iter().flat_map(|arch| arch.gguf).copied().collect();
    writeln!(out, "\nAll names of architectures in GGUF files: {}.", all.join(", ")).unwrap();
    let hf: Vec<_> = ARCHS.iter().flat_map(|arch| arch.hf).copied().collect();
    writeln!(out, "\nAll `model_type`s of Hugging Face folders: {}.", hf.join(", ")).unwrap();
}

fn support() -> String {
    let mut out = String::from(
        "# What Trine opens\n\nMade by `cargo test -p trine-model --test support -- --ignored`, and checked by the test beside it.\n\n\
         ## Formats of weights\n\nProducts with 8-bit activations are written once for AVX-512, AVX2, NEON and plain Rust, and give the same bits on all.\n\n",
    );
    formats(&mut out);
    out.push_str("\n## Pre-tokenizers of byte-level BPE\n\n");
    tokenizers(&mut out);
    out.push_str(
        "\n## Architectures\n\nTiny random models with every feature of an architecture; the largest difference of a logit from transformers (float32), for \
         logits of a standard deviation of 1 or more.\n\n",
    );
    architectures(&mut out);
    out
}

#[test]
fn the_table_of_what_is_supported_is_true() {
    let found = std::fs::read_to_string(root().join("docs/src/support.md")).unwrap_or_default();
    assert!(found == support(), "docs/src/support.md is stale: cargo test -p trine-model --test support -- --ignored");
}

#[test]
#[ignore = "writes docs/src/support.md"]
fn write() {
    std::fs::write(root().join("docs/src/support.md"), support()).unwrap();
}
