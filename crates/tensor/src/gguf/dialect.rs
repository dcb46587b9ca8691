//! Which format a type number means: programs have given the same numbers to different layouts, and no file says whose it is.
//!
//! A number with several meanings is decided for all tensors that have it: by who opens the file, by what Trine wrote into it, by the bytes
//! from each tensor to the next, which only the right format fills, by what the weights have in common, and by who wrote the file. What still
//! could be several things is refused, or if one is by far the most usual, assumed with a warning.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::evidence::{self, Matrix};
use super::kernels::Sources;
use super::read::{Header, Stored};
use crate::format::{FORMATS, Format, by_name, tiles};
use crate::view::{Order, matrix, size};
use crate::{Array, Entry, Error, Metadata, Result, Value};

/// What is known about a file beside its bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hints<'a> {
    /// Formats that type numbers with several meanings have, where who opens the file knows.
    pub layouts: &'a [&'static Format],
    /// Where `kernel_config.ini` may be, which says how TL1 and TL2 are tiled.
    pub folder: Option<&'a Path>,
}

/// What was made of a file that could be read otherwise, and why.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// What something in the file tells.
    pub decided: Vec<String>,
    /// What is usual, though nothing in the file tells it.
    pub assumed: Vec<String>,
}

/// A tensor whose format is known.
pub(super) struct Settled {
    pub entry: Entry,
    pub size: u64,
    pub offset: u64,
    pub order: Order,
}

/// The metadata that names formats whose numbers others share.
pub(super) const LAYOUTS: &str = "trine.layouts";
/// The metadata that has the tiles of TL1 and TL2, as `kernel_config.ini`.
pub(super) const KERNELS: &str = "trine.kernel_config";

/// Formats under a second number: TL2 in newer bitnet.cpp.
static ALIASES: &[(u32, &str)] = &[(42, "TL2")];

/// A type that is refused: its number, its name, weights and bytes of a block, and what to do.
type Refused = (u32, &'static str, u64, u64, &'static str);

const REPACKED: &str =
    "llama.cpp no longer knows it: it was a repacked Q4_0 or IQ4_NL, take the plain file, or quantize again";
const ROTATED: &str = "it needs activations that are rotated as its vendor's program does it, which Trine does not; take a Q2_0, TQ2_0 or TQ1_0 file of the model";
const ACTIVATIONS: &str = "it is a type of activations, which no program stores weights in";
const OLD: &str = "llama.cpp removed it in 2023; convert the model again";

static REFUSED: &[Refused] = &[
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

/// The formats that GGUF's type number `id` stands for, the usual one first.
pub fn candidates(id: u32) -> Vec<&'static Format> {
    let aliases = ALIASES.iter().filter(|(number, _)| *number == id).filter_map(|(_, name)| by_name(name));
    FORMATS.iter().copied().filter(|format| format.id == Some(id)).chain(aliases).collect()
}

/// Gives every tensor of a model, which may be in pieces, its format. The second part says what was decided and why.
pub(super) fn settle(pieces: &[Header], metadata: &Metadata, hints: Hints) -> Result<(Vec<Vec<Settled>>, Notes)> {
    let file = Table::new(pieces, metadata, hints);
    let mut notes = Notes::default();
    let mut formats: BTreeMap<u32, &'static Format> = BTreeMap::new();
    for tensor in file.tensors() {
        if let Slot::Vacant(format) = formats.entry(tensor.stored.id) {
            format.insert(file.decide(tensor.stored, &mut notes).map_err(|error| tensor.piece.located(error))?);
        }
    }
    let mut consumed = HashSet::new();
    let mut kernels = Sources::default();
    let mut settle = |tensor: Tensor| -> Result<Settled> {
        let stored = tensor.stored;
        let format = formats[&stored.id];
        let full = size(&stored.name, format, &stored.shape)?;
        let shape = stored.shape.iter().map(|&n| n as usize).collect();
        let entry = Entry { name: stored.name.clone(), format, shape };
        let (mut order, mut size) = (Order::default(), full);
        if format.packing().is_some_and(|packing| packing.tiled) {
            let alike = |shape| file.matrices(stored.id, format, Some(shape));
            order.tiles = kernels.tiles(&entry, metadata, hints.folder, alike, &mut notes)?;
            if let Some(scale) = file.scale(stored) {
                order.scale = Some(scale);
                size -= format.tail as u64;
                consumed.insert(scale_of(&stored.name));
            }
        }
        Ok(Settled { entry, size, offset: stored.offset, order })
    };
    let mut settled: Vec<Vec<Settled>> = pieces.iter().map(|piece| Vec::with_capacity(piece.table.len())).collect();
    for tensor in file.tensors() {
        settled[tensor.no].push(settle(tensor).map_err(|error| tensor.piece.located(error))?);
    }
    for table in &mut settled {
        table.retain(|tensor| !consumed.contains(&tensor.entry.name));
    }
    Ok((settled, notes))
}

