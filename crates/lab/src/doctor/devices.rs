//! Whether a device computes what the CPU computes, operation by operation.

use super::smoke_test::TEXT;
use super::{Check, Context, Finding, Severity};
use std::ops::ControlFlow;
use trine_backend::Drift;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{DeviceName, DeviceOptions, Error, load_side_by_side};
use trine_tensor::format::F32;
use trine_text::EncodeOptions;

pub(super) const DEVICES: Check = Check { name: "devices", about: "two devices, operation by operation", run };

/// Maximum tokens of the text that are run: a device that drifts does so at once.
const TOKENS: usize = 48;
/// Tokens of a pass: both a prompt's and single ones are compared.
const BATCH: usize = 47;

fn run(context: &mut Context) -> Vec<Finding> {
    let Some([reference, device]) = context.compare_devices.clone() else { return Vec::new() };
    let evidence = match compare(context, &reference, &device) {
        Ok(None) => return Vec::new(),
        Ok(Some(drift)) => drift.to_string(),
        Err(error) => error.to_string(),
    };
    let title = format!("{device} does not compute what {reference} computes");
    let remedy = "run the model on the CPU, and report the operation with the machine's `trine devices`";
    vec![Finding::new(Severity::Error, title, evidence, remedy)]
}

fn compare(context: &Context, reference: &DeviceName, device: &DeviceName) -> Result<Option<Drift>, Error> {
    let (Some(cpu), Ok(language)) = (context.cpu.clone(), &context.language) else { return Ok(None) };
    let options = DeviceOptions { cpu, ..DeviceOptions::default() };
    let (mut runner, found) = load_side_by_side(context.file, reference, device, &options)?;
    let mut ids = language.tokenizer.encode(TEXT, EncodeOptions { parse_special: false, add_special: true });
    ids.truncate(TOKENS.min(runner.spec().context_length));
    let input = ScoreInput { outputs: ids.len(), ids };
    let want = if runner.spec().arch.encoder { Want::Hidden } else { Want::Logits };
    let scoring = ScoreOptions { batch: BATCH, cache_type: &F32, want };
    score::<Error>(&mut *runner, &[input], &scoring, &mut |_, _| Ok(ControlFlow::Continue(())))?;
    Ok(found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take())
}
