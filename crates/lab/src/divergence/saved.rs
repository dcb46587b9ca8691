//! Files of probabilities, as `llama-perplexity --kl-divergence-base` writes and reads them.
//!
//! Numbers are little-endian. `_logits_`, then 32-bit integers: tokens of a chunk, tokens of the vocabulary, chunks, and all tokens of the
//! text. For each prediction follow a float32 step, the float32 logarithm of the smallest probability that is told apart, and for each token
//! of the vocabulary a 16-bit number of steps above that; one more where the vocabulary is odd. The smallest is at most e^-16 times the
//! largest: what is less likely counts as that.

use super::{Chunks, Error};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use trine_tensor::{Error as FileError, Replacement};
use trine_text::Tokenizer;

const MAGIC: &[u8; 8] = b"_logits_";
/// Bytes before the tokens.
const HEADER: usize = 20;
/// Logits this far below the highest are not told apart.
const RANGE: f32 = 16.0;

/// The probabilities that a model gave, from a file, of which one chunk is in memory at a time.
#[derive(Debug)]
pub struct SavedLogits {
    file: BufReader<File>,
    path: PathBuf,
    context: usize,
    vocab: usize,
    ids: Vec<u32>,
}

impl SavedLogits {
    /// Whether a file begins as one of these.
    pub fn is(path: &Path) -> bool {
        let mut start = [0; 8];
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        is_file && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == MAGIC
    }

    /// Opens a file and checks that it is as long as its header says.
    ///
    /// # Errors
    /// When it cannot be read, or is malformed.
    pub fn open(path: &Path) -> Result<SavedLogits, Error> {
        let read = || {
            let file = File::open(path)?;
            let (len, mut file, mut header) = (file.metadata()?.len(), BufReader::new(file), [0; HEADER]);
            if len >= HEADER as u64 {
                file.read_exact(&mut header)?;
            }
            Ok((len, file, header))
        };
        let (len, mut file, header) = read().map_err(|error| located(error, path))?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes")) as usize;
        let (context, vocab, chunks) = (number(8), number(12), number(16));
        if len < HEADER as u64 {
            return Err(malformed(path, format!("a header of {HEADER} bytes"), format!("{len} bytes")));
        }
        if !header.starts_with(MAGIC) || context < 4 || vocab == 0 || chunks == 0 {
            let expected = "`_logits_`, a context of at least 4 tokens, a vocabulary, and a chunk";
            let found = format!("a context of {context}, a vocabulary of {vocab}, {chunks} chunks");
            return Err(malformed(path, expected.to_owned(), found));
        }
        let tokens = chunks.checked_mul(context).filter(|tokens| tokens.checked_mul(4).is_some());
        let rows = chunks.checked_mul(scored(context)).and_then(|rows| rows.checked_mul(stride(vocab)));
        let size = tokens.zip(rows).and_then(|(tokens, rows)| (HEADER + 4 * tokens).checked_add(rows));
        if size.is_none_or(|size| size as u64 != len) {
            let expected =
                size.map_or("a file of fewer chunks".to_owned(), |size| format!("{size} bytes for its chunks"));
            return Err(malformed(path, expected, format!("{len} bytes")));
        }
        // The file has so many bytes.
        let mut bytes = vec![0; 4 * tokens.expect("the size is known")];
        file.read_exact(&mut bytes).map_err(|error| located(error, path))?;
        let ids: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(malformed(path, format!("tokens below {vocab}"), id.to_string()));
        }
        Ok(SavedLogits { file, path: path.to_owned(), context, vocab, ids })
    }

    /// Tokens of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// The text that the probabilities are about, as the model of this tokenizer reads it; at most `most` chunks.
    ///
    /// # Errors
    /// When there is no chunk.
    pub fn chunks(&self, tokenizer: &Tokenizer, most: usize) -> Result<Chunks, Error> {
        Chunks::of_ids(tokenizer, self.ids.clone(), self.context, most)
    }

    /// The predictions of a chunk.
    pub(super) fn chunk(&mut self, chunk: usize) -> Result<SavedChunk, Error> {
        let size = scored(self.context) * stride(self.vocab);
        let at = HEADER + 4 * self.ids.len() + chunk * size;
        let mut bytes = vec![0; size];
        let read = self.file.seek(SeekFrom::Start(at as u64)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|error| located(error, &self.path))?;
        let steps = bytes.chunks_exact(stride(self.vocab)).map(|row| [float(row, 0), float(row, 4)]);
        if let Some(found) = steps.flatten().find(|number| !number.is_finite()) {
            return Err(malformed(&self.path, format!("finite numbers in chunk {chunk}"), found.to_string()));
        }
        Ok(SavedChunk { bytes, vocab: self.vocab })
    }
}

