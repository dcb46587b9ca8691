//! Chat templates: the messages of a chat become one prompt, as Hugging Face's `apply_chat_template` makes it.

mod budget;
mod filters;
mod format;
mod iterators;
mod json;
mod methods;
mod operators;
mod pprint;
mod python;
mod repr;
mod rewrite;
mod texts;
mod wrap;

use crate::{Error, Result};
use chrono::NaiveDateTime;
use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::collections::BTreeMap;

/// Instructions that one rendering may take; a real template takes some thousands.
const STEPS: u64 = 2_000_000;

/// Frames of macros and loops inside each other.
const DEPTH: usize = 200;

/// Bytes that a template may have, four times the longest known.
const SOURCE: usize = 64 << 10;

/// Bytes of stack for the engine: enough for what [`SOURCE`] can nest and [`STEPS`] can build. They are only reserved.
const STACK: usize = 256 << 20;

/// The template's name in error messages.
const NAME: &str = "chat template";

/// One message of a chat. Messages of any other shape can be rendered as general JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// Usually a string; for some models a list of parts; null where a message has only tool calls.
    #[serde(default)]
    pub content: serde_json::Value,
    /// Everything else a template may look at: `name`, `tool_calls`, `tool_call_id`, `reasoning_content`.
    #[serde(flatten)]
    pub rest: Map<String, serde_json::Value>,
}

impl Message {
    /// A message that is text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into().into(), rest: Map::new() }
    }
}

/// A compiled chat template (Jinja, set up as Hugging Face transformers sets it up).
///
/// Templates come with model files and may be hostile: a template reaches nothing but its arguments, and its length and
/// the steps, depth, and bytes read and built of a rendering are bounded.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    source: String,
    /// The source as the engine takes it.
    plain: String,
    bos: String,
    eos: String,
}

impl Template {
    /// Compiles a template; `bos` and `eos` are the spellings it gets as `bos_token` and `eos_token`.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Template> {
        let mut environment = Environment::new();
        // Errors then name what is undefined.
        environment.set_debug(true);
        environment.set_fuel(Some(STEPS));
        environment.set_recursion_limit(DEPTH);
        filters::install(&mut environment);
        methods::install(&mut environment);
        operators::install(&mut environment);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let plain = python::without_generation_tags(source);
        let mut template = Template { environment, source: source.to_owned(), plain, bos: bos.into(), eos: eos.into() };
        template.set_clock(|| chrono::Local::now().naive_local());
        if source.len() > SOURCE {
            let problem = format!("expected at most {SOURCE} bytes, found {}", source.len());
            return Err(Error::Template(problem));
        }
        on_own_stack(|| template.compile().map(drop))?;
        Ok(template)
    }

    /// Renders as if it was always `time`, which some templates write into the prompt.
    pub fn at(mut self, time: NaiveDateTime) -> Template {
        self.set_clock(move || time);
        self
    }

    fn set_clock(&mut self, now: impl Fn() -> NaiveDateTime + Send + Sync + 'static) {
        self.environment.add_function("strftime_now", move |format: &str| python::strftime(now(), format));
    }

    /// The prompt for `messages`, which are a slice of [`Message`] or general JSON. `tools` are function definitions
    /// as in OpenAI's API; with `add_generation_prompt` the prompt ends where the assistant's turn begins; `extra`
    /// are further variables (`enable_thinking`), and win over the others.
    ///
    /// Fails where the template does: it may refuse a chat by `raise_exception`.
    pub fn render<M: Serialize + ?Sized>(
        &self,
        messages: &M,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        extra: &Map<String, serde_json::Value>,
    ) -> Result<String> {
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
        on_own_stack(|| self.render_here(Value::from(context)))
    }

    /// The program of the engine for the template, with Python's operators.
    fn compile(&self) -> Result<(Instructions<'_>, BTreeMap<&str, Instructions<'_>>)> {
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(explain)?;
        let tree = machinery::parse(&self.plain, NAME, syntax).map_err(explain)?;
        let mut generator = CodeGenerator::new(NAME, &self.plain);
        generator.compile_stmt(&rewrite::stmt(&tree));
        Ok(generator.finish())
    }

    fn render_here(&self, context: Value) -> Result<String> {
        let (instructions, blocks) = self.compile()?;
        let mut text = String::new();
        let mut output = machinery::make_string_output(&mut text);
        machinery::eval(&self.environment, &instructions, context, &blocks, &mut output, AutoEscape::None)
            .map_err(explain)?;
        Ok(text)
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Runs the engine where it can do no harm: should it panic, that is an error, and it compiles, drops and prints what a
/// template nests frame by frame.
fn on_own_stack<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, run);
        let thread = thread.map_err(|error| Error::Template(format!("no thread to run it in: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::Template("the template engine failed".to_owned())))
    })
}

/// The error with everything it was caused by, on one line.
fn explain(error: minijinja::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Error::Template(text)
}
