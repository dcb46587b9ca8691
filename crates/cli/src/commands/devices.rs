use crate::advice::{Advice, Settings};
use crate::exit::Exit;
use crate::measure;
use crate::table::Facts;
use crate::units;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use trine::backend::Topology;

/// Show what this machine can compute with, and what would make it faster
#[derive(Args)]
#[command(
    after_help = "Examples:\n  trine devices\n  trine devices --json\n  trine devices --measure\n  taskset -c 0 trine devices"
)]
pub struct Devices {
    /// Print JSON; what is not known is null
    #[arg(long)]
    json: bool,
    /// Measure the limits: how fast memory is read, and the peaks of arithmetic
    #[arg(long)]
    measure: bool,
}

#[derive(Serialize)]
struct Report {
    devices: Vec<Device>,
    memory: Memory,
    settings: Settings,
    advice: Vec<Advice>,
    /// Null when they were not asked for.
    limits: Option<measure::Limits>,
}

#[derive(Serialize)]
struct Device {
    /// What `--device` would call it.
    name: &'static str,
    model: Option<String>,
    /// Physical cores and logical CPUs of the machine.
    physical_cores: Option<usize>,
    logical_cpus: Option<usize>,
    /// Whether a core runs several threads.
    smt: Option<bool>,
    /// CPUs that this process may use, by affinity and control group.
    cores_available: Option<usize>,
    /// CPUs that it may use by affinity, by physical core.
    cores: Vec<Vec<usize>>,
    /// CPUs' worth of time that control groups allow.
    cpu_quota: Option<f64>,
    /// Threads that compute when no number is given.
    threads: usize,
    numa_nodes: Vec<NumaNode>,
    /// Instruction sets that `--isa` takes here, best first.
    isas: Vec<&'static str>,
    /// The one that is taken.
    isa: &'static str,
    /// Features of the CPU that matter to kernels.
    features: Vec<&'static str>,
    caches: Vec<Cache>,
}

#[derive(Serialize)]
struct NumaNode {
    id: usize,
    /// Those that this process may use.
    cpus: Vec<usize>,
}

#[derive(Serialize)]
struct Cache {
    level: Option<u32>,
    kind: Option<String>,
    bytes: Option<u64>,
    /// CPUs that share it, as the kernel lists them.
    shared: Option<String>,
}

#[derive(Serialize)]
struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    /// The limit of the control group, where there is one below the total.
    limit_bytes: Option<u64>,
}

impl Devices {
    pub fn run(self) -> Result<Exit> {
        let mut report = report();
        report.limits = self.measure.then(measure::limits);
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            print(&report, &mut out)?;
        }
        Ok(Exit::Done)
    }
}

fn report() -> Report {
    let wanted =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::everything());
    // Not every system can be asked.
    let system = System::new_with_specifics(wanted).ok();
    let known = |n: u64| Some(n).filter(|&n| n > 0);
    let brand = |system: &System| Some(system.cpus().first()?.brand().trim().to_owned());
    let model = system.as_ref().and_then(brand).filter(|model| !model.is_empty());
    let isas: Vec<&str> = trine::kernels::tables().map(|table| table.name).collect();
    let total = system.as_ref().and_then(|system| known(system.total_memory()));
    let topology = Topology::read();
    let (physical_cores, logical_cpus) =
        (System::physical_core_count().ok(), system.as_ref().map(|system| system.cpus().len()));
    let threads = topology.threads();
    let cpu = Device {
        name: "cpu",
        model,
        physical_cores,
        logical_cpus,
        smt: physical_cores.zip(logical_cpus).map(|(physical, logical)| logical > physical),
        cores: topology.cores,
        cpu_quota: topology.cpu_quota,
        threads,
        numa_nodes: topology.nodes.into_iter().map(|node| NumaNode { id: node.id, cpus: node.cpus }).collect(),
        cores_available: std::thread::available_parallelism().ok().map(|n| n.get()),
        isa: isas[0],
        isas,
        features: features(),
        caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
    };
    let memory = Memory {
        total_bytes: total,
        available_bytes: system.as_ref().and_then(|system| known(system.available_memory())),
        limit_bytes: topology.memory_limit.filter(|&limit| total.is_none_or(|total| limit < total)),
    };
    let settings = Settings::read(system.as_ref().map(|system| [system.total_swap(), system.used_swap()]));
    Report { devices: vec![cpu], memory, advice: settings.advice(), settings, limits: None }
}

