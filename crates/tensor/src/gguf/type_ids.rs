//! The format of a type number. Programs have given the same numbers to different formats, and no key says which program wrote a file.
//!
//! A number with several meanings is resolved once for all tensors that have it, by the first of these that determines it: the caller's
//! choice, a key that Trine writes, the bytes from each tensor to the next, which only the right format fills, statistics of the weights,
//! and the program that wrote the file. Otherwise the usual format is assumed with a warning, or the file is refused.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::evidence::{self, TernaryMatrix};
use super::header::{Header, TableRow};
use super::notes::Notes;
use super::tiles::{KERNELS, Sources};
use crate::format::{FORMATS, Format, by_name, is_known, tiles};
use crate::view::{Sidecar, matrix, size};
use crate::{Array, Error, Metadata, Result, TensorInfo, Value};

/// What the caller knows about a file.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hints<'a> {
    /// The caller's choice of formats for type numbers with several meanings.
    pub layouts: &'a [&'static Format],
    /// The folder of the file, which may have a `kernel_config.ini` with the tiles of TL1 and TL2.
    pub folder: Option<&'a Path>,
}

/// A tensor whose format is known.
pub(super) struct ResolvedTensor {
    pub info: TensorInfo,
    /// In bytes.
    pub size: u64,
    /// From the start of the data section, in bytes.
    pub offset: u64,
    pub sidecar: Sidecar,
}

/// The key that names the formats of type numbers with several meanings.
const LAYOUTS: &str = "trine.layouts";

/// Second type numbers of formats: TL2 in newer versions of bitnet.cpp.
static ALIASES: &[(u32, &str)] = &[(42, "TL2")];

/// A type that is not read: its number, its name, weights and bytes per block, and how to get the model in another.
type RemovedType = (u32, &'static str, u64, u64, &'static str);

const REPACKED: &str = "llama.cpp removed it: it was a repacked Q4_0 or IQ4_NL; use the plain file, or quantize again";
const ROTATED: &str =
    "it needs rotated activations, which are not implemented; use a Q2_0, TQ2_0 or TQ1_0 file of the model";
const ACTIVATIONS: &str = "it is a type of activations, in which no program stores weights";
const OLD: &str = "llama.cpp removed it in 2023; convert the model again";

static REMOVED: &[RemovedType] = &[
    (4, "Q4_2", 16, 10, OLD),
    (5, "Q4_3", 16, 12, OLD),
    (31, "Q4_0_4_4", 32, 18, REPACKED),
    (32, "Q4_0_4_8", 32, 18, REPACKED),
    (33, "Q4_0_8_8", 32, 18, REPACKED),
    (36, "IQ4_NL_4_4", 32, 18, REPACKED),
    (37, "IQ4_NL_4_8", 32, 18, REPACKED),
    (37, "I8_S", 1, 1, ACTIVATIONS),
    (38, "IQ4_NL_8_8", 32, 18, REPACKED),
    (142, "PQ2_0", 128, 34, ROTATED),
    (143, "PTQ1_0", 128, 28, ROTATED),
];

/// The formats that GGUF's type number `id` may stand for, the usual one first.
pub fn candidates(id: u32) -> Vec<&'static Format> {
    let aliases = ALIASES.iter().filter(|(number, _)| *number == id).filter_map(|(_, name)| by_name(name));
    FORMATS.iter().copied().filter(|format| format.id == Some(id)).chain(aliases).collect()
}

