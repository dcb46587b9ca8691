//! KV caches of the CPU.

use crate::{CacheId, Error, KvShape};
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
            let numbers = [shape.n_kv_heads, shape.head_dim, shape.blocks, shape.block_len]
                .into_iter()
                .fold(shape.n_layers as u128, |numbers, n| numbers.saturating_mul(n as u128));
            let bytes = |format: &Format| numbers.saturating_mul(format.bytes as u128) / format.block as u128;
            Error::NoRoom { bytes: shape.cache_type.formats().into_iter().map(bytes).fold(0, u128::saturating_add) }
        };
        let bytes = shape.bytes().filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(no_room)?;
        // The system is asked for all of it at once first, since a refusal of the parts would end the program. Memory that is asked for as
        // zeros takes room only where it is used.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| no_room())?;
        let layers = (0..shape.n_layers).map(|_| CacheLines::zeroed(bytes / shape.n_layers)).collect();
        Ok(Cache { shape, layers })
    }

    pub fn copy_block(&mut self, from: u32, to: u32) {
        let layout = self.shape.layout();
        for layer in &mut self.layers {
            for (from, to) in layout.block_bytes(from).zip(layout.block_bytes(to)) {
                layer.bytes_mut().copy_within(from, to.start);
            }
        }
    }

    pub fn read_block(&mut self, block: u32, out: &mut Vec<u8>) {
        let layout = self.shape.layout();
        out.clear();
        for layer in &mut self.layers {
            layout.block_bytes(block).for_each(|range| out.extend_from_slice(&layer.bytes_mut()[range]));
        }
    }

    pub fn write_block(&mut self, block: u32, mut bytes: &[u8]) {
        let layout = self.shape.layout();
        for layer in &mut self.layers {
            for range in layout.block_bytes(block) {
                let head = bytes.split_off(..range.len()).expect("as many bytes as a block has");
                layer.bytes_mut()[range].copy_from_slice(head);
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
