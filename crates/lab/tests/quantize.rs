//! A rewritten model is the same model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{Batch, CacheType, CpuOptions};
use trine_kernels::tables;
use trine_lab::quantize::{Error, quantize};
use trine_model::runner::{Output, Want};
use trine_model::{DeviceOptions, ModelOptions, load};
use trine_tensor::format::{F16, F32, Layout, by_name};
use trine_tensor::{FORMATS, File, FileFormat, Format, Metadata, OpenOptions, TensorInfo, View, gguf};

fn golden(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf");
    File::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Logits of a few tokens, in pieces of `chunk`.
fn logits(file: &File, options: CpuOptions, chunk: usize) -> Vec<u32> {
    let device = DeviceOptions { cpu: options, ..DeviceOptions::default() };
    let mut runner = load(file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"));
    let cache = runner.create_cache(2.into(), CacheType::F32).unwrap();
    let tokens: Vec<u32> = (0..29).map(|i| i * 7 % 256).collect();
    let (mut bits, mut batch, mut output) = (Vec::new(), Batch::new(), Output::default());
    for (i, tokens) in tokens.chunks(chunk).enumerate() {
        batch.clear();
        batch.push(tokens, i * chunk, &[1, 0], tokens.len());
        runner.forward(cache, &batch, Want::Logits, &mut output).unwrap();
        bits.extend(output.values.iter().map(|x| x.to_bits()));
    }
    bits
}

fn rewritten(file: &File, format: &str, folder: &Path) -> File {
    let path: PathBuf = folder.join(format!("{format}.gguf"));
    let report = quantize(file, &path, by_name(format).unwrap(), &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{format}: {error}"));
    assert!(report.unfit.is_empty());
    File::open(path).unwrap()
}

fn refusal(file: &File, output: &Path, format: &'static Format) -> Error {
    quantize(file, output, format, &mut |_| ControlFlow::Continue(())).unwrap_err()
}

/// All formats that hold ternary weights with one scale exactly.
fn ternary() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.encodes_trits())
}

/// The same model with matrices of one scale each that half precision holds.
fn rounded(source: &File, path: &Path) -> File {
    let round = |view: &View| match view.rows() {
        1 => view.clone(),
        _ => {
            let mut weights = view.decode();
            let scale = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
            let half = F16.encode(&[scale]);
            let mut exact = [0.0];
            (F16.decode)(&half, &[], &mut exact);
            weights.iter_mut().for_each(|w| *w = (*w / scale).round() * exact[0]);
            View::new(&*view.name, &F32, view.shape.clone(), F32.encode(&weights)).unwrap()
        }
    };
    let keep = |view: &View| if view.name.starts_with("blk.") { round(view) } else { view.clone() };
    let views: Vec<View> = source.tensors().map(keep).collect();
    gguf::write(path, source.metadata(), &views).unwrap();
    File::open(path).unwrap()
}

#[test]
fn all_ternary_layouts_of_a_model_give_the_same_bits() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models/bitstories3M");
    let real = shared.join("bitstories3M-tq2_0.gguf");
    if !real.exists() {
        eprintln!("skipped: {} is not there", real.display());
    }
    let real = real.exists().then(|| File::open(real).unwrap());
    let goldens = ["bitnet", "bitnet-b1.58", "llama-bitlinear"].map(golden);
    for source in real.into_iter().chain(goldens) {
        let folder = tempfile::tempdir().unwrap();
        let source = rounded(&source, &folder.path().join("source.gguf"));
        let mut expected: Option<Vec<u32>> = None;
        let mut last = File::open(source.path()).unwrap();
        let matrices = || source.tensors().filter(|view| view.name.starts_with("blk.") && view.rows() > 1);
        // Where an architecture does not say that activations have one scale per token, Q2_0 is multiplied with a scale for each 32 columns.
        let bitnet = source.metadata().str("general.architecture").unwrap().unwrap().starts_with("bitnet");
        // TQ1_0 and TQ2_0 want wider matrices than one of the models has.
        let fits =
            |format: &&'static Format| matrices().all(|view| TensorInfo { format, ..view.info() }.size().is_ok());
        let formats: Vec<_> = ternary().filter(|format| bitnet || format.ternary).filter(fits).collect();
        assert!(formats.len() >= 8, "{formats:?}");
        for format in formats {
            // Each from the one before, so that each is read, too.
            last = rewritten(&last, format.name, folder.path());
            let matrices = last.tensors().filter(|view| view.format == format).count();
            assert!(matrices >= 7, "{format}: {matrices}");
            for view in source.tensors() {
                assert!(last.view(&view.name).unwrap().decode() == view.decode(), "{format} {}", view.name);
            }
            for copied in [false, true] {
                let options = CpuOptions { huge_pages: copied.into(), repack: copied.into(), ..CpuOptions::default() };
                let bits = logits(&last, options, 29);
                let expected = expected.get_or_insert_with(|| bits.clone());
                assert!(*expected == bits, "{format}, copied: {copied}, {}", source.path().display());
            }
        }
    }
}

