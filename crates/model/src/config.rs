//! The `config.json` of a Hugging Face folder.

use crate::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use trine_tensor::File;

/// Multimodal models whose text part runs alone: `(model_type, model_type of the text part where text_config has none)`.
static MULTIMODAL: &[(&str, &str)] = &[("gemma3", "gemma3_text"), ("mistral3", "mistral")];

/// The `config.json` of a folder. For a multimodal model, `text_config` overrides the keys beside it.
pub(crate) fn config(file: &File) -> Option<Cow<'_, Value>> {
    let config = file.config()?;
    let Some((text, model_type)) = text_config(config) else { return Some(Cow::Borrowed(config)) };
    let mut merged = config.as_object()?.clone();
    merged.insert("model_type".into(), model_type.into());
    merged.extend(text.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())));
    Some(Cow::Owned(merged.into()))
}

fn text_config(config: &Value) -> Option<(&Map<String, Value>, &'static str)> {
    let model_type = config.get("model_type")?.as_str()?;
    let (_, text) = MULTIMODAL.iter().find(|(name, _)| *name == model_type)?;
    Some((config.get("text_config")?.as_object()?, text))
}

/// Whether a folder holds parts beside the text model.
pub(crate) fn is_multimodal(file: &File) -> bool {
    file.config().is_some_and(|config| text_config(config).is_some())
}

/// A number in `config.json`; `None` if it is missing or null.
pub(crate) fn number(config: &Value, key: &'static str) -> Result<Option<f64>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| Error::bad(key, "a number", value)),
    }
}
