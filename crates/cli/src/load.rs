//! Options for loading a model.

use crate::answer::Pace;
use crate::exit::UsageError;
use crate::input::file;
use crate::machine::{MachineArgs, size};
use crate::table;
use crate::{progress, recipe};
use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressDrawTarget;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trine::{Decoder, EMBEDDED, Embedder, Llm, Options, Progress};
use trine_backend::profile::Recorder;
use trine_backend::{Numa, Observer};
use trine_engine::{DiskCacheOptions, EngineOptions};
use trine_lab::quantize::{self, Recipe, Target, quantize_on_load};
use trine_lab::verify::{Flaw, verify};
use trine_tensor::{FORMATS, File, Format, OpenOptions, format::by_name};
use trine_text::{Template, Tokenizer};

/// How to load a model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct LoadArgs {
    /// Use this tokenizer instead of the model's
    ///
    /// A tokenizer.json, a tokenizer.model, a GGUF file, or a folder with one of them.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tokenizer: Option<PathBuf>,
    /// Use this chat template (Jinja) instead of the model's
    #[arg(long, value_name = "FILE", hide_short_help = true, value_parser = file(template))]
    template: Option<String>,
    /// Use the model's chat template of this name, such as rag [default: tool_use with --tools, if there is one, else default]
    #[arg(long, value_name = "NAME", hide_short_help = true, conflicts_with = "template")]
    template_name: Option<String>,
    /// Context length in tokens [default: the model's, at most 4096]
    ///
    /// The maximum length of a sequence, such as a prompt and its answer together.
    #[arg(long, value_name = "N", env = "TRINE_CONTEXT", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Maximum number of prompt tokens in one forward pass [default: 512]
    ///
    /// Changes the speed, never the result.
    #[arg(long, visible_aliases = ["ubatch", "prefill-chunk"], value_name = "N", env = "TRINE_BATCH", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Quantize the weights as they are loaded, to a format or mixture such as q4_k_m
    ///
    /// Nothing is written. Loading takes as long as trine quantize, each time.
    #[arg(long, value_name = "NAME", hide_short_help = true, value_parser = on_load)]
    pub quantize_on_load: Option<Target>,
    /// Check the file as trine verify does before it is loaded, and refuse it if something is wrong
    #[arg(long, hide_short_help = true)]
    verify: bool,
    #[command(flatten)]
    pub layouts: LayoutArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// How an engine runs, and where keys and values are kept across runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct EngineArgs {
    /// Maximum number of tokens in one forward pass, those of answers included [default: no limit but --batch]
    ///
    /// Each sequence that runs at once takes one. Changes the speed, never the result.
    #[arg(long, value_name = "N", env = "TRINE_MAX_BATCH_TOKENS", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    max_batch_tokens: Option<u32>,
    /// Keep the KV cache in this folder, so that a prompt that begins as an earlier one is not read again
    ///
    /// The folder is for nothing else. What another model, cache type or version of trine has written there is not used. Answers stay
    /// the same.
    #[arg(long, value_name = "FOLDER", env = "TRINE_CACHE_DIR", hide_short_help = true)]
    cache_dir: Option<PathBuf>,
    /// Size of that folder at most [default: 10GiB]
    ///
    /// What was used longest ago gives way.
    #[arg(long, value_name = "SIZE", hide_short_help = true, value_parser = size)]
    cache_dir_limit: Option<ByteSize>,
}

impl EngineArgs {
    fn set(&self, options: &mut EngineOptions) {
        options.max_batch_tokens = self.max_batch_tokens.map(|tokens| tokens as usize);
        options.disk_cache = self.disk_cache();
    }

    fn disk_cache(&self) -> Option<DiskCacheOptions> {
        let mut options = DiskCacheOptions::new(self.cache_dir.clone()?, []);
        if let Some(limit) = self.cache_dir_limit {
            options.max_bytes = limit.as_u64();
        }
        Some(options)
    }

    /// Checks that a limit has a folder, and warns of one that others may write to.
    ///
    /// # Errors
    /// When there is none.
    pub fn check(&self, quiet: bool) -> Result<(), UsageError> {
        if self.cache_dir_limit.is_some() && self.cache_dir.is_none() {
            let message = "--cache-dir-limit needs --cache-dir".to_owned();
            return Err(UsageError { message, hint: "name the folder that it limits" });
        }
        if let Some((folder, who)) = self.cache_dir.as_ref().and_then(|folder| Some((folder, writers(folder)?)))
            && !quiet
        {
            let folder = table::visible(&folder.display().to_string());
            note!("warning: {folder}: {who} may write to it, and what is written there becomes text");
        }
        Ok(())
    }

