//! The flags that say how a model is loaded, and the loading.

use crate::table;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::backend::{Backend, Cpu, KV_FORMATS};
use trine::tensor::{Format, format::by_name};
use trine::{Llm, Options, Progress};

/// How to load a model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct LoadArgs {
    /// Another tokenizer: a tokenizer.json, a GGUF file, or a folder with one of them
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Most tokens of prompt and answer together [default: the model's, at most 4096]
    #[arg(long, value_name = "N", env = "TRINE_CONTEXT", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Most tokens of the prompt in one batch; changes the speed, never the answer [default: 512]
    #[arg(long, visible_alias = "prefill-chunk", value_name = "N", env = "TRINE_BATCH", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// How to use the machine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// Threads that compute [default: RAYON_NUM_THREADS, or all cores that may be used]
    #[arg(long, value_name = "N", env = "TRINE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Instruction set [default: the best; `trine devices` lists them]
    #[arg(long, value_name = "NAME", env = "TRINE_ISA")]
    isa: Option<String>,
    /// What keys and values are kept as: fewer bytes make long contexts smaller and faster, and answers differ a little
    #[arg(long, value_name = "TYPE", env = "TRINE_CACHE_TYPE", default_value = "f32", ignore_case = true, value_parser = cache_type())]
    pub cache_type: &'static Format,
    /// Read the file into memory instead of mapping it
    #[arg(long)]
    no_mmap: bool,
    /// Bring the mapped file into memory at once
    #[arg(long, conflicts_with = "no_mmap")]
    prefault: bool,
}

impl MachineArgs {
    /// The options that they are.
    pub fn options(&self) -> Options {
        let mut options = Options::default();
        options.cache_type(self.cache_type).mmap(!self.no_mmap).prefault(self.prefault);
        self.threads.or_else(rayon_threads).map(|threads| options.threads(threads as usize));
        self.isa.as_ref().map(|isa| options.isa(isa));
        options
    }
}

impl LoadArgs {
    /// Loads the model on what `wrap` makes of the CPU, shows how far it is on a terminal, and gives up when `stop` is set.
    pub fn open_on<B: Backend>(
        &self,
        model: &Path,
        quiet: bool,
        stop: &AtomicBool,
        wrap: impl FnOnce(Cpu) -> B,
    ) -> Result<Llm<B>, trine::Error> {
        let mut options = self.machine.options();
        self.tokenizer.as_ref().map(|path| options.tokenizer(path));
        self.context.map(|context| options.context(context as usize));
        self.batch.map(|batch| options.prefill_chunk(batch as usize));
        let bar = if quiet { ProgressBar::hidden() } else { bar("loading", 0) };
        let mut progress = |progress: Progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let llm = options.open_on(model, &mut progress, wrap);
        bar.finish_and_clear();
        let llm = llm?;
        if !quiet {
            llm.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        }
        Ok(llm)
    }
}

/// The names of the formats that a KV cache can have.
fn cache_type() -> impl TypedValueParser<Value = &'static Format> {
    let names = KV_FORMATS.iter().map(|format| format.name.to_ascii_lowercase());
    PossibleValuesParser::new(names).map(|name| by_name(&name).expect("it is one of them"))
}

/// A progress bar over bytes. Indicatif draws it on terminals only.
pub fn bar(verb: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {eta}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(verb)
}

/// What rayon's variable says, whose 0 means all cores.
fn rayon_threads() -> Option<u32> {
    std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|&threads| threads > 0)
}
