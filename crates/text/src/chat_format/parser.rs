//! Taking an answer apart while it is generated.

use super::arguments::{Match, begins};
use super::call::Section;
use super::{ChatFormat, Tool, ToolFormat};

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Thinking.
    Reasoning(String),
    /// The answer itself.
    Content(String),
    /// A call begins.
    ToolCall {
        /// The number of the call in this answer.
        index: usize,
        /// Where the format has one before the arguments.
        id: Option<String>,
        name: String,
    },
    /// The next part of the arguments; together they are one JSON object, unless the answer was cut off.
    Arguments { index: usize, text: String },
}

/// What a marker in a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Think,
    Answer,
    Call,
    /// It belongs to no text.
    Skip,
}

#[derive(Debug, Clone)]
enum State {
    Reasoning,
    Content,
    Calls(Box<Section>),
}

/// Takes an answer apart while it is generated: thinking, content, and tool calls whose arguments are JSON in every format.
///
/// The deltas joined do not depend on how the text is split. A marker is never part of one; text that may become a marker is held back.
///
/// ```
/// use trine_text::{ChatFormat, Delta, Tool};
///
/// let format = ChatFormat::of("<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call> <think></think>");
/// let tools = [Tool { name: "now".to_owned(), parameters: serde_json::Value::Null, strict: false }];
/// let mut parser = format.parser(&tools, true);
/// let mut deltas = parser.push("The time?</think>\n\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>");
/// deltas.extend(parser.finish());
/// assert_eq!(deltas[0], Delta::Reasoning("The time?".to_owned()));
/// assert_eq!(deltas[1], Delta::ToolCall { index: 0, id: None, name: "now".to_owned() });
/// assert_eq!(deltas[2], Delta::Arguments { index: 0, text: "{}".to_owned() });
/// ```
#[derive(Debug, Clone)]
pub struct ChatParser {
    format: ChatFormat,
    tools: Vec<Tool>,
    calls_format: Option<&'static ToolFormat>,
    state: State,
    /// Text that is not decided yet.
    buffer: String,
    /// Whether whitespace is dropped until other text comes.
    trim: bool,
    /// Whether there was content.
    content: bool,
    /// Calls so far.
    calls: usize,
    deltas: Vec<Delta>,
}

impl ChatParser {
    pub(super) fn new(format: ChatFormat, tools: &[Tool], thinking: bool) -> ChatParser {
        let thinking = thinking && format.reasoning.is_some();
        ChatParser {
            format,
            tools: tools.to_vec(),
            calls_format: format.tools.ok().filter(|_| !tools.is_empty()),
            state: if thinking { State::Reasoning } else { State::Content },
            buffer: format.content.prompted.to_owned(),
            trim: thinking,
            content: false,
            calls: 0,
            deltas: Vec::new(),
        }
    }

