//! Files that are written, read back, chosen, refused.

mod common;

use std::fs;
use std::path::Path;

use trine_tensor::{Bytes, Entry, Error, File, Kind, Metadata, OpenOptions, View, format, gguf, safetensors};

fn same(file: &File, tensors: &[View]) {
    assert_eq!(file.tensors().len(), tensors.len());
    for (found, expected) in file.tensors().zip(tensors) {
        assert_eq!((&found.name, found.format, &found.shape), (&expected.name, expected.format, &expected.shape));
        assert_eq!(found.bytes, expected.bytes, "{}", found.name);
        assert_eq!(found.decode(), expected.decode(), "{}", found.name);
    }
}

#[test]
fn a_gguf_file_holds_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let tensors = common::tensors(|v| v.format.id.is_some());
    for alignment in [None, Some(1), Some(8), Some(4096)] {
        let mut metadata = common::metadata();
        if let Some(alignment) = alignment {
            metadata.insert("general.alignment", alignment);
        }
        gguf::write(&path, &metadata, &tensors).unwrap();
        for mmap in [false, true] {
            let file = File::open_with(&path, &OpenOptions { mmap, huge_pages: !mmap }).unwrap();
            assert_eq!(file.kind(), Kind::Gguf { version: 3 });
            assert_eq!(file.metadata(), &metadata);
            assert_eq!(file.size(), fs::metadata(&path).unwrap().len());
            same(&file, &tensors);
        }
    }
    // Version 2 has the same layout.
    let mut bytes = fs::read(&path).unwrap();
    bytes[4] = 2;
    assert_eq!(gguf::read(&bytes.into()).unwrap().version, 2);
}

#[test]
fn a_safetensors_file_holds_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut tensors = common::tensors(|v| v.format.block == 1);
    tensors.push(View::new("scalar", &format::F32, vec![], vec![0, 0, 128, 63]).unwrap());
    safetensors::write(&path, &tensors).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!((file.kind(), file.config()), (Kind::Safetensors, None));
    // JSON objects have no order of their own.
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut names: Vec<_> = file.names().collect();
    names.sort();
    assert_eq!(names, tensors.iter().map(|v| v.name.as_str()).collect::<Vec<_>>());
    for view in &tensors {
        assert_eq!(file.view(&view.name).unwrap().bytes, view.bytes);
    }
    assert_eq!(file.view("scalar").unwrap().decode(), [1.0]);
}