/// The predictions of a chunk as they stand in the file.
pub(super) struct SavedChunk {
    bytes: Vec<u8>,
    vocab: usize,
}

impl SavedChunk {
    /// Logarithms of the probabilities of a prediction.
    pub fn log_probabilities(&self, row: usize, out: &mut Vec<f64>) {
        let row = &self.bytes[row * stride(self.vocab)..][..stride(self.vocab)];
        let [step, least] = [float(row, 0), float(row, 4)];
        out.clear();
        let steps = row[8..].as_chunks::<2>().0.iter().take(self.vocab);
        out.extend(steps.map(|steps| f64::from(step * f32::from(u16::from_le_bytes(*steps)) + least)));
    }
}

fn float(row: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(row[at..at + 4].try_into().expect("4 bytes"))
}

fn located(error: io::Error, path: &Path) -> Error {
    Error::File(FileError::Io(error).at(path))
}

fn malformed(path: &Path, expected: String, found: String) -> Error {
    let place = "the saved logits".to_owned();
    Error::File(FileError::Malformed { place, expected, found }.at(path))
}

/// Predictions of a chunk.
fn scored(context: usize) -> usize {
    context - 1 - context / 2
}

/// Bytes of a prediction.
fn stride(vocab: usize) -> usize {
    8 + 2 * vocab.next_multiple_of(2)
}

/// Writes a file atomically. `logits` gives those of each chunk, `[scored, vocab]`.
///
/// # Errors
/// When the file cannot be written, or `logits` fails.
pub fn save(
    path: &Path,
    chunks: &Chunks,
    vocab: usize,
    mut logits: impl FnMut(usize) -> Result<Vec<f32>, Error>,
) -> Result<(), Error> {
    let located = |error: io::Error| Error::File(FileError::Write(error).at(path));
    let mut file = Replacement::new(path).map_err(located)?;
    let numbers = [chunks.context(), vocab, chunks.len()].map(|n| n as u32);
    let header: Vec<u8> = numbers.iter().chain(chunks.ids()).flat_map(|number| number.to_le_bytes()).collect();
    file.write_all(MAGIC).and_then(|()| file.write_all(&header)).map_err(located)?;
    let mut row = Vec::with_capacity(stride(vocab));
    for chunk in 0..chunks.len() {
        for logits in logits(chunk)?.chunks_exact(vocab) {
            encode(logits, &mut row);
            file.write_all(&row).map_err(located)?;
        }
    }
    file.finish().map_err(located)
}

/// A prediction as it stands in the file.
fn encode(logits: &[f32], row: &mut Vec<u8>) {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
    let least = logits.iter().fold(f32::INFINITY, |least, &logit| least.min(logit)).max(most - RANGE);
    let total: f64 = logits.iter().map(|&logit| f64::from(libm::expf(logit - most))).sum();
    let log_total = libm::log(total) as f32;
    let step = (most - least) / 65535.0;
    row.clear();
    row.extend_from_slice(&step.to_le_bytes());
    row.extend_from_slice(&(least - most - log_total).to_le_bytes());
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for &logit in logits {
        let steps = if logit > least { (inverse * (logit - least)).round_ties_even() as u16 } else { 0 };
        row.extend_from_slice(&steps.to_le_bytes());
    }
    row.resize(stride(logits.len()), 0);
}
