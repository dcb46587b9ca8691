//! The `tokenizer.json` files that are plain byte-level BPE, which [`Bpe`] runs as the library does, and much faster.

use crate::bpe::Bpe;
use crate::bytes::ALPHABET;
use crate::pre::{GPT_2, PRE_TOKENIZERS, Pre};
use crate::tokenizer::Model;
use crate::tokens::Tokens;
use crate::{Error, Kind, OwnedVocab, Result, Tokenizer, Vocab};
use serde::Deserialize;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{ModelWrapper, PreTokenizerWrapper};

/// Reads a `tokenizer.json` of plain byte-level BPE.
pub(crate) fn read(tokenizer: Tokenizer, tokenizer_json: &[u8]) -> Result<OwnedVocab> {
    let wrong = |problem: &str| Error::Json { file: "tokenizer.json", problem: problem.to_owned() };
    let inner = tokenizers::Tokenizer::from_bytes(tokenizer_json).map_err(|error| wrong(&error.to_string()))?;
    let len = tokenizer.len() as u32;
    let names: Vec<&str> = (0..len).map(|id| tokenizer.name(id).unwrap_or_default()).collect();
    let plain = plain(&inner, tokenizer_json, &names, &tokenizer.tokens).ok_or_else(|| {
        wrong(
            "expected plain byte-level BPE, WordPiece or Unigram, which a GGUF file can hold, found another tokenizer",
        )
    })?;
    let is_it =
        |row: &&Pre| (row.patterns, row.whole_words, row.plain) == (plain.pre.patterns, plain.pre.whole_words, false);
    let pre = PRE_TOKENIZERS.iter().find(is_it).ok_or_else(|| {
        wrong("model.ignore_merges: expected what the models with this pre-tokenizer have, found the opposite")
    })?;
    let around = |ids: &[u32], id: Option<u32>, name: &str| match ids {
        [] => Ok((id, false)),
        [one] if id.is_none_or(|id| id == *one) => Ok((Some(*one), true)),
        _ => Err(wrong(&format!("post_processor: expected at most {name}, found the tokens {ids:?}"))),
    };
    let (bos, add_bos) = around(&tokenizer.prefix, tokenizer.bos, "BOS in front")?;
    let (eos, add_eos) = around(&tokenizer.suffix, tokenizer.eos, "EOS behind")?;
    // Ids that are not used get names, as GGUF files have them, that are all different.
    let token = |(id, name): (usize, &str)| if name.is_empty() { format!("[PAD{id}]") } else { name.to_owned() };
    let tokens = names.into_iter().enumerate().map(token).collect();
    let rest = Vocab {
        model: "gpt2",
        pre: Some(pre.names[0]),
        types: tokenizer.tokens.kinds.iter().map(|kind| kind.token_type()).collect(),
        bos,
        eos,
        add_bos: Some(add_bos),
        add_eos: Some(add_eos),
        ..Vocab::default()
    };
    Ok(OwnedVocab { rest, tokens, merges: plain.merges, chat_template: tokenizer.chat_template })
}

/// What the library keeps to itself.
#[derive(Deserialize)]
struct Json {
    model: Merges,
}

#[derive(Deserialize)]
struct Merges {
    merges: Vec<Merge>,
}

/// A merge, as older and as newer files write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

/// The encoder of `inner`, which was read from `json` and has these `tokens`; `None` where ours would give other tokens.
pub(crate) fn encoder(
    inner: &tokenizers::Tokenizer,
    json: &[u8],
    names: &[&str],
    tokens: &Tokens,
) -> Option<Box<dyn Model>> {
    let Plain { pre, merges } = plain(inner, json, names, tokens)?;
    let merges = merges.iter().map(String::as_str).collect();
    let vocab = Vocab { tokens: names.to_vec(), merges, ..Vocab::default() };
    Bpe::load(&vocab, tokens, &pre, &mut Vec::new()).ok()
}

/// What a plain byte-level BPE does with the spellings of its tokens.
struct Plain {
    pre: Pre,
    /// Pairs of spellings with a space between.
    merges: Vec<String>,
}

/// `inner` as a byte-level BPE, `None` where it is something else or more.
fn plain(inner: &tokenizers::Tokenizer, json: &[u8], names: &[&str], tokens: &Tokens) -> Option<Plain> {
    let ModelWrapper::BPE(bpe) = inner.get_model() else { return None };
    let affixes = [&bpe.continuing_subword_prefix, &bpe.end_of_word_suffix];
    let plain = bpe.unk_token.is_none()
        && !bpe.byte_fallback
        && affixes.into_iter().flatten().all(String::is_empty)
        && inner.get_normalizer().is_none()
        && ALPHABET.iter().all(|c| tokens.id(c.encode_utf8(&mut [0; 4]).as_bytes()).is_some());
    if !plain || !added_tokens_are_plain(inner, names, tokens) {
        return None;
    }
    let pre = pre_tokenizer(inner.get_pre_tokenizer()?)?;
    let pre = Pre { whole_words: bpe.ignore_merges, ..*pre };
    let Json { model: Merges { merges } } = serde_json::from_slice(json).ok()?;
    let join = |merge| match merge {
        Merge::Joined(merge) => Some(merge),
        Merge::Pair(left, right) if left.contains(' ') || right.contains(' ') => None,
        Merge::Pair(left, right) => Some(format!("{left} {right}")),
    };
    Some(Plain { pre, merges: merges.into_iter().map(join).collect::<Option<_>>()? })
}

