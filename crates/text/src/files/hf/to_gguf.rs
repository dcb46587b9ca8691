//! Converts WordPiece, Unigram and SentencePiece's BPE of a `tokenizer.json` to the vocabulary of GGUF.

use super::scores;
use crate::files::vocab::OwnedVocab;
use crate::tokenizer::normalizer::SPACE;
use crate::{Error, Normalization, Result, Templates, TokenType, Tokenizer, Vocab};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The vocabulary of a `tokenizer.json`, which was parsed as `inner` and loaded as `tokenizer`; `None` if its model is another.
///
/// # Errors
/// When it has a feature that GGUF lacks.
pub(crate) fn read(tokenizer: &Tokenizer, inner: &tokenizers::Tokenizer, json: &[u8]) -> Result<Option<OwnedVocab>> {
    let mut json: Value = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    // The configuration may have changed it.
    json["normalizer"] = serde_json::to_value(inner.get_normalizer()).map_err(|error| wrong(error.to_string()))?;
    let mut vocab = match json["model"]["type"].as_str() {
        Some("WordPiece") => wordpiece(tokenizer, &json)?,
        Some("Unigram") => unigram(tokenizer, &json)?,
        Some("BPE") if json["model"]["byte_fallback"] == true => {
            scores::read(tokenizer, &json, names(tokenizer, str::to_owned))?
        }
        _ => return Ok(None),
    };
    for token in inner.get_added_vocabulary().get_added_tokens_decoder().values() {
        for (flag, set) in [("lstrip", token.lstrip), ("rstrip", token.rstrip), ("single_word", token.single_word)] {
            if set {
                return Err(wrong(format!("added_tokens: expected tokens without {flag}, found `{}`", token.content)));
            }
        }
    }
    if vocab.rest.token_types.is_empty() {
        vocab.rest.token_types = tokenizer.tokens.token_types.iter().map(|kind| kind.number()).collect();
    }
    vocab.rest.pad = tokenizer.id("[PAD]").or_else(|| tokenizer.id("<pad>"));
    vocab.rest.mask = tokenizer.id("[MASK]").or_else(|| tokenizer.id("<mask>"));
    vocab.templates = tokenizer.templates.clone();
    vocab.warnings = tokenizer.warnings.clone();
    Ok(Some(vocab))
}

fn wrong(problem: String) -> Error {
    Error::vocabulary("tokenizer.json", problem)
}

/// Refuses a file with another value at `pointer`.
fn expect(json: &Value, pointer: &str, expected: Value) -> Result<()> {
    let found = json.pointer(pointer).unwrap_or(&Value::Null);
    let field = || pointer[1..].replace('/', ".");
    if *found == expected { Ok(()) } else { Err(wrong(format!("{}: expected {expected}, found {found}", field()))) }
}

/// The names of all tokens. Unused ids get unique names.
fn names(tokenizer: &Tokenizer, spell: impl Fn(&str) -> String) -> Vec<String> {
    let name = |id: u32| match (tokenizer.name(id), tokenizer.token_type(id)) {
        (None | Some(""), _) => format!("[PAD{id}]"),
        (Some(name), Some(TokenType::Normal)) => spell(name),
        (Some(name), _) => name.to_owned(),
    };
    (0..tokenizer.len() as u32).map(name).collect()
}

fn wordpiece(tokenizer: &Tokenizer, json: &Value) -> Result<OwnedVocab> {
    for (pointer, expected) in [
        ("/normalizer/type", json!("BertNormalizer")),
        ("/normalizer/clean_text", json!(true)),
        ("/normalizer/handle_chinese_chars", json!(true)),
        ("/pre_tokenizer/type", json!("BertPreTokenizer")),
        ("/model/continuing_subword_prefix", json!("##")),
        ("/model/max_input_chars_per_word", json!(100)),
    ] {
        expect(json, pointer, expected)?;
    }
    let (&[cls], &[sep]) = (&tokenizer.prefix[..], &tokenizer.suffix[..]) else {
        return Err(wrong("post_processor: expected one token before a text and one after it".to_owned()));
    };
    let spell = |name: &str| name.strip_prefix("##").map_or_else(|| format!("{SPACE}{name}"), str::to_owned);
    let rest = Vocab {
        model: "bert",
        bos: Some(cls),
        sep: Some(sep),
        unk: json["model"]["unk_token"].as_str().and_then(|name| tokenizer.id(name)),
        lowercase: json["normalizer"]["lowercase"].as_bool(),
        strip_accents: json["normalizer"]["strip_accents"].as_bool(),
        ..Vocab::default()
    };
    Ok(OwnedVocab {
        rest,
        tokens: names(tokenizer, spell),
        merges: Vec::new(),
        templates: Templates::default(),
        warnings: Vec::new(),
    })
}

