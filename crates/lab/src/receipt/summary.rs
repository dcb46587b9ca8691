//! A receipt for people.

use super::PublicKey;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use trine_tensor::receipt::{Seal, Sha256};
use trine_tensor::{Metadata, Receipt, Result};

/// What a receipt says, without the hashes of tensors and keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceiptSummary {
    pub tool: String,
    pub sources: Vec<SourceSummary>,
    /// The hash of the receipt of the source, if it had one.
    pub source_receipt: Option<Sha256>,
    pub recipe: Value,
    pub measurements: Vec<Value>,
    /// The hash of the receipt.
    pub sha256: Sha256,
    /// The fingerprint of the key that signed it, if the signature is valid.
    pub signed_by: Option<String>,
}

/// A file of the source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceSummary {
    pub name: String,
    pub sha256: Sha256,
}

impl ReceiptSummary {
    /// The receipt of a file, if it has one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(metadata: &Metadata) -> Result<Option<ReceiptSummary>> {
        let Some(receipt) = Receipt::of(metadata)? else { return Ok(None) };
        let seal = Seal::of(metadata)?;
        let json = |text: &String| serde_json::from_str(text).unwrap_or(Value::String(text.clone()));
        let sources = receipt.sources.iter();
        let signature = seal.signature.filter(|signature| {
            let key = PublicKey(signature.public_key);
            key.verifies(&seal.sha256, signature)
        });
        Ok(Some(ReceiptSummary {
            tool: receipt.tool.clone(),
            sources: sources.map(|file| SourceSummary { name: file.name.clone(), sha256: file.sha256 }).collect(),
            source_receipt: receipt.source_receipt,
            recipe: json(&receipt.recipe),
            measurements: receipt.measurements.iter().map(json).collect(),
            sha256: seal.sha256,
            signed_by: signature.map(|signature| PublicKey(signature.public_key).to_string()),
        }))
    }

    /// What was measured, in a few words each.
    fn measured(&self) -> impl Iterator<Item = String> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("unknown").to_owned();
        self.measurements.iter().map(move |measured| match measured["measure"].as_str() {
            Some("kl") => format!(
                "mean KL {:.6} from {} on {}",
                measured["mean_kl"].as_f64().unwrap_or(f64::NAN),
                text(measured, "reference"),
                text(measured, "text"),
            ),
            Some("perplexity") => format!(
                "perplexity {:.4} on {}",
                measured["perplexity"]["value"].as_f64().unwrap_or(f64::NAN),
                text(measured, "text"),
            ),
            _ => "a measurement of another kind".to_owned(),
        })
    }
}

impl fmt::Display for ReceiptSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}", self.tool)?;
        if let [first, rest @ ..] = &self.sources[..] {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            write!(f, " from {}{more}", first.name)?;
        }
        let recipe = &self.recipe;
        if let Some(target) = recipe["mix"].as_str().or(recipe["format"].as_str()) {
            write!(f, " to {target}")?;
        }
        if let Some(imatrix) = recipe["imatrix"].as_str() {
            write!(f, " with {imatrix}")?;
        }
        self.measured().try_for_each(|measured| write!(f, "; {measured}"))?;
        match &self.signed_by {
            Some(key) => write!(f, "; signed by {key}"),
            None => f.write_str("; not signed"),
        }
    }
}
