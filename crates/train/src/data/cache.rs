//! The token cache: a GGUF file of integers, which is written atomically and mapped.

use super::documents::Documents;
use super::tokenize::{Document, Encoded, Unspelled, tokenize};
use super::tokens::{self, Corpus, TokenizedDocuments};
use crate::config::DataConfig;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::Path;
use trine_tensor::format::{I8, I16, I32};
use trine_tensor::{Format, Metadata, TensorInfo, gguf};
use trine_text::Tokenizer;

/// Bytes per read.
const CHUNK: usize = 1 << 20;
/// The metadata key of the cache key. It has the version of the file layout.
const KEY: &str = "trine.tokens.4.key";
/// The metadata key of the hash of all tensors.
const HASH: &str = "trine.tokens.4.sha256";
/// The metadata keys of what the vocabulary cannot spell.
const UNSPELLED: [&str; 2] = ["trine.tokens.4.unspelled", "trine.tokens.4.unspelled_share"];

/// The cache key: a hash of all that the tokens depend on.
pub(super) fn key(
    data: &DataConfig,
    metadata: &Metadata,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<String> {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(KEY.as_bytes());
    field(tokenizer_hash(metadata).as_bytes());
    field(data.separator.as_bytes());
    field(data.field.as_bytes());
    field(&data.validation.to_le_bytes());
    let mut done = 0;
    let mut buffer = vec![0; CHUNK];
    for path in &data.files {
        let mut contents = Sha256::new();
        let mut file = File::open(path).map_err(Error::io(path))?;
        loop {
            let read = file.read(&mut buffer).map_err(Error::io(path))?;
            if read == 0 {
                break;
            }
            contents.update(&buffer[..read]);
            done += read as u64;
            progress(done)?;
        }
        field(&contents.finalize());
        field(path.extension().unwrap_or_default().as_encoded_bytes());
    }
    Ok(hex(hash))
}

/// A hash of the tokenizer in a model's metadata.
pub(crate) fn tokenizer_hash(metadata: &Metadata) -> String {
    let mut hash = Sha256::new();
    for (key, value) in metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.ggml.")) {
        for field in [key, &*format!("{value:?}")] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
    }
    hex(hash)
}

