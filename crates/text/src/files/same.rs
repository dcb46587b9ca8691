//! Whether a vocabulary of GGUF encodes and decodes texts as the tokenizer of which it was made.

use super::vocab::OwnedVocab;
use crate::{EncodeOptions, Error, Result, TokenType, Tokenizer};

/// Texts in whose spaces, characters and line ends tokenizers differ. None has U+2581, which stands for a space in GGUF.
#[rustfmt::skip]
const TEXTS: [&str; 30] = [
    "", " ", "  ", "\n", "a", " a", "  a", "a ", "a  ", "  a  b  ", "Hello  world's 123, 4567!", "caf\u{e9} ", "cafe\u{301}", "\tx\ty\t",
    "\na\n\n b \r\n", "\u{a0}a\u{a0}", "a\u{3000}b", "a\u{200b}b", "\u{fb01}\u{2460}\u{ff21}", "NA\u{cf}VE \u{130}I",
    "\u{4f60}\u{597d}\u{4e16}\u{754c}", "\u{1f999}\u{1f999} \u{2603}", "\u{3b1}\u{3b2} \u{5d0} \u{e01}", "x_y-z/w: {\"a\": [1, 2]}", "don't stop",
    "...   ...", "a.b c", "1 000 000", "\u{fffd}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Refuses a vocabulary that gives other tokens, or another text of them, than `tokenizer`, which finds the added tokens of the names `normalized` in normalized texts.
///
/// # Errors
/// When it does, or is malformed.
pub(super) fn check(tokenizer: &Tokenizer, normalized: &[&str], vocab: &OwnedVocab) -> Result<()> {
    let gguf = Tokenizer::new(vocab.clone().for_gguf()?.vocab())?;
    let some = |kind| {
        let ids = (0..tokenizer.len() as u32).filter(move |&id| tokenizer.token_type(id) == Some(kind));
        let names = ids.filter_map(|id| tokenizer.name(id)).filter(|name| !name.is_empty()).enumerate();
        names.filter(|(i, name)| *i < 3 || normalized.contains(name)).map(|(_, name)| name)
    };
    let around = |mark: &str| ["a{}b", "a {} b", "{} a ", " {}a", "{}  {}"].map(|text| text.replace("{}", mark));
    let texts = TEXTS.iter().map(|text| (*text).to_owned()).chain(some(TokenType::UserDefined).flat_map(around));
    // The tokenizers crate takes names of control tokens in plain text for these tokens where its model has them; GGUF never does.
    let cases = texts.flat_map(|text| [(text.clone(), false), (text, true)]);
    for (text, parse_special) in cases.chain(some(TokenType::Control).flat_map(around).map(|text| (text, true))) {
        let options = EncodeOptions { parse_special, add_special: true };
        let [expected, found] = [tokenizer, &gguf].map(|tokenizer| tokenizer.encode(&text, options));
        if found != expected {
            let problem = format!(
                "expected a tokenizer that GGUF can hold, found one that makes {expected:?} of {text:?}, and {found:?} in GGUF"
            );
            return Err(Error::vocabulary("tokenizer.json", problem));
        }
        let [expected, found] = [tokenizer, &gguf].map(|tokenizer| tokenizer.decode(&found));
        if found != expected {
            let problem = format!(
                "expected a tokenizer that GGUF can hold, found one whose tokens of {text:?} are the text {expected:?}, and {found:?} in GGUF"
            );
            return Err(Error::vocabulary("tokenizer.json", problem));
        }
    }
    Ok(())
}
