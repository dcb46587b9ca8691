//! GGUF of version 1, and models in several files: as one file that holds the same.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use trine_tensor::format::{I2_S, I2_S_ARM, Q2_0_128};
use trine_tensor::{Error, File, FileFormat, Format, Metadata, OpenOptions, TensorInfo, View, gguf};

/// Makes sure that `file` holds what `whole` holds.
fn same(file: &File, whole: &File) {
    assert_eq!(file.metadata(), whole.metadata(), "{}", file.path().display());
    let tensors = |file: &File| -> Vec<_> { file.tensors().map(|view| (view.info(), view.bytes.clone())).collect() };
    assert_eq!(tensors(file), tensors(whole), "{}", file.path().display());
}

#[test]
fn version_1_is_read_exactly() {
    let (v1, whole) = (File::open(common::golden("split/v1.gguf")), File::open(common::golden("split/whole.gguf")));
    let (v1, whole) = (v1.unwrap(), whole.unwrap());
    assert_eq!((v1.format(), whole.format()), (FileFormat::Gguf { version: 1 }, FileFormat::Gguf { version: 3 }));
    same(&v1, &whole);
}

#[test]
fn any_piece_of_a_split_model_opens_all() {
    let whole = File::open(common::golden("split/whole.gguf")).unwrap();
    for (name, count) in [("pieces", 3), ("keys-first", 4)] {
        let path = |no: u32| common::golden(&format!("split/{name}-{no:05}-of-{count:05}.gguf"));
        let paths: Vec<_> = (1..=count).map(path).collect();
        for path in &paths {
            for mmap in [true, false] {
                let file = File::open_with(path, &OpenOptions { mmap, ..OpenOptions::default() }).unwrap();
                same(&file, &whole);
                assert_eq!((file.path(), file.files()), (&**path, &*paths));
                assert_eq!(file.size(), paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>());
                assert!(file.tensors().all(|view| view.is_mapped() == mmap));
            }
        }
        // In memory there is nothing beside it.
        let error = File::from_bytes(&paths[0], fs::read(&paths[0]).unwrap()).unwrap_err();
        assert!(matches!(error.cause(), Error::MissingShard { no: 1, .. }), "{error}");
    }
}

#[test]
fn a_folder_stands_for_the_split_model_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(common::golden(from), folder.path().join(to)).unwrap();
    for no in 1..=3 {
        let name = format!("pieces-{no:05}-of-00003.gguf");
        copy(&format!("split/{name}"), &name);
    }
    let whole = File::open(common::golden("split/whole.gguf")).unwrap();
    same(&File::open(folder.path()).unwrap(), &whole);
    // Two models: which one is meant?
    copy("split/v1.gguf", "other.gguf");
    let error = File::open(folder.path()).unwrap_err();
    assert!(matches!(error.cause(), Error::Folder { .. }), "{error}");
}

#[test]
fn a_model_that_was_merged_again_is_one_file() {
    let whole = File::open(common::golden("split/whole.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("merged.gguf");
    // `gguf-split --merge` leaves a count of 0.
    for count in [0u32, 1] {
        let mut metadata = whole.metadata().clone();
        metadata.insert("split.no", 0u32);
        metadata.insert("split.count", count);
        gguf::write(&path, &metadata, &whole.tensors().cloned().collect::<Vec<View>>()).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!((file.metadata(), file.files()), (&metadata, [path.clone()].as_slice()));
    }
}

#[test]
fn the_error_for_a_renamed_shard_names_the_expected_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.gguf", "model-00001-of-00003.gguf", "model-00002-of-00004.gguf", "-00002-of-00003.gguf"] {
        let path = folder.path().join(name);
        fs::copy(common::golden("split/pieces-00002-of-00003.gguf"), &path).unwrap();
        let error = File::open(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("shard 2 of 3: expected a name") || text.contains("a file in the same folder"), "{text}");
        assert!(text.starts_with(&*Path::new(&path).to_string_lossy()), "{error}");
    }
}

/// Pieces of one tensor each, as a program writes them that tells of its formats in the first piece, or nowhere.
fn pieces(folder: &Path, tensors: &[View], with_keys: bool) -> PathBuf {
    let path = |no: usize| folder.join(format!("model-{:05}-of-{:05}.gguf", no + 1, tensors.len()));
    for (no, tensor) in tensors.iter().enumerate() {
        let mut metadata = Metadata::new();
        metadata.insert("split.no", no as u32);
        metadata.insert("split.count", tensors.len() as u32);
        metadata.insert("split.tensors.count", tensors.len() as u32);
        gguf::write(path(no), &metadata, std::slice::from_ref(tensor)).unwrap();
        if no > 0 || !with_keys {
            let key = b"trine.layouts";
            let mut bytes = fs::read(path(no)).unwrap();
            let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
            // Each piece with a key of its own, as keys of the same name must have the same value.
            bytes[at..at + key.len()].copy_from_slice(format!("other.layout{no}").as_bytes());
            fs::write(path(no), bytes).unwrap();
        }
    }
    path(0)
}

#[test]
fn a_type_number_means_the_same_in_all_pieces() {
    let tensor = |name: &str, format: &'static Format, rows: usize| {
        let weights: Vec<f32> = (0..rows * 128).map(|i| (i % 3) as f32 - 1.0).collect();
        let entry = TensorInfo { name: name.to_owned(), format, shape: vec![rows, 128] };
        View::new(name, format, entry.shape.clone(), entry.encode(&weights).unwrap()).unwrap()
    };
    // One row of Q2_0 and of Q2_0_128 fills the same place, nothing tells I2_S from I2_S_ARM.
    let two = [tensor("a", &Q2_0_128, 1), tensor("b", &Q2_0_128, 64)];
    let arm = [tensor("a", &I2_S_ARM, 8), tensor("b", &I2_S_ARM, 8)];
    for (tensors, with_keys) in [(&two, false), (&two, true), (&arm, true)] {
        for order in [[0, 1], [1, 0]] {
            let tensors = order.map(|i| tensors[i].clone());
            let folder = tempfile::tempdir().unwrap();
            let file = File::open(pieces(folder.path(), &tensors, with_keys)).unwrap();
            for tensor in &tensors {
                let found = file.view(&tensor.name).unwrap();
                assert_eq!(found.format, tensor.format, "{with_keys}: {:?}", file.notes());
                assert!(found.decode() == tensor.decode());
            }
            let [note] = file.notes() else { panic!("{:?}", file.notes()) };
            assert!(note.contains(tensors[0].format.name), "{note}");
        }
    }
    // The choice of the caller applies to all shards.
    let folder = tempfile::tempdir().unwrap();
    let path = pieces(folder.path(), &arm, false);
    assert!(File::open(&path).unwrap().tensors().all(|view| view.format == &I2_S));
    let layouts = OpenOptions { layouts: vec![&I2_S_ARM], ..OpenOptions::default() };
    assert!(File::open_with(&path, &layouts).unwrap().tensors().all(|view| view.format == &I2_S_ARM));
}
