use crate::Error;
use serde_json::{Map, Value};
use std::collections::HashSet;
use trine_text::{Message, Rendered, Template, Tokenizer};

/// What a chat template gets besides the messages.
///
/// ```
/// use trine::prelude::*;
///
/// let mut llm = Llm::embedded()?;
/// llm.set_template("{% if not enable_thinking %}/no_think {% endif %}{{ tools | length }}: {{ messages[0].content }}")?;
/// let mut options = ChatOptions::default();
/// options.tools = Some(serde_json::json!([{"type": "function", "function": {"name": "now"}}]));
/// options.variables.insert("enable_thinking".to_owned(), false.into());
/// let prompt = llm.render_with(&[Message::new("user", "Hello!")], &options)?;
/// assert_eq!(prompt.text(), "/no_think 1: Hello!");
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// A list of functions that the model may call, as in OpenAI's API.
    pub tools: Option<Value>,
    /// Variables of the template, such as `enable_thinking`. They override those that every template has.
    pub variables: Map<String, Value>,
}

impl ChatOptions {
    /// The prompt for the assistant's answer to a chat, as `template` writes it for this tokenizer.
    ///
    /// # Errors
    /// When the template refuses these messages.
    pub fn render(&self, template: &Template, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Rendered, Error> {
        Ok(template.render_chat(tokenizer, messages, self.tools.as_ref(), true, &self.variables)?)
    }

    /// Those of the variables, and `tools`, that `template` does not mention. With tools, it may be another than without ([`Template::of`]).
    pub fn unused<'a>(&'a self, template: &Template) -> Vec<&'a str> {
        let tools = self.tools.iter().map(|_| "tools");
        let names = tools.chain(self.variables.keys().map(String::as_str));
        let source = template.source(self.tools.is_some()).unwrap_or_default();
        let words = source.split(|c: char| c != '_' && !c.is_alphanumeric());
        let words: HashSet<&str> = words.collect();
        names.filter(|name| !words.contains(name)).collect()
    }
}
