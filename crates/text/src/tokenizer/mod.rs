//! Tokenizers: the vocabulary, its algorithm, and what is added around a text.

pub(crate) mod bpe;
pub(crate) mod byte_alphabet;
pub(crate) mod charsmap;
pub(crate) mod encoder;
pub(crate) mod eog;
pub(crate) mod hf;
pub(crate) mod markers;
mod merger;
pub(crate) mod normalizer;
pub(crate) mod pre_tokenizer;
pub(crate) mod special;
pub(crate) mod spm;
pub(crate) mod token_table;
mod unigram;
pub(crate) mod vocab;
mod word_cache;
pub(crate) mod wordpiece;

use crate::{Error, Rendered, Result, Templates};
use bpe::Bpe;
use encoder::Encoder;
use eog::eog_tokens;
use markers::Markers;
use pre_tokenizer::{PRE_TOKENIZERS, PreTokenizer};
use special::Parse;
use spm::Spm;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use token_table::TokenTable;
use vocab::{TokenType, Vocab};

/// Options for [`Tokenizer::encode`]; the default is plain text without BOS and EOS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether names of control tokens in the text, such as `<|im_end|>`, become these tokens. Do not use it for untrusted text; of a
    /// chat, [`Tokenizer::encode_chat`] encodes what the template wrote so, and what others wrote as plain text.
    pub parse_special: bool,
    /// Whether BOS and EOS are added, as the model requires.
    pub add_special: bool,
}

/// Converts text to tokens and back.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) encoder: Box<dyn Encoder>,
    pub(crate) tokens: TokenTable,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    /// The tokens that end generation.
    pub(crate) eog: BTreeSet<u32>,
    /// What `EncodeOptions::add_special` adds before a text.
    pub(crate) prefix: Vec<u32>,
    /// What `EncodeOptions::add_special` adds after a text.
    pub(crate) suffix: Vec<u32>,
    pub(crate) templates: Templates,
    pub(crate) warnings: Vec<String>,
    /// Found when a chat is first rendered.
    pub(crate) markers: OnceLock<Markers>,
}

impl Tokenizer {
    /// Creates a tokenizer from the vocabulary of a GGUF file. Problems that do not prevent its use are in
    /// [`Tokenizer::warnings`].
    ///
    /// # Errors
    /// When the vocabulary is malformed, or its algorithm is unknown.
    pub fn new(mut vocab: Vocab) -> Result<Tokenizer> {
        let algorithm = TOKENIZERS.iter().find(|algorithm| algorithm.model == vocab.model).ok_or_else(|| {
            let known: Vec<_> = TOKENIZERS.iter().map(|algorithm| algorithm.model).collect();
            Error::unknown_name("tokenizer.ggml.model", &known, vocab.model)
        })?;
        (algorithm.set_defaults)(&mut vocab);
        let mut token_types = vocab.check()?;
        let mut warnings = Vec::new();
        let declared = [vocab.eos, vocab.eot, vocab.bos].into_iter().flatten().chain(vocab.eog.iter().copied());
        let eog = eog_tokens(&vocab.tokens, &mut token_types, declared, &mut warnings);
        let metaspace = vocab.pre.and_then(PreTokenizer::find).is_some_and(|pre| pre.metaspace);
        let piece = if metaspace { Spm::piece } else { algorithm.piece };
        let tokens = TokenTable::new(&vocab.tokens, token_types, piece);
        if tokens.duplicates() > 0 {
            let n = tokens.duplicates();
            warnings.push(format!("{n} tokens have the same name as an earlier one, which is used"));
        }
        let LoadedEncoder { encoder, add_bos, add_eos } = (algorithm.load)(&vocab, &tokens, &mut warnings)?;
        let mut around = |add: bool, id: Option<u32>, name: &str| {
            if add && id.is_none() {
                warnings.push(format!("{name} should be added to texts, but the file does not define this token"));
            }
            id.filter(|_| add).into_iter().collect()
        };
        Ok(Tokenizer {
            prefix: around(vocab.add_bos.unwrap_or(add_bos), vocab.bos, "BOS"),
            suffix: around(vocab.add_eos.unwrap_or(add_eos), vocab.eos, "EOS"),
            encoder,
            tokens,
            bos: vocab.bos,
            eos: vocab.eos,
            eog,
            templates: Templates::default(),
            warnings,
            markers: OnceLock::new(),
        })
    }

    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if options.add_special {
            ids.extend(&self.prefix);
        }
        self.encoder.encode(&self.tokens, text, Parse { control: options.parse_special, breaks: &[] }, &mut ids);
        if options.add_special {
            ids.extend(&self.suffix);
        }
        ids
    }

    /// Encodes a chat that [`Template::render_chat`](crate::Template::render_chat) rendered for this tokenizer, without BOS and EOS. Names of
    /// control tokens become these tokens where the template wrote them; in messages, tools and variables they are plain text.
    pub fn encode_chat(&self, chat: &Rendered) -> Vec<u32> {
        let mut ids = Vec::with_capacity(chat.text.len() / 3);
        self.encoder.encode(&self.tokens, &chat.text, Parse { control: true, breaks: &chat.breaks }, &mut ids);
        ids
    }

    /// The names that are no plain text.
    pub(crate) fn markers(&self) -> &Markers {
        self.markers.get_or_init(|| Markers::new(&self.tokens))
    }

    /// The bytes of a token, which may be part of a UTF-8 character; for a control token, its name.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.tokens.pieces.get(id)
    }

    /// The name of a token in the vocabulary, such as `Ġthe`.
    pub fn name(&self, id: u32) -> Option<&str> {
        str::from_utf8(self.tokens.names.get(id)?).ok()
    }

    /// The token with this name in the vocabulary.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.tokens.id(name.as_bytes())
    }

    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.tokens.token_types.get(id as usize).copied()
    }

    /// The number of tokens. A model's embedding matrix may have more rows.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary has tokens")]
    pub fn len(&self) -> usize {
        self.tokens.token_types.len()
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Makes more tokens end generation. They may be beyond the vocabulary, as rows of an embedding are.
    pub fn end_at(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.eog.extend(ids);
    }

    /// Whether a token ends generation: EOS, end of turn, tokens of well-known names such as `<|im_end|>`, and BOS.
    pub fn is_eog(&self, id: u32) -> bool {
        self.eog.contains(&id)
    }

    /// All tokens that end generation.
    pub fn eog_tokens(&self) -> impl Iterator<Item = u32> {
        self.eog.iter().copied()
    }

    /// Whether a token controls the model and is not text.
    pub fn is_control(&self, id: u32) -> bool {
        self.token_type(id) == Some(TokenType::Control)
    }

    /// The tokens that [`EncodeOptions::add_special`] adds before a text.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// Whether BOS is one of them: by `add_bos_token`, or else the post-processor of `tokenizer.json`, or else the
    /// default of the GGUF tokenizer model. A chat template may write BOS too; then do not add it twice.
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some_and(|bos| self.prefix.contains(&bos))
    }

    /// The model's chat templates: those of `tokenizer_config.json`, or of [`Tokenizer::set_templates`].
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// Sets the chat templates, which files have in other places, too, as GGUF in the key `tokenizer.chat_template`.
    pub fn set_templates(&mut self, templates: Templates) {
        self.templates = templates;
    }

    /// Assumptions about missing or wrong data in the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn space_prefix(&self) -> bool {
        self.encoder.space_prefix()
    }
}

