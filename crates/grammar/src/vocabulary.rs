use crate::Error;
use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use std::sync::Arc;
use trine_text::{TokenType, Tokenizer};

/// The tokens of a model by their bytes, as grammars need them. Clones share it.
#[derive(Clone)]
pub struct Vocabulary {
    pub(crate) factory: Arc<ParserFactory>,
    /// Names and ids of control tokens.
    pub(crate) control: Arc<[(String, u32)]>,
}

impl Vocabulary {
    /// Longest token that an answer may have. Longer ones are never allowed: others spell the same text.
    const LONGEST: usize = 1000;

    /// Takes a moment for a large vocabulary: make one for each model.
    ///
    /// # Errors
    /// When no token ends an answer, or there are too many tokens.
    pub fn new(tokenizer: &Tokenizer) -> Result<Vocabulary, Error> {
        let n = tokenizer.len() as u32;
        let ends: Vec<u32> = tokenizer.eog_tokens().filter(|&id| id < n).collect();
        let Some(&end) = ends.first() else {
            return Err(Error::Vocabulary("no token ends an answer".to_owned()));
        };
        let words: Vec<Vec<u8>> = (0..n).map(|id| word(tokenizer, id)).collect();
        let make = || {
            let trie = TokTrie::from(&TokRxInfo::new(n, end), &words).with_eos_tokens(&ends);
            // It does not tokenize as the model does, so that no spelling of an answer is forced on it.
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let slices = SlicedBiasComputer::general_slices();
            let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)?;
            factory.quiet();
            Ok(factory)
        };
        let factory = catch_unwind(std::panic::AssertUnwindSafe(make));
        let factory = factory.map_err(|error| Error::Vocabulary(first_line(&error)))?;
        let named = |id| Some((tokenizer.name(id)?.to_owned(), id));
        let control =
            (0..n).filter(|&id| tokenizer.is_control(id) && !word(tokenizer, id).is_empty()).filter_map(named);
        Ok(Vocabulary { factory: Arc::new(factory), control: control.collect() })
    }
}

/// The bytes of a token. Those of a control token follow the mark of special tokens, which only a grammar that names the token matches; a
/// token without bytes is never allowed.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let piece = tokenizer.piece(id).unwrap_or_default();
    match tokenizer.token_type(id) {
        // The mark occurs in no text, and a token with it in its bytes must not be taken for one of these.
        _ if piece.contains(&MARK) || piece.len() > Vocabulary::LONGEST => Vec::new(),
        None | Some(TokenType::Unknown) => Vec::new(),
        Some(TokenType::Control) if piece.is_empty() => Vec::new(),
        Some(TokenType::Control) => [&[MARK], piece].concat(),
        Some(_) => piece.to_vec(),
    }
}

/// The message of an error without what the parser adds below it: its state, and a picture of the place.
pub(crate) fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().trim_end().to_owned()
}
