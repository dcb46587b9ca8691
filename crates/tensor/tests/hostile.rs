//! Malformed files: nothing panics, hangs, or allocates more memory than the size of the file justifies.

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

/// Opens a file and, if it opens, reads everything in it. Returns whether it opened.
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

/// Opens every file in a folder of `golden/hostile` (made by `golden/hostile.py`). Each must be refused with this variant and message.
macro_rules! refuses {
    ($folder:literal { $($name:literal => $variant:ident $message:literal),* $(,)? }) => {
        let folder = common::golden(concat!("hostile/", $folder));
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut wrong: Vec<String> = Vec::new();
        $({
            let at = files.iter().position(|path| path.file_stem().unwrap() == $name);
            let path = files.swap_remove(at.unwrap_or_else(|| panic!("{} is not there", $name)));
            let start = Instant::now();
            let error = File::open(first(&path)).expect_err($name);
            SLOWEST.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
            if !matches!(error.cause(), Error::$variant { .. }) || !error.cause().to_string().contains($message) {
                wrong.push(format!("{}: {error:?}: {}", $name, error.cause()));
            }
            assert!(error.to_string().starts_with(&*path.to_string_lossy()), "{error}");
        })*
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(files.is_empty(), "not in the list: {files:?}");
    };
}

/// The file to open: the case itself, or the first file in its folder.
fn first(path: &Path) -> std::path::PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).min().unwrap()
}

#[test]
fn malformed_gguf_files_are_refused() {
    refuses! { "gguf" {
        "magic" => NotAModel "found one that begins with",
        "version-4" => Unsupported "GGUF version: expected 1, 2 or 3, found 4",
        "big-endian" => Unsupported "GGUF: expected a little-endian file",
        "cut-magic" => Truncated "the version: expected 4 bytes, found 0 before the end",
        "cut-counts" => Truncated "the number of keys: expected 8 bytes, found 4 before the end",
        "tensor-count" => Malformed "for which the file has room, found 18446744073709551615: the file is cut short, or damaged here",
        "key-count" => Malformed "the number of keys: expected at most",
        "count-v1" => Malformed "for which the file has room, found 4294967295",
        "key-length" => Malformed "the length of the name of key 0: expected at most",
        "key-empty" => Malformed "the name of key 0: expected 1 to 65535 bytes, found 0",
        "key-utf8" => Malformed "the name of key 0: expected UTF-8, found an invalid byte at position 0",
        "key-twice" => Malformed "expected a unique name, found the same name twice",
        "value-type" => Malformed "expected 0 to 12, found 13",
        "string-length" => Malformed "for which the file has room, found",
        "array-length" => Malformed "for which the file has room, found 9223372036854775808",
        "array-size" => Malformed "the length of key",
        "array-strings" => Malformed "the length of key",
        "array-string-length" => Malformed "the length of element",
        "array-type" => Malformed "expected 0 to 12, found 13",
        "array-nested" => Unsupported "found an array of arrays, which is not supported",
        "alignment-0" => Malformed "expected a power of two up to 16777216, found 0",
        "alignment-24" => Malformed "expected a power of two up to 16777216, found 24",
        "alignment-2-31" => Malformed "expected a power of two up to 16777216, found 2147483648",
        "alignment-string" => Malformed "key \"general.alignment\": expected u32, found a string",
        "tensor-name-utf8" => Malformed "the name of tensor 0: expected UTF-8, found an invalid byte at position 0",
        "tensor-name-length" => Malformed "the length of the name of tensor 0: expected at most",
        "tensor-twice" => Malformed "expected a unique name, found the same name twice",
        "dimensions-5" => Malformed "expected at most 4 dimensions, found 5",
        "dimensions-2-32" => Malformed "expected at most 4 dimensions, found 4294967295",
        "dimension-0" => Malformed "expected dimensions of at least 1, found",
        "dimension-2-42" => Truncated "expected 17592186044420 bytes",
        "dimension-2-63" => Malformed "expected a size that fits 63 bits",
        "sizes-wrap" => Truncated "of the data section: expected",
        "shape-wraps" => Malformed "expected a size that fits 63 bits",
        "size-wraps" => Malformed "expected a size that fits 63 bits",
        "type-99" => UnknownFormat "type 99 is not supported: expected one of F32 (0), F16 (1)",
        "type-negative" => UnknownFormat "is not supported: expected one of F32 (0), F16 (1)",
        "row-no-blocks" => Malformed "expected rows of a multiple of 32 weights for Q8_0, found 100",
        "offset-misaligned" => Malformed "expected a multiple of the alignment 32, found 4",
        "offset-past-end" => Malformed "the offset of tensor \"a\": expected a place within the 32 bytes that all tensors have together, found 64",
        "offset-2-40" => Malformed "within the 64 bytes that all tensors have together, found 1099511627776",
        "offset-wraps" => Malformed "the offset of tensor \"a\": expected a place within the 32 bytes",
        "size-past-end" => Truncated "expected 96 bytes, found 64 before the end of the file",
        "no-data" => Truncated "found 0 before the end of the file",
        "overlap" => Malformed "expected bytes of its own, found an overlap with tensor",
        "same-bytes" => Malformed "expected bytes of its own, found an overlap with tensor",
        "split-no" => Malformed "key \"split.no\": expected a number below split.count, which is 2, found 2",
        "split-no-missing" => Malformed "key \"split.no\": expected a value in every shard, found none",
        "split-tensors-negative" => Malformed "key \"split.tensors.count\": expected u32, found i32",
        "split-name" => Malformed "shard 1 of 2: expected a name that ends in \"-00001-of-00002.gguf\"",
    }}
}