macro_rules! detected {
    ($detected:ident: $($name:tt)*) => {
        [$(($name, std::arch::$detected!($name))),*].into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    };
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    detected!(is_x86_feature_detected:
        "sse4.2" "avx" "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vbmi" "avx512vnni" "avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    detected!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// The caches of the first CPU, as Linux tells them; none elsewhere.
fn caches(folder: &Path) -> Vec<Cache> {
    let mut caches = Vec::new();
    for index in 0.. {
        let folder = folder.join(format!("index{index}"));
        if !folder.is_dir() {
            break;
        }
        let read = |name: &str| Some(std::fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
        caches.push(Cache {
            level: read("level").and_then(|level| level.parse().ok()),
            kind: read("type").map(|kind| kind.to_lowercase()),
            bytes: read("size").and_then(|size| Some(size.strip_suffix('K')?.parse::<u64>().ok()? << 10)),
            shared: read("shared_cpu_list"),
        });
    }
    caches
}

fn print(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let unknown = || "unknown".to_owned();
    let mut facts = Facts::default();
    for device in &report.devices {
        facts.push("device", device.name);
        facts.push("model", device.model.clone().unwrap_or_else(unknown));
        let number = |n: Option<usize>| n.map_or_else(unknown, |n| n.to_string());
        let smt = match device.smt {
            Some(true) => "several threads to a core",
            Some(false) => "one thread to a core",
            None => "threads to a core unknown",
        };
        let (physical, logical) = (number(device.physical_cores), number(device.logical_cpus));
        facts.push("cores", format!("{physical} physical, {logical} logical, {smt}"));
        facts.push("cores available", number(device.cores_available));
        if let Some(quota) = device.cpu_quota {
            facts.push("CPU quota", format!("{quota} CPUs"));
        }
        facts.push("threads", format!("{}, when no number is given", device.threads));
        for node in &device.numa_nodes {
            let cpus: Vec<String> = node.cpus.iter().map(usize::to_string).collect();
            facts.push(format!("NUMA node {}", node.id), format!("CPUs {}", cpus.join(", ")));
        }
        facts.push("instruction sets", format!("{} (takes {})", device.isas.join(", "), device.isa));
        facts.push("features", device.features.join(" "));
        for cache in &device.caches {
            let level = cache.level.map_or_else(unknown, |level| level.to_string());
            let kind = cache.kind.as_deref().unwrap_or("unknown");
            let size = cache.bytes.map_or_else(unknown, units::bytes);
            let shared = cache.shared.as_ref().map(|cpus| format!(", of CPUs {cpus}")).unwrap_or_default();
            facts.push(format!("cache L{level}"), format!("{size} {kind}{shared}"));
        }
    }
    facts.push("memory", report.memory.total_bytes.map_or_else(unknown, units::bytes));
    facts.push("memory available", report.memory.available_bytes.map_or_else(unknown, units::bytes));
    if let Some(limit) = report.memory.limit_bytes {
        facts.push("memory limit", units::bytes(limit));
    }
    let settings = &report.settings;
    let swap = match (settings.swap_used_bytes, settings.swap_total_bytes) {
        (_, Some(0)) => "none".to_owned(),
        (Some(used), Some(total)) => format!("{} of {} used", units::bytes(used), units::bytes(total)),
        _ => unknown(),
    };
    facts.push("swap", swap);
    let limit = settings
        .lock_limit_bytes
        .map_or_else(|| "no limit known".to_owned(), |n| format!("at most {}", units::bytes(n)));
    facts.push("memory to lock", limit);
    facts.push("transparent huge pages", settings.transparent_huge_pages.clone().unwrap_or_else(unknown));
    facts.push("reserved huge pages", settings.reserved_huge_pages.map_or_else(unknown, |n| n.to_string()));
    facts.push("governor", settings.governor.clone().unwrap_or_else(unknown));
    report.limits.iter().for_each(|limits| limits.tell(&mut facts));
    facts.print(out)?;
    if report.advice.is_empty() {
        writeln!(out, "\nNone of these settings stands in the way of speed.")?;
    }
    report.advice.iter().try_for_each(|advice| writeln!(out, "\n{}:\n  {}", advice.why, advice.command))
}