/// The tensor that has the scale of another.
fn scale_of(name: &str) -> String {
    format!("{name}_scale")
}

/// A tensor, and the piece that it is in.
#[derive(Clone, Copy)]
struct Tensor<'a> {
    no: usize,
    piece: &'a Header,
    stored: &'a Stored,
}

/// The table of tensors of all pieces, to be asked.
struct Table<'a> {
    pieces: &'a [Header],
    by_name: HashMap<&'a str, Tensor<'a>>,
    /// For each piece, bytes from each tensor's offset to the next tensor's, or to the end.
    spans: Vec<HashMap<u64, u64>>,
    metadata: &'a Metadata,
    hints: Hints<'a>,
}

impl<'a> Table<'a> {
    fn new(pieces: &'a [Header], metadata: &'a Metadata, hints: Hints<'a>) -> Self {
        let spans = |piece: &Header| {
            let mut offsets: Vec<u64> = piece.table.iter().map(|stored| stored.offset).collect();
            offsets.sort_unstable();
            offsets.dedup();
            let ends = offsets.iter().skip(1).copied().chain([piece.data.len() as u64]);
            offsets.iter().zip(ends).map(|(&start, end)| (start, end.saturating_sub(start))).collect()
        };
        let spans = pieces.iter().map(spans).collect();
        let mut table = Table { pieces, by_name: HashMap::new(), spans, metadata, hints };
        table.by_name = table.tensors().map(|tensor| (&*tensor.stored.name, tensor)).collect();
        table
    }

    /// The tensors, one piece after the other.
    fn tensors(&self) -> impl Iterator<Item = Tensor<'a>> + use<'a> {
        let of = |(no, piece): (usize, &'a Header)| piece.table.iter().map(move |stored| Tensor { no, piece, stored });
        self.pieces.iter().enumerate().flat_map(of)
    }

    /// Those that have type number `id`.
    fn with(&self, id: u32) -> impl Iterator<Item = Tensor<'a>> + use<'a> {
        self.tensors().filter(move |tensor| tensor.stored.id == id)
    }

    /// What the number of `first`, and of all tensors that share it, means.
    fn decide(&self, first: &Stored, notes: &mut Notes) -> Result<&'static Format> {
        let id = first.id;
        let all = candidates(id);
        let ghosts: Vec<&Refused> = REFUSED.iter().filter(|refused| refused.0 == id).collect();
        let refuse =
            |&(_, name, .., remedy): &Refused| Error::RefusedFormat { tensor: first.name.clone(), id, name, remedy };
        match (&all[..], &ghosts[..]) {
            ([], []) => return Err(Error::UnknownFormat { tensor: first.name.clone(), found: id.to_string() }),
            ([only], []) => return Ok(only),
            _ => {}
        }
        let names = |formats: &[&Format]| formats.iter().map(|format| format.name).collect::<Vec<_>>().join(", ");
        let mut chosen = |formats: &[&'static Format], why: &str| {
            let format = *formats.iter().find(|format| all.contains(format))?;
            notes.decided.push(format!("type {id} is {format}: {why}"));
            Some(format)
        };
        if let Some(format) = chosen(self.hints.layouts, "it was chosen when the file was opened") {
            return Ok(format);
        }
        if let Some(format) = chosen(&self.written(), &format!("the key {LAYOUTS} says so")) {
            return Ok(format);
        }
        let fitting: Vec<&'static Format> = all.iter().copied().filter(|format| self.fits(id, format)).collect();
        let others = || {
            let others = all.iter().filter(|format| !fitting.contains(format)).map(|format| format.name);
            let ghosts = ghosts.iter().map(|ghost| ghost.1);
            others.chain(ghosts).collect::<Vec<_>>().join(", ")
        };
        match &fitting[..] {
            // Removed types that fit, or nothing does: what is wrong with the file is said where its bytes are looked up.
            [] => {
                match ghosts.iter().find(|ghost| self.fits_ghost(ghost)).or(ghosts.first().filter(|_| all.is_empty())) {
                    Some(ghost) => Err(refuse(ghost)),
                    None => Ok(all[0]),
                }
            }
            [only] => {
                Ok(chosen(&[only], &format!("the bytes of its tensors fit it, and not {}", others()))
                    .expect("one of all"))
            }
            [usual, rest @ ..]
                if rest.iter().all(|format| format.packing().is_some_and(|packing| packing.rows == *usual)) =>
            {
                if let Some(format) = evidence::layout(&self.matrices(id, usual, None), &fitting) {
                    let why = "the zeros of its weights fit together in this layout, and not in others";
                    return Ok(chosen(&[format], why).expect("one of all"));
                }
                notes.assumed.push(format!(
                    "type {id} is taken for {usual}, the usual layout: nothing in the file tells it from {}; where the model answers \
                     nonsense, choose one of these (--layout NAME)",
                    names(rest)
                ));
                Ok(usual)
            }
            several => {
                let bitnet = |format: &&&'static Format| (format.tail > 0) == self.of_bitnet();
                let (mut likely, why) =
                    (several.iter().filter(bitnet), "its bytes would fit others, too, but not who wrote the file");
                match (likely.next(), likely.next()) {
                    (Some(format), None) => Ok(chosen(&[format], why).expect("one of all")),
                    _ => Err(Error::AmbiguousFormat { tensor: first.name.clone(), id, names: names(several) }),
                }
            }
        }
    }

