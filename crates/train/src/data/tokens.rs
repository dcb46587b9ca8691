use super::cache;
use super::documents::Documents;
use super::tokenize::Document;
use crate::config::Data;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use trine_tensor::{Bytes, Metadata};
use trine_text::Tokenizer;

/// The tokens of all documents, in two parts.
#[derive(Debug)]
pub struct Corpus {
    /// What is learned from.
    pub train: Tokens,
    /// What is kept to see how well that goes.
    pub validation: Tokens,
}

impl Corpus {
    /// The tokens of the documents of `data`, each as `[BOS] tokens [EOS]`, whichever the tokenizer has. `metadata` is what a model file
    /// says of `tokenizer`. They are kept in the folder `cache`, under a name that depends on all that they depend on, and taken from there
    /// the next time; a damaged file is made again. Neither memory nor the result depend on the number of documents or `threads`, but for 16
    /// bytes for each document.
    ///
    /// `progress` is told how many bytes were read, and of how many: all files are read once to know them, and once more when they are
    /// not in the cache.
    ///
    /// # Errors
    /// Texts that cannot be read, or are no text; no document at all; [`Error::Cancelled`] when `progress` says so.
    pub fn open(
        data: &Data,
        tokenizer: &Tokenizer,
        metadata: &Metadata,
        cache: &Path,
        threads: usize,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Corpus> {
        if !(0.0..1.0).contains(&data.validation) {
            let (key, expected) = ("data.validation".to_owned(), "a share of at least 0 and less than 1".to_owned());
            return Err(Error::Config { key, expected, found: data.validation.to_string() });
        }
        let documents = Documents::open(&data.files, &data.separator, &data.field)?;
        let size = documents.size();
        let mut progress = |done: u64| match progress(done, 2 * size) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        };
        let key = cache::key(data, metadata, &mut progress)?;
        let path = cache.join(format!("tokens-{}.gguf", &key[..16]));
        if path.exists()
            && let Ok(corpus) = cache::load(&path, &key, tokenizer.len())
        {
            return Ok(corpus);
        }
        let mut progress = |done: u64| progress(size + done);
        cache::write(&path, &key, documents, tokenizer, data.validation, threads.max(1), &mut progress)?;
        cache::load(&path, &key, tokenizer.len())
    }
}

/// Documents as tokens.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Of this and other documents: two or four bytes each.
    ids: Bytes,
    wide: bool,
    /// Where each document begins among the ids, its tokens, and the bytes of its text.
    documents: Vec<(u64, u32, u32)>,
}

impl Tokens {
    pub(super) fn new(ids: Bytes, wide: bool) -> Tokens {
        Tokens { ids, wide, documents: Vec::new() }
    }

    pub(super) fn push(&mut self, start: u64, document: Document) {
        self.documents.push((start, document.tokens, document.bytes));
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.documents.iter().map(|document| u64::from(document.1)).sum()
    }

    /// Bytes of the text of all documents.
    pub fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| u64::from(document.2)).sum()
    }

    /// Tokens of a document.
    ///
    /// # Panics
    /// When there are not so many documents, as below.
    pub fn document_len(&self, document: usize) -> usize {
        self.documents[document].1 as usize
    }

    /// Bytes of the text of a document.
    pub fn document_bytes(&self, document: usize) -> u64 {
        u64::from(self.documents[document].2)
    }

    /// The tokens of a document.
    pub fn document(&self, document: usize) -> impl ExactSizeIterator<Item = u32> {
        let (start, tokens, _) = self.documents[document];
        ids(&self.ids, self.wide, start as usize, tokens as usize)
    }
}

/// Some of the ids in `bytes`.
pub(super) fn ids(bytes: &[u8], wide: bool, start: usize, len: usize) -> impl ExactSizeIterator<Item = u32> {
    let size = if wide { 4 } else { 2 };
    bytes[start * size..(start + len) * size].chunks_exact(size).map(|id| match *id {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => u32::from(u16::from_le_bytes([id[0], id[1]])),
    })
}
