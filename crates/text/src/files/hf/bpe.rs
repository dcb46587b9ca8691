//! Recognizes byte-level BPE in a `tokenizer.json`, which [`Bpe`] encodes to the same tokens as the tokenizers crate, but faster.

use crate::files::vocab::OwnedVocab;
use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::byte_alphabet::ALPHABET;
use crate::tokenizer::encoder::Encoder;
use crate::tokenizer::pre_tokenizer::{GPT_2, PRE_TOKENIZERS, PreTokenizer};
use crate::tokenizer::token_table::TokenTable;
use crate::{Error, Normalization, Result, TokenType, Tokenizer, Vocab};
use serde::Deserialize;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

/// Reads a `tokenizer.json` of byte-level BPE, which was parsed as `inner` and loaded as `tokenizer`.
pub(crate) fn read(tokenizer: &Tokenizer, inner: &tokenizers::Tokenizer, tokenizer_json: &[u8]) -> Result<OwnedVocab> {
    let wrong = |problem: &str| Error::vocabulary("tokenizer.json", problem);
    let len = tokenizer.len() as u32;
    let names: Vec<&str> = (0..len).map(|id| tokenizer.name(id).unwrap_or_default()).collect();
    let bpe = recognize(inner, tokenizer_json, &names, &tokenizer.tokens)
        .filter(|bpe| !bpe.nfc)
        .ok_or_else(|| wrong("expected BPE, WordPiece or Unigram that GGUF can hold, found another tokenizer"))?;
    let same = |pre: &&PreTokenizer| {
        (pre.patterns, pre.ignore_merges, pre.metaspace) == (bpe.pre.patterns, bpe.pre.ignore_merges, false)
    };
    let pre = PRE_TOKENIZERS.iter().find(same).ok_or_else(|| {
        wrong("model.ignore_merges: expected the value of known models with this pre-tokenizer, found the opposite")
    })?;
    let around = |ids: &[u32], id: Option<u32>, name: &str| match ids {
        [] => Ok((id, false)),
        [one] if id.is_none_or(|id| id == *one) => Ok((Some(*one), true)),
        _ => Err(wrong(&format!("post_processor: expected at most {name}, found the tokens {ids:?}"))),
    };
    let (bos, add_bos) = around(&tokenizer.prefix, tokenizer.bos, "BOS before a text")?;
    let (eos, add_eos) = around(&tokenizer.suffix, tokenizer.eos, "EOS after a text")?;
    // Unused ids get unique names, as in other GGUF files.
    let token = |(id, name): (usize, &str)| if name.is_empty() { format!("[PAD{id}]") } else { name.to_owned() };
    let tokens = names.into_iter().enumerate().map(token).collect();
    let rest = Vocab {
        model: "gpt2",
        pre: Some(pre.names[0]),
        token_types: tokenizer.tokens.token_types.iter().map(|kind| kind.number()).collect(),
        bos,
        eos,
        add_bos: Some(add_bos),
        add_eos: Some(add_eos),
        ..Vocab::default()
    };
    let (templates, warnings) = (tokenizer.templates.clone(), tokenizer.warnings.clone());
    Ok(OwnedVocab { rest, tokens, merges: bpe.merges, templates, warnings })
}

/// The parts of a `tokenizer.json` to which the tokenizers crate gives no access.
#[derive(Deserialize)]
struct BpeJson {
    model: BpeModelJson,
}

#[derive(Deserialize)]
struct BpeModelJson {
    merges: Vec<Merge>,
}

/// A merge, as in older and in newer files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

/// An encoder that gives the same tokens as `inner`, which was read from `json`; `None` if it is not byte-level BPE.
pub(crate) fn encoder(
    inner: &tokenizers::Tokenizer,
    json: &[u8],
    names: &[&str],
    tokens: &TokenTable,
) -> Option<Box<dyn Encoder>> {
    let ByteLevelBpe { pre, merges, nfc } = recognize(inner, json, names, tokens)?;
    let merges = merges.iter().map(String::as_str).collect();
    let normalization = Normalization { nfc, ..Normalization::default() };
    let vocab = Vocab { tokens: names.to_vec(), merges, normalization, ..Vocab::default() };
    Bpe::load(&vocab, tokens, &pre, &mut Vec::new()).ok()
}

struct ByteLevelBpe {
    pre: PreTokenizer,
    /// Pairs of names, separated by a space.
    merges: Vec<String>,
    /// Whether text is brought to normalization form C.
    nfc: bool,
}

