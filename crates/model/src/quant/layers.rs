//! Names of layers as configurations give them: patterns in Python's syntax.

use crate::{Error, Result};
use regex_automata::meta::{Config, Regex};
use serde_json::Value;
use std::sync::Arc;

/// Bytes that a compiled pattern may take.
const MAX_REGEX: usize = 1 << 20;

/// A regular expression; two are equal if their sources are.
#[derive(Clone, Debug)]
struct Pattern {
    source: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

impl Pattern {
    /// `regex` is what `source` becomes; `key` names the place of both.
    fn new(key: &str, source: &str, regex: &str) -> Result<Pattern> {
        let limited = Config::new().nfa_size_limit(Some(MAX_REGEX)).hybrid(false);
        let regex = Regex::builder().configure(limited).build(regex);
        let regex = regex.map_err(|_| Error::bad(key, "regular expressions without look-around", source))?;
        Ok(Pattern { source: source.to_owned(), regex })
    }
}

/// Layers that a quantizer left as they were, as `should_convert_module` of transformers finds them.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptLayers(Option<Arc<[Pattern]>>);

impl KeptLayers {
    /// The layers that a list names; without one, the output head.
    ///
    /// # Errors
    /// When a pattern is none.
    pub(crate) fn of(key: &str, list: Option<&Value>) -> Result<KeptLayers> {
        let Some(list) = list.filter(|list| !list.is_null()) else { return Ok(KeptLayers(None)) };
        let bad = || Error::bad(key, "a list of names of layers", list);
        let pattern = |name: &Value| {
            let name = name.as_str().ok_or_else(bad)?;
            Pattern::new(key, name, &format!(r"\A(?:{name})\z"))
        };
        let patterns = list.as_array().ok_or_else(bad)?.iter().map(pattern).collect::<Result<Vec<_>>>()?;
        Ok(KeptLayers(Some(patterns.into())))
    }

    /// Whether a layer is among them: by the end of its name, or by a pattern that fits its name or the beginning of it up to a dot.
    pub(crate) fn contains(&self, layer: &str) -> bool {
        let Some(patterns) = &self.0 else { return layer == "lm_head" };
        let bytes = layer.as_bytes();
        let boundary = |&end: &usize| end == bytes.len() || bytes[end] == b'.' || bytes[end - 1] == b'.';
        let begins = |pattern: &Pattern| {
            (1..=bytes.len())
                .filter(boundary)
                .filter_map(|end| layer.get(..end))
                .any(|start| pattern.regex.is_match(start))
        };
        patterns.iter().any(|pattern| layer.ends_with(&pattern.source) || begins(pattern))
    }
}

/// GPTQModel's `dynamic`: settings of layers whose names a pattern fits, the first that does.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicLayers(Arc<[(Pattern, GroupSettings)]>);

/// What a layer's own rule says; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    pub bits: Option<usize>,
    /// Inputs per group, the inner `None` for one group of all inputs.
    pub group_size: Option<Option<usize>>,
}

impl DynamicLayers {
    /// The rules of a configuration. `settings` reads those of a layer.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn of(
        key: &str,
        rules: Option<&Value>,
        settings: impl Fn(&Value) -> Result<GroupSettings>,
    ) -> Result<DynamicLayers> {
        let Some(rules) = rules.filter(|rules| !rules.is_null()) else { return Ok(DynamicLayers(Arc::new([]))) };
        let rules = rules.as_object().ok_or_else(|| Error::bad(key, "rules by patterns", rules))?;
        let rule = |(name, own): (&String, &Value)| {
            let (left, pattern) = match name.split_at_checked(2) {
                Some((sign @ ("+:" | "-:"), pattern)) => (sign == "-:", pattern),
                _ => (false, name.as_str()),
            };
            // The tensors of a layer that was left as it was say so.
            let own = if left { GroupSettings::default() } else { settings(own)? };
            Ok((Pattern::new(key, pattern, &format!(r"\A(?:{pattern})"))?, own))
        };
        Ok(DynamicLayers(rules.iter().map(rule).collect::<Result<Vec<_>>>()?.into()))
    }

    /// The settings of a layer.
    pub(crate) fn get(&self, layer: &str) -> GroupSettings {
        let rule = self.0.iter().find(|(pattern, _)| pattern.regex.is_match(layer));
        rule.map_or_else(GroupSettings::default, |&(_, settings)| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As `should_convert_module` of transformers 5.24 answers.
    #[test]
    fn layers_are_kept_by_their_ends_and_by_patterns_up_to_a_dot() {
        let layer = "model.layers.11.mlp.gate_proj";
        for (name, kept) in [
            ("gate_proj", true),
            ("proj", true),
            ("model.layers.1", false),
            ("model.layers.11", true),
            ("model.layers.*", true),
            ("model.layers.11.mlp.gate", false),
            ("model.layers.(1|11)", true),
            ("mlp", false),
            (".*mlp", true),
            ("model.layers.11.", true),
            ("", true),
            ("lm_head", false),
        ] {
            assert_eq!(KeptLayers::of("key", Some(&json!([name]))).unwrap().contains(layer), kept, "{name}");
        }
        for (list, kept) in [(None, true), (Some(json!(null)), true), (Some(json!([])), false)] {
            assert_eq!(KeptLayers::of("key", list.as_ref()).unwrap().contains("lm_head"), kept, "{list:?}");
        }
        for bad in [json!("q_proj"), json!([1]), json!(["(?=a)"]), json!(["("])] {
            assert!(KeptLayers::of("key", Some(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_the_beginning_of_a_name_holds() {
        let bits = |own: &Value| {
            Ok(GroupSettings { bits: own["bits"].as_u64().map(|bits| bits as usize), ..GroupSettings::default() })
        };
        let rules = json!({
            "-:.*gate.*": {}, "+:.*down.*": {"bits": 8}, "model.layers.1.mlp.up_proj": {"bits": 3}, ".*up": {"bits": 2}
        });
        let rules = DynamicLayers::of("dynamic", Some(&rules), bits).unwrap();
        for (layer, expected) in [
            ("model.layers.0.mlp.down_proj", Some(8)),
            ("model.layers.0.mlp.gate_proj", None),
            ("model.layers.1.mlp.up_proj", Some(3)),
            ("model.layers.2.mlp.up_proj", Some(2)),
            ("model.layers.2.self_attn.q_proj", None),
        ] {
            assert_eq!(rules.get(layer).bits, expected, "{layer}");
        }
    }
}
