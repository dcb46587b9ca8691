//! What the tests of kernels share.

use trine_kernels::{CpuExecutor, tables};

/// Numbers that look random and are the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
    /// In -1..1.
    pub fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// Every executor there is: all tables on one thread and on several.
pub fn executors() -> Vec<CpuExecutor> {
    let executor = |table, threads| CpuExecutor::new(table, threads).unwrap();
    tables().flat_map(|table| [1, 2, 3].map(|threads| executor(table, threads))).collect()
}

/// As [`executors`], less plain code where there is anything faster: for cases that are too large for it.
#[allow(dead_code, reason = "not all tests have large cases")]
pub fn fast_executors() -> Vec<CpuExecutor> {
    let mut executors = executors();
    if executors[0].table.name != "scalar" {
        executors.retain(|executor| executor.table.name != "scalar");
    }
    executors
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
