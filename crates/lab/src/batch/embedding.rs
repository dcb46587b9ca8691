//! Requests of embeddings: several texts in a pass.

use super::answer::Head;
use super::line::Task;
use super::queue::{Done, Queue};
use super::request::{Problem, body, problem};
use super::{BatchCounts, Lines};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use trine_engine::{Prompt, Usage};

/// How to embed.
pub struct EmbeddingOptions<'a> {
    /// The name of the model in answers.
    pub model: String,
    /// Numbers of an embedding.
    pub width: usize,
    /// Tokens that are read before they are embedded, if there are so many. It changes the speed, never an answer.
    pub batch: usize,
    /// The tokens of a text, or why it cannot be embedded.
    pub tokens: &'a dyn Fn(Prompt) -> Result<Vec<u32>, String>,
    /// The embeddings of texts by their tokens; `None` when somebody stopped it.
    pub embed: &'a EmbedTexts<'a>,
}

/// Embeds texts, or says why that failed.
pub type EmbedTexts<'a> = dyn Fn(&[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, String> + 'a;

/// [`batch`](super::batch) for a file of `/v1/embeddings`.
///
/// # Errors
/// When the input cannot be read or the output cannot be written.
pub fn embed<R: BufRead, W: Write>(
    options: &EmbeddingOptions,
    input: &mut Lines<R>,
    answered: u64,
    output: &mut W,
    progress: &mut dyn FnMut(BatchCounts, u64) -> ControlFlow<()>,
) -> std::io::Result<(BatchCounts, bool)> {
    let mut queue = Queue::new(input, answered, output)?;
    loop {
        let (mut texts, mut lines, mut tokens, mut ended) = (Vec::new(), Vec::new(), 0, false);
        while tokens < options.batch && !ended {
            let Some((index, task)) = queue.next()? else {
                ended = true;
                break;
            };
            lines.push(task.and_then(|task| {
                let head = Head::new(index, &task, &options.model);
                let own = read(&task, options).map_err(|problem| head.refuse(&problem))?;
                tokens += own.iter().map(Vec::len).sum::<usize>();
                let count = own.len();
                texts.extend(own);
                Ok((head, count))
            }));
        }
        let embeddings = match (options.embed)(&texts) {
            Ok(None) => return Ok((queue.counts, false)),
            embeddings => embeddings.map(Option::unwrap_or_default),
        };
        let mut first = 0;
        queue.write(lines.into_iter().map(|line| {
            let (head, count) = match line {
                Ok(line) => line,
                Err(done) => return done,
            };
            let own = first..first + count;
            first = own.end;
            match &embeddings {
                Ok(embeddings) => answer(&head, &texts[own.clone()], &embeddings[own]),
                Err(error) => head.fail(error),
            }
        }))?;
        if progress(queue.counts, queue.bytes()).is_break() {
            return Ok((queue.counts, ended));
        }
        if ended {
            return Ok((queue.counts, true));
        }
    }
}

/// The texts of a request, by their tokens.
fn read(task: &Task, options: &EmbeddingOptions) -> Result<Vec<Vec<u32>>, Problem> {
    let mut body = body(task)?;
    if task.url != super::EMBEDDINGS {
        return problem(
            "url",
            format!("url: expected {}, as in the first line, found {}", super::EMBEDDINGS, task.url),
        );
    }
    let input = body.remove("input").unwrap_or_default();
    for (name, only) in [("encoding_format", Value::from("float")), ("dimensions", options.width.into())] {
        if let Some(found) = body.remove(name).filter(|found| *found != only) {
            return problem(name, format!("{name}: expected {only}, found {found}: it is not supported in batches"));
        }
    }
    if let Some(name) = body.keys().next() {
        return problem(name, format!("{name}: expected input, encoding_format or dimensions"));
    }
    let inputs = match input {
        // A list of numbers is one text.
        Value::Array(inputs) if inputs.first().is_some_and(|input| !input.is_number()) => inputs,
        input => vec![input],
    };
    let text = |(i, input): (usize, Value)| {
        let wrong = |why: String| problem("input", format!("input[{i}]: {why}"));
        match super::request::prompt(input) {
            Some(text) => (options.tokens)(text).or_else(wrong),
            None => wrong("expected a string or a list of token ids".to_owned()),
        }
    };
    inputs.into_iter().enumerate().map(text).collect()
}

fn answer(head: &Head, texts: &[Vec<u32>], embeddings: &[Vec<f32>]) -> Done {
    let usage = Usage { prompt_tokens: texts.iter().map(Vec::len).sum(), ..Usage::default() };
    let data = embeddings.iter().enumerate();
    let data = data.map(|(index, embedding)| json!({"object": "embedding", "index": index, "embedding": embedding}));
    let body = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": head.model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    });
    head.answer(body, usage)
}