    /// Adds text of the answer, and returns what it decides.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        self.buffer.push_str(text);
        while self.step(false) {}
        self.take()
    }

    /// Ends the answer, and returns the rest.
    pub fn finish(&mut self) -> Vec<Delta> {
        while self.step(true) {}
        self.take()
    }

    /// Ends an answer that was cut off, which only a marker could begin: half of one, where there is no answer yet, is no text.
    pub fn cut(&mut self) -> Vec<Delta> {
        let half = self.buffer.trim_start();
        let begun = |marker: &str, kind| match kind {
            Marker::Call => begins(half, marker) == Match::Partial,
            _ => marker.starts_with(half),
        };
        let is_half = match &self.state {
            State::Reasoning => false,
            State::Content => self.markers(false).iter().any(|&(marker, kind, _)| begun(marker, kind)),
            State::Calls(section) => !section.reported,
        };
        if is_half && !self.content && self.calls == 0 {
            self.buffer.clear();
            self.state = State::Content;
        }
        self.finish()
    }

    fn take(&mut self) -> Vec<Delta> {
        let mut joined: Vec<Delta> = Vec::new();
        for delta in self.deltas.drain(..) {
            match (joined.last_mut(), delta) {
                (Some(Delta::Reasoning(before)), Delta::Reasoning(text))
                | (Some(Delta::Content(before)), Delta::Content(text)) => before.push_str(&text),
                (Some(Delta::Arguments { index, text: before }), Delta::Arguments { index: same, text })
                    if *index == same =>
                {
                    before.push_str(&text);
                }
                (_, Delta::Arguments { text, .. } | Delta::Content(text) | Delta::Reasoning(text))
                    if text.is_empty() => {}
                (_, delta) => joined.push(delta),
            }
        }
        joined
    }

    /// Reads on; whether there is more to do.
    fn step(&mut self, last: bool) -> bool {
        let State::Calls(section) = &mut self.state else { return self.text(last) };
        let found = section.read(&mut self.buffer, &self.tools, &mut self.calls, &mut self.deltas);
        let reported = section.reported;
        match found {
            Match::Partial if !last => false,
            Match::Partial if reported || self.calls_format.is_some_and(|format| !format.at_start) => {
                section.finish(&mut self.buffer, self.calls, &mut self.deltas);
                false
            }
            Match::Partial | Match::No if !reported => {
                self.not_a_call();
                true
            }
            _ => {
                (self.state, self.trim) = (State::Content, true);
                !self.buffer.is_empty()
            }
        }
    }

    /// What began as a call is content.
    fn not_a_call(&mut self) {
        if let State::Calls(section) = std::mem::replace(&mut self.state, State::Content) {
            self.buffer.insert_str(0, &section.raw);
            let first = self.buffer.chars().next().map_or(0, char::len_utf8);
            let text = section.before + &self.buffer[..first];
            self.buffer.drain(..first);
            self.emit(text);
        }
    }

    /// Reads text up to a marker.
    fn text(&mut self, last: bool) -> bool {
        let thinking = matches!(self.state, State::Reasoning);
        let markers = self.markers(thinking);
        let marker_at = |at: usize| {
            let (before, rest) = self.buffer.split_at(at);
            let first = !self.content && self.calls == 0 && before.trim().is_empty();
            let (mut partial, mut longest) = (false, None);
            for &(marker, kind, _) in markers.iter().filter(|(.., only_first)| first || !only_first) {
                let found = match kind {
                    Marker::Call => begins(rest, marker),
                    _ if rest.starts_with(marker) => Match::Full(marker.len()),
                    _ if marker.starts_with(rest) => Match::Partial,
                    _ => Match::No,
                };
                match found {
                    Match::Full(len) if longest.is_none_or(|(_, longest)| longest < len) => longest = Some((kind, len)),
                    Match::Partial => partial = !last,
                    _ => {}
                }
            }
            (partial, longest)
        };
        let places = self.buffer.char_indices().map(|(at, _)| at);
        let found = places.map(|at| (at, marker_at(at))).find(|(_, (partial, found))| *partial || found.is_some());
        let end = found.map_or(self.buffer.len(), |(at, _)| at);
        let marker = found.and_then(|(_, (partial, marker))| marker.filter(|_| !partial));
        // Whitespace before a marker belongs to no text.
        let text = match last && marker.is_none() {
            true => &self.buffer[..end],
            false => self.buffer[..end].trim_end(),
        };
        let (text, len) = (text.to_owned(), text.len());
        let before = self.buffer[len..end].to_owned();
        match marker {
            None => drop(self.buffer.drain(..len)),
            // The section reads it.
            Some((Marker::Call, _)) => drop(self.buffer.drain(..end)),
            Some((_, len)) => drop(self.buffer.drain(..end + len)),
        }
        self.emit(text);
        let Some((marker, _)) = marker else { return false };
        match (marker, self.calls_format) {
            (Marker::Call, Some(format)) => {
                self.state = State::Calls(Box::new(Section::new(format, before)));
                return true;
            }
            (Marker::Think, _) => self.state = State::Reasoning,
            (Marker::Answer, _) => self.state = State::Content,
            _ => {}
        }
        self.trim = true;
        true
    }

    /// The markers that may come, and whether each may only be before all content.
    fn markers(&self, thinking: bool) -> Vec<(&'static str, Marker, bool)> {
        let reasoning = self.format.reasoning;
        if thinking {
            return reasoning.map(|format| (format.close, Marker::Answer, false)).into_iter().collect();
        }
        let content = self.format.content;
        let [open, close] = content.preamble;
        let skip = [content.open, content.close, content.between, open, close];
        let skip = skip.into_iter().chain(content.others.iter().copied());
        let mut markers: Vec<_> =
            skip.filter(|marker| !marker.is_empty()).map(|marker| (marker, Marker::Skip, false)).collect();
        let one_message = content.between.is_empty();
        markers.extend(reasoning.map(|format| (format.open, Marker::Think, one_message)));
        // Where the prompt has closed it.
        markers.extend(reasoning.map(|format| (format.close, Marker::Skip, one_message)));
        if let Some(format) = self.calls_format {
            markers.extend(format.markers().into_iter().map(|marker| (marker, Marker::Call, format.at_start)));
        }
        markers
    }

    fn emit(&mut self, text: String) {
        let text = if self.trim { text.trim_start().to_owned() } else { text };
        if text.is_empty() {
            return;
        }
        self.trim = false;
        match self.state {
            State::Reasoning => self.deltas.push(Delta::Reasoning(text)),
            _ => {
                self.content |= !text.trim().is_empty();
                self.deltas.push(Delta::Content(text));
            }
        }
    }
}
