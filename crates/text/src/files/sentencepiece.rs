//! `tokenizer.model` of SentencePiece: `ModelProto` in its `sentencepiece_model.proto`.

use crate::files::vocab::OwnedVocab;
use crate::tokenizer::vocab::byte;
use crate::{Error, Normalization, Result, Templates, TokenType, Vocab};
use prost::Message;

#[derive(Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
    #[prost(message, optional, tag = "5")]
    denormalizer_spec: Option<NormalizerSpec>,
}

#[derive(Message)]
struct SentencePiece {
    #[prost(string, tag = "1")]
    piece: String,
    #[prost(float, tag = "2")]
    score: f32,
    #[prost(int32, optional, tag = "3")]
    r#type: Option<i32>,
}

#[derive(Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, tag = "24")]
    treat_whitespace_as_suffix: bool,
    #[prost(int32, optional, tag = "41")]
    bos_id: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    eos_id: Option<i32>,
    #[prost(int32, optional, tag = "43")]
    pad_id: Option<i32>,
    #[prost(string, optional, tag = "46")]
    bos_piece: Option<String>,
    #[prost(string, optional, tag = "47")]
    eos_piece: Option<String>,
    #[prost(string, optional, tag = "48")]
    pad_piece: Option<String>,
}

#[derive(Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", tag = "2")]
    precompiled_charsmap: Vec<u8>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

/// Reads a `tokenizer.model` of SentencePiece.
pub(crate) fn read(bytes: &[u8]) -> Result<OwnedVocab> {
    let wrong = |problem: String| Error::vocabulary("tokenizer.model", problem);
    let proto = ModelProto::decode(bytes).map_err(|error| wrong(error.to_string()))?;
    let trainer = proto.trainer_spec.unwrap_or_default();
    let normalizer = proto.normalizer_spec.unwrap_or_default();
    let model = match trainer.model_type.unwrap_or(1) {
        1 => "t5",
        2 => "llama",
        other => {
            let found = ["word (3)", "char (4)"].get((other - 3).clamp(0, 9) as usize).copied();
            let found = found.map_or_else(|| other.to_string(), str::to_owned);
            return Err(wrong(format!("trainer_spec.model_type: expected unigram (1) or bpe (2), found {found}")));
        }
    };
    let unknown = [
        (trainer.treat_whitespace_as_suffix, "trainer_spec.treat_whitespace_as_suffix: expected no, found yes"),
        (!normalizer.escape_whitespaces.unwrap_or(true), "normalizer_spec.escape_whitespaces: expected yes, found no"),
        (
            proto.denormalizer_spec.is_some_and(|spec| !spec.precompiled_charsmap.is_empty()),
            "denormalizer_spec.precompiled_charsmap: expected none, found rules for decoding",
        ),
    ];
    if let Some((_, problem)) = unknown.into_iter().find(|(found, _)| *found) {
        return Err(wrong(problem.to_owned()));
    }
    let mut types = Vec::with_capacity(proto.pieces.len());
    for (id, piece) in proto.pieces.iter().enumerate() {
        let kind = piece.r#type.unwrap_or(1);
        let problem = match kind {
            6 if byte(&piece.piece).is_none() => "expected a byte written like `<0x0A>`",
            _ if !piece.score.is_finite() => "expected a finite score",
            5 => "expected another type than UNUSED (5)",
            1..=6 => "",
            _ => "expected a type from 1 to 6",
        };
        if !problem.is_empty() {
            return Err(wrong(format!("pieces[{id}] (`{}`): {problem}", piece.piece)));
        }
        types.push(kind);
    }
    let named = |id: Option<i32>, default: i32, name: &Option<String>, default_name: &str| {
        let id = u32::try_from(id.unwrap_or(default)).ok()?;
        let matches = |piece: &SentencePiece| piece.piece == name.as_deref().unwrap_or(default_name);
        // The default id may belong to another token.
        proto.pieces.get(id as usize).filter(|piece| matches(piece)).map(|_| id)
    };
    let (bos, eos, pad) = (
        named(trainer.bos_id, 1, &trainer.bos_piece, "<s>"),
        named(trainer.eos_id, 2, &trainer.eos_piece, "</s>"),
        named(trainer.pad_id, -1, &trainer.pad_piece, "<pad>"),
    );
    let unk = types.iter().position(|&kind| kind == TokenType::Unknown.number()).map(|id| id as u32);
    let (tokens, scores): (Vec<_>, Vec<_>) = proto.pieces.into_iter().map(|piece| (piece.piece, piece.score)).unzip();
    let rest = Vocab {
        model,
        scores: scores.into(),
        token_types: types.into(),
        bos,
        eos,
        pad,
        unk,
        add_space_prefix: Some(normalizer.add_dummy_prefix.unwrap_or(true)),
        normalization: Normalization {
            charsmap: normalizer.precompiled_charsmap.into(),
            remove_extra_whitespaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
            pieces: tokens.len(),
            prefix_once: false,
            metaspace: false,
            nfc: false,
        },
        ..Vocab::default()
    };
    Ok(OwnedVocab { rest, tokens, merges: Vec::new(), templates: Templates::default(), warnings: Vec::new() })
}