/// `None` if `inner` has another model than byte-level BPE, or anything that changes its tokens.
fn recognize(inner: &tokenizers::Tokenizer, json: &[u8], names: &[&str], tokens: &TokenTable) -> Option<ByteLevelBpe> {
    let ModelWrapper::BPE(bpe) = inner.get_model() else { return None };
    let nfc = match inner.get_normalizer() {
        None => false,
        Some(NormalizerWrapper::NFC(_)) => true,
        Some(_) => return None,
    };
    let affixes = [&bpe.continuing_subword_prefix, &bpe.end_of_word_suffix];
    let plain = bpe.unk_token.is_none()
        && !bpe.byte_fallback
        && affixes.into_iter().flatten().all(String::is_empty)
        && ALPHABET.iter().all(|c| tokens.id(c.encode_utf8(&mut [0; 4]).as_bytes()).is_some());
    if !plain || !added_tokens_are_plain(inner, names, tokens, nfc) {
        return None;
    }
    let pre = pre_tokenizer(inner.get_pre_tokenizer()?)?;
    let pre = PreTokenizer { ignore_merges: bpe.ignore_merges, ..*pre };
    let BpeJson { model: BpeModelJson { merges } } = serde_json::from_slice(json).ok()?;
    let join = |merge| match merge {
        Merge::Joined(merge) => Some(merge),
        Merge::Pair(left, right) if left.contains(' ') || right.contains(' ') => None,
        Merge::Pair(left, right) => Some(format!("{left} {right}")),
    };
    Some(ByteLevelBpe { pre, merges: merges.into_iter().map(join).collect::<Option<_>>()?, nfc })
}

/// The registered pre-tokenizer that is equal to these steps, of which the last is `ByteLevel`.
fn pre_tokenizer(steps: &PreTokenizerWrapper) -> Option<&'static PreTokenizer> {
    let steps = match steps {
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref(),
        step => std::slice::from_ref(step),
    };
    let (PreTokenizerWrapper::ByteLevel(last), splits) = steps.split_last()? else { return None };
    if last.add_prefix_space {
        return None;
    }
    let mut patterns: Vec<String> = splits.iter().map(pattern).collect::<Option<_>>()?;
    if last.use_regex {
        patterns.push(GPT_2.to_owned());
    }
    PRE_TOKENIZERS.iter().find(|pre| !pre.metaspace && pre.patterns == patterns)
}

/// The regular expression of a step that isolates its matches.
fn pattern(step: &PreTokenizerWrapper) -> Option<String> {
    match step {
        PreTokenizerWrapper::Split(split) if split.behavior == SplitDelimiterBehavior::Isolated && !split.invert => {
            match &split.pattern {
                // Some files have literal line ends in their patterns.
                SplitPattern::Regex(pattern) => Some(pattern.replace('\r', r"\r").replace('\n', r"\n")),
                SplitPattern::String(_) => None,
            }
        }
        PreTokenizerWrapper::Digits(digits) if digits.individual_digits => Some(r"\p{N}".to_owned()),
        _ => None,
    }
}

/// Whether added tokens are matched as in [`Bpe`]: all in one pass, anywhere in the text, before it is normalized, and independently of whether
/// special tokens are parsed.
fn added_tokens_are_plain(
    inner: &tokenizers::Tokenizer,
    names: &[&str],
    tokens: &TokenTable,
    normalizes: bool,
) -> bool {
    let added = inner.get_added_vocabulary().get_added_tokens_decoder();
    let normalized = added.values().any(|token| token.normalized);
    let plain = added.values().all(|token| {
        !(token.single_word || token.lstrip || token.rstrip || token.content.is_empty())
            && token.normalized == normalized
            && !(normalized && normalizes)
    });
    let of =
        |wanted| names.iter().zip(&tokens.token_types).filter(move |(_, kind)| **kind == wanted).map(|(name, _)| *name);
    plain && !of(TokenType::Control).any(|special| of(TokenType::UserDefined).any(|other| overlap(special, other)))
}

