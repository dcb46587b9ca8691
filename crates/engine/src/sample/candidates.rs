use std::cmp::Ordering;
use std::ops::Range;

/// A token that may be sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub id: u32,
    /// Its logit, as the filters left it: finite at the beginning of each filter.
    pub logit: f64,
}

/// The tokens that may be sampled: at first all, by id. Every filter gets at least one, with finite logits.
#[derive(Debug, Default)]
pub struct Candidates {
    items: Vec<Candidate>,
    /// How many at the front are in order, and before all after them.
    sorted: usize,
    /// Whether a logit may have become infinite or NaN since [`Candidates::check`].
    unchecked: bool,
    /// How often a token occurs, while [`Candidates::adjust`] counts; zeros otherwise.
    counts: Vec<u32>,
}

/// Candidates to put in order at first when it is not known how many are needed; four times as many whenever they do not suffice.
const FIRST: usize = 64;
/// Logits of which it is asked together whether any is high enough.
const BLOCK: usize = 32;

/// The most likely first, then the lowest id: the order of everything that is ranked.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

impl Candidates {
    /// All tokens with these logits.
    pub fn fill(&mut self, logits: &[f32]) {
        self.items.clear();
        self.items.extend((0..).zip(logits).map(|(id, &logit)| Candidate { id, logit: logit.into() }));
        self.counts.resize(logits.len(), 0);
        self.sorted = 0;
        self.unchecked = true;
    }

    /// The tokens with at least this logit; all logits are finite, and at least one is as high.
    pub(super) fn fill_from(&mut self, logits: &[f32], floor: f32) {
        self.items.clear();
        // Room for all, so that no later token needs more.
        self.items.reserve(logits.len());
        for (first, block) in (0..).step_by(BLOCK).zip(logits.chunks(BLOCK)) {
            if block.iter().fold(false, |any, &logit| any | (logit >= floor)) {
                let high = (first..).zip(block).filter(|(_, logit)| **logit >= floor);
                self.items.extend(high.map(|(id, &logit)| Candidate { id, logit: logit.into() }));
            }
        }
        self.counts.resize(logits.len(), 0);
        self.sorted = 0;
        self.unchecked = false;
    }

    /// All tokens with these logits, which are finite.
    pub(super) fn fill_finite(&mut self, logits: &[f32]) {
        self.fill(logits);
        self.unchecked = false;
    }

    /// Drops the candidates with a logit of negative infinity.
    ///
    /// # Errors
    /// The first whose logit is NaN or positive infinity, or whose id is not below `vocab_size`.
    pub(super) fn check(&mut self, vocab_size: usize) -> Result<(), Candidate> {
        if std::mem::take(&mut self.unchecked) {
            let wrong = |item: &&Candidate| {
                item.logit.is_nan() || item.logit == f64::INFINITY || item.id as usize >= vocab_size
            };
            if let Some(&wrong) = self.items.iter().find(wrong) {
                return Err(wrong);
            }
            self.items.retain(|item| item.logit.is_finite());
            self.sorted = 0;
        }
        Ok(())
    }

    /// All that are left.
    pub fn items(&self) -> &[Candidate] {
        &self.items
    }

    /// The most likely one; of equals, that with the lowest id. `None` when none is left.
    pub fn best(&self) -> Option<Candidate> {
        let least = if self.sorted > 0 { self.items.first() } else { self.items.iter().min_by(|a, b| order(a, b)) };
        least.copied()
    }

    /// The highest logit; negative infinity when none is left.
    pub fn most(&self) -> f64 {
        self.best().map_or(f64::NEG_INFINITY, |best| best.logit)
    }

    /// The candidate with this id, if it is left.
    fn find(&mut self, id: u32) -> Option<&mut Candidate> {
        self.sorted = 0;
        match self.items.get(id as usize) {
            Some(item) if item.id == id => self.items.get_mut(id as usize),
            _ => self.items.iter_mut().find(|item| item.id == id),
        }
    }

