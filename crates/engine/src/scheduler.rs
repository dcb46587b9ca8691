//! Which tokens of which sequences to run next.

use crate::BLOCK_LEN;
use crate::blocks::Blocks;
use crate::event::SeqId;
use crate::fairness::Clients;
use crate::sequence::Sequence;
use crate::step_cost::{StepBudget, Work, keys};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;
use trine_backend::Batch;

/// Chunks of prompts are multiples of this where they can be, since kernels work in tiles.
const TILE: usize = 16;

/// Prompt tokens of a batch whose logits are reported, of all sequences together: each has a row as long as the vocabulary.
const SCORED: usize = 16;

/// The sequences in the engine, both lists oldest first.
///
/// Whose turn it is: a lower priority number first, then the client that was served fewer tokens, then the prompt with the highest response
/// ratio, (waited + remaining) / remaining: short prompts first, and long ones when they have waited long enough.
pub(crate) struct Scheduler {
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
    /// One sequence of full length fits, so that the oldest always goes on.
    pub blocks: Blocks,
    /// Maximum sequences that run.
    pub max_sequences: usize,
    /// Maximum prompt tokens of a batch.
    pub prefill_chunk: usize,
    /// Maximum tokens of a sequence in a batch, for which layers with a window have room.
    pub window_chunk: usize,
    /// Maximum tokens of a batch.
    pub max_batch_tokens: usize,
    /// How long a step may take, when it is limited.
    pub budget: Option<StepBudget>,
    pub preemptions: u64,
    pub steps: u64,
    /// Tokens that the steps computed.
    pub step_tokens: u64,
    /// How long the steps took together.
    pub busy: Duration,
    clients: Clients,
    /// What the batch has to do.
    work: Work,
    /// Running sequences that read their prompts, in their turn.
    prompts: Vec<usize>,
}

impl Scheduler {
    pub fn new(blocks: Blocks, max_sequences: usize, prefill_chunk: usize) -> Scheduler {
        Scheduler {
            running: Vec::new(),
            waiting: VecDeque::new(),
            blocks,
            max_sequences,
            prefill_chunk,
            window_chunk: usize::MAX,
            max_batch_tokens: usize::MAX,
            budget: None,
            preemptions: 0,
            steps: 0,
            step_tokens: 0,
            busy: Duration::ZERO,
            clients: Clients::default(),
            work: Work::default(),
            prompts: Vec::with_capacity(max_sequences),
        }
    }

    /// Takes a new sequence.
    pub fn enqueue(&mut self, mut sequence: Sequence) {
        sequence.table.identify(&sequence.tokens);
        self.clients.enter(&sequence.scheduling.client);
        self.waiting.push_back(sequence);
    }

    /// Fills a batch: the last token of each sequence that generates, with what was proposed to follow it, and as much of the prompts as
    /// `prefill_chunk`, `max_batch_tokens` and the budget allow. Outputs are wanted for the sequences whose tokens will then all be computed, in the order of
    /// `running`.
    pub fn plan(&mut self, batch: &mut Batch, now: Duration) {
        batch.clear();
        self.make_room();
        self.admit(now);
        self.plan_rows();
        self.plan_prompts(now);
        for sequence in self.running.iter().filter(|sequence| sequence.planned > 0) {
            let end = sequence.cached + sequence.planned;
            let new = &sequence.tokens[sequence.cached..end];
            sequence.table.push(batch, new, sequence.cached, sequence.outputs());
        }
    }

    /// Plans the tokens of all sequences that generate, and notes those that read their prompts.
    fn plan_rows(&mut self) {
        self.work = Work::default();
        self.prompts.clear();
        // Each sequence has a token, so that prompts go on, too; proposals get what is left.
        let (mut active, mut room) = (0, self.max_batch_tokens - self.max_sequences);
        for (i, sequence) in self.running.iter_mut().enumerate() {
            sequence.planned = 0;
            active += usize::from(!sequence.paused);
            // One that goes on after a pause may find its place taken.
            if sequence.paused || sequence.waits_for_filters() || active > self.max_sequences {
                continue;
            }
            if sequence.proposed > room.min(self.window_chunk - 1) {
                sequence.withdraw();
            }
            room -= sequence.proposed;
            let pending = sequence.tokens.len() - sequence.cached;
            if pending == 1 + sequence.proposed {
                sequence.planned = pending;
                self.work.rows += pending;
                self.work.row_keys += keys(sequence.cached, pending);
            } else {
                self.prompts.push(i);
            }
        }
    }

