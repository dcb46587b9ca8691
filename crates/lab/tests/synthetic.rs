//! Synthetic models are whole, and what is said of their work is true.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use trine_backend::{ActivationPrecision, CacheType};
use trine_engine::EngineOptions;
use trine_lab::bench::{Cost, Error, Kind, Subject, Test, Trine};
use trine_lab::synthetic::{self, Mixture, SHAPES, Shape};
use trine_model::runner::{Want, probe};
use trine_model::{DeviceOptions, Language, ModelOptions, Runner, Sizes};
use trine_tensor::File;

fn write(path: &Path, shape: &Shape, mixture: Mixture, seed: u64) -> File {
    synthetic::write(path, shape, mixture, seed, &mut |_, _| ControlFlow::Continue(())).unwrap();
    File::open(path).unwrap()
}

fn tiny() -> &'static Shape {
    synthetic::shape("tiny").unwrap()
}

fn load(file: &File) -> Box<dyn Runner> {
    let go_on = &mut |_| ControlFlow::Continue(());
    trine_model::load(file, &DeviceOptions::default(), ModelOptions::default(), go_on).unwrap()
}

fn mixtures() -> impl Iterator<Item = Mixture> {
    Mixture::names().split(", ").map(|name| Mixture::named(name).unwrap()).collect::<Vec<_>>().into_iter()
}

#[test]
fn every_mixture_makes_a_model_whose_logits_are_finite() {
    let folder = tempfile::tempdir().unwrap();
    for mixture in mixtures() {
        let file = write(&folder.path().join(mixture.name()), tiny(), mixture, 7);
        let mut runner = load(&file);
        probe(&mut *runner, 1, Want::Logits).unwrap_or_else(|error| panic!("{}: {error}", mixture.name()));
        let language = Language::of(&file).unwrap();
        language.check(runner.spec()).unwrap();
        assert_eq!((language.tokenizer.len(), language.warnings), (runner.spec().vocab_size, vec![]));
        let text = "the miller counted 17 pear trees, é";
        let ids = language.tokenizer.encode(text, Default::default());
        assert_eq!(language.tokenizer.decode(&ids), text);
    }
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |seed: u64| {
        let path = folder.path().join(seed.to_string());
        write(&path, tiny(), Mixture::named("q4_k_m").unwrap(), seed);
        std::fs::read(path).unwrap()
    };
    assert!(bytes(1) == bytes(1) && bytes(1) != bytes(2));
}

