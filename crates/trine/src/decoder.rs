use crate::{Error, Options, Placement};
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{BLOCK_LEN, CacheType};
use trine_engine::prompt_tokens;
use trine_model::runner::{Output, Sequences, Want};
use trine_model::{Language, Runner, Spec};
use trine_text::Tokenizer;

/// Tokens that run together. It changes the speed, never a logit.
const CHUNK: usize = 512;

/// A model without an engine: tokens to logits, one sequence at a time.
///
/// ```
/// use trine::prelude::*;
///
/// let mut decoder = Decoder::open(EMBEDDED)?;
/// let mut ids = decoder.tokens("Once upon a time");
/// let mut logits = decoder.extend(&ids)?; // of the last token
/// for _ in 0..8 {
///     let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
///     ids.push(best);
///     logits = decoder.extend(&[best])?; // keys and values of the others are kept
/// }
/// println!("{}", decoder.tokenizer().decode(&ids));
/// let all = decoder.logits(&ids)?; // of every token
/// assert_eq!(all[(ids.len() - 1) * logits.len()..], logits);
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Decoder {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) language: Language,
    pub(crate) placement: Placement,
    pub(crate) cache_type: CacheType,
    /// The sequence of [`Decoder::extend`], and the tokens that its cache has room for.
    sequences: Option<(Sequences, usize)>,
    output: Output,
}

impl Decoder {
    pub(crate) fn new(
        runner: Box<dyn Runner>,
        language: Language,
        placement: Placement,
        cache_type: CacheType,
    ) -> Decoder {
        Decoder { runner, language, placement, cache_type, sequences: None, output: Output::default() }
    }

    /// Loads a model with default [`Options`].
    ///
    /// # Errors
    /// When the file cannot be opened or is not a model.
    pub fn open(path: impl AsRef<Path>) -> Result<Decoder, Error> {
        Options::default().load(path, &mut |_| ControlFlow::Continue(()))
    }

    /// The model on its device and its language, for programs that run batches of their own. The sequence of [`Decoder::extend`] is freed.
    pub fn into_parts(mut self) -> (Box<dyn Runner>, Language) {
        if let Some((sequences, _)) = self.sequences {
            sequences.release(&mut *self.runner);
        }
        (self.runner, self.language)
    }

    /// The model on its device.
    pub fn runner(&mut self) -> &mut dyn Runner {
        &mut *self.runner
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.runner.spec()
    }

    /// Where its threads and weights are.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What was assumed about the model, and why.
    pub fn warnings(&self) -> &[String] {
        &self.language.warnings
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.language.tokenizer
    }

    /// The tokens of a prompt, as [`prompt_tokens`] gives them.
    pub fn tokens(&self, prompt: &str) -> Vec<u32> {
        prompt_tokens(&self.language.tokenizer, prompt)
    }