    /// Keeps the tokens that `keep` allows; none may be left.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let ordered = self.sorted == self.items.len();
        self.items.retain(|item| keep(item.id));
        self.sorted = if ordered { self.items.len() } else { 0 };
    }

    /// Adds to one logit. Negative infinity forbids the token, as [`Candidates::retain`] does.
    pub fn add(&mut self, id: u32, bias: f64) {
        if let Some(item) = self.find(id) {
            item.logit += bias;
            self.unchecked |= !item.logit.is_finite();
        }
    }

    /// Gives each candidate among `tokens` the logit `change(logit, how often it is there)`.
    pub fn adjust(&mut self, tokens: &[u32], change: impl Fn(f64, u32) -> f64) {
        for &token in tokens {
            if let Some(count) = self.counts.get_mut(token as usize) {
                *count += 1;
            }
        }
        for &token in tokens {
            let count = self.counts.get_mut(token as usize).map_or(0, std::mem::take);
            if let Some(item) = self.find(token).filter(|_| count > 0) {
                item.logit = change(item.logit, count);
                self.unchecked |= !item.logit.is_finite();
            }
        }
    }

    /// Divides all logits by a positive number, after the best was made zero so that nothing overflows. Any other number makes them NaN.
    pub fn divide(&mut self, by: f64) {
        let by = if by > 0.0 { by } else { f64::NAN };
        let (most, mut finite) = (self.most(), true);
        for item in &mut self.items {
            item.logit = (item.logit - most) / by;
            finite &= item.logit.is_finite();
        }
        self.unchecked |= !finite;
    }

    /// Puts the `n` most likely to the front, in order.
    pub fn sort(&mut self, n: usize) {
        let n = n.min(self.items.len());
        if n > self.sorted {
            place(&mut self.items, self.sorted..n, order);
            self.sorted = n;
        }
    }

    /// Puts those in their places that are in `range` by a key, the lowest first, equals by id; those before are in theirs.
    pub fn sort_by_key(&mut self, range: Range<usize>, key: impl Fn(&Candidate) -> f64) {
        self.sorted = 0;
        let range = range.start.min(self.items.len())..range.end.min(self.items.len());
        place(&mut self.items, range, |a, b| key(a).total_cmp(&key(b)).then(a.id.cmp(&b.id)));
    }

    /// Keeps the first of an order, at least one and `min_keep`, until the sum of their weights reaches `enough`. `sort` puts those in their
    /// places that are in a range of that order; those before are in theirs.
    pub fn keep_until(
        &mut self,
        enough: f64,
        min_keep: usize,
        weight: impl Fn(&Candidate) -> f64,
        sort: impl Fn(&mut Candidates, Range<usize>),
    ) {
        let (mut sum, mut kept, mut sorted) = (0.0, 0, 0);
        while kept < self.items.len() && (kept < min_keep.max(1) || sum < enough) {
            if kept == sorted {
                sorted = (4 * sorted).max(FIRST).min(self.items.len());
                sort(self, kept..sorted);
            }
            sum += weight(&self.items[kept]);
            kept += 1;
        }
        self.truncate(kept);
    }

    /// Keeps the first `n`, at least one.
    pub fn truncate(&mut self, n: usize) {
        self.items.truncate(n.max(1));
        self.sorted = self.sorted.min(self.items.len());
    }

    /// Drops the first `n`, at most all but one.
    pub fn skip(&mut self, n: usize) {
        let n = n.min(self.items.len().saturating_sub(1));
        self.items.drain(..n);
        self.sorted = self.sorted.saturating_sub(n);
    }

    /// The weights of the candidates, `exp(logit - most)`, and their sum.
    pub fn softmax(&self) -> Softmax {
        let most = self.most();
        let total = self.items.iter().map(|item| libm::exp(item.logit - most)).sum();
        Softmax { most, total, log_total: libm::log(total) }
    }

    /// Keeps the best, those with at least this logit, and the next until there are `min_keep`.
    pub fn keep_from(&mut self, logit: f64, min_keep: usize) {
        let mut logit = logit.min(self.most());
        if min_keep > 1 && !self.items.is_empty() {
            self.sort(min_keep);
            let last = self.items[min_keep.min(self.items.len()) - 1];
            if last.logit <= logit {
                return self.truncate(min_keep);
            }
            logit = logit.min(last.logit);
        }
        if self.sorted == self.items.len() {
            self.truncate(self.items.partition_point(|item| item.logit >= logit));
        } else {
            self.items.retain(|item| item.logit >= logit);
            self.sorted = 0;
        }
    }

    /// The candidate at the point `u` in `[0, 1)` of the cumulative distribution. The logits become weights: the end of the chain.
    pub(super) fn draw(&mut self, u: f64) -> u32 {
        let most = self.most();
        let mut total = 0.0;
        for item in &mut self.items {
            item.logit = libm::exp(item.logit - most);
            total += item.logit;
        }
        let mut sum = 0.0;
        let reached = self.items.iter().find(|item| {
            sum += item.logit;
            sum > u * total
        });
        // The last sum is the total.
        reached.or(self.items.last()).expect("there is always a candidate").id
    }
}

/// The probabilities that logits mean.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// The highest logit.
    most: f64,
    total: f64,
    log_total: f64,
}

impl Softmax {
    /// The probability of a logit, times [`Softmax::total`].
    pub fn weight(&self, logit: f64) -> f64 {
        libm::exp(logit - self.most)
    }

    /// The sum of all weights.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// The negative natural logarithm of the probability of a logit.
    pub fn surprise(&self, logit: f64) -> f64 {
        self.log_total - (logit - self.most)
    }

    /// The logit of which this is the surprise.
    pub fn logit(&self, surprise: f64) -> f64 {
        self.most + self.log_total - surprise
    }

    /// The expected surprise of the candidates, in nats.
    pub fn entropy(&self, candidates: &Candidates) -> f64 {
        let term = |item: &Candidate| self.weight(item.logit) / self.total * self.surprise(item.logit);
        candidates.items.iter().map(term).sum()
    }
}

/// Puts the items to their places that an order has in this range, when those before are in theirs.
fn place(items: &mut [Candidate], range: Range<usize>, order: impl Fn(&Candidate, &Candidate) -> Ordering) {
    let (rest, n) = (&mut items[range.start..], range.len());
    if (1..rest.len()).contains(&n) {
        rest.select_nth_unstable_by(n - 1, &order);
    }
    rest[..n].sort_unstable_by(order);
}
