//! Merging of neighbours, for all kinds of BPE.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The id of a symbol that is not in the vocabulary.
pub(crate) const NONE: u32 = u32::MAX;

/// A part of a word that is merged with its neighbours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    /// The token, or [`NONE`].
    pub id: u32,
    /// The offset of the symbol in bytes.
    start: u32,
    /// The length of the symbol in bytes; 0 after it was merged into its left neighbour.
    len: u32,
    prev: u32,
    next: u32,
}

impl Symbol {
    /// The bytes of the symbol in `word`.
    pub fn of<'a>(&self, word: &'a [u8]) -> &'a [u8] {
        &word[self.start as usize..(self.start + self.len) as usize]
    }

    /// The bytes of the symbol and its right neighbour in `word`.
    pub fn with<'a>(&self, right: &Symbol, word: &'a [u8]) -> &'a [u8] {
        &word[self.start as usize..(right.start + right.len) as usize]
    }
}

/// A queued merge: rank, left symbol, length of both symbols in bytes, and the merged token. The lowest rank is first, then the leftmost.
/// The length shows whether a symbol has changed since.
type QueuedMerge = Reverse<(u32, u32, u32, u32)>;

const END: u32 = u32::MAX;

/// Merges neighbours greedily, always the pair of the lowest rank first. The time is O(n log n) for any text.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<QueuedMerge>,
}

impl Merger {
    /// Appends a symbol of `len` bytes. A word has at most 2^30.
    pub fn push(&mut self, id: u32, len: usize) {
        let here = self.symbols.len() as u32;
        let (prev, start) = self.symbols.last_mut().map_or((END, 0), |last| {
            last.next = here;
            (here - 1, last.start + last.len)
        });
        self.symbols.push(Symbol { id, start, len: len as u32, prev, next: END });
    }

    /// Merges, gives `take` the symbols that are left, in order, and starts afresh. `pair` says at which rank two
    /// neighbours may be merged, and into which token.
    pub fn finish(&mut self, pair: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>, mut take: impl FnMut(&Symbol)) {
        for left in 1..self.symbols.len() as u32 {
            self.propose(left - 1, &pair);
        }
        while let Some(Reverse((_, left, len, id))) = self.queue.pop() {
            let l = self.symbols[left as usize];
            if l.len == 0 || l.next == END {
                continue;
            }
            let r = self.symbols[l.next as usize];
            if l.len + r.len != len {
                continue;
            }
            self.symbols[l.next as usize].len = 0;
            self.symbols[left as usize] = Symbol { id, len, next: r.next, ..l };
            if r.next != END {
                self.symbols[r.next as usize].prev = left;
                self.propose(left, &pair);
            }
            if l.prev != END {
                self.propose(l.prev, &pair);
            }
        }
        self.symbols.iter().filter(|symbol| symbol.len > 0).for_each(&mut take);
        self.symbols.clear();
    }

    /// Queues the merge of a symbol with its right neighbour, if they may.
    fn propose(&mut self, left: u32, pair: &impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        let l = &self.symbols[left as usize];
        let r = &self.symbols[l.next as usize];
        if let Some((rank, id)) = pair(l, r) {
            self.queue.push(Reverse((rank, left, l.len + r.len, id)));
        }
    }
}
