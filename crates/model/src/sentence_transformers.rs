//! What sentence-transformers puts into a folder: `modules.json`, a folder for each module that it names, prompts, and the longest text.

use crate::keys::files::FileKeys;
use crate::keys::ignored::IgnoredKeys;
use crate::pooling::{Activation, DenseModule, Module, Pooling};
use crate::{Error, Result, open_file};
use serde_json::{Map, Value};
use std::path::Path;
use trine_tensor::{OpenOptions, module_folder, read_optional};

/// Larger than any description of a module.
const MAX_JSON: u64 = 1 << 20;

/// What becomes of a text before its tokens meet the model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSettings {
    /// Texts that may precede another, by their names.
    pub prompts: Vec<(String, String)>,
    /// The name of the prompt that precedes a text unless another is chosen.
    pub default_prompt: Option<String>,
    /// The tokens of a prompt take part in pooling.
    pub include_prompt: bool,
    /// Texts of more tokens are cut.
    pub max_tokens: Option<usize>,
    /// They lose their beginning, not their end (`truncation_side`).
    pub cut_left: bool,
    pub lowercase: bool,
}

impl Default for TextSettings {
    fn default() -> TextSettings {
        TextSettings {
            prompts: Vec::new(),
            default_prompt: None,
            include_prompt: true,
            max_tokens: None,
            cut_left: false,
            lowercase: false,
        }
    }
}

/// The modules after the model, and what else the files say.
#[derive(Default)]
pub(crate) struct Folder {
    pub pooling: Option<Pooling>,
    pub modules: Vec<Module>,
    /// Elements of an embedding that are kept.
    pub truncate: Option<usize>,
    pub texts: TextSettings,
    pub warnings: Vec<String>,
}

/// Reads the files of a folder, which may have none.
///
/// # Errors
/// When one cannot be read, or says what Trine does not do.
pub(crate) fn read(folder: &Path) -> Result<Folder> {
    let mut found = Folder::default();
    let modules = folder.join("modules.json");
    let Some(list) = json(&modules)? else { return Ok(found) };
    let list = list.as_array().ok_or_else(|| Error::content(&modules, "a list of modules", &list))?;
    for module in list {
        let module = module.as_object().ok_or_else(|| Error::content(&modules, "a list of objects", module))?;
        found.warnings.extend(MODULES.strict(module)?);
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, path) = (text("type"), text("path"));
        let name = kind.strip_prefix("sentence_transformers.").and_then(|kind| kind.rsplit('.').next());
        let place = module_folder(folder, path)?;
        match name.unwrap_or_default() {
            "Transformer" => transformer(&place, &mut found)?,
            "Pooling" => pooling(&place, &mut found)?,
            "Dense" => {
                let dense = dense(&place, &mut found)?;
                found.modules.push(dense);
            }
            "Normalize" => {
                config(&NORMALIZE, &place.join("config.json"), &mut found)?;
                found.modules.push(Module::Normalize);
            }
            // Only training drops elements.
            "Dropout" => {}
            _ => {
                let expected = "Transformer, Pooling, Dense, Normalize or Dropout of sentence_transformers";
                return Err(Error::bad("type", expected, kind).at(&modules));
            }
        }
    }
    let own = config(&MODEL, &folder.join("config_sentence_transformers.json"), &mut found)?;
    for (name, prompt) in own.get("prompts").and_then(Value::as_object).into_iter().flatten() {
        found.texts.prompts.push((name.clone(), prompt.as_str().unwrap_or_default().to_owned()));
    }
    if let Some(name) = own.get("default_prompt_name").and_then(Value::as_str) {
        if !found.texts.prompts.iter().any(|(known, _)| known == name) {
            return Err(Error::bad("default_prompt_name", "the name of one of `prompts`", name));
        }
        found.texts.default_prompt = Some(name.to_owned());
    }
    found.truncate = count("truncate_dim", own.get("truncate_dim"))?;
    Ok(found)
}

fn json(path: &Path) -> Result<Option<Value>> {
    let bytes = read_optional(path, MAX_JSON)?;
    let parsed = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    parsed.map_err(|error| Error::content(path, "JSON", error))
}

/// The keys of a file, which need not be there.
fn config(keys: &FileKeys, path: &Path, found: &mut Folder) -> Result<Map<String, Value>> {
    match json(path)?.unwrap_or_else(|| Value::Object(Map::new())) {
        Value::Object(object) => {
            found.warnings.extend(keys.strict(&object)?);
            Ok(object)
        }
        other => Err(Error::content(path, "an object", other)),
    }
}

