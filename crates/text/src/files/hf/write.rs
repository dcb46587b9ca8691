//! A `tokenizer.json` of a vocabulary of GGUF.

use super::scores;
use crate::tokenizer::normalizer::SPACE;
use crate::tokenizer::pre_tokenizer::{GPT_2, PRE_TOKENIZERS};
use crate::tokenizer::wordpiece;
use crate::{Error, Normalization, Result, TokenType, TokenizerJson, Vocab};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

impl TokenizerJson {
    /// Makes a `tokenizer.json` and a `tokenizer_config.json` of a vocabulary: byte-level BPE, the BPE or Unigram of SentencePiece, or WordPiece.
    /// Unused tokens at its end, which stand for embeddings that no token has, are left out.
    ///
    /// # Errors
    /// When it is another, or malformed.
    pub fn of_vocab(vocab: &Vocab) -> Result<TokenizerJson> {
        let vocab = &without_padding(vocab);
        let (mut tokenizer, add_bos, add_eos) = match vocab.model {
            "gpt2" => byte_level(vocab)?,
            "llama" => sentencepiece(vocab),
            "t5" => unigram(vocab)?,
            "bert" => (wordpiece::json(vocab, &vocab.check()?)?, true, true),
            other => {
                let problem =
                    format!("expected gpt2, llama, t5 or bert, for which there is a tokenizer.json, found {other}");
                return Err(Error::vocabulary("tokenizer.ggml.model", problem));
            }
        };
        let is_bert = vocab.model == "bert";
        let (bos, eos) = match is_bert {
            true => (vocab.bos.or_else(|| vocab.named("[CLS]")), vocab.sep.or_else(|| vocab.named("[SEP]"))),
            false if vocab.model == "t5" => (vocab.bos, vocab.eos.or_else(|| vocab.named("</s>"))),
            false => (vocab.bos, vocab.eos),
        };
        let before = bos.filter(|_| vocab.add_bos.unwrap_or(add_bos));
        let after = eos.filter(|_| vocab.add_eos.unwrap_or(add_eos));
        tokenizer["post_processor"] = around(vocab, before, after, !is_bert);
        if !is_bert {
            tokenizer["added_tokens"] = added(vocab);
        }
        // What has a name there is found in texts before all else, as a part of a text is not.
        let is_special = |id: &u32| ![Some(&NORMAL), Some(&BYTE)].contains(&vocab.token_types.get(*id as usize));
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": is_bert,
            "add_bos_token": before.filter(is_special).is_some(), "add_eos_token": after.filter(is_special).is_some(),
        });
        if is_bert {
            config["model_input_names"] = json!(["input_ids", "token_type_ids", "attention_mask"]);
        }
        let [first, last] = if is_bert { ["cls_token", "sep_token"] } else { ["bos_token", "eos_token"] };
        let named =
            [(first, bos), (last, eos), ("unk_token", vocab.unk), ("pad_token", vocab.pad), ("mask_token", vocab.mask)];
        for (key, id) in named {
            if let Some(name) = id.filter(is_special).and_then(|id| vocab.tokens.get(id as usize)) {
                config[key] = (*name).into();
            }
        }
        Ok(TokenizerJson { tokenizer: tokenizer.to_string(), config: config.to_string() })
    }
}

/// The vocabulary without unused tokens at its end that have no names of their own.
fn without_padding<'a>(vocab: &Vocab<'a>) -> Vocab<'a> {
    let is_padding = |id: usize| vocab.token_types.get(id) == Some(&UNUSED) && vocab.tokens[id] == format!("[PAD{id}]");
    let len = (0..vocab.tokens.len()).rev().find(|&id| !is_padding(id)).map_or(0, |last| last + 1);
    let mut vocab = vocab.clone();
    vocab.tokens.truncate(len);
    vocab.scores.to_mut().truncate(len);
    vocab.token_types.to_mut().truncate(len);
    vocab
}

/// Control tokens, and those that are one token wherever they occur.
fn added(vocab: &Vocab) -> Value {
    let kinds = vocab.tokens.iter().zip(vocab.token_types.iter()).enumerate();
    kinds
        .filter(|(_, (_, kind))| [CONTROL, USER_DEFINED].contains(kind))
        .map(|(id, (content, kind))| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL,
            })
        })
        .collect()
}

/// A `tokenizer.json` of its parts.
fn file(model: Value, [normalizer, pre_tokenizer, decoder]: [Value; 3]) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
    })
}

/// What stands before and after a text, and, of two texts, perhaps also before the second.
fn around(vocab: &Vocab, before: Option<u32>, after: Option<u32>, again: bool) -> Value {
    let text = |id: &str, kind: u8| json!({ "Sequence": { "id": id, "type_id": kind } });
    let token = |id: &u32, kind: u8| json!({ "SpecialToken": { "id": vocab.tokens[*id as usize], "type_id": kind } });
    let one = |name: &str, kind| {
        let (before, after) = (before.iter().map(|id| token(id, kind)), after.iter().map(|id| token(id, kind)));
        before.chain([text(name, kind)]).chain(after).collect::<Vec<_>>()
    };
    let tokens: Map<String, Value> = [before, after]
        .into_iter()
        .flatten()
        .map(|id| {
            let name = vocab.tokens[id as usize];
            (name.to_owned(), json!({ "id": name, "ids": [id], "tokens": [name] }))
        })
        .collect();
    let mut second = one("B", 1);
    if before.is_some() && !again {
        second.remove(0);
    }
    let pair = [one("A", 0), second].concat();
    json!({ "type": "TemplateProcessing", "single": one("A", 0), "pair": pair, "special_tokens": tokens })
}

