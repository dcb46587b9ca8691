//! A rewritten model is the same model.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{Batch, CpuOptions};
use trine_kernels::tables;
use trine_lab::quantize::{Error, quantize};
use trine_model::runner::{Output, Want};
use trine_model::{DeviceOptions, ModelOptions, load};
use trine_tensor::format::{F16, F32, by_name};
use trine_tensor::{FORMATS, File, Format, Metadata, TensorInfo, View, gguf};

fn golden(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf");
    File::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Logits of a few tokens, in pieces of `chunk`.
fn logits(file: &File, options: CpuOptions, chunk: usize) -> Vec<u32> {
    let device = DeviceOptions { cpu: options, ..DeviceOptions::default() };
    let mut runner = load(file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"));
    let cache = runner.create_cache(2, &F32).unwrap();
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
    let integers = ["I8", "I16", "I32", "I64"];
    for format in FORMATS.iter().filter(|format| format.id.is_some() && !integers.contains(&format.name)) {
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
    let weights = trine_tensor::format::F32.encode(&(0..256 * 4).map(|i| (i as f32).sin()).collect::<Vec<_>>());
    let shape = vec![4, 256];
    let view = trine_tensor::View::new("blk.0.attn_q.weight", by_name("F32").unwrap(), shape, weights).unwrap();
    let source = folder.path().join("in.gguf");
    trine_tensor::gguf::write(&source, &Default::default(), &[view]).unwrap();
    for format in ["I2_S", "TQ1_0", "TQ2_0"] {
        let error =
            quantize(
                &File::open(&source).unwrap(),
                &path,
                by_name(format).unwrap(),
                &mut |_| ControlFlow::Continue(()),
            )
            .unwrap_err();
        assert!(matches!(error, Error::NotTernary { .. }), "{error}");
        assert!(error.to_string().contains("blk.0.attn_q.weight"), "{error}");
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
    assert_eq!(std::fs::read(found.path()).unwrap(), std::fs::read(expected.path()).unwrap());
    // A piece is not written over.
    let format = by_name("Q8_0").unwrap();
    let error = quantize(&split, &pieces[2], format, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, Error::SameFile { .. }), "{error}");
}

#[test]
fn folders_are_refused_whatever_packed_them() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    for name in ["llama", "llama-gptq", "llama-awq", "llama-fp8", "bitnet-b1.58"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name);
        let file = File::open(&path).unwrap();
        let error = quantize(&file, &output, &F16, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::NotGguf { .. }) && error.to_string().contains(name), "{error}");
        assert!(!output.exists());
    }
}
