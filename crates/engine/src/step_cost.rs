//! How long a step takes, by what it has to do.

/// The work of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Tokens that generating sequences run.
    pub rows: usize,
    /// Tokens that these attend to, all rows together.
    pub row_keys: usize,
    /// Tokens of prompts.
    pub tokens: usize,
    /// Tokens that these attend to.
    pub token_keys: usize,
}

/// Tokens that `tokens` in a row attend to, of which `cached` come before.
pub(crate) fn keys(cached: usize, tokens: usize) -> usize {
    cached * tokens + tokens * tokens / 2
}

/// Seconds of a step, linear in its work: on a CPU, weights are read once for all rows, and each row multiplies them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepCost {
    pub step: f64,
    pub row: f64,
    pub row_key: f64,
    pub token: f64,
    pub token_key: f64,
}

/// The share of an observation in what it corrects.
const LEARNING_RATE: f64 = 0.1;

impl StepCost {
    /// From the seconds of measured steps: of one row, of `rows` rows, of one row after `depth` tokens, and of a prompt of `tokens` tokens.
    pub fn fit(
        one: f64,
        (rows, many): (usize, f64),
        (depth, deep): (usize, f64),
        (tokens, prompt): (usize, f64),
    ) -> StepCost {
        let per = |seconds: f64, n: usize| if n == 0 { 0.0 } else { (seconds / n as f64).max(0.0) };
        let row = per(many - one, rows.saturating_sub(1)).min(one);
        let step = one - row;
        let key = per(deep - one, depth);
        let token = per(prompt - step - key * keys(0, tokens) as f64, tokens).max(one * 1e-3);
        StepCost { step, row, row_key: key, token, token_key: key }
    }

    /// Seconds of a step without prompts.
    pub fn generating(&self, work: Work) -> f64 {
        self.step + self.row * work.rows as f64 + self.row_key * work.row_keys as f64
    }

    /// Seconds that prompts add.
    pub fn prompts(&self, work: Work) -> f64 {
        self.token * work.tokens as f64 + self.token_key * work.token_keys as f64
    }

    /// Seconds to read so many tokens of a prompt after `cached` ones.
    pub fn prompt(&self, cached: usize, tokens: usize) -> f64 {
        self.prompts(Work { tokens, token_keys: keys(cached, tokens), ..Work::default() })
    }

    /// How many tokens of a prompt can be read in so many seconds, after `cached` ones.
    pub fn tokens_within(&self, seconds: f64, cached: usize) -> usize {
        // token_key/2 n² + (token + token_key cached) n = seconds
        let (a, b) = (self.token_key / 2.0, self.token + self.token_key * cached as f64);
        let seconds = seconds.max(0.0);
        (2.0 * seconds / (b + (b * b + 4.0 * a * seconds).sqrt())) as usize
    }

    /// Corrects the estimate by a step that took `seconds`. One that was disturbed counts no more than one of twice the time.
    pub fn observe(&mut self, work: Work, seconds: f64) {
        let correction = |found: f64, expected: f64| 1.0 + LEARNING_RATE * ((found / expected).clamp(0.5, 2.0) - 1.0);
        let (generating, prompts) = (self.generating(work), self.prompts(work));
        if work.tokens == 0 {
            let by = correction(seconds, generating);
            for cost in [&mut self.step, &mut self.row, &mut self.row_key] {
                *cost *= by;
            }
        } else {
            let by = correction(seconds - generating, prompts);
            for cost in [&mut self.token, &mut self.token_key] {
                *cost *= by;
            }
        }
    }
}

/// The least share of a step that prompts get.
const PROMPT_SHARE: f64 = 0.15;
/// What a step may take at most if generating alone takes more than the target, relative to that.
const SLACK: f64 = 1.3;
/// What a step may take while nothing generates, relative to the target: chunks large enough for the best throughput, and short enough for
/// whoever comes or leaves meanwhile.
const ALONE: f64 = 10.0;

/// How long steps may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepBudget {
    /// Seconds between two tokens of a sequence.
    pub target: f64,
    pub cost: StepCost,
}

impl StepBudget {
    /// Seconds that a step may take in which this work is done beside prompts.
    pub fn target(&self, work: Work) -> f64 {
        let generating = self.cost.generating(work);
        if generating > self.target { SLACK * generating } else { self.target }
    }

    /// Seconds for prompts in a step in which this work is done, too.
    pub fn for_prompts(&self, work: Work) -> f64 {
        if work.rows == 0 {
            return ALONE * self.target;
        }
        let generating = self.cost.generating(work);
        (self.target(work) - generating).max(generating * PROMPT_SHARE / (1.0 - PROMPT_SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: StepCost = StepCost { step: 0.04, row: 0.002, row_key: 1e-6, token: 0.004, token_key: 2e-7 };

    #[test]
    fn a_fit_gives_back_what_it_was_measured_with() {
        let exact = StepCost { token_key: 1e-6, ..COST };
        let seconds = |rows, depth: usize, tokens| {
            let work = Work { rows, row_keys: rows * depth, tokens, token_keys: keys(0, tokens) };
            exact.generating(work) + exact.prompts(work)
        };
        let found = StepCost::fit(
            seconds(1, 0, 0),
            (8, seconds(8, 0, 0)),
            (1000, seconds(1, 1000, 0)),
            (64, seconds(0, 0, 64)),
        );
        for (found, expected) in [
            (found.step, exact.step),
            (found.row, exact.row),
            (found.row_key, exact.row_key),
            (found.token, exact.token),
            (found.token_key, exact.token_key),
        ] {
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} for {expected}");
        }
    }

    #[test]
    fn noise_gives_costs_that_are_not_negative() {
        let cost = StepCost::fit(0.05, (8, 0.04), (100, 0.01), (64, 0.03));
        let StepCost { step, row, row_key, token, token_key } = cost;
        assert!(step > 0.0 && row >= 0.0 && row_key >= 0.0 && token > 0.0 && token_key >= 0.0, "{cost:?}");
        assert!(cost.tokens_within(1.0, 0) < 100_000);
    }

    #[test]
    fn as_many_tokens_as_fit() {
        for cached in [0, 1000, 30_000] {
            for seconds in [0.0, 0.001, 0.05, 1.0] {
                let n = COST.tokens_within(seconds, cached);
                assert!(COST.prompt(cached, n) <= seconds + 1e-9 && COST.prompt(cached, n + 2) > seconds, "{n}");
            }
        }
    }

    #[test]
    fn observations_lead_to_the_true_cost() {
        let mut cost = COST;
        for i in 0..200 {
            let work = Work { rows: 8, row_keys: 8000, tokens: 64 * (i % 2), token_keys: keys(500, 64 * (i % 2)) };
            cost.observe(work, 3.0 * COST.generating(work) + 0.5 * COST.prompts(work));
        }
        let work = Work { rows: 8, row_keys: 8000, tokens: 64, token_keys: keys(500, 64) };
        assert!((cost.generating(work) / COST.generating(work) - 3.0).abs() < 0.1);
        assert!((cost.prompts(work) / COST.prompts(work) - 0.5).abs() < 0.1);
    }
}
