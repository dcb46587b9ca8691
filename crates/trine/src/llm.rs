use crate::{ChatOptions, EMBEDDED, Error, Memory, Options, Placement, Stream, UsedMemory};
use std::ops::ControlFlow;
use std::path::Path;
use trine_engine::{Answer, Choice, Engine, FinishReason, Prompt, Request, Sampling};
use trine_grammar::{Constraint, Grammar, Grammars};
use trine_model::{GenerationConfig, Spec};
use trine_tensor::memory;
use trine_text::{Message, Rendered, Template, Templates, Tokenizer};

/// A model that answers, one request at a time. [`Options::spawn`] gives a handle for many requests at once.
pub struct Llm {
    pub(crate) engine: Engine,
    pub(crate) grammars: Grammars,
    /// The model's chat template, or why there is none that compiles.
    pub(crate) template: Option<Result<Template, String>>,
    pub(crate) generation: GenerationConfig,
    pub(crate) warnings: Vec<String>,
    pub(crate) memory: Memory,
    pub(crate) placement: Placement,
}

impl Llm {
    /// Loads a model with default [`Options`].
    ///
    /// # Errors
    /// When the file cannot be opened or makes no sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Llm, Error> {
        Options::default().open(path)
    }

    /// The small model that is part of the program, [`EMBEDDED`], with default [`Options`].
    ///
    /// # Errors
    /// When the machine has no room for its cache, or no thread.
    pub fn embedded() -> Result<Llm, Error> {
        Llm::open(EMBEDDED)
    }
}

impl Llm {
    /// Continues a text, and gives the whole answer.
    ///
    /// # Errors
    /// When the prompt does not fit into the context, or a sampling option is out of its range.
    pub fn generate(&mut self, prompt: &str, sampling: &Sampling) -> Result<Answer, Error> {
        self.stream(prompt, sampling)?.answer()
    }

    /// Waits until keys and values are on disk, as [`Engine::close_disk_cache`]; why some are not.
    pub fn close_disk_cache(&mut self) -> Option<String> {
        self.engine.close_disk_cache()
    }

