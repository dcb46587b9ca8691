//! From a path to a model that is ready.

use crate::llm::compile;
use crate::options::CONTEXT;
use crate::placement::Room;
use crate::{
    Decoder, EMBEDDED, Embedder, EmbeddingTokenizer, Error, Llm, Loading, Memory, Options, Placement, WeightStorage,
    open_file, size,
};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use trine_backend::{ActivationPrecision, When};
use trine_engine::{Engine, EngineOptions, Handle, Sampling};
use trine_grammar::Grammars;
use trine_kernels::multiplies_bf16;
use trine_model::runner::{Want, probe};
use trine_model::{DeviceOptions, Language, ModelOptions, PoolingHead, Runner, Spec};
use trine_tensor::{File, OpenOptions, memory};
use trine_text::{Template, Templates, Tokenizer};

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of weights that are loaded.
    pub done: u64,
    /// All bytes, which `done` reaches.
    pub total: u64,
}

/// An engine on a thread of its own, and the model's chat template, or why there is none.
pub type Spawned = (Handle, Result<Template, Error>);

/// A model on its device, and what is known about it.
struct Loaded {
    runner: Box<dyn Runner>,
    file: File,
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
        self.llm(self.load_with(path.as_ref(), Want::Logits, progress)?)
    }

    /// [`Options::open`] on a custom runner, which `load` makes of the file, on the device that the options name or on another: a
    /// backend wrapped around another, or a [`Runner`] that is no single device.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn open_on(
        &self,
        path: impl AsRef<Path>,
        load: impl FnOnce(&File, &DeviceOptions) -> Result<Box<dyn Runner>, trine_model::Error>,
    ) -> Result<Llm, Error> {
        self.llm(self.load_on(path.as_ref(), Want::Logits, load)?)
    }

    /// Loads a model on a thread of its own, which answers the requests of threads and async tasks. The model's chat template comes with the
    /// handle, or why there is none, as [`Llm::template`] says. It runs `engine.max_sequences` requests at once, by default one.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn spawn(&self, path: impl AsRef<Path>) -> Result<Spawned, Error> {
        self.spawn_with(path.as_ref(), |_| ControlFlow::Continue(()))
    }

    /// [`Options::open`] for async tasks, on a thread of its own, with progress and a way to give up. Threads that are bound to CPUs want
    /// [`Options::spawn_async`], since the model goes to another thread here.
    ///
    /// # Errors
    /// When the system cannot start the thread; what is awaited has those of [`Options::open_with`].
    pub fn open_async(&self, path: impl AsRef<Path>) -> Result<Loading<Llm>, Error> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        Loading::start(move |mut note| options.open_with(path, &mut note))
    }

    /// [`Options::spawn`] for async tasks, with progress and a way to give up.
    ///
    /// # Errors
    /// When the system cannot start the thread; what is awaited has those of [`Options::open_with`].
    pub fn spawn_async(&self, path: impl AsRef<Path>) -> Result<Loading<Spawned>, Error> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        Loading::start(move |note| options.spawn_with(&path, note))
    }

    fn spawn_with(
        &self,
        path: &Path,
        mut progress: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Spawned, Error> {
        let (options, path) = (self.clone(), path.to_owned());
        let (sender, receiver) = std::sync::mpsc::channel();
        // The engine is made on the thread that runs it, which CPU affinity binds.
        let handle = Handle::spawn(move || {
            let (engine, template) = options.open_with(path, &mut progress)?.into_parts();
            let _ = sender.send(template);
            Ok::<_, Error>(engine)
        })?;
        Ok((handle, receiver.recv().unwrap_or(Err(Error::NoTemplate))))
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
        let Loaded { runner, language, placement, .. } = self.load_with(path.as_ref(), Want::Logits, progress)?;
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
        let Loaded { runner, file, language, memory, .. } = self.load_with(path.as_ref(), Want::Hidden, progress)?;
        let pooling_head = PoolingHead::of(runner.spec(), &file)?;
        let mut warnings = language.warnings;
        warnings.extend_from_slice(pooling_head.warnings());
        let (texts, spec) = (pooling_head.texts().clone(), runner.spec().clone());
        let tokenizer = EmbeddingTokenizer::new(language.tokenizer, texts, spec)?;
        Ok(Embedder { runner, pooling_head, tokenizer, warnings, batch: self.engine.prefill_chunk.max(1), memory })
    }

    /// The chat template that [`Options::open`] gives the model, and its tokenizer, without its weights.
    ///
    /// # Errors
    /// Those of [`Llm::template`], and when the file cannot be opened or has no tokenizer.
    pub fn open_template(&self, path: impl AsRef<Path>) -> Result<(Template, Tokenizer), Error> {
        let open = OpenOptions { layouts: self.layouts.clone(), ..OpenOptions::default() };
        let file = open_file(path.as_ref(), &open).map_err(trine_model::Error::from)?;
        let tokenizer = self.language(&file)?.tokenizer;
        Ok((self.template_of(&tokenizer)?, tokenizer))
    }

    /// The chat template of the options, or else the model's own.
    fn template_of(&self, tokenizer: &Tokenizer) -> Result<Template, Error> {
        Ok(compile(&self.templates_of(tokenizer)?, tokenizer)?)
    }

    /// The sources of [`Options::template_of`].
    fn templates_of(&self, tokenizer: &Tokenizer) -> Result<Templates, Error> {
        let own = tokenizer.templates();
        let unknown = |name: &String| {
            let known = own.names().map(str::to_owned).collect();
            Error::UnknownTemplate { found: name.clone(), known }
        };
        match (&self.template, &self.template_name) {
            (Some(source), _) => Ok(source.as_str().into()),
            (None, Some(name)) => own.only(name).ok_or_else(|| unknown(name)),
            (None, None) if own.is_empty() => Err(Error::NoTemplate),
            (None, None) => Ok(own.clone()),
        }
    }

    fn language(&self, file: &File) -> Result<Language, trine_model::Error> {
        self.tokenizer.as_ref().map_or_else(|| Language::of(file), |path| Language::for_model(file, path))
    }

    fn llm(&self, loaded: Loaded) -> Result<Llm, Error> {
        let Loaded { runner, file, language, memory, placement } = loaded;
        let Language { mut tokenizer, generation, warnings } = language;
        let template = match self.template_of(&tokenizer) {
            Err(Error::NoTemplate) => None,
            // A model whose own template cannot be read or does not compile can still continue text.
            Err(Error::Text(trine_text::Error::Template(problem))) if self.template.is_none() => Some(Err(problem)),
            template => Some(Ok(template?)),
        };
        // A budget of thinking looks there for the tags.
        if let Ok(used) = self.templates_of(&tokenizer) {
            tokenizer.set_templates(used);
        }
        if let Err(trine_engine::Error::Option { field, value, expected }) = Sampling::check_recommended(&generation) {
            let key = format!("{field} of {}", generation.source);
            return Err(trine_model::Error::BadKey { key, expected, found: value }.into());
        }
        let context = Some(self.context_of(runner.spec()));
        let mut options = EngineOptions { context, ..self.engine.clone() };
        if let Some(disk) = &mut options.disk_cache {
            disk.model.extend(file.fingerprint());
            disk.model.extend(format!("{:?}", self.device.cpu.activations).bytes());
        }
        let mut engine = Engine::new(runner, Arc::new(tokenizer), &options)?;
        // Where there is no thread, masks of grammars are made after the pass.
        let _ = engine.prepare_beside();
        let grammars = Grammars::new(engine.tokenizer().clone());
        Ok(Llm { engine, grammars, template, generation, warnings, memory, placement })
    }

    /// Loads a model on the device that the options name, with a head if logits are wanted.
    fn load_with(
        &self,
        path: &Path,
        want: Want,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Loaded, Error> {
        self.load_on(path, want, |file, device| {
            let headless = matches!(want, Want::Hidden);
            let (rewrite, stop) = (self.rewrite.clone(), self.stop.clone());
            let gguf_names = rewrite.is_some() || self.device.observer.is_some();
            let model = ModelOptions { headless, gguf_names, rewrite, stop, ..ModelOptions::default() };
            let total = size::uploaded(file, model.headless);
            let mut note = |done: u64| progress(Progress { done: done.min(total), total });
            let runner = trine_model::load(file, device, model, &mut note)?;
            // What the model does not take from the file counts as done.
            match note(total) {
                ControlFlow::Continue(()) => Ok(runner),
                ControlFlow::Break(()) => Err(trine_model::Error::Cancelled),
            }
        })
    }

    /// Refuses a context that the model does not have.
    pub(crate) fn check_context(&self, spec: &Spec) -> Result<(), Error> {
        let most = spec.context_length;
        match self.engine.context.filter(|context| !(1..=most).contains(context)) {
            Some(asked) => Err(trine_engine::Error::Context { asked, most }.into()),
            None => Ok(()),
        }
    }

    /// Refuses a model that takes more memory than [`Options::memory_limit`].
    pub(crate) fn check_limit(&self, needed: Memory) -> Result<(), Error> {
        match self.memory_limit.filter(|&limit| needed.total() > limit) {
            Some(limit) => Err(Error::MemoryLimit { limit, needed }),
            None => Ok(()),
        }
    }

    /// Refuses a model that takes more memory than it may.
    pub(crate) fn check_limits(&self, needed: Memory) -> Result<(), Error> {
        self.check_limit(needed)?;
        Room::read().map_or(Ok(()), |room| check_group(needed, room))
    }

    fn load_on(
        &self,
        path: &Path,
        want: Want,
        load: impl FnOnce(&File, &DeviceOptions) -> Result<Box<dyn Runner>, trine_model::Error>,
    ) -> Result<Loaded, Error> {
        // What costs nothing to check comes before what may take minutes.
        let huge_pages = self.device.cpu.huge_pages != When::Off;
        let open = OpenOptions { mmap: self.mmap, huge_pages, layouts: self.layouts.clone() };
        let file = open_file(path, &open).map_err(trine_model::Error::from)?;
        let spec = Spec::of(&file).map_err(|error| error.at(file.path()))?;
        file.notes().iter().chain(&spec.notes).for_each(|note| tracing::info!("{note}"));
        if spec.arch.encoder && matches!(want, Want::Logits) {
            return Err(trine_engine::Error::Encoder { arch: spec.arch.name() }.into());
        }
        self.check_context(&spec)?;
        let mut language = self.language(&file)?;
        language.warnings.extend(spec.warnings.iter().cloned());
        language.warnings.extend_from_slice(file.warnings());
        language.check(&spec).map_err(|error| error.at(file.path()))?;
        language.generation.keep_below(spec.vocab_size);
        let (memory, device) = self.plan_of(&file, &spec, matches!(want, Want::Hidden))?;
        self.check_limits(memory)?;
        language.warnings.extend(without_bf16(&file, self.device.cpu.activations));
        language.warnings.extend(Room::read().and_then(|room| shortage(memory, room)));
        let mut runner = load(&file, &device)?;
        // Without an engine, what is not limited may be as long as the model allows.
        runner.limit_context(self.engine.context.unwrap_or_else(|| spec.longest_context_like(CONTEXT)));
        let token = language.tokenizer.bos().unwrap_or(0);
        probe(&mut *runner, token, want).map_err(|error| error.at(file.path()))?;
        let mut placement = Placement::of(runner.device(), &device.cpu, self.mmap, memory.repacked > 0);
        if file.path() == Path::new(EMBEDDED) {
            placement.weights = WeightStorage::Embedded;
        }
        placement.huge_bytes = memory::huge_bytes();
        tracing::info!(arch = spec.arch.name(), isa = placement.isa, ?memory, ?placement, "loaded");
        Ok(Loaded { runner, file, language, memory, placement })
    }
}

/// Refuses a model that takes more memory than control groups allow.
fn check_group(needed: Memory, room: Room) -> Result<(), Error> {
    match room.limit().filter(|&limit| needed.pinned() > limit) {
        Some(limit) => Err(Error::ControlGroup { limit, needed }),
        None => Ok(()),
    }
}

/// A warning when no weights can be multiplied as bfloat16 although that was chosen.
fn without_bf16(file: &File, activations: ActivationPrecision) -> Option<String> {
    let rounds = file.tensors().any(|view| view.rows() > 1 && multiplies_bf16(view.format));
    (activations == ActivationPrecision::Bf16 && !rounds).then(|| {
        let instead = ActivationPrecision::Quantized;
        format!(
            "activations {activations}: the model has no F16 or BF16 weights, and others take {instead}, as by default"
        )
    })
}

/// A warning when a model takes most of the memory that there is.
fn shortage(memory: Memory, room: Room) -> Option<String> {
    let there = room.available().saturating_add(memory.program);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    (memory.total() > there / 5 * 4).then(|| {
        format!(
            "the model takes {} MiB of memory, more than 80 % of the {} MiB that there are",
            mib(memory.total()),
            mib(there)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_backend::Topology;

    /// A case, the files of its control groups as Linux has them, and the limit that they set in MiB.
    type Group = (&'static str, &'static [(&'static str, &'static str)], Option<u64>);

    const GROUPS: &[Group] = &[
        (
            "version 2, in a service",
            &[
                ("proc/self/cgroup", "0::/system.slice/trine.service\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/trine.service/memory.max", "104857600\n"),
            ],
            Some(100),
        ),
        (
            "version 2, in a container, whose own group is the root",
            &[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "104857600\n")],
            Some(100),
        ),
        (
            "version 1, a group in a wider one",
            &[
                ("proc/self/cgroup", "12:pids:/docker/4f1\n5:memory:/docker/4f1\n1:name=systemd:/docker/4f1\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "209715200\n"),
                ("sys/fs/cgroup/memory/docker/4f1/memory.limit_in_bytes", "104857600\n"),
            ],
            Some(100),
        ),
        (
            "version 1, in a container that does not see the groups around it",
            &[
                ("proc/self/cgroup", "5:memory:/docker/4f1\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n"),
            ],
            Some(100),
        ),
        ("no limit", &[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")], None),
    ];

    #[test]
    fn what_control_groups_allow_is_kept_and_most_of_it_is_a_warning() {
        let mib = |n: u64| n << 20;
        for (what, files, limit) in GROUPS {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in *files {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let group = Topology::under(root.path(), &[0]).memory_limit;
            assert_eq!(group, limit.map(mib), "{what}");
            let room = Room { total: mib(4096), free: mib(2048), group, resident: mib(10), addresses: None };
            // The whole takes more by the program, which is there already.
            for (weights, warned, refused) in [(60, false, false), (75, true, false), (95, true, true)] {
                let needed = Memory { weights: mib(weights), program: mib(10), ..Memory::default() };
                assert_eq!(shortage(needed, room).is_some(), warned && limit.is_some(), "{what}, {weights} MiB");
                let refusal = check_group(needed, room);
                assert_eq!(refusal.is_err(), refused && limit.is_some(), "{what}, {weights} MiB");
                // The pages of a mapped file can be taken back.
                assert!(check_group(Memory { mapped: mib(weights), ..needed }, room).is_ok(), "{what}");
            }
        }
    }
}
