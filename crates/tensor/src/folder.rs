//! The model in a folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result, gguf, read_optional};

pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// What PEFT says of an adapter.
const ADAPTER: &str = "adapter_config.json";

/// What sentence-transformers says of the modules of a model, of which one is a transformer, in its folder or in one within it.
const MODULES: &str = "modules.json";
const MAX_MODULES: u64 = 1 << 20;

/// The only model in a folder, or in the folder of its transformer.
pub(crate) fn find(folder: &Path) -> Result<PathBuf> {
    let transformer = transformer(folder)?;
    let folder = transformer.as_deref().unwrap_or(folder);
    if folder.join(ADAPTER).is_file() && !folder.join("config.json").exists() {
        return Err(Error::Adapter);
    }
    let named = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    if let Some(path) = named("model.safetensors").or_else(|| named(INDEX)) {
        return Ok(path);
    }
    let mut files = entries(folder)?;
    files.retain(|path| is_model(path));
    for extension in ["safetensors", "gguf"] {
        let these: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
        match these[..] {
            [] => {}
            [only] => return Ok(only.clone()),
            _ => match gguf::only_set(&these) {
                Some(first) => return Ok(first),
                None => break,
            },
        }
    }
    let names: Vec<_> = files.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Error::Folder { found })
}

/// The folder that `modules.json` names for the transformer. Whoever reads the other modules says what is wrong with them.
fn transformer(folder: &Path) -> Result<Option<PathBuf>> {
    let path = folder.join(MODULES);
    let Some(bytes) = read_optional(&path, MAX_MODULES)? else { return Ok(None) };
    let modules: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::malformed("the file", "JSON", error).at(&path))?;
    let list = modules.as_array();
    let list = list.ok_or_else(|| Error::malformed("the file", "a list of modules", &modules).at(&path))?;
    let text = |module: &serde_json::Value, key: &str| module.get(key)?.as_str().map(str::to_owned);
    let is_transformer = |module: &&serde_json::Value| {
        text(module, "type")
            .is_some_and(|kind| kind.starts_with("sentence_transformers.") && kind.ends_with(".Transformer"))
    };
    let module = list.iter().find(is_transformer);
    module.and_then(|module| text(module, "path")).map(|name| module_folder(folder, &name)).transpose()
}

/// The folder that `modules.json` in `folder` calls `name`: the same one where the name is empty, or one within it.
///
/// # Errors
/// When the name leads out of `folder`, by which it could reach files that are no part of the model.
pub fn module_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if name.contains(['\\', ':']) || !Path::new(name).components().all(inside) {
        let error = Error::malformed("path", "a folder within that of the model", format_args!("{name:?}"));
        return Err(error.at(&folder.join(MODULES)));
    }
    Ok(folder.join(name))
}

/// What is in a folder, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// Whether a file is a model by its name.
fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "safetensors" || end == "gguf") && path.is_file()
}
