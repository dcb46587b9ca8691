//! The model in a folder, and what there is where none is.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::{fs, io};

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
    let found = if names.is_empty() { format!("none{}", models_within(folder)) } else { names.join(", ") };
    Err(Error::Folder { found })
}

/// The error of a path that cannot be opened, with the models beside it if there is no such file.
pub(crate) fn absent(path: &Path, error: io::Error) -> Error {
    if error.kind() != io::ErrorKind::NotFound {
        return Error::Io(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(mut models) = entries(folder) else {
        return Error::NotFound { hint: format!(", nor a folder {folder:?}") };
    };
    models.retain(|path| is_model(path) || has_model(path));
    let names = models.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy())).collect();
    let similar = most_similar(&path.file_name().unwrap_or_default().to_string_lossy(), names);
    Error::NotFound { hint: listed("; beside it are ", similar) }
}

/// The folders within a folder that have a model, at most three and down to the third level, where caches have them.
fn models_within(folder: &Path) -> String {
    let (mut found, mut level) = (Vec::new(), vec![folder.to_owned()]);
    for _ in 0..3 {
        let within = level.iter().filter_map(|folder| entries(folder).ok()).flatten();
        level = within.filter(|path| path.is_dir()).take(1000).collect();
        found.extend(level.iter().filter(|path| has_model(path)).cloned());
    }
    found.truncate(3);
    listed(", but models in ", found.iter().map(|path| path.strip_prefix(folder).unwrap_or(path)))
}

/// `before` and the items in quotes; nothing if there are none.
fn listed<T: std::fmt::Debug>(before: &str, items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| format!("{item:?}")).collect();
    if quoted.is_empty() { String::new() } else { format!("{before}{}", quoted.join(", ")) }
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

fn has_model(folder: &Path) -> bool {
    folder.is_dir() && entries(folder).is_ok_and(|paths| paths.iter().any(|path| is_model(path)))
}

/// Names that resemble `name`, the most similar first, at most three.
pub(crate) fn most_similar<S: AsRef<str>>(name: &str, mut names: Vec<S>) -> Vec<S> {
    names.sort_by_cached_key(|other| Reverse(resemblance(name, other.as_ref())));
    names.truncate(3);
    names
}

/// The length of the common prefix and suffix of two names, in bytes.
fn resemblance(a: &str, b: &str) -> usize {
    let same = |(x, y): &(u8, u8)| x == y;
    let start = a.bytes().zip(b.bytes()).take_while(same).count();
    let end = a.bytes().rev().zip(b.bytes().rev()).take_while(same).count();
    start + end
}
