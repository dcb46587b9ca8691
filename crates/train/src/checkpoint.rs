//! Checkpoints: all that a run needs to continue with the same bits. Master weights, optimizer states, and the state of the run as JSON.

use crate::data::hex;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trine_tensor::format::F32;
use trine_tensor::{File, Metadata, TensorInfo, gguf};

/// The metadata key of the state.
const STATE: &str = "trine.train.state";
/// The metadata key of the hash of all tensors.
const HASH: &str = "trine.train.sha256";

/// The path of a step's checkpoint in the output folder of a run.
pub fn path(folder: &Path, step: u64) -> PathBuf {
    folder.join("checkpoints").join(format!("step-{step:08}.gguf"))
}

/// The checkpoints in the output folder of a run, by step.
pub fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    steps(folder).into_iter().map(|step| path(folder, step)).collect()
}

/// The steps of all checkpoints in the output folder of a run, in ascending order.
pub fn steps(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
    let step = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("step-")?.strip_suffix(".gguf")?.parse().ok()
    };
    let mut steps: Vec<u64> = entries.filter_map(step).collect();
    steps.sort_unstable();
    steps
}

/// Writes a checkpoint atomically.
///
/// # Errors
/// When it cannot be written.
pub fn write<S: Serialize>(path: &Path, state: &S, tensors: &[(String, &[f32])]) -> Result<()> {
    let folder = path.parent().expect("checkpoints are in a folder");
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "checkpoint");
    metadata.insert(STATE, serde_json::to_string(state).expect("states are plain"));
    metadata.insert(HASH, hash(tensors.iter().map(|(name, values)| (&name[..], bytemuck::cast_slice(values)))));
    let entry =
        |(name, values): &(String, &[f32])| TensorInfo { name: name.clone(), format: &F32, shape: vec![values.len()] };
    let mut writer = gguf::create(path, &metadata, tensors.iter().map(entry).collect())?;
    for (_, values) in tensors {
        writer.tensor(bytemuck::cast_slice(values))?;
    }
    Ok(writer.finish()?)
}

/// The hash of all tensors, in the order of their names.
fn hash<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let tensors: BTreeMap<&str, &[u8]> = tensors.collect();
    hex(tensors.into_values().fold(Sha256::new(), Digest::chain_update))
}

/// An open checkpoint.
pub struct Checkpoint {
    file: File,
}

impl Checkpoint {
    /// # Errors
    /// When it cannot be read, or its tensors do not have the hash in its metadata.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let file = File::open(path)?;
        let (expected, found) =
            (file.metadata().str(HASH)?, hash(file.tensors().map(|view| (&view.name[..], &view.bytes[..]))));
        if expected != Some(&found) {
            let expected = expected.unwrap_or("a hash");
            let problem = format!("`{HASH}`: expected {expected}, found tensors whose hash is {found}");
            return Err(Error::Checkpoint { path: path.into(), problem, earlier: None });
        }
        Ok(Checkpoint { file })
    }

    /// # Errors
    /// When the state is missing or invalid.
    pub fn state<S: DeserializeOwned>(&self) -> Result<S> {
        let bad = |problem: String| Error::Checkpoint { path: self.file.path().into(), problem, earlier: None };
        let text = self.file.metadata().str(STATE)?;
        let text = text.ok_or_else(|| bad(format!("expected the key `{STATE}`, found none")))?;
        serde_json::from_str(text).map_err(|error| bad(format!("`{STATE}`: {error}")))
    }

    /// The `len` elements of a tensor.
    ///
    /// # Errors
    /// When there is no such tensor, or it has another length.
    pub fn tensor(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let values = self.file.view(name)?.decode();
        if values.len() != len {
            let problem = format!("tensor `{name}`: expected {len} elements, found {}", values.len());
            return Err(Error::Checkpoint { path: self.file.path().into(), problem, earlier: None });
        }
        Ok(values)
    }
}
