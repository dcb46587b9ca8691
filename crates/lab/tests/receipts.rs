//! A receipt is true until anything of the file changes, and then the place is named.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_lab::quantize::{Mix, Recipe, Rule, Target, plan, write};
use trine_lab::receipt::{Provenance, PublicKey, ReceiptSummary, SigningKey, record};
use trine_lab::verify::{Flaw, Source, Verification, rederive, verify};
use trine_model::GgufModel;
use trine_tensor::format::{BF16, by_name};
use trine_tensor::{File, TensorInfo, View, gguf};

/// So large that there is padding.
const ALIGNMENT: u32 = 1024;
const GO: ControlFlow<()> = ControlFlow::Continue(());

/// A pair of keys of `ssh-keygen`, and one of `openssl genpkey`, for this test alone.
const OPENSSH: [&str; 2] = [
    "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBGHCtjkK0o0ypIuPOwuUobiFCLS8r/n5/BuLOh2hrr2QAAAIhyVXt8clV7
fAAAAAtzc2gtZWQyNTUxOQAAACBGHCtjkK0o0ypIuPOwuUobiFCLS8r/n5/BuLOh2hrr2Q
AAAEBAQ3RpGbLWNRArVN/JG6EYp0xfCoUgGXfkXDea5EHoUEYcK2OQrSjTKki487C5ShuI
UItLyv+fn8G4s6HaGuvZAAAABHRlc3QB
-----END OPENSSH PRIVATE KEY-----
",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEYcK2OQrSjTKki487C5ShuIUItLyv+fn8G4s6HaGuvZ test",
];
const PKCS8: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAYvrV+pXT4csqYJxQAhAfQowQK/UuaYByrLuCmrn1aR
-----END PRIVATE KEY-----
",
    "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA3nEgTVLgeOek5zpYvcK84cKQklcFO1fcEMHhv0UhKSU=
-----END PUBLIC KEY-----
",
];

fn golden(name: &str) -> File {
    File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)).unwrap()
}

fn llama() -> File {
    golden("llama/model.gguf")
}

fn recipe() -> Recipe {
    Recipe {
        target: Some(Target::Mix(Mix::by_name("q8_0").unwrap())),
        rules: vec![Rule::of_tensors("ffn_down=q4_0").unwrap(), Rule::of_layers("0=q5_0").unwrap()],
        output: by_name("f16"),
        ..Recipe::default()
    }
}

fn made(source: &File, recipe: &Recipe, path: &Path, sign: Option<&SigningKey>) {
    aligned(source, recipe, path, sign, None);
}

/// With tensors that are padded to another alignment.
fn aligned(source: &File, recipe: &Recipe, path: &Path, sign: Option<&SigningKey>, alignment: Option<u32>) {
    let model = GgufModel::open(source, None).unwrap();
    let mut plan = plan(&model, recipe).unwrap();
    alignment.into_iter().for_each(|alignment| _ = plan.metadata.insert("general.alignment", alignment));
    let provenance = Provenance { recipe, imatrix: None, tokenizer: None, sign };
    write(&model, &plan, path, Some(&provenance), None, &mut |_| GO).unwrap();
}

fn verified(path: &Path, key: Option<&PublicKey>) -> Verification {
    verify(&File::open(path).unwrap(), key, &mut |_| GO).unwrap()
}

fn key(pair: [&str; 2], folder: &Path) -> (SigningKey, PublicKey) {
    let path = folder.join("key");
    fs::write(&path, pair[0]).unwrap();
    (SigningKey::read(&path).unwrap(), PublicKey::read(pair[1]).unwrap())
}

/// All places of a file: parts of the header and its tensors, with where they end.
fn places(path: &Path) -> (usize, Vec<(usize, String)>) {
    let file = File::open(path).unwrap();
    let sizes = file
        .tensors()
        .map(|view| (view.name.clone(), view.bytes.len(), view.bytes.len().next_multiple_of(ALIGNMENT as usize)));
    let sizes: Vec<_> = sizes.collect();
    let data: usize = sizes.iter().map(|(_, _, padded)| padded).sum();
    let mut end = file.size() as usize - data;
    let header = end;
    let mut places = Vec::new();
    for (name, size, padded) in sizes {
        places.push((end + size, format!("tensor {name:?}")));
        places.push((end + padded, format!("the padding after tensor {name:?}")));
        end += padded;
    }
    (header, places)
}

