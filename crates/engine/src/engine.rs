use crate::blocks::Blocks;
use crate::disk_cache::{DiskCache, DiskCacheOptions};
use crate::event::{Emit, SeqId, Timing, Usage};
use crate::preparer::Preparer;
use crate::request::Request;
use crate::restore::layout;
use crate::sample::{Filter, mix};
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use crate::{Clock, Error, PrefixCacheStats, Sampling};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trine_backend::{Batch, CacheId, CacheType, KvBlocks, Stage};
use trine_model::runner::{Output, Want};
use trine_model::{Runner, RunnerMemory, Spec, Workload};
use trine_tensor::memory;
use trine_text::Tokenizer;

/// How much an engine may do at once.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Maximum tokens of prompt and answer together; `None` is the model's own limit.
    pub context: Option<usize>,
    /// Maximum sequences that run at once; the others wait.
    pub max_sequences: usize,
    /// Maximum prompt tokens per step. Larger chunks raise prompt throughput.
    pub prefill_chunk: usize,
    /// Maximum tokens per step, those of sequences that generate included, as `max_num_batched_tokens` of vLLM; at least `max_sequences`.
    /// `None` knows no limit but `prefill_chunk`. The bits of an answer do not depend on it.
    pub max_batch_tokens: Option<usize>,
    /// How long a step may take while a sequence generates, and so how long its users wait for a token at most: prompts are read in
    /// chunks that keep to it. When generating takes most of it, a step may take longer: 1.3 times what generating takes while one prompt
    /// waits, and up to 3.3 times while several do, so that users beyond what the machine can serve in that time make all of them wait a
    /// little, not some for long. `None` knows no limit but `prefill_chunk`. The bits of an answer do not depend on it.
    pub itl_target: Option<Duration>,
    /// Maximum requests that wait beside those that run; `None` is any number.
    pub max_queued: Option<usize>,
    /// Maximum tokens that the waiting requests have together; `None` is any number.
    pub max_queued_tokens: Option<usize>,
    /// Bytes for the KV cache; `None` makes room for `max_sequences` of full length.
    pub cache_bytes: Option<usize>,
    /// What keys and values are kept as.
    pub cache_type: CacheType,
    /// Where keys and values are kept across restarts; `None` keeps them in memory alone.
    pub disk_cache: Option<DiskCacheOptions>,
    /// Seeds the requests that bring no seed of their own.
    pub seed: u64,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            context: None,
            max_sequences: 4,
            prefill_chunk: 512,
            max_batch_tokens: None,
            itl_target: Some(Duration::from_millis(250)),
            max_queued: None,
            max_queued_tokens: None,
            cache_bytes: None,
            cache_type: CacheType::F32,
            disk_cache: None,
            seed: 0,
        }
    }
}

/// How busy an engine is. Probes ([`Scheduling::probe`](crate::Scheduling)) count only in what steps did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub running: usize,
    pub waiting: usize,
    /// Cache blocks of [`BLOCK_LEN`](crate::BLOCK_LEN) tokens.
    pub blocks: usize,
    /// Blocks that running sequences use.
    pub used_blocks: usize,
    /// Bytes of the blocks that a sequence has had: the others of the cache take no memory yet.
    pub kv_cache_bytes: u64,
    /// How long a step like the last may take: [`EngineOptions::itl_target`], or more when generating alone takes most of it.
    pub step_target: Option<Duration>,
    pub prefix_cache: PrefixCacheStats,
    /// Blocks whose keys and values a prompt may find, those in use included.
    pub cached_blocks: usize,
    /// How often a sequence had to give up its blocks and wait, since the engine was made.
    pub preemptions: u64,
    /// Steps with a forward pass.
    pub steps: u64,
    /// Tokens that these computed: so many a step is the batch size.
    pub step_tokens: u64,
    /// How long these took together: the rest of the time the engine was idle.
    pub busy: Duration,
}

/// How long a step waits for filters that still prepare when its pass is done. The sequences of those that take longer are sampled in a later
/// step.
const FILTERS_WAIT: Duration = Duration::from_millis(1);