fn unigram(tokenizer: &Tokenizer, json: &Value) -> Result<OwnedVocab> {
    let (mut charsmap, mut extra_spaces, mut prefix, mut prefix_once) = (Vec::new(), false, None, false);
    // Whether spaces are as SentencePiece has them: removed at the end, or added in front of one.
    let (mut stripped, mut doubled) = (false, false);
    let steps = |of: &'static str, list| {
        let whole = &json[of];
        let steps = whole[list].as_array().map_or(std::slice::from_ref(whole), Vec::as_slice);
        steps.iter().filter(|step| !step.is_null()).map(move |step| (of, step))
    };
    for (of, step) in steps("normalizer", "normalizers").chain(steps("pre_tokenizer", "pretokenizers")) {
        match (of, step["type"].as_str()) {
            ("normalizer", Some("Precompiled")) if charsmap.is_empty() && !extra_spaces => {
                let rules = STANDARD.decode(step["precompiled_charsmap"].as_str().unwrap_or_default());
                charsmap = rules.map_err(|error| wrong(format!("normalizer.precompiled_charsmap: {error}")))?;
            }
            ("normalizer", Some("Strip")) if step["strip_left"] == false && step["strip_right"] == true => {
                stripped = true
            }
            ("normalizer", Some("Replace")) if step["pattern"]["Regex"] == " {2,}" => {
                let content = step["content"].as_str();
                if content != Some(" ") && content != Some(SPACE) {
                    return Err(wrong(format!(
                        "normalizer: expected runs of spaces to become one space, found {step}"
                    )));
                }
                extra_spaces = true;
            }
            ("normalizer", Some("Prepend")) if step["prepend"] == SPACE => (prefix, doubled) = (Some(true), true),
            ("pre_tokenizer", Some("WhitespaceSplit")) if prefix.is_none() => (extra_spaces, stripped) = (true, true),
            ("pre_tokenizer", Some("Metaspace")) if step["replacement"] == SPACE => {
                let scheme = step["prepend_scheme"].as_str();
                prefix_once = scheme == Some("first");
                let adds = match scheme {
                    Some(scheme) => Some(scheme != "never"),
                    None => step["add_prefix_space"].as_bool(),
                };
                prefix = if prefix == Some(true) { prefix } else { adds };
            }
            _ => return Err(wrong(format!("{of}: expected a step of SentencePiece, found {step}"))),
        }
    }
    let prefix = prefix.ok_or_else(|| {
        wrong("pre_tokenizer: expected Metaspace that adds a space before every text or before none".to_owned())
    })?;
    let score = |id: u32| json["model"]["vocab"][id as usize][1].as_f64().unwrap_or(0.0) as f32;
    let (bos, add_bos) = around(&tokenizer.prefix, tokenizer.bos)?;
    let (eos, add_eos) = around(&tokenizer.suffix, tokenizer.eos)?;
    let rest = Vocab {
        model: "t5",
        scores: (0..tokenizer.len() as u32).map(score).collect(),
        bos,
        eos,
        unk: json["model"]["unk_id"].as_u64().map(|id| id as u32),
        add_bos: Some(add_bos),
        add_eos: Some(add_eos),
        add_space_prefix: Some(prefix),
        normalization: Normalization {
            charsmap: charsmap.into(),
            remove_extra_whitespaces: extra_spaces,
            prefix_once,
            metaspace: !stripped && !doubled && (prefix || extra_spaces),
            ..Normalization::default()
        },
        ..Vocab::default()
    };
    let tokens = names(tokenizer, str::to_owned);
    Ok(OwnedVocab { rest, tokens, merges: Vec::new(), templates: Templates::default(), warnings: Vec::new() })
}

/// The token that is added on one side of a text, `id` where `ids` has none, and whether it is added.
pub(super) fn around(ids: &[u32], id: Option<u32>) -> Result<(Option<u32>, bool)> {
    match ids {
        [] => Ok((id, false)),
        [one] => Ok((Some(*one), true)),
        _ => Err(wrong(format!(
            "post_processor: expected at most one token before a text and one after it, found {ids:?}"
        ))),
    }
}
