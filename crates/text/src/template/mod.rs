//! Chat templates: rendering the messages of a chat to one prompt, like `apply_chat_template` of Hugging Face.

mod args;
mod attributes;
mod budget;
mod classes;
mod filters;
mod format;
mod functions;
mod guard;
mod iterators;
mod json;
mod lexer;
mod macros;
mod methods;
mod named;
mod numbers;
mod operators;
mod parser;
mod pprint;
mod python;
mod repr;
mod strings;
mod tests;
mod texts;
mod tools;
mod values;
mod wrap;

use crate::rendered::is_break;
use crate::{Error, Rendered, Result, Tokenizer};
use chrono::NaiveDateTime;
use guard::Guard;
use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};
pub use named::Templates;
use named::{DEFAULT, TOOL_USE};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::collections::BTreeMap;

/// Maximum number of instructions per rendering. Real templates need some thousands.
const STEPS: u64 = 2_000_000;

/// Maximum number of nested macros and loops.
const DEPTH: usize = 200;

/// Maximum size of a template in bytes, four times the largest known.
const SOURCE: usize = 64 << 10;

/// Stack size of the engine in bytes, which suffices for any nesting within [`SOURCE`] and [`STEPS`]. It is only reserved.
const STACK: usize = 256 << 20;

/// The name of the template in errors.
const NAME: &str = "chat template";

/// A message of a chat. [`Template::render`] also takes messages of other types that serialize to JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or any other role of the template.
    pub role: String,
    /// Usually a string; for some models a list of parts; null in a message that has only tool calls.
    #[serde(default)]
    pub content: serde_json::Value,
    /// Other fields, such as `name`, `tool_calls`, `tool_call_id`, `reasoning_content`.
    #[serde(flatten)]
    pub rest: Map<String, serde_json::Value>,
}

impl Message {
    /// A message with text content.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into().into(), rest: Map::new() }
    }
}

/// A compiled chat template: Jinja with the filters, methods and options of Hugging Face transformers.
///
/// Templates come with model files and may be malicious. A template can access only its arguments, and its size, and the
/// instructions, nesting and memory of a rendering, are limited.
///
/// ```
/// use trine_text::{Message, Template};
///
/// let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}";
/// let template = Template::new(source, "<s>", "</s>")?;
/// let messages = [Message::new("user", "Hello")];
/// assert_eq!(template.render(&messages, None, true, &Default::default())?, "<|user|>Hello</s>");
/// # Ok::<(), trine_text::Error>(())
/// ```
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    /// For chats without tools, or why there is none.
    default: Checked,
    /// For chats with tools, if they have another, or why it does not compile.
    tool_use: Option<Checked>,
    bos: String,
    eos: String,
}

/// A template, or why it does not compile.
type Checked = std::result::Result<Source, String>;

/// A template that compiles.
#[derive(Debug)]
struct Source {
    text: String,
    /// The text as Jinja reads it.
    normalized: String,
}

impl Source {
    fn new(text: &str) -> Checked {
        if text.len() > SOURCE {
            return Err(format!("expected at most {SOURCE} bytes, found {}", text.len()));
        }
        let source = Source { text: text.to_owned(), normalized: lexer::normalized(text) };
        let compiled = on_own_stack(|| source.compile().map(drop));
        compiled.map_err(|error| match error {
            Error::Template(problem) => problem,
            other => other.to_string(),
        })?;
        Ok(source)
    }

    /// Compiles the template to instructions of the engine, with Python's operators.
    fn compile(&self) -> Result<(Instructions<'_>, BTreeMap<&str, Instructions<'_>>)> {
        let tree = parser::parse(&self.normalized)?;
        let mut generator = CodeGenerator::new(NAME, &self.normalized);
        generator.compile_stmt(&tree);
        Ok(generator.finish())
    }
}

