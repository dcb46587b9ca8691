//! The `config.json` of a Hugging Face folder.

use crate::hf::Class;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use trine_tensor::File;

/// Multimodal models whose text part runs alone: `(model_type, model_type of the text part where text_config has none)`.
static MULTIMODAL: &[(&str, &str)] = &[("gemma3", "gemma3_text"), ("mistral3", "mistral")];

/// Keys beside `text_config` that are about the text part, too.
const OF_THE_WHOLE: [&str; 2] = ["tie_word_embeddings", "quantization_config"];

/// A `config.json` that records which of its keys were read; clones share the record. A key within an object has a path, such as
/// `rope_scaling.factor`. Keys that it lacks have the values that they have in transformers.
#[derive(Clone)]
pub(crate) struct Config<'a> {
    value: Cow<'a, Value>,
    /// The keys that it lacks.
    absent: Rc<Value>,
    read: Rc<RefCell<BTreeSet<String>>>,
}

impl<'a> Config<'a> {
    /// The `config.json` of a folder. For a multimodal model, it is `text_config`, with the keys beside it that are about all parts.
    pub fn of(file: &'a File) -> Option<Config<'a>> {
        let config = file.config()?;
        let value = match text_config(config) {
            None => Cow::Borrowed(config),
            Some((text, model_type)) => {
                let whole = config.as_object()?.iter().filter(|(key, _)| OF_THE_WHOLE.contains(&key.as_str()));
                let mut merged: Map<String, Value> = whole.map(|(key, value)| (key.clone(), value.clone())).collect();
                merged.insert("model_type".into(), model_type.into());
                let own = text.iter().filter(|(key, value)| !value.is_null() || !merged.contains_key(*key));
                let own: Vec<_> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
                merged.extend(own);
                Cow::Owned(merged.into())
            }
        };
        let class = |config: &Value| Class::of(config.get("model_type")?.as_str()?);
        let absent = |value: &Value| Some(class(value)?.absent(value.as_object()?));
        let mut absences = absent(&value).unwrap_or_default();
        if matches!(value, Cow::Owned(_)) {
            // The whole has defaults of its own.
            let whole = absent(config).unwrap_or_default();
            absences.extend(whole.into_iter().filter(|(key, _)| value.get(key).is_none()));
        }
        Some(Config { value, absent: Rc::new(absences.into()), read: Rc::default() })
    }

    /// Whether models of this `model_type` have the key in transformers. All keys may be there if transformers does not know it.
    pub fn is_of_class(&self, key: &str) -> bool {
        let model_type = self.value.get("model_type").and_then(Value::as_str);
        model_type.and_then(Class::of).is_none_or(|class| class.has(key))
    }

    /// The value that transformers gives to a key that the file lacks.
    pub fn default_of(&self, key: &str) -> Option<&Value> {
        self.absent.get(key)
    }

    /// Everything, for whoever reads an object of it alone.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value at a path, null included, which does not count as read.
    pub fn peek(&self, path: &str) -> Option<&Value> {
        let key = path.split('.').next()?;
        let values = if self.absent.get(key).is_some() { &*self.absent } else { &*self.value };
        at(values, path)
    }

    /// The value at a path, which is then read; `None` if it is missing or null.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(path.to_owned());
        self.peek(path).filter(|value| !value.is_null())
    }

    /// Whether the file has a value at a path that is not null.
    pub fn has(&self, path: &str) -> bool {
        at(&self.value, path).is_some_and(|value| !value.is_null())
    }

    /// A number; `None` if it is missing or null.
    ///
    /// # Errors
    /// When it is no number.
    pub fn number(&self, path: &str) -> Result<Option<f64>> {
        let number = |value: &Value| value.as_f64().ok_or_else(|| Error::bad(path, "a number", value));
        self.get(path).map(number).transpose()
    }

    /// A count below 2^32; `None` if it is missing or null.
    ///
    /// # Errors
    /// When it is none.
    pub fn count(&self, path: &str) -> Result<Option<u32>> {
        let count = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let checked = |value| count(value).ok_or_else(|| Error::bad(path, "a count below 2^32", value));
        self.get(path).map(checked).transpose()
    }

    /// A boolean; `None` if it is missing or null.
    ///
    /// # Errors
    /// When it is none.
    pub fn flag(&self, path: &str) -> Result<Option<bool>> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| Error::bad(path, "true or false", value));
        self.get(path).map(flag).transpose()
    }

    /// A string; `None` if it is missing or null.
    ///
    /// # Errors
    /// When it is none.
    pub fn text(&self, path: &str) -> Result<Option<&str>> {
        let text = |value| Value::as_str(value).ok_or_else(|| Error::bad(path, "a string", value));
        self.get(path).map(text).transpose()
    }

    /// The object with the scaling of rotations; as in transformers, the older one counts where both are there.
    pub fn rope_section(&self) -> &'static str {
        let scaling = self.peek("rope_scaling").and_then(Value::as_object);
        if scaling.is_some_and(|scaling| !scaling.is_empty()) { "rope_scaling" } else { "rope_parameters" }
    }

    /// Paths that were looked for.
    pub fn looked_for(&self) -> BTreeSet<String> {
        self.read.borrow().clone()
    }

    /// Paths of keys with a value that nobody read.
    pub fn unread(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        self.walk("", &self.value, &mut paths);
        paths
    }

    /// Objects of which a part was read are looked into.
    fn walk(&self, prefix: &str, value: &Value, paths: &mut BTreeSet<String>) {
        let read = self.read.borrow();
        for (key, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let path = format!("{prefix}{key}");
            let within = format!("{path}.");
            if value.is_object() && read.range(within.clone()..).next().is_some_and(|next| next.starts_with(&within)) {
                self.walk(&within, value, paths);
            } else if !read.contains(&path) {
                paths.insert(path);
            }
        }
    }
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
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
