//! Importance matrices: how large the inputs of each column of a matrix are, so that quantizing keeps the columns that matter.
//!
//! [`collect`] runs a text and adds up the squares of all inputs, as llama.cpp's `llama-imatrix` does; [`Imatrix::write`] and
//! [`Imatrix::read`] exchange the files of both its formats with it.

mod collect;
mod gguf;
mod legacy;

pub(crate) use collect::stored_name;
pub use collect::{ImatrixOptions, collect};

use std::collections::BTreeMap;
use std::path::Path;
use trine_tensor::{Error as FileError, TensorInfo};

/// Why an importance matrix cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// A forward pass failed, or there is no room for the cache.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// A file cannot be read or written, or is malformed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text has too few tokens for one chunk.
    #[error("expected a text of at least {context} tokens, which is one chunk, found {tokens}")]
    TooShort { context: usize, tokens: usize },
    /// A context that the model does not have.
    #[error("chunks of {found} tokens: expected 1 to {most}, the context of the model")]
    Context { found: usize, most: usize },
    /// A sum of squares is NaN or infinite.
    #[error("tensor `{tensor}`: expected finite inputs, found {found}")]
    NotFinite { tensor: String, found: f32 },
    /// The importance matrix of a matrix has another number of columns.
    #[error(
        "tensor `{tensor}` has {expected} columns, and {found} in the importance matrix: it is that of another model"
    )]
    Columns { tensor: String, expected: usize, found: usize },
    /// No name is that of a tensor of the model.
    #[error("no tensor has an entry in the importance matrix, which has `{entry}`: it is that of another model")]
    Other { entry: String },
    /// All inputs were 0, or nothing was measured.
    #[error("expected an importance matrix with numbers above 0, found zeros alone")]
    Zero,
    /// Two files to be added up do not fit each other.
    #[error("tensor `{tensor}`: importance matrices of {first} and {second} numbers cannot be added")]
    Merge { tensor: String, first: usize, second: usize },
}

/// Sums of the squares of the inputs of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `[parts, cols]`: the parts are experts, or heads that have an input each; else there is one.
    pub sums: Vec<f32>,
    /// Inputs of each part, or of all alike.
    pub counts: Vec<f32>,
}

impl Entry {
    /// The mean squares, `[parts, cols]`; 1 for a part that had no input, of which nothing is known.
    pub fn importance(&self) -> Vec<f32> {
        let cols = self.sums.len() / self.counts.len().max(1);
        let parts = self.sums.chunks(cols.max(1)).zip(&self.counts);
        parts
            .flat_map(|(sums, &count)| sums.iter().map(move |sum| if count > 0.0 { sum / count } else { 1.0 }))
            .collect()
    }
}

/// The importance matrices of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// By the names of tensors.
    pub entries: BTreeMap<String, Entry>,
    /// Chunks of text that were run, and tokens of each; zero where a file does not say it.
    pub chunks: usize,
    pub chunk_size: usize,
    /// The names of the texts.
    pub datasets: Vec<String>,
}

/// The formats of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImatrixFormat {
    #[default]
    Gguf,
    /// What llama.cpp wrote before: means instead of sums, and a single count for all experts.
    Dat,
}

impl Imatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// When it cannot be read, is malformed, or a number is not finite or below zero.
    pub fn read(path: &Path) -> Result<Imatrix, Error> {
        let imatrix = match gguf::is(path)? {
            true => gguf::read(path)?,
            false => legacy::read(path)?,
        };
        for (tensor, entry) in &imatrix.entries {
            for (numbers, what) in [(&entry.sums, "sums of squares"), (&entry.counts, "counts of inputs")] {
                if let Some(found) = numbers.iter().find(|number| !(number.is_finite() && **number >= 0.0)) {
                    return Err(malformed(path, tensor, &format!("finite {what} from 0 up"), found));
                }
            }
        }
        Ok(imatrix)
    }

    /// Writes a file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, format: ImatrixFormat) -> Result<(), Error> {
        match format {
            ImatrixFormat::Gguf => gguf::write(self, path),
            ImatrixFormat::Dat => legacy::write(self, path),
        }
    }

    /// Adds what another one has, as if both texts had been run together.
    ///
    /// # Errors
    /// When an entry has another number of columns or parts.
    pub fn add(&mut self, other: Imatrix) -> Result<(), Error> {
        for (tensor, entry) in other.entries {
            let Some(own) = self.entries.get_mut(&tensor) else {
                self.entries.insert(tensor, entry);
                continue;
            };
            if (own.sums.len(), own.counts.len()) != (entry.sums.len(), entry.counts.len()) {
                return Err(Error::Merge { tensor, first: own.sums.len(), second: entry.sums.len() });
            }
            own.sums.iter_mut().zip(entry.sums).for_each(|(sum, more)| *sum += more);
            own.counts.iter_mut().zip(entry.counts).for_each(|(count, more)| *count += more);
        }
        self.chunks += other.chunks;
        self.datasets.extend(other.datasets);
        Ok(())
    }

    /// Checks that this belongs to a model with these tensors. What the entries say little about comes back as warnings.
    ///
    /// # Errors
    /// When all sums are zero, an entry has another number of columns than its tensor, or no tensor has an entry.
    pub fn check<'a>(&self, tensors: impl Iterator<Item = &'a TensorInfo>) -> Result<Vec<String>, Error> {
        let (mut warnings, mut known) = (Vec::new(), 0);
        if !self.entries.values().any(|entry| entry.sums.iter().any(|&sum| sum > 0.0)) {
            return Err(Error::Zero);
        }
        for info in tensors {
            let Some(entry) = self.entries.get(&info.name) else { continue };
            known += 1;
            let cols = info.shape.last().copied().unwrap_or(1);
            let parts = info.shape.iter().rev().skip(2).product::<usize>();
            let found = entry.sums.len();
            if found != cols && found != parts * cols {
                return Err(Error::Columns { tensor: info.name.clone(), expected: cols, found });
            }
            let unused = entry.counts.iter().filter(|&&count| count == 0.0).count();
            if unused > 0 {
                let parts = entry.counts.len();
                warnings.push(format!("tensor `{}`: {unused} of {parts} experts were never used", info.name));
            }
            let width = entry.sums.len() / entry.counts.len();
            let used = entry.sums.chunks(width).zip(&entry.counts).filter(|(_, count)| **count > 0.0);
            let dead = used.flat_map(|(sums, _)| sums).filter(|&&sum| sum == 0.0).count();
            if dead > 0 {
                warnings.push(format!("tensor `{}`: {dead} of {} columns had no input but 0", info.name, found));
            }
        }
        match self.entries.keys().next() {
            Some(entry) if known == 0 => Err(Error::Other { entry: entry.clone() }),
            _ if known < self.entries.len() => {
                let others = self.entries.len() - known;
                warnings.push(format!(
                    "{others} entries of the importance matrix are of tensors that the model does not have"
                ));
                Ok(warnings)
            }
            _ => Ok(warnings),
        }
    }
}

fn malformed(path: &Path, place: &str, expected: &str, found: impl ToString) -> Error {
    let (place, expected) = (format!("entry `{place}`"), expected.to_owned());
    Error::File(FileError::Malformed { place, expected, found: found.to_string() }.at(path))
}