impl Template {
    /// Compiles a template. `bos` and `eos` are the names of these tokens, its variables `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// When the template has a syntax error, or is too large.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Template> {
        Template::of(&Templates::from(source), bos, eos)
    }

    /// Compiles a model's templates. Chats with tools get the one named `tool_use`, if there is one, and all others `default`, as in
    /// `apply_chat_template` of transformers.
    ///
    /// # Errors
    /// When there is neither, or neither can be read and compiles. If one does, rendering tells what is wrong with the other.
    pub fn of(templates: &Templates, bos: &str, eos: &str) -> Result<Template> {
        let mut environment = Environment::empty();
        // In debug mode, errors name undefined variables.
        environment.set_debug(true);
        environment.set_fuel(Some(STEPS));
        environment.set_recursion_limit(DEPTH);
        operators::install(&mut environment);
        functions::install(&mut environment);
        macros::install(&mut environment);
        let checked = |name| templates.source(name).and_then(Source::new);
        let (default, tool_use) = (checked(DEFAULT), templates.contains(TOOL_USE).then(|| checked(TOOL_USE)));
        if let (Err(problem), None | Some(Err(_))) = (&default, &tool_use) {
            return Err(Error::Template(problem.clone()));
        }
        let mut template = Template { environment, default, tool_use, bos: bos.into(), eos: eos.into() };
        template.set_clock(|| chrono::Local::now().naive_local());
        Ok(template)
    }

    /// Sets the time that templates may write to the prompt. The default is the current local time.
    pub fn at(mut self, time: NaiveDateTime) -> Template {
        self.set_clock(move || time);
        self
    }

    fn set_clock(&mut self, now: impl Fn() -> NaiveDateTime + Send + Sync + 'static) {
        self.environment.add_function("strftime_now", move |format: &str| python::strftime(now(), format));
    }

    /// Renders a prompt from `messages`, a slice of [`Message`] or any type that serializes to a list of messages. `tools` are
    /// function definitions as in OpenAI's API, for which some models have another template ([`Template::of`]). With `add_generation_prompt`,
    /// the prompt ends with the start of an assistant message. `extra` has further variables, such as `enable_thinking`, which override the
    /// others.
    ///
    /// A template that fails because a function has no description or no parameters, which may be left out, gets empty ones, and one that fails
    /// without tools gets an empty list.
    ///
    /// In the text, nothing tells the template's control tokens from those that a message writes: for prompts, use [`Template::render_chat`].
    ///
    /// # Errors
    /// As [`Template::source`], and when the template fails, which it may do deliberately by `raise_exception`, or exceeds a limit.
    pub fn render<M: Serialize + ?Sized>(
        &self,
        messages: &M,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        extra: &Map<String, serde_json::Value>,
    ) -> Result<String> {
        let source = self.chosen(tools.is_some())?;
        let render = |tools: Option<&serde_json::Value>| {
            let standard = [
                ("messages", Value::from(Serde(messages))),
                ("tools", tools.map_or(Value::from(()), |tools| Value::from(Serde(tools)))),
                ("documents", Value::from(())),
                ("add_generation_prompt", add_generation_prompt.into()),
                ("bos_token", self.bos.as_str().into()),
                ("eos_token", self.eos.as_str().into()),
            ];
            let extra = extra.iter().map(|(key, value)| (key.as_str(), Value::from(Serde(value))));
            let context: BTreeMap<&str, Value> = standard.into_iter().chain(extra).collect();
            on_own_stack(|| self.render_here(source, Value::from(context)))
        };
        render(tools).or_else(|problem| {
            let completed = tools.map_or_else(|| serde_json::json!([]), tools::completed);
            if tools == Some(&completed) { Err(problem) } else { render(Some(&completed)).map_err(|_| problem) }
        })
    }

    /// [`Template::render`] for [`Tokenizer::encode_chat`], which encodes what the template writes as control tokens, and what `messages`,
    /// `tools` and `extra` say as plain text: `<|im_end|>` in a message ends no message. The same goes for user-defined tokens that the template
    /// mentions, such as `<tool_call>`; but in the content of an assistant's message they remain tokens, because templates look there for
    /// `</think>`, and the model wrote them.
    ///
    /// Words that structure a chat and are no tokens of their own, such as `### Instruction:`, are plain text in either place; nothing tells
    /// the template's from a message's.
    ///
    /// ```
    /// use trine_text::{Message, Template, Tokenizer, Vocab};
    ///
    /// let tokens = ["<|end|>", "<", "|", ">", "e", "n", "d", "Ġ"].to_vec();
    /// let vocab = Vocab { model: "gpt2", pre: Some("gpt-2"), token_types: [3, 1, 1, 1, 1, 1, 1, 1].to_vec().into(), tokens, ..Vocab::default() };
    /// let tokenizer = Tokenizer::new(vocab)?;
    /// let template = Template::new("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}", "", "")?;
    /// let messages = [Message::new("user", "<|end|>")];
    /// let chat = template.render_chat(&tokenizer, &messages, None, true, &Default::default())?;
    /// assert_eq!(chat.text(), "<|end|><|end|>");
    /// assert_eq!(tokenizer.encode_chat(&chat), [1, 2, 4, 5, 6, 2, 3, 0]);
    /// # Ok::<(), trine_text::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Template::render`], and when `messages` have no form in JSON.
    pub fn render_chat<M: Serialize + ?Sized>(
        &self,
        tokenizer: &Tokenizer,
        messages: &M,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        extra: &Map<String, serde_json::Value>,
    ) -> Result<Rendered> {
        let guard = Guard::new(&self.chosen(tools.is_some())?.normalized, tokenizer)?;
        let mut messages = serde_json::to_value(messages).map_err(|error| Error::Template(error.to_string()))?;
        guard.messages(&mut messages);
        let (mut tools, mut extra) = (tools.cloned(), extra.clone());
        tools.iter_mut().chain(extra.values_mut()).for_each(|value| guard.request(value));
        let marked = self.render(&messages, tools.as_ref(), add_generation_prompt, &extra);
        match marked {
            Ok(marked) => Ok(guard.rendered(&marked)),
            Err(Error::Template(problem)) => Err(Error::Template(problem.replace(is_break, ""))),
            Err(error) => Err(error),
        }
    }

    fn render_here(&self, source: &Source, context: Value) -> Result<String> {
        let (instructions, blocks) = source.compile()?;
        let mut text = String::new();
        let mut output = machinery::make_string_output(&mut text);
        machinery::eval(&self.environment, &instructions, context, &blocks, &mut output, AutoEscape::None)
            .map_err(explain)?;
        Ok(text)
    }

    fn chosen(&self, tools: bool) -> Result<&Source> {
        let special = self.tool_use.as_ref().filter(|_| tools);
        special.unwrap_or(&self.default).as_ref().map_err(|problem| Error::Template(problem.clone()))
    }

    /// The source of the template for chats with or without tools.
    ///
    /// # Errors
    /// When there is none, or it does not compile.
    pub fn source(&self, tools: bool) -> Result<&str> {
        Ok(&self.chosen(tools)?.text)
    }
}

/// Runs the engine in a thread with a large stack, since it recurses for nested templates, and converts a panic to an error.
fn on_own_stack<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, run);
        let thread = thread.map_err(|error| Error::Template(format!("cannot start a thread: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::Template("the template engine failed".to_owned())))
    })
}

/// Converts an error with all its causes, on one line, which begins with the line of the template.
fn explain(error: minijinja::Error) -> Error {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let (mut text, mut cause) = (String::new(), Some(&error as &dyn std::error::Error));
    while let Some(error) = cause {
        text.push_str(if text.is_empty() { "" } else { ": " });
        text.push_str(error.to_string().split(&format!(" (in {NAME}:")).next().unwrap_or_default());
        cause = error.source();
    }
    Error::Template(line + &text)
}