    /// Formats that Trine named as it wrote the file.
    fn written(&self) -> Vec<&'static Format> {
        match self.metadata.get(LAYOUTS) {
            Some(Value::Array(Array::String(names))) => names.iter().filter_map(by_name).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether bitnet.cpp wrote the file, as far as its keys tell.
    fn of_bitnet(&self) -> bool {
        let arch = self.metadata.str("general.architecture").ok().flatten().unwrap_or_default();
        arch.starts_with("bitnet")
    }

    /// Whether every tensor of this number fills its place in this format.
    fn fits(&self, id: u32, format: &'static Format) -> bool {
        self.with(id).all(|tensor| {
            let stored = tensor.stored;
            let scale = format.packing().is_some_and(|packing| packing.tiled) && self.scale(stored).is_some();
            let tail = if scale { format.tail as u64 } else { 0 };
            size(&stored.name, format, &stored.shape).is_ok_and(|size| self.fills(tensor, size - tail))
        })
    }

    /// The same for a type that is refused.
    fn fits_ghost(&self, &&(id, _, block, bytes, _): &&Refused) -> bool {
        self.with(id).all(|tensor| {
            let stored = tensor.stored;
            let whole = stored.shape.last().is_some_and(|cols| cols.is_multiple_of(block));
            let weights = stored.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n)).filter(|_| whole);
            weights.and_then(|n| (n / block).checked_mul(bytes)).is_some_and(|size| self.fills(tensor, size))
        })
    }

    /// Whether behind so many bytes there is nothing but padding.
    fn fills(&self, Tensor { no, piece, stored }: Tensor, size: u64) -> bool {
        // A matrix of 32 rows or less may be rounded up by its format.
        let fits = |&span: &u64| size <= span && span - size < piece.alignment.max(32);
        self.spans[no].get(&stored.offset).is_some_and(fits)
    }

    /// The scale of a tensor that has it in another.
    fn scale(&self, stored: &Stored) -> Option<f32> {
        let Tensor { piece, stored: scale, .. } = self.by_name.get(&*scale_of(&stored.name))?;
        let one = scale.id == 0 && scale.shape.iter().all(|&n| n == 1);
        let bytes = piece.data.get(usize::try_from(scale.offset).ok()?..)?.first_chunk()?;
        one.then(|| f32::from_le_bytes(*bytes))
    }

    /// The matrices of this number, and of one shape if that is asked for, as far as the file has their bytes.
    fn matrices(&self, id: u32, format: &Format, only: Option<[usize; 2]>) -> Vec<Matrix<'a>> {
        let matrix = |Tensor { piece, stored, .. }: Tensor<'a>| {
            let size = size(&stored.name, format, &stored.shape).ok()? - format.tail as u64;
            let shape: Vec<usize> = stored.shape.iter().map(|&n| n as usize).collect();
            let start = usize::try_from(stored.offset).ok()?;
            let bytes = piece.data.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
            let matrix = Matrix { name: &stored.name, shape: matrix(&shape), bytes };
            only.is_none_or(|shape| shape == matrix.shape).then_some(matrix)
        };
        self.with(id).filter_map(matrix).collect()
    }
}

/// The metadata of a file without the keys that are about its bytes.
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

/// The metadata of a file with these tensors: what they were read by before is replaced by what tells how they are written.
pub(super) fn describe(metadata: &Metadata, entries: &[Entry]) -> Result<Metadata> {
    let mut described = without(metadata.clone());
    let mut meanings: BTreeMap<u32, &Format> = BTreeMap::new();
    for entry in entries {
        let Some(id) = entry.format.id else { continue };
        let first = *meanings.entry(id).or_insert(entry.format);
        if first != entry.format {
            return Err(Error::SharedNumber { id, first: first.name, second: entry.format.name });
        }
    }
    // Who reads the file is told what numbers mean that could mean something else.
    let several = meanings.iter().filter(|(id, _)| candidates(**id).len() > 1);
    let names: Vec<&str> = several.map(|(_, format)| format.name).collect();
    if !names.is_empty() {
        described.insert(LAYOUTS, Value::Array(Array::String(names.iter().copied().collect())));
    }
    let kernels = crate::view::kernels(entries)?;
    if !kernels.is_empty() {
        described.insert(KERNELS, tiles::print(&kernels));
    }
    Ok(described)
}
