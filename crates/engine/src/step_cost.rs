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
    /// What a step costs more if it has any tokens of prompts.
    pub chunk: f64,
    pub token: f64,
    pub token_key: f64,
}

/// The seconds of the steps that [`StepCost::fit`] is measured with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// One row.
    pub one: f64,
    /// So many rows.
    pub many: (usize, f64),
    /// One row after so many tokens.
    pub deep: (usize, f64),
    /// The rows of `many`, and so many tokens of a prompt.
    pub short: (usize, f64),
    /// The same with a longer prompt.
    pub long: (usize, f64),
}

/// The share of an observation in what it corrects.
const LEARNING_RATE: f64 = 0.2;

impl StepCost {
    pub fn fit(Measured { one, many, deep, short, long }: Measured) -> StepCost {
        let per = |seconds: f64, n: usize| if n == 0 { 0.0 } else { (seconds / n as f64).max(0.0) };
        let row = per(many.1 - one, many.0.saturating_sub(1)).min(one);
        let step = one - row;
        let key = per(deep.1 - one, deep.0);
        let prompt = |(tokens, seconds): (usize, f64)| seconds - many.1 - key * keys(0, tokens) as f64;
        let token = per(prompt(long) - prompt(short), long.0.saturating_sub(short.0)).max(one * 1e-3);
        let chunk = (prompt(short) - token * short.0 as f64).clamp(0.0, one);
        StepCost { step, row, row_key: key, chunk, token, token_key: key }
    }

    /// Seconds of a step without prompts.
    pub fn generating(&self, work: Work) -> f64 {
        self.step + self.row * work.rows as f64 + self.row_key * work.row_keys as f64
    }

    /// Seconds that prompts add.
    pub fn prompts(&self, work: Work) -> f64 {
        let chunk = if work.tokens > 0 { self.chunk } else { 0.0 };
        chunk + self.token * work.tokens as f64 + self.token_key * work.token_keys as f64
    }

    /// Seconds that so many tokens of a prompt after `cached` ones add to a step that has others.
    pub fn prompt(&self, cached: usize, tokens: usize) -> f64 {
        self.token * tokens as f64 + self.token_key * keys(cached, tokens) as f64
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
            for cost in [&mut self.chunk, &mut self.token, &mut self.token_key] {
                *cost *= by;
            }
        }
    }
}

/// The share of a step that is left to a prompt, though the step then takes longer than the target: 1.3 times what generating takes.
const PROMPT_SHARE: f64 = 0.23;
/// The share of several together. With less, most of many users wait for their prompts, and few share the reading of the weights.
const PROMPTS_SHARE: f64 = 0.7;
/// The least share that prompts get, however wrong the estimates are.
const LEAST_SHARE: f64 = 0.15;
/// What a step may take while nothing generates, relative to the target: chunks large enough for the best throughput, and short enough for
/// whoever comes or leaves meanwhile.
const ALONE: f64 = 10.0;

/// The share of steps with prompts that keep to the target, when estimates err as they did before.
const KEPT: f64 = 0.98;
/// How fast [`StepBudget::overrun`] follows.
const OVERRUN_RATE: f64 = 0.05;
/// The most that is allowed for estimates that err.
const MAX_OVERRUN: f64 = 1.5;

/// What a step takes, relative to generating, that leaves a share to prompts.
fn relative(share: f64) -> f64 {
    1.0 / (1.0 - share)
}

/// How long steps may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepBudget {
    /// Seconds between two tokens of a sequence.
    pub target: f64,
    pub cost: StepCost,
    /// How much longer than estimated a step takes at most, but for one in fifty: a quantile that each step moves.
    overrun: f64,
}

impl StepBudget {
    pub fn new(target: f64, cost: StepCost) -> StepBudget {
        StepBudget { target, cost, overrun: 1.0 }
    }

