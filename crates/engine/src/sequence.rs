use crate::blocks::BlockTable;
use crate::event::{Emit, Event, EventKind, FinishReason, PromptProgress, SeqId, Timing, Usage};
use crate::preparer::Preparation;
use crate::sample::{Chain, Filter, History, Sampled};
use crate::stops::Stops;
use crate::{BLOCK_LEN, Error, PrefixCache, Sampling, Scheduling};
use std::slice::ChunksExact;
use std::sync::Arc;
use std::time::Duration;
use trine_text::{DecodeStream, Tokenizer};

/// A request on its way: its tokens, where they are cached, how the next is sampled and how it becomes text.
pub(crate) struct Sequence {
    pub id: SeqId,
    /// Which answer to its request it is.
    pub index: usize,
    /// The first answer to the same request, which computes the prompt for all.
    pub leader: Option<SeqId>,
    /// Prompt and answer so far, then what is proposed to follow.
    pub tokens: Vec<u32>,
    /// How many tokens at the end are proposed: they become part of the answer if they are sampled, too.
    pub proposed: usize,
    prompt: usize,
    /// Maximum tokens, prompt and answer.
    limit: usize,
    /// Whether `max_tokens` sets the limit, not the context.
    capped: bool,
    /// Tokens already in the cache; the rest is what batches must run.
    pub cached: usize,
    /// How many of the rest the current batch runs.
    pub planned: usize,
    /// The blocks that hold them.
    pub table: BlockTable,
    /// Tokens that were in the cache when it first ran.
    pub cached_tokens: Option<usize>,
    /// Rests, because nobody takes its events.
    pub paused: bool,
    /// Waits for blocks from the disk.
    pub loading: bool,
    /// Gave its blocks away since the disk was asked for them.
    pub preempted: bool,
    pub scheduling: Scheduling,
    /// Its end is when the last step ended.
    pub timing: Timing,
    /// Most likely tokens to report in place of each token of the prompt, when those are reported.
    prompt_logprobs: Option<usize>,
    /// Tokens of the prompt that were reported.
    scored: usize,
    /// Whether it tells how far its prompt is read.
    pub tells_progress: bool,
    ignore_eos: bool,
    stop_token_ids: Vec<u32>,
    /// Tokens of prompt and answer up to which no stop string ends it.
    least: usize,
    chain: Chain,
    /// How many times in a row its filters took long to prepare.
    slow: u32,
    /// Tells a thread whose filters prepare that the sequence is there.
    alive: Arc<()>,
    /// Rows of logits that wait for filters which still prepare: one for the last token and one for each that is proposed.
    kept: Vec<f32>,
    stream: DecodeStream,
    stops: Stops,
}

impl Sequence {
    /// A sequence of at most `context` tokens, or of a prompt of so many and one token more, which is never run.
    pub fn new(
        id: SeqId,
        prompt: &[u32],
        sampling: &Sampling,
        (filters, adapter, prefix_cache): (Vec<Box<dyn Filter>>, u32, &PrefixCache),
        tokenizer: &Arc<Tokenizer>,
        context: usize,
        seed: u64,
    ) -> Result<Sequence, Error> {
        let chain = Chain::new(sampling, filters, tokenizer, seed)?;
        let limit = sampling.max_tokens.map_or(context, |most| context.min(prompt.len().saturating_add(most)));
        let mut tokens = Vec::with_capacity(limit);
        tokens.extend_from_slice(prompt);
        Ok(Sequence {
            id,
            index: 0,
            leader: None,
            tokens,
            proposed: 0,
            prompt: prompt.len(),
            limit,
            capped: sampling.max_tokens.is_some_and(|most| most <= context - prompt.len()),
            cached: 0,
            planned: 0,
            table: BlockTable::new(adapter, limit.div_ceil(BLOCK_LEN), prefix_cache),
            cached_tokens: None,
            paused: false,
            loading: false,
            preempted: false,
            scheduling: Scheduling::default(),
            timing: Timing::default(),
            prompt_logprobs: sampling.prompt_logprobs,
            scored: 0,
            tells_progress: false,
            ignore_eos: sampling.ignore_eos,
            stop_token_ids: sampling.stop_token_ids.clone(),
            least: prompt.len().saturating_add(sampling.min_tokens),
            chain,
            slow: 0,
            alive: Arc::default(),
            kept: Vec::new(),
            // After a prompt without text the answer is the beginning of one.
            stream: match prompt.iter().all(|&id| tokenizer.is_control(id)) {
                true => DecodeStream::new(tokenizer),
                false => DecodeStream::after_prompt(tokenizer),
            }
            .skip_special(sampling.skip_special_tokens),
            stops: Stops::new(&sampling.stop),
        })
    }

