//! A tensor in another format, in memory.

use super::Error;
use crate::imatrix::Imatrix;
use trine_kernels::tables;
use trine_tensor::{Format, TensorInfo, View, format::Layout};

/// Weights of a piece of work.
const PIECE: usize = 1 << 16;

/// Weights, where their encoded bytes go, and the importance of their columns.
type Piece<'a> = (&'a [f32], &'a mut [u8], Option<&'a [f32]>);

/// A matrix in another format; itself where it has that already. `importance` is [`importance_of`] it.
///
/// # Errors
/// When a weight is not finite, or the format cannot hold such a matrix.
pub fn encoded(view: &View, format: &'static Format, importance: Option<&[f32]>) -> Result<View, Error> {
    if view.format == format {
        return Ok(view.clone());
    }
    let weights = view.decode();
    if let Some(&found) = weights.iter().find(|weight| !weight.is_finite()) {
        return Err(Error::NotFinite { tensor: view.name.clone(), found });
    }
    let info = TensorInfo { format, ..view.info() };
    let cols = view.cols();
    let rows_alike = matches!(format.layout, Layout::Rows) && format.tail == 0;
    let Some(row_bytes) = format.row_bytes(cols).filter(|_| rows_alike) else {
        let bytes = info.encode(&weights)?;
        return Ok(View::new(info.name, info.format, info.shape, bytes)?);
    };
    let mut bytes = vec![0; info.size()? as usize];
    // The importance of each expert's columns is its own.
    let parts = importance.map_or(1, |importance| importance.len() / cols);
    let rows = view.rows() / parts;
    let each = (PIECE / cols).clamp(1, rows.max(1));
    let mut pieces: Vec<Piece> = Vec::new();
    for (part, (weights, bytes)) in weights.chunks(rows * cols).zip(bytes.chunks_mut(rows * row_bytes)).enumerate() {
        let importance = importance.map(|importance| &importance[part * cols..][..cols]);
        let rows = weights.chunks(each * cols).zip(bytes.chunks_mut(each * row_bytes));
        pieces.extend(rows.map(|(weights, bytes)| (weights, bytes, importance)));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = pieces.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for pieces in pieces.chunks_mut(share) {
            scope.spawn(move || {
                let table = tables().next().expect("the scalar table is always there");
                pieces.iter_mut().for_each(|(weights, bytes, importance)| {
                    table.encode(format, weights, *importance, bytes);
                });
            });
        }
    });
    Ok(View::new(info.name, info.format, info.shape, bytes)?)
}

/// How much errors in each column of a matrix count, `[parts, cols]`; `None` if nobody measured it.
pub fn importance_of(imatrix: Option<&Imatrix>, name: &str) -> Option<Vec<f32>> {
    Some(imatrix?.entries.get(name)?.importance())
}
