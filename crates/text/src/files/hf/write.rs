//! A `tokenizer.json` of a vocabulary of GGUF.

use crate::tokenizer::normalizer::SPACE;
use crate::tokenizer::pre_tokenizer::{GPT_2, PRE_TOKENIZERS};
use crate::{Error, Result, TokenizerJson, Vocab};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;

const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

impl TokenizerJson {
    /// Makes a `tokenizer.json` and a `tokenizer_config.json` of a vocabulary: byte-level BPE, or the BPE of SentencePiece.
    ///
    /// # Errors
    /// When it is another.
    pub fn of_vocab(vocab: &Vocab) -> Result<TokenizerJson> {
        let (model, steps, add_bos) = match vocab.model {
            "gpt2" => byte_level(vocab)?,
            "llama" => sentencepiece(vocab),
            other => {
                let problem = format!("expected gpt2 or llama, for which there is a tokenizer.json, found {other}");
                return Err(Error::vocabulary("tokenizer.ggml.model", problem));
            }
        };
        let [normalizer, pre_tokenizer, decoder] = steps;
        let name = |id: Option<u32>| id.and_then(|id| vocab.tokens.get(id as usize)).copied();
        let add_bos = vocab.add_bos.unwrap_or(add_bos);
        let before = if add_bos { vocab.bos } else { None };
        let after = if vocab.add_eos.unwrap_or(false) { vocab.eos } else { None };
        let kinds = || vocab.tokens.iter().zip(vocab.token_types.iter()).enumerate();
        let added: Vec<Value> = kinds()
            .filter(|(_, (_, kind))| [CONTROL, USER_DEFINED].contains(kind))
            .map(|(id, (content, kind))| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *kind == CONTROL,
                })
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": around(vocab, before, after), "decoder": decoder, "model": model,
        });
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
            "add_bos_token": before.is_some(), "add_eos_token": after.is_some(),
        });
        let named =
            [("bos_token", vocab.bos), ("eos_token", vocab.eos), ("unk_token", vocab.unk), ("pad_token", vocab.pad)];
        for (key, id) in named {
            if let Some(name) = name(id) {
                config[key] = name.into();
            }
        }
        Ok(TokenizerJson { tokenizer: tokenizer.to_string(), config: config.to_string() })
    }
}

/// What stands before and after a text.
fn around(vocab: &Vocab, before: Option<u32>, after: Option<u32>) -> Value {
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
    let pair = [one("A", 0), one("B", 1)].concat();
    json!({ "type": "TemplateProcessing", "single": one("A", 0), "pair": pair, "special_tokens": tokens })
}

fn ids(vocab: &Vocab) -> Map<String, Value> {
    vocab.tokens.iter().enumerate().map(|(id, name)| ((*name).to_owned(), id.into())).collect()
}

/// The model, the three steps around it, and whether BOS stands before texts.
fn byte_level(vocab: &Vocab) -> Result<(Value, [Value; 3], bool)> {
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
    Ok((model, [Value::Null, pre_tokenizer, bytes(true)], pre.add_bos))
}

/// SentencePiece merges the pair whose token has the highest score, for which `tokenizer.json` lists pairs in that order.
fn sentencepiece(vocab: &Vocab) -> (Value, [Value; 3], bool) {
    let spelled = |id: &usize| vocab.token_types.get(*id).is_none_or(|kind| ![2, CONTROL, 6].contains(kind));
    let all: HashMap<&str, usize> = (0..vocab.tokens.len()).filter(spelled).map(|id| (vocab.tokens[id], id)).collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for id in (0..vocab.tokens.len()).filter(spelled) {
        let token = vocab.tokens[id];
        let score = vocab.scores.get(id).copied().unwrap_or(0.0);
        let splits = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let mut found: Vec<(usize, usize, &str, &str)> =
            splits.filter_map(|(a, b)| Some((*all.get(a)?, *all.get(b)?, a, b))).collect();
        found.sort();
        merges.extend(found.into_iter().map(|(_, _, a, b)| (score, a, b)));
    }
    let len = |text: &str| text.chars().count();
    merges.sort_by(|x, y| {
        y.0.total_cmp(&x.0).then_with(|| Reverse((len(x.1), len(x.2))).cmp(&Reverse((len(y.1), len(y.2)))))
    });
    let merges: Vec<Value> = merges.into_iter().map(|(_, a, b)| json!([a, b])).collect();
    let unk = vocab.unk.and_then(|id| vocab.tokens.get(id as usize));
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": ids(vocab), "merges": merges,
    });
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let back = json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " });
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    let (normalizers, mut decoders) = match prefix {
        true => (vec![json!({ "type": "Prepend", "prepend": SPACE }), spaces], vec![back]),
        false => (vec![spaces], vec![back]),
    };
    decoders.extend([json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })]);
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let normalizer = json!({ "type": "Sequence", "normalizers": normalizers });
    (model, [normalizer, Value::Null, json!({ "type": "Sequence", "decoders": decoders })], true)
}
