//! Statistics that determine the order of the bytes in ternary matrices, where several orders are possible.
//!
//! Every order gives valid codes, so none can be excluded. But trained matrices have more zeros in some rows and columns than in others, and a
//! wrong order mixes rows and columns. [`tiles`] compares how much the counts of zeros vary between rows and between columns.
//! [`layout`] cannot, as [`crate::format::I2_S_ARM`] permutes the columns of all matrices alike. It correlates the features of the feed-forward
//! network: feature `i` is row `i` of `ffn_gate` and `ffn_up`, and column `i` of `ffn_down`.

use std::collections::HashMap;

use crate::format::{Format, TiledShape, Tiles, layout};

/// Standard deviations by which one order must be likelier than another. If neither is right, the sign of each difference is random, and a sum
/// as large as this has a probability below `exp(-5^2 / 2)`, four in a million, whatever the distribution.
const DECISIVE: f64 = 5.0;
/// Maximum number of sampled weights per matrix.
const OF_A_MATRIX: usize = 1 << 19;
/// Maximum number of sampled weights in all matrices of a shape, for each choice of tiles.
const OF_A_SHAPE: usize = 1 << 20;
/// Rows per sampled run. Features are ranked within a run only, since heads differ too, and wrong orders keep heads together.
const RUN: usize = 16;

/// A ternary matrix of unknown order, without its tail.
pub(super) struct TernaryMatrix<'a> {
    pub name: &'a str,
    /// Rows and columns.
    pub shape: [usize; 2],
    pub bytes: &'a [u8],
}