#[test]
fn malformed_split_models_are_refused() {
    refuses! { "split" {
        "missing" => MissingShard "shard 2 of 3 is missing",
        "missing-first" => MissingShard "shard 1 of 2 is missing",
        "count-65535" => MissingShard "shard 2 of 65535 is missing",
        "count-differs" => Malformed "expected shard 2 of",
        "number-differs" => Malformed "expected shard 2 of",
        "not-split" => Malformed "found a model in one file",
        "tensors-differ" => Malformed "with 2 tensors in all, found shard",
        "tensors-missing" => Malformed "expected as many tensors as all 2 shards have, 2, found 9",
        "tensor-twice" => Malformed "expected a unique name, found the same name twice",
        "keys-differ" => Malformed "expected the value of the first shard, found another",
        "alignment-differs" => Malformed "expected the value of the first shard, found another",
        "cut" => Truncated "before the end of the file",
        "dots" => Malformed "shard: expected the name of a file in the same folder, found",
    }}
}

#[test]
fn malformed_safetensors_files_are_refused() {
    refuses! { "safetensors" {
        "header-length" => Truncated "the header: expected 9223372036854775808 bytes",
        "header-past-end" => Truncated "the header: expected 100 bytes, found 10 before the end",
        "header-cut" => Json "the header:",
        "header-utf8" => Json "the header:",
        "header-array" => Json "the header: key must be a string",
        "nested" => Json "the header:",
        "nested-metadata" => Json "the header:",
        "name-twice" => Json "occurs twice",
        "metadata-twice" => Json "occurs twice",
        "field-unknown" => Json "unknown field",
        "field-missing" => Json "missing field",
        "dtype" => UnknownFormat "is not supported: expected one of F32, F16",
        "dtype-number" => Json "expected a string",
        "shape-negative" => Json "expected u64",
        "shape-float" => Json "expected u64",
        "shape-2-64" => Json "expected u64",
        "shape-dimensions" => Json "expected at most 8 dimensions",
        "shape-overflow" => Malformed "expected a size that fits 63 bits",
        "shape-wraps" => Malformed "expected a size that fits 63 bits",
        "shape-0" => Malformed "expected dimensions of at least 1",
        "shape-differs" => Malformed "expected 12 bytes for [3] in F32, found 8",
        "offsets-backward" => Malformed "bytes for",
        "offsets-past-end" => Truncated "before the end of the file",
        "offsets-2-64" => Malformed "expected 8 bytes for [2] in F32, found 18446744073709551615",
        "offsets-three" => Json "the header:",
        "gap-end" => Malformed "bytes 4 to 8 of the data section: expected bytes of a tensor, found a gap",
        "gap-start" => Malformed "bytes 0 to 4 of the data section: expected bytes of a tensor, found a gap",
        "gap-between" => Malformed "bytes 3 to 4 of the data section: expected bytes of a tensor, found a gap",
        "overlap" => Malformed "expected bytes of its own, found an overlap with tensor",
        "same-bytes" => Malformed "expected bytes of its own, found an overlap with tensor",
    }}
    refuses! { "index" {
        "dots" => Malformed "expected the name of a file in the same folder, found",
        "absolute" => Malformed "expected the name of a file in the same folder, found",
        "drive" => Malformed "expected the name of a file in the same folder, found",
        "backslash" => Malformed "expected the name of a file in the same folder, found",
        "empty" => Malformed "expected the name of a file in the same folder, found \"\"",
        "twice" => Json "occurs twice",
        "no-map" => Json "missing field",
        "number" => Json "the index of shards:",
        "absent" => Io "",
        "not-a-model" => Truncated "the header: expected",
        "nested" => Json "the index of shards:",
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
