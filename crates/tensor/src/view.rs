//! Tensors: name, format, shape and bytes.

use std::ops::Range;

use crate::error::in_tensor;
use crate::format::{Format, I2_S, KernelTiles, TiledShape, Tiles, layout};
use crate::mapping::Mapping;
use crate::{Bytes, Error, Result};

/// A tensor without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    pub format: &'static Format,
    /// Row-major, `[.., rows, cols]`.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// The tensor's size in bytes, with the format's tail.
    ///
    /// # Errors
    /// When the format cannot hold a tensor of this shape.
    pub fn size(&self) -> Result<u64> {
        let shape: Vec<u64> = self.shape.iter().map(|&n| n as u64).collect();
        size(&self.name, self.format, &shape)
    }

    /// Encodes weights, which are given row by row.
    ///
    /// # Errors
    /// When the format cannot hold a tensor of this shape, or the number of weights is not that of the shape.
    pub fn encode(&self, weights: &[f32]) -> Result<Vec<u8>> {
        let size = self.size()? as usize;
        let [rows, cols] = matrix(&self.shape);
        if weights.len() != rows * cols {
            let expected = format_args!("{} weights for {:?}", rows * cols, self.shape);
            return Err(Error::malformed(in_tensor(&self.name), expected, weights.len()));
        }
        let format = self.format;
        let Some(layout) = format.matrix_layout() else {
            if format.head() == 0 {
                return Ok(format.encode(weights));
            }
            return Ok(weights.chunks_exact(cols).flat_map(|row| format.encode(row)).collect());
        };
        let by_rows = TensorInfo { format: layout.rows, ..self.clone() }.encode(weights)?;
        let mut out = vec![0; size];
        let (by_rows, tail) = by_rows.split_at(by_rows.len() - format.tail);
        let (body, end) = out.split_at_mut(size - format.tail);
        end.copy_from_slice(tail);
        self.place_rows(0, by_rows, body)?;
        Ok(out)
    }

    /// Writes rows of [`View::by_rows`], from row `first` on, to the places in the tensor's bytes `out` where its
    /// [`crate::format::MatrixLayout`] has them. Those are initially zero.
    ///
    /// # Errors
    /// When the format cannot hold a tensor of this shape.
    ///
    /// # Panics
    /// When the format stores rows itself.
    pub fn place_rows(&self, first: usize, by_rows: &[u8], out: &mut [u8]) -> Result<()> {
        let layout = self.format.matrix_layout().expect("a layout of the whole matrix");
        let [rows, cols] = matrix(&self.shape);
        let shape = TiledShape { rows, cols, tiles: self.tiles()?.unwrap_or_default() };
        let stride = layout.rows.row_bytes(cols).ok_or_else(|| self.overflow())?;
        let mut codes = vec![0; cols];
        for (i, row) in by_rows.chunks_exact(stride).enumerate() {
            layout::codes(layout.rows, row, &mut codes);
            let scale = row.first_chunk().map_or(0.0, |head| f32::from_le_bytes(*head));
            (layout.write)(&shape, first + i, &codes, scale, out);
        }
        Ok(())
    }

    /// The tiles that [`TensorInfo::encode`] uses, if the format has tiles.
    pub(crate) fn tiles(&self) -> Result<Option<Tiles>> {
        if !self.format.matrix_layout().is_some_and(|layout| layout.tiled) {
            return Ok(None);
        }
        let [rows, cols] = matrix(&self.shape);
        let tiles = Tiles::choose(self.format, [rows, cols]);
        tiles.map(Some).ok_or_else(|| bad_matrix(&self.name, self.format, rows as u64, cols as u64))
    }

    pub(crate) fn wrong_length(&self, found: u64) -> Error {
        let size = self.size().unwrap_or(u64::MAX);
        let expected = format_args!("{size} bytes for {:?} in {}", self.shape, self.format);
        Error::malformed(in_tensor(&self.name), expected, found)
    }

    pub(crate) fn overflow(&self) -> Error {
        let shape: Vec<u64> = self.shape.iter().map(|&n| n as u64).collect();
        Error::overflow(&self.name, &shape, self.format)
    }
}

