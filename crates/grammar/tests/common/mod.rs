//! A vocabulary, and whether a grammar accepts a text.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};
use trine_engine::sample::{Candidates, Filter, History};
use trine_grammar::{Constraint, Error, Grammar, Limits, Vocabulary};
use trine_model::{EMBEDDED, Language, open_file};
use trine_text::{EncodeOptions, Tokenizer};

/// The embedded model's tokenizer, with its vocabulary.
pub struct Tokens {
    pub tokenizer: Tokenizer,
    pub vocabulary: Vocabulary,
    logits: Vec<f32>,
}

impl Tokens {
    pub fn embedded() -> Tokens {
        let file = open_file(EMBEDDED, &Default::default()).unwrap();
        Tokens::new(Language::of(&file).unwrap().tokenizer)
    }

    pub fn new(tokenizer: Tokenizer) -> Tokens {
        let vocabulary = Vocabulary::new(&tokenizer).unwrap();
        let logits = vec![0.0; tokenizer.len()];
        Tokens { tokenizer, vocabulary, logits }
    }

    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, EncodeOptions::default())
    }

    pub fn grammar(&self, constraint: &Constraint) -> Result<Grammar, Error> {
        Grammar::new(&self.vocabulary, constraint)
    }

    pub fn limited(&self, constraint: &Constraint, limits: &Limits) -> Result<Grammar, Error> {
        Grammar::with_limits(&self.vocabulary, constraint, limits)
    }

    /// The tokens that may follow a history.
    pub fn allowed(&self, filter: &mut dyn Filter, history: &[u32]) -> Result<Vec<u32>, trine_engine::Error> {
        let mut candidates = Candidates::default();
        candidates.fill(&self.logits);
        filter.apply(&mut candidates, History { tokens: history, prompt: 0 })?;
        Ok(candidates.items().iter().map(|candidate| candidate.id).collect())
    }

    /// Whether a text in which control tokens are spelled is an answer, token by token; or else the byte where it is none.
    pub fn consumes(&self, grammar: &Grammar, text: &str) -> Result<(), usize> {
        let ids = self.tokenizer.encode(text, EncodeOptions { parse_special: true, add_special: false });
        let (mut filter, mut at) = (grammar.filter(), 0);
        for (i, &id) in ids.iter().enumerate() {
            match self.allowed(&mut *filter, &ids[..i]) {
                Ok(allowed) if allowed.contains(&id) => {}
                _ => return Err(at),
            }
            filter.accept(id);
            at += self.tokenizer.piece(id).map_or(0, <[u8]>::len);
        }
        match self.allowed(&mut *filter, &ids) {
            Ok(allowed) if allowed.iter().any(|&id| self.tokenizer.is_eog(id)) => Ok(()),
            _ => Err(at),
        }
    }

    /// Whether a text is an answer, token by token, which may end there.
    pub fn accepts(&self, grammar: &Grammar, text: &str) -> bool {
        let (mut filter, mut history) = (grammar.filter(), Vec::new());
        for id in self.encode(text) {
            match self.allowed(&mut *filter, &history) {
                Ok(allowed) if allowed.contains(&id) => {}
                _ => return false,
            }
            filter.accept(id);
            history.push(id);
        }
        let ends = |allowed: Vec<u32>| allowed.iter().any(|&id| self.tokenizer.is_eog(id));
        self.allowed(&mut *filter, &history).is_ok_and(ends)
    }
}

/// A file of the shared data; prints a message and returns `None` if it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("TRINE_SHARED").map_or_else(beside, PathBuf::from).join("data").join(path);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
    }
    path.exists().then_some(path)
}
