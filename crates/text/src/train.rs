//! Training of byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909) by the tokenizers crate.

use crate::tokenizer::byte_alphabet::ALPHABET;
use crate::tokenizer::pre_tokenizer::splitter::Splitter;
use crate::tokenizer::pre_tokenizer::{GPT_2, PRE_TOKENIZERS};
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Trainer};

/// The tokenizers crate counts pairs in an `i32`.
const MAX_COUNT: u64 = i32::MAX as u64;

/// Options for training a tokenizer.
#[derive(Debug, Clone)]
pub struct BpeOptions {
    /// Maximum number of tokens: control tokens, 256 bytes, and merged tokens.
    pub vocab_size: usize,
    /// Minimum number of occurrences for a pair to be merged.
    pub min_frequency: u64,
    /// Names of the control tokens, with ids from 0. The first is BOS and EOS.
    pub control: Vec<String>,
}

impl Default for BpeOptions {
    fn default() -> Self {
        BpeOptions { vocab_size: 4096, min_frequency: 2, control: vec!["<|endoftext|>".to_owned()] }
    }
}

/// The contents of a tokenizer's files for Hugging Face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerJson {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`, which defines BOS and EOS, and that BOS is added before a text.
    pub config: String,
}

impl BpeOptions {
    /// Trains on `texts` with the pre-tokenizer of GPT-2. The result does not depend on their order.
    ///
    /// # Errors
    /// The first error of `texts`; and when the options are invalid, or there is no text, or too much of it to count.
    pub fn train<E: From<Error> + Send>(
        &self,
        texts: impl Iterator<Item = std::result::Result<String, E>> + Send,
    ) -> std::result::Result<TokenizerJson, E> {
        let pre = PRE_TOKENIZERS.iter().find(|pre| pre.patterns == [GPT_2]).expect("GPT-2 is in the registry");
        let splitter = Splitter::new(pre);
        self.check(&splitter)?;
        let special = |name: &String| AddedToken::from(name.clone(), true);
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(self.vocab_size)
            .min_frequency(self.min_frequency)
            .initial_alphabet(HashSet::from(ALPHABET))
            .special_tokens(self.control.iter().map(special).collect())
            .build();
        let mut failed = None;
        let texts = texts.map_while(|text| text.map_err(|error| failed = Some(error)).ok());
        // For each byte, the number of times another one follows it in a word: an upper bound of the counts of pairs.
        let lefts = [const { AtomicU64::new(0) }; 256];
        let fed = trainer.feed(texts, |text| {
            let (mut words, mut counts) = (Vec::new(), [0; 256]);
            splitter.split(text, &mut |word| {
                word.as_bytes().iter().skip(1).zip(word.bytes()).for_each(|(_, left)| counts[usize::from(left)] += 1);
                words.push(word.bytes().map(|byte| ALPHABET[usize::from(byte)]).collect());
            });
            for (sum, count) in lefts.iter().zip(counts) {
                sum.fetch_add(count, Relaxed);
            }
            Ok(words)
        });
        if let Some(error) = failed {
            return Err(error);
        }
        fed.map_err(library)?;
        let most = lefts.into_iter().map(AtomicU64::into_inner).max().unwrap_or(0);
        if most > MAX_COUNT {
            let problem = format!("expected texts in which no byte occurs more than {MAX_COUNT} times, found {most}");
            return Err(Error::Training(problem).into());
        }
        if trainer.get_word_count() == 0 {
            return Err(Error::Training("expected text, found none".to_owned()).into());
        }
        let mut model = BPE::default();
        let control = trainer.train(&mut model).map_err(library)?;
        Ok(self.json(model, control)?)
    }

    fn check(&self, splitter: &Splitter) -> Result<()> {
        let wrong = |problem| Err(Error::Training(problem));
        let min = self.control.len() + ALPHABET.len();
        if self.vocab_size < min || u32::try_from(self.vocab_size).is_err() {
            let expected = format!("a vocabulary of {min} (control tokens and 256 bytes) to {} tokens", u32::MAX);
            return wrong(format!("expected {expected}, found {}", self.vocab_size));
        }
        if self.control.is_empty() {
            return wrong("expected a control token for BOS and EOS, found none".to_owned());
        }
        let mut seen = HashSet::new();
        for name in &self.control {
            // Plain text could become a token whose name is one word.
            let mut words = 0;
            splitter.split(name, &mut |_| words += 1);
            if words < 2 || !seen.insert(name) {
                return wrong(format!(
                    "expected unique control tokens of more than one word, such as `<|name|>`, found `{name}`"
                ));
            }
        }
        Ok(())
    }

    fn json(&self, model: BPE, control: Vec<AddedToken>) -> Result<TokenizerJson> {
        let level = ByteLevel::new(false, true, true);
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(level)).with_decoder(Some(level));
        tokenizer.add_special_tokens(control).map_err(library)?;
        let config = serde_json::json!({
            "bos_token": self.control[0], "eos_token": self.control[0], "add_bos_token": true,
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
        Ok(TokenizerJson { tokenizer: tokenizer.to_string(true).map_err(library)?, config: format!("{config:#}") })
    }
}

fn library(error: tokenizers::Error) -> Error {
    Error::Training(error.to_string())
}
