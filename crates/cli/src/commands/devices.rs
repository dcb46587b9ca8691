use crate::advice::{Advice, Settings};
use crate::exit::Exit;
use crate::measure::{self, MachineLimits};
use crate::table::Facts;
use crate::units;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use trine_backend::Topology;
use trine_model::{DEVICES, Device};

/// List devices, and settings that slow them down
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine devices\n  \
    trine devices --json | jq -r '.devices[].name'\n  \
    trine devices --measure\n  \
    taskset -c 0 trine devices")]
pub struct Devices {
    /// Print JSON; unknown values are null
    #[arg(long)]
    json: bool,
    /// Measure memory bandwidth and peak arithmetic speed
    #[arg(long)]
    measure: bool,
}

#[derive(Serialize)]
struct DevicesReport {
    devices: Vec<DeviceReport>,
    cpu: CpuReport,
    memory: SystemMemory,
    settings: Settings,
    advice: Vec<Advice>,
    /// Null without `--measure`.
    limits: Option<MachineLimits>,
}

/// A kind of device that `--device` accepts.
#[derive(Serialize)]
struct DeviceReport {
    name: &'static str,
    about: &'static str,
    /// Names of its variants, such as `cpu:avx2`, best first.
    variants: Vec<String>,
}

#[derive(Serialize)]
struct CpuReport {
    model: Option<String>,
    /// CPU packages that this process may use.
    sockets: Option<usize>,
    /// Physical cores of the machine.
    physical_cores: Option<usize>,
    /// Logical CPUs of the machine.
    logical_cpus: Option<usize>,
    /// Whether a core runs several threads.
    smt: Option<bool>,
    /// CPUs that this process may use, by affinity and control group.
    cores_available: Option<usize>,
    /// CPUs that this process may use by affinity, by physical core.
    cores: Vec<Vec<usize>>,
    /// CPU time that control groups allow, in CPUs.
    cpu_quota: Option<f64>,
    /// Default number of threads.
    threads: usize,
    numa_nodes: Vec<NumaNode>,
    /// CPU features that kernels use.
    features: Vec<&'static str>,
    caches: Vec<CpuCache>,
}

#[derive(Serialize)]
struct NumaNode {
    id: usize,
    /// CPUs that this process may use.
    cpus: Vec<usize>,
}

#[derive(Serialize)]
struct CpuCache {
    level: Option<u32>,
    kind: Option<String>,
    bytes: Option<u64>,
    /// CPUs that share it, as Linux lists them.
    shared: Option<String>,
}

#[derive(Serialize)]
struct SystemMemory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    /// The limit of the control group, if it is less than the total.
    limit_bytes: Option<u64>,
}

impl Devices {
    /// What there is, with nothing measured.
    pub fn new(json: bool) -> Devices {
        Devices { json, measure: false }
    }

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

fn report() -> DevicesReport {
    let wanted =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::everything());
    // None on systems that sysinfo does not support.
    let system = System::new_with_specifics(wanted).ok();
    let known = |n: u64| Some(n).filter(|&n| n > 0);
    let brand = |system: &System| Some(system.cpus().first()?.brand().trim().to_owned());
    let model = system.as_ref().and_then(brand).filter(|model| !model.is_empty());
    let total = system.as_ref().and_then(|system| known(system.total_memory()));
    let topology = Topology::read();
    let (physical_cores, logical_cpus) =
        (System::physical_core_count().ok(), system.as_ref().map(|system| system.cpus().len()));
    let threads = topology.threads();
    let sockets = sockets(topology.cores.iter().flatten(), Path::new("/sys/devices/system/cpu"));
    let cpu = CpuReport {
        model,
        sockets,
        physical_cores,
        logical_cpus,
        smt: physical_cores.zip(logical_cpus).map(|(physical, logical)| logical > physical),
        cores: topology.cores,
        cpu_quota: topology.cpu_quota,
        threads,
        numa_nodes: topology.nodes.into_iter().map(|node| NumaNode { id: node.id, cpus: node.cpus }).collect(),
        cores_available: std::thread::available_parallelism().ok().map(|n| n.get()),
        features: features(),
        caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
    };
    let memory = SystemMemory {
        total_bytes: total,
        available_bytes: system.as_ref().and_then(|system| known(system.available_memory())),
        limit_bytes: topology.memory_limit.filter(|&limit| total.is_none_or(|total| limit < total)),
    };
    let settings = Settings::read(system.as_ref().map(|system| [system.total_swap(), system.used_swap()]));
    DevicesReport { devices: devices(), cpu, memory, advice: settings.advice(), settings, limits: None }
}

