//! Files that are written, read back, chosen, refused.

mod common;

use std::fs;
use std::path::Path;

use trine_tensor::{Error, File, FileFormat, Metadata, OpenOptions, TensorInfo, View, format, gguf, safetensors};

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
            let file =
                File::open_with(&path, &OpenOptions { mmap, huge_pages: !mmap, ..OpenOptions::default() }).unwrap();
            assert_eq!(file.format(), FileFormat::Gguf { version: 3 });
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
    assert_eq!((file.format(), file.config()), (FileFormat::Safetensors, None));
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
    refused("tensor \"d\": expected a tensor of this name in \"c.safetensors\", as listed in the index, found none");
    index(r#"{"b": "b.safetensors", "b": "c.safetensors"}"#);
    refused("occurs twice");
    index(r#"{"b": "gone.safetensors"}"#);
    refused("gone.safetensors");

    safetensors::write(at("model.safetensors"), &[tensor("m")]).unwrap();
    assert_eq!(names(folder.path()).unwrap(), ["m"]);
    fs::write(at("config.json"), "{").unwrap();
    refused("config.json");
    for (modules, expected) in [("{", "expected JSON, found EOF"), ("{}", "expected a list of modules, found {}")] {
        fs::write(at("modules.json"), modules).unwrap();
        refused("modules.json");
        refused(expected);
    }
}

#[test]
fn the_error_for_a_path_that_is_not_there_names_it() {
    let path = tempfile::tempdir().unwrap().path().join("nope.gguf");
    let expected = format!("{}: expected a file or a folder, found nothing of this name", path.display());
    assert_eq!(File::open(&path).unwrap_err().to_string(), expected);
}

#[test]
fn the_error_for_an_unknown_tensor_lists_similar_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let tensor = |name: &str| View::new(name, &format::F32, vec![1], vec![0; 4]).unwrap();
    gguf::write(&path, &Metadata::new(), &["output", "blk.0.attn_q.weight", "blk.1.ffn_up.weight"].map(tensor))
        .unwrap();
    let error = File::open(&path).unwrap().view("blk.0.attn_k.weight").unwrap_err();
    let Error::NoTensor { hint, .. } = error.cause() else { panic!("{error}") };
    assert!(hint.contains("[\"blk.0.attn_q.weight\", "), "{hint}");
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
    assert_eq!(metadata.f32s("test.17").unwrap().unwrap().as_ref(), [-1.0, 2.0]);
    let message = |error: Error| error.to_string();
    assert_eq!(message(metadata.u32("test.1").unwrap_err()), "key \"test.1\": expected u32, found i8 -1");
    assert_eq!(
        message(metadata.str("test.20").unwrap_err()),
        "key \"test.20\": expected a string, found an array of 1 f32"
    );
    let error = metadata.str("test.24").unwrap_err();
    assert_eq!(message(error), "key \"test.24\": expected a string, found a string that is not UTF-8");
    let error = metadata.strs("test.25").unwrap_err();
    assert!(message(error).ends_with("found an array of 3 string, of which one is not UTF-8"));
    assert!(metadata.u32("test.6").is_err() && metadata.i32("test.6").is_err() && metadata.f32("test.4").is_err());
}

