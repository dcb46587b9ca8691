use crate::bpe::Bpe;
use crate::pre::{PRE_TOKENIZERS, Pre};
use crate::special::{ENDS, NOT_ENDS};
use crate::spm::Spm;
use crate::tokens::Tokens;
use crate::{Error, Kind, Result, Stream, Vocab, wordpiece};
use hashbrown::HashSet;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// How a text becomes tokens: what the kinds of tokenizers differ in.
pub(crate) trait Model: Debug + Send + Sync {
    /// Appends the tokens of `text`, of a vocabulary of these `tokens`; with `special`, the names of control tokens in it become these tokens.
    fn encode(&self, tokens: &Tokens, text: &str, special: bool, ids: &mut Vec<u32>);

    /// Whether encoding puts a space before a text, which decoding then takes away.
    fn space_prefix(&self) -> bool;
}

/// What [`Tokenizer::encode`] does beyond splitting plain text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encode {
    /// Whether control tokens written in the text (`<|im_end|>`) become these tokens: so for prompts and rendered chats, not for
    /// text that a stranger wrote.
    pub special: bool,
    /// Whether BOS goes in front and EOS behind, by the model's rule.
    pub bos_eos: bool,
}

/// Strings to tokens and back.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) model: Box<dyn Model>,
    pub(crate) tokens: Tokens,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) ends: BTreeSet<u32>,
    /// What `Encode::bos_eos` puts in front of a text.
    pub(crate) prefix: Vec<u32>,
    /// What `Encode::bos_eos` puts behind a text.
    pub(crate) suffix: Vec<u32>,
    pub(crate) chat_template: Option<String>,
    pub(crate) warnings: Vec<String>,
}

impl Tokenizer {
    /// Checks a vocabulary and makes it ready. Errors name the metadata key and what is wrong there; what can be
    /// lived with is in [`Tokenizer::warnings`].
    pub fn new(mut vocab: Vocab) -> Result<Tokenizer> {
        let row = TOKENIZERS.iter().find(|row| row.model == vocab.model).ok_or_else(|| Error::UnknownModel {
            found: vocab.model.to_owned(),
            known: TOKENIZERS.iter().map(|row| row.model).collect::<Vec<_>>().join(", "),
        })?;
        (row.complete)(&mut vocab);
        let mut kinds = vocab.check()?;
        let mut warnings = Vec::new();
        let ends = ends(&vocab.tokens, &mut kinds, [vocab.eos, vocab.eot, vocab.bos], &mut warnings);
        let plain = vocab.pre.and_then(Pre::find).is_some_and(|pre| pre.plain);
        let tokens = Tokens::new(&vocab.tokens, kinds, if plain { Spm::piece } else { row.piece });
        if tokens.duplicates() > 0 {
            warnings
                .push(format!("{} tokens are spelled like another; the first of each is used", tokens.duplicates()));
        }
        let Loaded { model, add_bos, add_eos } = (row.load)(&vocab, &tokens, &mut warnings)?;
        let mut around = |add: bool, id: Option<u32>, name: &str| {
            if add && id.is_none() {
                warnings.push(format!("a text should get {name}, but the file does not say which token that is"));
            }
            id.filter(|_| add).into_iter().collect()
        };
        Ok(Tokenizer {
            prefix: around(vocab.add_bos.unwrap_or(add_bos), vocab.bos, "BOS"),
            suffix: around(vocab.add_eos.unwrap_or(add_eos), vocab.eos, "EOS"),
            model,
            tokens,
            bos: vocab.bos,
            eos: vocab.eos,
            ends,
            chat_template: None,
            warnings,
        })
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, options: Encode) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if options.bos_eos {
            ids.extend(&self.prefix);
        }
        self.model.encode(&self.tokens, text, options.special, &mut ids);
        if options.bos_eos {
            ids.extend(&self.suffix);
        }
        ids
    }

    /// The text of tokens. Control and unknown tokens are no text; bytes that are no UTF-8 become U+FFFD, ids beyond
    /// the vocabulary nothing, and the space that encoding puts in front is taken away.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_by(Stream::new(self), ids)
    }

    /// As [`Tokenizer::decode`], with the names of control tokens.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.decode_by(Stream::with_special(self), ids)
    }

    fn decode_by(&self, mut stream: Stream, ids: &[u32]) -> String {
        let mut text = String::with_capacity(ids.len() * 4);
        for &id in ids {
            text.push_str(stream.push(self, id));
        }
        text.push_str(stream.finish());
        text
    }

    /// The bytes of a token, which need not be whole UTF-8; of a control token, its name.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.tokens.pieces.get(id)
    }

    /// The vocabulary's own spelling of a token.
    pub fn name(&self, id: u32) -> Option<&str> {
        str::from_utf8(self.tokens.names.get(id)?).ok()
    }

    /// The token that the vocabulary spells like this.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.tokens.id(name.as_bytes())
    }

    /// What a token is for.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.tokens.kinds.get(id as usize).copied()
    }

    /// The number of tokens. A model's embedding may have more rows.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary has tokens")]
    pub fn len(&self) -> usize {
        self.tokens.kinds.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether generation ends at this token: EOS, the end of a turn, the tokens well known to be one of them, and BOS, behind which
    /// another text begins.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// Every token at which generation ends.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        self.ends.iter().copied()
    }

    /// Whether a token steers the model and is no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.kind(id) == Some(Kind::Control)
    }

    /// Whether [`Encode::bos_eos`] puts BOS in front: so if `add_bos_token` says it, or else the post-processor of `tokenizer.json`, or
    /// what is usual for the kind of tokenizer in GGUF. That there is a BOS says nothing. A chat template may write it too: then do not
    /// ask for both.
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some_and(|bos| self.prefix.contains(&bos))
    }

    /// The chat template that came with the tokenizer (`tokenizer_config.json`); a GGUF file keeps it elsewhere.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// What was assumed or overridden because the file does not say or cannot be right.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn space_prefix(&self) -> bool {
        self.model.space_prefix()
    }
}

