//! What several tests of files need.

// Each test uses some of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use trine_tensor::{Array, FORMATS, Metadata, TensorInfo, Value, View};

/// Every type of value.
pub fn metadata() -> Metadata {
    let mut metadata = Metadata::new();
    let values = [
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U32(3),
        Value::I32(-3),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F32(0.5),
        Value::F64(0.25),
        Value::Bool(true),
        Value::String("naïve ☃".to_string()),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::I8(vec![-1])),
        Value::Array(Array::U16(vec![1, 2])),
        Value::Array(Array::I16(vec![-1])),
        Value::Array(Array::U32(vec![1, 2])),
        Value::Array(Array::I32(vec![-1, 2])),
        Value::Array(Array::U64(vec![1])),
        Value::Array(Array::I64(vec![-1])),
        Value::Array(Array::F32(vec![1.5])),
        Value::Array(Array::F64(vec![])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::String(["a", ""].into_iter().collect())),
        Value::Bytes(b"ok\xc0".to_vec()),
        Value::Array(Array::Bytes(vec![b"a".to_vec(), b"\xff".to_vec(), vec![]])),
    ];
    metadata.insert("general.architecture", "test");
    for (i, value) in values.into_iter().enumerate() {
        metadata.insert(format!("test.{i}"), value);
    }
    metadata
}

/// A small tensor of each format that `keep` keeps; those of whole matrices and a second one of a number are in tests/ternary.rs.
pub fn tensors(keep: impl Fn(&View) -> bool) -> Vec<View> {
    let weights: Vec<f32> = (0..512).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
    let view = |(i, format): (usize, &&'static trine_tensor::Format)| {
        let shape = if i % 2 == 0 { vec![2, 256] } else { vec![2, 1, 256] };
        let entry = TensorInfo { name: format!("blk.{i}.{format}"), format, shape: shape.clone() };
        View::new(entry.name.clone(), format, shape, entry.encode(&weights).unwrap()).unwrap()
    };
    FORMATS
        .iter()
        .filter(|format| format.matrix_layout().is_none() && format.name != "Q2_0_128")
        .enumerate()
        .map(view)
        .filter(keep)
        .collect()
}

/// A file that other programs made, in `golden`.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(path)
}

/// The data folder, absent on most machines: then says that the test was skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TRINE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = root.join("data").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is absent", path.display());
    None
}
