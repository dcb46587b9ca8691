//! Rotary position embedding (RoPE, arXiv:2104.09864).

/// Which two elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// `(2i, 2i + 1)`: GGUF files of `llama`; `NORM` in llama.cpp, GPT-J style in vLLM.
    Adjacent,
    /// `(i, i + n/2)`: Hugging Face, and most other GGUF architectures; `NEOX` in llama.cpp, NeoX style in vLLM.
    Halves,
}

/// Rotates the first `2 * cos.len()` elements of each head. Plain operations, which round alike
/// however wide they are compiled.
pub(crate) fn rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], layout: RopeLayout) {
    let n = cos.len();
    for head in x.chunks_exact_mut(head_dim) {
        let rotate = |x: &mut f32, y: &mut f32, (cos, sin): (&f32, &f32)| {
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
        };
        let angles = cos.iter().zip(sin);
        match layout {
            RopeLayout::Adjacent => {
                head.as_chunks_mut().0.iter_mut().zip(angles).for_each(|([x, y], a)| rotate(x, y, a));
            }
            RopeLayout::Halves => {
                let (low, high) = head[..2 * n].split_at_mut(n);
                low.iter_mut().zip(high).zip(angles).for_each(|((x, y), a)| rotate(x, y, a));
            }
        }
    }
}
