//! What tells apart models that answer differently, though their weights are the same.

use crate::templates;
use crate::vocab::beside;
use crate::{Result, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG, keys::generation::GENERATION_CONFIG, open_file};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use trine_tensor::{File, FileFormat, OpenOptions, module_folder, read_optional};

/// Files beside a tokenizer that say how texts are read and written.
const FILES: [&str; 12] = [
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    TOKENIZER_CONFIG.file,
    SPECIAL_TOKENS_MAP.file,
    "added_tokens.json",
    GENERATION_CONFIG.file,
    templates::DEFAULT,
    templates::PROCESSOR[0],
    templates::PROCESSOR[1],
];
/// Larger than any of them.
const MAX_FILE: u64 = 256 << 20;

/// A SHA-256 of what the answers and embeddings of a model depend on: [`File::content_fingerprint`], the tokenizer, the chat templates, the
/// settings for generation, and the modules of sentence-transformers. `tokenizer` is one that the model gets instead of its own.
///
/// # Errors
/// When a file cannot be read.
pub fn answer_fingerprint(file: &File, tokenizer: Option<&Path>) -> Result<[u8; 32]> {
    let mut parts = Parts(Sha256::new());
    parts.add("", &file.content_fingerprint());
    parts.vocabulary(file);
    if file.format() == FileFormat::Safetensors {
        let folder = file.files()[0].parent().unwrap_or(Path::new(""));
        parts.folder(folder)?;
        let modules = if file.path().is_dir() { file.path() } else { folder };
        parts.modules(modules)?;
        // A GGUF file that has the tokenizer.
        if let Ok(path) = beside(file) {
            parts.tokenizer(&path)?;
        }
    }
    if let Some(path) = tokenizer {
        parts.folder(if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) })?;
        parts.tokenizer(path)?;
    }
    Ok(parts.0.finalize().into())
}

struct Parts(Sha256);

impl Parts {
    fn add(&mut self, name: &str, part: &[u8]) {
        for piece in [name.as_bytes(), part] {
            self.0.update((piece.len() as u64).to_le_bytes());
            self.0.update(piece);
        }
    }

    /// A file, which need not be there.
    fn file(&mut self, name: &str, path: &Path) -> Result<Option<Vec<u8>>> {
        let bytes = read_optional(path, MAX_FILE)?;
        bytes.iter().for_each(|bytes| self.add(name, bytes));
        Ok(bytes)
    }

    /// The keys of a vocabulary in GGUF.
    fn vocabulary(&mut self, file: &File) {
        for (key, value) in file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
            self.add(key, format!("{value:?}").as_bytes());
        }
    }

    /// A tokenizer by its path.
    fn tokenizer(&mut self, path: &Path) -> Result<()> {
        match open_file(path, &OpenOptions::default()) {
            Ok(file) => self.vocabulary(&file),
            Err(_) if path.is_file() => drop(self.file("tokenizer", path)?),
            Err(_) => {}
        }
        Ok(())
    }

    fn folder(&mut self, folder: &Path) -> Result<()> {
        for name in FILES {
            self.file(name, &folder.join(name))?;
        }
        for (name, path) in templates::others(&folder.join(templates::OTHERS))? {
            self.file(&name, &folder.join(path))?;
        }
        Ok(())
    }

    /// The modules of sentence-transformers, in folders that `modules.json` names.
    fn modules(&mut self, folder: &Path) -> Result<()> {
        let Some(list) = self.file("modules.json", &folder.join("modules.json"))? else { return Ok(()) };
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap_or_default();
        let paths = list.as_array().into_iter().flatten().filter_map(|module| module["path"].as_str());
        let folders = paths.map(|path| Ok(module_folder(folder, path)?)).collect::<Result<Vec<PathBuf>>>()?;
        for folder in folders {
            self.file("config.json", &folder.join("config.json"))?;
            for name in crate::sentence_transformers::CONFIGS.map(|name| format!("sentence_{name}_config.json")) {
                self.file(&name, &folder.join(&name))?;
            }
            if let Ok(file) = open_file(folder.join("model.safetensors"), &OpenOptions::default()) {
                self.add("weights", &file.content_fingerprint());
            }
        }
        self.file("config_sentence_transformers.json", &folder.join("config_sentence_transformers.json")).map(drop)
    }
}