/// Finds the format of every tensor in every shard of a model, and explains the choices.
pub(super) fn resolve(
    shards: &[Header],
    metadata: &Metadata,
    hints: Hints,
) -> Result<(Vec<Vec<ResolvedTensor>>, Notes)> {
    let file = TensorTable::new(shards, metadata, hints);
    let mut notes = Notes::default();
    let mut formats: BTreeMap<u32, &'static Format> = BTreeMap::new();
    for tensor in file.tensors() {
        if let Slot::Vacant(format) = formats.entry(tensor.row.id) {
            format.insert(file.decide(tensor.row, &mut notes).map_err(|error| tensor.shard.located(error))?);
        }
    }
    let mut consumed = HashSet::new();
    let mut tiles = Sources::default();
    let mut resolve = |row: &TableRow| -> Result<ResolvedTensor> {
        let format = formats[&row.id];
        let full = size(&row.name, format, &row.shape)?;
        let shape = row.shape.iter().map(|&n| n as usize).collect();
        let info = TensorInfo { name: row.name.clone(), format, shape };
        let (mut sidecar, mut size) = (Sidecar::default(), full);
        if format.matrix_layout().is_some_and(|layout| layout.tiled) {
            let alike = |shape| file.matrices(row.id, format, Some(shape));
            sidecar.tiles = tiles.tiles(&info, metadata, hints.folder, alike, &mut notes)?;
            if let Some(scale) = file.scale(row) {
                sidecar.scale = Some(scale);
                size -= format.tail as u64;
                consumed.insert(scale_name(&row.name));
            }
        }
        Ok(ResolvedTensor { info, size, offset: row.offset, sidecar })
    };
    let mut resolved: Vec<Vec<_>> = shards.iter().map(|shard| Vec::with_capacity(shard.table.len())).collect();
    for tensor in file.tensors() {
        resolved[tensor.no].push(resolve(tensor.row).map_err(|error| tensor.shard.located(error))?);
    }
    for table in &mut resolved {
        table.retain(|tensor| !consumed.contains(&tensor.info.name));
    }
    Ok((resolved, notes))
}

/// The name of the tensor that holds the scale of another.
fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}

/// A tensor and its shard, which is number `no`.
#[derive(Clone, Copy)]
struct ShardTensor<'a> {
    no: usize,
    shard: &'a Header,
    row: &'a TableRow,
}

/// The tables of tensors of all shards.
struct TensorTable<'a> {
    shards: &'a [Header],
    by_name: HashMap<&'a str, ShardTensor<'a>>,
    /// For each shard, the bytes from each tensor's offset to the next tensor's, or to the end.
    spans: Vec<HashMap<u64, u64>>,
    metadata: &'a Metadata,
    hints: Hints<'a>,
}

impl<'a> TensorTable<'a> {
    fn new(shards: &'a [Header], metadata: &'a Metadata, hints: Hints<'a>) -> Self {
        let spans = |shard: &Header| {
            let mut offsets: Vec<u64> = shard.table.iter().map(|row| row.offset).collect();
            offsets.sort_unstable();
            offsets.dedup();
            let ends = offsets.iter().skip(1).copied().chain([shard.data.len() as u64]);
            offsets.iter().zip(ends).map(|(&start, end)| (start, end.saturating_sub(start))).collect()
        };
        let spans = shards.iter().map(spans).collect();
        let mut table = TensorTable { shards, by_name: HashMap::new(), spans, metadata, hints };
        table.by_name = table.tensors().map(|tensor| (&*tensor.row.name, tensor)).collect();
        table
    }

