//! `--target-bpw` and `--target-size`: a mixture of formats by what each costs.

use crate::exit::UsageError;
use crate::input::SeparatorArg;
use crate::machine::size;
use crate::{progress, table, units};
use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, value_parser};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_backend::CacheType;
use trine_lab::bench::TEXT;
use trine_lab::divergence::{Chunks, DivergenceOptions};
use trine_lab::quantize::Recipe;
use trine_lab::quantize::search::{Costs, Found, Measurement};
use trine_model::{DeviceOptions, GgufModel, Language};
use trine_tensor::{Replacement, read_optional};

/// Tokens of a chunk.
const CONTEXT: usize = 256;
const CHUNKS: usize = 4;
const BAR: &str = "measuring {bar:30} {pos}/{len} {eta}";
/// Larger than any table of costs, in bytes.
const MOST: u64 = 16 << 20;

/// Options that choose formats, too.
const CHOOSES: [&str; 8] =
    ["format", "pure", "block_size", "really", "tensor", "layers", "embedding_type", "output_type"];

/// A mixture for a given size.
#[derive(Args)]
#[command(next_help_heading = "Mixture for a size")]
pub struct SearchArgs {
    /// Choose the mixture with so many bits per weight, such as 4.2, that changes predictions least
    ///
    /// Measures the divergence of the model with one group of tensors in each format: matrices of one kind, in a third of the layers. The
    /// table is kept beside the output, as NAME.costs.json of the model's name, and used again for other sizes.
    #[arg(long, value_name = "BITS", conflicts_with_all = CHOOSES, conflicts_with = "target_size")]
    target_bpw: Option<f64>,
    /// The same for tensors of so many bytes, such as 3.5GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    #[arg(conflicts_with_all = CHOOSES)]
    target_size: Option<ByteSize>,
    /// Text to measure with, like what the model is for [default: a short one in the program]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    separator: SeparatorArg,
    /// Chunks of 256 tokens of that text [default: 4]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    chunks: Option<u32>,
}

impl SearchArgs {
    /// Whether a size is asked for.
    pub fn is_some(&self) -> bool {
        self.target_bpw.is_some() || self.target_size.is_some()
    }

    /// Adds the formats of the best mixture to a recipe. What was measured is kept in the folder of `output`.
    ///
    /// # Errors
    /// When no mixture is so small, or the model cannot be measured.
    pub fn search(
        &self,
        model: &GgufModel,
        recipe: &mut Recipe,
        output: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<Found>> {
        let weights: usize = model.tensors().iter().map(|info| info.shape.iter().product::<usize>()).sum();
        let bytes = match (self.target_bpw, self.target_size) {
            (Some(bits), _) if bits.is_finite() && bits > 0.0 => (bits * weights as f64 / 8.0) as u64,
            (Some(bits), _) => {
                let message = format!("--target-bpw: expected a number above 0, found {bits}");
                return Err(UsageError { message, hint: "for example --target-bpw 4.2" }.into());
            }
            (None, Some(size)) => size.as_u64(),
            (None, None) if self.text.is_some() || self.chunks.is_some() => {
                let message = "--text and --chunks: nothing is measured without a size".to_owned();
                return Err(UsageError { message, hint: "add --target-bpw or --target-size, or omit them" }.into());
            }
            (None, None) => {
                self.separator.refuse("nothing is measured without a size")?;
                return Ok(None);
            }
        };
        let device = DeviceOptions::default();
        let (tokenizer, documents) = (Language::of_metadata(model.metadata())?.tokenizer, self.documents()?);
        let context = CONTEXT.min(model.spec().context_length);
        let most = self.chunks.map_or(CHUNKS, |chunks| chunks as usize);
        let chunks = Chunks::new(&tokenizer, &documents, context, most)
            .or_else(|_| Chunks::new(&tokenizer, &documents, (context / 4).max(4), most))
            .map_err(trine_lab::quantize::Error::from)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = DivergenceOptions { batch: 512, threads, cache_type: CacheType::F32 };
        let measurement = Measurement { model, device: &device, chunks: &chunks, options, recipe: &*recipe };
        check_size(measurement.sizes()?, bytes, weights)?;
        let path = table_path(model.file().path(), output);
        let of = identity(model, &chunks, recipe);
        let mut known = read(&path)?.filter(|known| known.of == of).unwrap_or(Costs { of, costs: Vec::new() });
        let bar = progress::bar(BAR, 0);
        let measured = measurement.measure(&mut known, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        // What was measured before a stop is not measured again.
        save(&path, &known);
        measured?;
        let found = measurement.choose(&known, bytes)?;
        recipe.formats = found.formats.clone();
        Ok(Some(found))
    }

    fn documents(&self) -> Result<Vec<String>> {
        let Some(path) = &self.text else {
            self.separator.refuse("expected --text with it")?;
            return Ok(vec![TEXT.to_owned()]);
        };
        self.separator.documents(path, false)
    }
}

/// Refuses a size that no mixture has, before anything is measured.
fn check_size([least, most]: [u64; 2], bytes: u64, weights: usize) -> Result<(), UsageError> {
    if (least..=most).contains(&bytes) {
        return Ok(());
    }
    let size = |bytes: u64| {
        format!("{}, {:.2} bits per weight", units::bytes(bytes), 8.0 * bytes as f64 / weights.max(1) as f64)
    };
    let (bound, what, hint) = match bytes < least {
        true => (least, "smallest", "ask for more, or choose a format of fewer bits with --format"),
        false => (most, "largest", "ask for less, or choose a format of more bits, such as --format f16"),
    };
    let message = format!("the {what} mixture has {}: found {}", size(bound), size(bytes));
    Err(UsageError { message, hint })
}

/// What costs are those of.
fn identity(model: &GgufModel, chunks: &Chunks, recipe: &Recipe) -> String {
    let mut hasher = DefaultHasher::new();
    chunks.ids().hash(&mut hasher);
    chunks.context().hash(&mut hasher);
    for (name, entry) in recipe.imatrix.iter().flat_map(|imatrix| &imatrix.entries) {
        name.hash(&mut hasher);
        entry.sums.iter().chain(&entry.counts).for_each(|number| number.to_bits().hash(&mut hasher));
    }
    let model: String = model.file().content_fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{model} {:016x}", hasher.finish())
}

/// The table of costs of a model, which takes minutes to measure. The folder of the model may be somebody else's: that of the output is written to
/// anyway.
fn table_path(model: &Path, output: &Path) -> PathBuf {
    let name = model.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    output.with_file_name(format!("{name}.costs.json"))
}

fn read(path: &Path) -> Result<Option<Costs>> {
    let Some(bytes) = read_optional(path, MOST)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(costs) => Ok(Some(costs)),
        Err(error) => {
            note!("warning: {}: not used, as it is no table of costs: {error}", path.display());
            Ok(None)
        }
    }
}

/// Keeps the table, and says where. The folder may not be writable: then costs are measured again next time.
fn save(path: &Path, costs: &Costs) {
    let write = || {
        let mut file = Replacement::new(path)?;
        serde_json::to_writer_pretty(&mut file, costs)?;
        file.finish()
    };
    let shown = table::visible(&path.display().to_string());
    match write() {
        Ok(()) => note!("note: the costs of formats are kept in {shown}, for other sizes"),
        Err(error) => note!("warning: {shown}: the costs of formats are not kept: {error}"),
    }
}
