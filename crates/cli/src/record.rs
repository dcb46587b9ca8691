//! Measurements in the receipts of files.

use crate::exit::UsageError;
use crate::hub;
use crate::load::LoadArgs;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use trine::Placement;
use trine_lab::receipt::{ReceiptSummary, SigningKey, record};
use trine_tensor::receipt::Sha256;

/// Whether a measurement becomes a part of the file.
#[derive(Args)]
pub struct RecordArgs {
    /// Write the results to the receipt of the model's file, with the hash of the text
    #[arg(long)]
    record: bool,
    /// Sign the new receipt with this ed25519 key
    #[arg(long, value_name = "KEYFILE", requires = "record")]
    sign: Option<PathBuf>,
}

/// Where a measurement will be written.
pub struct Recorder {
    model: PathBuf,
    sign: Option<SigningKey>,
    signed: bool,
    /// What else the numbers depend on.
    how: Value,
}

impl RecordArgs {
    /// Checks that a measurement of `model` with `text` can be written, before it begins.
    pub fn recorder(&self, load: &LoadArgs, model: &Path, text: Option<&Path>) -> Result<Option<Recorder>> {
        if !self.record {
            return Ok(None);
        }
        if text.is_none_or(|text| text == Path::new("-")) {
            let message = "--record: expected a text file, whose hash is written".to_owned();
            return Err(UsageError { message, hint: "pass the name of the file" }.into());
        }
        if let Some(option) = load.other_model() {
            let message = format!("--record: expected the model as its file has it, found {option}");
            return Err(UsageError { message, hint: "omit one of the two" }.into());
        }
        hub::check_not_cached(model)?;
        let file = load.layouts.open(model)?;
        let receipt = ReceiptSummary::of(file.metadata()).with_context(|| model.display().to_string())?;
        let Some(receipt) = receipt else {
            let message = format!("--record: {} has no receipt", model.display());
            return Err(
                UsageError { message, hint: "`trine convert` and `trine quantize` write files with receipts" }.into()
            );
        };
        let sign = self.sign.as_deref().map(SigningKey::read).transpose()?;
        let how = json!({
            "activations": load.machine.activations.to_string(), "cache_type": load.machine.cache_type.to_string(),
        });
        Ok(Some(Recorder { how, model: file.files()[0].clone(), sign, signed: receipt.signed_by.is_some() }))
    }
}

impl Recorder {
    /// Writes a measurement: `results`, of what they are, the text, and what computed them.
    pub fn record(&self, measure: &str, text: &Path, mut results: Value, placement: &Placement) -> Result<()> {
        let input = std::fs::File::open(text).with_context(|| text.display().to_string())?;
        let hash = Sha256::of_reader(input, || true).with_context(|| text.display().to_string())?;
        for (key, value) in self.how.as_object().into_iter().flatten() {
            results[key] = value.clone();
        }
        results["measure"] = json!(measure);
        results["compute_path"] = json!(format!("{}:{}", placement.device, placement.isa));
        results["text"] = json!(name(text));
        results["text_sha256"] = json!(hash);
        record(&self.model, &results, self.sign.as_ref())?;
        if self.signed && self.sign.is_none() {
            note!("note: the signature was that of the receipt as it was: --sign KEYFILE signs the new one");
        }
        Ok(())
    }
}

/// A file's name without its folder.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
