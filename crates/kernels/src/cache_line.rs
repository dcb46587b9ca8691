//! Memory in units of cache lines.

use crate::simd::LANES;
use bytemuck::{Pod, Zeroable};

/// A cache line of 64 bytes, aligned: 16 floats, or the bytes of anything.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct CacheLine(pub(crate) [f32; LANES]);

impl CacheLine {
    pub(crate) const ZERO: CacheLine = CacheLine([0.0; LANES]);
}

/// A buffer of cache lines, zeroed by the system: untouched pages take no memory.
pub struct CacheLines(Vec<f32>);

impl CacheLines {
    /// A buffer of `bytes` bytes, rounded down to whole lines.
    pub fn zeroed(bytes: usize) -> CacheLines {
        // Floats more than needed, since the system hands out untouched zeros only at its own alignment.
        CacheLines(vec![0.0; bytes / size_of::<f32>() + LANES])
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }
}

impl std::ops::Deref for CacheLines {
    type Target = [CacheLine];
    fn deref(&self) -> &[CacheLine] {
        bytemuck::pod_align_to(&self.0).1
    }
}

impl std::ops::DerefMut for CacheLines {
    fn deref_mut(&mut self) -> &mut [CacheLine] {
        bytemuck::pod_align_to_mut(&mut self.0).1
    }
}
