use crate::backend::{Backend, Batch, Cpu, CpuOptions, KvShape};
use crate::engine::{BLOCK_LEN, Engine, EngineOptions};
use crate::model::{self, Language, Model, Spec};
use crate::tensor::{File, Format, OpenOptions};
use crate::text::{Template, Tokenizer};
use crate::{Error, Llm, Memory, kernels};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to load a model. Setters can be chained.
///
/// ```
/// use std::ops::ControlFlow;
/// use trine::prelude::*;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models/llama/model.gguf");
/// let mut options = Options::default();
/// options.threads(2).context(64).isa("scalar");
/// let llm = options.open_with(path, &mut |progress| {
///     eprintln!("{} of {} bytes", progress.done, progress.total);
///     ControlFlow::Continue(()) // or Break(()), to give up
/// })?;
/// assert_eq!(llm.context(), 64);
/// # let cancelled = Options::default().open_with(path, &mut |_| ControlFlow::Break(()));
/// # assert!(cancelled.is_err_and(|error| error.to_string().contains("cancelled")));
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    threads: Option<usize>,
    isa: Option<String>,
    tokenizer: Option<PathBuf>,
    open: OpenOptions,
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
    /// All cores that this process may use, the best instruction set, a mapped file, one sequence of at most 4096 tokens.
    fn default() -> Options {
        let engine = EngineOptions { max_sequences: 1, ..EngineOptions::default() };
        Options { threads: None, isa: None, tokenizer: None, open: OpenOptions::default(), engine }
    }
}

impl Options {
    /// Threads that compute.
    pub fn threads(&mut self, threads: usize) -> &mut Options {
        self.threads = Some(threads);
        self
    }

    /// Instruction set, one of [`kernels::tables`].
    pub fn isa(&mut self, name: impl Into<String>) -> &mut Options {
        self.isa = Some(name.into());
        self
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&mut self, tokens: usize) -> &mut Options {
        self.engine.context = Some(tokens);
        self
    }

    /// Another tokenizer than the model's own: a `tokenizer.json`, a GGUF file, or a folder with one of them.
    pub fn tokenizer(&mut self, path: impl Into<PathBuf>) -> &mut Options {
        self.tokenizer = Some(path.into());
        self
    }

    /// Maps the file instead of reading it into memory.
    pub fn mmap(&mut self, yes: bool) -> &mut Options {
        self.open.mmap = yes;
        self
    }

    /// Brings a mapped file into memory at once instead of page by page when touched.
    pub fn prefault(&mut self, yes: bool) -> &mut Options {
        self.open.prefault = yes;
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

    /// Loads a model and makes it ready to answer.
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
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models/llama/model.gguf");
    /// let recorder = Recorder::default();
    /// let mut progress = |_| ControlFlow::Continue(());
    /// let wrap = |cpu| Profile::new(cpu, recorder.clone());
    /// let mut llm = Options::default().open_on(path, &mut progress, wrap)?;
    /// recorder.start();
    /// llm.generate("The miller counted", &Sampling { max_tokens: Some(8), ..Sampling::greedy() })?;
    /// recorder.stop();
    /// println!("decode took {:?}", recorder.report().decode.time);
    /// # assert_eq!(recorder.report().decode.tokens, 7);
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
        let Loaded { model, backend, language, memory, threads, isa } = self.load_on(path, progress, wrap)?;
        let Language { tokenizer, template, mut warnings } = language;
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.name(id)).unwrap_or_default();
        let compile = |source: String| Template::new(&source, spelled(tokenizer.bos()), spelled(tokenizer.eos()));
        // A model whose template is beyond us can still continue text.
        let template = template.and_then(|source| compile(source).map_err(|e| warnings.push(e.to_string())).ok());
        let context = Some(self.context_of(model.spec()));
        let options = EngineOptions { context, ..self.engine.clone() };
        let engine = Engine::new(model, backend, Arc::new(tokenizer), &options)?;
        Ok(Llm { engine, template, warnings, memory, threads, isa })
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
        let Loaded { model, backend, language, .. } = self.load_on(path, progress, |cpu| cpu)?;
        Ok(Decoder { model, backend, language, cache_type: self.engine.cache_type })
    }

    fn load_on<B: Backend>(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        wrap: impl FnOnce(Cpu) -> B,
    ) -> Result<Loaded<B>, Error> {
        // What costs nothing to check comes before what may take minutes.
        let table = self.isa.as_deref().map(kernels::table).transpose()?;
        let file = File::open_with(path, &self.open).map_err(model::Error::from)?;
        let spec = Spec::of(&file).map_err(|error| error.at(file.path()))?;
        let language = self.tokenizer.as_ref().map_or_else(|| Language::of(&file), |path| Language::open(path))?;
        language.check(&spec).map_err(|error| error.at(file.path()))?;
        let default = CpuOptions::default();
        let options = CpuOptions {
            threads: self.threads.unwrap_or(default.threads).max(1),
            table: table.unwrap_or(default.table),
        };
        let cpu = Cpu::new(options).map_err(model::Error::from)?;
        let (threads, isa) = (cpu.threads(), cpu.isa());
        let memory =
            Memory::of(&file, &spec, self.context_of(&spec), self.engine.prefill_chunk, self.engine.cache_type);
        tracing::info!(arch = spec.arch.gguf[0], isa, threads, ?memory, "load");
        let mut backend = wrap(cpu);
        let total = memory.weights;
        let model = Model::load(&mut backend, &file, &mut |done| progress(Progress { done, total }))?;
        let token = language.tokenizer.bos().unwrap_or(0);
        model.probe(&mut backend, token).map_err(|error| error.at(file.path()))?;
        Ok(Loaded { model, backend, language, memory, threads, isa })
    }

    fn context_of(&self, spec: &Spec) -> usize {
        self.engine.context.unwrap_or(spec.context.min(CONTEXT))
    }
}

