//! Recipes as JSON, for receipts.

use super::{Error, Mix, Recipe, Rule, Target, names};
use crate::imatrix::Imatrix;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use trine_tensor::Format;
use trine_tensor::format::by_name;

impl Recipe {
    /// The recipe, with the names of the files of its importance matrix and tokenizer.
    pub(crate) fn to_json(&self, imatrix: Option<String>, tokenizer: Option<String>) -> Value {
        let mut json = Map::new();
        let mut put = |key: &str, value: Option<Value>| value.map(|value| json.insert(key.to_owned(), value));
        put(
            "mix",
            self.target.and_then(|target| if let Target::Mix(mix) = target { Some(json!(mix.name)) } else { None }),
        );
        put(
            "format",
            self.target
                .and_then(|target| if let Target::Format(format) = target { Some(json!(format.name)) } else { None }),
        );
        put("rules", (!self.rules.is_empty()).then(|| self.rules.iter().map(Rule::to_json).collect()));
        put("embedding", self.embedding.map(|format| json!(format.name)));
        put("output", self.output.map(|format| json!(format.name)));
        put("imatrix", imatrix.map(Value::from));
        if let Some(imatrix) = &self.imatrix {
            put("datasets", Some(json!(imatrix.datasets)));
            put("chunks", Some(json!(imatrix.chunks)));
        }
        put("tokenizer", tokenizer.map(Value::from));
        Value::Object(json)
    }

    /// Reads a recipe. The importance matrix is that of the file that it names.
    ///
    /// # Errors
    /// When it is none of this version of the program.
    pub fn of_json(text: &str, imatrix: Option<Arc<Imatrix>>) -> Result<Recipe, Error> {
        let wrong = |expected: String, found: &Value| Error::Rule { expected, found: found.to_string() };
        let json: Value = serde_json::from_str(text)
            .map_err(|_| Error::Rule { expected: "a recipe as JSON".to_owned(), found: text.to_owned() })?;
        let format = |key: &str| -> Result<Option<&'static Format>, Error> {
            let value = &json[key];
            let known = value.as_str().and_then(by_name).filter(|format| format.stores_models());
            if value.is_null() || known.is_some() {
                Ok(known)
            } else {
                Err(wrong(format!("one of {}", names()), value))
            }
        };
        let mix = &json["mix"];
        let target = match (mix.as_str().and_then(Mix::by_name), format("format")?) {
            (Some(mix), _) => Some(Target::Mix(mix)),
            _ if !mix.is_null() => return Err(wrong("a mixture".to_owned(), mix)),
            (None, format) => format.map(Target::Format),
        };
        let rule = |rule: &Value| match (rule["tensor"].as_str(), rule["layers"].as_str()) {
            (Some(text), None) => Rule::of_tensors(text),
            (None, Some(text)) => Rule::of_layers(text),
            _ => Err(wrong("a rule for tensors or layers".to_owned(), rule)),
        };
        Ok(Recipe {
            target,
            rules: json["rules"].as_array().into_iter().flatten().map(rule).collect::<Result<_, _>>()?,
            embedding: format("embedding")?,
            output: format("output")?,
            imatrix,
        })
    }
}
