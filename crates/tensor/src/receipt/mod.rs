//! Receipts: what a GGUF file was made of, and hashes by which every change of it is found.
//!
//! A receipt is the keys `trine.receipt.*` of a file. [`Receipt`] is what they state, [`Seal`] what proves it: `trine.receipt.keys` has the
//! hash of every key, also of those of the receipt, and `trine.receipt.sha256` is the hash of that list, which a signature signs. One of them
//! is `trine.receipt.tensors`, with the hashes of all tensors.

mod layout;
mod sha;
mod update;

pub use layout::{Flaw, check_layout};
pub use sha::Sha256;
pub use update::update_receipt;

use crate::error::in_key;
use crate::gguf::value_bytes;
use crate::{Array, Error, Format, Metadata, Result, Strings, TensorInfo, Value, format};

/// What all keys of a receipt begin with.
pub const RECEIPT: &str = "trine.receipt.";
/// The version of the keys.
const VERSION: u32 = 1;

const TOOL: &str = "trine.receipt.tool";
const SOURCES: &str = "trine.receipt.sources";
const SOURCE_RECEIPT: &str = "trine.receipt.source_receipt";
const RECIPE: &str = "trine.receipt.recipe";
const MEASUREMENTS: &str = "trine.receipt.measurements";
const TENSORS: &str = "trine.receipt.tensors";
const TOKENIZER: &str = "trine.receipt.tokenizer";
const CHAT_TEMPLATE: &str = "trine.receipt.chat_template";
const FORMAT_VERSION: &str = "trine.receipt.version";
const KEYS: &str = "trine.receipt.keys";
const ROOT: &str = "trine.receipt.sha256";
const PUBLIC_KEY: &str = "trine.receipt.public_key";
const SIGNATURE: &str = "trine.receipt.signature";
/// Keys that are made of the hashes of the others.
const SEALS: [&str; 4] = [KEYS, ROOT, PUBLIC_KEY, SIGNATURE];

/// What a receipt states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// The program that wrote the file, and its version.
    pub tool: String,
    /// The files that it was made of.
    pub sources: Vec<SourceFile>,
    /// The hash of the receipt of the source, if it had one.
    pub source_receipt: Option<Sha256>,
    /// How it was made, as JSON.
    pub recipe: String,
    /// What was measured of it, each as JSON.
    pub measurements: Vec<String>,
    /// In the order of the file.
    pub tensors: Vec<SealedTensor>,
}

/// A file of the source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceFile {
    /// Without folders.
    pub name: String,
    pub sha256: Sha256,
}

/// A tensor, and the hash of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedTensor {
    pub info: TensorInfo,
    pub sha256: Sha256,
}

/// What proves a receipt.
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// All keys of the file but those of the seal, each with the hash of its type and value as GGUF has them.
    pub keys: Vec<(String, Sha256)>,
    /// The hash of the lines of `keys`.
    pub sha256: Sha256,
    pub signature: Option<Signature>,
}

/// An ed25519 signature of [`Seal::sha256`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub public_key: [u8; 32],
    pub bytes: [u8; 64],
}

/// Signs the hash of a receipt.
pub type Sign = dyn Fn(&Sha256) -> Signature + Send + Sync;

impl Receipt {
    /// Reads the receipt of a file, if it has one.
    ///
    /// # Errors
    /// When a key is missing or cannot be read.
    pub fn of(metadata: &Metadata) -> Result<Option<Receipt>> {
        let Some(version) = metadata.u32(FORMAT_VERSION)? else {
            return match metadata.iter().find(|(key, _)| key.starts_with(RECEIPT)) {
                Some(_) => Err(missing(FORMAT_VERSION)),
                None => Ok(None),
            };
        };
        if version != VERSION {
            return Err(Error::unsupported(in_key(FORMAT_VERSION), VERSION, version));
        }
        let text = |key| metadata.str(key)?.map(str::to_owned).ok_or_else(|| missing(key));
        let lines = |key| metadata.strs(key)?.ok_or_else(|| missing(key));
        let source = |line: &str| {
            let (sha256, name) = named(line)?;
            Some(SourceFile { name: name.to_owned(), sha256 })
        };
        let source_receipt = match metadata.str(SOURCE_RECEIPT)? {
            Some(hash) => Some(Sha256::parse(hash).ok_or_else(|| unreadable(SOURCE_RECEIPT, hash))?),
            None => None,
        };
        Ok(Some(Receipt {
            tool: text(TOOL)?,
            sources: parsed(SOURCES, lines(SOURCES)?, source)?,
            source_receipt,
            recipe: text(RECIPE)?,
            measurements: metadata
                .strs(MEASUREMENTS)?
                .map_or(Vec::new(), |all| all.iter().map(str::to_owned).collect()),
            tensors: parsed(TENSORS, lines(TENSORS)?, SealedTensor::parse)?,
        }))
    }

