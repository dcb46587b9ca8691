//! The flags that say how a model is loaded, and the loading.

use crate::table::{self, Facts};
use crate::{progress, units};
use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::backend::profile::Recorder;
use trine::backend::{ActivationPrecision, Affinity, KV_FORMATS, Numa, When};
use trine::model::DeviceName;
use trine::tensor::{FORMATS, File, Format, OpenOptions, format::by_name};
use trine::{Decoder, EMBEDDED, Embedder, Llm, Options, Progress};

/// How to load a model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct LoadArgs {
    /// Another tokenizer: a tokenizer.json, a tokenizer.model, a GGUF file, or a folder with one of them
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Another chat template than the model's own: a file in Jinja
    #[arg(long, value_name = "FILE", value_parser = template)]
    template: Option<String>,
    /// Most tokens of a sequence, such as a prompt and its answer together [default: the model's, at most 4096]
    #[arg(long, value_name = "N", env = "TRINE_CONTEXT", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Most tokens of prompts, or of a text, in one batch; changes the speed, never the result [default: 512]
    #[arg(long, visible_alias = "prefill-chunk", value_name = "N", env = "TRINE_BATCH", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Precision of the inputs of linear layers: int8 where the weights' format allows, or f32, which is several times slower
    #[arg(long, value_name = "TYPE", env = "TRINE_ACTIVATIONS", default_value = "int8", value_parser = one_of::<ActivationPrecision>(ActivationPrecision::NAMES))]
    activations: ActivationPrecision,
    #[command(flatten)]
    layouts: LayoutArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// What type numbers with several meanings mean.
#[derive(Args, Clone, Debug)]
pub struct LayoutArgs {
    /// The format of tensors whose type number several formats share, where the file does not tell: such as i2_s_arm, which bitnet.cpp writes
    /// on ARM
    #[arg(long, value_name = "NAME", env = "TRINE_LAYOUT", value_delimiter = ',', ignore_case = true, value_parser = layout())]
    layout: Vec<&'static Format>,
}

impl LayoutArgs {
    /// The formats that they name.
    pub fn formats(&self) -> Vec<&'static Format> {
        self.layout.clone()
    }

    /// A file opened so.
    pub fn open(&self, model: &Path) -> Result<File, trine::tensor::Error> {
        trine::open_file(model, &OpenOptions { layouts: self.formats(), ..OpenOptions::default() })
    }
}

/// The text of a template's file, of at most 1 MiB.
fn template(path: &str) -> Result<String, String> {
    let bytes = trine::tensor::read_small(Path::new(path), 1 << 20).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| format!("{path}: expected UTF-8 text"))
}

/// The formats that share a type number with another, by name.
fn layout() -> impl TypedValueParser<Value = &'static Format> {
    let shared = |format: &&&Format| {
        FORMATS.iter().any(|other| other != *format && other.id == format.id && format.id.is_some())
            || format.name == "TL2"
    };
    let names = FORMATS.iter().filter(shared).map(|format| format.name.to_ascii_lowercase());
    PossibleValuesParser::new(names).map(|name| by_name(&name).expect("it is one of them"))
}

/// How to use the machine: nothing here but the cache type changes an answer.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// Threads that compute [default: RAYON_NUM_THREADS, or a thread for each physical core that may be used]
    #[arg(long, value_name = "N", env = "TRINE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Threads for prompts and other batches of more than one token [default: as --threads]
    #[arg(long, value_name = "N", env = "TRINE_THREADS_BATCH", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads_batch: Option<u32>,
    /// Bind threads to CPUs: none, auto (a physical core each), or a list such as 0,2-5 (one each, in turn)
    #[arg(long, value_name = "CPUS", env = "TRINE_CPU_AFFINITY", default_value = "none")]
    cpu_affinity: Affinity,
    /// Device: auto, or a name that `trine devices` lists, such as cpu or cpu:avx2
    #[arg(long, value_name = "NAME", env = "TRINE_DEVICE", default_value = "auto")]
    device: DeviceName,
    /// Instruction set of the CPU: --isa avx2 is --device cpu:avx2
    #[arg(long, value_name = "NAME", env = "TRINE_ISA", conflicts_with = "device", value_parser = isa)]
    isa: Option<DeviceName>,
    /// What keys and values are kept as: fewer bytes make long contexts smaller and faster, and answers differ a little
    #[arg(long, value_name = "TYPE", env = "TRINE_CACHE_TYPE", default_value = "f32", ignore_case = true, value_parser = cache_type())]
    pub cache_type: &'static Format,
    /// Where memory lies on a machine with several NUMA nodes: as the system does it, on all in turn, or with the threads on one
    #[arg(long, value_name = "POLICY", env = "TRINE_NUMA", default_value = "off", value_parser = one_of::<Numa>(Numa::NAMES))]
    numa: Numa,
    /// Copy the weights to huge pages [auto: when the system has them, and twice the memory that the model takes]
    #[arg(long, value_name = "WHEN", env = "TRINE_HUGE_PAGES", default_value = "auto", value_parser = one_of::<When>(When::NAMES))]
    huge_pages: When,
    /// Copy weights of block formats, such as Q4_K, to the order in which products load them [auto: when there is twice the memory that the
    /// model takes]
    #[arg(long, value_name = "WHEN", env = "TRINE_REPACK", default_value = "auto", value_parser = one_of::<When>(When::NAMES))]
    repack: When,
    /// Read the file into memory instead of mapping it
    #[arg(long)]
    no_mmap: bool,
    /// Bring the mapped file into memory when it is loaded [off: when it is first needed]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "on", default_missing_value = "on")]
    prefault: SwitchArg,
    /// Keep the weights from being swapped out or dropped
    #[arg(long)]
    mlock: bool,
    /// Refuse a model that takes more memory than this, such as 900MB or 4GiB
    #[arg(long, value_name = "SIZE", env = "TRINE_MEM_LIMIT")]
    mem_limit: Option<ByteSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum SwitchArg {
    On,
    Off,
}

