//! The calls of an answer.

use super::arguments::arguments;
use super::writer::{Atom, Writer, pattern};
use super::{Chat, ToolChoice, invalid};
use crate::Error;
use trine_text::{Part, Tool, ToolFormat};

/// Maximum length of a tool's name, as in OpenAI's API.
const NAME: usize = 64;

/// A section of calls as rules.
pub struct Section {
    /// All of it, with whitespace before.
    pub whole: String,
    /// Whether it is only where the answer begins.
    pub at_start: bool,
    /// The texts with which it may begin, and the rule of what follows each.
    rests: Vec<(&'static str, String)>,
}

/// One way to write a call: its first text, and what follows.
#[derive(Clone)]
struct Call {
    first: &'static str,
    rest: Vec<Atom>,
}

impl Section {
    pub fn new(writer: &mut Writer, chat: &Chat) -> Result<Section, Error> {
        let format = chat.format.tools.map_err(|problem| invalid(format!("tools: {problem}")))?;
        if chat.tool_choice == ToolChoice::Auto && !format.optional {
            let expected = "expected required or a function, as this model never answers without a call";
            return Err(invalid(format!("tool_choice: {expected}")));
        }
        let is_chosen = |tool: &&Tool| !matches!(&chat.tool_choice, ToolChoice::Named(name) if *name != tool.name);
        let mut calls = Vec::new();
        for tool in chat.tools.iter().filter(is_chosen) {
            calls.extend(ways_of(writer, format, tool)?);
        }
        if calls.is_empty() {
            return Err(invalid("tool_choice: expected one of the tools".to_owned()));
        }
        let several = chat.parallel_tool_calls && format.parallel && !matches!(chat.tool_choice, ToolChoice::Named(_));
        let rests = match format.begin.is_empty() {
            true => Section::calls(writer, format, &calls, several),
            false => Section::list(writer, format, &calls, several),
        };
        // The prompt has some of it already.
        let prompted = chat.format.content.prompted;
        let mut whole = Vec::new();
        for (marker, rest) in &rests {
            let marker = writer.opening(marker.strip_prefix(prompted).unwrap_or(marker), true);
            whole.push(format!("{marker} {rest}"));
        }
        let whole = writer.rule("calls", &whole.join(" | "));
        Ok(Section { whole, at_start: format.at_start, rests })
    }

    /// Calls that follow each other.
    fn calls(
        writer: &mut Writer,
        format: &'static ToolFormat,
        calls: &[Call],
        several: bool,
    ) -> Vec<(&'static str, String)> {
        let more = if several { ways(writer, " ", calls.iter()) + "*" } else { String::new() };
        let mut rests = Vec::new();
        for marker in format.markers() {
            let after = calls.iter().filter_map(|call| {
                let first = call.first.trim_start().strip_prefix(marker)?;
                Some(Call { first, rest: call.rest.clone() })
            });
            let after: Vec<Call> = after.collect();
            let call = ways(writer, "", after.iter());
            rests.push((marker, writer.rule("rest", &format!("{call} {more} WS?"))));
        }
        rests
    }

    /// Calls in a list.
    fn list(
        writer: &mut Writer,
        format: &'static ToolFormat,
        calls: &[Call],
        several: bool,
    ) -> Vec<(&'static str, String)> {
        let separator = format!("{} ", format.separator);
        let more = if several { ways(writer, &separator, calls.iter()) + "*" } else { String::new() };
        let end = writer.text(format.end, true);
        let mut rests = Vec::new();
        for marker in format.markers() {
            let call = ways(writer, &format!("{} ", &format.begin[marker.len()..]), calls.iter());
            rests.push((marker, writer.rule("rest", &format!("{call} {more} {end} WS?"))));
        }
        rests
    }

    /// Any text, and a section after it.
    pub fn after_text(&self, writer: &mut Writer) -> String {
        let mut all = Vec::new();
        for (marker, rest) in &self.rests {
            all.push(format!("{} {rest}", writer.until(marker)));
        }
        writer.rule("text_and_calls", &all.join(" | "))
    }

    /// The texts with which it may begin.
    pub fn markers(&self) -> impl Iterator<Item = &'static str> {
        self.rests.iter().map(|(marker, _)| *marker)
    }
}

/// A rule for calls after a text. The text and that of a call are one lexeme, which no shorter one competes with.
fn ways<'c>(writer: &mut Writer, before: &str, calls: impl Iterator<Item = &'c Call>) -> String {
    let before = writer.atoms(before, true);
    let ways = calls.map(|call| writer.sequence(&[&before[..], &writer.atoms(call.first, true), &call.rest].concat()));
    let ways = ways.collect::<Vec<_>>().join(" | ");
    writer.rule("call", &ways)
}

/// All ways to write a call of a tool.
fn ways_of(writer: &mut Writer, format: &ToolFormat, tool: &Tool) -> Result<Vec<Call>, Error> {
    let is_name = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    if tool.name.is_empty() || tool.name.len() > NAME || !tool.name.chars().all(is_name) {
        let expected = format!("tools: expected a name of at most {NAME} letters, digits, _, -, . or /");
        return Err(invalid(format!("{expected}, found {:?}", tool.name)));
    }
    let arguments = arguments(writer, format.arguments, tool)?;
    let mut ways = vec![(None, Vec::new())];
    parts(writer, format.call, &tool.name, &arguments, &mut ways);
    Ok(ways.into_iter().map(|(first, rest)| Call { first: first.unwrap_or_default(), rest }).collect())
}

/// Appends parts to each way.
fn parts(
    writer: &Writer,
    parts: &'static [Part],
    name: &str,
    arguments: &[Atom],
    ways: &mut Vec<(Option<&'static str>, Vec<Atom>)>,
) {
    for part in parts {
        let atoms = match part {
            Part::Text(text) => {
                for (first, rest) in ways.iter_mut() {
                    match first {
                        None if rest.is_empty() => *first = Some(text),
                        _ => rest.extend(writer.atoms(text, true)),
                    }
                }
                continue;
            }
            Part::Either(options) => {
                let before = std::mem::take(ways);
                for option in *options {
                    let mut with = before.clone();
                    self::parts(writer, option, name, arguments, &mut with);
                    ways.append(&mut with);
                }
                continue;
            }
            Part::Name => vec![Atom::Regex(pattern(name))],
            Part::Id(regex) => vec![Atom::Regex((*regex).to_owned())],
            Part::Index => vec![Atom::Regex("[0-9]{1,3}".to_owned())],
            Part::Arguments => arguments.to_vec(),
        };
        ways.iter_mut().for_each(|(_, rest)| rest.extend_from_slice(&atoms));
    }
}