    /// Whether tokens of the prompt are still to be reported.
    pub fn scores_prompt(&self) -> bool {
        self.prompt_logprobs.is_some() && self.scored < self.prompt
    }

    /// How many tokens need not run if they are in the cache already: the last one must, to give logits, and of a prompt that is reported, the
    /// token before each that is not.
    pub fn reusable(&self) -> usize {
        let known = self.tokens.len() - 1;
        if self.scores_prompt() { self.scored.saturating_sub(1).min(known) } else { known }
    }

    /// Rows of logits that the batch gives for it.
    pub fn outputs(&self) -> usize {
        if self.scores_prompt() {
            self.planned
        } else if self.cached + self.planned == self.tokens.len() {
            1 + self.proposed
        } else {
            0
        }
    }

    /// After the batch was run: reports tokens of the prompt, and samples those that follow if all are computed. Whether more are wanted.
    pub fn advance(&mut self, rows: &mut ChunksExact<f32>, tokenizer: &Tokenizer, emit: &mut Emit) -> bool {
        let complete = self.cached == self.tokens.len();
        if self.tells_progress && self.cached - self.planned < self.prompt {
            self.tell_progress(emit);
        }
        if !self.scores_prompt() {
            return !complete || self.sample(rows, tokenizer, emit);
        }
        // The row of the prompt's last token, and those of proposals, are for the answer.
        let n = self.planned.min(self.prompt - 1 - (self.cached - self.planned));
        if !self.score(rows, n, emit) {
            (n..self.planned).for_each(|_| _ = rows.next());
            return false;
        }
        !complete || self.sample(rows, tokenizer, emit)
    }

    /// Reports how far the prompt is read.
    fn tell_progress(&self, emit: &mut Emit) {
        let (processed_tokens, prompt_tokens) = self.prompt_progress();
        let Usage { cached_tokens, .. } = self.usage();
        let time = self.timing.finished.saturating_sub(self.timing.started.unwrap_or_default());
        let kind = EventKind::Progress(PromptProgress { processed_tokens, cached_tokens, prompt_tokens, time });
        // One that is cancelled learns of it with its next event.
        let _ = emit(Event { sequence: self.id, index: self.index, kind });
    }

    /// Reports the tokens of the prompt that so many rows are about; whether more are wanted.
    fn score(&mut self, rows: &mut ChunksExact<f32>, n: usize, emit: &mut Emit) -> bool {
        let (sequence, index, top) = (self.id, self.index, self.prompt_logprobs.unwrap_or(0));
        let mut wanted = true;
        if self.scored == 0 {
            let kind = EventKind::Prompt { id: self.tokens[0], logprob: None, top: &[] };
            wanted = emit(Event { sequence, index, kind }).is_continue();
            self.scored = 1;
        }
        let first = self.cached - self.planned + 1;
        for position in first..first + n {
            let row = rows.next().expect("a row for each token");
            if !wanted || position < self.scored {
                continue;
            }
            let id = self.tokens[position];
            match self.chain.score(row, id, top, position) {
                Ok(Sampled { logprob, top, .. }) => {
                    wanted =
                        emit(Event { sequence, index, kind: EventKind::Prompt { id, logprob, top } }).is_continue();
                    self.scored += 1;
                }
                Err(error) => {
                    (wanted, self.prompt_logprobs) = (false, None);
                    self.finish(FinishReason::Failed(error), self.prompt, emit);
                }
            }
        }
        // One that failed has its end.
        if !wanted && self.prompt_logprobs.is_some() {
            self.finish(FinishReason::Cancelled, self.prompt, emit);
        }
        wanted
    }