/// The values of a flag that is parsed by the library, with their names in the help.
fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

fn isa(name: &str) -> Result<DeviceName, trine::model::Error> {
    format!("cpu:{name}").parse()
}

impl MachineArgs {
    /// The options that they are.
    pub fn options(&self) -> Options {
        let mut options = Options::default();
        options.device.device = self.isa.clone().unwrap_or_else(|| self.device.clone());
        let cpu = &mut options.device.cpu;
        if let Affinity::List(cpus) = &self.cpu_affinity {
            cpu.threads = cpus.len();
        }
        if let Some(threads) = self.threads.or_else(rayon_threads) {
            cpu.threads = threads as usize;
        }
        cpu.threads_batch = self.threads_batch.map(|threads| threads as usize);
        (cpu.affinity, cpu.numa) = (self.cpu_affinity.clone(), self.numa);
        (cpu.huge_pages, cpu.repack) = (self.huge_pages, self.repack);
        (cpu.prefault, cpu.lock) = (self.prefault == SwitchArg::On, self.mlock);
        options.engine.cache_type = self.cache_type;
        options.mmap = !self.no_mmap;
        options.memory_limit = self.mem_limit.map(|limit| limit.as_u64());
        options
    }
}

impl LoadArgs {
    /// Loads the model for so many sequences at once, shows the progress on a terminal, and gives up when `stop` is set. What operations take
    /// goes to `recorder`.
    pub fn open(
        &self,
        model: &Path,
        sequences: usize,
        quiet: bool,
        stop: &AtomicBool,
        recorder: Option<Recorder>,
    ) -> Result<Llm, trine::Error> {
        let mut options = self.options();
        options.engine.max_sequences = sequences;
        options.device.profile = recorder;
        let llm = shown(quiet, stop, |progress| options.open_with(model, progress))?;
        if !quiet {
            if self.machine.numa != Numa::Off && llm.placement().nodes.is_empty() {
                note!("note: --numa does nothing here: this machine has one NUMA node");
            }
            llm.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        }
        Ok(llm)
    }

    /// As [`LoadArgs::open`], for the model's logits alone.
    pub fn load(&self, model: &Path, quiet: bool, stop: &AtomicBool) -> Result<Decoder, trine::Error> {
        shown(quiet, stop, |progress| self.options().load(model, progress))
    }

    /// As [`LoadArgs::open`], for embeddings.
    pub fn load_embedder(&self, model: &Path, quiet: bool, stop: &AtomicBool) -> Result<Embedder, trine::Error> {
        shown(quiet, stop, |progress| self.options().load_embedder(model, progress))
    }

    fn options(&self) -> Options {
        let mut options = self.machine.options();
        options.layouts = self.layouts.formats();
        options.tokenizer.clone_from(&self.tokenizer);
        options.template.clone_from(&self.template);
        options.engine.context = self.context.map(|context| context as usize);
        if let Some(batch) = self.batch {
            options.engine.prefill_chunk = batch as usize;
        }
        options.device.cpu.activations = self.activations;
        options
    }
}

/// The model that is taken where none is named; the note that says so begins with `why`.
pub fn unnamed(why: &str, quiet: bool) -> Result<PathBuf, trine::tensor::Error> {
    if !quiet {
        let file = trine::open_file(EMBEDDED, &OpenOptions::default())?;
        let name = file.metadata().str("general.name")?.unwrap_or(EMBEDDED);
        let what = "the small model that is part of trine; it writes stories for children";
        note!("note: {why}no model was named: this is {name}, {what}");
    }
    Ok(EMBEDDED.into())
}

/// Loads something behind a progress bar.
fn shown<T>(quiet: bool, stop: &AtomicBool, load: impl FnOnce(&mut dyn FnMut(Progress) -> ControlFlow<()>) -> T) -> T {
    let bar = if quiet { ProgressBar::hidden() } else { progress::bytes("loading", 0) };
    let loaded = load(&mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    loaded
}

/// The formats that a KV cache can have, by name.
fn cache_type() -> impl TypedValueParser<Value = &'static Format> {
    let names = KV_FORMATS.iter().map(|format| format.name.to_ascii_lowercase());
    PossibleValuesParser::new(names).map(|name| by_name(&name).expect("it is one of them"))
}

/// Where the threads and the weights of a model are, in a few words for each.
pub fn placement(llm: &Llm) -> Facts {
    let (placement, memory) = (llm.placement(), llm.memory());
    let numbers = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let or = |list: &[usize], none: &str| if list.is_empty() { none.to_owned() } else { numbers(list) };
    let locked = if placement.locked { ", locked" } else { "" };
    let mut facts = Facts::default();
    facts.push("threads", format!("{}, for batches {}", placement.threads, placement.threads_batch));
    facts.push("CPUs of the threads", or(&placement.cpus, "as the system moves them"));
    facts.push("NUMA nodes of the memory", or(&placement.nodes, "as the system places it"));
    facts.push("weights", format!("{}, {}{locked}", units::bytes(memory.weights), placement.weights));
    facts.push("in huge pages", placement.huge_bytes.map_or_else(|| "unknown".to_owned(), units::bytes));
    facts.push("KV cache", format!("{} when full", units::bytes(memory.kv_cache)));
    facts.push("activations", format!("at most {}", units::bytes(memory.scratch)));
    facts
}

/// What rayon's variable says, whose 0 means all cores.
fn rayon_threads() -> Option<u32> {
    std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|&threads| threads > 0)
}