#[test]
fn a_folder_stands_for_the_model_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tensor = |name: &str| View::new(name, &format::F32, vec![1, 1], vec![0; 4]).unwrap();
    let names = |path: &Path| File::open(path).map(|file| file.names().map(str::to_string).collect::<Vec<_>>());
    let refused = |expected: &str| {
        let error = File::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };

    refused("found none");
    gguf::write(at("a.gguf"), &Metadata::new(), &[tensor("a")]).unwrap();
    assert_eq!(names(folder.path()).unwrap(), ["a"]);
    safetensors::write(at("b.safetensors"), &[tensor("b")]).unwrap();
    assert_eq!(names(folder.path()).unwrap(), ["b"]);
    safetensors::write(at("c.safetensors"), &[tensor("c")]).unwrap();
    refused("a.gguf, b.safetensors, c.safetensors");

    fs::write(at("config.json"), r#"{"hidden_size": 8}"#).unwrap();
    let index =
        |map: &str| fs::write(at("model.safetensors.index.json"), format!(r#"{{"weight_map": {map}}}"#)).unwrap();
    index(r#"{"b": "b.safetensors", "c": "c.safetensors"}"#);
    let file = File::open(folder.path()).unwrap();
    assert_eq!(file.config().unwrap()["hidden_size"], 8);
    assert_eq!(file.names().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(names(&at("model.safetensors.index.json")).unwrap(), ["b", "c"]);
    for shard in ["../c.safetensors", "/c.safetensors", "x/c.safetensors", "..", "", "c:\\\\x"] {
        index(&format!(r#"{{"c": "{shard}"}}"#));
        refused("the name of a file in the same folder");
    }
    index(r#"{"b": "b.safetensors", "d": "c.safetensors"}"#);
    refused("tensor \"d\" is in \"c.safetensors\", but it is not");
    index(r#"{"b": "b.safetensors", "b": "c.safetensors"}"#);
    refused("occurs twice");
    index(r#"{"b": "gone.safetensors"}"#);
    refused("gone.safetensors");

    safetensors::write(at("model.safetensors"), &[tensor("m")]).unwrap();
    assert_eq!(names(folder.path()).unwrap(), ["m"]);
    fs::write(at("config.json"), "{").unwrap();
    refused("config.json");
}

#[test]
fn an_unknown_tensor_is_told_with_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let tensor = |name: &str| View::new(name, &format::F32, vec![1], vec![0; 4]).unwrap();
    gguf::write(&path, &Metadata::new(), &["output", "blk.0.attn_q.weight", "blk.1.ffn_up.weight"].map(tensor))
        .unwrap();
    let error = File::open(&path).unwrap().view("blk.0.attn_k.weight").unwrap_err();
    let Error::NoTensor { near, .. } = error.cause() else { panic!("{error}") };
    assert_eq!(near[0], "blk.0.attn_q.weight");
}

#[test]
fn typed_getters_convert_what_fits_and_name_what_does_not() {
    let metadata = common::metadata();
    assert_eq!(metadata.u32("absent").unwrap(), None);
    for (key, value) in [("test.0", 1), ("test.2", 2), ("test.4", 3)] {
        assert_eq!(metadata.u32(key).unwrap(), Some(value));
    }
    assert_eq!(metadata.i32("test.3").unwrap(), Some(-2));
    assert_eq!(metadata.f32("test.9").unwrap(), Some(0.25));
    assert_eq!(metadata.bool("test.10").unwrap(), Some(true));
    assert_eq!(metadata.str("test.11").unwrap(), Some("naïve ☃"));
    assert_eq!(metadata.i32s("test.16").unwrap().unwrap().as_ref(), [1, 2]);
    assert_eq!(metadata.f32s("test.20").unwrap().unwrap().as_ref(), [1.5]);
    assert!(metadata.strs("test.23").unwrap().unwrap().iter().eq(["a", ""]));
    let message = |error: Error| error.to_string();
    assert_eq!(message(metadata.u32("test.1").unwrap_err()), "key \"test.1\": expected u32, found i8 -1");
    assert_eq!(
        message(metadata.str("test.20").unwrap_err()),
        "key \"test.20\": expected a string, found an array of 1 f32"
    );
    assert!(metadata.u32("test.6").is_err() && metadata.i32("test.6").is_err() && metadata.f32("test.4").is_err());
}

/// A GGUF file by hand: keys and tensors are given as bytes.
fn raw(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut out = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec()].concat();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    keys.iter().chain(tensors).for_each(|bytes| out.extend(bytes));
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

fn string(s: &[u8]) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s].concat()
}

fn key(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    [string(name).as_slice(), &kind.to_le_bytes(), value].concat()
}

fn array(kind: u32, n: u64) -> Vec<u8> {
    [kind.to_le_bytes().as_slice(), &n.to_le_bytes()].concat()
}

fn tensor(name: &str, ne: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let ne_bytes: Vec<u8> = ne.iter().flat_map(|n| n.to_le_bytes()).collect();
    let n = (ne.len() as u32).to_le_bytes();
    [string(name.as_bytes()).as_slice(), &n, &ne_bytes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

#[test]
fn every_lie_of_a_gguf_file_has_its_own_error() {
    let alignment = |n: u32| raw(&[key(b"general.alignment", 4, &n.to_le_bytes())], &[], 0);
    let one = |t: Vec<u8>| raw(&[], &[t], 64);
    let patch = |at: usize, bytes: &[u8]| {
        let mut file = raw(&[], &[], 64);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let name = |t: &[u8]| raw(&[[string(t), vec![0, 0, 0, 0, 7]].concat()], &[], 64);
    macro_rules! refuses {
        ($($bytes:expr => $error:pat),* $(,)?) => {
            $({
                let error = gguf::read(&Bytes::from($bytes)).expect_err(stringify!($bytes));
                assert!(matches!(error, $error), "{}: {error:?}", stringify!($bytes));
            })*
        };
    }
    assert!(gguf::read(&one(tensor("a", &[8, 2], 0, 0)).into()).is_ok());
    assert!(gguf::read(&one(tensor("a", &[], 0, 32)).into()).is_ok());
    refuses! {
        patch(0, b"GGML") => Error::NotAModel { .. },
        patch(4, &[1]) => Error::Version { found: 1 },
        patch(4, &[4]) => Error::Version { found: 4 },
        patch(4, &[0, 0, 0, 3]) => Error::BigEndian,
        patch(8, &[255; 8]) => Error::Count { what: "tensors", found: u64::MAX, .. },
        patch(16, &(1u64 << 40).to_le_bytes()) => Error::Count { what: "keys", .. },
        raw(&[], &[], 0)[..20].to_vec() => Error::Truncated { .. },
        raw(&[(1u64 << 63).to_le_bytes().to_vec()], &[], 64) => Error::StringLength { .. },
        name(b"\xff\xfe") => Error::Utf8 { at: 0, .. },
        name(&[b'a'; 65536]) => Error::LongName { found: 65536, .. },
        raw(&[key(b"a", 8, &string(b"ok\xc0"))], &[], 64) => Error::Utf8 { at: 2, .. },
        raw(&[key(b"a", 0, &[1]), key(b"a", 0, &[1])], &[], 64) => Error::DuplicateKey { .. },
        raw(&[key(b"a", 13, &[])], &[], 64) => Error::ValueType { found: 13, .. },
        raw(&[key(b"a", 7, &[2])], &[], 64) => Error::Bool { found: 2, .. },
        raw(&[key(b"a", 9, &array(9, 1))], &[], 64) => Error::NestedArray { .. },
        raw(&[key(b"a", 9, &array(13, 1))], &[], 64) => Error::ValueType { found: 13, .. },
        raw(&[key(b"a", 9, &array(12, 1 << 61))], &[], 64) => Error::ArrayLength { .. },
        raw(&[key(b"a", 9, &array(8, 1000))], &[], 64) => Error::ArrayLength { room: ..10, .. },
        alignment(0) => Error::Alignment { found: 0 },
        alignment(24) => Error::Alignment { found: 24 },
        alignment(1 << 31) => Error::Alignment { .. },
        raw(&[key(b"general.alignment", 8, &string(b"32"))], &[], 64) => Error::Type { .. },
        one(tensor("a", &[1, 1, 1, 1, 1], 0, 0)) => Error::Dimensions { found: 5, .. },
        one(tensor("a", &[8, 0], 0, 0)) => Error::ZeroDimension { .. },
        one(tensor("a", &[1 << 32, 1 << 32], 0, 0)) => Error::TooLarge { .. },
        one(tensor("a", &[u64::MAX], 24, 0)) => Error::TooLarge { .. },
        one(tensor("a", &[(1 << 42) + 1], 0, 0)) => Error::PastEnd { .. },
        one(tensor("a", &[8, 3], 0, 0)) => Error::PastEnd { expected: 96, found: 64, .. },
        one(tensor("a", &[8], 0, 64)) => Error::PastEnd { .. },
        one(tensor("a", &[8], 0, u64::MAX - 31)) => Error::PastEnd { .. },
        one(tensor("a", &[100], 36, 0)) => Error::Block { cols: 100, block: 128, .. },
        one(tensor("a", &[8], 99, 0)) => Error::UnknownFormat { .. },
        one(tensor("a", &[8], 0, 4)) => Error::Misaligned { offset: 4, alignment: 32, .. },
        raw(&[], &[tensor("a", &[9], 0, 0), tensor("b", &[1], 0, 32)], 64) => Error::Overlap { .. },
        raw(&[], &[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)], 64) => Error::DuplicateTensor { .. },
    }
}

#[test]
fn every_lie_of_a_safetensors_file_has_its_own_error() {
    let file = |header: &str, data: usize| {
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.resize(out.len() + data, 0);
        out
    };
    let one = |dtype: &str, shape: &str, from: u64, to: u64| {
        file(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#), 8)
    };
    let two = |a: (u64, u64), b: (u64, u64)| {
        let entry = |(from, to): (u64, u64)| {
            format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
        };
        file(&format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b)), 8)
    };
    let entry = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    macro_rules! refuses {
        ($($bytes:expr => $error:pat),* $(,)?) => {
            $({
                let error = safetensors::read(&Bytes::from($bytes)).expect_err(stringify!($bytes));
                assert!(matches!(error, $error), "{}: {error:?}", stringify!($bytes));
            })*
        };
    }
    assert!(safetensors::read(&one("F32", "[2]", 0, 8).into()).is_ok());
    refuses! {
        vec![1, 0, 0] => Error::Truncated { .. },
        u64::MAX.to_le_bytes().to_vec() => Error::HeaderLength { .. },
        file("{]", 0) => Error::Json { .. },
        file(&format!(r#"{{"a":{entry},"a":{entry}}}"#), 8) => Error::Json { .. },
        file(&format!(r#"{{"a":{entry},"__metadata__":{{}},"__metadata__":{{}}}}"#), 8) => Error::Json { .. },
        one("F32", "[1,1,1,1,1,1,1,1,2]", 0, 8) => Error::Json { .. },
        one("F32", "[-2]", 0, 8) => Error::Json { .. },
        one("F4", "[2]", 0, 8) => Error::UnknownFormat { .. },
        one("F32", "[0]", 0, 0) => Error::ZeroDimension { .. },
        one("F32", "[4294967296,4294967296]", 0, 8) => Error::TooLarge { .. },
        one("F32", "[3]", 0, 8) => Error::Length { expected: 12, found: 8, .. },
        one("F32", "[2]", 8, 0) => Error::Length { .. },
        one("F32", "[2]", 8, 16) => Error::PastEnd { .. },
        one("F32", "[1]", 0, 4) => Error::Gap { from: 4, to: 8 },
        one("F32", "[1]", 4, 8) => Error::Gap { from: 0, to: 4 },
        two((0, 5), (4, 8)) => Error::Overlap { .. },
        two((0, 3), (4, 8)) => Error::Gap { from: 3, to: 4 },
    }
}

#[test]
fn what_is_no_model_is_told_by_its_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for (bytes, expected) in [(&b""[..], "empty"), (b"PK\x03\x04zipped up", r"PK\x03\x04zipped "), (b"GG", "GG")] {
        fs::write(&path, bytes).unwrap();
        let error = File::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("expected a GGUF or safetensors file"), "{error}");
    }
    assert!(matches!(File::open(folder.path().join("absent")).unwrap_err().cause(), Error::Io(_)));
    #[cfg(unix)]
    assert!(matches!(File::open("/dev/null").unwrap_err().cause(), Error::NotAFile));
}

#[test]
fn a_writer_refuses_what_its_header_did_not_announce() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let entry = |name: &str, format| Entry { name: name.to_string(), format, shape: vec![4] };
    let create = |entries: &[Entry]| gguf::create(&path, &Metadata::new(), entries.to_vec());
    let mut writer = create(&[entry("a", &format::F32)]).unwrap();
    assert!(matches!(writer.tensor(&[0; 15]).unwrap_err().cause(), Error::Length { expected: 16, found: 15, .. }));
    assert!(matches!(writer.finish().unwrap_err().cause(), Error::Unfinished { expected: 1, found: 0 }));
    let twice = create(&[entry("a", &format::F32), entry("a", &format::F32)]);
    assert!(matches!(twice.err().unwrap().cause(), Error::DuplicateTensor { .. }));
    assert!(matches!(create(&[entry("a", &format::U8)]).err().unwrap().cause(), Error::NotStorable { .. }));
    assert!(matches!(create(&[entry("a", &format::Q8_0)]).err().unwrap().cause(), Error::Block { .. }));
    // Nothing is left behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// 4 MiB that are all the same number.
fn uniform(x: f32) -> View {
    View::new("w", &format::F32, vec![1024, 1024], format::F32.encode(&vec![x; 1 << 20])).unwrap()
}

/// Not a test of its own: what `a_killed_write_leaves_a_whole_file` kills.
#[test]
#[ignore]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("TRINE_TEST_WRITE") else { return };
    for x in 1.. {
        gguf::write(&path, &Metadata::new(), &[uniform(x as f32)]).unwrap();
    }
}

#[test]
fn a_killed_write_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    gguf::write(&path, &Metadata::new(), &[uniform(0.0)]).unwrap();
    let mut cut_short = 0;
    for i in 0..30 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "writes_until_it_is_killed"])
            .env("TRINE_TEST_WRITE", &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10 + 3 * i));
        child.kill().unwrap();
        child.wait().unwrap();
        let file = File::open(&path).unwrap();
        let weights = file.view("w").unwrap().decode();
        assert!(weights.iter().all(|&w| w == weights[0]));
        for entry in fs::read_dir(folder.path()).unwrap() {
            let left = entry.unwrap().path();
            if left != path {
                assert_eq!(left.extension().unwrap(), "partial");
                fs::remove_file(left).unwrap();
                cut_short += 1;
            }
        }
    }
    println!("{cut_short} of 30 were killed while writing");
    assert!(cut_short > 0);
}

#[test]
fn real_files_open_and_agree() {
    let Some(models) = common::shared("models") else { return };
    let models = fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path());
    for model in models.filter(|path| path.is_dir()) {
        let opened = File::open(&model).unwrap();
        assert!(opened.config().is_some() && opened.kind() == Kind::Safetensors);
        let files = fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().path());
        let ggufs: Vec<File> = files
            .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
            .map(|path| File::open(path).unwrap())
            .collect();
        // The same weights, whatever the format.
        let plain = &ggufs.iter().find(|file| file.tensors().all(|view| view.format == &format::F32)).unwrap();
        for file in &ggufs {
            assert_eq!(file.tensors().len(), plain.tensors().len());
            for view in file.tensors() {
                let expected = plain.view(&view.name).unwrap();
                assert_eq!(view.shape, expected.shape);
                let (found, expected) = (view.decode(), expected.decode());
                // A scale stored as f16 is off by 2^-11 at most.
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 2048.0;
                assert!(found.iter().zip(&expected).all(close), "{} of {}", view.name, file.path().display());
            }
        }
    }
}

#[test]
fn vocabularies_open() {
    let Some(folder) = common::shared("tokenizers") else { return };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|e| e == "gguf")) {
        let file = File::open(&path).unwrap();
        let tokens = file.metadata().strs("tokenizer.ggml.tokens").unwrap().unwrap();
        let types = file.metadata().i32s("tokenizer.ggml.token_type").unwrap().unwrap();
        assert_eq!(tokens.len(), types.len(), "{}", path.display());
        assert_eq!(file.tensors().len(), 0);
    }
}
