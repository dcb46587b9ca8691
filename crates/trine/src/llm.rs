use crate::backend::{Backend, Cpu};
use crate::engine::{Answer, Engine, Request, Sampling};
use crate::model::Spec;
use crate::text::{EncodeOptions, Message, Template, Tokenizer};
use crate::{EMBEDDED, Error, Memory, Options, Placement, Stream};
use std::ops::ControlFlow;
use std::path::Path;

/// A model that answers: on the CPU, or on what [`Options::open_on`] made of it.
pub struct Llm<B: Backend = Cpu> {
    pub(crate) engine: Engine<B>,
    pub(crate) template: Option<Template>,
    pub(crate) warnings: Vec<String>,
    pub(crate) memory: Memory,
    pub(crate) placement: Placement,
    pub(crate) isa: &'static str,
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

impl<B: Backend> Llm<B> {
    /// Continues a text, and gives the whole answer.
    ///
    /// # Errors
    /// When the prompt does not fit into the context, or a sampling option is out of its range.
    pub fn generate(&mut self, prompt: &str, sampling: &Sampling) -> Result<Answer, Error> {
        let request = Request { prompt: self.tokens(prompt), sampling: sampling.clone() };
        Ok(self.engine.generate(&request, &mut |_| ControlFlow::Continue(()))?)
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
    pub fn stream(&mut self, prompt: &str, sampling: &Sampling) -> Result<Stream<'_, B>, Error> {
        let prompt = self.tokens(prompt);
        self.continue_tokens(prompt, sampling)
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
    /// [`Error::NoTemplate`]; when the template refuses these messages; and those of [`Llm::generate`].
    pub fn chat(&mut self, messages: &[Message], sampling: &Sampling) -> Result<Stream<'_, B>, Error> {
        let prompt = self.tokens(&self.render(messages)?);
        self.continue_tokens(prompt, sampling)
    }

    /// Continues tokens, which are taken as they are.
    ///
    /// # Errors
    /// As [`Llm::generate`], and when the model has no such token.
    pub fn continue_tokens(&mut self, prompt: Vec<u32>, sampling: &Sampling) -> Result<Stream<'_, B>, Error> {
        let sequence = self.engine.submit(&Request { prompt, sampling: sampling.clone() })?;
        Ok(Stream::new(&mut self.engine, sequence))
    }

    /// The prompt for the assistant's answer to a chat.
    ///
    /// # Errors
    /// [`Error::NoTemplate`], and when the template refuses these messages.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let template = self.template.as_ref().ok_or(Error::NoTemplate)?;
        Ok(template.render(messages, None, true, &Default::default())?)
    }

    /// The tokens of a prompt: BOS in front where the tokenizer puts one in front of every text ([`Tokenizer::adds_bos`]) and this one does
    /// not have it, and for an empty text it alone. Names of control tokens become these tokens.
    ///
    /// A rendered chat is a prompt like any other, as in llama.cpp. Where its template writes no BOS though the tokenizer puts one in
    /// front, `apply_chat_template` of transformers leaves it out.
    pub fn tokens(&self, prompt: &str) -> Vec<u32> {
        tokens(self.tokenizer(), prompt)
    }

    /// Uses another chat template than the model's own.
    ///
    /// # Errors
    /// When it is no template.
    pub fn set_template(&mut self, source: &str) -> Result<(), Error> {
        let tokenizer = self.tokenizer();
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.name(id)).unwrap_or_default();
        self.template = Some(Template::new(source, spelled(tokenizer.bos()), spelled(tokenizer.eos()))?);
        Ok(())
    }

    /// Whether chats have a template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
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

    /// What was assumed about the model, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The memory it takes.
    pub fn memory(&self) -> Memory {
        self.memory
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
        self.isa
    }

    /// The engine, to run many requests at once, and the chat template.
    pub fn into_parts(self) -> (Engine<B>, Option<Template>) {
        (self.engine, self.template)
    }
}

/// See [`Llm::tokens`].
pub(crate) fn tokens(tokenizer: &Tokenizer, prompt: &str) -> Vec<u32> {
    let mut ids = tokenizer.encode(prompt, EncodeOptions { parse_special: true, add_special: false });
    let wanted = tokenizer.adds_bos() || ids.is_empty();
    if let Some(bos) = tokenizer.bos().filter(|bos| wanted && ids.first() != Some(bos)) {
        ids.insert(0, bos);
    }
    ids
}
