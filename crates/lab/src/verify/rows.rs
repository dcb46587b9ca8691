//! One tensor: its hash, and its rows.

use super::Verification;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher as _};
use trine_model::Unpacker;
use trine_tensor::View;
use trine_tensor::receipt::Sha256;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// What was found of a tensor.
#[derive(Debug, Default)]
pub(super) struct TensorCheck {
    problems: Vec<String>,
    rows: usize,
    /// Rows of zeros, and rows that are the same as an earlier one.
    dead: Vec<usize>,
    same: Vec<(usize, usize)>,
}

/// Checks a tensor; `None` if `proceed`, which gets the bytes of each piece, breaks off.
pub(super) fn check(
    view: &View,
    expected: Option<&Sha256>,
    unpack: &Unpacker,
    proceed: &mut dyn FnMut(u64) -> bool,
) -> Option<TensorCheck> {
    let mut check = TensorCheck::default();
    if let Some(expected) = expected {
        let mut hash = Hasher::new();
        for piece in view.bytes.chunks(PIECE) {
            hash.update(piece);
            proceed(0).then_some(())?;
        }
        let found = Sha256(hash.finalize().into());
        if found != *expected {
            check.problems.push(format!("its SHA-256 is {found}, in the receipt {expected}"));
        }
    }
    match unpack.view(view) {
        Ok(Some(unpacked)) => check.rows(&unpacked.by_rows(), view.bytes.len() as u64, proceed)?,
        Ok(None) => proceed(view.bytes.len() as u64).then_some(())?,
        Err(error) => {
            check.problems.push(error.to_string());
            proceed(view.bytes.len() as u64).then_some(())?;
        }
    }
    Some(check)
}

impl TensorCheck {
    /// Checks the rows of a tensor that has `bytes` in its file.
    fn rows(&mut self, view: &View, bytes: u64, proceed: &mut dyn FnMut(u64) -> bool) -> Option<()> {
        if let Err(error) = view.check() {
            self.problems.push(error.cause().to_string());
        }
        self.rows = view.rows();
        let matrix = view.rows() > 1 && view.cols() > 1;
        let (mut weights, mut seen, mut told, mut finite) = (vec![0.0; view.cols()], HashMap::new(), 0, true);
        for i in 0..view.rows() {
            view.decode_row(i, &mut weights);
            if finite && weights.iter().fold(false, |bad, w| bad | !w.is_finite()) {
                let worst = weights.iter().find(|w| !w.is_finite()).unwrap_or(&f32::NAN);
                self.problems.push(format!("row {i}: expected finite weights, found {worst}"));
                finite = false;
            }
            if matrix && weights.iter().all(|w| *w == 0.0) {
                self.dead.push(i);
            } else if matrix {
                let mut hash = DefaultHasher::new();
                view.row(i).hash(&mut hash);
                let first = *seen.entry(hash.finish()).or_insert(i);
                if first != i && view.row(first) == view.row(i) {
                    self.same.push((i, first));
                }
            }
            let now = (bytes as u128 * (i + 1) as u128 / view.rows() as u128) as u64;
            proceed(now - told).then_some(())?;
            told = now;
        }
        Some(())
    }

    /// Tells what was found.
    pub fn report(self, name: &str, found: &mut Verification) {
        let place = format!("tensor {name:?}");
        self.problems.into_iter().for_each(|problem| found.fail(&*place, problem));
        let mut warn = |problem: String| {
            let place = place.clone();
            found.warnings.push(super::Flaw { place, problem });
        };
        if let [first, ..] = self.dead[..] {
            warn(format!("{} of {} rows are all zero, the first is row {first}", self.dead.len(), self.rows));
        }
        if let [(row, first), ..] = self.same[..] {
            let count = self.same.len();
            warn(format!(
                "{count} of {} rows are the same as an earlier one, the first are rows {first} and {row}",
                self.rows
            ));
        }
    }
}
