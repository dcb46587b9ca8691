use crate::backend::{ActivationPrecision, Affinity, Backend, Batch, Cpu, CpuOptions, KvShape, Numa};
use crate::engine::{BLOCK_LEN, Engine, EngineOptions};
use crate::model::{self, Language, Model, Sizes, Spec};
use crate::tensor::{File, Format, OpenOptions, memory};
use crate::text::{Template, Tokenizer};
use crate::{EMBEDDED, Embedder, Error, Llm, Memory, Placement, Weights, When, kernels, open_file};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to load a model. Setters can be chained.
///
/// ```
/// use std::ops::ControlFlow;
/// use trine::prelude::*;
///
/// let mut options = Options::default();
/// options.threads(2).context(64).isa("scalar");
/// let llm = options.open_with(EMBEDDED, &mut |progress| {
///     eprintln!("{} of {} bytes", progress.done, progress.total);
///     ControlFlow::Continue(()) // or Break(()), to give up
/// })?;
/// assert_eq!(llm.context(), 64);
/// # let cancelled = Options::default().open_with(EMBEDDED, &mut |_| ControlFlow::Break(()));
/// # assert!(cancelled.is_err_and(|error| error.to_string().contains("cancelled")));
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    threads: Option<usize>,
    isa: Option<String>,
    tokenizer: Option<PathBuf>,
    template: Option<String>,
    mmap: bool,
    layouts: Vec<&'static Format>,
    huge_pages: When,
    repack: When,
    memory_limit: Option<u64>,
    prefault: bool,
    lock: bool,
    threads_batch: Option<usize>,
    activations: ActivationPrecision,
    affinity: Affinity,
    numa: Numa,
    engine: EngineOptions,
}

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights on the device.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// Tokens of context that a sequence gets when nobody asks for more, if the model has that many.
const CONTEXT: usize = 4096;

impl Default for Options {
    /// A thread for each core that this process may use, the best instruction set, one sequence of at most 4096 tokens.
    fn default() -> Options {
        let engine = EngineOptions { max_sequences: 1, ..EngineOptions::default() };
        Options {
            threads: None,
            isa: None,
            tokenizer: None,
            template: None,
            layouts: Vec::new(),
            mmap: true,
            huge_pages: When::Auto,
            repack: When::Auto,
            memory_limit: None,
            prefault: true,
            lock: false,
            threads_batch: None,
            activations: ActivationPrecision::Quantized,
            affinity: Affinity::None,
            numa: Numa::Off,
            engine,
        }
    }
}

impl Options {
    /// Threads that compute: without a number, one for each physical core that this process may use, or one for each CPU of a list
    /// given to [`Options::affinity`].
    pub fn threads(&mut self, threads: usize) -> &mut Options {
        self.threads = Some(threads);
        self
    }

    /// Threads for batches of more than one token, such as prompts.
    pub fn threads_batch(&mut self, threads: usize) -> &mut Options {
        self.threads_batch = Some(threads);
        self
    }

    /// What linear layers multiply weights with: float32 is several times slower, and nearer to the model's definition.
    pub fn activations(&mut self, activations: ActivationPrecision) -> &mut Options {
        self.activations = activations;
        self
    }

    /// Which CPUs the threads are bound to. The thread that loads the model takes part: it stays bound as long as the model lives, and
    /// is the one that should run it.
    pub fn affinity(&mut self, affinity: Affinity) -> &mut Options {
        self.affinity = affinity;
        self
    }

    /// Where memory lies on a machine with several NUMA nodes; on others this does nothing.
    pub fn numa(&mut self, numa: Numa) -> &mut Options {
        self.numa = numa;
        self
    }

    /// Instruction set, one of [`kernels::tables`].
    pub fn isa(&mut self, name: impl Into<String>) -> &mut Options {
        self.isa = Some(name.into());
        self
    }

    /// Most tokens of prompt and answer together. Models with longrope, such as Phi 3.5, turn by the frequencies that are meant for this length:
    /// by the short list up to their original context, by the long one beyond, for short prompts, too.
    pub fn context(&mut self, tokens: usize) -> &mut Options {
        self.engine.context = Some(tokens);
        self
    }

    /// Another tokenizer than the model's own: a `tokenizer.json`, a GGUF file, or a folder with one of them.
    pub fn tokenizer(&mut self, path: impl Into<PathBuf>) -> &mut Options {
        self.tokenizer = Some(path.into());
        self
    }

    /// The source of another chat template (Jinja) than the model's own; one that does not compile is an error.
    pub fn template(&mut self, source: impl Into<String>) -> &mut Options {
        self.template = Some(source.into());
        self
    }

