use super::devices::Devices;
use crate::exit::{self, Exit, UsageError};
use crate::load::LayoutArgs;
use crate::machine::DeviceArgs;
use crate::{interrupt, progress, table, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use trine::EMBEDDED;
use trine_backend::CpuOptions;
use trine_lab::doctor::{CHECKS, DeviceComparison, DoctorOptions, DoctorReport, Outcome, Severity, examine};
use trine_model::DeviceName;

/// Find out why a model does not run, or answers nonsense
///
/// Checks the header, the tokenizer, the chat template and the rotary positions, reads all weights once, and measures how well the
/// model predicts a short English text. Each finding comes with evidence and a remedy. The exit status is 5 if there is a warning
/// or an error, also for a file that does not open; notes do not count. Without a model, shows the machine, as `trine devices` does.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine doctor model.gguf\n  \
    trine doctor model.gguf --tokenizer tokenizer.json\n  \
    trine doctor                                 the machine, without a model\n  \
    trine doctor model.gguf --quick              without reading the weights\n  \
    trine doctor model.gguf --compare-devices cpu,cpu:scalar\n  \
    trine doctor folder/ --json | jq '.findings[].title'")]
pub struct Doctor {
    /// Model: a GGUF or safetensors file, or its folder
    model: Option<PathBuf>,
    /// Use this tokenizer instead of the model's
    ///
    /// A tokenizer.json, a tokenizer.model, a GGUF file, or a folder with one of them.
    #[arg(long, value_name = "FILE", requires = "model")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Report the first operation whose results differ between two devices
    ///
    /// The first device is the reference, and must be a CPU.
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1, requires = "model", conflicts_with = "quick")]
    compare_devices: Vec<DeviceName>,
    /// Check the header only
    #[arg(long, requires = "model")]
    quick: bool,
    /// Print one line of JSON; unknown values are null
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Doctor {
    pub fn run(self) -> Result<Exit> {
        let Some(model) = &self.model else {
            if self.device.name() != DeviceName::Auto {
                let message = "--device: expected a model to examine on it".to_owned();
                return Err(UsageError { message, hint: "`trine devices` shows the devices of this machine" }.into());
            }
            return Devices::new(self.json).run();
        };
        let compare_devices = match &self.compare_devices[..] {
            [] => None,
            [reference, device] if reference == device => {
                let message = format!("--compare-devices: expected two devices, found {reference} twice");
                return Err(UsageError { message, hint: "for example --compare-devices cpu,cpu:scalar" }.into());
            }
            [reference, device] => Some([reference.clone(), device.clone()]),
            _ => {
                let message = format!("--compare-devices: expected two devices, found {}", self.compare_devices.len());
                return Err(UsageError { message, hint: "for example --compare-devices cpu,cpu:scalar" }.into());
            }
        };
        let stop = interrupt::flag()?;
        let bar = progress::bytes("reading weights", 0);
        let options = DoctorOptions {
            cpu: (!self.quick).then(CpuOptions::default),
            device: self.device.name(),
            tokenizer: self.tokenizer.clone(),
            compare_devices,
            layouts: self.layouts.formats(),
        };
        let report = examine(model, &options, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let Some(report) = report else {
            note!("stopped: there are no results");
            return Ok(Exit::Interrupted);
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            let healthy = report.is_healthy();
            let object = json!({
                "path": model, "healthy": healthy, "receipt": report.receipt, "findings": report.findings,
                "smoke_test": report.smoke_test,
                "compared_devices": report.compared_devices,
            });
            writeln!(out, "{object}")?;
        } else {
            self.print(model, &report, &mut out)?;
        }
        Ok(if report.is_healthy() { Exit::Done } else { Exit::Findings })
    }

    fn print(&self, model: &Path, report: &DoctorReport, out: &mut impl Write) -> Result<()> {
        for finding in &report.findings {
            let severity = match finding.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            writeln!(out, "{severity}: {}", table::visible(&finding.title))?;
            writeln!(out, "  found: {}", table::visible(&finding.evidence))?;
            writeln!(out, "  to do: {}\n", table::visible(&finding.remedy))?;
        }
        if let Some(receipt) = &report.receipt {
            writeln!(out, "receipt: {}", table::visible(&receipt.to_string()))?;
        }
        if let Some(smoke_test) = &report.smoke_test {
            writeln!(
                out,
                "{} of plain English: {:.2} bits per byte (letters alone: {:.2})",
                units::plural(smoke_test.tokens, "token"),
                smoke_test.bits_per_byte,
                smoke_test.letters_bits_per_byte
            )?;
        }
        if let Some(DeviceComparison { reference, device, outcome, reason, tokens }) = &report.compared_devices {
            let tokens = units::plural(tokens.unwrap_or(0) as u64, "token");
            let how = match outcome {
                Outcome::Same => format!("the same results in each operation, over {tokens}"),
                Outcome::Different => "different results".to_owned(),
                Outcome::Failed => "not compared, as a device failed".to_owned(),
                Outcome::Skipped => format!("not compared: {}", reason.as_deref().unwrap_or("unknown")),
            };
            writeln!(out, "{reference} and {device}: {how}")?;
        }
        let compared = |name: &str| name != "devices" || report.compared_devices.is_some();
        let checks = CHECKS.iter().filter(|check| compared(check.name));
        let looked = checks.map(|check| check.name).collect::<Vec<_>>().join(", ");
        let looked = if self.quick { format!("{looked}, without weights and text") } else { looked };
        let looked = if report.opens { looked } else { "the file only".to_owned() };
        let (notes, findings): (Vec<_>, Vec<_>) =
            report.findings.iter().partition(|finding| finding.severity == Severity::Note);
        let counts = [(findings.len(), "finding"), (notes.len(), "note")].into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, what)| units::plural(count as u64, what)).collect();
        let counts = if counts.is_empty() { "nothing found".to_owned() } else { counts.join(" and ") };
        writeln!(out, "{counts}; looked at {looked}")?;
        if !model.exists() && model != Path::new(EMBEDDED) {
            note!("hint: {}", table::visible(&exit::no_model(model)));
        }
        Ok(())
    }
}
