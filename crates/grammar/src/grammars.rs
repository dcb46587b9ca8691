use crate::{Constraint, Error, Grammar, Limits, Stop, Vocabulary};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use trine_text::Tokenizer;

/// Compiles the constraints of a model's answers, and keeps the grammars. The vocabulary is made for the first of them.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    vocabulary: OnceLock<Vocabulary>,
    compiled: Mutex<HashMap<Constraint, Grammar>>,
}

impl Grammars {
    /// Grammars that are kept; when there are more, all of them are forgotten.
    const KEPT: usize = 64;

    pub fn new(tokenizer: Arc<Tokenizer>) -> Grammars {
        Grammars { tokenizer, vocabulary: OnceLock::new(), compiled: Mutex::default() }
    }

    /// The grammar of a constraint, as [`Grammar::new`] compiles it.
    ///
    /// # Errors
    /// Those of [`Vocabulary::new`] and [`Grammar::new`].
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar, Error> {
        self.compile_until(constraint, &Stop::default())
    }

    /// As [`Grammars::compile`], unless it is told to stop.
    ///
    /// # Errors
    /// Those of [`Grammars::compile`], and [`Error::Stopped`].
    pub fn compile_until(&self, constraint: &Constraint, stop: &Stop) -> Result<Grammar, Error> {
        stop.check()?;
        let compiled = || self.compiled.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(grammar) = compiled().get(constraint) {
            return Ok(grammar.clone());
        }
        let vocabulary = match self.vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let made = Vocabulary::new(&self.tokenizer)?;
                self.vocabulary.get_or_init(|| made)
            }
        };
        let limits = Limits { stop: stop.clone(), ..Limits::default() };
        let grammar = Grammar::with_limits(vocabulary, constraint, &limits)?;
        let mut compiled = compiled();
        if compiled.len() >= Grammars::KEPT {
            compiled.clear();
        }
        compiled.insert(constraint.clone(), grammar.clone());
        Ok(grammar)
    }
}
