//! docs/src/support.md: what Trine opens and how far that is from other programs, as it is found out here; and docs/src/keys.md: the keys of their
//! files. `cargo test -p trine-model --test support -- --ignored` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{ActivationPrecision, CacheType, CpuOptions};
use trine_kernels::{Operand, operand_of};
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{
    ARCHITECTURE_KEYS, ARCHS, ArchitectureKeys, DeviceOptions, Error, IGNORED_HF_KEYS, IgnoredKeys, ModelOptions,
    SETTINGS, Spec, file_keys, load,
};
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
    let ik = File::open(root().join("golden/iqk.safetensors")).unwrap();
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
                None if ik.contains(&format!("{name}.bytes")) => "ik_llama.cpp, bit for bit",
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
    let options = ScoreOptions { batch: 512, cache_type: CacheType::F32, want: Want::Logits };
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
    let mut hf: Vec<_> = ARCHS.iter().flat_map(|arch| arch.hf).copied().collect();
    hf.dedup();
    writeln!(out, "\nAll `model_type`s of Hugging Face folders: {}.", hf.join(", ")).unwrap();
}

fn support() -> String {
    let mut out = String::from(
        "# What Trine opens\n\nMade by `cargo test -p trine-model --test support -- --ignored`, and checked by the test beside it.\n\n\
         ## Formats of weights\n\nProducts with 8-bit activations are written once for AVX-512, AVX-VNNI, AVX2, SSE4.1, NEON and plain Rust, and give the same bits on all.\n\n",
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

const KEYS: &str = "# Keys of model files

Made by `cargo test -p trine-model --test support -- --ignored`, and checked by the test beside it.

Nothing that a file says is ignored in silence. Of the keys below, some are read. Some change nothing, and the table says why; tests change them in golden
models, as scripts do with transformers and llama.cpp, and nothing else comes out. Some would change what is computed or generated, in ways that Trine does
not follow: of a model's configuration they are refused, unless they have a value that changes nothing, and of sampling and tokenizers they are reported.
Any other key of these files is a warning that names it. In GGUF files, this holds for keys of the architecture, `tokenizer.` and `general.sampling.`; other
programs have further namespaces.

Where transformers and llama.cpp disagree, [Files and formats](formats.md#tokenizers) says which is followed: a folder is computed as by transformers, and
a GGUF file as by llama.cpp, with the exceptions there.
";

fn keys() -> String {
    let mut out = String::from(KEYS);
    let row = |out: &mut String, what: &str, keys: &mut dyn Iterator<Item = String>| {
        let keys = keys.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        if !keys.is_empty() {
            writeln!(out, "| {what} | {keys} |").unwrap();
        }
    };
    let head = |out: &mut String, title: &str| writeln!(out, "\n## {title}\n\n| rule | keys |\n|---|---|").unwrap();
    let owned = |keys: &[&str]| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>();
    let ignored = |out: &mut String, rows: &[IgnoredKeys], prefix: &str| {
        for one in rows {
            row(out, &format!("{prefix}: {}", one.reason), &mut owned(one.keys).into_iter());
        }
    };
    let mut read = [BTreeSet::new(), BTreeSet::new()];
    for folder in ["models", "encoders"].map(|name| root().join("golden").join(name)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let folder = entry.unwrap().path();
            let gguf = folder.join("model.gguf");
            for (read, path) in read.iter_mut().zip([&folder, &gguf]).filter(|(_, path)| path.exists()) {
                read.extend(Spec::keys(&File::open(path).unwrap()).unwrap());
            }
        }
    }
    let [mut hf, mut gguf] = read;
    hf.retain(|key| !SETTINGS.iter().any(|(name, ..)| name == key));
    head(&mut out, "config.json");
    row(&mut out, "read, some of them by some architectures alone", &mut hf.into_iter());
    for (key, expected, _) in SETTINGS {
        row(&mut out, &format!("refused, unless it is {expected}"), &mut [key.to_string()].into_iter());
    }
    ignored(&mut out, IGNORED_HF_KEYS, "change nothing");
    head(&mut out, "GGUF: keys of an architecture");
    let ArchitectureKeys { ignored: nothing, neutral, foreign } = &ARCHITECTURE_KEYS;
    gguf.retain(|key| !neutral.iter().any(|(name, _)| name == key));
    row(&mut out, "read, some of them by some architectures alone", &mut gguf.into_iter());
    for (key, values) in *neutral {
        let values = values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" or ");
        row(
            &mut out,
            &format!("refused, unless it is {values}, where nothing reads it"),
            &mut [key.to_string()].into_iter(),
        );
    }
    ignored(&mut out, nothing, "change nothing");
    ignored(&mut out, foreign, "of other architectures, reported");
    for (title, table) in file_keys() {
        head(&mut out, &title);
        row(&mut out, "read", &mut owned(table.read).into_iter());
        let strict = !["GGUF", "generation_config.json", "tokenizer_config.json"].contains(&table.file);
        let rule = if strict { "refused, unless neutral" } else { "reported, unless neutral" };
        row(&mut out, rule, &mut table.neutral.iter().map(|(key, _)| key.to_string()));
        ignored(&mut out, table.ignored, "change nothing");
    }
    out
}

#[test]
fn the_pages_of_what_is_supported_are_true() {
    for (page, expected) in [("support.md", support()), ("keys.md", keys())] {
        let found = std::fs::read_to_string(root().join("docs/src").join(page)).unwrap_or_default();
        assert!(found == expected, "docs/src/{page} is stale: cargo test -p trine-model --test support -- --ignored");
    }
}

#[test]
#[ignore = "writes docs/src/support.md and docs/src/keys.md"]
fn write() {
    for (page, text) in [("support.md", support()), ("keys.md", keys())] {
        std::fs::write(root().join("docs/src").join(page), text).unwrap();
    }
}
