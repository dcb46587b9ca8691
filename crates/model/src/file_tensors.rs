//! The tensors of a file by the names they have there.

use crate::config::is_multimodal;
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::HashSet;
use trine_tensor::{File, View};

/// Prefixes that some folders of an architecture have and others lack.
const PREFIXES: [&str; 6] =
    ["model.", "transformer.", "gpt_neox.", "bert.", "language_model.", "model.language_model."];

/// Prefixes of the parts of multimodal models that are not for text, with or without `model.` before them.
const OTHER_PARTS: [&str; 2] = ["vision_tower.", "multi_modal_projector."];

/// Tables that follow from the configuration, which early releases of transformers stored.
const TABLES: [&str; 6] = [
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    "embeddings.position_ids",
];

/// Whether a tensor is a weight of the text model: neither a table that follows from the configuration nor part of a vision tower.
pub fn is_weight(file: &File, name: &str) -> bool {
    let part = name.strip_prefix("model.").unwrap_or(name);
    let other = || is_multimodal(file) && OTHER_PARTS.iter().any(|other| part.starts_with(other));
    !(name.starts_with("rope_f") || TABLES.iter().any(|end| name.ends_with(end)) || other())
}

/// Whether a tensor is the output head, or its bias.
pub fn is_head(name: &str) -> bool {
    let heads = ["output.weight", "output.bias", "lm_head.weight", "lm_head.bias", "embed_out.weight"];
    heads.contains(&name) || name.ends_with(".lm_head.weight")
}

/// Ends of names that transformers renames when it loads a file, and what they may be there: as in files converted from TensorFlow, and its
/// own name of the head of GPT-NeoX.
const OTHER_NAMES: [(&str, &str); 3] = [
    ("LayerNorm.weight", "LayerNorm.gamma"),
    ("LayerNorm.bias", "LayerNorm.beta"),
    ("embed_out.weight", "lm_head.weight"),
];

/// The name of a tensor in this file, which may lack a usual prefix or have another, and be one of `OTHER_NAMES`.
pub(crate) fn find(file: &File, name: &str) -> Option<String> {
    prefixed(file, name).or_else(|| prefixed(file, &other_name(name)?))
}

/// What a tensor may be called instead.
fn other_name(name: &str) -> Option<String> {
    OTHER_NAMES.iter().find_map(|(ours, other)| Some(format!("{}{other}", name.strip_suffix(ours)?)))
}

/// The error of a tensor that is missing, with all names that were looked for.
pub(crate) fn missing(error: Error) -> Error {
    use trine_tensor::Error as FileError;
    let Error::File(FileError::In { path, source }) = error else { return error };
    let source = match *source {
        FileError::NoTensor { tensor, hint } => {
            let other = other_name(&tensor).map(|other| format!("it may also be called {other:?}; "));
            FileError::NoTensor { tensor, hint: other.unwrap_or_default() + &hint }
        }
        other => other,
    };
    FileError::In { path, source: source.into() }.into()
}

fn prefixed(file: &File, name: &str) -> Option<String> {
    let shorter = || std::iter::once(name).chain(PREFIXES.iter().filter_map(|prefix| name.strip_prefix(prefix)));
    let longer = shorter().flat_map(|name| PREFIXES.iter().map(move |prefix| format!("{prefix}{name}")));
    shorter().map(str::to_owned).chain(longer).find(|name| file.contains(name))
}

/// The tensors of a file; records which were read.
pub(crate) struct FileTensors<'a> {
    pub file: &'a File,
    read: RefCell<HashSet<String>>,
}

impl<'a> FileTensors<'a> {
    pub fn of(file: &'a File) -> FileTensors<'a> {
        FileTensors { file, read: RefCell::default() }
    }

    /// Whether there is a tensor of exactly this name.
    pub fn contains(&self, name: &str) -> bool {
        self.file.contains(name)
    }

    /// The tensor of exactly this name, as stored.
    ///
    /// # Errors
    /// When it is missing.
    pub fn view(&self, name: &str) -> Result<View> {
        let view = self.file.view(name)?;
        self.read.borrow_mut().insert(view.name.clone());
        Ok(view)
    }

    /// Counts all tensors as read whose names begin so.
    pub fn mark_like(&self, prefix: &str) {
        self.read.borrow_mut().extend(self.file.names().filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }

    /// The tensors that were not read.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        let read = self.read.borrow();
        self.file.names().filter(move |name| !read.contains(*name))
    }
}
