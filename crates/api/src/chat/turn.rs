use crate::openai::new_id;
use serde_json::Value;
use trine_engine::{Choice, FinishReason};
use trine_text::{ChatParser, Delta};

/// An answer of a chat as it comes: thinking, content and calls apart.
#[derive(Clone, Debug)]
pub struct Turn {
    parser: ChatParser,
    ids: CallIds,
    calls: usize,
    /// The arguments of the last call.
    arguments: String,
    /// Whether nothing but a marker could begin it.
    formed: bool,
    thinks: bool,
    pub reasoning_tokens: usize,
}

/// What ids of calls look like that the model does not write itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallIds {
    /// As OpenAI's.
    Usual,
    /// Nine letters and digits: Mistral's templates take no others.
    Nine,
}

impl CallIds {
    /// Those that a template takes.
    pub fn of(template: &str) -> CallIds {
        let asks = ["length != 9", "length == 9", "length!=9"].iter().any(|mark| template.contains(mark));
        if asks { CallIds::Nine } else { CallIds::Usual }
    }

    fn next(self) -> String {
        match self {
            CallIds::Usual => new_id("call_"),
            CallIds::Nine => new_id("").chars().take(9).collect(),
        }
    }
}

impl Turn {
    /// `formed` says whether nothing but a marker or an answer of a given form can begin it.
    pub fn new(parser: ChatParser, ids: CallIds, formed: bool) -> Turn {
        Turn { parser, ids, calls: 0, arguments: String::new(), formed, thinks: false, reasoning_tokens: 0 }
    }

    /// Adds the text of a token. Calls have ids.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        let deltas = self.parser.push(text);
        let deltas = self.note(deltas);
        // What is held back belongs to what came last.
        self.reasoning_tokens += usize::from(self.thinks);
        deltas
    }

    fn note(&mut self, mut deltas: Vec<Delta>) -> Vec<Delta> {
        for delta in &mut deltas {
            self.thinks = matches!(delta, Delta::Reasoning(_));
            match delta {
                Delta::ToolCall { id, .. } => {
                    self.calls += 1;
                    self.arguments.clear();
                    id.get_or_insert_with(|| self.ids.next());
                }
                Delta::Arguments { text, .. } => self.arguments.push_str(text),
                Delta::Reasoning(_) | Delta::Content(_) => {}
            }
        }
        deltas
    }

    /// All that a whole answer adds.
    pub fn whole(&mut self, choice: &Choice) -> Vec<Delta> {
        let mut deltas: Vec<Delta> = choice.tokens.iter().flat_map(|token| self.push(&token.text)).collect();
        let sent: usize = choice.tokens.iter().map(|token| token.text.len()).sum();
        deltas.extend(self.rest(&choice.text[sent.min(choice.text.len())..], &choice.finish_reason));
        deltas
    }

    /// What the end of an answer adds: text that was held back.
    pub fn rest(&mut self, text: &str, reason: &FinishReason) -> Vec<Delta> {
        let mut deltas = self.parser.push(text);
        deltas.extend(match self.formed && reason.name() != "stop" {
            true => self.parser.cut(),
            false => self.parser.finish(),
        });
        self.note(deltas)
    }

    /// Why the answer ended, in OpenAI's words. A call that a stop string or token cut off is none.
    pub fn finish_reason(&self, reason: &FinishReason) -> &'static str {
        let stopped = matches!(reason, FinishReason::StopString | FinishReason::StopToken);
        let whole = || !stopped || serde_json::from_str::<Value>(&self.arguments).is_ok();
        match reason.name() {
            "stop" if self.calls > 0 && whole() => "tool_calls",
            name => name,
        }
    }
}