    /// The keys of a file with this receipt, in place of any that it had.
    pub(crate) fn seal(&self, metadata: &Metadata, sign: Option<&Sign>) -> Metadata {
        let mut sealed = without_receipt(metadata);
        let (tokenizer, chat_template) = fingerprints(&sealed);
        sealed.insert(FORMAT_VERSION, VERSION);
        sealed.insert(TOOL, self.tool.clone());
        sealed.insert(SOURCES, list(self.sources.iter().map(|file| format!("{}  {}", file.sha256, file.name))));
        if let Some(hash) = &self.source_receipt {
            sealed.insert(SOURCE_RECEIPT, hash.to_string());
        }
        sealed.insert(RECIPE, self.recipe.clone());
        if !self.measurements.is_empty() {
            sealed.insert(MEASUREMENTS, list(self.measurements.iter()));
        }
        sealed.insert(TENSORS, list(self.tensors.iter().map(SealedTensor::line)));
        for (key, hash) in [(TOKENIZER, tokenizer), (CHAT_TEMPLATE, chat_template)] {
            hash.into_iter().for_each(|hash| _ = sealed.insert(key, hash.to_string()));
        }
        let keys = hashes(&sealed);
        let sha256 = root(&keys);
        sealed.insert(KEYS, list(keys.iter().map(|(key, hash)| format!("{hash}  {key}"))));
        sealed.insert(ROOT, sha256.to_string());
        if let Some(sign) = sign {
            let Signature { public_key, bytes } = sign(&sha256);
            sealed.insert(PUBLIC_KEY, sha::hex(&public_key));
            sealed.insert(SIGNATURE, sha::hex(&bytes));
        }
        sealed
    }
}

impl Seal {
    /// Reads the seal of a file with a receipt.
    ///
    /// # Errors
    /// When a key is missing or cannot be read.
    pub fn of(metadata: &Metadata) -> Result<Seal> {
        let lines = metadata.strs(KEYS)?.ok_or_else(|| missing(KEYS))?;
        let keys = parsed(KEYS, lines, |line| named(line).map(|(hash, key)| (key.to_owned(), hash)))?;
        let hash = metadata.str(ROOT)?.ok_or_else(|| missing(ROOT))?;
        let sha256 = Sha256::parse(hash).ok_or_else(|| unreadable(ROOT, hash))?;
        let signature = match (metadata.str(PUBLIC_KEY)?, metadata.str(SIGNATURE)?) {
            (None, None) => None,
            (Some(public_key), Some(signature)) => Some(Signature {
                public_key: sha::unhex(public_key).ok_or_else(|| unreadable(PUBLIC_KEY, public_key))?,
                bytes: sha::unhex(signature).ok_or_else(|| unreadable(SIGNATURE, signature))?,
            }),
            (None, Some(_)) => return Err(missing(PUBLIC_KEY)),
            (Some(_), None) => return Err(missing(SIGNATURE)),
        };
        Ok(Seal { keys, sha256, signature })
    }