/// What is said of a file with these bytes: an error, or the first failure.
fn said(bytes: &[u8], path: &Path) -> Option<Result<Flaw, String>> {
    fs::write(path, bytes).unwrap();
    match File::open(path) {
        Err(error) => Some(Err(error.cause().to_string())),
        Ok(file) => verify(&file, None, &mut |_| GO).unwrap().failures.into_iter().next().map(Ok),
    }
}

#[test]
fn any_flipped_bit_is_found_and_its_place_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, broken) = (folder.path().join("x.gguf"), folder.path().join("broken.gguf"));
    let (signing, _) = key(OPENSSH, folder.path());
    aligned(&llama(), &recipe(), &path, Some(&signing), Some(ALIGNMENT));
    assert_eq!(verified(&path, None).failures, []);
    let (header, places) = places(&path);
    let bytes = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut flip = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << random.u8(0..8);
        said(&bytes, &broken).unwrap_or_else(|| panic!("byte {at} of {}, header {header}", bytes.len()))
    };
    let mut other = fastrand::Rng::with_seed(8);
    for _ in 0..300 {
        let at = other.usize(0..header);
        let place = flip(at).map_or_else(|error| error, |flaw| flaw.place);
        let named =
            ["key", "tensor", "header", "receipt", "version", "GGUF", "signature", "tokenizer", "configuration"];
        assert!(named.iter().any(|name| place.contains(name)), "byte {at}: {place}");
    }
    for _ in 0..200 {
        let at = other.usize(header..bytes.len());
        let expected = &places.iter().find(|(end, _)| at < *end).unwrap().1;
        let found = flip(at).unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(found.place, *expected);
    }
    // Padding, which is not hashed.
    let mut start = header;
    let mut padding = 0;
    for (end, place) in &places {
        for at in (start..*end).step_by(97).filter(|_| place.starts_with("the padding")) {
            assert_eq!(flip(at).unwrap().place, *place);
            padding += 1;
        }
        start = *end;
    }
    assert!(padding > 0);
    // The counts.
    for at in 0..24 {
        let _ = flip(at);
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(said(&longer, &broken).unwrap().unwrap().place, "the end of the file");
}

#[test]
fn the_key_that_was_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("x.gguf"), folder.path().join("y.gguf"));
    made(&llama(), &recipe(), &path, None);
    let file = File::open(&path).unwrap();
    let views: Vec<View> = file.tensors().cloned().collect();
    let check = |change: &dyn Fn(&mut trine_tensor::Metadata), places: &[&str]| {
        let mut metadata = file.metadata().clone();
        change(&mut metadata);
        gguf::write(&other, &metadata, &views).unwrap();
        let found: Vec<String> = verified(&other, None).failures.into_iter().map(|flaw| flaw.place).collect();
        for place in places {
            assert!(found.iter().any(|found| found.contains(place)), "{place}: {found:?}");
        }
    };
    check(&|keys| _ = keys.insert("general.name", "Another"), &["general.name"]);
    check(&|keys| _ = keys.insert("new.key", 1), &["new.key"]);
    check(&|keys| _ = keys.remove("tokenizer.ggml.model"), &["tokenizer.ggml.model", "trine.receipt.tokenizer"]);
    check(&|keys| _ = keys.insert("trine.receipt.recipe", "{}"), &["trine.receipt.recipe"]);
    check(&|keys| _ = keys.insert("trine.receipt.sha256", "0".repeat(64)), &["trine.receipt.sha256"]);
    check(&|keys| _ = keys.remove("trine.receipt.tool"), &["the receipt"]);
}

