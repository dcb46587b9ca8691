//! Making a file again, to see whether it is what its receipt says.

use super::{Result, Verification};
use crate::imatrix::Imatrix;
use crate::quantize::{Recipe, plan, rehearse};
use crate::receipt::{Provenance, hash_together, tool};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use trine_model::GgufModel;
use trine_tensor::receipt::{SourceFile, without_receipt};
use trine_tensor::{File, Receipt};

/// What a file was made of.
pub struct Source<'a> {
    pub file: &'a File,
    /// The importance matrix of the recipe, if it has one.
    pub imatrix: Option<&'a Path>,
    /// The tokenizer, if the recipe has one of its own.
    pub tokenizer: Option<&'a Path>,
}

/// Makes `file` again from its source, by the recipe of its receipt, and compares all keys and tensors; nothing is written. `progress` gets how
/// many bytes of the source's tensors are done, of how many, and may break off.
///
/// # Errors
/// When the source cannot be read, or the recipe cannot be followed.
pub fn rederive(
    file: &File,
    source: &Source,
    found: &mut Verification,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let Ok(Some(receipt)) = Receipt::of(file.metadata()) else {
        found.fail("the receipt", "there is none that says how the file was made");
        return Ok(());
    };
    let imatrix = source.imatrix.map(Imatrix::read).transpose()?.map(Arc::new);
    let recipe = Recipe::of_json(&receipt.recipe, imatrix)?;
    let model = GgufModel::open(source.file, source.tokenizer)?;
    let plan = plan(&model, &recipe)?;
    let provenance = Provenance { recipe: &recipe, imatrix: source.imatrix, tokenizer: source.tokenizer, sign: None };
    let (files, total) = (provenance.files(&model), plan.bytes_before());
    let progress = RefCell::new(progress);
    let tell = |bytes: u64| (progress.borrow_mut())(bytes, total);
    let work = || rehearse(&model, &plan, &mut { tell });
    let wait = |tensors| match tell(total) {
        ControlFlow::Continue(()) => Ok(tensors),
        ControlFlow::Break(()) => Err(crate::quantize::Error::Cancelled),
    };
    let (tensors, sources) = hash_together(&files, work, wait)?;
    let before = found.failures.len();
    compare_sources(&receipt, &sources, found);
    let (own, made) = (without_receipt(file.metadata()), &plan.metadata);
    for (key, value) in own.iter().filter(|(key, value)| made.get(key) != Some(value)) {
        let what = if made.get(key).is_some() { "another value" } else { "no such key" };
        let _ = value;
        found.fail(format!("key {key:?}"), format!("made again, the file has {what}"));
    }
    for (key, _) in made.iter().filter(|(key, _)| own.get(key).is_none()) {
        found.fail(format!("key {key:?}"), "made again, the file has this key, too");
    }
    for tensor in &tensors {
        let place = || format!("tensor {:?}", tensor.info.name);
        match receipt.tensors.iter().find(|other| other.info.name == tensor.info.name) {
            None => found.fail(place(), "made again, the file has this tensor, too"),
            Some(other) if other != tensor => {
                found.fail(
                    place(),
                    format!("made again, its SHA-256 is {}, in the receipt {}", tensor.sha256, other.sha256),
                );
            }
            Some(_) => {}
        }
    }
    let lost = receipt.tensors.iter().filter(|other| !tensors.iter().any(|tensor| tensor.info.name == other.info.name));
    lost.for_each(|other| {
        found.fail(format!("tensor {:?}", other.info.name), "made again, the file has no such tensor")
    });
    if found.failures.len() > before && receipt.tool != tool() {
        found.unchecked.push(format!("whether {} made it so: this is {}", receipt.tool, tool()));
    }
    Ok(())
}

/// Whether the files are those of the receipt, under any name.
fn compare_sources(receipt: &Receipt, files: &[SourceFile], found: &mut Verification) {
    for expected in &receipt.sources {
        if files.iter().any(|file| file.sha256 == expected.sha256) {
            continue;
        }
        let SourceFile { name, sha256 } = expected;
        // One that is nothing else of the receipt was passed for it.
        let is_other = |file: &&SourceFile| receipt.sources.iter().any(|other| other.sha256 == file.sha256);
        let unknown: Vec<&SourceFile> = files.iter().filter(|file| !is_other(file)).collect();
        let only = unknown.first().copied().filter(|_| unknown.len() == 1);
        match files.iter().find(|file| file.name == *name).or(only) {
            Some(file) => {
                let own = if file.name == *name { String::new() } else { format!(" for {name:?}") };
                found.fail(
                    format!("source file {:?}{own}", file.name),
                    format!("its SHA-256 is {}, in the receipt {sha256}", file.sha256),
                );
            }
            None => found.fail(format!("source file {name:?}"), "is not there"),
        }
    }
}
