//! How commands use the machine: device, threads, memory.

use crate::priority;
use crate::table::Facts;
use crate::units;
use anyhow::Result;
use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use std::str::FromStr;
use trine::{Llm, Options};
use trine_backend::{ActivationPrecision, Affinity, CacheType, Numa, When};
use trine_kernels::cpus::Topology;
use trine_model::DeviceName;

/// How to use the machine. Only the cache type and the precision of activations change answers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// Number of threads [default: the number of physical cores]
    ///
    /// RAYON_NUM_THREADS counts where TRINE_THREADS is unset.
    #[arg(long, value_name = "N", env = "TRINE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Number of threads for prompts and other batches of more than one token [default: as --threads]
    #[arg(long, value_name = "N", env = "TRINE_THREADS_BATCH", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads_batch: Option<u32>,
    /// Bind threads to CPUs: none, auto, compact, scatter, or a list such as 0,2-5
    ///
    /// auto binds each thread to a physical core, compact to the next CPU of the same core as long as there is one, scatter to physical cores of each
    /// NUMA node in turn. A list binds one thread to each CPU in it.
    #[arg(long, value_name = "CPUS", env = "TRINE_CPU_AFFINITY", default_value = "none", hide_short_help = true)]
    cpu_affinity: Affinity,
    /// Priority of all threads, as that of the program nice: from -20, before all others, to 19, when nobody else computes [default: as it is]
    ///
    /// Less than 0 is for the administrator alone; others get a warning.
    #[arg(long, value_name = "N", env = "TRINE_NICE", hide_short_help = true, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(-20..=19))]
    nice: Option<i32>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Format of the KV cache: f32, f16, bf16, q8_0, q4_0, or two as KEYS/VALUES
    ///
    /// Smaller formats make long contexts faster and take less memory, and change answers slightly.
    #[arg(long, value_name = "TYPE", env = "TRINE_CACHE_TYPE", default_value = "f32", hide_short_help = true)]
    pub cache_type: CacheType,
    /// Precision of the inputs of linear layers
    ///
    /// int8 applies where the format of the weights allows it. f32 rounds no inputs, to tell what rounding costs: weights of fewer than
    /// 16 bits are decoded anew in each pass, which makes prompts several times slower and generating tens of times. bf16 rounds the inputs of F16 and BF16
    /// weights, and these weights, to bfloat16, which makes prompts faster on CPUs with AVX512-BF16 and changes answers slightly; with
    /// other weights it is int8.
    #[arg(long, value_name = "TYPE", env = "TRINE_ACTIVATIONS", default_value = "int8", hide_short_help = true)]
    #[arg(value_parser = one_of::<ActivationPrecision>(ActivationPrecision::NAMES))]
    pub activations: ActivationPrecision,
    /// Memory policy on machines with several NUMA nodes
    ///
    /// off leaves it to the system, interleave spreads pages over all nodes, bind keeps memory and threads on one node.
    #[arg(long, value_name = "POLICY", env = "TRINE_NUMA", default_value = "off", hide_short_help = true)]
    #[arg(value_parser = one_of::<Numa>(Numa::NAMES))]
    pub numa: Numa,
    /// Copy weights to huge pages
    ///
    /// auto does so when the system has huge pages, and twice as much free memory as the model needs.
    #[arg(long, value_name = "WHEN", env = "TRINE_HUGE_PAGES", default_value = "auto", hide_short_help = true)]
    #[arg(value_parser = one_of::<When>(When::NAMES))]
    huge_pages: When,
    /// Interleave the rows of block formats, such as Q4_K, for speed
    ///
    /// auto does so when there is twice as much free memory as the model needs, and the file is mapped.
    #[arg(long, value_name = "WHEN", env = "TRINE_REPACK", default_value = "auto", hide_short_help = true)]
    #[arg(value_parser = one_of::<When>(When::NAMES))]
    repack: When,
    /// Read the file into memory instead of mapping it
    #[arg(long, hide_short_help = true)]
    no_mmap: bool,
    /// Read and check the weights in a mapped file at load time
    ///
    /// off reads pages when they are first used, and does not check them.
    #[arg(long, value_name = "WHEN", default_value = "on", default_missing_value = "on", hide_short_help = true)]
    #[arg(num_args = 0..=1, require_equals = true)]
    prefault: SwitchArg,
    /// Lock the weights in memory
    #[arg(long, hide_short_help = true)]
    mlock: bool,
    /// Reject models with which trine needs more memory than this, such as 900MB or 4GiB
    ///
    /// `trine info` shows what it needs. The limit of a control group is kept as well.
    #[arg(long, value_name = "SIZE", env = "TRINE_MEM_LIMIT", hide_short_help = true, value_parser = size)]
    mem_limit: Option<ByteSize>,
}

