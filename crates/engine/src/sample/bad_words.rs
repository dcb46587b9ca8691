use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};
use trine_text::{EncodeOptions, Tokenizer};

/// Forbids the last token of sequences after the others.
struct BadWords {
    /// Those that may not be in the answer.
    words: Vec<Vec<u32>>,
    /// Those of which the beginning may be in the prompt.
    ids: Vec<Vec<u32>>,
}

impl Filter for BadWords {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        for (sequences, tokens) in [(&self.words, &history.tokens[history.prompt..]), (&self.ids, history.tokens)] {
            for (last, before) in sequences.iter().filter_map(|sequence| sequence.split_last()) {
                if tokens.ends_with(before) {
                    candidates.add(*last, f64::NEG_INFINITY);
                }
            }
        }
        Ok(())
    }
}

/// The tokens of a word, and those of the word after a space if that only gives it another first token: vLLM's rule.
fn spellings(tokenizer: &Tokenizer, word: &str) -> impl Iterator<Item = Vec<u32>> {
    let word = word.trim_start();
    let encode = |text: &str| tokenizer.encode(text, EncodeOptions { parse_special: true, add_special: false });
    let (bare, spaced) = (encode(word), encode(&format!(" {word}")));
    let differs = spaced.len() == bare.len() && spaced.first() != bare.first();
    [Some(bare), Some(spaced).filter(|_| differs)].into_iter().flatten()
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "bad_words",
    params: &[
        Param {
            name: "bad_words",
            help: "Never generate the tokens of this text; may be repeated",
            range: (0.0, 1024.0),
            field: |sampling| Field::Texts(&mut sampling.bad_words),
        },
        Param {
            name: "bad_words_ids",
            help: "Never generate this sequence of tokens, such as 42,7; may be repeated",
            range: (0.0, 1024.0),
            field: |sampling| Field::Sequences(&mut sampling.bad_words_ids),
        },
    ],
    reorders: true,
    truncates: false,
    build: |sampling, tokenizer| match sampling.bad_words.len() + sampling.bad_words_ids.len() {
        0 => None,
        _ => Some(Box::new(BadWords {
            words: sampling.bad_words.iter().flat_map(|word| spellings(tokenizer, word)).collect(),
            ids: sampling.bad_words_ids.clone(),
        })),
    },
};
