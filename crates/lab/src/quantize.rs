//! The same model in another format.

use std::ops::ControlFlow;
use std::path::Path;
use trine_tensor::format::{IQ4_NL, Q5_0, Q5_1, Q8_0};
use trine_tensor::{File, FileFormat, Format, TensorInfo, View, format::Layout, gguf};

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `progress` broke off.
    #[error("cancelled")]
    Cancelled,
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The input is no GGUF file.
    #[error("{path}: expected a GGUF file, found safetensors")]
    NotGguf { path: String },
    /// The output is the input.
    #[error("{path}: the new file must have another name than the old one")]
    SameFile { path: String },
    /// No file can hold the format.
    #[error("format {format} cannot be written to a GGUF file")]
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

/// What became of the tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantizeReport {
    /// In the new format now.
    pub rewritten: usize,
    /// As they were: vectors, for a ternary format the embedding and head, and matrices that already had the format.
    pub kept: usize,
    /// In a format of shorter blocks, because their rows are not whole blocks of the one asked for.
    pub replaced: Vec<String>,
    /// As they were, because their rows are not whole blocks of any of both.
    pub unfit: Vec<String>,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

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
/// # Errors
/// When a file cannot be read or written, or a ternary format is asked to hold weights that are not ternary; then `output` stays as it was.
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
    let FileFormat::Gguf { .. } = input.format() else { return Err(Error::NotGguf { path }) };
    if format.id.is_none() {
        return Err(Error::NotStorable { format: format.name });
    }
    let mut report = QuantizeReport::default();
    let mut entries = Vec::new();
    for view in input.tensors() {
        let mut entry = view.info();
        let layer = view.name.starts_with("blk.");
        if view.rows() == 1 || view.format == format || (format.encodes_trits() && !layer) {
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
        entries.push(entry);
    }
    if report.rewritten + report.replaced.len() == 0 && !report.unfit.is_empty() {
        return Err(Error::Nothing { path, format: format.name, block: format.block });
    }
    let mut metadata = input.metadata().clone();
    match format.file_type() {
        Some(number) => metadata.insert("general.file_type", number),
        None => metadata.remove("general.file_type"),
    };
    let mut writer = gguf::create(output, &metadata, entries.clone())?;
    let mut done = 0;
    for (view, entry) in input.tensors().zip(&entries) {
        if view.format == entry.format {
            writer.tensor(&view.stored()?)?
        } else {
            writer.tensor(&rewrite(view, entry)?)?
        }
        done += view.bytes.len() as u64;
        if progress(done).is_break() {
            return Err(Error::Cancelled);
        }
    }
    writer.finish()?;
    Ok(report)
}

/// [`Format::encode`] by all cores where blocks do not depend on each other.
fn encode(format: &Format, weights: &[f32]) -> Vec<u8> {
    let blocks = weights.len() / format.block;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(blocks);
    if format.tail > 0 || threads < 2 {
        return format.encode(weights);
    }
    let each = blocks.div_ceil(threads);
    let mut out = vec![0; blocks * format.bytes];
    std::thread::scope(|scope| {
        for (weights, out) in weights.chunks(each * format.block).zip(out.chunks_mut(each * format.bytes)) {
            scope.spawn(|| (format.encode)(weights, out));
        }
    });
    out
}

fn rewrite(view: &View, entry: &TensorInfo) -> Result<Vec<u8>, Error> {
    let weights = view.decode();
    if let Some(found) = weights.iter().find(|w| !w.is_finite()) {
        return Err(Error::NotFinite { tensor: view.name.clone(), found: *found });
    }
    let bytes = if matches!(entry.format.layout, Layout::Rows) {
        encode(entry.format, &weights)
    } else {
        entry.encode(&weights)?
    };
    if entry.format.encodes_trits() {
        let written = View::new(&*view.name, entry.format, view.shape.clone(), bytes.clone())?.decode();
        let pairs = || weights.iter().zip(&written);
        let (&worst, &nearest) =
            pairs().max_by(|a, b| (a.0 - a.1).abs().total_cmp(&(b.0 - b.1).abs())).expect("tensors are not empty");
        let largest = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
        // Half precision rounds a scale by at most 2^-11 of it.
        if (worst - nearest).abs() > largest / 2048.0 {
            return Err(Error::NotTernary { tensor: view.name.clone(), format: entry.format.name, worst, nearest });
        }
    }
    Ok(bytes)
}
