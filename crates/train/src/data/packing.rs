use super::Tokens;
use crate::{Error, Result};
use fastrand::Rng;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// Documents, one behind the other, cut into rows. A document of `n` tokens is `n - 1` pairs of a token and the one that is to follow it;
/// pieces of several documents share a row, and a document may go on in the next row, which does not see the piece before.
///
/// A row depends on its number alone, so that training goes on where it stopped when the number is known.
#[derive(Debug)]
pub struct Packing {
    tokens: Tokens,
    sequence: usize,
    /// Of the order of documents; `None` for that in which they are.
    seed: Option<u64>,
    rows: u64,
    /// The epoch that was last asked for.
    epoch: Mutex<Arc<Epoch>>,
}

/// The order of documents in one pass through them.
#[derive(Debug)]
struct Epoch {
    number: u64,
    documents: Vec<u32>,
    /// Pairs up to the end of each document, in this order.
    ends: Vec<u64>,
}

/// Pairs that are computed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// What the model sees.
    pub inputs: Vec<u32>,
    /// What it should say behind each.
    pub targets: Vec<u32>,
    /// Lengths of the pieces. Attention does not look across them, and positions begin at 0 in each.
    pub spans: Vec<usize>,
    /// Where each piece is from.
    pub origins: Vec<Origin>,
    /// Bytes of the text of the documents that end in this row: over all rows, of all documents that have a pair.
    pub bytes: u64,
}

/// Where a piece is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The document, of [`Tokens`].
    pub document: usize,
    /// Where among its tokens the first input is.
    pub offset: usize,
}

impl Packing {
    /// Rows of exactly `sequence` pairs without end: in each epoch documents are in another order, which depends on `seed`, and what is left
    /// after the last whole row is dropped.
    ///
    /// # Errors
    /// When there is not one row.
    pub fn shuffled(tokens: Tokens, sequence: usize, seed: u64) -> Result<Packing> {
        let packing = Packing::new(tokens, sequence, Some(seed))?;
        if packing.rows == 0 {
            let expected = format!("documents of more than {sequence} tokens in all, the sequence");
            let found = format!("{} tokens in {} documents", packing.tokens.tokens(), packing.tokens.len());
            return Err(Error::Config { key: "data.files".to_owned(), expected, found });
        }
        Ok(packing)
    }

    /// One pass through the documents in their order, whose last row may be shorter.
    ///
    /// # Errors
    /// When `sequence` is 0.
    pub fn in_order(tokens: Tokens, sequence: usize) -> Result<Packing> {
        Packing::new(tokens, sequence, None)
    }

    fn new(tokens: Tokens, sequence: usize, seed: Option<u64>) -> Result<Packing> {
        if sequence == 0 {
            let (key, expected) = ("train.sequence".to_owned(), "at least 1".to_owned());
            return Err(Error::Config { key, expected, found: "0".to_owned() });
        }
        let epoch = Epoch::new(&tokens, seed, 0);
        let pairs = epoch.pairs();
        let rows = if seed.is_some() { pairs / sequence as u64 } else { pairs.div_ceil(sequence as u64) };
        Ok(Packing { tokens, sequence, seed, rows, epoch: Mutex::new(Arc::new(epoch)) })
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The documents.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// A row, counted from the first epoch on. It is cheap to jump around within an epoch.
    ///
    /// # Panics
    /// When the documents are in their order and have not so many rows.
    pub fn row(&self, index: u64) -> Row {
        let epoch = match self.seed {
            Some(_) => self.epoch(index / self.rows),
            None => {
                assert!(index < self.rows, "row {index} of {}", self.rows);
                self.epoch(0)
            }
        };
        let begin = index % self.rows * self.sequence as u64;
        let end = (begin + self.sequence as u64).min(epoch.pairs());
        let mut row = Row::default();
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
    fn new(tokens: &Tokens, seed: Option<u64>, number: u64) -> Epoch {
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

    /// Pairs of all documents.
    fn pairs(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// Pairs of a document.
fn pairs(tokens: &Tokens, document: usize) -> u64 {
    tokens.document_len(document).saturating_sub(1) as u64
}
