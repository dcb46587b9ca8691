//! The vocabulary of a model, in the terms of GGUF.

use crate::{Error, Result};
use std::borrow::Cow;

/// The vocabulary of a GGUF file (the keys `tokenizer.ggml.*`), not yet checked.
#[derive(Debug, Clone, Default)]
pub struct Vocab<'a> {
    /// `model`: `llama` (BPE of SentencePiece), `t5` (Unigram of SentencePiece), `gpt2` (byte-level BPE), `gemma4` or `bert` (WordPiece).
    pub model: &'a str,
    /// `pre`: the pre-tokenizer of byte-level BPE, a name in [`crate::PRE_TOKENIZERS`].
    pub pre: Option<&'a str>,
    /// `tokens`: the name of every token.
    pub tokens: Vec<&'a str>,
    /// `scores`: one per token, for SentencePiece: the priority of its merge (BPE), or its log-probability (Unigram).
    pub scores: Cow<'a, [f32]>,
    /// `token_type`: one per token (see [`TokenType`]), or empty if the file has none.
    pub token_types: Cow<'a, [i32]>,
    /// `merges`: pairs of names, separated by a space, by descending priority; empty if the algorithm has no merges.
    pub merges: Vec<&'a str>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: the end of a message in a chat.
    pub eot: Option<u32>,
    /// Other tokens that end generation: `eom_token_id`, `fim_pad_token_id`, `fim_rep_token_id` and `fim_sep_token_id`, as in llama.cpp.
    pub eog: Vec<u32>,
    /// `seperator_token_id` (sic): the end of a text in WordPiece models.
    pub sep: Option<u32>,
    /// `mask_token_id`: a masked word, which the model predicts.
    pub mask: Option<u32>,
    /// `unknown_token_id`: text that the vocabulary cannot represent.
    pub unk: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `add_bos_token`: whether [`crate::EncodeOptions::add_special`] adds BOS. The default depends on the algorithm.
    pub add_bos: Option<bool>,
    /// `add_eos_token`: whether [`crate::EncodeOptions::add_special`] adds EOS. The default depends on the algorithm.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: whether SentencePiece adds a space before a text. By default, BPE does and Unigram does not.
    pub add_space_prefix: Option<bool>,
    /// `normalizer.lowercase`: whether WordPiece converts text to lower case; true by default.
    pub lowercase: Option<bool>,
    /// `normalizer.strip_accents`: whether WordPiece removes accents; by default the same as `lowercase`.
    pub strip_accents: Option<bool>,
    pub normalization: Normalization<'a>,
}

/// The normalization rules of SentencePiece, and NFC of byte-level BPE.
#[derive(Debug, Clone, Default)]
pub struct Normalization<'a> {
    /// `precompiled_charsmap`: compiled rules that replace characters; empty for none.
    pub charsmap: Cow<'a, [u8]>,
    /// `remove_extra_whitespaces`: whether spaces at both ends, and all but one of each run, are removed.
    pub remove_extra_whitespaces: bool,
    /// The number of tokens of SentencePiece. A text is normalized as a whole, except for those of them that are user-defined. The text
    /// between later ones, and between all of them if this is 0, is normalized in separate parts, as llama.cpp does.
    pub pieces: usize,
    /// Whether the space of `add_space_prefix` is added to a text only, and not also to what follows a control token in it: `"legacy": false`
    /// of `tokenizer_config.json`. GGUF has no key for it.
    pub prefix_once: bool,
    /// Whether Unigram treats spaces as `Metaspace` of `tokenizer.json` does, which is not SentencePiece: no space is added before one, and where
    /// runs of spaces become one, those at both ends do, too, and are not removed. GGUF has no key for it.
    pub metaspace: bool,
    /// Whether byte-level BPE begins with Unicode's normalization form C. GGUF has no key for it.
    pub nfc: bool,
}

