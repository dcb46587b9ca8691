//! What the tests of kernels share.

use trine_kernels::{Machine, tables};

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

/// Every machine there is: all tables on one thread and on several.
pub fn machines() -> Vec<Machine> {
    let machine = |table, threads| Machine::new(table, threads).unwrap();
    tables().flat_map(|table| [1, 2, 3].map(|threads| machine(table, threads))).collect()
}

/// As [`machines`], less plain code where there is anything faster: for cases that are too large for it.
#[allow(dead_code, reason = "not all tests have large cases")]
pub fn fast_machines() -> Vec<Machine> {
    let mut machines = machines();
    if machines[0].table.name != "scalar" {
        machines.retain(|machine| machine.table.name != "scalar");
    }
    machines
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
