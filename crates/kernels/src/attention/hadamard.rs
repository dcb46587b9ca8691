//! The Hadamard transform of heads, which lets a quantized KV cache bear outliers ([QuaRot](https://arxiv.org/abs/2404.00456)).
//!
//! `H` is symmetric, its numbers are 1 and -1, and `H H = n I` for a power of two `n`: `(q H) (k H)ᵀ = n q kᵀ`. A head is a number of groups of
//! the largest power of two that divides its width. The factors that make up for `n` are powers of two, which round nothing.

/// Multiplies each group of a head by `H` and about `1 / sqrt(n)`: what is to be kept.
#[inline(always)]
pub(crate) fn rotate(head: &mut [f32]) {
    let bits = group_bits(head);
    transform(head, bits, 0.5f32.powi(bits as i32 / 2));
}

/// Multiplies each group of a head by `H` and what [`rotate`] left out of `1 / n`: what meets rotated numbers, or was made of them.
#[inline(always)]
pub(crate) fn rotate_back(head: &mut [f32]) {
    let bits = group_bits(head);
    transform(head, bits, 0.5f32.powi(bits as i32 - bits as i32 / 2));
}

fn group_bits(head: &[f32]) -> u32 {
    head.len().trailing_zeros()
}

#[inline(always)]
fn transform(head: &mut [f32], bits: u32, factor: f32) {
    for bit in 0..bits {
        for pair in head.chunks_exact_mut(2 << bit) {
            let (low, high) = pair.split_at_mut(1 << bit);
            low.iter_mut().zip(high).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
        }
    }
    head.iter_mut().for_each(|x| *x *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_the_same() {
        for len in [1, 20, 64, 96, 128] {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin() + if i == 3 { 40.0 } else { 0.0 }).collect();
            let mut y = x.clone();
            rotate(&mut y);
            let largest = |x: &[f32]| x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(len < 64 || largest(&y) < 0.5 * largest(&x), "the outlier is shared");
            rotate_back(&mut y);
            assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-4), "{len}: {y:?}");
        }
    }
}
