//! Importance matrices are those of a plain calculation, and their files those of llama.cpp.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trine_backend::{CacheType, Observer};
use trine_lab::imatrix::{Entry, Error, Imatrix, ImatrixFormat, ImatrixOptions, collect};
use trine_lab::quantize::{Recipe, Target, plan, write};
use trine_model::{DeviceOptions, GgufModel, ModelOptions, load};
use trine_tensor::format::{F32, Q4_0};
use trine_tensor::{File, Metadata, TensorInfo, View, gguf};

fn golden(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf");
    File::open(path).unwrap()
}

fn measured(file: &File, ids: &[u32], batch: usize) -> Result<Imatrix, Error> {
    let observer = Observer::default();
    let device = DeviceOptions { observer: Some(observer.clone()), ..DeviceOptions::default() };
    let model = ModelOptions { gguf_names: true, ..ModelOptions::default() };
    let mut runner = load(file, &device, model, &mut |_| ControlFlow::Continue(())).unwrap();
    let dataset = "text".to_owned();
    let options = ImatrixOptions { context: 16, bos: Some(1), head: true, batch, cache_type: CacheType::F32, dataset };
    collect(&mut *runner, &observer, file, ids, &options, &mut |_, _| ControlFlow::Continue(()))
}

fn ids(n: u32) -> Vec<u32> {
    (0..n).map(|i| i * 7 % 250).collect()
}

#[test]
fn the_first_layer_has_the_squares_of_its_inputs() {
    let file = golden("llama");
    let ids = ids(40);
    let imatrix = measured(&file, &ids, 512).unwrap();
    assert_eq!((imatrix.chunks, imatrix.chunk_size, &imatrix.datasets[..]), (2, 16, &["text".to_owned()][..]));
    // The inputs of the first matrices are norms of embeddings, which need no model.
    let (embedding, gain) =
        (file.view("token_embd.weight").unwrap(), file.view("blk.0.attn_norm.weight").unwrap().decode());
    let eps = file.metadata().f32("llama.attention.layer_norm_rms_epsilon").unwrap().unwrap();
    let (cols, table) = (embedding.cols(), embedding.decode());
    let mut squares = vec![0.0f64; cols];
    for chunk in ids.chunks_exact(16) {
        for (i, &id) in chunk.iter().enumerate() {
            let row = &table[if i == 0 { 1 } else { id as usize } * cols..][..cols];
            let mean = row.iter().map(|x| f64::from(x * x)).sum::<f64>() / cols as f64;
            let scale = 1.0 / (mean + f64::from(eps)).sqrt();
            row.iter().zip(&gain).zip(&mut squares).for_each(|((x, gain), sum)| {
                *sum += (f64::from(*x) * scale * f64::from(*gain)).powi(2);
            });
        }
    }
    for name in ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"] {
        let Entry { sums, counts } = &imatrix.entries[name];
        assert_eq!(counts, &[32.0]);
        for (found, expected) in sums.iter().zip(&squares) {
            assert!((f64::from(*found) / expected - 1.0).abs() < 1e-5, "{name}: {found} {expected}");
        }
    }
    // One entry for each matrix that is multiplied with, and none for others.
    let matrix = |view: &&View| view.rows() > 1 && view.name != "token_embd.weight";
    let mut matrices: Vec<&str> = file.tensors().filter(matrix).map(|view| &*view.name).collect();
    matrices.sort();
    assert_eq!(imatrix.entries.keys().map(String::as_str).collect::<Vec<_>>(), matrices);
    // The same sums however the text is cut into passes, but for their order.
    let other = measured(&file, &ids, 5).unwrap();
    for (name, entry) in &imatrix.entries {
        let pairs = entry.sums.iter().zip(&other.entries[name].sums);
        assert!(pairs.into_iter().all(|(a, b)| (a / b - 1.0).abs() < 1e-5), "{name}");
    }
}

/// Of every architecture: experts are counted each, fused matrices have one entry, and each entry fits its tensor.
#[test]
fn entries_fit_the_tensors_of_every_architecture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path().join("model.gguf");
        if !path.exists() {
            continue;
        }
        let file = File::open(&path).unwrap();
        let imatrix = measured(&file, &ids(16), 512).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let infos: Vec<TensorInfo> = file.tensors().map(View::info).collect();
        imatrix.check(infos.iter()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let missing: Vec<&String> = imatrix.entries.keys().filter(|name| !file.contains(name)).collect();
        let split = |name: &&&String| !(name.ends_with("attn_k_b.weight") || name.ends_with("attn_v_b.weight"));
        assert_eq!(missing.iter().find(|name| split(name)), None, "{}", path.display());
        for (name, entry) in &imatrix.entries {
            let uses: f32 = entry.counts.iter().sum();
            let experts = entry.counts.len() > 1;
            assert!(if experts { uses >= 16.0 } else { uses == 16.0 }, "{}: {name}: {uses}", path.display());
        }
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn files_of_both_formats_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let imatrix = measured(&golden("mixtral"), &ids(48), 512).unwrap();
    let [new, old] = ["imatrix.gguf", "imatrix.dat"].map(|name| folder.path().join(name));
    imatrix.write(&new, ImatrixFormat::Gguf).unwrap();
    assert_eq!(Imatrix::read(&new).unwrap(), imatrix);
    imatrix.write(&old, ImatrixFormat::Dat).unwrap();
    let read = Imatrix::read(&old).unwrap();
    assert_eq!((read.chunks, &read.datasets), (imatrix.chunks, &imatrix.datasets));
    for (name, entry) in &imatrix.entries {
        let [found, expected] = [read.entries[name].importance(), entry.importance()];
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b), "{name}");
    }
    // Twice the text is twice the sums.
    let mut twice = imatrix.clone();
    twice.add(imatrix.clone()).unwrap();
    assert_eq!(twice.chunks, 2 * imatrix.chunks);
    for (name, entry) in &imatrix.entries {
        assert_eq!(twice.entries[name].importance(), entry.importance(), "{name}");
    }
    // Every beginning of a file is refused, without a panic.
    for path in [&new, &old] {
        let bytes = std::fs::read(path).unwrap();
        let cut = folder.path().join("cut");
        let lengths = (0..200).chain((200..bytes.len()).step_by(97));
        for len in lengths {
            std::fs::write(&cut, &bytes[..len]).unwrap();
            // A file of GGUF ends with zeros, and the older format may end after its entries.
            if let Ok(read) = Imatrix::read(&cut) {
                let whole = if path == &old { read.entries.len() == imatrix.entries.len() } else { read == imatrix };
                assert!(whole, "{len} of {}", path.display());
            }
        }
    }
}