/// The devices of this machine, in the order of the registry.
fn devices() -> Vec<DeviceReport> {
    let report = |device: &Device| {
        let variants = (device.probe)().into_iter().map(|variant| format!("{}:{variant}", device.name)).collect();
        DeviceReport { name: device.name, about: device.about, variants }
    };
    DEVICES.iter().map(report).filter(|device| !device.variants.is_empty()).collect()
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

/// Packages of these CPUs on Linux; none on other systems.
fn sockets<'a>(cpus: impl Iterator<Item = &'a usize>, folder: &Path) -> Option<usize> {
    let package = |cpu: &usize| std::fs::read_to_string(folder.join(format!("cpu{cpu}/topology/physical_package_id")));
    let packages: std::collections::BTreeSet<String> = cpus.map(package).collect::<Result<_, _>>().ok()?;
    Some(packages.len()).filter(|&packages| packages > 0)
}

/// The caches of the first CPU on Linux; none on other systems.
fn caches(folder: &Path) -> Vec<CpuCache> {
    let mut caches = Vec::new();
    for index in 0.. {
        let folder = folder.join(format!("index{index}"));
        if !folder.is_dir() {
            break;
        }
        let read = |name: &str| Some(std::fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
        caches.push(CpuCache {
            level: read("level").and_then(|level| level.parse().ok()),
            kind: read("type").map(|kind| kind.to_lowercase()),
            bytes: read("size").and_then(|size| Some(size.strip_suffix('K')?.parse::<u64>().ok()? << 10)),
            shared: read("shared_cpu_list"),
        });
    }
    caches
}

fn print(report: &DevicesReport, out: &mut impl Write) -> std::io::Result<()> {
    let unknown = || "unknown".to_owned();
    let mut facts = Facts::default();
    for device in &report.devices {
        facts.push("device", format!("{}: {}", device.name, device.about));
        facts.push("variants", format!("{} (best first)", device.variants.join(", ")));
    }
    let cpu = &report.cpu;
    facts.push("CPU model", cpu.model.clone().unwrap_or_else(unknown));
    let number = |n: Option<usize>| n.map_or_else(unknown, |n| n.to_string());
    let smt = match cpu.smt {
        Some(true) => "several threads per core",
        Some(false) => "one thread per core",
        None => "unknown threads per core",
    };
    let (physical, logical) = (number(cpu.physical_cores), number(cpu.logical_cpus));
    facts.push("cores", format!("{physical} physical, {logical} logical, {smt}"));
    facts.push("sockets", number(cpu.sockets));
    facts.push("cores available", number(cpu.cores_available));
    if let Some(quota) = cpu.cpu_quota {
        facts.push("CPU quota", format!("the time of {quota:.2} CPUs"));
    }
    facts.push("default threads", cpu.threads.to_string());
    for node in &cpu.numa_nodes {
        let cpus: Vec<String> = node.cpus.iter().map(usize::to_string).collect();
        facts.push(format!("NUMA node {}", node.id), format!("CPU {}", cpus.join(", ")));
    }
    facts.push("CPU features", cpu.features.join(" "));
    for cache in &cpu.caches {
        let level = cache.level.map_or_else(unknown, |level| level.to_string());
        let kind = cache.kind.as_deref().unwrap_or("unknown");
        let size = cache.bytes.map_or_else(unknown, units::bytes);
        let shared = cache.shared.as_ref().map(|cpus| format!(", of CPU {cpus}")).unwrap_or_default();
        facts.push(format!("cache L{level}"), format!("{size} {kind}{shared}"));
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
    let limit = settings.lock_limit_bytes.map_or_else(|| "no known limit".to_owned(), units::bytes);
    facts.push("locked memory limit", limit);
    facts.push("transparent huge pages", settings.transparent_huge_pages.clone().unwrap_or_else(unknown));
    facts.push("reserved huge pages", settings.reserved_huge_pages.map_or_else(unknown, |n| n.to_string()));
    facts.push("frequency governor", settings.governor.clone().unwrap_or_else(unknown));
    report.limits.iter().for_each(|limits| limits.print(&mut facts));
    facts.print(out)?;
    if report.advice.is_empty() {
        writeln!(out, "\nNone of these settings costs speed.")?;
    }
    report.advice.iter().try_for_each(|advice| writeln!(out, "\n{}:\n  {}", advice.why, advice.command))
}
