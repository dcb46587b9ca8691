//! Rotations of activations that a file asks for and Trine does not apply.

use super::{Check, Context, Finding, Severity};
use trine_tensor::Value;

pub(super) const ROTATION: Check =
    Check { name: "rotation", about: "Hadamard and other rotations of activations", run };

/// What names of keys about rotations contain.
const NAMES: &[&str] = &["hadamard", "quarot", "spinquant", "rotation"];

fn run(context: &mut Context) -> Vec<Finding> {
    let is_off = |value: &str| matches!(value.to_lowercase().as_str(), "false" | "0" | "none" | "null" | "");
    let named = |name: &str| NAMES.iter().any(|part| name.to_lowercase().contains(part));
    let written = |value: &Value| match value {
        Value::Bool(value) => value.to_string(),
        Value::String(value) => value.clone(),
        value => format!("{value:?}"),
    };
    let metadata = context.file.metadata().iter().map(|(key, value)| (key.to_owned(), written(value)));
    let config = context.file.config().and_then(|config| config.get("quantization_config")?.as_object());
    let config =
        config.into_iter().flatten().map(|(key, value)| (format!("quantization_config.{key}"), value.to_string()));
    let asked = metadata.chain(config).filter(|(key, value)| named(key) && !is_off(value.trim_matches('"')));
    let finding = |(key, value): (String, String)| {
        let evidence =
            format!("{key} is {value}: the weights expect activations that are rotated, which Trine does not do");
        Finding::new(
            Severity::Error,
            "activations are not rotated as the weights expect",
            evidence,
            "take the model without a rotation, or fold the rotation into its weights when converting",
        )
    };
    asked.map(finding).collect()
}