    /// Plans tokens of prompts, in their turn.
    fn plan_prompts(&mut self, now: Duration) {
        let Scheduler { running, prompts, budget, work, prefill_chunk, window_chunk, max_batch_tokens, .. } = self;
        prompts.sort_unstable_by(|&a, &b| {
            let [a, b] =
                [a, b].map(|i| (running[i].scheduling.priority, Reverse(Ratio(ratio(&running[i], budget, now))), i));
            a.cmp(&b)
        });
        let mut seconds = budget.as_ref().map_or(f64::INFINITY, |budget| budget.for_prompts(*work, prompts.len()));
        let (mut tokens, mut scored) = ((*prefill_chunk).min(max_batch_tokens.saturating_sub(work.rows)), SCORED);
        for &i in prompts.iter() {
            let sequence = &mut running[i];
            let (cached, pending) = (sequence.cached, sequence.tokens.len() - sequence.cached);
            let mut chunk = pending.min(tokens).min(*window_chunk);
            if let Some(budget) = budget {
                chunk = chunk.min(budget.cost.tokens_within(seconds, cached));
                if chunk < pending && chunk > TILE {
                    chunk -= chunk % TILE;
                }
                // However slow the machine is, prompts go on.
                chunk = chunk.max(usize::from(work.tokens == 0));
                seconds -= budget.cost.prompt(cached, chunk);
            }
            if sequence.scores_prompt() {
                chunk = chunk.min(scored);
                scored -= chunk;
            }
            sequence.planned = chunk;
            tokens -= chunk;
            work.tokens += chunk;
            work.token_keys += keys(cached, chunk);
        }
    }

