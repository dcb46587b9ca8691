use crate::Problem;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use trine_engine::{Prompt, Sampling};
use trine_grammar::Grammars;
use trine_text::{Message, Template, Tokenizer};

/// The model that requests are for, and what holds where they say nothing.
pub struct Served {
    /// Its name in answers.
    pub name: String,
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template, or why there is none.
    pub template: Result<Template, String>,
    pub sampling: Sampling,
    pub grammars: Grammars,
    /// Tokens of prompt and answer at most.
    pub context: usize,
    /// What tells the model and this version from others: `system_fingerprint` of answers.
    pub fingerprint: Option<String>,
    reads_parts: bool,
    reads_thoughts: bool,
    reads_developers: bool,
    reads_system: bool,
}

/// Whether a template writes the text of a content in parts, and not that of a string.
fn reads_parts(template: &Template) -> bool {
    let text = "hello";
    let writes = |content: Value| {
        let messages = [Message { role: "user".to_owned(), content, rest: Map::new() }];
        template.render(&messages, None, true, &Map::new()).is_ok_and(|prompt| prompt.contains(text))
    };
    !writes(text.into()) && writes(json!([{"type": "text", "text": text}]))
}

/// Whether a template writes the thoughts of an answer that are a part of its content, and not those in a field of their own.
fn reads_thoughts(template: &Template) -> bool {
    let thoughts = "hmm";
    let writes = |content: Value, rest: Value| {
        let rest = rest.as_object().cloned().unwrap_or_default();
        let messages = [Message::new("user", "hello"), Message { role: "assistant".to_owned(), content, rest }];
        let prompt = template.render(&messages, None, false, &Map::new()).unwrap_or_default();
        // A list that is written as it is tells nothing.
        prompt.contains(thoughts) && !["'thinking'", "\"thinking\""].iter().any(|name| prompt.contains(name))
    };
    let parts = json!([{"type": "thinking", "thinking": thoughts}, {"type": "text", "text": "hello"}]);
    writes(parts, json!({})) && !writes("hello".into(), json!({"reasoning_content": thoughts}))
}

/// Whether a template has a form for the messages of developers, which are those of the system elsewhere.
fn reads_developers(template: &Template) -> bool {
    let messages = [Message::new("developer", "hello"), Message::new("user", "hello")];
    template.source(false).is_ok_and(|source| source.contains("developer"))
        && template.render(&messages, None, true, &Map::new()).is_ok()
}

/// Whether a template has a form for messages of the system, or takes no messages at all.
fn reads_system(template: &Template) -> bool {
    let messages = [Message::new("system", "hello"), Message::new("user", "hello")];
    let is_taken = |messages: &[Message]| template.render(messages, None, true, &Map::new()).is_ok();
    is_taken(&messages) || !is_taken(&messages[1..])
}

/// The layout of chats with a model that has no template of its own: it goes on with the text that all messages make, in which each
/// but an assistant's begins a new paragraph.
pub const PLAIN_TEMPLATE: &str = "{% for message in messages %}\
    {% if not loop.first and message.role != 'assistant' %}{{ '\\n\\n' }}{% endif %}{{ message.content }}{% endfor %}";

impl Served {
    /// A model without a fingerprint.
    pub fn new(
        name: &str,
        tokenizer: Arc<Tokenizer>,
        template: Result<Template, String>,
        sampling: Sampling,
        context: usize,
    ) -> Served {
        let grammars = Grammars::new(tokenizer.clone());
        let reads_parts = template.as_ref().is_ok_and(reads_parts);
        let reads_thoughts = template.as_ref().is_ok_and(reads_thoughts);
        let reads_developers = template.as_ref().is_ok_and(reads_developers);
        let reads_system = template.as_ref().map_or(true, reads_system);
        Served {
            name: name.to_owned(),
            tokenizer,
            template,
            sampling,
            grammars,
            context,
            fingerprint: None,
            reads_parts,
            reads_thoughts,
            reads_developers,
            reads_system,
        }
    }

    /// Whether the template takes contents as lists of parts alone.
    pub(crate) fn reads_parts(&self) -> bool {
        self.reads_parts
    }

    /// Whether the template takes the thoughts of an answer as a part of its content.
    pub(crate) fn reads_thoughts(&self) -> bool {
        self.reads_thoughts
    }

    /// Whether the template takes messages of developers.
    pub(crate) fn reads_developers(&self) -> bool {
        self.reads_developers
    }

    /// Whether the template takes messages of the system.
    pub(crate) fn reads_system(&self) -> bool {
        self.reads_system
    }

    /// The tokens of a prompt, which has room in the context.
    ///
    /// # Errors
    /// When the prompt is empty or too long.
    pub fn tokens(&self, prompt: Prompt, param: &str, sampling: &Sampling) -> Result<Vec<u32>, Problem> {
        let tokens = prompt.into_tokens(&self.tokenizer);
        let (context, most) = (self.context, sampling.max_prompt(self.context));
        let error = match tokens.len() {
            0 => trine_engine::Error::EmptyPrompt,
            prompt if prompt > most => trine_engine::Error::PromptTooLong { prompt, most, context },
            _ => return Ok(tokens),
        };
        Err(Problem { param: Some(param.to_owned()), ..error.into() })
    }
}