/// A tensor in memory. Its bytes are a range of a mapped file, or allocated; a clone shares them.
#[derive(Clone, Debug)]
pub struct View {
    pub name: String,
    pub format: &'static Format,
    /// Row-major, `[.., rows, cols]`; `cols` is GGUF's `ne[0]`. Empty for a scalar. No dimension is zero.
    pub shape: Vec<usize>,
    /// The rows without gaps, then the format's tail.
    pub bytes: Bytes,
    /// The mapping that `bytes` are a range of, if a file is mapped.
    pub(crate) mapping: Option<Mapping>,
    pub(crate) sidecar: Sidecar,
}

/// Data of a [`crate::format::MatrixLayout`] that is not in the tensor's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sidecar {
    pub tiles: Tiles,
    /// The scale, if the file has it in another tensor; `bytes` then have no tail.
    pub scale: Option<f32>,
}

impl View {
    /// Creates a tensor.
    ///
    /// # Errors
    /// When the format cannot hold a tensor of this shape, or needs more or fewer bytes for it.
    pub fn new(
        name: impl Into<String>,
        format: &'static Format,
        shape: Vec<usize>,
        bytes: impl Into<Bytes>,
    ) -> Result<View> {
        let mut view =
            View { name: name.into(), format, shape, bytes: bytes.into(), mapping: None, sidecar: Sidecar::default() };
        let (info, found) = (view.info(), view.bytes.len() as u64);
        let expected = info.size()?;
        view.sidecar.tiles = info.tiles()?.unwrap_or_default();
        if found == expected { Ok(view) } else { Err(info.wrong_length(found)) }
    }

    /// The tensor without its bytes.
    pub fn info(&self) -> TensorInfo {
        TensorInfo { name: self.name.clone(), format: self.format, shape: self.shape.clone() }
    }

    /// Number of rows: the product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        matrix(&self.shape)[0]
    }

    /// Weights per row: the last dimension.
    pub fn cols(&self) -> usize {
        matrix(&self.shape)[1]
    }

    /// The same tensor with another shape and other bytes, such as a range of its own.
    pub fn with(&self, shape: Vec<usize>, bytes: impl Into<Bytes>) -> Result<View> {
        Ok(View { mapping: self.mapping.clone(), ..View::new(self.name.clone(), self.format, shape, bytes)? })
    }

    /// The bytes of row `i`.
    ///
    /// # Panics
    /// When `i` is out of bounds, or the format has a [`crate::format::MatrixLayout`] (see [`View::by_rows`]).
    pub fn row(&self, i: usize) -> &[u8] {
        assert!(self.format.matrix_layout().is_none(), "tensor {:?}: {} does not store rows", self.name, self.format);
        let n = self.row_bytes();
        &self.bytes[..self.bytes.len() - self.format.tail][i * n..(i + 1) * n]
    }

    /// The bytes after the last row: the scale of an I2_S tensor, empty for most formats.
    pub fn tail(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.format.tail..]
    }

    /// Decodes row `i` to `out`, which has `cols` elements.
    ///
    /// # Panics
    /// As [`View::row`], or when `out` has another length.
    pub fn decode_row(&self, i: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols(), "tensor {:?}: a row has {} weights", self.name, self.cols());
        (self.format.decode)(self.row(i), self.tail(), out);
    }

    /// Decodes all weights, `[.., rows, cols]`.
    pub fn decode(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.cols()];
        let view = self.by_rows();
        for (i, out) in out.chunks_exact_mut(view.cols()).enumerate() {
            view.decode_row(i, out);
        }
        out
    }

    /// The same weights in a format that stores one row after another: itself, unless the format has a
    /// [`crate::format::MatrixLayout`].
    pub fn by_rows(&self) -> View {
        let Some(format) = self.rows_format() else { return self.clone() };
        let info = TensorInfo { format, ..self.info() };
        let size = info.size().expect("as many codes as there are") as usize;
        let mut bytes = vec![0; size];
        let (rows, tail) = bytes.split_at_mut(size - format.tail);
        for (i, row) in rows.chunks_exact_mut(format.row_bytes(self.cols()).expect("whole blocks")).enumerate() {
            self.repack_row(i, row);
        }
        tail.copy_from_slice(&self.repacked_tail());
        View::new(info.name, format, info.shape, bytes).expect("just made so")
    }

    /// The format of [`View::by_rows`], if that is another.
    pub fn rows_format(&self) -> Option<&'static Format> {
        self.format.matrix_layout().map(|layout| layout.rows)
    }

    /// Writes the bytes of row `i` of [`View::by_rows`] to `out`.
    ///
    /// # Panics
    /// When the format stores rows itself, `i` is out of bounds, or `out` does not have the length of a row.
    pub fn repack_row(&self, i: usize, out: &mut [u8]) {
        let layout = self.format.matrix_layout().expect("a layout of the whole matrix");
        let shape = TiledShape { rows: self.rows(), cols: self.cols(), tiles: self.sidecar.tiles };
        let mut codes = vec![0; self.cols()];
        let scale = (layout.read)(&shape, &self.bytes, i, &mut codes);
        layout::pack(layout.rows, &codes, out);
        if let Some(scale) = scale {
            out[..layout.rows.head()].copy_from_slice(&scale.to_le_bytes());
        }
    }

    /// The tail of [`View::by_rows`].
    pub fn repacked_tail(&self) -> Vec<u8> {
        match self.sidecar.scale {
            None => self.tail().to_vec(),
            Some(scale) => {
                let mut tail = vec![0; self.format.tail];
                tail[..4].copy_from_slice(&scale.to_le_bytes());
                tail
            }
        }
    }

    /// The same weights as [`I2_S`], if all of them are -s, 0 or s with one s for the whole matrix, and rows are whole blocks of it.
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

    /// The bytes to write to a file: the tensor's own, or encoded anew if those depend on other data of their file.
    ///
    /// # Errors
    /// When the format cannot hold a tensor of this shape.
    pub fn stored(&self) -> Result<Bytes> {
        let written = Sidecar { tiles: self.info().tiles()?.unwrap_or_default(), scale: None };
        if self.sidecar == written { Ok(self.bytes.clone()) } else { Ok(self.info().encode(&self.decode())?.into()) }
    }

    /// The mapping, and the offset of the bytes in it.
    fn mapped(&self) -> Option<(&Mapping, usize)> {
        self.mapping.as_ref().and_then(|mapping| Some((mapping, mapping.find(&self.bytes)?)))
    }

    /// Whether the bytes are a range of a mapped file.
    pub fn is_mapped(&self) -> bool {
        self.mapped().is_some()
    }

    /// Copies bytes from `start` on to `out`. Those of a mapped file are read from the file, so that the mapping's pages take no
    /// memory.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// When the range is out of bounds.
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

    /// Reads this range of a mapped file into memory, so that the first access does not wait for the disk.
    ///
    /// # Panics
    /// When the range is out of bounds.
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

