//! How models write what is not the answer itself: thinking and tool calls.
//!
//! Each family has its own markers. [`ChatFormat::of`] recognizes them in the chat template, [`ChatParser`] takes an answer apart while it
//! is generated, and the constraint `Chat` of the crate `grammar` reads the same tables to keep an answer to them.

mod arguments;
mod call;
mod kinds;
mod literals;
mod parser;
mod reasoning;
mod tools;

pub use kinds::Kinds;
pub use parser::{ChatParser, Delta};
pub use reasoning::{CONTENT_FORMATS, ContentFormat, REASONING_FORMATS, ReasoningFormat};
use serde_json::Value;
pub use tools::{Arguments, Part, TOOL_FORMATS, Tags, ToolFormat};

/// A function that a model may call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tool {
    pub name: String,
    /// The JSON Schema of its arguments; null where it has none.
    pub parameters: Value,
    /// Whether arguments must keep to the schema: OpenAI's `strict`.
    pub strict: bool,
}

/// What a family of models writes around its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChatFormat {
    /// How it thinks, if it does.
    pub reasoning: Option<&'static ReasoningFormat>,
    /// What is around the answer itself.
    pub content: &'static ContentFormat,
    /// How it calls tools, or why it cannot be asked to.
    pub tools: Result<&'static ToolFormat, &'static str>,
}

/// Why a template has no [`ToolFormat`].
const NO_TOOLS: &str = "the chat template does not describe tools";
const UNKNOWN_TOOLS: &str = "the chat template describes tools, but not in a known format of calls";

impl ChatFormat {
    /// The format that a chat template's source shows.
    pub fn of(template: &str) -> ChatFormat {
        let has = |marks: &[&str]| marks.iter().all(|mark| template.contains(mark));
        let tools = TOOL_FORMATS.iter().copied().find(|format| format.marks.iter().any(|marks| has(marks)));
        let plain = if template.contains("tools") { UNKNOWN_TOOLS } else { NO_TOOLS };
        ChatFormat {
            reasoning: REASONING_FORMATS
                .iter()
                .copied()
                .find(|format| format.marks.iter().any(|mark| template.contains(mark))),
            content: CONTENT_FORMATS.iter().find(|format| has(format.marks)).copied().unwrap_or(&reasoning::PLAIN),
            tools: tools.ok_or(plain),
        }
    }

    /// Whether a rendered prompt ends where the model thinks already.
    pub fn thinks(&self, prompt: &str) -> bool {
        self.reasoning.is_some_and(|format| prompt.trim_end().ends_with(format.open.trim_end()))
    }

    /// A parser of one answer. With `tools`, it looks for calls. `thinking` says whether the prompt opens thinking ([`ChatFormat::thinks`]).
    /// It expects the names of control tokens in the text (`skip_special_tokens` off), but for those that end the answer.
    pub fn parser(&self, tools: &[Tool], thinking: bool) -> ChatParser {
        ChatParser::new(*self, tools, thinking)
    }
}
