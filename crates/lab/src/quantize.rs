//! The same model in another format.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use trine_model::{DeviceOptions, Language, ModelOptions, load};
use trine_tensor::format::{IQ4_NL, Q5_0, Q5_1, Q8_0};
use trine_tensor::{Bytes, FORMATS, File, FileFormat, Format, Replacement, TensorInfo, View, format::Layout, gguf};

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// A file cannot be read or written, or the format cannot hold the weights.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The input is no model that can be run.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The input is no GGUF file.
    #[error("{path}: expected a GGUF file, found safetensors")]
    NotGguf { path: String },
    /// The output is the input.
    #[error("{path}: the new file must have another name than the old one")]
    SameFile { path: String },
    /// The name of the output is that of another kind of file.
    #[error("{path}: expected a name that ends with .gguf, found one that ends with .{extension}")]
    Extension { path: String, extension: String },
    /// The format is not for weights, or no file can hold it.
    #[error("expected a format for weights in a GGUF file, one of {}, found {format}", names())]
    NotStorable { format: &'static str },
    /// No matrix has rows of whole blocks of the format; `block` is in weights.
    #[error("no tensor of {path} can be held in {format}: its rows must be multiples of {block} weights")]
    Nothing { path: String, format: &'static str, block: usize },
    /// A weight, the first such, is NaN or infinite.
    #[error("tensor `{tensor}`: expected finite weights, found {found}")]
    NotFinite { tensor: String, found: f32 },
    /// A ternary format would destroy the weights. `worst` is the one furthest from what the format can hold, `nearest` what it would become.
    #[error(
        "tensor `{tensor}`: {format} holds ternary weights, found others: {worst} where {nearest} is the nearest it can hold"
    )]
    NotTernary { tensor: String, format: &'static str, worst: f32, nearest: f32 },
}

/// The names of the formats that [`quantize`] writes.
pub fn names() -> String {
    FORMATS.iter().filter(|format| format.stores_models()).map(|format| format.name).collect::<Vec<_>>().join(", ")
}

/// What became of the tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantizeReport {
    /// In the new format now.
    pub rewritten: usize,
    /// As they were: vectors, what is no matrix of a linear layer, for a ternary format the embedding and head, and matrices that already had
    /// the format.
    pub kept: usize,
    /// In a format of shorter blocks, because their rows are not whole blocks of the one asked for.
    pub replaced: Vec<String>,
    /// As they were, because their rows are not whole blocks of any of both.
    pub unfit: Vec<String>,
    /// The number of tensors in each format, all tensors of the new file.
    pub formats: BTreeMap<&'static str, usize>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// Tensors of several rows that are not multiplied by, or by which a layer chooses its experts, as they end in GGUF.
const KEPT: [&str; 6] = [
    ".bias",
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "position_embd.weight",
    "token_types.weight",
];

