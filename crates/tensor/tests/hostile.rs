//! Files that lie: nothing panics, hangs, or takes memory that the file does not justify.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use trine_tensor::{Error, File, gguf, safetensors};

/// All that this process may have allocated at once; its files have a few kilobytes.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 64 << 20);

/// Microseconds that the slowest file took.
static SLOWEST: AtomicU64 = AtomicU64::new(0);

/// Opens a file and, when it opens, touches everything in it. Says whether it opened.
fn survive(path: &Path) -> bool {
    let start = Instant::now();
    let opened = match File::open(path) {
        Ok(file) => {
            for view in file.tensors() {
                assert_eq!(view.decode().len(), view.rows() * view.cols());
            }
            for (key, _) in file.metadata().iter() {
                let _ = (file.metadata().u32(key), file.metadata().str(key), file.metadata().i32s(key));
            }
            assert!(file.view("no such tensor").is_err());
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(&path.display().to_string()), "{message}");
            false
        }
    };
    SLOWEST.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
    opened
}

/// Opens what is in a folder of `golden/hostile` (made by `golden/hostile.py`), each of which must be refused with its own error.
macro_rules! refuses {
    ($folder:literal { $($name:literal => $error:pat),* $(,)? }) => {
        let folder = common::golden(concat!("hostile/", $folder));
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        $({
            let at = files.iter().position(|path| path.file_stem().unwrap() == $name);
            let path = files.swap_remove(at.unwrap_or_else(|| panic!("{} is not there", $name)));
            let start = Instant::now();
            let error = File::open(first(&path)).expect_err($name);
            SLOWEST.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
            assert!(matches!(error.cause(), $error), "{}: {error:?}", $name);
            assert!(error.to_string().starts_with(&*path.to_string_lossy()), "{error}");
        })*
        assert!(files.is_empty(), "not in the list: {files:?}");
    };
}

/// What is opened of a case: the file, or in a folder the first file.
fn first(path: &Path) -> std::path::PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).min().unwrap()
}

#[test]
fn every_lie_of_a_gguf_file_has_its_own_error() {
    refuses! { "gguf" {
        "magic" => Error::NotAModel { .. },
        "version-4" => Error::Version { found: 4 },
        "big-endian" => Error::BigEndian,
        "cut-magic" => Error::Truncated { expected: 4, found: 0, .. },
        "cut-counts" => Error::Truncated { expected: 8, found: 4, .. },
        "tensor-count" => Error::Count { what: "tensors", found: u64::MAX, .. },
        "key-count" => Error::Count { what: "keys", .. },
        "count-v1" => Error::Count { what: "keys", found: 0xffff_ffff, .. },
        "key-length" => Error::StringLength { found: 0x8000_0000_0000_0000, .. },
        "key-empty" => Error::NameLength { found: 0, .. },
        "key-utf8" => Error::Utf8 { at: 0, .. },
        "key-twice" => Error::DuplicateKey { .. },
        "value-type" => Error::ValueType { found: 13, .. },
        "bool" => Error::Bool { found: 2, .. },
        "string-length" => Error::StringLength { .. },
        "string-utf8" => Error::Utf8 { at: 2, .. },
        "array-length" => Error::ArrayLength { found: 0x8000_0000_0000_0000, .. },
        "array-size" => Error::ArrayLength { .. },
        "array-strings" => Error::ArrayLength { room: ..100, .. },
        "array-string-length" => Error::StringLength { found: u64::MAX, .. },
        "array-type" => Error::ValueType { found: 13, .. },
        "array-nested" => Error::NestedArray { .. },
        "alignment-0" => Error::Alignment { found: 0 },
        "alignment-24" => Error::Alignment { found: 24 },
        "alignment-2-31" => Error::Alignment { found: 0x8000_0000 },
        "alignment-string" => Error::Type { .. },
        "tensor-name-utf8" => Error::Utf8 { at: 0, .. },
        "tensor-name-length" => Error::StringLength { .. },
        "tensor-twice" => Error::DuplicateTensor { .. },
        "dimensions-5" => Error::Dimensions { found: 5, .. },
        "dimensions-2-32" => Error::Dimensions { found: 0xffff_ffff, .. },
        "dimension-0" => Error::ZeroDimension { .. },
        "dimension-2-42" => Error::PastEnd { expected: 0x1000_0000_0004, .. },
        "dimension-2-63" => Error::TooLarge { .. },
        "sizes-wrap" => Error::PastEnd { .. },
        "shape-wraps" => Error::TooLarge { .. },
        "size-wraps" => Error::TooLarge { .. },
        "type-99" => Error::UnknownFormat { .. },
        "type-negative" => Error::UnknownFormat { .. },
        "row-no-blocks" => Error::Block { cols: 100, .. },
        "offset-misaligned" => Error::Misaligned { offset: 4, alignment: 32, .. },
        "offset-past-end" => Error::PastEnd { offset: 64, .. },
        "offset-wraps" => Error::PastEnd { .. },
        "size-past-end" => Error::PastEnd { expected: 96, found: 64, .. },
        "no-data" => Error::PastEnd { found: 0, .. },
        "overlap" => Error::Overlap { .. },
        "same-bytes" => Error::Overlap { .. },
        "split-no" => Error::SplitNumber { no: 2, count: 2 },
        "split-no-missing" => Error::SplitKey { key: "split.no" },
        "split-tensors-negative" => Error::Type { .. },
        "split-name" => Error::SplitName { no: 0, count: 2 },
    }}
}

