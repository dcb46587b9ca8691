//! Values of `golden/train/`, which `golden/train.py` made with PyTorch.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::PathBuf;
use trine_tensor::File;

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/train")
}

/// What PyTorch computed.
pub struct Golden(File);

impl Golden {
    pub fn open(name: &str) -> Golden {
        Golden(File::open(folder().join(format!("{name}.safetensors"))).unwrap())
    }

    pub fn numbers(&self, name: &str) -> Vec<f32> {
        self.0.view(name).unwrap().decode()
    }

    /// Whole numbers of 32 bits.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        let view = self.0.view(name).unwrap();
        view.bytes.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
    }

    /// Compares all of a tensor, or of a large one its rows and columns, summed up with alternating signs.
    pub fn check(&self, what: &str, found: &[f32], cols: usize) {
        if self.0.contains(what) {
            return near(what, found, &self.numbers(what));
        }
        let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let sum = |numbers: &mut dyn Iterator<Item = &f32>| {
            numbers.enumerate().map(|(i, &x)| sign(i) * f64::from(x)).sum::<f64>() as f32
        };
        let rows: Vec<f32> = found.chunks(cols).map(|row| sum(&mut row.iter())).collect();
        near(what, &rows, &self.numbers(&format!("{what}.rows")));
        let columns: Vec<f32> = (0..cols).map(|col| sum(&mut found[col..].iter().step_by(cols))).collect();
        near(what, &columns, &self.numbers(&format!("{what}.cols")));
    }
}

/// Within 1e-4 of the largest.
pub fn near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst <= 1e-4 * largest, "{what}: {worst}, largest {largest}");
}
