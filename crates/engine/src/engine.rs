use crate::blocks::Blocks;
use crate::event::{Emit, EventKind, Finish, SeqId, Usage};
use crate::sample::mix;
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use crate::{BLOCK_LEN, Error, Sampling};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use trine_backend::{Backend, Batch, KvShape, Stage};
use trine_model::{Model, Spec};
use trine_tensor::{Format, format::F32};
use trine_text::Tokenizer;

/// How much an engine may do at once.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Most tokens of prompt and answer together; the model's when there is no number.
    pub context: Option<usize>,
    /// Most sequences that run at once; the others wait.
    pub max_sequences: usize,
    /// Most tokens of prompts in one step: more make prompts faster and let others wait longer for their next token.
    pub prefill_chunk: usize,
    /// Bytes for the KV cache; without a number, room for `max_sequences` of full length.
    pub cache_bytes: Option<usize>,
    /// What the cache keeps keys and values as, one of [`trine_backend::KV_FORMATS`].
    pub cache_type: &'static Format,
    /// Seeds the requests that bring no seed of their own.
    pub seed: u64,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            context: None,
            max_sequences: 4,
            prefill_chunk: 512,
            cache_bytes: None,
            cache_type: &F32,
            seed: 0,
        }
    }
}

/// What to answer, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Tokens to go on from.
    pub prompt: Vec<u32>,
    /// How to pick tokens, and when to end.
    pub sampling: Sampling,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its text, without end token and stop string.
    pub text: String,
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// Why it ended: never [`Finish::Failed`].
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
}

/// How busy an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sequences that run.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Cache blocks of [`BLOCK_LEN`] tokens.
    pub blocks: usize,
    /// Of these, how many running sequences use.
    pub used_blocks: usize,
}

/// A model that answers requests, many at a time.
pub struct Engine<B: Backend> {
    model: Model<B>,
    backend: B,
    tokenizer: Arc<Tokenizer>,
    scheduler: Scheduler,
    context: usize,
    seed: u64,
    /// Requests so far.
    count: u64,
    batch: Batch,
    /// Logits of the last batch, `[sequences, vocab]`.
    logits: Vec<f32>,
}

impl<B: Backend> Engine<B> {
    /// An engine around a model that is on `backend`, whose KV cache it takes.
    ///
    /// # Errors
    /// When an option is zero or more than the model has, or the KV cache does not fit or cannot hold one context.
    pub fn new(
        mut model: Model<B>,
        mut backend: B,
        tokenizer: Arc<Tokenizer>,
        options: &EngineOptions,
    ) -> Result<Engine<B>, Error> {
        let most = model.spec().context_length;
        let context = options.context.unwrap_or(most);
        if !(1..=most).contains(&context) {
            return Err(Error::Context { asked: context, most });
        }
        if model.spec().arch.encoder {
            return Err(Error::Encoder { arch: model.spec().arch.gguf[0] });
        }
        model.limit_context(context);
        let &EngineOptions { max_sequences, prefill_chunk, .. } = options;
        for (field, value) in [("max_sequences", max_sequences), ("prefill_chunk", prefill_chunk)] {
            if value == 0 {
                return Err(Error::Zero { field });
            }
        }
        let each = context.div_ceil(BLOCK_LEN);
        let shape = |blocks| KvShape { format: options.cache_type, ..model.kv_shape(blocks, BLOCK_LEN) };
        let block = shape(1).bytes().unwrap_or(usize::MAX).max(1);
        let blocks = options.cache_bytes.map_or(each.saturating_mul(max_sequences), |bytes| bytes / block);
        if blocks < each {
            let bytes = options.cache_bytes.unwrap_or(0);
            return Err(Error::CacheTooSmall { bytes, needed: each.saturating_mul(block) });
        }
        if u32::try_from(blocks).is_err() {
            return Err(Error::CacheTooLarge { blocks });
        }
        backend.reserve_kv(shape(blocks))?;
        let (batch, logits) = (Batch::with_capacity(blocks), Vec::new());
        let (running, waiting, blocks) = (Vec::new(), VecDeque::new(), Blocks::new(blocks));
        let scheduler = Scheduler { running, waiting, blocks, max_sequences, prefill_chunk };
        Ok(Engine { model, backend, tokenizer, scheduler, context, seed: options.seed, count: 0, batch, logits })
    }