/// A count above 0.
fn count(key: &str, value: Option<&Value>) -> Result<Option<usize>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    match value.as_u64().filter(|count| *count > 0) {
        Some(count) => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
        None => Err(Error::bad(key, "a number above 0", value)),
    }
}

/// What may stand in `sentence_*_config.json`, in the order in which sentence-transformers looks for them.
pub(crate) const CONFIGS: [&str; 7] = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"];

/// The limits of the module `Transformer`, which the tokenizer has where the module has none.
fn transformer(place: &Path, found: &mut Folder) -> Result<()> {
    let names = CONFIGS.map(|name| place.join(format!("sentence_{name}_config.json")));
    let own = config(&TRANSFORMER, names.iter().find(|path| path.is_file()).unwrap_or(&names[0]), found)?;
    found.texts.lowercase = own.get("do_lower_case").is_some_and(|value| value == true);
    let of_module = count("max_seq_length", own.get("max_seq_length"))?;
    let args = ["processor_kwargs", "tokenizer_args"].into_iter().find_map(|key| own.get(key));
    let path = Some(place.join("tokenizer_config.json")).filter(|path| path.is_file());
    let tokenizer = path.map(|path| json(&path)).transpose()?.flatten();
    let of_args = count("model_max_length", args.and_then(|args| args.get("model_max_length")))?;
    let of_tokenizer = || {
        let length = tokenizer.as_ref()?.get("model_max_length")?.as_u64();
        length.and_then(|length| usize::try_from(length).ok()).filter(|&length| length > 0)
    };
    found.texts.max_tokens = of_args.or(of_module).or_else(of_tokenizer);
    let side = [args, tokenizer.as_ref()].into_iter().flatten().find_map(|keys| keys.get("truncation_side"));
    found.texts.cut_left = match side.and_then(Value::as_str) {
        None | Some("right") => false,
        Some("left") => true,
        Some(other) => return Err(Error::bad("truncation_side", "left or right", other)),
    };
    Ok(())
}

/// Pooling by `pooling_mode`, or by the one of the older keys that is on.
fn pooling(place: &Path, found: &mut Folder) -> Result<()> {
    let own = config(&POOLING, &place.join("config.json"), found)?;
    let on = |key: &str| own.get(key).is_some_and(|value| value == true);
    let mode = match own.get("pooling_mode") {
        None | Some(Value::Null) => {
            let mut modes = OLD_MODES.iter().filter(|(key, _)| on(key)).map(|&(_, mode)| mode);
            match (modes.next(), modes.next()) {
                (mode, None) => mode.unwrap_or("mean").to_owned(),
                (_, Some(_)) => return Err(Error::bad("pooling_mode", "one mode", Value::Object(own))),
            }
        }
        Some(Value::Array(modes)) if modes.len() == 1 => modes[0].as_str().unwrap_or_default().to_owned(),
        Some(mode) => mode.as_str().map_or_else(|| mode.to_string(), str::to_owned),
    };
    found.pooling = Some(match &*mode {
        "mean" => Pooling::Mean,
        "mean_sqrt_len_tokens" => Pooling::MeanSqrtLen,
        "cls" => Pooling::First,
        "lasttoken" => Pooling::Last,
        other => return Err(Error::bad("pooling_mode", "mean, mean_sqrt_len_tokens, cls or lasttoken", other)),
    });
    found.texts.include_prompt = own.get("include_prompt").is_none_or(|value| value != false);
    Ok(())
}

/// A linear layer with the activation that its configuration names, which is `Tanh` where it names none.
fn dense(place: &Path, found: &mut Folder) -> Result<Module> {
    let own = config(&DENSE, &place.join("config.json"), found)?;
    let name = own.get("activation_function").and_then(Value::as_str).unwrap_or("torch.nn.modules.activation.Tanh");
    let activation = match name.strip_prefix("torch.").and_then(|name| name.rsplit('.').next()) {
        Some("Identity") => Activation::Identity,
        Some("Tanh") => Activation::Tanh,
        _ => return Err(Error::bad("activation_function", "Identity or Tanh of torch.nn", name)),
    };
    let file = open_file(place.join("model.safetensors"), &OpenOptions::default())?;
    let bias = own.get("bias").is_none_or(|value| value == true);
    let bias = if bias { Some(file.view("linear.bias")?) } else { None };
    Ok(Module::Dense(Box::new(DenseModule { weight: file.view("linear.weight")?, bias, activation })))
}

