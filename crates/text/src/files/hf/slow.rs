//! Vocabularies in the files of slow tokenizers: `vocab.json` with `merges.txt` (byte-level BPE), or `vocab.txt` (WordPiece). The class of
//! transformers that they belong to says the rest.

use super::config::{parse, parse_file, wrong};
use crate::tokenizer::pre_tokenizer::QWEN_2;
use crate::{Error, Result, TokenizerJson};
use serde_json::{Map, Value, json};

/// What a class of transformers defines in its code.
struct Class {
    /// `tokenizer_class`, without `Fast`.
    names: &'static [&'static str],
    /// The values of `model_type` whose folders have this class without naming it, by how they begin.
    model_types: &'static [&'static str],
    /// Special tokens of a configuration that does not name them.
    special: &'static [(&'static str, &'static str)],
    /// Whether texts stand between `cls_token` and `sep_token`.
    surrounded: bool,
}

const CLS: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
const END_OF_TEXT: &str = "<|endoftext|>";

static BYTE_LEVEL: &[Class] = &[
    Class {
        names: &["GPT2Tokenizer", "CodeGenTokenizer"],
        model_types: &["gpt", "phi", "starcoder2", "opt", "codegen"],
        special: &[("unk_token", END_OF_TEXT), ("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT)],
        surrounded: false,
    },
    Class {
        names: &["Qwen2Tokenizer"],
        model_types: &["qwen2", "qwen3"],
        special: &[("unk_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("pad_token", END_OF_TEXT)],
        surrounded: false,
    },
    Class {
        names: &["RobertaTokenizer"],
        model_types: &["roberta"],
        special: &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("sep_token", "</s>"),
            ("cls_token", "<s>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
        surrounded: true,
    },
];

static WORDPIECE: &[Class] =
    &[Class { names: &["BertTokenizer"], model_types: &["bert"], special: &CLS, surrounded: true }];

impl TokenizerJson {
    /// Makes a `tokenizer.json` of a `vocab.json` with its `merges.txt`, or of a `vocab.txt`. The class that `tokenizer_config.json` names, or
    /// else that of `model_type` in `config.json`, defines the rest, as in transformers.
    ///
    /// # Errors
    /// When a file is malformed, or the class is not known.
    pub fn from_vocab(
        vocab: &[u8],
        merges: Option<&[u8]>,
        config: Option<&[u8]>,
        model_type: Option<&str>,
    ) -> Result<TokenizerJson> {
        let mut config = match parse(config)? {
            Value::Object(config) => config,
            _ => Map::new(),
        };
        let class = class(if merges.is_some() { BYTE_LEVEL } else { WORDPIECE }, &config, model_type)?;
        for (key, name) in class.special {
            config.entry(*key).or_insert_with(|| Value::from(*name));
        }
        let config = Value::from(config);
        let name = |key: &str| config[key].as_str().or_else(|| config[key]["content"].as_str()).map(str::to_owned);
        let (vocab, mut steps) = match merges {
            Some(merges) => bpe(vocab, merges, &config, class)?,
            None => wordpiece(vocab, &config)?,
        };
        let id = |name: &Option<String>| name.as_ref().and_then(|name| vocab.get(name)).cloned();
        if class.surrounded {
            let (cls, sep) = (name("cls_token"), name("sep_token"));
            if let (Some(first), Some(last)) = (id(&cls), id(&sep)) {
                let special = |name: &Option<String>| json!({"SpecialToken": {"id": name, "type_id": 0}});
                let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
                let ids = |name: &Option<String>, id: &Value| json!({"id": name, "ids": [id], "tokens": [name]});
                let named = [(cls.clone(), first), (sep.clone(), last)];
                let tokens: Map<String, Value> =
                    named.iter().map(|(name, id)| (name.clone().unwrap_or_default(), ids(name, id))).collect();
                let single = [special(&cls), text("A"), special(&sep)];
                let pair = [&single[..], &[text("B"), special(&sep)]].concat();
                steps["post_processor"] = json!({
                    "type": "TemplateProcessing", "special_tokens": tokens, "single": single, "pair": pair,
                });
            }
        }
        steps["model"]["vocab"] = vocab.into();
        Ok(TokenizerJson { tokenizer: steps.to_string(), config: config.to_string() })
    }
}

fn class(classes: &'static [Class], config: &Map<String, Value>, model_type: Option<&str>) -> Result<&'static Class> {
    let of_type = |class: &&Class| {
        let model_type = model_type.unwrap_or_default();
        class.model_types.iter().any(|name| model_type.starts_with(name))
    };
    let named = config.get("tokenizer_class").and_then(Value::as_str).map(|name| name.trim_end_matches("Fast"));
    let found = match named.filter(|name| !["PreTrainedTokenizer", "TokenizersBackend"].contains(name)) {
        Some(name) => classes.iter().find(|class| class.names.contains(&name)),
        None => Some(classes.iter().find(of_type).unwrap_or(&classes[0])),
    };
    let known = || classes.iter().flat_map(|class| class.names).copied().collect::<Vec<_>>().join(", ");
    let problem = || {
        let found = named.unwrap_or_default();
        wrong(format!(
            "tokenizer_class: expected one of {}, found {found}: make a tokenizer.json with transformers",
            known()
        ))
    };
    found.ok_or_else(problem)
}

type Parts = (Map<String, Value>, Value);

/// Byte-level BPE, as `GPT2Tokenizer`.
fn bpe(vocab: &[u8], merges: &[u8], config: &Value, class: &Class) -> Result<Parts> {
    let problem = |problem: String| Error::vocabulary("merges.txt", problem);
    let Value::Object(vocab) = parse_file("vocab.json", Some(vocab))? else {
        return Err(Error::vocabulary("vocab.json", "expected an object of tokens and ids"));
    };
    let merges = str::from_utf8(merges).map_err(|error| problem(error.to_string()))?;
    let lines = merges.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let merges: Vec<&str> = lines.collect();
    if let Some(wrong) = merges.iter().find(|line| line.split(' ').count() != 2) {
        return Err(problem(format!("expected two tokens separated by a space, found `{wrong}`")));
    }
    let level = |use_regex: bool| {
        let prefix = config["add_prefix_space"] == true;
        json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": use_regex})
    };
    let qwen = class.names == ["Qwen2Tokenizer"];
    let split = json!({"type": "Split", "pattern": {"Regex": QWEN_2}, "behavior": "Isolated", "invert": false});
    let steps = json!({
        "version": "1.0", "added_tokens": [],
        "normalizer": if qwen { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": if qwen { json!({"type": "Sequence", "pretokenizers": [split, level(false)]}) } else { level(true) },
        "decoder": level(true),
        "model": {"type": "BPE", "merges": merges, "fuse_unk": false, "byte_fallback": false},
    });
    Ok((vocab, steps))
}

/// WordPiece, as `BertTokenizer`.
fn wordpiece(vocab: &[u8], config: &Value) -> Result<Parts> {
    let text = str::from_utf8(vocab).map_err(|error| Error::vocabulary("vocab.txt", error.to_string()))?;
    let vocab = text.lines().zip(0..).map(|(name, id): (&str, u32)| (name.to_owned(), id.into())).collect();
    let flag = |key: &str| config[key].as_bool();
    let steps = json!({
        "version": "1.0", "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "strip_accents": flag("strip_accents"),
            "handle_chinese_chars": flag("tokenize_chinese_chars").unwrap_or(true),
            "lowercase": flag("do_lower_case").unwrap_or(true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": config["unk_token"].as_str().unwrap_or("[UNK]"),
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        },
    });
    Ok((vocab, steps))
}