    /// Whether it still reads its prompt, so that others with the same one wait to share it.
    pub fn reads_prompt(&self) -> bool {
        !self.paused && self.cached < self.prompt
    }

    /// Takes a proposal for the tokens that follow, if it is generating.
    pub fn propose(&mut self, tokens: &[u32]) -> bool {
        if self.waits_for_filters() {
            return false;
        }
        self.withdraw();
        let generates = self.cached + 1 == self.tokens.len();
        if generates {
            // One token is sampled in any case.
            let room = self.limit.saturating_sub(self.tokens.len() + 1);
            self.tokens.extend_from_slice(&tokens[..tokens.len().min(room)]);
            self.proposed = tokens.len().min(room);
        }
        generates
    }

    /// Forgets what was proposed, and logits that wait to be sampled from.
    pub fn withdraw(&mut self) {
        self.kept.clear();
        self.tokens.truncate(self.tokens.len() - self.proposed);
        self.proposed = 0;
        // Logits that were not sampled from are computed again.
        self.cached = self.cached.min(self.tokens.len() - 1);
    }

    /// Whether the filters have work to do beside a forward pass that gives outputs for this sequence.
    pub fn prepares(&self) -> bool {
        self.planned > 0 && self.cached + self.planned == self.tokens.len() && self.chain.prepares()
    }

    /// Lets the filters prepare for the tokens that will be sampled.
    pub fn prepare(&mut self) {
        if self.prepares() {
            self.chain.prepare(&self.tokens, self.proposed, self.prompt);
        }
    }

    /// Gives the filters away to prepare for the tokens that will be sampled.
    pub fn lend_filters(&mut self) -> Preparation {
        Preparation {
            sequence: self.id,
            wanted: Arc::downgrade(&self.alive),
            filters: self.chain.lend(),
            tokens: self.tokens.clone(),
            proposed: self.proposed,
            prompt: self.prompt,
            slow: self.slow,
        }
    }

    /// Takes them back.
    pub fn take_back(&mut self, preparation: Preparation) {
        self.slow = preparation.slow;
        self.chain.take_back(preparation.filters);
    }

    /// Whether its filters still prepare.
    pub fn prepares_now(&self) -> bool {
        self.chain.is_lent()
    }