/// The keys of pooling before `pooling_mode`.
static OLD_MODES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether arguments say only how the model is loaded, or what is read.
fn is_loading(value: &Value) -> bool {
    const LOADING: [&str; 6] =
        ["trust_remote_code", "attn_implementation", "torch_dtype", "dtype", "model_max_length", "use_cache"];
    value.as_object().is_some_and(|args| args.keys().all(|key| LOADING.contains(&&**key)))
}

fn is_sentence(value: &Value) -> bool {
    value == "sentence_embedding"
}

/// An entry of `modules.json`.
pub(crate) static MODULES: FileKeys = FileKeys {
    file: "modules.json",
    read: &["path", "type"],
    ignored: &[IgnoredKeys { keys: &["idx", "name"], reason: "modules run in the order of the list" }],
    neutral: &[("kwargs", is_empty)],
};

pub(crate) static MODEL: FileKeys = FileKeys {
    file: "config_sentence_transformers.json",
    read: &["prompts", "default_prompt_name", "truncate_dim"],
    ignored: &[
        IgnoredKeys { keys: &["__version__", "requirements"], reason: "they tell where the file comes from" },
        IgnoredKeys { keys: &["similarity_fn_name"], reason: "it compares embeddings, and makes none" },
    ],
    neutral: &[("model_type", |value| value == "SentenceTransformer")],
};

pub(crate) static TRANSFORMER: FileKeys = FileKeys {
    file: "sentence_bert_config.json",
    read: &["max_seq_length", "do_lower_case", "processor_kwargs", "tokenizer_args"],
    ignored: &[IgnoredKeys { keys: &["unpad_inputs"], reason: "it changes the speed of batches" }],
    neutral: &[
        ("transformer_task", |value| value == "feature-extraction"),
        ("module_output_name", |value| value == "token_embeddings"),
        ("modality_config", |value| {
            let text = &value["text"];
            text["method"] == "forward" && text["method_output_name"] == "last_hidden_state"
        }),
        ("processing_kwargs", is_empty),
        ("model_args", is_loading),
        ("model_kwargs", is_loading),
        ("config_args", is_loading),
        ("config_kwargs", is_loading),
        ("query_length", |_| false),
        ("document_length", |_| false),
        ("query_expansion", |_| false),
        ("tokenizer_name_or_path", |_| false),
    ],
};

pub(crate) static POOLING: FileKeys = FileKeys {
    file: "Pooling/config.json",
    read: &[
        "pooling_mode",
        "include_prompt",
        "pooling_mode_cls_token",
        "pooling_mode_max_tokens",
        "pooling_mode_mean_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens",
        "pooling_mode_lasttoken",
    ],
    ignored: &[IgnoredKeys {
        keys: &["embedding_dimension", "word_embedding_dimension"],
        reason: "the model has it, and sentence-transformers only reports it",
    }],
    neutral: &[],
};

pub(crate) static DENSE: FileKeys = FileKeys {
    file: "Dense/config.json",
    read: &["bias", "activation_function"],
    ignored: &[IgnoredKeys { keys: &["in_features", "out_features"], reason: "the matrix has them" }],
    neutral: &[
        ("module_input_name", is_sentence),
        ("module_output_name", is_sentence),
        ("use_residual", |value| value == false),
    ],
};

pub(crate) static NORMALIZE: FileKeys = FileKeys {
    file: "Normalize/config.json",
    read: &[],
    ignored: &[],
    neutral: &[("module_input_name", is_sentence), ("module_output_name", is_sentence)],
};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_of_sentence_transformers_is_in_a_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/sentences.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (module, table) in
            [("Transformer", &TRANSFORMER), ("Pooling", &POOLING), ("Dense", &DENSE), ("Normalize", &NORMALIZE)]
        {
            for key in golden["keys"][module].as_array().unwrap() {
                let key = key.as_str().unwrap();
                let found = table.strict(json!({ key: "an unusual value" }).as_object().unwrap());
                assert!(found.is_err() || found.is_ok_and(|warnings| warnings.is_empty()), "{module}: {key}");
            }
        }
    }

    #[test]
    fn keys_that_nothing_here_does_are_refused_and_unknown_ones_are_reported() {
        for table in [&MODULES, &MODEL, &TRANSFORMER, &POOLING, &DENSE, &NORMALIZE] {
            for (key, neutral) in table.neutral {
                let value = json!("an unusual value");
                assert!(
                    !neutral(&value) && table.strict(json!({ *key: value }).as_object().unwrap()).is_err(),
                    "{key}"
                );
                assert!(table.strict(json!({ *key: null }).as_object().unwrap()).unwrap().is_empty());
            }
            assert_eq!(table.strict(json!({"unheard": 1}).as_object().unwrap()).unwrap().len(), 1);
        }
    }
}
