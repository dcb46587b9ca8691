//! Recipes as JSON, for receipts.

use super::{Error, Mix, Recipe, Rule, Target, names};
use crate::imatrix::Imatrix;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use trine_tensor::Format;
use trine_tensor::format::by_name;

impl Recipe {
    /// The recipe, with the names of the files of its importance matrix and tokenizer.
    pub(crate) fn to_json(&self, imatrix: Option<String>, tokenizer: Option<String>) -> Value {
        let mut json = Map::new();
        let mut put = |key: &str, value: Option<Value>| value.map(|value| json.insert(key.to_owned(), value));
        let (mix, format) = match self.target {
            Some(Target::Mix(mix)) => (Some(json!(mix.name)), None),
            Some(Target::Format(format)) => (None, Some(json!(format.name))),
            None => (None, None),
        };
        put("mix", mix);
        put("format", format);
        put("rules", (!self.rules.is_empty()).then(|| self.rules.iter().map(Rule::to_json).collect()));
        let formats = || self.formats.iter().map(|(tensor, format)| (tensor.clone(), json!(format.name))).collect();
        put("formats", (!self.formats.is_empty()).then(|| Value::Object(formats())));
        put("embedding", self.embedding.map(|format| json!(format.name)));
        put("output", self.output.map(|format| json!(format.name)));
        put("imatrix", imatrix.map(Value::from));
        if let Some(imatrix) = &self.imatrix {
            // The folders of whoever measured it are nobody's business.
            let datasets = imatrix.datasets.iter().map(|path| path.rsplit(['/', '\\']).next());
            put("datasets", Some(datasets.collect()));
            put("chunks", Some(json!(imatrix.chunks)));
        }
        put("ternarize", self.ternarize.then_some(Value::Bool(true)));
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
        if let (Some(file), None) = (json["imatrix"].as_str(), &imatrix) {
            let expected = format!("the importance matrix of the recipe, {file} (--imatrix FILE)");
            return Err(Error::Rule { expected, found: "none".to_owned() });
        }
        let format = |value: &Value| -> Result<Option<&'static Format>, Error> {
            let known = value.as_str().and_then(by_name).filter(|format| format.stores_models());
            if value.is_null() || known.is_some() {
                Ok(known)
            } else {
                Err(wrong(format!("one of {}", names()), value))
            }
        };
        let mix = &json["mix"];
        let target = match (mix.as_str().and_then(Mix::by_name), format(&json["format"])?) {
            (Some(mix), _) => Some(Target::Mix(mix)),
            _ if !mix.is_null() => return Err(wrong("a mixture".to_owned(), mix)),
            (None, format) => format.map(Target::Format),
        };
        let rule = |rule: &Value| match (rule["tensor"].as_str(), rule["layers"].as_str()) {
            (Some(text), None) => Rule::of_tensors(text),
            (None, Some(text)) => Rule::of_layers(text),
            _ => Err(wrong("a rule for tensors or layers".to_owned(), rule)),
        };
        let mut formats = BTreeMap::new();
        for (tensor, name) in json["formats"].as_object().into_iter().flatten() {
            format(name)?.into_iter().for_each(|format| _ = formats.insert(tensor.clone(), format));
        }
        Ok(Recipe {
            target,
            formats,
            ternarize: json["ternarize"] == true,
            rules: json["rules"].as_array().into_iter().flatten().map(rule).collect::<Result<_, _>>()?,
            embedding: format(&json["embedding"])?,
            output: format(&json["output"])?,
            imatrix,
        })
    }
}
