use trine_engine::{Choice, FinishReason};

/// What an answer of a chat adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// What the model thinks.
    Reasoning(String),
    /// What it answers.
    Content(String),
    /// The call of a function begins.
    ToolCall { index: usize, id: String, name: String },
    /// Its arguments go on: all texts of a call are a JSON object.
    Arguments { index: usize, text: String },
}

/// An answer of a chat as it comes: thinking, content and calls apart.
#[derive(Debug, Default)]
pub struct Turn {
    calls: usize,
    pub reasoning_tokens: usize,
}

impl Turn {
    /// Adds the text of a token.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        if text.is_empty() { Vec::new() } else { vec![Delta::Content(text.to_owned())] }
    }

    /// What was held back.
    pub fn finish(&mut self) -> Vec<Delta> {
        Vec::new()
    }

    /// All that a whole answer adds.
    pub fn whole(&mut self, choice: &Choice) -> Vec<Delta> {
        let mut deltas: Vec<Delta> = choice.tokens.iter().flat_map(|token| self.push(&token.text)).collect();
        let sent: usize = choice.tokens.iter().map(|token| token.text.len()).sum();
        deltas.extend(self.push(&choice.text[sent.min(choice.text.len())..]));
        deltas.extend(self.finish());
        deltas
    }

    /// Why the answer ended, in OpenAI's words.
    pub fn finish_reason(&self, reason: &FinishReason) -> &'static str {
        match reason.name() {
            "stop" if self.calls > 0 => "tool_calls",
            name => name,
        }
    }
}
