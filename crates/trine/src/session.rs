use crate::{ChatOptions, Error, Llm, Stream};
use trine_engine::{FinishReason, Sampling, Token, Usage};
use trine_text::Message;

/// A conversation with a model: its messages, and how each answer is sampled. Each turn reads only what is new, since the keys and values of
/// earlier messages are in the model's prefix cache, as long as nothing else needs their room.
///
/// ```
/// use trine::prelude::*;
///
/// let mut llm = Llm::embedded()?; // or Llm::open("model.gguf")?
/// # llm.set_template("{% for m in messages %}{{ m.content }}\n{% endfor %}")?;
/// let mut session = Session::new(&mut llm, Sampling { max_tokens: Some(16), ..Sampling::greedy() });
/// let answer = session.ask("Once upon a time, there was a cat.")?.text()?;
/// for token in session.ask("The cat had a friend.")? {
///     print!("{}", token?.text);
/// }
/// assert_eq!(session.messages.len(), 4);
/// assert_eq!(session.messages[1], Message::new("assistant", answer));
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Session<'a> {
    llm: &'a mut Llm,
    /// The messages so far, which may be changed: a system message comes first.
    pub messages: Vec<Message>,
    /// How the next answer is sampled.
    pub sampling: Sampling,
    /// Tools, and variables of the template.
    pub options: ChatOptions,
}

impl<'a> Session<'a> {
    /// A conversation without messages.
    pub fn new(llm: &'a mut Llm, sampling: Sampling) -> Session<'a> {
        Session { llm, messages: Vec::new(), sampling, options: ChatOptions::default() }
    }

    /// Adds a message of the user, and answers.
    ///
    /// # Errors
    /// Those of [`Llm::chat`]; then the message is not added.
    pub fn ask(&mut self, text: impl Into<String>) -> Result<Turn<'_>, Error> {
        let Session { llm, messages, sampling, options } = self;
        messages.push(Message::new("user", text));
        match llm.chat_with(messages, options, sampling) {
            Ok(stream) => Ok(Turn { stream, text: String::new(), messages }),
            Err(error) => {
                messages.pop();
                Err(error)
            }
        }
    }

    /// Answers the messages as they are: after a result of a tool, say, or once more.
    ///
    /// # Errors
    /// Those of [`Llm::chat`].
    pub fn answer(&mut self) -> Result<Turn<'_>, Error> {
        let Session { llm, messages, sampling, options } = self;
        let stream = llm.chat_with(messages, options, sampling)?;
        Ok(Turn { stream, text: String::new(), messages })
    }
}

/// An answer in a [`Session`] as it is generated. When it ends or is dropped, what there is of it is a message of the session, unless there is nothing.
pub struct Turn<'a> {
    stream: Stream<'a>,
    text: String,
    messages: &'a mut Vec<Message>,
}

impl Turn<'_> {
    /// Waits for the end of the answer; all of its text.
    ///
    /// # Errors
    /// Those of [`Stream::answer`].
    pub fn text(mut self) -> Result<String, Error> {
        self.by_ref().try_for_each(|token| token.map(drop))?;
        Ok(format!("{}{}", self.text, self.stream.rest()))
    }

    /// As [`Stream::finish_reason`].
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.stream.finish_reason()
    }

    /// As [`Stream::usage`].
    pub fn usage(&self) -> Option<Usage> {
        self.stream.usage()
    }
}

impl Iterator for Turn<'_> {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let token = self.stream.next()?;
        if let Ok(token) = &token {
            self.text.push_str(&token.text);
        }
        Some(token)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let text = format!("{}{}", self.text, self.stream.rest());
        if !text.is_empty() {
            self.messages.push(Message::new("assistant", text));
        }
    }
}