/// The purpose of a token: GGUF's `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// 1: normal text.
    Normal,
    /// 2: text that the vocabulary cannot represent.
    Unknown,
    /// 3: controls the model and is not text, such as BOS.
    Control,
    /// 4: text that is one token wherever it occurs.
    UserDefined,
    /// 5: text that does not occur in the training data.
    Unused,
    /// 6: a single byte, named like `<0x0A>`.
    Byte,
}

impl TokenType {
    /// The number in `tokenizer.ggml.token_type`.
    pub(crate) fn number(self) -> i32 {
        match self {
            TokenType::Normal => 1,
            TokenType::Unknown => 2,
            TokenType::Control => 3,
            TokenType::UserDefined => 4,
            TokenType::Unused => 5,
            TokenType::Byte => 6,
        }
    }

    /// Whether decoding includes the token.
    pub(crate) fn is_text(self) -> bool {
        !matches!(self, TokenType::Unknown | TokenType::Control)
    }

    /// Whether plain text may become this token.
    pub(crate) fn is_spelled(self) -> bool {
        matches!(self, TokenType::Normal | TokenType::UserDefined | TokenType::Unused)
    }
}

impl Vocab<'_> {
    /// Checks the lengths of the arrays and the ids of special tokens, and returns the types of all tokens.
    pub(crate) fn check(&self) -> Result<Vec<TokenType>> {
        let len = self.tokens.len();
        if len == 0 || u32::try_from(len).is_err() {
            return Err(Error::vocabulary(
                "tokenizer.ggml.tokens",
                format!("expected 1 to {} tokens, found {len}", u32::MAX),
            ));
        }
        for (key, found) in
            [("tokenizer.ggml.scores", self.scores.len()), ("tokenizer.ggml.token_type", self.token_types.len())]
        {
            if found != 0 && found != len {
                return Err(Error::length(key, len, found));
            }
        }
        for (key, id) in [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.seperator_token_id", self.sep),
            ("tokenizer.ggml.mask_token_id", self.mask),
            ("tokenizer.ggml.unknown_token_id", self.unk),
            ("tokenizer.ggml.padding_token_id", self.pad),
        ] {
            if let Some(id) = id.filter(|&id| id as usize >= len) {
                let problem = format!("expected an id below {len}, the size of the vocabulary, found {id}");
                return Err(Error::vocabulary(key, problem));
            }
        }
        (0..len).map(|id| self.token_type(id)).collect()
    }

    /// The first token of this name.
    pub(crate) fn named(&self, name: &str) -> Option<u32> {
        self.tokens.iter().position(|token| *token == name).map(|id| id as u32)
    }

    fn token_type(&self, id: usize) -> Result<TokenType> {
        let name = self.tokens[id];
        let wrong = |problem: String| Error::token(id, name, problem);
        match self.token_types.get(id) {
            None if byte(name).is_some() => Ok(TokenType::Byte),
            None | Some(0 | 1) => Ok(TokenType::Normal),
            Some(2) => Ok(TokenType::Unknown),
            Some(3) => Ok(TokenType::Control),
            Some(4) => Ok(TokenType::UserDefined),
            Some(5) => Ok(TokenType::Unused),
            Some(6) if byte(name).is_some() => Ok(TokenType::Byte),
            Some(6) => Err(wrong("expected a name like `<0x0A>`".to_owned())),
            Some(kind) => Err(wrong(format!("expected a token_type from 0 to 6, found {kind}"))),
        }
    }
}

/// The byte of a name like `<0x0A>`.
pub(crate) fn byte(name: &str) -> Option<u8> {
    let hex = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(hex, 16).ok())?
}

/// Whether there is a token for every byte that occurs in UTF-8.
pub(crate) fn covers_utf8(tokens: &[Option<u32>; 256]) -> bool {
    (0u8..=255).zip(tokens).all(|(byte, token)| token.is_some() || matches!(byte, 0xC0 | 0xC1 | 0xF5..))
}