    /// What is not as the seal says, of the keys of a file: `metadata` has those that describe how tensors are stored, too.
    pub(crate) fn check(&self, metadata: &Metadata) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut flaw = |key: &str, problem: &str| flaws.push(Flaw { place: in_key(key), problem: problem.to_owned() });
        let found = hashes(metadata);
        for (key, hash) in &found {
            match self.keys.iter().find(|(other, _)| other == key) {
                None => flaw(key, "is not in the receipt"),
                Some((_, sealed)) if sealed != hash => flaw(key, "is not what it was when the receipt was made"),
                _ => {}
            }
        }
        let lost = self.keys.iter().filter(|(key, _)| !found.iter().any(|(other, _)| other == key));
        lost.for_each(|(key, _)| flaw(key, "is in the receipt, and not in the file"));
        if root(&self.keys) != self.sha256 {
            flaw(ROOT, &format!("is not the hash of {KEYS}: one of both was changed"));
        }
        let fingerprints: (Option<Sha256>, Option<Sha256>) = fingerprints(&without_receipt(metadata));
        for (key, hash, of) in
            [(TOKENIZER, fingerprints.0, "tokenizer"), (CHAT_TEMPLATE, fingerprints.1, "chat template")]
        {
            if metadata.str(key).ok().flatten().map(str::to_owned) != hash.map(|hash| hash.to_string()) {
                flaw(key, &format!("is not the fingerprint of the file's {of}"));
            }
        }
        flaws
    }
}

impl SealedTensor {
    fn line(&self) -> String {
        let shape: Vec<String> = self.info.shape.iter().map(usize::to_string).collect();
        format!("{}  {} {} {}", self.sha256, self.info.name, self.info.format, shape.join("x"))
    }

    fn parse(line: &str) -> Option<SealedTensor> {
        let (sha256, rest) = named(line)?;
        let (rest, shape) = rest.rsplit_once(' ')?;
        let (name, format) = rest.rsplit_once(' ')?;
        let dimensions = shape.split('x').filter(|n| !n.is_empty());
        let shape = dimensions.map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let format: &'static Format = format::by_name(format)?;
        Some(SealedTensor { info: TensorInfo { name: name.to_owned(), format, shape }, sha256 })
    }
}

/// The keys of a file without its receipt.
pub fn without_receipt(metadata: &Metadata) -> Metadata {
    let mut rest = Metadata::new();
    for (key, value) in metadata.iter().filter(|(key, _)| !key.starts_with(RECEIPT)) {
        rest.insert(key, value.clone());
    }
    rest
}

/// The fingerprints of the tokenizer and of the chat templates, if there are any: the hashes of their lines in the list of keys, sorted.
fn fingerprints(metadata: &Metadata) -> (Option<Sha256>, Option<Sha256>) {
    let of = |is: fn(&str) -> bool| {
        let mut keys: Vec<_> = hashes(metadata).into_iter().filter(|(key, _)| is(key)).collect();
        keys.sort();
        (!keys.is_empty()).then(|| root(&keys))
    };
    let template = |key: &str| key.starts_with("tokenizer.chat_template");
    (of(|key| key.starts_with("tokenizer.") && !key.starts_with("tokenizer.chat_template")), of(template))
}

/// The hash of each key but those of the seal.
fn hashes(metadata: &Metadata) -> Vec<(String, Sha256)> {
    let keys = metadata.iter().filter(|(key, _)| !SEALS.contains(key));
    keys.map(|(key, value)| (key.to_owned(), Sha256::of(&value_bytes(value)))).collect()
}

/// The hash of lines, each of which ends with a newline.
fn root(keys: &[(String, Sha256)]) -> Sha256 {
    let lines: String = keys.iter().map(|(key, hash)| format!("{hash}  {key}\n")).collect();
    Sha256::of(lines.as_bytes())
}

fn list<S: AsRef<str>>(lines: impl Iterator<Item = S>) -> Value {
    Value::Array(Array::String(lines.collect::<Strings>()))
}

/// A line as `sha256sum` writes it.
fn named(line: &str) -> Option<(Sha256, &str)> {
    let (hash, name) = line.split_once("  ")?;
    Some((Sha256::parse(hash)?, name))
}

fn parsed<T>(key: &str, lines: &Strings, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    lines.iter().map(|line| parse(line).ok_or_else(|| unreadable(key, line))).collect()
}

fn missing(key: &str) -> Error {
    Error::malformed(in_key(key), "a value in every receipt", "none")
}

fn unreadable(key: &str, found: &str) -> Error {
    Error::malformed(in_key(key), "a SHA-256 and what it is of", format_args!("{found:?}"))
}
