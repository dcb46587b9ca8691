//! GGUF, versions 1 to 3, little-endian.
//!
//! A file consists of counts, the metadata, a table of tensors, padding to the alignment, and the tensors' bytes, each at a
//! multiple of the alignment. Counts, lengths and dimensions have 32 bits in version 1 and 64 bits in versions 2 and 3, which
//! have the same layout. A model may be split into several files ([`Shard`]).
//! Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod edit;
mod evidence;
mod header;
mod notes;
mod read;
mod shards;
mod tiles;
mod type_ids;
mod write;

use crate::error::in_key;
use crate::{Error, Metadata, Result, TensorInfo};

pub use crate::sharded::ShardedWriter;
pub use crate::writer::Writer;
pub use edit::{Edited, edit, raw_metadata};
pub(crate) use header::header;
pub use notes::Notes;
pub(crate) use read::contents;
pub use read::{Contents, read};
pub use shards::Shard;
pub use shards::other_shards;
pub(crate) use shards::{join, numbered, only_set};
pub use type_ids::candidates;
pub(crate) use type_ids::{Hints, describe};
pub(crate) use write::{Layout, layout, shard_header, value_bytes};
pub use write::{create, create_shards, rehearse, shard_paths, write};

/// The first four bytes of every GGUF file.
pub const MAGIC: &[u8; 4] = b"GGUF";

const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_ALIGNMENT: u32 = 1 << 24;
const MAX_DIMENSIONS: usize = 4;
const MAX_NAME: usize = 65535;

/// Tensors in groups of at most `max` bytes, or of one.
pub(crate) fn groups(tensors: &[TensorInfo], max: u64) -> Result<Vec<Vec<TensorInfo>>> {
    let mut groups: Vec<Vec<TensorInfo>> = Vec::new();
    let mut room = 0u64;
    for info in tensors {
        let size = info.size()?;
        match groups.last_mut().filter(|_| size <= room) {
            Some(group) => group.push(info.clone()),
            None => {
                groups.push(vec![info.clone()]);
                room = max;
            }
        }
        room = room.saturating_sub(size);
    }
    Ok(groups)
}

/// Type numbers of metadata values.
mod id {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// The alignment of the data section, in bytes.
fn alignment(metadata: &Metadata) -> Result<u32> {
    let found = metadata.u32(ALIGNMENT)?.unwrap_or(DEFAULT_ALIGNMENT);
    if found.is_power_of_two() && found <= MAX_ALIGNMENT {
        Ok(found)
    } else {
        Err(Error::malformed(in_key(ALIGNMENT), format_args!("a power of two up to {MAX_ALIGNMENT}"), found))
    }
}