    /// Seconds that a step may take in which this work is done beside so many prompts.
    pub fn target(&self, work: Work, prompts: usize) -> f64 {
        let share = match prompts {
            0 => 0.0,
            1 => PROMPT_SHARE,
            _ => PROMPTS_SHARE,
        };
        self.target.max(self.cost.generating(work) * relative(share))
    }

    /// Seconds for tokens of so many prompts in a step in which this work is done, too.
    pub fn for_prompts(&self, work: Work, prompts: usize) -> f64 {
        if work.rows == 0 {
            return ALONE * self.target;
        }
        let generating = self.cost.generating(work);
        let least = generating * (relative(LEAST_SHARE) - 1.0);
        (self.target(work, prompts) / self.overrun - generating - self.cost.chunk).max(least)
    }

    /// Corrects the estimates by a step that took `seconds`.
    pub fn observe(&mut self, work: Work, seconds: f64) {
        if work.rows > 0 && work.tokens > 0 {
            let exceeded = seconds > self.overrun * (self.cost.generating(work) + self.cost.prompts(work));
            let by = if exceeded { KEPT } else { KEPT - 1.0 };
            self.overrun = (self.overrun + OVERRUN_RATE * by).clamp(1.0, MAX_OVERRUN);
        }
        self.cost.observe(work, seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: StepCost =
        StepCost { step: 0.04, row: 0.002, row_key: 1e-6, chunk: 0.01, token: 0.004, token_key: 2e-7 };

    #[test]
    fn a_fit_gives_back_what_it_was_measured_with() {
        let exact = StepCost { token_key: 1e-6, ..COST };
        let seconds = |rows, depth: usize, tokens| {
            let work = Work { rows, row_keys: rows * depth, tokens, token_keys: keys(0, tokens) };
            exact.generating(work) + exact.prompts(work)
        };
        let found = StepCost::fit(Measured {
            one: seconds(1, 0, 0),
            many: (8, seconds(8, 0, 0)),
            deep: (1000, seconds(1, 1000, 0)),
            short: (16, seconds(8, 0, 16)),
            long: (64, seconds(8, 0, 64)),
        });
        for (found, expected) in [
            (found.step, exact.step),
            (found.row, exact.row),
            (found.row_key, exact.row_key),
            (found.chunk, exact.chunk),
            (found.token, exact.token),
            (found.token_key, exact.token_key),
        ] {
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} for {expected}");
        }
    }

    #[test]
    fn noise_gives_costs_that_are_not_negative() {
        let measured = |short, long| Measured { one: 0.05, many: (8, 0.04), deep: (100, 0.01), short, long };
        for (short, long) in [((16, 0.03), (64, 0.02)), ((16, 0.9), (64, 0.02)), ((1, 0.05), (1, 0.05))] {
            let cost = StepCost::fit(measured(short, long));
            let StepCost { step, row, row_key, chunk, token, token_key } = cost;
            let never_negative = [row, row_key, chunk, token_key].iter().all(|&cost| cost >= 0.0);
            assert!(step > 0.0 && token > 0.0 && never_negative, "{cost:?}");
            assert!(cost.tokens_within(1.0, 0) < 100_000);
        }
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

    #[test]
    fn steps_keep_to_the_target_though_one_in_ten_takes_longer_than_thought() {
        let mut budget = StepBudget::new(0.1, COST);
        let rows = Work { rows: 4, row_keys: 4000, ..Work::default() };
        let mut exceeded = 0;
        for i in 0..1000 {
            let tokens = budget.cost.tokens_within(budget.for_prompts(rows, 1), 0);
            let work = Work { tokens, token_keys: keys(0, tokens), ..rows };
            let disturbed = if i % 10 == 0 { 1.3 } else { 1.0 };
            let seconds = disturbed * (COST.generating(work) + COST.prompts(work));
            exceeded += usize::from(i >= 500 && seconds > 0.1 * 1.05);
            budget.observe(work, seconds);
        }
        assert!(exceeded <= 10, "{exceeded} of 500");
    }
}
