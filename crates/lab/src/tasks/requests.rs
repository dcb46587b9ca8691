//! Log-likelihoods of continuations.

use super::{Error, Example, Task, TaskOptions};
use std::ops::ControlFlow;
use trine_model::Runner;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, argmax, score};
use trine_text::{EncodeOptions, Tokenizer};

/// What a model says to a continuation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// Nats.
    pub log_likelihood: f64,
    /// Whether each of its tokens is the most likely one.
    pub greedy: bool,
}

/// All texts of a task, in order.
pub(super) struct Requests {
    inputs: Vec<ScoreInput>,
    /// The tokens of the continuations.
    targets: Vec<Vec<u32>>,
    /// The example of each.
    examples: Vec<usize>,
    pub truncated: usize,
}

impl Requests {
    pub fn new(tokenizer: &Tokenizer, task: &Task, options: &TaskOptions) -> Result<Requests, Error> {
        let mut requests = Requests { inputs: Vec::new(), targets: Vec::new(), examples: Vec::new(), truncated: 0 };
        for (i, example) in task.examples.iter().enumerate() {
            match example {
                Example::Choice { pairs, .. } => {
                    for [context, continuation] in pairs {
                        requests.push(tokenizer, context, continuation, options, (task, i))?;
                    }
                }
                Example::Continuation { context, continuation } => {
                    requests.push(tokenizer, context, continuation, options, (task, i))?;
                }
            }
        }
        Ok(requests)
    }

    fn push(
        &mut self,
        tokenizer: &Tokenizer,
        context: &str,
        continuation: &str,
        options: &TaskOptions,
        (task, example): (&Task, usize),
    ) -> Result<(), Error> {
        let (mut all, start) = encode_pair(tokenizer, context, continuation, options.bos);
        let tokens = all.len() - start;
        if tokens > options.context {
            let (task, context) = (task.name.clone(), options.context);
            return Err(Error::TooLong { task, example, tokens, context });
        }
        let targets = all[start..].to_vec();
        all.pop();
        let beyond = all.len().saturating_sub(options.context);
        self.truncated += usize::from(beyond > 0);
        self.inputs.push(ScoreInput { ids: all.split_off(beyond), outputs: tokens });
        self.targets.push(targets);
        self.examples.push(example);
        Ok(())
    }

    pub fn run(
        self,
        runner: &mut dyn Runner,
        task: &Task,
        options: &TaskOptions,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Answer>, Error> {
        let vocab = runner.spec().vocab_size;
        let scoring = ScoreOptions { batch: options.batch, cache_type: options.cache_type, want: Want::Logits };
        let mut answers = vec![Answer { log_likelihood: 0.0, greedy: true }; self.inputs.len()];
        let mut stopped = false;
        let result = score::<Error>(runner, &self.inputs, &scoring, &mut |parts, output| {
            let mut rows = output.values.chunks_exact(vocab);
            for part in parts {
                let answer = &mut answers[part.input];
                for (&target, row) in self.targets[part.input][part.outputs.clone()].iter().zip(&mut rows) {
                    let best = argmax(row).map_err(|_| {
                        let example = self.examples[part.input];
                        Error::NotFinite { task: task.name.clone(), example }
                    })?;
                    let most = f64::from(row[best as usize]);
                    let total: f64 = row.iter().map(|&logit| libm::exp(f64::from(logit) - most)).sum();
                    answer.log_likelihood += f64::from(row[target as usize]) - most - libm::log(total);
                    answer.greedy &= best == target;
                }
            }
            let done = parts.last().map_or(0, |part| part.input + 1);
            let flow = progress(done, self.inputs.len());
            stopped |= flow.is_break();
            Ok(flow)
        });
        match result {
            Err(Error::Model(trine_model::Error::Stopped)) => Err(Error::Cancelled),
            Ok(()) if stopped => Err(Error::Cancelled),
            result => result.map(|()| answers),
        }
    }
}

/// The tokens of both parts together, and where those of the continuation begin. White space at the end of the context belongs to the
/// continuation. An empty context is BOS, or else what ends a text.
pub(super) fn encode_pair(tokenizer: &Tokenizer, context: &str, continuation: &str, bos: bool) -> (Vec<u32>, usize) {
    let encode =
        |text: &str, special: bool| tokenizer.encode(text, EncodeOptions { add_special: special, parse_special: true });
    if context.is_empty() {
        let prefix = tokenizer.bos().or_else(|| tokenizer.eog_tokens().next());
        let mut all = encode(continuation, false);
        if let Some(prefix) = prefix.filter(|prefix| all.first() != Some(prefix)) {
            all.insert(0, prefix);
        }
        return (all, 1);
    }
    let whole = format!("{context}{continuation}");
    let start = encode(context.trim_end(), bos).len();
    let all = encode(&whole, bos);
    // A token that spans both parts belongs to the context.
    let start = start.min(all.len().saturating_sub(1)).max(1);
    (all, start)
}
