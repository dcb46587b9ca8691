//! Documents to tokens, by way of a cache on disk.

use super::cache;
use super::documents::Documents;
use super::tokens::Corpus;
use crate::config::DataConfig;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use trine_tensor::Metadata;
use trine_text::Tokenizer;

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
