//! From a path to a model that is ready.

use crate::llm::compile;
use crate::{Decoder, EMBEDDED, Embedder, Error, Llm, Memory, Options, Placement, WeightStorage, open_file};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use trine_backend::When;
use trine_engine::{Engine, EngineOptions};
use trine_model::runner::probe;
use trine_model::{Language, ModelOptions, PoolingHead, Runner, Spec};
use trine_tensor::{File, OpenOptions, memory};

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights that are loaded.
    pub done: u64,
    /// All bytes.
    pub total: u64,
}

/// Makes a runner of a file, on the device that the options name or on another.
pub type LoadRunner<'a> =
    dyn FnMut(&File, &trine_model::DeviceOptions) -> Result<Box<dyn Runner>, trine_model::Error> + 'a;

/// A model on its device, and what is known about it.
struct Loaded {
    runner: Box<dyn Runner>,
    language: Language,
    memory: Memory,
    placement: Placement,
}

impl Options {
    /// Loads a model, which [`EMBEDDED`] may be, and makes it ready to answer.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a model, and when an option cannot be had.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Llm, Error> {
        self.open_with(path, &mut |_| ControlFlow::Continue(()))
    }

    /// [`Options::open`] with progress, which may break off.
    ///
    /// # Errors
    /// Those of [`Options::open`], and [`trine_model::Error::Cancelled`].
    pub fn open_with(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Llm, Error> {
        self.open_on(path, &mut |file, device| {
            let total = Memory::weights_of(file);
            trine_model::load(file, device, ModelOptions::default(), &mut |done| progress(Progress { done, total }))
        })
    }

    /// [`Options::open`] on a runner of one's own, which `load` makes of the file: a backend wrapped around another, or a [`Runner`] that is
    /// no single device.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn open_on(&self, path: impl AsRef<Path>, load: &mut LoadRunner) -> Result<Llm, Error> {
        let Loaded { runner, language, memory, placement } = self.load_on(path.as_ref(), load)?;
        let Language { tokenizer, template, mut warnings } = language;
        // A model whose template does not compile can still continue text.
        let template = match &self.template {
            Some(source) => Some(compile(source, &tokenizer)?),
            None => {
                template.and_then(|source| compile(&source, &tokenizer).map_err(|e| warnings.push(e.to_string())).ok())
            }
        };
        let context = Some(self.context_of(runner.spec()));
        let options = EngineOptions { context, ..self.engine.clone() };
        let engine = Engine::new(runner, Arc::new(tokenizer), &options)?;
        Ok(Llm { engine, template, warnings, memory, placement })
    }

    /// Loads a model without an engine: for its logits alone.
    ///
    /// # Errors
    /// Those of [`Options::open_with`].
    pub fn load(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Decoder, Error> {
        let Loaded { runner, language, placement, .. } = self.load_on(path.as_ref(), &mut |file, device| {
            let total = Memory::weights_of(file);
            trine_model::load(file, device, ModelOptions::default(), &mut |done| progress(Progress { done, total }))
        })?;
        if runner.spec().arch.encoder {
            return Err(trine_engine::Error::Encoder { arch: runner.spec().arch.gguf[0] }.into());
        }
        Ok(Decoder::new(runner, language, placement, self.engine.cache_type))
    }

    /// Loads a model that makes embeddings.
    ///
    /// # Errors
    /// Those of [`Options::open_with`], and when the file names a pooling that we do not know.
    pub fn load_embedder(
        &self,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Embedder, Error> {
        let headless = ModelOptions { headless: true, ..ModelOptions::default() };
        let mut pooling_head = None;
        let Loaded { runner, mut language, .. } = self.load_on(path.as_ref(), &mut |file, device| {
            let total = Memory::weights_of(file);
            let runner =
                trine_model::load(file, device, headless.clone(), &mut |done| progress(Progress { done, total }))?;
            pooling_head = Some(PoolingHead::of(runner.spec(), file)?);
            Ok(runner)
        })?;
        let pooling_head = pooling_head.expect("made with the runner");
        language.warnings.extend(pooling_head.assumption().map(str::to_owned));
        Ok(Embedder { runner, pooling_head, language })
    }

    fn load_on(&self, path: &Path, load: &mut LoadRunner) -> Result<Loaded, Error> {
        // What costs nothing to check comes before what may take minutes.
        let mut device = self.device.clone();
        let cpu = &mut device.cpu;
        let huge_pages = cpu.huge_pages != When::Off;
        let open = OpenOptions { mmap: self.mmap, huge_pages, layouts: self.layouts.clone() };
        let file = open_file(path, &open).map_err(trine_model::Error::from)?;
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
        let possible = memory::transparent_huge_pages().is_some_and(|mode| mode != "never");
        cpu.huge_pages = decide(cpu.huge_pages, possible, &memory);
        cpu.repack = decide(cpu.repack, true, &memory);
        let mut runner = load(&file, &device)?;
        runner.limit_context(self.context_of(&spec));
        let token = language.tokenizer.bos().unwrap_or(0);
        probe(&mut *runner, token).map_err(|error| error.at(file.path()))?;
        let mut placement = Placement::of(runner.device(), &device.cpu, self.mmap);
        if file.path() == Path::new(EMBEDDED) {
            placement.weights = WeightStorage::Embedded;
        }
        placement.huge_bytes = memory::huge_bytes();
        tracing::info!(arch = spec.arch.gguf[0], isa = placement.isa, ?memory, ?placement, "loaded");
        Ok(Loaded { runner, language, memory, placement })
    }
}

/// Decides [`When::Auto`]: where it can be had, and there is twice the memory that the model takes.
fn decide(when: When, possible: bool, memory: &Memory) -> When {
    match when {
        When::Auto => {
            let room = || crate::placement::available_memory().is_some_and(|room| room / 2 >= memory.total());
            (possible && room()).into()
        }
        decided => decided,
    }
}