/// A model on its device.
struct Loaded<B: Backend> {
    model: Model<B>,
    backend: B,
    language: Language,
    memory: Memory,
    threads: usize,
    isa: &'static str,
}

/// A model on a CPU, without an engine: tokens to logits.
///
/// ```
/// use trine::prelude::*;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models/llama/model.gguf");
/// let mut decoder = Decoder::open(path)?;
/// let ids = decoder.tokens("The miller");
/// let logits = decoder.logits(&ids)?;
/// let (vocab, last) = (decoder.spec().vocab, ids.len() - 1);
/// let row = &logits[last * vocab..];
/// let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b]));
/// # assert_eq!(logits.len(), ids.len() * vocab);
/// # assert!(best.is_some());
/// # assert!(decoder.logits(&[1 << 30]).is_err());
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Decoder {
    model: Model<Cpu>,
    backend: Cpu,
    language: Language,
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

    /// The model and its device, for programs that run batches of their own.
    pub fn into_parts(self) -> (Model<Cpu>, Cpu) {
        (self.model, self.backend)
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.model.spec()
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
        let &Spec { vocab, context, .. } = self.model.spec();
        if ids.len() > context {
            return Err(crate::engine::Error::PromptTooLong { prompt: ids.len(), context }.into());
        }
        if let Some(at) = ids.iter().position(|&id| id as usize >= vocab) {
            let place = format!("ids[{at}]");
            return Err(crate::engine::Error::BeyondVocabulary { place, id: ids[at], vocab }.into());
        }
        let blocks: Vec<u32> = (0..ids.len().div_ceil(BLOCK_LEN) as u32).collect();
        let shape = KvShape { format: self.cache_type, ..self.model.kv_shape(blocks.len(), BLOCK_LEN) };
        self.backend.reserve_kv(shape).map_err(model::Error::from)?;
        let (mut all, mut some, mut batch) = (Vec::with_capacity(ids.len() * vocab), Vec::new(), Batch::new());
        // Pieces, so that activations of a long sequence need no more memory than those of a short one.
        for (i, chunk) in ids.chunks(EngineOptions::default().prefill_chunk).enumerate() {
            batch.clear();
            batch.push(chunk, i * EngineOptions::default().prefill_chunk, &blocks, chunk.len());
            let logits = self.model.forward(&mut self.backend, &batch);
            self.backend.read(&logits, &mut some);
            all.extend_from_slice(&some);
        }
        Ok(all)
    }
}
