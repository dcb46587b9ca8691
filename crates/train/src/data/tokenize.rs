//! Tokenizes documents by several threads, in order.

use super::Documents;
use super::validation::is_validation;
use crate::Result;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use trine_text::{EncodeOptions, TokenType, Tokenizer};

/// Bytes of text per job.
const BATCH: usize = 1 << 20;

/// The tokens of consecutive documents.
pub(super) struct Encoded {
    pub ids: Vec<u32>,
    pub documents: Vec<Document>,
    /// How often each character occurs.
    pub characters: HashMap<char, u64>,
    /// Tokens that stand for unknown text.
    pub unknown: u64,
    /// Bytes read of all files, up to the end of the last document.
    pub position: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Document {
    pub tokens: u32,
    pub bytes: u32,
    /// Whether it is held out.
    pub validation: bool,
}

/// Documents to encode, the bytes read up to their end, and a channel for the result.
type EncodeJob = (Vec<String>, u64, SyncSender<Encoded>);

/// Passes all documents to `take` in order, as `[BOS] tokens [EOS]` if the tokenizer has those.
///
/// # Errors
/// Those of `documents` and of `take`.
pub(super) fn tokenize(
    documents: Documents,
    tokenizer: &Tokenizer,
    validation: f64,
    threads: usize,
    mut take: impl FnMut(Encoded) -> Result<()>,
) -> Result<()> {
    let (jobs, queue) = channel::<EncodeJob>();
    // The channels of results, in the order of documents. Its bound limits the documents in memory.
    let (order, results) = sync_channel::<Result<Receiver<Encoded>>>(2 * threads);
    let queue = Mutex::new(queue);
    let work = || {
        // The lock is released before the work starts.
        let next = || queue.lock().ok()?.recv().ok();
        while let Some((texts, position, result)) = next() {
            // After an error, nobody receives it.
            let _ = result.send(encode(&texts, position, tokenizer, validation));
        }
    };
    thread::scope(move |scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
        scope.spawn(move || read(documents, jobs, order));
        results.into_iter().try_for_each(|result| take(result?.recv().expect("encoding does not panic")))
    })
}

/// Groups documents into jobs, until they end or the receiver is gone.
fn read(
    mut documents: Documents,
    jobs: std::sync::mpsc::Sender<EncodeJob>,
    order: SyncSender<Result<Receiver<Encoded>>>,
) {
    loop {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        let ended = loop {
            match documents.next() {
                None => break Some(Ok(())),
                Some(Err(error)) => break Some(Err(error)),
                Some(Ok(text)) => {
                    bytes += text.len();
                    texts.push(text);
                }
            }
            if bytes >= BATCH {
                break None;
            }
        };
        if !texts.is_empty() {
            let (result, receiver) = sync_channel(1);
            let wanted = order.send(Ok(receiver)).is_ok();
            if !wanted || jobs.send((texts, documents.position(), result)).is_err() {
                return;
            }
        }
        match ended {
            None => {}
            Some(Ok(())) => return,
            Some(Err(error)) => return drop(order.send(Err(error))),
        }
    }
}

fn encode(texts: &[String], position: u64, tokenizer: &Tokenizer, validation: f64) -> Encoded {
    let (ids, documents) = (Vec::new(), Vec::with_capacity(texts.len()));
    let mut encoded = Encoded { ids, documents, characters: HashMap::new(), unknown: 0, position };
    for text in texts {
        text.chars().for_each(|c| *encoded.characters.entry(c).or_default() += 1);
        let before = encoded.ids.len();
        encoded.ids.extend(tokenizer.bos());
        encoded.ids.extend(tokenizer.encode(text, EncodeOptions::default()));
        encoded.ids.extend(tokenizer.eos());
        encoded.documents.push(Document {
            // Both fit: the length of documents is limited.
            tokens: (encoded.ids.len() - before) as u32,
            bytes: text.len() as u32,
            validation: is_validation(text, validation),
        });
    }
    encoded.unknown = encoded.ids.iter().filter(|&&id| is_unknown(tokenizer, id)).count() as u64;
    encoded
}

/// Text that a vocabulary cannot spell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unspelled {
    /// Characters that it lacks, at most 16, the most frequent first.
    pub characters: String,
    /// The share of tokens that stand for unknown text; without such a token, that of characters that are left out.
    pub share: f64,
}

impl Unspelled {
    /// What is unknown in a text with these characters, of whose tokens `share` are unknown.
    pub(super) fn of(characters: &HashMap<char, u64>, share: f64, tokenizer: &Tokenizer) -> Unspelled {
        let has_unknown = (0..tokenizer.len() as u32).any(|id| is_unknown(tokenizer, id));
        if has_unknown && share == 0.0 {
            return Unspelled::default();
        }
        let is_unspelled = |c: char| {
            let ids = tokenizer.encode(c.encode_utf8(&mut [0; 4]), EncodeOptions::default());
            // Normalization may remove a mark, but no letter or digit.
            ids.iter().any(|&id| is_unknown(tokenizer, id)) || ids.is_empty() && c.is_alphanumeric()
        };
        let mut unspelled: Vec<(char, u64)> =
            characters.iter().map(|(&c, &n)| (c, n)).filter(|&(c, _)| is_unspelled(c)).collect();
        unspelled.sort_unstable_by_key(|&(c, n)| (std::cmp::Reverse(n), c));
        let [left_out, all] = [unspelled.iter().map(|&(_, n)| n).sum(), characters.values().sum::<u64>()];
        let share = if has_unknown { share } else { left_out as f64 / all.max(1) as f64 };
        Unspelled { characters: unspelled.into_iter().take(16).map(|(c, _)| c).collect(), share }
    }
}

fn is_unknown(tokenizer: &Tokenizer, id: u32) -> bool {
    tokenizer.token_type(id) == Some(TokenType::Unknown)
}
