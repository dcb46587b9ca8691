//! Linear layers as integers of 8 bits with a scale for each row, as compressed-tensors stores W8A8.

use crate::{Error, Result};
use trine_tensor::format::{F16, I8};
use trine_tensor::{IntegerScheme, View};

/// Whether a matrix is of a linear layer; the head is none of them, as llm-compressor leaves it.
pub(super) fn is_linear(name: &str) -> bool {
    let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, part)| part);
    let names = ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    part.is_some_and(|part| names.iter().any(|linear| part.strip_prefix(linear) == Some(".weight")))
}

/// The integers, `[rows, cols]`.
pub(super) fn codes(view: &View) -> Result<View> {
    let (mut row, mut codes) = (vec![0.0; view.cols()], Vec::with_capacity(view.rows() * view.cols()));
    for i in 0..view.rows() {
        view.decode_row(i, &mut row);
        if let Some(&found) = row.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::BadWeight { tensor: view.name.clone(), expected: "finite weights", found });
        }
        let scale = scale(&row);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        codes.extend(row.iter().map(|w| (w * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8));
    }
    Ok(View::new(&*view.name, &I8, view.shape.clone(), codes)?)
}

/// The scales, `[rows, 1]`.
pub(super) fn scales(view: &View) -> Result<View> {
    let mut row = vec![0.0; view.cols()];
    let each = (0..view.rows()).map(|i| {
        view.decode_row(i, &mut row);
        scale(&row)
    });
    let scales: Vec<f32> = each.collect();
    Ok(View::new(&*view.name, &F16, vec![view.rows(), 1], F16.encode(&scales))?)
}

/// The scale of a row in half precision, so that Q8_0 holds the same weights.
fn scale(row: &[f32]) -> f32 {
    let (scale, _) = IntegerScheme::AbsMax.encode(row, &mut vec![0; row.len()]);
    let mut half = [0.0];
    (F16.decode)(&F16.encode(&[scale]), &[], &mut half);
    half[0]
}
