use crate::{Error, Result};
use std::borrow::Cow;

/// What a model file says about its vocabulary (GGUF `tokenizer.ggml.*`), before it is checked.
#[derive(Debug, Clone, Default)]
pub struct Vocab<'a> {
    /// `model`: `llama` (SentencePiece's BPE), `t5` (its Unigram), `gpt2` (byte-level BPE), `gemma4` or `bert` (WordPiece).
    pub model: &'a str,
    /// `pre`: how a byte-level BPE splits text into words; one of [`crate::PRE_TOKENIZERS`].
    pub pre: Option<&'a str>,
    /// `tokens`: the spelling of every token.
    pub tokens: Vec<&'a str>,
    /// `scores`: one for each token, for SentencePiece: the higher the sooner it is merged, or its logarithmic probability.
    pub scores: Cow<'a, [f32]>,
    /// `token_type`: one for each token (see [`Kind`]), or empty when the file has none.
    pub types: Cow<'a, [i32]>,
    /// `merges`: pairs of spellings with a space between, the first merged first; empty where nothing is merged by rank.
    pub merges: Vec<&'a str>,
    /// `bos_token_id`: begins a text.
    pub bos: Option<u32>,
    /// `eos_token_id`: ends a text.
    pub eos: Option<u32>,
    /// `eot_token_id`: ends a turn of a chat.
    pub eot: Option<u32>,
    /// `seperator_token_id` (GGUF spells it so): ends a text of a WordPiece model.
    pub sep: Option<u32>,
    /// `mask_token_id`: stands for a word that is to be guessed.
    pub mask: Option<u32>,
    /// `unknown_token_id`: stands for what the vocabulary cannot spell.
    pub unk: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `add_bos_token`: whether [`crate::Encode::bos_eos`] puts BOS in front; the tokenizer's own rule when absent.
    pub add_bos: Option<bool>,
    /// `add_eos_token`: whether [`crate::Encode::bos_eos`] puts EOS at the end; no when absent.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: whether SentencePiece puts a space before a text; when absent, its BPE does, its Unigram does not.
    pub add_space_prefix: Option<bool>,
    /// `normalizer.lowercase`: whether WordPiece makes capitals small; yes when absent.
    pub lowercase: Option<bool>,
    /// `normalizer.strip_accents`: whether WordPiece takes accents away; as `lowercase` when absent.
    pub strip_accents: Option<bool>,
    /// What SentencePiece does to a text first.
    pub normalization: Normalization<'a>,
}

/// What SentencePiece does to a text before it looks for tokens.
#[derive(Debug, Clone, Default)]
pub struct Normalization<'a> {
    /// `precompiled_charsmap`: what characters are rewritten to, as SentencePiece compiles it; empty for nothing.
    pub charsmap: Cow<'a, [u8]>,
    /// `remove_extra_whitespaces`: whether spaces at both ends go away, and all but one of each run; no when absent.
    pub remove_extra_whitespaces: bool,
    /// Whether a text is rewritten whole, user-defined tokens in it kept: so SentencePiece does it with a file of its own. Otherwise those
    /// are taken out first and what lies between are texts of their own, as llama.cpp does it with a GGUF file.
    pub whole: bool,
}

/// What a token is for: GGUF's `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1: text.
    Normal,
    /// 2: stands for what the vocabulary cannot spell.
    Unknown,
    /// 3: steers the model and is no text, like BOS.
    Control,
    /// 4: text that is one token wherever it is written.
    UserDefined,
    /// 5: text that training did not use.
    Unused,
    /// 6: one byte, written `<0x0A>`.
    Byte,
}

impl Kind {
    /// Its number in `tokenizer.ggml.token_type`.
    pub(crate) fn token_type(self) -> i32 {
        match self {
            Kind::Normal => 1,
            Kind::Unknown => 2,
            Kind::Control => 3,
            Kind::UserDefined => 4,
            Kind::Unused => 5,
            Kind::Byte => 6,
        }
    }

    /// Whether the token stands for text, which decoding shows.
    pub(crate) fn is_text(self) -> bool {
        !matches!(self, Kind::Unknown | Kind::Control)
    }

    /// Whether the token may come out of plain text: the others are not to be had by spelling their names.
    pub(crate) fn is_spelled(self) -> bool {
        matches!(self, Kind::Normal | Kind::UserDefined | Kind::Unused)
    }
}

impl Vocab<'_> {
    /// The kinds of all tokens, once the lengths of the arrays and the ids of the special tokens are right.
    pub(crate) fn check(&self) -> Result<Vec<Kind>> {
        let len = self.tokens.len();
        if len == 0 || u32::try_from(len).is_err() {
            return Err(Error::Length { key: "tokenizer.ggml.tokens", expected: 1, found: len });
        }
        for (key, found) in
            [("tokenizer.ggml.scores", self.scores.len()), ("tokenizer.ggml.token_type", self.types.len())]
        {
            if found != 0 && found != len {
                return Err(Error::Length { key, expected: len, found });
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
                return Err(Error::BeyondVocabulary { key, id, len });
            }
        }
        (0..len).map(|id| self.kind(id)).collect()
    }

    /// The first token of this name.
    pub(crate) fn named(&self, name: &str) -> Option<u32> {
        self.tokens.iter().position(|token| *token == name).map(|id| id as u32)
    }

    fn kind(&self, id: usize) -> Result<Kind> {
        let name = self.tokens[id];
        let wrong = |problem| Error::Token { id, name: name.to_owned(), problem };
        match self.types.get(id) {
            None if byte(name).is_some() => Ok(Kind::Byte),
            None | Some(0 | 1) => Ok(Kind::Normal),
            Some(2) => Ok(Kind::Unknown),
            Some(3) => Ok(Kind::Control),
            Some(4) => Ok(Kind::UserDefined),
            Some(5) => Ok(Kind::Unused),
            Some(6) if byte(name).is_some() => Ok(Kind::Byte),
            Some(6) => Err(wrong("expected a byte written like `<0x0A>`".to_owned())),
            Some(kind) => Err(wrong(format!("expected a token_type from 0 to 6, found {kind}"))),
        }
    }
}

/// The byte that `<0x0A>` stands for.
pub(crate) fn byte(name: &str) -> Option<u8> {
    let hex = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(hex, 16).ok())?
}

/// Whether there is a token for every byte that occurs in UTF-8.
pub(crate) fn spells_utf8(tokens: &[Option<u32>; 256]) -> bool {
    (0u8..=255).zip(tokens).all(|(byte, token)| token.is_some() || matches!(byte, 0xC0 | 0xC1 | 0xF5..))
}