    /// Gives every running sequence blocks for its tokens. When too few are free, proposals go first, then the blocks of the sequence whose
    /// turn comes last, paused ones before others: it waits, to be computed again.
    fn make_room(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let sequence = &mut self.running[i];
            let soon = sequence.cached.saturating_add(self.window_chunk);
            if self.blocks.grow(&mut sequence.table, sequence.tokens.len(), soon) {
                i += 1;
            } else if sequence.proposed > 0 {
                sequence.withdraw();
            } else {
                let victim = self.last_paused().unwrap_or_else(|| self.last());
                self.preempt(victim);
                i -= usize::from(victim < i);
            }
        }
    }

    fn last_paused(&self) -> Option<usize> {
        self.running.iter().rposition(|sequence| sequence.paused)
    }

    /// The youngest running sequence of the lowest priority.
    fn last(&self) -> usize {
        let by_priority = |&i: &usize| (self.running[i].scheduling.priority, i);
        (0..self.running.len()).max_by_key(by_priority).expect("one that needs room")
    }

    /// Takes the blocks of a running sequence and lets it wait in its place by age.
    fn preempt(&mut self, victim: usize) {
        let mut sequence = self.running.remove(victim);
        sequence.withdraw();
        sequence.preempted = true;
        self.preemptions += 1;
        self.blocks.release(&mut sequence.table);
        let at = self.waiting.partition_point(|waiting| waiting.id < sequence.id);
        self.waiting.insert(at, sequence);
    }

    /// Takes out the preempted sequence whose turn it is, if there is room for it again.
    pub fn take_returning(&mut self, now: Duration) -> Option<(usize, Sequence)> {
        let next = self.next(now)?;
        let Sequence { preempted, ref tokens, .. } = self.waiting[next];
        let room = self.blocks.unreferenced().saturating_sub(self.running.len());
        let returns = preempted && tokens.len().div_ceil(BLOCK_LEN) <= room;
        returns.then(|| (next, self.waiting.remove(next).expect("just found")))
    }

    /// The waiting sequence whose turn it is.
    fn next(&self, now: Duration) -> Option<usize> {
        // Answers to one request share the blocks of its prompt as soon as the first has computed them.
        let leads = |leader| self.sequences().any(|sequence| sequence.id == leader && sequence.reads_prompt());
        let ready = |sequence: &Sequence| {
            !sequence.paused
                && !sequence.loading
                && !sequence.leader.is_some_and(leads)
                && !self.running.iter().any(|running| self.computes(running, sequence, now))
        };
        let waiting = self.waiting.iter().enumerate().filter(|(_, sequence)| ready(sequence));
        let turn = |(i, sequence): (usize, &Sequence)| {
            let (priority, served) = (sequence.scheduling.priority, self.clients.served(&sequence.scheduling.client));
            (priority, served, Reverse(Ratio(ratio(sequence, &self.budget, now))), i)
        };
        waiting.map(turn).min().map(|(.., i)| i)
    }

    /// Whether a running sequence is about to compute a block that a waiting one needs, too, which then takes it from the cache. One that is less
    /// urgent, or whose prompt is reported in small steps, may take longer than the other would; and half of a queue timeout is left to start in.
    fn computes(&self, running: &Sequence, waiting: &Sequence, now: Duration) -> bool {
        let waited = now.saturating_sub(waiting.timing.submitted);
        !running.paused
            && !running.scores_prompt()
            && running.scheduling.priority <= waiting.scheduling.priority
            && self.blocks.computes(&running.table, &waiting.table, waiting.reusable())
            && waiting.scheduling.queue_timeout.is_none_or(|timeout| waited < timeout / 2)
    }

    /// Lets those whose turn it is run, as long as there is room for all their tokens; paused sequences give theirs away. A block for each
    /// that runs stays free, so that the newcomer is not sent back at once.
    fn admit(&mut self, now: Duration) {
        let active = |running: &[Sequence]| running.iter().filter(|sequence| !sequence.paused).count();
        while active(&self.running) < self.max_sequences {
            let Some(next) = self.next(now) else { return };
            let mut sequence = self.waiting.remove(next).expect("just found");
            let known = &sequence.tokens[..sequence.reusable()];
            sequence.cached = self.blocks.match_prefix(&mut sequence.table, known);
            let soon = sequence.cached.saturating_add(self.window_chunk);
            let fits = self.blocks.grow(&mut sequence.table, sequence.tokens.len(), soon);
            if !fits || self.blocks.spare() < active(&self.running) {
                self.blocks.release(&mut sequence.table);
                self.waiting.insert(next, sequence);
                let Some(paused) = self.last_paused() else { return };
                self.preempt(paused);
                continue;
            }
            if sequence.cached_tokens.is_none() {
                sequence.timing.started = Some(now);
                sequence.cached_tokens = Some(sequence.cached);
                if !sequence.scheduling.probe {
                    self.blocks.stats.queries += sequence.tokens.len() as u64;
                    self.blocks.stats.hits += sequence.cached as u64;
                }
                self.clients.serve(&sequence.scheduling.client, sequence.tokens.len() - sequence.cached);
            }
            let at = self.running.partition_point(|running| running.id < sequence.id);
            self.running.insert(at, sequence);
        }
    }

    /// After the batch was run: calls `advance` for each of its sequences, which tells whether it goes on.
    pub fn advance(&mut self, advance: impl FnMut(&mut Sequence) -> bool) {
        self.advance_those(|sequence| sequence.planned > 0, advance);
    }

    /// Calls `advance` for the sequences that `which` chooses. Blocks become known to others when the tokens in them are accepted.
    pub fn advance_those(&mut self, which: impl Fn(&Sequence) -> bool, mut advance: impl FnMut(&mut Sequence) -> bool) {
        self.running.retain_mut(|sequence| {
            if !which(sequence) {
                return true;
            }
            sequence.cached += sequence.planned;
            let before = sequence.tokens.len() - sequence.proposed;
            let goes_on = advance(sequence);
            self.clients.serve(&sequence.scheduling.client, sequence.tokens.len() - sequence.proposed - before);
            // Proposed tokens whose logits wait for filters are computed, but not accepted.
            let known = sequence.cached.min(sequence.tokens.len() - sequence.proposed);
            self.blocks.publish(&mut sequence.table, &sequence.tokens[..known]);
            let (_, prompt) = sequence.prompt_progress();
            self.blocks.slide(&mut sequence.table, known, prompt);
            if !goes_on {
                self.blocks.release(&mut sequence.table);
                self.clients.leave(&sequence.scheduling.client);
            }
            goes_on
        });
    }

    /// How long the batch took, which corrects what later ones are thought to take.
    pub fn observe(&mut self, took: Duration) {
        self.steps += 1;
        self.step_tokens += (self.work.rows + self.work.tokens) as u64;
        self.busy += took;
        if let Some(budget) = &mut self.budget {
            budget.observe(self.work, took.as_secs_f64());
        }
    }

    /// How long a step like the last may take while a sequence generates.
    pub fn step_target(&self) -> Option<Duration> {
        self.budget.as_ref().map(|budget| Duration::from_secs_f64(budget.target(self.work, self.prompts.len())))
    }

    /// Takes out the sequences that `which` chooses.
    pub fn take(&mut self, which: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let mut taken: Vec<Sequence> = self.running.extract_if(.., |sequence| which(sequence)).collect();
        taken.iter_mut().for_each(|sequence| self.blocks.release(&mut sequence.table));
        while let Some(at) = self.waiting.iter().position(&which) {
            taken.extend(self.waiting.remove(at));
        }
        taken.iter().for_each(|sequence| self.clients.leave(&sequence.scheduling.client));
        taken
    }

    /// A sequence that runs or waits.
    pub fn find(&mut self, id: SeqId) -> Option<&mut Sequence> {
        self.running.iter_mut().chain(&mut self.waiting).find(|sequence| sequence.id == id)
    }

    /// How many run and how many wait, but for probes.
    pub fn counts(&self) -> [usize; 2] {
        let users = |sequence: &&Sequence| !sequence.scheduling.probe;
        [self.running.iter().filter(users).count(), self.waiting.iter().filter(users).count()]
    }

    /// Sequences that run or wait.
    pub fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.running.iter().chain(&self.waiting)
    }
}

/// How long a sequence has waited, relative to what is left of its prompt. A millisecond more lets the shorter of two newcomers go first.
fn ratio(sequence: &Sequence, budget: &Option<StepBudget>, now: Duration) -> f64 {
    let (cached, pending) = (sequence.cached, sequence.tokens.len() - sequence.cached);
    let remaining = match budget {
        Some(budget) => budget.cost.prompt(cached, pending),
        // Machines differ, but a token takes milliseconds.
        None => pending as f64 * 1e-3,
    };
    (now.saturating_sub(sequence.timing.submitted).as_secs_f64() + 1e-3) / remaining
}

/// A response ratio, which is never NaN.
#[derive(PartialEq)]
struct Ratio(f64);

impl Eq for Ratio {}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Ratio) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Ratio) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