    /// What type numbers of GGUF mean that programs have given to several formats, such as I2_S of an ARM build, where the file does not tell.
    pub fn layouts(&mut self, layouts: Vec<&'static Format>) -> &mut Options {
        self.layouts = layouts;
        self
    }

    /// Maps the file instead of reading it into memory.
    pub fn mmap(&mut self, yes: bool) -> &mut Options {
        self.mmap = yes;
        self
    }

    /// Brings a mapped file into memory while it is loaded, with all threads, instead of page by page when touched. So it is unless told
    /// otherwise.
    pub fn prefault(&mut self, yes: bool) -> &mut Options {
        self.prefault = yes;
        self
    }

    /// Whether weights move from the mapped file to huge pages: faster where memory has more bandwidth than 4 KiB pages let through. Other
    /// programs no longer share the weights.
    pub fn huge_pages(&mut self, when: When) -> &mut Options {
        self.huge_pages = when;
        self
    }

    /// Whether weights of block formats, such as Q4_K, move from the mapped file to the order in which products load them: up to twice as
    /// fast for one token at a time. They take as much memory as in the file, and other programs no longer share them.
    pub fn repack(&mut self, when: When) -> &mut Options {
        self.repack = when;
        self
    }

    /// Keeps weights from being swapped out or dropped.
    pub fn lock(&mut self, yes: bool) -> &mut Options {
        self.lock = yes;
        self
    }

    /// Bytes that weights, KV cache and activations may take together. A model that takes more is refused before it is loaded.
    pub fn memory_limit(&mut self, bytes: u64) -> &mut Options {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sequences that may run at once.
    pub fn max_sequences(&mut self, sequences: usize) -> &mut Options {
        self.engine.max_sequences = sequences;
        self
    }

    /// Most tokens of prompts in one batch. It changes the speed, never the answer.
    pub fn prefill_chunk(&mut self, tokens: usize) -> &mut Options {
        self.engine.prefill_chunk = tokens;
        self
    }

    /// Bytes for the keys and values of all sequences.
    pub fn cache_bytes(&mut self, bytes: usize) -> &mut Options {
        self.engine.cache_bytes = Some(bytes);
        self
    }

    /// What the cache keeps keys and values as, one of [`crate::backend::KV_FORMATS`].
    pub fn cache_type(&mut self, format: &'static Format) -> &mut Options {
        self.engine.cache_type = format;
        self
    }

    /// Loads a model, which [`EMBEDDED`] may be, and makes it ready to answer.
    ///
    /// # Errors
    /// When the file cannot be opened or makes no sense, and when an option cannot be had.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Llm, Error> {
        self.open_with(path, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Options::open`]; `progress` is told how far it is, and may end it.
    ///
    /// # Errors
    /// Those of [`Options::open`], and [`model::Error::Cancelled`].
    pub fn open_with(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Llm, Error> {
        self.open_on(path, progress, |cpu| cpu)
    }

    /// As [`Options::open_with`], on the device that `wrap` makes of the CPU.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use trine::backend::profile::{Profile, Recorder};
    /// use trine::prelude::*;
    ///
    /// let recorder = Recorder::default();
    /// let mut progress = |_| ControlFlow::Continue(());
    /// let wrap = |cpu| Profile::new(cpu, recorder.clone());
    /// let mut llm = Options::default().open_on(EMBEDDED, &mut progress, wrap)?;
    /// recorder.start();
    /// let answer = llm.generate("Once upon a time", &Sampling { max_tokens: Some(8), ..Sampling::greedy() })?;
    /// recorder.stop();
    /// println!("decode took {:?}", recorder.report().decode.time);
    /// # assert_eq!(recorder.report().decode.tokens as usize + 1, answer.usage.completion_tokens);
    /// # Ok::<(), trine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Options::open_with`].
    pub fn open_on<B: Backend>(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        wrap: impl FnOnce(Cpu) -> B,
    ) -> Result<Llm<B>, Error> {
        let Loaded { model, backend, language, memory, placement, isa } =
            self.load_on(path, Model::load, progress, wrap)?;
        let Language { tokenizer, template, mut warnings } = language;
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.name(id)).unwrap_or_default();
        let compile = |source: String| Template::new(&source, spelled(tokenizer.bos()), spelled(tokenizer.eos()));
        // A model whose template is beyond us can still continue text.
        let template = match &self.template {
            Some(source) => Some(compile(source.clone())?),
            None => template.and_then(|source| compile(source).map_err(|e| warnings.push(e.to_string())).ok()),
        };
        let context = Some(self.context_of(model.spec()));
        let options = EngineOptions { context, ..self.engine.clone() };
        let engine = Engine::new(model, backend, Arc::new(tokenizer), &options)?;
        Ok(Llm { engine, template, warnings, memory, placement, isa })
    }