fn ids(vocab: &Vocab) -> Map<String, Value> {
    vocab.tokens.iter().enumerate().map(|(id, name)| ((*name).to_owned(), id.into())).collect()
}

/// A `tokenizer.json`, and whether BOS stands before texts and EOS after them where the file does not say it.
fn byte_level(vocab: &Vocab) -> Result<(Value, bool, bool)> {
    let name = vocab.pre.unwrap_or("gpt-2");
    let pre = PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name)).filter(|pre| !pre.metaspace);
    let pre = pre.ok_or_else(|| {
        Error::vocabulary("tokenizer.ggml.pre", format!("expected a pre-tokenizer of byte-level BPE, found {name}"))
    })?;
    let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
    let pre_tokenizer = match pre.patterns {
        [GPT_2] => bytes(true),
        patterns => {
            let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
            let steps: Vec<Value> = patterns.iter().map(split).chain([bytes(false)]).collect();
            json!({ "type": "Sequence", "pretokenizers": steps })
        }
    };
    let merges: Vec<Value> =
        vocab.merges.iter().filter_map(|merge| merge.split_once(' ')).map(|(a, b)| json!([a, b])).collect();
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignore_merges, "vocab": ids(vocab), "merges": merges,
    });
    Ok((file(model, [Value::Null, pre_tokenizer, bytes(true)]), pre.add_bos, false))
}

/// BPE of SentencePiece.
fn sentencepiece(vocab: &Vocab) -> (Value, bool, bool) {
    let merges = scores::merges(&vocab.tokens, &vocab.token_types, &vocab.scores);
    let merges: Vec<Value> = merges.into_iter().map(|(a, b)| json!([a, b])).collect();
    let unk = vocab.unk.and_then(|id| vocab.tokens.get(id as usize));
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": ids(vocab), "merges": merges,
    });
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    let (normalizer, pre_tokenizer) = match prefix && vocab.normalization.prefix_once {
        true => (Value::Null, words("first", false)),
        false => {
            let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
            let normalizers = if prefix { vec![prepend(), spaces] } else { vec![spaces] };
            (json!({ "type": "Sequence", "normalizers": normalizers }), Value::Null)
        }
    };
    (file(model, [normalizer, pre_tokenizer, joined(prefix)]), true, false)
}

/// Spaces as transformers writes those of SentencePiece; with `split`, no token is made across one.
fn words(scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split })
}

fn prepend() -> Value {
    json!({ "type": "Prepend", "prepend": SPACE })
}

/// How SentencePiece makes a text of tokens, some of which may be bytes.
fn joined(prefix: bool) -> Value {
    let back = json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " });
    let mut decoders = vec![back, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": decoders })
}

/// Unigram of SentencePiece, in the steps in which transformers converts it.
fn unigram(vocab: &Vocab) -> Result<(Value, bool, bool)> {
    let types = vocab.check()?;
    let unk = vocab.unk.or_else(|| types.iter().position(|kind| *kind == TokenType::Unknown).map(|id| id as u32));
    let unk =
        unk.ok_or_else(|| Error::vocabulary("tokenizer.ggml.unknown_token_id", "expected a token, found none"))?;
    let Normalization { charsmap, remove_extra_whitespaces, prefix_once, metaspace, .. } = &vocab.normalization;
    let prefix = vocab.add_space_prefix.unwrap_or(false);
    // Metaspace puts no space before one; where spaces are kept, SentencePiece does.
    let (doubled, first) =
        (prefix && !remove_extra_whitespaces && !metaspace, if *prefix_once { "first" } else { "always" });
    let scheme = if prefix && !doubled { first } else { "never" };
    let mut normalizers = Vec::new();
    if !charsmap.is_empty() {
        normalizers.push(json!({ "type": "Precompiled", "precompiled_charsmap": STANDARD.encode(charsmap) }));
    }
    if *remove_extra_whitespaces {
        if !metaspace {
            normalizers.push(json!({ "type": "Strip", "strip_left": false, "strip_right": true }));
        }
        normalizers.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": SPACE }));
    }
    normalizers.extend(doubled.then(prepend));
    let crosses = |name: &&str| name.trim_start_matches(SPACE).contains(SPACE);
    let split = !vocab.tokens.iter().any(crosses);
    let has_bytes = types.contains(&TokenType::Byte);
    let score = |id: usize| vocab.scores.get(id).copied().unwrap_or(0.0);
    let scored: Vec<Value> = vocab.tokens.iter().enumerate().map(|(id, name)| json!([name, score(id)])).collect();
    let model = json!({ "type": "Unigram", "unk_id": unk, "vocab": scored, "byte_fallback": has_bytes });
    let decoder = if has_bytes { joined(prefix) } else { words(if prefix { "always" } else { "never" }, split) };
    let normalizer = json!({ "type": "Sequence", "normalizers": normalizers });
    Ok((file(model, [normalizer, words(scheme, split), decoder]), false, true))
}
