//! A tensor: its name, its shape, and the bytes it is made of.

use std::ops::Range;

use crate::format::{Format, I2_S, Kernels, Place, Tiles, layout};
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

    /// The tensor's bytes for these weights, row by row.
    ///
    /// # Errors
    /// When the format cannot hold such a tensor, or there are more or fewer weights.
    pub fn encode(&self, weights: &[f32]) -> Result<Vec<u8>> {
        let size = self.size()? as usize;
        let [rows, cols] = matrix(&self.shape);
        if weights.len() != rows * cols {
            return Err(self.wrong_length(weights.len()));
        }
        let format = self.format;
        let Some(packing) = format.packing() else {
            if format.head() == 0 {
                return Ok(format.encode(weights));
            }
            return Ok(weights.chunks_exact(cols).flat_map(|row| format.encode(row)).collect());
        };
        let place = Place { rows, cols, tiles: self.tiles()?.unwrap_or_default() };
        let by_rows = Entry { format: packing.rows, ..self.clone() }.encode(weights)?;
        let stride = (by_rows.len() - format.tail) / rows;
        let (mut out, mut codes) = (vec![0; size], vec![0; cols]);
        let (body, tail) = out.split_at_mut(size - format.tail);
        tail.copy_from_slice(&by_rows[by_rows.len() - format.tail..]);
        for (i, row) in by_rows.chunks_exact(stride).take(rows).enumerate() {
            layout::codes(packing.rows, row, &mut codes);
            let scale = row.first_chunk().map_or(0.0, |head| f32::from_le_bytes(*head));
            (packing.write)(&place, i, &codes, scale, body);
        }
        Ok(out)
    }

    /// The tiles in which [`Entry::encode`] stores the matrix, when its format has such.
    pub(crate) fn tiles(&self) -> Result<Option<Tiles>> {
        if !self.format.packing().is_some_and(|packing| packing.tiled) {
            return Ok(None);
        }
        let shape = matrix(&self.shape);
        let tensor = || self.name.clone();
        Tiles::choose(self.format, shape).map(Some).ok_or_else(|| Error::Order {
            tensor: tensor(),
            format: self.format.name,
            rows: shape[0],
            cols: shape[1],
        })
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
    pub(crate) order: Order,
}

/// What the bytes of a matrix in an order of its own do not say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Order {
    pub tiles: Tiles,
    /// The scale, when the file has it in a tensor of its own and `bytes` end without a tail.
    pub scale: Option<f32>,
}

impl View {
    /// A tensor of these bytes. Refuses a shape that the format cannot hold, and bytes that do not fill it exactly.
    pub fn new(
        name: impl Into<String>,
        format: &'static Format,
        shape: Vec<usize>,
        bytes: impl Into<Bytes>,
    ) -> Result<View> {
        let mut view =
            View { name: name.into(), format, shape, bytes: bytes.into(), mapping: None, order: Order::default() };
        let expected = view.entry().size()?;
        view.order.tiles = view.entry().tiles()?.unwrap_or_default();
        if view.bytes.len() as u64 == expected { Ok(view) } else { Err(view.entry().wrong_length(view.bytes.len())) }
    }

