//! What integers of 8 bits lose: weights and activations rounded in every usual way, by the error of a model's products.
//!
//! The inputs of all matrices are recorded while a text runs. With the first half of them, scales of activations are calibrated; with the second,
//! every matrix is multiplied, as floats and with both sides rounded.

use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use trine_backend::{CacheType, Observer};
use trine_kernels::{CpuExecutor, Input, Matrix, tables};
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{GgufModel, Runner};
use trine_tensor::format::F32;
use trine_tensor::{IntegerScheme, Quantized};

use crate::imatrix::stored_name;

/// Why the table cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// The model cannot be read, or a pass failed.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The system gives no threads.
    #[error("threads: {0}")]
    Threads(#[from] std::io::Error),
    /// Half of the tokens calibrate, the others are measured.
    #[error("expected a text of at least 2 tokens, found {found}")]
    TooShort { found: usize },
    /// A weight or an input, the first such, is NaN or infinite.
    #[error("tensor `{tensor}`: expected finite weights and inputs, found {found}")]
    NotFinite { tensor: String, found: f32 },
    /// No matrix was multiplied with inputs of its own.
    #[error("the model has no matrix in its layers that is multiplied as a whole")]
    NoMatrix,
}

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    Tensor,
    /// A row of a matrix.
    Channel,
    /// This many inputs of a row.
    Group(usize),
}

/// How weights are rounded; `None` for floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Weights {
    pub granularity: Granularity,
    pub symmetric: bool,
}

/// What shares a scale of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// This many inputs of a token: 32 in the products of Trine and llama.cpp.
    Group(usize),
    /// All of a token.
    Token,
    /// All of a matrix, with a scale that was calibrated.
    Static,
}

/// How activations are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Activations {
    pub inputs: Inputs,
    pub symmetric: bool,
}

/// The ways to round weights, the finest last.
pub const WEIGHTS: [Weights; 8] = {
    const fn both(granularity: Granularity) -> [Weights; 2] {
        [Weights { granularity, symmetric: true }, Weights { granularity, symmetric: false }]
    }
    let [a, b] = both(Granularity::Tensor);
    let [c, d] = both(Granularity::Channel);
    let [e, f] = both(Granularity::Group(128));
    let [g, h] = both(Granularity::Group(32));
    [a, b, c, d, e, f, g, h]
};

/// The ways to round activations, the finest first.
pub const ACTIVATIONS: [Activations; 5] = [
    Activations { inputs: Inputs::Group(32), symmetric: true },
    Activations { inputs: Inputs::Token, symmetric: true },
    Activations { inputs: Inputs::Token, symmetric: false },
    Activations { inputs: Inputs::Static, symmetric: true },
    Activations { inputs: Inputs::Static, symmetric: false },
];

/// The errors of one way to round weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorRow {
    /// `None` for weights that are not rounded.
    pub weights: Option<Weights>,
    /// The root mean square of what the weights change by, as a share of their own.
    pub weight_error: f64,
    /// The same of products: of activations that are not rounded, and of each of [`ACTIVATIONS`].
    pub errors: [f64; 1 + ACTIVATIONS.len()],
}

/// What integers of 8 bits lose in all matrices of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorTable {
    pub matrices: usize,
    /// Matrices that were left out: those of experts or heads, which have inputs of their own.
    pub left_out: usize,
    /// Tokens that calibrated, and tokens that were measured.
    pub tokens: [usize; 2],
    pub rows: Vec<ErrorRow>,
}

/// Squares of errors, and of what is right.
#[derive(Clone, Copy, Debug, Default)]
struct Sum([f64; 2]);

impl Sum {
    fn add(&mut self, right: &[f32], found: &[f32]) {
        for (&right, &found) in right.iter().zip(found) {
            self.0[0] += f64::from(right - found).powi(2);
            self.0[1] += f64::from(right).powi(2);
        }
    }

    fn relative(self) -> f64 {
        if self.0[0] == 0.0 { 0.0 } else { (self.0[0] / self.0[1]).sqrt() }
    }
}

