//! Reading a section of calls.

use super::arguments::{Match, Reader, begins};
use super::parser::Delta;
use super::{Part, Tool, ToolFormat};

/// What is still to be read, part by part.
#[derive(Debug, Clone)]
enum Todo {
    Text(&'static str),
    Part(&'static Part),
    Call,
    /// After a call: another one, or the end.
    Next,
}

/// A section of calls, from its first marker.
#[derive(Debug, Clone)]
pub struct Section {
    format: &'static ToolFormat,
    /// The next one is the last.
    todo: Vec<Todo>,
    name: String,
    id: Option<String>,
    arguments: Option<Reader>,
    /// Whitespace before it, which is content if this is no call.
    pub before: String,
    /// What was read before the name was known.
    pub raw: String,
    /// Whether a call was reported.
    pub reported: bool,
}

impl Section {
    pub fn new(format: &'static ToolFormat, before: String) -> Section {
        let todo = vec![Todo::Call, Todo::Text(format.begin)];
        let (name, raw) = (String::new(), String::new());
        Section { format, todo, name, id: None, arguments: None, before, raw, reported: false }
    }

    /// Reads on; [`Match::Full`] when the section is complete. `calls` counts the calls of the answer.
    pub fn read(&mut self, buffer: &mut String, tools: &[Tool], calls: &mut usize, deltas: &mut Vec<Delta>) -> Match {
        while let Some(todo) = self.todo.pop() {
            let found = self.step(&todo, buffer, tools, calls, deltas);
            match found {
                Match::Full(len) => {
                    let taken = buffer.drain(..len);
                    if !self.reported {
                        self.raw.extend(taken);
                    }
                }
                Match::Partial => {
                    self.todo.push(todo);
                    return found;
                }
                Match::No => return found,
            }
        }
        Match::Full(0)
    }

    fn step(
        &mut self,
        todo: &Todo,
        buffer: &mut String,
        tools: &[Tool],
        calls: &mut usize,
        deltas: &mut Vec<Delta>,
    ) -> Match {
        match todo {
            Todo::Text(text) | Todo::Part(Part::Text(text)) => begins(buffer, text),
            Todo::Call => {
                self.id = None;
                self.todo.push(Todo::Next);
                self.todo.extend(self.format.call.iter().rev().map(Todo::Part));
                if !self.format.begin.is_empty() {
                    self.todo.push(Todo::Text(" "));
                }
                Match::Full(0)
            }
            Todo::Next => self.next(buffer),
            Todo::Part(Part::Either(options)) => {
                for option in *options {
                    let begun = match option.first() {
                        Some(Part::Text(text)) => begins(buffer, text),
                        _ => Match::Full(0),
                    };
                    match begun {
                        Match::No => {}
                        Match::Partial => return Match::Partial,
                        Match::Full(_) => {
                            self.todo.extend(option.iter().rev().map(Todo::Part));
                            return Match::Full(0);
                        }
                    }
                }
                Match::No
            }
            Todo::Part(Part::Name) => {
                let is_name = |c: char| c.is_alphanumeric() || "_-./".contains(c);
                self.word(buffer, is_name, |this, name| this.name = name)
            }
            Todo::Part(Part::Id(_)) => {
                let is_id = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
                self.word(buffer, is_id, |this, id| this.id = Some(id))
            }
            Todo::Part(Part::Index) => {
                let is_digit = |c: char| c.is_ascii_digit();
                self.word(buffer, is_digit, |this, index| this.id = Some(format!("functions.{}:{index}", this.name)))
            }
            Todo::Part(Part::Arguments) => {
                if self.arguments.is_none() {
                    deltas.push(Delta::ToolCall { index: *calls, id: self.id.take(), name: self.name.clone() });
                    *calls += 1;
                    self.reported = true;
                }
                let reader = self.arguments.get_or_insert_with(|| Reader::new(self.format.arguments));
                let tool = tools.iter().find(|tool| tool.name == self.name);
                let mut text = String::new();
                let found = reader.read(buffer, tool, &mut text);
                deltas.push(Delta::Arguments { index: *calls - 1, text });
                if let Match::Full(_) = found {
                    self.arguments = None;
                }
                found
            }
        }
    }

    /// Reads a word, after which there must be something else.
    fn word(&mut self, buffer: &str, is_part: impl Fn(char) -> bool, put: impl FnOnce(&mut Section, String)) -> Match {
        match buffer.find(|c| !is_part(c)) {
            None => Match::Partial,
            Some(0) => Match::No,
            Some(len) => {
                put(self, buffer[..len].to_owned());
                Match::Full(len)
            }
        }
    }

    fn next(&mut self, buffer: &str) -> Match {
        let ToolFormat { begin, separator, end, call, .. } = self.format;
        let again = match call.first() {
            _ if !separator.is_empty() => begins(buffer, separator),
            Some(Part::Text(first)) if !begin.is_empty() => match begins(buffer.trim_start(), first) {
                Match::Full(_) => Match::Full(buffer.len() - buffer.trim_start().len()),
                other => other,
            },
            _ => Match::No,
        };
        let last = if end.is_empty() { Match::No } else { begins(buffer, end) };
        match (again, last) {
            (Match::Full(len), _) => {
                self.todo.push(Todo::Call);
                Match::Full(len)
            }
            (_, Match::Full(len)) => Match::Full(len),
            (Match::Partial, _) | (_, Match::Partial) => Match::Partial,
            // The end is the end token's.
            _ if end.is_empty() => Match::Full(0),
            _ => Match::No,
        }
    }

    /// The rest of arguments that are cut off.
    pub fn finish(&mut self, buffer: &mut String, calls: usize, deltas: &mut Vec<Delta>) {
        if let Some(mut reader) = self.arguments.take() {
            let mut text = String::new();
            reader.finish(buffer, &mut text);
            deltas.push(Delta::Arguments { index: calls - 1, text });
        }
        buffer.clear();
    }
}