/// An algorithm that a GGUF file may name.
struct Algorithm {
    /// The value of `tokenizer.ggml.model`.
    model: &'static str,
    load: fn(&Vocab, &TokenTable, &mut Vec<String>) -> Result<LoadedEncoder>,
    /// Appends the bytes of the token with this name.
    piece: fn(&str, TokenType, &mut Vec<u8>),
    /// Sets values that files may omit.
    set_defaults: fn(&mut Vocab),
}

struct LoadedEncoder {
    encoder: Box<dyn Encoder>,
    /// Whether BOS is added, unless the file says otherwise.
    add_bos: bool,
    /// Whether EOS is added, unless the file says otherwise.
    add_eos: bool,
}

/// All values of `tokenizer.ggml.model`. To add one, implement [`Encoder`] in a file beside this one, and add a row here.
static TOKENIZERS: &[Algorithm] = &[
    Algorithm { model: "llama", load: load_spm, piece: Spm::piece, set_defaults: |_| {} },
    Algorithm {
        model: "t5",
        load: load_unigram,
        piece: Spm::piece,
        set_defaults: |vocab| vocab.eos = vocab.eos.or_else(|| vocab.named("</s>")),
    },
    Algorithm {
        model: "bert",
        load: load_wordpiece,
        piece: wordpiece::gguf,
        set_defaults: |vocab| {
            vocab.bos = vocab.bos.or_else(|| vocab.named("[CLS]"));
            vocab.eos = vocab.sep.or_else(|| vocab.named("[SEP]"));
        },
    },
    Algorithm { model: "gpt2", load: load_bpe, piece: Bpe::piece, set_defaults: |_| {} },
    Algorithm { model: "gemma4", load: load_bpe, piece: Spm::piece, set_defaults: |vocab| vocab.pre = Some("gemma4") },
];

fn load_spm(vocab: &Vocab, tokens: &TokenTable, warnings: &mut Vec<String>) -> Result<LoadedEncoder> {
    Ok(LoadedEncoder { encoder: Spm::bpe(vocab, tokens, warnings)?, add_bos: true, add_eos: false })
}

fn load_unigram(vocab: &Vocab, tokens: &TokenTable, warnings: &mut Vec<String>) -> Result<LoadedEncoder> {
    Ok(LoadedEncoder { encoder: Spm::unigram(vocab, tokens, warnings)?, add_bos: false, add_eos: true })
}

fn load_wordpiece(vocab: &Vocab, tokens: &TokenTable, _: &mut Vec<String>) -> Result<LoadedEncoder> {
    Ok(LoadedEncoder { encoder: wordpiece::load(vocab, tokens)?, add_bos: true, add_eos: true })
}

fn load_bpe(vocab: &Vocab, tokens: &TokenTable, warnings: &mut Vec<String>) -> Result<LoadedEncoder> {
    let name = vocab.pre.filter(|pre| !pre.is_empty()).unwrap_or_else(|| {
        let (name, evidence) = PreTokenizer::guess(&vocab.tokens);
        warnings.push(format!("tokenizer.ggml.pre is missing: `{name}` is assumed, because {evidence}"));
        name
    });
    let pre = PreTokenizer::find(name).ok_or_else(|| {
        let known: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect();
        Error::unknown_name("tokenizer.ggml.pre", &known, name)
    })?;
    Ok(LoadedEncoder { encoder: Bpe::load(vocab, tokens, pre, warnings)?, add_bos: pre.add_bos, add_eos: false })
}
