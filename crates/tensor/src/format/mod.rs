//! Weight formats: encoding and decoding in plain scalar code.
//!
//! This is the definition that the fast kernels are tested against. `decode` agrees with ggml bit for bit. `encode` never
//! panics, and its result decodes to finite weights: a NaN becomes 0, an infinity the largest finite `f32`, and a block scale
//! is limited to the range of `f16`. (F32, F64, F16 and BF16 keep NaN and infinities.)

mod check;
mod encode;
mod fp4;
mod grid;
pub mod grids;
mod head;
mod i2_s;
mod i2_s_layouts;
mod integers;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod iq_bn;
mod iqk;
pub(crate) mod layout;
mod loss;
mod number;
mod q1_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod search;
pub(crate) mod tiles;
mod tl;
mod tq1_0;
mod tq2_0;

use half::f16;

pub use encode::encode;
pub use fp4::{LEVELS as FP4_LEVELS, MXFP4, NVFP4, UE4M3_HALVES, e8m0_half};
pub use i2_s::I2_S;
pub use i2_s_layouts::{I2_S_ARM, I2_S_ROWS};
pub use integers::{IntegerScheme, Quantized};
pub use iq_bn::{IQ1_BN, IQ2_BN, IQ2_BN_R4};
pub use iq1::{IQ1_M, IQ1_S};
pub use iq2::{IQ2_S, IQ2_XS, IQ2_XXS};
pub use iq3::{IQ3_S, IQ3_XXS};
pub use iq4::{IQ4_NL, IQ4_XS, LEVELS as IQ4_LEVELS};
pub use iqk::{IQ2_K, IQ3_K, IQ4_K, IQ4_KS, IQ5_K, IQ6_K};
pub use layout::{Layout, MatrixLayout, TiledShape};
pub use loss::Loss;
pub use number::{BF16, BOOL, F8_E4M3, F8_E5M2, F16, F32, F64, I8, I16, I32, I64, U8};
pub use q1_0::{Q1_0, Q2_0, Q2_0_128};
pub use q2_k::Q2_K;
pub use q3_k::Q3_K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4_K;
pub use q5_0::{Q5_0, Q5_1};
pub use q5_k::Q5_K;
pub use q6_k::Q6_K;
pub use q8_0::Q8_0;
pub use q8_1::Q8_1;
pub use q8_k::Q8_K;
pub use tiles::{KernelTiles, Tiles};
pub use tl::{TL1, TL2};
pub use tq1_0::TQ1_0;
pub use tq2_0::TQ2_0;

/// All weight formats. To add one, write a file beside these and add a row here.
#[rustfmt::skip]
pub static FORMATS: &[&Format] = &[
    &F32, &F16, &BF16,
    &Q8_0, &Q4_0, &Q4_1, &Q5_0, &Q5_1, &Q8_1,
    &Q2_K, &Q3_K, &Q4_K, &Q5_K, &Q6_K, &Q8_K,
    &IQ4_NL, &IQ4_XS, &IQ3_S, &IQ3_XXS, &IQ2_S, &IQ2_XS, &IQ2_XXS, &IQ1_M, &IQ1_S,
    &IQ2_K, &IQ3_K, &IQ4_K, &IQ4_KS, &IQ5_K, &IQ6_K,
    &MXFP4, &NVFP4,
    &Q1_0, &Q2_0, &Q2_0_128,
    &TQ1_0, &TQ2_0, &I2_S, &I2_S_ARM, &I2_S_ROWS, &TL1, &TL2, &IQ1_BN, &IQ2_BN, &IQ2_BN_R4,
    &F64, &I8, &I16, &I32, &I64, &U8, &BOOL, &F8_E4M3, &F8_E5M2,
];