    /// Continues a text, token by token. Who drops the stream cancels the rest.
    ///
    /// ```
    /// use trine::prelude::*;
    ///
    /// let mut llm = Llm::embedded()?;
    /// let sampling = Sampling { max_tokens: Some(8), ..Sampling::greedy() };
    /// let mut text = String::new();
    /// for token in llm.stream("Once upon a time", &sampling)? {
    ///     text.push_str(&token?.text); // print!(...)
    /// }
    /// # assert_eq!(text, llm.generate("Once upon a time", &sampling)?.text);
    /// # Ok::<(), trine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Llm::generate`].
    pub fn stream(&mut self, prompt: &str, sampling: &Sampling) -> Result<Stream<'_>, Error> {
        self.submit(Request::new(prompt, sampling.clone()))
    }

    /// Answers the last message of a chat, which is written as the model's template says.
    ///
    /// ```
    /// use trine::prelude::*;
    ///
    /// let mut llm = Llm::embedded()?;
    /// llm.set_template("{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>")?;
    /// let messages = [Message::new("system", "Be brief."), Message::new("user", "Hello!")];
    /// let sampling = Sampling { max_tokens: Some(8), ..Sampling::greedy() };
    /// let answer: Result<String, Error> =
    ///     llm.chat(&messages, &sampling)?.map(|token| Ok(token?.text)).collect();
    /// # assert_eq!(answer?, llm.generate("<system>Be brief.\n<user>Hello!\n<assistant>", &sampling)?.text);
    /// # Ok::<(), trine::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Llm::render`] and [`Llm::generate`].
    pub fn chat(&mut self, messages: &[Message], sampling: &Sampling) -> Result<Stream<'_>, Error> {
        self.chat_with(messages, &ChatOptions::default(), sampling)
    }

    /// [`Llm::chat`] with tools and variables of the template.
    ///
    /// # Errors
    /// As [`Llm::chat`].
    pub fn chat_with(
        &mut self,
        messages: &[Message],
        options: &ChatOptions,
        sampling: &Sampling,
    ) -> Result<Stream<'_>, Error> {
        let prompt = self.render_with(messages, options)?;
        self.submit(Request::new(prompt, sampling.clone()))
    }

    /// Answers a request: with a prompt of tokens, say, or with custom filters.
    ///
    /// # Errors
    /// As [`Llm::generate`], and when the model has no such token.
    pub fn submit(&mut self, request: Request) -> Result<Stream<'_>, Error> {
        let sequence = self.engine.submit(request)?;
        Ok(Stream::new(&mut self.engine, sequence))
    }

    /// Compiles a constraint for answers of this model. Each request takes a filter of it.
    ///
    /// ```
    /// use trine::prelude::*;
    ///
    /// let mut llm = Llm::embedded()?;
    /// let schema = r#"{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}"#;
    /// let grammar = llm.grammar(&Constraint::JsonSchema(schema.to_owned()))?;
    /// let sampling = Sampling { max_tokens: Some(100), ..Sampling::greedy() };
    /// let request = Request { filters: vec![grammar.filter()], ..Request::new("Once upon a time", sampling) };
    /// let answer = llm.submit(request)?.answer()?;
    /// # assert!(answer.text.starts_with('{'), "{}", answer.text);
    /// # Ok::<(), trine::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the constraint is invalid, not supported or too large, or no token of the vocabulary ends an answer.
    pub fn grammar(&self, constraint: &Constraint) -> Result<Grammar, Error> {
        Ok(self.grammars.compile(constraint)?)
    }

    /// All answers to a request of several, or those chosen by [`Sampling::best_of`], the best first. As soon as `go_on` is false, they end
    /// with [`FinishReason::Cancelled`].
    ///
    /// ```
    /// use trine::prelude::*;
    ///
    /// let mut options = Options::default();
    /// options.engine.max_sequences = 3;
    /// let mut llm = options.open(EMBEDDED)?;
    /// let sampling = Sampling { n: 3, max_tokens: Some(8), seed: Some(1), ..Sampling::default() };
    /// let choices = llm.choices(Request::new("Once upon a time", sampling), || true)?;
    /// assert_eq!(choices.len(), 3);
    /// # Ok::<(), trine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Llm::submit`], and when an answer fails.
    pub fn choices(&mut self, request: Request, mut go_on: impl FnMut() -> bool) -> Result<Vec<Choice>, Error> {
        let (n, ranks) = (request.sampling.n, request.sampling.best_of.is_some());
        let ids = self.engine.submit_all(request)?;
        let mut choices: Vec<Choice> = (0..ids.len()).map(Choice::new).collect();
        let mut open = ids.len();
        while open > 0 && go_on() {
            self.engine.step(&mut |event| {
                if ids.get(event.index) == Some(&event.sequence) {
                    open -= usize::from(choices[event.index].update(event.kind.into()));
                }
                ControlFlow::Continue(())
            });
        }
        for (choice, id) in choices.iter_mut().zip(ids) {
            if let Some((text, usage, timing)) = self.engine.cancel(id) {
                choice.text.push_str(&text);
                (choice.usage, choice.timing) = (usage, timing);
            }
        }
        if let Some(at) = choices.iter().position(|choice| matches!(choice.finish_reason, FinishReason::Failed(_)))
            && let FinishReason::Failed(error) = choices.swap_remove(at).finish_reason
        {
            return Err(error.into());
        }
        Ok(if ranks { Choice::best(choices, n) } else { choices })
    }

    /// The prompt for the assistant's answer to a chat. A request takes it as it is; messages write no control tokens in it
    /// ([`Template::render_chat`]).
    ///
    /// # Errors
    /// Those of [`Llm::template`], and when the template refuses these messages.
    pub fn render(&self, messages: &[Message]) -> Result<Rendered, Error> {
        self.render_with(messages, &ChatOptions::default())
    }

    /// [`Llm::render`] with tools and variables of the template.
    ///
    /// # Errors
    /// As [`Llm::render`].
    pub fn render_with(&self, messages: &[Message], options: &ChatOptions) -> Result<Rendered, Error> {
        options.render(self.template()?, self.tokenizer(), messages)
    }

    /// The tokens of a prompt, as [`Prompt::into_tokens`] gives them.
    pub fn tokens(&self, prompt: impl Into<Prompt>) -> Vec<u32> {
        prompt.into().into_tokens(self.tokenizer())
    }

    /// Uses another chat template than the model's own.
    ///
    /// # Errors
    /// When it is no template.
    pub fn set_template(&mut self, source: &str) -> Result<(), Error> {
        self.template = Some(Ok(compile(&source.into(), self.tokenizer())?));
        Ok(())
    }

    /// Whether the model has a chat template. It may be one that does not compile, or that must be chosen by its name.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The chat template, for chats with and without tools.
    ///
    /// # Errors
    /// [`Error::NoTemplate`], and those of [`Template::of`].
    pub fn template(&self) -> Result<&Template, Error> {
        match self.template.as_ref().ok_or(Error::NoTemplate)? {
            Ok(template) => Ok(template),
            Err(problem) => Err(trine_text::Error::Template(problem.clone()).into()),
        }
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        self.engine.context()
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.engine.spec()
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.engine.tokenizer()
    }

    /// What the model's `generation_config.json` or GGUF's `general.sampling` says, if it has one: [`Sampling::recommended`] makes options of it.
    ///
    /// ```
    /// use trine::prelude::*;
    ///
    /// let llm = Llm::embedded()?;
    /// let sampling = Sampling::preset("balanced")?.recommended(llm.generation());
    /// # assert_eq!(sampling, Sampling::preset("balanced")?);
    /// # Ok::<(), trine::Error>(())
    /// ```
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// What was assumed about the model, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The memory that was planned for it.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The memory that it takes now.
    pub fn used_memory(&self) -> UsedMemory {
        UsedMemory {
            device: self.engine.memory().device,
            kv_cache: self.engine.load().kv_cache_bytes,
            resident: memory::resident(),
            peak: memory::peak_resident(),
        }
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.placement.threads
    }

    /// Where its threads and weights are.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.placement.isa
    }

    /// The engine, to run many requests at once, and the chat template, or why there is none, as [`Llm::template`] says.
    pub fn into_parts(self) -> (Engine, Result<Template, Error>) {
        let template = self.template.ok_or(Error::NoTemplate);
        let template = template.and_then(|template| Ok(template.map_err(trine_text::Error::Template)?));
        (self.engine, template)
    }
}

/// Compiles chat templates for the special tokens of `tokenizer`.
pub(crate) fn compile(templates: &Templates, tokenizer: &Tokenizer) -> Result<Template, trine_text::Error> {
    let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.name(id)).unwrap_or_default();
    Template::of(templates, spelled(tokenizer.bos()), spelled(tokenizer.eos()))
}