/// A model that answers requests, many at a time.
pub struct Engine {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) cache: CacheId,
    blocks: KvBlocks,
    /// Bytes of a block in the layers without a window, and in those with one.
    block_bytes: [usize; 2],
    tokenizer: Arc<Tokenizer>,
    pub(crate) scheduler: Scheduler,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) clock: Clock,
    pub(crate) options: EngineOptions,
    pub(crate) context: usize,
    count: u64,
    pub(crate) batch: Batch,
    /// Logits of the last batch, a row for each output.
    pub(crate) output: Output,
    preparer: Option<Preparer>,
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
        if let Some(most) = options.max_batch_tokens.filter(|&most| most < max_sequences) {
            let expected = format!("at least {max_sequences}, a token for each sequence");
            return Err(Error::Option { field: "max_batch_tokens", value: most.to_string(), expected });
        }
        let work = Workload { context, sequences: max_sequences, batch: prefill_chunk, cache_type, headless: false };
        let bytes = |full, window| runner.kv_shape(KvBlocks { full, window }, cache_type).bytes().unwrap_or(usize::MAX);
        let (each, block) = ([bytes(1, 0), bytes(0, 1)], bytes(1, 1).max(1));
        let spec = runner.spec();
        let blocks = match options.cache_bytes {
            None => work.cache_blocks(spec),
            Some(bytes) => {
                let found = work.cache_blocks_within(bytes, spec, each);
                found.map_err(|needed| Error::CacheTooSmall { bytes, needed })?
            }
        };
        if u32::try_from(blocks.full).is_err() {
            return Err(Error::CacheTooLarge { blocks: blocks.full });
        }
        let window = spec.max_window().filter(|_| blocks.window < blocks.full);
        let disk = options.disk_cache.as_ref().map(|disk| DiskCache::open(disk, &layout(&*runner, cache_type), block));
        let disk = disk.transpose()?;
        let cache = runner.create_cache(blocks, cache_type)?;
        let tables = if window.is_some() { 2 } else { 1 };
        let (batch, output) = (Batch::with_capacity(tables * blocks.full), Output::default());
        let mut scheduler = Scheduler::new(Blocks::new(blocks, window), max_sequences, prefill_chunk);
        scheduler.window_chunk = window.map_or(usize::MAX, |_| prefill_chunk);
        scheduler.max_batch_tokens = options.max_batch_tokens.unwrap_or(usize::MAX);
        scheduler.blocks.published = disk.is_some().then(Vec::new);
        let (clock, options) = (Clock::default(), options.clone());
        Ok(Engine {
            runner,
            cache,
            blocks,
            block_bytes: each,
            tokenizer,
            scheduler,
            disk,
            clock,
            options,
            context,
            count: 0,
            batch,
            output,
            preparer: None,
        })
    }

    /// Sets the clock by which the engine plans and requests time out. The default is the machine's.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Starts threads that run [`Filter::prepare`] beside the forward pass: a sequence whose filters take longer is sampled in a later step,
    /// and others do not wait for it. Without it, filters prepare after the pass. The tokens do not depend on it.
    ///
    /// # Errors
    /// When there are no threads.
    pub fn prepare_beside(&mut self) -> std::io::Result<()> {
        self.preparer = Some(Preparer::start()?);
        Ok(())
    }

    /// Takes a request, to be answered by calls of [`Engine::step`].
    ///
    /// # Errors
    /// When the prompt is empty, does not fit into the context, or has tokens that the model does not have, and when a sampling option is out of
    /// its range.
    pub fn submit(&mut self, request: Request) -> Result<SeqId, Error> {
        request.one_answer()?;
        Ok(self.submit_all(request)?[0])
    }

    /// Takes a request of [`Sampling::n`] or [`Sampling::best_of`] answers, each a sequence of its own, in order of their index. They share
    /// the blocks of the prompt that are full, which are computed once. The answer of an index has the tokens of a request whose seed is
    /// larger by that index; log probabilities of the prompt are reported with the first.
    ///
    /// # Errors
    /// As [`Engine::submit`], and when a request of several answers has a filter without a [`Filter::fork`].
    pub fn submit_all(&mut self, request: Request) -> Result<Vec<SeqId>, Error> {
        self.submit_late(request, Duration::ZERO)
    }

    /// [`Engine::submit_all`] of a request that came so long ago, while a step ran: its time limits began then.
    pub(crate) fn submit_late(&mut self, request: Request, ago: Duration) -> Result<Vec<SeqId>, Error> {
        let submitted = self.clock.now().saturating_sub(ago);
        let (context, vocab) = (self.context, self.runner.spec().vocab_size);
        let Request { prompt, sampling, filters, adapter, scheduling, prefix_cache, progress } = request;
        let prompt = prompt.into_tokens(&self.tokenizer);
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let (tokens, most) = (prompt.len(), sampling.max_prompt(context));
        if tokens > most {
            return Err(Error::PromptTooLong { prompt: tokens, most, context });
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
        let own = [("stop_token_ids", &sampling.stop_token_ids)].into_iter();
        let lists = own.chain(sampling.bad_words_ids.iter().map(|ids| ("bad_words_ids", ids)));
        for (place, ids) in lists {
            if let Some(&id) = ids.iter().find(|&&id| beyond(id)) {
                return Err(Error::BeyondVocabulary { place: place.to_owned(), id, vocab });
            }
        }
        sampling.check()?;
        let n = sampling.best_of.unwrap_or(sampling.n);
        if !scheduling.probe {
            self.check_queue(n, prompt.len())?;
        }
        let fork = |filter: &dyn Filter| {
            filter.fork().ok_or_else(|| {
                let field = if sampling.best_of.is_some() { "best_of" } else { "n" };
                let expected = format!("1 with the filter `{}`, which cannot fork", filter.name());
                Error::Option { field, value: n.to_string(), expected }
            })
        };
        let forks =
            (1..n).map(|_| filters.iter().map(|filter| fork(&**filter)).collect()).collect::<Result<Vec<_>, _>>()?;
        let mut sequences = Vec::with_capacity(n);
        for (index, filters) in std::iter::once(filters).chain(forks).enumerate() {
            let seed = match sampling.seed {
                Some(seed) => seed.wrapping_add(index as u64),
                None => mix(self.options.seed).wrapping_add(self.count + index as u64),
            };
            let mut sampling = Sampling { seed: Some(seed), ..sampling.clone() };
            sampling.prompt_logprobs = sampling.prompt_logprobs.filter(|_| index == 0);
            if sampling.best_of.is_some() {
                // What they are ranked by.
                sampling.logprobs.get_or_insert(0);
            }
            let own = (filters, adapter, &prefix_cache);
            let id = SeqId::next();
            let mut sequence = Sequence::new(id, &prompt, &sampling, own, &self.tokenizer, context, seed)?;
            (sequence.scheduling, sequence.timing.submitted) = (scheduling.clone(), submitted);
            sequence.tells_progress = progress;
            (sequence.index, sequence.leader) = (index, sequences.first().map(|first: &Sequence| first.id));
            if index == 0 {
                self.order(&mut sequence);
            }
            sequences.push(sequence);
        }
        self.count += n as u64;
        let ids = sequences.iter().map(|sequence| sequence.id).collect();
        sequences.into_iter().for_each(|sequence| self.scheduler.enqueue(sequence));
        Ok(ids)
    }

    /// Whether `n` more prompts of so many tokens may wait.
    fn check_queue(&self, n: usize, prompt: usize) -> Result<(), Error> {
        let Scheduler { waiting, max_sequences, .. } = &self.scheduler;
        let [running, queued] = self.scheduler.counts();
        // As many as may run begin with the next step.
        let free = max_sequences.saturating_sub(running);
        if queued + n <= free {
            return Ok(());
        }
        if let Some(most) = self.options.max_queued.filter(|&most| (queued + n).saturating_sub(free) > most) {
            return Err(Error::QueueFull { queued, asked: n, most });
        }
        let users = waiting.iter().filter(|sequence| !sequence.scheduling.probe);
        let queued = users.map(|sequence| sequence.tokens.len()).sum();
        match self.options.max_queued_tokens.filter(|&most| queued + n * prompt > most) {
            Some(most) => Err(Error::QueueTokensFull { queued, prompt, most }),
            None => Ok(()),
        }
    }

    /// Runs one batch, samples the next token of each sequence whose tokens are all computed, and reports what happened.
    pub fn step(&mut self, emit: &mut Emit) {
        if let Some(start) = self.plan(emit) {
            self.run(start, emit);
        }
    }

    /// Chooses the batch of a step; when the step began, unless there is nothing to run.
    pub(crate) fn plan(&mut self, emit: &mut Emit) -> Option<Duration> {
        self.runner.enter(Stage::Step);
        // A device that fails now fails in the step, too, where the sequences learn of it.
        let _ = self.calibrate();
        let start = self.clock.now();
        self.order_preempted(start);
        self.restore();
        self.expire(start, emit);
        self.sample_kept(start, emit);
        self.scheduler.plan(&mut self.batch, start);
        if self.batch.tokens().is_empty() {
            self.await_filters();
            self.runner.enter(Stage::Idle);
            return None;
        }
        Some(start)
    }

    /// Runs the batch that was planned in a step that began at `start`.
    pub(crate) fn run(&mut self, start: Duration, emit: &mut Emit) {
        let result = self.forward().and_then(|()| self.check_output());
        self.runner.enter(Stage::Sample);
        match result {
            Ok(()) => {
                let vocab = self.runner.spec().vocab_size;
                let mut rows = self.output.values.chunks_exact(vocab);
                let end = self.clock.now();
                self.scheduler.advance(|sequence| {
                    sequence.timing.finished = end;
                    sequence.advance(&mut rows, &self.tokenizer, emit)
                });
                let took = self.clock.now().saturating_sub(start);
                self.scheduler.observe(took);
                self.persist();
            }
            Err(error) => self.fail(error, emit),
        }
        self.runner.enter(Stage::Idle);
    }

    /// Runs the batch, and beside it what filters have to prepare.
    fn forward(&mut self) -> Result<(), trine_model::Error> {
        let Engine { runner, cache, batch, output, scheduler, preparer, .. } = self;
        // A runner that gives nothing must not leave what was there.
        output.clear();
        if let Some(preparer) = preparer {
            let prepares = scheduler.running.iter_mut().filter(|sequence| sequence.prepares());
            prepares.for_each(|sequence| preparer.send(sequence.lend_filters()));
        }
        let result = runner.forward(*cache, batch, Want::Logits, output);
        match preparer {
            Some(_) => self.await_filters(),
            None => scheduler.running.iter_mut().for_each(Sequence::prepare),
        }
        result
    }

    /// Takes filters back that are prepared. Waits a moment for those of the batch, or without a batch for the first of any.
    fn await_filters(&mut self) {
        let Engine { batch, scheduler, preparer: Some(preparer), .. } = self else { return };
        let deadline = Instant::now() + FILTERS_WAIT;
        loop {
            let mut active = scheduler.running.iter().filter(|sequence| !sequence.paused);
            let wait = if batch.tokens().is_empty() {
                let mut waiting = active.filter(|sequence| sequence.waits_for_filters()).peekable();
                waiting.peek().is_some() && waiting.all(Sequence::prepares_now)
            } else {
                active.any(|sequence| sequence.planned > 0 && sequence.prepares_now())
            };
            let timeout = if wait { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let Some(preparation) = preparer.receive(timeout) else { return };
            if let Some(sequence) = scheduler.find(preparation.sequence) {
                sequence.take_back(preparation);
            }
        }
    }

    /// Samples sequences whose filters were not ready in the step that computed their logits, and are now.
    fn sample_kept(&mut self, now: Duration, emit: &mut Emit) {
        let Engine { preparer: Some(preparer), scheduler, tokenizer, .. } = self else { return };
        while let Some(preparation) = preparer.receive(Duration::ZERO) {
            if let Some(sequence) = scheduler.find(preparation.sequence) {
                sequence.take_back(preparation);
            }
        }
        let ready = |sequence: &Sequence| sequence.waits_for_filters() && !sequence.prepares_now() && !sequence.paused;
        scheduler.advance_those(ready, |sequence| {
            sequence.timing.finished = now;
            sequence.sample_kept(tokenizer, emit)
        });
    }

    /// A runner of one's own may not give what it should.
    fn check_output(&self) -> Result<(), trine_model::Error> {
        let (rows, vocab, found) =
            (self.batch.outputs().len(), self.runner.spec().vocab_size, self.output.values.len());
        if found == rows * vocab {
            return Ok(());
        }
        let problem = format!("expected {vocab} logits for each of {rows} output rows, found {found} from the runner");
        Err(trine_backend::Error::Other(problem.into()).into())
    }

    /// Ends all sequences of a batch that could not be run.
    fn fail(&mut self, error: trine_model::Error, emit: &mut Emit) {
        let stopped = matches!(error, trine_model::Error::Stopped);
        let error = Arc::new(error);
        for mut sequence in self.scheduler.take(|sequence| sequence.planned > 0) {
            sequence.timing.finished = self.clock.now();
            if stopped {
                sequence.cancel(emit);
                continue;
            }
            sequence.fail(Error::Forward(error.clone()), emit);
        }
    }

    /// Ends the sequences whose time is over.
    fn expire(&mut self, now: Duration, emit: &mut Emit) {
        if self.scheduler.sequences().any(|sequence| sequence.expired(now).is_some()) {
            for mut sequence in self.scheduler.take(|sequence| sequence.expired(now).is_some()) {
                let error = sequence.expired(now).expect("it was chosen for that");
                sequence.timing.finished = now;
                sequence.fail(error, emit);
            }
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
    pub fn cancel(&mut self, sequence: SeqId) -> Option<(String, Usage, Timing)> {
        let mut sequence = self.scheduler.take(|taken| taken.id == sequence).pop()?;
        let timing = Timing { finished: self.clock.now(), ..sequence.timing };
        Some((sequence.rest().to_owned(), sequence.usage(), timing))
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

    /// Forgets the keys and values of earlier requests. Those that run keep theirs.
    pub fn clear_prefix_cache(&mut self) {
        self.scheduler.blocks.clear();
    }

    /// Gives memory back to the system: buffers of passes, and, while there is no sequence, the KV cache with all that was kept for prompts that
    /// begin as earlier ones; a cache on the disk keeps its own. Answers stay the same, and the next takes longer to begin.
    ///
    /// # Errors
    /// When the device has no room for an empty KV cache again.
    pub fn trim(&mut self) -> Result<(), Error> {
        if self.scheduler.sequences().next().is_none() {
            self.clear_prefix_cache();
            let empty = self.runner.create_cache(self.blocks, self.options.cache_type)?;
            self.runner.release_cache(std::mem::replace(&mut self.cache, empty));
            self.scheduler.blocks.renew();
        }
        self.runner.trim();
        memory::give_back();
        Ok(())
    }

    /// Whether a step would do nothing: no sequence is there, or all are paused.
    pub fn is_idle(&self) -> bool {
        self.scheduler.sequences().all(|sequence| sequence.paused)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let Scheduler { blocks, .. } = &self.scheduler;
        let [running, waiting] = self.scheduler.counts();
        let used_blocks = blocks.len() - blocks.unreferenced();
        let (touched, [full, window]) = (blocks.touched(), self.block_bytes);
        let step_target = self.scheduler.step_target();
        let &Scheduler { preemptions, steps, step_tokens, busy, .. } = &self.scheduler;
        Load {
            running,
            waiting,
            blocks: blocks.len(),
            used_blocks,
            kv_cache_bytes: (touched.full * full + touched.window * window) as u64,
            step_target,
            prefix_cache: blocks.stats,
            cached_blocks: blocks.cached_blocks(),
            preemptions,
            steps,
            step_tokens,
            busy,
        }
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

    /// The memory that the model takes on its device. [`Load::kv_cache_bytes`] of the caches are written.
    pub fn memory(&self) -> RunnerMemory {
        self.runner.memory()
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