    /// Warns of a problem that kept keys and values from being written.
    pub fn warn(&self, problem: Option<String>, quiet: bool) {
        if let Some((problem, folder)) = problem.zip(self.cache_dir.as_ref()).filter(|_| !quiet) {
            note!("warning: not all keys and values are kept in {}: {problem}", folder.display());
        }
    }
}

/// Who but the user may write to a folder, if there is one.
#[cfg(unix)]
fn writers(folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = folder.metadata().ok()?;
    // This process belongs to the user.
    let user = Path::new("/proc/self").metadata().ok().map(|process| process.uid());
    let mode = metadata.mode() & 0o7777;
    if user.is_some_and(|user| user != metadata.uid()) {
        Some(format!("its owner, user {},", metadata.uid()))
    } else if mode & 0o020 != 0 {
        Some(format!("its group (mode {mode:o})"))
    } else {
        None
    }
}

#[cfg(not(unix))]
fn writers(_: &Path) -> Option<String> {
    None
}

/// How to read ambiguous type numbers in a file.
#[derive(Args, Clone, Debug)]
pub struct LayoutArgs {
    /// Format of tensors whose type number is ambiguous
    ///
    /// Some formats share a type number, and not every file tells which one it has: bitnet.cpp, for example, writes i2_s_arm on ARM.
    #[arg(long, value_name = "NAME", env = "TRINE_LAYOUT", hide_short_help = true)]
    #[arg(value_delimiter = ',', ignore_case = true, value_parser = layout())]
    layout: Vec<&'static Format>,
}

impl LayoutArgs {
    pub fn formats(&self) -> Vec<&'static Format> {
        self.layout.clone()
    }

    /// Opens a file with these formats.
    pub fn open(&self, model: &Path) -> Result<File, trine_tensor::Error> {
        trine::open_file(model, &OpenOptions { layouts: self.formats(), ..OpenOptions::default() })
    }

    /// Refuses a format that no tensor of the files has, unless it is that of a variable, which may be for other files.
    ///
    /// # Errors
    /// When there is one.
    pub fn check_used(&self, files: &[&File]) -> Result<(), UsageError> {
        let is_used = |format: &Format| files.iter().any(|file| file.tensors().any(|view| view.format == format));
        let unused = self.layout.iter().find(|format| !is_used(format));
        match unused.filter(|_| std::env::var_os("TRINE_LAYOUT").is_none()) {
            Some(format) => Err(UsageError {
                message: format!("--layout {}: no tensor has a type number of it", format.name.to_lowercase()),
                hint: "omit it; `trine info` shows the formats of a file",
            }),
            None => Ok(()),
        }
    }
}

/// Reads a template of at most 1 MiB.
pub fn template(path: &Path) -> Result<String, String> {
    let bytes = trine_tensor::read_small(path, 1 << 20).map_err(|error| error.to_string())?;
    let path = path.display();
    let not_text = |at| format!("{path}: expected UTF-8 text, found an invalid byte at position {at}");
    String::from_utf8(bytes).map_err(|error| not_text(error.utf8_error().valid_up_to()))
}

/// Parses the name of a format that shares its type number with another.
fn layout() -> impl TypedValueParser<Value = &'static Format> {
    let shared = |format: &&&Format| {
        FORMATS.iter().any(|other| other != *format && other.id == format.id && format.id.is_some())
            || format.name == "TL2"
    };
    let names = FORMATS.iter().filter(shared).map(|format| format.name.to_ascii_lowercase());
    PossibleValuesParser::new(names).map(|name| by_name(&name).expect("it is one of them"))
}

/// Parses the name of a format or mixture.
fn on_load(name: &str) -> Result<Target, String> {
    recipe::target("format", name).map_err(|error| error.message.trim_start_matches("format: ").to_owned())
}

