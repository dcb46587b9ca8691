//! The model in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result, gguf};

pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The only model in a folder.
pub(crate) fn find(folder: &Path) -> Result<PathBuf> {
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
