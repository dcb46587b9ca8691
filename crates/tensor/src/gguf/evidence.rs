//! In which order the bytes of ternary matrices lie, where several are possible: what trained weights have in common, and shuffled ones have not.
//!
//! Each order reads the same codes, so none is impossible. But trained matrices have more zeros in some rows and columns than in others, the more
//! so the less a feature matters, and a wrong order mixes rows and columns. [`tiles`] goes by how unlike the rows and the columns of a matrix are.
//! [`layout`] cannot: [`crate::format::I2_S_ARM`] only permutes columns, alike in all matrices. It goes by a feature of the feed-forward network,
//! which is a row of `ffn_gate` and `ffn_up`, and a column of `ffn_down`.

use std::collections::HashMap;

use crate::format::{Format, Place, Tiles, layout};

/// Standard deviations by which one order must be likelier than another. When neither is right, differences are as often positive as negative,
/// and so much comes by chance with a probability below `exp(-5^2 / 2)`, four in a million, whatever their distribution.
const DECISIVE: f64 = 5.0;
/// Weights of a matrix that are looked at.
const OF_A_MATRIX: usize = 1 << 19;
/// Weights of all matrices of a shape that are looked at for each choice of tiles.
const OF_A_SHAPE: usize = 1 << 20;
/// Rows that are looked at together; features are compared with these neighbours alone, since heads differ, too, and wrong orders keep them.
const RUN: usize = 16;

/// A ternary matrix whose order is to be found, without its tail.
pub(super) struct Matrix<'a> {
    pub name: &'a str,
    /// Rows and columns.
    pub shape: [usize; 2],
    pub bytes: &'a [u8],
}

/// The format among `formats` that these matrices are decisively likeliest to have, when there is one.
pub(super) fn layout(matrices: &[Matrix], formats: &[&'static Format]) -> Option<&'static Format> {
    let terms: Vec<Vec<f64>> = formats.iter().map(|format| likeness(matrices, format)).collect::<Option<_>>()?;
    let best = best(&terms)?;
    // Where features were unlike in the right order, they would be less so in wrong ones.
    let none = vec![0.0; terms[best].len()];
    let decisive = deviations(&terms[best], &none) >= DECISIVE && is_decisive(&terms, best);
    decisive.then(|| formats[best])
}

/// What the weights of matrices say of tiles.
pub(super) enum Verdict {
    /// These tiles are decisively likelier than all others.
    Proved(Tiles),
    /// These tiles are decisively likelier than those that were asked about, though not than all others.
    Likelier(Tiles),
    /// No tiles are decisively likelier than those that were asked about, or if none were, than all others.
    Open,
    /// With the tiles that were asked about, the bytes are not ternary.
    NotTernary,
}

/// Judges the tiles `claimed` of matrices that have one shape, beside `others`.
pub(super) fn tiles(matrices: &[Matrix], format: &Format, claimed: Option<Tiles>, others: Vec<Tiles>) -> Verdict {
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
        return Verdict::NotTernary;
    }
    let rest = others.into_iter().filter(|other| Some(*other) != claimed);
    let rest = rest.filter_map(|other| Some((other, spread(&other)?)));
    let (tiles, terms): (Vec<Tiles>, Vec<Vec<f64>>) = claimed.zip(first.flatten()).into_iter().chain(rest).unzip();
    match best(&terms) {
        Some(best) if is_decisive(&terms, best) => Verdict::Proved(tiles[best]),
        Some(best) if best > 0 && claimed.is_some() && deviations(&terms[best], &terms[0]) >= DECISIVE => {
            Verdict::Likelier(tiles[best])
        }
        _ => Verdict::Open,
    }
}

/// The likeliest; of equals the first.
fn best(terms: &[Vec<f64>]) -> Option<usize> {
    let sums = terms.iter().map(|terms| terms.iter().sum::<f64>());
    sums.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(i, _)| i)
}

/// Whether one is decisively likelier than all that are not the same in other words.
fn is_decisive(terms: &[Vec<f64>], best: usize) -> bool {
    let mut rivals = terms.iter().filter(|rival| **rival != terms[best]).peekable();
    rivals.peek().is_some() && rivals.all(|rival| deviations(&terms[best], rival) >= DECISIVE)
}

/// By how many standard deviations the terms of `a` are larger than those of `b`; 0 when they are the same.
fn deviations(a: &[f64], b: &[f64]) -> f64 {
    let differences = || a.iter().zip(b).map(|(a, b)| a - b);
    let (sum, squares): (f64, f64) = (differences().sum(), differences().map(|d| d * d).sum());
    if squares > 0.0 { sum / squares.sqrt() } else { 0.0 }
}

/// For each feature that is looked at, how alike its rows in `ffn_gate` and `ffn_up` are to its column in `ffn_down`. `None` when codes are not ternary.
fn likeness(matrices: &[Matrix], format: &Format) -> Option<Vec<f64>> {
    let by_name: HashMap<&str, &Matrix> = matrices.iter().map(|matrix| (matrix.name, matrix)).collect();
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

/// The rank of each value among those of its run, from the middle one.
fn among_neighbours(values: &[f64]) -> Vec<f64> {
    let above = |value: f64, other: f64| f64::from(i8::from(value > other) - i8::from(value < other));
    let rank = |run: &[f64], value: f64| run.iter().map(|&other| above(value, other)).sum();
    values.chunks(RUN).flat_map(|run| run.iter().map(|&value| rank(run, value)).collect::<Vec<f64>>()).collect()
}

/// Zeros of a matrix, counted in some of its rows.
struct Zeros {
    /// The rows.
    sample: Vec<usize>,
    /// Zeros of each of these rows.
    rows: Vec<f64>,
    /// Zeros of each column, in these rows.
    cols: Vec<f64>,
}

impl Matrix<'_> {
    /// Counts about `n` weights. `None` when a code is not ternary.
    fn zeros(&self, format: &Format, tiles: Tiles, n: usize) -> Option<Zeros> {
        let [rows, cols] = self.shape;
        let place = Place { rows, cols, tiles };
        let (runs, most) = (rows.div_ceil(RUN), (n / cols / RUN).max(1));
        let mut zeros = Zeros { sample: Vec::new(), rows: Vec::new(), cols: vec![0.0; cols] };
        let mut codes = vec![0; cols];
        for run in (0..runs).step_by(runs.div_ceil(most)) {
            for row in (run * RUN..rows).take(RUN) {
                match format.packing() {
                    Some(packing) => _ = (packing.read)(&place, self.bytes, row, &mut codes),
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
    /// For each row and column, the square of how far its zeros are from the mean, in units of chance.
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
