//! The shape of a KV cache, and its blocks.

use crate::{CacheType, KvLayout};
use std::sync::Arc;

/// The shape of a KV cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvShape {
    pub n_layers: usize,
    /// Which layers have a window; those beyond its end have none.
    pub windowed: Arc<[bool]>,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    pub head_dim: usize,
    /// Blocks, for all sequences together.
    pub blocks: KvBlocks,
    /// Tokens of a block, a multiple of 16.
    pub block_len: usize,
    pub cache_type: CacheType,
}

impl KvShape {
    /// Where keys and values of a layer are.
    pub fn layout(&self, layer: usize) -> KvLayout {
        let KvShape { n_kv_heads, head_dim, block_len, cache_type, .. } = *self;
        let windowed = self.is_windowed(layer);
        let blocks = if windowed { self.blocks.window } else { self.blocks.full };
        KvLayout { cache_type, n_kv_heads, head_dim, blocks, block_len, windowed }
    }

    /// Whether a layer has a window.
    pub fn is_windowed(&self, layer: usize) -> bool {
        self.windowed.get(layer).copied().unwrap_or(false)
    }

    /// Bytes of keys and values together; `None` when they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        (0..self.n_layers).try_fold(0usize, |sum, layer| sum.checked_add(self.layout(layer).bytes()?))
    }
}

/// How many blocks a KV cache has.
///
/// Layers that attend to all tokens and layers with a window have blocks of their own, so that the latter need not keep what is before their
/// window. A cache that is made for one number of blocks has as many of both, and sequences the same ones in all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvBlocks {
    pub full: usize,
    pub window: usize,
}

impl From<usize> for KvBlocks {
    fn from(blocks: usize) -> KvBlocks {
        KvBlocks { full: blocks, window: blocks }
    }
}

/// A block of a KV cache, which has the same tokens in all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvBlock {
    /// Where layers that attend to all tokens have it.
    pub full: u32,
    /// Where layers with a window have it.
    pub window: u32,
}

impl From<u32> for KvBlock {
    fn from(block: u32) -> KvBlock {
        KvBlock { full: block, window: block }
    }
}

impl KvBlock {
    /// Where a layer has it.
    pub fn of(self, layout: &KvLayout) -> u32 {
        if layout.windowed { self.window } else { self.full }
    }
}