    /// The tensors of one shard after another.
    fn tensors(&self) -> impl Iterator<Item = ShardTensor<'a>> + use<'a> {
        let of = |(no, shard): (usize, &'a Header)| shard.table.iter().map(move |row| ShardTensor { no, shard, row });
        self.shards.iter().enumerate().flat_map(of)
    }

    /// The tensors with type number `id`.
    fn with(&self, id: u32) -> impl Iterator<Item = ShardTensor<'a>> + use<'a> {
        self.tensors().filter(move |tensor| tensor.row.id == id)
    }

    /// The format of the type number of `first`, and of all tensors that share it.
    fn decide(&self, first: &TableRow, notes: &mut Notes) -> Result<&'static Format> {
        let id = first.id;
        let own = self.hints.layouts.iter().copied().filter(|format| format.id == Some(id) && !is_known(format));
        let all: Vec<&'static Format> = candidates(id).into_iter().chain(own).collect();
        let removed: Vec<&RemovedType> = REMOVED.iter().filter(|removed| removed.0 == id).collect();
        let refuse = |found: String, hint: &str| {
            Err(Error::UnknownFormat { tensor: first.name.clone(), found, hint: hint.to_owned() })
        };
        match (&all[..], &removed[..]) {
            ([], []) => return refuse(id.to_string(), &format!("expected one of {}", crate::format::names())),
            ([only], []) => return Ok(only),
            _ => {}
        }
        let names = |formats: &[&Format]| formats.iter().map(|format| format.name).collect::<Vec<_>>().join(", ");
        let mut chosen = |formats: &[&'static Format], why: &str| {
            let format = *formats.iter().find(|format| all.contains(format))?;
            notes.decided.push(format!("type {id} is {format}: {why}"));
            Some(format)
        };
        if let Some(format) = chosen(self.hints.layouts, "chosen by the caller") {
            return Ok(format);
        }
        if let Some(format) = chosen(&self.written(), &format!("the key {LAYOUTS} names it")) {
            return Ok(format);
        }
        let fitting: Vec<&'static Format> = all.iter().copied().filter(|format| self.fits(id, format)).collect();
        let others = || {
            let others = all.iter().filter(|format| !fitting.contains(format)).map(|format| format.name);
            let removed = removed.iter().map(|removed| removed.1);
            others.chain(removed).collect::<Vec<_>>().join(", ")
        };
        match &fitting[..] {
            // If not even a removed type fits, the error is reported where the bytes are read.
            [] => {
                let fitting = removed.iter().find(|removed| self.fits_removed(removed));
                match fitting.or(removed.first().filter(|_| all.is_empty())) {
                    Some((_, name, .., hint)) => refuse(format!("{id} ({name})"), hint),
                    None => Ok(all[0]),
                }
            }
            [only] => {
                Ok(chosen(&[only], &format!("the bytes of its tensors fit it, and not {}", others()))
                    .expect("one of all"))
            }
            [usual, rest @ ..]
                if rest.iter().all(|format| format.matrix_layout().is_some_and(|layout| layout.rows == *usual)) =>
            {
                if let Some(format) = evidence::layout(&self.matrices(id, usual, None), &fitting) {
                    let why = "the positions of zeros in the weights are plausible in this layout only";
                    return Ok(chosen(&[format], why).expect("one of all"));
                }
                notes.assumed.push(format!(
                    "type {id} is read as {usual}, the usual layout: nothing in the file distinguishes it from {}; if the output is \
                     nonsense, choose one of these (--layout NAME)",
                    names(rest)
                ));
                Ok(usual)
            }
            several => {
                let bitnet = |format: &&&'static Format| (format.tail > 0) == self.is_bitnet();
                let (mut likely, why) = (several.iter().filter(bitnet), "it fits the program that wrote the file");
                match (likely.next(), likely.next()) {
                    (Some(format), None) => Ok(chosen(&[format], why).expect("one of all")),
                    _ => Err(Error::AmbiguousFormat { tensor: first.name.clone(), id, names: names(several) }),
                }
            }
        }
    }

    /// The formats that Trine named when it wrote the file.
    fn written(&self) -> Vec<&'static Format> {
        match self.metadata.get(LAYOUTS) {
            Some(Value::Array(Array::String(names))) => names.iter().filter_map(by_name).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether bitnet.cpp probably wrote the file.
    fn is_bitnet(&self) -> bool {
        let arch = self.metadata.str("general.architecture").ok().flatten().unwrap_or_default();
        arch.starts_with("bitnet")
    }

    /// Whether in this format every tensor of this number ends where the next one begins.
    fn fits(&self, id: u32, format: &'static Format) -> bool {
        self.with(id).all(|tensor| {
            let row = tensor.row;
            let scale = format.matrix_layout().is_some_and(|layout| layout.tiled) && self.scale(row).is_some();
            let tail = if scale { format.tail as u64 } else { 0 };
            size(&row.name, format, &row.shape).is_ok_and(|size| self.fills(tensor, size - tail))
        })
    }

    /// As [`TensorTable::fits`], for a removed type.
    fn fits_removed(&self, &&(id, _, block, bytes, _): &&RemovedType) -> bool {
        self.with(id).all(|tensor| {
            let shape = &tensor.row.shape;
            let whole = shape.last().is_some_and(|cols| cols.is_multiple_of(block));
            let weights = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).filter(|_| whole);
            weights.and_then(|n| (n / block).checked_mul(bytes)).is_some_and(|size| self.fills(tensor, size))
        })
    }

