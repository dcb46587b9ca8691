//! What the system knows of this process.

use std::time::Duration;

/// What is unknown is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Bytes in RAM.
    pub resident: Option<u64>,
    /// Bytes in RAM that no file has.
    pub anonymous: Option<u64>,
    /// CPU time of all threads.
    pub cpu: Option<Duration>,
    pub open_files: Option<usize>,
}

impl Process {
    pub fn read() -> Process {
        let status = std::fs::read_to_string("/proc/self/status").ok();
        let bytes = |name: &str| field(status.as_ref()?, name);
        let anonymous = bytes("RssAnon:").map(|private| private + bytes("RssShmem:").unwrap_or(0));
        Process { resident: bytes("VmRSS:"), anonymous, cpu: cpu(), open_files: open_files() }
    }
}

/// Resident memory in bytes, of which each page counts by the share of this process.
pub fn proportional() -> Option<u64> {
    kilobytes("/proc/self/smaps_rollup", "Pss:")
}

/// Bytes of the machine's memory that processes may still take.
pub fn available() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// The bytes of a line of a file that tells them in kilobytes.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    field(&std::fs::read_to_string(file).ok()?, name)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn open_files() -> Option<usize> {
    // One of them is the folder itself.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

#[cfg(unix)]
fn cpu() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(unix))]
fn cpu() -> Option<Duration> {
    None
}

/// Lets the process open as many files as it may: each connection is one.
#[cfg(unix)]
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(not(unix))]
pub fn raise_open_files() {}
