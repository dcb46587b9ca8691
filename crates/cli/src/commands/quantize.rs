use crate::exit::{Exit, UsageError};
use crate::load::LayoutArgs;
use crate::{interrupt, output, progress, table, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::quantize::{names, quantize};
use trine_tensor::format;

/// Convert a model to another number format
///
/// Matrices are converted, vectors are kept. Rows that are not multiples of 256 weights get a format of about as many bits with
/// blocks of 32. A ternary format (TQ1_0, TQ2_0, I2_S, TL1, TL2, IQ1_BN, ...) accepts only weights that are ternary already,
/// and keeps the embedding and the head. The input must be a model that `trine run` can run.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine quantize model-f16.gguf model-q4_k.gguf --format q4_k\n  \
    trine quantize bitnet-tq2_0.gguf bitnet-i2_s.gguf --format i2_s")]
pub struct Quantize {
    /// Input: a GGUF file
    input: PathBuf,
    /// Output file
    output: PathBuf,
    /// Format, such as q8_0, q4_k or i2_s
    #[arg(short, long, value_name = "NAME", long_help = format!("Format, one of {}", names().to_lowercase()))]
    format: String,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Replace an existing file, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// The error of a format with an unknown name, or with that of a mixture of formats in llama.cpp, such as Q4_K_M.
fn unknown(name: &str) -> UsageError {
    let mixed = name
        .rsplit_once('_')
        .filter(|(_, end)| ["s", "m", "l", "xl"].iter().any(|size| end.eq_ignore_ascii_case(size)));
    let most = mixed.and_then(|(most, _)| format::by_name(most)).filter(|format| format.stores_models());
    match most {
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
}

impl Quantize {
    pub fn run(self) -> Result<Exit> {
        let format = format::by_name(&self.format)
            .filter(|format| format.stores_models())
            .ok_or_else(|| unknown(&self.format))?;
        output::check_new(&self.output, self.force, "--force replaces it")?;
        let stop = interrupt::flag()?;
        let file = self.layouts.open(&self.input)?;
        file.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        let bar = progress::bytes("writing", file.tensors().map(|view| view.bytes.len() as u64).sum());
        let report = quantize(&file, &self.output, format, &mut |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let report = report?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "output": self.output, "format": format.name, "rewritten": report.rewritten, "kept": report.kept,
                "replaced": report.replaced, "unfit": report.unfit, "formats": report.formats,
                "bytes_before": report.bytes_before, "bytes_after": report.bytes_after,
            });
            writeln!(out, "{report}")?;
            return Ok(Exit::Done);
        }
        let (before, after) = (units::bytes(report.bytes_before), units::bytes(report.bytes_after));
        let formats: Vec<String> =
            report.formats.iter().map(|(format, count)| format!("{count} in {format}")).collect();
        writeln!(
            out,
            "{}: {}, {}; {} unchanged; tensors {before} -> {after}",
            self.output.display(),
            units::plural(report.formats.values().sum::<usize>() as u64, "tensor"),
            formats.join(", "),
            report.kept + report.unfit.len(),
        )?;
        let exceptions = [(&report.replaced, "in a format with shorter blocks"), (&report.unfit, "unchanged")];
        for (tensors, what) in exceptions {
            if let [first, rest @ ..] = &tensors[..] {
                let (count, block) = (units::plural(tensors.len() as u64, "tensor"), format.block);
                let more = if rest.is_empty() { "" } else { ", ..." };
                note!("warning: {count} {what}: rows are not multiples of {block} weights ({first}{more})");
            }
        }
        Ok(Exit::Done)
    }
}
