//! Whether a device computes what the CPU computes, operation by operation.

use super::smoke_test::TEXT;
use super::{Check, Context, Finding, Severity};
use serde::Serialize;
use trine_backend::{CacheType, Drift};
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{DeviceName, Error, load_side_by_side};
use trine_text::EncodeOptions;

pub(super) const DEVICES: Check = Check { name: "devices", about: "two devices, operation by operation", run };

/// Maximum tokens of the text that are run: a device that drifts does so at once.
const TOKENS: usize = 49;
/// Tokens of a pass: both a prompt's and single ones are compared, and the slowest device is soon done with one.
const BATCH: usize = 24;

/// How a comparison of two devices came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No operation differs by more than it may.
    Same,
    Different,
    /// A device cannot load the model, or failed.
    Failed,
    Skipped,
}

/// Two devices that run a text side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceComparison {
    pub reference: String,
    pub device: String,
    pub outcome: Outcome,
    /// The first difference, or why there was no comparison; `None` for the same.
    pub reason: Option<String>,
    /// Tokens of the text; unknown if they were not all run.
    pub tokens: Option<usize>,
}

impl DeviceComparison {
    pub(super) fn skipped(names: &[DeviceName; 2], reason: &str) -> DeviceComparison {
        DeviceComparison::new(names, Outcome::Skipped, Some(reason.to_owned()), None)
    }

    fn new(
        [reference, device]: &[DeviceName; 2],
        outcome: Outcome,
        reason: Option<String>,
        tokens: Option<usize>,
    ) -> DeviceComparison {
        DeviceComparison { reference: reference.to_string(), device: device.to_string(), outcome, reason, tokens }
    }
}

fn run(context: &mut Context) -> Vec<Finding> {
    let Some(names) = context.compare_devices.clone() else { return Vec::new() };
    let skipped = match (&context.device, &context.language) {
        (None, _) => Some("the weights were not read"),
        (_, Err(_)) => Some("there is no tokenizer"),
        _ => None,
    };
    if let Some(reason) = skipped {
        context.compared = Some(DeviceComparison::skipped(&names, reason));
        return Vec::new();
    }
    let (outcome, reason, tokens, finding) = match compare(context, &names) {
        Ok((None, tokens)) => (Outcome::Same, None, Some(tokens), None),
        Ok((Some(drift), tokens)) => {
            let title = format!("{} does not compute what {} computes", names[1], names[0]);
            let remedy = "run the model on the CPU, and report the operation with the machine's `trine devices`";
            (Outcome::Different, Some(drift.to_string()), Some(tokens), Some((title, remedy)))
        }
        Err(error) => {
            let title = format!("{} and {} cannot be compared", names[0], names[1]);
            let remedy = match error {
                Error::UnknownDevice { .. } | Error::Device(_) => "`trine devices` lists the devices of this machine",
                _ => "get or convert the file again",
            };
            (Outcome::Failed, Some(error.to_string()), None, Some((title, remedy)))
        }
    };
    context.compared = Some(DeviceComparison::new(&names, outcome, reason.clone(), tokens));
    finding
        .zip(reason)
        .map(|((title, remedy), evidence)| Finding::new(Severity::Error, title, evidence, remedy))
        .into_iter()
        .collect()
}

/// The first operation that differs, and the tokens that were run.
fn compare(context: &mut Context, [reference, device]: &[DeviceName; 2]) -> Result<(Option<Drift>, usize), Error> {
    let (options, patience) = (context.device.clone().unwrap_or_default(), &mut context.patience);
    let (mut runner, found) = load_side_by_side(context.file, reference, device, &options, &mut |_| patience.ask())?;
    let options = EncodeOptions { parse_special: false, add_special: true };
    let mut ids = context.language.as_ref().map_or_else(|_| Vec::new(), |it| it.tokenizer.encode(TEXT, options));
    ids.truncate(TOKENS.min(runner.spec().context_length));
    let tokens = ids.len();
    let input = ScoreInput { outputs: tokens, ids };
    let want = if runner.spec().arch.encoder { Want::Hidden } else { Want::Logits };
    let scoring = ScoreOptions { batch: BATCH, cache_type: CacheType::F32, want };
    score::<Error>(&mut *runner, &[input], &scoring, &mut |_, _| Ok(patience.ask()))?;
    let drift = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    Ok((drift, tokens))
}
