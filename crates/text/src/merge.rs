use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The id of a symbol that is no token of the vocabulary.
pub(crate) const NONE: u32 = u32::MAX;

/// A piece of the text on its way to be a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    /// The token, or [`NONE`].
    pub id: u32,
    /// Where the symbol begins, in bytes.
    pub start: usize,
    /// Bytes of the symbol; 0 once its left neighbour has taken it.
    pub len: usize,
    prev: usize,
    next: usize,
}

/// A merge that is possible: the lowest rank goes first, then the leftmost. `len` tells whether it still is.
type Candidate = Reverse<(u32, usize, usize, usize, u32)>;

const END: usize = usize::MAX;

/// Merges neighbours until no more can be, always the pair of the lowest rank first (the greedy merging that
/// SentencePiece and byte-pair encoding share). It takes n log n steps, whatever the text.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

impl Merger {
    /// Appends a symbol of `len` bytes.
    pub fn push(&mut self, id: u32, len: usize) {
        let here = self.symbols.len();
        let (prev, start) = self.symbols.last_mut().map_or((END, 0), |last| {
            last.next = here;
            (here - 1, last.start + last.len)
        });
        self.symbols.push(Symbol { id, start, len, prev, next: END });
    }

    /// Merges, gives `take` the symbols that are left, in order, and starts afresh. `pair` says at which rank two
    /// neighbours may be merged, and into which token.
    pub fn finish(&mut self, pair: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>, mut take: impl FnMut(&Symbol)) {
        for right in 1..self.symbols.len() {
            self.propose(right - 1, right, &pair);
        }
        while let Some(Reverse((_, left, right, len, id))) = self.queue.pop() {
            let (l, r) = (self.symbols[left], self.symbols[right]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            self.symbols[right].len = 0;
            self.symbols[left] = Symbol { id, len, next: r.next, ..l };
            if r.next != END {
                self.symbols[r.next].prev = left;
                self.propose(left, r.next, &pair);
            }
            if l.prev != END {
                self.propose(l.prev, left, &pair);
            }
        }
        self.symbols.iter().filter(|symbol| symbol.len > 0).for_each(&mut take);
        self.symbols.clear();
    }

    fn propose(&mut self, left: usize, right: usize, pair: &impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        let (l, r) = (&self.symbols[left], &self.symbols[right]);
        if let Some((rank, id)) = pair(l, r) {
            self.queue.push(Reverse((rank, left, right, l.len + r.len, id)));
        }
    }
}
