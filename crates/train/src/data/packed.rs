//! Packs documents into rows of equal length.

use super::TokenizedDocuments;
use crate::{Error, Result};
use fastrand::Rng;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// Concatenated documents, split into rows. A document of `n` tokens has `n - 1` pairs of an input and a target token. Pieces of several documents
/// share a row, and a document may continue in the next row, which cannot attend to the piece before.
///
/// A row depends on its index alone, so that training can resume anywhere.
#[derive(Debug)]
pub struct PackedDataset {
    tokens: TokenizedDocuments,
    sequence: usize,
    /// Seeds the order of documents; `None` for their own order.
    seed: Option<u64>,
    rows: u64,
    /// The last epoch that was used.
    epoch: Mutex<Arc<Epoch>>,
}

/// The order of documents in one pass through them.
#[derive(Debug)]
struct Epoch {
    number: u64,
    documents: Vec<u32>,
    /// RopeLayout up to the end of each document, in this order.
    ends: Vec<u64>,
}

/// A sequence for training.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedRow {
    pub inputs: Vec<u32>,
    /// The next token for each input.
    pub targets: Vec<u32>,
    /// Lengths of the pieces. Attention stays inside a piece, and positions start at 0 in each.
    pub spans: Vec<usize>,
    pub origins: Vec<Origin>,
    /// Bytes of text of the documents that end in this row.
    pub bytes: u64,
}

/// The source of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The index of the document in [`TokenizedDocuments`].
    pub document: usize,
    /// The index of the first input in its tokens.
    pub offset: usize,
}

impl PackedDataset {
    /// Infinitely many rows of exactly `sequence` pairs. Each epoch shuffles the documents anew, by `seed`, and drops the rest after the last whole row.
    ///
    /// # Errors
    /// When there is less than one row.
    pub fn shuffled(tokens: TokenizedDocuments, sequence: usize, seed: u64) -> Result<PackedDataset> {
        let packing = PackedDataset::new(tokens, sequence, Some(seed))?;
        if packing.rows == 0 {
            let expected = format!("documents of more than {sequence} tokens in all, `train.sequence`");
            let found = format!("{} tokens in {} documents", packing.tokens.tokens(), packing.tokens.len());
            return Err(Error::Config { key: "data.files".to_owned(), expected, found });
        }
        Ok(packing)
    }

    /// One pass through the documents in order. The last row may be shorter.
    ///
    /// # Errors
    /// When `sequence` is 0.
    pub fn in_order(tokens: TokenizedDocuments, sequence: usize) -> Result<PackedDataset> {
        PackedDataset::new(tokens, sequence, None)
    }

    fn new(tokens: TokenizedDocuments, sequence: usize, seed: Option<u64>) -> Result<PackedDataset> {
        if sequence == 0 {
            let (key, expected) = ("train.sequence".to_owned(), "at least 1".to_owned());
            return Err(Error::Config { key, expected, found: "0".to_owned() });
        }
        let epoch = Epoch::new(&tokens, seed, 0);
        let pairs = epoch.pairs();
        let rows = if seed.is_some() { pairs / sequence as u64 } else { pairs.div_ceil(sequence as u64) };
        Ok(PackedDataset { tokens, sequence, seed, rows, epoch: Mutex::new(Arc::new(epoch)) })
    }

    /// Rows per epoch.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn tokens(&self) -> &TokenizedDocuments {
        &self.tokens
    }

    /// The row at an index, which counts from the first epoch on. Random access is cheap within an epoch.
    ///
    /// # Panics
    /// When the dataset has one pass, and fewer rows.
    pub fn row(&self, index: u64) -> PackedRow {
        let epoch = match self.seed {
            Some(_) => self.epoch(index / self.rows),
            None => {
                assert!(index < self.rows, "row {index} of {}", self.rows);
                self.epoch(0)
            }
        };
        let begin = index % self.rows * self.sequence as u64;
        let end = (begin + self.sequence as u64).min(epoch.pairs());
        let mut row = PackedRow::default();
        let mut at = begin;
        for next in epoch.ends.partition_point(|&end| end <= begin).. {
            if at == end {
                break;
            }
            let document = epoch.documents[next] as usize;
            let pairs = pairs(&self.tokens, document);
            let offset = (at + pairs - epoch.ends[next]) as usize;
            let span = (epoch.ends[next].min(end) - at) as usize;
            if span == 0 {
                continue;
            }
            let mut ids = self.tokens.document(document).skip(offset).take(span + 1).peekable();
            while let (Some(input), Some(&target)) = (ids.next(), ids.peek()) {
                row.inputs.push(input);
                row.targets.push(target);
            }
            row.spans.push(span);
            row.origins.push(Origin { document, offset });
            at += span as u64;
            if at == epoch.ends[next] {
                row.bytes += self.tokens.document_bytes(document);
            }
        }
        row
    }

    fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch.number != number {
            *epoch = Arc::new(Epoch::new(&self.tokens, self.seed, number));
        }
        epoch.clone()
    }
}

impl Epoch {
    fn new(tokens: &TokenizedDocuments, seed: Option<u64>, number: u64) -> Epoch {
        let mut documents: Vec<u32> = (0..tokens.len() as u32).collect();
        if let Some(seed) = seed {
            let hash: [u8; 32] =
                Sha256::new().chain_update(seed.to_le_bytes()).chain_update(number.to_le_bytes()).finalize().into();
            let [a, b, c, d, e, f, g, h, ..] = hash;
            Rng::with_seed(u64::from_le_bytes([a, b, c, d, e, f, g, h])).shuffle(&mut documents);
        }
        let mut end = 0;
        let ends = documents.iter().map(|&document| {
            end += pairs(tokens, document as usize);
            end
        });
        Epoch { number, ends: ends.collect(), documents }
    }

    /// RopeLayout of all documents.
    fn pairs(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// RopeLayout of a document.
fn pairs(tokens: &TokenizedDocuments, document: usize) -> u64 {
    tokens.document_len(document).saturating_sub(1) as u64
}
