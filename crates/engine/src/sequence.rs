use crate::blocks::Table;
use crate::event::{Emit, Event, EventKind, Finish, SeqId, Usage};
use crate::sample::{Chain, History};
use crate::stops::Stops;
use crate::{BLOCK_LEN, Error, Sampling};
use trine_text::{DecodeStream, Tokenizer};

/// A request on its way: its tokens, where they are cached, how the next is picked and how it becomes text.
pub(crate) struct Sequence {
    pub id: SeqId,
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    prompt: usize,
    /// Most tokens, prompt and answer.
    limit: usize,
    /// Tokens already in the cache; the rest is what batches must run.
    pub cached: usize,
    /// Of the rest, how many the batch at hand runs.
    pub planned: usize,
    /// The blocks that hold them.
    pub table: Table,
    /// Tokens that were in the cache when it first ran.
    pub found: Option<usize>,
    ignore_eos: bool,
    chain: Chain,
    stream: DecodeStream,
    stops: Stops,
}

impl Sequence {
    /// A sequence of at most `context` tokens, which exceed those of the prompt.
    pub fn new(
        id: SeqId,
        prompt: &[u32],
        sampling: &Sampling,
        tokenizer: &Tokenizer,
        context: usize,
        seed: u64,
    ) -> Result<Sequence, Error> {
        let chain = Chain::new(sampling, seed)?;
        let limit = sampling.max_tokens.map_or(context, |most| context.min(prompt.len().saturating_add(most)));
        let mut tokens = Vec::with_capacity(limit);
        tokens.extend_from_slice(prompt);
        Ok(Sequence {
            id,
            tokens,
            prompt: prompt.len(),
            limit,
            cached: 0,
            planned: 0,
            table: Table::with_capacity(limit.div_ceil(BLOCK_LEN)),
            found: None,
            ignore_eos: sampling.ignore_eos,
            chain,
            // Behind a prompt without text the answer is the beginning of one.
            stream: match prompt.iter().all(|&id| tokenizer.is_control(id)) {
                true => DecodeStream::new(tokenizer),
                false => DecodeStream::after_prompt(tokenizer),
            },
            stops: Stops::new(&sampling.stop),
        })
    }

    /// Picks the next token and reports it; whether more are wanted.
    pub fn pick(&mut self, logits: &[f32], tokenizer: &Tokenizer, emit: &mut Emit) -> bool {
        let sequence = self.id;
        let pick = match self.chain.pick(logits, History { tokens: &self.tokens, prompt: self.prompt }) {
            Ok(pick) => pick,
            Err(error) => return self.finish(Finish::Failed(error), emit),
        };
        self.tokens.push(pick.id);
        self.stops.take();
        let at_end = !self.ignore_eos && tokenizer.is_eog(pick.id);
        let stopped = !at_end && self.stops.push(self.stream.push(tokenizer, pick.id));
        let finish = match at_end || stopped {
            true => Some(Finish::Stop),
            false => (self.tokens.len() == self.limit).then_some(Finish::Length),
        };
        if finish.is_some() && !stopped {
            self.stops.push(self.stream.finish());
            self.stops.flush();
        }
        let kind = EventKind::Token { id: pick.id, text: self.stops.ready(), logprob: pick.logprob, top: pick.top };
        let wanted = emit(Event { sequence, kind }).is_continue();
        match finish {
            Some(finish) => self.finish(finish, emit),
            None => wanted || self.finish(Finish::Cancelled, emit),
        }
    }

    /// Reports the end; false.
    fn finish(&self, reason: Finish, emit: &mut Emit) -> bool {
        let kind = EventKind::Finished { reason, usage: self.usage() };
        // There is nothing left to cancel.
        let _ = emit(Event { sequence: self.id, kind });
        false
    }

    /// What it took so far.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt,
            cached_tokens: self.found.unwrap_or(0),
            completion_tokens: self.tokens.len() - self.prompt,
        }
    }
}