    /// The tensor without its bytes.
    pub fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), format: self.format, shape: self.shape.clone() }
    }

    /// Number of rows: the product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        matrix(&self.shape)[0]
    }

    /// Weights per row: the last dimension.
    pub fn cols(&self) -> usize {
        matrix(&self.shape)[1]
    }

    /// The same tensor with other bytes, such as a part of its own, and the shape that fits them.
    pub fn with(&self, shape: Vec<usize>, bytes: impl Into<Bytes>) -> Result<View> {
        Ok(View { mapping: self.mapping.clone(), ..View::new(self.name.clone(), self.format, shape, bytes)? })
    }

    /// The bytes of row `i`. Panics when there are not that many rows, or they are not [by rows](View::by_rows).
    pub fn row(&self, i: usize) -> &[u8] {
        assert!(self.format.packing().is_none(), "tensor {:?}: {} is no format of rows", self.name, self.format);
        let n = self.row_bytes();
        &self.bytes[..self.bytes.len() - self.format.tail][i * n..(i + 1) * n]
    }

    /// What follows the last row: the scale of an I2_S tensor, empty for most formats.
    pub fn tail(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.format.tail..]
    }

    /// The weights of row `i`. Panics as [`View::row`], or when `out` is not `cols` long.
    pub fn decode_row(&self, i: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols(), "tensor {:?}: a row has {} weights", self.name, self.cols());
        (self.format.decode)(self.row(i), self.tail(), out);
    }

    /// All weights, `[.., rows, cols]`.
    pub fn decode(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.cols()];
        let view = self.by_rows();
        for (i, out) in out.chunks_exact_mut(view.cols()).enumerate() {
            view.decode_row(i, out);
        }
        out
    }

    /// The same weights in a format whose bytes are row behind row: itself, unless it has a [`crate::format::Packing`].
    pub fn by_rows(&self) -> View {
        let Some(format) = self.rows_format() else { return self.clone() };
        let entry = Entry { format, ..self.entry() };
        let mut bytes = vec![0; entry.size().expect("as many codes as there are") as usize];
        let (rows, tail) = bytes.split_at_mut(entry.size().expect("as before") as usize - format.tail);
        for (i, row) in rows.chunks_exact_mut(format.row_bytes(self.cols()).expect("whole blocks")).enumerate() {
            self.repack_row(i, row);
        }
        tail.copy_from_slice(&self.repacked_tail());
        View::new(entry.name, format, entry.shape, bytes).expect("just made so")
    }

    /// The format of [`View::by_rows`], when that is another.
    pub fn rows_format(&self) -> Option<&'static Format> {
        self.format.packing().map(|packing| packing.rows)
    }

    /// Row `i` of [`View::by_rows`], for who brings the rows together himself.
    ///
    /// # Panics
    /// When the matrix is by rows already, there are not so many rows, or `out` is not a row.
    pub fn repack_row(&self, i: usize, out: &mut [u8]) {
        let packing = self.format.packing().expect("an order of its own");
        let place = Place { rows: self.rows(), cols: self.cols(), tiles: self.order.tiles };
        let mut codes = vec![0; self.cols()];
        let scale = (packing.read)(&place, &self.bytes, i, &mut codes);
        layout::pack(packing.rows, &codes, out);
        if let Some(scale) = scale {
            out[..packing.rows.head()].copy_from_slice(&scale.to_le_bytes());
        }
    }

    /// What [`View::by_rows`] has behind its rows.
    pub fn repacked_tail(&self) -> Vec<u8> {
        match self.order.scale {
            None => self.tail().to_vec(),
            Some(scale) => {
                let mut tail = vec![0; self.format.tail];
                tail[..4].copy_from_slice(&scale.to_le_bytes());
                tail
            }
        }
    }

    /// The same weights as [`I2_S`], when they are -s, 0 and s with one s for the whole matrix, and rows of whole blocks of it.
    pub fn as_i2_s(&self) -> Option<View> {
        let [rows, cols] = matrix(&self.shape);
        let stride = I2_S.row_bytes(cols)?;
        let (mut scale, mut row, mut codes) = (0f32, vec![0.0; cols], vec![0; cols]);
        let mut bytes = vec![0; I2_S.size(rows as u64, cols as u64)? as usize];
        for (i, out) in bytes.chunks_exact_mut(stride).take(rows).enumerate() {
            self.decode_row(i, &mut row);
            for (w, code) in row.iter().zip(&mut codes) {
                if *w != 0.0 && scale == 0.0 {
                    scale = w.abs();
                }
                *code = match *w {
                    0.0 => 1,
                    w if w == scale => 2,
                    w if w == -scale => 0,
                    _ => return None,
                };
            }
            layout::pack(&I2_S, &codes, out);
        }
        bytes[rows * stride..][..4].copy_from_slice(&scale.to_le_bytes());
        View::new(self.name.clone(), &I2_S, self.shape.clone(), bytes).ok()
    }

    /// The bytes with which the tensor is written to a file: its own, unless they mean something only beside what else its file says.
    ///
    /// # Errors
    /// When the matrix cannot be written in its format.
    pub fn stored(&self) -> Result<Bytes> {
        let written = Order { tiles: self.entry().tiles()?.unwrap_or_default(), scale: None };
        if self.order == written { Ok(self.bytes.clone()) } else { Ok(self.entry().encode(&self.decode())?.into()) }
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
        self.format.row_bytes(self.cols()).expect("whole blocks")
    }
}

/// Rows and columns of a shape.
pub(crate) fn matrix(shape: &[usize]) -> [usize; 2] {
    shape.split_last().map_or([1, 1], |(&cols, rest)| [rest.iter().product(), cols])
}

/// The kernels in whose order matrices among these are written, for the header of the file.
pub(crate) fn kernels(entries: &[Entry]) -> Result<Kernels> {
    let mut kernels = Kernels::new();
    for entry in entries {
        let shape = matrix(&entry.shape);
        if let Some(tiles) = entry.tiles()?
            && !kernels.contains(&(shape, tiles))
        {
            kernels.push((shape, tiles));
        }
    }
    Ok(kernels)
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
    if format.packing().is_some_and(|packing| (packing.size)(rows, cols).is_none()) {
        return Err(Error::Order { tensor: tensor(), format: format.name, rows: rows as usize, cols: cols as usize });
    }
    format.size(rows, cols).filter(|&n| isize::try_from(n).is_ok()).ok_or_else(too_large)
}
