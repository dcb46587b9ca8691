//! `/v1/completions`.

use super::head::{Head, Shared, StreamOptions, Timings, Total, timings_of};
use super::logprobs::{self, Offsets};
use crate::ask::{prompts, scheduling};
use crate::constraint::{constraint, ends};
use crate::form::{self, Form};
use crate::{Ask, Event, Fields, Problem, Writer, sampling};
use serde_json::{Value, json};
use trine_engine::{Choice, FinishReason, Prompt, PromptToken, Token, Update, Usage};

/// Fields that are known, and not supported.
const REFUSED: &[(&str, &str)] = &[
    ("suffix", "models that fill in the middle are not supported"),
    ("prompt_logprobs", "expected echo: true and logprobs"),
];

/// Fields of vLLM's with what holds anyway, beside those of all bodies.
const OF_OTHERS: form::Fields =
    &[("add_special_tokens", Form::Only(&["true"], "a prompt of token ids has those that it says"))];

/// Reads a body. The answer gets the id, with a prefix.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn completion(mut fields: Fields, served: &Shared, id: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let id = super::answer_id(&mut fields, id)?;
    super::common(&mut fields)?;
    fields.take_if("suffix", |suffix| *suffix == json!(""));
    fields.refuse(REFUSED)?;
    fields.pass(OF_OTHERS)?;
    let wrong = || Problem::field("prompt", "expected a string, a list of token ids, or a list of either");
    let prompts = prompts(fields.take("prompt").unwrap_or_default()).ok_or_else(wrong)?;
    let stream = fields.boolean("stream")?.unwrap_or_default();
    let options = StreamOptions::take(&mut fields, stream)?;
    let echo = fields.boolean("echo")?.unwrap_or_default();
    let token_ids = fields.boolean("return_token_ids")?.unwrap_or_default();
    let no_answer = echo && fields.take_if("max_tokens", |most| *most == json!(0));
    if !fields.has("max_tokens") && !fields.has("n_predict") && served.sampling.max_tokens.is_none() {
        // OpenAI's default.
        fields.put("max_tokens", 16);
    }
    if no_answer {
        fields.put("max_tokens", 1);
    }
    let constraint = constraint(&mut fields)?;
    let (scheduling, prefix_cache) = scheduling(&mut fields)?;
    let mut chosen = sampling::sampling(fields.clone(), served)?;
    if let Some((field, _)) = &constraint {
        chosen = ends(field, &fields, chosen)?;
    }
    if echo {
        // A prompt without an answer may fill the context, as one that is scored.
        chosen.prompt_logprobs = chosen.logprobs.or(no_answer.then_some(0));
    }
    if stream && chosen.best_of.is_some_and(|best| best > chosen.n) {
        return Err(Problem::field("best_of", "expected none with stream: the best are known at the end"));
    }
    let mut texts = Vec::new();
    let mut read = |prompt: Prompt| {
        let tokens = served.tokens(prompt.clone(), "prompt", &chosen)?;
        if echo {
            texts.push(match prompt {
                Prompt::Text(text) => text,
                Prompt::Chat(chat) => chat.into_text(),
                Prompt::Tokens(ids) => served.tokenizer.decode(&ids),
            });
        }
        Ok(tokens)
    };
    let prompts = prompts.into_iter().map(&mut read).collect::<Result<Vec<_>, Problem>>()?;
    if prompts.is_empty() {
        return Err(wrong());
    }
    let answers = chosen.best_of.unwrap_or(chosen.n);
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let mut writer = CompletionWriter {
        served: served.clone(),
        head: Head::new(served, format!("cmpl-{id}"), "text_completion"),
        options,
        logprobs: chosen.logprobs.is_some(),
        skip_special: chosen.skip_special_tokens,
        told: chosen.prompt_logprobs.is_some(),
        echo: texts,
        no_answer,
        answers,
        best: chosen.best_of.map(|_| chosen.n),
        token_ids: token_ids.then(|| prompts.clone()),
        open: Vec::new(),
        held: Vec::new(),
        total: Total::new(&lengths, answers),
    };
    for (i, prompt) in prompts.iter().enumerate() {
        let open = (0..answers).map(|_| Open::new(prompt.len(), writer.offsets(i)));
        let open: Vec<Open> = open.collect();
        writer.open.extend(open);
    }
    let progress = options.asks_progress();
    Ok((Ask { prompts, sampling: chosen, constraint, scheduling, prefix_cache, stream, progress }, Box::new(writer)))
}

/// How an answer goes.
struct Open {
    offsets: Offsets,
    begun: bool,
    /// What was told of the prompt.
    prompt: Vec<PromptToken>,
    timings: Timings,
}

impl Open {
    fn new(prompt_tokens: usize, offsets: Offsets) -> Open {
        Open { offsets, begun: false, prompt: Vec::new(), timings: Timings::new(prompt_tokens) }
    }
}

struct CompletionWriter {
    served: Shared,
    head: Head,
    options: StreamOptions,
    logprobs: bool,
    skip_special: bool,
    /// Whether the first answer to a prompt tells the log probabilities of its tokens.
    told: bool,
    /// The texts of the prompts, if answers begin with them.
    echo: Vec<String>,
    /// Whether the answer is its prompt alone.
    no_answer: bool,
    /// Answers to each prompt.
    answers: usize,
    best: Option<usize>,
    /// The tokens of the prompts, if tokens are to be told.
    token_ids: Option<Vec<Vec<u32>>>,
    open: Vec<Open>,
    /// What happened to answers whose prompt is not told yet.
    held: Vec<(usize, Update)>,
    total: Total,
}

