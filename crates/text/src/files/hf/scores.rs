//! BPE of SentencePiece, which merges the pair whose token has the highest score, as the ordered merges of a `tokenizer.json`, and back.

use super::to_gguf::around;
use super::wrong;
use crate::files::vocab::OwnedVocab;
use crate::tokenizer::normalizer::SPACE;
use crate::{Normalization, Result, Templates, TokenType, Tokenizer, Vocab};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// Unknown, control and byte tokens, which no merge makes.
const NEVER_MERGED: [i32; 3] = [2, 3, 6];

/// All pairs of tokens that make a token, those of the highest score first.
pub(super) fn merges<'a>(tokens: &[&'a str], token_types: &[i32], scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let spelled = |id: &usize| token_types.get(*id).is_none_or(|kind| !NEVER_MERGED.contains(kind));
    let all: HashMap<&str, usize> = (0..tokens.len()).filter(spelled).map(|id| (tokens[id], id)).collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for id in (0..tokens.len()).filter(spelled) {
        let token = tokens[id];
        let score = scores.get(id).copied().unwrap_or(0.0);
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
    merges.into_iter().map(|(_, a, b)| (a, b)).collect()
}

/// The vocabulary of a `tokenizer.json` with the BPE of SentencePiece.
///
/// # Errors
/// When it has another normalization, or merges in an order that no scores give.
pub(super) fn read(tokenizer: &Tokenizer, json: &Value, tokens: Vec<String>) -> Result<OwnedVocab> {
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if json["model"][key].as_str().is_some_and(|affix| !affix.is_empty()) {
            return Err(wrong(format!("model.{key}: expected none, found {}", json["model"][key])));
        }
    }
    if json["model"]["ignore_merges"] == true {
        return Err(wrong("model.ignore_merges: expected false, as merges of SentencePiece have it, found true"));
    }
    let unk = json["model"]["unk_token"].as_str().and_then(|name| tokenizer.id(name));
    let mut token_types: Vec<i32> = tokenizer.tokens.token_types.iter().map(|kind| kind.number()).collect();
    if let Some(unk) = unk {
        token_types[unk as usize] = TokenType::Unknown.number();
    }
    let names: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let scores = scores(&json["model"]["merges"], &names, &token_types)?;
    let (prefix, prefix_once) = prefix(json)?;
    let (bos, add_bos) = around(&tokenizer.prefix, tokenizer.bos)?;
    let (eos, add_eos) = around(&tokenizer.suffix, tokenizer.eos)?;
    let rest = Vocab {
        model: "llama",
        scores: scores.into(),
        token_types: token_types.into(),
        bos,
        eos,
        unk,
        add_bos: Some(add_bos),
        add_eos: Some(add_eos),
        add_space_prefix: Some(prefix),
        normalization: Normalization { prefix_once, ..Normalization::default() },
        ..Vocab::default()
    };
    Ok(OwnedVocab { rest, tokens, merges: Vec::new(), templates: Templates::default(), warnings: Vec::new() })
}

/// Scores that give these merges: the token of the first merge has the highest. Tokens whose merges alternate have the same.
fn scores(list: &Value, tokens: &[&str], token_types: &[i32]) -> Result<Vec<f32>> {
    let pair = |merge: &Value| match merge {
        Value::String(joined) => joined.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        pair => Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())),
    };
    let pairs = list.as_array().into_iter().flatten().map(pair).collect::<Option<Vec<_>>>();
    let pairs = pairs.ok_or_else(|| wrong("model.merges: expected pairs of tokens"))?;
    let made: Vec<String> = pairs.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let last: HashMap<&str, usize> = made.iter().enumerate().map(|(rank, token)| (token.as_str(), rank)).collect();
    let (mut group, mut end) = (0, 0);
    let mut groups: HashMap<&str, i32> = HashMap::with_capacity(last.len());
    for (rank, token) in made.iter().enumerate() {
        group += i32::from(rank > end);
        end = end.max(last[token.as_str()]);
        groups.insert(token, group);
    }
    // Tokens that no merge makes follow, as in SentencePiece.
    let score = |token: &&str| -groups.get(token).copied().unwrap_or(group + 1) as f32;
    let scores: Vec<f32> = tokens.iter().map(score).collect();
    let expected = merges(tokens, token_types, &scores);
    let same_tokens = expected.iter().map(|(a, b)| format!("{a}{b}")).eq(made.iter().cloned());
    let found: HashSet<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    match same_tokens && expected.iter().all(|pair| found.contains(pair)) {
        true => Ok(scores),
        false => Err(wrong(
            "model.merges: expected all pairs of tokens that make a token, in the order of scores, as SentencePiece has them",
        )),
    }
}

/// Whether a text begins with a space that it does not have, and whether only the whole text does.
fn prefix(json: &Value) -> Result<(bool, bool)> {
    let (mut prefix, mut once, mut spaces) = (false, false, false);
    let steps = |of: &'static str, list| {
        let whole = &json[of];
        let steps = whole[list].as_array().map_or(std::slice::from_ref(whole), Vec::as_slice);
        steps.iter().filter(|step| !step.is_null()).map(move |step| (of, step))
    };
    for (of, step) in steps("normalizer", "normalizers").chain(steps("pre_tokenizer", "pretokenizers")) {
        match (of, step["type"].as_str()) {
            ("normalizer", Some("Prepend")) if step["prepend"] == SPACE && !spaces => prefix = true,
            ("normalizer", Some("Replace")) if step["pattern"]["String"] == " " && step["content"] == SPACE => {
                spaces = true;
            }
            // No space is left for it.
            ("pre_tokenizer", Some("Split")) if step["pattern"] == json!({ "String": " " }) && spaces => {}
            ("pre_tokenizer", Some("Metaspace")) if step["replacement"] == SPACE && step["split"] == false => {
                let scheme = step["prepend_scheme"].as_str().unwrap_or("always");
                (prefix, once, spaces) = (prefix || scheme != "never", scheme == "first", true);
            }
            _ => return Err(wrong(format!("{of}: expected a step of SentencePiece's BPE, found {step}"))),
        }
    }
    if spaces {
        Ok((prefix, once))
    } else {
        Err(wrong("normalizer: expected spaces to become U+2581, found none that does"))
    }
}
