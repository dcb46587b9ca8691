//! Which tokens of which sequences to run next.

use crate::blocks::Blocks;
use crate::event::SeqId;
use crate::sequence::Sequence;
use std::collections::VecDeque;
use trine_backend::Batch;

/// The sequences in the engine, oldest first: those that run are older than those that wait.
pub(crate) struct Scheduler {
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
    /// One sequence of full length fits, so that the oldest always goes on.
    pub blocks: Blocks,
    /// Most sequences that run.
    pub max_sequences: usize,
    /// Most tokens of prompts in a batch.
    pub prefill_chunk: usize,
}

impl Scheduler {
    /// Fills a batch: the last token of each sequence that generates, and as much of the prompts as `prefill_chunk` allows. Logits are
    /// wanted for the sequences whose tokens will then all be cached, in the order of `running`.
    pub fn plan(&mut self, batch: &mut Batch) {
        batch.clear();
        self.make_room();
        self.admit();
        let mut budget = self.prefill_chunk;
        for sequence in &mut self.running {
            let pending = sequence.tokens.len() - sequence.cached;
            sequence.planned = if pending == 1 { 1 } else { pending.min(budget) };
            if pending > 1 {
                budget -= sequence.planned;
            }
            if sequence.planned > 0 {
                let end = sequence.cached + sequence.planned;
                let outputs = usize::from(end == sequence.tokens.len());
                let new = &sequence.tokens[sequence.cached..end];
                batch.push(new, sequence.cached, &sequence.table.blocks, outputs);
            }
        }
    }

    /// Gives every running sequence blocks for its tokens. When too few are unused, the youngest gives up its own and waits, to be computed
    /// again.
    fn make_room(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let sequence = &mut self.running[i];
            if self.blocks.grow(&mut sequence.table, sequence.tokens.len()) {
                i += 1;
            } else if let Some(mut youngest) = self.running.pop() {
                self.blocks.release(&mut youngest.table);
                self.waiting.push_front(youngest);
            }
        }
    }

    /// Lets the longest waiting run, as long as there is room for all their tokens. A block for each that runs stays unused, so that the
    /// newcomer is not sent back at once.
    fn admit(&mut self) {
        while self.running.len() < self.max_sequences {
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            // The last token must run, to give logits.
            let known = &sequence.tokens[..sequence.tokens.len() - 1];
            sequence.cached = self.blocks.find(&mut sequence.table, known);
            let fits = self.blocks.grow(&mut sequence.table, sequence.tokens.len());
            if !fits || self.blocks.unused() < self.running.len() {
                self.blocks.release(&mut sequence.table);
                self.waiting.push_front(sequence);
                return;
            }
            sequence.found.get_or_insert(sequence.cached);
            self.running.push(sequence);
        }
    }

    /// After the batch was run: calls `pick` for each sequence whose logits are there, which tells whether it goes on.
    pub fn advance(&mut self, mut pick: impl FnMut(&mut Sequence) -> bool) {
        self.running.retain_mut(|sequence| {
            sequence.cached += sequence.planned;
            self.blocks.publish(&mut sequence.table, &sequence.tokens[..sequence.cached]);
            let goes_on = sequence.cached < sequence.tokens.len() || pick(sequence);
            if !goes_on {
                self.blocks.release(&mut sequence.table);
            }
            goes_on
        });
    }

    /// Takes a sequence out.
    pub fn remove(&mut self, id: SeqId) -> Option<Sequence> {
        if let Some(at) = self.waiting.iter().position(|sequence| sequence.id == id) {
            return self.waiting.remove(at);
        }
        let at = self.running.iter().position(|sequence| sequence.id == id)?;
        let mut sequence = self.running.remove(at);
        self.blocks.release(&mut sequence.table);
        Some(sequence)
    }
}
