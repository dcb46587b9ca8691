//! What the bytes of a weight format mean, in plain scalar code.
//!
//! This is the definition that fast code elsewhere is tested against. `decode` agrees bit for bit with ggml's own
//! definition of each type. `encode` never panics: a NaN counts as 0, an infinity as the largest finite `f32`, and a
//! block scale beyond what `f16` holds saturates there, so what is decoded again is finite. (F32, F64, F16 and BF16
//! keep NaN and infinities.)

mod check;
mod fp4;
mod grid;
pub mod grids;
mod head;
mod i2_s;
mod i2_s_layouts;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod iq_bn;
pub(crate) mod layout;
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

pub use fp4::{LEVELS as FP4_LEVELS, MXFP4, NVFP4, UE4M3_HALVES, e8m0_half};
pub use i2_s::I2_S;
pub use i2_s_layouts::{I2_S_ARM, I2_S_ROWS};
pub use iq_bn::{IQ1_BN, IQ2_BN, IQ2_BN_R4};
pub use iq1::{IQ1_M, IQ1_S};
pub use iq2::{IQ2_S, IQ2_XS, IQ2_XXS};
pub use iq3::{IQ3_S, IQ3_XXS};
pub use iq4::{IQ4_NL, IQ4_XS, LEVELS as IQ4_LEVELS};
pub use layout::{Layout, Packing, Place};
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
pub use tiles::{Kernels, Tiles};
pub use tl::{TL1, TL2};
pub use tq1_0::TQ1_0;
pub use tq2_0::TQ2_0;

/// Every weight format we know. A new one is a file beside these and a row here.
#[rustfmt::skip]
pub static FORMATS: &[&Format] = &[
    &F32, &F16, &BF16,
    &Q8_0, &Q4_0, &Q4_1, &Q5_0, &Q5_1, &Q8_1,
    &Q2_K, &Q3_K, &Q4_K, &Q5_K, &Q6_K, &Q8_K,
    &IQ4_NL, &IQ4_XS, &IQ3_S, &IQ3_XXS, &IQ2_S, &IQ2_XS, &IQ2_XXS, &IQ1_M, &IQ1_S,
    &MXFP4, &NVFP4,
    &Q1_0, &Q2_0, &Q2_0_128,
    &TQ1_0, &TQ2_0, &I2_S, &I2_S_ARM, &I2_S_ROWS, &TL1, &TL2, &IQ1_BN, &IQ2_BN, &IQ2_BN_R4,
    &F64, &I8, &I16, &I32, &I64, &U8, &BOOL, &F8_E4M3, &F8_E5M2,
];

/// A weight format: a tensor is rows of whole blocks without gaps, then a tail; or what [`Layout`] says.
pub struct Format {
    /// The name GGUF tools give it, such as `Q4_K`.
    pub name: &'static str,
    /// GGUF type number; `None` when GGUF cannot store it.
    pub id: Option<u32>,
    /// Weights per block.
    pub block: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// Bytes after the last row of a tensor.
    pub tail: usize,
    /// Whether every weight is one of -s, 0, s with a scale s.
    pub ternary: bool,
    /// How rows and blocks lie.
    pub layout: Layout,
    /// Weights of whole blocks: `row` has `n * bytes` bytes, `out` room for `n * block` weights, and `tail` is the
    /// tensor's tail (empty unless the format has one). What has no counterpart on the other side is left alone.
    /// Of a row with a head: of one such row. Of a [`Layout::Matrix`]: what that of its rows does.
    pub decode: fn(row: &[u8], tail: &[u8], out: &mut [f32]),
    /// Bytes of a whole tensor: `weights` are all its rows, `cols` a multiple of `block`; `out` has room for
    /// [`Format::size`] bytes, tail included. Otherwise as `decode`.
    pub encode: fn(weights: &[f32], out: &mut [u8]),
}

