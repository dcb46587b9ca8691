//! A tokenizer learned from text: byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909), trained by the library that defines its files.

use crate::bytes::ALPHABET;
use crate::pre::{GPT_2, PRE_TOKENIZERS};
use crate::split::Splitter;
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Trainer};

/// The library counts pairs in 32 bits.
const MOST: u64 = i32::MAX as u64;

/// What a tokenizer is to become.
#[derive(Debug, Clone)]
pub struct BpeOptions {
    /// Tokens: the control tokens, the 256 bytes, and what merging adds, which a short text may leave incomplete.
    pub vocab_size: usize,
    /// How often a pair must occur to be merged.
    pub min_frequency: u64,
    /// Names of the control tokens, whose ids are 0, 1, ...; the first begins and ends a text.
    pub control: Vec<String>,
}

impl Default for BpeOptions {
    fn default() -> Self {
        BpeOptions { vocab_size: 4096, min_frequency: 2, control: vec!["<|endoftext|>".to_owned()] }
    }
}

/// A tokenizer in the files of Hugging Face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerJson {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`: BOS, EOS, and that BOS goes in front of a text.
    pub config: String,
}

impl BpeOptions {
    /// Trains on `texts`, which are split into words as GPT-2 does it. The result does not depend on their order.
    ///
    /// # Errors
    /// The first error among `texts`; options that cannot be; texts without a word, or too many for the counts of the library.
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
        // How often each byte has another behind it in a word, which no pair of tokens exceeds that has it in its middle.
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
        if most > MOST {
            let problem = format!("expected texts in which no byte occurs more than {MOST} times, found {most}");
            return Err(Error::Training { problem }.into());
        }
        if trainer.get_word_count() == 0 {
            return Err(Error::Training { problem: "expected text, found none".to_owned() }.into());
        }
        let mut model = BPE::default();
        let control = trainer.train(&mut model).map_err(library)?;
        Ok(self.json(model, control)?)
    }

    fn check(&self, splitter: &Splitter) -> Result<()> {
        let wrong = |problem| Err(Error::Training { problem });
        let least = self.control.len() + ALPHABET.len();
        if self.vocab_size < least || u32::try_from(self.vocab_size).is_err() {
            let what = "the control tokens and the 256 bytes";
            return wrong(format!("expected a vocabulary of at least {least}, {what}, found {}", self.vocab_size));
        }
        if self.control.is_empty() {
            return wrong("expected a control token that begins and ends a text, found none".to_owned());
        }
        let mut seen = HashSet::new();
        for name in &self.control {
            // A name that the trainer could merge would come out of plain text.
            let mut words = 0;
            splitter.split(name, &mut |_| words += 1);
            if words < 2 || !seen.insert(name) {
                return wrong(format!(
                    "expected control tokens that are no words of plain text and all different, such as `<|name|>`, found `{name}`"
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
    Error::Training { problem: error.to_string() }
}
