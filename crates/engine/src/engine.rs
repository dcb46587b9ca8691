use crate::blocks::Blocks;
use crate::event::{Emit, FinishReason, SeqId, Usage};
use crate::request::{Prompt, Request, prompt_tokens};
use crate::sample::mix;
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use crate::{BLOCK_LEN, Error};
use std::collections::VecDeque;
use std::sync::Arc;
use trine_backend::{Batch, CacheId, Stage};
use trine_model::runner::{Output, Want};
use trine_model::{Runner, Spec};
use trine_tensor::{Format, format::F32};
use trine_text::Tokenizer;

/// How much an engine may do at once.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Maximum tokens of prompt and answer together; `None` is the model's own limit.
    pub context: Option<usize>,
    /// Maximum sequences that run at once; the others wait.
    pub max_sequences: usize,
    /// Maximum prompt tokens per step. Larger chunks raise prompt throughput and inter-token latency.
    pub prefill_chunk: usize,
    /// Bytes for the KV cache; `None` makes room for `max_sequences` of full length.
    pub cache_bytes: Option<usize>,
    /// The format of keys and values, one of [`trine_backend::KV_FORMATS`].
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

/// How busy an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub running: usize,
    pub waiting: usize,
    /// Cache blocks of [`BLOCK_LEN`] tokens.
    pub blocks: usize,
    /// Blocks that running sequences use.
    pub used_blocks: usize,
}

/// Runs two functions and returns when both are done; the first may run on another thread.
pub type Join = Box<dyn FnMut(&mut (dyn FnMut() + Send), &mut dyn FnMut()) + Send>;

/// A model that answers requests, many at a time.
pub struct Engine {
    runner: Box<dyn Runner>,
    cache: CacheId,
    tokenizer: Arc<Tokenizer>,
    scheduler: Scheduler,
    context: usize,
    seed: u64,
    count: u64,
    batch: Batch,
    /// Logits of the last batch, a row for each output.
    output: Output,
    join: Option<Join>,
}

impl Engine {
    /// An engine that runs the model of `runner` in a KV cache of its own.
    ///
    /// # Errors
    /// When an option is zero or more than the model has, or the KV cache does not fit or cannot hold one context.
    pub fn new(
        mut runner: Box<dyn Runner>,
        tokenizer: Arc<Tokenizer>,
        options: &EngineOptions,
    ) -> Result<Engine, Error> {
        let most = runner.spec().context_length;
        let context = options.context.unwrap_or(most);
        if !(1..=most).contains(&context) {
            return Err(Error::Context { asked: context, most });
        }
        if runner.spec().arch.encoder {
            return Err(Error::Encoder { arch: runner.spec().arch.name() });
        }
        runner.limit_context(context);
        let &EngineOptions { max_sequences, prefill_chunk, cache_type, .. } = options;
        for (field, value) in [("max_sequences", max_sequences), ("prefill_chunk", prefill_chunk)] {
            if value == 0 {
                return Err(Error::Zero { field });
            }
        }
        let each = context.div_ceil(BLOCK_LEN);
        let block = runner.kv_shape(1, cache_type).bytes().unwrap_or(usize::MAX).max(1);
        let blocks = options.cache_bytes.map_or(each.saturating_mul(max_sequences), |bytes| bytes / block);
        if blocks < each {
            let bytes = options.cache_bytes.unwrap_or(0);
            return Err(Error::CacheTooSmall { bytes, needed: each.saturating_mul(block) });
        }
        if u32::try_from(blocks).is_err() {
            return Err(Error::CacheTooLarge { blocks });
        }
        let cache = runner.create_cache(blocks, cache_type)?;
        let (batch, output) = (Batch::with_capacity(blocks), Output::default());
        let (running, waiting, blocks) = (Vec::new(), VecDeque::new(), Blocks::new(blocks));
        let scheduler = Scheduler { running, waiting, blocks, max_sequences, prefill_chunk };
        let seed = options.seed;
        Ok(Engine { runner, cache, tokenizer, scheduler, context, seed, count: 0, batch, output, join: None })
    }

    /// Sets what runs [`Filter::prepare`](crate::sample::Filter::prepare) beside the forward pass. Without it, filters prepare after the pass.
    pub fn set_join(&mut self, join: Join) {
        self.join = Some(join);
    }

