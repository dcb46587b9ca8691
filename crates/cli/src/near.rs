//! Names that are like one that is not there.

use std::path::{Path, PathBuf};
use trine::EMBEDDED;

/// How like a name must be to be meant, of 1.
const LIKE: f64 = 0.6;
/// Models that an error names.
const SHOWN: usize = 3;
/// Entries of a folder that are looked at.
const ENTRIES: usize = 10_000;

/// The name that is most like this one, if one is like it.
pub fn best<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.into_iter().map(|other| (likeness(name, other), other));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= LIKE).map(|(_, other)| other)
}

/// From 0 to 1. Only letters and digits count, and part of a name is like the whole.
fn likeness(name: &str, other: &str) -> f64 {
    let plain = |text: &str| text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let (name, other) = (plain(name), plain(other));
    let distance = strsim::normalized_damerau_levenshtein(&name, &other);
    if name.chars().count() > 2 && other.contains(&name) { distance.max(0.8) } else { distance }
}

/// The models whose names are most like that of a path: those in its folder, those that other programs downloaded, and the built-in one.
pub fn models(path: &Path) -> Vec<PathBuf> {
    let name = stem(path);
    let mut found = models_in(path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")));
    found.extend(downloaded());
    found.push(EMBEDDED.into());
    // One slip is much of a short name.
    let rate = |other: &str| match strsim::damerau_levenshtein(&name, other) {
        0 | 1 => likeness(&name, other).max(LIKE),
        _ => likeness(&name, other),
    };
    let mut rated: Vec<(f64, PathBuf)> = found
        .into_iter()
        .map(|path| (rate(&repository(&path).unwrap_or_else(|| stem(&path))), path))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rated.truncate(SHOWN);
    rated.into_iter().map(|(_, path)| path).collect()
}

/// The first models in a folder.
pub fn inside(folder: &Path) -> Vec<PathBuf> {
    let mut found = models_in(folder);
    found.sort();
    found.truncate(SHOWN);
    found
}

/// The name of a file without what says, mistyped or not, that it is a model.
fn stem(path: &Path) -> String {
    let end = path.extension().unwrap_or_default().to_string_lossy();
    let is_ending =
        best(&end, ENDINGS).is_some() || !end.is_empty() && ENDINGS.iter().any(|known| known.starts_with(&*end));
    let name = if is_ending { path.file_stem() } else { path.file_name() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Extensions of models.
const ENDINGS: [&str; 2] = ["gguf", "safetensors"];

fn is_model_file(path: &Path) -> bool {
    path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().take(ENTRIES).filter_map(|entry| Some(entry.ok()?.path()))
}

/// Model files in a folder, and folders with one.
fn models_in(folder: &Path) -> Vec<PathBuf> {
    let holds_model = |path: &Path| path.is_dir() && entries(path).any(|path| is_model_file(&path));
    let found = entries(folder).filter(|path| is_model_file(path) || holds_model(path));
    found.map(|path| path.strip_prefix("./").map(Path::to_owned).unwrap_or(path)).collect()
}

/// Models in the caches of Hugging Face and llama.cpp.
fn downloaded() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = |name: &str| Some(dirs::home_dir()?.join(".cache").join(name));
    let hub = crate::hub::cache().map(|cache| cache.root().to_owned()).unwrap_or_default();
    let snapshots = entries(&hub).filter_map(|model| entries(&model.join("snapshots")).max());
    let llama = variable("LLAMA_CACHE").or_else(|| cache("llama.cpp")).unwrap_or_default();
    snapshots.chain(entries(&llama).filter(|path| is_model_file(path))).collect()
}

/// The name of the model of a snapshot: `hub/models--meta-llama--Llama-3.2-1B/snapshots/4e20de3` is one of `Llama-3.2-1B`.
pub fn repository(path: &Path) -> Option<String> {
    let name = path.parent().filter(|parent| parent.ends_with("snapshots"))?.parent()?.file_name()?.to_str()?;
    name.strip_prefix("models--").map(|name| name.rsplit("--").next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_names_are_found() {
        let commands = ["run", "tokenize", "train", "info"];
        for (name, expected) in [
            ("rnu", Some("run")),
            ("tokenise", Some("tokenize")),
            ("tok", Some("tokenize")),
            ("RUN", Some("run")),
            ("frobnicate", None),
            ("x", None),
        ] {
            assert_eq!(best(name, commands), expected, "{name}");
        }
    }

    #[test]
    fn models_in_a_folder_are_found_by_a_mistyped_or_foreign_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["Llama-3.2-1B-Instruct-Q4_K_M.gguf", "qwen3/model.safetensors", "notes/llama3.txt", "mistral.gguf"]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let near = |name: &str| {
            let found = models(&folder.path().join(name)).into_iter();
            found.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(near("llama3"), ["Llama-3.2-1B-Instruct-Q4_K_M.gguf"]);
        assert_eq!(near("mistrla.gguf"), ["mistral.gguf"]);
        assert_eq!(near("mistral.ggf"), ["mistral.gguf"]);
        assert_eq!(near("qwen"), ["qwen3"]);
        std::fs::write(folder.path().join("m1.gguf"), "").unwrap();
        assert_eq!(near("m3.gguf"), ["m1.gguf"]);
        assert_eq!(near("m1.gg"), ["m1.gguf"]);
        assert_eq!(near("m1.g"), ["m1.gguf"]);
        assert_eq!(near("embeded:storys"), [EMBEDDED]);
        assert_eq!(near("gpt"), [""; 0]);
        assert_eq!(inside(folder.path()).len(), SHOWN);
    }

    #[test]
    fn snapshots_have_the_names_of_their_repositories() {
        let path = Path::new("hub/models--meta-llama--Llama-3.2-1B/snapshots/4e20de3");
        assert_eq!(repository(path).as_deref(), Some("Llama-3.2-1B"));
        assert_eq!(repository(Path::new("model.gguf")), None);
    }
}
