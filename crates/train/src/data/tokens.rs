//! Tokenized documents.

use super::tokenize::{Document, Unspelled};
use trine_tensor::Bytes;
use trine_text::Tokenizer;

/// The tokens of all documents.
#[derive(Debug)]
pub struct Corpus {
    pub train: TokenizedDocuments,
    /// The held-out documents.
    pub validation: TokenizedDocuments,
    /// What the vocabulary cannot spell.
    pub unspelled: Unspelled,
    /// A hash of all that the tokens depend on: texts, tokenizer and settings.
    pub key: String,
}

impl Corpus {
    /// Holds out the end of the last document where no document is held out: this share of all tokens, if that leaves more than `least` for
    /// training. Returns the number of tokens.
    pub fn hold_out_tail(&mut self, share: f64, least: usize, tokenizer: &Tokenizer) -> Option<usize> {
        let tokens = ((share * self.train.tokens() as f64) as usize).max(2);
        let last = self.train.len().checked_sub(1).filter(|_| share > 0.0 && self.validation.is_empty())?;
        let rest = self.train.document_len(last).checked_sub(tokens).filter(|&rest| rest > least)?;
        let tail: Vec<u32> = self.train.document(last).skip(rest).collect();
        let bytes = tokenizer.decode(&tail).len() as u32;
        let (start, _, all) = self.train.documents[last];
        self.train.documents[last] = (start, rest as u32, all.saturating_sub(bytes));
        self.validation.documents.push((start + rest as u64, tokens as u32, bytes));
        // Who continues an older run would see other rows.
        self.key.push_str("-tail");
        Some(tokens)
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