/// The one of `formats` that is decisively more likely than the others, if there is one.
pub(super) fn layout(matrices: &[TernaryMatrix], formats: &[&'static Format]) -> Option<&'static Format> {
    let terms: Vec<Vec<f64>> = formats.iter().map(|format| likeness(matrices, format)).collect::<Option<_>>()?;
    let best = best(&terms)?;
    // A correlation that is negative in the right order would be weaker in a wrong one.
    let none = vec![0.0; terms[best].len()];
    let decisive = deviations(&terms[best], &none) >= DECISIVE && is_decisive(&terms, best);
    decisive.then(|| formats[best])
}

/// The result of comparing tiles.
pub(super) enum TilesVerdict {
    /// These tiles are decisively more likely than all others.
    Proved(Tiles),
    /// These tiles are decisively more likely than the claimed ones, but not than all others.
    Likelier(Tiles),
    /// Nothing is decisive.
    Open,
    /// With the claimed tiles, the bytes are not ternary.
    NotTernary,
}

/// Compares the `claimed` tiles of matrices of one shape with `others`.
pub(super) fn tiles(
    matrices: &[TernaryMatrix],
    format: &Format,
    claimed: Option<Tiles>,
    others: Vec<Tiles>,
) -> TilesVerdict {
    let n = OF_A_SHAPE / matrices.len().clamp(1, OF_A_SHAPE);
    let spread = |tiles: &Tiles| {
        let mut terms = Vec::new();
        for matrix in matrices {
            matrix.zeros(format, *tiles, n.min(OF_A_MATRIX))?.spread(&mut terms);
        }
        Some(terms)
    };
    let first = claimed.map(|tiles| spread(&tiles));
    if matches!(first, Some(None)) {
        return TilesVerdict::NotTernary;
    }
    let rest = others.into_iter().filter(|other| Some(*other) != claimed);
    let rest = rest.filter_map(|other| Some((other, spread(&other)?)));
    let (tiles, terms): (Vec<Tiles>, Vec<Vec<f64>>) = claimed.zip(first.flatten()).into_iter().chain(rest).unzip();
    match best(&terms) {
        Some(best) if is_decisive(&terms, best) => TilesVerdict::Proved(tiles[best]),
        Some(best) if best > 0 && claimed.is_some() && deviations(&terms[best], &terms[0]) >= DECISIVE => {
            TilesVerdict::Likelier(tiles[best])
        }
        _ => TilesVerdict::Open,
    }
}

/// The index of the first largest sum.
fn best(terms: &[Vec<f64>]) -> Option<usize> {
    let sums = terms.iter().map(|terms| terms.iter().sum::<f64>());
    sums.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(i, _)| i)
}

/// Whether one is decisively more likely than all that differ from it.
fn is_decisive(terms: &[Vec<f64>], best: usize) -> bool {
    let mut rivals = terms.iter().filter(|rival| **rival != terms[best]).peekable();
    rivals.peek().is_some() && rivals.all(|rival| deviations(&terms[best], rival) >= DECISIVE)
}

/// How many standard deviations the sum of `a` exceeds that of `b` by; 0 when they are equal.
fn deviations(a: &[f64], b: &[f64]) -> f64 {
    let differences = || a.iter().zip(b).map(|(a, b)| a - b);
    let (sum, squares): (f64, f64) = (differences().sum(), differences().map(|d| d * d).sum());
    if squares > 0.0 { sum / squares.sqrt() } else { 0.0 }
}

/// For each sampled feature, the correlation of its rows in `ffn_gate` and `ffn_up` with its column in `ffn_down`. `None` when codes are not ternary.
fn likeness(matrices: &[TernaryMatrix], format: &Format) -> Option<Vec<f64>> {
    let by_name: HashMap<&str, &TernaryMatrix> = matrices.iter().map(|matrix| (matrix.name, matrix)).collect();
    let mut terms = Vec::new();
    for down in matrices {
        let Some(prefix) = down.name.strip_suffix("ffn_down.weight") else { continue };
        let parts = ["ffn_gate", "ffn_up"].map(|part| by_name.get(&*format!("{prefix}{part}.weight")));
        let parts = parts.into_iter().flatten().filter(|part| part.shape[0] == down.shape[1]);
        let rows = parts.map(|part| part.zeros(format, Tiles::default(), OF_A_MATRIX)).collect::<Option<Vec<_>>>()?;
        let Some(sample) = rows.first().map(|zeros| &zeros.sample) else { continue };
        let down = down.zeros(format, Tiles::default(), OF_A_MATRIX)?;
        let columns = among_neighbours(&sample.iter().map(|&feature| down.cols[feature]).collect::<Vec<_>>());
        let mut alike = vec![0.0; columns.len()];
        for rows in rows.iter().map(|zeros| among_neighbours(&zeros.rows)).filter(|rows| rows.len() == columns.len()) {
            alike.iter_mut().zip(rows).zip(&columns).for_each(|((sum, row), column)| *sum += row * column);
        }
        terms.extend(alike);
    }
    Some(terms)
}

/// The rank of each value within its run, with 0 in the middle.
fn among_neighbours(values: &[f64]) -> Vec<f64> {
    let above = |value: f64, other: f64| f64::from(i8::from(value > other) - i8::from(value < other));
    let rank = |run: &[f64], value: f64| run.iter().map(|&other| above(value, other)).sum();
    values.chunks(RUN).flat_map(|run| run.iter().map(|&value| rank(run, value)).collect::<Vec<f64>>()).collect()
}

/// Numbers of zeros in a sample of a matrix's rows.
struct Zeros {
    /// The indices of the sampled rows.
    sample: Vec<usize>,
    /// For each sampled row.
    rows: Vec<f64>,
    /// For each column, within the sampled rows.
    cols: Vec<f64>,
}

impl TernaryMatrix<'_> {
    /// Samples about `n` weights. `None` when a code is not ternary.
    fn zeros(&self, format: &Format, tiles: Tiles, n: usize) -> Option<Zeros> {
        let [rows, cols] = self.shape;
        let shape = TiledShape { rows, cols, tiles };
        let (runs, most) = (rows.div_ceil(RUN), (n / cols / RUN).max(1));
        let mut zeros = Zeros { sample: Vec::new(), rows: Vec::new(), cols: vec![0.0; cols] };
        let mut codes = vec![0; cols];
        for run in (0..runs).step_by(runs.div_ceil(most)) {
            for row in (run * RUN..rows).take(RUN) {
                match format.matrix_layout() {
                    Some(layout) => _ = (layout.read)(&shape, self.bytes, row, &mut codes),
                    None => {
                        let stride = self.bytes.len() / rows;
                        layout::codes(format, &self.bytes[row * stride..][..stride], &mut codes);
                    }
                }
                let mut found = 0;
                for (&code, count) in codes.iter().zip(&mut zeros.cols) {
                    let zero = u32::from(code == 1);
                    found += zero;
                    *count += f64::from(zero);
                }
                if codes.contains(&3) {
                    return None;
                }
                zeros.sample.push(row);
                zeros.rows.push(f64::from(found));
            }
        }
        Some(zeros)
    }
}

impl Zeros {
    /// For each row and column, the squared deviation from the mean, in units of the variance that chance gives.
    fn spread(&self, terms: &mut Vec<f64>) {
        let (rows, cols) = (self.rows.len() as f64, self.cols.len() as f64);
        let share = self.rows.iter().sum::<f64>() / (rows * cols);
        let chance = share * (1.0 - share);
        for (counts, n) in [(&self.rows, cols), (&self.cols, rows)] {
            let far = |count: &f64| (count - n * share) * (count - n * share) / (n * chance);
            terms.extend(counts.iter().map(|count| if chance > 0.0 { far(count) } else { 0.0 }));
        }
    }
}
