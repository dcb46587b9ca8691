//! Parts of tensors, and tensors of parts.

use crate::{Error, Result};
use std::ops::Range;
use trine_tensor::View;
use trine_tensor::format::F32;

/// Rows of a matrix, or elements of a vector. Shares the bytes, unless the format has a tail for the whole tensor.
pub(crate) fn rows(view: &View, range: Range<usize>) -> Result<View> {
    let vector = view.shape.len() == 1;
    let (cols, there) = if vector { (1, view.cols()) } else { (view.cols(), view.rows()) };
    let shape = if vector { vec![range.len()] } else { vec![range.len(), cols] };
    if range.end > there || vector && view.format.block != 1 {
        let expected = if vector { vec![range.end] } else { vec![range.end, cols] };
        return Err(Error::Shape { tensor: view.name.clone(), expected, found: view.shape.clone() });
    }
    let bytes = (view.bytes.len() - view.format.tail) / there;
    let part = view.bytes.slice(range.start * bytes..range.end * bytes);
    let part = if view.format.tail == 0 { part } else { [&part[..], view.tail()].concat().into() };
    Ok(view.with(shape, part)?)
}

/// The same tensor decoded to float32.
pub(crate) fn floats(view: &View) -> Result<View> {
    Ok(View::new(&view.name, &F32, view.shape.clone(), F32.encode(&view.decode()))?)
}

/// Tensors of one format: float32 where they differ, as experts do that were unpacked to different formats.
pub(crate) fn same_format(views: Vec<View>) -> Result<Vec<View>> {
    if views.iter().all(|view| view.format == views[0].format) {
        return Ok(views);
    }
    views.iter().map(floats).collect()
}

/// Tensors of one shape and format as one tensor with a new first dimension.
pub(crate) fn stack(name: &str, views: &[View]) -> Result<View> {
    let Some(first) = views.first() else {
        return Err(Error::Shape { tensor: name.to_owned(), expected: vec![1], found: vec![0] });
    };
    for view in views {
        if view.shape != first.shape || view.format != first.format || view.format.tail > 0 {
            let (expected, found) = (first.shape.clone(), view.shape.clone());
            return Err(Error::Shape { tensor: view.name.clone(), expected, found });
        }
    }
    let shape = std::iter::once(views.len()).chain(first.shape.iter().copied()).collect();
    let bytes: Vec<u8> = views.iter().flat_map(|view| view.bytes.iter().copied()).collect();
    Ok(View::new(first.name.clone(), first.format, shape, bytes)?)
}

/// Exchanges the last two dimensions. The format must have one block per element.
pub(crate) fn transpose(view: &View) -> Result<View> {
    let n = view.shape.len();
    if n < 2 || view.format.block != 1 {
        return Err(Error::Shape { tensor: view.name.clone(), expected: vec![0, 0], found: view.shape.clone() });
    }
    let (rows, cols, size) = (view.shape[n - 2], view.shape[n - 1], view.format.bytes);
    let mut bytes = Vec::with_capacity(view.bytes.len());
    for matrix in view.bytes.chunks_exact(rows * cols * size) {
        for col in 0..cols {
            for row in 0..rows {
                bytes.extend_from_slice(&matrix[(row * cols + col) * size..][..size]);
            }
        }
    }
    let mut shape = view.shape.clone();
    shape.swap(n - 2, n - 1);
    Ok(View::new(view.name.clone(), view.format, shape, bytes)?)
}

/// Every other row of each of several matrices, or element of each row of one matrix, from `first` on.
pub(crate) fn every_other(view: &View, first: usize) -> Result<View> {
    let n = view.shape.len();
    let axis = if n > 2 { n - 2 } else { n - 1 };
    let mut shape = view.shape.clone();
    let bad = || Error::Shape { tensor: view.name.clone(), expected: vec![2], found: view.shape.clone() };
    if n < 2 || !shape[axis].is_multiple_of(2) || n == 2 && view.format.block != 1 || view.format.tail > 0 {
        return Err(bad());
    }
    shape[axis] /= 2;
    let size = if n > 2 { view.bytes.len() / view.rows() } else { view.format.bytes };
    let bytes: Vec<u8> = view.bytes.chunks_exact(size).skip(first).step_by(2).flatten().copied().collect();
    Ok(View::new(view.name.clone(), view.format, shape, bytes)?)
}

/// The first or second half of the rows of each matrix in `[matrices, rows, cols]`.
pub(crate) fn half_of_each(view: &View, half: usize) -> Result<View> {
    let [matrices, rows, cols] = view.shape[..] else {
        return Err(Error::Shape { tensor: view.name.clone(), expected: vec![0, 0, 0], found: view.shape.clone() });
    };
    if rows % 2 != 0 || view.format.tail > 0 {
        let (expected, found) = (vec![matrices, 2, cols], view.shape.clone());
        return Err(Error::Shape { tensor: view.name.clone(), expected, found });
    }
    let size = view.bytes.len() / matrices / 2;
    let bytes: Vec<u8> = view.bytes.chunks_exact(size).skip(half).step_by(2).flatten().copied().collect();
    Ok(View::new(view.name.clone(), view.format, vec![matrices, rows / 2, cols], bytes)?)
}

/// Rows `range` of each group of `group` rows, as `[groups, range, cols]`.
pub(crate) fn rows_of_groups(view: &View, group: usize, range: Range<usize>) -> Result<View> {
    let row = view.bytes.len() / view.rows();
    let groups = view.bytes.chunks_exact(group * row);
    let bytes: Vec<u8> = groups.flat_map(|group| &group[range.start * row..range.end * row]).copied().collect();
    let shape = vec![view.rows() / group, range.len(), view.cols()];
    Ok(View::new(view.name.clone(), view.format, shape, bytes)?)
}

/// Rows ordered as `[kv_heads, group queries + key + value, head_dim]`, as all queries, all keys, all values.
pub(crate) fn ungroup_qkv(view: &View, heads: usize, group: usize, head_dim: usize) -> Result<View> {
    let vector = view.shape.len() == 1;
    let there = if vector { view.cols() } else { view.rows() };
    if there != (heads / group) * (group + 2) * head_dim || view.format.tail > 0 || vector && view.format.block != 1 {
        let expected = vec![(heads / group) * (group + 2) * head_dim];
        return Err(Error::Shape { tensor: view.name.clone(), expected, found: view.shape.clone() });
    }
    let head = view.bytes.len() / there * head_dim;
    let of = |wanted: Range<usize>| {
        let parts = view.bytes.chunks_exact(head * (group + 2));
        parts.flat_map(move |part| &part[wanted.start * head..wanted.end * head])
    };
    let bytes: Vec<u8> = of(0..group).chain(of(group..group + 1)).chain(of(group + 1..group + 2)).copied().collect();
    Ok(View::new(view.name.clone(), view.format, view.shape.clone(), bytes)?)
}