#[test]
fn every_lie_of_a_split_model_has_its_own_error() {
    refuses! { "split" {
        "missing" => Error::SplitMissing { no: 1, count: 3 },
        "missing-first" => Error::SplitMissing { no: 0, count: 2 },
        "count-65535" => Error::SplitMissing { no: 1, count: 65535 },
        "count-differs" => Error::SplitPiece { no: 1, .. },
        "number-differs" => Error::SplitPiece { no: 1, .. },
        "not-split" => Error::SplitPiece { .. },
        "tensors-differ" => Error::SplitPiece { tensors: 2, .. },
        "tensors-missing" => Error::SplitTensors { expected: 9, found: 2, .. },
        "tensor-twice" => Error::DuplicateTensor { .. },
        "keys-differ" => Error::SplitMixed { .. },
        "alignment-differs" => Error::SplitMixed { .. },
        "cut" => Error::PastEnd { .. },
        "dots" => Error::ShardName { .. },
    }}
}

#[test]
fn every_lie_of_a_safetensors_file_has_its_own_error() {
    refuses! { "safetensors" {
        "header-length" => Error::HeaderLength { found: 0x8000_0000_0000_0000, .. },
        "header-past-end" => Error::HeaderLength { found: 100, left: 10 },
        "header-cut" => Error::Json { .. },
        "header-utf8" => Error::Json { .. },
        "header-array" => Error::Json { .. },
        "nested" => Error::Json { .. },
        "nested-metadata" => Error::Json { .. },
        "name-twice" => Error::Json { .. },
        "metadata-twice" => Error::Json { .. },
        "field-unknown" => Error::Json { .. },
        "field-missing" => Error::Json { .. },
        "dtype" => Error::UnknownFormat { .. },
        "dtype-number" => Error::Json { .. },
        "shape-negative" => Error::Json { .. },
        "shape-float" => Error::Json { .. },
        "shape-2-64" => Error::Json { .. },
        "shape-dimensions" => Error::Json { .. },
        "shape-overflow" => Error::TooLarge { .. },
        "shape-wraps" => Error::TooLarge { .. },
        "shape-0" => Error::ZeroDimension { .. },
        "shape-differs" => Error::Length { expected: 12, found: 8, .. },
        "offsets-backward" => Error::Length { .. },
        "offsets-past-end" => Error::PastEnd { .. },
        "offsets-2-64" => Error::PastEnd { .. },
        "offsets-three" => Error::Json { .. },
        "gap-end" => Error::Gap { from: 4, to: 8 },
        "gap-start" => Error::Gap { from: 0, to: 4 },
        "gap-between" => Error::Gap { from: 3, to: 4 },
        "overlap" => Error::Overlap { .. },
        "same-bytes" => Error::Overlap { .. },
    }}
    refuses! { "index" {
        "dots" => Error::ShardName { .. },
        "absolute" => Error::ShardName { .. },
        "drive" => Error::ShardName { .. },
        "backslash" => Error::ShardName { .. },
        "empty" => Error::ShardName { .. },
        "twice" => Error::Json { .. },
        "no-map" => Error::Json { .. },
        "number" => Error::Json { .. },
        "absent" => Error::Io(_),
        "not-a-model" => Error::HeaderLength { .. },
        "nested" => Error::Json { .. },
    }}
}

#[cfg(unix)]
#[test]
fn links_that_lead_in_a_circle_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(at("b.gguf"), at("a.gguf")).unwrap();
    std::os::unix::fs::symlink(at("a.gguf"), at("b.gguf")).unwrap();
    std::os::unix::fs::symlink(at("."), at("model.safetensors")).unwrap();
    std::os::unix::fs::symlink(at("model.safetensors.index.json"), at("model.safetensors.index.json")).unwrap();
    for name in ["a.gguf", "model.safetensors.index.json"] {
        let error = File::open(at(name)).unwrap_err();
        assert!(matches!(error.cause(), Error::Io(_)), "{error:?}");
        assert!(error.to_string().starts_with(&*at(name).to_string_lossy()), "{error}");
    }
    for path in [folder.path().to_owned(), at("model.safetensors")] {
        let error = File::open(&path).unwrap_err();
        assert!(matches!(error.cause(), Error::Folder { .. }), "{error:?}");
    }
}

/// Cuts a good file, which ends in `padding`, at every byte, as it is opened from memory and every hundredth time from the disk.
fn cut(good: &Path, padding: usize) {
    let bytes = std::fs::read(good).unwrap();
    assert!(survive(good));
    let bad = good.with_extension("cut");
    for n in 0..bytes.len() - padding {
        let error = File::from_bytes(&bad, bytes[..n].to_vec()).err();
        let message = error.unwrap_or_else(|| panic!("opened with {n} of {} bytes", bytes.len())).to_string();
        assert!(message.starts_with(&bad.display().to_string()), "{message}");
        if n % 100 == 0 {
            std::fs::write(&bad, &bytes[..n]).unwrap();
            assert!(!survive(&bad), "opened with {n} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn files_that_are_cut_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    gguf::write(at("x.gguf"), &common::metadata(), &common::tensors(|v| v.format.id.is_some())).unwrap();
    safetensors::write(at("x.safetensors"), &common::tensors(|v| v.format.block == 1)).unwrap();
    cut(&at("x.gguf"), 0);
    cut(&at("x.safetensors"), 0);
    cut(&common::golden("split/v1.gguf"), 20);
}

#[test]
fn a_corpus_of_bad_files_is_refused_or_read() {
    for (folder, files) in [("gguf/parser-corpus", 225), ("gguf/mini", 18)] {
        let Some(folder) = common::shared(folder) else { return };
        let paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let opened = paths.iter().filter(|path| survive(path)).count();
        let slowest = SLOWEST.load(Ordering::Relaxed);
        println!("{}: {opened} of {} opened, the slowest in {slowest} us", folder.display(), paths.len());
        assert!(paths.len() >= files);
    }
}