/// The tiles of all tiled matrices, for the header of the file.
pub(crate) fn tiles(tensors: &[TensorInfo]) -> Result<KernelTiles> {
    let mut all = KernelTiles::new();
    for info in tensors {
        let shape = matrix(&info.shape);
        if let Some(tiles) = info.tiles()?
            && !all.contains(&(shape, tiles))
        {
            all.push((shape, tiles));
        }
    }
    Ok(all)
}

/// The size of a tensor in bytes, with the tail, after checking that every dimension is at least one, that rows are whole blocks,
/// and that the number of bytes, also as `f32`, fits an `isize`.
pub(crate) fn size(name: &str, format: &Format, shape: &[u64]) -> Result<u64> {
    let place = || in_tensor(name);
    if shape.contains(&0) {
        return Err(Error::malformed(place(), "dimensions of at least 1", format_args!("{shape:?}")));
    }
    let too_large = || Error::overflow(name, shape, format);
    let (cols, rest) = shape.split_last().map_or((1, shape), |(&cols, rest)| (cols, rest));
    if cols % format.block as u64 != 0 {
        let expected = format_args!("rows of a multiple of {} weights for {format}", format.block);
        return Err(Error::malformed(place(), expected, cols));
    }
    let rows = rest.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).ok_or_else(too_large)?;
    rows.checked_mul(cols).and_then(|n| isize::try_from(n.checked_mul(4)?).ok()).ok_or_else(too_large)?;
    if format.matrix_layout().is_some_and(|layout| (layout.size)(rows, cols).is_none()) {
        return Err(bad_matrix(name, format, rows, cols));
    }
    format.size(rows, cols).filter(|&n| isize::try_from(n).is_ok()).ok_or_else(too_large)
}

fn bad_matrix(name: &str, format: &Format, rows: u64, cols: u64) -> Error {
    let expected = format_args!("a matrix that {format} can store");
    Error::malformed(in_tensor(name), expected, format_args!("{rows} x {cols}"))
}
