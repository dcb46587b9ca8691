//! Model files that are written anew as GGUF: what `convert` and `quantize` share.

use crate::exit::Exit;
use crate::load::LayoutArgs;
use crate::{interrupt, output, progress, table, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::quantize::{Plan, PlannedTensor, Recipe, plan, write};
use trine_lab::receipt::{Provenance, SigningKey};
use trine_model::GgufModel;

/// What is read and written.
#[derive(Args)]
pub struct Conversion {
    /// Input: a GGUF file, or a folder with safetensors and config.json
    input: PathBuf,
    /// Output file
    output: PathBuf,
    /// Tokenizer of the output [default: that of the input]
    ///
    /// A tokenizer.json, a tokenizer.model, a GGUF file, or a folder with one of them.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Print what each tensor becomes, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing file, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Write no receipt, by which `trine verify` finds out whether the file is what it says
    #[arg(long)]
    no_receipt: bool,
    /// Sign the receipt with this ed25519 key, as `ssh-keygen -t ed25519 -N ''` makes it
    #[arg(long, value_name = "KEYFILE", conflicts_with = "no_receipt")]
    sign: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Conversion {
    pub fn run(self, recipe: &Recipe, imatrix: Option<&Path>) -> Result<Exit> {
        let sign = self.sign.as_deref().map(SigningKey::read).transpose()?;
        if !self.dry_run {
            output::check_new(&self.output, self.force, "--force replaces it")?;
        }
        let stop = interrupt::flag()?;
        let file = self.layouts.open(&self.input)?;
        file.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        let model = GgufModel::open(&file, self.tokenizer.as_deref()).map_err(trine_lab::quantize::Error::from)?;
        let plan = plan(&model, recipe)?;
        plan.warnings.iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        if let [first, ..] = plan.without_importance()[..] {
            let count = units::plural(plan.without_importance().len() as u64, "tensor");
            note!(
                "warning: {count} with few bits and no importance matrix, such as {first}: --imatrix makes them usable"
            );
        }
        if self.dry_run {
            self.print_plan(&plan)?;
            return Ok(Exit::Done);
        }
        let bar = progress::bytes("writing", plan.bytes_before());
        let provenance = Provenance { recipe, imatrix, tokenizer: self.tokenizer.as_deref(), sign: sign.as_ref() };
        let provenance = (!self.no_receipt).then_some(&provenance);
        let written = write(&model, &plan, &self.output, provenance, &mut |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        written?;
        self.print_report(&plan, recipe)?;
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

    fn print_report(&self, plan: &Plan, recipe: &Recipe) -> Result<()> {
        let report = plan.report();
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "output": self.output, "format": recipe.target.map(|target| target.name()), "rewritten": report.rewritten,
                "kept": report.kept, "replaced": report.replaced, "unfit": report.unfit, "formats": report.formats,
                "bytes_before": report.bytes_before, "bytes_after": report.bytes_after,
                "bits_per_weight": plan.bits_per_weight(),
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        let (before, after) = (units::bytes(report.bytes_before), units::bytes(report.bytes_after));
        let formats: Vec<String> =
            report.formats.iter().map(|(format, count)| format!("{count} in {format}")).collect();
        writeln!(
            out,
            "{}: {}, {}; {} unchanged; tensors {before} -> {after}, {:.2} bits per weight",
            self.output.display(),
            units::plural(plan.tensors.len() as u64, "tensor"),
            formats.join(", "),
            report.kept + report.unfit.len(),
            plan.bits_per_weight(),
        )?;
        let exceptions = [(&report.replaced, "in a format with shorter blocks"), (&report.unfit, "unchanged")];
        for (tensors, what) in exceptions {
            let block = recipe.target.map_or(1, |target| target.format().block);
            if let [first, rest @ ..] = &tensors[..] {
                let count = units::plural(tensors.len() as u64, "tensor");
                let more = if rest.is_empty() { "" } else { ", ..." };
                note!("warning: {count} {what}: rows are not multiples of {block} weights ({first}{more})");
            }
        }
        Ok(())
    }
}
