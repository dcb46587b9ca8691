//! A tensor: its name, its shape, and the bytes it is made of.

use std::ops::Range;

use crate::format::Format;
use crate::mapping::Mapping;
use crate::{Bytes, Error, Result};

/// A tensor that is to be written: everything but its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// What its bytes mean.
    pub format: &'static Format,
    /// Row-major, `[.., rows, cols]`.
    pub shape: Vec<usize>,
}

impl Entry {
    /// Bytes of the tensor, tail included. Refuses a shape that the format cannot hold.
    pub fn size(&self) -> Result<u64> {
        let shape: Vec<u64> = self.shape.iter().map(|&n| n as u64).collect();
        size(&self.name, self.format, &shape)
    }

    pub(crate) fn wrong_length(&self, found: usize) -> Error {
        Error::Length {
            tensor: self.name.clone(),
            shape: self.shape.clone(),
            format: self.format.name,
            expected: self.size().unwrap_or(u64::MAX),
            found: found as u64,
        }
    }
}

/// A tensor in memory: a range of a file's mapping, or bytes of its own. Cloning copies no weights.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name in the file.
    pub name: String,
    /// What the bytes mean.
    pub format: &'static Format,
    /// Row-major, `[.., rows, cols]`; `cols` is GGUF's `ne[0]`. Empty for a scalar. No dimension is zero.
    pub shape: Vec<usize>,
    /// Rows without gaps, then the format's tail.
    pub bytes: Bytes,
    /// What `bytes` are a range of, when a file is mapped.
    pub(crate) mapping: Option<Mapping>,
}

impl View {
    /// A tensor of these bytes. Refuses a shape that the format cannot hold, and bytes that do not fill it exactly.
    pub fn new(
        name: impl Into<String>,
        format: &'static Format,
        shape: Vec<usize>,
        bytes: impl Into<Bytes>,
    ) -> Result<View> {
        let view = View { name: name.into(), format, shape, bytes: bytes.into(), mapping: None };
        let expected = view.entry().size()?;
        if view.bytes.len() as u64 == expected { Ok(view) } else { Err(view.entry().wrong_length(view.bytes.len())) }
    }

    /// The tensor without its bytes.
    pub fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), format: self.format, shape: self.shape.clone() }
    }

    /// Number of rows: the product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, rest)| rest.iter().product())
    }

    /// Weights per row: the last dimension.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The same tensor with other bytes, such as a part of its own, and the shape that fits them.
    pub fn with(&self, shape: Vec<usize>, bytes: impl Into<Bytes>) -> Result<View> {
        Ok(View { mapping: self.mapping.clone(), ..View::new(self.name.clone(), self.format, shape, bytes)? })
    }

    /// The bytes of row `i`. Panics when there are not that many rows.
    pub fn row(&self, i: usize) -> &[u8] {
        let n = self.row_bytes();
        &self.bytes[..self.bytes.len() - self.format.tail][i * n..(i + 1) * n]
    }

    /// What follows the last row: the scale of an I2_S tensor, empty for most formats.
    pub fn tail(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.format.tail..]
    }

    /// The weights of row `i`. Panics when there are not that many rows or `out` is not `cols` long.
    pub fn decode_row(&self, i: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols(), "tensor {:?}: a row has {} weights", self.name, self.cols());
        (self.format.decode)(self.row(i), self.tail(), out);
    }

    /// All weights, `[.., rows, cols]`.
    pub fn decode(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.cols()];
        (self.format.decode)(&self.bytes[..self.bytes.len() - self.format.tail], self.tail(), &mut out);
        out
    }

    /// The mapping, and where in it the bytes are.
    fn mapped(&self) -> Option<(&Mapping, usize)> {
        self.mapping.as_ref().and_then(|mapping| Some((mapping, mapping.find(&self.bytes)?)))
    }

    /// Whether the bytes are those of a mapped file.
    pub fn is_mapped(&self) -> bool {
        self.mapped().is_some()
    }

    /// Copies the bytes from `start` on. Those of a mapped file are read from it: the pages of the mapping, if nobody else touches
    /// them, take no memory.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// When the tensor has not so many bytes.
    pub fn copy_to(&self, start: usize, out: &mut [u8]) -> Result<()> {
        let bytes = &self.bytes[start..start + out.len()];
        match self.mapped() {
            Some((mapping, offset)) => Ok(mapping.read(offset + start, out)?),
            None => {
                out.copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Brings this range of the bytes into memory, so that who first computes with them need not wait.
    ///
    /// # Panics
    /// When the tensor has no such range.
    pub fn prefault(&self, range: Range<usize>) {
        let bytes = &self.bytes[range.clone()];
        if let Some((mapping, offset)) = self.mapped() {
            mapping.prefault(offset + range.start, bytes.len());
        }
    }

    fn row_bytes(&self) -> usize {
        self.cols() / self.format.block * self.format.bytes
    }
}

/// Bytes of a tensor, tail included, after checking that every dimension is at least one, that rows are whole blocks,
/// and that weights and bytes can be counted.
pub(crate) fn size(name: &str, format: &Format, shape: &[u64]) -> Result<u64> {
    let tensor = || name.to_string();
    if shape.contains(&0) {
        return Err(Error::ZeroDimension { tensor: tensor(), shape: shape.to_vec() });
    }
    let too_large = || Error::TooLarge { tensor: tensor(), shape: shape.to_vec(), format: format.name };
    let (cols, rest) = shape.split_last().map_or((1, shape), |(&cols, rest)| (cols, rest));
    if cols % format.block as u64 != 0 {
        return Err(Error::Block { tensor: tensor(), cols, block: format.block, format: format.name });
    }
    let rows = rest.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or_else(too_large)?;
    // Four bytes per decoded weight must be countable too.
    rows.checked_mul(cols).and_then(|n| isize::try_from(n.checked_mul(4)?).ok()).ok_or_else(too_large)?;
    format.size(rows, cols).filter(|&n| isize::try_from(n).is_ok()).ok_or_else(too_large)
}
