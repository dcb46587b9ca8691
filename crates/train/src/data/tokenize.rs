use super::Documents;
use super::split::is_validation;
use crate::Result;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use trine_text::{EncodeOptions, Tokenizer};

/// Bytes of text that a thread takes at once.
const BATCH: usize = 1 << 20;

/// Some documents in a row.
pub(super) struct Encoded {
    /// The tokens of all.
    pub ids: Vec<u32>,
    /// What the documents are.
    pub documents: Vec<Document>,
    /// Bytes of the files up to the end of the last.
    pub position: u64,
}

/// A document among others.
#[derive(Clone, Copy)]
pub(super) struct Document {
    /// Tokens, BOS and EOS included.
    pub tokens: u32,
    /// Bytes of its text.
    pub bytes: u32,
    /// Whether it is kept for validation.
    pub validation: bool,
}

/// Documents to encode, the position behind them, and where the result goes.
type Job = (Vec<String>, u64, SyncSender<Encoded>);

/// Gives `take` all documents as `[BOS] tokens [EOS]`, whichever the tokenizer has, in order. This many threads encode them.
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
    let (jobs, queue) = channel::<Job>();
    // In the order of the documents, where each result will come from. It bounds what is in memory.
    let (order, results) = sync_channel::<Result<Receiver<Encoded>>>(2 * threads);
    let queue = Mutex::new(queue);
    let work = || {
        // The lock is free again before the work begins.
        let next = || queue.lock().ok()?.recv().ok();
        while let Some((texts, position, result)) = next() {
            // Nobody waits for it after an error.
            let _ = result.send(encode(&texts, position, tokenizer, validation));
        }
    };
    thread::scope(move |scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
        scope.spawn(move || read(documents, jobs, order));
        results.into_iter().try_for_each(|result| take(result?.recv().expect("who encodes does not panic")))
    })
}

/// Makes jobs of documents, until they end or nobody wants more.
fn read(mut documents: Documents, jobs: std::sync::mpsc::Sender<Job>, order: SyncSender<Result<Receiver<Encoded>>>) {
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
    let mut encoded = Encoded { ids: Vec::new(), documents: Vec::with_capacity(texts.len()), position };
    for text in texts {
        let before = encoded.ids.len();
        encoded.ids.extend(tokenizer.bos());
        encoded.ids.extend(tokenizer.encode(text, EncodeOptions::default()));
        encoded.ids.extend(tokenizer.eos());
        encoded.documents.push(Document {
            // Both fit: a document has a bounded length.
            tokens: (encoded.ids.len() - before) as u32,
            bytes: text.len() as u32,
            validation: is_validation(text, validation),
        });
    }
    encoded
}