/// With `logits_have_the_same_bits_however_they_are_computed` of the model crate: the same for every format.
#[test]
fn every_format_has_the_same_bits_however_it_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let source = golden("bitnet");
    for format in FORMATS.iter().filter(|format| format.stores_models()) {
        let file = rewritten(&source, format.name, folder.path());
        let mut first = None;
        for table in tables() {
            for threads in [1, 2] {
                for chunk in [1, 6, 29] {
                    let bits = logits(&file, CpuOptions { threads, table, ..CpuOptions::default() }, chunk);
                    let how = format!("{format}, {}, {threads} threads, {chunk} tokens at a time", table.name);
                    assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{how}");
                }
            }
        }
    }
}

#[test]
fn a_ternary_format_refuses_other_weights_and_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    std::fs::write(&path, "old").unwrap();
    let source = golden("qwen3");
    for format in ["I2_S", "IQ2_BN"] {
        let error = refusal(&source, &path, by_name(format).unwrap());
        assert!(matches!(error, Error::NotTernary { .. }), "{error}");
        assert!(error.to_string().contains("blk.0."), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_split_model_becomes_one_file() {
    let (whole, folder) = (golden("llama"), tempfile::tempdir().unwrap());
    let tensors: Vec<View> = whole.tensors().cloned().collect();
    let pieces: Vec<PathBuf> = (1..=3).map(|no| folder.path().join(format!("x-{no:05}-of-00003.gguf"))).collect();
    for (no, (path, piece)) in pieces.iter().zip(tensors.chunks(tensors.len().div_ceil(3))).enumerate() {
        let mut metadata = if no == 0 { whole.metadata().clone() } else { Metadata::new() };
        for (key, value) in [("split.no", no), ("split.count", 3), ("split.tensors.count", tensors.len())] {
            metadata.insert(key, value as u32);
        }
        gguf::write(path, &metadata, piece).unwrap();
    }
    let split = File::open(&pieces[1]).unwrap();
    assert_eq!(logits(&split, CpuOptions::default(), 29), logits(&whole, CpuOptions::default(), 29));
    let expected = folder.path().join("expected");
    std::fs::create_dir(&expected).unwrap();
    let (found, expected) = (rewritten(&split, "Q8_0", folder.path()), rewritten(&whole, "Q8_0", &expected));
    // Receipts say what each was made of.
    let keys = |file: &File| {
        let own = file.metadata().iter().filter(|(key, _)| !key.starts_with("trine.receipt."));
        own.map(|(key, value)| (key.to_owned(), value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(keys(&found), keys(&expected));
    let tensors = |file: &File| file.tensors().map(|view| (view.info(), view.bytes.clone())).collect::<Vec<_>>();
    assert_eq!(tensors(&found), tensors(&expected));
    // A piece is not written over.
    let format = by_name("Q8_0").unwrap();
    let error = quantize(&split, &pieces[2], format, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, Error::SameFile { .. }), "{error}");
}

#[test]
fn folders_become_files_whatever_packed_them() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "llama-gptq", "llama-awq", "llama-fp8", "bitnet-b1.58"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name);
        let file = rewritten(&File::open(&path).unwrap(), "F16", folder.path());
        let matrices = file.tensors().filter(|view| view.name.starts_with("blk.") && view.rows() > 1);
        assert!(matrices.map(|view| assert_eq!(view.format, &F16, "{name}")).count() >= 7, "{name}");
        assert!(logits(&file, CpuOptions::default(), 29).iter().all(|&bits| f32::from_bits(bits).is_finite()));
    }
}

/// The golden llama with another tensor in place of one of its own.
fn changed(folder: &Path, name: &str, change: impl Fn(&mut [f32])) -> File {
    let source = golden("llama");
    let views: Vec<View> = source
        .tensors()
        .map(|view| {
            let mut weights = view.decode();
            if view.name == name {
                change(&mut weights);
            }
            View::new(&*view.name, &F32, view.shape.clone(), F32.encode(&weights)).unwrap()
        })
        .collect();
    let path = folder.join("changed.gguf");
    gguf::write(&path, source.metadata(), &views).unwrap();
    File::open(path).unwrap()
}

#[test]
fn what_would_break_a_model_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let name = "blk.1.ffn_down.weight";
    let cases: [(f32, &[&str]); 4] = [
        (1e5, &["F16"]),
        (1e10, &["F16", "Q8_0", "Q4_0", "Q5_1", "IQ4_NL"]),
        (1e38, &["F16", "Q8_0", "Q4_0", "Q5_1", "IQ4_NL"]),
        (f32::NAN, &["F32", "F16", "BF16", "Q8_0", "MXFP4"]),
    ];
    for (weight, formats) in cases {
        let source = changed(folder.path(), name, |weights| weights[7] = weight);
        for format in formats {
            let error = refusal(&source, &output, by_name(format).unwrap()).to_string();
            assert!(error.contains(name), "{format} of {weight}: {error}");
        }
    }
    let norm = changed(folder.path(), "output_norm.weight", |weights| weights[0] = f32::INFINITY);
    assert!(refusal(&norm, &output, &F16).to_string().contains("output_norm.weight"));
    for format in FORMATS.iter().filter(|format| !format.stores_models()) {
        let error = refusal(&golden("llama"), &output, format);
        assert!(matches!(error, Error::NotStorable { .. }) && error.to_string().contains("Q4_K"), "{error}");
    }
    let error = refusal(&golden("llama"), &folder.path().join("out.safetensors"), &F16);
    assert!(
        error
            .to_string()
            .ends_with("out.safetensors: expected a name that ends with .gguf, found one that ends with .safetensors")
    );
    // What does not run is no model.
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/hostile/models");
    for path in std::fs::read_dir(hostile).unwrap().map(|entry| entry.unwrap().path()) {
        let file = File::open(&path).unwrap();
        if !path.to_string_lossy().ends_with("good.gguf") && matches!(file.format(), FileFormat::Gguf { .. }) {
            let error = quantize(&file, &output, &F16, &mut |_| ControlFlow::Continue(()));
            assert!(error.is_err(), "{}", path.display());
        }
    }
    assert!(!output.exists());
}