impl LoadArgs {
    /// Loads a model for up to `sequences` concurrent sequences, with a progress bar on a terminal. Stops when `stop` is set. `recorder`
    /// receives the time of each operation.
    pub fn open(
        &self,
        model: &Path,
        sequences: usize,
        quiet: bool,
        stop: &Arc<AtomicBool>,
        recorder: Option<Recorder>,
        engine_args: &EngineArgs,
    ) -> Result<Llm, trine::Error> {
        let mut options = self.loading(model, stop)?;
        engine_args.set(&mut options.engine);
        options.engine.max_sequences = sequences;
        // Nobody waits for one of many.
        options.engine.itl_target = None;
        options.device.profile = recorder;
        self.open_with(model, &options, quiet, stop)
    }

    /// [`LoadArgs::open`] with an engine for many users.
    pub fn open_engine(
        &self,
        model: &Path,
        quiet: bool,
        stop: &Arc<AtomicBool>,
        engine_args: &EngineArgs,
        set: impl FnOnce(&mut Options) -> Result<(), trine::Error>,
    ) -> Result<Llm, trine::Error> {
        let mut options = self.loading(model, stop)?;
        // An answer must not end in the middle when the program is told to.
        options.stop = None;
        engine_args.set(&mut options.engine);
        set(&mut options)?;
        self.open_with(model, &options, quiet, stop)
    }

    fn open_with(&self, model: &Path, options: &Options, quiet: bool, stop: &AtomicBool) -> Result<Llm, trine::Error> {
        trine_tensor::memory::map_large_buffers();
        let llm = shown(quiet, stop, |progress| options.open_with(model, progress))?;
        if !quiet {
            if self.machine.numa != Numa::Off && llm.placement().nodes.is_empty() {
                note!("note: --numa has no effect: this machine has one NUMA node");
            }
            llm.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        }
        Ok(llm)
    }

    /// Like [`LoadArgs::open`], for logits only.
    pub fn load(&self, model: &Path, quiet: bool, stop: &Arc<AtomicBool>) -> Result<Decoder> {
        self.check_no_template()?;
        self.check_layouts(model)?;
        let options = self.loading(model, stop)?;
        Ok(shown(quiet, stop, |progress| options.load(model, progress))?)
    }

    /// Refuses formats that no tensor of a model has.
    fn check_layouts(&self, model: &Path) -> Result<()> {
        if !self.layouts.layout.is_empty() {
            self.layouts.check_used(&[&self.layouts.open(model)?])?;
        }
        Ok(())
    }