/// A kind of tokenizer that a GGUF file may name.
struct Row {
    model: &'static str,
    load: fn(&Vocab, &Tokens, &mut Vec<String>) -> Result<Loaded>,
    /// Appends the bytes that a spelling stands for.
    piece: fn(&str, Kind, &mut Vec<u8>),
    /// Fills in what files of this kind may leave out.
    complete: fn(&mut Vocab),
}

/// What a kind of tokenizer makes of a vocabulary.
struct Loaded {
    model: Box<dyn Model>,
    /// Whether BOS goes in front when the file does not say.
    add_bos: bool,
    /// Whether EOS goes behind when the file does not say.
    add_eos: bool,
}

/// Every kind of tokenizer that a GGUF file may name.
static TOKENIZERS: &[Row] = &[
    Row { model: "llama", load: load_spm, piece: Spm::piece, complete: |_| {} },
    Row {
        model: "t5",
        load: load_unigram,
        piece: Spm::piece,
        complete: |vocab| vocab.eos = vocab.eos.or_else(|| vocab.named("</s>")),
    },
    Row {
        model: "bert",
        load: load_wordpiece,
        piece: wordpiece::gguf,
        complete: |vocab| {
            vocab.bos = vocab.bos.or_else(|| vocab.named("[CLS]"));
            vocab.eos = vocab.sep.or_else(|| vocab.named("[SEP]"));
        },
    },
    Row { model: "gpt2", load: load_bpe, piece: Bpe::piece, complete: |_| {} },
    Row { model: "gemma4", load: load_bpe, piece: Spm::piece, complete: |vocab| vocab.pre = Some("gemma4") },
];

fn load_spm(vocab: &Vocab, tokens: &Tokens, warnings: &mut Vec<String>) -> Result<Loaded> {
    Ok(Loaded { model: Spm::bpe(vocab, tokens, warnings)?, add_bos: true, add_eos: false })
}

fn load_unigram(vocab: &Vocab, tokens: &Tokens, warnings: &mut Vec<String>) -> Result<Loaded> {
    Ok(Loaded { model: Spm::unigram(vocab, tokens, warnings)?, add_bos: false, add_eos: true })
}

fn load_wordpiece(vocab: &Vocab, tokens: &Tokens, _: &mut Vec<String>) -> Result<Loaded> {
    Ok(Loaded { model: wordpiece::load(vocab, tokens)?, add_bos: true, add_eos: true })
}

fn load_bpe(vocab: &Vocab, tokens: &Tokens, warnings: &mut Vec<String>) -> Result<Loaded> {
    let name = vocab.pre.filter(|pre| !pre.is_empty()).unwrap_or_else(|| {
        let (name, evidence) = Pre::guess(&vocab.tokens);
        warnings.push(format!("tokenizer.ggml.pre is missing: `{name}` is assumed, because {evidence}"));
        name
    });
    let pre = Pre::find(name).ok_or_else(|| Error::UnknownPre {
        found: name.to_owned(),
        known: PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect::<Vec<_>>().join(", "),
    })?;
    Ok(Loaded { model: Bpe::load(vocab, tokens, pre, warnings)?, add_bos: pre.add_bos, add_eos: false })
}

/// The tokens at which generation ends: those that the file names, and the well known. They are made control tokens.
pub(crate) fn ends(
    names: &[&str],
    kinds: &mut [Kind],
    named: [Option<u32>; 3],
    warnings: &mut Vec<String>,
) -> BTreeSet<u32> {
    let has = |name: &str| names.contains(&name);
    let known = HashSet::<&str>::from_iter(ENDS.iter().copied());
    let is_end = |name: &str| {
        known.contains(name) && !NOT_ENDS.iter().any(|(end, with)| *end == name && with.iter().all(|name| has(name)))
    };
    let mut ends = BTreeSet::from_iter(named.into_iter().flatten());
    for (id, name) in (0u32..).zip(names).filter(|(_, name)| is_end(name)) {
        ends.insert(id);
        let kind = &mut kinds[id as usize];
        if *kind != Kind::Control {
            warnings.push(format!("token {id} (`{name}`) should be a control token and is made one"));
            *kind = Kind::Control;
        }
    }
    ends
}