/// `general.file_type` of a file whose matrices are mostly in a format, by llama.cpp's numbers, and bitnet.cpp's for its own.
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
    ("I2_S_ARM", 40),
    ("I2_S_ROWS", 40),
];

impl Format {
    /// Whether models are stored so: ggml makes Q8_1 and Q8_K of activations alone, and other formats have no number.
    pub fn stores_models(&self) -> bool {
        self.id.is_some() && !["Q8_1", "Q8_K"].contains(&self.name)
    }

    /// `general.file_type` of a file whose matrices are mostly in this format.
    pub fn file_type(&self) -> Option<u32> {
        FILE_TYPES.iter().find(|(name, _)| *name == self.name).map(|&(_, number)| number)
    }

    /// Whether what is encoded has only the weights -s, 0 and s, though what is decoded may have others: such formats are for ternary models.
    pub fn encodes_trits(&self) -> bool {
        self.ternary || self.name.starts_with("Q2_0")
    }

    /// Bytes of a row; `None` when it is not whole blocks or cannot be counted.
    pub fn row_bytes(&self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block) {
            return None;
        }
        (cols / self.block).checked_mul(self.bytes)?.checked_add(self.head())
    }

    /// Bytes of a tensor, tail included; `None` when the format cannot hold such a tensor or the bytes cannot be counted.
    pub fn size(&self, rows: u64, cols: u64) -> Option<u64> {
        let rows = match self.layout {
            Layout::Matrix(packing) => (packing.size)(rows, cols)?,
            _ => rows.checked_mul(self.row_bytes(usize::try_from(cols).ok()?)? as u64)?,
        };
        rows.checked_add(self.tail as u64)
    }

    /// Bits per weight of a large tensor, without its tail and what its rows begin with.
    pub fn bits_per_weight(&self) -> f64 {
        (self.bytes * 8) as f64 / self.block as f64
    }

    /// A row's worth of bytes, or of a format without heads any number of rows'. A matrix in an order of its own is encoded by
    /// [`crate::Entry::encode`].
    ///
    /// # Panics
    /// When `weights` are not whole blocks, or the order is one of the whole matrix.
    pub fn encode(&self, weights: &[f32]) -> Vec<u8> {
        assert!(self.packing().is_none(), "{} is no format of rows", self.name);
        assert!(weights.len().is_multiple_of(self.block), "{} encodes blocks of {} weights", self.name, self.block);
        let mut out = vec![0; self.head() + weights.len() / self.block * self.bytes + self.tail];
        (self.encode)(weights, &mut out);
        out
    }
}

/// Formats are equal when they are the same row of [`FORMATS`].
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

/// The format with this GGUF type number.
pub fn by_id(id: u32) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.id == Some(id))
}

/// The format of this name, in upper or lower case.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.name.eq_ignore_ascii_case(name))
}

/// All formats with their GGUF numbers, for messages.
pub(crate) fn names() -> String {
    let name = |f: &&Format| f.id.map_or(f.name.to_string(), |id| format!("{} ({id})", f.name));
    FORMATS.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The `f16` at the start of `bytes`.
fn f16_at(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// A block scale, rounded to `f16` and saturated at its largest value.
fn to_f16(scale: f32) -> f16 {
    f16::from_f32(scale.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// `w`, where NaN counts as 0 and an infinity as the largest finite value.
fn finite(w: f32) -> f32 {
    if w.is_nan() { 0.0 } else { w.clamp(f32::MIN, f32::MAX) }
}

/// Largest absolute value.
fn abs_max(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |max, w| max.max(w.abs()))
}

/// `1 / x`, or 0 when `x` is 0: the factor that turns weights into codes.
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The ternary code 0, 1 or 2 of a weight, for the scale `1 / inverse`.
fn trit(w: f32, inverse: f32) -> u8 {
    ((w * inverse).round().clamp(-1.0, 1.0) as i8 + 1) as u8
}