/// Runs the tokens `ids` through a model that `observer`, of [`Observer::keeping`] as many inputs, watches, and rounds all matrices of its layers and
/// their inputs. `progress` gets how many matrices of how many are done, and may break off.
///
/// # Errors
/// When there are too few tokens, a pass fails, a number is not finite, or `progress` breaks off.
pub fn error_table(
    model: &GgufModel,
    runner: &mut dyn Runner,
    observer: &Observer,
    ids: &[u32],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<ErrorTable, Error> {
    if ids.len() < 2 {
        return Err(Error::TooShort { found: ids.len() });
    }
    observer.take();
    let scoring = ScoreOptions { batch: 512, cache_type: CacheType::F32, want: Want::Top { k: 0, edits: &[] } };
    let input = ScoreInput { ids: ids.to_vec(), outputs: 1 };
    score::<Error>(runner, &[input], &scoring, &mut |_, _| Ok(ControlFlow::Continue(())))?;
    let contains = |name: &str| model.tensors().iter().any(|info| info.name == name);
    let mut inputs: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (name, seen) in observer.take() {
        // Each part of a fused matrix has the same inputs.
        inputs.entry(stored_name(contains, name)).or_insert(seen.inputs);
    }
    let named = |name: &str| name.starts_with("blk.") && inputs.contains_key(name);
    let all: Vec<usize> = (0..model.tensors().len()).filter(|&i| named(&model.tensors()[i].name)).collect();
    let mut measured = Measured::new()?;
    let (mut matrices, mut tokens) = (0, [0; 2]);
    for (done, &i) in all.iter().enumerate() {
        if progress(done, all.len()).is_break() {
            return Err(Error::Cancelled);
        }
        let info = &model.tensors()[i];
        let (x, cols) = (&inputs[&info.name], *info.shape.last().expect("a matrix"));
        if x.len() < 2 * cols || !x.len().is_multiple_of(cols) || info.shape.len() != 2 {
            continue;
        }
        let weights = model.read(i)?.decode();
        if let Some(&found) = weights.iter().chain(x).find(|number| !number.is_finite()) {
            return Err(Error::NotFinite { tensor: info.name.clone(), found });
        }
        tokens = measured.add(&weights, x, cols);
        matrices += 1;
        model.release();
    }
    if matrices == 0 {
        return Err(Error::NoMatrix);
    }
    Ok(ErrorTable { matrices, left_out: all.len() - matrices, tokens, rows: measured.rows() })
}

/// What was measured so far, and buffers.
struct Measured {
    executor: CpuExecutor,
    /// Of floats, then of each of [`WEIGHTS`].
    weights: [Sum; 1 + WEIGHTS.len()],
    products: [[Sum; 1 + ACTIVATIONS.len()]; 1 + WEIGHTS.len()],
    codes: Quantized,
}

impl Measured {
    fn new() -> Result<Measured, Error> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let table = tables().next().expect("the scalar table is always there");
        Ok(Measured {
            executor: CpuExecutor::new(table, threads)?,
            weights: Default::default(),
            products: Default::default(),
            codes: Quantized::default(),
        })
    }

    /// Adds a matrix and its inputs, `[tokens, cols]`; returns the tokens that calibrated and that were measured.
    fn add(&mut self, weights: &[f32], x: &[f32], cols: usize) -> [usize; 2] {
        let (calibration, x) = x.split_at(x.len() / cols / 2 * cols);
        let rounded: Vec<Vec<f32>> =
            ACTIVATIONS.iter().map(|how| self.activations(*how, calibration, x, cols)).collect();
        let right = self.product(weights, x, cols);
        for i in 0..=WEIGHTS.len() {
            let rounded_weights = match i.checked_sub(1) {
                None => weights.to_vec(),
                Some(i) => self.rounded(WEIGHTS[i], weights, cols),
            };
            self.weights[i].add(weights, &rounded_weights);
            for (j, x) in std::iter::once(x).chain(rounded.iter().map(Vec::as_slice)).enumerate() {
                let found = self.product(&rounded_weights, x, cols);
                self.products[i][j].add(&right, &found);
            }
        }
        [calibration.len() / cols, x.len() / cols]
    }

    fn rows(self) -> Vec<ErrorRow> {
        let ways = std::iter::once(None).chain(WEIGHTS.map(Some));
        let sums = self.weights.into_iter().zip(self.products);
        let row = |(weights, (weight_error, errors)): (_, (Sum, [Sum; 1 + ACTIVATIONS.len()]))| ErrorRow {
            weights,
            weight_error: weight_error.relative(),
            errors: errors.map(Sum::relative),
        };
        ways.zip(sums).map(row).collect()
    }

    /// Weights after a rounding.
    fn rounded(&mut self, how: Weights, weights: &[f32], cols: usize) -> Vec<f32> {
        let group = match how.granularity {
            Granularity::Tensor => weights.len(),
            Granularity::Channel => cols,
            Granularity::Group(size) => part(size, cols),
        };
        let mut out = vec![0.0; weights.len()];
        self.executor.integers(scheme(how.symmetric), group, weights, &mut self.codes);
        self.codes.dequantize(&mut out);
        out
    }

    /// Activations after a rounding; a scale that is not each token's own is that of the calibration.
    fn activations(&mut self, how: Activations, calibration: &[f32], x: &[f32], cols: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let group = match how.inputs {
            Inputs::Group(size) => Some(part(size, cols)),
            Inputs::Token => Some(cols),
            Inputs::Static => None,
        };
        if let Some(group) = group {
            self.executor.integers(scheme(how.symmetric), group, x, &mut self.codes);
            self.codes.dequantize(&mut out);
            return out;
        }
        self.executor.integers(scheme(how.symmetric), calibration.len(), calibration, &mut self.codes);
        let scale = if self.codes.scales[0] > 0.0 { self.codes.scales[0] } else { 1.0 };
        let zero = self.codes.zero_points.first().map_or(0.0, |&zero| f32::from(zero));
        let least = if how.symmetric { -127.0 } else { -128.0 };
        for (&x, out) in x.iter().zip(&mut out) {
            *out = scale * (((x / scale).round_ties_even() + zero).clamp(least, 127.0) - zero);
        }
        out
    }

    /// `[tokens, rows]`
    fn product(&mut self, weights: &[f32], x: &[f32], cols: usize) -> Vec<f32> {
        let rows = weights.len() / cols;
        let mut out = vec![0.0; x.len() / cols * rows];
        let bytes = F32.encode(weights);
        self.executor.product(Matrix::new(&F32, rows, cols, &bytes), Input::F32(x), &mut out);
        out
    }
}

/// A size of groups, or where rows are no multiples of it, the largest smaller one.
fn part(size: usize, cols: usize) -> usize {
    (1..=size).rev().find(|size| cols.is_multiple_of(*size)).unwrap_or(1)
}

fn scheme(symmetric: bool) -> IntegerScheme {
    if symmetric { IntegerScheme::AbsMax } else { IntegerScheme::ZeroPoint }
}
