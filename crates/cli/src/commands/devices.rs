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

/// Show what this machine can compute with
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
    /// Null when they were not asked for.
    limits: Option<measure::Limits>,
}

#[derive(Serialize)]
struct Device {
    /// What `--device` would call it.
    name: &'static str,
    model: Option<String>,
    /// Cores that this process may use, by affinity and control group.
    cores_available: Option<usize>,
    /// Instruction sets that `--isa` takes here, best first.
    isas: Vec<&'static str>,
    /// The one that is taken.
    isa: &'static str,
    /// Features of the CPU that matter to kernels.
    features: Vec<&'static str>,
    caches: Vec<Cache>,
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
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    // Not every system can be asked.
    let system = System::new_with_specifics(wanted).ok();
    let known = |n: u64| Some(n).filter(|&n| n > 0);
    let brand = |system: &System| Some(system.cpus().first()?.brand().trim().to_owned());
    let model = system.as_ref().and_then(brand).filter(|model| !model.is_empty());
    let isas: Vec<&str> = trine::kernels::tables().map(|table| table.name).collect();
    let total = system.as_ref().and_then(|system| known(system.total_memory()));
    let cpu = Device {
        name: "cpu",
        model,
        cores_available: std::thread::available_parallelism().ok().map(|n| n.get()),
        isa: isas[0],
        isas,
        features: features(),
        caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
    };
    let memory = Memory {
        total_bytes: total,
        available_bytes: system.as_ref().and_then(|system| known(system.available_memory())),
        limit_bytes: system
            .and_then(|system| system.cgroup_limits())
            .map(|limits| limits.total_memory)
            .filter(|&limit| Some(limit) < total),
    };
    Report { devices: vec![cpu], memory, limits: None }
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
        facts.push("cores available", device.cores_available.map_or_else(unknown, |n| n.to_string()));
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
    report.limits.iter().for_each(|limits| limits.tell(&mut facts));
    facts.print(out)
}
