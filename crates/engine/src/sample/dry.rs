use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};
use std::sync::Arc;
use trine_text::Tokenizer;

/// Penalizes tokens that would extend a repetition of what comes last, exponentially in its length: DRY, "don't repeat yourself", as
/// llama.cpp's `dry` has it. Repetitions do not reach over a sequence breaker.
struct Dry {
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    /// Greatest exponent: powers of the base stay below the greatest float32.
    max_exponent: usize,
    last_n: usize,
    breakers: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    /// For each token, counted from the last, how many up to it are equal to the last ones.
    repeated: Vec<usize>,
    /// Tokens that extend repetitions, and the lengths of those.
    extending: Vec<(u32, usize)>,
}

impl Dry {
    fn piece(&self, token: u32) -> &[u8] {
        self.tokenizer.piece(token).unwrap_or_default()
    }

    /// How many further tokens a breaker takes that begins in the first of these; the longest one counts.
    fn breaks(&self, tokens: &[u32]) -> Option<usize> {
        let first = self.piece(*tokens.first()?);
        let covered = |breaker: &str, start: usize| {
            let (mut rest, mut piece) = (breaker.as_bytes(), &first[start..]);
            let mut further = 0;
            while !piece.starts_with(rest) {
                rest = rest.strip_prefix(piece)?;
                further += 1;
                piece = self.piece(*tokens.get(further)?);
            }
            Some(further)
        };
        let starts = |breaker| (0..first.len()).filter_map(move |start| covered(breaker, start));
        self.breakers.iter().flat_map(|breaker| starts(breaker)).max()
    }

    /// How many tokens at the end no breaker touches.
    fn unbroken(&self, tokens: &[u32]) -> usize {
        let from = |i: usize| Some(i - self.breaks(&tokens[tokens.len() - 1 - i..])?);
        (0..tokens.len()).find_map(from).unwrap_or(tokens.len())
    }
}

/// For each length `k` of an end of `tokens` that is cut off, how many tokens before are equal to the last ones, at most `most`: the
/// Z-algorithm (Gusfield 1997), from the end.
fn repetitions(tokens: &[u32], most: usize, lengths: &mut Vec<usize>) {
    let n = tokens.len();
    let at = |i: usize| tokens[n - 1 - i];
    lengths.clear();
    lengths.resize(n, 0);
    let (mut left, mut right) = (0, 0);
    for k in 1..n {
        let mut length = if k < right { lengths[k - left].min(right - k) } else { 0 };
        while k + length < n && at(length) == at(k + length) {
            length += 1;
        }
        if k + length > right {
            (left, right) = (k, k + length);
        }
        lengths[k] = length;
    }
    lengths.iter_mut().for_each(|length| *length = most.min(*length));
}

impl Filter for Dry {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        let tokens = &history.tokens[history.tokens.len().saturating_sub(self.last_n)..];
        let most = self.unbroken(tokens);
        if tokens.len() <= self.allowed_length || most < self.allowed_length {
            return Ok(());
        }
        let mut repeated = std::mem::take(&mut self.repeated);
        repetitions(tokens, most, &mut repeated);
        self.extending.clear();
        let long = (1..tokens.len()).filter(|&k| repeated[k] >= self.allowed_length);
        self.extending.extend(long.map(|k| (tokens[tokens.len() - k], repeated[k])));
        self.repeated = repeated;
        self.extending.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        self.extending.dedup_by_key(|(token, _)| *token);
        for &(token, length) in &self.extending {
            if self.breaks(&[token]).is_none() {
                let exponent = (length - self.allowed_length).min(self.max_exponent);
                candidates.add(token, -self.multiplier * libm::pow(self.base, exponent as f64));
            }
        }
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "dry",
    params: &[
        Param {
            name: "dry_multiplier",
            help: "Penalize the continuation of repeated sequences: DRY (0 = off)",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Float(&mut sampling.dry_multiplier),
        },
        Param {
            name: "dry_base",
            help: "Base of the penalty of DRY, whose exponent is the length of the repetition",
            range: (1.0, f64::INFINITY),
            field: |sampling| Field::Float(&mut sampling.dry_base),
        },
        Param {
            name: "dry_allowed_length",
            help: "Length of repetitions from which DRY penalizes",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Count(&mut sampling.dry_allowed_length),
        },
        Param {
            name: "dry_penalty_last_n",
            help: "Number of last tokens in which DRY looks for repetitions",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Count(&mut sampling.dry_penalty_last_n),
        },
        Param {
            name: "dry_sequence_breakers",
            help: "Text over which no repetition of DRY reaches; may be repeated",
            range: (0.0, 64.0),
            field: |sampling| Field::Texts(&mut sampling.dry_sequence_breakers),
        },
    ],
    reorders: true,
    truncates: false,
    build: |sampling, tokenizer| match (sampling.dry_multiplier, sampling.dry_penalty_last_n) {
        (0.0, _) | (_, 0) => None,
        (multiplier, last_n) => Some(Box::new(Dry {
            multiplier,
            base: sampling.dry_base,
            allowed_length: sampling.dry_allowed_length,
            max_exponent: match sampling.dry_base {
                base if base > 1.000001 => (libm::log(f64::from(f32::MAX)) / libm::log(base)) as usize,
                _ => usize::MAX,
            },
            last_n,
            breakers: sampling.dry_sequence_breakers.clone(),
            tokenizer: tokenizer.clone(),
            repeated: Vec::new(),
            extending: Vec::new(),
        })),
    },
};
