//! Strings to tokens and back: tokenizers, chat templates, the streaming decoder.
//!
//! A [`Tokenizer`] is made of a [`Vocab`] (what a GGUF file says) or of a `tokenizer.json`; a [`Stream`] turns
//! tokens into text as they are generated; a [`Template`] turns the messages of a chat into one prompt. [`BpeOptions::train`] learns a
//! tokenizer from text.

mod bpe;
mod byte_level;
mod bytes;
mod charsmap;
mod config;
mod error;
mod growth;
mod hub;
mod merge;
mod normalize;
mod of_json;
mod owned;
mod pre;
mod sentencepiece;
mod special;
mod split;
mod spm;
mod stream;
mod template;
mod tiktoken;
mod tokenizer;
mod tokens;
mod train;
mod unigram;
mod vocab;
mod wordpiece;
mod words;

pub use error::{Error, Result};
pub use owned::OwnedVocab;
pub use pre::PRE_TOKENIZERS;
pub use stream::Stream;
pub use template::{Message, Template};
pub use tokenizer::{Encode, Tokenizer};
pub use train::{BpeOptions, TokenizerJson};
pub use vocab::{Kind, Normalization, Vocab};