#[test]
fn what_does_not_belong_to_a_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = golden("llama");
    let infos: Vec<TensorInfo> = file.tensors().map(View::info).collect();
    let imatrix = measured(&file, &ids(16), 512).unwrap();
    assert_eq!(imatrix.check(infos.iter()).unwrap(), Vec::<String>::new());

    let mut wide = imatrix.clone();
    wide.entries.get_mut("blk.0.attn_q.weight").unwrap().sums.push(1.0);
    assert!(matches!(wide.check(infos.iter()), Err(Error::Columns { tensor, .. }) if tensor == "blk.0.attn_q.weight"));

    let other =
        Imatrix { entries: [("x".to_owned(), Entry { sums: vec![1.0], counts: vec![1.0] })].into(), ..imatrix.clone() };
    assert!(matches!(other.check(infos.iter()), Err(Error::Other { entry }) if entry == "x"));

    let mut dead = imatrix.clone();
    dead.entries.get_mut("blk.0.attn_q.weight").unwrap().sums[3] = 0.0;
    dead.entries.insert("blk.99.attn_q.weight".to_owned(), Entry { sums: vec![1.0], counts: vec![1.0] });
    let warnings = dead.check(infos.iter()).unwrap();
    assert!(
        warnings[0].contains("`blk.0.attn_q.weight`: 1 of") && warnings[1].starts_with("1 entries"),
        "{warnings:?}"
    );

    let mut nan = imatrix.clone();
    nan.entries.get_mut("blk.0.attn_q.weight").unwrap().sums[3] = f32::NAN;
    for format in [ImatrixFormat::Gguf, ImatrixFormat::Dat] {
        let path = folder.path().join("nan");
        nan.write(&path, format).unwrap();
        let message = Imatrix::read(&path).unwrap_err().to_string();
        assert!(message.contains("blk.0.attn_q.weight") && message.contains("NaN"), "{message}");
    }
    // A model is no importance matrix.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama/model.gguf");
    assert!(Imatrix::read(&path).unwrap_err().to_string().contains("in_sum2"));
    let (metadata, path) = (Metadata::new(), folder.path().join("half.gguf"));
    let half = View::new("a.in_sum2", &F32, vec![1, 2], F32.encode(&[1.0, 2.0])).unwrap();
    gguf::write(&path, &metadata, &[half]).unwrap();
    assert!(Imatrix::read(&path).unwrap_err().to_string().contains("a.counts"));
    assert!(matches!(measured(&file, &ids(15), 512), Err(Error::TooShort { context: 16, tokens: 15 })));
}

/// Each expert's rows are encoded with the importance of its own columns, however many pieces that takes.
#[test]
fn what_matters_is_kept_best() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "mixtral"] {
        let file = golden(name);
        let mut imatrix = measured(&file, &ids(48), 512).unwrap();
        // The first half of all columns of every second part counts a thousand times as much.
        for entry in imatrix.entries.values_mut() {
            let cols = entry.sums.len() / entry.counts.len();
            entry.counts.fill(1.0);
            for (i, sum) in entry.sums.iter_mut().enumerate() {
                let heavy = (i % cols < cols / 2) == (i / cols % 2 == 0);
                *sum = if heavy { 1000.0 } else { 1.0 };
            }
        }
        let model = GgufModel::open(&file, None).unwrap();
        let written = |imatrix: Option<Arc<Imatrix>>, name: &str| {
            let path = folder.path().join(name);
            let recipe = Recipe { target: Some(Target::Format(&Q4_0)), imatrix, ..Recipe::default() };
            write(&model, &plan(&model, &recipe).unwrap(), &path, None, None, &mut |_| ControlFlow::Continue(()))
                .unwrap();
            File::open(path).unwrap()
        };
        let (plain, weighted) =
            (written(None, "plain.gguf"), written(Some(Arc::new(imatrix.clone())), "weighted.gguf"));
        let mut better = 0;
        for (tensor, entry) in &imatrix.entries {
            let (view, importance) = (file.view(tensor).unwrap(), entry.importance());
            let rows = view.rows() / entry.counts.len();
            let error = |other: &File| {
                let (a, b) = (view.decode(), other.view(tensor).unwrap().decode());
                let errors = a.iter().zip(&b).enumerate().map(|(i, (a, b))| {
                    let (row, col) = (i / view.cols(), i % view.cols());
                    f64::from(importance[row / rows * view.cols() + col] * (a - b).powi(2))
                });
                errors.sum::<f64>()
            };
            let [before, after] = [error(&plain), error(&weighted)];
            assert!(after <= 1.02 * before, "{name}: {tensor}: {after} {before}");
            better += usize::from(after < 0.9 * before);
        }
        assert!(2 * better > imatrix.entries.len(), "{name}: {better} of {}", imatrix.entries.len());
    }
}
