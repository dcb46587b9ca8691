//! Validation of encoded weights: finite scales and valid ternary codes.

use super::{Format, f16_at};
use crate::error::in_tensor;
use crate::{Error, Result, View};

/// Offsets of the f16 scales in a block, by format. Formats that are not listed have none, or only finite ones.
#[rustfmt::skip]
static SCALES: &[(&str, &[usize])] = &[
    ("Q8_0", &[0]), ("Q4_0", &[0]), ("Q4_1", &[0, 2]), ("Q5_0", &[0]), ("Q5_1", &[0, 2]), ("Q8_1", &[0, 2]),
    ("Q2_K", &[80, 82]), ("Q3_K", &[108]), ("Q4_K", &[0, 2]), ("Q5_K", &[0, 2]), ("Q6_K", &[208]),
    ("IQ2_K", &[0]), ("IQ3_K", &[0]), ("IQ4_K", &[0]), ("IQ5_K", &[0]), ("IQ6_K", &[0]),
    ("IQ4_NL", &[0]), ("IQ4_XS", &[0]), ("IQ3_S", &[0]), ("IQ3_XXS", &[0]), ("IQ2_S", &[0]), ("IQ2_XS", &[0]), ("IQ2_XXS", &[0]),
    ("IQ1_S", &[0]), ("Q1_0", &[0]), ("Q2_0", &[0]), ("Q2_0_128", &[0]), ("TQ1_0", &[52]), ("TQ2_0", &[64]),
];

/// The number of bytes in a block that hold four 2-bit ternary codes each, of formats in which the code 3 is invalid.
fn coded(format: &Format) -> usize {
    match format.name {
        "I2_S" => 32,
        "IQ2_BN" => 16,
        "TQ2_0" => 64,
        _ => 0,
    }
}

impl View {
    /// [`View::check_rows`] of all rows.
    ///
    /// # Errors
    /// Those of [`View::check_rows`].
    pub fn check(&self) -> Result<()> {
        self.check_rows(0, &self.bytes[..self.bytes.len() - self.format.tail])
    }

    /// Checks that `rows`, the bytes of this matrix from row `first` on, have finite scales and valid ternary codes. Weights in floating
    /// point are not checked.
    ///
    /// # Errors
    /// For the first invalid row.
    ///
    /// # Panics
    /// When the format does not store rows (see [`View::by_rows`]).
    pub fn check_rows(&self, first: usize, rows: &[u8]) -> Result<()> {
        let format = self.format;
        let scales = SCALES.iter().find(|(name, _)| *name == format.name).map_or(&[][..], |(_, at)| at);
        let coded = coded(format);
        let whole = self.tail().first_chunk().map(|scale| f32::from_le_bytes(*scale));
        if scales.is_empty() && coded == 0 {
            return Ok(());
        }
        let bad_scale = |row: usize, found: f32| {
            Err(Error::malformed(format!("{}, row {row}", in_tensor(&self.name)), "finite scales", found))
        };
        let stride = format.row_bytes(self.cols()).expect("whole blocks");
        for (row, bytes) in rows.chunks_exact(stride).enumerate() {
            let (row, (head, blocks)) = (first + row, bytes.split_at(format.head()));
            let own = head.first_chunk().map(|scale| f32::from_le_bytes(*scale));
            if let Some(found) = own.or(whole).filter(|scale| !scale.is_finite()) {
                return bad_scale(row, found);
            }
            for block in blocks.chunks_exact(format.bytes) {
                if let Some(found) = scales.iter().map(|&at| f16_at(&block[at..])).find(|scale| !scale.is_finite()) {
                    return bad_scale(row, found);
                }
                if block[..coded].iter().fold(0, |both, byte| both | byte & byte >> 1) & 0x55 != 0 {
                    let place = format!("{}, row {row}", in_tensor(&self.name));
                    let found = "the unused code 3; is the layout another? (--layout NAME)";
                    return Err(Error::malformed(place, "ternary weights", found));
                }
            }
        }
        Ok(())
    }
}
