//! One pass over all weights, a row at a time.

use std::ops::ControlFlow;
use trine_model::{QuantMethod, Unpacker};
use trine_tensor::{File, View};

/// What was counted of a tensor.
pub(super) struct TensorStats {
    pub name: String,
    pub format: &'static str,
    pub shape: Vec<usize>,
    pub count: u64,
    /// Those that are NaN or infinite; the rest is counted without them.
    pub not_finite: u64,
    pub zeros: u64,
    pub least: f32,
    pub most: f32,
    pub squares: f64,
    pub zero_rows: Vec<u32>,
    /// Weights that no ternary code gives: beyond the scale in a ternary format, or of two sizes in a row of another.
    pub not_ternary: u64,
    /// Sum of squares of each row, of queries and keys only.
    pub rows: Vec<f64>,
}

impl TensorStats {
    /// The root of the mean square.
    pub fn rms(&self) -> f64 {
        (self.squares / (self.count - self.not_finite).max(1) as f64).sqrt()
    }

    /// The largest magnitude.
    pub fn magnitude(&self) -> f32 {
        self.most.abs().max(self.least.abs())
    }

    /// Whether it is a matrix.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() > 1 && self.shape.iter().all(|&n| n > 1)
    }

    /// Whether all weights are the same.
    pub fn is_constant(&self) -> bool {
        self.not_finite == 0 && self.least == self.most
    }
}

/// Counts all tensors of a file, unpacked where another quantizer packed them; `None` if `progress` breaks off.
pub(super) fn count(
    file: &File,
    quant_method: QuantMethod,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Option<Vec<TensorStats>> {
    let unpack = Unpacker::new(file, quant_method);
    let total = file.tensors().map(|view| view.bytes.len() as u64).sum();
    let mut done = 0;
    let mut all = Vec::new();
    for stored in file.tensors() {
        // What cannot be unpacked is reported when the model is loaded.
        let Ok(Some(view)) = unpack.view(stored) else { continue };
        let view = view.by_rows();
        let mut row = vec![0.0; view.cols()];
        let mut tensor = TensorStats {
            name: view.name.clone(),
            format: view.format.name,
            shape: view.shape.clone(),
            count: 0,
            not_finite: 0,
            zeros: 0,
            least: f32::INFINITY,
            most: f32::NEG_INFINITY,
            squares: 0.0,
            zero_rows: Vec::new(),
            not_ternary: 0,
            rows: Vec::new(),
        };
        let keeps_rows = ["attn_q.weight", "attn_k.weight", "q_proj.weight", "k_proj.weight"];
        let keeps_rows = keeps_rows.iter().any(|name| view.name.ends_with(name));
        for i in 0..view.rows() {
            view.decode_row(i, &mut row);
            let squares = tensor.add(&view, i, &row);
            if keeps_rows {
                tensor.rows.push(squares);
            }
            if progress(done + (stored.bytes.len() / view.rows() * (i + 1)) as u64, total).is_break() {
                return None;
            }
        }
        done += stored.bytes.len() as u64;
        all.push(tensor);
    }
    Some(all)
}

impl TensorStats {
    /// Counts row `i`, and gives its sum of squares.
    fn add(&mut self, view: &View, i: usize, row: &[f32]) -> f64 {
        let (mut squares, mut zeros) = (0.0, 0);
        for &w in row {
            if !w.is_finite() {
                self.not_finite += 1;
                continue;
            }
            zeros += u64::from(w == 0.0);
            self.least = self.least.min(w);
            self.most = self.most.max(w);
            squares += f64::from(w) * f64::from(w);
        }
        self.count += row.len() as u64;
        self.zeros += zeros;
        self.squares += squares;
        if zeros == row.len() as u64 {
            self.zero_rows.push(i as u32);
        }
        // Scales belong to blocks in ternary formats, to no less than rows in the others.
        let block = if view.format.ternary { view.format.block } else { row.len() };
        for block in row.chunks(block) {
            let sizes = block.iter().map(|w| w.abs()).filter(|&w| w > 0.0 && w.is_finite());
            let least = sizes.clone().fold(f32::INFINITY, f32::min);
            self.not_ternary += sizes.filter(|&w| w > least * 1.02).count() as u64;
        }
        squares
    }
}