#[test]
fn an_interrupted_file_is_not_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut calls = 0;
    let written = synthetic::write(&path, tiny(), Mixture::named("f32").unwrap(), 0, &mut |_, _| {
        calls += 1;
        if calls > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(written, Err(synthetic::Error::Cancelled)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The sizes that `SHAPES` claims, by the parameters of the models' papers and cards.
#[test]
fn shapes_have_the_parameters_of_their_models() {
    for (name, parameters) in [
        ("2b4t", 2_412_820_480),
        ("1.1b", 1_100_048_384),
        ("7b", 6_738_415_616),
        ("70b", 68_976_648_192),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("gemma3-1b", 999_885_952),
    ] {
        assert_eq!(synthetic::shape(name).unwrap().parameters(), parameters, "{name}");
    }
    assert!(SHAPES.iter().all(|shape| Mixture::named(shape.usual_mixture()).is_some()));
}

#[test]
fn a_shape_is_a_name_or_sizes() {
    let sizes = |text: &str| {
        let Sizes { n_layers, hidden_size, n_heads, n_kv_heads, head_dim, intermediate_size, vocab_size, .. } =
            text.parse::<Shape>().unwrap().sizes;
        [n_layers, hidden_size, n_heads, n_kv_heads, head_dim, intermediate_size, vocab_size]
    };
    for (text, expected) in [
        ("7b", [32, 4096, 32, 32, 128, 11008, 32000]),
        ("layers=4,hidden=2048", [4, 2048, 16, 16, 128, 5632, 32000]),
        ("70b,layers=2", [2, 8192, 64, 8, 128, 28672, 32000]),
        ("qwen3-8b,hidden=1024,ffn=768,vocab=512", [36, 1024, 8, 2, 128, 768, 512]),
        ("hidden=512,head-dim=64,heads=12,kv-heads=3", [32, 512, 12, 3, 64, 1536, 32000]),
    ] {
        assert_eq!(sizes(text), expected, "{text}");
    }
    for (text, problem) in [
        ("8b", "expected one of tiny, 42m,"),
        ("7b,layer=2", "expected one of layers, hidden, heads, kv-heads, head-dim, ffn, vocab, context, found `layer`"),
        ("layers=0", "layers: expected 1 to 1000, found `layers=0`"),
        ("layers=2,layers=3", "layers: expected one size, found two"),
        ("7b,2", "expected a size as KEY=N, found `2`"),
        ("heads=6,kv-heads=4", "kv-heads: expected a divisor of 6 heads, found 4"),
        ("head-dim=63", "head-dim: expected an even number, found 63"),
        ("vocab=10", "vocab: expected 512 at least, found 10"),
    ] {
        let found = text.parse::<Shape>().unwrap_err();
        assert!(found.starts_with(problem), "{text}: {found}");
    }
}

fn engine() -> EngineOptions {
    EngineOptions { prefill_chunk: 32, ..EngineOptions::default() }
}

#[test]
fn the_work_of_a_test_follows_from_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["f16", "q4_k_m", "i2_s"] {
        let file = write(&folder.path().join(name), tiny(), Mixture::named(name).unwrap(), 0);
        let runner = load(&file);
        let cost = Cost::of(&file, &*runner, &engine(), ActivationPrecision::default()).unwrap();
        let Sizes { vocab_size, hidden_size, .. } = runner.spec().sizes;
        let embedding = file.view("token_embd.weight").unwrap();
        let all: u64 = file.tensors().map(|view| view.bytes.len() as u64).sum();
        let weights = all - embedding.bytes.len() as u64;
        let row = (embedding.bytes.len() / vocab_size) as u64;
        let kv = runner.kv_shape(1.into(), CacheType::F32).bytes().unwrap() as u64 / 16;
        let matrices: u64 =
            file.tensors().filter(|view| view.rows() > 1).map(|view| (view.rows() * view.cols()) as u64).sum();
        let head = (vocab_size * hidden_size) as u64;
        let body = 2 * (matrices - 2 * head);
        let test = |kind, tokens, sequences, depth| Test { kind, tokens, sequences, depth };

        let one = cost.work(test(Kind::Decode, 1, 1, 0));
        assert_eq!((one.bytes, one.int8 + one.f32), (weights + row + kv, body + 2 * head), "{name}");
        assert_eq!(one.f32 > 0, name == "f16");
        // Weights are read once for four sequences, keys and values for each.
        let four = cost.work(test(Kind::Decode, 2, 4, 10));
        assert_eq!(
            (four.bytes, four.int8 + four.f32),
            (2 * (weights + 4 * row) + 4 * (11 + 12) * kv, 8 * (body + 2 * head))
        );
        // Two batches, but one head.
        let prompt = cost.work(test(Kind::Prefill, 40, 1, 0));
        let head_bytes = file.view("output.weight").unwrap().bytes.len() as u64;
        assert_eq!(prompt.bytes, 2 * weights - head_bytes + 40 * row + (32 + 40) * kv);
        assert_eq!(prompt.int8 + prompt.f32, 40 * body + 2 * head);
    }
}

#[test]
fn layers_with_a_window_read_no_more_than_it() {
    let folder = tempfile::tempdir().unwrap();
    let &Shape { sizes, sliding_window, .. } = synthetic::shape("gemma3-1b").unwrap();
    let (window, sizes) = (sliding_window.unwrap() as usize, Sizes { vocab_size: 512, hidden_size: 256, ..sizes });
    let shape = Shape { name: "gemma".into(), of: "nothing", sizes, sliding_window };
    let file = write(&folder.path().join("gemma"), &shape, Mixture::named("q8_0").unwrap(), 0);
    let runner = load(&file);
    let cost = Cost::of(&file, &*runner, &engine(), ActivationPrecision::default()).unwrap();
    let bytes = |depth| cost.work(Test { kind: Kind::Decode, tokens: 1, sequences: 1, depth }).bytes;
    // Keys and values of a layer.
    let layer = 2 * (sizes.n_kv_heads * sizes.head_dim * size_of::<f32>()) as u64;
    assert_eq!(bytes(window - 1) - bytes(window - 2), 26 * layer);
    assert_eq!(bytes(window) - bytes(window - 1), 4 * layer);
}

#[test]
fn trine_refuses_tests_beyond_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("x"), tiny(), Mixture::named("q8_0").unwrap(), 0);
    let mut runner = load(&file);
    let test = |depth| [Test { kind: Kind::Decode, tokens: 6, sequences: 3, depth }];
    let go_on = || ControlFlow::Continue(());
    assert!(Trine::new(&mut *runner, &test(4091), &engine(), &go_on).err().unwrap().to_string().contains("4096"));
    let mut trine = Trine::new(&mut *runner, &test(50), &engine(), &go_on).unwrap();
    assert!(trine.run(test(50)[0]).unwrap().seconds > 0.0);
    assert!((trine.first_token().unwrap() as usize) < 512);
}

/// Python's reader knows the formats of llama.cpp, and new ones late.
#[test]
fn other_readers_open_the_files() {
    let python = std::env::var("TRINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = tempfile::tempdir().unwrap();
    for mixture in mixtures() {
        let file = write(&folder.path().join(format!("{}.gguf", mixture.name())), tiny(), mixture, 0);
        let ids: BTreeSet<u32> = file.tensors().filter_map(|view| view.format.id).collect();
        let script = "import sys\ntry:\n from gguf import GGUFReader, GGMLQuantizationType\nexcept ImportError: sys.exit(77)\n\
                      if not set(map(int, sys.argv[2:])) <= set(GGMLQuantizationType): sys.exit(78)\n\
                      r = GGUFReader(sys.argv[1])\nprint(len(r.tensors), sum(int(t.n_bytes) for t in r.tensors))";
        let ids = ids.iter().map(u32::to_string);
        let Ok(ran) = Command::new(&python).args(["-c", script]).arg(file.path()).args(ids).output() else {
            eprintln!("skipped: there is no {python}");
            return;
        };
        match ran.status.code() {
            Some(77) => {
                eprintln!("skipped: {python} has no package gguf");
                return;
            }
            Some(78) if ["i2_s", "q2_0", "q2_0_128"].contains(&&*mixture.name()) => continue,
            _ => {}
        }
        let bytes: usize = file.tensors().map(|view| view.bytes.len()).sum();
        let expected = format!("{} {bytes}", file.tensors().count());
        assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), expected, "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn a_run_breaks_off_between_two_batches() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("x"), tiny(), Mixture::named("q8_0").unwrap(), 0);
    let mut runner = load(&file);
    let test = [Test { kind: Kind::Decode, tokens: 6, sequences: 1, depth: 0 }];
    let batches = Cell::new(0);
    let flow = || {
        batches.set(batches.get() + 1);
        if batches.get() > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut trine = Trine::new(&mut *runner, &test, &engine(), &flow).unwrap();
    assert!(matches!(trine.run(test[0]), Err(Error::Cancelled)));
    assert_eq!(batches.get(), 4);
}
