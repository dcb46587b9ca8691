//! What a [`CpuPlan`](super::CpuPlan) plans, one by one.

use crate::{Role, Stage};

/// Weights and activations as they were planned, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanLog {
    pub weights: Vec<PlannedTensor>,
    pub values: Vec<PlannedValue>,
    /// Bytes of all buffers of values together.
    pub buffers: usize,
    /// Bytes of inputs of products that are rounded, and of what kernels need beside their operands.
    pub others: usize,
}

/// A weight, and the memory that it will take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    pub name: String,
    /// The format that it is multiplied in.
    pub format: &'static str,
    pub role: Role,
    /// Its bytes in the file.
    pub stored: u64,
    /// Those in memory.
    pub bytes: u64,
    pub residency: Residency,
}

/// Where a weight lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In pages of the mapped file.
    Mapped,
    /// In the same pages as another.
    Shared,
    /// In memory that it came in: of a file that was read, or of what was unpacked.
    Held,
    /// In memory that it is copied to.
    Copied,
    /// The same, with rows interleaved.
    Repacked,
}

impl Residency {
    pub fn name(self) -> &'static str {
        match self {
            Residency::Mapped => "mapped",
            Residency::Shared => "shared",
            Residency::Held => "held",
            Residency::Copied => "copied",
            Residency::Repacked => "repacked",
        }
    }
}

/// A value of a forward pass, and the buffer that it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedValue {
    /// Passes are counted from 0.
    pub pass: usize,
    pub stage: Stage,
    /// The operation that makes it.
    pub op: &'static str,
    pub rows: usize,
    pub cols: usize,
    /// The number of its buffer, which takes other values when this one is no longer used.
    pub buffer: usize,
    /// Bytes by which that buffer is new, or has to grow.
    pub allocated: usize,
    /// Bytes of all values that are in use now, this one included.
    pub in_use: usize,
}