/// A weight format. A tensor consists of rows of whole blocks without gaps, and a tail, or has another [`Layout`].
pub struct Format {
    /// The name in GGUF tools, such as `Q4_K`.
    pub name: &'static str,
    /// GGUF's type number; `None` if GGUF cannot store the format.
    pub id: Option<u32>,
    /// Weights per block.
    pub block: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// Bytes after the last row of a tensor.
    pub tail: usize,
    /// Whether every weight is one of -s, 0, s with a scale s.
    pub ternary: bool,
    /// Whether models have weights in it. Others hold activations, indices, masks or packed codes.
    pub weights: bool,
    /// The order of rows and blocks.
    pub layout: Layout,
    /// Decodes `n` blocks: `row` has `n * bytes` bytes, `out` has `n * block` elements, and `tail` is the tensor's tail
    /// (empty unless the format has one). If the lengths differ, the rest of the longer one is ignored. With
    /// [`Layout::Headed`], decodes one row with its head. With [`Layout::Matrix`], decodes rows of the repacked format.
    pub decode: fn(row: &[u8], tail: &[u8], out: &mut [f32]),
    /// Encodes a whole tensor: `weights` has all its rows, whose length is a multiple of `block`, and `out` has
    /// [`Format::size`] bytes. Otherwise as `decode`.
    ///
    /// `importance` has a number for each column, how much an error in it counts: llama.cpp's importance matrix, the mean square of what a
    /// column is multiplied by. Formats without scales to choose, and ternary ones, ignore it.
    pub encode: fn(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]),
}

/// `general.file_type` by the format of most matrices in a file, as in llama.cpp and bitnet.cpp.
static FILE_TYPES: &[(&str, u32)] = &[
    ("F32", 0),
    ("F16", 1),
    ("Q4_0", 2),
    ("Q4_1", 3),
    ("Q8_0", 7),
    ("Q5_0", 8),
    ("Q5_1", 9),
    ("Q2_K", 10),
    ("Q3_K", 12),
    ("Q4_K", 15),
    ("Q5_K", 17),
    ("Q6_K", 18),
    ("IQ2_XXS", 19),
    ("IQ2_XS", 20),
    ("IQ3_XXS", 23),
    ("IQ1_S", 24),
    ("IQ4_NL", 25),
    ("IQ3_S", 26),
    ("IQ2_S", 28),
    ("IQ4_XS", 30),
    ("IQ1_M", 31),
    ("BF16", 32),
    ("TQ1_0", 36),
    ("TQ2_0", 37),
    ("MXFP4", 38),
    ("NVFP4", 39),
    ("TL1", 38),
    ("TL2", 39),
    ("I2_S", 40),
    ("IQ2_K", 138),
    ("IQ3_K", 139),
    ("IQ4_K", 140),
    ("IQ5_K", 141),
    ("IQ6_K", 142),
    ("IQ4_KS", 145),
    ("I2_S_ARM", 40),
    ("I2_S_ROWS", 40),
];

impl Format {
    /// Whether GGUF files store weights in this format.
    pub fn stores_models(&self) -> bool {
        self.id.is_some() && self.weights
    }

    /// `general.file_type` of a file that has most matrices in this format.
    pub fn file_type(&self) -> Option<u32> {
        FILE_TYPES.iter().find(|(name, _)| *name == self.name).map(|&(_, number)| number)
    }

    /// Whether [`Format::encode`] only writes the weights -s, 0 and s, even if the format can hold others.
    pub fn encodes_trits(&self) -> bool {
        self.ternary || self.name.starts_with("Q2_0")
    }

    /// Whether [`Format::encode`] looks at the importance of columns.
    pub fn uses_importance(&self) -> bool {
        const NO_CHOICE: [&str; 6] = ["Q8_0", "Q8_1", "Q8_K", "Q1_0", "MXFP4", "NVFP4"];
        self.weights && self.block > 1 && !self.encodes_trits() && !NO_CHOICE.contains(&self.name)
    }

    /// The size of a row in bytes; `None` if it is not whole blocks, or the size overflows.
    pub fn row_bytes(&self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block) {
            return None;
        }
        (cols / self.block).checked_mul(self.bytes)?.checked_add(self.head())
    }

    /// The size of a tensor in bytes, with its tail; `None` if the format cannot hold it, or the size overflows.
    pub fn size(&self, rows: u64, cols: u64) -> Option<u64> {
        let rows = match self.layout {
            Layout::Matrix(layout) => (layout.size)(rows, cols)?,
            _ => rows.checked_mul(self.row_bytes(usize::try_from(cols).ok()?)? as u64)?,
        };
        rows.checked_add(self.tail as u64)
    }

    /// Bits per weight, without tails and heads of rows.
    pub fn bits_per_weight(&self) -> f64 {
        (self.bytes * 8) as f64 / self.block as f64
    }

    /// Encodes a row, or any number of rows of a format without heads. [`crate::TensorInfo::encode`] encodes tensors of any layout.
    ///
    /// # Panics
    /// When `weights` are not whole blocks, or the format has a [`MatrixLayout`].
    pub fn encode(&self, weights: &[f32]) -> Vec<u8> {
        assert!(self.matrix_layout().is_none(), "{} does not store rows", self.name);
        assert!(weights.len().is_multiple_of(self.block), "{} encodes blocks of {} weights", self.name, self.block);
        let mut out = vec![0; self.head() + weights.len() / self.block * self.bytes + self.tail];
        (self.encode)(weights, None, &mut out);
        out
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name == other.name
    }
}