#[test]
fn the_same_recipe_makes_the_same_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (source, recipe) in [
        (llama(), recipe()),
        (llama(), Recipe::default()),
        (golden("llama"), Recipe { target: Some(Target::Format(&BF16)), ..Recipe::default() }),
        (
            golden("bitnet/model.gguf"),
            Recipe { target: Some(Target::Format(by_name("i2_s").unwrap())), ..Recipe::default() },
        ),
    ] {
        made(&source, &recipe, &at("a.gguf"), None);
        made(&source, &recipe, &at("b.gguf"), None);
        assert!(fs::read(at("a.gguf")).unwrap() == fs::read(at("b.gguf")).unwrap());
        assert_eq!(verified(&at("a.gguf"), None).failures, []);
        let file = File::open(at("a.gguf")).unwrap();
        let mut found = Verification::default();
        let again = Source { file: &source, imatrix: None, tokenizer: None };
        rederive(&file, &again, &mut found, &mut |_, _| GO).unwrap();
        assert_eq!(found.failures, []);
        assert!(
            ReceiptSummary::of(file.metadata()).unwrap().unwrap().sources.iter().all(|file| !file.name.contains('/'))
        );
    }
    // In several files, the first has the receipt.
    let source = llama();
    let model = GgufModel::open(&source, None).unwrap();
    let mut parts = plan(&model, &recipe()).unwrap();
    parts.shard_size = Some(30_000);
    let provenance = Provenance { recipe: &recipe(), imatrix: None, tokenizer: None, sign: None };
    let paths = write(&model, &parts, &at("parts.gguf"), Some(&provenance), None, &mut |_| GO).unwrap();
    assert!(paths.len() > 2);
    assert_eq!(verified(&paths[0], None).failures, []);
    let mut bytes = fs::read(&paths[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&paths[1], bytes).unwrap();
    assert_eq!(verified(&paths[0], None).failures.len(), 1);
    // The receipt of a source is named, and another source is not what the file was made of.
    made(&File::open(at("a.gguf")).unwrap(), &recipe(), &at("c.gguf"), None);
    let [a, c] = ["a.gguf", "c.gguf"].map(|name| File::open(at(name)).unwrap());
    let of = |file: &File| ReceiptSummary::of(file.metadata()).unwrap().unwrap();
    assert_eq!(of(&c).source_receipt, Some(of(&a).sha256));
    made(&llama(), &recipe(), &at("d.gguf"), None);
    let mut weights = llama().view("blk.1.ffn_down.weight").unwrap().decode();
    weights[77] += 0.5;
    let source = llama();
    let views = source.tensors().cloned().map(|view| match &*view.name {
        "blk.1.ffn_down.weight" => {
            let info = TensorInfo { format: view.format, ..view.info() };
            View::new(info.name.clone(), info.format, info.shape.clone(), info.encode(&weights).unwrap()).unwrap()
        }
        _ => view,
    });
    gguf::write(at("other.gguf"), llama().metadata(), &views.collect::<Vec<_>>()).unwrap();
    let (file, other) = (File::open(at("d.gguf")).unwrap(), File::open(at("other.gguf")).unwrap());
    let mut found = Verification::default();
    rederive(&file, &Source { file: &other, imatrix: None, tokenizer: None }, &mut found, &mut |_, _| GO).unwrap();
    let places: Vec<&str> = found.failures.iter().map(|flaw| &*flaw.place).collect();
    assert_eq!(places, ["source file \"other.gguf\" for \"model.gguf\"", "tensor \"blk.1.ffn_down.weight\""]);
}