/// Reads a file with this key, whose ids must be below `vocab`.
pub(super) fn load(path: &Path, key: &str, vocab: usize) -> Result<Corpus> {
    let wrong = |place: &str, expected: &str, found: String| Error::Document {
        path: path.to_owned(),
        place: place.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let file = trine_tensor::File::open(path)?;
    let of = |name: &str, format: &Format| {
        let view = file.view(name)?;
        if view.format == format { Ok(view.bytes) } else { Err(wrong(name, format.name, view.format.to_string())) }
    };
    let wide = is_wide(vocab);
    let [ids, lengths] = [of("tokens", if wide { &I32 } else { &I16 })?, of("lengths", &I32)?];
    let [texts, sides] = [of("bytes", &I32)?, of("validation", &I8)?];
    let mut hash = Sha256::new();
    [&ids, &lengths, &texts, &sides].into_iter().for_each(|bytes| hash.update(bytes));
    for (name, expected) in [(KEY, key), (HASH, &hex(hash))] {
        let found = file.metadata().str(name)?.unwrap_or("none");
        if found != expected {
            return Err(wrong(name, expected, found.to_owned()));
        }
    }
    let count = ids.len() / if wide { 4 } else { 2 };
    if let Some(id) = tokens::ids(&ids, wide, 0, count).find(|&id| id as usize >= vocab) {
        return Err(wrong("tokens", &format!("ids below {vocab}"), id.to_string()));
    }
    let [mut train, mut validation] = [(); 2].map(|()| TokenizedDocuments::new(ids.clone(), wide));
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let mut start = 0;
    for ((length, text), side) in lengths.chunks_exact(4).zip(texts.chunks_exact(4)).zip(sides.iter()) {
        let document = Document { tokens: number(length), bytes: number(text), validation: *side != 0 };
        if document.validation { &mut validation } else { &mut train }.push(start, document);
        start += u64::from(document.tokens);
    }
    if start != count as u64 {
        return Err(wrong("lengths", &format!("{count} tokens in all"), start.to_string()));
    }
    let [characters, share] = UNSPELLED;
    let characters = file.metadata().str(characters)?.unwrap_or_default().to_owned();
    let unspelled = Unspelled { characters, share: file.metadata().f32(share)?.unwrap_or(0.0).into() };
    Ok(Corpus { train, validation, unspelled, key: key.to_owned() })
}

/// Writes the file for this key.
pub(super) fn write(
    path: &Path,
    key: &str,
    documents: Documents,
    tokenizer: &Tokenizer,
    validation: f64,
    threads: usize,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let wide = is_wide(tokenizer.len());
    // The header needs the number of tokens, which is known at the end.
    let mut ids = BufWriter::with_capacity(CHUNK, tempfile::tempfile_in(folder).map_err(Error::io(folder))?);
    let (mut hash, mut count, mut all, mut unknown) = (Sha256::new(), 0, HashMap::new(), 0);
    let [mut lengths, mut texts, mut sides] = [const { Vec::new() }; 3];
    tokenize(
        documents,
        tokenizer,
        validation,
        threads,
        |Encoded { ids: encoded, documents, characters, unknown: more, position }| {
            characters.into_iter().for_each(|(c, n)| *all.entry(c).or_default() += n);
            count += encoded.len();
            unknown += more;
            let bytes: Vec<u8> = match wide {
                true => encoded.into_iter().flat_map(u32::to_le_bytes).collect(),
                // The vocabulary has at most 2^16 tokens.
                false => encoded.into_iter().flat_map(|id| (id as u16).to_le_bytes()).collect(),
            };
            hash.update(&bytes);
            ids.write_all(&bytes).map_err(Error::io(folder))?;
            for document in documents {
                lengths.extend(document.tokens.to_le_bytes());
                texts.extend(document.bytes.to_le_bytes());
                sides.push(u8::from(document.validation));
            }
            progress(position)
        },
    )?;
    [&lengths, &texts, &sides].into_iter().for_each(|bytes| hash.update(bytes));
    let mut metadata = Metadata::new();
    metadata.insert(KEY, key);
    metadata.insert(HASH, hex(hash));
    let unspelled = Unspelled::of(&all, unknown as f64 / count.max(1) as f64, tokenizer);
    metadata.insert(UNSPELLED[0], unspelled.characters);
    metadata.insert(UNSPELLED[1], unspelled.share as f32);
    let entry = |name: &str, format, len| TensorInfo { name: name.to_owned(), format, shape: vec![len] };
    let entries = vec![
        entry("tokens", if wide { &I32 } else { &I16 }, count),
        entry("lengths", &I32, sides.len()),
        entry("bytes", &I32, sides.len()),
        entry("validation", &I8, sides.len()),
    ];
    let mut writer = gguf::create(path, &metadata, entries)?;
    let mut ids = ids.into_inner().map_err(|error| Error::io(folder)(error.into_error()))?;
    ids.rewind().map_err(Error::io(folder))?;
    let mut failed = None;
    let chunks = std::iter::from_fn(|| {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&ids).take(CHUNK as u64).read_to_end(&mut chunk).map_err(|error| failed = Some(error));
        read.ok().filter(|&read| read > 0).map(|_| chunk)
    });
    let written = writer.tensor_in_parts(chunks);
    if let Some(error) = failed {
        return Err(Error::io(folder)(error));
    }
    written?;
    [lengths, texts, sides].iter().try_for_each(|bytes| writer.tensor(bytes))?;
    Ok(writer.finish()?)
}

/// Whether ids need four bytes instead of two.
fn is_wide(vocab: usize) -> bool {
    vocab > 1 << 16
}

/// A hash in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
