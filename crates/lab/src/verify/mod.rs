//! Whether a file is what it says: its receipt, its weights, and what it was made of.
//!
//! With a receipt, every byte of a GGUF file is covered: each key and each tensor has a hash, the rest of the header is what it would be if it
//! were written again, and padding is zero. Without one, weights and tokenizer are checked for what cannot be right in any file.

mod again;
mod rows;

pub use again::{Source, rederive};
pub use trine_tensor::receipt::Flaw;

use crate::quantize::Error;
use crate::receipt::{PublicKey, ReceiptSummary};
use rows::TensorCheck;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use trine_model::{Language, QuantMethod, Spec, Unpacker};
use trine_tensor::receipt::{Seal, Sha256, check_layout};
use trine_tensor::{File, FileFormat, Receipt, View};

/// What was found of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verification {
    pub receipt: Option<ReceiptSummary>,
    pub tensors: usize,
    /// Of all tensors.
    pub bytes: u64,
    /// What is not as it should be.
    pub failures: Vec<Flaw>,
    /// What a file may have, but is seldom meant.
    pub warnings: Vec<Flaw>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

impl Verification {
    pub fn fail(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.failures.push(Flaw { place: place.into(), problem: problem.into() });
    }
}

/// Bytes after which pages of a mapped file are given back.
const RELEASE: u64 = 64 << 20;
/// How often progress is told.
const PATIENCE: Duration = Duration::from_millis(50);

/// Checks a file. With a key, its receipt must be signed by that. `progress` gets how many bytes of tensors are done, and may break off; then
/// there is no result.
pub fn verify(
    file: &File,
    key: Option<&PublicKey>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Option<Verification> {
    let mut found = Verification {
        tensors: file.tensors().len(),
        bytes: file.tensors().map(|view| view.bytes.len() as u64).sum(),
        ..Verification::default()
    };
    let hashes = receipt(file, key, &mut found);
    model(file, &mut found);
    tensors(file, &hashes, &mut found, progress)?;
    Some(found)
}

/// Checks the receipt, and gives the hashes of tensors.
fn receipt(file: &File, key: Option<&PublicKey>, found: &mut Verification) -> BTreeMap<String, Sha256> {
    let metadata = file.metadata();
    let read = Receipt::of(metadata).and_then(|receipt| match receipt {
        Some(receipt) => Ok(Some((receipt, Seal::of(metadata)?, check_layout(file)?))),
        None => Ok(None),
    });
    match read {
        Err(error) => {
            found.fail("the receipt", error.cause().to_string());
            BTreeMap::new()
        }
        Ok(None) => {
            let why = match file.format() {
                FileFormat::Gguf { .. } => "the file has no receipt",
                FileFormat::Safetensors => "safetensors have no receipts",
            };
            found.unchecked.push(format!("hashes of tensors and keys, and where they are from: {why}"));
            if key.is_some() {
                found.fail("the signature", format!("there is none: {why}"));
            }
            BTreeMap::new()
        }
        Ok(Some((receipt, seal, flaws))) => {
            found.failures.extend(flaws);
            match (&seal.signature, key) {
                (None, Some(_)) => found.fail("the signature", "the receipt is not signed"),
                (None, None) => {}
                (Some(signature), _) if !PublicKey(signature.public_key).verifies(&seal.sha256, signature) => {
                    found.fail("the signature", "is not that of this receipt")
                }
                (Some(signature), Some(key)) if signature.public_key != key.0 => {
                    let by = PublicKey(signature.public_key);
                    found.fail("the signature", format!("expected one by {key}, found one by {by}"));
                }
                (Some(signature), None) => {
                    let by = PublicKey(signature.public_key);
                    found
                        .unchecked
                        .push(format!("whether {by}, who signed the receipt, is who you think: --public-key"));
                }
                (Some(_), Some(_)) => {}
            }
            if file.files().len() > 1 {
                found.unchecked.push("padding and headers: the model is in several files".to_owned());
            }
            found.receipt = ReceiptSummary::of(metadata).ok().flatten();
            receipt.tensors.into_iter().map(|tensor| (tensor.info.name, tensor.sha256)).collect()
        }
    }
}

/// Checks that the file says what model it is, and that its tokenizer can be read.
fn model(file: &File, found: &mut Verification) {
    let spec = Spec::of(file);
    match &spec {
        Ok(_) => {}
        Err(error @ (trine_model::Error::UnknownArch { .. } | trine_model::Error::NoConfig { .. })) => {
            found.unchecked.push(format!("the configuration of the model: {error}"));
        }
        Err(error) => found.fail("the configuration", error.to_string()),
    }
    match Language::of(file) {
        Ok(language) => {
            if let Some(Err(error)) = spec.ok().map(|spec| language.check(&spec)) {
                found.fail("the tokenizer", error.to_string());
            }
        }
        Err(trine_model::Error::NoTokenizer { .. }) => found.unchecked.push("the tokenizer: there is none".to_owned()),
        Err(error) => found.fail("the tokenizer", error.to_string()),
    }
}

/// Checks all tensors on all cores.
fn tensors(
    file: &File,
    hashes: &BTreeMap<String, Sha256>,
    found: &mut Verification,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Option<()> {
    let method = Spec::of(file).map_or(QuantMethod::None, |spec| spec.quant_method.clone());
    let views: Vec<&View> = file.tensors().collect();
    let (next, done, stop) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (sender, checks) = channel();
    let mut all: Vec<Option<TensorCheck>> = views.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(views.len()) {
            let (sender, views, next, done, stop) = (sender.clone(), &views, &next, &done, &stop);
            let method = method.clone();
            scope.spawn(move || {
                let unpack = &Unpacker::new(file, method);
                while let Some(view) = views.get(next.fetch_add(1, Relaxed)) {
                    let check = rows::check(view, hashes.get(&view.name), unpack, &mut |bytes| {
                        done.fetch_add(bytes, Relaxed);
                        !stop.load(Relaxed)
                    });
                    let Some(check) = check else { return };
                    // Whoever broke off does not wait for it.
                    let _ = sender.send((view.name.clone(), check));
                }
            });
        }
        drop(sender);
        let mut released = 0;
        loop {
            match checks.recv_timeout(PATIENCE) {
                Ok((name, check)) => {
                    let index = views.iter().position(|view| view.name == name).expect("one of the tensors");
                    all[index] = Some(check);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Some(()),
            }
            let done = done.load(Relaxed);
            if done > released + RELEASE {
                file.release();
                released = done;
            }
            if progress(done).is_break() {
                stop.store(true, Relaxed);
                return None;
            }
        }
    })?;
    for (view, check) in views.iter().zip(all) {
        check.into_iter().for_each(|check| check.report(&view.name, found));
    }
    Some(())
}

/// As errors of what a source is made into.
pub type Result<T> = std::result::Result<T, Error>;
