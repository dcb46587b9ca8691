//! Answers of a chat as one grammar: thinking, then calls of tools or the answer itself.
//!
//! It is made of the tables of [`ChatFormat`], so that what it accepts is what [`ChatParser`](trine_text::ChatParser) takes apart.

mod arguments;
mod section;
mod values;
mod writer;

use crate::{Constraint, Error, Limits, Vocabulary};
use section::Section;
use trine_text::{ChatFormat, Tool};
use writer::Writer;

/// What an answer of a chat must look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chat {
    pub format: ChatFormat,
    /// The functions that may be called. Arguments of one that is `strict` keep to its schema, or it is refused; those of others keep to
    /// it where it is supported, and are some JSON object otherwise.
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    /// Whether there may be several calls, if the format has them.
    pub parallel_tool_calls: bool,
    pub thinking: Thinking,
    /// What the answer itself must look like: a JSON Schema, a regular expression or choices.
    pub content: Option<Box<Constraint>>,
}

/// Whether tools are called, as in OpenAI's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ToolChoice {
    None,
    /// The model chooses.
    #[default]
    Auto,
    /// There is at least one call.
    Required,
    /// There is one call, of this function.
    Named(String),
}

impl ToolChoice {
    /// Whether an answer is a call in any case.
    pub fn is_call(&self) -> bool {
        matches!(self, ToolChoice::Required | ToolChoice::Named(_))
    }
}

/// Whether an answer begins with thinking, where the format has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Thinking {
    /// It does not.
    Off,
    /// The model chooses.
    #[default]
    Auto,
    /// The prompt opens it ([`ChatFormat::thinks`]).
    Begun,
}

impl Chat {
    /// Bytes of its schemas.
    pub(crate) fn bytes(&self) -> usize {
        let tools = self.tools.iter().map(|tool| tool.name.len() + tool.parameters.to_string().len());
        tools.sum::<usize>() + self.content.as_ref().map_or(0, |content| content.bytes())
    }

    /// The grammar in Lark.
    pub(crate) fn lower(&self, limits: &Limits, vocabulary: Option<&Vocabulary>) -> Result<String, Error> {
        let mut writer = Writer::new(vocabulary, limits);
        let section = match self.tool_choice {
            ToolChoice::None => None,
            ToolChoice::Auto if self.tools.is_empty() => None,
            _ => Some(Section::new(&mut writer, self)?),
        };
        let (section, text) = (section.as_ref(), self.content.as_ref());
        let text = text.map(|content| writer.constraint(content)).transpose()?;
        let text = text.as_deref();
        let Some(format) = self.format.reasoning.filter(|_| self.thinking != Thinking::Off) else {
            let start = self.answer(&mut writer, section, text)?;
            return Ok(writer.finish(&start));
        };
        let close = writer.until(format.close);
        let between = writer.text(self.format.content.between, true);
        let thinking = writer.rule("thinking", &format!("{close} {between}"));
        // The parser drops whitespace after thinking, and keeps that of an answer without.
        let after_thinking = text.map(|text| format!("WS? {text}"));
        let answer = self.answer(&mut writer, section, after_thinking.as_deref())?;
        let start = match self.thinking {
            Thinking::Begun => format!("{thinking} {answer}"),
            _ => {
                // Messages of their own may be several.
                let several = !self.format.content.between.is_empty();
                let thinking = format!("({} {thinking})", writer.opening(format.open, false));
                match text {
                    None => format!("{thinking}{} {answer}", if several { "*" } else { "?" }),
                    Some(_) => {
                        let alone = self.answer(&mut writer, section, text)?;
                        format!("{thinking}{} {answer} | {alone}", if several { "+" } else { "" })
                    }
                }
            }
        };
        Ok(writer.finish(&start))
    }

    /// What follows thinking, where the answer itself is `text`.
    fn answer(&self, writer: &mut Writer, section: Option<&Section>, text: Option<&str>) -> Result<String, Error> {
        let content = self.format.content;
        let Some(section) = section else { return Ok(writer.wrapped(content, text)) };
        if self.tool_choice != ToolChoice::Auto {
            return Ok(section.whole.clone());
        }
        let calls = &section.whole;
        let answer = match text {
            Some(_) if section.at_start => {
                let problem = "tools beside an answer of a given form: not supported by the calls of this model";
                return Err(invalid(problem.to_owned()));
            }
            None if section.at_start => {
                // A text that begins as a call does would be one.
                let text = writer.text_without(section.markers());
                format!("{text} | {calls}")
            }
            None if !content.required => format!("{} | {}", writer.wrapped(content, None), section.after_text(writer)),
            // Content and calls are messages of their own.
            _ if !content.between.is_empty() => {
                format!("{} | {} {calls}", writer.wrapped(content, text), writer.preamble(content))
            }
            None => {
                let open = content.open.strip_prefix(content.prompted).unwrap_or(content.open);
                let open = writer.text(open, false);
                let both = section.after_text(writer);
                format!("{} | {open} {both} | {calls}", writer.wrapped(content, None))
            }
            Some(_) => format!("{} | {calls}", writer.wrapped(content, text)),
        };
        Ok(writer.rule("answer", &answer))
    }
}

fn invalid(problem: String) -> Error {
    crate::grammar::invalid("chat", problem)
}
