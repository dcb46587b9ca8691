//! Where the threads and the weights of a loaded model are.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use trine_backend::{CpuOptions, DeviceInfo, Topology, When};
use trine_tensor::memory;

/// Where the threads and the weights of a loaded model are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The name of the device.
    pub device: &'static str,
    /// The instruction set in use.
    pub isa: &'static str,
    /// Threads for one token at a time.
    pub threads: usize,
    /// Threads for batches of more.
    pub threads_batch: usize,
    /// The CPU of each thread, the caller's first; empty when the system moves them.
    pub cpus: Vec<usize>,
    /// Nodes that memory is placed on; empty when that is left to the system, as on every machine with one node.
    pub nodes: Vec<usize>,
    /// What the weights lie in.
    pub weights: WeightStorage,
    /// Whether they are locked there.
    pub locked: bool,
    /// Bytes of this process that lay in huge pages when the model was loaded; `None` where the system does not tell.
    pub huge_bytes: Option<u64>,
}

/// What weights lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightStorage {
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
    /// The same, and for those that products load in another order a copy in that.
    ReadRepacked,
    /// The program, which they are part of.
    Embedded,
}

impl std::fmt::Display for WeightStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            WeightStorage::Mapped => "in the mapped file",
            WeightStorage::Copied => "copied from the mapped file",
            WeightStorage::CopiedRepacked => "copied from the mapped file and repacked",
            WeightStorage::MappedRepacked => "in the mapped file, or copied from it and repacked",
            WeightStorage::Read => "read from the file",
            WeightStorage::ReadRepacked => "read from the file, or copied from that and repacked",
            WeightStorage::Embedded => "in the program",
        })
    }
}

impl Placement {
    /// Where things go on a device; huge pages are not known yet.
    pub(crate) fn of(device: &DeviceInfo, options: &CpuOptions, mmap: bool, repacked: bool) -> Placement {
        let [threads, threads_batch] = device.threads;
        let on = |when: When| when == When::On;
        Placement {
            device: device.name,
            isa: device.isa,
            threads,
            threads_batch,
            cpus: device.cpus.clone(),
            nodes: device.nodes.clone(),
            weights: match (mmap, on(options.huge_pages), repacked) {
                (false, _, false) => WeightStorage::Read,
                (false, _, true) => WeightStorage::ReadRepacked,
                (true, true, true) => WeightStorage::CopiedRepacked,
                (true, true, false) => WeightStorage::Copied,
                (true, false, true) => WeightStorage::MappedRepacked,
                (true, false, false) => WeightStorage::Mapped,
            },
            locked: options.lock,
            huge_bytes: None,
        }
    }
}

/// The memory of the machine and of this process, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub total: u64,
    pub free: u64,
    /// What control groups allow.
    pub group: Option<u64>,
    /// What this process takes now.
    pub resident: u64,
    /// What the limit of its address space (`ulimit -v`) leaves, if there is one.
    pub addresses: Option<u64>,
}

/// Bytes of memory that this process may still take, on the machine and in its control group; `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    Some(Room::read()?.available())
}

impl Room {
    /// None where the system does not tell.
    pub fn read() -> Option<Room> {
        let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted).ok()?;
        let (total, free) = (system.total_memory(), system.available_memory());
        let resident = memory::resident().unwrap_or(0);
        Some(Room { total, free, group: Topology::read().memory_limit, resident, addresses: memory::addresses_left() })
    }

    /// What control groups allow, if that is less than the machine has.
    pub fn limit(&self) -> Option<u64> {
        self.group.filter(|&limit| limit < self.total)
    }

    /// What this process can still have, by what is free in the machine, what control groups allow, and the limit of its address space.
    pub fn available(&self) -> u64 {
        let group = self.group.unwrap_or(u64::MAX).saturating_sub(self.resident);
        self.free.min(group).min(self.addresses.unwrap_or(u64::MAX))
    }
}
