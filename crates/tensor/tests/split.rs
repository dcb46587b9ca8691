//! GGUF of version 1, and models in several files: as one file that holds the same.

mod common;

use std::fs;
use std::path::Path;

use trine_tensor::{Error, File, Kind, OpenOptions, View, gguf};

/// Makes sure that `file` holds what `whole` holds.
fn same(file: &File, whole: &File) {
    assert_eq!(file.metadata(), whole.metadata(), "{}", file.path().display());
    let tensors = |file: &File| -> Vec<_> { file.tensors().map(|view| (view.entry(), view.bytes.clone())).collect() };
    assert_eq!(tensors(file), tensors(whole), "{}", file.path().display());
}

#[test]
fn version_1_is_read_exactly() {
    let (v1, whole) = (File::open(common::golden("split/v1.gguf")), File::open(common::golden("split/whole.gguf")));
    let (v1, whole) = (v1.unwrap(), whole.unwrap());
    assert_eq!((v1.kind(), whole.kind()), (Kind::Gguf { version: 1 }, Kind::Gguf { version: 3 }));
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
        assert!(matches!(error.cause(), Error::SplitMissing { no: 1, .. }), "{error}");
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
fn a_piece_without_its_name_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.gguf", "model-00001-of-00003.gguf", "model-00002-of-00004.gguf", "-00002-of-00003.gguf"] {
        let path = folder.path().join(name);
        fs::copy(common::golden("split/pieces-00002-of-00003.gguf"), &path).unwrap();
        let error = File::open(&path).unwrap_err();
        assert!(matches!(error.cause(), Error::SplitName { no: 1, count: 3 } | Error::ShardName { .. }), "{error}");
        assert!(error.to_string().starts_with(&*Path::new(&path).to_string_lossy()), "{error}");
    }
}