/// Whether two names can overlap in a text.
fn overlap(a: &str, b: &str) -> bool {
    let ends = |a: &str, b: &str| (1..a.len().min(b.len())).any(|n| a.as_bytes().ends_with(&b.as_bytes()[..n]));
    a.contains(b) || b.contains(a) || ends(a, b) || ends(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::hf::HfEncoder;
    use crate::tokenizer::special::Parse;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    /// The same file with both encoders.
    struct Pair {
        ours: Box<dyn Encoder>,
        theirs: HfEncoder,
        tokens: TokenTable,
    }

    impl Pair {
        fn check(&self, text: &str) {
            for control in [false, true] {
                let parse = Parse { control, breaks: &[] };
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                self.ours.encode(&self.tokens, text, parse, &mut ours);
                self.theirs.encode(&self.tokens, text, parse, &mut theirs);
                assert_eq!(ours, theirs, "{text:?}");
            }
        }
    }

    fn pair(json: &Value) -> Option<Pair> {
        let json = json.to_string();
        let inner: tokenizers::Tokenizer = json.parse().unwrap();
        let len = inner.get_vocab_size(true) as u32;
        let names: Vec<String> = (0..len).map(|id| inner.id_to_token(id).unwrap()).collect();
        let added = inner.get_added_vocabulary().get_added_tokens_decoder();
        let kind = |id| {
            added
                .get(&id)
                .map_or(TokenType::Normal, |t| if t.special { TokenType::Control } else { TokenType::UserDefined })
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tokens = TokenTable::new(&names, (0..len).map(kind).collect(), Bpe::piece);
        let ours = encoder(&inner, json.as_bytes(), &names, &tokens)?;
        Some(Pair { ours, theirs: HfEncoder::new(inner, false), tokens })
    }

    /// Byte-level BPE with a few merges.
    fn file(patterns: &[&str], ignore_merges: bool) -> Value {
        let merges = ["h e", "l l", "he ll", "Ġ he", "Ġ Ġ", "Ċ Ċ", "1 2", "Ã ©", "' s", "o Ġ", "ll o"];
        let joined = merges.iter().map(|merge| merge.replace(' ', ""));
        let names = ALPHABET.iter().map(char::to_string).chain(joined).chain(["hello".to_owned()]);
        let vocab: serde_json::Map<String, Value> = names.zip(0..).map(|(name, id)| (name, json!(id))).collect();
        let added = |id: usize, content: &str, special: bool| {
            json!({"id": vocab.len() + id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special})
        };
        let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": level,
            "added_tokens": [added(0, "<|end|>", true), added(1, "<|end", true), added(2, "  he", false)],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": patterns.iter().map(split).chain([level.clone()]).collect::<Vec<_>>()},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges},
        })
    }

    static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
        let rows = PRE_TOKENIZERS.iter().filter(|pre| !pre.metaspace);
        let nfc = |mut json: Value| {
            json["normalizer"] = json!({"type": "NFC"});
            json
        };
        let files = rows.flat_map(|pre| {
            let json = file(pre.patterns, pre.ignore_merges);
            [json.clone(), nfc(json)]
        });
        files.map(|json| pair(&json).expect("ours")).collect()
    });

    proptest! {
        #[test]
        fn both_encoders_give_the_same_tokens(any in any::<String>(), marks in "[ae<>|A°\u{300}-\u{345}ﬁ가ᄀ-다-ᅣᆨ-ᆪ\u{1100}Å豈]{0,20}(<.end.>\u{338})?", words in "[ helo12345'sS\n\r\té🦙!<|end|>]{0,60}|(hello|  he|<.end.>|[ A-Zé]){0,9}") {
            for pair in PAIRS.iter() {
                pair.check(&any);
                pair.check(&marks);
                pair.check(&words);
            }
        }
    }

    #[test]
    fn only_byte_level_bpe_is_recognized() {
        let changed = |pointer: &str, value: Value| {
            let mut json = file(&[GPT_2], false);
            *json.pointer_mut(pointer).unwrap() = value;
            pair(&json).is_some()
        };
        assert!(changed("/model/merges", json!([["h", "e"], ["l", "l"]])));
        assert!(changed(
            "/pre_tokenizer",
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
        ));
        assert!(!changed(
            "/pre_tokenizer",
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
        ));
        assert!(!changed("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("[a-z]+")));
        assert!(!changed("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed")));
        assert!(!changed("/normalizer", json!({"type": "Lowercase"})));
        assert!(changed("/normalizer", json!({"type": "NFC"})));
        let mut json = file(&[GPT_2], false);
        for i in 0..3 {
            json["added_tokens"][i]["normalized"] = true.into();
        }
        assert!(pair(&json).is_some());
        json["normalizer"] = json!({"type": "NFC"});
        assert!(pair(&json).is_none());
        assert!(!changed("/model/byte_fallback", json!(true)));
        assert!(!changed("/added_tokens/0/lstrip", json!(true)));
        assert!(!changed("/added_tokens/0/normalized", json!(true)));
        assert!(!changed("/added_tokens/2/content", json!("end|>")));
        assert!(!changed("/added_tokens/2/content", json!(">>")));
    }
}
