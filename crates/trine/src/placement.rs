//! Where the threads and the weights of a loaded model are.

use crate::Memory;
use crate::backend::{Cpu, Topology};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Whether to do what costs some memory and time when a model is loaded, and pays while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Where it can be had, and there is twice the memory that the model takes.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Where the threads and the weights of a loaded model are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Threads for one token at a time.
    pub threads: usize,
    /// Threads for batches of more.
    pub threads_batch: usize,
    /// The CPU of each thread, the caller's first; empty when the system moves them.
    pub cpus: Vec<usize>,
    /// Nodes that memory is placed on; empty when that is left to the system, as on every machine with one node.
    pub nodes: Vec<usize>,
    /// What the weights lie in.
    pub weights: Weights,
    /// Whether they are locked there.
    pub locked: bool,
    /// Bytes of this process that lay in huge pages when the model was loaded; `None` where the system does not tell.
    pub huge_bytes: Option<u64>,
}

/// What weights lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The pages of the mapped file, shared with others that map it.
    Mapped,
    /// Memory of our own that a mapped file was copied to, for which huge pages were asked.
    Copied,
    /// The same, in the order in which products load them.
    CopiedRepacked,
    /// The pages of the mapped file, but for those that products load in another order, which were copied.
    MappedRepacked,
    /// Memory of our own that the file was read into.
    Read,
    /// The program, which they are part of.
    Embedded,
}

impl std::fmt::Display for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Weights::Mapped => "in the mapped file",
            Weights::Copied => "copied from the mapped file",
            Weights::CopiedRepacked => "copied from the mapped file and repacked",
            Weights::MappedRepacked => "in the mapped file, or copied from it and repacked",
            Weights::Read => "read from the file",
            Weights::Embedded => "in the program",
        })
    }
}

impl When {
    /// Whether to do it for a model that takes so much memory, where it can be had.
    pub(crate) fn pays(self, possible: bool, memory: &Memory) -> bool {
        match self {
            When::On => true,
            When::Off => false,
            When::Auto => possible && available_memory().is_some_and(|available| available / 2 >= memory.total()),
        }
    }
}

impl Placement {
    /// Where things go on a device; huge pages are not known yet.
    pub(crate) fn of(backend: &Cpu, mmap: bool) -> Placement {
        let ([threads, threads_batch], options) = (backend.threads(), backend.options());
        Placement {
            threads,
            threads_batch,
            cpus: backend.bound().to_vec(),
            nodes: backend.nodes().to_vec(),
            weights: match (mmap, options.huge_pages, options.repack) {
                (false, ..) => Weights::Read,
                (true, true, true) => Weights::CopiedRepacked,
                (true, true, false) => Weights::Copied,
                (true, false, true) => Weights::MappedRepacked,
                (true, false, false) => Weights::Mapped,
            },
            locked: options.lock,
            huge_bytes: None,
        }
    }
}

/// Bytes that this process can still have, by what is free in the machine and what control groups allow.
fn available_memory() -> Option<u64> {
    let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let free = System::new_with_specifics(wanted).ok()?.available_memory();
    Some(free.min(Topology::read().memory_limit.unwrap_or(u64::MAX)))
}
