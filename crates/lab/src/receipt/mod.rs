//! Receipts of files: what they were made of, by which recipe, how good they are, and who says so.
//!
//! The keys and their hashes are those of [`trine_tensor::receipt`]; here are what goes into them, signatures, and the short form for people.

mod key;
mod sources;
mod summary;

pub use key::{PublicKey, SigningKey};
pub(crate) use sources::{hash_together, source_files};
pub use summary::ReceiptSummary;

use crate::quantize::Recipe;
use std::path::{Path, PathBuf};
use trine_model::GgufModel;
use trine_tensor::receipt::{Seal, Sha256, SourceFile};
use trine_tensor::{Error as FileError, Receipt};

/// Why a receipt cannot be made or checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key for signatures cannot be used.
    #[error("{path}: expected {expected}, found {found}")]
    Key { path: String, expected: &'static str, found: String },
}

/// What is known of a new file before it is written.
#[derive(Clone, Debug)]
pub struct Provenance<'a> {
    pub recipe: &'a Recipe,
    /// The file of the recipe's importance matrix.
    pub imatrix: Option<&'a Path>,
    /// Where the tokenizer is from, if not from the model.
    pub tokenizer: Option<&'a Path>,
    pub sign: Option<&'a SigningKey>,
}

impl Provenance<'_> {
    /// The files that go into the new one.
    pub(crate) fn files(&self, model: &GgufModel) -> Vec<PathBuf> {
        let others = self.imatrix.iter().chain(&self.tokenizer);
        let mut files = source_files(model.file());
        others.flat_map(|path| sources::beside(path)).for_each(|path| {
            if !files.contains(&path) {
                files.push(path);
            }
        });
        files
    }

    /// The receipt of a new file, whose hashes are not known yet.
    pub(crate) fn receipt(&self, model: &GgufModel, files: &[PathBuf]) -> Receipt {
        let source = |path: &PathBuf| SourceFile { name: sources::name(path), sha256: Sha256::default() };
        let [imatrix, tokenizer] = [self.imatrix, self.tokenizer].map(|path| path.map(sources::name));
        Receipt {
            tool: tool(),
            sources: files.iter().map(source).collect(),
            source_receipt: Seal::of(model.file().metadata()).ok().map(|seal| seal.sha256),
            recipe: self.recipe.to_json(imatrix, tokenizer).to_string(),
            ..Receipt::default()
        }
    }
}

/// This program, as receipts name it.
pub fn tool() -> String {
    format!("trine {}", env!("CARGO_PKG_VERSION"))
}

/// Writes a measurement to the receipt of a file, in place of an earlier one of the same kind, reference and text. A new receipt needs a new
/// signature.
///
/// # Errors
/// When the file has no receipt, or cannot be read or written.
pub fn record(path: &Path, measurement: &serde_json::Value, sign: Option<&SigningKey>) -> Result<(), Error> {
    const SAME: [&str; 3] = ["measure", "reference", "text"];
    let signer = sign.map(SigningKey::signer);
    let change = |receipt: &mut Receipt| {
        receipt.measurements.retain(|old| {
            let old: serde_json::Value = serde_json::from_str(old).unwrap_or_default();
            SAME.iter().any(|key| old[key] != measurement[key])
        });
        receipt.measurements.push(measurement.to_string());
    };
    Ok(trine_tensor::receipt::update_receipt(path, signer.as_deref(), change)?)
}
