//! Where the chat templates of a model are: in the small files of a folder, and in the keys of GGUF.

use crate::vocab::read_beside;
use crate::{Error, Result};
use std::io::ErrorKind;
use std::path::Path;
use trine_tensor::{Metadata, Strings};
use trine_text::Templates;

/// Where transformers saves the default apart from `tokenizer_config.json`, and in which folder others, which may replace it.
pub(crate) const DEFAULT: &str = "chat_template.jinja";
pub(crate) const OTHERS: &str = "additional_chat_templates";
const MAX_OTHERS: usize = 64;

/// Where models that also see or hear have templates, in the order of `AutoProcessor`.
pub(crate) const PROCESSOR: [&str; 2] = ["processor_config.json", "chat_template.json"];

/// The templates of a folder that are not in `tokenizer_config.json`.
pub(crate) struct FolderTemplates {
    /// In files of their own, which precede those of the configuration.
    files: Templates,
    /// Of the processor, for models whose tokenizer has none.
    processor: Templates,
}

impl FolderTemplates {
    /// Those beside the tokenizer at `path`.
    ///
    /// # Errors
    /// When a file cannot be read, or there are too many.
    pub fn read(path: &Path, warnings: &mut Vec<String>) -> Result<FolderTemplates> {
        let (mut files, mut processor) = (Templates::default(), Templates::default());
        let mut names = vec![("default".to_owned(), DEFAULT.to_owned())];
        names.extend(others(&path.with_file_name(OTHERS))?);
        for (name, file) in names {
            if let Some(source) = read_beside(path, &file)? {
                match String::from_utf8(source) {
                    Ok(source) => files.insert(name, source),
                    Err(error) => {
                        let (path, at) = (path.with_file_name(&file), error.utf8_error().valid_up_to());
                        let problem = "expected UTF-8 text, found an invalid byte at position";
                        files.insert_unreadable(name, format!("{}: {problem} {at}", path.display()));
                    }
                }
            }
        }
        for file in PROCESSOR {
            let Some(bytes) = read_beside(path, file)? else { continue };
            let parsed = serde_json::from_slice::<serde_json::Value>(&bytes).map_err(|error| error.to_string());
            match parsed.and_then(|json| Templates::from_json(&json["chat_template"])) {
                Ok(found) => processor = processor.or(&found),
                Err(problem) => warnings.push(format!("{file}: {problem}: its chat template is not used")),
            }
        }
        Ok(FolderTemplates { files, processor })
    }

    /// All templates of the folder, with those of `tokenizer_config.json`.
    pub fn with(self, config: &Templates) -> Templates {
        self.files.or(config).or(&self.processor)
    }
}

/// The names and files of the templates in a folder, which need not be there.
pub(crate) fn others(folder: &Path) -> Result<Vec<(String, String)>> {
    let located = |error: std::io::Error| Error::from(trine_tensor::Error::from(error)).at(folder);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(located)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(located)?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".jinja")) {
            found.push((name.to_owned(), format!("{OTHERS}/{name}.jinja")));
        }
        if found.len() > MAX_OTHERS {
            return Err(Error::bad(OTHERS, format!("at most {MAX_OTHERS} templates"), "more"));
        }
    }
    found.sort();
    Ok(found)
}

const KEY: &str = "tokenizer.chat_template";
/// The names of those that are not the default.
const NAMES: &str = "tokenizer.chat_templates";

/// The templates in the keys of a GGUF file. Where there is no default, `tool_use` is for all chats, as in llama.cpp.
pub(crate) fn of_metadata(metadata: &Metadata) -> Result<Templates> {
    let mut found = Templates::default();
    for (key, _) in metadata.iter() {
        if let Some(name) = key.strip_prefix(KEY).and_then(|key| key.strip_prefix('.'))
            && let Some(source) = metadata.str(key)?
        {
            found.insert(name, source);
        }
    }
    let tool_use = found.get("tool_use").map(str::to_owned);
    if let Some(default) = metadata.str(KEY)?.map(str::to_owned).or(tool_use) {
        found.insert("default", default);
    }
    Ok(found)
}

/// Writes templates to the keys of a GGUF file, as llama.cpp's converter does.
///
/// # Errors
/// When one cannot be read, or two get the same name, which has only letters and digits there.
pub(crate) fn insert(metadata: &mut Metadata, templates: &Templates) -> Result<()> {
    let mut names: Vec<String> = Vec::new();
    for name in templates.names() {
        let source = templates.source(name).map_err(trine_text::Error::Template)?;
        if name == "default" {
            metadata.insert(KEY, source);
            continue;
        }
        let plain = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        if names.contains(&plain) {
            return Err(Error::bad("chat_template", "names that differ in letters and digits", name));
        }
        metadata.insert(format!("{KEY}.{plain}"), source);
        names.push(plain);
    }
    if !names.is_empty() {
        metadata.insert(NAMES, Strings::from_iter(names));
    }
    Ok(())
}
