//! Formats for tensors that a recipe names.

use super::{Error, names};
use regex_automata::meta::Regex;
use std::fmt;
use trine_tensor::Format;
use trine_tensor::format::by_name;

/// A format for some tensors.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    pub format: &'static Format,
    tensors: Tensors,
}

#[derive(Clone, Debug)]
enum Tensors {
    /// Those whose names a regular expression finds something in.
    Matching(Box<Regex>),
    /// Those of layers from one number to another.
    Layers(usize, usize),
}

impl Rule {
    /// A rule such as `ffn_down=q6_k`: a regular expression, which is searched in the names of tensors, and a format.
    ///
    /// # Errors
    /// When it has another form, or there is no such format.
    pub fn of_tensors(text: &str) -> Result<Rule, Error> {
        let (pattern, format) = split(text, "PATTERN=FORMAT, such as ffn_down=q6_k")?;
        let regex = Regex::new(pattern).map_err(|error| {
            let problem = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
            let last = problem.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Error::Rule { expected: format!("a regular expression ({last})"), found: pattern.to_owned() }
        })?;
        Ok(Rule { text: text.to_owned(), format, tensors: Tensors::Matching(Box::new(regex)) })
    }

    /// A rule such as `0-3=q8_0` or `5=q8_0`: layers, and a format.
    ///
    /// # Errors
    /// As [`Rule::of_tensors`].
    pub fn of_layers(text: &str) -> Result<Rule, Error> {
        const FORM: &str = "FIRST-LAST=FORMAT, such as 0-3=q8_0";
        let (layers, format) = split(text, FORM)?;
        let (first, last) = layers.split_once('-').unwrap_or((layers, layers));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => {
                Ok(Rule { text: text.to_owned(), format, tensors: Tensors::Layers(first, last) })
            }
            _ => Err(Error::Rule { expected: FORM.to_owned(), found: text.to_owned() }),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match self.tensors {
            Tensors::Matching(_) => serde_json::json!({ "tensor": self.text }),
            Tensors::Layers(..) => serde_json::json!({ "layers": self.text }),
        }
    }

    /// The number of the last layer, if it is for layers.
    pub fn last_layer(&self) -> Option<usize> {
        match self.tensors {
            Tensors::Matching(_) => None,
            Tensors::Layers(_, last) => Some(last),
        }
    }

    /// Whether it is for the tensor of this name.
    pub fn matches(&self, name: &str) -> bool {
        match &self.tensors {
            Tensors::Matching(regex) => regex.is_match(name),
            Tensors::Layers(first, last) => {
                super::mix::layer_of(name).is_some_and(|layer| (*first..=*last).contains(&layer))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'static Format), Error> {
    let wrong = || Error::Rule { expected: form.to_owned(), found: text.to_owned() };
    let (tensors, format) = text.rsplit_once('=').ok_or_else(wrong)?;
    if tensors.is_empty() {
        return Err(wrong());
    }
    let known = by_name(format).filter(|format| format.stores_models());
    let format =
        known.ok_or_else(|| Error::Rule { expected: format!("one of {}", names()), found: format.to_owned() })?;
    Ok((tensors, format))
}
