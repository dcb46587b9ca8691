//! Requests of embeddings: several texts in a pass.

use super::answer::Head;
use super::line::Task;
use super::queue::Queue;
use super::{BatchCounts, EMBEDDINGS, Lines, fields};
use crate::{Problem, ProblemKind, openai};
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

/// The texts of a line by their tokens, and whether the embeddings are to be base64.
type Texts = (Vec<Vec<u32>>, bool);

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
                let head = Head::new(index, &task);
                let (own, base64) = read(&task, options).map_err(|problem| head.fail(&problem))?;
                tokens += own.iter().map(Vec::len).sum::<usize>();
                let count = own.len();
                texts.extend(own);
                Ok((head, count, base64))
            }));
        }
        let embeddings = match (options.embed)(&texts) {
            Ok(None) => return Ok((queue.counts, false)),
            embeddings => embeddings.map(Option::unwrap_or_default),
        };
        let mut first = 0;
        queue.write(lines.into_iter().map(|line| {
            let (head, count, base64) = match line {
                Ok(line) => line,
                Err(done) => return done,
            };
            let own = first..first + count;
            first = own.end;
            match &embeddings {
                Ok(embeddings) => {
                    let tokens = texts[own.clone()].iter().map(Vec::len).sum();
                    let body = openai::embeddings(&options.model, &embeddings[own], base64, tokens);
                    head.answer(body, Usage { prompt_tokens: tokens, ..Usage::default() })
                }
                Err(error) => head.fail(&Problem::new(ProblemKind::Server, error)),
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
fn read(task: &Task, options: &EmbeddingOptions) -> Result<Texts, Problem> {
    let fields = fields(task)?;
    if task.url != EMBEDDINGS {
        let problem = format!("expected {EMBEDDINGS}, as in the first line, found {}", task.url);
        return Err(Problem::field("url", problem));
    }
    let ask = openai::embedding(fields, options.width)?;
    let tokens = |(i, input)| {
        let wrong = |why: String| Problem { message: format!("input[{i}]: {why}"), ..Problem::field("input", "") };
        (options.tokens)(input).map_err(wrong)
    };
    Ok((ask.inputs.into_iter().enumerate().map(tokens).collect::<Result<_, _>>()?, ask.base64))
}
