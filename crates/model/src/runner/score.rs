use super::{Output, Runner, Sequences, Want};
use crate::Error;
use std::ops::{ControlFlow, Range};
use trine_backend::CacheType;

/// Bytes of output rows that are held at once, unless those of a single token are more.
const OUTPUT_BYTES: usize = 64 << 20;

/// A sequence to be run from its beginning.
#[derive(Clone, Debug)]
pub struct ScoreInput {
    pub ids: Vec<u32>,
    /// Outputs are wanted for the last so many tokens.
    pub outputs: usize,
}

/// Where a part of the output rows of a pass belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// The index of the input.
    pub input: usize,
    /// Which of its outputs, counted from 0.
    pub outputs: Range<usize>,
}

/// How sequences are run.
#[derive(Clone, Copy, Debug)]
pub struct ScoreOptions<'a> {
    /// Maximum tokens of a pass, of several sequences. It changes the speed, never a result. Texts that a model reads as a whole, as encoders
    /// do, are never cut.
    pub batch: usize,
    /// The format of keys and values.
    pub cache_type: CacheType,
    pub want: Want<'a>,
}

/// Takes the output rows of a pass, and where they belong; it may break off.
pub type Take<'a, E> = dyn FnMut(&[Scored], &Output) -> Result<ControlFlow<()>, E> + 'a;

/// Runs sequences through a model, several at a time, in a cache of their own. After each pass `take` gets its output rows and where they
/// belong, in order; an input may come in several parts. It may break off.
///
/// # Errors
/// When there is no room for the cache, a pass fails, or `take` does.
pub fn score<E: From<Error>>(
    runner: &mut dyn Runner,
    inputs: &[ScoreInput],
    options: &ScoreOptions,
    take: &mut Take<E>,
) -> Result<(), E> {
    let groups = groups(inputs, options.batch.max(1));
    let blocks = |group: &Range<usize>| -> usize {
        inputs[group.clone()].iter().map(|input| Sequences::blocks_of(input.ids.len())).sum()
    };
    let most = groups.iter().map(blocks).max().unwrap_or(0);
    let mut sequences = Sequences::new(runner, most, options.cache_type)?;
    let result = run(runner, &mut sequences, inputs, groups, options, take);
    sequences.release(runner);
    result
}

/// Inputs whose tokens are in the cache together: as many as have no more than `batch` tokens, at least one.
fn groups(inputs: &[ScoreInput], batch: usize) -> Vec<Range<usize>> {
    let (mut groups, mut tokens): (Vec<Range<usize>>, _) = (Vec::new(), 0);
    for (i, ScoreInput { ids, .. }) in inputs.iter().enumerate() {
        match groups.last_mut().filter(|_| tokens + ids.len() <= batch) {
            Some(group) => group.end = i + 1,
            None => {
                groups.push(i..i + 1);
                tokens = 0;
            }
        }
        tokens += ids.len();
    }
    groups
}

fn run<E: From<Error>>(
    runner: &mut dyn Runner,
    sequences: &mut Sequences,
    inputs: &[ScoreInput],
    groups: Vec<Range<usize>>,
    options: &ScoreOptions,
    take: &mut Take<E>,
) -> Result<(), E> {
    let spec = runner.spec();
    let width = if matches!(options.want, Want::Hidden) { spec.hidden_size } else { spec.vocab_size };
    let (max_tokens, max_rows) = match spec.causal {
        true => (options.batch.max(1), (OUTPUT_BYTES / (4 * width)).max(1)),
        false => (usize::MAX, usize::MAX),
    };
    let (mut scored, mut output) = (Vec::new(), Output::default());
    for group in groups {
        sequences.clear();
        for (i, ScoreInput { ids, outputs }) in group.clone().zip(&inputs[group]) {
            let sequence = sequences.add(ids.len());
            // Tokens that are there as context only.
            let silent = ids.len().saturating_sub(*outputs);
            let mut at = 0;
            while at < ids.len() {
                let [tokens, rows] = sequences.queued();
                let room = (max_rows - rows).saturating_add(silent.saturating_sub(at)).min(max_tokens - tokens);
                if room == 0 {
                    sequences.run(runner, options.want, &mut output)?;
                    if take(&scored, &output)?.is_break() {
                        return Ok(());
                    }
                    scored.clear();
                    continue;
                }
                let end = ids.len().min(at.saturating_add(room));
                let first = at.max(silent).min(end);
                sequences.push(sequence, &ids[at..end], end - first);
                scored.push(Scored { input: i, outputs: first.max(silent) - silent..end.max(silent) - silent });
                at = end;
            }
        }
        // The next group takes the same blocks.
        sequences.run(runner, options.want, &mut output)?;
        if take(&scored, &output)?.is_break() {
            return Ok(());
        }
        scored.clear();
    }
    Ok(())
}
