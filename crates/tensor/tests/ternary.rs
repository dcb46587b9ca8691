//! Ternary and binary layouts are read as golden/ternary.py wrote them, written as they are read, and distinguished.

use std::path::{Path, PathBuf};
use trine_tensor::format::{self, FORMATS};
use trine_tensor::{Error, File, Format, Metadata, OpenOptions, TensorInfo, View, gguf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/ternary")
}

fn open(path: &Path, layouts: &[&'static Format]) -> Result<File, Error> {
    File::open_with(path, &OpenOptions { layouts: layouts.to_vec(), ..OpenOptions::default() })
}

/// A file for this test alone.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("trine-ternary-{}-{name}", std::process::id()))
}

/// Trits, from a seed.
fn trits(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % 3) as f32 - 1.0
        })
        .collect()
}

#[test]
fn files_of_other_programs_read_as_they_were_written() {
    let files: [(&str, &[&'static Format], &[&str]); 11] = [
        ("i2_s-x86.gguf", &[], &["I2_S"]),
        ("i2_s-arm.gguf", &[&format::I2_S_ARM], &["I2_S_ARM"]),
        ("i2_s-rows.gguf", &[&format::I2_S_ROWS], &["I2_S_ROWS"]),
        ("tl1.gguf", &[], &["TL1", "TL1"]),
        ("tl2.gguf", &[], &["TL2"]),
        ("tl2-42.gguf", &[], &["TL2"]),
        ("iq_bn.gguf", &[], &["IQ1_BN", "IQ2_BN", "IQ2_BN_R4"]),
        ("q1_0.gguf", &[], &["Q1_0"]),
        ("q2_0.gguf", &[], &["Q2_0"]),
        ("q2_0-128.gguf", &[], &["Q2_0_128"]),
        ("q2_0-128.gguf", &[&format::Q2_0_128], &["Q2_0_128"]),
    ];
    for (name, layouts, formats) in files {
        let file = open(&golden().join(name), layouts).unwrap_or_else(|error| panic!("{error}"));
        let views: Vec<&View> = file.tensors().filter(|view| !view.name.contains('.')).collect();
        assert_eq!(views.iter().map(|view| view.format.name).collect::<Vec<_>>(), formats, "{name}");
        assert!(file.tensors().all(|view| !view.name.ends_with("_scale")), "{name}");
        println!("{name}: {:?}", file.notes());
        for view in views {
            let part = |what: &str| file.view(&format!("{}.{what}", view.name)).unwrap().decode();
            let (trits, scales) = (part("trits"), part("scales"));
            let each = trits.len() / scales.len();
            for (i, (&found, trit)) in view.decode().iter().zip(&trits).enumerate() {
                let expected = scales[i / each] * trit;
                assert_eq!(found.to_bits(), expected.to_bits(), "{name} {} weight {i}", view.name);
            }
            let rows = view.by_rows();
            rows.check().unwrap();
            assert!(rows.format.matrix_layout().is_none());
        }
    }
}

#[test]
fn what_is_encoded_has_the_bytes_of_the_other_program_where_the_order_is_one_of_the_file() {
    for (name, format) in [("i2_s-arm.gguf", &format::I2_S_ARM), ("i2_s-rows.gguf", &format::I2_S_ROWS)] {
        let view = open(&golden().join(name), &[format]).unwrap().view("w").unwrap();
        assert!(view.info().encode(&view.decode()).unwrap() == *view.bytes, "{name}");
    }
    for view in File::open(golden().join("iq_bn.gguf")).unwrap().tensors().filter(|view| !view.name.contains('.')) {
        assert!(view.info().encode(&view.decode()).unwrap() == *view.bytes, "{}", view.name);
    }
}

/// All formats that hold ternary weights with one scale exactly.
fn ternary() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.encodes_trits())
}

