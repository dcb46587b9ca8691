//! Model files that are written anew as GGUF: what `convert` and `quantize` share.

use crate::exit::{Exit, UsageError};
use crate::load::{LayoutArgs, size};
use crate::{interrupt, output, progress, table, units};
use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::quantize::{Error, Plan, PlannedTensor, Recipe, names, plan, write, write_folder};
use trine_model::{GgufModel, HfModel};
use trine_tensor::{File, Format, TensorInfo, format, gguf, llama2c};

/// What is read and written.
#[derive(Args)]
pub struct Conversion {
    /// Input: a GGUF file, a folder with safetensors and config.json, or a .bin file of llama2.c, which needs --tokenizer
    input: PathBuf,
    /// Output: a GGUF file
    output: PathBuf,
    /// Tokenizer of the output [default: that of the input]
    ///
    /// A tokenizer.json, a tokenizer.model, a GGUF file, or a folder with one of them.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Write several files of about this size, OUTPUT-00001-of-00003.gguf and so on
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub shard_size: Option<ByteSize>,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Print what each tensor becomes, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing file, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// The format with this name.
///
/// # Errors
/// When there is none that GGUF stores models in, or the name is that of a mixture of formats in llama.cpp, such as Q4_K_M.
pub fn format(name: &str) -> Result<&'static Format, UsageError> {
    let storable = |name: &str| format::by_name(name).filter(|format| format.stores_models());
    storable(name).ok_or_else(|| {
        let mixed = name
            .rsplit_once('_')
            .filter(|(_, end)| ["s", "m", "l", "xl"].iter().any(|size| end.eq_ignore_ascii_case(size)));
        match mixed.and_then(|(most, _)| storable(most)) {
            Some(most) => UsageError {
                message: format!(
                    "--format: expected one format for all matrices, found the mixture `{name}`, which is mostly {most}"
                ),
                hint: "the name without its last part is that of a format, such as --format q4_k",
            },
            None => UsageError {
                message: format!("--format: expected one of {}, found `{name}`", names()),
                hint: "for example --format q4_k",
            },
        }
    })
}

impl Conversion {
    /// Whether the output is a GGUF file by its name.
    pub fn is_gguf(&self) -> bool {
        self.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    }

    fn open(&self) -> Result<File, trine_tensor::Error> {
        match self.input.extension().is_some_and(|extension| extension == "bin") {
            true => llama2c::open(&self.input),
            false => self.layouts.open(&self.input),
        }
    }