/// What takes the place of a format in rows that are not whole blocks of 256: blocks of 32 with as many bits or a few more, as llama.cpp
/// chooses them.
static REPLACEMENTS: &[(&[&str], &Format)] = &[
    (&["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "Q2_K", "Q3_K"], &IQ4_NL),
    (&["Q4_K"], &Q5_0),
    (&["Q5_K"], &Q5_1),
    (&["Q6_K"], &Q8_0),
];

/// The format that a matrix gets when `format` is asked for.
fn fitting(format: &'static Format, view: &View) -> Option<&'static Format> {
    let other = REPLACEMENTS.iter().find(|(names, _)| names.contains(&format.name)).map(|&(_, other)| other);
    [Some(format), other].into_iter().flatten().find(|format| TensorInfo { format, ..view.info() }.size().is_ok())
}

/// Writes the GGUF file `input` to `output` with its matrices in `format`; vectors stay as they are, and so do the embedding and the head
/// when the format is ternary. Where rows are not whole blocks of 256, a format of 32 that is near takes its place. `progress` gets how
/// many bytes of `input` are done, and may break off.
///
/// The input must be a model that can be run, and each tensor is checked after it was encoded.
///
/// # Errors
/// When a file cannot be read or written, the input cannot be run, or the format cannot hold the weights; then `output` stays as it was.
pub fn quantize(
    input: &File,
    output: &Path,
    format: &'static Format,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<QuantizeReport, Error> {
    let path = input.path().display().to_string();
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if input.files().iter().any(|file| same(file, output)) {
        return Err(Error::SameFile { path });
    }
    if let Some(extension) = output.extension().filter(|extension| !extension.eq_ignore_ascii_case("gguf")) {
        let (path, extension) = (output.display().to_string(), extension.display().to_string());
        return Err(Error::Extension { path, extension });
    }
    let FileFormat::Gguf { .. } = input.format() else { return Err(Error::NotGguf { path }) };
    if !format.stores_models() {
        return Err(Error::NotStorable { format: format.name });
    }
    Replacement::check(output)?;
    check_runs(input, progress)?;
    let mut report = QuantizeReport::default();
    let mut entries = Vec::new();
    for view in input.tensors() {
        let mut entry = view.info();
        let layer = view.name.starts_with("blk.");
        let no_product = view.rows() == 1 || KEPT.iter().any(|end| view.name.ends_with(end));
        if no_product || view.format == format || (format.encodes_trits() && !layer) {
            report.kept += 1;
        } else if let Some(fitting) = fitting(format, view) {
            entry.format = fitting;
            if fitting == format {
                report.rewritten += 1;
            } else {
                report.replaced.push(view.name.clone());
            }
        } else {
            report.unfit.push(view.name.clone());
        }
        report.bytes_before += view.bytes.len() as u64;
        report.bytes_after += entry.size()?;
        *report.formats.entry(entry.format.name).or_default() += 1;
        entries.push(entry);
    }
    if report.rewritten + report.replaced.len() == 0 && !report.unfit.is_empty() {
        return Err(Error::Nothing { path, format: format.name, block: format.block });
    }
    let mut metadata = input.metadata().clone();
    match most(&entries).and_then(Format::file_type) {
        Some(number) => metadata.insert("general.file_type", number),
        None => metadata.remove("general.file_type"),
    };
    let mut writer = gguf::create(output, &metadata, entries.clone())?;
    let mut done = 0;
    for (view, entry) in input.tensors().zip(&entries) {
        let bytes = match view.format == entry.format {
            true => view.stored()?,
            false => rewrite(view, entry, &mut || progress(done))?,
        };
        let mut flow = ControlFlow::Continue(());
        let written = writer.tensor_in_parts(bytes.chunks(PART).take_while(|_| {
            flow = progress(done);
            flow.is_continue()
        }));
        if flow.is_break() {
            return Err(Error::Cancelled);
        }
        written?;
        done += view.bytes.len() as u64;
    }
    if progress(done).is_break() {
        return Err(Error::Cancelled);
    }
    writer.finish()?;
    Ok(report)
}

/// Loads the model as a run does, from the mapped file.
fn check_runs(file: &File, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<(), Error> {
    let mut flow = ControlFlow::Continue(());
    let loaded = load(file, &DeviceOptions::default(), ModelOptions::default(), &mut |_| {
        flow = progress(0);
        flow
    });
    if flow.is_break() {
        return Err(Error::Cancelled);
    }
    let runner = loaded?;
    if file.metadata().get("tokenizer.ggml.model").is_some() {
        Language::of(file)?.check(runner.spec())?;
    }
    // Tensors that are not uploaded, such as divisors of rotations, and norms and biases, which devices take as they are.
    for view in file.tensors().filter(|view| view.format.block == 1) {
        decode(view, &mut || progress(0))?;
    }
    Ok(())
}

/// The format that holds most weights of matrices.
fn most(entries: &[TensorInfo]) -> Option<&'static Format> {
    let mut weights: Vec<(&'static Format, usize)> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.shape.len() > 1) {
        let len = entry.shape.iter().product::<usize>();
        match weights.iter_mut().find(|(format, _)| *format == entry.format) {
            Some((_, sum)) => *sum += len,
            None => weights.push((entry.format, len)),
        }
    }
    weights.into_iter().max_by_key(|(_, sum)| *sum).map(|(format, _)| format)
}

/// Weights of a piece of work. A thread is done with it in far less than a second, in any format.
const PIECE: usize = 1 << 16;
/// Bytes that are written at once.
const PART: usize = 16 << 20;

/// Whether to go on.
type Proceed<'a> = dyn FnMut() -> ControlFlow<()> + 'a;

/// Does all pieces of work, by all cores. `proceed` is asked after each piece of this thread.
fn share<T: Send>(
    pieces: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
    proceed: &mut Proceed,
) -> Result<(), Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(pieces.len());
    let pieces = Mutex::new(Some(pieces));
    let next = || pieces.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_mut()?.next();
    let (next, work) = (&next, &work);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(move || std::iter::from_fn(next).for_each(work));
        }
        for piece in std::iter::from_fn(next) {
            work(piece);
            if proceed().is_break() {
                // The other threads find no more.
                *pieces.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    })
}

/// The weights of a tensor, all of which are finite.
fn decode(view: &View, proceed: &mut Proceed) -> Result<Vec<f32>, Error> {
    let (view, cols) = (view.by_rows(), view.cols());
    let rows = (PIECE / cols).max(1);
    let mut weights = vec![0.0; view.rows() * cols];
    let work = |(i, weights): (usize, &mut [f32])| {
        weights.chunks_exact_mut(cols).zip(i * rows..).for_each(|(row, i)| view.decode_row(i, row));
    };
    share(weights.chunks_mut(rows * cols).enumerate(), work, proceed)?;
    match weights.iter().find(|w| !w.is_finite()) {
        Some(&found) => Err(Error::NotFinite { tensor: view.name, found }),
        None => Ok(weights),
    }
}

/// [`TensorInfo::encode`], by all cores where rows do not depend on each other.
fn encode(entry: &TensorInfo, weights: &[f32], cols: usize, proceed: &mut Proceed) -> Result<Vec<u8>, Error> {
    let format = entry.format;
    let (Some(row_bytes), 0, None) = (format.row_bytes(cols), format.tail, format.matrix_layout()) else {
        return Ok(entry.encode(weights)?);
    };
    let rows = if matches!(format.layout, Layout::Rows) { (PIECE / cols).max(1) } else { 1 };
    let mut out = vec![0; entry.size()? as usize];
    let pieces = weights.chunks(rows * cols).zip(out.chunks_mut(rows * row_bytes));
    share(pieces, |(weights, out)| (format.encode)(weights, None, out), proceed)?;
    Ok(out)
}

fn rewrite(view: &View, entry: &TensorInfo, proceed: &mut Proceed) -> Result<Bytes, Error> {
    let weights = decode(view, proceed)?;
    let bytes = encode(entry, &weights, view.cols(), proceed)?;
    let written = View::new(&*view.name, entry.format, view.shape.clone(), bytes)?;
    if entry.format.encodes_trits() {
        let written = decode(&written, proceed)?;
        let pairs = || weights.iter().zip(&written);
        let (&worst, &nearest) =
            pairs().max_by(|a, b| (a.0 - a.1).abs().total_cmp(&(b.0 - b.1).abs())).expect("tensors are not empty");
        let largest = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
        // Half precision rounds a scale by at most 2^-11 of it.
        if (worst - nearest).abs() > largest / 2048.0 {
            return Err(Error::NotTernary { tensor: view.name.clone(), format: entry.format.name, worst, nearest });
        }
    }
    match written.check_encoded(&weights, proceed)? {
        ControlFlow::Continue(()) => Ok(written.bytes),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}