/// As in C, and in llama.cpp.
#[test]
fn any_number_but_0_is_true() {
    let mut metadata = Metadata::new();
    metadata.insert("a", true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    gguf::write(&path, &metadata, &[]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = 4 + 4 + 8 + 8 + 8 + 1 + 4;
    assert_eq!(bytes[at], 1);
    bytes[at] = 2;
    assert_eq!(gguf::read(&bytes.into()).unwrap().metadata, metadata);
}

#[test]
fn a_pointer_of_git_lfs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    for name in ["model.gguf", "model.safetensors", "tokenizer.json"] {
        let path = folder.path().join(name);
        fs::write(&path, pointer).unwrap();
        let error = match name {
            "tokenizer.json" => trine_tensor::read_small(&path, 1 << 20).unwrap_err(),
            _ => File::open(&path).unwrap_err(),
        };
        assert!(error.to_string().contains("a pointer of Git LFS: get the file itself (`git lfs pull`)"), "{error}");
    }
}

/// `save_model` of PyTorch's safetensors writes one of several tensors with the same memory, and the names of the others.
#[test]
fn a_tensor_that_shares_anothers_bytes_has_its_own_name() {
    let read = |metadata: &str| {
        let header = format!(r#"{{"__metadata__":{metadata},"b":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &1f32.to_le_bytes()].concat();
        let tensors = safetensors::read(&bytes.into()).unwrap();
        tensors.into_values().map(|view| (view.name.clone(), view.decode())).collect::<Vec<_>>()
    };
    let own = ("b".to_owned(), vec![1.0]);
    assert_eq!(read(r#"{"a":"b","format":"pt"}"#), [own.clone(), ("a".to_owned(), vec![1.0])]);
    for other in [r#"{"format":"pt"}"#, r#"{"b":"a","a":["b"]}"#, r#"{"b":"b"}"#, "5", "{}"] {
        assert_eq!(read(other), std::slice::from_ref(&own), "{other}");
    }
}

#[test]
fn a_key_that_is_too_long_is_not_blamed_for_its_bytes() {
    let counts = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
    let bytes = [&counts, &65536u64.to_le_bytes()[..], &[0xff; 65536], &[0; 8]].concat();
    let error = gguf::read(&bytes.into()).unwrap_err().to_string();
    assert_eq!(error, "the name of key 0: expected 1 to 65535 bytes, found 65536");
}

#[test]
fn a_file_without_tensors_says_so() {
    let error =
        File::from_bytes("x", [b"GGUF\x03\0\0\0".as_slice(), &[0; 16]].concat()).unwrap().view("a").unwrap_err();
    assert!(error.to_string().ends_with("there is no tensor \"a\": the file has no tensors"), "{error}");
}

#[test]
fn the_error_for_another_file_shows_its_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for (bytes, expected) in [(&b""[..], "empty"), (b"PK\x03\x04zipped up", r"PK\x03\x04zipped "), (b"GG", "GG")] {
        fs::write(&path, bytes).unwrap();
        let error = File::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("expected a GGUF or safetensors file"), "{error}");
    }
    assert!(matches!(File::open(folder.path().join("absent")).unwrap_err().cause(), Error::NotFound));
    #[cfg(unix)]
    assert!(matches!(File::open("/dev/null").unwrap_err().cause(), Error::Io(_)));
}

#[test]
fn a_writer_refuses_tensors_that_are_not_in_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let entry = |name: &str, format| TensorInfo { name: name.to_string(), format, shape: vec![4] };
    let create = |entries: &[TensorInfo]| gguf::create(&path, &Metadata::new(), entries.to_vec());
    let mut writer = create(&[entry("a", &format::F32)]).unwrap();
    let check = |error: Error, text: &str| assert!(error.to_string().contains(text), "{error}");
    check(writer.tensor(&[0; 15]).unwrap_err(), "tensor \"a\": expected 16 bytes for [4] in F32, found 15");
    check(writer.finish().unwrap_err(), "expected the 1 tensors of its header, found 0");
    check(create(&[entry("a", &format::F32), entry("a", &format::F32)]).err().unwrap(), "the same name twice");
    check(create(&[entry("a", &format::U8)]).err().unwrap(), "found U8, which is not supported");
    check(
        create(&[entry("a", &format::Q8_0)]).err().unwrap(),
        "expected rows of a multiple of 32 weights for Q8_0, found 4",
    );
    for name in [String::new(), "a".repeat(65536)] {
        check(create(&[entry(&name, &format::F32)]).err().unwrap(), "expected 1 to 65535 bytes, found");
    }
    // No temporary file is left.
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
        // What the one before left is gone, and what this one left is what the next one removes.
        let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<_> = entries.filter(|left| *left != path).collect();
        assert!(left.len() <= 1 && left.iter().all(|left| left.extension().unwrap() == "partial"), "{left:?}");
        cut_short += left.len();
    }
    // Others that are written at the same time stay.
    let others = [(); 3].map(|()| trine_tensor::Replacement::new(&folder.path().join("other")).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1 + others.len());
    drop(others);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    println!("{cut_short} of 30 were killed while writing");
    assert!(cut_short > 0);
}

#[test]
fn real_files_open_and_agree() {
    let Some(models) = common::shared("models") else { return };
    let models = fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path());
    for model in models.filter(|path| path.is_dir()) {
        let opened = File::open(&model).unwrap();
        assert!(opened.config().is_some() && opened.format() == FileFormat::Safetensors);
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
