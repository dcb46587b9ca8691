//! Strings to tokens and back: tokenizers, chat templates, and decoding as tokens are generated.
//!
//! A language model reads and writes numbers, its tokens. Models differ in how text becomes tokens, and a single wrong token makes a model
//! answer worse without any error. This crate therefore reads the vocabulary of every common file, runs the algorithms that the files name,
//! and is tested against the libraries that define them. It does not know tensors or models.
//!
//! - [`Tokenizer`] encodes and decodes. It is created from a [`Vocab`] (the keys of a GGUF file), a `tokenizer.json`
//!   ([`Tokenizer::from_json`]), or a `tokenizer.model` of SentencePiece or tiktoken ([`Tokenizer::from_model`]).
//! - [`DecodeStream`] decodes one token at a time and returns only complete characters.
//! - [`Template`] renders the messages of a chat to one prompt, with the Jinja templates of Hugging Face; [`Rendered`] keeps the template's
//!   control tokens apart from what messages say.
//! - [`ChatFormat`] knows how a model writes thinking and tool calls, and [`ChatParser`] takes an answer apart.
//! - [`BpeOptions::train`] trains a tokenizer on text.
//!
//! ```
//! use trine_text::{BpeOptions, DecodeStream, EncodeOptions, Tokenizer};
//!
//! let options = BpeOptions { vocab_size: 300, ..BpeOptions::default() };
//! let texts = ["the cat sat on the mat", "the dog sat on the log"];
//! let json = options.train(texts.into_iter().map(|text| Ok::<_, trine_text::Error>(text.to_owned())))?;
//! let tokenizer = Tokenizer::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes()))?;
//!
//! let ids = tokenizer.encode("the cat ☃", EncodeOptions { add_special: true, ..EncodeOptions::default() });
//! assert_eq!(ids[0], tokenizer.bos().unwrap());
//! assert_eq!(tokenizer.decode(&ids), "the cat ☃");
//!
//! let (mut stream, mut text) = (DecodeStream::new(&tokenizer), String::new());
//! for id in ids {
//!     text += stream.push(&tokenizer, id);
//! }
//! text += stream.finish();
//! assert_eq!(text, "the cat ☃");
//! # Ok::<(), trine_text::Error>(())
//! ```

mod chat_format;
mod error;
mod files;
mod rendered;
mod stream;
mod template;
mod tokenizer;
mod train;

pub use chat_format::{
    Arguments, CONTENT_FORMATS, ChatFormat, ChatParser, ContentFormat, Delta, Kinds, Part, REASONING_FORMATS,
    ReasoningFormat, TOOL_FORMATS, Tags, Tool, ToolFormat,
};
pub use error::{Error, Result};
pub use files::hf::added::complete_config;
pub use files::vocab::OwnedVocab;
pub use rendered::Rendered;
pub use stream::DecodeStream;
pub use template::{Message, Template, Templates};
pub use tokenizer::pre_tokenizer::PRE_TOKENIZERS;
pub use tokenizer::vocab::{Normalization, TokenType, Vocab};
pub use tokenizer::{EncodeOptions, Tokenizer};
pub use train::{BpeOptions, TokenizerJson};
