//! The modules that sentence-transformers runs after a model that is for embeddings.

use crate::slice::floats;
use crate::{GgufModel, Result};
use serde_json::{Value, json};
use trine_tensor::format::F32;
use trine_tensor::{TensorInfo, View};

/// Matrices of dense layers in GGUF, in their order.
pub(super) static DENSE: [&str; 2] = ["dense_2.weight", "dense_3.weight"];

/// A file of sentence-transformers, by its name in the folder.
pub enum ModuleFile {
    Text(String, String),
    /// A safetensors file with one matrix.
    Matrix(String, View),
}

/// The files by which sentence-transformers makes the embeddings of `model`; none of a model that is not for embeddings.
///
/// # Errors
/// When a key has another type, or a matrix cannot be read.
pub(super) fn modules(model: &GgufModel) -> Result<Vec<ModuleFile>> {
    let spec = model.spec();
    let key = format!("{}.pooling_type", spec.arch.name());
    let mode = match model.metadata().u32(&key)? {
        Some(1) => "mean_tokens",
        Some(2) => "cls_token",
        Some(3) => "lasttoken",
        _ => return Ok(Vec::new()),
    };
    let (mut files, mut list) = (Vec::new(), Vec::new());
    let mut module = |kind: &str, folder: &str, config: Value| {
        let path = if folder.is_empty() { String::new() } else { format!("{}_{folder}", list.len()) };
        if !config.is_null() {
            files.push(ModuleFile::Text(format!("{path}/config.json"), config.to_string()));
        }
        let (i, kind) = (list.len(), format!("sentence_transformers.models.{kind}"));
        list.push(json!({ "idx": i, "name": i.to_string(), "path": path, "type": kind }));
        path
    };
    module("Transformer", "", Value::Null);
    let mut pooling = json!({ "word_embedding_dimension": spec.hidden_size, "include_prompt": true });
    for other in ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    {
        pooling[format!("pooling_mode_{other}")] = (other == mode).into();
    }
    module("Pooling", "Pooling", pooling);
    let mut matrices = Vec::new();
    for name in DENSE {
        let Some(i) = model.tensors().iter().position(|info| info.name == name) else { continue };
        let TensorInfo { shape, .. } = &model.tensors()[i];
        let config = json!({
            "in_features": shape[1], "out_features": shape[0], "bias": false,
            "activation_function": "torch.nn.modules.linear.Identity",
        });
        let folder = module("Dense", "Dense", config);
        let read = model.read(i)?;
        let read = if read.format == &F32 { read } else { floats(&read)? };
        let view = View::new("linear.weight", read.format, read.shape.clone(), read.bytes)?;
        matrices.push(ModuleFile::Matrix(format!("{folder}/model.safetensors"), view));
    }
    module("Normalize", "Normalize", Value::Null);
    let limits = json!({ "max_seq_length": spec.context_length, "do_lower_case": false });
    files.push(ModuleFile::Text("modules.json".to_owned(), Value::from(list).to_string()));
    files.push(ModuleFile::Text("sentence_bert_config.json".to_owned(), limits.to_string()));
    files.extend(matrices);
    Ok(files)
}