    /// Refuses a chat template where no chat is.
    ///
    /// # Errors
    /// When one is given.
    pub fn check_no_template(&self) -> Result<(), UsageError> {
        let flags = [("--template", self.template.is_some()), ("--template-name", self.template_name.is_some())];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                let message = format!("{flag}: there is no chat, and texts are read without a chat template");
                Err(UsageError { message, hint: "omit it" })
            }
            None => Ok(()),
        }
    }

    /// Like [`LoadArgs::load`], for a model whose inputs of products `observer` records.
    pub fn load_observed(
        &self,
        model: &Path,
        quiet: bool,
        stop: &Arc<AtomicBool>,
        observer: Observer,
    ) -> Result<Decoder> {
        self.check_layouts(model)?;
        let mut options = self.loading(model, stop)?;
        options.device.observer = Some(observer);
        Ok(shown(quiet, stop, |progress| options.load(model, progress))?)
    }

    /// Like [`LoadArgs::open`], for embeddings.
    pub fn load_embedder(&self, model: &Path, quiet: bool, stop: &Arc<AtomicBool>) -> Result<Embedder> {
        self.check_no_template()?;
        self.check_layouts(model)?;
        let options = self.loading(model, stop)?;
        Ok(shown(quiet, stop, |progress| options.load_embedder(model, progress))?)
    }

    /// Like [`LoadArgs::load_embedder`], for a server, whose passes go on when `stop` is set after loading.
    pub fn serve_embedder(&self, model: &Path, quiet: bool, stop: &Arc<AtomicBool>) -> Result<Embedder, trine::Error> {
        let options = Options { stop: None, ..self.loading(model, stop)? };
        shown(quiet, stop, |progress| options.load_embedder(model, progress))
    }

    /// Chunks of the prompt for somebody who waits, unless `--batch` gives their size.
    pub fn pace(&self, quiet: bool) -> Option<Pace> {
        let waits = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        let most = EngineOptions::default().prefill_chunk;
        (waits && self.batch.is_none()).then_some(Pace { most, bar: !quiet })
    }

    /// The chat template that [`LoadArgs::open`] gives the model, without its weights.
    pub fn open_template(&self, model: &Path) -> Result<(Template, Tokenizer), trine::Error> {
        self.options(&Arc::default()).open_template(model)
    }

    /// The model, its tokenizer and template as a text, which is another where answers may be.
    pub fn fingerprint(&self, model: &Path) -> Result<String, trine_model::Error> {
        let file = self.layouts.open(model)?;
        let found = trine_model::answer_fingerprint(&file, self.tokenizer.as_deref())?;
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{found} {:?} {:?}", self.template, self.template_name))
    }

    /// The option by which another model is loaded than the file's.
    pub fn other_model(&self) -> Option<&'static str> {
        let options =
            [("--quantize-on-load", self.quantize_on_load.is_some()), ("--tokenizer", self.tokenizer.is_some())];
        options.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The same, without quantizing.
    pub fn as_stored(&self) -> LoadArgs {
        LoadArgs { quantize_on_load: None, ..self.clone() }
    }

    /// How to load this model.
    fn loading(&self, model: &Path, stop: &Arc<AtomicBool>) -> Result<Options, trine::Error> {
        let mut options = self.options(stop);
        if self.verify {
            self.verify(model, stop)?;
        }
        if let Some(target) = self.quantize_on_load {
            let file = self.layouts.open(model).map_err(trine_model::Error::from)?;
            let rewrite = quantize_on_load(&file, &Recipe { target: Some(target), ..Recipe::default() });
            options.rewrite = Some(rewrite.map_err(|error| {
                match error {
                    quantize::Error::Model(error) => error,
                    quantize::Error::File(error) => error.into(),
                    other => trine_tensor::Error::Malformed {
                        place: model.display().to_string(),
                        expected: format!("matrices that {} holds", target.name()),
                        found: other.to_string(),
                    }
                    .into(),
                }
            })?);
        }
        Ok(options)
    }

    /// Refuses a file that is not what its receipt says.
    fn verify(&self, model: &Path, stop: &AtomicBool) -> Result<(), trine_model::Error> {
        let file = self.layouts.open(model)?;
        let found = verify(&file, None, &mut |_| match stop.load(Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        let Some(found) = found else { return Err(trine_model::Error::Cancelled) };
        match found.failures.into_iter().next() {
            Some(Flaw { place, problem }) => {
                let expected = "what it was when it was written".to_owned();
                Err(trine_tensor::Error::Malformed { place, expected, found: problem }.at(model).into())
            }
            None => Ok(()),
        }
    }

    pub fn options(&self, stop: &Arc<AtomicBool>) -> Options {
        let mut options = self.machine.options();
        options.stop = Some(stop.clone());
        options.layouts = self.layouts.formats();
        options.tokenizer.clone_from(&self.tokenizer);
        options.template.clone_from(&self.template);
        options.template_name.clone_from(&self.template_name);
        options.engine.context = self.context.map(|context| context as usize);
        if let Some(batch) = self.batch {
            options.engine.prefill_chunk = batch as usize;
        }
        options
    }
}

/// The default model. The note about it ends with `why`.
pub fn unnamed(why: &str, quiet: bool) -> Result<PathBuf, trine_tensor::Error> {
    if !quiet {
        let file = trine::open_file(EMBEDDED, &OpenOptions::default())?;
        let name = file.metadata().str("general.name")?.unwrap_or(EMBEDDED);
        note!("note: using {name}, a small model in the program for children's stories: no model was named{why}");
    }
    Ok(EMBEDDED.into())
}

/// Time after which a bar is shown: most models are loaded before.
const SHOWN_AFTER: Duration = Duration::from_millis(200);

/// Loads something under a progress bar.
fn shown<T>(quiet: bool, stop: &AtomicBool, load: impl FnOnce(&mut dyn FnMut(Progress) -> ControlFlow<()>) -> T) -> T {
    let bar = progress::bytes("loading", 0);
    bar.set_draw_target(ProgressDrawTarget::hidden());
    let (start, mut waits) = (Instant::now(), !quiet);
    let loaded = load(&mut |progress| {
        if waits && start.elapsed() > SHOWN_AFTER {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            waits = false;
        }
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    loaded
}
