//! Which tokens of which sequences to run next.

use crate::blocks::Blocks;
use crate::event::SeqId;
use crate::sequence::Sequence;
use std::collections::VecDeque;
use trine_backend::Batch;

/// The sequences in the engine, both lists oldest first.
pub(crate) struct Scheduler {
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
    /// One sequence of full length fits, so that the oldest always goes on.
    pub blocks: Blocks,
    /// Maximum sequences that run.
    pub max_sequences: usize,
    /// Maximum prompt tokens of a batch.
    pub prefill_chunk: usize,
}

impl Scheduler {
    /// Fills a batch: the last token of each sequence that generates, with what was proposed to follow it, and as much of the prompts as
    /// `prefill_chunk` allows. Outputs are wanted for the sequences whose tokens will then all be computed, in the order of `running`.
    pub fn plan(&mut self, batch: &mut Batch) {
        batch.clear();
        self.make_room();
        self.admit();
        let (mut budget, mut active) = (self.prefill_chunk, 0);
        for sequence in &mut self.running {
            let pending = sequence.tokens.len() - sequence.cached;
            let decodes = pending == 1 + sequence.proposed;
            active += usize::from(!sequence.paused);
            sequence.planned = if sequence.paused || active > self.max_sequences {
                // One that goes on after a pause may find its place taken.
                0
            } else if decodes {
                pending
            } else {
                pending.min(budget)
            };
            if !decodes {
                budget -= sequence.planned;
            }
            if sequence.planned > 0 {
                let end = sequence.cached + sequence.planned;
                let outputs = if end == sequence.tokens.len() { 1 + sequence.proposed } else { 0 };
                let new = &sequence.tokens[sequence.cached..end];
                batch.push(new, sequence.cached, &sequence.table.blocks, outputs).adapter = sequence.table.adapter;
            }
        }
    }

    /// Gives every running sequence blocks for its tokens. When too few are free, proposals go first, then the blocks of the youngest
    /// sequence, paused ones before others: it waits, to be computed again.
    fn make_room(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let sequence = &mut self.running[i];
            if self.blocks.grow(&mut sequence.table, sequence.tokens.len()) {
                i += 1;
            } else if sequence.proposed > 0 {
                sequence.withdraw();
            } else {
                let victim = self.last_paused().unwrap_or(self.running.len() - 1);
                self.preempt(victim);
                i -= usize::from(victim < i);
            }
        }
    }

    fn last_paused(&self) -> Option<usize> {
        self.running.iter().rposition(|sequence| sequence.paused)
    }

    /// Takes the blocks of a running sequence and lets it wait in its place by age.
    fn preempt(&mut self, victim: usize) {
        let mut sequence = self.running.remove(victim);
        sequence.withdraw();
        self.blocks.release(&mut sequence.table);
        let at = self.waiting.partition_point(|waiting| waiting.id < sequence.id);
        self.waiting.insert(at, sequence);
    }

    /// Lets those that wait longest run, as long as there is room for all their tokens; paused sequences give theirs away. A block for each that
    /// runs stays free, so that the newcomer is not sent back at once.
    fn admit(&mut self) {
        let active = |running: &[Sequence]| running.iter().filter(|sequence| !sequence.paused).count();
        while active(&self.running) < self.max_sequences {
            let Some(first) = self.waiting.iter().position(|sequence| !sequence.paused) else { return };
            let mut sequence = self.waiting.remove(first).expect("just found");
            // The last token must run, to give logits.
            let known = &sequence.tokens[..sequence.tokens.len() - 1];
            sequence.cached = self.blocks.match_prefix(&mut sequence.table, known);
            let fits = self.blocks.grow(&mut sequence.table, sequence.tokens.len());
            if !fits || self.blocks.unreferenced() < active(&self.running) {
                self.blocks.release(&mut sequence.table);
                self.waiting.insert(first, sequence);
                let Some(paused) = self.last_paused() else { return };
                self.preempt(paused);
                continue;
            }
            sequence.cached_tokens.get_or_insert(sequence.cached);
            let at = self.running.partition_point(|running| running.id < sequence.id);
            self.running.insert(at, sequence);
        }
    }

    /// After the batch was run: calls `sample` for each sequence whose outputs are there, which tells whether it goes on. Blocks become known
    /// to others when the tokens in them are accepted.
    pub fn advance(&mut self, mut sample: impl FnMut(&mut Sequence) -> bool) {
        self.running.retain_mut(|sequence| {
            if sequence.planned == 0 {
                return true;
            }
            sequence.cached += sequence.planned;
            let goes_on = sequence.cached < sequence.tokens.len() || sample(sequence);
            self.blocks.publish(&mut sequence.table, &sequence.tokens[..sequence.cached]);
            if !goes_on {
                self.blocks.release(&mut sequence.table);
            }
            goes_on
        });
    }

    /// Takes out the sequences of the batch.
    pub fn take_planned(&mut self) -> Vec<Sequence> {
        let mut taken: Vec<Sequence> = self.running.extract_if(.., |sequence| sequence.planned > 0).collect();
        taken.iter_mut().for_each(|sequence| self.blocks.release(&mut sequence.table));
        taken
    }

    /// A sequence that runs or waits.
    pub fn find(&mut self, id: SeqId) -> Option<&mut Sequence> {
        self.running.iter_mut().chain(&mut self.waiting).find(|sequence| sequence.id == id)
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
