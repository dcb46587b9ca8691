//! Measures the machine, for `trine devices --measure` and `trine bench`.

use crate::table::Facts;
use crate::units;
use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use trine_kernels::cpus::Topology;
use trine_kernels::limits::{Meter, Pages, Peaks, peaks};
use trine_lab::bench::Machine;

#[derive(Serialize)]
pub struct MachineLimits {
    bandwidth: Vec<Bandwidth>,
    peaks: Vec<Peak>,
}

#[derive(Serialize)]
struct Bandwidth {
    threads: usize,
    pages: &'static str,
    /// Null if the system does not grant such pages.
    bytes_per_second: Option<f64>,
}

#[derive(Serialize)]
struct Peak {
    isa: &'static str,
    threads: usize,
    int8_operations_per_second: f64,
    f32_operations_per_second: f64,
    /// Unknown without instructions for it.
    bf16_operations_per_second: Option<f64>,
}

/// Samples of a bandwidth; their median is reported.
const SAMPLES: usize = 5;

/// Measures with one thread and with all. Takes some seconds.
pub fn limits() -> MachineLimits {
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    let counts = if all > 1 { vec![1, all] } else { vec![1] };
    let mut limits = MachineLimits { bandwidth: Vec::new(), peaks: Vec::new() };
    for &threads in &counts {
        for pages in [Pages::Small, Pages::Huge] {
            let mut samples: Vec<f64> =
                Meter::new(threads, &[], pages).iter().flat_map(|meter| (0..SAMPLES).map(|_| meter.sample())).collect();
            samples.sort_unstable_by(f64::total_cmp);
            let bytes_per_second = samples.get(SAMPLES / 2).copied();
            limits.bandwidth.push(Bandwidth { threads, pages: pages.name(), bytes_per_second });
        }
    }
    for table in trine_kernels::tables() {
        for &threads in &counts {
            let Peaks { int8, f32, bf16 } = peaks(table, threads, &[]);
            limits.peaks.push(Peak {
                isa: table.name,
                threads,
                int8_operations_per_second: int8,
                f32_operations_per_second: f32,
                bf16_operations_per_second: bf16,
            });
        }
    }
    limits
}

impl MachineLimits {
    /// Adds the limits to a table.
    pub fn print(&self, facts: &mut Facts) {
        let threads = |n: usize| units::plural(n as u64, "thread");
        for Bandwidth { threads: n, pages, bytes_per_second } in &self.bandwidth {
            let speed = bytes_per_second.map_or("not granted".into(), |speed| format!("{:.1} GB/s", speed / 1e9));
            facts.push(format!("memory read, {}", threads(*n)), format!("{speed} in pages of {pages}"));
        }
        for peak in &self.peaks {
            let bf16 = peak.bf16_operations_per_second.map(|bf16| format!(", {:.0} bf16", bf16 / 1e9));
            facts.push(
                format!("peak of {}, {}", peak.isa, threads(peak.threads)),
                format!(
                    "{:.0} GOPS int8, {:.0} GFLOPS f32{}",
                    peak.int8_operations_per_second / 1e9,
                    peak.f32_operations_per_second / 1e9,
                    bf16.unwrap_or_default()
                ),
            );
        }
    }
}

/// The properties of this machine that speeds depend on.
pub fn machine() -> Machine {
    let wanted =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted).ok();
    let brand = |system: &System| Some(system.cpus().first()?.brand().trim().to_owned());
    Machine {
        cpu: system.as_ref().and_then(brand).filter(|name| !name.is_empty()),
        cores: std::thread::available_parallelism().ok().map(|n| n.get()),
        memory_bytes: system.map(|system| system.total_memory()).filter(|&bytes| bytes > 0),
        os: std::env::consts::OS.to_owned(),
    }
}

/// Bytes that this process can still allocate: the free memory, or the limit of its control group if that is less.
pub fn free_memory() -> Option<u64> {
    let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let free = System::new_with_specifics(wanted).ok()?.available_memory();
    let limit = Topology::read().memory_limit.unwrap_or(u64::MAX);
    Some(free.min(limit)).filter(|&bytes| bytes > 0)
}

/// Peak float32 operations per second of `threads` threads. Takes less than a second.
pub fn f32_peak(threads: usize) -> Option<f64> {
    trine_kernels::tables().next().map(|table| peaks(table, threads, &[]).f32)
}

/// 1, 2, 4 and so on, and all cores.
pub fn thread_counts(cores: usize) -> Vec<u32> {
    let mut counts: Vec<u32> = (0..32).map(|i| 1u32 << i).take_while(|&n| (n as usize) < cores).collect();
    counts.push(cores as u32);
    counts
}

/// Page faults of this process so far for which no disk was read; `None` where the system does not tell.
pub fn minor_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The eighth field after the name, which is in parentheses.
    stat.rsplit_once(") ")?.1.split(' ').nth(7)?.parse().ok()
}