#[test]
fn what_is_multiplied_changes_and_every_tensor_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "qwen2moe", "command-r-plus", "gpt2", "phi-longrope", "stablelm-parallel"] {
        let source = golden(name);
        for (format, other) in [("Q8_0", "Q8_0"), ("Q4_K", "Q5_0"), ("Q2_K", "Q4_0")] {
            let path = folder.path().join(format!("{name}-{format}.gguf"));
            let report =
                quantize(&source, &path, by_name(format).unwrap(), &mut |_| ControlFlow::Continue(())).unwrap();
            let file = File::open(&path).unwrap();
            let mut formats = BTreeMap::new();
            file.tensors().for_each(|view| *formats.entry(view.format.name).or_default() += 1);
            assert_eq!(report.formats, formats, "{name}");
            assert_eq!(report.rewritten + report.replaced.len(), formats[other], "{name}");
            assert_eq!(report.kept + report.unfit.len() + formats[other], source.tensors().count(), "{name}");
            let declared = file.metadata().u32("general.file_type").unwrap();
            assert_eq!(declared, by_name(other).unwrap().file_type(), "{name} {format}");
            let kept = ["norm.weight", ".bias", "ffn_gate_inp.weight", "position_embd.weight"];
            for view in file.tensors().filter(|view| kept.iter().any(|end| view.name.ends_with(end))) {
                assert_eq!(view.format, source.view(&view.name).unwrap().format, "{name} {}", view.name);
            }
            assert!(logits(&file, CpuOptions::default(), 29).iter().all(|&bits| f32::from_bits(bits).is_finite()));
        }
    }
}

/// A tensor takes many pieces of work, and each of them is a chance to break off.
#[test]
fn who_waits_may_give_up_within_a_tensor_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let source = trine_model::open_file(trine_model::EMBEDDED, &Default::default()).unwrap();
    for format in ["Q8_0", "IQ2_XS", "TL2", "I2_S"] {
        let format = by_name(format).unwrap();
        let run = |last: usize| {
            let mut asked = Vec::new();
            let result = quantize(&source, &output, format, &mut |done| {
                asked.push(done);
                if asked.len() > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            (result, asked)
        };
        let (whole, asked) = run(usize::MAX);
        assert!(whole.is_ok() && asked.is_sorted(), "{format}: {whole:?}");
        std::fs::remove_file(&output).unwrap();
        let weights: usize = source.tensors().map(|view| view.rows() * view.cols()).sum();
        assert!(asked.len() > weights >> 16, "{format}: asked {} times for {weights} weights", asked.len());
        for last in [0, 1, asked.len() / 3, asked.len() / 2] {
            let (stopped, asked) = run(last);
            assert!(matches!(stopped, Err(Error::Cancelled)), "{format}, after {last}: {stopped:?}");
            assert_eq!(asked.len(), last + 1, "{format}: work goes on");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{format}, after {last}");
        }
    }
}

/// F32 with its bytes in another order.
static BIG_ENDIAN: Format = Format {
    name: "BIG_ENDIAN",
    id: Some(9002),
    block: 1,
    bytes: 4,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        row.as_chunks().0.iter().zip(out).for_each(|(bytes, w)| *w = f32::from_be_bytes(*bytes));
    },
    encode: |weights, _, out| {
        weights.iter().zip(out.as_chunks_mut().0).for_each(|(w, bytes)| *bytes = w.to_be_bytes());
    },
};

#[test]
fn a_model_in_a_format_of_ones_own_is_written_read_and_run() {
    let (source, folder) = (golden("llama"), tempfile::tempdir().unwrap());
    let path = folder.path().join("own.gguf");
    let report = quantize(&source, &path, &BIG_ENDIAN, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.rewritten > 0);
    let message = File::open(&path).unwrap_err().to_string();
    assert!(message.contains("type 9002 is not supported"), "{message}");
    let file = File::open_with(&path, &OpenOptions { layouts: vec![&BIG_ENDIAN], ..OpenOptions::default() }).unwrap();
    let [own, plain] = [&file, &source].map(|file| logits(file, CpuOptions::default(), 29));
    assert_eq!(own, plain);
}
