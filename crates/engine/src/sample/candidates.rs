use std::cmp::Ordering;

/// A token that may be picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// Its logit, as the filters left it.
    pub logit: f64,
}

/// The tokens that may be picked: at first all, by id. There is always at least one.
#[derive(Debug, Default)]
pub struct Candidates {
    items: Vec<Candidate>,
    /// How many at the front are in order, and before all behind them.
    sorted: usize,
    /// How often a token occurs, while [`Candidates::adjust`] counts; zeros otherwise.
    counts: Vec<u32>,
}

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
    }

    /// All that are left.
    pub fn items(&self) -> &[Candidate] {
        &self.items
    }

    /// The most likely one; of equals, that with the lowest id.
    pub fn best(&self) -> Candidate {
        let least = if self.sorted > 0 { self.items.first() } else { self.items.iter().min_by(|a, b| order(a, b)) };
        *least.expect("there is always a candidate")
    }

    /// The candidate with this id, if it is left.
    fn find(&mut self, id: u32) -> Option<&mut Candidate> {
        self.sorted = 0;
        match self.items.get(id as usize) {
            Some(item) if item.id == id => self.items.get_mut(id as usize),
            _ => self.items.iter_mut().find(|item| item.id == id),
        }
    }

    /// Adds to one logit.
    pub fn add(&mut self, id: u32, bias: f64) {
        if let Some(item) = self.find(id) {
            item.logit += bias;
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
            }
        }
    }

    /// Divides all logits by a positive number, after the best was made zero so that nothing overflows.
    pub fn divide(&mut self, by: f64) {
        let most = self.best().logit;
        for item in &mut self.items {
            item.logit = (item.logit - most) / by;
        }
    }

    /// Puts the `n` most likely to the front, in order.
    pub fn sort(&mut self, n: usize) {
        let n = n.min(self.items.len());
        if n > self.sorted {
            let (rest, more) = (&mut self.items[self.sorted..], n - self.sorted);
            if more < rest.len() {
                rest.select_nth_unstable_by(more - 1, order);
            }
            rest[..more].sort_unstable_by(order);
            self.sorted = n;
        }
    }

    /// Puts all in order of a key, the lowest first; equals by id.
    pub fn sort_by_key(&mut self, key: impl Fn(&Candidate) -> f64) {
        self.items.sort_unstable_by(|a, b| key(a).total_cmp(&key(b)).then(a.id.cmp(&b.id)));
        self.sorted = 0;
    }

    /// Keeps the first `n`, at least one.
    pub fn truncate(&mut self, n: usize) {
        self.items.truncate(n.max(1));
        self.sorted = self.sorted.min(self.items.len());
    }

    /// Keeps the best and those with at least this logit.
    pub fn keep_from(&mut self, logit: f64) {
        let logit = logit.min(self.best().logit);
        if self.sorted == self.items.len() {
            self.truncate(self.items.partition_point(|item| item.logit >= logit));
        } else {
            self.items.retain(|item| item.logit >= logit);
            self.sorted = 0;
        }
    }

    /// The candidate at the point `u` in `[0, 1)` of the cumulative distribution. The logits become weights: the end of the chain.
    pub(super) fn draw(&mut self, u: f64) -> u32 {
        let most = self.best().logit;
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