    /// The logits after each token of a sequence, `[tokens, vocab_size]`. The sequence of [`Decoder::extend`] is not touched.
    ///
    /// # Errors
    /// When the sequence is longer than the model's context, has tokens that the model has not, or its cache finds no room.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        self.check(ids, 0)?;
        let runner = &mut *self.runner;
        let mut sequences = Sequences::new(runner, Sequences::blocks_of(ids.len()), self.cache_type)?;
        let sequence = sequences.add(ids.len());
        let mut all = Vec::with_capacity(ids.len() * runner.spec().vocab_size);
        let mut run = || -> Result<(), trine_model::Error> {
            for chunk in ids.chunks(CHUNK) {
                sequences.push(sequence, chunk, chunk.len());
                sequences.run(runner, Want::Logits, &mut self.output)?;
                all.extend_from_slice(&self.output.values);
            }
            Ok(())
        };
        let result = run();
        sequences.release(runner);
        result?;
        Ok(all)
    }

    /// Appends tokens to a sequence that the decoder keeps, and returns the logits after the last one, `[vocab_size]`. Earlier tokens are not
    /// computed again.
    ///
    /// # Errors
    /// As [`Decoder::logits`], and when there are no tokens. The sequence stays as it was.
    pub fn extend(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let len = self.len();
        if ids.is_empty() {
            return Err(self.length(0));
        }
        self.check(ids, len)?;
        self.make_room(len + ids.len())?;
        // Chunks before the one that failed have run.
        self.run(ids).inspect_err(|_| self.truncate(len))?;
        Ok(self.output.values.clone())
    }

    /// Forgets the tokens of [`Decoder::extend`] from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        if let Some((sequences, _)) = &mut self.sequences {
            sequences.truncate(0, len);
        }
    }

    /// Tokens of the kept sequence.
    fn len(&self) -> usize {
        self.sequences.as_ref().map_or(0, |(sequences, _)| sequences.len(0))
    }

    /// Runs tokens that follow the kept sequence; the logits of the last go to `output`.
    fn run(&mut self, ids: &[u32]) -> Result<(), Error> {
        let (sequences, _) = self.sequences.as_mut().expect("there is room");
        let last = ids.len().div_ceil(CHUNK) - 1;
        for (i, chunk) in ids.chunks(CHUNK).enumerate() {
            sequences.push(0, chunk, usize::from(i == last));
            sequences.run(&mut *self.runner, Want::Logits, &mut self.output)?;
        }
        Ok(())
    }

    /// Gives the kept sequence room for so many tokens: twice as many as it had, whose keys and values are carried over.
    fn make_room(&mut self, tokens: usize) -> Result<(), Error> {
        let room = self.sequences.as_ref().map_or(0, |(_, room)| *room);
        if tokens <= room {
            return Ok(());
        }
        let room = tokens.max(2 * room).min(self.spec().context_length).next_multiple_of(BLOCK_LEN);
        let mut sequences = Sequences::new(&mut *self.runner, Sequences::blocks_of(room), self.cache_type)?;
        sequences.add(room);
        if let Some((old, _)) = &self.sequences
            && let Err(error) = sequences.copy_from(&mut *self.runner, old)
        {
            sequences.release(&mut *self.runner);
            return Err(error.into());
        }
        if let Some((old, _)) = self.sequences.replace((sequences, room)) {
            old.release(&mut *self.runner);
        }
        Ok(())
    }

    /// Whether tokens can follow `len` others.
    fn check(&self, ids: &[u32], len: usize) -> Result<(), Error> {
        let tokens = len + ids.len();
        if tokens > self.spec().context_length {
            return Err(self.length(tokens));
        }
        check_ids(ids, self.spec())
    }

    fn length(&self, tokens: usize) -> Error {
        trine_model::Error::Length { tokens, most: self.spec().context_length }.into()
    }
}

/// Whether the model has these tokens.
pub(crate) fn check_ids(ids: &[u32], spec: &Spec) -> Result<(), Error> {
    let vocab = spec.vocab_size;
    match ids.iter().position(|&id| id as usize >= vocab) {
        Some(at) => {
            Err(trine_engine::Error::BeyondVocabulary { place: format!("ids[{at}]"), id: ids[at], vocab }.into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::failing;
    use std::sync::atomic::Ordering::Relaxed;

    /// Chunks are of 512 tokens, so that a chunk runs before the second pass fails.
    #[test]
    fn a_pass_that_fails_changes_neither_the_sequence_nor_the_memory() {
        let ids: Vec<u32> = (0..600).map(|i| i * 37 % 200).collect();
        for (forward, read_block, to) in [(1, 0, 12), (1, 0, 600), (2, 0, 600), (0, 1, 600)] {
            let (mut decoder, faults) = failing::decoder("phi4-mini");
            let all = decoder.logits(&ids).unwrap();
            let vocab = decoder.spec().vocab_size;
            let mut caches = vec![decoder.runner().memory().kv_caches];
            decoder.extend(&ids[..9]).unwrap();
            faults.forward.store(forward, Relaxed);
            faults.read_block.store(read_block, Relaxed);
            decoder.extend(&ids[9..to]).unwrap_err();
            assert_eq!(decoder.len(), 9);
            caches.push(decoder.runner().memory().kv_caches);
            for end in [10, 600] {
                let logits = decoder.extend(&ids[decoder.len()..end]).unwrap();
                assert!(logits == all[(end - 1) * vocab..end * vocab], "{end}");
            }
            let one = decoder.runner.kv_shape(1.into(), decoder.cache_type).bytes().unwrap() as u64;
            assert!(caches[0] == 0 && caches[1] <= 38 * one, "{caches:?}");
            assert_eq!(decoder.runner().memory().kv_caches, 38 * one, "one cache");
            assert_eq!(decoder.into_parts().0.memory().kv_caches, 0);
        }
    }
}