    /// Whether only padding follows `size` bytes of a tensor.
    fn fills(&self, ShardTensor { no, shard, row }: ShardTensor, size: u64) -> bool {
        // A format may round a matrix of at most 32 rows up.
        let fits = |&span: &u64| size <= span && span - size < shard.alignment.max(32);
        self.spans[no].get(&row.offset).is_some_and(fits)
    }

    /// The scale of a tensor that has it in another tensor.
    fn scale(&self, row: &TableRow) -> Option<f32> {
        let ShardTensor { shard, row: scale, .. } = self.by_name.get(&*scale_name(&row.name))?;
        let one = scale.id == 0 && scale.shape.iter().all(|&n| n == 1);
        let bytes = shard.data.get(usize::try_from(scale.offset).ok()?..)?.first_chunk()?;
        one.then(|| f32::from_le_bytes(*bytes))
    }

    /// The matrices of this number, of one shape or of all, that are completely in the file.
    fn matrices(&self, id: u32, format: &Format, only: Option<[usize; 2]>) -> Vec<TernaryMatrix<'a>> {
        let matrix = |ShardTensor { shard, row, .. }: ShardTensor<'a>| {
            let size = size(&row.name, format, &row.shape).ok()? - format.tail as u64;
            let shape: Vec<usize> = row.shape.iter().map(|&n| n as usize).collect();
            let start = usize::try_from(row.offset).ok()?;
            let bytes = shard.data.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
            let matrix = TernaryMatrix { name: &row.name, shape: matrix(&shape), bytes };
            only.is_none_or(|shape| shape == matrix.shape).then_some(matrix)
        };
        self.with(id).filter_map(matrix).collect()
    }
}

/// The metadata without the keys that describe how tensors are stored.
pub(super) fn without(metadata: Metadata) -> Metadata {
    if metadata.get(LAYOUTS).is_none() && metadata.get(KERNELS).is_none() {
        return metadata;
    }
    let mut rest = Metadata::new();
    for (key, value) in metadata.iter().filter(|(key, _)| ![LAYOUTS, KERNELS].contains(key)) {
        rest.insert(key, value.clone());
    }
    rest
}

/// The metadata with keys that describe how these tensors are stored, in place of any such keys.
pub(crate) fn describe(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Metadata> {
    let mut described = without(metadata.clone());
    let mut meanings: BTreeMap<u32, &Format> = BTreeMap::new();
    for info in tensors {
        let Some(id) = info.format.id else { continue };
        let first = *meanings.entry(id).or_insert(info.format);
        if first != info.format {
            let found = format_args!("{first} and {}, whose type number in GGUF is {id}", info.format);
            return Err(Error::unsupported("the tensors", "formats with different type numbers", found));
        }
    }
    let several = meanings.iter().filter(|(id, _)| candidates(**id).len() > 1);
    let names: Vec<&str> = several.map(|(_, format)| format.name).collect();
    if !names.is_empty() {
        described.insert(LAYOUTS, Value::Array(Array::String(names.iter().copied().collect())));
    }
    let tiles = crate::view::tiles(tensors)?;
    if !tiles.is_empty() {
        described.insert(KERNELS, tiles::print(&tiles));
    }
    Ok(described)
}
