//! Rotary position embedding (arXiv:2104.09864).

use crate::machine::Machine;

/// Which two numbers of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(2i, 2i + 1)`: GGUF files of `llama`.
    Adjacent,
    /// `(i, i + n/2)`: Hugging Face, and most other GGUF architectures.
    Halves,
}

/// Turns as many pairs of each head as there are angles; the rest stays. Plain operations, which round alike however wide they are compiled.
fn rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], pairs: Pairs) {
    let n = cos.len();
    for head in x.chunks_exact_mut(head_dim) {
        let turn = |x: &mut f32, y: &mut f32, (cos, sin): (&f32, &f32)| {
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
        };
        let angles = cos.iter().zip(sin);
        match pairs {
            Pairs::Adjacent => head.as_chunks_mut().0.iter_mut().zip(angles).for_each(|([x, y], a)| turn(x, y, a)),
            Pairs::Halves => {
                let (low, high) = head[..2 * n].split_at_mut(n);
                low.iter_mut().zip(high).zip(angles).for_each(|((x, y), a)| turn(x, y, a));
            }
        }
    }
}

impl Machine {
    /// Rotates the heads of `x`, rows of `width`, each row by its own angles: `cache` has for each row the cosines of all pairs, then the sines.
    pub fn rope(&mut self, x: &[f32], width: usize, head_dim: usize, cache: &[f32], pairs: Pairs, out: &mut [f32]) {
        let each = cache.len() * width / x.len().max(1);
        self.rows(out, width, 4 * width, &|row, out, _| {
            let (cos, sin) = cache[row * each..][..each].split_at(each / 2);
            out.copy_from_slice(&x[row * width..][..width]);
            rotate(out, head_dim, cos, sin, pairs);
        });
    }
}
