//! Tokenized documents.

use super::cache;
use super::documents::Documents;
use super::tokenize::Document;
use crate::config::DataConfig;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use trine_tensor::{Bytes, Metadata};
use trine_text::Tokenizer;

/// The tokens of all documents.
#[derive(Debug)]
pub struct Corpus {
    pub train: TokenizedDocuments,
    /// The held-out documents.
    pub validation: TokenizedDocuments,
}

impl Corpus {
    /// Tokenizes the documents of `data`, each as `[BOS] tokens [EOS]` if the tokenizer has those. `metadata` has the keys of `tokenizer`.
    ///
    /// The tokens are cached in a file in the folder `cache`, whose name is a hash of the texts, the tokenizer and the settings; a damaged file is
    /// written again. The result does not depend on `threads`. Memory grows by 16 bytes per document.
    ///
    /// `progress` gets the number of bytes read and of all: files are read once to hash them, and once more if they are not in the cache.
    ///
    /// # Errors
    /// When a text cannot be read or is not UTF-8, or there is no document; [`Error::Cancelled`] when `progress` breaks.
    pub fn open(
        data: &DataConfig,
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

/// The tokens of documents.
#[derive(Debug, Clone)]
pub struct TokenizedDocuments {
    /// Ids of these and other documents, in two or four bytes each.
    ids: Bytes,
    wide: bool,
    /// For each document, the index of its first id, its tokens, and the bytes of its text.
    documents: Vec<(u64, u32, u32)>,
}

impl TokenizedDocuments {
    pub(super) fn new(ids: Bytes, wide: bool) -> TokenizedDocuments {
        TokenizedDocuments { ids, wide, documents: Vec::new() }
    }

    pub(super) fn push(&mut self, start: u64, document: Document) {
        self.documents.push((start, document.tokens, document.bytes));
    }

    /// The number of documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

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

    /// The number of tokens of a document.
    ///
    /// # Panics
    /// When there is no such document, as below.
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

/// `len` ids in `bytes`, from index `start` on.
pub(super) fn ids(bytes: &[u8], wide: bool, start: usize, len: usize) -> impl ExactSizeIterator<Item = u32> {
    let size = if wide { 4 } else { 2 };
    bytes[start * size..(start + len) * size].chunks_exact(size).map(|id| match *id {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => u32::from(u16::from_le_bytes([id[0], id[1]])),
    })
}