/// Where to run a model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct DeviceArgs {
    /// Device to run on, such as cpu or cpu:avx2
    ///
    /// `trine devices` lists the names; auto is the first of them.
    #[arg(long, value_name = "NAME", env = "TRINE_DEVICE", default_value = "auto")]
    device: DeviceName,
    /// Instruction set of the CPU; --isa avx2 is --device cpu:avx2
    #[arg(long, value_name = "NAME", env = "TRINE_ISA", hide_short_help = true)]
    #[arg(conflicts_with = "device", value_parser = isa)]
    isa: Option<DeviceName>,
}

impl DeviceArgs {
    pub fn name(&self) -> DeviceName {
        self.isa.as_ref().unwrap_or(&self.device).clone()
    }
}

pub fn size(text: &str) -> Result<ByteSize, &'static str> {
    text.parse().map_err(|_| "expected a size, such as 900MB or 8GiB")
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum SwitchArg {
    On,
    Off,
}

/// Parses one of the names of a library type, and lists them in the help.
fn one_of<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

fn isa(name: &str) -> Result<DeviceName, trine_model::Error> {
    format!("cpu:{name}").parse()
}

impl MachineArgs {
    /// How the machine is used. Sets the priority of this thread and those that it starts.
    pub fn options(&self) -> Options {
        self.nice.into_iter().for_each(priority::set);
        let mut options = Options::default();
        options.device.device = self.device.name();
        let cpu = &mut options.device.cpu;
        if let Affinity::List(cpus) = &self.cpu_affinity {
            cpu.threads = cpus.len();
        }
        if let Some(threads) = self.threads {
            cpu.threads = threads as usize;
        }
        cpu.threads_batch = self.threads_batch.map(|threads| threads as usize);
        (cpu.affinity, cpu.numa) = (self.cpu_affinity.clone(), self.numa);
        (cpu.huge_pages, cpu.repack) = (self.huge_pages, self.repack);
        (cpu.prefault, cpu.lock) = (self.prefault == SwitchArg::On, self.mlock);
        cpu.activations = self.activations;
        options.engine.cache_type = self.cache_type;
        options.mmap = !self.no_mmap;
        options.memory_limit = self.mem_limit.map(|limit| limit.as_u64());
        options
    }

    /// Bytes of memory that the process may have, by --mem-limit and the control group, if anything limits them.
    pub fn memory_limit(&self) -> Option<u64> {
        let own = self.mem_limit.map(|limit| limit.as_u64());
        own.into_iter().chain(Topology::read().memory_limit).min()
    }
}

/// Where the threads and weights of a model are.
pub fn placement(llm: &Llm) -> Facts {
    let (placement, memory) = (llm.placement(), llm.memory());
    let numbers = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let or = |list: &[usize], none: &str| if list.is_empty() { none.to_owned() } else { numbers(list) };
    let locked = if placement.locked { ", locked" } else { "" };
    let mut facts = Facts::default();
    facts.push("threads", format!("{}, for batches {}", placement.threads, placement.threads_batch));
    facts.push("CPUs of the threads", or(&placement.cpus, "any"));
    facts.push("NUMA nodes of the memory", or(&placement.nodes, "any"));
    facts.push("weights", format!("{}, {}{locked}", units::bytes(memory.weights), placement.weights));
    facts.push("in huge pages", placement.huge_bytes.map_or_else(|| "unknown".to_owned(), units::bytes));
    facts.push("KV cache", format!("{} when full", units::bytes(memory.kv_cache)));
    facts.push("activations", units::bytes(memory.activations + memory.sampling));
    facts.push("program and vocabulary", units::bytes(memory.program));
    facts.push("memory in all", units::bytes(memory.total()));
    facts
}
