//! GPTQ: codes in a stream of bits along the inputs, zero points in one along the outputs.

use super::check::{dtype, matrix, scales, shape};
use super::grouped::{GroupQuantized, U32Words, range};
use crate::file_tensors::FileTensors;
use crate::{Error, Result};
use trine_tensor::format::{I32, I64};

/// The matrix `[outputs, inputs]` of a layer: `scale * (code - zero)`.
///
/// # Errors
/// When a tensor is missing or does not fit the others.
pub fn open(
    tensors: &FileTensors,
    layer: &str,
    bits: usize,
    group_size: Option<usize>,
    minus_one: bool,
) -> Result<GroupQuantized> {
    let part = |part: &str| tensors.view(&format!("{layer}.{part}"));
    let packed = part("qweight")?;
    let [lines, rows] = matrix(&packed)?;
    if !(lines * 32).is_multiple_of(bits) {
        let expected = vec![lines.next_multiple_of(bits), rows];
        return Err(Error::Shape { tensor: packed.name, expected, found: packed.shape });
    }
    let cols = lines * 32 / bits;
    let scale = part("scales")?;
    let [count, _] = matrix(&scale)?;
    shape(&scale, &[count, rows])?;
    let natural = |col: usize| group_size.map_or(0, |size| col / size);
    let mut groups: Vec<usize> = (0..cols).map(natural).collect();
    if tensors.contains(&format!("{layer}.g_idx")) {
        let index = part("g_idx")?;
        shape(&index, &[cols])?;
        dtype(&index, "I32 or I64", &[&I32, &I64])?;
        let given = index.decode();
        // Some files without `desc_act` leave it zero.
        if given.iter().any(|&group| group != 0.0) {
            if let Some(&found) = given.iter().find(|&&group| group < 0.0 || group >= count as f32) {
                return Err(Error::BadWeight { tensor: index.name, expected: "groups that have scales", found });
            }
            groups = given.iter().map(|&group| group as usize).collect();
        }
    }
    if count != group_size.map_or(1, |size| cols.div_ceil(size)) {
        let expected = format!("a size by which {cols} inputs are the {count} groups of tensor `{}`", scale.name);
        let found = group_size.map_or("-1".to_owned(), |size| size.to_string());
        return Err(Error::bad("quantization_config.group_size", expected, found));
    }
    let zero = part("qzeros")?;
    let stride = (rows * bits).div_ceil(32);
    shape(&zero, &[count, stride])?;
    let mut zeros = U32Words::of(zero)?.all();
    if minus_one {
        zeros.chunks_exact_mut(stride).for_each(|row| increment(row, bits));
    }
    let zeros: Vec<i16> =
        (0..count * rows).map(|i| code(|word| zeros[i / rows * stride + word], i % rows, bits)).collect();
    let (packed, range) = (U32Words::of(packed)?, range(&zeros, bits));
    let code =
        Box::new(move |row, col, group| code(|i| packed.at(i * rows + row), col, bits) - zeros[group * rows + row]);
    Ok(GroupQuantized { name: format!("{layer}.weight"), rows, groups, scales: scales(&scale)?, range, code })
}

/// Bits `[k * bits, (k + 1) * bits)` of a stream of words, low bits first.
fn code(word: impl Fn(usize) -> u32, k: usize, bits: usize) -> i16 {
    let (at, shift) = (k * bits / 32, k * bits % 32);
    let mut code = word(at) >> shift;
    if shift + bits > 32 {
        code |= word(at + 1) << (32 - shift);
    }
    (code & ((1 << bits) - 1)) as i16
}

/// Adds one to each code of a stream. GPTQModel subtracts one from whole words, with borrows from one code to the next, which this undoes.
fn increment(words: &mut [u32], bits: usize) {
    let mut carry = 0;
    for (i, word) in words.iter_mut().enumerate() {
        let ones = (0..32).filter(|bit| (32 * i + bit) % bits == 0).fold(0, |ones, bit| ones | 1u64 << bit);
        let sum = u64::from(*word) + ones + carry;
        *word = sum as u32;
        // Only where a code continues in the next word.
        carry = if (32 * (i + 1)).is_multiple_of(bits) { 0 } else { sum >> 32 };
    }
}