    /// Whether it has logits that wait for its filters.
    pub fn waits_for_filters(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Samples from the rows that were kept; whether more tokens are wanted.
    pub fn sample_kept(&mut self, tokenizer: &Tokenizer, emit: &mut Emit) -> bool {
        let mut kept = std::mem::take(&mut self.kept);
        let vocab = kept.len() / (1 + self.proposed);
        let goes_on = self.sample(&mut kept.chunks_exact(vocab), tokenizer, emit);
        kept.clear();
        self.kept = kept;
        goes_on
    }

    /// Samples the tokens that follow and reports them, from a row of logits for the last token and one for each proposed token: as long as
    /// what is sampled was proposed, the next row is valid. While filters still prepare, the rows are kept. Whether more are wanted.
    fn sample(&mut self, rows: &mut ChunksExact<f32>, tokenizer: &Tokenizer, emit: &mut Emit) -> bool {
        if self.chain.is_lent() {
            rows.take(1 + self.proposed).for_each(|row| self.kept.extend_from_slice(row));
            self.planned = 0;
            return true;
        }
        let proposed = std::mem::take(&mut self.proposed);
        let first = self.tokens.len() - proposed;
        let (mut valid, mut goes_on) = (true, true);
        for len in first..=first + proposed {
            let logits = rows.next().expect("a row for each output");
            if !valid {
                continue;
            }
            valid = false;
            let history = History { tokens: &self.tokens[..len], prompt: self.prompt };
            let id = match self.chain.sample(logits, history) {
                Ok(sampled) => sampled.id,
                Err(error) => {
                    self.tokens.truncate(len);
                    goes_on = self.finish(FinishReason::Failed(error), len, emit);
                    continue;
                }
            };
            if self.tokens.get(len) == Some(&id) {
                valid = true;
            } else {
                self.tokens.truncate(len);
                self.tokens.push(id);
            }
            if !self.report(id, len + 1, tokenizer, emit) {
                self.tokens.truncate(len + 1);
                (valid, goes_on) = (false, false);
            }
        }
        // The last one is still to be run.
        self.cached = self.tokens.len() - 1;
        goes_on
    }

    /// Reports a token that was sampled, after which there are `len`; whether more are wanted.
    fn report(&mut self, id: u32, len: usize, tokenizer: &Tokenizer, emit: &mut Emit) -> bool {
        self.stops.take();
        let end = if !self.ignore_eos && tokenizer.is_eog(id) {
            Some(FinishReason::EndToken)
        } else {
            self.stop_token_ids.contains(&id).then_some(FinishReason::StopToken)
        };
        // As long as `min_tokens` are not there, the last of them is no end either: vLLM's rule.
        let ends = len > self.least || self.least == self.prompt;
        let stopped = end.is_none() && self.stops.push(self.stream.push(tokenizer, id), ends);
        let finish = match (end, stopped) {
            (Some(end), _) => Some(end),
            (_, true) => Some(FinishReason::StopString),
            _ if len < self.limit => None,
            _ if self.capped => Some(FinishReason::MaxTokens),
            _ => Some(FinishReason::ContextFull),
        };
        if finish.is_some() && !stopped {
            self.stops.push(self.stream.finish(), true);
            self.stops.flush();
        }
        self.chain.accept(id);
        self.timing.first_token.get_or_insert(self.timing.finished);
        let sampled = self.chain.sampled();
        let kind = EventKind::Token { id, text: self.stops.ready(), logprob: sampled.logprob, top: sampled.top };
        let wanted = emit(Event { sequence: self.id, index: self.index, kind }).is_continue();
        match finish {
            Some(finish) => self.finish(finish, len, emit),
            None => wanted || self.finish(FinishReason::Cancelled, len, emit),
        }
    }

    /// Reports the end, after `len` tokens; false.
    pub fn finish(&mut self, finish_reason: FinishReason, len: usize, emit: &mut Emit) -> bool {
        let (sequence, index) = (self.id, self.index);
        let (usage, timing) = (Usage { completion_tokens: len - self.prompt, ..self.usage() }, self.timing);
        let text = match finish_reason {
            FinishReason::Failed(_) | FinishReason::Cancelled => self.rest(),
            _ => "",
        };
        // There is nothing left to cancel.
        let _ = emit(Event { sequence, index, kind: EventKind::Finished { text, finish_reason, usage, timing } });
        false
    }

    /// Reports that it cannot go on.
    pub fn fail(&mut self, error: Error, emit: &mut Emit) {
        self.withdraw();
        self.finish(FinishReason::Failed(error), self.tokens.len(), emit);
    }

    /// Reports that nobody wants it any more.
    pub fn cancel(&mut self, emit: &mut Emit) {
        self.withdraw();
        self.finish(FinishReason::Cancelled, self.tokens.len(), emit);
    }

    /// Text that is held back, when no token follows.
    pub fn rest(&mut self) -> &str {
        self.stops.take();
        self.stops.push(self.stream.finish(), true);
        self.stops.flush();
        self.stops.ready()
    }

    /// Why it may not go on, if its time is over.
    pub fn expired(&self, now: Duration) -> Option<Error> {
        let took = now.saturating_sub(self.timing.submitted);
        let over = |timeout: Option<Duration>| timeout.filter(|&timeout| took > timeout);
        let Scheduling { queue_timeout, timeout, .. } = self.scheduling;
        match (over(timeout), over(queue_timeout)) {
            (Some(timeout), _) => Some(Error::Timeout { took, timeout }),
            (_, Some(timeout)) if self.cached_tokens.is_none() => Some(Error::QueueTimeout { waited: took, timeout }),
            _ => None,
        }
    }

    /// Computed tokens of the prompt, and all of them.
    pub fn prompt_progress(&self) -> (usize, usize) {
        (self.cached.min(self.prompt), self.prompt)
    }

    /// What it took so far.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt,
            cached_tokens: self.cached_tokens.unwrap_or(0),
            completion_tokens: self.tokens.len() - self.proposed - self.prompt,
        }
    }
}
