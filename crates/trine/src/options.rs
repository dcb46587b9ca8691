use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use trine_backend::When;
use trine_engine::EngineOptions;
use trine_model::{DeviceOptions, Rewrite, Spec};
use trine_tensor::Format;

/// How to load a model and run it.
///
/// ```
/// use std::ops::ControlFlow;
/// use trine::prelude::*;
///
/// let mut options = Options::default();
/// options.device.device = "cpu:scalar".parse()?;
/// options.device.cpu.threads = 2;
/// options.engine.context = Some(64);
/// let llm = options.open_with(EMBEDDED, &mut |progress| {
///     eprintln!("{} of {} bytes", progress.done, progress.total);
///     ControlFlow::Continue(()) // or Break(()), to give up
/// })?;
/// assert_eq!(llm.context(), 64);
/// # let cancelled = Options::default().open_with(EMBEDDED, &mut |_| ControlFlow::Break(()));
/// # assert!(cancelled.is_err_and(|error| error.kind() == trine::ErrorKind::Cancelled));
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    /// The device, and how to run on it. [`When::Auto`] is decided by the memory there is.
    pub device: DeviceOptions,
    /// Context, sequences, batch and KV cache. The default is one sequence of the model's context, at most 4096 tokens; without an engine,
    /// the context is limited only where it is given, or where the rotations of LongRoPE depend on it. What tells models apart is added to
    /// the `model` of `disk_cache`.
    pub engine: EngineOptions,
    /// Another tokenizer than the model's own: a `tokenizer.json`, a `tokenizer.model`, a GGUF file, or a folder with one of them.
    pub tokenizer: Option<PathBuf>,
    /// The source of another chat template (Jinja) than the model's own. One that does not compile is an error when the model is opened;
    /// the model's own, when a chat is rendered.
    pub template: Option<String>,
    /// The name of that of the model's chat templates which all chats get, such as `rag`. By default, chats with tools get `tool_use`, if there
    /// is one, and others `default`.
    pub template_name: Option<String>,
    /// What type numbers of GGUF mean that programs have given to several formats, such as I2_S of an ARM build, where the file does not
    /// tell.
    pub layouts: Vec<&'static Format>,
    /// Map the file instead of reading it into memory.
    pub mmap: bool,
    /// A forward pass that runs when this is set ends after the current layer: answers with
    /// [`FinishReason::Cancelled`](trine_engine::FinishReason::Cancelled), other work with [`trine_model::Error::Stopped`]. For programs at a
    /// terminal, where a pass over a long prompt would keep Ctrl-C waiting for seconds.
    pub stop: Option<Arc<AtomicBool>>,
    /// What becomes of weights as they are loaded, by their GGUF names: for example other formats.
    pub rewrite: Option<Rewrite>,
    /// Refuse models with which the process takes more bytes than this, as [`Options::plan`] counts them.
    pub memory_limit: Option<u64>,
}

/// Tokens of context that a sequence gets by default, if the model has that many.
pub(crate) const CONTEXT: usize = 4096;

impl Default for Options {
    fn default() -> Options {
        let mut device = DeviceOptions::default();
        (device.cpu.huge_pages, device.cpu.repack) = (When::Auto, When::Auto);
        Options {
            device,
            engine: EngineOptions { max_sequences: 1, ..EngineOptions::default() },
            tokenizer: None,
            template: None,
            template_name: None,
            layouts: Vec::new(),
            mmap: true,
            stop: None,
            rewrite: None,
            memory_limit: None,
        }
    }
}

impl Options {
    pub(crate) fn context_of(&self, spec: &Spec) -> usize {
        self.engine.context.unwrap_or(spec.context_length.min(CONTEXT))
    }
}