    /// Writes a folder.
    pub fn run_folder(self, format: Option<&'static Format>) -> Result<Exit> {
        let floats = [&trine_tensor::format::F32, &trine_tensor::format::F16, &trine_tensor::format::BF16];
        if let Some(format) = format.filter(|format| !floats.contains(format)) {
            let message =
                format!("--format: expected f32, f16 or bf16 in a folder, found {}", format.name.to_lowercase());
            return Err(UsageError { message, hint: "an output that ends with .gguf is a GGUF file" }.into());
        }
        let stop = interrupt::flag()?;
        let file = self.open()?;
        file.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        let model = GgufModel::open(&file, self.tokenizer.as_deref()).map_err(Error::from)?;
        let hf = HfModel::of(&model, format).map_err(Error::from)?;
        let bytes = hf.tensors().iter().map(|info| info.size()).sum::<Result<u64, _>>()?;
        let count = units::plural(hf.tensors().len() as u64, "tensor");
        let mut out = std::io::stdout().lock();
        if self.dry_run {
            for info in hf.tensors() {
                let shape: Vec<String> = info.shape.iter().map(usize::to_string).collect();
                writeln!(out, "{}  {}  {}", table::visible(&info.name), shape.join(" x "), info.format)?;
            }
            writeln!(out, "{count}, {}", units::bytes(bytes))?;
            return Ok(Exit::Done);
        }
        let bar = progress::bytes("writing", bytes);
        let shard_size = self.shard_size.map_or(5_000_000_000, |size| size.as_u64());
        let written = write_folder(&model, &hf, &self.output, shard_size, &mut |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        written?;
        match self.json {
            true => writeln!(
                out,
                "{}",
                json!({ "output": self.output, "tensors": hf.tensors().len(), "bytes_after": bytes })
            )?,
            false => writeln!(out, "{}: {count}, {}", self.output.display(), units::bytes(bytes))?,
        }
        Ok(Exit::Done)
    }

    pub fn run(self, recipe: &Recipe) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let file = self.open()?;
        file.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        let model = GgufModel::open(&file, self.tokenizer.as_deref()).map_err(Error::from)?;
        let mut plan = plan(&model, recipe)?;
        plan.shard_size = self.shard_size.map(|size| size.as_u64());
        if self.dry_run {
            self.print_plan(&plan)?;
            return Ok(Exit::Done);
        }
        let infos: Vec<TensorInfo> = plan.tensors.iter().map(|tensor| tensor.info.clone()).collect();
        for path in gguf::shard_paths(&self.output, &infos, plan.shard_size.unwrap_or(u64::MAX))? {
            output::check_new(&path, self.force, "--force replaces it")?;
        }
        let bar = progress::bytes("writing", plan.bytes_before());
        let written = write(&model, &plan, &self.output, &mut |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        self.print_report(&plan, recipe, &written?)?;
        Ok(Exit::Done)
    }

    fn print_plan(&self, plan: &Plan) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let (before, after) = (plan.bytes_before(), plan.bytes_after());
        if self.json {
            let tensor = |tensor: &PlannedTensor| {
                let PlannedTensor { info, from, bytes_after, .. } = tensor;
                json!({
                    "name": info.name, "shape": info.shape, "from": from.name, "to": info.format.name, "bytes": bytes_after,
                })
            };
            let tensors: Vec<_> = plan.tensors.iter().map(tensor).collect();
            writeln!(out, "{}", json!({ "tensors": tensors, "bytes_before": before, "bytes_after": after }))?;
            return Ok(());
        }
        let header = ["tensor", "shape", "from", "to", "bytes"].map(str::to_owned);
        let row = |PlannedTensor { info, from, bytes_after, .. }: &PlannedTensor| {
            let shape: Vec<String> = info.shape.iter().map(usize::to_string).collect();
            let name = table::visible(&info.name);
            [name, shape.join(" x "), from.name.to_owned(), info.format.name.to_owned(), units::count(*bytes_after)]
        };
        let rows: Vec<[String; 5]> = std::iter::once(header).chain(plan.tensors.iter().map(row)).collect();
        writeln!(out, "{}", table::columns(&rows, 4))?;
        let count = units::plural(plan.tensors.len() as u64, "tensor");
        writeln!(out, "{count}, {} -> {}", units::bytes(before), units::bytes(after))?;
        Ok(())
    }

    fn print_report(&self, plan: &Plan, recipe: &Recipe, files: &[PathBuf]) -> Result<()> {
        let report = plan.report();
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "output": files[0], "files": files, "format": recipe.format.map(|format| format.name), "rewritten": report.rewritten,
                "kept": report.kept, "replaced": report.replaced, "unfit": report.unfit, "formats": report.formats,
                "bytes_before": report.bytes_before, "bytes_after": report.bytes_after,
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        let (before, after) = (units::bytes(report.bytes_before), units::bytes(report.bytes_after));
        let formats: Vec<String> =
            report.formats.iter().map(|(format, count)| format!("{count} in {format}")).collect();
        writeln!(
            out,
            "{}{}: {}, {}; {} unchanged; tensors {before} -> {after}",
            files[0].display(),
            if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() },
            units::plural(plan.tensors.len() as u64, "tensor"),
            formats.join(", "),
            report.kept + report.unfit.len(),
        )?;
        let exceptions = [(&report.replaced, "in a format with shorter blocks"), (&report.unfit, "unchanged")];
        for (tensors, what) in exceptions {
            if let ([first, rest @ ..], Some(format)) = (&tensors[..], recipe.format) {
                let (count, block) = (units::plural(tensors.len() as u64, "tensor"), format.block);
                let more = if rest.is_empty() { "" } else { ", ..." };
                note!("warning: {count} {what}: rows are not multiples of {block} weights ({first}{more})");
            }
        }
        Ok(())
    }
}