    /// Takes a request, to be answered by calls of [`Engine::step`].
    ///
    /// # Errors
    /// When the prompt is empty, does not fit into the context, or has tokens that the model has not, and when a sampling option is out of
    /// its range.
    pub fn submit(&mut self, request: &Request) -> Result<SeqId, Error> {
        let Request { prompt, sampling } = request;
        let (context, vocab) = (self.context, self.model.spec().vocab_size);
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if prompt.len() >= context {
            return Err(Error::PromptTooLong { prompt: prompt.len(), context });
        }
        let beyond = |id: u32| id as usize >= vocab;
        if let Some(at) = prompt.iter().position(|&id| beyond(id)) {
            return Err(Error::BeyondVocabulary { place: format!("prompt[{at}]"), id: prompt[at], vocab });
        }
        if let Some(&id) = sampling.logit_bias.keys().find(|&&id| beyond(id)) {
            return Err(Error::BeyondVocabulary { place: "logit_bias".to_owned(), id, vocab });
        }
        let id = SeqId(self.count);
        let seed = mix(self.seed).wrapping_add(self.count);
        self.scheduler.waiting.push_back(Sequence::new(id, prompt, sampling, &self.tokenizer, context, seed)?);
        self.count += 1;
        Ok(id)
    }

    /// Runs one batch, picks the next token of each sequence whose tokens are all through, and reports what happened.
    pub fn step(&mut self, emit: &mut Emit) {
        self.backend.enter(Stage::Step);
        self.scheduler.plan(&mut self.batch);
        if self.batch.tokens().is_empty() {
            self.backend.enter(Stage::Idle);
            return;
        }
        let logits = self.model.forward(&mut self.backend, &self.batch);
        self.backend.to_host(&logits, &mut self.logits);
        self.backend.enter(Stage::Sample);
        let mut rows = self.logits.chunks_exact(self.model.spec().vocab_size);
        self.scheduler
            .advance(|sequence| sequence.pick(rows.next().expect("a row for each output"), &self.tokenizer, emit));
        self.backend.enter(Stage::Idle);
    }

    /// Drops a sequence at once, without an event, and frees its blocks. `None` when it has finished.
    pub fn cancel(&mut self, sequence: SeqId) -> Option<Usage> {
        self.scheduler.remove(sequence).map(|sequence| sequence.usage())
    }

    /// Answers one request; `emit` sees its events on the way. Other sequences go on meanwhile, but their events are lost.
    ///
    /// # Errors
    /// Those of [`Engine::submit`], and [`Error::NotFinite`].
    pub fn generate(&mut self, request: &Request, emit: &mut Emit) -> Result<Answer, Error> {
        let id = self.submit(request)?;
        let (mut text, mut tokens, mut end) = (String::new(), Vec::new(), None);
        while end.is_none() {
            self.step(&mut |event| {
                if event.sequence != id {
                    return ControlFlow::Continue(());
                }
                match event.kind {
                    EventKind::Token { id, text: more, .. } => {
                        tokens.push(id);
                        text.push_str(more);
                        emit(event)
                    }
                    EventKind::Finished { reason, usage } => {
                        end = Some((reason, usage));
                        ControlFlow::Continue(())
                    }
                }
            });
        }
        match end.expect("the loop waits for it") {
            (Finish::Failed(error), _) => Err(error),
            (finish, usage) => Ok(Answer { text, tokens, finish, usage }),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.scheduler.running.is_empty() && self.scheduler.waiting.is_empty()
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let Scheduler { running, waiting, blocks, .. } = &self.scheduler;
        let used_blocks = blocks.len() - blocks.unused();
        Load { running: running.len(), waiting: waiting.len(), blocks: blocks.len(), used_blocks }
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.model.spec()
    }

    /// What turns text into its tokens.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}