#[test]
fn signatures_are_those_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let ((one, one_public), (two, two_public)) = (key(OPENSSH, folder.path()), key(PKCS8, folder.path()));
    // As `ssh-keygen -l` shows it.
    assert_eq!(one_public.to_string(), "SHA256:OBPLv6cMZDeeYs9o/zLZUvT8ppqeJojppmvaRM7xXRE");
    assert_eq!((one.public_key(), two.public_key()), (one_public, two_public));
    made(&llama(), &recipe(), &path, None);
    let place = |key: &PublicKey| verified(&path, Some(key)).failures.first().map(|flaw| flaw.place.clone());
    assert_eq!(place(&one_public).as_deref(), Some("the signature"));
    made(&llama(), &recipe(), &path, Some(&one));
    assert_eq!((place(&one_public), place(&two_public).as_deref()), (None, Some("the signature")));
    let by = |path: &PathBuf| ReceiptSummary::of(File::open(path).unwrap().metadata()).unwrap().unwrap().signed_by;
    assert_eq!(by(&path), Some(one_public.to_string()));
    record(&path, &serde_json::json!({ "measure": "kl", "mean_kl": 0.1 }), Some(&two)).unwrap();
    assert_eq!((place(&two_public), by(&path)), (None, Some(two_public.to_string())));
    for (text, problem) in [("nothing", "found none"), (PKCS8[1], "another key")] {
        fs::write(folder.path().join("key"), text).unwrap();
        let error = SigningKey::read(&folder.path().join("key")).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn measurements_are_added_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    made(&llama(), &recipe(), &path, None);
    let tensors: Vec<_> = File::open(&path).unwrap().tensors().map(|view| view.bytes.clone()).collect();
    let kl = |reference: &str, mean: f64| serde_json::json!({ "measure": "kl", "reference": reference, "text": "text.txt", "mean_kl": mean });
    for measured in [kl("a", 0.1), kl("b", 0.2), kl("a", 0.3)] {
        record(&path, &measured, None).unwrap();
    }
    let file = File::open(&path).unwrap();
    let summary = ReceiptSummary::of(file.metadata()).unwrap().unwrap();
    assert_eq!(summary.measurements, [kl("b", 0.2), kl("a", 0.3)]);
    assert!(summary.to_string().contains("mean KL 0.300000 from a on text.txt"), "{summary}");
    assert_eq!(verified(&path, None).failures, []);
    assert!(file.tensors().zip(tensors).all(|(view, bytes)| view.bytes == bytes));
    // A file that is not what its receipt says gets no new one.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"llama").unwrap();
    bytes[at..at + 5].copy_from_slice(b"llamb");
    fs::write(&path, bytes).unwrap();
    assert!(record(&path, &kl("a", 0.1), None).unwrap_err().to_string().contains("general.architecture"));
}

#[test]
fn files_without_a_receipt_are_checked_as_far_as_possible() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let check = |change: &dyn Fn(&str, usize, &mut [f32])| {
        let source = llama();
        let views = source.tensors().map(|view| {
            let (mut weights, cols) = (view.decode(), view.cols());
            weights.chunks_mut(cols).enumerate().for_each(|(i, row)| change(&view.name, i, row));
            let info = view.info();
            View::new(info.name.clone(), info.format, info.shape.clone(), info.encode(&weights).unwrap()).unwrap()
        });
        gguf::write(&path, llama().metadata(), &views.collect::<Vec<_>>()).unwrap();
        verified(&path, None)
    };
    let found = check(&|_, _, _| {});
    assert_eq!((found.failures, found.warnings), (vec![], vec![]));
    assert!(found.unchecked.iter().any(|what| what.contains("no receipt")), "{:?}", found.unchecked);
    let up = "blk.0.ffn_up.weight";
    let found = check(&|name, i, row| {
        if name == up && i == 3 {
            row[1] = f32::NAN;
        }
    });
    assert_eq!((&*found.failures[0].place, found.failures.len()), ("tensor \"blk.0.ffn_up.weight\"", 1));
    let found = check(&|name, i, row| match (name == up, i) {
        (true, 0 | 1) => row.fill(0.0),
        (true, 5 | 9 | 11) => row.fill(0.25),
        _ => {}
    });
    let problems: Vec<&str> = found.warnings.iter().map(|flaw| &*flaw.problem).collect();
    assert!(problems[0].starts_with("2 of "), "{problems:?}");
    assert!(problems[1].starts_with("2 of ") && problems[1].ends_with("rows 5 and 9"), "{problems:?}");
    let folder = verify(&golden("llama"), None, &mut |_| GO).unwrap();
    assert_eq!(folder.failures, []);
}
