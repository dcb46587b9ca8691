//! Rotary position embedding (arXiv:2104.09864).

/// Which two numbers of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(2i, 2i + 1)`: GGUF files of `llama`.
    Adjacent,
    /// `(i, i + n/2)`: Hugging Face, and most other GGUF architectures.
    Halves,
}

/// Turns the first `2 * angles.len()` numbers of each head of `x`; the rest stays. `angles` are pairs of cosine and sine.
pub fn rotate(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], pairs: Pairs) {
    let n = angles.len();
    for head in x.chunks_exact_mut(head_dim) {
        for (i, &[cos, sin]) in angles.iter().enumerate() {
            let (a, b) = match pairs {
                Pairs::Adjacent => (2 * i, 2 * i + 1),
                Pairs::Halves => (i, i + n),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}