    /// Takes a request, to be answered by calls of [`Engine::step`].
    ///
    /// # Errors
    /// When the prompt is empty, does not fit into the context, or has tokens that the model does not have, and when a sampling option is out of
    /// its range.
    pub fn submit(&mut self, request: Request) -> Result<SeqId, Error> {
        let (context, vocab) = (self.context, self.runner.spec().vocab_size);
        let Request { prompt, sampling, filters, adapter } = request;
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text(text) => prompt_tokens(&self.tokenizer, &text),
        };
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if prompt.len() >= context {
            return Err(Error::PromptTooLong { prompt: prompt.len(), context });
        }
        if !self.runner.has_adapter(adapter) {
            return Err(trine_model::Error::UnknownAdapter { adapter }.into());
        }
        let beyond = |id: u32| id as usize >= vocab;
        if let Some(at) = prompt.iter().position(|&id| beyond(id)) {
            return Err(Error::BeyondVocabulary { place: format!("prompt[{at}]"), id: prompt[at], vocab });
        }
        if let Some(&id) = sampling.logit_bias.keys().find(|&&id| beyond(id)) {
            return Err(Error::BeyondVocabulary { place: "logit_bias".to_owned(), id, vocab });
        }
        let id = SeqId::next();
        let seed = mix(self.seed).wrapping_add(self.count);
        let (tokenizer, filters) = (&self.tokenizer, (filters, adapter));
        self.scheduler.waiting.push_back(Sequence::new(id, &prompt, &sampling, filters, tokenizer, context, seed)?);
        self.count += 1;
        Ok(id)
    }

    /// Runs one batch, samples the next token of each sequence whose tokens are all computed, and reports what happened.
    pub fn step(&mut self, emit: &mut Emit) {
        self.runner.enter(Stage::Step);
        self.scheduler.plan(&mut self.batch);
        if self.batch.tokens().is_empty() {
            self.runner.enter(Stage::Idle);
            return;
        }
        let result = self.forward();
        self.runner.enter(Stage::Sample);
        match result {
            Ok(()) => {
                let vocab = self.runner.spec().vocab_size;
                let mut rows = self.output.values.chunks_exact(vocab);
                self.scheduler.advance(|sequence| sequence.sample(&mut rows, &self.tokenizer, emit));
            }
            Err(error) => self.fail(error, emit),
        }
        self.runner.enter(Stage::Idle);
    }

    /// Runs the batch, and beside it what filters have to prepare.
    fn forward(&mut self) -> Result<(), trine_model::Error> {
        let Engine { runner, cache, batch, output, scheduler, join, .. } = self;
        let mut result = Ok(());
        let mut pass = || result = runner.forward(*cache, batch, Want::Logits, output);
        if scheduler.running.iter().any(Sequence::prepares) {
            let mut prepare = || scheduler.running.iter_mut().for_each(Sequence::prepare);
            match join {
                Some(join) => join(&mut prepare, &mut pass),
                None => {
                    pass();
                    prepare();
                }
            }
        } else {
            pass();
        }
        result
    }

    /// Ends all sequences of a batch that could not be run.
    fn fail(&mut self, error: trine_model::Error, emit: &mut Emit) {
        let error = Arc::new(error);
        for mut sequence in self.scheduler.take_planned() {
            sequence.withdraw();
            let len = sequence.tokens.len();
            sequence.finish(FinishReason::Failed(Error::Forward(error.clone())), len, emit);
        }
    }

    /// Proposes the tokens that follow a sequence, as a draft model or a lookup guessed them. The next step runs them all together and keeps
    /// those that it samples itself, so the answer is the same with any proposal. False, and nothing happens, for a sequence that is not
    /// generating now; tokens that do not fit into its limit are left out.
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    pub fn propose(&mut self, sequence: SeqId, tokens: &[u32]) -> Result<bool, Error> {
        let vocab = self.runner.spec().vocab_size;
        if let Some(at) = tokens.iter().position(|&id| id as usize >= vocab) {
            return Err(Error::BeyondVocabulary { place: format!("proposal[{at}]"), id: tokens[at], vocab });
        }
        let mut running = self.scheduler.running.iter_mut();
        Ok(running.find(|running| running.id == sequence).is_some_and(|sequence| sequence.propose(tokens)))
    }

    /// Lets a sequence rest, or go on. A resting one keeps its cache blocks as long as no other needs them. False when it has finished.
    pub fn pause(&mut self, sequence: SeqId, paused: bool) -> bool {
        self.scheduler.find(sequence).map(|sequence| sequence.paused = paused).is_some()
    }

    /// Drops a sequence at once, without an event, and frees its blocks. Returns text of the answer that was held back, and what it took;
    /// `None` when it has finished.
    pub fn cancel(&mut self, sequence: SeqId) -> Option<(String, Usage)> {
        self.scheduler.remove(sequence).map(|mut sequence| (sequence.rest().to_owned(), sequence.usage()))
    }

    /// Sets how many tokens of prompts a step runs at most, and returns what it was. The bits of an answer do not depend on it.
    ///
    /// # Panics
    /// With 0.
    pub fn set_prefill_chunk(&mut self, tokens: usize) -> usize {
        assert!(tokens > 0, "a chunk of prompt tokens");
        std::mem::replace(&mut self.scheduler.prefill_chunk, tokens)
    }

    /// How many tokens of a sequence's prompt are computed, and how many it has. `None` when it has finished.
    pub fn prompt_progress(&mut self, sequence: SeqId) -> Option<(usize, usize)> {
        self.scheduler.find(sequence).map(|sequence| sequence.prompt_progress())
    }

    /// Whether a step would do nothing: no sequence is there, or all are paused.
    pub fn is_idle(&self) -> bool {
        self.scheduler.running.iter().chain(&self.scheduler.waiting).all(|sequence| sequence.paused)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let Scheduler { running, waiting, blocks, .. } = &self.scheduler;
        let used_blocks = blocks.len() - blocks.unreferenced();
        Load { running: running.len(), waiting: waiting.len(), blocks: blocks.len(), used_blocks }
    }

    /// Maximum tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.runner.spec()
    }

    /// What the model runs on, to share it with an evaluation: other caches do not touch the engine's.
    pub fn runner(&mut self) -> &mut dyn Runner {
        &mut *self.runner
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.runner.release_cache(self.cache);
    }
}
