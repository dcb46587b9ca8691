//! Divergences are those of a plain calculation, and of llama.cpp.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{CacheType, Cpu, CpuOptions};
use trine_lab::divergence::{
    Chunks, Divergence, DivergenceOptions, Error, Reference, SavedLogits, compare, save_logits,
};
use trine_model::runner::{Output, Sequences, Want};
use trine_model::{EMBEDDED, Language, ModelOptions, OnDevice, Runner, open_file};
use trine_tensor::format::F32;
use trine_tensor::{File, View, gguf};

const OPTIONS: DivergenceOptions = DivergenceOptions { batch: 64, threads: 2, cache_type: CacheType::F32 };
const TEXT: &str = trine_lab::bench::TEXT;

fn load(file: &File) -> OnDevice<Cpu> {
    let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }).unwrap();
    OnDevice::load(cpu, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn embedded() -> File {
    open_file(EMBEDDED, &Default::default()).unwrap()
}

/// The same model with weights that are multiples of `step`.
fn coarse(file: &File, step: f32, path: &Path) -> File {
    let round = |view: &View| {
        let weights: Vec<f32> = match view.rows() {
            1 => view.decode(),
            _ => view.decode().iter().map(|w| (w / step).round_ties_even() * step).collect(),
        };
        View::new(&*view.name, &F32, view.shape.clone(), F32.encode(&weights)).unwrap()
    };
    let views: Vec<View> = file.tensors().map(round).collect();
    gguf::write(path, file.metadata(), &views).unwrap();
    File::open(path).unwrap()
}

fn found(reference: Reference, model: &mut dyn Runner, chunks: &Chunks) -> Divergence {
    compare(reference, model, chunks, &OPTIONS, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// All logits of a chunk, run token by token.
fn logits(runner: &mut dyn Runner, ids: &[u32]) -> Vec<Vec<f64>> {
    let mut sequences = Sequences::new(runner, Sequences::blocks_of(ids.len()), CacheType::F32).unwrap();
    let (sequence, mut output, mut rows) = (sequences.add(ids.len()), Output::default(), Vec::new());
    for id in ids {
        sequences.push(sequence, &[*id], 1);
        sequences.run(runner, Want::Logits, &mut output).unwrap();
        rows.push(output.values.iter().map(|&x| f64::from(x)).collect());
    }
    sequences.release(runner);
    rows
}

#[test]
fn divergences_are_those_of_a_plain_calculation() {
    let folder = tempfile::tempdir().unwrap();
    let file = embedded();
    let language = Language::of(&file).unwrap();
    let (context, bos) = (32, language.tokenizer.bos().filter(|_| language.tokenizer.adds_bos()));
    let chunks = Chunks::new(&language.tokenizer, &[TEXT], context, 3).unwrap();
    let mut p = load(&file);
    let mut q = load(&coarse(&file, 0.02, &folder.path().join("coarse.gguf")));
    let report = found(Reference::Runner(&mut p), &mut q, &chunks);

    let (mut all, mut same, mut flips, mut nats) = (Vec::new(), 0, 0, [0.0, 0.0]);
    for chunk in chunks.ids().chunks(context) {
        let mut ids = chunk.to_vec();
        ids[0] = bos.unwrap_or(ids[0]);
        let [p, q] = [logits(&mut p, &ids), logits(&mut q, &ids)];
        for at in context / 2..context - 1 {
            let log_softmax = |row: &[f64]| -> Vec<f64> {
                let total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                row.iter().map(|x| x - total).collect()
            };
            let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let [p, q] = [log_softmax(&p[at]), log_softmax(&q[at])];
            all.push(p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>());
            let target = chunk[at + 1] as usize;
            same += usize::from(best(&p) == best(&q));
            flips += usize::from((best(&p) == target) != (best(&q) == target));
            nats[0] -= p[target];
            nats[1] -= q[target];
        }
    }
    let n = all.len() as f64;
    all.sort_by(f64::total_cmp);
    assert_eq!((report.tokens, report.chunks, report.complete), (45, 3, true));
    for (found, expected) in [
        (report.mean_kl, all.iter().sum::<f64>() / n),
        (report.median_kl, all[22]),
        (report.max_kl, all[44]),
        (report.top1, same as f64 / n),
        (report.flips, flips as f64 / n),
        (report.perplexity_reference, (nats[0] / n).exp()),
        (report.perplexity, (nats[1] / n).exp()),
        (report.ln_perplexity_ratio.value, (nats[1] - nats[0]) / n),
    ] {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} {expected}: {report:?}");
    }
    assert!(report.mean_kl > 0.001 && report.mean_kl_low.unwrap() < report.mean_kl, "{report:?}");

    let same = found(Reference::Runner(&mut p), &mut load(&file), &chunks);
    assert_eq!((same.mean_kl, same.max_kl, same.top1, same.top5, same.flips), (0.0, 0.0, 1.0, 1.0, 0.0));
}

#[test]
fn saved_logits_take_the_place_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.bin");
    let file = embedded();
    let language = Language::of(&file).unwrap();
    let chunks = Chunks::new(&language.tokenizer, &[TEXT], 33, 4).unwrap();
    let mut q = load(&coarse(&file, 0.02, &folder.path().join("coarse.gguf")));
    let direct = found(Reference::Runner(&mut load(&file)), &mut q, &chunks);
    save_logits(&mut load(&file), &chunks, &OPTIONS, &path, &mut |_| ControlFlow::Continue(())).unwrap();

    let mut saved = SavedLogits::open(&path).unwrap();
    assert_eq!(saved.chunks(&language.tokenizer, usize::MAX).unwrap(), chunks);
    let report = found(Reference::Saved(&mut saved), &mut q, &chunks);
    // The file tells logits apart that differ by 1/4096 or more, of the likely tokens.
    assert!((report.mean_kl / direct.mean_kl - 1.0).abs() < 0.02, "{} {}", report.mean_kl, direct.mean_kl);
    assert_eq!(report.top1, direct.top1);

    let bytes = std::fs::read(&path).unwrap();
    let damaged = |name: &str, bytes: &[u8]| -> String {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        SavedLogits::open(&path).unwrap_err().to_string()
    };
    let changed = |at: usize, number: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for (name, bytes, expected) in [
        ("empty", vec![], "0 bytes"),
        ("short", bytes[..bytes.len() - 1].to_vec(), "bytes for its chunks"),
        ("long", [&bytes[..], &[0]].concat(), "bytes for its chunks"),
        ("magic", changed(0, 0), "`_logits_`"),
        ("context", changed(8, 3), "at least 4"),
        ("vocabulary", changed(12, u32::MAX), "bytes"),
        ("chunks", changed(16, u32::MAX), "bytes"),
        ("token", changed(20, 1 << 20), "tokens below 2048"),
    ] {
        let message = damaged(name, &bytes);
        assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
    }
    // A step that is not finite is found when its chunk is read.
    let nan = folder.path().join("nan");
    std::fs::write(&nan, changed(20 + 4 * 33 * 4, f32::NAN.to_bits())).unwrap();
    let mut saved = SavedLogits::open(&nan).unwrap();
    let error = compare(Reference::Saved(&mut saved), &mut q, &chunks, &OPTIONS, &mut |_, _| ControlFlow::Continue(()));
    assert!(error.unwrap_err().to_string().contains("finite numbers in chunk 0"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let file = embedded();
    let tokenizer = Language::of(&file).unwrap().tokenizer;
    assert!(matches!(Chunks::new(&tokenizer, &["Once"], 32, 9), Err(Error::TooShort { context: 32, .. })));
    let mut other = load(&File::open(golden("llama")).unwrap());
    let chunks = Chunks::new(&tokenizer, &[TEXT], 32, 1).unwrap();
    let mut model = load(&file);
    let mut go_on = |_, _| ControlFlow::Continue(());
    let error = compare(Reference::Runner(&mut other), &mut model, &chunks, &OPTIONS, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Vocabulary { second: 2048, .. }), "{error}");
    let long = Chunks::new(&tokenizer, &[TEXT.repeat(9)], 4096, 1);
    let long = long.unwrap_or_else(|_| Chunks::new(&tokenizer, &[TEXT.repeat(99)], 4096, 1).unwrap());
    let error = compare(Reference::Runner(&mut load(&file)), &mut model, &long, &OPTIONS, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Context { found: 4096, .. }), "{error}");
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf")
}

/// `llama-perplexity -c 256 --chunks 12 --kl-divergence-base` of stories3M, and `--kl-divergence` of the coarse model, at commit 0c1e570.
#[test]
fn divergences_are_those_of_llama_cpp() {
    let shared = std::env::var_os("TRINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let (model, text) =
        (shared.join("data/models/stories3M/stories3M-f32.gguf"), shared.join("data/text/tinystories.txt"));
    if !model.exists() {
        eprintln!("skipped: {} is not there", model.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = File::open(model).unwrap();
    let text = String::from_utf8(std::fs::read(text).unwrap()[..60_000].to_vec()).unwrap();
    let mut q = load(&coarse(&file, 0.02, &folder.path().join("coarse.gguf")));
    let chunks = Chunks::new(&Language::of(&file).unwrap().tokenizer, &[text], 256, 12).unwrap();
    let path = folder.path().join("logits.bin");
    save_logits(&mut load(&file), &chunks, &OPTIONS, &path, &mut |_| ControlFlow::Continue(())).unwrap();
    let mut saved = SavedLogits::open(&path).unwrap();
    let report = found(Reference::Saved(&mut saved), &mut q, &chunks);
    for (found, expected) in [
        (report.mean_kl, 3.053740),
        (report.median_kl, 2.619446),
        (report.max_kl, 14.550616),
        (report.perplexity, 148.285703),
        (report.perplexity_reference, 8.436595),
        (report.ln_perplexity_ratio.value, 2.866562),
    ] {
        assert!((found / expected - 1.0).abs() < 5e-4, "{found} {expected}: {report:?}");
    }
}