#[test]
fn every_layout_gives_back_what_it_was_given_through_a_file() {
    let formats: Vec<_> = ternary().collect();
    assert!(formats.len() >= 12);
    for format in formats {
        for shape in [[32, 256], [64, 768], [160, 512]] {
            // Half precision holds the scale.
            let weights: Vec<f32> = trits(shape[0] * shape[1], 5).into_iter().map(|t| 0.375 * t).collect();
            let entry = TensorInfo { name: "w".to_owned(), format, shape: shape.to_vec() };
            let bytes = entry.encode(&weights).unwrap_or_else(|error| panic!("{format} {shape:?}: {error}"));
            let view = View::new("w", format, shape.to_vec(), bytes).unwrap();
            assert!(view.decode() == weights, "{format} {shape:?}");
            let path = scratch(&format!("{format}-{}.gguf", shape[0]));
            gguf::write(&path, &Metadata::new(), &[view]).unwrap();
            let file = File::open(&path).unwrap_or_else(|error| panic!("{error}"));
            let found = file.view("w").unwrap();
            assert_eq!(found.format, format, "{shape:?}: {:?}", file.notes());
            assert!(found.decode() == weights, "{format} {shape:?}");
            // Written once more, from what was read.
            gguf::write(&path, file.metadata(), &[found]).unwrap();
            assert_eq!(std::fs::read(&path).unwrap().len() as u64, file.size(), "{format}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_matrix_with_tiles_or_a_scale_of_its_own_is_written_as_ours() {
    for name in ["tl1.gguf", "tl2.gguf"] {
        let view = File::open(golden().join(name)).unwrap().view("w").unwrap();
        let path = scratch(name);
        gguf::write(&path, &Metadata::new(), std::slice::from_ref(&view)).unwrap();
        assert!(File::open(&path).unwrap().view("w").unwrap().decode() == view.decode(), "{name}");
        std::fs::remove_file(&path).unwrap();
    }
}

/// The bytes of a golden file with another in place of each `old`, and no kernel configuration beside them.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<File, Error> {
    let mut bytes = std::fs::read(golden().join(name)).unwrap();
    change(&mut bytes);
    File::from_bytes(name, bytes)
}

/// Gives the first tensor of a file another type number.
fn renumbered(bytes: &mut [u8], from: u32, to: u32) {
    let name = [&1u64.to_le_bytes()[..], b"w", &2u32.to_le_bytes()].concat();
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 16;
    assert_eq!(bytes[at..at + 4], from.to_le_bytes());
    bytes[at..at + 4].copy_from_slice(&to.to_le_bytes());
}

#[test]
fn ambiguous_files_are_refused_with_a_hint() {
    let error = |result: Result<File, Error>| match result.map(|file| file.notes().to_vec()) {
        Err(error) => error.to_string(),
        Ok(notes) => panic!("opened: {notes:?}"),
    };
    let check = |message: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    // No tiles are known for the shape.
    check(error(changed("tl1.gguf", |_| {})), &["TL1 of 128 x 256", "kernel_config.ini"]);
    // Known types that are not read.
    check(error(changed("i2_s-x86.gguf", |bytes| renumbered(bytes, 36, 142))), &["PQ2_0", "rotated"]);
    check(error(changed("i2_s-x86.gguf", |bytes| renumbered(bytes, 36, 31))), &["Q4_0_4_4", "quantize again"]);
    check(error(changed("i2_s-x86.gguf", |bytes| renumbered(bytes, 36, 37))), &["type 37", "quantize again"]);
    check(error(changed("i2_s-x86.gguf", |bytes| renumbered(bytes, 36, 77))), &["type 77", "expected one of"]);
    // The layouts of I2_S are assumed, with a warning, unless the caller chooses one.
    let warnings = changed("i2_s-arm.gguf", |_| {}).unwrap().warnings().join("\n");
    assert!(warnings.contains("I2_S_ARM, I2_S_ROWS") && warnings.contains("--layout"), "{warnings}");
    assert!(open(&golden().join("i2_s-x86.gguf"), &[&format::I2_S]).unwrap().warnings().is_empty());
    // A tensor so small that both kinds of blocks fill it, when nothing says which.
    let view = View::new("w", &format::Q2_0, vec![1, 128], format::Q2_0.encode(&[1.0; 128])).unwrap();
    let path = scratch("tiny.gguf");
    gguf::write(&path, &Metadata::new(), &[view]).unwrap();
    assert_eq!(File::open(&path).unwrap().view("w").unwrap().format.name, "Q2_0");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(13).position(|window| window == b"trine.layouts").unwrap();
    bytes[at] = b'T';
    std::fs::write(&path, bytes).unwrap();
    check(error(File::open(&path)), &["Q2_0, Q2_0_128", "--layout"]);
    assert_eq!(open(&path, &[&format::Q2_0_128]).unwrap().view("w").unwrap().format.name, "Q2_0_128");
    std::fs::remove_file(&path).unwrap();
    // One number for two formats.
    let view = |name, format: &'static Format| View::new(name, format, vec![4, 128], vec![0; 160]).unwrap();
    let views = [view("a", &format::I2_S), view("b", &format::I2_S_ROWS)];
    let message = gguf::write(scratch("two.gguf"), &Metadata::new(), &views).unwrap_err().to_string();
    assert!(message.contains("I2_S and I2_S_ROWS"), "{message}");
}

#[test]
fn tiles_that_are_not_those_of_the_bytes_are_refused() {
    let folder = scratch("tiles");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("model.gguf");
    std::fs::copy(golden().join("tl2.gguf"), &path).unwrap();
    for (ini, part) in [
        ("[a]\nm = 128\nk = 512\nbm = 64\nbk = 96\nbmm = 32\n", "expected TL2 with tiles of 64 x 96"),
        ("[a]\nm = 128\nk = 512\nbm = 0\nbk = 0\nbmm = 0\n", "at least 1, found \"bm = 0\""),
        ("[a]\nm = 128\nk = 512\nbm = 100\nbk = 96\nbmm = 32\n", "bm = 100, expected a multiple of bmm = 32"),
        ("[a]\nm = 128\nk = 512\nbm = 128\nbk = 80\nbmm = 32\n", "bk = 80, expected a multiple of 24"),
        ("[a]\nm = 64\nk = 512\nbm = 64\nbk = 96\nbmm = 32\n", "found sections in kernel_config.ini for 64 x 512 only"),
        ("[a]\nm = 128\n", "a section without all"),
        ("m = 128\n", "m = 128"),
        ("[a]\nm = -1\n", "m = -1"),
        ("[a]\nhello\n", "hello"),
    ] {
        std::fs::write(folder.join("kernel_config.ini"), ini).unwrap();
        let message = File::open(&path).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(message.matches(&*folder.to_string_lossy()).count(), 1, "{message}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn codes_and_scales_that_cannot_be_are_found() {
    for format in ternary().chain([&format::Q1_0, &format::Q4_K]) {
        let entry = TensorInfo { name: "w".to_owned(), format, shape: vec![32, 512] };
        let good = View::new("w", format, entry.shape.clone(), entry.encode(&trits(32 * 512, 1)).unwrap()).unwrap();
        good.by_rows().check().unwrap();
        for fill in [0xff, 0x7f] {
            // The code 3, or bits that are no number, wherever such can be.
            let bytes = vec![fill; good.bytes.len()];
            let bad = View::new("w", format, entry.shape.clone(), bytes).unwrap().by_rows();
            assert!(bad.check().is_err(), "{format} {fill:x}");
        }
    }
}