impl CompletionWriter {
    /// The offsets of an answer to a prompt.
    fn offsets(&self, prompt: usize) -> Offsets {
        let echo = self.echo.get(prompt).map_or(0, |text| text.chars().count());
        Offsets::after(&self.served.tokenizer, echo, self.skip_special)
    }

    fn choice(&self, index: usize, mut choice: Choice, prompt: usize) -> Value {
        if self.no_answer {
            choice.text.clear();
            choice.tokens.clear();
        }
        let Choice { text, tokens, finish_reason, .. } = &choice;
        let echo = self.echo.get(prompt).map(String::as_str).unwrap_or_default();
        let mut offsets = self.offsets(prompt);
        let logprobs = logprobs::completion(&self.served.tokenizer, &choice.prompt, tokens, &mut offsets);
        let logprobs = self.logprobs.then_some(logprobs);
        let finish_reason = finish_reason.name();
        let text = format!("{echo}{text}");
        let mut body = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason});
        if let Some(prompts) = &self.token_ids {
            body["prompt_token_ids"] = json!(prompts[prompt]);
            body["token_ids"] = tokens.iter().map(|token| token.id).collect();
        }
        body
    }

    fn count(&mut self, index: usize, usage: Usage) {
        let completion_tokens = if self.no_answer { 0 } else { usage.completion_tokens };
        self.total.end(index, Usage { completion_tokens, ..usage });
    }

    /// A chunk of an answer.
    fn chunk(&mut self, index: usize, text: &str, tokens: &[Token], end: Option<&FinishReason>) -> Event {
        let prompt = index / self.answers;
        let open = &mut self.open[index];
        let mut whole = String::new();
        if !open.begun {
            whole.push_str(self.echo.get(prompt).map(String::as_str).unwrap_or_default());
        }
        if !self.no_answer {
            whole.push_str(text);
        }
        let tokens = if self.no_answer { &[] } else { tokens };
        let before = std::mem::take(&mut open.prompt);
        let logprobs = (self.logprobs && !(tokens.is_empty() && before.is_empty()))
            .then(|| logprobs::completion(&self.served.tokenizer, &before, tokens, &mut open.offsets));
        let finish_reason = end.map(FinishReason::name);
        let mut choice = json!({"index": index, "text": whole, "logprobs": logprobs, "finish_reason": finish_reason});
        if let Some(prompts) = &self.token_ids {
            choice["token_ids"] = tokens.iter().map(|token| token.id).collect();
            if !open.begun {
                choice["prompt_token_ids"] = json!(prompts[prompt]);
            }
        }
        open.begun = true;
        super::chunk(&self.head, self.options, choice, &self.open[index].timings, &self.total)
    }
}

impl Writer for CompletionWriter {
    fn update(&mut self, index: usize, update: Update) -> Vec<Event> {
        let first = index - index % self.answers;
        if self.told && index > first && !self.open[first].begun {
            self.held.push((index, update));
            return Vec::new();
        }
        let mut events = match update {
            Update::Progress(progress) => {
                self.total.cached(index, progress.cached_tokens);
                self.open[index].timings.cached(progress.cached_tokens);
                let choice = json!({"index": index, "text": "", "logprobs": null, "finish_reason": null});
                let told = self.options.progress.then(|| super::progress(&self.head, choice, progress));
                told.into_iter().collect()
            }
            // The first answer to a prompt tells of it, and all repeat it.
            Update::Prompt(token) => {
                let siblings = index..(index / self.answers + 1) * self.answers;
                self.open[siblings].iter_mut().for_each(|open| open.prompt.push(token.clone()));
                Vec::new()
            }
            Update::Token(token) => {
                self.open[index].timings.token();
                if !self.no_answer {
                    self.total.token(index);
                }
                let text = token.text.clone();
                vec![self.chunk(index, &text, &[token], None)]
            }
            Update::Finished { text, finish_reason, usage, timing } => {
                self.open[index].timings.end(usage, timing);
                self.count(index, usage);
                vec![self.chunk(index, &text, &[], Some(&finish_reason))]
            }
        };
        if index == first && self.open[first].begun {
            let siblings = first..first + self.answers;
            let held = std::mem::take(&mut self.held);
            let (own, others) = held.into_iter().partition(|(held, _)| siblings.contains(held));
            self.held = others;
            for (sibling, update) in own {
                events.extend(self.update(sibling, update));
            }
        }
        events
    }

    fn end(&mut self) -> Vec<Event> {
        super::end(&self.head, self.options, &self.total)
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        super::fail(problem)
    }

    fn whole(&mut self, choices: Vec<Choice>) -> Value {
        let (mut bodies, mut choices) = (Vec::new(), choices.into_iter());
        let mut timings = None;
        for prompt in 0..self.open.len() / self.answers {
            let mut own: Vec<Choice> = choices.by_ref().take(self.answers).collect();
            let told = own.first().map(|choice| choice.prompt.clone()).unwrap_or_default();
            for (i, choice) in own.iter_mut().enumerate() {
                self.count(prompt * self.answers + i, choice.usage);
                choice.prompt.clone_from(&told);
            }
            if let Some(n) = self.best {
                own = Choice::best(own, n);
            }
            for choice in own {
                timings.get_or_insert_with(|| timings_of(choice.usage, choice.timing));
                bodies.push(self.choice(bodies.len(), choice, prompt));
            }
        }
        let mut body = self.head.with(bodies);
        body["usage"] = self.total.to_json();
        if let Some(timings) = timings.filter(|_| self.options.timings) {
            body["timings"] = timings;
        }
        body
    }
}