    /// Loads a model without an engine: for its logits alone.
    ///
    /// # Errors
    /// As [`Options::open_with`].
    pub fn load(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Decoder, Error> {
        self.load_with(path, progress, |cpu| cpu)
    }

    /// [`Options::load`] on what `wrap` makes of the CPU, such as a device that is profiled.
    ///
    /// # Errors
    /// As [`Options::load`].
    pub fn load_with<B: Backend>(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        wrap: impl FnOnce(Cpu) -> B,
    ) -> Result<Decoder<B>, Error> {
        let Loaded { model, backend, language, placement, .. } = self.load_on(path, Model::load, progress, wrap)?;
        if model.spec().arch.encoder {
            return Err(crate::engine::Error::Encoder { arch: model.spec().arch.gguf[0] }.into());
        }
        Ok(Decoder { model, backend, language, placement, cache_type: self.engine.cache_type })
    }

    /// Loads a model that makes embeddings.
    ///
    /// # Errors
    /// As [`Options::open_with`], and when the file says of embeddings what we do not know.
    pub fn load_embedder(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Embedder, Error> {
        let Loaded { model, backend, mut language, .. } =
            self.load_on(path.as_ref(), Model::load_headless, progress, |cpu| cpu)?;
        // What comes behind the model is little, and read when the model is known to be sound.
        let open = OpenOptions { layouts: self.layouts.clone(), ..OpenOptions::default() };
        let file = open_file(path, &open).map_err(model::Error::from)?;
        let model = model::Embedder::of(model, &file)?;
        language.warnings.extend(model.assumption().map(str::to_owned));
        Ok(Embedder { model, backend, language })
    }

    fn load_on<B: Backend>(
        &self,
        path: impl AsRef<Path>,
        load: Load<B>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        wrap: impl FnOnce(Cpu) -> B,
    ) -> Result<Loaded<B>, Error> {
        // What costs nothing to check comes before what may take minutes.
        let table = self.isa.as_deref().map(kernels::table).transpose()?;
        let open =
            OpenOptions { mmap: self.mmap, huge_pages: self.huge_pages != When::Off, layouts: self.layouts.clone() };
        let file = open_file(path, &open).map_err(model::Error::from)?;
        let spec = Spec::of(&file).map_err(|error| error.at(file.path()))?;
        file.notes().iter().chain(&spec.notes).for_each(|note| tracing::info!("{note}"));
        let memory = self.memory_of(&file, &spec);
        if let Some(limit) = self.memory_limit.filter(|&limit| memory.total() > limit) {
            return Err(Error::MemoryLimit { limit, needed: memory });
        }
        let mut language = self.tokenizer.as_ref().map_or_else(|| Language::of(&file), |path| Language::open(path))?;
        language.warnings.extend(spec.warnings.iter().cloned());
        language.warnings.extend_from_slice(file.warnings());
        language.check(&spec).map_err(|error| error.at(file.path()))?;
        let default = CpuOptions::default();
        let listed = match &self.affinity {
            Affinity::List(cpus) => cpus.len(),
            _ => default.threads,
        };
        let options = CpuOptions {
            threads: self.threads.unwrap_or(listed),
            threads_batch: self.threads_batch,
            table: table.unwrap_or(default.table),
            activations: self.activations,
            affinity: self.affinity.clone(),
            numa: self.numa,
            huge_pages: self
                .huge_pages
                .pays(memory::transparent_huge_pages().is_some_and(|mode| mode != "never"), &memory),
            repack: self.repack.pays(true, &memory),
            prefault: self.prefault,
            lock: self.lock,
        };
        let cpu = Cpu::new(options).map_err(model::Error::from)?;
        let (isa, mut placement) = (cpu.isa(), Placement::of(&cpu, self.mmap));
        let mut backend = wrap(cpu);
        let total = memory.weights;
        let mut model = load(&mut backend, &file, &mut |done| progress(Progress { done, total }))?;
        model.limit_context(self.context_of(&spec));
        let token = language.tokenizer.bos().unwrap_or(0);
        model.probe(&mut backend, token).map_err(|error| error.at(file.path()))?;
        if file.path() == Path::new(EMBEDDED) {
            placement.weights = Weights::Embedded;
        }
        placement.huge_bytes = memory::huge_bytes();
        tracing::info!(arch = spec.arch.gguf[0], isa, ?memory, ?placement, "loaded");
        Ok(Loaded { model, backend, language, memory, placement, isa })
    }

    /// What the model takes with as many sequences as are asked for.
    fn memory_of(&self, file: &File, spec: &Spec) -> Memory {
        let EngineOptions { prefill_chunk, cache_type, .. } = self.engine;
        let one = Memory::of(file, spec, self.context_of(spec), prefill_chunk, cache_type);
        let all = one.kv_cache.saturating_mul(self.engine.max_sequences as u64);
        Memory { kv_cache: self.engine.cache_bytes.map_or(all, |bytes| bytes as u64), ..one }
    }

    fn context_of(&self, spec: &Spec) -> usize {
        self.engine.context.unwrap_or(spec.context_length.min(CONTEXT))
    }
}

/// What brings a model to its device.
type Load<B> = fn(&mut B, &File, &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Model<B>, model::Error>;

/// A model on its device.
struct Loaded<B: Backend> {
    model: Model<B>,
    backend: B,
    language: Language,
    memory: Memory,
    placement: Placement,
    isa: &'static str,
}

/// A model on a CPU, without an engine: tokens to logits.
///
/// ```
/// use trine::prelude::*;
///
/// let mut decoder = Decoder::open(EMBEDDED)?;
/// let ids = decoder.tokens("Once upon a time");
/// let logits = decoder.logits(&ids)?;
/// let (vocab, last) = (decoder.spec().vocab, ids.len() - 1);
/// let row = &logits[last * vocab..];
/// let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b]));
/// # assert_eq!(logits.len(), ids.len() * vocab);
/// # assert!(best.is_some());
/// # assert!(decoder.logits(&[1 << 30]).is_err());
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Decoder<B: Backend = Cpu> {
    model: Model<B>,
    backend: B,
    language: Language,
    placement: Placement,
    cache_type: &'static Format,
}

impl Decoder {
    /// Loads a model with default [`Options`].
    ///
    /// # Errors
    /// When the file cannot be opened or makes no sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Decoder, Error> {
        Options::default().load(path, &mut |_| ControlFlow::Continue(()))
    }
}

impl<B: Backend> Decoder<B> {
    /// The model, its device and its language, for programs that run batches of their own.
    pub fn into_parts(self) -> (Model<B>, B, Language) {
        (self.model, self.backend, self.language)
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.model.spec()
    }

    /// Where its threads and weights are.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What was assumed about the model, and why.
    pub fn warnings(&self) -> &[String] {
        &self.language.warnings
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.language.tokenizer
    }

    /// The tokens of a prompt, as those of [`Llm::tokens`].
    pub fn tokens(&self, prompt: &str) -> Vec<u32> {
        crate::llm::tokens(&self.language.tokenizer, prompt)
    }

    /// The logits behind each token of a sequence, `[tokens, vocab]`.
    ///
    /// # Errors
    /// When the sequence is longer than the model's context, has tokens that the model has not, or its cache finds no room.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let Sizes { vocab_size, context_length, .. } = self.model.spec().sizes;
        if ids.len() > context_length {
            return Err(crate::engine::Error::PromptTooLong { prompt: ids.len(), context: context_length }.into());
        }
        if let Some(at) = ids.iter().position(|&id| id as usize >= vocab_size) {
            let place = format!("ids[{at}]");
            return Err(crate::engine::Error::BeyondVocabulary { place, id: ids[at], vocab: vocab_size }.into());
        }
        let blocks: Vec<u32> = (0..ids.len().div_ceil(BLOCK_LEN) as u32).collect();
        let shape = KvShape { format: self.cache_type, ..self.model.kv_shape(blocks.len(), BLOCK_LEN) };
        self.backend.reserve_kv(shape).map_err(model::Error::from)?;
        let (mut all, mut some, mut batch) = (Vec::with_capacity(ids.len() * vocab_size), Vec::new(), Batch::new());
        // Pieces, so that activations of a long sequence need no more memory than those of a short one.
        for (i, chunk) in ids.chunks(EngineOptions::default().prefill_chunk).enumerate() {
            batch.clear();
            batch.push(chunk, i * EngineOptions::default().prefill_chunk, &blocks, chunk.len());
            let logits = self.model.forward(&mut self.backend, &batch);
            self.backend.to_host(&logits, &mut some);
            all.extend_from_slice(&some);
        }
        Ok(all)
    }
}