/// The row that splits as these steps do, the last of which makes bytes of the words.
fn pre_tokenizer(steps: &PreTokenizerWrapper) -> Option<&'static Pre> {
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
    PRE_TOKENIZERS.iter().find(|pre| !pre.plain && pre.patterns == patterns)
}

/// The regular expression whose matches a step cuts out.
fn pattern(step: &PreTokenizerWrapper) -> Option<String> {
    match step {
        PreTokenizerWrapper::Split(split) if split.behavior == SplitDelimiterBehavior::Isolated && !split.invert => {
            match &split.pattern {
                // Some files have the ends of lines themselves in their patterns.
                SplitPattern::Regex(pattern) => Some(pattern.replace('\r', r"\r").replace('\n', r"\n")),
                SplitPattern::String(_) => None,
            }
        }
        PreTokenizerWrapper::Digits(digits) if digits.individual_digits => Some(r"\p{N}".to_owned()),
        _ => None,
    }
}

/// Whether the tokens found in a text before it is split are found alike: all in one go, wherever they stand, and the others even where
/// the special ones are text.
fn added_tokens_are_plain(inner: &tokenizers::Tokenizer, names: &[&str], tokens: &Tokens) -> bool {
    let added = inner.get_added_vocabulary().get_added_tokens_decoder();
    let normalized = added.values().any(|token| token.normalized);
    let plain = added.values().all(|token| {
        !(token.single_word || token.lstrip || token.rstrip || token.content.is_empty())
            && token.normalized == normalized
    });
    let of = |wanted| names.iter().zip(&tokens.kinds).filter(move |(_, kind)| **kind == wanted).map(|(name, _)| *name);
    plain && !of(Kind::Control).any(|special| of(Kind::UserDefined).any(|other| overlap(special, other)))
}

/// Whether two names can share bytes in a text.
fn overlap(a: &str, b: &str) -> bool {
    let ends = |a: &str, b: &str| (1..a.len().min(b.len())).any(|n| a.as_bytes().ends_with(&b.as_bytes()[..n]));
    a.contains(b) || b.contains(a) || ends(a, b) || ends(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Hub;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    /// The same file, run by us and by the library.
    struct Pair {
        ours: Box<dyn Model>,
        theirs: Hub,
        tokens: Tokens,
    }

    impl Pair {
        fn check(&self, text: &str) {
            for special in [false, true] {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                self.ours.encode(&self.tokens, text, special, &mut ours);
                self.theirs.encode(&self.tokens, text, special, &mut theirs);
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
        let kind =
            |id| added.get(&id).map_or(Kind::Normal, |t| if t.special { Kind::Control } else { Kind::UserDefined });
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tokens = Tokens::new(&names, (0..len).map(kind).collect(), Bpe::piece);
        let ours = encoder(&inner, json.as_bytes(), &names, &tokens)?;
        Some(Pair { ours, theirs: Hub::new(inner, false), tokens })
    }

    /// Byte-level BPE with a few merges.
    fn file(patterns: &[&str], whole_words: bool) -> Value {
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
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole_words, "vocab": vocab, "merges": merges},
        })
    }

    static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
        let rows = PRE_TOKENIZERS.iter().filter(|pre| !pre.plain);
        let files = rows.map(|pre| file(pre.patterns, pre.whole_words));
        files.map(|json| pair(&json).expect("ours")).collect()
    });

    proptest! {
        #[test]
        fn our_tokens_are_those_of_the_library(any in any::<String>(), words in "[ helo12345'sS\n\r\té🦙!<|end|>]{0,60}|(hello|  he|<.end.>|[ A-Zé]){0,9}") {
            for pair in PAIRS.iter() {
                pair.check(&any);
                pair.check(&words);
            }
        }
    }

    #[test]
    fn what_is_ours_to_run_and_what_is_not() {
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
        assert!(!changed("/model/byte_fallback", json!(true)));
        assert!(!changed("/added_tokens/0/lstrip", json!(true)));
        assert!(!changed("/added_tokens/0/normalized", json!(true)));
        assert!(!changed("/added_tokens/2/content", json!("end|>")));
        assert!(!changed("/added_tokens/2/content", json!(">>")));
    }
}
