//! KV caches of the CPU.

use crate::{CacheId, Error, KvBlock, KvShape};
use trine_kernels::CacheLines;
use trine_tensor::Format;

/// A KV cache: keys and values of each layer.
pub(super) struct Cache {
    pub shape: KvShape,
    pub layers: Vec<CacheLines>,
}

impl Cache {
    pub fn new(shape: KvShape) -> Result<Cache, Error> {
        if !shape.cache_type.is_supported() {
            return Err(Error::CacheType { found: shape.cache_type });
        }
        let no_room = || {
            let blocks = (0..shape.n_layers).map(|layer| shape.layout(layer).blocks as u128).sum::<u128>();
            let numbers = [shape.n_kv_heads, shape.head_dim, shape.block_len]
                .into_iter()
                .fold(blocks, |numbers, n| numbers.saturating_mul(n as u128));
            let bytes = |format: &Format| numbers.saturating_mul(format.bytes as u128) / format.block as u128;
            Error::NoRoom { bytes: shape.cache_type.formats().into_iter().map(bytes).fold(0, u128::saturating_add) }
        };
        let bytes = shape.bytes().filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(no_room)?;
        // The system is asked for all of it at once first, since a refusal of the parts would end the program. Memory that is asked for as
        // zeros takes room only where it is used.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| no_room())?;
        let bytes = |layer| shape.layout(layer).bytes().expect("no more than all together");
        let layers = (0..shape.n_layers).map(|layer| CacheLines::zeroed(bytes(layer))).collect();
        Ok(Cache { shape, layers })
    }

    pub fn copy_block(&mut self, from: KvBlock, to: KvBlock) {
        for (layer, lines) in self.layers.iter_mut().enumerate() {
            let layout = self.shape.layout(layer);
            for (from, to) in layout.block_bytes(from.of(&layout)).zip(layout.block_bytes(to.of(&layout))) {
                lines.bytes_mut().copy_within(from, to.start);
            }
        }
    }

    pub fn read_block(&mut self, block: KvBlock, out: &mut Vec<u8>) {
        out.clear();
        for (layer, lines) in self.layers.iter_mut().enumerate() {
            let layout = self.shape.layout(layer);
            let ranges = layout.block_bytes(block.of(&layout));
            ranges.for_each(|range| out.extend_from_slice(&lines.bytes_mut()[range]));
        }
    }

    pub fn write_block(&mut self, block: KvBlock, mut bytes: &[u8]) {
        for (layer, lines) in self.layers.iter_mut().enumerate() {
            let layout = self.shape.layout(layer);
            for range in layout.block_bytes(block.of(&layout)) {
                let head = bytes.split_off(..range.len()).expect("as many bytes as a block has");
                lines.bytes_mut()[range].copy_from_slice(head);
            }
        }
        assert!(bytes.is_empty(), "{} bytes more than a block has", bytes.len());
    }
}

/// Caches by their ids, which are used again after a release.
#[derive(Default)]
pub(super) struct Caches(Vec<Option<Cache>>);

impl Caches {
    pub fn create(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        let cache = Some(Cache::new(shape)?);
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free == self.0.len() {
            self.0.push(cache);
        } else {
            self.0[free] = cache;
        }
        Ok(CacheId(free as u32))
    }

    pub fn release(&mut self, id: CacheId) {
        self.get(id);
        self.0[id.0 as usize] = None;
    }

    pub fn get(&mut self, CacheId(id): CacheId) -> &mut Cache {
        self.0.get_mut(id as usize).and_then(Option::as_mut).unwrap_or_else(|| panic!("no KV cache has the id {id}"))
    }
}
