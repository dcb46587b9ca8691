//! The tensors of a whole model, from the headers of its files.

use indexmap::IndexMap;
use indexmap::map::Entry as Slot;

use super::header::{Header, header};
use super::notes::Notes;
use super::type_ids::{self, Hints, ResolvedTensor};
use crate::error::in_tensor;
use crate::{Bytes, Error, Metadata, Result, TensorInfo, View};

/// What a GGUF file, or all shards of a split model, hold.
#[derive(Debug)]
pub struct Contents {
    /// 1, 2 or 3.
    pub version: u32,
    /// The metadata, without the keys that say what type numbers mean.
    pub metadata: Metadata,
    /// Tensors in the order of the file's table; their bytes are ranges of the file's.
    pub tensors: IndexMap<String, View>,
    pub notes: Notes,
}

/// Reads and checks the header of a file in one shard. Allocates at most a small multiple of the header's size.
pub fn read(bytes: &Bytes) -> Result<Contents> {
    contents(vec![header(bytes, None)?], Hints::default())
}

/// Joins the shards of a model: the metadata of the first, and the tensors of all. A type number means the same in each shard.
pub(crate) fn contents(mut shards: Vec<Header>, hints: Hints) -> Result<Contents> {
    let first = &mut shards[0];
    let (version, metadata) = (first.version, std::mem::take(&mut first.metadata));
    let (tables, notes) = type_ids::resolve(&shards, &metadata, hints)?;
    let mut tensors = IndexMap::new();
    for (shard, table) in shards.iter().zip(tables) {
        slice(table, shard, &mut tensors).map_err(|error| shard.located(error))?;
    }
    Ok(Contents { version, metadata: type_ids::without(metadata), tensors, notes })
}

/// Gives every tensor of a shard its bytes, after checking that each is inside the shard and that none overlap.
fn slice(table: Vec<ResolvedTensor>, shard: &Header, tensors: &mut IndexMap<String, View>) -> Result<()> {
    let Header { data, mapping, .. } = shard;
    let mut order: Vec<usize> = (0..table.len()).collect();
    order.sort_unstable_by_key(|&i| table[i].offset);
    for pair in order.windows(2) {
        let (first, second) = (&table[pair[0]], &table[pair[1]]);
        if first.offset.saturating_add(first.size) > second.offset {
            return Err(Error::overlap(&first.info.name, &second.info.name));
        }
    }
    // The tensors one after another, with those that are part of another.
    let padded = |size: u64| size.checked_next_multiple_of(shard.alignment).unwrap_or(u64::MAX);
    let parts = (shard.table.len() - table.len()) as u64 * shard.alignment;
    let all = table.iter().fold(parts, |sum, tensor| sum.saturating_add(padded(tensor.size)));
    for ResolvedTensor { info: TensorInfo { name, format, shape }, size, offset, sidecar } in table {
        let len = data.len() as u64;
        if offset.checked_add(size).is_none_or(|end| end > len) {
            // In a file that is cut short, offsets are those of the whole file.
            return Err(match offset.checked_add(size) {
                Some(end) if end <= all => Error::past_end(&name, offset, size, len),
                _ => Error::wrong_offset(&name, offset, all),
            });
        }
        let bytes = data.slice(offset as usize..(offset + size) as usize);
        match tensors.entry(name.clone()) {
            Slot::Occupied(_) => return Err(Error::duplicate(in_tensor(&name))),
            Slot::Vacant(slot) => slot.insert(View { name, format, shape, bytes, mapping: mapping.clone(), sidecar }),
        };
    }
    Ok(())
}
