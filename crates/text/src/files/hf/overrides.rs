//! Settings of `tokenizer_config.json` that replace those of a `tokenizer.json`.

use super::wrong;
use crate::Result;
use serde_json::Value;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

/// Classes of transformers that take the `tokenizer.json` as it is.
const GENERIC: [&str; 2] = ["PreTrainedTokenizerFast", "TokenizersBackend"];

/// Applies `add_prefix_space` to byte-level BPE, and the normalization of BERT's classes, as those classes of transformers do.
pub(crate) fn apply(tokenizer: &mut tokenizers::Tokenizer, config: &Value, warnings: &mut Vec<String>) -> Result<()> {
    let class = config["tokenizer_class"].as_str().unwrap_or(GENERIC[0]);
    if GENERIC.contains(&class) {
        return Ok(());
    }
    if let Some(prefix) = config["add_prefix_space"].as_bool() {
        let mut steps = tokenizer.get_pre_tokenizer().cloned();
        let changed = match &mut steps {
            Some(PreTokenizerWrapper::Sequence(steps)) => {
                steps.as_mut().iter_mut().any(|step| set_prefix(step, prefix))
            }
            Some(step) => set_prefix(step, prefix),
            None => false,
        };
        if changed {
            tokenizer.with_pre_tokenizer(steps);
        } else if !prefix {
            warnings
                .push("tokenizer_config.json: `add_prefix_space` = false is not applied to this tokenizer.json".into());
        }
    }
    if let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() {
        let mut normalizer = *normalizer;
        let flag = |key: &str| config[key].as_bool();
        normalizer.lowercase = flag("do_lower_case").unwrap_or(normalizer.lowercase);
        normalizer.handle_chinese_chars = flag("tokenize_chinese_chars").unwrap_or(normalizer.handle_chinese_chars);
        normalizer.strip_accents = flag("strip_accents").or(normalizer.strip_accents);
        tokenizer.with_normalizer(Some(normalizer)).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}

/// Sets the flag of a step of byte-level BPE; whether it is one.
fn set_prefix(step: &mut PreTokenizerWrapper, prefix: bool) -> bool {
    match step {
        PreTokenizerWrapper::ByteLevel(level) => {
            level.add_prefix_space = prefix;
            true
        }
        _ => false,
    }
}
