//! `trine debug plan`: where weights and activations will lie.

use crate::exit::{Exit, UsageError};
use crate::load::LoadArgs;
use crate::{interrupt, table, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use trine_backend::{PlanLog, PlannedValue, Stage};

/// Show where each weight and each activation of a model will lie in memory
///
/// Weights are mapped from the file, copied, or copied with rows interleaved (repacked); shared are those that another has already. Nothing is
/// read, and nothing runs.
///
/// Activations are those of three passes: one token, the last part of a prompt as long as the context, and one token after it. No operation works
/// in place: it writes to a buffer that no value needs any more, the smallest that is large enough, so that values share buffers one after the
/// other. The text leaves out layers that do what the one before does, in buffers that are there; --json has all.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine debug plan model.gguf\n  \
    trine debug plan model.gguf --context 1024 --json")]
pub struct Plan {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl Plan {
    pub fn run(self) -> Result<Exit> {
        if let Some(option) = self.load.other_model() {
            let message = format!("{option}: expected the model as its file has it");
            return Err(UsageError { message, hint: "omit it" }.into());
        }
        self.load.check_no_template()?;
        let file = self.load.layouts.open(&self.model)?;
        let log = self.load.options(&interrupt::flag()?).plan_log(&file)?;
        let peak = log.values.iter().map(|value| value.in_use).max().unwrap_or(0);
        let weights: u64 = log.weights.iter().map(|weight| weight.bytes).sum();
        let mut out = std::io::stdout().lock();
        if self.json {
            let tensors = log.weights.iter().map(|weight| {
                json!({
                    "name": weight.name, "format": weight.format, "role": format!("{:?}", weight.role).to_lowercase(),
                    "bytes_in_file": weight.stored, "bytes": weight.bytes, "residency": weight.residency.name(),
                })
            });
            let values = log.values.iter().map(|value| {
                json!({
                    "pass": value.pass, "stage": stage(value.stage), "op": value.op, "rows": value.rows, "columns": value.cols,
                    "buffer": value.buffer, "allocated": value.allocated, "in_use": value.in_use,
                })
            });
            let report = json!({
                "weights": tensors.collect::<Vec<_>>(), "values": values.collect::<Vec<_>>(), "weight_bytes": weights,
                "buffer_bytes": log.buffers, "peak_in_use": peak, "other_bytes": log.others,
            });
            writeln!(out, "{report}")?;
            return Ok(Exit::Done);
        }
        writeln!(out, "{}\n\n{}\n", tensors(&log), values(&log.values))?;
        let count = log.values.iter().map(|value| value.buffer + 1).max().unwrap_or(0);
        writeln!(out, "weights: {} of memory, of which mapped pages are the file's", units::bytes(weights))?;
        let (buffers, peak, others) = (units::bytes(log.buffers as u64), units::bytes(peak as u64), log.others as u64);
        writeln!(out, "activations: {buffers} in {}, of which {peak} are in use at once", plural(count, "buffer"))?;
        writeln!(out, "rounded inputs of products, and what kernels need: {}", units::bytes(others))?;
        Ok(Exit::Done)
    }
}

fn plural(count: usize, noun: &str) -> String {
    units::plural(count as u64, noun)
}

fn stage(stage: Stage) -> String {
    match stage {
        Stage::Layer(i) => format!("layer {i}"),
        Stage::Head => "head".to_owned(),
        _ => "begin".to_owned(),
    }
}

fn tensors(log: &PlanLog) -> String {
    let mut rows = vec![["weight", "format", "where", "in the file", "in memory"].map(str::to_owned)];
    rows.extend(log.weights.iter().map(|weight| {
        let [stored, bytes] = [weight.stored, weight.bytes].map(units::bytes);
        [table::visible(&weight.name), weight.format.to_owned(), weight.residency.name().to_owned(), stored, bytes]
    }));
    table::columns(&rows, 3)
}

/// A row for each value, but for those of layers that do what the one before does and allocate nothing.
fn values(values: &[PlannedValue]) -> String {
    let title = ["pass", "stage", "operation", "shape", "buffer", "allocated", "in use"].map(str::to_owned);
    let mut rows = vec![title];
    let stages: Vec<&[PlannedValue]> = values.chunk_by(|a, b| (a.pass, a.stage) == (b.pass, b.stage)).collect();
    let plan =
        |values: &[PlannedValue]| -> Vec<_> { values.iter().map(|value| (value.op, value.rows, value.cols)).collect() };
    for (i, &values) in stages.iter().enumerate() {
        let is_layer = |values: &[PlannedValue]| matches!(values[0].stage, Stage::Layer(_));
        let again = i.checked_sub(1).map(|i| stages[i]).is_some_and(|before| {
            is_layer(before) && is_layer(values) && before[0].pass == values[0].pass && plan(before) == plan(values)
        });
        let again = again && values.iter().all(|value| value.allocated == 0);
        if again {
            continue;
        }
        rows.extend(values.iter().map(|value| {
            let allocated = if value.allocated == 0 { "-".to_owned() } else { units::bytes(value.allocated as u64) };
            [
                (value.pass + 1).to_string(),
                stage(value.stage),
                value.op.to_owned(),
                format!("{} x {}", value.rows, value.cols),
                value.buffer.to_string(),
                allocated,
                units::bytes(value.in_use as u64),
            ]
        }));
    }
    table::columns(&rows, 3)
}