impl Eq for Format {}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name)
    }
}

/// Finds a format by its type number in GGUF. If several have it, the first is the usual one.
pub fn by_id(id: u32) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.id == Some(id))
}

/// Finds a format by its name, ignoring case.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.name.eq_ignore_ascii_case(name))
}

/// Whether a format is one of [`FORMATS`], and not a program's own.
pub(crate) fn is_known(format: &Format) -> bool {
    FORMATS.iter().any(|known| std::ptr::eq(*known, format))
}

/// The names of all formats with their type numbers, for errors.
pub(crate) fn names() -> String {
    let name = |f: &&Format| f.id.map_or(f.name.to_string(), |id| format!("{} ({id})", f.name));
    FORMATS.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Reads the `f16` at the start of `bytes`.
fn f16_at(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Rounds a block scale to `f16`, saturating.
fn to_f16(scale: f32) -> f16 {
    f16::from_f32(scale.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// Replaces NaN by 0 and an infinity by the largest finite value.
#[inline(always)]
fn finite(w: f32) -> f32 {
    let w = if w.is_nan() { 0.0 } else { w };
    search::clamp(w, f32::MIN, f32::MAX)
}

/// Replaces NaN by 0 and limits magnitudes to 2^30, more than `f16` scales of scales reach, so that sums of products stay finite.
#[inline(always)]
fn bounded(w: f32) -> f32 {
    let w = if w.is_nan() { 0.0 } else { w };
    search::clamp(w, -1_073_741_824.0, 1_073_741_824.0)
}

/// Largest absolute value, 0 for NaN.
#[inline(always)]
fn abs_max(weights: &[f32]) -> f32 {
    let (lanes, rest) = weights.as_chunks::<16>();
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [0f32; 16];
    for lanes in lanes {
        for i in 0..16 {
            most[i] = larger(finite(lanes[i]).abs(), most[i]);
        }
    }
    rest.iter().fold(across(most, larger), |most, &w| larger(finite(w).abs(), most))
}

/// The smallest and the largest weight.
#[inline(always)]
fn extremes(weights: &[f32; 32]) -> (f32, f32) {
    let (smaller, larger) = (|a: f32, b: f32| if a < b { a } else { b }, |a: f32, b: f32| if a > b { a } else { b });
    let (first, last) = weights.split_at(16);
    let (mut min, mut max) = ([0.0; 16], [0.0; 16]);
    for i in 0..16 {
        let (a, b) = (finite(first[i]), finite(last[i]));
        (min[i], max[i]) = (smaller(a, b), larger(a, b));
    }
    (across(min, smaller), across(max, larger))
}

/// The weight of largest magnitude, the first of several.
#[inline(always)]
fn signed_max(weights: &[f32; 32]) -> f32 {
    let (min, max) = extremes(weights);
    if -min == max {
        weights.iter().map(|&w| finite(w)).find(|w| w.abs() == max).unwrap_or(0.0)
    } else if -min > max {
        min
    } else {
        max
    }
}

/// One of all lanes, chosen from pairs.
#[inline(always)]
fn across(mut lanes: [f32; 16], choose: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = choose(lanes[i], lanes[half + i]);
        }
    }
    lanes[0]
}

/// `1 / x`, or 0 if `x` is 0.
#[inline(always)]
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The ternary code 0, 1 or 2 of a weight, for the scale `1 / inverse`.
#[inline(always)]
fn trit(w: f32, inverse: f32) -> u8 {
    let w = w * inverse;
    1 + u8::from(w >= 0.5) - u8::from(w <= -0.5)
}
