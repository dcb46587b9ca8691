use super::requests::encode_pair;
use super::{Error, TaskOptions};
use trine_model::Runner;
use trine_model::runner::{Output, Sequences, Want};
use trine_text::Tokenizer;

/// Most tokens of a line.
const MOST: usize = 64;

/// How a model goes on greedily to the end of the line, without white space around it.
pub(super) fn line(
    runner: &mut dyn Runner,
    tokenizer: &Tokenizer,
    context: &str,
    options: &TaskOptions,
) -> Result<String, Error> {
    let (mut ids, _) = encode_pair(tokenizer, context.trim_end(), "", options.bos);
    let most = MOST.min(options.context.saturating_sub(1)).max(1);
    let mut ids = ids.split_off(ids.len().saturating_sub(options.context - most));
    let mut sequences = Sequences::new(runner, Sequences::blocks_of(ids.len() + most), options.cache_type)?;
    let (sequence, mut output, mut answer) = (sequences.add(ids.len() + most), Output::default(), Vec::new());
    let mut step = || -> Result<bool, Error> {
        sequences.push(sequence, &ids, 1);
        sequences.run(runner, Want::Top { k: 1, edits: &[] }, &mut output)?;
        let id = output.top(0)[0].id;
        answer.push(id);
        ids = vec![id];
        Ok(answer.len() == most || tokenizer.is_eog(id) || tokenizer.decode(&answer).trim_start().contains('\n'))
    };
    let result = loop {
        match step() {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    sequences.release(runner);
    result?;
    let text = tokenizer.decode(&answer);
    Ok(text.trim_start().lines().next().unwrap_or_default().trim_end().to_owned())
}
